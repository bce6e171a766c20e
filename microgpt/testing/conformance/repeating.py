"""Tiers 6 and 7 for each op: memory that is used again, and the same result every time."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

import microgpt as mg
from microgpt.ops.table import Op
from microgpt.testing.cases import Case
from microgpt.testing.conformance import inputs
from microgpt.testing.conformance.calling import Call
from microgpt.testing.conformance.certain import certain_cases
from microgpt.testing.conformance.forward import floats

if TYPE_CHECKING:
    from microgpt.testing.conformance.kit import Kit

VARIANTS = 4


def reuse(kit: Kit, op: Op) -> None:
    """Results stay as they are while other calls run; and old results never come back."""

    def check(case: Case, layouts: tuple[str, ...], family: str) -> None:
        call = Call(op, case, floats(kit)[0])
        variants = [[_turned(x, k) for x in call.inputs] for k in range(VARIANTS)]
        with np.errstate(all="ignore"):
            kept, first = [], []
            for v in variants:
                kept.append(_everything(kit, call, v))
                first.append([t.numpy() for t in kept[-1][0]])
            _everything(kit, call, variants[-1])
            for k, (results, _) in enumerate(kept):
                for t, before in zip(results, first[k], strict=True):
                    assert _same(t.numpy(), before), (
                        f"{call}: a result changed while it was held; kernels must return new "
                        "arrays, which nothing writes to any more"
                    )
            del kept
            alive = []
            for k, v in enumerate(variants):
                results, args = _everything(kit, call, v)
                for t, before in zip(results, first[k], strict=True):
                    assert _close(t.numpy(), before), (
                        f"{call}: other numbers than before for the same inputs, after arrays were "
                        "freed and made; is something kept by the address of an array?"
                    )
                alive.append(_reference_to(results[0]))
                del results, args, t
            _let_go(kit, call, alive)

    inputs.each(op, kit.examples, check, families=("long",), share=0.4, least=1)


def _everything(kit: Kit, call: Call, values: list[Any]) -> tuple[list[Any], list[Any]]:
    """Output and gradients as tensors, and the input tensors."""
    y, args = call.on(kit.name, values, wanted=call.differentiable())
    if not y.requires_grad:
        return [y], args
    with mg.use_backend(kit.name):
        y.backward(mg.tensor(call.cotangent(y.shape)))
    grads = [args[i].grad for i in call.case.floats()]
    return [y.detach(), *[g for g in grads if g is not None]], args


def _turned(x: Any, k: int) -> Any:
    """Other numbers of the same kind: those of `x` in another order."""
    if isinstance(x, np.ndarray) and x.dtype.kind == "f":
        return np.roll(x.reshape(-1), k).reshape(x.shape)
    return x


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _close(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal but for rounding: that it is the same every time is for tier 7 to say."""
    if a.dtype.kind != "f" or not a.size:
        return _same(a, b)
    scale = np.max(np.abs(b), where=np.isfinite(b), initial=0.0)
    return np.allclose(a, b, rtol=1e-4, atol=1e-5 * float(scale), equal_nan=True)


def _reference_to(tensor: Any) -> Any:
    try:
        return weakref.ref(tensor._data)
    except TypeError:  # an array class that allows none
        return None


def _let_go(kit: Kit, call: Call, alive: list[Any]) -> None:
    kit.backend.synchronize()
    known = [r for r in alive if r is not None]
    if sum(r() is not None for r in known) > len(known) / 2:
        gc.collect()
    left = sum(r() is not None for r in known)
    assert left <= len(known) / 2, (
        f"{call}: {left} of {len(known)} results are still alive after nobody holds them; "
        "something keeps a reference to them"
    )


def determinism(kit: Kit, op: Op) -> None:
    """The same inputs give the same bits."""

    def check(case: Case, layouts: tuple[str, ...], family: str) -> None:
        call = Call(op, case, floats(kit)[0], layouts)
        with np.errstate(all="ignore"):
            runs = []
            for _ in range(3):
                results, _args = _everything(kit, call, call.inputs)
                runs.append([t.numpy() for t in results])
        for number, (a, *others) in enumerate(zip(*runs, strict=True)):
            what = "result" if not number else "gradient"
            for b in others:
                assert _same(a, b), f"{call}: another {what} the second time"

    inputs.each(op, kit.examples, check, families=("long",), share=0.4)
    for case in certain_cases(op):
        check(case, (), "normal")
