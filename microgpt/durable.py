"""Files and folders that are still there after a crash or a power cut."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def write(path: Path, content: bytes) -> None:
    """Write a file whose content is on the disk when this returns."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def make(folder: Path) -> None:
    """Make a folder, and make it last."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for place in missing:
        sync(place.parent)


def sync(folder: Path) -> None:
    """Make the names in a folder durable, where folders can be synchronised."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # not on this file system
                raise
        finally:
            os.close(handle)


def alive(process: int) -> bool:
    """Whether a process runs; where that cannot be asked without harm, it is taken to."""
    if os.name != "posix" or process == os.getpid():
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
