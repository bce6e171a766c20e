"""The Python backend: ops on plain floats, by the standard library. `Scalar` computes with it."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from microgpt.backend import Backend
from microgpt.errors import BackendError
from microgpt.hooks import hookimpl


class PythonBackend(Backend):
    """Single Python numbers. It has no arrays, so no tensors can be made on it."""

    name = "python"
    array_types = (float, int, bool)
    dtypes = ("float64", "int64", "bool")

    def asarray(self, data: Any, dtype: np.dtype | None, device: str | None) -> Any:
        if np.ndim(data) != 0:
            raise BackendError(
                f"backend 'python' holds single numbers; got an array of shape {np.shape(data)}; "
                "use the backend 'numpy' for arrays"
            )
        return np.asarray(data, dtype=dtype).item()

    def to_numpy(self, array: Any) -> np.ndarray:
        return np.asarray(array)

    def dtype(self, array: Any) -> np.dtype:
        return np.asarray(array).dtype


def sigmoid(x: float) -> float:
    """1 / (1 + e⁻ˣ) by the branch whose exponential cannot overflow."""
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    e = math.exp(x)
    return e / (1.0 + e)


def softplus(x: float) -> float:
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def relu(x: float) -> float:
    return x if x > 0 or x != x else 0.0


def divide(a: float, b: float) -> float:
    """a / b with the infinities of IEEE arithmetic, as on every other backend."""
    try:
        return a / b
    except ZeroDivisionError:
        return math.nan if a == 0 or a != a else math.copysign(math.inf, a) * math.copysign(1, b)


def pow(a: float, b: float) -> float:
    """aᵇ; not a complex number but NaN for a negative base and a broken exponent."""
    try:
        y = a**b
    except ZeroDivisionError:
        return math.inf
    except OverflowError:
        return math.inf if a > 0 or b % 2 == 0 else -math.inf
    return math.nan if isinstance(y, complex) else y


def log(x: float) -> float:
    return math.log(x) if x > 0 else (-math.inf if x == 0 else math.nan)


def log1p(x: float) -> float:
    return math.log1p(x) if x > -1 else (-math.inf if x == -1 else math.nan)


def exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def expm1(x: float) -> float:
    try:
        return math.expm1(x)
    except OverflowError:
        return math.inf


def sqrt(x: float) -> float:
    return math.sqrt(x) if x >= 0 else math.nan


def _infinite(function: Callable[[float], float]) -> Callable[[float], float]:
    return lambda x: function(x) if math.isfinite(x) else math.nan


def sign(x: float) -> float:
    return math.nan if x != x else float((x > 0) - (x < 0))


def maximum(a: float, b: float) -> float:
    return a if a > b or a != a else b


def minimum(a: float, b: float) -> float:
    return a if a < b or a != a else b


def clip(x: float, *, min: float | None, max: float | None) -> float:
    if min is not None and x < min:
        return min
    return max if max is not None and x > max else x


def _rounded(function: Callable[[float], int]) -> Callable[[float], float]:
    return lambda x: float(function(x)) if math.isfinite(x) else x


KERNELS: dict[str, Callable[..., Any]] = {
    "identity": lambda x: x,
    "astype": lambda x, *, dtype: np.dtype(dtype).type(x).item(),
    "zeros_like": lambda x: 0.0,
    "ones_like": lambda x: 1.0,
    "add": operator.add,
    "add_scaled": lambda a, b, *, scale: a + scale * b,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": divide,
    "pow": pow,
    "negative": operator.neg,
    "abs": abs,
    "sign": sign,
    "square": lambda x: x * x,
    "exp": exp,
    "expm1": expm1,
    "log": log,
    "log1p": log1p,
    "sqrt": sqrt,
    "sin": _infinite(math.sin),
    "cos": _infinite(math.cos),
    "tan": _infinite(math.tan),
    "tanh": math.tanh,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "erf": math.erf,
    "relu": relu,
    "maximum": maximum,
    "minimum": minimum,
    "where": lambda c, a, b: a if c else b,
    "clip": clip,
    "equal": operator.eq,
    "not_equal": operator.ne,
    "less": operator.lt,
    "less_equal": operator.le,
    "greater": operator.gt,
    "greater_equal": operator.ge,
    "logical_and": lambda a, b: bool(a) and bool(b),
    "logical_or": lambda a, b: bool(a) or bool(b),
    "logical_not": operator.not_,
    "isfinite": math.isfinite,
    "isnan": math.isnan,
    "floor": _rounded(math.floor),
    "ceil": _rounded(math.ceil),
    "round": _rounded(round),
}


@hookimpl
def microgpt_backend_names() -> list[str]:
    """The one backend of this plugin."""
    return ["python"]


@hookimpl
def microgpt_backend(name: str) -> Backend | None:
    """The Python backend, if that is what is asked for."""
    return PythonBackend() if name == "python" else None


@hookimpl(trylast=True)
def microgpt_kernel(backend: str, op: str) -> Callable[..., Any] | None:
    """Our kernel for `op`; asked last, so that other plugins can replace single kernels."""
    return KERNELS.get(op) if backend == "python" else None
