"""Kernels for the fused ops, and their gradients. Buffers of our own are reused in place."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from microgpt.errors import ShapeError

_add = np.add.reduce
_largest = np.maximum.reduce
_least = np.minimum.reduce

# ---- softmax ---------------------------------------------------------------------------------


def softmax(x: Any, *, axis: int) -> Any:
    y = x - _largest(x, axis=axis, keepdims=True)
    np.exp(y, out=y)
    y /= _add(y, axis=axis, keepdims=True)
    return y


def softmax_vjp(g: Any, y: Any, x: Any, *, needs: Any, axis: int) -> tuple[Any]:
    grad = g * y
    grad -= y * _add(grad, axis=axis, keepdims=True)
    return (grad,)


def log_softmax(x: Any, *, axis: int) -> Any:
    y = x - _largest(x, axis=axis, keepdims=True)
    y -= np.log(_add(np.exp(y), axis=axis, keepdims=True))
    return y


def log_softmax_vjp(g: Any, y: Any, x: Any, *, needs: Any, axis: int) -> tuple[Any]:
    grad = np.exp(y)
    grad *= -_add(g, axis=axis, keepdims=True)
    grad += g
    return (grad,)


# ---- linear ----------------------------------------------------------------------------------


def linear(x: Any, weight: Any, bias: Any) -> Any:
    if x.ndim == 2:
        y = x @ weight.T
    else:
        y = (x.reshape(-1, x.shape[-1]) @ weight.T).reshape(*x.shape[:-1], weight.shape[0])
    if bias is not None:
        y += bias
    return y


def linear_vjp(g: Any, y: Any, x: Any, weight: Any, bias: Any, *, needs: Any) -> tuple:
    for_x, for_weight, for_bias = needs
    rows = g if g.ndim == 2 else g.reshape(-1, g.shape[-1])
    to_x = to_weight = to_bias = None
    if for_x:
        to_x = rows @ weight
        if g.ndim != 2:
            to_x = to_x.reshape(*g.shape[:-1], weight.shape[1])
    if for_weight:
        to_weight = rows.T @ (x if g.ndim == 2 else x.reshape(-1, x.shape[-1]))
    if for_bias:
        to_bias = column_sums(rows)
    return to_x, to_weight, to_bias


@lru_cache(maxsize=64)
def _ones(n: int, dtype: np.dtype) -> Any:
    ones = np.ones(n, dtype=dtype)
    ones.flags.writeable = False
    return ones


def column_sums(rows: Any) -> Any:
    """Sum over the first dimension; for short columns the BLAS is several times faster."""
    if len(rows) <= 4096:
        return _ones(len(rows), rows.dtype) @ rows
    return _add(rows, 0)


def row_sums(x: Any) -> Any:
    """Sums over the last axis, which stays with length 1; the BLAS takes short rows faster."""
    n = x.shape[-1]
    if n > 1024 or x.size <= 1024 or not x.flags.c_contiguous:
        return _add(x, axis=-1, keepdims=True)
    return (x.reshape(x.size // n if n else 0, n) @ _ones(n, x.dtype)).reshape(*x.shape[:-1], 1)


# ---- losses ----------------------------------------------------------------------------------


def _targets(target: Any, classes: int, ignore_index: int) -> tuple[Any, Any, int]:
    """Targets without the ignored ones, where those are (None: nowhere), and how many count."""
    if not 0 <= ignore_index < classes and _within(target, classes):
        return target, None, target.size
    ignored = target == ignore_index
    safe = np.where(ignored, 0, target)
    if safe.size and (int(safe.min()) < 0 or int(safe.max()) >= classes):
        raise ShapeError(
            f"cross_entropy: targets must be from 0 to {classes - 1} (or ignore_index="
            f"{ignore_index}); got {safe.min()} to {safe.max()}"
        ).about("class-out-of-range")
    return safe, ignored, target.size - int(np.count_nonzero(ignored))


def _within(target: Any, classes: int) -> bool:
    """Whether all targets are class numbers."""
    n = target.size
    if n <= 32:  # Python counts a few numbers in less time than NumPy takes to begin
        few = target.tolist()
        return not n or (min(few) >= 0 and max(few) < classes)
    return bool(_least(target) >= 0 and _largest(target) < classes)


def _columns(x: Any) -> Any:
    """A copy of x (rows, classes) as (classes, rows): NumPy sweeps along rows, not across them.

    With few classes, reductions over the last axis are many short loops; this way they are few
    long ones.
    """
    return np.array(x.T, order="C") if x.shape[1] <= 128 else np.array(x, order="C").T


def cross_entropy(x: Any, target: Any, *, ignore_index: int) -> Any:
    return cross_entropy_saving(x, target, ignore_index=ignore_index)[0]


def cross_entropy_saving(x: Any, target: Any, *, ignore_index: int) -> tuple[Any, tuple]:
    safe, ignored, n = _targets(target, x.shape[1], ignore_index)
    if n == 0:
        return x.dtype.type(0), (None, None, safe, ignored, n)
    y = _columns(x)
    y -= _largest(y, 0)
    picked = y[safe, _counting(len(safe))]
    np.exp(y, out=y)
    sums = _add(y, 0)
    losses = np.log(sums)
    losses -= picked
    if ignored is not None:
        losses[ignored] = 0
    return _add(losses) / x.dtype.type(n), (y, sums, safe, ignored, n)


def cross_entropy_vjp(
    g: Any, saved: tuple, x: Any, target: Any, *, needs: Any, ignore_index: int
) -> tuple[Any, None]:
    """(softmax - one_hot) · g / n."""
    if not isinstance(saved, tuple):  # the output of a forward kernel that another plugin replaced
        _, saved = cross_entropy_saving(x, target, ignore_index=ignore_index)
    exponentials, sums, safe, ignored, n = saved
    if n == 0:
        return np.zeros_like(x), None
    scale = g / x.dtype.type(n)
    grad = exponentials * (scale / sums)
    grad[safe, _counting(len(safe))] -= scale
    if ignored is not None:
        grad[:, ignored] = 0
    return grad.T, None


@lru_cache(maxsize=64)
def _counting(n: int) -> Any:
    numbers = np.arange(n)
    numbers.flags.writeable = False
    return numbers


KERNELS: dict[str, Callable[..., Any]] = {
    "softmax": softmax,
    "softmax_vjp": softmax_vjp,
    "log_softmax": log_softmax,
    "log_softmax_vjp": log_softmax_vjp,
    "linear": linear,
    "linear_vjp": linear_vjp,
    "cross_entropy": cross_entropy,
    "cross_entropy_saving": cross_entropy_saving,
    "cross_entropy_vjp": cross_entropy_vjp,
}
