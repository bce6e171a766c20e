"""Wrong numbers: a formula that is nearly right."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import microgpt as mg
from microgpt.ops.reduction import spread
from microgpt.ops.table import TABLE
from microgpt.testing.museum import demos
from microgpt.testing.museum.base import Bug, Check, gradcheck, oracle
from microgpt.testing.museum.planting import kernels, rules


def _mean_of_all(own: Any) -> Any:
    def rule(g: Any, y: Any, x: Any, axis: Any, keepdims: bool) -> Any:
        return spread(g, x, axis, keepdims) * (1.0 / max(math.prod(x.shape), 1))

    return (rule,)


def _gelu(right: Any) -> Any:
    return lambda x, *, approximate: TABLE["gelu"].body(x, approximate=approximate)  # type: ignore[misc]


def _gelu_vjp(right: Any) -> Any:
    def vjp(g: Any, y: Any, x: Any, *, needs: Any, approximate: str) -> tuple[Any]:
        if approximate == "none":
            density = np.exp(-x * x / 2) * (1 / math.sqrt(2 * math.pi))
            return (g * (0.5 * (1 + mg.erf(x * math.sqrt(0.5))) + x * density),)
        c = 2 * math.sqrt(2 / math.pi)
        s = mg.sigmoid(c * (x + 0.044715 * x * x * x))
        return (g * (s + x * s * (1 - s) * c * (1 + 2 * 0.044715 * x * x)),)  # 3 is right

    return vjp


def _two_per_cent(right: Any) -> Any:
    def vjp(*args: Any, **kwargs: Any) -> tuple[Any]:
        (grad,) = right(*args, **kwargs)
        if grad.size:
            grad.reshape(-1)[0] *= 1.02
        return (grad,)

    return vjp


def _without_tail(right: Any) -> Any:
    def tanh(x: Any) -> Any:
        if x.size <= 64:
            return right(x)
        whole = x.size // 64 * 64
        y = np.zeros(x.shape, x.dtype)
        y.reshape(-1)[:whole] = right(x.reshape(-1)[:whole])
        return y

    return tanh


BUGS = (
    Bug(
        1,
        "the slope of tanh without the square",
        wrong="g * (1 - y)",
        right="g * (1 - y * y)",
        story=(
            "The derivative of tanh is 1 - tanh². Somebody typed 1 - y and saw that it is 1 at 0 "
            "and 0 far to the right, as it should be. On the left, where y is near -1, it is near "
            "2 instead of 0: neurons that ought to be saturated are pushed hardest of all. "
            "Networks still learn, a little worse, and the blame goes to the learning rate."
        ),
        blind=(
            "A training that gets better proves little, and a test at x = 0 proves nothing. Any "
            "comparison with a difference quotient at a random point finds it: gradcheck says "
            "VALUE, with both numbers."
        ),
        plant=rules(tanh=lambda own: (lambda g, y, x: g * (1 - y),)),
        killers=(gradcheck("tanh", "VALUE"),),
        missed_by=(Check("hessian_symmetry", "tanh"), oracle("tanh")),
        show=demos.moons("a network with tanh learns to tell two crescents apart", mg.tanh),
    ),
    Bug(
        2,
        "the sign of the denominator's gradient",
        wrong="g * y / b",
        right="-g * y / b",
        story=(
            "The derivative of a/b by b is -a/b², in terms of the result -y/b. The minus is lost "
            "when the rule is copied from the one by a, two lines above. Whatever is trained "
            "through a denominator walks uphill; what is trained through a numerator does well. "
            "In a model where both occur, such as a normalisation, the two fight, and the loss "
            "stops halfway."
        ),
        blind=(
            "A check that differentiates by the first argument only passes. gradcheck goes through "
            "all arguments, fits analytic ≈ c · numeric to the wrong elements, finds c = -1 and "
            "asks: a sign error?"
        ),
        plant=rules(divide=lambda own: (own[0], lambda g, y, a, b: g * y / b)),
        killers=(gradcheck("divide", "VALUE"),),
        missed_by=(oracle("divide"),),
        show=demos.descent(
            "gradient descent on (6/x - 3)², from x = 1.5",
            lambda x: (6.0 / x - 3.0) ** 2, 1.5, 0.05,
        ),
    ),
    Bug(
        3,
        "n·xⁿ for n·xⁿ⁻¹",
        wrong="g * b * y",
        right="g * b * a ** (b - 1)",
        story=(
            "To save a power, the rule uses the output: y is aᵇ, which is on hand. But the "
            "exponent has to go down by one. At a = 1 both are equal, and 1 is where people try "
            "things. Elsewhere the slope is off by the factor a: too large above 1, too small "
            "below it."
        ),
        blind=(
            "A test at x = 1 is blind. gradcheck draws its points from the whole domain of the op "
            "and says VALUE."
        ),
        plant=rules(pow=lambda own: (lambda g, y, a, b: g * b * y, own[1])),
        killers=(gradcheck("pow", "VALUE"),),
        missed_by=(Check("adjoint", "pow"),),
        show=demos.gradient("the derivative of x³ at 1, 2 and 3 (times 1, -2, 3)",
                            lambda x: x**3.0, [1.0, 2.0, 3.0]),
    ),
    Bug(
        4,
        "a 2 for a 3 inside GELU's gradient",
        wrong="1 + 2 * 0.044715 * x * x",
        right="1 + 3 * 0.044715 * x * x",
        story=(
            "GPT-2's GELU has x + 0.044715·x³ inside a tanh. A fast kernel brings its own "
            "gradient, worked out on paper, and 3x² became 2x². The term is small: at x = 1 the "
            "slope is off by about one part in a hundred, near 0 by nothing. The loss curve with "
            "the bug cannot be told from the one without it by eye."
        ),
        blind=(
            "A tolerance of 1e-2, absolute and relative, lets it pass nearly everywhere, and so "
            "does any training. gradcheck's tolerance follows from the error of the difference "
            "quotient, here about 1e-9: VALUE."
        ),
        plant=kernels(gelu=_gelu, gelu_vjp=_gelu_vjp),
        killers=(gradcheck("gelu", "VALUE"), Check("fused_equals_body", "gelu")),
        missed_by=(oracle("gelu"),),
        show=demos.gradient("the slope of GELU at -1, 1 and 2 (times 1, -2, 3)",
                            lambda x: mg.gelu(x, approximate="tanh"), [-1.0, 1.0, 2.0]),
    ),
    Bug(
        5,
        "half a per cent too much",
        wrong="g * (1 - y * y) * 1.005",
        right="g * (1 - y * y)",
        story=(
            "No one writes this on purpose; a polynomial that approximates a function, a table "
            "with too few entries or a mixed-up constant does. Every slope of tanh is 0.5 % too "
            "large. As a network gets trained with some learning rate or other, half a per cent of "
            "it is not to be seen in any curve. What suffers is whatever compares: methods of "
            "second order, two backends, a published result."
        ),
        blind=(
            "Checks with a relative tolerance of 1e-2 pass by construction. A check has to be as "
            "precise as its difference quotient allows; gradcheck says VALUE and finds the "
            "pattern: analytic ≈ 1.005 × numeric."
        ),
        plant=rules(tanh=lambda own: (lambda g, y, x: g * (1 - y * y) * 1.005,)),
        killers=(gradcheck("tanh", "VALUE"),),
        missed_by=(Check("adjoint", "tanh"), Check("hessian_symmetry", "tanh")),
        show=demos.gradient("the slope of tanh at 0.5 and 1 (times 1, -2)", mg.tanh, [0.5, 1.0]),
    ),
    Bug(
        6,
        "the mean along an axis, divided by everything",
        wrong="spread(g) / x.size",
        right="spread(g) / (number of elements along the axis)",
        story=(
            "The mean's gradient is 1/n for each element, and n is taken to be the size of the "
            "array. For a loss, which is the mean of everything, that is right, and a loss is "
            "where a mean is first used. Along one axis of a matrix it is too small by the length "
            "of the other. Layers that average (pooling, normalisation) then hardly send anything "
            "back."
        ),
        blind=(
            "Tests with mean() of everything pass. The domain of the op draws axes: VALUE, "
            "with a constant factor as the pattern."
        ),
        plant=rules(mean=_mean_of_all),
        killers=(gradcheck("mean", "VALUE"),),
        missed_by=(Check("adjoint", "mean"),),
        show=demos.descent("gradient descent on Σ (row means - 1)² of a matrix (4, 3)",
                           lambda x: ((mg.mean(x, axis=1) - 1.0) ** 2).sum(),
                           np.arange(12.0).reshape(4, 3) / 4, 1.0),
    ),
    Bug(
        7,
        "one element of softmax's gradient, by two per cent",
        wrong="grad[0, 0] *= 1.02   (an index that is off somewhere else)",
        right="grad",
        story=(
            "A kernel treats the first element apart, and not quite right: a border that is read "
            "twice, an accumulator with a leftover in it. One number of many is two per cent "
            "off. In an array of a thousand that is nothing in any norm."
        ),
        blind=(
            "Checks that look at one random element find it once in n tries; checks that project "
            "on random directions see it thinned out by all the others. gradcheck compares the "
            "whole Jacobian where that is small, and where it is large the corners too: VALUE, at "
            "[0, 0], 1 of n elements wrong."
        ),
        plant=kernels(softmax_vjp=_two_per_cent),
        killers=(gradcheck("softmax", "VALUE"), Check("fused_equals_body", "softmax")),
        missed_by=(oracle("softmax"),),
        show=demos.gradient("the gradient of softmax at (1, 2, 0)", mg.softmax, [1.0, 2.0, 0.0]),
    ),
    Bug(
        8,
        "the tail after whole blocks of 64",
        wrong="for block in range(n // 64)",
        right="for block in range(ceil(n / 64))",
        story=(
            "A kernel works on blocks of 64 numbers, because vectors or work-groups have that "
            "size, and what is left over at the end is forgotten. Small arrays take another path, "
            "powers of two have no rest: everything one tries by hand is right. With a batch of "
            "300 and 24 neurons the last 32 activations are 0."
        ),
        blind=(
            "Tests with small arrays never get there: not even a thousand random shapes with sides "
            "up to 4. `long_sizes` crosses 63/64/65 and 255/256/257 on purpose, because these are "
            "where kernels change their path."
        ),
        plant=kernels(tanh=_without_tail),
        killers=(Check("long_sizes", "tanh", examples=200),),
        missed_by=(gradcheck("tanh"), oracle("tanh")),
        show=demos.value("how many of 100 values of tanh(1) are right",
                         lambda: float((mg.tanh(mg.ones(100)) > 0.7).sum().item())),
    ),
)  # fmt: skip
