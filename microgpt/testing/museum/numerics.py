"""Right formulas that computers get wrong: overflow, and the precision of numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

import microgpt as mg
from microgpt.ops import exp
from microgpt.testing.museum import demos
from microgpt.testing.museum.base import CONFORMANCE, Bug, Check, gradcheck, oracle
from microgpt.testing.museum.planting import kernels, rules


def _unshifted(right: Any) -> Any:
    def softmax(x: Any, *, axis: int) -> Any:
        e = np.exp(x)
        return e / e.sum(axis=axis, keepdims=True)

    return softmax


def _ten_bits(x: Any) -> Any:
    """float32 numbers with the last 13 of 23 bits of their fraction rounded away."""
    bits = np.ascontiguousarray(x).view(np.uint32)
    half = np.uint32(1 << 12)
    return ((bits + half) & np.uint32(0xFFFFE000)).view(np.float32).reshape(x.shape)


def _tf32(right: Any) -> Any:
    def matmul(a: Any, b: Any) -> Any:
        if a.dtype == np.float32:
            a, b = _ten_bits(a), _ten_bits(b)
        return right(a, b)

    return matmul


def _quiet_softmax() -> Any:
    with np.errstate(all="ignore"):
        return mg.softmax(mg.tensor([0.0, 1.0, 1000.0]))


def _erf_dtype() -> str:
    x = mg.tensor([0.5, 1.0], requires_grad=True)
    (mg.erf(x) * 2.0).sum().backward()
    return str(x.grad.dtype)  # pyright: ignore[reportOptionalMemberAccess]


def _small_difference() -> float:
    a = mg.tensor([[1.0001, -1.0]])
    return float((a @ mg.ones((2, 1))).item())


BUGS = (
    Bug(
        30,
        "softmax without taking the maximum out",
        wrong="exp(x) / sum(exp(x))",
        right="exp(x - max(x)) / sum(exp(x - max(x)))",
        story=(
            "This is the formula as it stands in the book, and on paper the two are equal. But "
            "exp(89) is beyond float32 and exp(710) beyond float64: infinity divided by infinity "
            "is NaN. Logits of 89 do not occur in the first lesson. They occur after an hour of "
            "training, when the model has become very sure of something, and then everything is "
            "NaN at once. An issue of micrograd is about a softmax written like this."
        ),
        blind=(
            "Inputs between -3 and 3, which most tests draw, are far from overflow. `extremes` "
            "asks for logits of ±1000 and beyond, where values and gradients have to stay finite."
        ),
        plant=kernels(softmax=_unshifted),
        killers=(Check("extremes", "softmax"),),
        missed_by=(gradcheck("softmax"), oracle("softmax")),
        show=demos.value("softmax of (0, 1, 1000)", _quiet_softmax),
        seen_in="karpathy/micrograd#100",
    ),
    Bug(
        31,
        "a gradient that turns into float64",
        wrong="g * exp(-x * x) * (2 / np.sqrt(np.pi))",
        right="g * exp(-x * x) * (2 / math.sqrt(math.pi))",
        story=(
            "np.sqrt returns a NumPy float64, math.sqrt a Python float. Python's numbers adapt to "
            "the array that they meet, NumPy's do not: since NumPy 2 a float32 array times a "
            "float64 number is float64. From this op on backwards everything is computed in twice "
            "the width, and more slowly, until some op refuses to mix the two or a GPU without "
            "float64 stops."
        ),
        blind=(
            "gradcheck works in float64, where nothing changes, and the values are right in any "
            "case. `float32_dtype` runs each op in float32 and looks at the type of what comes "
            "back."
        ),
        plant=rules(erf=lambda own: (
            lambda g, y, x: g * (exp(-(x * x)) * (2 / np.sqrt(np.pi))),)),
        killers=(Check("float32_dtype", "erf"),),
        missed_by=(gradcheck("erf"), oracle("erf")),
        show=demos.value("the dtype of erf's gradient in float32", _erf_dtype),
    ),
    Bug(
        32,
        "matrix products in reduced precision, unasked",
        wrong="round the inputs to 10 bits, multiply, add up in float32",
        right="multiply and add up in float32",
        story=(
            "Graphics cards multiply matrices several times faster if the fractions of the inputs "
            "have 10 bits instead of 23, and libraries have turned this on by default. The dtype "
            "is still float32. Each product is off by up to one part in a thousand. Training "
            "rarely minds; a comparison of two backends, a small difference of large numbers or a "
            "least-squares fit does."
        ),
        blind=(
            "With relative tolerance 1e-3, a usual one for float32, two thirds of the entries "
            "pass, and with 1e-2 nearly all. gradcheck works in float64 and sees nothing. The "
            "conformance kit knows from the arithmetic how far a float32 product may be off: about "
            "10 units in 10⁷ of Σ|terms|, a thousand times less."
        ),
        plant=kernels(matmul=_tf32),
        killers=(Check(CONFORMANCE, "matmul"),),
        missed_by=(gradcheck("matmul"), oracle("matmul")),
        show=demos.value("1.0001 · 1 - 1, as a product of matrices in float32",
                         _small_difference),
    ),
)  # fmt: skip
