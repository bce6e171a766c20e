"""What a backend is compared with: NumPy in float64, op by op, without any fused kernel.

Fused ops run their definitions, so that the fast kernels of the NumPy backend are judged like those
of any other. Kernels are taken from the plugin `numpy` itself: what another plugin puts into their
place is judged, and never becomes the judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

from microgpt.backend import Backend, BackendPlugin, Kernel
from microgpt.ops.table import TABLE
from microgpt.plugins import plugged, registry
from microgpt.testing.conformance.judge import REDUCTION, reduction_bound, unit

NAME = "microgpt-reference"
"""Of the backend that is there while checks run."""


class NumpyCopy(Backend):
    """The NumPy backend once more, under another name and with a class of arrays of its own.

    Args:
        name: of the backend.
        fused: whether it has NumPy's kernels for fused ops, and for their gradients.
        kernels: to be used in place of NumPy's; they get and may return any NumPy arrays.

    Example:
        >>> import numpy as np
        >>> import microgpt as mg
        >>> from microgpt.testing.conformance.reference import NumpyCopy
        >>> with mg.plugged(NumpyCopy("wrong", kernels={"exp": np.expm1}).plugin()):
        ...     mg.exp(mg.tensor([0.0], backend="wrong")).tolist()
        [0.0]
    """

    def __init__(
        self, name: str, *, fused: bool = True, kernels: Mapping[str, Kernel] | None = None
    ) -> None:
        self.name = name
        self.fused = fused
        self.replaced = dict(kernels or {})
        self.array = type(f"Array_{name}", (_Array,), {})
        self.array_types = (self.array,)

    def asarray(self, data: Any, dtype: np.dtype | None, device: str | None) -> Any:
        registry.backend("numpy").asarray(0, None, device)  # refuses devices that do not exist
        return np.array(data, dtype=dtype).view(self.array)

    def to_numpy(self, array: Any) -> np.ndarray:
        return array.view(np.ndarray)

    def kernel(self, name: str) -> Kernel | None:
        """The kernel called `name`, or None."""
        found = self.replaced.get(name)
        if found is None:
            plain = name in TABLE and TABLE[name].body is None
            if not (plain or self.fused):
                return None
            registry.backend("numpy")  # loads its plugin
            served = registry.servers("numpy", name)
            found = next((s.kernel for s in served if s.plugin == "numpy"), None)
        return None if found is None else self._own(name, found)

    def _own(self, name: str, kernel: Kernel) -> Kernel:
        def own(*inputs: Any, **params: Any) -> Any:
            y = self._mine(kernel(*inputs, **params))
            return self._rounded(name, kernel, y, inputs, params) if self.array.noise else y

        return own

    def _rounded(self, name: str, kernel: Kernel, y: Any, inputs: Any, params: Any) -> Any:
        """`y`, off by as much as sums and products of many numbers may be.

        The result of one step is off by a 16th of its own bound, because bounds are 16 times that.
        """
        sums = name in TABLE and TABLE[name].accuracy == REDUCTION
        if self.array.noise is None or not (sums or name in _SWEEPS):
            return y
        size, rng = self.array.noise
        sign = rng.choice([-1.0, 1.0], y.shape)
        if name in _SWEEPS:
            return self._mine(_swept(name, y.view(np.ndarray), inputs[0], size, sign))
        plain = [x.view(np.ndarray) if isinstance(x, np.ndarray) else x for x in inputs]
        bound = reduction_bound(lambda *x: np.asarray(kernel(*x, **params)), plain, y.dtype)
        return self._mine(y.view(np.ndarray) + sign * bound * (size / 32 / unit(y.dtype)))

    def _mine(self, result: Any) -> Any:
        """`result` as an array of our class; of what gradient kernels return, each one."""
        if result is None:
            return None
        if isinstance(result, tuple):
            return tuple([self._mine(r) if isinstance(r, _NUMPY) else r for r in result])
        return result if type(result) is self.array else np.asarray(result).view(self.array)

    def plugin(self) -> Any:
        """A plugin that brings this backend."""
        return BackendPlugin(self, self.kernel)


_NUMPY = (np.ndarray, np.generic)


_SWEEPS = {"prod", "var", "logsumexp"}


def _swept(name: str, y: np.ndarray, x: Any, size: float, sign: np.ndarray) -> np.ndarray:
    """`y`, a product or variance of elements of `x`, off by the rounding of all its steps."""
    n = x.size / max(y.size, 1)
    off = y * size * sign * (np.sqrt(n) if name == "prod" else 1.0)
    if name == "var":
        # The mean is off by rounding, and its square is added to the variance.
        off = off + ((2 + np.sqrt(n)) * size / 2 * np.max(np.abs(x), initial=0.0)) ** 2
    return y + off


# What these return is not rounded.
_EXACT = {
    "positive", "negative", "absolute", "fabs", "sign", "maximum", "minimum", "fmax", "fmin",
    "floor", "ceil", "rint", "trunc", "copysign",
}  # fmt: skip


class _Array(np.ndarray):
    """Stays of its class where NumPy would return a plain number; can round more coarsely."""

    noise: tuple[float, np.random.Generator] | None = None

    def __array_wrap__(self, array: Any, context: Any = None, return_scalar: bool = False) -> Any:
        made = np.asarray(array)
        rounds = context is not None and context[0].__name__ not in _EXACT
        if self.noise is not None and rounds and made.dtype.kind == "f":
            size, rng = self.noise
            made = made * (1 + size * rng.choice([-1.0, 1.0], made.shape))
        return np.asarray(made).view(type(self))


@contextmanager
def rounding(size: float, rng: np.random.Generator) -> Iterator[None]:
    """Inside this block each step of the reference is off by about `size`, relatively."""
    backend: Any = registry.backend(NAME)
    backend.array.noise = (size, rng)
    try:
        yield
    finally:
        backend.array.noise = None


@contextmanager
def available() -> Iterator[None]:
    """Inside this block there is the backend that the checks compare with."""
    if NAME in registry.backend_names():
        yield
        return
    with plugged(NumpyCopy(NAME, fused=False).plugin()):
        yield
