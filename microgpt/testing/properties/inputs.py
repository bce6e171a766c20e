"""Properties of what ops take beside float tensors: raw arrays, Python numbers, integers."""

from __future__ import annotations

from typing import Any

import numpy as np

import microgpt as mg
from microgpt.ops.table import Op
from microgpt.testing.properties.base import of_ops
from microgpt.testing.properties.behaviour import every, without_kernels
from microgpt.testing.properties.gradients import same, smooth
from microgpt.testing.rows import call, cotangent_for
from microgpt.testing.strategies import Drawer, case_of


@of_ops(when=every, share=0.5)
def raw_arrays(op: Op, d: Drawer) -> None:
    """Raw arrays, and indices as lists, give what tensors give; the definition of fused ops too."""
    case = case_of(op, d)
    want = call(op, case).numpy()
    inputs = [
        # Without elements a list has no shape.
        x.tolist() if op.name in ("take", "gather") and i == 1 and x.size and d.boolean() else x
        for i, x in enumerate(case.inputs)
    ]

    def found() -> np.ndarray:
        return np.asarray(case.call(op.function, *inputs, **case.params))

    same(found(), want, f"{op.name} of raw arrays", rtol=1e-13)
    if op.body is not None:
        with without_kernels(op):
            same(found(), want, f"{op.name} of raw arrays, by its definition", rtol=1e-12)


@of_ops(when=lambda op: smooth(op) and op.elementwise and op.arity == 2)
def numbers_as_inputs(op: Op, d: Drawer) -> None:
    """A Python number in the place of an array gives what an array of that number gives."""
    x = d.of("ties").array()
    number = d.sampled([2.0, 0.5, 0.0, -1.5, 3, 0, -1])
    place = d.number(0, 1)
    results: list[tuple[Any, Any]] = []
    for other in (number, np.full(x.shape, float(number))):
        leaf = mg.tensor(x, requires_grad=True)
        constant = mg.tensor(other) if isinstance(other, np.ndarray) else other
        with np.errstate(all="ignore"):
            y = op.function(constant, leaf) if place else op.function(leaf, constant)
            y.backward(mg.tensor(cotangent_for(y.shape)))
        results.append((y.numpy(), np.zeros(x.shape) if leaf.grad is None else leaf.grad.numpy()))
    for what, found, want in zip(("value", "gradient"), *results, strict=True):
        unusual = ~np.isfinite(want)
        text = f"{op.name} with the number {number} as input {1 - place}: {what}"
        assert np.array_equal(found[unusual], want[unusual], equal_nan=True), text
        same(np.where(unusual, 0.0, found), np.where(unusual, 0.0, want), text, rtol=1e-13)


@of_ops(when=lambda op: not op.floats and op.body is None and op.name != "transfer", share=0.5)
def whole_numbers(op: Op, d: Drawer) -> None:
    """Integers give the integers that floats of the same values give."""
    case = case_of(op, d.of("ties"))
    inputs = [
        np.asarray(np.round(x * 2)) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x
        for x in case.inputs
    ]
    floats = {i for i in case.floats() if i not in op.index_inputs}
    whole = [x.astype(np.int64) if i in floats else x for i, x in enumerate(inputs)]
    if any(isinstance(v, float) and v != int(v) for v in case.params.values()):
        return
    want = call(op, case.replaced(inputs)).numpy()
    y = call(op, case.replaced(whole)).numpy()
    same(y, want, f"{op.name} of integers", rtol=0.0)
