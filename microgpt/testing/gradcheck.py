"""gradcheck: analytic gradients against central differences, in float64.

The cotangent is random and signed, because a sum of the outputs is blind to rules that forget a
normalisation (the gradient of Σ softmax is 0 for a wrong rule as well). The tolerance follows from
the estimated error of the numeric derivative; where that is too large to tell right from wrong, the
check does not pass but is *inconclusive*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from microgpt.errors import GradcheckError, InputError, ShapeError
from microgpt.testing.numeric import Slope, slope
from microgpt.testing.report import Failure, GradReport, describe, host, index_text
from microgpt.testing.subject import LAYOUTS, Points, Subject

FULL = 4096
"""Up to so many entries the whole Jacobian is compared; beyond, projections and samples."""

CODES = (
    "SHAPE", "DTYPE", "NONFINITE", "VALUE", "TIE", "INCONCLUSIVE", "LINEARITY", "ZEROCOT",
    "NONDET", "MUTATED", "ALIASED", "LAYOUT", "SECOND_ORDER",
)  # fmt: skip
"""What can be wrong. The first six belong together: they compare values and are always on."""


def gradcheck(
    function: Callable[..., Any],
    *inputs: Any,
    order: int = 1,
    wrt: Sequence[int] | None = None,
    kwargs: dict[str, Any] | None = None,
    checks: Sequence[str] = CODES,
    n_proj: int = 3,
    seed: int = 0,
    rtol: float = 1e-9,
    atol: float = 1e-9,
    shrink: bool = True,
    raises: bool = True,
) -> GradReport:
    """Compare the gradients of `function` with finite differences.

    What is checked, with the code of a failure:
    the gradient has the input's shape (SHAPE) and dtype (DTYPE), is finite (NONFINITE) and equals
    the numeric derivative (VALUE), at a kink it lies between the slopes of both sides (TIE);
    it is linear in the gradient of the output (LINEARITY) and 0 where that is 0 (ZEROCOT); it is
    the same when asked again (NONDET); nothing that was given is changed (MUTATED) or handed back
    as a gradient (ALIASED); the memory layout of inputs and output gradient makes no difference
    (LAYOUT); with order 2, the gradient's own gradient is right too (SECOND_ORDER). Where the
    numeric derivative is too uncertain to decide, the check fails as INCONCLUSIVE.

    Args:
        function: of tensors to one tensor, or of scalars to one scalar.
        inputs: float64 tensors, NumPy arrays or Python numbers; others are passed on as they are.
        order: 2 checks the gradients of the gradient as well.
        wrt: positions of the inputs to differentiate by; by default all floats.
        kwargs: further arguments.
        checks: the codes to check for, by default all.
        n_proj: how many random output gradients are tried where the Jacobian has more than 4,096
            entries; beside them 24 entries of each input and those at its edges are compared.
        seed: of the random output gradients.
        rtol, atol: how much the two may differ beyond the estimated error of the numeric one;
            rtol is relative to Σ|∂out·cotangent|, so that cancellation is no failure.
        shrink: look for a smaller input that fails in the same way.
        raises: False returns the report of a failed check instead of raising.

    Raises:
        GradcheckError: if a check fails; the message names the argument, the worst element, both
            values and the pattern found; `.report` has all of it.
        InputError: if there is nothing to differentiate by, or a code does not exist.

    Example:
        >>> import microgpt as mg
        >>> x = mg.tensor([0.5, 2.0], dtype="float64")
        >>> print(mg.testing.gradcheck(lambda x: mg.sin(x) * x, x, order=2))
        <lambda>: 8 derivatives agree
    """
    unknown = [c for c in checks if c not in CODES]
    if unknown:
        raise InputError(f"gradcheck knows no check {unknown[0]!r}; it has {', '.join(CODES)}")
    subject = Subject(function, inputs, wrt, kwargs or {})
    settings = Settings(order, tuple(checks), n_proj, seed, rtol, atol)
    report = examine(subject, settings)
    if not report.ok and shrink:
        from microgpt.testing.shrink import smaller

        report = smaller(subject, settings, report)
    if raises and not report.ok:
        error = GradcheckError(str(report))
        error.report = report
        raise error
    return report


class Settings:
    """How thoroughly, and how strictly."""

    def __init__(
        self, order: int, checks: tuple[str, ...], n_proj: int, seed: int, rtol: float, atol: float
    ) -> None:
        self.order, self.checks, self.n_proj, self.seed = order, checks, n_proj, seed
        self.rtol, self.atol = rtol, atol


def examine(subject: Subject, settings: Settings) -> GradReport:
    """One check of `subject`, up to the first failure."""
    check = _Check(subject, settings)
    try:
        check.run()
    except _Stop:
        pass
    return check.report


class _Stop(Exception):
    """The first failure ends a check."""


class _Check:
    def __init__(self, subject: Subject, settings: Settings) -> None:
        self.subject, self.settings = subject, settings
        self.points = subject.points
        self.report = GradReport(subject.name, subject=subject, settings=settings)
        self.rng = np.random.default_rng(settings.seed)

    def run(self) -> None:
        output = self.subject.value(self.points)
        if not np.isfinite(output).all():
            self._fail("NONFINITE", "the output is not finite at this point")
        cotangent = _signed(self.rng, output.shape)
        self._behaviour(cotangent)
        self._first_order(output, cotangent)
        if self.settings.order >= 2 and output.size:
            self._second_order(output)

    def _asked(self, code: str) -> bool:
        return code in self.settings.checks

    # ---- values --------------------------------------------------------------------------------

    def _first_order(self, output: np.ndarray, cotangent: np.ndarray) -> None:
        """Gradients of every output, or of random sums of the outputs when there are many."""
        size = sum(self.points[i].size for i in self.subject.wrt)
        cotangents = [cotangent]
        if not output.size:
            pass  # the shapes of the gradients still count
        elif output.size * size <= FULL:
            cotangents += list(np.eye(output.size).reshape(-1, *output.shape))
        else:
            cotangents += [_signed(self.rng, output.shape) for _ in range(self.settings.n_proj - 1)]
        # Numeric derivatives of all outputs by an input are shared by all cotangents.
        tables = [self._slopes(self.subject.value, i, output.size) for i in self.subject.wrt]
        kinked = any(s.left is not None for table in tables for s in table)
        for g in cotangents:
            found = self._gradients(g)
            for i, grad, table in zip(self.subject.wrt, found, tables, strict=True):
                self._compare("VALUE", i, grad, table, g)
            if kinked:
                self._compare_together(found, g)

    def _compare_together(self, grads: list[Any], cotangent: np.ndarray) -> None:
        """Where elements tie, their shares of the gradient must add up to the whole.

        Each share alone may be anything between 0 and 1. But when all elements move together the
        function is often smooth, and its slope is the sum of the shares.
        """
        groups = [[k] for k in range(len(grads))] + [list(range(len(grads)))]
        for group in groups[: 1 if len(grads) == 1 else None]:
            chosen = [self.subject.wrt[k] for k in group]

            def along(t: float, chosen: list[int] = chosen) -> np.ndarray:
                return self.subject.value(
                    {i: x + t * (i in chosen) for i, x in self.points.items()}
                )

            found = slope(along, 0.0)
            total = sum(float(host(grads[k]).sum()) for k in group)
            row = self._row(total, found, cotangent)
            if not row.share <= 1:
                names = " and ".join(self.subject.describe(i) for i in chosen)
                self._fail(
                    "TIE",
                    f"at a tie or kink, the gradients by all elements of {names} add up to "
                    f"{total:.8g}; required: {row.numeric:.8g}, the slope when they all move "
                    "together (the shares of tied elements must add up to the whole)",
                )

    def _second_order(self, output: np.ndarray) -> None:
        """Gradients of a random sum of the gradients."""
        if not self._asked("SECOND_ORDER"):
            return
        cotangent = _signed(self.rng, output.shape)
        weights = [_signed(self.rng, self.points[i].shape) for i in self.subject.wrt]

        def inner(points: Points) -> np.ndarray:
            grads = self.subject.gradient(points, cotangent)
            total = sum(float((host(g) * w).sum()) for g, w in zip(grads, weights, strict=True))
            return np.asarray(total)

        found = self.subject.gradient_of_gradient(self.points, cotangent, weights)
        for i, grad in zip(self.subject.wrt, found, strict=True):
            self._compare("SECOND_ORDER", i, grad, self._slopes(inner, i, 1), np.ones(()))

    def _gradients(self, cotangent: np.ndarray, layout: str | None = None) -> list[Any]:
        try:
            return self.subject.gradient(self.points, cotangent, layout)
        except ShapeError as error:  # the engine found it first
            self._fail("SHAPE", str(error))
            raise AssertionError from error

    def _slopes(
        self, function: Callable[[Points], np.ndarray], i: int, outputs: int
    ) -> list[Slope]:
        point = self.points[i]
        places: Sequence[int] = range(point.size)
        if point.size * max(outputs, 1) > FULL and point.size > 64:
            edges = {0, point.size - 1, 63, 64, min(255, point.size - 1), min(256, point.size - 1)}
            drawn = self.rng.choice(point.size, 24, replace=False).tolist()
            places = sorted(edges | set(drawn))

        def along(k: int) -> Callable[[float], np.ndarray]:
            def at(value: float) -> np.ndarray:
                moved = np.array(point, order="C")
                moved.reshape(-1)[k] = value
                return function({**self.points, i: moved})

            return at

        return [slope(along(k), float(point.reshape(-1)[k]), k) for k in places]

    def _compare(
        self, code: str, i: int, grad: Any, table: list[Slope], cotangent: np.ndarray
    ) -> None:
        point, name = self.points[i], self.subject.describe(i)
        analytic = self._well_formed(i, grad)
        rows = [self._row(analytic.reshape(-1)[s.index], s, cotangent) for s in table]
        self.report.entries += len(rows)
        if not rows:
            return
        bad = [r for r in rows if np.isfinite(r.tolerance) and not r.share <= 1]
        if bad:
            kinks = all(r.kink for r in bad)
            name_of = "TIE" if kinks and code == "VALUE" else code
            self._fail(name_of, *describe(self.subject, i, bad, rows, cotangent))
        # A tolerance that large would let anything pass: say so instead.
        vague = [r for r in rows if not r.tolerance <= 1e-3 * max(abs(r.numeric), r.scale, 1.0)]
        if vague:
            r = vague[0]
            self._fail(
                "INCONCLUSIVE",
                f"d(out)/d({name}) at {index_text(r.index, point.shape)}: the numeric derivative "
                f"is too uncertain to compare with ({r.numeric:.6g} ± {r.doubt:.1g}, analytic "
                f"{r.analytic:.6g}): a jump or a very sharp bend nearby? Move the point",
            )
        self.report.worst = max(self.report.worst, *(r.share for r in rows))

    def _well_formed(self, i: int, grad: Any) -> np.ndarray:
        """The gradient by input `i`, after a look at its shape, dtype and finiteness."""
        point, name = self.points[i], self.subject.describe(i)
        if tuple(grad.shape) != point.shape:
            self._fail(
                "SHAPE",
                f"the gradient by {name} has shape {tuple(grad.shape)}; the input has "
                f"{point.shape}",
            )
        analytic = host(grad)
        if analytic.dtype != np.float64:
            self._fail("DTYPE", f"the gradient by {name} is {analytic.dtype}; the input is float64")
        if not np.isfinite(analytic).all():
            k = int(np.flatnonzero(~np.isfinite(analytic))[0])
            self._fail(
                "NONFINITE",
                f"the gradient by {name} is {analytic.reshape(-1)[k]} at "
                f"{index_text(k, point.shape)}, where the input is {point.reshape(-1)[k]:.6g} and "
                "the output is finite",
            )
        return analytic

    def _row(self, analytic: float, s: Slope, cotangent: np.ndarray) -> _Row:
        weight = np.abs(cotangent)
        numeric = float((s.value * cotangent).sum())
        scale = float((np.abs(s.value) * weight).sum())
        doubt = float((s.error * weight)[weight > 0].sum())
        tolerance = self.settings.atol + self.settings.rtol * max(scale, 1.0) + 3 * doubt
        away, kink = abs(analytic - numeric), False
        if s.left is not None and s.right is not None:
            ends = s.left * cotangent, s.right * cotangent
            low, high = float(np.minimum(*ends).sum()), float(np.maximum(*ends).sum())
            kink = high - low > 2 * tolerance
            away = max(0.0, low - analytic, analytic - high)
        share = away / tolerance
        return _Row(s.index, float(analytic), numeric, doubt, tolerance, scale, share, kink)

    # ---- behaviour -----------------------------------------------------------------------------

    def _behaviour(self, cotangent: np.ndarray) -> None:
        """What must hold for gradients whatever their values are."""
        try:
            first = self.subject.run(self.points, cotangent)
        except ShapeError as error:
            self._fail("SHAPE", str(error))
            return
        wrt = self.subject.wrt
        grads = [self._well_formed(i, g) for i, g in zip(wrt, first.gradients, strict=True)]
        if first.changed and self._asked("MUTATED"):
            self._fail("MUTATED", f"{' and '.join(first.changed)} changed during the backward pass")
        if first.aliased and self._asked("ALIASED"):
            names = ", ".join(self.subject.describe(wrt[k]) for k in first.aliased)
            self._fail(
                "ALIASED",
                f"the gradient by {names} shares memory with an input or the output: whoever "
                "changes one changes the other; return a new array",
            )
        if self._asked("NONDET"):
            other = self.subject.run(self.points, cotangent, twice=False)
            self._same("NONDET", grads, first.again, "differs between two backward passes", 0.0)
            self._same("NONDET", grads, other.gradients, "differs between two calls", 0.0)
            if not np.array_equal(first.output, other.output, equal_nan=True):
                self._fail("NONDET", "the output differs between two calls with the same inputs")
        if self._asked("ZEROCOT"):
            for i, g in zip(wrt, self._gradients(cotangent * 0), strict=True):
                if np.any(host(g) != 0):
                    self._fail(
                        "ZEROCOT",
                        f"the gradient by {self.subject.describe(i)} is "
                        f"{float(np.abs(host(g)).max()):.3g} where the output's gradient is 0",
                    )
        if self._asked("LINEARITY"):
            for factor in (1024.0, 1 / 1024.0):
                scaled = [host(g) / factor for g in self._gradients(cotangent * factor)]
                words = (
                    f"for {factor:g} times the output's gradient is not {factor:g} times as large"
                )
                self._same("LINEARITY", grads, scaled, words, 1e-10)
        if self._asked("LAYOUT") and not self.subject.scalars:
            for layout in LAYOUTS:
                words = f"is another one for inputs in memory layout '{layout}'"
                self._same("LAYOUT", grads, self._gradients(cotangent, layout), words, 1e-10)
                value = self.subject.run(self.points, cotangent, layout, twice=False).output
                if not _close(first.output, value, 1e-10):
                    self._fail("LAYOUT", f"the output {words}")

    def _same(self, code: str, want: list[Any], found: list[Any], words: str, rtol: float) -> None:
        for i, a, b in zip(self.subject.wrt, want, found, strict=True):
            b = host(b)
            if a.shape == b.shape and not _close(a, b, rtol):
                k = int(np.argmax(np.nan_to_num(np.abs(a - b), nan=np.inf)))
                self._fail(
                    code,
                    f"the gradient by {self.subject.describe(i)} {words}: "
                    f"{a.reshape(-1)[k]:.8g} and {b.reshape(-1)[k]:.8g} at "
                    f"{index_text(k, a.shape)}",
                )

    def _fail(self, code: str, text: str, rows: list[Any] | None = None) -> None:
        self.report.failures.append(Failure(code, text, rows or []))
        raise _Stop


class _Row:
    """One derivative: both values, and how far they may differ."""

    __slots__ = (
        "analytic", "doubt", "index", "kink", "numeric", "scale", "share", "tolerance",
    )  # fmt: skip

    def __init__(
        self, index: int, analytic: float, numeric: float, doubt: float, tolerance: float,
        scale: float, share: float, kink: bool,
    ) -> None:  # fmt: skip
        self.index, self.analytic, self.numeric, self.doubt = index, analytic, numeric, doubt
        self.tolerance, self.scale, self.share, self.kink = tolerance, scale, share, kink


def _close(a: np.ndarray, b: np.ndarray, rtol: float) -> bool:
    if rtol == 0:
        return np.array_equal(a, b, equal_nan=True)
    bound = rtol * max(float(np.abs(a).max(initial=0.0)), 1e-3)
    return bool(np.all(np.isfinite(b))) and bool(np.all(np.abs(a - b) <= bound))


def _signed(rng: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Random numbers of both signs, none of them near 0."""
    return np.asarray(rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape))
