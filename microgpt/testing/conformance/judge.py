"""How far a backend's result may be from the exact one, by the kind of op.

exact: bit by bit. ulp: so many units in the last place, as the backend declares (4 by default).
reduction: (8 + 4·√n)·u·Σ|terms| for a sum of n terms, which holds for every order of summation in
the working precision, and for none with less. composite: 16·(d + u·|y|), where d is how much the
exact result moves when the inputs, and the results of every step of the definition, change by their
own rounding; a condition estimate that needs no derivatives. Numbers below the smallest normal one
may be flushed to zero everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from microgpt.ops.table import Op

EXACT, ULP, REDUCTION, COMPOSITE = "exact", "ulp", "reduction", "composite"

_KEEPS_ZEROS = {"identity", "astype", "negative", "abs", "where"}


def _moves(op: Op) -> bool:
    return op.function.__module__.rpartition(".")[2] in ("movement", "indexing")


def keeps_zeros(op: Op) -> bool:
    """Whether the sign of a zero is part of the result: where numbers are moved, not computed."""
    return (_moves(op) and op.accuracy == EXACT) or op.name in _KEEPS_ZEROS


def unit(dtype: Any) -> float:
    """Half the distance from 1 to the next number: the largest relative rounding error."""
    return float(np.finfo(dtype).eps) / 2


def ulps(found: np.ndarray, exact: np.ndarray) -> float:
    """The largest distance in units in the last place of `found`'s type, among normal numbers."""
    if not exact.size:
        return 0.0
    with np.errstate(all="ignore"):
        rounded = exact.astype(found.dtype)
        space = np.spacing(np.abs(rounded)).astype(np.float64)
        away = np.abs(found.astype(np.float64) - exact) / space
        rated = np.isfinite(rounded) & (np.abs(exact) >= np.finfo(found.dtype).tiny)
    return float(np.where(rated & (found != rounded), away, 0.0).max())


def ulp_bound(exact: np.ndarray, units: float, dtype: Any) -> np.ndarray:
    """The allowed error of elementwise ops."""
    with np.errstate(all="ignore"):
        space = np.spacing(np.abs(exact).astype(dtype)).astype(np.float64)
    return units * space + float(np.finfo(dtype).tiny)


def allowed(
    kind: str,
    exact: np.ndarray,
    reference: Callable[..., np.ndarray],
    inputs: list[Any],
    dtype: Any,
    seed: int = 0,
) -> np.ndarray:
    """The allowed error of each element of `exact` = reference(*inputs): sums, and the rest."""
    if kind == REDUCTION:
        return reduction_bound(reference, inputs, dtype)
    return composite_bounds([exact], lambda *x: [reference(*x)], inputs, dtype, seed)[0]


def reduction_bound(
    reference: Callable[..., np.ndarray], inputs: list[Any], dtype: Any
) -> np.ndarray:
    """The allowed error of sums of products and of means."""
    with np.errstate(all="ignore"):
        terms = np.abs(reference(*[_of_floats(np.abs, x) for x in inputs]))
        # The sum of ones is the number of terms; that of a mean is the share of the input.
        count = reference(*[_of_floats(np.ones_like, x) for x in inputs])
        sizes = [x.size for x in inputs if isinstance(x, np.ndarray) and x.dtype.kind == "f"]
        count = np.maximum(count, max(sizes, default=1) / max(terms.size, 1))
        return (8 + 4 * np.sqrt(count)) * unit(dtype) * terms + float(np.finfo(dtype).tiny)


Rounding = Callable[[float, np.random.Generator], AbstractContextManager[None]]


def _exactly(size: float, rng: np.random.Generator) -> AbstractContextManager[None]:
    return nullcontext()


def near(found: np.ndarray, exact: np.ndarray, dtype: Any) -> bool:
    """Whether `found` keeps every composite bound, so that none need be worked out."""
    with np.errstate(all="ignore"):
        bound = 16 * unit(dtype) * np.abs(exact)
    return found.shape == exact.shape and difference(found, exact, bound) is None


def composite_bounds(
    exact: list[np.ndarray],
    reference: Callable[..., list[np.ndarray]],
    inputs: list[Any],
    dtype: Any,
    seed: int = 0,
    rounding: Rounding = _exactly,
) -> list[np.ndarray]:
    """The allowed errors of everything else, for each of the arrays in `exact`.

    Inside ``rounding(size, rng)`` the reference changes the result of each step by about `size`.
    """
    u = unit(dtype)
    rng = np.random.default_rng(seed)
    moved = [np.zeros_like(y, dtype=np.float64) for y in exact]
    with np.errstate(all="ignore"), rounding(2 * u, rng):
        for _ in range(8):
            near = reference(*[_shaken(x, 2 * u, rng) for x in inputs])
            for most, y, z in zip(moved, exact, near, strict=True):
                np.fmax(most, np.abs(z - y), out=most)
        tiny = float(np.finfo(dtype).tiny)
        return [16 * (m + u * np.abs(y)) + tiny for m, y in zip(moved, exact, strict=True)]


def _of_floats(function: Callable[[Any], Any], x: Any) -> Any:
    return np.asarray(function(x)) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x


def _shaken(x: Any, size: float, rng: np.random.Generator) -> Any:
    if isinstance(x, np.ndarray) and x.dtype.kind == "f":
        return np.asarray(x * (1 + size * rng.choice([-1.0, 1.0], x.shape)))
    return x


def difference(
    found: np.ndarray, exact: np.ndarray, bound: np.ndarray | float, signed_zeros: bool = False
) -> str | None:
    """What is wrong with `found`, or None."""
    with np.errstate(all="ignore"):
        rounded = exact.astype(found.dtype)
        away = np.abs(found.astype(np.float64) - exact)
        right = (away <= bound) | (found == rounded)
        if found.dtype.kind == "f":
            right |= np.isnan(found) & np.isnan(exact)
            right &= ~np.isfinite(rounded) | np.isfinite(found)
            if signed_zeros:
                right &= (np.signbit(found) == np.signbit(exact)) | (exact != 0)
        if right.all():
            return None
        share = np.where(right, -1.0, np.nan_to_num(away / bound, nan=np.inf))
    k = int(np.argmax(share))
    place = [int(i) for i in np.unravel_index(k, exact.shape)]
    allowed = np.broadcast_to(bound, exact.shape).reshape(-1)[k]
    margin = f" ± {allowed:.2g}" if allowed else ""
    return (
        f"at {place}: {found.reshape(-1)[k]!s}; required: {exact.reshape(-1)[k]!s}{margin} "
        f"({int((~right).sum())} of {right.size} elements are wrong)"
    )
