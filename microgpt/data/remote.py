"""Files that are too large to come along: a local folder, or mirrors, always with SHA-256.

A new data set is one more entry in `FILES`.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microgpt import config
from microgpt.errors import DataError, missing_extra

TIMEOUT = 4
"""Seconds to wait for a mirror to answer: a machine without network shall say so soon."""


@dataclass(frozen=True)
class RemoteFile:
    """One file: its name, its hash, the addresses it can be had from in order, its licence."""

    name: str
    sha256: str
    mirrors: tuple[str, ...]
    licence: str


_MNIST = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)


def _mnist(name: str, sha256: str) -> RemoteFile:
    return RemoteFile(f"mnist/{name}", sha256, tuple(m + name for m in _MNIST), "CC BY-SA 3.0")


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
            found = hashlib.sha256(path.read_bytes()).hexdigest()
            if found != file.sha256:
                raise DataError(
                    f"{path} is damaged or another file: SHA-256 {found[:16]}…; required "
                    f"{file.sha256[:16]}…; replace it with the one from {file.mirrors[0]}"
                )
            return path
    raise DataError(
        f"the data folder {folder} holds neither {file.name} nor {Path(file.name).name}; put the "
        f"file there (from {file.mirrors[0]}), or unset MICROGPT_DATA to have it fetched"
    )


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
                    known_hash=f"sha256:{file.sha256}",
                    fname=target.name,
                    path=target.parent,
                    downloader=pooch.HTTPDownloader(timeout=TIMEOUT, progressbar=show),
                )
                return Path(found)
            except (OSError, ValueError) as error:
                reasons.append(f"  {address}: {_reason(error)}")
    finally:
        logger.setLevel(level)
    raise DataError(
        f"{file.name} could not be fetched:\n" + "\n".join(reasons) + f"\nIt is kept in "
        f"{target.parent} once it is there. What to do: try again with a network connection, set "
        "MICROGPT_DATA to a folder that has the file, or use mg.data.digits(), which comes along."
    )


def _reason(error: Exception) -> str:
    text = str(error)
    if "SHA256" in text or "hash" in text:
        return "what came has another SHA-256 than required"
    for known in ("Name or service not known", "Connection refused", "timed out", "403", "404"):
        if known in text:
            return known
    return f"{type(error).__name__}: {text:.100}"
