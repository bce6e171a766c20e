"""The ops as they are defined: a backend on NumPy, in float64, without kernels for fused ops.

It tells what a result should be; and how far rounding may take a result away, if each step of the
definition rounds as the working precision does.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import numpy as np

from microgpt.backend import Backend
from microgpt.hooks import hookimpl
from microgpt.ops.table import TABLE
from microgpt.plugins import registry
from microgpt.testing.bisection.op_call import Call, gradients, is_float, plain, run_op
from microgpt.testing.conformance import judge

_noise: ContextVar[tuple[np.random.Generator, float] | None] = ContextVar("noise", default=None)
"""By how much each result changes at random, relative to its size."""


class Defined(np.ndarray):
    """An array of this backend."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **settings: Any) -> Any:
        return _result(getattr(ufunc, method)(*map(_bare, inputs), **settings))


def _bare(x: Any) -> Any:
    return x.view(np.ndarray) if isinstance(x, Defined) else x


def _result(y: Any, exact: bool = False) -> Any:
    y, noise = np.asarray(y), _noise.get()
    if noise is not None and not exact and is_float(y):
        y = shaken(y, *noise)
    return y.view(Defined)


def shaken(x: np.ndarray, rng: np.random.Generator, size: float) -> np.ndarray:
    """`x` with each number a little larger or smaller."""
    return np.asarray(x * (1 + size * rng.choice([-1.0, 1.0], x.shape)))


class Definition(Backend):
    """The backend, and the plugin that brings it."""

    name = "definition"
    array_types = (Defined,)

    def asarray(self, data: Any, dtype: np.dtype | None, device: str | None) -> Any:
        return np.array(data, dtype=dtype, order="C").view(Defined)

    def to_numpy(self, array: Any) -> np.ndarray:
        return _bare(array)

    @hookimpl
    def microgpt_backend_names(self) -> list[str]:
        """Its own name."""
        return [self.name]

    @hookimpl
    def microgpt_backend(self, name: str) -> Backend | None:
        """Itself."""
        return self if name == self.name else None

    @hookimpl(tryfirst=True)
    def microgpt_kernel(self, backend: str, op: str) -> Any:
        """That of the backend numpy, if `op` is no fused one."""
        if backend != self.name or op not in TABLE or TABLE[op].body is not None:
            return None
        registry.backend("numpy")
        kernel = registry.kernel("numpy", op)
        if kernel is None:
            return None

        exact = TABLE[op].accuracy == judge.EXACT
        return lambda *xs, **params: _result(kernel(*map(_bare, xs), **params), exact)


def reference(call: Call, output: int) -> Callable[..., np.ndarray]:
    """Result number `output` of `call`, by its definition in float64, as a function of its inputs.

    With ``noise=(rng, size)`` all inputs and all steps change at random, by so much relative to
    their size. Works while a `Definition` is plugged in.
    """
    params = {k: plain(v, _double) for k, v in call.host_params.items()}

    def compute(*inputs: Any, noise: tuple[np.random.Generator, float] | None = None) -> np.ndarray:
        xs = [_double(shaken(x, *noise) if noise and is_float(x) else x) for x in inputs]
        token = _noise.set(noise)
        try:
            with np.errstate(all="ignore"):
                if call.needs:
                    y = gradients(call.op, xs[0], xs[1], xs[2:], call.needs, params)[output]
                else:
                    y = run_op(call.op, xs, params)
        finally:
            _noise.reset(token)
        return np.array(_bare(y), dtype="float64")

    return compute


def _double(x: Any) -> Any:
    if not isinstance(x, np.ndarray):
        return x
    return (x.astype("float64") if is_float(x) else x).view(Defined)
