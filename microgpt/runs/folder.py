"""The folder of a run: what lies in it, and that nothing in it is lost by mistake.

======================  =============================================================
``settings.toml``       the complete settings
``tokenizer.json``      for texts: how they become numbers
``checkpoint-…/``       the newest states, to go on from
``best/``               the state with the lowest validation loss
``log.jsonl``           one line per logged step and evaluation
``tensorboard/``        the same for TensorBoard, on request
======================  =============================================================
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from microgpt import checkpoints, durable, text
from microgpt.errors import CheckpointError, ConfigError, InputError, missing_extra
from microgpt.runs import files
from microgpt.runs.settings import Settings

SETTINGS, TOKENIZER, LOG, BEST = "settings.toml", "tokenizer.json", "log.jsonl", "best"
LOCK, TENSORBOARD = ".lock", "tensorboard"
_OURS = (
    SETTINGS, TOKENIZER, LOG, BEST, LOCK, TENSORBOARD, "checkpoint-*", ".checkpoint-*",
    ".settings.toml.*", ".tokenizer.json.*",
)  # fmt: skip


def require_free(out: str | Path, overwrite: bool = False) -> None:
    """Refuse a folder in which something is already, unless it is a run to be overwritten.

    A run that has saved nothing, as one that failed in its first steps, is in nobody's way.

    Raises:
        InputError: says what to do instead.
    """
    place = Path(out)
    if place.exists() and not place.is_dir():
        raise InputError(f"{place} is a file; a run needs a folder")
    if is_run(place) and has_weights(place) and not overwrite:
        raise InputError(
            f"{place} holds a run already: go on with it by --resume, replace it by --overwrite, "
            "or name another folder with --out"
        )
    if place.is_dir() and not is_run(place) and set(place.iterdir()) - set(_ours(place)):
        raise InputError(
            f"the folder {place} holds other files, and no run; name a new one with --out"
        )


def _ours(place: Path) -> list[Path]:
    """What a run has written into its folder, or has begun to write."""
    return [path for pattern in _OURS for path in place.glob(pattern)]


def is_run(place: str | Path) -> bool:
    """Whether there is a run in the folder."""
    return (Path(place) / SETTINGS).is_file()


def has_weights(place: Path) -> bool:
    """Whether the run in the folder has saved anything."""
    return bool(checkpoints.checkpoints(place) or checkpoints.checkpoints(place / BEST))


def steps(place: Path) -> int:
    """How many steps the newest checkpoint of a run has seen; 0 if there is none."""
    found = checkpoints.checkpoints(place)
    return int(found[-1].name.rpartition("-")[2]) if found else 0


def require_run(place: str | Path) -> Path:
    """The folder, if there is a run in it.

    Raises:
        InputError: if there is none; names runs that lie beside or in it.
    """
    place = Path(place)
    if is_run(place):
        return place
    around = place if place.is_dir() else place.parent
    others = sorted(str(p.parent) for p in around.glob(f"*/{SETTINGS}")) if around.is_dir() else []
    raise InputError(
        f"there is no run in {place} (a run has a file {SETTINGS})"
        + (f"; there are {', '.join(others[:8])}" if others else "")
    )


def free_name(settings: Settings) -> Path:
    """A folder that does not exist yet: runs/gpt-names, runs/gpt-names-2, …"""
    stem = Path("runs") / f"{settings.kind}-{Path(settings.data.data).stem}"
    number, place = 1, stem
    while place.exists():
        number += 1
        place = stem.with_name(f"{stem.name}-{number}")
    return place


def begin(
    out: str | Path,
    settings: Settings,
    tokenizer: text.Tokenizer | None,
    overwrite: bool = False,
) -> Path:
    """Make the folder of a new run, with its settings and its tokenizer."""
    require_free(out, overwrite)
    place = Path(out)
    durable.make(place)
    with _locked(place):
        require_free(out, overwrite)  # who held the lock may have saved something meanwhile
        for old in _ours(place):
            if old.is_dir():
                shutil.rmtree(old)
            elif old.name != LOCK:
                old.unlink()
        if tokenizer is not None:
            tokenizer.save(place / TOKENIZER)
        files.write(settings, place / SETTINGS)  # last: with it, the folder is a run
    return place


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    """For a block: no training writes into the folder (`train.fit` has the same lock)."""
    try:
        from filelock import FileLock, Timeout
    except ImportError:
        raise missing_extra("filelock", "train", "making the folder of a run") from None
    try:
        with FileLock(place / LOCK, timeout=0):
            yield
    except Timeout:
        raise CheckpointError(
            f"another training is writing into {place}; wait for it, stop it, or choose another "
            "folder"
        ) from None


def settings_of(place: Path) -> Settings:
    """The settings of a run, with the sizes that it has found in its data.

    Raises:
        ConfigError: if the file is damaged, or was not written by a run.
    """
    settings = files.load(place / SETTINGS)
    if not settings.found.outputs:
        raise ConfigError(
            f"{place / SETTINGS} was not written by a run: [found] is missing. To train with it: "
            f"microgpt train --config {place / SETTINGS} --out NEW"
        )
    return settings


def tokenizer_of(place: Path) -> text.Tokenizer | None:
    """The tokenizer of a run, if it has one."""
    path = place / TOKENIZER
    return text.load(path) if path.is_file() else None
