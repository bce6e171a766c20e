"""Reductions, positions of extremes, and running sums.

How a reduction walks through memory is planned in `reducing.py`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from microgpt_opencl.arrays import Array, dense_strides, empty, view
from microgpt_opencl.elementwise import astype, cast
from microgpt_opencl.fusion import contiguous, defer, deferred, realised
from microgpt_opencl.optext import C_TYPES
from microgpt_opencl.reducing import Form, Stage, Strided, alone, form, stages

Axes = tuple[int, ...]

LOCAL = 128
"""Work-items that meet in local memory."""

FLOAT64, INT64, UINT64, BOOL = map(np.dtype, ("float64", "int64", "uint64", "bool"))
MULTIPLY, DIVIDE = 1, 2

_LATER = {"SQUARES": "SUM", "EXPS": "SUM"}
_SIGNED = {1: "char", 2: "short", 4: "int", 8: "long"}
_INTEGER = {"char": "CHAR", "short": "SHRT", "int": "INT", "long": "LONG"}


@lru_cache(maxsize=256)
def _defines(op: str, given: np.dtype, acc: np.dtype, cpu: bool) -> dict[str, Any]:
    c_type = C_TYPES[acc.char]
    name = _INTEGER.get(c_type.removeprefix("u"), "")
    if op in ("MAX", "MIN"):
        lowest, highest = "-INFINITY", "INFINITY"
        if name:
            unsigned = c_type.startswith("u")
            lowest, highest = f"{name}_MIN", f"{name}_MAX"
            if unsigned:
                lowest, highest = "0", f"U{name}_MAX"
        start = lowest if op == "MAX" else highest
    else:
        start = "1" if op == "PROD" else "0"
    found: dict[str, Any] = {"OP": op, "IN": C_TYPES[given.char], "ACC": c_type, "START": start,
             "SIGNED": _SIGNED[acc.itemsize]}  # fmt: skip
    if found["IN"] != found["ACC"]:
        found["WIDEN"] = 1
    # The same lanes on every processor: see the kernels.
    if cpu:
        return {**found, "WIDTH": 8 if acc.itemsize == 8 else 16}
    return {**found, "WIDTH": 1, "LOCAL": LOCAL}


def _run(
    op: str,
    x: Array,
    how: Form,
    acc: np.dtype,
    finish: int = 0,
    factor: float = 1,
    centre: Array | None = None,
) -> Array:
    """The results, one after the other in the order in which `how` has the axes that are kept.

    Args:
        finish, factor: what to multiply or divide them by in the end.
        centre: what to subtract before, one number for each result.
    """
    device = x.device
    axes = how.axes
    work: tuple[Stage, ...] | None = stages(axes, centre is not None, device.cpu, device.units)
    if work is None:
        kept = [a for a in axes if not a.reduced]
        gone = [a for a in axes if a.reduced]
        order = (*kept, *gone)
        x = contiguous(
            view(
                x,
                tuple([a.n for a in order]),
                tuple([a.stride for a in order]),
                x.start + how.shift,
            )
        )
        n, rest = math.prod([a.n for a in gone]), math.prod([a.n for a in kept])
        work = stages(
            (Strided(False, rest, n), Strided(True, n, 1)) if kept else (Strided(True, n, 1),),
            centre is not None, device.cpu, device.units,
        )  # fmt: skip
        source = x
    else:
        source = view(x, (), (), x.start + how.shift)
    if work is None:
        raise RuntimeError(f"a reduction of {x} has no plan; this is a bug, please report it")
    for stage in work:
        y = empty(device, (stage.size,), acc)
        kernel = device.kernel(
            "reduction.cl", stage.kernel, **_defines(op, source.dtype, acc, device.cpu)
        )
        last = stage is work[-1]
        device.launch(
            kernel, stage.groups, (1,) if device.cpu else (LOCAL,), source, y,
            source if centre is None else centre, *stage.args, finish if last else 0, factor,
        )  # fmt: skip
        op, source, centre = _LATER.get(op, op), y, None
    return source


def _result(y: Array, how: Form, keepdims: bool) -> Array:
    """`y`, one result after the other, in the shape that was asked for."""
    if keepdims:
        return view(y, how.kept_shape, how.kept_strides, y.start)
    return view(y, how.shape, how.strides, y.start)


def _filled(x: Array, axis: Axes, keepdims: bool, value: float, dtype: np.dtype) -> Array:
    """`value`, as often as there are results."""
    how = form(x.shape, x.strides, axis)
    shape = how.kept_shape if keepdims else how.shape
    return deferred("fill", dtype, (cast(value, dtype),), shape, x.device)


def _accumulated(x: Array) -> np.dtype:
    """The type of sums and products, as NumPy chooses it."""
    return x.dtype if x.dtype.kind == "f" else UINT64 if x.dtype.kind == "u" else INT64


def _floats(x: Array) -> Array:
    return realised(x if x.dtype.kind == "f" else astype(x, dtype=FLOAT64))


def _total(
    op: str, x: Array, axis: Axes, keepdims: bool, acc: np.dtype, mean: bool = False
) -> Array:
    """A reduction that needs nothing but the elements."""
    how = form(x.shape, x.strides, axis)
    finish, factor = 0, 1
    if mean:
        finish, factor = DIVIDE, how.count
    elif op == "SUM" and how.repeat > 1:
        finish, factor = MULTIPLY, how.repeat
    if how.count > 1:
        y = _run(op, x, how, acc, finish, factor)
    else:  # there is nothing to put together
        kept = how.axes
        y = view(x, tuple([a.n for a in kept]), tuple([a.stride for a in kept]), x.start)
        y = y if y.dtype == acc else astype(y, dtype=acc)
        y = contiguous(defer("multiply", acc, y, cast(factor, acc)) if finish == MULTIPLY else y)
    if op == "PROD" and how.repeat > 1:
        y = _repeated(y, how.repeat)
    return _result(y, how, keepdims)


def _repeated(y: Array, times: int) -> Array:
    """`y` to the power of `times`, by squaring."""
    power = None
    while times:
        if times & 1:
            power = y if power is None else contiguous(defer("multiply", y.dtype, power, y))
        times >>= 1
        if times:
            # One small kernel again and again builds faster than a long expression.
            y = contiguous(defer("multiply", y.dtype, y, y))
    return y if power is None else power


def sum(x: Array, *, axis: Axes, keepdims: bool) -> Array:
    x = realised(x)
    acc = _accumulated(x)
    if not x.size:
        return _filled(x, axis, keepdims, 0, acc)
    return _total("SUM", x, axis, keepdims, acc)


def column_sums(rows: Array) -> Array:
    """Sums over all axes but the last."""
    return sum(rows, axis=tuple(range(rows.ndim - 1)), keepdims=False)


def prod(x: Array, *, axis: Axes, keepdims: bool) -> Array:
    x = realised(x)
    acc = _accumulated(x)
    if not x.size:
        return _filled(x, axis, keepdims, 1, acc)
    return _total("PROD", x, axis, keepdims, acc)


def mean(x: Array, *, axis: Axes, keepdims: bool) -> Array:
    x = _floats(x)
    if not x.size:
        return _filled(x, axis, keepdims, math.nan, x.dtype)
    return _total("SUM", x, axis, keepdims, x.dtype, mean=True)


def var(x: Array, *, axis: Axes, correction: float, keepdims: bool) -> Array:
    x = _floats(x)
    n = math.prod([x.shape[i] for i in axis])
    if n - correction <= 0 or not x.size:
        return _filled(x, axis, keepdims, math.nan, x.dtype)
    how = alone(form(x.shape, x.strides, axis))
    middle = _run("SUM", x, how, x.dtype, DIVIDE, how.count)
    divisor = (n - correction) / how.repeat
    return _result(_run("SQUARES", x, how, x.dtype, DIVIDE, divisor, middle), how, keepdims)


def logsumexp(x: Array, *, axis: Axes, keepdims: bool) -> Array:
    x = _floats(x)
    if not x.size:
        return _filled(x, axis, keepdims, -math.inf, x.dtype)
    dtype = x.dtype
    how = alone(form(x.shape, x.strides, axis))
    top = _run("MAX", x, how, dtype)
    # exp(x - top) would be NaN where all of a row is -∞, or its largest element ∞.
    safe = contiguous(defer("where", dtype, defer("isfinite", BOOL, top), top, 0.0))
    y = defer("log", dtype, _run("EXPS", x, how, dtype, centre=safe))
    y = defer("add", dtype, y, safe)
    if how.repeat > 1:
        y = defer("add", dtype, y, math.log(how.repeat))
    return _result(contiguous(y), how, keepdims)


def _extreme(op: str) -> Callable[..., Array]:
    def kernel(x: Array, *, axis: Axes, keepdims: bool) -> Array:
        x = realised(x)
        if not x.size:
            return _filled(x, axis, keepdims, 0, x.dtype)
        return _total(op, x, axis, keepdims, x.dtype)

    return kernel


def _truth(op: str, of_nothing: bool) -> Callable[..., Array]:
    def kernel(x: Array, *, axis: Axes, keepdims: bool) -> Array:
        x = realised(x)
        if not x.size:
            return _filled(x, axis, keepdims, of_nothing, BOOL)
        if x.dtype != BOOL:
            # Elements that repeat are compared once.
            once = tuple([1 if s == 0 else n for n, s in zip(x.shape, x.strides, strict=True)])
            shape, repeats = x.shape, x.strides
            x = realised(
                defer("not_equal", BOOL, view(x, once, repeats, x.start), cast(0, x.dtype))
            )
            strides = tuple([0 if r == 0 else s for r, s in zip(repeats, x.strides, strict=True)])
            x = view(x, shape, strides, x.start)
        return _total(op, x, axis, keepdims, BOOL)

    return kernel


def _share(total: int, each: int, device: Any) -> tuple[tuple[int], tuple[int], int]:
    """Groups, local size, and how many results a work-item computes."""
    if device.cpu:
        groups = min(total, device.units * 4, max(total * each >> 14, 1)) if device.units > 1 else 1
        share = -(-total // groups)
        return (-(-total // share),), (1,), share
    return (-(-total // 64),), (64,), 1


def _position(op: str) -> Callable[..., Array]:
    def kernel(x: Array, *, axis: int) -> Array:
        x = realised(x)
        n = x.shape[axis]
        if not x.size or n == 1 or x.strides[axis] == 0:
            return _filled(x, (axis,), False, 0, INT64)
        device = x.device
        how = form(x.shape, x.strides, (axis,))
        if len(how.rest) > 3:
            x = contiguous(x)
            how = form(x.shape, x.strides, (axis,))
        best = _run(op, x, how, x.dtype)
        block = 65536 if device.cpu else 256
        blocks = -(-n // block)
        y = empty(device, (best.size * blocks,), INT64)
        groups, local, share = _share(y.size, min(n, block), device)
        find = device.kernel("reduction_along.cl", "find", IN=C_TYPES[x.dtype.char], ACC="long")
        device.launch(
            find, groups, local, x, best, y, *how.lengths, *how.steps,
            n, x.strides[axis], block, blocks, y.size, share,
        )  # fmt: skip
        if blocks > 1:
            y = view(y, (best.size, blocks), (blocks, 1), 0)
            y = _run("MIN", y, form(y.shape, y.strides, (1,)), INT64)
        return _result(y, how, False)

    return kernel


def cumulative_sum(x: Array, *, axis: int) -> Array:
    x = realised(x)
    device, n, acc = x.device, x.shape[axis], _accumulated(x)
    y = empty(device, x.shape, acc)
    if not x.size:
        return y
    walk = _walk(x.shape, x.strides, axis)
    if walk is None:
        x = contiguous(x)
        walk = _walk(x.shape, x.strides, axis)
    if walk is None:
        raise RuntimeError(f"a running sum of {x} has no plan; this is a bug, please report it")
    lengths, steps, out = walk
    _running(x, y, lengths, steps, out, n, x.strides[axis], y.strides[axis])
    return y


@lru_cache(maxsize=1024)
def _walk(
    shape: tuple[int, ...], strides: tuple[int, ...], axis: int
) -> tuple[tuple[int, int], tuple[int, ...], tuple[int, ...]] | None:
    """How to go through all axes but one of x, and of a result that lies row by row; None if that
    takes more than three steps."""
    merged: list[tuple[int, int, int]] = []
    for i, (n, s, t) in enumerate(zip(shape, strides, dense_strides(shape), strict=True)):
        if i == axis or n == 1:
            continue
        if merged and merged[-1][1:] == (n * s, n * t):
            merged[-1] = (merged[-1][0] * n, s, t)
        else:
            merged.append((n, s, t))
    if len(merged) > 3:
        return None
    merged = [(1, 0, 0)] * (3 - len(merged)) + merged
    return (
        (merged[1][0], merged[2][0]),
        tuple([m[1] for m in merged]),
        tuple([m[2] for m in merged]),
    )


def _running(
    x: Array, y: Array, lengths: tuple[int, int], steps: tuple[int, ...], out: tuple[int, ...],
    n: int, step: int, y_step: int, block: int = 0,
) -> None:  # fmt: skip
    device = x.device
    rest = y.size // n
    block = block or max(64, math.isqrt(n - 1) + 1)
    blocks = -(-n // block)
    groups, local, share = _share(rest * blocks, block, device)
    types = {"IN": C_TYPES[x.dtype.char], "ACC": C_TYPES[y.dtype.char]}
    before = y
    if blocks > 1:
        totals = empty(device, (rest * blocks,), y.dtype)
        kernel = device.kernel("reduction_along.cl", "block_sums", **types)
        device.launch(
            kernel, groups, local, x, totals, *lengths, *steps, n, step, block, blocks,
            rest * blocks, share,
        )  # fmt: skip
        before = empty(device, totals.shape, y.dtype)
        _running(totals, before, (1, rest), (0, 0, blocks), (0, 0, blocks), blocks, 1, 1, blocks)
    kernel = device.kernel("reduction_along.cl", "running_sums", **types)
    device.launch(
        kernel, groups, local, x, before, y, *lengths, *steps, *out, n, step, y_step, block, blocks,
        rest * blocks, share,
    )  # fmt: skip


KERNELS: dict[str, Callable[..., Any]] = {
    "sum": sum,
    "mean": mean,
    "var": var,
    "max": _extreme("MAX"),
    "min": _extreme("MIN"),
    "prod": prod,
    "any": _truth("MAX", False),
    "all": _truth("MIN", True),
    "logsumexp": logsumexp,
    "cumulative_sum": cumulative_sum,
    "argmax": _position("MAX"),
    "argmin": _position("MIN"),
}
