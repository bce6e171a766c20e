"""What a backend is: arrays of its own, and a kernel for each op name.

A backend knows nothing about gradients or graphs. It supplies functions from arrays to arrays;
`microgpt.ops` says which names there are, and `microgpt ops` prints them with their parameters.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from microgpt.hooks import hookimpl

Array = Any
"""An array of some backend: it has `shape` (a tuple), `dtype`, `ndim` and arithmetic operators."""

Kernel = Callable[..., Array]


class Backend(ABC):
    """A place where arrays live.

    Attributes:
        name: what people write in their configuration.
        array_types: the classes of its arrays. They must belong to no other backend, because
            operations find their kernels by the class of their inputs.
        dtypes: names of the data types it can hold on its default device.
        missing_ops: ops that it says it does not compute; the conformance kit skips and counts
            them. Where such an op has no definition in terms of others, calling it is an error.
        ulps: the accuracy it promises for elementwise ops, by name, in units in the last place of
            float32; 4 for all that are not named.
        known_failures: checks of the conformance kit that fail (``"T2:exp"``), each with the
            reason. One that passes, or does not exist, is an error, so that the list stays true.
    """

    name: str
    array_types: tuple[type, ...]
    dtypes: tuple[str, ...] = ("float32", "float64", "int32", "int64", "bool")
    missing_ops: Sequence[str] = ()
    ulps: Mapping[str, float] = {}
    known_failures: Mapping[str, str] = {}

    def devices(self) -> Sequence[str]:
        """Names of the devices that can be used, the default one first."""
        return ("cpu",)

    def device_name(self, wanted: str) -> str:
        """The name, one of `devices()`, of the device that `wanted` means.

        Raises:
            BackendError: if it means none.
        """
        return wanted

    @abstractmethod
    def asarray(self, data: Any, dtype: np.dtype | None, device: str | None) -> Array:
        """A new array on `device` (None: the default) with the numbers of NumPy array `data`.

        It must not share memory with `data`.
        """

    def take_over(self, data: np.ndarray, device: str | None) -> Array:
        """Like `asarray`, for NumPy data that nobody else holds: it may be used as it is."""
        return self.asarray(data, None, device)

    def take_rows(self, data: np.ndarray, rows: np.ndarray, device: str | None) -> Array:
        """A new array of some rows of NumPy array `data`, in the order of their numbers `rows`.

        Batches are made with it. All numbers are from 0 to len(data) - 1.
        """
        return self.take_over(data.take(rows, axis=0), device)

    @abstractmethod
    def to_numpy(self, array: Array) -> np.ndarray:
        """The numbers of `array` as a NumPy array; it may share memory with `array`."""

    def dtype(self, array: Array) -> np.dtype:
        """The data type of `array`, as NumPy names it."""
        return np.dtype(array.dtype)

    def device(self, array: Array) -> str:
        """The name of the device that `array` lives on."""
        return self.devices()[0]

    def synchronize(self) -> None:
        """Wait until all work handed to the device is done. Backends that never defer return."""
        return None

    def served(self) -> Mapping[str, int]:
        """How often each kernel of the backend has run so far, by its own name for it.

        Copies between host and device count as kernels, calls of a library too. The profiler
        (`microgpt.tracing`) compares this before and after an op. Backends whose kernels are plain
        functions have nothing to tell that the op's name does not.
        """
        return {}

    def how(self, op: str) -> str:
        """What computes `op` here, in a few words: a file, a library, "fused expression"."""
        return ""

    def versions(self) -> dict[str, str]:
        """What `microgpt doctor` prints about the libraries underneath."""
        return {}


class BackendPlugin:
    """The three hooks for one backend that exists already, for one that is made at run time.

    Args:
        backend: it.
        kernel: from the name of an op to its kernel, or None where there is none.

    Example:
        >>> import array_api_strict  # doctest: +SKIP
        >>> backend = mg.array_api.ArrayAPIBackend(array_api_strict)  # doctest: +SKIP
        >>> with mg.plugged(BackendPlugin(backend, backend.kernels.get)):  # doctest: +SKIP
        ...     mg.zeros(2, backend="array_api_strict")
    """

    def __init__(self, backend: Backend, kernel: Callable[[str], Kernel | None]) -> None:
        self.backend = backend
        self.kernel = kernel
        self.__name__ = backend.name

    @hookimpl
    def microgpt_backend_names(self) -> list[str]:
        """The one name."""
        return [self.backend.name]

    @hookimpl
    def microgpt_backend(self, name: str) -> Backend | None:
        """The backend, if it is the one asked for."""
        return self.backend if name == self.backend.name else None

    @hookimpl(trylast=True)
    def microgpt_kernel(self, backend: str, op: str) -> Kernel | None:
        """Its kernel; asked last, so that other plugins can replace single ones."""
        return self.kernel(op) if backend == self.backend.name else None
