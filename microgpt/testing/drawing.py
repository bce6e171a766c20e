"""Drawing shapes, values, layouts and axes: the part of the domain language that knows no op.

Everything is constructed, nothing drawn and thrown away: shapes, axes and layouts come from
Hypothesis (so that failures shrink to small ones), the values from NumPy with a drawn seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np
from hypothesis import strategies as st

from microgpt.testing.cases import Case

Shape = tuple[int, ...]
LAYOUTS = ("C", "F", "reversed", "step")
FAMILIES = ("normal", "ties", "extreme", "long")
LONG = (63, 64, 65, 255, 256, 257)


class Values:
    """Draws shapes and values.

    The family says which kind of values: "normal" ones, off the kinks; "ties", multiples of a half,
    which meet kinks and each other; "extreme", up to ±10⁴ and signed zeros; "long", normal ones
    with a side of 63 to 257, the sizes at which vector code changes its way.
    """

    def __init__(self, draw: Callable[..., Any], family: str = "normal") -> None:
        self.draw = draw
        self.family = family
        self._long_sides = 1 if family == "long" else 0

    def of(self, family: str) -> Self:
        """A drawer of another family of values."""
        return type(self)(self.draw, family)

    # ---- small things ------------------------------------------------------------------------

    def case(self, *inputs: Any, call: Callable[..., Any] | None = None, **params: Any) -> Case:
        """Inputs and parameters together."""
        return Case(inputs, params) if call is None else Case(inputs, params, call)

    def optional(self, **params: Any) -> dict[str, Any]:
        """Some of `params`; the others are left to their default values."""
        return {name: value for name, value in params.items() if self.boolean()}

    def rows(self, *inputs: Any, over: tuple[int, ...] = (0,), **params: Any) -> Case:
        """A case whose inputs `over` may have another dimension in front, worked on row by row."""
        return Case(inputs, params, rows=over)

    def number(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return self.draw(st.integers(low, high))

    def boolean(self) -> bool:
        """True or False."""
        return self.draw(st.booleans())

    def sampled(self, values: Sequence[Any]) -> Any:
        """One of `values`."""
        return self.draw(st.sampled_from(list(values)))

    def rng(self) -> np.random.Generator:
        """A source of values."""
        return np.random.default_rng(self.number(0, 2**16))

    def shape(self, min_ndim: int = 0, max_ndim: int = 3, min_side: int = 0) -> Shape:
        """Up to three dimensions of length up to four."""
        least = max(min_ndim, min(self._long_sides, max_ndim))
        ndim = self.number(least, max_ndim)
        return tuple([self.side(min_side) for _ in range(ndim)])

    def side(self, least: int = 0, most: int = 4) -> int:
        """The length of a dimension; the first one of the long family is long.

        Empty arrays are for the normal family: they have neither ties nor extremes.
        """
        if self.family in ("ties", "extreme"):
            least = max(least, 1)
        if self._long_sides:
            self._long_sides = 0
            return self.sampled(LONG)
        return self.number(least, most)

    # ---- values ------------------------------------------------------------------------------

    def filled(
        self,
        shape: Shape,
        low: float = -3.0,
        high: float = 3.0,
        away_from: Sequence[float] = (),
        margin: float = 0.1,
        poles: Sequence[float] = (),
    ) -> np.ndarray:
        """An array of a shape, in a drawn memory layout.

        Values keep their distance from `away_from`, kinks, except in the family of ties, and from
        `poles`, where there is no value, in every family.
        """
        rng = self.rng()
        values = rng.uniform(low, high, shape)
        if self.family == "ties":
            values = np.clip(np.round(values * 2) / 2, low, high)
        elif self.family == "extreme":
            values = self._extreme(values, low, high, rng)
        kinks = () if self.family == "ties" else away_from
        for point in (*kinks, *poles):
            near = np.abs(values - point) < margin
            values = np.where(near, point + np.where(values < point, -margin, margin) * 1.5, values)
        return self.laid_out(np.asarray(values))

    def _extreme(self, values: Any, low: float, high: float, rng: np.random.Generator) -> Any:
        if low >= 0:
            return values  # only symmetric domains have room
        factor = self.sampled([1e4, 1e2, 2.0, 1.0])
        zeros = rng.choice([0.0, -0.0, 1.0, 1.0], values.shape)
        return values * (factor if low == -high else 1.0) * zeros

    def laid_out(self, values: np.ndarray) -> np.ndarray:
        """The same values, arranged in memory in a drawn way."""
        layout = self.sampled(LAYOUTS)
        if values.ndim == 0 or layout == "C":
            return np.array(values, order="C")
        if layout == "F":
            return np.array(values, order="F")
        if layout == "reversed":
            return np.array(values[::-1])[::-1]
        wide = np.zeros((*values.shape[:-1], values.shape[-1] * 2))
        wide[..., ::2] = values
        return wide[..., ::2]

    def array(
        self,
        low: float = -3.0,
        high: float = 3.0,
        *,
        min_ndim: int = 0,
        min_side: int = 0,
        away_from: Sequence[float] = (),
        margin: float = 0.1,
        poles: Sequence[float] = (),
    ) -> np.ndarray:
        """An array of any shape."""
        return self.filled(self.shape(min_ndim, 3, min_side), low, high, away_from, margin, poles)

    def distinct(self, min_ndim: int = 0, min_side: int = 1) -> np.ndarray:
        """An array whose elements are all at least 0.1 apart, except in the family of ties."""
        return self.ranked(self.shape(min_ndim, 3, min_side))

    def ranked(self, shape: Shape) -> np.ndarray:
        """Distinct values in random order."""
        n = int(np.prod(shape))
        rng = self.rng()
        if self.family == "ties":
            return self.laid_out(rng.integers(-1, 2, shape) / 2)
        values = (rng.permutation(n) - n / 2) * 0.2 + rng.uniform(-0.04, 0.04, n)
        return self.laid_out(values.reshape(shape))

    def integers(self, below: int) -> np.ndarray:
        """Whole numbers from 0 to below - 1."""
        return np.asarray(self.rng().integers(0, below, self.shape()))

    def equal_shapes(
        self, count: int, low: float = -3.0, high: float = 3.0, poles: Sequence[float] = ()
    ) -> tuple[np.ndarray, ...]:
        """Arrays of one shape, `filled`."""
        shape = self.shape()
        return tuple([self.filled(shape, low, high, poles=poles) for _ in range(count)])

    # ---- several arrays ----------------------------------------------------------------------

    def shapes(self, count: int) -> list[Shape]:
        """Shapes that broadcast: parts of one shape, with some sides 1 and some left out."""
        full = self.shape()
        return [
            tuple([1 if self.boolean() else n for n in full])[self.number(0, len(full)) :]
            for _ in range(count)
        ]

    def broadcastable(self, count: int, **values: Any) -> tuple[np.ndarray, ...]:
        """Arrays that broadcast."""
        return tuple([self.filled(s, **values) for s in self.shapes(count)])

    def apart(self, count: int) -> tuple[np.ndarray, ...]:
        """Arrays that broadcast, with no two elements closer than 0.05."""
        shapes = self.shapes(count)
        sizes = [int(np.prod(s)) for s in shapes]
        pool = self.ranked((sum(sizes),))
        parts = np.split(pool, np.cumsum(sizes)[:-1])
        return tuple([np.array(p).reshape(s) for p, s in zip(parts, shapes, strict=True)])

    def with_mask(self, count: int) -> tuple[np.ndarray, ...]:
        """A mask and arrays that broadcast."""
        mask, *rest = self.shapes(count + 1)
        return (np.asarray(self.rng().random(mask) < 0.5), *[self.filled(s) for s in rest])

    # ---- axes --------------------------------------------------------------------------------

    def axis(self, ndim: int) -> int:
        """One axis, counted from either end."""
        return self.number(-ndim, ndim - 1)

    def reduction(self, x: np.ndarray, **params: Any) -> Case:
        """`x` with an axis, some axes, or all of them, and keepdims."""
        axis: Any = None
        if x.ndim and self.boolean():
            axis = self.axis(x.ndim)
            if self.boolean():
                chosen = [i for i in range(x.ndim) if self.boolean()]
                axis = tuple(chosen)
        given = {} if axis is None and self.boolean() else {"axis": axis}
        rows = (0,) if axis is not None else ()
        return self.rows(x, **given, **self.optional(keepdims=self.boolean()), **params, over=rows)

    def along(self, x: np.ndarray, **params: Any) -> Case:
        """`x` with one axis, by default the last."""
        return self.rows(x, **self.optional(axis=self.axis(x.ndim)), **params)

    def position(self, x: np.ndarray) -> Case:
        """`x` with one axis or none, to find a position along it."""
        one = {"axis": self.axis(x.ndim)} if x.ndim and self.boolean() else {}
        return self.rows(
            x, **one, **self.optional(keepdims=self.boolean()), over=(0,) if one else ()
        )
