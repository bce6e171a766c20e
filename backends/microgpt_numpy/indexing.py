"""Kernels that pick by index and add to picked places."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def take(x: Any, indices: Any, *, axis: int) -> Any:
    return np.take(x, indices, axis=axis)


def index_add(x: Any, indices: Any, *, axis: int, size: int) -> Any:
    """Zeros of length `size` along `axis`, with the slices of `x` added at `indices`.

    Slices that go to the same place are brought together by sorting and added in one sweep,
    which is many times faster than `np.add.at`, unless there are only a few.
    """
    where = np.asarray(indices)
    before, after = x.shape[:axis], x.shape[axis + where.ndim :]
    flat = where.reshape(-1)
    rows = x.reshape(*before, flat.size, *after)
    if axis:
        rows = np.moveaxis(rows, axis, 0)
    y = np.zeros((size, *before, *after), dtype=x.dtype)
    if x.size <= 1024:
        np.add.at(y, flat, rows)
    elif flat.size:
        flat = np.where(flat < 0, flat + size, flat)
        order = np.argsort(flat, kind="stable")
        places = flat[order]
        starts = np.flatnonzero(np.concatenate(([True], places[1:] != places[:-1])))
        y[places[starts]] = np.add.reduceat(rows[order], starts, axis=0)
    return np.moveaxis(y, 0, axis) if axis else y


def scatter_add(x: Any, indices: Any, source: Any, *, axis: int) -> Any:
    y = np.array(x)
    places = list(np.ogrid[tuple([slice(n) for n in indices.shape])]) if indices.ndim else []
    if indices.size:
        places[axis] = indices
        np.add.at(y, tuple(places), source)
    return y


def one_hot(x: Any, *, num_classes: int, dtype: np.dtype) -> Any:
    return (np.asarray(x)[..., None] == np.arange(num_classes)).astype(dtype)


def argsort(x: Any, *, axis: int, descending: bool) -> Any:
    if not descending:
        return np.argsort(x, axis=axis, kind="stable")
    # Reversed before and after, so that equal elements keep their order.
    last = x.shape[axis] - 1
    return np.flip(last - np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)


KERNELS: dict[str, Callable[..., Any]] = {
    "filled": lambda x, *, shape, value: np.full(shape, value, dtype=x.dtype),
    "take": take,
    "index_add": index_add,
    "gather": lambda x, indices, *, axis: np.take_along_axis(x, indices, axis),
    "scatter_add": scatter_add,
    "one_hot": one_hot,
    "argsort": argsort,
}
