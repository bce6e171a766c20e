"""One derivative, analytic and numeric: how far both may differ, and what to say if they do."""

from __future__ import annotations

import numpy as np

from microgpt.testing.checking import Check
from microgpt.testing.numeric import CLOSE, Slope, disagreement, jitter, noise
from microgpt.testing.report import describe, host, index_text


class Row:
    """One derivative: both values, and how far they may differ."""

    __slots__ = (
        "analytic", "blur", "doubt", "index", "kink", "noise", "numeric", "scale", "share", "slope",
        "tolerance",
    )  # fmt: skip

    def __init__(self, analytic: float, found: Slope, cotangent: np.ndarray) -> None:
        weight = np.abs(cotangent)
        self.index, self.slope, self.analytic = found.index, found, float(analytic)
        self.numeric = float((found.value * cotangent).sum())
        self.scale = float((np.abs(found.value) * weight).sum())
        self.doubt = float((found.error * weight)[weight > 0].sum())
        self.blur = float((found.blur * weight)[weight > 0].sum())
        self.tolerance = self.share = self.noise = 0.0
        self.kink = False

    def judge(self, check: Check, cotangent: np.ndarray, unit: float) -> None:
        """Compare; `share` is the error as a share of the tolerance.

        `unit` is the size of the input's largest derivative, if below 1: a function of tiny values
        is held to the same relative precision as any other.
        """
        s, settings = self.slope, check.settings
        bound = settings.atol * unit + settings.rtol * max(self.scale, unit) + 3 * self.doubt
        away, wide = abs(self.analytic - self.numeric), 0.0
        if s.left is not None and s.right is not None:
            ends = s.left * cotangent, s.right * cotangent
            low, high = float(np.minimum(*ends).sum()), float(np.maximum(*ends).sum())
            wide = high - low
            away = max(0.0, low - self.analytic, self.analytic - high)
        # What was lost in rounding counts only where the two differ.
        self.tolerance = bound if away <= bound else bound + 3 * self.blur
        self.kink = wide > 2 * self.tolerance
        self.share = away / self.tolerance if away > 0 else 0.0

    def vague(self, unit: float, atol: float) -> bool:
        """Whether the tolerance is so large that it would let anything pass."""
        if self.blur and self.tolerance <= atol:
            return False  # below the last digit of the output: as good as 0
        return not self.tolerance <= 1e-3 * max(abs(self.numeric), self.scale, unit)

    def wrong(self) -> bool:
        """Whether both values certainly differ."""
        return bool(np.isfinite(self.tolerance)) and not self.share <= 1


def judge(check: Check, code: str, i: int, rows: list[Row], cotangent: np.ndarray) -> None:
    """Fail if derivatives by input `i` are wrong, or too uncertain to tell."""
    unit = unit_of(check, rows, cotangent)
    for r in rows:
        r.judge(check, cotangent, unit)
    bad = [r for r in rows if r.wrong()]
    if bad:
        bad = _certain(check, code, i, bad, cotangent, unit)
    if bad:
        kinks = all(r.kink for r in bad)
        name_of = "TIE" if kinks and code == "VALUE" else code
        check.failed(describe(name_of, check.subject, i, bad, rows, cotangent))
    vague = [r for r in rows if r.vague(unit, check.settings.atol)]
    if vague:
        check.fail("INCONCLUSIVE", _too_vague(check, code, i, vague[0]))
    check.report.worst = max(check.report.worst, *(r.share for r in rows))


def unit_of(check: Check, rows: list[Row], cotangent: np.ndarray) -> float:
    """The largest derivative that is more than rounding, if below 1.

    Derivatives that are below the last digit of the output are as good as 0.
    """
    known = [r.scale for r in rows if r.scale > 1e3 * r.doubt]
    output = np.abs(check.output)
    if output.shape == cotangent.shape:
        output = output[cotangent != 0]
    smallest = 1e-6 * min(1.0, float(output.max(initial=0.0)))
    return min(1.0, max(smallest, max(known, default=1.0)))


def _certain(
    check: Check, code: str, i: int, bad: list[Row], cotangent: np.ndarray, unit: float
) -> list[Row]:
    """Those that differ by more than the jitter of the function and its gradient explains."""
    bad = sorted(bad, key=lambda r: -r.share)
    spread = _jitter(check, code, i, cotangent)
    point, weight, extra = check.points[i].reshape(-1), np.abs(cotangent), 0.0
    for k, r in enumerate(bad):
        if k < 16:  # enough to know
            at = float(point[r.index])
            extra = float((noise(r.slope, at) * weight).sum())
            if r.slope.left is None:
                extra += float((disagreement(r.slope, at) * weight).sum())
        r.noise = extra + (float(spread[r.index]) if r.slope.left is None else 0.0)
        r.doubt += r.noise
        r.judge(check, cotangent, unit)
        if k >= 15 and bad[0].wrong():
            break
    return [r for r in bad if r.wrong()]


def _jitter(check: Check, code: str, i: int, cotangent: np.ndarray) -> np.ndarray:
    """By how much the gradient differs between inputs that are equal but for the last digits.

    The rule may be right and its result lose digits all the same, where large terms cancel.
    """
    if code != "VALUE":
        return np.zeros(check.points[i].size)
    place = check.subject.wrt.index(i)
    try:
        # On one side, because the point itself may be a special case.
        grads = [
            host(check.subject.gradient(points, cotangent)[place]).reshape(-1)
            for points in (
                {j: x * (1 + k * CLOSE) for j, x in check.points.items()} for k in range(1, 10)
            )
        ]
        spread = 3 * jitter(grads)
    except Exception:  # the edge of the domain, or a rule that does not always work
        return np.zeros(check.points[i].size)
    return np.where(np.isfinite(spread), spread, 0.0)


def _too_vague(check: Check, code: str, i: int, r: Row) -> str:
    point = check.points[i]
    what = "d(out)" if code == "VALUE" else "d(a random sum of the gradients)"
    text = (
        f"{what}/d({check.subject.describe(i)}) at {index_text(r.index, point.shape)}: the "
        f"numeric derivative is too uncertain to compare with ({r.numeric:.6g} ± {r.doubt:.1g}, "
        f"analytic {r.analytic:.6g}): "
    )
    if r.slope.trouble is not None:
        error = r.slope.trouble
        return text + (
            f"at points nearby the function raised {type(error).__name__}: {error}; choose a "
            "point inside its domain"
        )
    if r.noise > r.doubt / 2:
        return text + (
            "the function or its gradient differs at random between inputs that are nearly equal: "
            "digits are lost inside, as in a difference of large numbers"
        )
    if code == "SECOND_ORDER":
        return text + (
            "does the gradient jump here, at a kink of the function (as that of relu at 0)? Then "
            "there is no second derivative: move the point, or check this one with order=1"
        )
    if r.blur > r.doubt:
        return text + "the function's value is so large that rounding hides the change"
    return text + "a jump or a very sharp bend nearby? Move the point"
