"""Ops that move elements. Most only return another way to walk through the same memory.

Where elements do move, one launch writes every element of the result once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import copysign, prod
from typing import Any

import numpy as np

from microgpt_opencl.arrays import Array, dense_strides, empty, host, same_device, view
from microgpt_opencl.elementwise import astype, fill
from microgpt_opencl.fusion import SHARE, contiguous, realised
from microgpt_opencl.programs import Kernel

Key = tuple[tuple[int, int, int], ...]

WORDS = {1: "uchar", 2: "ushort", 4: "uint", 8: "ulong"}
"""C types with the sizes of elements: moving needs to know no more about them."""

PARTS = 8
"""Arrays that one launch of the kernel `concat` can join."""

HOST_JOINS = 1 << 20
"""Elements up to which the host joins more parts than that, where it sees the device's memory."""

AXES = 5
"""Axes that the kernel `pad` knows, after joining those that go on evenly."""


def kernel(x: Array, name: str) -> Kernel:
    """A kernel that moves elements of the size of those of `x`."""
    device = x.device
    return device.kernel("movement.cl", name, WORD=WORDS[x.dtype.itemsize], WIDTH=device.width)


def shares(device: Any, units: int, elements: int) -> tuple[int, int]:
    """Work-groups and their size for a kernel that shares `units`, the rows of `elements`
    elements, between work-groups on a CPU, and elements between work-items elsewhere."""
    if not device.cpu:
        local = min(256, device.max_local)
        return max(min(-(-elements // local), device.units * 64), 1), local
    if device.units == 1:
        return 1, 1
    return max(min(units, elements // SHARE, device.units * 4), 1), 1


# ---- views -----------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _split(
    shape: tuple[int, ...], strides: tuple[int, ...], wanted: tuple[int, ...]
) -> tuple[int, ...] | None:
    """Strides of the shape `wanted` through the same memory in the same order; None: a copy is
    needed."""
    pairs = [(n, s) for n, s in zip(shape, strides, strict=True) if n != 1]
    found: list[int] = []
    # From the last axis on: take axes of both shapes until their products agree.
    i, new = len(pairs), list(wanted)
    have, step = 1, 1
    for n in reversed(new):
        if n == 1:
            found.append(step)
            continue
        while have < n:
            if i == 0:
                return None
            i -= 1
            length, stride = pairs[i]
            if have == 1:
                step = stride
            elif stride != step * have:
                return None
            have *= length
        if have % n:
            return None
        found.append(step)
        have //= n
        step *= n
    return tuple(reversed(found)) if i == 0 and have == 1 else None


def reshape(x: Array, *, shape: tuple[int, ...]) -> Array:
    x = realised(x)
    if x.strides == dense_strides(x.shape):
        return view(x, shape, dense_strides(shape), x.start)
    strides = _split(x.shape, x.strides, shape) if x.size else None
    if strides is not None:
        return view(x, shape, strides, x.start)
    x = contiguous(x)
    return view(x, shape, dense_strides(shape), x.start)


def permute_dims(x: Array, *, axes: tuple[int, ...]) -> Array:
    x = realised(x)
    return view(x, tuple([x.shape[i] for i in axes]), tuple([x.strides[i] for i in axes]), x.start)


def broadcast_to(x: Array, *, shape: tuple[int, ...]) -> Array:
    x = realised(x)
    extra = len(shape) - x.ndim
    strides = [0 if n == 1 != m else s
               for n, m, s in zip(x.shape, shape[extra:], x.strides, strict=True)]  # fmt: skip
    return view(x, shape, (0,) * extra + tuple(strides), x.start)


def flip(x: Array, *, axis: Any) -> Array:
    x = realised(x)
    axes = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
    strides, start = list(x.strides), x.start
    for i in axes:
        start += max(x.shape[i] - 1, 0) * strides[i]
        strides[i] = -strides[i]
    return view(x, x.shape, tuple(strides), start)


def slice_(x: Array, *, key: Key) -> Array:
    x = realised(x)
    shape, strides, start = [], [], x.start
    for (first, stop, step), s in zip(key, x.strides, strict=True):
        n = max(-(-(stop - first) // step) if step > 0 else -(-(first - stop) // -step), 0)
        shape.append(n)
        strides.append(s * step)
        start += first * s if n else 0
    return view(x, tuple(shape), tuple(strides), start)


# ---- joining ---------------------------------------------------------------------------------


def concat(*xs: Array, axis: int, sizes: tuple[int, ...]) -> Array:
    first = xs[0]
    dtype = first.dtype
    if any(x.dtype is not dtype for x in xs):
        dtype = np.dtype(np.result_type(*[x.dtype for x in xs]).type)
        xs = tuple([astype(x, dtype=dtype) for x in xs])
    shape = (*first.shape[:axis], sum(sizes), *first.shape[axis + 1 :])
    y = empty(first.device, shape, dtype)
    if 0 in shape:
        return y
    for x in xs:
        if x.device is not first.device:
            same_device(first, x)
    if len(xs) > PARTS and first.device.unified and y.size <= HOST_JOINS:
        return _joined_by_host(y, xs, axis)
    rows, after = prod(shape[:axis]), prod(shape[axis + 1 :])
    parts = []
    for x in xs:
        n = x.shape[axis] * after
        if n:
            parts.append((*_as_rows(x, rows, n), n))
    _join(y, rows, shape[axis] * after, parts)
    return y


def _joined_by_host(y: Array, xs: tuple[Array, ...], axis: int) -> Array:
    """Many small arrays: handing them to kernels takes longer than copying them."""
    device = y.device
    xs = tuple([realised(x) for x in xs if x.size])
    device.finish()
    device.activity["host concat"] += 1
    np.concatenate([host(x) for x in xs], axis=axis, out=host(y))
    return y


def _as_rows(x: Array, rows: int, n: int) -> tuple[Array, int]:
    """`x` as rows of `n` elements side by side, and the step from one row to the next."""
    if x.block is None:
        realised(x)
    if x.strides == dense_strides(x.shape):
        return x, n
    strides = _split(x.shape, x.strides, (rows, n))
    if strides is not None and (n == 1 or strides[1] == 1):
        return x, strides[0]
    return contiguous(x), n


def _join(y: Array, rows: int, total: int, parts: list[tuple[Array, int, int]]) -> None:
    """Write the parts (rows, step from one to the next, elements in a row) side by side."""
    device = y.device
    most = 2 if len(parts) <= 2 else PARTS
    run = kernel(y, "concat_two" if most == 2 else "concat")
    at = 0
    for i in range(0, len(parts), most):
        some = parts[i : i + most]
        args: list[Any] = [y, total, rows, at]
        longest = 0
        for x, step, n in some:
            args += (x, n, step)
            at += n
            longest = max(longest, n)
        for _ in range(most - len(some)):
            args += (some[0][0], 0, 0)
        # A single row may be cut anywhere, several are dealt out whole.
        groups, local = shares(device, rows if rows > 1 else longest, rows * longest)
        device.launch(run, (groups, len(some)), (local, 1) if local > 1 else (1, 1), *args)


# ---- into the middle of something larger -----------------------------------------------------


def unslice(x: Array, *, key: Key, shape: tuple[int, ...]) -> Array:
    x = realised(x)
    if not x.size:
        return fill(x, 0, shape)
    low, steps, downward = [], [], []
    for i, ((first, _, step), n) in enumerate(zip(key, x.shape, strict=True)):
        if step < 0:
            downward.append(i)
            first, step = first + (n - 1) * step, -step
        if first < 0 or first + (n - 1) * step >= shape[i]:
            raise ValueError(f"the array must be what slice gives for {key} of shape {shape}")
        low.append(first)
        steps.append(step if n > 1 else 1)
    return _inside(flip(x, axis=downward) if downward else x, 0, shape, tuple(low), tuple(steps))


def pad(x: Array, *, widths: tuple[tuple[int, int], ...], value: float) -> Array:
    shape = tuple([a + n + b for (a, b), n in zip(widths, x.shape, strict=True)])
    if not x.size:
        return fill(x, bool(value) if x.dtype.kind == "b" else value, shape)
    return _inside(realised(x), value, shape, tuple([a for a, _ in widths]), (1,) * x.ndim)


def _inside(
    x: Array, value: float, shape: tuple[int, ...], low: tuple[int, ...], steps: tuple[int, ...]
) -> Array:
    """`x` within an array of `shape`: element i of an axis at low + i · step, `value` elsewhere."""
    if x.shape == shape:
        return x
    plan = _placement(x.shape, x.strides, shape, low, steps)
    if plan is None and not x.dense:
        return _inside(contiguous(x), value, shape, low, steps)
    if plan is None:  # too many axes at once: first those of the back, then those of the front
        larger = [i for i, (m, n) in enumerate(zip(x.shape, shape, strict=True)) if m != n]
        at = larger[len(larger) // 2]
        part = (*x.shape[:at], *shape[at:])
        zeros, ones = (0,) * x.ndim, (1,) * x.ndim
        x = _inside(x, value, part, (*zeros[:at], *low[at:]), (*ones[:at], *steps[at:]))
        return _inside(x, value, shape, (*low[:at], *zeros[at:]), (*steps[:at], *ones[at:]))
    device = x.device
    y = empty(device, shape, x.dtype)
    rows, numbers = plan
    bits = 0
    if value or copysign(1, value) < 0:  # -0.0 has a bit set
        bits = np.full((), value, x.dtype).view(f"u{x.dtype.itemsize}").item()
    groups, local = shares(device, rows, y.size)
    device.launch(kernel(x, "pad"), (groups,), (local,), y, x, bits, rows, *numbers)
    return y


@lru_cache(maxsize=1024)
def _placement(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    out: tuple[int, ...],
    low: tuple[int, ...],
    steps: tuple[int, ...],
) -> tuple[int, tuple[int, ...]] | None:
    """Rows to write, and the numbers of the axes for the kernel `pad`; None if there are too many.

    Axes that go on evenly in both arrays become one.
    """
    merged: list[tuple[int, int, int, int, int]] = []
    for n, first, step, m, s in zip(out, low, steps, shape, strides, strict=True):
        if n == 1:
            continue
        if merged and n == m:
            outer_n, outer_low, outer_step, outer_m, outer_s = merged[-1]
            if outer_step == 1 and (outer_m == 1 or outer_s == s * n):
                merged[-1] = (outer_n * n, outer_low * n, 1, outer_m * m, s)
                continue
        merged.append((n, first, step, m, s))
    if len(merged) > AXES:
        return None
    while len(merged) < AXES:
        merged.insert(0, (1, 0, 1, 1, 0))
    return prod(out) // merged[-1][0], tuple([number for axis in merged for number in axis])


# ---- triangles -------------------------------------------------------------------------------


def _triangle(x: Array, k: int, upper: int) -> Array:
    y = empty(x.device, x.shape, x.dtype)
    if not x.size:
        return y
    height, width = x.shape[-2:]
    x = reshape(x, shape=(x.size // (height * width), height, width))
    groups, local = shares(x.device, x.shape[0] * height, x.size)
    k = max(min(k, width), -height)
    x.device.launch(
        kernel(x, "triangle"), (groups,), (local,),
        y, x, x.shape[0] * height, height, width, *x.strides, k, upper,
    )  # fmt: skip
    return y


KERNELS: dict[str, Callable[..., Any]] = {
    "reshape": reshape,
    "permute_dims": permute_dims,
    "broadcast_to": broadcast_to,
    "flip": flip,
    "slice": slice_,
    "unslice": unslice,
    "pad": pad,
    "concat": concat,
    "tril": lambda x, *, k: _triangle(x, k, 0),
    "triu": lambda x, *, k: _triangle(x, k, 1),
}
