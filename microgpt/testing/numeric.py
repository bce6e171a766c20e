"""Numeric derivatives with an estimate of their error, and slopes at kinks.

The scheme: central differences D(h) at three steps give two extrapolations, R(h) = (4·D(h/2) -
D(h)) / 3 and R(h/2); the second is the answer, their difference says how far it can be trusted.
Where they differ too much a kink lies within the step: then the step shrinks until the kink is
outside, or the point is on the kink and the two one-sided slopes are the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

STEPS = (2.0**-9, 2.0**-14, 2.0**-18)
EPS = float(np.finfo(float).eps)


@dataclass
class Slope:
    """Derivatives of every output by one element of an input.

    Attributes:
        index: the element, counted along the flattened input.
        value: the derivative of each output; at a kink the mean of the two slopes.
        error: how far `value` may be off.
        left, right: the one-sided slopes where they differ, else None.
    """

    index: int
    value: np.ndarray
    error: np.ndarray
    left: np.ndarray | None = None
    right: np.ndarray | None = None


def slope(function: Callable[[float], np.ndarray], x: float, index: int = 0) -> Slope:
    """Derivatives of the outputs of `function` at `x`.

    Example:
        >>> import numpy as np
        >>> found = slope(lambda x: np.array([x**3, abs(x - 2)]), 2.0)
        >>> print(found.value.round(6), found.left, found.right)
        [12.  0.] [12. -1.] [12.  1.]
    """
    at_x = function(x)
    best: Slope | None = None
    for relative in STEPS:
        step = relative * 2.0 ** np.ceil(np.log2(max(1.0, abs(x))))
        found, bent = _central(function, x, step, at_x, index)
        if not np.isfinite(found.value).all():
            continue  # beyond the edge of the domain; a smaller step may stay inside
        if bent:
            continue  # on a kink, or so near one that a smaller step is needed
        # A tolerance of this size would still notice a mistake of one part in 10⁴.
        if np.all(found.error <= 1e-5 * np.maximum(1.0, np.abs(found.value))):
            return found
        if best is None or found.error.max() < best.error.max():
            best = found
    sides = _sides(function, x, at_x)
    if sides is not None:
        left, right, error = sides
        near = np.abs(left - right) <= 100 * error + 1e-4 * np.maximum(np.abs(left), np.abs(right))
        if not near.all():
            if best is not None:  # smooth outputs keep their precise derivative
                smooth = near & (best.error <= 1e-5 * np.maximum(1.0, np.abs(best.value)))
                left, right = (np.where(smooth, best.value, s) for s in (left, right))
                error = np.where(smooth, best.error, error)
            tidy = [np.where(near, (left + right) / 2, s) for s in (left, right)]
            return Slope(index, (left + right) / 2, error, *tidy)
    return best or Slope(index, np.full_like(at_x, np.nan), np.full_like(at_x, np.inf))


def _central(
    function: Callable[[float], np.ndarray], x: float, step: float, at_x: np.ndarray, index: int
) -> tuple[Slope, bool]:
    """The extrapolated central difference, and whether it looks as if `x` is on a kink.

    On a kink the central difference is the mean of both slopes for any step, so its error estimate
    sees nothing. But the difference of the two one-sided slopes is: it shrinks with the step where
    the function is smooth, and stays what it is on a kink.
    """

    def differences(h: float) -> Any:
        after, before = function(x + h), function(x - h)
        return (after - before) / (2 * h), np.abs(after - 2 * at_x + before) / h

    with np.errstate(all="ignore"):
        (wide, bend), (middle, _), (narrow, less) = map(differences, (step, step / 2, step / 4))
        rough, best = (4 * middle - wide) / 3, (4 * narrow - middle) / 3
        noise = 8 * EPS * np.abs(at_x) / step
        bent = (less > 0.6 * bend) & (less > 1e-7 * np.maximum(1.0, np.abs(best)) + 16 * noise)
        return Slope(index, best, np.abs(best - rough) + noise), bool(bent.any())


def _sides(
    function: Callable[[float], np.ndarray], x: float, at_x: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Left and right slope with their error, if each is the same for two steps (no jump)."""
    h = 2.0**-18 * 2.0 ** np.ceil(np.log2(max(1.0, abs(x))))
    with np.errstate(all="ignore"):
        right, righter = ((function(x + k) - at_x) / k for k in (h, h / 4))
        left, lefter = ((at_x - function(x - k)) / k for k in (h, h / 4))
        error = 2 * (np.abs(right - righter) + np.abs(left - lefter)) + 16 * EPS * np.abs(at_x) / h
    scale = np.maximum(1.0, np.maximum(np.abs(left), np.abs(right)))
    if not np.isfinite(error).all() or np.any(error > 1e-3 * scale):
        return None
    return lefter, righter, error
