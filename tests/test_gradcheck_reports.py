"""What a failed gradient check says: patterns, a line that repeats it, a script, a picture."""

from __future__ import annotations

import functools
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt.testing import GradcheckError, gradcheck, write_report
from tests.planting import half, op, square

X = np.array([[0.3, -1.2, 0.8], [2.0, -0.4, 1.1]])


# ---- what is said ------------------------------------------------------------------------------

WEIGHTS = np.arange(1.0, 7.0).reshape(2, 3)
SIGNS = np.array([[0.3, -1.2, -0.8], [-2.0, 0.4, 1.1]])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w + 0.5, "a constant is added"),
        (lambda w: w * np.array([[1.0], [0.3]]) * [[1, 1, 1], [1, 2, 3]], r"are in \[1, :\]"),
        (lambda w: w * np.where(np.arange(3) == 1, [[0.3], [0.7]], 1), r"are in \[:, 1\]"),
        (lambda w: w * np.where(SIGNS < 0, [2.0, 3.0, 5.0], 1), "where the input is negative"),
        (lambda w: w[::-1, ::-1], "wrong places"),
    ],
)
def test_patterns_are_told_for_the_inputs_given(change: Any, words: str) -> None:
    wrong = op(lambda x: (x * WEIGHTS).sum(), lambda g, y, x: (g * change(WEIGHTS),))
    with pytest.raises(GradcheckError, match=f"pattern: .*{words}"):
        gradcheck(wrong, SIGNS)


def test_a_pattern_survives_shrinking() -> None:
    def rule(g: Any, y: Any, x: Any) -> Any:
        last = np.arange(x.shape[0])[:, None] == x.shape[0] - 1
        return (2 * g * x * np.where(last, 1.5, 1.0),)

    report = gradcheck(square(rule), X, raises=False)
    assert report.shrunk and report.subject.inputs[0].shape == (1, 1)
    assert "pattern: all wrong elements are in [1, :] (with the inputs given)" in str(report)


@pytest.mark.parametrize(
    ("function", "inputs", "options"),
    [
        (half, (X,), {}),
        (half, (X,), {"seed": 3, "checks": "VALUE", "n_proj": 5, "rtol": 1e-6, "order": 2}),
        (half, (np.arange(24.0).reshape(2, 3, 4).transpose(1, 2, 0),), {"shrink": False}),
        (half, (np.broadcast_to([1.0, 2.0], (3, 2)),), {"shrink": False}),
        (half, (mg.tensor(X),), {"backend": "numpy"}),
        (lambda a, b: a * a.detach() + b, (mg.Scalar(1.25), np.float64(2.5)), {"wrt": 0}),
        (lambda x, m: half(x) + mg.where(np.isnan(m), 0.0, 1.0), (X, X * np.nan), {"wrt": 0}),
        (functools.partial(lambda x, k: half(x) * k, k=3.0), (X,), {}),
        (lambda x, w=None: half(x) * w, (X,), {"kwargs": {"w": X}}),
    ],
)  # fmt: skip
def test_the_line_repeats_the_failure(function: Any, inputs: Any, options: Any) -> None:
    report = gradcheck(function, *inputs, raises=False, **options)
    (line,) = [x for x in str(report).splitlines() if x.startswith("  repeat: ")]
    given = getattr(function, "func", function)
    names = {"mg": mg, "np": np, "functools": functools, given.__name__: given, "function": given}
    with pytest.raises(GradcheckError, match=rf"\[{report.failures[0].code}\]"):
        eval(line.removeprefix("  repeat: "), names)


def test_what_cannot_be_in_the_line_is_said_below_it() -> None:
    text = str(gradcheck(lambda x: half(x), np.linspace(1, 2, 900), shrink=False, raises=False))
    assert "gradcheck(function, x)" in text and "x is your input 0" in text
    assert "function is the lambda in" in text and "write_report" in text


# ---- scripts -----------------------------------------------------------------------------------

TESTS = """
import functools
import numpy as np
import microgpt as mg
from microgpt import nn
from microgpt.testing import gradcheck

X = np.array([[0.3, -1.2], [2.0, -0.4]])
FACTOR = 3.0

def scaled(x):
    return FACTOR * x

def loss(x, w):
    return mg.sum(scaled(x) * mg.ops.detach(x) * w)

class Net:
    def forward(self, x):
        return x * mg.ops.detach(x)

@mg.primitive(vjp=lambda g, y, x: (g * x,))
def squared(x):
    return np.square(x)

def rule(g, y, x):
    raise ValueError(f"boom {FACTOR}")

@mg.primitive(vjp=rule)
def breaks(x):
    return x * x

def test_lambda():
    gradcheck(lambda x: scaled(x) * mg.ops.detach(x), X)

def test_one_of_two():
    first, second = (lambda x: x * 2), (lambda x: x * mg.ops.detach(x))
    gradcheck(second, X)

def test_lines():
    gradcheck(
        lambda x, y: (
            x * mg.ops.detach(y)
        ),
        X,
        X + 1,
    )

def test_closure():
    k = np.array([1.0, 2.0])
    def inner(x):
        return x * mg.ops.detach(x) * k
    gradcheck(inner, X)

def test_partial():
    gradcheck(functools.partial(loss, w=X), X)

def test_op():
    gradcheck(squared, X)

def test_raises():
    gradcheck(breaks, X)

def test_scalars():
    gradcheck(lambda a, b: a * b.detach(), mg.Scalar(1.5), 2.0)

def test_method():
    gradcheck(Net().forward, X)

def test_object():
    layer = Net()
    gradcheck(lambda x: layer.forward(x) * 2, X)
"""


RUN_ALL = """
import runpy, sys
for file in sys.argv[1:]:
    print("====" + file.rsplit("/")[-1])
    try:
        runpy.run_path(file, run_name="__main__")
    except SystemExit as done:
        print("exit", done.code)
"""


def test_the_scripts_run_alone_or_say_what_is_missing(tmp_path: Any) -> None:
    (tmp_path / "test_them.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_them.py"]
    done = subprocess.run(
        [*command, "--gradcheck-report", "out"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "10 failed" in done.stdout and ": GradcheckError" in done.stdout
    assert "testing/gradcheck.py:" not in done.stdout, "the line of the test is what is shown"
    scripts = sorted((tmp_path / "out").glob("*.py"))
    assert len(scripts) == 10
    (tmp_path / "all.py").write_text(RUN_ALL)
    # In one process, because starting one takes longer than the scripts.
    done = subprocess.run(
        [sys.executable, str(tmp_path / "all.py"), *map(str, scripts)],
        cwd="/", capture_output=True, text=True, check=False,
    )  # fmt: skip
    parts = done.stdout.split("====")[1:]
    assert len(parts) == 10 and not done.stderr, done.stderr
    for part in parts:
        if part.startswith(("test_method", "test_object")):
            assert "Define or import here" in part and "class Net" in part
        else:
            assert "\n[VALUE]" in part and part.endswith("\nexit True\n"), part


def test_the_picture_shows_the_inputs_given(tmp_path: Any) -> None:
    report = gradcheck(half, X, raises=False)
    assert report.before is not None
    assert len(report.failures[0].rows) == 1 and len(report.before.rows) == X.size
    assert write_report(report, tmp_path).with_suffix(".png").stat().st_size > 1000
