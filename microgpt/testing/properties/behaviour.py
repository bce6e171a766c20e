"""Properties of how single ops behave: memory, types, rows, engines, fused kernels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import microgpt as mg
from microgpt.hooks import hookimpl
from microgpt.ops.table import Op
from microgpt.plugins import plugged, registry
from microgpt.testing.cases import Case
from microgpt.testing.gradcheck import gradcheck
from microgpt.testing.properties.base import of_ops
from microgpt.testing.properties.gradients import on_scalars, same, smooth, with_floats
from microgpt.testing.rows import call, run
from microgpt.testing.strategies import Drawer, case_of


def every(op: Op) -> bool:
    """All ops."""
    return True


@of_ops(2, when=smooth, share=0.5)
def float32_dtype(op: Op, d: Drawer) -> None:
    """Of float32 inputs the output and all gradients are float32."""
    case = case_of(op, d)
    if "dtype" in case.params:
        return
    y, grads = run(op, case, "float32")
    found = {y.dtype, *[g.dtype for g in grads if g is not None]}
    assert found == {np.dtype("float32")}, f"{op.name} of float32 gives {found}"


@of_ops(27, when=every, share=0.5)
def fresh_result(op: Op, d: Drawer) -> None:
    """New numbers in the same memory give a new result: nothing is remembered by address."""
    case = case_of(op, d)
    buffers = [np.array(x) if isinstance(x, np.ndarray) else x for x in case.inputs]
    shared = case.replaced(buffers)
    with np.errstate(all="ignore"):
        np.array(_raw(op, shared))
        for i in case.floats():
            buffers[i][...] = np.flip(buffers[i])
        found = np.array(_raw(op, shared))
        want = np.array(_raw(op, case.replaced([_copy(x) for x in buffers])))
    same_bits = np.array_equal(found, want, equal_nan=want.dtype.kind == "f")
    assert same_bits, f"{op.name} gives an old result for new numbers in the same memory"


def _copy(x: Any) -> Any:
    return np.array(x) if isinstance(x, np.ndarray) else x


def _raw(op: Op, case: Case) -> Any:
    return case.call(op.function, *case.inputs, **case.params)


@of_ops(9, 28, when=every, share=0.5)
def no_hidden_state(op: Op, d: Drawer) -> None:
    """A call gives the same bits again after other calls, and its result is left alone by them."""
    case, other = case_of(op, d), case_of(op, d)
    with np.errstate(all="ignore"):
        kept = call(op, case)
        before = np.array(kept.numpy())
        first = _bits(op, case)
        _bits(op, other)
        again = _bits(op, case)
    for a, b in zip(first, again, strict=True):
        equal = np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        assert equal, f"{op.name} gives another result after another call"
    untouched = np.array_equal(kept.numpy(), before, equal_nan=before.dtype.kind == "f")
    assert untouched, f"a result of {op.name} changed while it was held"


def _bits(op: Op, case: Case) -> list[np.ndarray]:
    y, grads = run(op, case)
    return [np.array(y), *[np.array(g) for g in grads if g is not None]]


@of_ops(18, 39, when=every, share=0.5)
def rows_independent(op: Op, d: Drawer) -> None:
    """A stack of inputs gives the stack of outputs, and the stack of gradients."""
    case = case_of(op, d)
    rows = tuple(range(len(case.inputs))) if op.elementwise else case.rows
    if not rows:
        return
    if op.elementwise:  # so that the new dimension comes first for all of them
        case = _of_one_shape(case)
    case = case.replaced(case.inputs, _from_the_end(case))
    other = [np.flip(x) if i in rows and isinstance(x, np.ndarray) else x
             for i, x in enumerate(case.inputs)]  # fmt: skip
    join = np.concatenate if case.joined else np.stack
    both = [join([x, z]) if i in rows and isinstance(x, np.ndarray) else x
            for i, (x, z) in enumerate(zip(case.inputs, other, strict=True))]  # fmt: skip
    (one, grads), (two, more) = run(op, case), run(op, case.replaced(other))
    together, stacked = run(op, case.replaced(both), cotangents=join)
    same(together, join([one, two]), f"{op.name} of a stack", rtol=1e-13)
    for i, a, b, ab in zip(case.floats(), grads, more, stacked, strict=True):
        if i in rows:
            want = None if a is None or b is None else join([a, b])
        else:
            want = None if a is None or b is None else a + b
        same(ab, want, f"{op.name}: gradient by input {i} of a stack")


def _of_one_shape(case: Case) -> Case:
    arrays = [x for x in case.inputs if isinstance(x, np.ndarray)]
    shape = np.broadcast_shapes(*[x.shape for x in arrays])
    wide = [np.broadcast_to(x, shape).copy() if isinstance(x, np.ndarray) else x
            for x in case.inputs]  # fmt: skip
    return case.replaced(wide)


def _from_the_end(case: Case) -> dict[str, Any]:
    """The parameters with axes counted from the end, so that they hold for a stack too."""
    ndim = np.ndim(case.inputs[0])

    def turned(axis: Any) -> Any:
        if isinstance(axis, tuple):
            return tuple([turned(a) for a in axis])
        return axis - ndim if isinstance(axis, int) and axis >= 0 else axis

    return {k: turned(v) if k == "axis" else v for k, v in case.params.items()}


@of_ops(26, when=on_scalars, share=0.5)
def scalar_engine(op: Op, d: Drawer) -> None:
    """Scalars have the values and gradients of tensors, and those of finite differences."""
    case = case_of(op, d)
    if any(np.size(x) == 0 for x in case.inputs):
        return
    values = [x.reshape(-1)[0].item() if isinstance(x, np.ndarray) else x for x in case.inputs]
    floats = case.floats()
    if "dtype" in case.params:
        return
    gradcheck(op.function, *values, wrt=floats, kwargs=case.params, order=2)
    scalars = [mg.Scalar(v) if i in floats else v for i, v in enumerate(values)]
    tensors = [mg.tensor(v, "float64", requires_grad=True) if i in floats else v
               for i, v in enumerate(values)]  # fmt: skip
    x, y = (op.function(*given, **case.params) for given in (scalars, tensors))
    x.backward()
    y.backward()
    same(np.asarray(x.data), y.numpy(), f"{op.name} of scalars", rtol=1e-13)
    for i in floats:
        grad: Any = tensors[i].grad
        want = np.asarray(0.0) if grad is None else grad.numpy()
        same(np.asarray(scalars[i].grad), want, f"{op.name} of scalars: gradient {i}", 1e-13)


@of_ops(when=lambda op: op.body is not None, share=1.0)
def fused_equals_body(op: Op, d: Drawer) -> None:
    """A fast kernel, and that of its gradient, equal the op's definition in terms of other ops."""
    case = case_of(op, d.of(d.sampled(["normal", "extreme"])))
    y, grads = run(op, case)
    with without_kernels(op):
        want, wanted = run(op, case)
        near, nears = run(op, _next_to(case, d.rng()))
    what = f"{op.name} by its kernel and by its definition"
    same(y, want, what, rtol=1e-12, slack=_apart(near, want))
    for i, a, b, c in zip(case.floats(), grads, wanted, nears, strict=True):
        what = f"{op.name}: gradient {i} by kernel and by definition"
        same(a, b, what, rtol=1e-10, slack=_apart(c, b))


def _next_to(case: Case, rng: np.random.Generator) -> Case:
    """`case` with each number rounded up or down once more.

    How far results move then, they may differ: a sum of large terms that cancel out depends on
    the order in which a BLAS adds them, which is another one on each processor.
    """
    unit = np.finfo("float64").eps
    return with_floats(
        case,
        [case.inputs[i] * (1 + unit * rng.choice((-1, 1), np.shape(case.inputs[i])))
         for i in case.floats()],
    )  # fmt: skip


def _apart(near: Any, want: Any) -> float:
    """A few times as far as two results are from one another; 0 if that is no number."""
    if near is None or want is None:
        return 0.0
    with np.errstate(invalid="ignore"):
        away = float(np.abs(np.asarray(near) - np.asarray(want)).max(initial=0.0))
    return 8 * away if np.isfinite(away) else 0.0


class _Replacement:
    """A plugin whose kernel for one op does what the kernel before it did."""

    def __init__(self, op: str) -> None:
        self.op = op
        self.kernel: Any = registry.kernel("numpy", op)

    @hookimpl(tryfirst=True)
    def microgpt_kernel(self, backend: str, op: str) -> Any:
        """The kernel of old, by the hand of another plugin."""
        return self.kernel if (backend, op) == ("numpy", self.op) else None


@of_ops(when=lambda op: op.saving is not None and op.saving[np.ndarray] is not None, share=0.3)
def another_forward_kernel(op: Op, d: Drawer) -> None:
    """A gradient kernel is right too where another plugin computes the forward pass."""
    case = case_of(op, d)
    y, grads = run(op, case)
    with plugged(_Replacement(op.name)):
        other, others = run(op, case)
    same(other, y, f"{op.name} by another plugin", rtol=1e-13)
    for i, a, b in zip(case.floats(), others, grads, strict=True):
        same(a, b, f"{op.name}: gradient {i} where another plugin computed the output")


@contextmanager
def without_kernels(op: Op) -> Iterator[None]:
    """Inside, a fused op has no kernel on any backend and runs its body."""
    caches = [c for c in (op.fast, op.fast_recorded) if c is not None]
    for cache in caches:
        for kind in registry.backend("numpy").array_types:
            cache[kind] = None  # pyright: ignore[reportArgumentType]
    try:
        yield
    finally:
        for cache in caches:
            cache.clear()
