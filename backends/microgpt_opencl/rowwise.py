"""Softmax and normalisations: one sweep per row."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from microgpt_opencl.arrays import Array, empty
from microgpt_opencl.elementwise import cast, fill
from microgpt_opencl.fusion import SHARE, contiguous
from microgpt_opencl.optext import C_TYPES
from microgpt_opencl.programs import Kernel

# ---- what all kernels on rows need -----------------------------------------------------------


@lru_cache(maxsize=256)
def row_kernel(device: Any, file: str, name: str, dtype: np.dtype, index: str = "int") -> Kernel:
    """The kernel `name` of a file that comes after ``rows.cl``; `index` is the type of targets."""
    real = C_TYPES[dtype.char]
    return device.kernel(("rows.cl", file), name, REAL=real, WIDTH=device.width, INDEX=index)


@lru_cache(maxsize=4096)
def shares(device: Any, rows: int, n: int) -> tuple[int, int, int]:
    """Work-groups, work-items in each, and rows for each, to go through `rows` of `n` numbers."""
    if device.cpu:
        most = min(max(rows * n // SHARE, 1), device.units * 4) if device.units > 1 else 1
        local = 1
    else:
        most = device.units * 16
        local = 32
        while local < min(n, 256, device.max_local):
            local *= 2
        local = min(local, device.max_local)
    share = -(-rows // min(rows, most))
    return -(-rows // share), local, share


def _fitting(x: Array | None, dtype: np.dtype) -> Array | None:
    return None if x is None else contiguous(cast(x, dtype))


# ---- softmax ---------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _around(device: Any, shape: tuple[int, ...], axis: int) -> tuple[int, int, int, int, int]:
    """How to go along an axis that is not the last: elements after it, units of neighbouring rows
    among these, units in all, work-groups, and units for each work-item."""
    inner = prod(shape[axis + 1 :])
    across = -(-inner // device.width)
    units = across * prod(shape[:axis])
    if device.cpu:
        groups, _, share = shares(device, units, shape[axis] * device.width)
    else:
        groups, share = -(-units // min(64, device.max_local)), 1
    return inner, across, units, groups, share


def _along(name: str, axis: int, logarithm: int, *arrays: Array) -> Array:
    """Run a kernel on `arrays` of one shape and type; its result is like them."""
    like = arrays[0]
    shape, dtype, device = like.shape, like.dtype, like.device
    y = empty(device, shape, dtype)
    size = prod(shape)
    if not size:
        return y
    axis %= len(shape)
    n = shape[axis]
    inputs = [contiguous(a) for a in arrays]
    if size == n or axis == len(shape) - 1 or prod(shape[axis + 1 :]) == 1:
        kernel = row_kernel(device, "softmax.cl", name, dtype)
        groups, local, share = shares(device, size // n, n)
        device.launch(kernel, (groups,), (local,), *inputs, y, size // n, n, share, logarithm)
    else:
        kernel = row_kernel(device, "softmax.cl", name + "_across", dtype)
        inner, across, units, groups, share = _around(device, shape, axis)
        local = 1 if device.cpu else min(64, device.max_local)
        device.launch(
            kernel, (groups,), (local,), *inputs, y, n, inner, across, units, share, logarithm
        )
    return y


def softmax(x: Array, *, axis: int) -> Array:
    return _along("softmax", axis, 0, x)


def softmax_vjp(g: Array, y: Array, x: Array, *, needs: Any, axis: int) -> tuple[Array]:
    return (_along("softmax_gradient", axis, 0, g, y),)


def log_softmax(x: Array, *, axis: int) -> Array:
    return _along("softmax", axis, 1, x)


def log_softmax_vjp(g: Array, y: Array, x: Array, *, needs: Any, axis: int) -> tuple[Array]:
    return (_along("softmax_gradient", axis, 1, g, y),)


# ---- normalisation ---------------------------------------------------------------------------

_WEIGHTED, _BIASED, _CENTRED, _TO_X, _TO_WEIGHT, _TO_BIAS = 1, 2, 4, 8, 16, 32


def _norm(
    x: Array, weight: Array | None, bias: Array | None, eps: float, centred: int
) -> tuple[Array, tuple[Array, Array]]:
    """The result, and mean and 1/√(variance + ε) of each row; means are left out if not centred."""
    shape, dtype, device = x.shape, x.dtype, x.device
    n = shape[-1]
    y = empty(device, shape, dtype)
    rows = prod(shape[:-1])
    scales = empty(device, (rows,), dtype)
    means = empty(device, (rows,), dtype) if centred else scales
    if rows and n:
        x, weight, bias = contiguous(x), _fitting(weight, dtype), _fitting(bias, dtype)
        flags = centred
        flags |= 0 if weight is None else _WEIGHTED
        flags |= 0 if bias is None else _BIASED
        groups, local, share = shares(device, rows, n)
        device.launch(
            row_kernel(device, "norms.cl", "norm", dtype), (groups,), (local,),
            x, x if weight is None else weight, x if bias is None else bias, y, means, scales,
            eps, flags, rows, n, share,
        )  # fmt: skip
    return y, (means, scales)


def _norm_vjp(
    g: Array, saved: tuple[Array, Array], x: Array, weight: Array | None, needs: Any, centred: int
) -> tuple[Array | None, Array | None, Array | None]:
    """The gradients of x, weight and bias, those that are needed."""
    shape, dtype, device = x.shape, x.dtype, x.device
    for_x, for_weight, for_bias = needs
    n, rows = shape[-1], prod(shape[:-1])
    if not (rows and n):
        zeros = fill(x, 0, (n,))
        return (
            empty(device, shape, dtype) if for_x else None,
            zeros if for_weight else None,
            zeros if for_bias else None,
        )
    x, g, weight = contiguous(x), contiguous(g), _fitting(weight, dtype)
    groups, local, share = shares(device, rows, n)
    padded = -(-n // device.width) * device.width
    partial = (n,) if groups == 1 else (groups * padded,)
    to_x = empty(device, shape, dtype) if for_x else None
    to_weight = empty(device, partial, dtype) if for_weight else None
    to_bias = empty(device, partial, dtype) if for_bias else None
    flags = centred | (0 if weight is None else _WEIGHTED)
    flags |= (_TO_X if for_x else 0) | (_TO_WEIGHT if for_weight else 0)
    flags |= _TO_BIAS if for_bias else 0
    device.launch(
        row_kernel(device, "norms.cl", "norm_gradient", dtype), (groups,), (local,),
        g, x, x if weight is None else weight, *saved,
        *[x if y is None else y for y in (to_x, to_weight, to_bias)],  # what is unused is x
        flags, rows, n, padded, share,
    )  # fmt: skip
    if groups > 1:
        to_weight, to_bias = _summed(to_weight, n, groups), _summed(to_bias, n, groups)
    return to_x, to_weight, to_bias


def _summed(parts: Array | None, n: int, count: int) -> Array | None:
    """The sums of `n` columns of `count` rows."""
    if parts is None:
        return None
    device, padded = parts.device, parts.size // count
    y = empty(device, (n,), parts.dtype)
    local = 1 if device.cpu else min(64, device.max_local)
    groups = -(-padded // (local * device.width))
    kernel = row_kernel(device, "norms.cl", "column_sums", parts.dtype)
    device.launch(kernel, (groups,), (local,), parts, y, count, padded)
    return y


def layer_norm_saving(
    x: Array, weight: Array | None, bias: Array | None, *, eps: float
) -> tuple[Array, tuple[Array, Array]]:
    return _norm(x, weight, bias, eps, _CENTRED)


def layer_norm(x: Array, weight: Array | None, bias: Array | None, *, eps: float) -> Array:
    return _norm(x, weight, bias, eps, _CENTRED)[0]


def layer_norm_vjp(
    g: Array, saved: Any, x: Array, weight: Array | None, bias: Array | None, *, needs: Any,
    eps: float,
) -> tuple[Array | None, Array | None, Array | None]:  # fmt: skip
    if not isinstance(saved, tuple):  # the output of a forward kernel that another plugin replaced
        saved = _norm(x, None, None, eps, _CENTRED)[1]
    return _norm_vjp(g, saved, x, weight, needs, _CENTRED)


def rms_norm_saving(
    x: Array, weight: Array | None, *, eps: float
) -> tuple[Array, tuple[Array, Array]]:
    return _norm(x, weight, None, eps, 0)


def rms_norm(x: Array, weight: Array | None, *, eps: float) -> Array:
    return _norm(x, weight, None, eps, 0)[0]


def rms_norm_vjp(
    g: Array, saved: Any, x: Array, weight: Array | None, *, needs: Any, eps: float
) -> tuple[Array | None, Array | None]:
    if not isinstance(saved, tuple):  # the output of a forward kernel that another plugin replaced
        saved = _norm(x, None, None, eps, 0)[1]
    return _norm_vjp(g, saved, x, weight, (*needs, False), 0)[:2]


KERNELS: dict[str, Callable[..., Any]] = {
    "softmax": softmax,
    "softmax_vjp": softmax_vjp,
    "log_softmax": log_softmax,
    "log_softmax_vjp": log_softmax_vjp,
    "layer_norm": layer_norm,
    "layer_norm_saving": layer_norm_saving,
    "layer_norm_vjp": layer_norm_vjp,
    "rms_norm": rms_norm,
    "rms_norm_saving": rms_norm_saving,
    "rms_norm_vjp": rms_norm_vjp,
}
