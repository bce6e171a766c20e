"""Kernels that move elements. Where NumPy can, they return views: arrays are never changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Key = tuple[tuple[int, int, int], ...]


def _slices(key: Key) -> tuple[slice, ...]:
    return tuple([_slice(*part) for part in key])


def _slice(first: int, stop: int, step: int) -> slice:
    if first < 0:  # nothing, downward from before the first element
        return slice(0, 0)
    # A downward slice that includes element 0 ends at None: -1 would count from the end.
    return slice(first, None if stop < 0 else stop, step)


def broadcast_to(x: Any, *, shape: tuple[int, ...]) -> Any:
    # Arithmetic on views that repeat elements is slower: worth avoiding while a copy is small.
    if math.prod(shape) > 65536:
        return np.broadcast_to(x, shape)
    y = np.empty(shape, dtype=x.dtype)
    y[...] = x
    return y


def unslice(x: Any, *, key: Key, shape: tuple[int, ...]) -> Any:
    y = np.zeros(shape, dtype=x.dtype)
    y[_slices(key)] = x
    return y


def pad(x: Any, *, widths: tuple[tuple[int, int], ...], value: float) -> Any:
    shape = [a + n + b for (a, b), n in zip(widths, x.shape, strict=True)]
    y = np.full(shape, value, dtype=x.dtype)
    y[tuple([slice(a, a + n) for (a, _), n in zip(widths, x.shape, strict=True)])] = x
    return y


KERNELS: dict[str, Callable[..., Any]] = {
    "reshape": lambda x, *, shape: x.reshape(shape),
    "permute_dims": lambda x, *, axes: x.transpose(axes) if x.ndim else x,
    "broadcast_to": broadcast_to,
    "flip": lambda x, *, axis: np.flip(x, axis),
    "slice": lambda x, *, key: x[_slices(key)],
    "unslice": unslice,
    "pad": pad,
    "concat": lambda *xs, axis, sizes: np.concatenate(xs, axis=axis),
    "tril": lambda x, *, k: np.tril(x, k),
    "triu": lambda x, *, k: np.triu(x, k),
}
