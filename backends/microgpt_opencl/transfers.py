"""Between the memory of the host and that of a device."""

from __future__ import annotations

import numpy as np

from microgpt_opencl.arrays import Array, empty, host, readable
from microgpt_opencl.device import Device
from microgpt_opencl.fusion import contiguous


def from_numpy(device: Device, values: np.ndarray) -> Array:
    """A new array on `device` with the numbers of `values`."""
    x = empty(device, values.shape, _native(values.dtype), for_host=device.unified)
    if not values.size:
        return x
    with device.lock:
        _count(device, values.nbytes)
        if device.unified:
            _for_writing(x)[...] = values
        else:
            device.write(x, np.ascontiguousarray(values, x.dtype))
    return x


def rows_from_numpy(device: Device, values: np.ndarray, rows: np.ndarray) -> Array:
    """Some rows of `values`, which has them all, as a new array: copied once, not twice."""
    dtype = _native(values.dtype)
    if not device.unified or values.dtype != dtype:
        return from_numpy(device, values.take(rows, axis=0))
    x = empty(device, (len(rows), *values.shape[1:]), dtype, for_host=True)
    if values.size and len(rows):
        with device.lock:
            into = _for_writing(x)
            _count(device, into.nbytes)
            # Without "clip", which changes nothing about rows that are there, NumPy takes a detour.
            values.take(rows, axis=0, out=into, mode="clip")
    return x


def _native(dtype: np.dtype) -> np.dtype:
    """`dtype` in the order of bytes of this machine, as the one object there is of it."""
    return np.dtype(dtype.type)


def _count(device: Device, nbytes: int) -> None:
    device.moved["to device"] += nbytes
    device.activity["copy to device"] += 1


def _for_writing(x: Array) -> np.ndarray:
    """The memory of a new array, for the host to fill."""
    x.device.ask()
    x.block.from_host = True  # pyright: ignore[reportOptionalMemberAccess]
    return host(x)


def to_numpy(x: Array) -> np.ndarray:
    """The numbers of `x` as an array of its own."""
    device = x.device
    with device.lock:
        x = contiguous(x)
        out = np.empty(x.shape, x.dtype)
        if out.size:
            device.moved["to host"] += out.nbytes
            device.activity["copy to host"] += 1
            if device.unified:
                out[...] = readable(x)
            else:
                device.read(x, out)
    return out
