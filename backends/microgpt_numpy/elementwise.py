"""Elementwise kernels: mostly NumPy's own functions."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

STRETCH = 1 << 14
"""Elements that erf works on at a time: they and what it makes of them stay in the cache."""

# NumPy converts a Python number in every call; arrays without dimensions it takes as they are.
_ONE = {np.dtype(d): np.ones((), dtype=d) for d in ("float16", "float32", "float64")}
_ZERO = {np.dtype(d): np.zeros((), dtype=d) for d in ("float16", "float32", "float64")}


def sigmoid(x: Any) -> Any:
    """1 / (1 + e⁻ˣ). For x → -∞, e⁻ˣ overflows to ∞ and the quotient is the right 0."""
    one = _ONE[x.dtype]
    y = np.negative(x)
    with np.errstate(over="ignore"):
        if type(y) is not np.ndarray:
            return np.divide(one, np.add(np.exp(y), one))
        np.exp(y, out=y)
    np.add(y, one, out=y)
    return np.divide(one, y, out=y)


def softplus(x: Any) -> Any:
    """log(1 + eˣ) = max(x, 0) + log(1 + e^-|x|)."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def add_scaled(a: Any, b: Any, *, scale: float) -> Any:
    y = np.multiply(b, scale)
    return np.add(a, y, out=y) if type(y) is np.ndarray else a + y


def ones_like(x: Any) -> Any:
    return np.ones(x.shape, x.dtype)


def relu(x: Any) -> Any:
    return np.maximum(x, _ZERO.get(x.dtype, 0))


def clip(x: Any, *, min: float | None, max: float | None) -> Any:
    return np.clip(x, min, max)


def astype(x: Any, *, dtype: np.dtype) -> Any:
    return x.astype(dtype)


# erf(x) = x·P(x²)/Q(x²) for |x| < 0.5, else 1 - e^(-x²)·R(|x|): the rational approximations of
# W. J. Cody, "Rational Chebyshev approximations for the error function", Math. Comp. 23 (1969),
# as in his CALERF; relative error below 1e-15 in float64.
_A = (3.16112374387056560e00, 1.13864154151050156e02, 3.77485237685302021e02,
      3.20937758913846947e03, 1.85777706184603153e-1)  # fmt: skip
_B = (2.36012909523441209e01, 2.44024637934444173e02, 1.28261652607737228e03,
      2.84423683343917062e03)  # fmt: skip
_C = (5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e01,
      2.98635138197400131e02, 8.81952221241769090e02, 1.71204761263407058e03,
      2.05107837782607147e03, 1.23033935479799725e03, 2.15311535474403846e-8)  # fmt: skip
_D = (1.57449261107098347e01, 1.17693950891312499e02, 5.37181101862009858e02,
      1.62138957456669019e03, 3.29079923573345963e03, 4.36261909014324716e03,
      3.43936767414372164e03, 1.23033935480374942e03)  # fmt: skip
_P = (3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
      1.60837851487422766e-2, 6.58749161529837803e-4, 1.63153871373020978e-2)  # fmt: skip
_Q = (2.56852019228982242e00, 1.87295284992346725e00, 5.27905102951428412e-1,
      6.05183413124413191e-2, 2.33520497626869185e-3)  # fmt: skip


def _ratio(t: np.ndarray, above: tuple[float, ...], below: tuple[float, ...]) -> np.ndarray:
    """Cody's quotient of two polynomials; the last number of `above` is its leading one."""
    top = above[-1] * t
    bottom = t
    for a, b in zip(above[:-2], below[:-1], strict=True):
        top = (top + a) * t
        bottom = (bottom + b) * t
    return (top + above[-2]) / (bottom + below[-1])


def _near(x: np.ndarray) -> np.ndarray:
    return x * _ratio(x * x, _A, _B)


def _middle(x: np.ndarray) -> np.ndarray:
    size = np.abs(x)
    return np.copysign(1 - np.exp(-size * size) * _ratio(size, _C, _D), x)


def _far(x: np.ndarray) -> np.ndarray:
    size = np.minimum(np.abs(x), 6.0)
    inverse = 1 / (size * size)
    tail = inverse * _ratio(inverse, _P, _Q)
    rest = np.exp(-size * size) * (1 / math.sqrt(math.pi) - tail) / size
    return np.copysign(1 - rest, x)


def erf(x: Any) -> Any:
    """Error function, computed in float64 and rounded to the type of `x`."""
    out = np.empty(x.shape, x.dtype)
    source, target = x.reshape(-1), out.reshape(-1)
    for i in range(0, x.size, STRETCH):
        values = source[i : i + STRETCH].astype(np.float64)
        size = np.abs(values)
        near, far = size <= 0.46875, size > 4.0
        found = values.copy()  # NaN stays NaN
        for where, branch in (
            (near, _near),
            (far, _far),
            (~(near | far | (size != size)), _middle),
        ):
            places = np.flatnonzero(where)
            if places.size:
                found[places] = branch(values[places])
        target[i : i + STRETCH] = found
    return out


KERNELS: dict[str, Callable[..., Any]] = {
    "identity": lambda x: x,
    "astype": astype,
    "zeros_like": np.zeros_like,
    "ones_like": ones_like,
    "add": np.add,
    "add_scaled": add_scaled,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.true_divide,
    "pow": np.power,
    "negative": np.negative,
    "abs": np.abs,
    "sign": np.sign,
    "square": np.square,
    "exp": np.exp,
    "expm1": np.expm1,
    "log": np.log,
    "log1p": np.log1p,
    "sqrt": np.sqrt,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
    "softplus": softplus,
    "erf": erf,
    "relu": relu,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "where": np.where,
    "clip": clip,
    "equal": np.equal,
    "not_equal": np.not_equal,
    "less": np.less,
    "less_equal": np.less_equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "logical_and": np.logical_and,
    "logical_or": np.logical_or,
    "logical_not": np.logical_not,
    "isfinite": np.isfinite,
    "isnan": np.isnan,
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.round,
}
