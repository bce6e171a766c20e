"""Reductions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Axes = tuple[int, ...]

_add = np.add.reduce


def sum(x: Any, *, axis: Axes, keepdims: bool) -> Any:
    if x.dtype.kind not in "iub":
        return _add(x, axis=axis, keepdims=keepdims)
    return np.sum(x, axis=axis, keepdims=keepdims)


def mean(x: Any, *, axis: Axes, keepdims: bool) -> Any:
    n = 1
    for a in axis:
        n *= x.shape[a]
    total = _add(x, axis=axis, keepdims=keepdims)
    # The mean of nothing is NaN, without NumPy's two warnings about it.
    return total / n if n else total * np.nan


def var(x: Any, *, axis: Axes, correction: float, keepdims: bool) -> Any:
    n = 1
    for a in axis:
        n *= x.shape[a]
    if n - correction <= 0:
        return _add(x, axis=axis, keepdims=keepdims) * np.nan
    centred = x - _add(x, axis=axis, keepdims=True) / n
    return _add(centred * centred, axis=axis, keepdims=keepdims) / (n - correction)


def logsumexp(x: Any, *, axis: Axes, keepdims: bool) -> Any:
    if x.size == 0:
        return np.full(_add(x, axis=axis, keepdims=keepdims).shape, -np.inf, dtype=x.dtype)
    top = np.max(x, axis=axis, keepdims=True)
    safe = np.where(np.isfinite(top), top, x.dtype.type(0))
    with np.errstate(divide="ignore"):
        y = np.log(_add(np.exp(x - safe), axis=axis, keepdims=True)) + safe
    return y if keepdims else np.squeeze(y, axis=axis)


def cumulative_sum(x: Any, *, axis: int) -> Any:
    return np.cumsum(x, axis=axis, dtype=x.dtype if x.dtype.kind == "f" else None)


KERNELS: dict[str, Callable[..., Any]] = {
    "sum": sum,
    "mean": mean,
    "var": var,
    "max": lambda x, *, axis, keepdims: np.max(x, axis=axis, keepdims=keepdims),
    "min": lambda x, *, axis, keepdims: np.min(x, axis=axis, keepdims=keepdims),
    "prod": lambda x, *, axis, keepdims: np.prod(x, axis=axis, keepdims=keepdims),
    "any": lambda x, *, axis, keepdims: np.any(x, axis=axis, keepdims=keepdims),
    "all": lambda x, *, axis, keepdims: np.all(x, axis=axis, keepdims=keepdims),
    "logsumexp": logsumexp,
    "cumulative_sum": cumulative_sum,
    "argmax": lambda x, *, axis: np.argmax(x, axis=axis),
    "argmin": lambda x, *, axis: np.argmin(x, axis=axis),
}
