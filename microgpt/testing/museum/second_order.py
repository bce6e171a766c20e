"""Right gradients whose own gradients are wrong."""

from __future__ import annotations

import microgpt as mg
from microgpt.ops.elementwise import detach
from microgpt.testing.museum import demos
from microgpt.testing.museum.base import Bug, Check, gradcheck
from microgpt.testing.museum.planting import rules


def _slopes(function: object, x: float) -> list[float]:
    """First and second derivative."""
    first = mg.grad(function)  # type: ignore[arg-type]
    return [float(first(x)), float(mg.grad(first)(x))]


BUGS = (
    Bug(
        40,
        "tanh's gradient computed from a detached output",
        wrong="g * (1 - detach(y) ** 2)",
        right="g * (1 - y ** 2)",
        story=(
            "The rule reads the saved output as a plain number. For the gradient that is all one "
            "needs. For the gradient of the gradient, y itself depends on x, and that dependence "
            "is cut: the second derivative comes out as 0 instead of -2y(1 - y²). Methods that "
            "use curvature, penalties on gradients and learning to learn then work with a flat "
            "world. MyGrad answers the question for second derivatives with a plain no, which is "
            "better than this."
        ),
        blind=(
            "Everything of first order is exact. `gradcheck_twice` differentiates the "
            "gradient itself and compares: SECOND_ORDER. Symmetry of the Hessian does not help "
            "for a single input: 0 is symmetric."
        ),
        plant=rules(tanh=lambda own: (lambda g, y, x: g * (1 - detach(y) * detach(y)),)),
        killers=(Check("gradcheck_twice", "tanh", ("SECOND_ORDER",)),),
        missed_by=(gradcheck("tanh"), Check("hessian_symmetry", "tanh")),
        show=demos.value("first and second derivative of tanh at 0.5",
                         lambda: _slopes(mg.tanh, 0.5)),
        seen_in="a relative: rsokl/MyGrad#442",
    ),
    Bug(
        41,
        "a quotient's gradient with a constant in it",
        wrong="-g * detach(y) / b",
        right="-g * y / b",
        story=(
            "The derivative of a/b by b is -y/b, and y was saved by the forward pass as an array, "
            "outside of any graph. Its value is right. But y contains a and b, and the second "
            "derivatives by b, and by a and b together, need that. One of the mixed ones is "
            "right, the other is not, as they come from different rules."
        ),
        blind=(
            "First order is exact. `gradcheck_twice` says SECOND_ORDER; `hessian_symmetry` finds "
            "that d²/da db and d²/db da are two different numbers, without finite differences."
        ),
        plant=rules(divide=lambda own: (own[0], lambda g, y, a, b: -g * detach(y) / b)),
        killers=(Check("gradcheck_twice", "divide", ("SECOND_ORDER",)),
                 Check("hessian_symmetry", "divide")),
        missed_by=(gradcheck("divide"),),
        show=demos.value("first and second derivative of 1/x at 2",
                         lambda: _slopes(lambda x: 1.0 / x, 2.0)),
    ),
)  # fmt: skip
