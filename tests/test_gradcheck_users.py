"""gradcheck as strangers use it: odd scales and points, small mistakes, rules that break."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt.testing import GradcheckError, GradReport, gradcheck
from microgpt.testing.numeric import slope
from tests.planting import half, op, square

X = np.array([[0.3, -1.2, 0.8], [2.0, -0.4, 1.1]])
POSITIVE = np.abs(X) + 0.1
SCALES = [1e-8, 1e-6, 1e-4, 1e-2, 1e2, 1e4, 1e6, 1e8]


def code(report: GradReport) -> str:
    return "" if report.ok else report.failures[0].code


# ---- right functions pass ----------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize(
    "function",
    [
        lambda x: x**3,
        lambda x: 1 / x,
        mg.log,
        mg.sqrt,
        mg.softmax,
        lambda x: mg.sqrt(mg.sum(x * x)),
        lambda x: mg.concat([x, mg.exp(-x)], axis=0),
    ],
)
def test_inputs_of_any_size(function: Any, scale: float) -> None:
    report = gradcheck(function, POSITIVE * scale, order=2, raises=False)
    assert report.ok, report


@pytest.mark.parametrize("scale", [1e-15, *SCALES, 1e12])
def test_functions_of_any_steepness_and_size(scale: float) -> None:
    for function in (
        lambda x: mg.tanh(x) * scale,
        lambda x: mg.tanh(x * scale) / scale,
        lambda x: x + scale,
        lambda x: mg.concat([x * scale, mg.sin(x)], axis=0),
    ):
        report = gradcheck(function, X / max(1.0, scale), raises=False)
        assert report.ok, report


@pytest.mark.parametrize("away", [1e-3, 1e-5, 1e-6, 1e-7, 1e-8, 1e-10, 1e-12, 1e-300])
def test_however_near_a_kink(away: float) -> None:
    for sign in (1, -1):
        assert gradcheck(mg.relu, np.array([sign * away, 1.0])).ok
        assert gradcheck(mg.abs, np.array([sign * away, 1.0])).ok
    assert gradcheck(mg.max, np.array([1.0, 1.0 + away, 0.0])).ok
    assert gradcheck(lambda x: mg.clip(x, 0.0, 1.0), np.array([away, 1 - away])).ok
    # And so near one it is not taken for the kink itself, where any slope between would do.
    if away > 1e-12:
        wrong = op(mg.relu, lambda g, y, x: (g * mg.where(x > 0, 1.0, 0.5),))
        with pytest.raises(GradcheckError, match="VALUE"):
            gradcheck(wrong, np.array([-away, 1.0]))


def test_the_edge_of_the_domain() -> None:
    assert gradcheck(mg.log, np.array([1e-5, 1e-12, 1e-100])).ok
    assert gradcheck(mg.sqrt, np.array([1e-20])).ok
    assert gradcheck(mg.log1p, np.array([-1 + 1e-9])).ok
    assert gradcheck(lambda a, b: a.log() / b, 1e-9, 1e-5, order=2).ok  # math.log raises below 0
    assert gradcheck(mg.exp, np.array([709.0, -700.0])).ok  # 1,024 times the gradient overflows


def test_elements_that_share_memory_are_moved_one_by_one() -> None:
    window = np.lib.stride_tricks.sliding_window_view(np.arange(5.0), 3)
    assert gradcheck(mg.exp, window).ok


def test_numbers_beside_arrays_are_parameters_unless_asked_for() -> None:
    assert gradcheck(lambda x, s: x * s, X, 2.0).subject.wrt == [0]
    both = gradcheck(lambda x, s: mg.ops.detach(x) * s, X, 2.0, wrt=1)
    assert both.ok and both.subject.wrt == [1]


def test_where_digits_are_lost_nothing_is_claimed() -> None:
    report = gradcheck(lambda x: (1 - mg.cos(x)) / (x * x), np.array([1e-3, 0.1]), raises=False)
    assert code(report) in ("", "INCONCLUSIVE"), report
    report = gradcheck(lambda x: x + 1e18, X, raises=False)
    assert code(report) == "INCONCLUSIVE" and "rounding" in str(report)


def test_functions_that_hardly_move() -> None:
    # The digits that the inner difference loses are not to be seen in the size of the output.
    for point in np.linspace(150.0, 170.0, 21):
        report = gradcheck(lambda x: 0.9 - mg.tanh(x * 0.07), np.array([point]), raises=False)
        assert code(report) in ("", "INCONCLUSIVE"), report


def test_shares_of_a_tie_may_cancel() -> None:
    point = np.array([0.0, 0.0, 2.0])
    assert gradcheck(lambda x: mg.max(x[:2]) * 1e-3 - x[2] * 1e-3 / 3 - x[2] * 2e-3 / 3, point).ok
    relu_twice = gradcheck(
        lambda x: mg.relu(mg.sum(x)) - mg.relu(-mg.sum(x)), np.array([1.0, -1.0]), raises=False
    )
    assert not relu_twice.ok and "nearby everything agrees" in str(relu_twice)


def test_a_second_derivative_at_a_kink_is_explained() -> None:
    report = gradcheck(mg.relu, np.array([0.0, 1.0]), order=2, raises=False)
    assert code(report) == "INCONCLUSIVE" and "order=1" in str(report)
    # The inside of this identity is at its kink, and both conventions add up to 0.
    report = gradcheck(lambda x: mg.relu(x) - mg.relu(-x), np.array([0.0, 1.0]), raises=False)
    assert code(report) == "VALUE" and "nearby everything agrees" in str(report)
    assert "nearby" not in str(gradcheck(half, X, raises=False))


def test_shrinking_does_not_end_at_another_failure() -> None:
    # At 0 both relus are at their kink; the mistake is elsewhere.
    def function(x: Any) -> Any:
        return mg.relu(x) - mg.relu(-x) + mg.where(x > 0.5, half(x) - 0.25, 0.0)

    report = gradcheck(function, np.array([2.0, 3.0]), raises=False)
    assert not report.ok and "nearby" not in str(report)


# ---- wrong rules fail --------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1e-15, 1e-12, *SCALES, 1e12])
def test_mistakes_are_found_at_any_size(scale: float) -> None:
    wrong = op(lambda x: x * x * scale, lambda g, y, x: (-2 * g * x * scale,))
    with pytest.raises(GradcheckError, match=r"(?s)VALUE.*sign error"):
        gradcheck(wrong, X)
    with pytest.raises(GradcheckError, match="VALUE"):
        gradcheck(square(lambda g, y, x: (2.002 * g * x,)), X * scale)
    with pytest.raises(GradcheckError, match="VALUE"):
        gradcheck(op(lambda x: 1 / x, lambda g, y, x: (-1.02 * g / (x * x),)), X * scale)


@pytest.mark.parametrize("size", [5000, 10_000])
def test_one_wrong_element_of_many_is_found_and_named(size: int) -> None:
    place = size // 3 + 7
    factors = np.where(np.arange(size) == place, 1.001, 1.0)
    wrong = square(lambda g, y, x: (2 * g * x * factors,))
    with pytest.raises(GradcheckError, match=rf"\[VALUE\].* at \[{place}\]"):
        gradcheck(lambda x: mg.sum(wrong(x)), np.linspace(0.5, 2.0, size), shrink=False)
    with pytest.raises(GradcheckError, match=rf"\[VALUE\].* at \[{place}\]"):
        gradcheck(wrong, np.linspace(0.5, 2.0, size), shrink=False)


def test_a_sign_that_is_lost_is_found_whatever_is_drawn() -> None:
    for seed in range(20):
        wrong = square(lambda g, y, x: (2 * mg.abs(g) * x,))
        assert code(gradcheck(wrong, X[0, :2], seed=seed, raises=False)) == "LINEARITY"


def test_scalars_hand_their_gradient_on() -> None:
    wrong = op(lambda x: x * 3.0, lambda g, y, x: (3.0,))
    assert code(gradcheck(wrong, 1.5, raises=False)) == "ZEROCOT"


def test_a_rule_that_remembers() -> None:
    calls: list[int] = []

    def late(g: Any, y: Any, x: Any) -> Any:
        calls.append(1)
        return (2 * g * x * (1.0 if len(calls) < 12 else 1.1),)

    assert code(gradcheck(square(late), X[0], raises=False, shrink=False)) in ("NONDET", "VALUE")
    room = np.empty(X.shape)

    def same(g: Any, y: Any, x: Any) -> Any:
        np.multiply(2 * g, x, out=room)
        return (room,)

    report = gradcheck(square(same), X, raises=False, shrink=False)
    assert code(report) == "ALIASED" and "same array again" in str(report)


def test_float32_on_the_way_out_is_said() -> None:
    with pytest.raises(GradcheckError, match=r"\[DTYPE\].*output is float32"):
        gradcheck(lambda x: mg.astype(x, "float32") * 2, X)


# ---- rules that break --------------------------------------------------------------------------

ERRORS = [ValueError("boom"), ZeroDivisionError(), KeyError("k"), AssertionError("no")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_what_a_rule_raises_is_a_failure_that_names_the_op(error: Exception) -> None:
    def rule(g: Any, y: Any, x: Any) -> Any:
        raise error

    words = (
        rf"\[VALUE\].*rule of 'planted' raised {type(error).__name__}[\s\S]*test_gradcheck_users"
    )
    for input_ in (X, 1.5):
        with pytest.raises(GradcheckError, match=words) as caught:
            gradcheck(square(rule), input_)
        assert caught.value.__cause__ is error or type(caught.value.__cause__) is type(error)


def broken(condition: Callable[[Any, int], bool]) -> Any:
    calls: list[int] = []

    def rule(g: Any, y: Any, x: Any) -> Any:
        calls.append(1)
        if condition(x, len(calls)):
            raise ValueError("not here")
        return (2 * g * x,)

    return square(rule)


@pytest.mark.parametrize(
    ("condition", "expected", "words"),
    [
        (lambda x, n: isinstance(x, np.ndarray) and not x.flags.c_contiguous, "LAYOUT", "'F'"),
        (lambda x, n: n == 2, "NONDET", "second backward pass"),
        (lambda x, n: isinstance(x, mg.Tensor), "SECOND_ORDER", "gradient of the gradient"),
    ],
)
def test_the_code_says_when_a_rule_broke(condition: Any, expected: str, words: str) -> None:
    report = gradcheck(broken(condition), X, order=2, raises=False, shrink=False)
    assert code(report) == expected and words in str(report) and "'planted' raised" in str(report)


@pytest.mark.parametrize("result", [None, (2.0,), ([1, 2],), ("a",), ("a", "b")], ids=repr)
def test_what_is_no_gradient_is_explained(result: Any) -> None:
    with pytest.raises(GradcheckError, match="'planted' returned cannot be used.*one array per"):
        gradcheck(square(lambda g, y, x: result), X)


def test_what_the_function_raises_is_passed_on_with_a_note() -> None:
    def function(x: Any) -> Any:
        raise KeyError("forgotten")

    with pytest.raises(KeyError) as caught:
        gradcheck(function, X)
    assert "the function raised KeyError" in caught.value.__notes__[0]

    def picky(x: Any) -> Any:
        if (x.numpy() != X).any():
            raise ValueError("only at X")
        return x * x

    with pytest.raises(GradcheckError, match="INCONCLUSIVE.*raised ValueError: only at X"):
        gradcheck(picky, X, shrink=False)


def test_arguments_that_do_not_make_sense() -> None:
    assert gradcheck(mg.tanh, X, checks="VALUE", wrt=0, backend="numpy").ok
    with pytest.raises(mg.errors.InputError, match="order=3"):
        gradcheck(mg.tanh, X, order=3)
    with pytest.raises(mg.errors.InputError, match=r"each an argument of its own; got tuple"):
        gradcheck(mg.multiply, (X, X))
    with pytest.raises(mg.errors.InputError, match=r"got int .*3\.0 instead of 3"):
        gradcheck(lambda x: x * x, 3)
    with pytest.raises(mg.errors.BackendError, match="tpu9"):
        gradcheck(mg.tanh, X, backend="tpu9")


# ---- numeric slopes ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "x", "want"),
    [
        (np.log, 1e-8, 1e8),
        (np.sqrt, 1e-300, 0.5e150),
        (lambda x: max(x, 0.0), 1e-7, 1.0),
        (lambda x: max(x, 0.0), -1e-10, 0.0),
        (lambda x: abs(x - 1), 1 + 1e-7, 1.0),
        (lambda x: np.tanh(x * 1e12), 0.0, 1e12),
        (lambda x: x * 1e-15, 0.3, 1e-15),
        (lambda x: x + 1e8, 1.0, 1.0),
    ],
)
def test_slopes_are_as_good_as_they_claim(function: Any, x: float, want: float) -> None:
    found = slope(lambda t: np.asarray(function(t)), x)
    assert found.left is None and abs(found.value - want) <= found.error + 1e-12 * abs(want)
    assert found.error <= 1e-5 * max(abs(want), min(1.0, abs(want) or 1.0))


def test_a_jump_has_no_slope() -> None:
    found = slope(lambda t: np.floor(t) * t + np.array([0.0, 1e9]), 2.0)
    assert found.left is None and found.error[0] > 1
