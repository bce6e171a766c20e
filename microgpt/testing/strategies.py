"""How inputs of ops are drawn: the language in which the rows of the op table state their domains.

A domain is a function of a `Drawer`, usually called ``d``, that returns an array, a tuple of arrays
or a `Case`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from microgpt.ops.table import Op
from microgpt.testing.cases import Case
from microgpt.testing.drawing import Shape, Values


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


def _lstm(f: Callable[..., Any], x: Any, w: Any, h: Any, c: Any, ids: Any, **params: Any) -> Any:
    return f(x, w, h, c, ids=ids, **params)


class Drawer(Values):
    """Draws the parts of a case; its methods are the words of the domain language."""

    # ---- powers, limits ------------------------------------------------------------------------

    def powers(self) -> Case:
        """Positive bases and any exponents, or bases of any sign and one whole exponent."""
        if self.boolean():
            base, exponent = self.shapes(2)
            powers = self.filled(exponent, -2.0, 2.5)
            if self.boolean():
                powers = np.asarray(np.round(powers))
            bases = self.filled(base, 0.3, 2.5)
            if self.number(0, 3) == 0:  # at 0, powers are smooth if they are high
                bases = np.where(self.rng().random(base) < 0.3, 0.0, bases)
                powers = np.full(exponent, 5.0)
            return self.case(bases, powers)
        power = self.number(-2, 4)
        base = self.array(poles=(0.0,) if power < 0 else (), margin=0.3)
        if power >= 0 and base.size and self.boolean():
            base = np.where(self.rng().random(base.shape) < 0.3, 0.0, base)
        return self.case(base, power)

    def limited(self) -> Case:
        """An array, and a lower limit, an upper one, or both."""
        limits = self.sampled([{"min": -1.0, "max": 1.5}, {"max": 0.5}, {"min": -0.5}])
        if self.boolean():
            limits = {"min": None, "max": None, **limits}
        points = [v for v in limits.values() if v is not None]
        return self.rows(self.array(away_from=points), **limits)

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
        return replace(case, params={k: v for k, v in case.params.items() if k == "axis"})

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
        value = self.optional(value=self.sampled([0.0, -1.5]))
        return self.case(x, widths=widths, **value)

    def joinable(self) -> Case:
        """One to three arrays that differ in one dimension."""
        shape = self.shape(1)
        axis = self.axis(len(shape))
        arrays = []
        for _ in range(self.number(1, 3)):
            sides = list(shape)
            sides[axis] = self.sampled([shape[axis], self.number(0, 3)])
            arrays.append(self.filled(tuple(sides)))
        given: dict[str, Any] = {} if axis == 0 and self.boolean() else {"axis": axis}
        return self.case(*arrays, **given, call=lambda f, *xs, **kw: f(list(xs), **kw))

    def matrix_with_k(self) -> Case:
        """Matrices and the number of a diagonal."""
        return self.rows(self.array(min_ndim=2), **self.optional(k=self.number(-3, 3)))

    # ---- indexing ----------------------------------------------------------------------------

    def indices(self, shape: Shape, below: int) -> np.ndarray:
        """Positions below a length, counted from either end."""
        return self.rng().integers(-below if self.boolean() else 0, below, shape)

    def taken(self) -> Case:
        """An array, and indices along one axis; they repeat."""
        shape = self.shape(1, 3, 1)
        axis = self.axis(len(shape))
        given: dict[str, Any] = {} if len(shape) == 1 and self.boolean() else {"axis": axis}
        return self.case(self.filled(shape), self.indices(self.shape(0, 2), shape[axis]), **given)

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
        given = self.optional(axis=self.axis(len(shape)))
        axis = given.get("axis", -1)
        places = list(shape)
        places[axis] = self.number(0, 4)
        return self.case(self.filled(shape), self.indices(tuple(places), shape[axis]), **given)

    def scattered(self) -> Case:
        """An array, indices, and what is added there."""
        case = self.gathered()
        x, places = case.inputs
        return self.case(x, places, self.filled(places.shape), **case.params)

    # ---- networks ----------------------------------------------------------------------------

    def matrices(self) -> Case:
        """Matrices that can be multiplied, in stacks that broadcast."""
        n, k, m = (self.side() for _ in range(3))
        full = self.shape(0, 2)
        stacks = [
            tuple([1 if self.boolean() else s for s in full])[self.number(0, len(full)) :]
            for _ in range(2)
        ]
        a, b = self.filled((*stacks[0], n, k)), self.filled((*stacks[1], k, m))
        return self.rows(a, b, over=(0, 1) if len(stacks[0]) == len(stacks[1]) else ())

    def linear(self) -> Case:
        """Rows, weights, and a bias or none."""
        n, m, lead = self.side(1), self.side(1), self.shape(0, 2)
        bias = self.filled((m,)) if self.boolean() else None
        return self.rows(self.filled((*lead, n)), self.filled((m, n)), bias)

    def normalised(self, bias: bool) -> Case:
        """Rows of two or more, with weight and bias or without."""
        length = self.side(2, 5)
        shape = (*self.shape(0, 2), length)
        extra: list[Any] = [self.filled(shape[-1:]) if self.boolean() else None]
        if bias:
            extra.append(self.filled(shape[-1:]) if self.boolean() else None)
        eps = self.optional(eps=self.sampled([1e-5, 0.1]))
        return self.rows(self.ranked(shape), *extra, **eps)

    def attention(self) -> Case:
        """Queries, keys and values, with masks in which every query sees a key."""
        extra, n = self.side(0, 2), self.number(1, 3)
        size, out, lead = self.number(1, 4), self.number(1, 3), self.shape(0, 2, 1)
        m = n + extra
        q, k = self.filled((*lead, n, size), -1, 1), self.filled((*lead, m, size), -1, 1)
        v = self.filled((*lead, m, out))
        params = self.optional(causal=self.boolean(), scale=self.sampled([None, 0.3]))
        kind = self.sampled(["none", "boolean", "numbers"])
        if kind != "none":
            mask = self.rng().random((n, m)) < 0.6
            mask[:, 0] = True
            params["mask"] = mask if kind == "boolean" else np.where(mask, 0.5, -1e30)
        return self.rows(q, k, v, over=(0, 1, 2), **params)

    def self_attention(self) -> Case:
        """Projections of a few heads side by side, with masks in which every query sees a key."""
        heads, n = self.number(1, 2), self.number(1, 4)
        x = self.filled((self.number(1, 2), n, 3 * heads * self.number(1, 2)), -1, 1)
        params = self.optional(causal=self.boolean(), scale=self.sampled([None, 0.3]))
        if self.boolean():
            mask = self.rng().random((self.sampled([1, len(x)]), 1, n, n)) < 0.6
            mask[..., 0] = True
            params["mask"] = mask
        return self.case(x, num_heads=heads, **params)

    def running_mean(self) -> Case:
        """A mean and what comes to it, of one shape."""
        given = self.optional(beta=self.sampled([0.0, 0.5, 0.999]), squared=self.boolean())
        return self.case(*self.equal_shapes(2), **given)

    def adam(self) -> Case:
        """Values, running means and means of squares, positive as the last ones have to be."""
        given = self.optional(
            lr=self.sampled([0.0, 0.5, -0.5]), correction=self.sampled([1.0, 3.0]), eps=0.1
        )
        return self.case(*self.equal_shapes(3, 0.1, 4.0, poles=(0.0,)), **given)

    def classified(self) -> Case:
        """Logits and classes, some of them ignored."""
        classes, n = self.side(1, 5), self.number(1, 4)
        target = self.rng().integers(0, classes, n)
        given = self.optional(ignore_index=self.sampled([-100, 0]))
        if self.boolean():
            target[0] = given.get("ignore_index", -100)
        return self.case(self.filled((n, classes)), target, **given)

    def lstm(self) -> Case:
        """Sums of the gates, weights and states for a few steps, with lengths or without."""
        x, weight, state, params = self._recurrent(4, 3.0, 1.0)
        ids = None
        if self.boolean():
            steps, n, width = x.shape
            x, ids = self.filled((4, width)), self.indices((steps, n), 4) % 4
        return self.case(x, weight, state, self.filled(state.shape), ids, **params, call=_lstm)

    def rnn(self) -> Case:
        """Sums, weights and a state for a few steps; with relu all sums stay away from 0."""
        kind = self.optional(nonlinearity=self.sampled(["tanh", "relu"]))
        if kind.get("nonlinearity") == "relu":
            x, weight, state, params = self._recurrent(1, 3.0, 0.05, poles=(0.0,), margin=1.0)
        else:
            x, weight, state, params = self._recurrent(1, 2.0, 1.0)
        return self.case(x, weight, state, **params, **kind)

    def _recurrent(self, gates: int, most: float, weights: float, **values: Any) -> Any:
        steps, n, size = self.number(1, 3), self.side(0, 3), self.number(1, 3)
        x = self.filled((steps, n, gates * size), -most, most, **values)
        weight = self.filled((gates * size, size), -weights, weights)
        lengths = self.rng().integers(1, steps + 1, n)
        params = self.optional(lengths=lengths, reverse=self.boolean())
        return x, weight, self.filled((n, size), -1, 1), params

    def _window(self) -> dict[str, Any]:
        return {
            "kernel_size": (self.number(1, 3), self.number(1, 2)),
            **self.optional(
                stride=self.number(1, 2),
                padding=(self.number(0, 1), self.number(0, 1)),
                dilation=self.number(1, 2),
            ),
        }

    def images(self, channels: int) -> np.ndarray:
        """A few small images, large enough for every window that is drawn."""
        return self.filled((self.number(1, 2), channels, self.number(5, 6), self.number(3, 4)))

    def windows(self) -> Case:
        """Images and a window."""
        return self._images(self.images(self.number(1, 2)), **self._window())

    def _images(self, *inputs: Any, **params: Any) -> Case:
        return Case(inputs, params, rows=(0,), joined=True)

    def folded(self) -> Case:
        """Columns, and the image that they are put together to."""
        window = self._window()
        size = (self.number(5, 6), self.number(3, 4))
        count = 1
        for i in range(2):
            reach = window.get("dilation", 1) * (window["kernel_size"][i] - 1)
            edge = 2 * window.get("padding", (0, 0))[i]
            count *= (size[i] + edge - reach - 1) // window.get("stride", 1) + 1
        rows = window["kernel_size"][0] * window["kernel_size"][1]
        channels = self.number(1, 2)
        return self._images(self.filled((1, channels * rows, count)), output_shape=size, **window)

    def convolution(self) -> Case:
        """Images, filters, and a bias or none."""
        groups = self.number(1, 2)
        window = self._window()
        out, per_group = groups * self.number(1, 2), self.number(1, 2)
        weight = self.filled((out, per_group, *window.pop("kernel_size")))
        bias = self.filled((out,)) if self.boolean() else None
        if groups > 1 or self.boolean():
            window["groups"] = groups
        return self._images(self.images(groups * per_group), weight, bias, **window)

    def pooled(self, distinct: bool) -> Case:
        """Images and a window to pool over."""
        shape = (1, self.number(1, 2), self.number(4, 5), self.number(4, 5))
        x = self.ranked(shape) if distinct else self.filled(shape)
        kernel = self.sampled([2, 3, (2, 3)])
        given = self.optional(
            stride=self.sampled([None, 1, (2, 1)]), padding=self.sampled([0, 1, (1, 0), (0, 1)])
        )
        return self._images(x, kernel_size=kernel, **given)
