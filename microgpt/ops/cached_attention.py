"""Attention of new tokens to all tokens so far, whose keys and values are kept side by side."""

from __future__ import annotations

import math
from typing import Any

from microgpt.errors import ShapeError
from microgpt.ops import movement as mv
from microgpt.ops.attention import scaled_dot_product_attention
from microgpt.ops.declare import face, fused
from microgpt.ops.indexing import getitem


def _drawn(d: Any) -> Any:
    """A few heads; at least as many keys as queries."""
    heads, n, m = d.number(1, 2), d.number(1, 2), d.number(1, 4)
    width, t = heads * d.number(1, 2), d.number(1, m)
    queries, rows = d.filled((n, t, width), -1, 1), d.filled((n, m, 2 * width), -1, 1)
    return d.case(queries, rows, num_heads=heads, **d.optional(scale=0.3))


@fused(arity=2, domain=_drawn)
def _cached_attention(q: Any, kv: Any, num_heads: int = 1, scale: float = 1.0) -> Any:
    """softmax(q·kᵀ·scale)·v for each head; the last query is of the last key's token"""
    n, t, width = q.shape
    m, size = kv.shape[1], width // num_heads
    queries = mv.permute_dims(mv.reshape(q, (n, t, num_heads, size)), (0, 2, 1, 3))
    rows = mv.permute_dims(mv.reshape(kv, (n, m, 2, num_heads, size)), (2, 0, 3, 1, 4))
    y = scaled_dot_product_attention(
        queries, getitem(rows, 0), getitem(rows, 1), causal=True, scale=scale
    )
    return mv.reshape(mv.permute_dims(y, (0, 2, 1, 3)), (n, t, width))


@face(_cached_attention)
def cached_attention(q: Any, kv: Any, num_heads: int = 1, scale: float | None = None) -> Any:
    """Causal multi-head attention of the last t tokens to all m tokens so far.

    Args:
        q: (n, t, width), queries of the last t tokens, head after head.
        kv: (n, m, 2·width), for each of the m ≥ t tokens its keys and then its values.
        num_heads: into which the width is divided.
        scale: instead of 1/√(width/num_heads).

    Returns:
        (n, t, width), heads side by side. With t = m the same as `self_attention`.

    Raises:
        ShapeError: if the shapes do not fit.

    Example:
        >>> import microgpt as mg
        >>> mg.cached_attention(mg.ones((1, 1, 8)), mg.ones((1, 5, 16)), num_heads=2).shape
        (1, 1, 8)
    """
    a, b = tuple(q.shape), tuple(kv.shape)
    if (
        len(a) != 3 or len(b) != 3 or a[0] != b[0] or 2 * a[2] != b[2] or a[1] > b[1]
        or num_heads < 1 or not a[2] or a[2] % num_heads
    ):  # fmt: skip
        raise ShapeError(
            f"cached_attention with {num_heads} heads was given {a} and {b}; required: queries "
            f"(n, t, width), rows (n, m, 2·width) with m ≥ t, and a width that {num_heads} heads "
            "can share"
        )
    factor = 1 / math.sqrt(a[2] // num_heads) if scale is None else float(scale)
    return _cached_attention(q, kv, num_heads=num_heads, scale=factor)
