"""Adapters for ops that work element by element: PyTorch's arguments, our call."""

from __future__ import annotations

import math
from typing import Any

import microgpt as mg
from tests.peers.comparison import Adapter, Lacking


def float64_only(dtype: Any) -> None:
    """Check that a sample's `dtype` argument asks for no conversion."""
    if dtype not in (None, "float64"):
        raise Lacking(f"result of dtype {dtype}")


def clamp(x: Any, low: Any = None, high: Any = None) -> Any:
    for limit in (low, high):
        if limit is None:
            continue
        if limit.dtype.kind != "f":
            raise Lacking("limits of another dtype than the array's")
        x = mg.maximum(x, limit) if limit is low else mg.minimum(x, limit)
    return x


def added(a: Any, b: Any, *, alpha: float = 1) -> Any:
    if alpha != 1 and a.shape == b.shape:
        return mg.add_scaled(a, b, scale=alpha)
    return a + alpha * b


def where(x: Any, condition: Any, other: Any) -> Any:
    return mg.where(condition, x, other)


def masked_fill(x: Any, mask: Any, value: Any) -> Any:
    return mg.where(mask, value, x)


def lerp(start: Any, end: Any, weight: Any) -> Any:
    return start + weight * (end - start)


def addcmul(x: Any, a: Any, b: Any, *, value: float = 1) -> Any:
    return x + value * a * b


def addcdiv(x: Any, a: Any, b: Any, *, value: float = 1) -> Any:
    return x + value * a / b


def logaddexp(a: Any, b: Any) -> Any:
    pair = mg.stack([mg.broadcast_to(x, mg.broadcast_shapes(a.shape, b.shape)) for x in (a, b)])
    return mg.logsumexp(pair, axis=0)


def softplus(x: Any, *, beta: float = 1, threshold: float = 20) -> Any:
    # PyTorch goes over to the straight line x at a threshold; ours is exact everywhere.
    return mg.where(x * beta > threshold, x, mg.softplus(x * beta) / beta)


def gelu(x: Any, *, approximate: str = "none") -> Any:
    return mg.gelu(x, approximate=approximate)


def hardtanh(x: Any, min_val: float = -1.0, max_val: float = 1.0) -> Any:
    return mg.clip(x, min_val, max_val)


def leaky_relu(x: Any, negative_slope: float = 0.01) -> Any:
    return mg.where(x > 0, x, x * negative_slope)


def elu(x: Any, *, alpha: float = 1.0) -> Any:
    return mg.where(x > 0, x, alpha * mg.expm1(mg.minimum(x, 0.0)))


def threshold(x: Any, limit: float, value: float) -> Any:
    return mg.where(x > limit, x, value)


def logit(x: Any, eps: float | None = None) -> Any:
    if eps is not None:
        x = mg.clip(x, eps, 1 - eps)
    return mg.log(x) - mg.log1p(-x)


def rounded(x: Any, *, decimals: int) -> Any:
    if decimals != 0:
        raise Lacking("rounding to decimals")
    return mg.round(x)


def like(constant: Adapter) -> Adapter:
    """An adapter for the making of constants, whose further arguments say what is so anyway."""

    def made(x: Any, *, dtype: Any = None, device: str = "cpu") -> Any:
        float64_only(dtype)
        return constant(x)

    return made


def binary_from_right(operator: Adapter) -> Adapter:
    """`operator` by Python's dispatch on the second operand: an array and a tensor."""

    def reflected(x: Any, other: Any) -> Any:
        return operator(other, x)

    return reflected


ELEMENTWISE: dict[str, Adapter] = {
    "abs": mg.abs,
    "add": added,
    "addcdiv": addcdiv,
    "addcmul": addcmul,
    "ceil": mg.ceil,
    "clamp": clamp,
    "clamp_max": mg.minimum,
    "clamp_min": mg.maximum,
    "clone": mg.ops.identity,
    "cos": mg.cos,
    "cosh": lambda x: (mg.exp(x) + mg.exp(-x)) / 2,
    "deg2rad": lambda x: x * (math.pi / 180),
    "div:no_rounding_mode": mg.divide,
    "eq": mg.equal,
    "erf": mg.erf,
    "erfc": lambda x: 1 - mg.erf(x),
    "exp": mg.exp,
    "exp2": lambda x: 2.0**x,
    "expm1": mg.expm1,
    "float_power": mg.pow,
    "floor": mg.floor,
    "ge": mg.greater_equal,
    "gt": mg.greater,
    "hypot": lambda a, b: mg.sqrt(mg.square(a) + mg.square(b)),
    "isfinite": mg.isfinite,
    "isnan": mg.isnan,
    "le": mg.less_equal,
    "lerp": lerp,
    "log": mg.log,
    "log10": lambda x: mg.log(x) / math.log(10),
    "log1p": mg.log1p,
    "log2": lambda x: mg.log(x) / math.log(2),
    "logaddexp": logaddexp,
    "logical_and": mg.logical_and,
    "logical_not": mg.logical_not,
    "logical_or": mg.logical_or,
    "logit": logit,
    "lt": mg.less,
    "masked_fill": masked_fill,
    "max:binary": mg.maximum,
    "maximum": mg.maximum,
    "min:binary": mg.minimum,
    "minimum": mg.minimum,
    "mul": mg.multiply,
    "ne": mg.not_equal,
    "neg": mg.negative,
    "nn.functional.elu": elu,
    "nn.functional.gelu": gelu,
    "nn.functional.hardtanh": hardtanh,
    "nn.functional.leaky_relu": leaky_relu,
    "nn.functional.logsigmoid": lambda x: -mg.softplus(-x),
    "nn.functional.mish": lambda x: x * mg.tanh(mg.softplus(x)),
    "nn.functional.relu": mg.relu,
    "nn.functional.relu6": lambda x: mg.clip(x, 0.0, 6.0),
    "nn.functional.silu": mg.silu,
    "nn.functional.softplus": softplus,
    "nn.functional.softsign": lambda x: x / (1 + mg.abs(x)),
    "nn.functional.tanhshrink": lambda x: x - mg.tanh(x),
    "nn.functional.threshold": threshold,
    "ones_like": like(mg.ones_like),
    "positive": mg.ops.identity,
    "pow": mg.pow,
    "reciprocal": lambda x: 1 / x,
    "round": mg.round,
    "round:decimals_0": rounded,
    "round:decimals_3": rounded,
    "rsqrt": lambda x: x**-0.5,
    "rsub": lambda a, b, *, alpha=1: b - alpha * a,
    "sigmoid": mg.sigmoid,
    "sign": mg.sign,
    "sin": mg.sin,
    "sinh": lambda x: (mg.exp(x) - mg.exp(-x)) / 2,
    "sqrt": mg.sqrt,
    "square": mg.square,
    "sub": lambda a, b, *, alpha=1: a - alpha * b,
    "tan": mg.tan,
    "tanh": mg.tanh,
    "true_divide": mg.divide,
    "where": where,
    "xlogy": lambda a, b: a * mg.log(b),
    "zeros_like": like(mg.zeros_like),
    "__radd__": binary_from_right(lambda a, b: a + b),
    "__rdiv__": binary_from_right(lambda a, b: a / b),
    "__rmul__": binary_from_right(lambda a, b: a * b),
    "__rpow__": binary_from_right(lambda a, b: a**b),
    "__rsub__": binary_from_right(lambda a, b: a - b),
}
