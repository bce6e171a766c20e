"""Matrix products: our own kernels, or on a processor the BLAS of NumPy on the same memory.

The setting MICROGPT_OPENCL_GEMM says which, see `device.GEMM`; the BLAS needs a device whose memory
the host sees (`Device.unified`). On graphics cards the sizes of the tiles are measured once per
shape class, see `tuning`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from math import prod
from typing import Any, Literal, NamedTuple

import numpy as np

from microgpt_opencl import reduction, tuning
from microgpt_opencl.arrays import Array, empty, host, view
from microgpt_opencl.elementwise import add, cast, dtype_of, fill
from microgpt_opencl.fusion import contiguous, realised
from microgpt_opencl.movement import reshape
from microgpt_opencl.optext import C_TYPES
from microgpt_opencl.programs import Kernel

WITH_BIAS = 1
ADDING = 2
ON_TILES = 4

long4 = struct.Struct("4q").pack
_BLAS = {"f": "host BLAS sgemm", "d": "host BLAS dgemm"}
DEEP, LARGE = 64, 10_000_000
"""The smallest side of a product, and multiplications, from which the matrix unit pays."""
FEW = 4
"""Rows up to which packing the other matrix costs more than the product."""


def matmul(a: Array, b: Array) -> Array:
    """a @ b, with leading dimensions that broadcast, as `numpy.matmul`."""
    if a.dtype is not b.dtype:
        dtype = dtype_of(a, b)
        a, b = cast(a, dtype), cast(b, dtype)
    if a.ndim > 1 and b.ndim > 1:
        return product(a, b)
    row, column = a.ndim == 1, b.ndim == 1
    a, b = realised(a), realised(b)
    if row:
        a = view(a, (1, *a.shape), (0, *a.strides), a.start)
    if column:
        b = view(b, (*b.shape, 1), (*b.strides, 0), b.start)
    y = realised(product(a, b))
    dropped = [y.ndim - 2] * row + [y.ndim - 1] * column
    kept = [i for i in range(y.ndim) if i not in dropped]
    return view(y, tuple([y.shape[i] for i in kept]), tuple([y.strides[i] for i in kept]), y.start)


def product(
    a: Array, b: Array, out: Array | None = None, bias: Array | None = None, adding: bool = False
) -> Array:
    """a @ b + bias for a (…, m, k), b (…, k, n) and bias (n,).

    Args:
        out: where to write; its columns must be adjacent. By default a new array.
        adding: add to what is in `out` already.

    Raises:
        ValueError: if the shapes do not fit.
    """
    a, b = realised(a), realised(b)
    (m, k), (k2, n) = a.shape[-2:], b.shape[-2:]
    if k != k2:
        raise ValueError(f"inner dimensions {k} and {k2} differ")
    lead = a.shape[:-2]
    if lead != b.shape[:-2]:
        lead = np.broadcast_shapes(lead, b.shape[:-2])
        a, b = _spread(a, lead), _spread(b, lead)
    device = a.device
    if out is None:
        y = empty(device, (*lead, m, n), a.dtype)
    else:
        y = out
        y.block.from_host = False  # pyright: ignore[reportOptionalMemberAccess]
    if not prod(y.shape):
        return y
    if k == 0 and bias is None and not adding and out is None:
        return fill(y, 0)
    # Matrices in a row, with one factor on the right, are one tall matrix.
    if lead and _shared(b, lead) and (flat := _tall(a, m)) is not None and y.dense:
        a, lead, m = flat, (), flat.shape[0]
        b = view(b, b.shape[-2:], b.strides[-2:], b.start)
        into = view(y, (m, n), (n, 1), y.start)
    else:
        into = y
    if a.dtype.kind == "f" and device.unified and k and (device.blas or m <= FEW):
        _by_blas(a, b, into, bias, adding)
    else:
        _by_kernel(a, b, into, bias, adding, lead, m, n, k)
    return y


def _spread(x: Array, lead: tuple[int, ...]) -> Array:
    """`x` with its leading dimensions broadcast to `lead`."""
    have = x.shape[:-2]
    steps = [0 if n == 1 else s for n, s in zip(have, x.strides[:-2], strict=True)]
    steps = [0] * (len(lead) - len(have)) + steps
    return view(x, (*lead, *x.shape[-2:]), (*steps, *x.strides[-2:]), x.start)


def _shared(x: Array, lead: tuple[int, ...]) -> bool:
    return not any(s for s, n in zip(x.strides, lead, strict=False) if n != 1)


def _tall(x: Array, m: int) -> Array | None:
    """(…, m, k) as one matrix (… · m, k), if its rows follow one another evenly."""
    step, length = x.strides[-2], m
    for n, s in zip(reversed(x.shape[:-2]), reversed(x.strides[:-2]), strict=True):
        if n != 1 and s != step * length:
            return None
        length *= n
    return view(x, (length, x.shape[-1]), (step, x.strides[-1]), x.start)


# ---- the host's BLAS -------------------------------------------------------------------------


def _for_blas(x: Array) -> Array:
    """`x`, or a copy if it is laid out in a way that a BLAS cannot take."""
    (m, n), (rows, columns) = x.shape[-2:], x.strides[-2:]
    fits = (columns == 1 and (rows >= n or m == 1)) or (rows == 1 and (columns >= m or n == 1))
    return x if fits else contiguous(x)


def _by_blas(a: Array, b: Array, y: Array, bias: Array | None, adding: bool) -> None:
    device = y.device
    a, b = _for_blas(a), _for_blas(b)
    row = None if bias is None else realised(bias)
    with device.lock:
        device.finish()
        out = host(y)
        # Infinities and NaN are results like others; NumPy would warn about some of them.
        with np.errstate(all="ignore"):
            if adding:
                out += np.matmul(host(a), host(b))
            else:
                np.matmul(host(a), host(b), out=out)
            if row is not None:
                out += host(row)
        device.activity[_BLAS[a.dtype.char]] += 1


# ---- our kernels -----------------------------------------------------------------------------


def _batches(
    lead: tuple[int, ...], strides: tuple[tuple[int, ...], ...]
) -> tuple[int, int, tuple[tuple[int, int], ...]] | None:
    """Leading dimensions as two: their lengths, and for each array its two strides."""
    merged: list[list[int]] = []
    for i, n in enumerate(lead):
        if n == 1:
            continue
        here = [n, *[s[i] for s in strides]]
        if merged and all(p == q * n for p, q in zip(merged[-1][1:], here[1:], strict=True)):
            merged[-1] = [merged[-1][0] * n, *here[1:]]
        else:
            merged.append(here)
    if len(merged) > 2:
        return None
    while len(merged) < 2:
        merged.insert(0, [1] + [0] * len(strides))
    (outer, *first), (inner, *second) = merged
    return outer, inner, tuple(zip(first, second, strict=True))


class _Plan(NamedTuple):
    """How to launch a product of matrices that lie like this.

    `a`, `b` and `y` are the strides of rows, columns and two batches, `last` further numbers.
    """

    kernel: Kernel
    size: tuple[int, ...]
    local: tuple[int, ...]
    a: bytes
    b: bytes
    y: bytes
    inner: int
    flags: int
    last: tuple[int, ...]


def _by_kernel(
    a: Array, b: Array, y: Array, bias: Array | None, adding: bool, lead: tuple[int, ...],
    m: int, n: int, k: int,
) -> None:  # fmt: skip
    recipes = y.device.programs.recipes
    key = ("gemm", y.device.gemm, a.dtype.char, lead, m, n, k, a.strides, b.strides, y.strides)
    plan = recipes.get(key)
    if plan is None:
        plan = recipes[key] = _plan(a, b, y, lead, m, n, k)
    if plan is False:
        if a.dense and b.dense:  # only a result in an unusual order of ours could come here
            raise ValueError(f"a product into strides {y.strides} is not possible")
        _by_kernel(contiguous(a), contiguous(b), y, bias, adding, lead, m, n, k)
        return
    row = y if bias is None else contiguous(bias)
    flags = plan.flags + WITH_BIAS * (bias is not None) + ADDING * adding
    args = [
        a.block.buffer, a.start, plan.a, b.block.buffer, b.start, plan.b,  # pyright: ignore
        y.block.buffer, y.start, plan.y, row.block.buffer, row.start,  # pyright: ignore
        m, n, k, plan.inner, flags, *plan.last,
    ]  # fmt: skip
    y.device.submit(plan.kernel, plan.size, plan.local, args)


def _plan(
    a: Array, b: Array, y: Array, lead: tuple[int, ...], m: int, n: int, k: int
) -> _Plan | Literal[False]:
    """The plan of a product; False if a and b have to be copied first."""
    found = _batches(lead, (a.strides[:-2], b.strides[:-2], y.strides[:-2]))
    if found is None:
        return False
    outer, inner, (of_a, of_b, of_y) = found
    device, batches = y.device, outer * inner
    packed = (
        long4(*a.strides[-2:], *of_a), long4(*b.strides[-2:], *of_b), long4(*y.strides[-2:], *of_y)
    )  # fmt: skip
    if device.cpu and a.dtype.kind == "f":
        kernel = cpu_kernel(device, a.dtype.char, "gemm")
        tall, wide = _task(device, m, n, batches)
        size = (_ceil(n, wide), _ceil(m, tall), batches)
        kernel, flag = _on_tiles(kernel, device, a.dtype.char, m, n, k)
        return _Plan(kernel, size, (1, 1, 1), *packed, inner, flag, (tall, wide))
    tile = tuning.tile(device, C_TYPES[a.dtype.char], m, n, k, batches)
    kernel = tuning.kernel(device, C_TYPES[a.dtype.char], tile)
    local = (tile.n // tile.work_n, tile.m // tile.work_m, 1)
    size = (_ceil(n, tile.n) * local[0], _ceil(m, tile.m) * local[1], batches)
    return _Plan(kernel, size, local, *packed, inner, 0, ())


def cpu_kernel(device: Any, char: str, name: str) -> Kernel:
    """A kernel of ``gemm_cpu.cl``, with blocks for the registers and caches of the processor."""
    size = 4 if char == "f" else 8
    width = max(device.width * 4 // size, 2)
    rows = 12 if device.width == 16 else 6
    files, more = ("gemm_vectors.cl", "gemm_cpu.cl"), {}
    if device.tiles and char == "f":
        files = ("gemm_vectors.cl", "gemm_amx.cl", "gemm_cpu.cl")
        more = {} if device.matrix_unit else {"EMULATED": 1}
    # The packed blocks must fit into local memory: 48 rows and NC columns of KC (384) numbers, or
    # with tiles 64 and NC, half as large again.
    columns = 512
    needed = 384 * size * (1.5 if device.tiles else 1)
    while (64 + columns) * needed > device.local_memory and columns > 2 * width:
        columns //= 2
    return device.kernel(files, name, REAL=C_TYPES[char], WIDTH=width, MR=rows, NC=columns, **more)


def _on_tiles(kernel: Kernel, device: Any, char: str, m: int, n: int, k: int) -> tuple[Kernel, int]:
    """A kernel and a flag for it: on the matrix unit, if it is there and will be faster."""
    if device.tiles and char == "f" and min(m, n, k) >= DEEP and m * n * k >= LARGE:
        return kernel.counted_as(f"{kernel.label} (matrix unit)"), ON_TILES
    return kernel, 0


def _task(device: Any, m: int, n: int, batches: int) -> tuple[int, int]:
    """How many rows and columns of a product one work-item computes."""
    parts = _ceil(device.units, max(batches, 1))
    if parts == 1:
        return m, n
    if m >= n:
        return _ceil(_ceil(m, parts), 12) * 12, n
    return m, _ceil(_ceil(n, parts), 64) * 64


def _ceil(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


# ---- linear ----------------------------------------------------------------------------------


def _rows(x: Array) -> Array:
    """(…, n) as (rows, n)."""
    x = realised(x)
    if x.ndim == 2:
        return x
    n = x.shape[-1]
    if x.ndim > 2 and (flat := _tall(x, x.shape[-2])) is not None:
        return flat
    x = contiguous(x)
    return view(x, (prod(x.shape[:-1]), n), (n, 1), x.start)


def _transposed(x: Array) -> Array:
    x = realised(x)
    return view(x, x.shape[::-1], x.strides[::-1], x.start)


def linear(x: Array, weight: Array, bias: Array | None) -> Array:
    rows = _rows(x)
    y = product(rows, _transposed(weight), bias=None if bias is None else realised(bias))
    if not x.shape[-1] and bias is not None:  # the product of nothing
        y = add(fill(y, 0), bias)
    return y if x.ndim == 2 else reshape(y, shape=(*x.shape[:-1], weight.shape[0]))


def linear_vjp(g: Array, y: Any, x: Array, weight: Array, bias: Any, *, needs: Any) -> tuple:
    for_x, for_weight, for_bias = needs
    rows = _rows(g)
    if for_weight and for_bias and _one_launch(rows, x, weight):
        return _all_gradients(rows, _rows(x), realised(weight), x.shape, for_x)
    to_x = to_weight = to_bias = None
    if for_x:
        to_x = product(rows, realised(weight))
        if x.ndim != 2:
            to_x = reshape(to_x, shape=x.shape)
    if for_weight:
        to_weight = product(_transposed(rows), _rows(x))
    if for_bias:
        to_bias = reduction.column_sums(rows)
    return to_x, to_weight, to_bias


def _one_launch(g: Array, x: Array, weight: Array) -> bool:
    """Whether one kernel computes all gradients: on processors, unless their BLAS does better."""
    return (
        g.device.cpu
        and g.dtype.kind == "f"
        and g.dtype is x.dtype is weight.dtype
        and g.strides[1] == 1
        and g.shape[0] > FEW
        and min(weight.shape) > 0
        and not g.device.blas
    )


def _all_gradients(
    g: Array, x: Array, weight: Array, shape: tuple[int, ...], for_x: bool
) -> tuple[Array | None, Array, Array]:
    device, dtype, (m, n), k = g.device, g.dtype, g.shape, x.shape[1]
    to_weight, to_bias = empty(device, (n, k), dtype), empty(device, (n,), dtype)
    to_x = empty(device, shape, dtype) if for_x else None
    into = to_weight if to_x is None else to_x
    recipes = device.programs.recipes
    key = ("linear_vjp", device.gemm, dtype.char, m, n, k, for_x)
    plan = recipes.get(key)
    if plan is None:
        kernel = cpu_kernel(device, dtype.char, "linear_vjp")
        x_share, w_share = _ceil(m, device.units), _ceil(_ceil(k, device.units), 64) * 64
        x_tasks, w_tasks = _ceil(m, x_share) if for_x else 0, _ceil(k, w_share)
        kernel, flag = _on_tiles(kernel, device, dtype.char, m, n, k)
        last = (m, n, k, flag, x_tasks, x_share, w_tasks, w_share)
        plan = recipes[key] = kernel, (x_tasks + w_tasks + 1,), last
    kernel, size, last = plan
    args = [
        g.block.buffer, g.start, *g.strides, x.block.buffer, x.start, *x.strides,  # pyright: ignore
        weight.block.buffer, weight.start, *weight.strides, into.block.buffer,  # pyright: ignore
        to_weight.block.buffer, to_bias.block.buffer, *last,  # pyright: ignore
    ]  # fmt: skip
    device.submit(kernel, size, (1,), args)
    return to_x, to_weight, to_bias


KERNELS: dict[str, Callable[..., Any]] = {
    "matmul": matmul,
    "linear": linear,
    "linear_vjp": linear_vjp,
}
