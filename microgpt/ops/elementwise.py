"""Ops that work element by element, with broadcasting."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from microgpt.errors import InputError
from microgpt.ops.declare import face, primitive

# ---- structure -------------------------------------------------------------------------------

identity = primitive(
    "identity",
    elementwise=True,
    vjp=(lambda g, y, x: g,),
    reads=("",),
    doc="x (a new node with the same value)",
    accuracy="exact",
    domain=lambda d: d.array(),
)

_astype = primitive(
    "astype",
    vjp=(lambda g, y, x, dtype: astype(g, x.dtype),),
    reads=("a",),
    doc="x converted to another data type",
    accuracy="exact",
    domain=lambda d: d.case(d.array(), dtype="float64"),
)


@face(_astype)
def astype(x: Any, dtype: Any) -> Any:
    """`x` with elements converted to `dtype`; gradients are converted back.

    Example:
        >>> import microgpt as mg
        >>> mg.astype(mg.tensor([1.7, -1.7]), "int32")
        tensor([ 1, -1], dtype=int32)
    """
    target = numpy_dtype(dtype)
    return _astype(x if target.kind == "f" else detach(x), dtype=target)


def numpy_dtype(dtype: Any) -> np.dtype:
    """`dtype` as NumPy names it; that of another array library by its last name (torch.int64)."""
    try:
        return np.dtype(dtype)
    except TypeError:
        return np.dtype(str(dtype).rpartition(".")[2])


def detach(x: Any) -> Any:
    """The value of `x` without its graph: a constant for the gradient."""
    return x.detach() if hasattr(x, "detach") else x


zeros_like = primitive(
    "zeros_like",
    elementwise=True,
    nondifferentiable="a constant",
    arity=1,
    doc="zeros of the shape and dtype of x",
    accuracy="exact",
    domain=lambda d: d.array(),
)
ones_like = primitive(
    "ones_like",
    elementwise=True,
    nondifferentiable="a constant",
    arity=1,
    doc="ones of the shape and dtype of x",
    accuracy="exact",
    domain=lambda d: d.array(),
)

# ---- arithmetic ------------------------------------------------------------------------------

add = primitive(
    "add",
    elementwise=True,
    vjp=(lambda g, y, a, b: g, lambda g, y, a, b: g),
    reads=("", ""),
    broadcasts=True,
    doc="a + b",
    domain=lambda d: d.broadcastable(2),
)
subtract = primitive(
    "subtract",
    elementwise=True,
    vjp=(lambda g, y, a, b: g, lambda g, y, a, b: -g),
    reads=("", ""),
    broadcasts=True,
    doc="a - b",
    domain=lambda d: d.broadcastable(2),
)
multiply = primitive(
    "multiply",
    elementwise=True,
    vjp=(lambda g, y, a, b: g * b, lambda g, y, a, b: g * a),
    reads=("b", "a"),
    broadcasts=True,
    doc="a · b",
    domain=lambda d: d.broadcastable(2),
)
divide = primitive(
    "divide",
    elementwise=True,
    vjp=(lambda g, y, a, b: g / b, lambda g, y, a, b: -g * y / b),
    reads=("b", "by"),
    broadcasts=True,
    floats=True,
    doc="a / b",
    domain=lambda d: d.broadcastable(2, poles=(0.0,), margin=0.3),
)


def _pow_base(g: Any, y: Any, a: Any, b: Any) -> Any:
    # n·aⁿ⁻¹ would be 0·∞ at a = 0, n = 0, where the function is constant.
    if isinstance(b, (builtins.int, builtins.float)):
        if b == 2:
            return g * 2 * a
        return zeros_like(a) if b == 0 else g * (b * a ** (b - 1))
    never = logical_and(equal(a, 0), equal(b, 0))
    return g * b * a ** where(never, 1.0, b - 1)


def _pow_exponent(g: Any, y: Any, a: Any, b: Any) -> Any:
    # At a = 0 the power is constantly 0 for b > 0, whatever the logarithm says. For a < 0 there are
    # powers for whole exponents only, and so no derivative.
    if isinstance(a, (builtins.int, builtins.float)):
        return g * y * (math.log(a) if a > 0 else 0.0 if a == 0 else math.nan)
    positive = greater(a, 0)
    otherwise = where(less(a, 0), math.nan, a * 0)
    return g * y * where(positive, log(where(positive, a, 1.0)), otherwise)


pow = primitive(
    "pow",
    elementwise=True,
    vjp=(_pow_base, _pow_exponent),
    reads=("ab", "ay"),
    broadcasts=True,
    floats=True,
    doc="a to the power b",
    domain=lambda d: d.powers(),
)
negative = primitive(
    "negative",
    elementwise=True,
    vjp=(lambda g, y, x: -g,),
    reads=("",),
    doc="-x",
    accuracy="exact",
    domain=lambda d: d.array(),
)
abs = primitive(
    "abs",
    elementwise=True,
    vjp=(lambda g, y, x: g * sign(x),),
    reads=("a",),
    doc="|x|; the gradient at 0 is 0",
    kinks={0.0: 0.0},
    accuracy="exact",
    domain=lambda d: d.array(away_from=(0.0,)),
)
sign = primitive(
    "sign",
    elementwise=True,
    vjp=(lambda g, y, x: zeros_like(g),),
    reads=("",),
    doc="-1, 0 or 1",
    kinks={0.0: 0.0},
    jumps=True,
    accuracy="exact",
    domain=lambda d: d.array(away_from=(0.0,)),
)
square = primitive(
    "square",
    elementwise=True,
    vjp=(lambda g, y, x: g * 2 * x,),
    reads=("a",),
    doc="x²",
    domain=lambda d: d.array(),
)

add_scaled = primitive(
    "add_scaled",
    vjp=(lambda g, y, a, b, scale: g, lambda g, y, a, b, scale: g * scale),
    reads=("", ""),
    doc="a + scale·b, for a and b of one shape: a step of an optimizer",
    domain=lambda d: d.case(*d.equal_shapes(2), scale=d.sampled([-0.3, 1.0, 2.5])),
)

# ---- exponentials, logarithms, trigonometry --------------------------------------------------

exp = primitive(
    "exp",
    elementwise=True,
    vjp=(lambda g, y, x: g * y,),
    reads=("y",),
    floats=True,
    doc="eˣ",
    domain=lambda d: d.array(),
)
expm1 = primitive(
    "expm1",
    elementwise=True,
    vjp=(lambda g, y, x: g * (y + 1),),
    reads=("y",),
    floats=True,
    doc="eˣ - 1, exact for small x",
    domain=lambda d: d.array(),
)
log = primitive(
    "log",
    elementwise=True,
    vjp=(lambda g, y, x: g / x,),
    reads=("a",),
    floats=True,
    doc="natural logarithm",
    domain=lambda d: d.array(low=0.3, high=5),
)
log1p = primitive(
    "log1p",
    elementwise=True,
    vjp=(lambda g, y, x: g / (x + 1),),
    reads=("a",),
    floats=True,
    doc="log(1 + x), exact for small x",
    domain=lambda d: d.array(low=-0.6, high=5),
)
sqrt = primitive(
    "sqrt",
    elementwise=True,
    vjp=(lambda g, y, x: g / (2 * y),),
    reads=("y",),
    floats=True,
    doc="√x",
    domain=lambda d: d.array(low=0.3, high=5),
)
sin = primitive(
    "sin",
    elementwise=True,
    vjp=(lambda g, y, x: g * cos(x),),
    reads=("a",),
    floats=True,
    doc="sine of x radians",
    domain=lambda d: d.array(),
)
cos = primitive(
    "cos",
    elementwise=True,
    vjp=(lambda g, y, x: -g * sin(x),),
    reads=("a",),
    floats=True,
    doc="cosine of x radians",
    domain=lambda d: d.array(),
)
tan = primitive(
    "tan",
    elementwise=True,
    vjp=(lambda g, y, x: g * (1 + y * y),),
    reads=("y",),
    floats=True,
    doc="tangent of x radians",
    domain=lambda d: d.array(low=-1.2, high=1.2),
)
tanh = primitive(
    "tanh",
    elementwise=True,
    vjp=(lambda g, y, x: g - g * y * y,),
    reads=("y",),
    floats=True,
    doc="hyperbolic tangent",
    domain=lambda d: d.array(),
)


def _sigmoid_rule(gy: Any, y: Any) -> Any:
    return gy - gy * y


sigmoid = primitive(
    "sigmoid",
    elementwise=True,
    vjp=(lambda g, y, x: _sigmoid_rule(g * y, y),),
    reads=("y",),
    floats=True,
    doc="1 / (1 + e⁻ˣ), without overflow",
    domain=lambda d: d.array(),
)
softplus = primitive(
    "softplus",
    elementwise=True,
    vjp=(lambda g, y, x: g * sigmoid(x),),
    reads=("a",),
    floats=True,
    doc="log(1 + eˣ), without overflow",
    accuracy="composite",
    domain=lambda d: d.array(),
)
erf = primitive(
    "erf",
    elementwise=True,
    vjp=(lambda g, y, x: g * (exp(-(x * x)) * (2 / math.sqrt(math.pi))),),
    reads=("a",),
    floats=True,
    doc="error function, 2/√π ∫₀ˣ exp(-t²) dt",
    domain=lambda d: d.array(),
)
relu = primitive(
    "relu",
    elementwise=True,
    vjp=(lambda g, y, x: g * sign(y),),  # y is never negative, and this is quicker than where
    reads=("y",),
    doc="max(x, 0); the gradient at 0 is 0",
    kinks={0.0: 0.0},
    accuracy="exact",
    domain=lambda d: d.array(away_from=(0.0,)),
)

# ---- choosing --------------------------------------------------------------------------------

maximum = primitive(
    "maximum",
    elementwise=True,
    vjp=(
        lambda g, y, a, b: g * _share(greater(a, b), equal(a, b), g),
        lambda g, y, a, b: g * _share(greater(b, a), equal(a, b), g),
    ),
    reads=("ab", "ab"),
    broadcasts=True,
    doc="the larger of a and b; equal ones share the gradient",
    kinks="share",
    accuracy="exact",
    domain=lambda d: d.apart(2),
)
minimum = primitive(
    "minimum",
    elementwise=True,
    vjp=(
        lambda g, y, a, b: g * _share(less(a, b), equal(a, b), g),
        lambda g, y, a, b: g * _share(less(b, a), equal(a, b), g),
    ),
    reads=("ab", "ab"),
    broadcasts=True,
    doc="the smaller of a and b; equal ones share the gradient",
    kinks="share",
    accuracy="exact",
    domain=lambda d: d.apart(2),
)


def _share(wins: Any, ties: Any, like: Any) -> Any:
    """1 where it wins, ½ where it ties, in the float type of `like`."""
    return where(ties, like * 0 + 0.5, where(wins, like * 0 + 1.0, like * 0))


_where = primitive(
    "where",
    vjp=(
        None,
        lambda g, y, c, a, b: where(c, g, 0.0),
        lambda g, y, c, a, b: where(c, 0.0, g),
    ),
    reads=("", "a", "a"),
    broadcasts=True,
    index_inputs=(0,),
    doc="a where the condition holds, else b; nothing leaks from the other branch",
    accuracy="exact",
    domain=lambda d: d.with_mask(2),
)


@face(_where)
def where(condition: Any, a: Any, b: Any) -> Any:
    """Elements of `a` where `condition` is true, of `b` elsewhere; all three broadcast.

    The gradient of the branch that was not taken is exactly 0, even where that branch is NaN or
    infinite. (The function *inside* the branch may still make a NaN of its own from a 0
    gradient: give it a harmless input there too, ``where(x > 0, log(where(x > 0, x, 1)), 0)``.)

    Example:
        >>> import microgpt as mg
        >>> x = mg.tensor([-1.0, 2.0])
        >>> mg.where(x > 0, x, 0.0)
        tensor([0., 2.])
    """
    return _where(condition, a, b)


_clip = primitive(
    "clip",
    vjp=(lambda g, y, x, min, max: where(_inside(x, min, max), g, 0.0),),
    reads=("a",),
    doc="x limited to [min, max]; the gradient is 0 outside and 1 inside and on the limits",
    kinks=lambda params: {v: 1.0 for v in params.values() if v is not None},
    accuracy="exact",
    domain=lambda d: d.limited(),
)


def _inside(x: Any, low: Any, high: Any) -> Any:
    if low is None:
        return less_equal(x, high)
    if high is None:
        return greater_equal(x, low)
    return logical_and(greater_equal(x, low), less_equal(x, high))


@face(_clip)
def clip(x: Any, min: float | None = None, max: float | None = None) -> Any:
    """`x` limited to the numbers `min` and `max` (None: no limit on that side).

    Raises:
        InputError: if both are None, or min > max.

    Example:
        >>> import microgpt as mg
        >>> mg.clip(mg.tensor([-3.0, 0.5, 3.0]), -1, 1)
        tensor([-1. ,  0.5,  1. ])
    """
    if min is None and max is None:
        raise InputError("clip needs a limit; got min=None and max=None")
    if min is not None and max is not None and min > max:
        raise InputError(f"clip needs min <= max; got min={min} and max={max}")
    return _clip(x, min=min, max=max)


# ---- comparison and logic --------------------------------------------------------------------


def _predicate(name: str, doc: str, inputs: int = 2) -> Any:
    return primitive(
        name,
        nondifferentiable="true or false",
        arity=inputs,
        elementwise=True,
        broadcasts=inputs == 2,
        doc=doc,
        accuracy="exact",
        domain=lambda d: d.broadcastable(inputs) if inputs > 1 else d.array(),
    )


equal = _predicate("equal", "a = b")
not_equal = _predicate("not_equal", "a ≠ b")
less = _predicate("less", "a < b")
less_equal = _predicate("less_equal", "a ≤ b")
greater = _predicate("greater", "a > b")
greater_equal = _predicate("greater_equal", "a ≥ b")
logical_and = _predicate("logical_and", "a and b")
logical_or = _predicate("logical_or", "a or b")
logical_not = _predicate("logical_not", "not x", inputs=1)
isfinite = _predicate("isfinite", "neither NaN nor infinite", inputs=1)
isnan = _predicate("isnan", "not a number", inputs=1)


def _rounding(name: str, doc: str, jump: float) -> Any:
    return primitive(
        name,
        elementwise=True,
        vjp=(lambda g, y, x: zeros_like(g),),
        reads=("",),
        doc=doc + "; the gradient is 0, where it jumps too",
        kinks={jump: 0.0},
        accuracy="exact",
        jumps=True,
        domain=lambda d: d.array(away_from=(-2, -1.5, -1, -0.5, 0, 0.5, 1, 1.5, 2), margin=0.05),
    )


floor = _rounding("floor", "largest integer ≤ x", 1.0)
ceil = _rounding("ceil", "smallest integer ≥ x", 1.0)
round = _rounding("round", "nearest integer, ties to even", 0.5)
