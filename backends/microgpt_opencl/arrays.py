"""Arrays: a block of device memory and how to walk through it, or an expression still to compute.

Elementwise kernels return arrays without memory, which only say what is to be done (`fusion.py`).
Whoever needs the numbers calls `realised(x)` or `contiguous(x)` first.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from microgpt.errors import BackendError, ShapeError
from microgpt_opencl.memory import Block, Form, last

if TYPE_CHECKING:
    from microgpt_opencl.device import Device

MOST = 2**31 - 1
"""Elements that an array may have: kernels count in 32 bits."""

FORMS = 4096
"""Shapes that are remembered."""


class Array:
    """An array on a device.

    Attributes:
        shape, dtype: as usual; `dtype` is NumPy's, bool takes a byte.
        device: where it lives.
        block: the memory it lies in, or None as long as it is an expression.
        start: the place of its first element in the block, in elements.
        strides: steps to the next element along each axis, in elements; 0 repeats.
        op, args, weight: the expression: what to do with what, and how many steps that is.
    """

    __slots__ = (
        "__weakref__", "args", "block", "device", "dtype", "op", "shape", "start", "strides",
        "weight",
    )  # fmt: skip

    shape: tuple[int, ...]
    dtype: np.dtype
    device: Device
    block: Block | None
    start: int
    strides: tuple[int, ...]
    op: str | None
    args: tuple[Any, ...]
    weight: int

    if TYPE_CHECKING:  # they come from `elementwise`, where the kernels are
        __add__: Any
        __radd__: Any
        __sub__: Any
        __rsub__: Any
        __mul__: Any
        __rmul__: Any
        __truediv__: Any
        __rtruediv__: Any
        __pow__: Any
        __neg__: Any
        __abs__: Any
        __lt__: Any
        __le__: Any
        __gt__: Any
        __ge__: Any

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def dense(self) -> bool:
        """Whether it lies in memory row by row, without gaps."""
        return self.strides == dense_strides(self.shape)

    def __repr__(self) -> str:
        state = f"deferred {self.op}" if self.block is None else f"strides {self.strides}"
        return f"Array({self.shape}, {self.dtype}, device {self.device.name}, {state})"

    def __bool__(self) -> bool:
        return bool(self.__array__().item())

    def __float__(self) -> float:
        return float(self.__array__().item())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        from microgpt_opencl.transfers import to_numpy

        return to_numpy(self) if dtype is None else to_numpy(self).astype(dtype)


@lru_cache(maxsize=4096)
def dense_strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Steps, in elements, of an array that lies in memory row by row."""
    strides, step = [], 1
    for n in reversed(shape):
        strides.append(step)
        step *= max(n, 1)
    return tuple(reversed(strides))


_new = object.__new__


def view(x: Array, shape: tuple[int, ...], strides: tuple[int, ...], start: int) -> Array:
    """Another way to walk through the memory of `x`, which must be realised."""
    y = _new(Array)
    y.shape = shape
    y.dtype = x.dtype
    y.device = x.device
    y.block = x.block
    y.start = start
    y.strides = strides
    y.op = None
    y.args = ()
    y.weight = 0
    if math.prod(shape) > MOST:
        raise too_large(shape)
    return y


def settle(y: Array, block: Block, strides: tuple[int, ...]) -> None:
    """The expression `y` is computed: its numbers are in `block`."""
    y.strides = strides
    y.start = 0
    y.weight = 0
    y.op = None
    y.args = ()
    y.block = block  # last: other threads look whether there is one


def empty(device: Device, shape: tuple[int, ...], dtype: np.dtype, for_host: bool = False) -> Array:
    """A new array, row by row, with whatever the memory held before.

    Args:
        for_host: whether the host is to write it, at once: nothing in flight uses its memory.

    Raises:
        ShapeError: if it would have more than 2³¹ - 1 elements.
        OutOfMemoryError: if the device has no room for it.
    """
    y = _new(Array)
    y.shape = shape
    y.dtype = dtype
    y.device = device
    y.start = 0
    y.op = None
    y.args = ()
    y.weight = 0
    pool = device.pool
    y.strides, nbytes, idle = pool.forms.get((shape, dtype)) or _form(device, shape, dtype)
    if for_host:
        with device.lock:
            y.block = pool.take_quiet(nbytes)
        return y
    memory = last(idle)  # what `take` does in most cases, for which it needs no lock
    if memory is not None:
        y.block = Block(memory)
    else:
        with device.lock:
            y.block = pool.take(nbytes)
    return y


def _form(device: Device, shape: tuple[int, ...], dtype: np.dtype) -> Form:
    """What there is to know about new arrays of a shape and type, which is then remembered."""
    size = math.prod(shape)
    if size > MOST:
        raise too_large(shape)
    pool = device.pool
    nbytes = size * dtype.itemsize
    with device.lock:
        if len(pool.forms) >= FORMS:
            pool.forms.clear()
        form = pool.forms[shape, dtype] = dense_strides(shape), nbytes, pool.idle_of(nbytes)
    return form


def too_large(shape: tuple[int, ...]) -> ShapeError:
    """The error for an array with more elements than kernels can count."""
    return ShapeError(
        f"an array of backend 'opencl' may have up to 2³¹ - 1 elements; got shape {shape}, which "
        f"has {math.prod(shape):,}; work on parts of it, or use backend 'numpy'"
    )


def same_device(x: Array, y: Array) -> None:
    """Refuse to compute with arrays of two devices.

    Raises:
        BackendError: if they live on different ones.
    """
    if x.device is not y.device:
        raise BackendError(
            f"an op was given arrays on the devices {x.device.name} and {y.device.name}; required: "
            f"one; move one of them: x.to('opencl:{x.device.name}')"
        )


def host(x: Array) -> np.ndarray:
    """The memory of `x` as the host sees it, without copying; for devices that are `unified`.

    The caller has waited for the device, and keeps `x` while using this.
    """
    memory = None if x.block is None else x.block.memory.host
    if memory is None:
        raise BackendError(
            f"the memory of {x!r} cannot be seen by the host; required: an array that is computed, "
            "on a device whose memory is the host's (Device.unified)"
        )
    size = x.dtype.itemsize
    return np.ndarray(
        x.shape, x.dtype, memory, x.start * size, tuple([s * size for s in x.strides])
    )


def readable(x: Array) -> np.ndarray:
    """`host(x)`, once its numbers are there: what the host wrote itself always is.

    Not to wait for that lets host and device work side by side: token ids are read in each step.
    """
    if x.block is not None and x.block.from_host:
        x.device.ask()
    else:
        x.device.finish()
    return host(x)


def writable(x: Array) -> np.ndarray:
    """`host(x)` of a new array, for the host to fill; that is counted as a copy to the device."""
    x.device.ask()
    x.block.from_host = True  # pyright: ignore[reportOptionalMemberAccess]
    values = host(x)
    x.device.count_copy(values.nbytes)
    return values
