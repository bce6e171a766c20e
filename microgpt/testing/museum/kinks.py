"""Points where a function has no derivative: kinks, ties, and the edge of a domain."""

from __future__ import annotations

from typing import Any

import microgpt as mg
from microgpt.ops import astype, equal, greater, reshape, where
from microgpt.ops.reduction import spread
from microgpt.testing.museum import demos
from microgpt.testing.museum.base import Bug, Check, gradcheck, oracle
from microgpt.testing.museum.planting import rules


def _everyone_wins(own: Any) -> Any:
    def rule(g: Any, y: Any, x: Any, axis: Any, keepdims: bool) -> Any:
        kept = y if keepdims else reshape(
            y, tuple([1 if i in axis else n for i, n in enumerate(x.shape)]))  # fmt: skip
        return spread(g, x, axis, keepdims) * astype(equal(x, kept), g.dtype)

    return (rule,)


BUGS = (
    Bug(
        25,
        "the slope of relu at 0 is 1",
        wrong="where(x >= 0, g, 0)",
        right="where(x > 0, g, 0)",
        story=(
            "At 0 any slope from 0 to 1 would do, so neither is wrong in itself. But the "
            "documentation says 0, other libraries take 0, and 0 is common: everything that comes "
            "out of another relu, all padding, every freshly zeroed bias. Two backends of one "
            "library that differ here train two networks."
        ),
        blind=(
            "A difference quotient at 0 gives ½, so checks keep away from the kink, and a check "
            "that only asks for a value between both slopes passes as well. `declared_kinks` "
            "compares with the slope that the op declares."
        ),
        plant=rules(relu=lambda own: (lambda g, y, x: where(x >= 0, g, 0.0),)),
        killers=(Check("declared_kinks", "relu"),),
        missed_by=(gradcheck("relu"), Check("ties", "relu")),
        show=demos.gradient("the slope of relu at -1, 0 and 1 (times 1, -2, 3)", mg.relu,
                            [-1.0, 0.0, 1.0]),
    ),
    Bug(
        26,
        "all that tie get the whole gradient",
        wrong="g * (x == y)",
        right="g * (x == y) / number of ties",
        story=(
            "The gradient of a maximum goes to the element that is the largest. The mask x == y "
            "finds it, and where three are equally large it finds three, each of which gets the "
            "whole gradient. Moving all three by a little moves the maximum by that little, but "
            "this gradient says three times as much. Ties are no accident: pixels of a white area, "
            "outputs of a relu, padding."
        ),
        blind=(
            "Random floats never tie, so random tests pass for ever. `ties` makes equal elements "
            "and asks that their shares add up to the slope of moving together: TIE."
        ),
        plant=rules(max=_everyone_wins),
        killers=(Check("ties", "max"),),
        missed_by=(gradcheck("max"),),
        show=demos.gradient("the gradient of the maximum of 1, 3, 3, 3", mg.max,
                            [1.0, 3.0, 3.0, 3.0]),
    ),
    Bug(
        27,
        "the slope of |x| at 0 is 1",
        wrong="where(x >= 0, g, -g)",
        right="g * sign(x)",
        story=(
            "|x| has slope -1 on the left and 1 on the right, and 0 in the middle is what the sign "
            "says. A comparison with >= decides for the right. A penalty Σ|w|, which is there to "
            "keep weights at 0, then pushes every weight that is exactly 0 away from it, and all "
            "to the same side. They come back in the next step, and so they tremble for ever."
        ),
        blind=(
            "1 lies between the slopes on both sides, so no difference quotient can object. Only "
            "the comparison with what is declared does: `declared_kinks`."
        ),
        plant=rules(abs=lambda own: (lambda g, y, x: where(x >= 0, g, -g),)),
        killers=(Check("declared_kinks", "abs"),),
        missed_by=(gradcheck("abs"), Check("ties", "abs")),
        show=demos.descent("gradient descent on Σ|w|, from w = 0", lambda x: mg.abs(x).sum(),
                           [0.0, 0.0, 0.0], 0.01, 20),
    ),
    Bug(
        28,
        "on a tie nobody gets anything",
        wrong="where(a > b, g, 0), where(b > a, g, 0)",
        right="… and half of g each where a = b",
        story=(
            "Each rule is careful and asks whether its own input is strictly larger. Where they "
            "are equal both say no, and the gradient vanishes. maximum(x, 0) at x = 0 learns "
            "nothing, which is allowed there; maximum(x, x), which is x, learns nothing either, "
            "which is not. Pooling written with maximum loses its gradient over every plain white "
            "area."
        ),
        blind=(
            "Random inputs never tie, and comparing the op with itself shows nothing: it is "
            "consistent. `ties` draws equal elements, moves both together, and finds that the "
            "shares add up to 0 where 1 is required; `declared_kinks` wants equal shares."
        ),
        plant=rules(maximum=lambda own: (
            lambda g, y, a, b: where(greater(a, b), g, 0.0),
            lambda g, y, a, b: where(greater(b, a), g, 0.0))),
        killers=(Check("ties", "maximum"), Check("declared_kinks", "maximum")),
        missed_by=(gradcheck("maximum"), Check("same_input_twice", "maximum")),
        show=demos.gradient("the gradient of maximum(x, x) at 1 and 2 (times 1, -2)",
                            lambda x: mg.maximum(x, x), [1.0, 2.0]),
    ),
    Bug(
        29,
        "a power's slope by dividing by its base",
        wrong="g * b * y / a",
        right="g * b * a ** (b - 1)",
        story=(
            "aᵇ⁻¹ is y / a, and y is on hand: a division is cheaper than a power. At a = 0 it is "
            "0/0, NaN, although x² has the slope 0 there as everybody knows. One pixel that is "
            "black, one error that is exactly 0, and the whole network is NaN a step later."
        ),
        blind=(
            "Tests of powers like to keep away from 0, because of negative exponents; there the "
            "rule is exact, in first and second order. The domain of this op has 0 in it: "
            "gradcheck says NONFINITE, and `extremes` tries zeros of both signs."
        ),
        plant=rules(pow=lambda own: (lambda g, y, a, b: g * b * y / a, own[1])),
        killers=(gradcheck("pow", "NONFINITE", examples=200), Check("extremes", "pow")),
        missed_by=(oracle("pow"),),
        show=demos.gradient("the slope of x² at 0 and 1, x² written as a power (times 1, -2)",
                            lambda x: x ** 2, [0.0, 1.0]),
    ),
)  # fmt: skip
