"""The OpenCL C of each elementwise op, for vectors and for single elements."""

from __future__ import annotations

import math
from collections.abc import Callable

C_TYPES = {
    "f": "float", "d": "double", "?": "uchar", "b": "char", "B": "uchar", "h": "short",
    "H": "ushort", "i": "int", "I": "uint", "l": "long", "L": "ulong", "q": "long", "Q": "ulong",
}  # fmt: skip
"""The C type of each NumPy type, by its character. bool is stored as a byte, 0 or 1."""

_SIGNED = {
    "char": "char", "uchar": "char", "short": "short", "ushort": "short", "int": "int",
    "uint": "int", "long": "long", "ulong": "long", "float": "int", "double": "long",
}  # fmt: skip


class _Kind:
    """A type in a kernel, single or as a vector."""

    def __init__(self, char: str, width: int) -> None:
        self.char = char
        self.base = C_TYPES[char]
        self.width = width
        self.lanes = str(width) if width > 1 else ""
        self.name = self.base + self.lanes
        self.mask = _SIGNED[self.base] + self.lanes
        self.floating = char in "fd"
        self.either = "|" if width > 1 else "||"

    def number(self, value: float) -> str:
        """`value` as a constant of this type."""
        if not self.floating:
            return f"({self.name})({int(value)})"
        digits = repr(float(value)) + ("f" if self.char == "f" else "")
        return f"({self.name})({digits})"

    def choose(self, condition: str, a: str, b: str) -> str:
        """`a` where a comparison of this type holds, else `b`.

        select() would do the same for vectors, but in PoCL it is a function, which is called.
        """
        return f"(({condition}) ? {a} : {b})"

    def truth(self, condition: str) -> str:
        """A comparison of this type, as bytes 0 and 1."""
        if self.width == 1:
            return f"(uchar)(({condition}) ? 1 : 0)"
        return f"convert_uchar{self.width}(({condition}) & ({self.mask})(1))"

    def nonzero(self, x: str) -> str:
        """Where `x`, of this type, is not 0."""
        return f"({x} != {self.number(0)})"


Text = Callable[..., str]


def _named(function: str) -> Text:
    return lambda t, *names: f"{function}({', '.join(names)})"


def _compared(sign: str) -> Text:
    return lambda t, a, b: t.truth(f"{a} {sign} {b}")


def _larger(t: _Kind, a: str, b: str) -> str:
    if not t.floating:
        return f"max({a}, {b})"
    return t.choose(f"({a} >= {b}) {t.either} ({a} != {a})", a, b)


def _smaller(t: _Kind, a: str, b: str) -> str:
    if not t.floating:
        return f"min({a}, {b})"
    return t.choose(f"({a} <= {b}) {t.either} ({a} != {a})", a, b)


def _absolute(t: _Kind, x: str) -> str:
    if t.floating:
        return f"fabs({x})"
    return x if t.char in "?BHILQ" else f"convert_{t.name}(abs({x}))"


def _sign(t: _Kind, x: str) -> str:
    zero, one = t.number(0), t.number(1)
    if t.char in "?BHILQ":
        return t.choose(f"{x} > {zero}", one, zero)
    # 0 and NaN are their own signs.
    return t.choose(f"{x} > {zero}", one, t.choose(f"{x} < {zero}", t.number(-1), x))


def _whole(function: str) -> Text:
    return lambda t, x: f"{function}({x})" if t.floating else x


def _sigmoid(t: _Kind, x: str) -> str:
    return f"{t.number(1)} / ({t.number(1)} + exp(-{x}))"


def _softplus(t: _Kind, x: str) -> str:
    return f"fmax({x}, {t.number(0)}) + log1p(exp(-fabs({x})))"


_LINEAR = -2 * math.sqrt(2 / math.pi)
_CUBIC = 0.044715 * _LINEAR


def _gelu(t: _Kind, x: str) -> str:
    """x/(1 + e⁻²ᵘ) with -2u = x·(LINEAR + CUBIC·x²): ½(1 + tanh u) is 1/(1 + e⁻²ᵘ)."""
    power = f"{x} * ({t.number(_LINEAR)} + {t.number(_CUBIC)} * {x} * {x})"
    return f"{x} / ({t.number(1)} + exp({power}))"


def _gelu_slope(t: _Kind, near: str, s: str) -> str:
    """s + x·s·(1 - s)·2u' for s = 1/(1 + e⁻²ᵘ); `near` is x, limited to where s is not 0 or 1."""
    slope = f"({t.number(-_LINEAR)} - {t.number(3 * _CUBIC)} * {near} * {near})"
    return f"{s} + {near} * {s} * ({t.number(1)} - {s}) * {slope}"


def helper(function: str, char: str, width: int) -> str:
    """A function of vectors that computes some arguments one by one.

    PoCL 3 is wrong in all lanes of a vector as soon as one is large (sine and the like), or zero,
    infinite or denormal (powers of float64).
    """
    t = _Kind(char, width)
    if function == "pow":
        return f"""
static {t.name} careful_pow({t.name} x, {t.name} y)
{{
    {t.base} bases[{width}], powers[{width}];
    vstore{width}(x, 0, bases);
    vstore{width}(y, 0, powers);
    for (int k = 0; k < {width}; k++) bases[k] = pow(bases[k], powers[k]);
    return vload{width}(0, bases);
}}
"""
    limit = t.number(_SAFE)
    return f"""
static {t.name} careful_{function}({t.name} x)
{{
    const {t.mask} large = !(fabs(x) < {limit});
    {t.name} y = {function}(select(x, {t.number(0)}, large));
    if (any(large)) {{
        {t.base} arguments[{width}], values[{width}];
        vstore{width}(x, 0, arguments);
        vstore{width}(y, 0, values);
        for (int k = 0; k < {width}; k++)
            if (!(fabs(arguments[k]) < ({t.base}){_SAFE})) values[k] = {function}(arguments[k]);
        y = vload{width}(0, values);
    }}
    return y;
}}
"""


CAREFUL = {("sin", "f"), ("cos", "f"), ("tan", "f"), ("sin", "d"), ("cos", "d"), ("tan", "d"),
           ("pow", "d")}  # fmt: skip
"""Functions, and types, whose vectors need a helper."""

_SAFE = 10000


def _careful(function: str) -> Text:
    def call(t: _Kind, *names: str) -> str:
        careful = t.width > 1 and (function, t.char) in CAREFUL
        return f"{'careful_' if careful else ''}{function}({', '.join(names)})"

    return call


TEXTS: dict[str, Text] = {
    "identity": lambda t, x: x,
    "fill": lambda t, x: x,
    "add": lambda t, a, b: f"{a} | {b}" if t.char == "?" else f"{a} + {b}",
    "subtract": lambda t, a, b: f"{a} - {b}",
    "multiply": lambda t, a, b: f"{a} * {b}",
    "divide": lambda t, a, b: f"{a} / {b}",
    "negative": lambda t, x: f"-{x}",
    "abs": _absolute,
    "sign": _sign,
    "square": lambda t, x: f"{x} * {x}",
    "add_scaled": lambda t, a, b, scale: f"{a} + {b} * {scale}",
    **{f: _named(f) for f in ("exp", "expm1", "log", "log1p", "sqrt", "tanh", "erf")},
    **{f: _careful(f) for f in ("sin", "cos", "tan", "pow")},
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "relu": lambda t, x: _larger(t, x, t.number(0)),
    "maximum": _larger,
    "minimum": _smaller,
    "clip_low": lambda t, x, low: t.choose(f"{x} < {low}", low, x),
    "clip_high": lambda t, x, high: t.choose(f"{x} > {high}", high, x),
    "equal": _compared("=="),
    "not_equal": _compared("!="),
    "less": _compared("<"),
    "less_equal": _compared("<="),
    "greater": _compared(">"),
    "greater_equal": _compared(">="),
    "isnan": lambda t, x: t.truth(f"{x} != {x}"),
    "isfinite": lambda t, x: t.truth(f"({x} - {x}) == {t.number(0)}"),
    "logical_and": lambda t, a, b: t.truth(f"{t.nonzero(a)} & {t.nonzero(b)}"),
    "logical_or": lambda t, a, b: t.truth(f"{t.nonzero(a)} | {t.nonzero(b)}"),
    "logical_not": lambda t, x: t.truth(f"{x} == {t.number(0)}"),
    "floor": _whole("floor"),
    "ceil": _whole("ceil"),
    "round": _whole("rint"),
    "gelu": _gelu,
    "gelu_share": lambda t, x: (
        f"{t.number(1)} / ({t.number(1)} + exp({x} * ({t.number(_LINEAR)} + {t.number(_CUBIC)}"
        f" * {x} * {x})))"
    ),
    "gelu_slope": _gelu_slope,
    "running_mean": lambda t, m, x, a, b: f"{m} * {a} + {x} * {b}",
    "running_square": lambda t, m, x, a, b: f"{m} * {a} + {x} * {x} * {b}",
    "adam_step": lambda t, p, m, s, lr, c, eps: f"{p} - {m} / (sqrt({s}) * {c} + {eps}) * {lr}",
}
"""For the ops whose arguments all have one type; `text` knows the others."""


def text(op: str, char: str, names: list[str], chars: list[str], width: int) -> str:
    """The expression that computes `op`, with results of type `char`, of variables."""
    kind = _Kind(char, width)
    if op == "astype":
        (x,), source = names, _Kind(chars[0], width)
        if char == "?":
            return source.truth(source.nonzero(x))
        return x if source.name == kind.name else f"convert_{kind.name}({x})"
    if op == "where":
        c, a, b = names
        if width == 1:
            return f"({c} ? {a} : {b})"
        return f"((convert_{kind.mask}({c}) != ({kind.mask})(0)) ? {a} : {b})"
    if char == "?" and op not in ("identity", "fill", "add", "multiply"):
        return TEXTS[op](_Kind(chars[0], width), *names)
    return TEXTS[op](kind, *names)
