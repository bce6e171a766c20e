"""Elementwise ops: each makes an expression, which is computed when somebody needs it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from microgpt.errors import DTypeError
from microgpt_opencl import siblings
from microgpt_opencl.arrays import Array
from microgpt_opencl.fusion import defer, deferred

BOOL = np.dtype(bool)
_LARGEST = {"f": 3.4028235e38}


@lru_cache(maxsize=1024)
def _common(a: Any, b: Any) -> np.dtype:
    """The type in which arrays or numbers are computed together, as NumPy says."""
    return np.dtype(np.result_type(a, b).type)


def _weak(value: Any) -> Any:
    """A representative of the type of a Python number, which has no size of its own."""
    return {bool: True, int: 1}.get(type(value), 1.0)


def dtype_of(a: Any, b: Any) -> np.dtype:
    """The type of the result of arithmetic with `a` and `b`."""
    if type(a) is not Array:
        return _common(b.dtype, _weak(a))
    return _common(a.dtype, b.dtype if type(b) is Array else _weak(b))


def cast(x: Any, dtype: np.dtype) -> Any:
    """`x`, an array or a number, ready to be computed with in `dtype`."""
    if type(x) is Array:
        return x if x.dtype == dtype else astype(x, dtype=dtype)
    if dtype.kind == "f":
        value = float(x)
        if dtype.char == "f" and abs(value) > _LARGEST["f"]:
            return float(np.float32(value))  # ∞, which packing would refuse
        return value
    return int(x)


def _checked(x: Array, dtype: np.dtype) -> np.dtype:
    if dtype.char == "d" and not x.device.double:
        raise DTypeError(
            f"device {x.device.name} ({x.device.title}) has no float64; required here because of "
            f"{x.dtype}; use float32, or another device (`microgpt doctor` shows which have it)"
        )
    return dtype


def _binary(op: str) -> Callable[..., Any]:
    def kernel(a: Any, b: Any) -> Any:
        if type(a) is Array and type(b) is Array and a.dtype is b.dtype:
            return defer(op, a.dtype, a, b)
        like = a if type(a) is Array else b
        dtype = like.dtype
        if (type(b) is not float and type(a) is not float) or dtype.kind != "f":
            dtype = _checked(like, dtype_of(a, b))
        return defer(op, dtype, cast(a, dtype), cast(b, dtype))

    return kernel


def _compared(op: str) -> Callable[..., Any]:
    def kernel(a: Any, b: Any) -> Any:
        dtype = dtype_of(a, b)
        return defer(op, BOOL, cast(a, dtype), cast(b, dtype))

    return kernel


def _unary(op: str) -> Callable[..., Any]:
    return lambda x: defer(op, x.dtype, x)


def _predicate(op: str) -> Callable[..., Any]:
    return lambda x: defer(op, BOOL, x)


def _floating(op: str) -> Callable[..., Any]:
    def kernel(x: Any) -> Any:
        if x.dtype.kind != "f":
            x = astype(x, dtype=_checked(x, np.dtype("float64")))
        return defer(op, x.dtype, x)

    return kernel


def astype(x: Array, *, dtype: np.dtype) -> Array:
    wanted = np.dtype(np.dtype(dtype).type)
    return x if wanted == x.dtype else defer("astype", _checked(x, wanted), x)


def fill(x: Array, value: Any, shape: tuple[int, ...] | None = None) -> Array:
    """An array like `x` with `value` everywhere."""
    shape = x.shape if shape is None else shape
    return deferred("fill", x.dtype, (cast(value, x.dtype),), shape, x.device)


add, subtract, multiply = _binary("add"), _binary("subtract"), _binary("multiply")
_pow = _binary("pow")
_divide = _binary("divide")


def divide(a: Any, b: Any) -> Any:
    dtype = dtype_of(a, b)
    if dtype.kind != "f":
        dtype = _checked(a if type(a) is Array else b, np.dtype("float64"))
        return defer("divide", dtype, cast(a, dtype), cast(b, dtype))
    return _divide(a, b)


def power(a: Any, b: Any) -> Any:
    if type(b) in (int, float):
        if b == 2:
            return defer("square", a.dtype, a) if a.dtype.kind == "f" else multiply(a, a)
        if b == 1:
            return a
    if dtype_of(a, b).kind != "f":
        raise DTypeError(
            "backend 'opencl' computes powers of floating point numbers; got integers; convert "
            "with x.astype('float32')"
        )
    return _pow(a, b)


def add_scaled(a: Array, b: Array, *, scale: float) -> Array:
    y = defer(siblings.OP, a.dtype, a, b, cast(scale, a.dtype))
    siblings.note(y)
    return y


def where(condition: Any, a: Any, b: Any) -> Any:
    dtype = _common(_weak(a), _weak(b)) if type(a) is not Array is not type(b) else dtype_of(a, b)
    return defer("where", dtype, cast(condition, BOOL), cast(a, dtype), cast(b, dtype))


def clip(x: Array, *, min: float | None, max: float | None) -> Array:
    dtype = x.dtype
    for limit in (min, max):
        if limit is not None:
            dtype = _common(dtype, _weak(limit))
    y = cast(x, dtype)
    if min is not None:
        y = defer("clip_low", dtype, y, cast(min, dtype))
    return y if max is None else defer("clip_high", dtype, y, cast(max, dtype))


FUNCTIONS = ("exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tan", "tanh", "sigmoid",
             "softplus", "erf")  # fmt: skip

KERNELS: dict[str, Callable[..., Any]] = {
    "identity": lambda x: x,
    "astype": astype,
    "zeros_like": lambda x: fill(x, 0),
    "ones_like": lambda x: fill(x, 1),
    "add": add,
    "add_scaled": add_scaled,
    "subtract": subtract,
    "multiply": multiply,
    "divide": divide,
    "pow": power,
    "maximum": _binary("maximum"),
    "minimum": _binary("minimum"),
    "where": where,
    "clip": clip,
    **{
        op: _unary(op)
        for op in ("negative", "abs", "sign", "square", "relu", "floor", "ceil", "round")
    },
    **{op: _floating(op) for op in FUNCTIONS},
    **{
        op: _compared(op)
        for op in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal",
                   "logical_and", "logical_or")
    },
    **{op: _predicate(op) for op in ("logical_not", "isfinite", "isnan")},
}  # fmt: skip


def give_operators() -> None:
    """Gradient rules are written with operators, so arrays have them."""
    for name, op in (("add", "add"), ("sub", "subtract"), ("mul", "multiply"),
                     ("truediv", "divide"), ("pow", "pow")):  # fmt: skip
        kernel = KERNELS[op]
        setattr(Array, f"__{name}__", kernel)
        setattr(Array, f"__r{name}__", lambda a, b, kernel=kernel: kernel(b, a))
    for name, op in (("neg", "negative"), ("abs", "abs"), ("eq", "equal"), ("ne", "not_equal"),
                     ("lt", "less"), ("le", "less_equal"), ("gt", "greater"),
                     ("ge", "greater_equal")):  # fmt: skip
        setattr(Array, f"__{name}__", KERNELS[op])
    Array.__hash__ = object.__hash__  # pyright: ignore[reportAttributeAccessIssue]


give_operators()
