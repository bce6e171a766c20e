"""Every row of the op table: gradients of both orders against finite differences."""

from __future__ import annotations

import dis
import string
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import microgpt as mg
from microgpt.ops import TABLE, Op
from microgpt.testing import Case, check_row
from microgpt.testing.strategies import Drawer, case_of, cases

OWN = [op for op in TABLE.values() if op.function.__module__.startswith("microgpt.")]
SMOOTH = [op for op in OWN if op.rules is not None or op.body is not None]
FUSED = [op for op in OWN if op.body is not None]


def names(op: Op) -> str:
    return op.name


@pytest.mark.parametrize("op", OWN, ids=names)
def test_rows_are_complete(op: Op) -> None:
    assert op.doc, "a row needs a line of documentation"
    assert op.domain is not None, "a row needs a domain to be tested on"
    assert op.rules is not None or op.body is not None or op.nondifferentiable
    assert mg.ops.by_name(op.name) is op


@pytest.mark.parametrize("op", SMOOTH, ids=names)
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors])
@given(data=st.data())
def test_gradients_of_both_orders(op: Op, data: st.DataObject) -> None:
    check_row(op, data.draw(cases(op)))


def run(case: Case, function: Any, dtype: Any = None) -> tuple[Any, list[Any]]:
    """Output and gradients of one call, for a fixed cotangent."""
    floats = case.floats()
    args = [
        mg.tensor(x, dtype if i in floats else None, requires_grad=i in floats)
        if isinstance(x, np.ndarray)
        else x
        for i, x in enumerate(case.inputs)
    ]
    y = case.call(function, *args, **case.params)
    if y.requires_grad:
        y.backward(mg.tensor(np.cos(np.arange(y.size)).reshape(y.shape), y.dtype))
    return y, [args[i].grad for i in floats]


@pytest.mark.parametrize("op", SMOOTH, ids=names)
@given(data=st.data())
def test_float32_stays_float32(op: Op, data: st.DataObject) -> None:
    case = data.draw(cases(op))
    if "dtype" in case.params:
        return
    y, grads = run(case, op.function, "float32")
    assert y.dtype == np.float32
    assert {g.dtype for g in grads if g is not None} <= {np.dtype("float32")}


@pytest.mark.parametrize("op", FUSED, ids=names)
@given(data=st.data())
def test_fused_kernels_equal_their_definition(op: Op, data: st.DataObject) -> None:
    case = data.draw(cases(op))
    y, grads = run(case, op.function)
    with without_kernels(op):
        want, wanted = run(case, op.function)
    if y.size and y.requires_grad and op.fast_recorded[np.ndarray] is not None:  # type: ignore[index]
        assert y._edge.op is op, "with a kernel, a fused op is one node"
        assert want._edge.op is not op, "without one, its body is recorded"
    np.testing.assert_allclose(y.numpy(), want.numpy(), rtol=1e-12, atol=1e-12)
    for a, b in zip(grads, wanted, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-12)


class without_kernels:
    """Inside, a fused op has no kernel on any backend and runs its body."""

    def __init__(self, op: Op) -> None:
        assert op.fast is not None and op.fast_recorded is not None
        self.caches = (op.fast, op.fast_recorded)

    def __enter__(self) -> None:
        for cache in self.caches:
            for kind in (np.ndarray, np.float64, np.float32):
                cache[kind] = None  # type: ignore[assignment]

    def __exit__(self, *_: object) -> None:
        for cache in self.caches:
            cache.clear()


@pytest.mark.parametrize("op", [op for op in SMOOTH if op.arity == 2 and op.elementwise], ids=names)
def test_one_input_in_both_places_gets_both_gradients(op: Op) -> None:
    values = np.array([0.7, 1.3])
    if op.name in ("maximum", "minimum"):
        want = np.ones(2)  # the shares of a tie add up to the whole
    else:
        a, b = (mg.tensor(values, requires_grad=True) for _ in range(2))
        op.function(a, b).sum().backward()
        want = a.grad.numpy() + b.grad.numpy()  # type: ignore[union-attr]
    x = mg.tensor(values, requires_grad=True)
    op.function(x, x).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), want)  # type: ignore[union-attr]


SCALAR = [op for op in SMOOTH if (op.elementwise or op.name in ("where", "clip", "gelu", "silu"))]


@pytest.mark.parametrize("op", SCALAR, ids=names)
@given(data=st.data())
def test_scalars_have_the_same_gradients_as_tensors(op: Op, data: st.DataObject) -> None:
    case = data.draw(cases(op))
    if any(x.size == 0 for x in case.inputs):
        return
    values = [x.reshape(-1)[0].item() for x in case.inputs]
    floats = case.floats()
    mg.testing.gradcheck(op.function, *values, wrt=floats, kwargs=case.params, order=2)
    args = [mg.Scalar(v) if i in floats else v for i, v in enumerate(values)]
    op.function(*args, **case.params).backward()
    tensors = [mg.tensor(v, requires_grad=i in floats, dtype="float64") if i in floats else v
               for i, v in enumerate(values)]  # fmt: skip
    op.function(*tensors, **case.params).backward()
    for i in floats:
        assert args[i].grad == pytest.approx(tensors[i].grad.item(), rel=1e-13, abs=1e-15)


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
