"""Tiers 1 to 5: each op's result, and its gradients, against float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from microgpt.errors import MicrogptError
from microgpt.ops.table import Op
from microgpt.testing.cases import Case
from microgpt.testing.conformance import inputs, judge
from microgpt.testing.conformance.calling import Call
from microgpt.testing.conformance.certain import certain_cases
from microgpt.testing.conformance.reference import NAME as REFERENCE
from microgpt.testing.conformance.reference import rounding

if TYPE_CHECKING:
    from microgpt.testing.conformance.kit import Kit


def floats(kit: Kit, family: str = "normal") -> list[str]:
    """The float types to check; the second one only on some families, to save time."""
    found = [d for d in ("float32", "float64") if d in kit.backend.dtypes]
    return found if family in ("normal", "long") else found[:1]


def forward(kit: Kit, op: Op) -> float | None:
    """The op on drawn inputs, on special numbers, on integers and booleans."""
    worst = [0.0]
    drawn: list[Case] = []

    def check(case: Case, layouts: tuple[str, ...], family: str) -> None:
        drawn.append(case)
        for dtype in floats(kit, family):
            _one(kit, Call(op, case, dtype, layouts), worst)
        for dtype in ("int32", "int64", "bool"):
            other = inputs.converted(op, case, dtype)
            if other is not None and dtype in kit.backend.dtypes and family != "extreme":
                _one(kit, Call(op, other, dtype, layouts), worst)

    inputs.each(op, kit.examples, check)
    largest = max(drawn, key=lambda c: sum(np.size(x) for x in c.inputs))
    for case in (*certain_cases(op), *inputs.special_cases(op, largest)):
        _one(kit, Call(op, case, floats(kit)[0]), worst)
    return worst[0] if op.accuracy == judge.ULP else None


def _one(kit: Kit, call: Call, worst: list[float]) -> None:
    def reference(*values: Any) -> np.ndarray:
        return call.on(REFERENCE, values)[0].numpy()

    with np.errstate(all="ignore"):
        try:
            exact = reference(*call.inputs)
        except MicrogptError as error:  # where there is no result, a backend must say so too
            _refused(kit, call, error)
            return
        y, args = call.on(kit.name)
    found = y.numpy()
    assert y.backend == kit.name, f"{call}: the result is on backend '{y.backend}'"
    assert found.shape == exact.shape, f"{call}: shape {found.shape}; required: {exact.shape}"
    want = np.dtype(call.dtype) if exact.dtype.kind == "f" else exact.dtype
    kinds = found.dtype == want or (want.kind in "iu" and found.dtype.kind in "iu")
    assert kinds, f"{call}: dtype {found.dtype}; required: {want}"
    bound, signs = _bound(kit, call, found, exact, reference), judge.keeps_zeros(call.op)
    wrong = judge.difference(found, exact, bound, signs)
    assert wrong is None, f"{call} {wrong}"
    _unchanged(call, args)
    if call.dtype == "float32" and exact.dtype.kind == "f":
        worst[0] = max(worst[0], judge.ulps(found, exact))


def _refused(kit: Kit, call: Call, error: MicrogptError) -> None:
    try:
        call.on(kit.name)
    except MicrogptError:
        return
    raise AssertionError(f"{call} must raise {type(error).__name__}: {error}")


def _bound(kit: Kit, call: Call, found: np.ndarray, exact: np.ndarray, reference: Any) -> Any:
    kind = call.op.accuracy
    if exact.dtype.kind != "f" or kind == judge.EXACT:
        return 0.0
    if kind == judge.ULP:
        units = float(kit.backend.ulps.get(call.op.name, 4.0))
        return judge.ulp_bound(exact, units, call.dtype)
    if kind == judge.REDUCTION:
        return judge.reduction_bound(reference, call.inputs, call.dtype)
    if judge.near(found, exact, call.dtype):
        return np.inf
    return judge.composite_bounds(
        [exact], lambda *x: [reference(*x)], call.inputs, call.dtype, rounding=rounding
    )[0]


def _unchanged(call: Call, args: list[Any]) -> None:
    for i, (x, tensor) in enumerate(zip(call.inputs, args, strict=True)):
        if isinstance(x, np.ndarray):
            same = np.array_equal(tensor.numpy(), x, equal_nan=x.dtype.kind == "f")
            assert same, f"{call}: the kernel changed its input {i}"


def gradient(kit: Kit, op: Op) -> None:
    """The gradients by all inputs, for a given gradient of the output."""

    def check(case: Case, layouts: tuple[str, ...], family: str) -> None:
        for dtype in floats(kit, family):
            call = Call(op, case, dtype, layouts)
            if call.differentiable():
                _gradients(kit, call)

    inputs.each(op, kit.examples, check, share=0.5)
    for case in certain_cases(op):
        check(case, ("plain",), "normal")


def _gradients(kit: Kit, call: Call) -> None:
    with np.errstate(all="ignore"):
        shape = call.on(kit.name)[0].shape
        g = call.cotangent(shape)
        y, grads = call.gradients(kit.name, g)
    if not y.requires_grad:
        return

    def reference(cotangent: Any, *values: Any) -> list[np.ndarray]:
        _, found = call.gradients(REFERENCE, cotangent, values)
        places = call.case.floats()
        return [
            np.zeros(values[i].shape) if grad is None else grad.numpy()
            for i, grad in zip(places, found, strict=True)
        ]

    with np.errstate(all="ignore"):
        exact = reference(g, *call.inputs)
    near = [
        grad is not None and judge.near(grad.numpy(), want, call.dtype)
        for grad, want in zip(grads, exact, strict=True)
    ]
    bounds: list[Any] = [0.0] * len(exact)
    if not all(near):
        bounds = judge.composite_bounds(
            exact, reference, [g, *call.inputs], call.dtype, rounding=rounding
        )
    for place, (grad, want, bound) in enumerate(zip(grads, exact, bounds, strict=True)):
        if near[place] and grad.dtype == call.dtype:
            continue
        what = f"gradient by input {place} of {call}"
        if grad is None:
            assert not want.any(), f"{what} is missing"
            continue
        found = grad.numpy()
        assert found.shape == want.shape, f"{what}: shape {found.shape}; required: {want.shape}"
        assert found.dtype == call.dtype, f"{what}: {found.dtype}; required: {call.dtype}"
        wrong = judge.difference(found, want, bound)
        assert wrong is None, f"{what} {wrong}"
