"""Where a token stands: sinusoidal, learned and rotary positions.

Attention alone does not know the order of what it sees. Sinusoidal and learned positions are added
to the tokens' vectors once; rotary ones turn the queries and keys of every layer. All of them take
`offset`, the position of the first token given, counted from 0: with a cache of earlier tokens that
is `cache.position`, the number of tokens before.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from microgpt import ops
from microgpt.creation import generator as make_generator
from microgpt.errors import InputError, ShapeError
from microgpt.nn import init
from microgpt.nn.module import Module, parameter
from microgpt.nn.shapes import axis_hint
from microgpt.ops.network import like


def _angles(start: int, stop: int, dim: int, base: float) -> np.ndarray:
    """position / base^(2i/dim), for positions `start` to `stop` and i from 0 to dim/2."""
    rates = base ** (-np.arange(0, dim, 2, dtype=np.float64) / dim)
    return np.arange(start, stop, dtype=np.float64)[:, None] * rates


class _Positions(Module):
    """What the three kinds share: the check of the shape, and of the offset."""

    dim: int

    def _span(self, x: Any, offset: int) -> tuple[int, int]:
        """First position of `x`, and the one after its last."""
        shape = tuple(x.shape)
        if len(shape) < 2 or shape[-1] != self.dim:
            hint = axis_hint(shape, self.dim) if shape else ""
            raise ShapeError(
                f"{type(self).__name__}({self.extra_repr()}) was given shape {shape}; required: "
                f"(…, length, {self.dim}){hint}"
            )
        if offset < 0:
            raise InputError(f"{type(self).__name__}: positions count from 0; got offset {offset}")
        return offset, offset + shape[-2]

    def extra_repr(self) -> str:
        """The size."""
        return f"{self.dim}"


class SinusoidalPositions(_Positions):
    """Adds sines and cosines of the position, from fast to slow: nothing to train, no end.

    Number 2i of a vector gets sin(position / base^(2i/dim)), number 2i + 1 the cosine.

    Args:
        dim: length of the vectors, an even number.
        base: how slow the slowest wave is.

    Shapes: (…, length, dim) → the same.

    Source: Vaswani et al., arXiv:1706.03762, section 3.5.

    Example:
        >>> import microgpt as mg
        >>> mg.nn.SinusoidalPositions(4)(mg.zeros((1, 2, 4)))[0, 0]
        tensor([0., 1., 0., 1.])
    """

    def __init__(self, dim: int, base: float = 10000.0) -> None:
        super().__init__()
        self.dim, self.base = _even("SinusoidalPositions", dim), base
        self._table = self.table(0, 0)

    def table(self, start: int, stop: int) -> np.ndarray:
        """(stop - start, dim): what is added at positions `start` to `stop` (not included)."""
        angles = _angles(start, stop, self.dim, self.base)
        return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(-1, self.dim)

    def forward(self, x: Any, offset: int = 0) -> Any:
        """x + positions `offset`, `offset` + 1, …"""
        start, stop = self._span(x, offset)
        if stop > len(self._table):
            self._table = self.table(0, 2 * stop)
        return x + like(x, self._table[start:stop])


class LearnedPositions(_Positions):
    """Adds a vector of its own for every position, learned like all other weights.

    Args:
        max_length: how many positions there are.
        dim: length of the vectors.
        std: deviation of the initial values around 0; 0.02 as in GPT-2.
        generator: their source; by default one made from the configured seed.
        dtype, backend, device: by default the configured ones.

    Shapes: (…, length, dim) → the same; weight (max_length, dim).

    Example:
        >>> import microgpt as mg
        >>> mg.nn.LearnedPositions(16, 8)
        LearnedPositions(16, 8)  128 parameters
    """

    def __init__(
        self,
        max_length: int,
        dim: int,
        std: float = 0.02,
        *,
        generator: np.random.Generator | None = None,
        dtype: Any = None,
        backend: str | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__()
        if max_length < 1 or dim < 1:
            raise InputError(
                f"LearnedPositions needs a length and a size of at least 1; got {max_length}, {dim}"
            )
        self.max_length, self.dim = max_length, dim
        source = make_generator() if generator is None else generator
        values = init.normal((max_length, dim), 0.0, std, generator=source)
        self.weight = parameter(values, dtype, backend, device)

    def forward(self, x: Any, offset: int = 0) -> Any:
        """x + the vectors of positions `offset`, `offset` + 1, …"""
        start, stop = self._span(x, offset)
        if stop > self.max_length:
            raise ShapeError(
                f"LearnedPositions({self.extra_repr()}) has positions 0 to {self.max_length - 1}; "
                f"got {stop - start} tokens from position {start} on: crop the text, or build the "
                "model with a longer context"
            )
        if start == 0 and stop == self.max_length:
            return x + self.weight
        return x + ops.getitem(self.weight, slice(start, stop))

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.max_length}, {self.dim}"


class RotaryEmbedding(_Positions):
    """Turns queries and keys by angles that grow with the position; nothing to train.

    The pairs that are turned together are numbers i and i + dim/2 (the two halves, as in GPT-NeoX
    and Llama; the paper pairs neighbours, which is the same up to the order of the numbers):

        x[i], x[i + dim/2]  →  x[i]·cos a - x[i + dim/2]·sin a,  x[i + dim/2]·cos a + x[i]·sin a

    with a = position / base^(2i/dim). Lengths stay, and in the product of a query and a key only
    the difference of their positions is left.

    Args:
        dim: length of the vectors, an even number: that of one head.
        base: how slow the slowest rotation is.

    Shapes: (…, length, dim) → the same.

    Source: Su et al., RoFormer, arXiv:2104.09864.

    Example:
        >>> import microgpt as mg
        >>> q = mg.tensor([[1.0, 0.0], [1.0, 0.0]])
        >>> mg.nn.RotaryEmbedding(2)(q)
        tensor([[1.        , 0.        ],
                [0.5403023 , 0.84147096]])
    """

    def __init__(self, dim: int, base: float = 10000.0) -> None:
        super().__init__()
        self.dim, self.base = _even("RotaryEmbedding", dim), base
        self._length = 0
        self._cos = self._sin = np.zeros((0, 2, dim // 2))

    def _grow(self, length: int) -> None:
        angles = _angles(0, length, self.dim, self.base)
        self._cos = np.stack([np.cos(angles)] * 2, axis=1)
        self._sin = np.stack([-np.sin(angles), np.sin(angles)], axis=1)
        self._length = length

    def forward(self, x: Any, offset: int = 0) -> Any:
        """Row k of the second to last dimension turned as position `offset` + k."""
        start, stop = self._span(x, offset)
        if stop > self._length:
            self._grow(2 * stop)
        shape = tuple(x.shape)
        halves = ops.reshape(x, (*shape[:-1], 2, self.dim // 2))
        turned = halves * like(x, self._cos[start:stop]) + ops.flip(halves, axis=-2) * like(
            x, self._sin[start:stop]
        )
        return ops.reshape(turned, shape)


def _even(name: str, dim: int) -> int:
    if dim < 2 or dim % 2:
        raise InputError(f"{name} pairs numbers and needs an even dim of 2 or more; got {dim}")
    return dim
