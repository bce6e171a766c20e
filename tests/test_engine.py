"""Promises of the engine that do not belong to a single op."""

from __future__ import annotations

import copy
import gc
import itertools
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import microgpt as mg
from microgpt import Scalar
from microgpt.viz import text_tree, to_svg

DEEP = 100_000


def leaf(*values: float) -> mg.Tensor:
    return mg.tensor(list(values), dtype="float64", requires_grad=True)


# ---- gradients add up ------------------------------------------------------------------------


def test_a_node_used_twice_adds_both_gradients() -> None:
    x = leaf(3.0)
    y = x * x
    (y + y * x).sum().backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), 2 * 3 + 3 * 9)


def test_gradients_of_two_losses_add_up_in_the_leaf() -> None:
    x = leaf(1.0, 2.0)
    (x * 2).sum().backward()
    (x * 3).sum().backward()
    assert x.grad is not None and x.grad.tolist() == [5.0, 5.0]


SIDES = st.lists(st.integers(0, 3), min_size=0, max_size=3)


@given(shape=SIDES, data=st.data())
def test_broadcast_gradients_have_the_inputs_shapes(shape: list[int], data: st.DataObject) -> None:
    """Every pair of shapes that broadcast: the gradient is that of explicit tiling."""
    masks = [data.draw(st.lists(st.booleans(), min_size=len(shape), max_size=len(shape)))
             for _ in range(2)]  # fmt: skip
    cuts = [data.draw(st.integers(0, len(shape))) for _ in range(2)]
    shapes = [
        tuple([1 if m else n for n, m in zip(shape, mask, strict=True)])[cut:]
        for mask, cut in zip(masks, cuts, strict=True)
    ]
    rng = np.random.default_rng(0)
    a, b = (mg.tensor(rng.standard_normal(s), requires_grad=True) for s in shapes)
    y = a * b + a - b
    g = rng.standard_normal(y.shape)
    y.backward(mg.tensor(g))
    full = np.broadcast_shapes(*shapes)
    for x, other, sign in ((a, b, 1.0), (b, a, -1.0)):
        wide = g * (np.broadcast_to(other.numpy(), full) + sign)
        extra = wide.ndim - x.ndim
        axes = tuple(range(extra)) + tuple(
            i + extra for i, n in enumerate(x.shape) if n == 1 and wide.shape[i + extra] != 1
        )
        want = wide.sum(axis=axes, keepdims=True).reshape(x.shape)
        assert x.grad is not None and x.grad.shape == x.shape
        np.testing.assert_allclose(x.grad.numpy(), want, atol=1e-12)


# ---- depth -----------------------------------------------------------------------------------


def deep_tensor() -> tuple[mg.Tensor, mg.Tensor]:
    x = leaf(0.5)
    y = x
    for _ in range(DEEP):
        y = y + 1.0
    return x, y


def deep_scalar() -> tuple[Scalar, Scalar]:
    x = Scalar(0.5)
    y = x
    for _ in range(DEEP):
        y = y + 1.0
    return x, y


@pytest.mark.parametrize("make", [deep_tensor, deep_scalar])
def test_chains_of_100_000_ops_run_pickle_draw_and_are_freed(make) -> None:
    x, y = make()
    twin = pickle.loads(pickle.dumps(y))
    assert float(twin.item()) == DEEP + 0.5
    assert len(text_tree(y)) > 1000
    assert to_svg(y).count("<rect") == 102  # 100 nodes, the box of the rest, the background
    y.backward()
    twin.backward()
    assert float(x.grad.item() if isinstance(x, mg.Tensor) else x.grad) == 1.0  # type: ignore
    copy.deepcopy(y)
    del y, twin


def test_a_pickled_graph_gives_the_same_gradients() -> None:
    x = leaf(1.0, 2.0)
    y = mg.softmax(x * mg.tensor([3.0, 4.0], dtype="float64")).sum() + (x**2).sum()
    y = y + mg.cross_entropy(mg.layer_norm(x[None] * x), mg.tensor(np.array([1])))
    # The leaf of a pickled graph belongs to that graph: it is reached through its nodes.
    twin = pickle.loads(pickle.dumps((x, y)))[1]
    y.backward()
    twin.backward()
    (found,) = [node for node in mg.autograd.collect([twin._edge]) if node.op is None]
    assert x.grad is not None
    assert found.grad.tolist() == x.grad.tolist()


def test_a_used_scalar_graph_stays_used_after_pickling() -> None:
    a = Scalar(2.0)
    y = mg.clip(a * 3, 0.0, 10.0) + mg.where(a > 0, a, 0.0)
    y.backward()
    with pytest.raises(mg.errors.GraphFreedError):
        pickle.loads(pickle.dumps(y)).backward()


# ---- memory ----------------------------------------------------------------------------------


def objects_after(step, times: int = 30) -> list[int]:
    counts = []
    for _ in range(times):
        step()
        counts.append(len(gc.get_objects()))
    return counts


def tensor_step() -> None:
    x = leaf(*np.linspace(0.1, 1, 8))
    w = mg.tensor(np.eye(8), requires_grad=True)
    y = mg.layer_norm(mg.tanh(mg.linear(mg.reshape(x, (2, 4)) @ w[:4], w)) * 2)
    loss = mg.cross_entropy(y, mg.tensor([1, 2])) + mg.softmax(y, axis=0).max()
    loss.backward()


def dropped_step() -> None:
    x = leaf(1.0, 2.0)
    mg.exp(mg.sin(x) * x).sum()


def scalar_step() -> None:
    a, b = Scalar(1.0), Scalar(-2.0)
    (a * b + (a - b).tanh() / 3 + mg.clip(b, -1.0, 1.0)).backward()


def transform_step() -> None:
    mg.hessian(lambda x: mg.checkpoint(mg.sin, x).sum())(leaf(1.0, 2.0))
    mg.grad(mg.grad(lambda x: x**3))(2.0)


@pytest.mark.parametrize("step", [tensor_step, dropped_step, scalar_step, transform_step])
def test_memory_stays_flat_without_the_cyclic_collector(step) -> None:
    step()
    gc.collect()
    gc.disable()
    try:
        counts = objects_after(step)
    finally:
        gc.enable()
    # The test runner itself makes a few objects now and then; a leak grows with every step.
    assert min(counts[-10:]) - min(counts[:10]) <= 5, counts


def test_only_what_the_rules_read_is_kept() -> None:
    x = mg.tensor(np.ones(1_000_000, dtype=np.float32), requires_grad=True)
    tracemalloc.start()
    try:
        y = x
        for _ in range(10):
            y = y + 1.0
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 6_000_000, "a chain of additions keeps one array, not ten"


def test_backward_frees_saved_values() -> None:
    x = leaf(1.0, 2.0)
    y = mg.exp(x)
    z = y.sum()
    z.backward()
    assert y._edge is not None and y._edge.saved is None


# ---- misuse ----------------------------------------------------------------------------------


def test_a_second_backward_says_what_to_do() -> None:
    x = leaf(1.0)
    y = mg.exp(x * 2).sum()
    y.backward()
    with pytest.raises(mg.errors.GraphFreedError, match="retain_graph=True") as caught:
        y.backward()
    assert "'sum'" in str(caught.value)


def test_a_graph_that_shares_a_freed_part_is_refused() -> None:
    x = leaf(1.0)
    shared = mg.exp(x)
    (shared * 2).sum().backward()
    with pytest.raises(mg.errors.GraphFreedError, match="'exp'"):
        (shared * 3).sum().backward()


def test_retain_graph_allows_a_second_pass() -> None:
    x = leaf(3.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad is not None and x.grad.tolist() == [12.0]


def test_scalars_refuse_a_second_backward() -> None:
    a = Scalar(3.0)
    y = a * a
    y.backward(retain_graph=True)
    y.backward()
    assert a.grad == 12.0
    with pytest.raises(mg.errors.GraphFreedError, match="'multiply'"):
        y.backward()


def test_a_replaced_value_is_noticed_and_the_op_named() -> None:
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    x.data = x.data * 2
    with pytest.raises(mg.errors.ModifiedError, match="'multiply'"):
        y.backward()


def test_replacing_a_value_that_no_rule_reads_is_harmless() -> None:
    x = leaf(1.0, 2.0)
    y = (x + 1.0).sum()
    x.data = [5.0, 6.0]
    y.backward()
    assert x.grad is not None and x.grad.tolist() == [1.0, 1.0]


def test_scalars_notice_replaced_values_too() -> None:
    a, b = Scalar(2.0), Scalar(3.0)
    y = a * b + a
    b.data = 10.0
    with pytest.raises(mg.errors.ModifiedError, match="'multiply'"):
        y.backward()
    z = a + b
    b.data = 1.0
    z.backward()
    assert b.grad == 1.0


def test_in_place_idioms_rebind_leaves() -> None:
    p = leaf(1.0, 2.0)
    (p * p).sum().backward()
    before = p.detach()
    p.data -= 0.5 * p.grad  # type: ignore[operator]
    assert p.tolist() == [0.0, 0.0] and p.requires_grad and before.tolist() == [1.0, 2.0]
    with pytest.raises(mg.errors.InputTypeError, match="immutable"):
        p[0] = 3.0
    with pytest.raises(mg.errors.GradientError, match="leaf"):
        (p * 2).data = [1.0, 1.0]


def test_numpy_views_cannot_change_a_tensor() -> None:
    host = np.array([1.0, 2.0])
    x = mg.tensor(host, requires_grad=True)
    y = (x * host).sum()
    host[:] = 100.0
    x.numpy()[:] = 100.0
    y.backward()
    assert x.grad is not None and x.grad.tolist() == [1.0, 2.0]


def test_integers_have_no_gradient() -> None:
    with pytest.raises(mg.errors.DTypeError, match="requires_grad needs a float tensor.*int64"):
        mg.tensor([1, 2], requires_grad=True)
    with pytest.raises(mg.errors.DTypeError, match="float"):
        mg.grad(lambda x: x.sum())(mg.tensor([1, 2]))
    with pytest.raises(mg.errors.GradientError, match="requires_grad=True"):
        mg.tensor([1, 2]).sum().backward()


def test_mixed_float_types_raise() -> None:
    a, b = mg.tensor([1.0]), mg.tensor([1.0], dtype="float64")
    for call in (lambda: a + b, lambda: mg.concat([a, b]), lambda: mg.where(a > 0, a, b)):
        with pytest.raises(mg.errors.DTypeError, match="float32 and float64"):
            call()


def test_python_numbers_are_weak_and_integers_become_floats() -> None:
    a = mg.tensor([1.0, 2.0])
    assert {(a * 2).dtype, (2.5 * a).dtype, (a * np.float64(2.5)).dtype} == {np.dtype("float32")}
    assert (a * mg.tensor([1, 2])).dtype == np.dtype("float32")
    assert (mg.tensor([1, 2]) * 2).dtype == np.dtype("int64")
    assert (mg.tensor([1, 2]) / 2).dtype == np.dtype("float32")
    assert mg.exp(mg.tensor([1, 2])).dtype == np.dtype("float32")
    assert mg.exp(1.0) == pytest.approx(np.e) and isinstance(mg.exp(1.0), float)
    assert isinstance(mg.exp(np.ones(2)), np.ndarray)


def test_numpy_arrays_on_either_side() -> None:
    x = leaf(1.0, 2.0)
    host = np.array([3.0, 4.0])
    for y in (host * x, x * host, host - x, host / x, host @ x, x @ host, host > x):
        assert isinstance(y, mg.Tensor)
    with pytest.raises(TypeError):
        np.exp(x)  # type: ignore[call-overload]
    with pytest.raises(mg.errors.GradientError, match="detach"):
        np.asarray(x)


def test_where_does_not_leak_nan_from_the_dead_branch() -> None:
    x = leaf(-1.0, 0.0, 4.0)
    bad = mg.tensor([np.nan, np.inf, 1.0], dtype="float64")
    y = mg.where(x > 0, x, bad)
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [0.0, 0.0, 1.0]
    # An infinite cotangent for the dead branch does not leak either: 0, not 0·∞.
    x.grad = None
    mg.where(x > 0, x, 0.0).backward(mg.tensor(np.array([np.nan, np.inf, 2.0])))
    assert x.grad is not None and x.grad.tolist() == [0.0, 0.0, 2.0]


# ---- functions of functions ------------------------------------------------------------------


@pytest.mark.parametrize("order", range(1, 6))
def test_gradients_nest_to_any_order(order: int) -> None:
    f, want = (lambda x: mg.exp(2 * x) * x), 0.0
    for _ in range(order):
        f = mg.grad(f)
    want = np.exp(1.0) * (2**order * 0.5 + order * 2 ** (order - 1))
    assert float(f(0.5)) == pytest.approx(want)
    g = lambda t: (mg.exp(2 * t) * t).sum()
    for _ in range(order):
        g = (lambda inner: lambda t: mg.grad(inner)(t).sum())(g)
    np.testing.assert_allclose(g(mg.tensor(0.5, dtype="float64")).item(), want)


def test_inner_and_outer_variables_are_not_confused() -> None:
    # d/dx [x · d/dy (x + y)] = 1: the classic perturbation confusion would give 2.
    assert mg.grad(lambda x: x * mg.grad(lambda y: x + y)(1.0))(1.0) == 1.0
    f = mg.grad(lambda x: (x * mg.grad(lambda y: (x * y).sum())(x)).sum())
    assert f(mg.tensor([3.0])).tolist() == [6.0]


def test_grad_reaches_captured_variables() -> None:
    w = leaf(2.0)
    y = mg.grad(lambda x: (x * x * w).sum())(leaf(3.0))
    y.sum().backward()
    assert w.grad is not None and w.grad.tolist() == [6.0]


def test_transforms_agree_with_each_other() -> None:
    rng = np.random.default_rng(1)
    x, v = (mg.tensor(rng.standard_normal(3)) for _ in range(2))

    def f(x: mg.Tensor) -> mg.Tensor:
        return mg.concat([mg.sin(x) * x, mg.softmax(x)])

    full = mg.jacobian(f)(x)
    _, forward = mg.jvp(f, (x,), (v,))
    np.testing.assert_allclose(forward.numpy(), (full @ v).numpy(), atol=1e-14)
    value, pull = mg.vjp(f, x)
    u = mg.tensor(rng.standard_normal(6))
    np.testing.assert_allclose(pull(u)[0].numpy(), (full.T @ u).numpy(), atol=1e-14)
    np.testing.assert_allclose(value.numpy(), f(x).numpy())

    def loss(x: mg.Tensor) -> mg.Tensor:
        return (f(x) ** 2).sum()

    second = mg.hessian(loss)(x)
    np.testing.assert_allclose(second.numpy(), second.T.numpy(), atol=1e-12)
    np.testing.assert_allclose(mg.hvp(loss, (x,), (v,)).numpy(), (second @ v).numpy(), atol=1e-12)


def test_structured_arguments_and_argnums() -> None:
    params = {"w": leaf(1.0, 2.0).detach(), "layers": [leaf(3.0).detach()]}
    value, grads = mg.value_and_grad(lambda p, k: (p["w"].sum() * p["layers"][0] * k).sum())(
        params, 2.0
    )
    assert value.item() == 18.0
    assert grads["w"].tolist() == [6.0, 6.0] and grads["layers"][0].tolist() == [6.0]
    assert mg.grad(lambda a, b: a * b * b, argnums=(0, 1))(2.0, 3.0) == (9.0, 12.0)


def test_no_grad_is_respected_and_transforms_work_inside() -> None:
    x = leaf(2.0)
    with mg.no_grad():
        assert not (x * 2).requires_grad
        assert mg.grad(lambda x: (x * x).sum())(x).tolist() == [4.0]
        with mg.enable_grad():
            assert (x * 2).requires_grad


def test_checkpoint_equals_no_checkpoint_for_arguments_and_captured_weights() -> None:
    rng = np.random.default_rng(0)
    x, w = (mg.tensor(rng.standard_normal((3, 3)), requires_grad=True) for _ in range(2))

    def block(x: mg.Tensor) -> mg.Tensor:
        return mg.tanh(x @ w) * mg.sigmoid(w)

    results = []
    for call in (block, lambda x: mg.checkpoint(block, x)):
        (call(call(x)) * x).sum().backward()
        assert x.grad is not None and w.grad is not None
        results.append((x.grad.numpy(), w.grad.numpy()))
        x.grad = w.grad = None
    for a, b in itertools.pairwise(results):
        np.testing.assert_allclose(a[0], b[0], atol=1e-14)
        np.testing.assert_allclose(a[1], b[1], atol=1e-14)


def test_checkpoint_saves_memory() -> None:
    x = mg.tensor(np.ones(200_000, dtype=np.float32), requires_grad=True)

    def block(x: mg.Tensor) -> mg.Tensor:
        for _ in range(10):
            x = mg.sin(x)
        return x

    def held(call) -> int:
        tracemalloc.start()
        y = call(x)
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        del y
        return size

    assert held(lambda x: mg.checkpoint(block, x)) < held(block) / 5


def test_retain_grad_keeps_the_gradient_of_a_result() -> None:
    x = leaf(2.0)
    y = (x * 3).retain_grad()
    assert y.grad is None
    (y * y).sum().backward()
    assert y.grad is not None and y.grad.tolist() == [12.0]


# ---- debug mode ------------------------------------------------------------------------------


def test_debug_mode_names_the_line_of_a_failing_node() -> None:
    with mg.debug():
        x = leaf(1.0)
        y = mg.exp(x).sum()
        y.backward()
        with pytest.raises(mg.errors.GraphFreedError, match=r"test_engine\.py:\d+"):
            y.backward()


def test_debug_mode_reports_the_first_nan_forward_and_backward() -> None:
    with mg.debug(), np.errstate(all="ignore"):
        with pytest.raises(
            mg.errors.AnomalyError, match=r"(?s)log made the first NaN.*test_engine"
        ):
            mg.log(mg.tensor([-1.0]))
        x = leaf(0.0, 1.0)
        y = mg.sqrt(x).sum()
        with pytest.raises(mg.errors.AnomalyError, match=r"sqrt \(its gradient\)"):
            y.backward()


def test_debug_mode_by_configuration() -> None:
    with mg.configure(debug=True):
        y = leaf(1.0) * 2.0
    assert y._edge is not None and "test_engine.py" in (y._edge.where or "")


# ---- Scalar is micrograd's Value -------------------------------------------------------------


def test_a_program_written_for_value_runs_unmodified() -> None:
    from microgpt import Scalar as Value

    # The example of micrograd's README.
    a = Value(-4.0)
    b = Value(2.0)
    c = a + b
    d = a * b + b**3
    c += c + 1
    c += 1 + c + (-a)
    d += d * 2 + (b + a).relu()
    d += 3 * d + (b - a).relu()
    e = c - d
    f = e**2
    g = f / 2.0
    g += 10.0 / f
    g.backward()
    assert f"{g.data:.4f} {a.grad:.4f} {b.grad:.4f}" == "24.7041 138.8338 645.5773"


def test_scalars_of_all_kinds_of_calls() -> None:
    x = Scalar(0.5)
    y = mg.gelu(x) + mg.softplus(x) + 2.0**x + 1 / x + mg.maximum(x, 0.1) + mg.silu(x)
    y.backward()
    step = 1e-6

    def f(v: float) -> float:
        return float(mg.gelu(v) + mg.softplus(v) + 2.0**v + 1 / v + mg.maximum(v, 0.1) + mg.silu(v))

    assert x.grad == pytest.approx((f(0.5 + step) - f(0.5 - step)) / (2 * step), rel=1e-6)
    with pytest.raises(mg.errors.InputTypeError):
        mg.multiply(x, mg.ones(2))
    with pytest.raises(mg.errors.InputTypeError, match="one number"):
        Scalar([1, 2])  # type: ignore[arg-type]
