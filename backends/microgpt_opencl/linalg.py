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

from microgpt_opencl import tuning
from microgpt_opencl.arrays import Array, empty, host, view
from microgpt_opencl.elementwise import cast, dtype_of, fill
from microgpt_opencl.fusion import contiguous, realised
from microgpt_opencl.optext import C_TYPES
from microgpt_opencl.programs import Kernel

WITH_BIAS = 1
ADDING = 2
ON_TILES = 4
GRADIENTS = 8

long4, int16 = struct.Struct("4q").pack, struct.Struct("16i").pack
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
    if lead and _shared(b, lead) and (flat := tall(a, m)) is not None and y.dense:
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


def tall(x: Array, m: int) -> Array | None:
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


class Plan(NamedTuple):
    """How to launch a product of matrices that lie like this.

    `a`, `b` and `y` are the strides of rows, columns and two batches, `last` has further
    arguments, for each combination of `WITH_BIAS` and `ADDING`.
    """

    kernel: Kernel
    size: tuple[int, ...]
    local: tuple[int, ...]
    a: bytes
    b: bytes
    y: bytes
    last: tuple[tuple[Any, ...], ...]


def _by_kernel(
    a: Array, b: Array, y: Array, bias: Array | None, adding: bool, lead: tuple[int, ...],
    m: int, n: int, k: int,
) -> None:  # fmt: skip
    recipes = y.device.programs.recipes
    key = ("gemm", y.device.gemm, a.dtype.char, lead, m, n, k, a.strides, b.strides, y.strides)
    plan = recipes.get(key)
    if plan is None:
        plan = recipes[key] = plan_of(a, b, y, lead, m, n, k)
    if plan is False:
        if a.dense and b.dense:  # only a result in an unusual order of ours could come here
            raise ValueError(f"a product into strides {y.strides} is not possible")
        _by_kernel(contiguous(a), contiguous(b), y, bias, adding, lead, m, n, k)
        return
    launch(plan, a, b, y, bias, ADDING * adding)


def launch(plan: Plan, a: Array, b: Array, y: Array, bias: Array | None, flags: int) -> None:
    """Start a product for which there is a plan; `flags`: `ADDING`, or 0."""
    row = y
    if bias is not None:
        row, flags = contiguous(bias), flags + WITH_BIAS
    args = [
        a.block.buffer, a.start, plan.a, b.block.buffer, b.start, plan.b,  # pyright: ignore
        y.block.buffer, y.start, plan.y, row.block.buffer, row.start,  # pyright: ignore
        *plan.last[flags],
    ]  # fmt: skip
    y.device.submit(plan.kernel, plan.size, plan.local, args)


def plan_of(
    a: Array, b: Array, y: Array, lead: tuple[int, ...], m: int, n: int, k: int
) -> Plan | Literal[False]:
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
        kernel, flag = cpu_kernel(device, a.dtype.char, "gemm", m, n, k)
        high, wide = _task(device, m, n, batches)
        size = (ceil(n, wide), ceil(m, high), batches)
        last = [(sizes(m, n, k, inner, flag + f, high, wide), *NO_GRADIENTS) for f in range(4)]
        return Plan(kernel, size, (1, 1, 1), *packed, tuple(last))
    tile = tuning.tile(device, C_TYPES[a.dtype.char], m, n, k, batches)
    kernel = tuning.kernel(device, C_TYPES[a.dtype.char], tile)
    local = (tile.n // tile.work_n, tile.m // tile.work_m, 1)
    size = (ceil(n, tile.n) * local[0], ceil(m, tile.m) * local[1], batches)
    return Plan(kernel, size, local, *packed, tuple([(m, n, k, inner, f) for f in range(4)]))


NO_GRADIENTS = (None, 0, 0, 0, None, None)
"""Arguments of the kernel for processors that are for gradients only."""


def sizes(*numbers: int) -> bytes:
    """The numbers for the kernel for processors; one argument, since each takes its time."""
    return int16(*numbers, *[0] * (16 - len(numbers)))


def cpu_kernel(device: Any, char: str, label: str, m: int, n: int, k: int) -> tuple[Kernel, int]:
    """The kernel of ``gemm_cpu.cl``, with blocks for the registers and caches of the processor.

    With it a flag for products of such a size, which will be computed on the matrix unit if that
    is there and faster.
    """
    size = 4 if char == "f" else 8
    width = max(device.width * 4 // size, 2)
    files: tuple[str, ...] = ("gemm_vectors.cl", "gemm_cpu.cl")
    options: dict[str, Any] = {"REAL": C_TYPES[char], "WIDTH": width}
    depth, columns = 0, 0
    if device.tiles and char == "f":
        depth, columns = _blocks(device.local_memory, size, 2 * width, tiles=True)
    tiles = depth > 0
    if tiles:
        files = ("gemm_vectors.cl", "gemm_amx.cl", "gemm_cpu.cl")
        options |= {} if device.matrix_unit else {"EMULATED": 1}
    else:
        depth, columns = _blocks(device.local_memory, size, 2 * width, tiles=False)
    options |= {"MR": 12 if device.width == 16 else 6, "KC": depth, "NC": columns}
    kernel = device.kernel(files, "gemm", **options)
    if tiles and min(m, n, k) >= DEEP and m * n * k >= LARGE:
        return kernel.counted_as(f"{label} (matrix unit)"), ON_TILES
    return kernel.counted_as(label), 0


def _blocks(memory: int, size: int, narrowest: int, tiles: bool) -> tuple[int, int]:
    """The largest depth and columns of packed blocks that fit into local memory, KC and NC.

    There are 48 rows and NC columns of KC numbers; with tiles 64 rows more, and of those and of the
    columns three halves of each number. Zeros if nothing fits, which happens with tiles only.
    """
    for depth in (384,) if tiles else (384, 192, 96, 48):
        columns = 512
        while columns >= narrowest:
            room = 48 * size + (64 + columns) * 6 if tiles else (48 + columns) * size
            if depth * room <= memory:
                return depth, columns
            columns //= 2
    return 0, 0


def _task(device: Any, m: int, n: int, batches: int) -> tuple[int, int]:
    """How many rows and columns of a product one work-item computes."""
    parts = ceil(device.units, max(batches, 1))
    if parts == 1:
        return m, n
    if m >= n:
        return ceil(ceil(m, parts), 12) * 12, n
    return m, ceil(ceil(n, parts), 64) * 64


def ceil(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)


KERNELS: dict[str, Callable[..., Any]] = {"matmul": matmul}
