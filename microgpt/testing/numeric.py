"""Numeric derivatives with an estimate of their error, and slopes at kinks.

The scheme: central differences D(h) at three steps give two extrapolations, R(h) = (4·D(h/2) -
D(h)) / 3 and R(h/2); the second is the answer, their difference says how far it can be trusted.
Where they differ too much something happens within the step: a bend, a kink, the end of the
domain. Then the step shrinks until it is outside, or the point is on a kink and the two one-sided
slopes are the answer. Where rounding is the larger error, the step grows. Every output keeps the
step that is best for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import frexp
from typing import Any

import numpy as np

EPS = float(np.finfo(float).eps)
TINY = 5e-324
"""The smallest number above 0: results near it are rounded to multiples of it."""

PRECISE = 1e-5
"""Relative errors up to this are small enough: they still show a mistake of one part in 10⁴."""

DOWN = (-9, -14, -19, -24, -29, -34)
UP = (-5, -1, 3)
NEAR_ZERO = (-6, -10, -15, -20, -25, -29)
AT_ZERO = (-44, -54, -64)
"""Steps as powers of 2: below 1, above it, relative to a small x, and for an x of 0."""

CLOSE = 2.0**-30
"""Relative distance of points between which only the rounding inside a function differs."""

Function = Callable[[float], np.ndarray]


@dataclass
class Slope:
    """Derivatives of every output by one element of an input.

    Attributes:
        index: the element, counted along the flattened input.
        value: the derivative of each output; at a kink the mean of the two slopes.
        error: how far `value` may be off.
        blur: the same for outputs that did not change at all when the element moved: probably
            they do not depend on it, but a derivative that small would be lost in rounding.
        step: at which `value` was found.
        sharp: whether the last step saw a kink at the point and nothing else.
        left, right: the one-sided slopes where they differ, else None.
        function: of which this is the slope.
        trouble: what the function raised at a point nearby, if it did.
    """

    index: int
    value: np.ndarray
    error: np.ndarray
    blur: np.ndarray
    step: np.ndarray
    sharp: np.ndarray | None = None
    left: np.ndarray | None = None
    right: np.ndarray | None = None
    function: Function | None = None
    trouble: Exception | None = None

    def good(self) -> np.ndarray:
        """Which outputs have a precise derivative, against their own or the largest of all."""
        size = np.abs(np.where(np.isfinite(self.value), self.value, 0.0))
        return self.error <= PRECISE * np.maximum(min(1.0, size.max(initial=0.0)), size) + 1e-290

    def settled(self) -> np.ndarray:
        """Which outputs have a derivative that is known roughly."""
        return self.error <= 1e-3 * np.abs(self.value)

    def improve(self, other: Slope, where: Any = True) -> None:
        """Take the derivatives that `other` knows better."""
        better = (other.error + other.blur < self.error + self.blur) & where
        # What moved with a longer step, and well, is not constant but below the resolution now.
        better &= (other.blur == 0) | (self.blur > 0) | ~self.settled()
        for name in ("value", "error", "blur", "step"):
            setattr(self, name, np.where(better, getattr(other, name), getattr(self, name)))


def slope(function: Function, x: float, index: int = 0) -> Slope:
    """Derivatives of the outputs of `function` at `x`.

    Example:
        >>> import numpy as np
        >>> found = slope(lambda x: np.array([x**3, abs(x - 2)]), 2.0)
        >>> print(found.value.round(6), found.left, found.right)
        [12.  0.] [12. -1.] [12.  1.]
    """
    at_x = np.asarray(function(x))
    trouble: list[Exception] = []

    def near(value: float) -> np.ndarray:
        try:
            return np.asarray(function(value))
        except Exception as error:  # beyond the edge of the domain; a smaller step may be inside
            trouble[:] = [error]
            return np.full_like(at_x, np.nan)

    with np.errstate(all="ignore"):
        found = _slope(near, x, at_x, index)
    found.function = function
    found.trouble = trouble[0] if trouble else None
    return found


def _slope(function: Function, x: float, at_x: np.ndarray, index: int) -> Slope:
    nothing = np.zeros_like(at_x)
    best = Slope(index, nothing + np.nan, nothing + np.inf, nothing, nothing + np.nan)
    for step in _steps(x):
        tried = _central(function, x, step, at_x, index)
        best.improve(tried)
        if best.good().all():
            return best
        if np.all(best.good() | tried.sharp):
            kinked = _with_sides(function, x, at_x, best)
            if kinked is not None:
                return kinked
        if np.all(best.good() | (best.error <= 4 * _rounding(at_x, step))):
            break  # rounding is the larger error: the step is too small already
    noisy = ~best.good() & (best.error <= 4 * _rounding(at_x, best.step))
    if noisy.any():
        scale = 2.0 ** _exponent(max(1.0, abs(x)))
        for power in UP:
            best.improve(_central(function, x, scale * 2.0**power, at_x, index), noisy)
            if best.good().all():
                return best
    kinked = _with_sides(function, x, at_x, best)
    if kinked is not None:
        return kinked
    if x == 0:
        for power in AT_ZERO:
            best.improve(_central(function, x, 2.0**power, at_x, index))
            if best.good().all():
                break
    return best


def _exponent(x: float) -> int:
    """The e of the smallest 2^e that is not below x."""
    mantissa, e = frexp(x)
    return e - (mantissa == 0.5)


def _steps(x: float) -> Iterator[float]:
    """Powers of two, so that x + step is exact: in units of max(1, |x|), then of a small x."""
    size = abs(x)
    absolute = [2.0 ** (_exponent(max(1.0, size)) + power) for power in DOWN]
    if not 0 < size < 2.0**-5:
        yield from absolute
        return
    unit = _exponent(size) - 1
    yield from (step for step in absolute if step > 2.0 ** (unit + NEAR_ZERO[0]))
    yield from (2.0 ** (unit + power) for power in NEAR_ZERO if unit + power > -1060)


def _rounding(at_x: np.ndarray, step: Any) -> np.ndarray:
    """What rounding the values of the function does to a difference quotient."""
    return (8 * EPS * np.abs(at_x) + 4 * TINY) / step


def _central(function: Function, x: float, step: float, at_x: np.ndarray, index: int) -> Slope:
    """The extrapolated central difference, with an error that is infinite where there is none.

    On a kink the central difference is the mean of both slopes for any step, so the difference of
    the extrapolations sees nothing. But the difference of the two one-sided slopes does: it
    shrinks with the step where the function is smooth, and stays what it is on a kink.
    """
    flat = np.ones(at_x.shape, bool)

    def differences(h: float) -> Any:
        nonlocal flat
        after, before = function(x + h), function(x - h)
        flat &= (after == at_x) & (before == at_x)
        return (after - before) / (2 * h), np.abs((after - at_x) + (before - at_x)) / h

    (wide, bend), (middle, _), (narrow, less) = map(differences, (step, step / 2, step / 4))
    # Written so that numbers near the largest do not overflow.
    rough, best = middle + (middle - wide) / 3, narrow + (narrow - middle) / 3
    rounding = _rounding(at_x, step)
    error = np.abs(best - rough) + rounding
    # The value may then be anything between the two slopes.
    bent = (less > 0.6 * bend) & (less > 1e-7 * np.abs(best) + 16 * rounding)
    error = error + np.where(bent, less, 0.0)
    sharp = bent & (np.abs(less - bend) <= 1e-9 * bend)  # as with any step: no curve beside it
    error = np.where(flat, 0.0, np.where(np.isfinite(error), error, np.inf))
    return Slope(
        index, best, error, np.where(flat, rounding, 0.0), np.full(at_x.shape, step), sharp
    )


def _with_sides(function: Function, x: float, at_x: np.ndarray, best: Slope) -> Slope | None:
    """The slope with those of both sides, where they differ; None if they do nowhere."""
    settled = best.error <= 10 * PRECISE * np.abs(best.value)
    for power in (-18, -26, -12):
        h = 2.0 ** (power + _exponent(max(1.0, abs(x))))
        left, right, error = _sides(function, x, at_x, h)
        size = np.maximum(np.abs(left), np.abs(right))
        kinks = ~best.good() & ~settled & (error <= 1e-3 * size)
        kinks &= np.abs(left - right) > 100 * error + 1e-4 * size
        if kinks.any():
            middle = np.where(kinks, (left + right) / 2, best.value)
            return Slope(
                best.index, middle, np.where(kinks, error, best.error), best.blur,
                np.where(kinks, h, best.step), kinks,
                np.where(kinks, left, middle), np.where(kinks, right, middle),
            )  # fmt: skip
    return None


def _sides(function: Function, x: float, at_x: np.ndarray, h: float) -> tuple[np.ndarray, ...]:
    """Left and right slope with their error, which is small if two steps agree (no jump)."""
    right, righter = ((function(x + k) - at_x) / k for k in (h, h / 4))
    left, lefter = ((at_x - function(x - k)) / k for k in (h, h / 4))
    error = 2 * (np.abs(right - righter) + np.abs(left - lefter)) + 2 * _rounding(at_x, h)
    return lefter, righter, np.where(np.isfinite(error), error, np.inf)


def noise(found: Slope, x: float) -> np.ndarray:
    """How far off the derivatives may be because the function's own values are imprecise.

    A function that loses digits inside (a difference of nearly equal numbers) jitters by more
    than its values' last digit.
    """
    function = found.function
    if function is None:
        return np.zeros_like(found.value)
    close = CLOSE * (2.0 ** _exponent(abs(x)) if x else 1.0)
    most = np.zeros_like(found.value)
    # A function that hardly moves shows its jitter only between points that are farther apart.
    for apart in (close, float(found.step.min()) / 16):
        try:
            # On one side, because the point may be a kink.
            values = [np.asarray(function(x + k * apart)) for k in range(9)]
        except Exception:  # at the edge of the domain: nothing is known
            continue
        with np.errstate(all="ignore"):
            doubt = 6 * jitter(values) / found.step
        most = np.fmax(most, np.where(np.isfinite(doubt), doubt, 0.0))
    return most


def disagreement(found: Slope, x: float) -> np.ndarray:
    """How far off the derivatives are if a shorter step is right, where it knows better.

    A small kink within the step can escape the estimate of the error.
    """
    function = found.function
    if function is None or not np.isfinite(found.step).all():
        return np.zeros_like(found.value)
    most = np.zeros_like(found.value)
    with np.errstate(all="ignore"):
        at_x = np.asarray(function(x))
        for shorter in (2.0**-3, 2.0**-6):
            try:
                other = _central(function, x, float(found.step.min()) * shorter, at_x, 0)
            except Exception:  # at the edge of the domain
                continue
            away = np.abs(other.value - found.value)
            most = np.maximum(most, np.where(away > other.error + other.blur, away, 0.0))
    return np.where(np.isfinite(most), most, 0.0)


def jitter(values: list[np.ndarray]) -> np.ndarray:
    """The standard error of each of several values taken at equal distances.

    Fourth differences are blind to what is smooth.
    """
    return np.sqrt(np.mean(np.diff(np.stack(values), 4, axis=0) ** 2, axis=0) / 70)
