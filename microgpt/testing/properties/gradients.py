"""Properties of the gradients of single ops: their values, their conventions, their algebra."""

from __future__ import annotations

from typing import Any

import numpy as np

import microgpt as mg
from microgpt.autograd import gradients_of
from microgpt.ops.table import Op
from microgpt.plugins import registry
from microgpt.testing.cases import Case
from microgpt.testing.properties.base import of_ops
from microgpt.testing.rows import as_function, call, check_row, cotangent_for, run
from microgpt.testing.strategies import Drawer, case_of
from microgpt.testing.subject import Subject


def smooth(op: Op) -> bool:
    """Whether there is a gradient."""
    return op.rules is not None or op.body is not None


def on_scalars(op: Op) -> bool:
    """Whether the op works on `Scalar`."""
    return smooth(op) and (
        registry.kernel("python", op.name) is not None or op.name in ("gelu", "silu")
    )


def same(found: Any, want: Any, what: str, rtol: float = 1e-11, slack: float = 0.0) -> None:
    """Both are missing, or of one shape and equal up to `rtol` of the largest, and `slack`."""
    if found is None or want is None:
        empty = found is want or not np.any(want if found is None else found)
        assert empty, f"{what}: one gradient is missing: {found} and {want}"
        return
    assert found.shape == want.shape, f"{what}: shapes {found.shape} and {want.shape}"
    found, want = np.asarray(found, "float64"), np.asarray(want, "float64")
    bound = rtol * max(1.0, float(np.abs(want).max(initial=0.0))) + slack
    away = float(np.abs(found - want).max(initial=0.0))
    assert away <= bound, f"{what}: they differ by {away:.3g}; allowed: {bound:.1g}"


# ---- against finite differences ----------------------------------------------------------------


@of_ops(1, 2, 3, 4, 5, 9, 10, 11, 12, 13, 21, when=smooth)
def gradcheck(op: Op, d: Drawer) -> None:
    """Everything that `gradcheck` looks at: value, shape, linearity, layouts, nothing changed."""
    check_row(op, case_of(op, d), order=1)


@of_ops(7, when=smooth, share=0.25)
def gradcheck_twice(op: Op, d: Drawer) -> None:
    """The gradient of the gradient equals finite differences of the gradient."""
    check_row(op, case_of(op, d), order=2, checks=("SECOND_ORDER",))


@of_ops(14, when=smooth, share=0.2)
def long_sizes(op: Op, d: Drawer) -> None:
    """Gradients are right at the sizes where vectorised code has a tail: 63 to 65, 255 to 257."""
    check_row(op, case_of(op, d.of("long")), order=1, checks=("VALUE", "LAYOUT"))


@of_ops(22, 23, when=lambda op: op.kinks is not None and not op.jumps)
def ties(op: Op, d: Drawer) -> None:
    """On kinks a gradient lies between the slopes of both sides; shares of ties make the whole."""
    check_row(op, case_of(op, d.of("ties")), order=1, checks=("VALUE", "TIE", "NONDET"))


@of_ops(22, 23, when=lambda op: op.kinks is not None)
def declared_kinks(op: Op, d: Drawer) -> None:
    """On kinks the gradient is the one that the row of the table declares."""
    case = case_of(op, d)
    shapes = [np.shape(case.inputs[i]) for i in case.floats()]
    if op.kinks == "share":
        _equal_shares(op, case, shapes)
        return
    points: Any = op.kinks(case.params) if callable(op.kinks) else op.kinks
    for point, slope in points.items():
        _, grads = run(op, with_floats(case, [np.full(s, point) for s in shapes]))
        for shape, grad in zip(shapes, grads, strict=True):
            same(grad, cotangent_for(shape) * slope, f"{op.name}: slope at {point}", rtol=0.0)


def _equal_shares(op: Op, case: Case, shapes: list[tuple[int, ...]]) -> None:
    """All inputs are equal: each output's gradient is divided among the inputs that reach it."""

    def output(move: int | None = None, by: float = 0.0) -> np.ndarray:
        flat = np.full(sum(int(np.prod(s)) for s in shapes), 0.5)
        if move is not None:
            flat[move] += by
        parts = np.split(flat, np.cumsum([int(np.prod(s)) for s in shapes])[:-1])
        moved = [p.reshape(s) for p, s in zip(parts, shapes, strict=True)]
        return np.asarray(call(op, with_floats(case, moved)).numpy())

    level = output()
    size = sum(int(np.prod(s)) for s in shapes)
    # A larger input shows in a maximum, a smaller one in a minimum.
    reached = [(output(k, 1.0) != level) | (output(k, -1.0) != level) for k in range(size)]
    counts = np.sum(reached, axis=0) if size else np.ones_like(level)
    g = cotangent_for(level.shape)
    want = np.array([float(np.sum((g / np.maximum(counts, 1))[hit])) for hit in reached])
    _, grads = run(op, with_floats(case, [np.full(s, 0.5) for s in shapes]))
    found = [np.zeros(s) if x is None else x for x, s in zip(grads, shapes, strict=True)]
    same(np.concatenate([x.reshape(-1) for x in found]), want, f"{op.name}: shares of ties")


def with_floats(case: Case, values: list[np.ndarray]) -> Case:
    """`case` with other numbers."""
    inputs = list(case.inputs)
    for i, value in zip(case.floats(), values, strict=True):
        inputs[i] = value
    return case.replaced(inputs)


@of_ops(24, when=smooth)
def extremes(op: Op, d: Drawer) -> None:
    """Large and signed-zero inputs make no NaN, and where the value is finite the gradient is."""
    case = case_of(op, d.of("extreme"))
    with np.errstate(all="ignore"):
        y, grads = run(op, case)
    assert not np.isnan(y).any(), f"{op.name} makes NaN of finite inputs"
    if np.isfinite(y).all():
        for i, grad in zip(case.floats(), grads, strict=True):
            if grad is not None:
                bad = f"{op.name}: the value is finite, the gradient by input {i} is not"
                assert np.isfinite(grad).all(), bad


# ---- algebra -----------------------------------------------------------------------------------


@of_ops(6, when=smooth, share=0.5)
def adjoint(op: Op, d: Drawer) -> None:
    """Forward and backward derivatives belong together: ⟨v, J u⟩ = ⟨Jᵀ v, u⟩."""
    case = case_of(op, d)
    floats = case.floats()
    rng = d.rng()
    steps = tuple(
        [mg.tensor(np.asarray(rng.normal(size=np.shape(case.inputs[i])))) for i in floats]
    )
    points = tuple([mg.tensor(case.inputs[i]) for i in floats])

    def of_floats(*tensors: Any) -> Any:
        return call(op, case, dict(zip(floats, tensors, strict=True)))

    y, forward = mg.jvp(of_floats, points, steps)
    assert forward.shape == y.shape, f"{op.name}: jvp of shape {forward.shape} for {y.shape}"
    v = cotangent_for(y.shape)
    _, grads = run(op, case)
    pairs = zip(grads, steps, strict=True)
    backward = sum(float((g * u.numpy()).sum()) for g, u in pairs if g is not None)
    terms = float((np.abs(v * forward.numpy())).sum())
    away = abs(float((v * forward.numpy()).sum()) - backward)
    assert away <= 1e-10 * max(1.0, terms), f"{op.name}: ⟨v, Ju⟩ and ⟨Jᵀv, u⟩ differ by {away:.3g}"


@of_ops(8, when=smooth, share=0.5)
def hessian_symmetry(op: Op, d: Drawer) -> None:
    """Second derivatives do not depend on their order: uᵀ H w = wᵀ H u."""
    case = case_of(op, d)
    floats = case.floats()
    subject = Subject(as_function(op, case), case.inputs, floats, {})
    rng = d.rng()
    u, w = ([rng.normal(size=np.shape(case.inputs[i])) for i in floats] for _ in range(2))
    shape = subject.value(subject.points).shape
    first = subject.gradient_of_gradient(subject.points, cotangent_for(shape), u)
    second = subject.gradient_of_gradient(subject.points, cotangent_for(shape), w)

    def product(weights: list[Any], columns: list[Any]) -> tuple[float, float]:
        terms = [x * np.asarray(h) for x, h in zip(weights, map(_numbers, columns), strict=True)]
        return sum(float(t.sum()) for t in terms), sum(float(np.abs(t).sum()) for t in terms)

    (one, size), (other, _) = product(w, first), product(u, second)
    away = abs(one - other)
    assert away <= 1e-9 * max(1.0, size), f"{op.name}: uᵀHw and wᵀHu differ by {away:.3g}"


def _numbers(x: Any) -> np.ndarray:
    return x.numpy() if hasattr(x, "numpy") else np.asarray(x)


@of_ops(15, when=lambda op: smooth(op) and op.arity != 1, share=0.5)
def same_input_twice(op: Op, d: Drawer) -> None:
    """One tensor in several places gets the sum of what each place would get."""
    case = case_of(op, d)
    floats = case.floats()
    if not floats:
        return
    x = case.inputs[floats[0]]
    places = [i for i in floats if op.elementwise or np.shape(case.inputs[i]) == x.shape]
    inputs = [x if i in places else v for i, v in enumerate(case.inputs)]
    apart = case.replaced(inputs)
    _, grads = run(op, apart)
    want = sum(g for i, g in zip(floats, grads, strict=True) if i in places and g is not None)
    leaf = mg.tensor(x, requires_grad=True)
    y = call(op, apart, dict.fromkeys(places, leaf))
    y.backward(mg.tensor(cotangent_for(y.shape)))
    same(_grad(leaf), np.asarray(want) * np.ones(x.shape), f"{op.name} of one tensor twice")


@of_ops(16, when=smooth, share=0.5)
def sum_of_paths(op: Op, d: Drawer) -> None:
    """A result used twice, and an input used along two paths, collect the sum."""
    case = case_of(op, d)
    floats = case.floats()
    leaves = {i: mg.tensor(case.inputs[i], requires_grad=True) for i in floats}
    first = call(op, case, {i: mg.ops.identity(x) for i, x in leaves.items()})
    second = call(op, case, {i: mg.ops.identity(x) for i, x in leaves.items()})
    g = cotangent_for(first.shape)
    # One use of the result lies two nodes further on: it must be waited for.
    later = mg.ops.identity(mg.ops.identity(first))
    total = mg.sum(first * g) + mg.sum(later * (0.5 * g)) + mg.sum(second * (2.0 * g))
    total.backward()
    _, grads = run(op, case)
    for i, grad in zip(floats, grads, strict=True):
        want = np.zeros(leaves[i].shape) if grad is None else grad * 3.5
        same(_grad(leaves[i]), want, f"{op.name}: input {i} along three paths")


def _grad(leaf: Any) -> np.ndarray:
    return np.zeros(leaf.shape) if leaf.grad is None else leaf.grad.numpy()


@of_ops(17, when=smooth, share=0.1)
def unused_input(op: Op, d: Drawer) -> None:
    """What the output does not depend on has gradient 0, of its own shape."""
    case = case_of(op, d)
    leaves = {i: mg.tensor(case.inputs[i], requires_grad=True) for i in case.floats()}
    other = mg.tensor(d.filled(d.shape()), requires_grad=True)
    y = call(op, case, leaves)
    *_, grad = gradients_of([y], [*leaves.values(), other], [mg.ones(y.shape, dtype=y.dtype)])
    assert grad.shape == other.shape and not grad.numpy().any(), f"{op.name}: {grad}"
    assert grad.dtype == other.dtype and other.grad is None


@of_ops(19, 20, when=lambda op: smooth(op) and op.broadcasts)
def broadcast_equals_tile(op: Op, d: Drawer) -> None:
    """Broadcasting equals copying the inputs first, and adding the copies' gradients up."""
    case = case_of(op, d)
    y, grads = run(op, case)
    matrices = 0 if op.name != "matmul" else 2
    lead = y.shape[: y.ndim - matrices]
    tiled = []
    for x in case.inputs:
        own = np.shape(x)[np.ndim(x) - matrices :]
        copy = np.broadcast_to(x, (*lead, *own)).copy() if isinstance(x, np.ndarray) else x
        tiled.append(copy)
    wide, wide_grads = run(op, case.replaced(tiled))
    same(y, wide, f"{op.name} of tiled inputs", rtol=1e-13)
    for i, grad, full in zip(case.floats(), grads, wide_grads, strict=True):
        want = None if full is None else summed_to(full, np.shape(case.inputs[i]))
        same(grad, want, f"{op.name}: gradient by broadcast input {i}")


def summed_to(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """`x` summed over what broadcasting added."""
    x = x.sum(tuple(range(x.ndim - len(shape))))
    for axis, n in enumerate(shape):
        if n == 1 and x.shape[axis] != 1:
            x = x.sum(axis, keepdims=True)
    return x
