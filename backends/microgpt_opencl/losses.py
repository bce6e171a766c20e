"""Losses: cross entropy, with targets checked on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from microgpt.errors import ShapeError
from microgpt_opencl.arrays import Array, empty, host
from microgpt_opencl.elementwise import fill
from microgpt_opencl.fusion import contiguous
from microgpt_opencl.optext import C_TYPES
from microgpt_opencl.rowwise import row_kernel, shares
from microgpt_opencl.transfers import to_numpy

_COUNT = np.dtype(np.int32)


def cross_entropy(x: Array, target: Array, *, ignore_index: int) -> Array:
    return cross_entropy_saving(x, target, ignore_index=ignore_index)[0]


def cross_entropy_saving(x: Array, target: Array, *, ignore_index: int) -> tuple[Array, tuple]:
    """The loss; kept are each row's largest number and sum of exponentials, and the counts."""
    (rows, n), dtype, device = x.shape, x.dtype, x.device
    if not rows:
        return fill(x, 0, ()), ()
    x, target = contiguous(x), contiguous(target)
    groups, local, share = shares(device, rows, n)
    largest, sums = empty(device, (rows,), dtype), empty(device, (rows,), dtype)
    mean, parts = empty(device, (), dtype), empty(device, (groups,), dtype)
    counts = empty(device, (2 + 2 * groups,), _COUNT)
    index = C_TYPES[target.dtype.char]
    device.launch(
        row_kernel(device, "losses.cl", "cross_entropy", dtype, index), (groups,), (local,),
        x, target, mean, largest, sums, parts, counts, ignore_index, rows, n, share,
    )  # fmt: skip
    if groups > 1:
        kernel = row_kernel(device, "losses.cl", "cross_entropy_mean", dtype, index)
        device.launch(kernel, (1,), (1,), parts, counts, mean, groups)
    if _bad(target, counts, n, ignore_index):
        raise _no_classes(target, n, ignore_index)
    return mean, (largest, sums, counts)


def _bad(target: Array, counts: Array, n: int, ignore_index: int) -> int:
    """How many targets are no classes: the kernel has counted them.

    Waiting for that once in each step would keep host and device from working side by side, so
    targets that the host brought are looked at by the host.
    """
    device = counts.device
    if not device.unified:
        totals = np.empty(2, _COUNT)
        device.read(counts, totals)
        return int(totals[1])
    if target.block.from_host:  # pyright: ignore[reportOptionalMemberAccess]
        found = host(target)
        outside = found[(found < 0) | (found >= n)]
        return int(np.count_nonzero(outside != ignore_index))
    device.finish()
    return int(host(counts)[1])


def _no_classes(target: Array, classes: int, ignore_index: int) -> ShapeError:
    values = to_numpy(target)
    values = values[values != ignore_index]
    return ShapeError(
        f"cross_entropy: targets must be from 0 to {classes - 1} (or ignore_index={ignore_index}); "
        f"got {values.min()} to {values.max()}"
    ).about("class-out-of-range")


def cross_entropy_vjp(
    g: Array, saved: Any, x: Array, target: Array, *, needs: Any, ignore_index: int
) -> tuple[Array, None]:
    """(softmax - one_hot) · g / n."""
    if not isinstance(saved, tuple):  # the output of a forward kernel that another plugin replaced
        _, saved = cross_entropy_saving(x, target, ignore_index=ignore_index)
    (rows, n), dtype, device = x.shape, x.dtype, x.device
    to_x = empty(device, x.shape, dtype)
    if rows and n:
        x, g, target = contiguous(x), contiguous(g), contiguous(target)
        groups, local, share = shares(device, rows, n)
        index = C_TYPES[target.dtype.char]
        device.launch(
            row_kernel(device, "losses.cl", "cross_entropy_gradient", dtype, index), (groups,),
            (local,), g, x, target, *saved, to_x, ignore_index, rows, n, share,
        )  # fmt: skip
    return to_x, None


KERNELS: dict[str, Callable[..., Any]] = {
    "cross_entropy": cross_entropy,
    "cross_entropy_saving": cross_entropy_saving,
    "cross_entropy_vjp": cross_entropy_vjp,
}
