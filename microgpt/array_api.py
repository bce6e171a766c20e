"""Any library that follows the Python array API standard as a backend.

Ops that the standard has are computed by the library. The few that it does not have (adding to
picked places, cutting images into windows, the error function) are computed by the NumPy backend on
a copy in the memory of the host, and `microgpt backends --op NAME` says so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from types import ModuleType
from typing import Any

import numpy as np

from microgpt.backend import Backend, BackendPlugin
from microgpt.errors import BackendError
from microgpt.plugins import registry

Kernels = dict[str, Callable[..., Any]]

DTYPES = (
    "float32", "float64", "float16", "int8", "int16", "int32", "int64",
    "uint8", "uint16", "uint32", "uint64", "bool",
)  # fmt: skip

# Ops whose name and arguments are the standard's own.
SAME = (
    "add", "subtract", "multiply", "divide", "pow", "negative", "abs", "sign", "square", "exp",
    "expm1", "log", "log1p", "sqrt", "sin", "cos", "tan", "tanh", "maximum", "minimum", "where",
    "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "isfinite", "isnan",
    "floor", "ceil", "round", "flip", "max", "min", "any", "all", "argmax", "argmin", "matmul",
    "zeros_like", "ones_like", "argsort", "reshape", "cumulative_sum", "clip", "tril", "triu",
    "broadcast_to",
)  # fmt: skip


class ArrayAPIBackend(Backend):
    """Arrays of a namespace that follows the Python array API standard.

    Args:
        namespace: for example `array_api_strict`, or `array_api_compat.torch`.
        name: what people write in their configuration; by default the last part of the module's.
        array_type: the class of its arrays; by default that of ``namespace.asarray(0.0)``.
        device: a device of the library, where all arrays are made; by default its default one,
            which is called "cpu" here.
        to_numpy: copies an array into a NumPy array, by default `numpy.asarray`. Libraries with
            devices of their own need one, for example `cupy.asnumpy`.

    Raises:
        BackendError: if its arrays are NumPy's, which the backend 'numpy' computes.

    Source: the standard, https://data-apis.org/array-api/latest/

    Example:
        >>> import microgpt as mg
        >>> import array_api_strict  # doctest: +SKIP
        >>> backend = mg.array_api.ArrayAPIBackend(array_api_strict)  # doctest: +SKIP
        >>> with mg.plugged(backend.plugin()), mg.use_backend("array_api_strict"):
        ...     mg.exp(mg.tensor([0.0])).tolist()  # doctest: +SKIP
        [1.0]
    """

    def __init__(
        self,
        namespace: ModuleType | Any,
        name: str | None = None,
        array_type: type | None = None,
        *,
        device: Any = None,
        to_numpy: Callable[[Any], np.ndarray] = np.asarray,
    ) -> None:
        self.namespace = namespace
        self.name = name or namespace.__name__.rpartition(".")[2]
        self.place = {} if device is None else {"device": device}
        self._host_copy = to_numpy
        self.array_types = (array_type or type(namespace.asarray(0.0)),)
        if self.array_types[0].__module__ == "numpy":
            raise BackendError(
                f"the arrays of {namespace.__name__} are NumPy's, for which there is the backend "
                "'numpy'; required: a library with an array class of its own"
            )
        self.dtypes = tuple([d for d in DTYPES if hasattr(namespace, d)])

    def asarray(self, data: Any, dtype: np.dtype | None, device: str | None) -> Any:
        if device not in (None, *self.devices()):
            raise BackendError(
                f"backend '{self.name}' has the devices {', '.join(self.devices())}; got "
                f"device={device!r}"
            )
        host = np.array(data, dtype=dtype, order="C")
        name = host.dtype.name
        if name not in self.dtypes:
            raise BackendError(
                f"backend '{self.name}' has no dtype {name}; it has {', '.join(self.dtypes)}"
            )
        kind = getattr(self.namespace, name)
        return self.namespace.asarray(host, dtype=kind, copy=True, **self.place)

    def to_numpy(self, array: Any) -> np.ndarray:
        return np.asarray(self._host_copy(array))

    def dtype(self, array: Any) -> np.dtype:
        return np.dtype(str(array.dtype).rpartition(".")[2])

    def devices(self) -> Sequence[str]:
        """The one device on which this backend makes its arrays."""
        return (str(self.place.get("device", "cpu")),)

    def versions(self) -> dict[str, str]:
        library = getattr(self.namespace, "__version__", "unknown version")
        standard = getattr(self.namespace, "__array_api_version__", "unknown")
        return {self.namespace.__name__: f"{library} (array API {standard})"}

    @cached_property
    def kernels(self) -> Kernels:
        """The kernels by op name."""
        return _Kernels(self).table()

    def plugin(self) -> Any:
        """A plugin that brings this backend: register it, or return it from a module's hooks."""
        return BackendPlugin(self, lambda op: self.kernels.get(op))


class _Kernels:
    """Makes the kernels of one namespace."""

    def __init__(self, backend: ArrayAPIBackend) -> None:
        self.backend = backend
        self.xp = backend.namespace

    def table(self) -> Kernels:
        """All of them: the library's where it has the function, else those on the host."""
        own = {name: getattr(self.xp, name) for name in SAME if hasattr(self.xp, name)}
        own |= {
            name.removesuffix("_"): getattr(self, name)
            for name in dir(type(self))
            if not name.startswith("_") and name != "table"
        }
        registry.backend("numpy")  # loads its plugin, which serves the rest
        absent = [name for name in SAME if name not in own]  # in an older version of the standard
        return {name: self._on_host(name) for name in (*HOST, *absent)} | own

    def _on_host(self, op: str) -> Callable[..., Any]:
        def on_host(*inputs: Any, **params: Any) -> Any:
            kernel = registry.kernel("numpy", op)
            if kernel is None:
                raise BackendError(f"the backend 'numpy' has no kernel for '{op}'")
            result = kernel(*[self._host(x) for x in inputs], **params)
            return self.backend.asarray(result, None, None)

        on_host.__name__ = on_host.__qualname__ = f"{op}_by_numpy_on_the_host"
        return on_host

    def _host(self, x: Any) -> Any:
        return self.backend.to_numpy(x) if isinstance(x, self.backend.array_types) else x

    def _dtype(self, dtype: Any) -> Any:
        return getattr(self.xp, np.dtype(dtype).name)

    # ---- elementwise ---------------------------------------------------------------------------

    def identity(self, x: Any) -> Any:
        return x

    def astype(self, x: Any, *, dtype: np.dtype) -> Any:
        return self.xp.astype(x, self._dtype(dtype))

    def add_scaled(self, a: Any, b: Any, *, scale: float) -> Any:
        return a + b * scale

    def sigmoid(self, x: Any) -> Any:
        # e^-|x| cannot overflow.
        e = self.xp.exp(-self.xp.abs(x))
        return self.xp.where(x >= 0, 1 / (1 + e), e / (1 + e))

    def softplus(self, x: Any) -> Any:
        zero = self.xp.zeros_like(x)
        return self.xp.maximum(x, zero) + self.xp.log1p(self.xp.exp(-self.xp.abs(x)))

    def relu(self, x: Any) -> Any:
        return self.xp.maximum(x, self.xp.zeros_like(x))

    def filled(self, x: Any, *, shape: tuple[int, ...], value: float) -> Any:
        return self.xp.full(shape, value, dtype=x.dtype, **self.backend.place)

    def logical_and(self, a: Any, b: Any) -> Any:
        return self.xp.logical_and(self._truth(a), self._truth(b))

    def logical_or(self, a: Any, b: Any) -> Any:
        return self.xp.logical_or(self._truth(a), self._truth(b))

    def logical_not(self, x: Any) -> Any:
        return self.xp.logical_not(self._truth(x))

    def _truth(self, x: Any) -> Any:
        return x if x.dtype == self.xp.bool else x != 0

    # ---- movement ------------------------------------------------------------------------------

    def permute_dims(self, x: Any, *, axes: tuple[int, ...]) -> Any:
        return self.xp.permute_dims(x, axes)

    def concat(self, *xs: Any, axis: int, sizes: Any) -> Any:
        return self.xp.concat(xs, axis=axis)

    # ---- reductions ----------------------------------------------------------------------------
    # NumPy sums float32 in float32 and small integers in int64; so does the standard. It does not
    # say what the sum of booleans is: here their number, as everywhere in microgpt.

    def sum(self, x: Any, *, axis: Any, keepdims: bool) -> Any:
        if x.dtype == self.xp.bool:
            x = self.xp.astype(x, self.xp.int64)
        return self.xp.sum(x, axis=axis, keepdims=keepdims)

    def prod(self, x: Any, *, axis: Any, keepdims: bool) -> Any:
        axes = range(x.ndim) if axis is None else (axis,) if isinstance(axis, int) else axis
        for a in sorted([a % x.ndim for a in axes], reverse=True):  # some libraries take one axis
            x = self.xp.prod(x, axis=a, keepdims=keepdims)
        return x

    def mean(self, x: Any, *, axis: Any, keepdims: bool) -> Any:
        n = math.prod(x.shape[a] for a in axis)
        total = self.xp.sum(x, axis=axis, keepdims=keepdims)
        return total / n if n else total * math.nan

    def var(self, x: Any, *, axis: Any, correction: float, keepdims: bool) -> Any:
        n = math.prod(x.shape[a] for a in axis)
        if n - correction <= 0:
            return self.xp.sum(x, axis=axis, keepdims=keepdims) * math.nan
        centred = x - self.xp.sum(x, axis=axis, keepdims=True) / n
        return self.xp.sum(centred * centred, axis=axis, keepdims=keepdims) / (n - correction)

    def logsumexp(self, x: Any, *, axis: Any, keepdims: bool) -> Any:
        if 0 in x.shape:
            return self.xp.sum(x, axis=axis, keepdims=keepdims) - math.inf
        top = self.xp.max(x, axis=axis, keepdims=True)
        safe = self.xp.where(self.xp.isfinite(top), top, self.xp.zeros_like(top))
        y = self.xp.log(self.xp.sum(self.xp.exp(x - safe), axis=axis, keepdims=True)) + safe
        if keepdims:
            return y
        gone = {a % x.ndim for a in axis}
        return self.xp.reshape(y, tuple([n for i, n in enumerate(y.shape) if i not in gone]))

    # ---- indexing ------------------------------------------------------------------------------

    def take(self, x: Any, indices: Any, *, axis: int) -> Any:
        size = x.shape[axis]
        places = self.xp.reshape(indices, (-1,))
        # Libraries differ in what they do beyond the ends: some read whatever is there.
        if 0 not in places.shape and not bool(self.xp.all((places >= -size) & (places < size))):
            raise IndexError(f"an index is out of range for a dimension of length {size}")
        places = self.xp.where(places < 0, places + size, places)
        y = self.xp.take(x, places, axis=axis)
        axis %= x.ndim
        return self.xp.reshape(y, (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))


HOST = (
    "erf", "slice", "unslice", "pad", "unfold", "fold", "index_add", "scatter_add", "gather",
    "one_hot",
)  # fmt: skip
"""Ops that the standard does not have, computed by NumPy."""
