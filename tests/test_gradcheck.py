"""The checker is checked: planted mistakes must fail, with the right words; right rules pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt.ops import TABLE
from microgpt.testing import GradcheckError, check_op, gradcheck

X = np.array([[0.3, -1.2, 0.8], [2.0, -0.4, 1.1]])


def wrong(name: str, compute: Any, rule: Any) -> Any:
    """An op with a planted mistake; it does not stay in the table."""

    def function(x: Any) -> Any:
        return compute(x)

    function.__name__ = f"planted_{name}"
    made = mg.primitive(vjp=rule)(function)
    TABLE.pop(f"planted_{name}")
    return made


MISTAKES = {
    "sign": (lambda x: x * x, lambda g, y, x: (-2 * g * x,), "VALUE", r"-1 × numeric.*sign error"),
    "factor": (lambda x: x * x, lambda g, y, x: (g * x,), "VALUE", r"0\.5 × numeric"),
    "small factor": (
        lambda x: x * x,
        lambda g, y, x: (2.01 * g * x,),
        "VALUE",
        r"1\.005 × numeric",
    ),
    "ignores g": (lambda x: x * 3.0, lambda g, y, x: (x * 0 + 3.0,), "VALUE", "wrong"),
    "zero": (lambda x: x * x, lambda g, y, x: (x * 0,), "VALUE", "analytic is 0"),
    "clipped": (lambda x: x * 9.0, lambda g, y, x: (mg.clip(g * 9, -9.0, 9.0),), "VALUE", "wrong"),
    "one element": (
        lambda x: x * x,
        lambda g, y, x: (2 * g * x * np.where(X == 2.0, 1.001, 1.0),),
        "VALUE",
        r"at \[1, 0\] \(1 of",
    ),
    "nan": (lambda x: x * x, lambda g, y, x: (g * np.nan,), "NONFINITE", "not finite"),
    "float32": (
        lambda x: x * x,
        lambda g, y, x: (2 * mg.astype(g * x, "float32"),),
        "DTYPE",
        "float32",
    ),
    "second order": (
        lambda x: x * x * x,
        lambda g, y, x: (g * 3 * mg.ops.detach(x) ** 2,),
        "SECOND_ORDER",
        "analytic is 0",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_planted_mistakes_are_found_and_described(name: str) -> None:
    compute, rule, code, words = MISTAKES[name]
    with pytest.raises(GradcheckError, match=rf"(?s)\[{code}\].*{words}") as caught:
        gradcheck(wrong(name, compute, rule), X, order=2)
    report: Any = caught.value.report
    assert not report.ok and report.failures[0].code == code


def test_a_wrong_shape_is_found_before_anything_else() -> None:
    bad = wrong("shape", lambda x: x * 1.0, lambda g, y, x: (g[:1],))
    with pytest.raises((GradcheckError, mg.errors.ShapeError), match="shape"):
        gradcheck(bad, X)


def test_a_missing_normaliser_is_found() -> None:
    # A sum of the outputs would not see it: the true gradient of Σ softmax is 0.
    bad = wrong("softmax", lambda x: mg.softmax(x, axis=-1), lambda g, y, x: (x * 0,))
    with pytest.raises(GradcheckError, match="VALUE"):
        gradcheck(bad, X)


def test_a_transposed_gradient_is_named() -> None:
    square = X[:, :2]
    bad = wrong(
        "transposed", lambda x: x * x, lambda g, y, x: (mg.permute_dims(2 * g * x, (1, 0)),)
    )
    with pytest.raises(GradcheckError, match="transpose|wrong"):
        gradcheck(bad, square)


def test_kinks_are_inconclusive_not_passed() -> None:
    report = gradcheck(mg.relu, np.array([1e-4, 1.0]), raises=False)
    assert not report.ok


@pytest.mark.parametrize(
    "function",
    [
        mg.tanh,
        lambda x: mg.softmax(x, axis=0) @ np.ones(3),
        lambda x: mg.logsumexp(x * 30),
        lambda x: (x[1:, ::2] * x[0, 1]).sum(),
        lambda x: mg.exp(-(x**2)) / (1 + mg.abs(x)),
        lambda x: x * 0.0,
        lambda x: mg.sum(x),
    ],
)
def test_right_functions_pass(function: Any) -> None:
    report = gradcheck(function, X, order=2)
    assert report.ok and report.entries > 0


def test_a_large_input_is_sampled() -> None:
    big = np.linspace(-1, 1, 3000).reshape(30, 100)
    report = gradcheck(lambda x: mg.sin(x) * 2, big)
    assert report.ok and report.entries >= 3 * 24
    w = np.where(np.arange(3000).reshape(30, 100) == 2999, 1.001, 1.0)
    bad = wrong("last", lambda x: x * x, lambda g, y, x: (2 * g * x * w,))
    with pytest.raises(GradcheckError, match=r"\[29, 99\]"):
        gradcheck(bad, big)


def test_scalars_and_plain_numbers() -> None:
    assert gradcheck(lambda a, b: a * mg.sin(b) + a**b, 1.5, 0.7, order=2).ok
    with pytest.raises(GradcheckError, match="VALUE"):
        gradcheck(wrong("scalar", lambda x: x * x, lambda g, y, x: (g * x,)), 1.5)


def test_several_inputs_some_of_them_integers() -> None:
    logits, classes = X, np.array([2, 0])
    assert gradcheck(lambda x, t: mg.cross_entropy(x, mg.tensor(t)), logits, classes, order=2).ok
    with pytest.raises(GradcheckError, match="input 1"):
        gradcheck(lambda a, b: a * mg.ops.detach(b), mg.tensor(X), mg.tensor(X))


def test_what_cannot_be_checked_is_said() -> None:
    with pytest.raises(mg.errors.InputTypeError, match="float64"):
        gradcheck(mg.tanh, mg.ones(2))
    with pytest.raises(mg.errors.InputError, match="floats"):
        gradcheck(mg.tanh, np.array([1, 2]))


def test_check_op_draws_for_an_op_of_ones_own() -> None:
    good = mg.primitive(vjp=lambda g, y, x: (3 * x**2 * g,))

    def cubed(x: Any) -> Any:
        """x³"""
        return x * x * x

    try:
        check_op(good(cubed), examples=10)
        TABLE.pop("cubed")
        with pytest.raises(GradcheckError):
            check_op(mg.primitive(vjp=lambda g, y, x: (2 * x**2 * g,))(cubed), examples=10)
    finally:
        TABLE.pop("cubed", None)
    with pytest.raises(mg.errors.InputTypeError, match="gradcheck"):
        check_op(lambda x: x)


def test_an_op_without_a_rule_is_refused_at_declaration() -> None:
    with pytest.raises(mg.errors.PluginError, match="nondifferentiable"):
        mg.primitive("no_rule")
    with pytest.raises(mg.errors.PluginError, match="exists already"):
        mg.primitive("add", vjp=(lambda g, y, x: g,))
    with pytest.raises(mg.errors.PluginError, match="reads"):
        mg.primitive("other", vjp=(lambda g, y, a, b: g, lambda g, y, a, b: g), reads=("a",))
