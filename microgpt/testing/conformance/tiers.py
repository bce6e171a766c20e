"""The checks of each tier. Each one raises if something is wrong, or returns the error in ulp."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings

import microgpt as mg
from microgpt.ops.table import TABLE, Op
from microgpt.testing.cases import Case
from microgpt.testing.conformance import contract, judge, transformer
from microgpt.testing.strategies import cases

if TYPE_CHECKING:
    from microgpt.testing.conformance.kit import Kit

Check = Callable[[], float | None]

TIER_OF = {
    "elementwise": 2, "movement": 1, "indexing": 4, "reduction": 3, "activation": 3, "linalg": 3,
    "conv": 3, "network": 3,
}  # fmt: skip


# A normalised row of two elements is (1, -1) whatever they are: the gradient is nothing but eps and
# rounding, and no bound by the inputs' own rounding can be kept.
VANISHING = {"layer_norm": lambda case: case.inputs[0].shape[-1] == 2}


def checks(tier: int, kit: Kit) -> Iterator[tuple[str, Check]]:
    """Name and function of each check of a tier."""
    if tier == 0:
        yield from contract.checks(kit.backend)
    elif tier <= 4:
        for op in _ops():
            if TIER_OF[_module(op)] == tier:
                yield op.name, partial(_forward, kit, op)
    elif tier == 5:
        for op in _ops():
            if op.rules is not None or op.body is not None:
                yield op.name, partial(_gradient, kit, op)
    elif tier == 6:
        yield from contract.lifetime_checks(kit.backend)
    elif tier == 7:
        for op in _ops():
            yield op.name, partial(_determinism, kit, op)
    else:
        yield from transformer.checks(kit.backend)


def _module(op: Op) -> str:
    return op.function.__module__.rpartition(".")[2]


def _ops() -> list[Op]:
    return [op for op in TABLE.values() if _module(op) in TIER_OF]


def _dtypes(kit: Kit) -> list[str]:
    return [d for d in ("float32", "float64") if d in kit.backend.dtypes]


def _each_case(kit: Kit, op: Op, check: Callable[[Case], None], share: float = 1.0) -> None:
    """Call `check` with cases drawn from the domain of `op`, the same ones in every run."""

    @settings(
        max_examples=max(1, round(kit.examples * share)),
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]
    )
    @given(case=cases(op))
    def run(case: Case) -> None:
        check(case)

    run()


# ---- calling an op -----------------------------------------------------------------------------


def _inputs(case: Case, dtype: str) -> list[Any]:
    """The inputs, with floats rounded to `dtype` (so that both sides get the same numbers)."""
    return [
        x.astype(dtype) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x
        for x in case.inputs
    ]


def _call(
    backend: str, op: Op, case: Case, inputs: list[Any], dtype: str, wanted: bool = False
) -> tuple[Any, list[Any]]:
    """The op's output on `backend`, and its input tensors."""
    floats = set(case.floats()) if wanted else set()
    with mg.use_backend(backend):
        args = [
            mg.tensor(x.astype(dtype) if x.dtype.kind == "f" else x, requires_grad=i in floats)
            if isinstance(x, np.ndarray)
            else x
            for i, x in enumerate(inputs)
        ]
        params = {
            k: mg.tensor(v) if isinstance(v, np.ndarray) else dtype if k == "dtype" else v
            for k, v in case.params.items()
        }
        return case.call(op.function, *args, **params), args


def _forward(kit: Kit, op: Op) -> float | None:
    kind = judge.accuracy_of(op)
    worst = [0.0]

    def check(case: Case) -> None:
        for dtype in _dtypes(kit):
            inputs = _inputs(case, dtype)

            def reference(*values: Any) -> np.ndarray:
                return _call("numpy", op, case, list(values), "float64")[0].numpy()

            with np.errstate(all="ignore"):
                exact = reference(*inputs)
                y, _ = _call(kit.name, op, case, inputs, dtype)
            found = y.numpy()
            what = f"{op.name} of {_shapes(inputs)} in {dtype}"
            assert y.backend == kit.name, f"{what}: the result is on backend '{y.backend}'"
            assert found.shape == exact.shape, f"{what}: {found.shape}; required: {exact.shape}"
            want = np.dtype(dtype) if exact.dtype.kind == "f" else exact.dtype
            kinds = found.dtype == want or (want.kind in "iu" and found.dtype.kind in "iu")
            assert kinds, f"{what}: dtype {found.dtype}; required: {want}"
            if exact.dtype.kind != "f" or kind == judge.EXACT:
                bound = np.zeros(exact.shape)
                exact = exact.astype(want)
            elif kind == judge.ULP:
                units = float(kit.backend.ulps.get(op.name, 4.0))
                bound = units * np.spacing(np.abs(exact).astype(want)).astype(np.float64)
                if dtype == "float32":
                    worst[0] = max(worst[0], judge.ulps(found, exact))
            else:
                bound = judge.allowed(kind, exact, reference, inputs, dtype)
            wrong = judge.difference(found, exact, bound)
            assert wrong is None, f"{what} {wrong}"

    _each_case(kit, op, check)
    return worst[0] if kind == judge.ULP else None


def _gradient(kit: Kit, op: Op) -> None:
    def check(case: Case) -> None:
        if not case.floats() or VANISHING.get(op.name, lambda _: False)(case):
            return
        for dtype in _dtypes(kit):
            inputs = _inputs(case, dtype)
            with np.errstate(all="ignore"):
                y, args = _call(kit.name, op, case, inputs, dtype, wanted=True)
                if not y.requires_grad:
                    return
                g = np.cos(np.arange(1.0, y.size + 1)).reshape(y.shape).astype(dtype)
                with mg.use_backend(kit.name):
                    y.backward(mg.tensor(g))
            for place, i in enumerate(case.floats()):

                def reference(cotangent: Any, *values: Any) -> np.ndarray:
                    out, leaves = _call("numpy", op, case, list(values), "float64", wanted=True)
                    with mg.use_backend("numpy"):
                        out.backward(mg.tensor(cotangent.astype("float64")))
                    grad = leaves[i].grad  # noqa: B023
                    return np.zeros(leaves[i].shape) if grad is None else grad.numpy()  # noqa: B023

                exact = reference(g, *inputs)
                grad = args[i].grad
                what = f"gradient of {op.name} of {_shapes(inputs)} by input {place} in {dtype}"
                if grad is None:
                    assert not exact.any(), f"{what} is missing"
                    continue
                found = grad.numpy()
                assert found.shape == exact.shape, f"{what}: {found.shape}; want {exact.shape}"
                assert found.dtype == dtype, f"{what}: dtype {found.dtype}; required: {dtype}"
                bound = judge.allowed(judge.COMPOSITE, exact, reference, [g, *inputs], dtype)
                wrong = judge.difference(found, exact, bound)
                assert wrong is None, f"{what} {wrong}"

    _each_case(kit, op, check, share=0.5)


def _determinism(kit: Kit, op: Op) -> None:
    def check(case: Case) -> None:
        dtype = _dtypes(kit)[0]
        inputs = _inputs(case, dtype)
        with np.errstate(all="ignore"):
            runs = [_both(kit, op, case, inputs, dtype) for _ in range(2)]
        for a, b in zip(*runs, strict=True):
            same = np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
            assert same, f"{op.name} of {_shapes(inputs)} gives another result the second time"

    _each_case(kit, op, check, share=0.2)


def _both(kit: Kit, op: Op, case: Case, inputs: list[Any], dtype: str) -> list[np.ndarray]:
    """Output and gradients."""
    differentiable = op.rules is not None or op.body is not None
    y, args = _call(kit.name, op, case, inputs, dtype, wanted=differentiable)
    if not differentiable or not y.requires_grad:
        return [y.numpy()]
    with mg.use_backend(kit.name):
        y.backward(mg.ones(y.shape, dtype=y.dtype))
    grads = [args[i].grad for i in case.floats()]
    return [y.numpy(), *[g.numpy() for g in grads if g is not None]]


def _shapes(inputs: list[Any]) -> str:
    return ", ".join(str(x.shape) if isinstance(x, np.ndarray) else repr(x) for x in inputs)
