"""The files that come along in the package."""

from __future__ import annotations

from importlib.resources import as_file, files

import numpy as np


def embedded(name: str) -> dict[str, np.ndarray]:
    """The arrays in the file `name` of this folder."""
    with as_file(files("microgpt.data") / name) as path, np.load(path) as stored:
        return dict(stored)


def lines(array: np.ndarray) -> tuple[str, ...]:
    """The lines of a text that is kept as an array of its bytes."""
    return tuple(array.tobytes().decode().split("\n"))
