"""The OpenCL backend: every op on graphics cards and, by PoCL, on processors."""

from __future__ import annotations

import atexit
from collections import Counter
from collections.abc import Callable, Sequence
from threading import RLock
from typing import Any

import numpy as np

from microgpt.backend import Backend
from microgpt.errors import DTypeError
from microgpt.hooks import hookimpl
from microgpt_opencl import (
    activation,
    attention,
    conv,
    elementwise,
    indexing,
    linalg,
    linear,
    losses,
    movement,
    optimizing,
    platforms,
    pool,
    recurrent,
    reduction,
    rowwise,
    serving,
    transfers,
    unfold,
)
from microgpt_opencl.arrays import Array
from microgpt_opencl.device import Device
from microgpt_opencl.optext import C_TYPES
from microgpt_opencl.processors import introduce, matrix_unit

KERNELS: dict[str, Callable[..., Any]] = {
    **activation.KERNELS,
    **attention.KERNELS,
    **conv.KERNELS,
    **elementwise.KERNELS,
    **indexing.KERNELS,
    **linalg.KERNELS,
    **linear.KERNELS,
    **losses.KERNELS,
    **movement.KERNELS,
    **optimizing.KERNELS,
    **pool.KERNELS,
    **recurrent.KERNELS,
    **reduction.KERNELS,
    **rowwise.KERNELS,
    **unfold.KERNELS,
}


def types_of(double: bool) -> tuple[str, ...]:
    """The types that a device holds, with or without float64."""
    wide = ("float64",) if double else ()
    return ("float32", *wide, "bool", "int8", "int16", "int32", "int64",
            "uint8", "uint16", "uint32", "uint64")  # fmt: skip


def _elsewhere(dtype: str) -> str:
    """What else there is to do for somebody who wants `dtype`."""
    if dtype != "float64":
        return ""
    return ", or use another device (`microgpt doctor` shows which have float64)"


def _require_held(place: Device, dtype: np.dtype) -> None:
    """Refuse arrays of types that a device does not hold."""
    if dtype.char not in C_TYPES or (dtype.char == "d" and not place.double):
        raise DTypeError(
            f"device {place.name} ({place.title}) holds {', '.join(types_of(place.double))}; "
            f"got {dtype.name}; convert it with astype{_elsewhere(dtype.name)}"
        )


class OpenCLBackend(Backend):
    """Arrays in the memory of OpenCL devices. Several devices may be used side by side.

    Kernels may be called from several threads: each device has one lock.
    """

    name = "opencl"
    array_types = (Array,)

    def __init__(self) -> None:
        self._found = platforms.found()
        self._open: dict[str, Device] = {}
        self._meant: dict[str | None, Device] = {}
        self._lock = RLock()
        atexit.register(self._close)

    def devices(self) -> Sequence[str]:
        return tuple(self._found)

    def device_name(self, wanted: str) -> str:
        return platforms.selected(self._found, str(wanted))

    def open(self, wanted: str | None = None) -> Device:
        """The device that `wanted` means, by default the first, ready for work."""
        known = self._meant.get(wanted)
        if known is not None:
            return known
        name = next(iter(self._found)) if wanted is None else self.device_name(wanted)
        with self._lock:
            if name not in self._open:
                self._open[name] = Device(name, self._found[name])
            self._meant[wanted] = self._open[name]
            return self._open[name]

    @property
    def dtypes(self) -> tuple[str, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Types that the default device can compute with."""
        first = next(iter(self._found.values()))
        return types_of(bool(getattr(first, "double_fp_config", 0)))

    def asarray(self, data: Any, dtype: np.dtype | None, device: str | None) -> Array:
        place = self.open(device)
        values = np.asarray(data, dtype)
        _require_held(place, values.dtype)
        return transfers.from_numpy(place, values)

    def take_rows(self, data: np.ndarray, rows: np.ndarray, device: str | None) -> Array:
        place = self.open(device)
        _require_held(place, data.dtype)
        return transfers.rows_from_numpy(place, data, rows)

    def to_numpy(self, array: Any) -> np.ndarray:
        return transfers.to_numpy(array)

    def dtype(self, array: Any) -> np.dtype:
        return array.dtype

    def device(self, array: Any) -> str:
        return array.device.name

    def synchronize(self) -> None:
        for device in list(self._open.values()):
            device.finish()

    def served(self) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for device in list(self._open.values()):
            with device.lock:
                counts.update(device.activity)
        return dict(counts)

    def how(self, op: str) -> str:
        kernel = KERNELS.get(op)
        return "" if kernel is None else serving.how(kernel)

    def _close(self) -> None:
        """Let work in flight end before the interpreter takes its memory away."""
        for device in list(self._open.values()):
            device.close()

    def versions(self) -> dict[str, str]:
        broken = {
            f"broken driver {number}": text
            for number, text in enumerate(platforms.broken_drivers(), 1)
        }
        young = {
            f"device {name} as": f"{known} (PoCL does not know this processor)"
            for name, device in self._found.items()
            if (known := introduce(device)) is not None
        }
        units = {
            f"matrix unit of {name}": "AMX"
            for name, device in self._found.items()
            if matrix_unit(device)
        }
        return {"pyopencl": platforms.driver().VERSION_TEXT, **young, **units, **broken}


@hookimpl
def microgpt_backend_names() -> list[str]:
    """The one backend of this plugin."""
    return ["opencl"]


@hookimpl
def microgpt_backend(name: str) -> Backend | None:
    """The OpenCL backend, if that is what is asked for."""
    if name != "opencl":
        return None
    platforms.driver()
    return OpenCLBackend()


@hookimpl(trylast=True)
def microgpt_kernel(backend: str, op: str) -> Callable[..., Any] | None:
    """Our kernel for `op`; asked last, so that other plugins can replace single kernels."""
    return KERNELS.get(op) if backend == "opencl" else None
