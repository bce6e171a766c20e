"""How far a backend's result may be from the exact one, by the kind of op.

exact: bit by bit. ulp: so many units in the last place, as the backend declares (4 by default).
reduction: (8 + 4·√n)·u·Σ|terms|, which holds for every order of summation in the working precision,
and for none with less. composite: 16·(d + u·|y|), where d is how much the exact result moves when
the inputs change by their own rounding; a condition estimate that needs no derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from microgpt.ops.table import Op

EXACT, ULP, REDUCTION, COMPOSITE = "exact", "ulp", "reduction", "composite"

_EXACT = {
    "identity", "astype", "zeros_like", "ones_like", "negative", "abs", "sign", "relu", "maximum",
    "minimum", "where", "clip", "equal", "not_equal", "less", "less_equal", "greater",
    "greater_equal", "logical_and", "logical_or", "logical_not", "isfinite", "isnan", "floor",
    "ceil", "round", "max", "min", "any", "all", "argmax", "argmin", "unfold", "max_pool2d",
    "transfer",
}  # fmt: skip
_REDUCTION = {
    "sum", "mean", "cumulative_sum", "matmul", "linear", "conv2d", "fold", "avg_pool2d",
    "index_add", "scatter_add",
}  # fmt: skip
_COMPOSITE = {"add_scaled", "softplus"}


def accuracy_of(op: Op) -> str:
    """The kind of bound for `op`."""
    if op.name in _EXACT:
        return EXACT
    if op.name in _REDUCTION:
        return REDUCTION
    module = op.function.__module__.rpartition(".")[2]
    if module in ("movement", "indexing"):
        return EXACT
    return ULP if op.elementwise and op.name not in _COMPOSITE else COMPOSITE


def unit(dtype: Any) -> float:
    """Half the distance from 1 to the next number: the largest relative rounding error."""
    return float(np.finfo(dtype).eps) / 2


def ulps(found: np.ndarray, exact: np.ndarray) -> float:
    """The largest distance in units in the last place of `found`'s type."""
    if not exact.size:
        return 0.0
    with np.errstate(all="ignore"):
        space = np.spacing(np.abs(exact).astype(found.dtype)).astype(np.float64)
        same = (found == exact) | (np.isnan(found) & np.isnan(exact))
        away = np.abs(found.astype(np.float64) - exact) / space
    return float(np.where(same, 0.0, away).max())


def allowed(
    kind: str,
    exact: np.ndarray,
    reference: Callable[..., np.ndarray],
    inputs: list[Any],
    dtype: Any,
    seed: int = 0,
) -> np.ndarray:
    """The largest allowed error of each element of `exact` = reference(*inputs)."""
    u = unit(dtype)
    tiny = float(np.finfo(dtype).tiny)
    if kind == REDUCTION:
        sizes = [
            x.size for x in inputs if isinstance(x, np.ndarray) and x.dtype.kind == "f"
        ]  # fmt: skip
        terms = reference(*[_magnitude(x) for x in inputs])
        return (8 + 4 * np.sqrt(max(sizes, default=1))) * u * np.abs(terms) + tiny
    rng = np.random.default_rng(seed)
    moved = np.zeros_like(exact, dtype=np.float64)
    with np.errstate(all="ignore"):
        for _ in range(8):
            near = reference(*[_shaken(x, 2 * u, rng) for x in inputs])
            moved = np.maximum(moved, np.abs(near - exact))
    return 16 * (moved + u * np.abs(exact)) + tiny


def _magnitude(x: Any) -> Any:
    return np.asarray(np.abs(x)) if isinstance(x, np.ndarray) and x.dtype.kind == "f" else x


def _shaken(x: Any, size: float, rng: np.random.Generator) -> Any:
    if isinstance(x, np.ndarray) and x.dtype.kind == "f":
        return np.asarray(x * (1 + size * rng.choice([-1.0, 1.0], x.shape)))
    return x


def difference(found: np.ndarray, exact: np.ndarray, bound: np.ndarray) -> str | None:
    """What is wrong with `found`, or None."""
    away = np.abs(found.astype(np.float64) - exact)
    with np.errstate(invalid="ignore"):
        right = (away <= bound) | (found == exact) | (np.isnan(found) & np.isnan(exact))
    if right.all():
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(right, -1.0, np.nan_to_num(away / bound, nan=np.inf))
    k = int(np.argmax(share))
    place = tuple(int(i) for i in np.unravel_index(k, exact.shape))
    return (
        f"at {list(place)}: {found.reshape(-1)[k]!r}; required: {exact.reshape(-1)[k]:.9g} "
        f"± {bound.reshape(-1)[k]:.2g} ({int((~right).sum())} of {right.size} elements are wrong)"
    )
