"""KVCache: keys and values of the tokens that an attention layer has seen already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from microgpt import ops
from microgpt.errors import GradientError, InputError, ShapeError


class KVCache:
    """What one attention layer keeps of earlier tokens, so that only new ones are computed.

    One cache per layer and text; `TransformerDecoder.make_cache()` makes them for a stack. Batches
    and beams of equal length share one. A cache is for writing, not for training: it refuses to
    keep what gradients flow through.

    Attributes:
        length: how many tokens' keys and values are there.
        position: where the next token stands, counted from 0: the number of tokens before it.
        rows: (n, length, 2E), for each token its keys and then its values, head after head; None
            if there is nothing.

    Example:
        >>> import microgpt as mg
        >>> attention, cache = mg.nn.MultiHeadAttention(8, 2), mg.nn.KVCache()
        >>> with mg.no_grad():
        ...     for _ in range(3):
        ...         y = attention(mg.ones((1, 1, 8)), is_causal=True, cache=cache)
        >>> cache.position, cache
        (3, KVCache(length=3))
    """

    def __init__(self) -> None:
        self.rows: Any = None
        self._source: Any = None
        self._cross: KVCache | None = None

    @property
    def length(self) -> int:
        """How many tokens' keys and values are there."""
        return 0 if self.rows is None else self.rows.shape[1]

    @property
    def position(self) -> int:
        """Where the next token stands, counted from 0: the number of tokens before it."""
        return self.length

    @property
    def cross(self) -> KVCache:
        """The cache of the same block's cross-attention."""
        if self._cross is None:
            self._cross = KVCache()
        return self._cross

    def append(self, rows: Any) -> Any:
        """Add the rows (n, new, 2E) of new tokens; returns those of all.

        Raises:
            GradientError: if gradients flow through them.
            ShapeError: if they do not go with those that are there.
            InputError: if this cache keeps the keys of another text (cross-attention).
        """
        _constant(rows)
        if self._source is not None:
            raise InputError(
                "this cache keeps what cross-attention looks at and takes no new tokens; use "
                "another one, or its .cross for the cross-attention of the same block"
            )
        if self.rows is not None:
            old, new = tuple(self.rows.shape), tuple(rows.shape)
            if old[0] != new[0] or old[2] != new[2]:
                raise ShapeError(
                    f"the cache holds rows of shape {old}, (batch, length, keys and values), and "
                    f"was given new ones of shape {new}; required: the same but for the length "
                    "(for another batch or layer use another cache, or reset() this one)"
                )
            rows = ops.concat([self.rows, rows], axis=1)
        self.rows = rows
        return rows

    def kept(self, source: Any, make: Callable[[], Any]) -> Any:
        """The rows of `source`, which cross-attention looks at: made once, then kept.

        Raises:
            GradientError: if gradients flow through them.
            InputError: if those of something else are kept here.
        """
        if self._source is None and self.rows is None:
            rows = make()
            _constant(rows)
            self.rows, self._source = rows, source
        elif self._source is not source:
            raise InputError(
                "this cache holds keys and values of something else than the key given now; "
                "required: the same object in every call, or reset() in between"
            )
        return self.rows

    def crop(self, length: int) -> None:
        """Forget all tokens after the first `length`; what cross-attention looks at stays.

        Raises:
            InputError: if there are fewer.
        """
        if not 0 <= length <= self.length:
            raise InputError(f"a cache of {self.length} tokens cannot be cropped to {length}")
        if length == 0:
            self.rows = None
        elif length < self.length:
            self.rows = ops.getitem(self.rows, (slice(None), slice(0, length)))

    def reset(self) -> None:
        """Forget everything, what cross-attention looks at too."""
        self.rows = self._source = self._cross = None

    def __repr__(self) -> str:
        return f"KVCache(length={self.length})"


def _constant(rows: Any) -> None:
    if rows.requires_grad:
        raise GradientError(
            "a cache of keys and values is for writing and keeps nothing that gradients flow "
            "through; required: with mg.no_grad(): around the calls, or no cache in training"
        )
