"""The checker is checked: planted mistakes must fail, with the right words; right rules pass."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt.ops import TABLE
from microgpt.testing import GradcheckError, check_op, gradcheck, write_report

X = np.array([[0.3, -1.2, 0.8], [2.0, -0.4, 1.1]])


RANDOM = np.random.default_rng(0)


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
    "ignores g": (lambda x: x * 3.0, lambda g, y, x: (x * 0 + 3.0,), "ZEROCOT", "is 3 where"),
    "zero": (lambda x: x * x, lambda g, y, x: (x * 0,), "VALUE", "analytic is 0"),
    "clipped": (
        lambda x: x * 9.0,
        lambda g, y, x: (mg.clip(g * 9, -20.0, 20.0),),
        "LINEARITY",
        "1024",
    ),
    "one element": (
        lambda x: x * x,
        lambda g, y, x: (2 * g * x * np.where(X == 2.0, 1.001, 1.0),),
        "VALUE",
        r"at \[1, 0\] \(1 of",
    ),
    "nan": (lambda x: x * x, lambda g, y, x: (g * np.nan,), "NONFINITE", "nan at"),
    "float32": (
        lambda x: x * x,
        lambda g, y, x: (2 * mg.astype(g * x, "float32"),),
        "DTYPE",
        "float32",
    ),
    "keeps its input": (lambda x: x * x / 2, lambda g, y, x: (x,), "ALIASED", "input"),
    "at random": (
        lambda x: x * x,
        lambda g, y, x: (g * (2 * x + RANDOM.normal(size=x.shape) * 1e-9),),
        "NONDET",
        "two backward passes",
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


class Kernels:
    """Overrides NumPy kernels."""

    def __init__(self, **kernels: Any) -> None:
        self.kernels = kernels

    @mg.hookimpl
    def microgpt_kernel(self, backend: str, op: str) -> Any:
        return self.kernels.get(op) if backend == "numpy" else None


def contiguous_only(x: Any) -> Any:
    """A kernel that takes the memory of its input for contiguous."""
    strides = np.empty(x.shape, x.dtype).strides
    return np.exp(np.lib.stride_tricks.as_strided(x, x.shape, strides))


def halves_its_input(x: Any) -> Any:
    y = np.exp(x)
    if x.flags.writeable:
        x *= 0.5
    return y


@pytest.mark.parametrize(
    ("kernel", "codes"),
    [(contiguous_only, {"LAYOUT"}), (halves_its_input, {"MUTATED", "VALUE", "NONDET"})],
)
def test_bad_kernels_are_found(kernel: Any, codes: set[str]) -> None:
    with mg.plugged(Kernels(exp=kernel)):
        report = gradcheck(mg.exp, X, raises=False)
    assert report.failures[0].code in codes
    assert gradcheck(mg.exp, X).ok


def test_a_rule_that_changes_what_it_was_given() -> None:
    def rule(g: Any, y: Any, x: Any) -> Any:
        raw = x if isinstance(x, np.ndarray) else x._data
        raw += 1.0
        return (2 * g * (x - 1.0),)

    with pytest.raises(GradcheckError, match=r"\[MUTATED\].*input 0 'x'"):
        gradcheck(wrong("changes", lambda x: x * x, rule), X)


def test_a_rule_that_returns_its_input() -> None:
    bad = wrong("aliased", lambda x: x * x / 2, lambda g, y, x: (x,))
    with pytest.raises(GradcheckError, match="ALIASED"):
        gradcheck(bad, X, checks=["ALIASED"])


def test_only_the_checks_that_are_asked_for() -> None:
    bad = wrong("second", lambda x: x * x, lambda g, y, x: (2 * g * mg.ops.detach(x),))
    assert gradcheck(bad, X, order=2, checks=["VALUE"]).ok
    with pytest.raises(mg.errors.InputError, match="no check 'VALEU'; it has SHAPE, DTYPE"):
        gradcheck(bad, X, checks=["VALEU"])


def test_the_failing_input_is_shrunk_and_the_line_repeats_it() -> None:
    rule = (lambda g, y, a, b: g / b, lambda g, y, a, b: g * a / (b * b))

    def quotient(a: Any, b: Any) -> Any:
        return a / b

    bad = mg.primitive(vjp=rule, broadcasts=True)(quotient)
    TABLE.pop("quotient")
    report = gradcheck(bad, X, X[:, :1] * 1.5, raises=False)
    assert report.shrunk and [x.shape for x in report.subject.inputs] == [(1, 1), (1, 1)]
    line = str(report).splitlines()[-1].removeprefix("  repeat: ")
    with pytest.raises(GradcheckError, match=r"\[VALUE\] quotient.*'b'.*\n.*\n.*\n.*sign error"):
        eval(line, {"mg": mg, "np": np, "quotient": bad})


def test_summed_axes_and_shuffled_elements_are_named() -> None:
    weights = np.arange(1.0, 7.0).reshape(2, 3)
    summed = wrong(
        "summed", lambda x: x * weights, lambda g, y, x: (mg.sum(g * weights, axis=1, keepdims=True)
                                                         * np.ones(3),)
    )  # fmt: skip
    with pytest.raises(GradcheckError, match="summed over axis 1"):
        gradcheck(summed, X, shrink=False)
    flipped = wrong("flipped", lambda x: x * weights, lambda g, y, x: (mg.flip(g * weights),))
    with pytest.raises(GradcheckError, match="wrong places"):
        gradcheck(flipped, X, shrink=False)


def test_a_report_is_a_script_that_fails_in_the_same_way(tmp_path: Any) -> None:
    report = gradcheck(lambda x: x * mg.ops.detach(x), X, raises=False)
    path = write_report(report, tmp_path / "reports", "square")
    assert sorted(p.name for p in path.parent.iterdir()) == ["square.png", "square.py"]
    text = path.read_text()
    compile(text, str(path), "exec")
    assert "function = lambda x: x * mg.ops.detach(x)" in text and "[VALUE]" in text
    with mg.plugged(Kernels(exp=contiguous_only)):
        report = gradcheck(mg.exp, X, raises=False)
    text = write_report(report, tmp_path).read_text()
    with pytest.raises(SystemExit) as done:
        exec(text, {"__name__": "__main__"})
    assert not done.value.code, "without the planted kernel the script passes"
    with pytest.raises(mg.errors.InputError, match="no failure"):
        write_report(gradcheck(mg.exp, X), tmp_path)


def test_pytest_writes_reports(tmp_path: Any) -> None:
    test = tmp_path / "test_it.py"
    test.write_text(
        "import numpy as np, microgpt as mg\n"
        "def test_wrong():\n"
        "    mg.testing.gradcheck(lambda x: x * mg.ops.detach(x), np.ones(2))\n"
        "def test_no_profile_of_ours():\n"
        "    import sys\n"
        "    assert 'microgpt.testing.strategies' not in sys.modules\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)]
    done = subprocess.run(
        [*command, "--gradcheck-report", str(tmp_path / "out")],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "1 failed, 1 passed" in done.stdout, done.stdout
    assert "gradient check written to" in done.stdout
    assert (tmp_path / "out" / "test_wrong.py").exists()


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


def test_near_a_kink_the_step_shrinks() -> None:
    assert gradcheck(mg.relu, np.array([1e-4, 1.0, -1e-5])).ok
    bad = wrong("near", mg.relu, lambda g, y, x: (g * (x > -1e-3),))
    with pytest.raises(GradcheckError, match="VALUE"):
        gradcheck(bad, np.array([-1e-4, 1.0]))


@pytest.mark.parametrize("at_zero", [0.0, 0.5, 1.0])
def test_at_a_kink_any_slope_between_the_sides_is_right(at_zero: float) -> None:
    right = wrong("relu", mg.relu, lambda g, y, x: (g * mg.where(x == 0, at_zero, x > 0),))
    assert gradcheck(right, np.array([0.0, 1.0, -1.0])).ok


@pytest.mark.parametrize("at_zero", [-0.01, 1.01, 2.0])
def test_at_a_kink_a_slope_beyond_both_sides_is_a_tie_failure(at_zero: float) -> None:
    bad = wrong("relu", mg.relu, lambda g, y, x: (g * mg.where(x == 0, at_zero, x > 0),))
    with pytest.raises(GradcheckError, match=r"\[TIE\]"):
        gradcheck(bad, np.array([0.0, 1.0, -1.0]))


def test_ties_of_max_must_share_the_whole() -> None:
    x = np.array([1.0, 3.0, 3.0])
    assert gradcheck(mg.max, x).ok
    for rule in (lambda g, y, x: (g * (x == y),), lambda g, y, x: (g * (x == y) * 0.4,)):
        with pytest.raises(GradcheckError, match=r"\[TIE\].*add up to"):
            gradcheck(wrong("max", mg.max, rule), x)
    assert gradcheck(mg.maximum, x, x).ok

    def both(a: Any, b: Any) -> Any:
        return mg.maximum(a, b)

    made = mg.primitive(
        vjp=(lambda g, y, a, b: g * (a >= b), lambda g, y, a, b: g * (b >= a)), broadcasts=True
    )(both)
    TABLE.pop("both")
    with pytest.raises(GradcheckError, match=r"\[TIE\].*'a' and input 1 'b' add up to"):
        gradcheck(made, x, x)


def test_a_jump_is_inconclusive_not_passed() -> None:
    jump = wrong("jump", lambda x: mg.where(x > 1.0, x + 3.0, x), lambda g, y, x: (g,))
    report = gradcheck(jump, np.array([1.0, 2.0]), raises=False)
    assert [f.code for f in report.failures] == ["INCONCLUSIVE"]
    assert "jump" in str(report)


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
    with pytest.raises(mg.errors.InputError, match="examples must be .* got \\(3, 4\\)"):
        check_op(mg.exp, (3, 4))  # type: ignore[arg-type]
    with pytest.raises(mg.errors.InputError, match="order must be 1 or 2; got 3"):
        check_op(mg.exp, order=3)


def test_an_op_without_a_rule_is_refused_at_declaration() -> None:
    with pytest.raises(mg.errors.PluginError, match="nondifferentiable"):
        mg.primitive("no_rule")
    with pytest.raises(mg.errors.PluginError, match="exists already"):
        mg.primitive("add", vjp=(lambda g, y, x: g,))
    with pytest.raises(mg.errors.PluginError, match="reads"):
        mg.primitive("other", vjp=(lambda g, y, a, b: g, lambda g, y, a, b: g), reads=("a",))
