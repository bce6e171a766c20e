"""Two results side by side: where they differ by more than rounding, in words."""

from __future__ import annotations

from typing import Any

import numpy as np

RELATIVE = 1e-10
"""How far results may differ, as a share of the largest element of PyTorch's."""

ROUNDING = 1e-12
"""A difference below this is PyTorch's rounding, where the true result is exactly 0: the gradient
through a layer norm of a single element, say."""


def differences(ours: Any, theirs: Any) -> list[str]:
    """What is not as PyTorch has it, in words; nothing if all is."""
    if len(ours.outputs) != len(theirs.values):
        return [f"{len(ours.outputs)} results; PyTorch has {len(theirs.values)}"]
    found = [] if theirs.infinite else [f"warning: {text}" for text in ours.warned]
    for i, (y, want) in enumerate(zip(ours.outputs, theirs.values, strict=True)):
        found += difference(f"result {i}", y.numpy(), want)
        if y.requires_grad != theirs.differentiable[i]:
            found.append(
                f"result {i}: requires_grad is {y.requires_grad}; PyTorch's is "
                f"{theirs.differentiable[i]}"
            )
    for i, (g, want) in enumerate(zip(ours.gradients, theirs.gradients, strict=True)):
        if want is None or g is None:
            # Not having been reached is the same as a gradient of 0.
            rest = want if g is None else g.numpy()
            if rest is not None and np.any(rest):
                found.append(f"gradient {i}: {'no' if g is None else 'a'} path to it")
        else:
            found += difference(f"gradient {i}", g.numpy(), want)
    return found


def difference(what: str, found: np.ndarray, want: np.ndarray) -> list[str]:
    """How `found` differs from `want` by more than rounding."""
    if found.shape != want.shape:
        return [f"{what}: shape {found.shape}; PyTorch has {want.shape}"]
    if found.dtype != want.dtype:
        return [f"{what}: dtype {found.dtype}; PyTorch has {want.dtype}"]
    if found.dtype.kind != "f":
        n = int(np.sum(found != want))
        return [f"{what}: {n} of {want.size} elements differ"] if n else []
    if not np.array_equal(np.isfinite(found), np.isfinite(want)):
        return [f"{what}: not finite in other places than PyTorch"]
    finite = np.isfinite(want)
    if not np.array_equal(found[~finite], want[~finite], equal_nan=True):
        return [f"{what}: infinite or NaN, but not as PyTorch"]
    away = np.max(np.abs(found[finite] - want[finite]), initial=0.0)
    scale = np.max(np.abs(want[finite]), initial=0.0)
    if away > max(RELATIVE * scale, ROUNDING):
        return [f"{what}: off by {away:.3g} where the largest element is {scale:.3g}"]
    return []


def described(x: Any) -> str:
    """The arguments of a sample in one line: shapes of tensors, everything else as it is."""
    if hasattr(x, "input"):
        named = "".join(f", {name}={described(value)}" for name, value in x.kwargs.items())
        return f"({', '.join(described(part) for part in [x.input, *x.args])}{named})"
    if isinstance(x, (list, tuple)) and hasattr(x, "__iter__"):
        return f"[{', '.join(described(part) for part in x)}]"
    return f"T{list(x.shape)}" if hasattr(x, "shape") else repr(x)
