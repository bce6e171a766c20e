"""Between the memory of the host and that of a device."""

from __future__ import annotations

from typing import Any

import numpy as np

from microgpt_opencl.arrays import Array, empty, host
from microgpt_opencl.device import Device
from microgpt_opencl.fusion import contiguous


def from_numpy(device: Device, data: Any, dtype: np.dtype | None = None) -> Array:
    """A new array on `device` with the numbers of `data`."""
    values = np.ascontiguousarray(data, dtype).reshape(np.shape(data))
    x = empty(device, values.shape, np.dtype(values.dtype.type), for_host=device.unified)
    if not values.size:
        return x
    with device.lock:
        device.moved["to device"] += values.nbytes
        device.activity["copy to device"] += 1
        if device.unified:
            device.ask()
            host(x)[...] = values
            x.block.from_host = True  # pyright: ignore[reportOptionalMemberAccess]
        else:
            device.write(x, values)
    return x


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
                device.finish()
                out[...] = host(x)
            else:
                device.read(x, out)
    return out
