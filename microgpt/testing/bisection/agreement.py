"""Whether two backends' results of one op, from equal inputs, differ by more than rounding.

Nothing may differ where numbers are only moved or picked; elementwise ops have the units in the
last place that both backends declare; sums have the rounding of their terms; anything else what its
result moves when its inputs, and the steps of its definition, change by their rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from microgpt.testing.bisection.definition import reference
from microgpt.testing.bisection.op_call import Call, is_float
from microgpt.testing.conformance import judge


@dataclass
class Gap:
    """A difference beyond the bound: `what` is wrong, in which output, and by how much.

    `output` is None if not a result is wrong but an input was changed.
    """

    call: Call
    what: str
    output: int | None = 0
    worst: tuple[int, ...] = ()  # the index of the element that is furthest beyond
    shape: tuple[int, ...] = ()
    values: tuple[Any, ...] = ()
    difference: float = math.inf
    allowed: float = 0.0
    wrong: int = 0  # how many elements
    exact: float | None = None  # the same element in float64


# ---- comparing ---------------------------------------------------------------------------------


def gap_between(
    call: Call,
    output: int,
    x: np.ndarray | None,
    y: np.ndarray | None,
    ulps: Sequence[Mapping[str, float]],
    rtol: float | None,
) -> Gap | None:
    """What is wrong between result number `output` of both backends, or None.

    `ulps` is what each backend declares (see `Backend`).
    """
    if x is None or y is None:
        return None if x is y else Gap(call, "is missing on one of them", output)
    if x.shape != y.shape:
        return Gap(call, "has two shapes", output, values=(x.shape, y.shape))
    if x.dtype != y.dtype and not (x.dtype.kind in "iu" and y.dtype.kind in "iu"):
        return Gap(call, "has two dtypes", output, values=(str(x.dtype), str(y.dtype)))
    with np.errstate(all="ignore"):
        same = (x == y) | ((x != x) & (y != y))
        away = np.abs(x.astype("float64") - y.astype("float64"))
        away = np.where(same, 0.0, np.where(np.isnan(away), np.inf, away))
        for bound in _bounds(call, output, x, y, ulps, rtol):
            allowed = np.broadcast_to(bound, x.shape)
            wrong = ~(away <= allowed)
            if not wrong.any():
                return None
        share = np.where(wrong, away / allowed, -1.0)
    k = int(np.argmax(np.where(np.isnan(share), np.inf, share)))
    at = tuple([int(i) for i in np.unravel_index(k, x.shape)])
    exact = None
    if x.dtype.kind == "f" and kind_of(call) != judge.EXACT:
        exact = float(reference(call, output)(*call.hosts)[at])
    return Gap(
        call, "differs", output, at, x.shape, (x[at], y[at]), float(away[at]),
        float(allowed[at]), int(wrong.sum()), exact,
    )  # fmt: skip


def kind_of(call: Call) -> str:
    """Which kind of bound holds."""
    return judge.COMPOSITE if call.needs else call.op.accuracy


def _bounds(
    call: Call, output: int, x: np.ndarray, y: np.ndarray,
    ulps: Sequence[Mapping[str, float]], rtol: float | None,
) -> Iterator[Any]:  # fmt: skip
    """The difference that is allowed for each element: larger and larger ones, each harder to
    compute than the one before, and only the last one true. Most results keep the first."""
    kind = kind_of(call)
    yield 0.0
    if x.dtype.kind != "f":
        return
    if rtol is not None:
        yield rtol * largest(x)
        return
    unit = np.spacing(np.fmax(np.abs(x), np.abs(y))).astype("float64")
    tiny = float(np.finfo(x.dtype).tiny)  # smaller ones may be flushed to zero
    if kind == judge.ULP:
        yield sum(u.get(call.op.name, 4.0) for u in ulps) * unit + tiny
    elif kind == judge.REDUCTION:
        yield 4 * unit
        yield 2 * of_terms(call, x.dtype) + tiny
    elif kind == judge.COMPOSITE:
        yield 4 * unit
        yield 2 * of_steps(call, output, x.dtype) + tiny


# ---- bounds for one backend against the exact result -----------------------------------------


def largest(*arrays: Any) -> float:
    """The largest finite |x| among arrays of floats."""
    sizes = [np.abs(x.astype("float64")) for x in arrays if is_float(x)]
    return max([float(np.max(s, where=np.isfinite(s), initial=0)) for s in sizes], default=0.0)


def of_terms(call: Call, dtype: Any) -> np.ndarray:
    """(8 + 4·√n)·u·Σ|terms| for a sum of n terms: any order of summation keeps it."""
    compute = reference(call, 0)
    terms = compute(*[np.asarray(np.abs(x)) if is_float(x) else x for x in call.hosts])
    count = compute(*[np.ones_like(x) if is_float(x) else x for x in call.hosts])
    count = np.maximum(count, call.hosts[0].size / max(terms.size, 1))  # a mean of ones is 1
    return (8 + 4 * np.sqrt(count)) * judge.unit(dtype) * np.abs(terms)


def of_steps(call: Call, output: int, dtype: Any) -> np.ndarray:
    """16·(d + u·|y|), where d is how much y moves when every input, and every step of the op's
    definition, changes by its rounding. (The inputs alone do not explain what an op may lose if
    numbers of their size cancel inside of it, as in x - log Σ eˣ.)"""
    compute, u = reference(call, output), judge.unit(dtype)
    exact, rng = compute(*call.hosts), np.random.default_rng(0)
    moved = np.zeros(exact.shape)
    for _ in range(8):
        moved = np.fmax(moved, np.abs(compute(*call.hosts, noise=(rng, 2 * u)) - exact))
    return 16 * (moved + u * np.abs(exact))
