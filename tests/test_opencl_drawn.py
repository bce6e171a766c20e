"""Drawn programs on arrays: whatever waits, runs together, is kept, dropped or read early, the
numbers are those of NumPy, to the last bit.

All numbers are small integers, so that nothing is rounded and the order of additions does not
matter: a difference is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import microgpt_numpy
import microgpt_opencl
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.opencl import backend, needed, on, small_items

needed()

OURS, NUMPY = microgpt_opencl.KERNELS, microgpt_numpy.KERNELS
SHAPES = [(), (3,), (4, 1), (1, 3), (4, 3), (3, 4), (2, 4, 3), (37,), (5, 16)]
LIMIT = 8
"""Results are brought back to numbers up to this, so that they stay exact."""

Pair = tuple[Any, np.ndarray]
"""An array on the device, and the one of NumPy that it has to equal."""


class Program:
    """Steps that Hypothesis draws, on the arrays that are there."""

    def __init__(self, data: st.DataObject, device: Any) -> None:
        self.draw = data.draw
        self.device = device
        self.arrays: list[Pair] = []
        for _ in range(3):
            self.make()

    def pick(self, fits: Callable[[np.ndarray], bool] | None = None) -> Pair | None:
        """One of the arrays that fit; numbers by default."""
        fits = fits or _numbers
        found = [pair for pair in self.arrays if fits(pair[1])]
        return self.draw(st.sampled_from(found)) if found else None

    def pick_two(self, fit: Callable[[np.ndarray, np.ndarray], bool]) -> list[Pair]:
        """Two arrays of numbers that fit, if there are any."""
        a = self.pick()
        b = self.pick(lambda x: _numbers(x) and a is not None and fit(a[1], x))
        return [] if a is None or b is None else [a, b]

    def apply(self, op: str, *pairs: Any, **params: Any) -> None:
        """A step with a kernel of that name, and its result among the arrays."""
        ours = OURS[op](*[p[0] if type(p) is tuple else p for p in pairs], **params)
        want = NUMPY[op](*[p[1] if type(p) is tuple else p for p in pairs], **params)
        want = np.asarray(want)
        if want.dtype == np.float32 and abs(want).max(initial=0) > LIMIT:
            ours = OURS["clip"](ours, min=-LIMIT, max=LIMIT)
            want = want.clip(-LIMIT, LIMIT)
        self.arrays.append((ours, want))

    # ---- steps ---------------------------------------------------------------------------

    def make(self) -> None:
        shape = self.draw(st.sampled_from(SHAPES))
        numbers = self.draw(st.integers(0, 2**32 - 1))
        values = np.random.default_rng(numbers).integers(-3, 4, shape).astype(np.float32)
        self.arrays.append((on(self.device, values), values))

    def unary(self) -> None:
        op = self.draw(st.sampled_from(["negative", "abs", "relu", "square", "sign", "identity"]))
        if (x := self.pick()) is not None:
            self.apply(op, x)

    def binary(self) -> None:
        op = self.draw(
            st.sampled_from(["add", "subtract", "multiply", "maximum", "minimum", "greater"])
        )
        if two := self.pick_two(_together):
            self.apply(op, *two)

    def number(self) -> None:
        op = self.draw(st.sampled_from(["add", "multiply", "subtract"]))
        if (x := self.pick()) is not None:
            self.apply(op, x, float(self.draw(st.integers(-2, 2))))

    def where(self) -> None:
        c = self.pick(lambda x: x.dtype == bool)
        a = self.pick(lambda x: _numbers(x) and c is not None and _together(c[1], x))
        if a is not None:
            self.apply("where", c, a, (OURS["negative"](a[0]), -a[1]))

    def descend(self) -> None:
        """What plain gradient descent does with several parameters."""
        scale = float(self.draw(st.sampled_from([-1, 2])))
        before = len(self.arrays)
        for _ in range(self.draw(st.integers(1, 4))):
            if two := self.pick_two(lambda a, b: a.shape == b.shape):
                self.apply("add_scaled", *two, scale=scale)
        new = self.arrays[before:]
        meeting = [(a, b) for a in new for b in new if a is not b and _together(a[1], b[1])]
        if meeting and self.draw(st.booleans()):
            self.apply("multiply", *self.draw(st.sampled_from(meeting)))

    def reduce(self) -> None:
        op = self.draw(st.sampled_from(["sum", "max"]))
        if (x := self.pick(lambda x: _numbers(x) and x.ndim > 0)) is not None:
            axis = self.draw(st.integers(0, x[1].ndim - 1))
            self.apply(op, x, axis=(axis,), keepdims=self.draw(st.booleans()))

    def move(self) -> None:
        x = self.pick(lambda x: x.ndim > 1)
        if x is None:
            return
        shape = x[1].shape
        kind = self.draw(st.sampled_from(["permute_dims", "reshape", "slice", "flip"]))
        if kind == "permute_dims":
            axes = self.draw(st.permutations(range(len(shape))))
            self.apply(kind, x, axes=tuple(axes))
        elif kind == "reshape":
            self.apply(kind, x, shape=(shape[0] * shape[1], *shape[2:]))
        elif kind == "slice":
            step = self.draw(st.sampled_from([1, 2]))
            rest = tuple([(0, n, 1) for n in shape[1:]])
            self.apply(kind, x, key=((0, shape[0], step), *rest))
        else:
            self.apply(kind, x, axis=self.draw(st.integers(0, len(shape) - 1)))

    def product(self) -> None:
        if two := self.pick_two(lambda a, b: a.ndim == b.ndim == 2 and a.shape[1] == len(b)):
            self.apply("matmul", *two)

    def drop(self) -> None:
        if len(self.arrays) > 3:
            del self.arrays[self.draw(st.integers(0, len(self.arrays) - 1))]

    def read(self) -> None:
        if self.arrays:
            found, want = self.arrays[self.draw(st.integers(0, len(self.arrays) - 1))]
            np.testing.assert_array_equal(np.asarray(found), want)
            assert found.shape == want.shape and found.dtype == want.dtype


def _numbers(x: np.ndarray) -> bool:
    return x.dtype != bool


def _together(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two shapes broadcast, to something small."""
    try:
        return int(np.prod(np.broadcast_shapes(a.shape, b.shape))) <= 600
    except ValueError:
        return False


STEPS = ("make", "unary", "binary", "binary", "number", "where", "descend", "reduce", "move",
         "product", "drop", "drop", "read")  # fmt: skip


@pytest.mark.parametrize("style", ["vectors", "small items"])
@settings(suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_programs_compute_what_numpy_does(style: str, data: st.DataObject) -> None:
    device = backend().open() if style == "vectors" else small_items()
    program = Program(data, device)
    for _ in range(data.draw(st.integers(5, 30))):
        getattr(program, data.draw(st.sampled_from(STEPS)))()
    while program.arrays:
        program.read()
        program.drop() if len(program.arrays) > 3 else program.arrays.pop()
