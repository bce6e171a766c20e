"""Between the memory of the host and that of a device."""

from __future__ import annotations

import numpy as np

from microgpt_opencl.arrays import Array, empty, readable, writable
from microgpt_opencl.device import Device
from microgpt_opencl.fusion import contiguous


def from_numpy(device: Device, values: np.ndarray) -> Array:
    """A new array on `device` with the numbers of `values`."""
    x = empty(device, values.shape, _native(values.dtype), for_host=device.unified)
    if not values.size:
        return x
    with device.lock:
        if device.unified:
            writable(x)[...] = values
        else:
            device.count_copy(values.nbytes)
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
            # Without "clip", which changes nothing about rows that are there, NumPy takes a detour.
            values.take(rows, axis=0, out=writable(x), mode="clip")
    return x


def _native(dtype: np.dtype) -> np.dtype:
    """`dtype` in the order of bytes of this machine, as the one object there is of it."""
    return np.dtype(dtype.type)


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
