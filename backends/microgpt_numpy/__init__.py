"""The NumPy backend: every op on `numpy.ndarray`, and fast kernels for the fused ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from microgpt.backend import Backend
from microgpt.errors import BackendError
from microgpt.hooks import hookimpl
from microgpt_numpy import (
    attention,
    cached_attention,
    conv,
    elementwise,
    indexing,
    linalg,
    movement,
    network,
    optimizing,
    recurrent,
    reduction,
    rowwise,
)

KERNELS: dict[str, Callable[..., Any]] = {
    **elementwise.KERNELS,
    **reduction.KERNELS,
    **movement.KERNELS,
    **indexing.KERNELS,
    **linalg.KERNELS,
    **network.KERNELS,
    **conv.KERNELS,
    **rowwise.KERNELS,
    **optimizing.KERNELS,
    **attention.KERNELS,
    **cached_attention.KERNELS,
    **recurrent.KERNELS,
}

# The C library of Linux gives memory back to the system as soon as twice the largest block it has
# seen freed is unused, and gets it again, page by page, in the next step of a training: that was a
# third of the time. Having seen one block of this size, it keeps up to 62 MB. (It takes no notice
# where MALLOC_TRIM_THRESHOLD_ is set, and other systems do not work this way.)
np.empty(31 << 20, dtype=np.uint8)


def _native(x: np.ndarray) -> np.ndarray:
    """`x` in the order of bytes of this machine; data from files may have the other one."""
    return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))


class NumpyBackend(Backend):
    """Arrays in the memory of the host, computed by NumPy and its BLAS."""

    name = "numpy"
    # Ops on 0-d arrays give NumPy scalars, so these are arrays of this backend too.
    array_types = (
        np.ndarray, np.float32, np.float64, np.float16, np.bool_,
        np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64,
    )  # fmt: skip
    dtypes = (
        "float32", "float64", "float16", "bool",
        "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    )  # fmt: skip

    def asarray(self, data: Any, dtype: np.dtype | None, device: str | None) -> np.ndarray:
        if device not in (None, "cpu"):
            raise BackendError(
                f"backend 'numpy' has one device, 'cpu'; got device={device!r}; "
                "another backend may have it (`microgpt doctor` lists the devices)"
            )
        return _native(np.array(data, dtype=dtype))

    def take_over(self, data: np.ndarray, device: str | None) -> np.ndarray:
        return _native(data)

    def to_numpy(self, array: Any) -> np.ndarray:
        return np.asarray(array)

    def dtype(self, array: Any) -> np.dtype:
        return array.dtype

    def versions(self) -> dict[str, str]:
        return {"numpy": np.__version__}


@hookimpl
def microgpt_backend_names() -> list[str]:
    """The one backend of this plugin."""
    return ["numpy"]


@hookimpl
def microgpt_backend(name: str) -> Backend | None:
    """The NumPy backend, if that is what is asked for."""
    return NumpyBackend() if name == "numpy" else None


@hookimpl(trylast=True)
def microgpt_kernel(backend: str, op: str) -> Callable[..., Any] | None:
    """Our kernel for `op`; asked last, so that other plugins can replace single kernels."""
    return KERNELS.get(op) if backend == "numpy" else None
