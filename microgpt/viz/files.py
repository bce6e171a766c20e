"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO


def write(path: str | os.PathLike[str], fill: Callable[[BinaryIO], Any]) -> Path:
    """Let `fill` write a temporary file beside `path`, then put it there; folders are made.

    Returns:
        The path.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with open(temporary, "wb") as file:
            fill(file)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target
