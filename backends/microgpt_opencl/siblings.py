"""Plain gradient descent changes many small arrays, one after the other: here in one launch.

A step `a + b · scale` on small arrays waits, as every expression does. When the first of those that
wait is needed, so will be the others, and all of them are computed by one kernel.
"""

from __future__ import annotations

from typing import Any
from weakref import ref

from microgpt_opencl.arrays import Array, settle

MOST = 8
"""Steps in one launch: as many as `siblings.cl` has parameters for."""

LARGEST = 1 << 14
"""Elements of a step that shares a launch with others; larger ones share out their own work."""

OP = "add_scaled"


def note(y: Array) -> None:
    """Remember the step `y`, if it may be computed together with others."""
    a, b, _ = y.args
    device, shape = y.device, y.shape
    if (
        not device.cpu
        or a.block is None
        or b.block is None
        or a.shape != shape
        or b.shape != shape
        or y.size > LARGEST
        or y.dtype.kind != "f"
        or not (a.dtype is b.dtype is y.dtype and a.dense and b.dense)
    ):
        return
    with device.lock:
        device.siblings.append(ref(y))
        if len(device.siblings) > 4 * MOST:  # nobody asks for them
            del device.siblings[: 2 * MOST]


def computed(root: Array) -> bool:
    """Compute the step `root` with others that wait, if there are any; the lock is held."""
    device = root.device
    waiting = [y for r in device.siblings if (y := r()) is not None and y.op == OP]
    like = [y for y in waiting if y.dtype is root.dtype and y.args[2] == root.args[2] and y.size]
    if len(like) < 2 or not any(y is root for y in like):
        return False
    device.siblings = [ref(y) for y in waiting if not any(y is z for z in like)]
    like = [root, *[y for y in like if y is not root]]
    for first in range(0, len(like), MOST):
        _launch(like[first : first + MOST])
    return True


def _launch(steps: list[Array]) -> None:
    first = steps[0]
    device, dtype = first.device, first.dtype
    real = "float" if dtype.char == "f" else "double"
    kernel = device.kernel("siblings.cl", "add_scaled_many", REAL=real, WIDTH=device.width)
    args: list[Any] = []
    blocks = []
    for y in steps:
        a, b, _ = y.args
        size = y.size
        block = device.pool.take(size * dtype.itemsize)
        blocks.append(block)
        args += (block.buffer, a.block.buffer, a.start, b.block.buffer, b.start, size)
    for _ in range(MOST - len(steps)):
        args += (*args[:5], 0)
    args.append(first.args[2])
    device.submit(kernel, (1,), (1,), args)
    for y, block in zip(steps, blocks, strict=True):
        settle(y, block, y.args[0].strides)
