"""How inputs of ops are drawn: the language in which the rows of the op table state their domains.

A domain is a function of a `Drawer`, usually called ``d``, that returns an array, a tuple of arrays
or a `Case`. Everything is constructed, nothing drawn and thrown away: shapes, axes and layouts come
from Hypothesis (so that failures shrink to small ones), the values from NumPy with a drawn seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from microgpt.ops.table import Op
from microgpt.testing.cases import Case

Shape = tuple[int, ...]
LAYOUTS = ("C", "F", "reversed", "step")


def cases(op: Op) -> st.SearchStrategy[Case]:
    """Cases from the domain of `op`."""

    @st.composite
    def build(draw: Callable[..., Any]) -> Case:
        return case_of(op, Drawer(draw))

    return build()


def case_of(op: Op, d: Drawer) -> Case:
    """One case from the domain of `op`."""
    if op.domain is None:
        drawn: Any = d.equal_shapes(op.arity or 1)
    else:
        drawn = op.domain(d)
    if isinstance(drawn, Case):
        return drawn
    return Case(tuple(drawn) if isinstance(drawn, tuple) else (drawn,))


class Drawer:
    """Draws the parts of a case; its methods are the words of the domain language."""

    def __init__(self, draw: Callable[..., Any]) -> None:
        self.draw = draw

    # ---- small things ------------------------------------------------------------------------

    def case(self, *inputs: Any, call: Callable[..., Any] | None = None, **params: Any) -> Case:
        """Inputs and parameters together."""
        return Case(inputs, params) if call is None else Case(inputs, params, call)

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
        ndim = self.number(min_ndim, max_ndim)
        return tuple([self.number(min_side, 4) for _ in range(ndim)])

    # ---- values ------------------------------------------------------------------------------

    def filled(
        self,
        shape: Shape,
        low: float = -3.0,
        high: float = 3.0,
        away_from: Sequence[float] = (),
        margin: float = 0.1,
    ) -> np.ndarray:
        """An array of a shape, in a drawn memory layout, with values that keep their distance."""
        values = self.rng().uniform(low, high, shape)
        for kink in away_from:
            near = np.abs(values - kink) < margin
            values = np.where(near, kink + np.where(values < kink, -margin, margin) * 1.5, values)
        return self.laid_out(np.asarray(values))

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
    ) -> np.ndarray:
        """An array of any shape."""
        return self.filled(self.shape(min_ndim, 3, min_side), low, high, away_from, margin)

    def distinct(self, min_ndim: int = 0, min_side: int = 1) -> np.ndarray:
        """An array whose elements are all at least 0.1 apart."""
        return self.ranked(self.shape(min_ndim, 3, min_side))

    def ranked(self, shape: Shape) -> np.ndarray:
        """Distinct values in random order."""
        n = int(np.prod(shape))
        rng = self.rng()
        values = (rng.permutation(n) - n / 2) * 0.2 + rng.uniform(-0.04, 0.04, n)
        return self.laid_out(values.reshape(shape))

    def integers(self, below: int) -> np.ndarray:
        """Whole numbers from 0 to below - 1."""
        return self.rng().integers(0, below, self.shape())

    def equal_shapes(self, count: int) -> tuple[np.ndarray, ...]:
        """Arrays of one shape."""
        shape = self.shape()
        return tuple([self.filled(shape) for _ in range(count)])

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
        return (self.rng().random(mask) < 0.5, *[self.filled(s) for s in rest])

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
        return self.case(x, axis=axis, keepdims=self.boolean(), **params)

    def along(self, x: np.ndarray, **params: Any) -> Case:
        """`x` with one axis."""
        return self.case(x, axis=self.axis(x.ndim), **params)

    # ---- movement ----------------------------------------------------------------------------

    def reshaped(self) -> Case:
        """An array and another shape for its elements."""
        shape = self.shape()
        x = self.filled(shape)
        want = list(shape)
        if self.boolean():
            want = [int(np.prod(shape))]
        elif self.boolean():
            want = [*shape[::-1], 1]
        if 0 not in want and want and self.boolean():
            want[self.number(0, len(want) - 1)] = -1
        return self.case(x, shape=tuple(want))

    def permuted(self) -> Case:
        """An array and an order of its dimensions."""
        x = self.array()
        return self.case(x, axes=tuple(self.draw(st.permutations(range(x.ndim)))))

    def broadcast(self) -> Case:
        """An array and a shape that it broadcasts to."""
        full = self.shape()
        part = tuple([1 if self.boolean() else n for n in full])[self.number(0, len(full)) :]
        return self.case(self.filled(part), shape=full)

    def flipped(self) -> Case:
        """An array and an axis, some axes, or all."""
        case = self.reduction(self.array())
        return self.case(*case.inputs, axis=case.params["axis"])

    def key(self, shape: Shape) -> tuple[tuple[int, int, int], ...]:
        """One (start, stop, step) per dimension, as Python's slices give them."""
        cuts = []
        for n in shape:
            low, high = sorted((self.number(0, n), self.number(0, n)))
            step = self.sampled([1, 1, 2, 3, -1, -2])
            cut = (
                slice(low, high, step) if step > 0 else slice(high, low - 1 if low else None, step)
            )
            cuts.append(cut.indices(n))
        return tuple(cuts)

    def sliced(self) -> Case:
        """An array and slices."""
        x = self.array()
        return self.case(x, key=self.key(x.shape))

    def unsliced(self) -> Case:
        """Slices of a shape, and an array that fits into them."""
        shape = self.shape()
        key = self.key(shape)
        return self.case(self.filled(tuple([len(range(*c)) for c in key])), key=key, shape=shape)

    def padded(self) -> Case:
        """An array, widths of a border, and its value."""
        x = self.array()
        widths = tuple([(self.number(0, 2), self.number(0, 2)) for _ in x.shape])
        return self.case(x, widths=widths, value=self.sampled([0.0, -1.5]))

    def joinable(self) -> Case:
        """One to three arrays that differ in one dimension."""
        shape = self.shape(1)
        axis = self.axis(len(shape))
        arrays = []
        for _ in range(self.number(1, 3)):
            sides = list(shape)
            sides[axis] = self.number(0, 3)
            arrays.append(self.filled(tuple(sides)))
        return self.case(*arrays, axis=axis, call=lambda f, *xs, **kw: f(list(xs), **kw))

    def matrix_with_k(self) -> Case:
        """Matrices and the number of a diagonal."""
        return self.case(self.array(min_ndim=2), k=self.number(-3, 3))

    # ---- indexing ----------------------------------------------------------------------------

    def indices(self, shape: Shape, below: int) -> np.ndarray:
        """Positions below a length, counted from either end."""
        return self.rng().integers(-below if self.boolean() else 0, below, shape)

    def taken(self) -> Case:
        """An array, and indices along one axis; they repeat."""
        shape = self.shape(1, 3, 1)
        axis = self.axis(len(shape))
        return self.case(self.filled(shape), self.indices(self.shape(0, 2), shape[axis]), axis=axis)

    def index_added(self) -> Case:
        """An array that `take` may have given, and its indices."""
        size = self.number(1, 4)
        shape, places = self.shape(0, 2), self.shape(0, 2)
        axis = self.number(0, len(shape))
        full = (*shape[:axis], *places, *shape[axis:])
        return self.case(self.filled(full), self.indices(places, size), axis=axis, size=size)

    def gathered(self) -> Case:
        """An array, and one index per element along an axis."""
        shape = self.shape(1, 3, 1)
        axis = self.axis(len(shape))
        places = list(shape)
        places[axis] = self.number(0, 4)
        return self.case(self.filled(shape), self.indices(tuple(places), shape[axis]), axis=axis)

    def scattered(self) -> Case:
        """An array, indices, and what is added there."""
        case = self.gathered()
        x, places = case.inputs
        return self.case(x, places, self.filled(places.shape), **case.params)

    # ---- networks ----------------------------------------------------------------------------

    def matrices(self) -> tuple[np.ndarray, np.ndarray]:
        """Matrices that can be multiplied, in stacks that broadcast."""
        n, k, m = (self.number(0, 4) for _ in range(3))
        full = self.shape(0, 2)
        stacks = [
            tuple([1 if self.boolean() else s for s in full])[self.number(0, len(full)) :]
            for _ in range(2)
        ]
        return self.filled((*stacks[0], n, k)), self.filled((*stacks[1], k, m))

    def linear(self) -> Case:
        """Rows, weights, and a bias or none."""
        lead, n, m = self.shape(0, 2), self.number(1, 4), self.number(1, 4)
        bias = self.filled((m,)) if self.boolean() else None
        return self.case(self.filled((*lead, n)), self.filled((m, n)), bias)

    def normalised(self, bias: bool) -> Case:
        """Rows of two or more, with weight and bias or without."""
        shape = (*self.shape(0, 2), self.number(2, 5))
        extra: list[Any] = [self.filled(shape[-1:]) if self.boolean() else None]
        if bias:
            extra.append(self.filled(shape[-1:]) if self.boolean() else None)
        return self.case(self.ranked(shape), *extra, eps=self.sampled([1e-5, 0.1]))

    def attention(self) -> Case:
        """Queries, keys and values, with masks in which every query sees a key."""
        lead = self.shape(0, 2, 1)
        n, extra, size, out = self.number(1, 3), self.number(0, 2), self.number(1, 4), 2
        m = n + extra
        q, k = self.filled((*lead, n, size), -1, 1), self.filled((*lead, m, size), -1, 1)
        mask = None
        if self.boolean():
            mask = self.rng().random((n, m)) < 0.6
            mask[:, 0] = True
        v = self.filled((*lead, m, out))
        return self.case(q, k, v, mask=mask, causal=self.boolean())

    def classified(self) -> Case:
        """Logits and classes, some of them ignored."""
        n, classes = self.number(1, 4), self.number(1, 5)
        target = self.rng().integers(0, classes, n)
        if self.boolean():
            target[0] = -100
        return self.case(self.filled((n, classes)), target)

    def _window(self) -> dict[str, Any]:
        return {
            "kernel_size": (self.number(1, 3), self.number(1, 2)),
            "stride": self.number(1, 2),
            "padding": (self.number(0, 1), self.number(0, 1)),
            "dilation": self.number(1, 2),
        }

    def images(self, channels: int) -> np.ndarray:
        """A few small images, large enough for every window that is drawn."""
        return self.filled((self.number(1, 2), channels, self.number(5, 6), self.number(5, 6)))

    def windows(self) -> Case:
        """Images and a window."""
        return self.case(self.images(self.number(1, 2)), **self._window())

    def folded(self) -> Case:
        """Columns, and the image that they are put together to."""
        window = self._window()
        size = (self.number(5, 6), self.number(5, 6))
        count = 1
        for i in range(2):
            reach = window["dilation"] * (window["kernel_size"][i] - 1)
            count *= (size[i] + 2 * window["padding"][i] - reach - 1) // window["stride"] + 1
        rows = window["kernel_size"][0] * window["kernel_size"][1]
        return self.case(self.filled((1, 2 * rows, count)), output_shape=size, **window)

    def convolution(self) -> Case:
        """Images, filters, and a bias or none."""
        groups = self.number(1, 2)
        window = self._window()
        out, per_group = groups * self.number(1, 2), self.number(1, 2)
        weight = self.filled((out, per_group, *window.pop("kernel_size")))
        bias = self.filled((out,)) if self.boolean() else None
        return self.case(self.images(groups * per_group), weight, bias, groups=groups, **window)

    def pooled(self, distinct: bool) -> Case:
        """Images and a window to pool over."""
        shape = (1, self.number(1, 2), self.number(4, 5), self.number(4, 5))
        x = self.ranked(shape) if distinct else self.filled(shape)
        kernel = self.number(2, 3)
        return self.case(
            x, kernel_size=kernel, stride=self.sampled([None, 1]), padding=self.number(0, 1)
        )
