"""Files that are too large to come along: a local folder, or mirrors, always with SHA-256.

A new data set is one more entry in `FILES`.
"""

from __future__ import annotations

import hashlib
import sys
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microgpt import config
from microgpt.errors import DataError, missing_extra

TIMEOUT = 4
"""Seconds to wait for a mirror to answer: a machine without network shall say so soon."""


@dataclass(frozen=True)
class RemoteFile:
    """One file.

    Attributes:
        name: its path inside a data folder.
        sha256: its hash.
        mirrors: the addresses it can be had from, in the order in which they are tried.
        licence: on what terms.
        instead: what comes along and can be used without it, for the error message.
        members: for an archive whose packing may change, the hash of what is in it; see
            `members_hash`. A file that has only this one right is as good.
    """

    name: str
    sha256: str
    mirrors: tuple[str, ...]
    licence: str
    instead: str = "mg.data.digits(), python_docs(), names() or japanese_vowels()"
    members: str | None = None


_MNIST = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
_GITHUB = "https://raw.githubusercontent.com"


def _mnist(name: str, sha256: str) -> RemoteFile:
    mirrors = tuple(m + name for m in _MNIST)
    return RemoteFile(f"mnist/{name}", sha256, mirrors, "CC BY-SA 3.0", "mg.data.digits()")


FILES: dict[str, RemoteFile] = {
    file.name: file
    for file in (
        _mnist(
            "train-images-idx3-ubyte.gz",
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        _mnist(
            "train-labels-idx1-ubyte.gz",
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        _mnist(
            "t10k-images-idx3-ubyte.gz",
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        _mnist(
            "t10k-labels-idx1-ubyte.gz",
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
        RemoteFile(
            "names.txt",
            "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d",
            (f"{_GITHUB}/karpathy/makemore/988aa59e4d8fefa526d06f3b453ad116258398d4/names.txt",),
            "MIT",
            "mg.data.names()",
        ),
        RemoteFile(
            "tinyshakespeare.txt",
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            (
                f"{_GITHUB}/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e"
                "/data/tinyshakespeare/input.txt",
            ),
            "public domain",
            "mg.data.python_docs()",
        ),
        RemoteFile(
            "fsdd-1.0.10.tar.gz",
            "feb479fad3a37883c3d21ed7f982281c2dd1c18d5aefd7e8a5d50f58023392aa",
            (
                "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/v1.0.10.tar.gz",
                "https://codeload.github.com/Jakobovski/free-spoken-digit-dataset/tar.gz/v1.0.10",
            ),
            "CC BY-SA 4.0",
            "mg.data.japanese_vowels()",
            members="dbd573d7cafe79c4b49f65718115e1304e24e067fa39eff18a660dc6cb9c360f",
        ),
        RemoteFile(
            "cmn-eng.txt",
            "aa264a2447b26ab7c9d413f8321f9e2a779fd134b5118306b6e26a3499b3926e",
            (
                f"{_GITHUB}/13luoyu/Transformer-machine-translation"
                "/aa43963320ccfacebd1d3542deae559bbca58d03/cmn.txt",
            ),
            "CC BY 2.0 FR",
            "mg.data.translation()",
        ),
    )
}
"""Every file that can be fetched, by its name inside a data folder."""


def fetch(name: str, folder: str | Path | None = None) -> Path:
    """The path of file `name` of `FILES`, which is fetched if it is not there yet.

    Looked for in `folder`, else in the folder of the setting ``data`` (``MICROGPT_DATA``); if
    there is one, nothing is downloaded. Otherwise the file is fetched once from the first mirror
    that answers into the cache folder of the operating system.

    Raises:
        DataError: if a named folder lacks the file, its SHA-256 is wrong, or no mirror answers.
        MissingExtraError: if a download needs the package pooch and it is not installed.
    """
    file = FILES[name]
    named = folder if folder is not None else config.get("data")
    if named is not None:
        return _from_folder(file, Path(named))
    return _download(file)


def _from_folder(file: RemoteFile, folder: Path) -> Path:
    for path in (folder / file.name, folder / Path(file.name).name):
        if path.is_file():
            check(path, file)
            return path
    name, short = file.name, Path(file.name).name
    lacks = f"does not hold {name}" if name == short else f"holds neither {name} nor {short}"
    raise DataError(
        f"the data folder {folder} {lacks}; put the "
        f"file there (from {file.mirrors[0]}), or unset MICROGPT_DATA to have it fetched"
    ).about("data-not-there")


def check(path: Path, file: RemoteFile) -> None:
    """Raise DataError unless the file has the hash, or its members have theirs."""
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found == file.sha256 or (file.members and members_hash(path) == file.members):
        return
    raise DataError(
        f"{path} is damaged or another file: SHA-256 {found[:16]}…; required "
        f"{file.sha256[:16]}…; replace it with the one from {file.mirrors[0]}"
    )


def members_hash(path: Path) -> str | None:
    """SHA-256 of the WAV files in a tar archive, whatever it is packed with; None if it is none.

    That of the lines "name hash", in the order of the names, which are taken without folders.
    """
    try:
        with tarfile.open(path) as archive:
            lines = sorted(
                f"{Path(member.name).name} {hashlib.sha256(content.read()).hexdigest()}\n"
                for member in archive
                if member.name.endswith(".wav") and (content := archive.extractfile(member))
            )
    except (tarfile.TarError, EOFError, OSError, zlib.error):
        return None
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def cache_folder() -> Path:
    """Where fetched files are kept."""
    return Path(_pooch().os_cache("microgpt"))


def _pooch() -> Any:
    try:
        import pooch
    except ImportError:
        raise missing_extra("pooch", "data", "fetching a data set") from None
    return pooch


def _download(file: RemoteFile) -> Path:
    pooch = _pooch()
    target = cache_folder() / file.name
    show = sys.stderr is not None and sys.stderr.isatty()
    try:
        import tqdm as _tqdm  # noqa: F401 (pooch draws its bar with it)
    except ImportError:
        show = False
    logger = pooch.get_logger()
    level = logger.level
    logger.setLevel("WARNING")
    reasons = []
    try:
        for address in file.mirrors:
            try:
                # pooch downloads to a temporary name, compares the hash, then renames.
                found = pooch.retrieve(
                    address,
                    known_hash=None if file.members else f"sha256:{file.sha256}",
                    fname=target.name,
                    path=target.parent,
                    downloader=pooch.HTTPDownloader(timeout=TIMEOUT, progressbar=show),
                )
                if file.members:
                    _check_or_remove(Path(found), file)
                return Path(found)
            except (OSError, ValueError) as error:
                reasons.append(f"  {address}: {_reason(error)}")
    finally:
        logger.setLevel(level)
    raise DataError(
        f"{file.name} could not be fetched:\n" + "\n".join(reasons) + f"\nIt is kept in "
        f"{target.parent} once it is there. What to do: try again with a network connection, set "
        f"MICROGPT_DATA to a folder that has the file, or use {file.instead}, which needs no file."
    )


def _check_or_remove(path: Path, file: RemoteFile) -> None:
    try:
        check(path, file)
    except DataError:
        path.unlink()
        raise


def _reason(error: Exception) -> str:
    text = str(error)
    if isinstance(error, DataError) or "SHA256" in text or "hash" in text:
        return "what came has another SHA-256 than required"
    for known in ("Name or service not known", "Connection refused", "timed out", "403", "404"):
        if known in text:
            return known
    return f"{type(error).__name__}: {text:.100}"
