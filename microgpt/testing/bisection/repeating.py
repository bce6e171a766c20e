"""Code that makes the inputs of an op again, for a line that shows a difference once more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from microgpt.graph import TensorBase

SHOWN = 64
"""Up to so many elements are written out."""


def written(x: Any) -> str | None:
    """An argument as code (with `np` and `mg`), or None if it has none."""
    if isinstance(x, TensorBase):
        x = x.numpy()  # pyright: ignore[reportAttributeAccessIssue]
    if isinstance(x, np.ndarray):
        if 0 in x.shape:
            return f"np.empty({x.shape}, dtype='{x.dtype}')"
        numbers = repr(x.tolist()).replace("nan", "np.nan").replace("inf", "np.inf")
        return f"np.array({numbers}, dtype='{x.dtype}')"
    if isinstance(x, np.dtype):
        return f"np.dtype('{x}')"
    if isinstance(x, float):
        return repr(x).replace("nan", "np.nan").replace("inf", "np.inf")
    if isinstance(x, (tuple, list)):
        parts = [written(part) for part in x]
        inside = ", ".join([p for p in parts if p is not None])
        comma = "," if len(parts) == 1 else ""
        whole = f"({inside}{comma})" if isinstance(x, tuple) else f"[{inside}]"
        return None if None in parts else whole
    if isinstance(x, slice):
        return repr(x)
    return repr(x) if x is None or isinstance(x, (bool, int, str)) else None


def drawn(x: Any, seed: int) -> tuple[Any, str]:
    """Random numbers in place of the large array `x`, of its kind; and their code."""
    rng, start = np.random.default_rng(seed), f"np.random.default_rng({seed})"
    if x.dtype.kind == "b":
        return rng.random(x.shape) < 0.5, f"{start}.random({x.shape}) < 0.5"
    if x.dtype.kind != "f":
        low, high = int(x.min()), int(x.max()) + 1
        made = rng.integers(low, high, x.shape).astype(x.dtype)
        return made, f"{start}.integers({low}, {high}, {x.shape}).astype('{x.dtype}')"
    if (x > 0).all():  # perhaps it has to be
        made = rng.uniform(0.5, 2, x.shape).astype(x.dtype)
        return made, f"{start}.uniform(0.5, 2, {x.shape}).astype('{x.dtype}')"
    made = rng.normal(size=x.shape).astype(x.dtype)
    return made, f"{start}.normal(size={x.shape}).astype('{x.dtype}')"


def inputs_again(inputs: Sequence[Any]) -> tuple[list[Any], list[str | None]]:
    """Inputs like `inputs`, those that are large drawn at random; and their code."""
    whole = sum(np.size(x) for x in inputs) <= SHOWN
    made = [
        drawn(x, k) if not whole and np.size(x) > SHOWN // 4 else (x, written(x))
        for k, x in enumerate(inputs)
    ]
    return [value for value, _ in made], [text for _, text in made]


def short(x: Any) -> str:
    """An argument in a few words: shape and dtype of an array, else the value."""
    if isinstance(x, TensorBase):
        x = x.numpy()  # pyright: ignore[reportAttributeAccessIssue]
    return f"{x.shape} {x.dtype}" if isinstance(x, np.ndarray) else f"{x!r:.60}"
