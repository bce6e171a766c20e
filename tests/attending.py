"""Inputs that the tests of attention and of transformers share."""

from __future__ import annotations

import numpy as np

import microgpt as mg

WIDTH, HEADS = 4, 2


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


with mg.configure(dtype="float64"):
    X, MEMORY = mg.tensor(drawn(3, 3, WIDTH)), mg.tensor(drawn(3, 5, WIDTH))
REAL = np.array([[True, True, True], [True, False, False], [False, False, False]])
SEEN = np.arange(5) < np.array([[5], [3], [1]])
