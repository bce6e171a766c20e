"""What rules read, and conventions of gradients in cases that people ask about."""

from __future__ import annotations

import dis
import math
import string
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import microgpt as mg
from microgpt.ops import TABLE, Op
from microgpt.testing.strategies import Drawer, case_of

OWN = [op for op in TABLE.values() if op.function.__module__.startswith("microgpt.")]
SMOOTH = [op for op in OWN if op.rules is not None or op.body is not None]
FUSED = [op for op in OWN if op.body is not None]


def names(op: Op) -> str:
    return op.name


# ---- what rules read -------------------------------------------------------------------------


def letters_used(rule: Any, arity: int) -> set[str]:
    """Which of a, b, … and y the code of a rule reads beyond its shape."""
    parameters = rule.__code__.co_varnames[: rule.__code__.co_argcount]
    letters = dict(zip(parameters, ["g", "y", *string.ascii_lowercase[:arity]], strict=False))
    used: set[str] = set()
    instructions = list(dis.get_instructions(rule))
    for i, instruction in enumerate(instructions):
        if not instruction.opname.startswith(("LOAD_FAST", "LOAD_DEREF")):
            continue
        loaded = (
            instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)
        )
        following = instructions[i + 1] if i + 1 < len(instructions) else None
        shape_only = following is not None and following.argval == "shape"
        if not shape_only:
            used |= {letters[name] for name in loaded if name in letters}
    return used - {"g"}


@pytest.mark.parametrize("op", [op for op in OWN if op.elementwise and op.kind], ids=names)
def test_declared_reads_are_what_simple_rules_use(op: Op) -> None:
    assert op.reads is not None, "an elementwise op says what its rules read"
    for rule, declared in zip(op.rules, op.reads, strict=True):  # type: ignore[arg-type]
        if rule is None or "_rule" in rule.__code__.co_names or rule.__code__.co_name != "<lambda>":
            continue
        assert letters_used(rule, op.arity or 0) == set(declared)


# ---- conventions -----------------------------------------------------------------------------


def slope(function: Any, x: float) -> float:
    return float(mg.grad(lambda t: function(t).sum())(mg.tensor(x, dtype="float64")).item())


def test_slopes_at_kinks_are_the_declared_ones() -> None:
    assert slope(mg.relu, 0.0) == 0.0
    assert slope(mg.abs, 0.0) == 0.0
    assert slope(mg.sign, 0.0) == 0.0
    assert slope(lambda t: mg.clip(t, -1.0, 1.0), 1.0) == 1.0
    assert slope(lambda t: mg.clip(t, -1.0, 1.0), 1.5) == 0.0
    assert slope(lambda t: t**0, 0.0) == 0.0
    assert slope(lambda t: t**2, 0.0) == 0.0
    assert slope(lambda t: mg.maximum(t, 0.0), 0.0) == 0.5


def test_ties_share_the_gradient() -> None:
    x = mg.tensor([1.0, 3.0, 3.0, 3.0], requires_grad=True)
    x.max().backward()
    np.testing.assert_allclose(x.grad.numpy(), [0, 1 / 3, 1 / 3, 1 / 3], rtol=1e-6)  # type: ignore[union-attr]
    a, b = (mg.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    mg.maximum(a, b).sum().backward()
    assert a.grad.tolist() == b.grad.tolist() == [0.5, 0.5]  # type: ignore[union-attr]


@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_prod_is_right_for_zeros(zeros: int) -> None:
    values = np.array([2.0, 3.0, 4.0, 5.0, 6.0])
    values[:zeros] = 0
    x = mg.tensor(values, requires_grad=True)
    x.prod().backward()
    want = [np.prod(np.delete(values, i)) for i in range(5)]
    np.testing.assert_allclose(x.grad.numpy(), want)  # type: ignore[union-attr]


@pytest.mark.parametrize("size", [1e4, -1e4])
@pytest.mark.parametrize(
    "name", ["softmax", "log_softmax", "sigmoid", "silu", "softplus", "logsumexp", "gelu", "tanh"]
)
def test_large_numbers_stay_finite(name: str, size: float) -> None:
    for dtype in ("float32", "float64"):
        x = mg.tensor([size, 0.0, -size], dtype=dtype, requires_grad=True)
        y = getattr(mg, name)(x)
        y.sum().backward()
        assert np.isfinite(y.numpy()).all() and np.isfinite(x.grad.numpy()).all()  # type: ignore[union-attr]


def test_large_logits_in_losses() -> None:
    x = mg.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    for loss in (
        mg.cross_entropy(x, mg.tensor([1, 1])),
        mg.binary_cross_entropy_with_logits(x, mg.ones((2, 2))),
    ):
        loss.backward()
        assert np.isfinite(loss.item()) and np.isfinite(x.grad.numpy()).all()  # type: ignore[union-attr]
        x.grad = None


def test_a_domain_draws_the_same_case_from_the_same_choices() -> None:
    seen = []

    @settings(max_examples=3, derandomize=True, database=None)
    @given(data=st.data())
    def collect(data: st.DataObject) -> None:
        seen.append(case_of(TABLE["sum"], Drawer(data.draw)).inputs[0].shape)

    collect()
    assert len(seen) == 3


def test_gradients_that_do_not_exist_are_nan_not_numbers() -> None:
    with np.errstate(all="ignore"):
        x = mg.tensor([math.inf, 0.0], requires_grad=True)
        mg.logsumexp(x).backward()
        assert np.isnan(x.grad.numpy()[0]) and x.grad.numpy()[1] == 0.0  # type: ignore[union-attr]
        b = mg.tensor([3.0, 2.0], requires_grad=True)
        (mg.tensor([-2.0, 0.0]) ** b).sum().backward()
        assert np.isnan(b.grad.numpy()[0]) and b.grad.numpy()[1] == 0.0  # type: ignore[union-attr]
        assert math.isnan(slope(lambda b: mg.pow(-2.0, b), 3.0))
        v = mg.tensor([3.0, 4.0], requires_grad=True)
        mg.var(v, correction=3).backward()
        assert np.isnan(v.grad.numpy()).all()  # type: ignore[union-attr]


def test_an_axis_of_a_single_number_is_refused() -> None:
    with pytest.raises(mg.errors.ShapeError, match="axis 0 of an array without dimensions"):
        mg.sum(mg.tensor(1.0), axis=0)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (lambda g: g * 3, "returned a ndarray; required: a tuple"),
        (lambda g: (3.0,), r"returned a float for an input of shape \(2,\)"),
        (lambda g: (g, g), "returned a tuple of 2; required.*its 1 inputs"),
        (lambda g: None, "returned a NoneType"),
    ],
)
def test_a_rule_that_returns_no_gradients_is_explained(returned: Any, words: str) -> None:
    def thrice(x: Any) -> Any:
        return x * 3.0

    op = mg.primitive(vjp=lambda g, y, x: returned(g))(thrice)
    mg.ops.TABLE.pop("thrice")
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(mg.errors.GradientError, match=f"rule of thrice {words}"):
        op(x).sum().backward()


def test_numpys_floats_in_scalar_arithmetic_become_pythons() -> None:
    x = mg.Scalar(1.5)
    y = x * np.float64(2.0) + np.float64(1.0)
    y.backward()
    assert type(y.data) is float and type(x.grad) is float and x.grad == 2.0
