"""The array class: one flat row of numbers and a shape, in row-major order."""

import math
import operator

import numpy as np


class Array:
    """Numbers `data` (a NumPy array of one dimension) that stand for an array of `shape`.

    It is never changed once it is made, so arrays may share their data.
    """

    # NumPy numbers leave `number * array` to the operators below.
    __array_ufunc__ = None

    def __init__(self, data, shape):
        self.data = data
        self.shape = tuple(shape)

    @property
    def dtype(self):
        """The data type of the numbers."""
        return self.data.dtype

    @property
    def ndim(self):
        """How many dimensions."""
        return len(self.shape)

    @property
    def size(self):
        """How many numbers."""
        return self.data.size


def strides(shape):
    """How far apart in the row two neighbours along each dimension are."""
    return [math.prod(shape[i + 1 :]) for i in range(len(shape))]


def places(offsets):
    """Where elements are in the row, from how far each step along each dimension leads.

    The element (i, j, …) is at offsets[0][i] + offsets[1][j] + …; the answer lists all of them in
    row-major order. Nearly everything that moves elements is this function with some offsets.
    """
    found = np.zeros(1, dtype=np.int64)
    for steps in offsets:
        found = np.add.outer(found, steps).reshape(-1)
    return found


def steps(shape):
    """The offsets of all elements of an array of `shape`, dimension by dimension."""
    return [np.arange(n) * stride for n, stride in zip(shape, strides(shape), strict=True)]


def broadcast_to(x, *, shape):
    """`x` repeated to `shape`: no step at all along a dimension of length 1."""
    sides = (1,) * (len(shape) - x.ndim) + x.shape
    offsets = [
        np.arange(n) * stride if side == n else np.zeros(n, dtype=np.int64)
        for n, side, stride in zip(shape, sides, strides(sides), strict=True)
    ]
    return Array(x.data[places(offsets)], shape)


def elementwise(function):
    """The kernel that calls `function` with the rows of the inputs, broadcast to one shape.

    Inputs may be Python numbers; NumPy lets them take the data type of the arrays.
    """

    def kernel(*inputs):
        shape = np.broadcast_shapes(*[x.shape for x in inputs if isinstance(x, Array)])
        rows = [broadcast_to(x, shape=shape).data if isinstance(x, Array) else x for x in inputs]
        return Array(function(*rows), shape)

    return kernel


# Gradient rules are written with operators, so arrays must have them.
for name in ("add", "sub", "mul", "truediv", "pow"):
    kernel = elementwise(getattr(operator, name))
    setattr(Array, f"__{name}__", kernel)
    setattr(Array, f"__r{name}__", lambda a, b, kernel=kernel: kernel(b, a))
for name in ("neg", "eq", "ne", "lt", "le", "gt", "ge"):
    setattr(Array, f"__{name}__", elementwise(getattr(operator, name)))
