"""Kernel of attention to tokens whose keys and values are kept: quick for one new token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from microgpt_numpy.attention import scaled_dot_product_attention

_add = np.add.reduce
_largest = np.maximum.reduce


def cached_attention(q: Any, kv: Any, *, num_heads: int, scale: float) -> Any:
    n, t, width = q.shape
    size = width // num_heads
    rows = kv.reshape(n, kv.shape[1], 2, num_heads, size).transpose(2, 0, 3, 1, 4)
    k, v = rows[0], rows[1]  # (n, heads, m, size)
    if t == 1:  # the one query sees every key
        queries = (q * q.dtype.type(scale)).reshape(n, num_heads, 1, size)
        scores = queries @ k.swapaxes(-1, -2)  # (n, heads, 1, m)
        scores -= _largest(scores, -1, keepdims=True)
        np.exp(scores, out=scores)
        scores /= _add(scores, -1, keepdims=True)
        return (scores @ v).reshape(n, 1, width)
    queries = q.reshape(n, t, num_heads, size).transpose(0, 2, 1, 3)
    y = scaled_dot_product_attention(queries, k, v, mask=None, causal=True, scale=scale)
    return y.transpose(0, 2, 1, 3).reshape(n, t, width)


KERNELS: dict[str, Callable[..., Any]] = {"cached_attention": cached_attention}
