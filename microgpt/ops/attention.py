"""Fused attention: of any queries to any keys, and of a sequence to itself."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from microgpt.errors import InputError, ShapeError
from microgpt.graph import TensorBase
from microgpt.ops import elementwise as el
from microgpt.ops import movement as mv
from microgpt.ops.activation import softmax
from microgpt.ops.declare import face, fused
from microgpt.ops.indexing import getitem, host_array
from microgpt.ops.linalg import matmul
from microgpt.plugins import registry


def _scores(q: Any, k: Any, mask: Any, causal: bool, scale: float) -> Any:
    scores = matmul(q, mv.matrix_transpose(k)) * scale
    if causal:
        n, m = q.shape[-2], k.shape[-2]
        seen = np.tril(np.ones((n, m), dtype=bool), m - n)
        scores = el.where(_constant(seen, scores), scores, -math.inf)
    if mask is not None:
        boolean = el.numpy_dtype(mask.dtype).kind == "b"
        mask = _constant(mask, scores)
        scores = el.where(mask, scores, -math.inf) if boolean else scores + mask
    return scores


def _constant(values: Any, like: Any) -> Any:
    """NumPy `values` as something that goes with `like`: raw arrays do not mix with NumPy's."""
    if isinstance(like, TensorBase) or not isinstance(values, np.ndarray):
        return values
    return registry.backend_of(like).asarray(values, None, None)


@fused(arity=3, domain=lambda d: d.attention())
def _scaled_dot_product_attention(
    q: Any, k: Any, v: Any, mask: Any = None, causal: bool = False, scale: float = 1.0
) -> Any:
    """softmax(q·kᵀ·scale)·v"""
    return matmul(softmax(_scores(q, k, mask, causal, scale), axis=-1), v)


@face(_scaled_dot_product_attention)
def scaled_dot_product_attention(
    q: Any, k: Any, v: Any, mask: Any = None, causal: bool = False, scale: float | None = None
) -> Any:
    """softmax(q·kᵀ/√d)·v: every query's mean of the values, weighted by how keys match it.

    Args:
        q: (…, n, d) queries.
        k: (…, m, d) keys.
        v: (…, m, e) values.
        mask: broadcasts to (…, n, m): boolean (True: may be seen) or numbers added to the scores.
        causal: query i sees keys up to i only (counted from the end when n ≠ m).
        scale: instead of 1/√d.

    Returns:
        (…, n, e). Each query needs a key that it may see; a row without any is NaN.

    Source: Vaswani et al., arXiv:1706.03762, equation 1.

    Example:
        >>> import microgpt as mg
        >>> q = mg.zeros((1, 2, 4))
        >>> mg.scaled_dot_product_attention(q, q, mg.tensor([[[1.0], [3.0]]]), causal=True)
        tensor([[[1.],
                 [2.]]])
    """
    shapes = [tuple(x.shape) for x in (q, k, v)]
    if any(len(s) < 2 for s in shapes) or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ShapeError(
            "scaled_dot_product_attention needs q (…, n, d), k (…, m, d), v (…, m, e); got "
            f"{shapes[0]}, {shapes[1]}, {shapes[2]}"
        )
    factor = 1 / math.sqrt(q.shape[-1]) if scale is None else float(scale)
    if mask is not None:
        mask = mask if hasattr(mask, "dtype") else np.asarray(mask)
        if el.numpy_dtype(mask.dtype).kind != "b":
            # A mask of numbers may want a gradient, which only an input of an op gets.
            body = _scaled_dot_product_attention.op.body
            return body(q, k, v, mask=mask, causal=causal, scale=factor)
        mask = host_array(mask)
    return _scaled_dot_product_attention(q, k, v, mask=mask, causal=causal, scale=factor)


@fused(arity=1, domain=lambda d: d.self_attention())
def _self_attention(
    qkv: Any, num_heads: int = 1, mask: Any = None, causal: bool = False, scale: float = 1.0
) -> Any:
    """softmax(q·kᵀ·scale)·v for each head, with q, k and v side by side in the last axis"""
    batch, length, width = qkv.shape[0], qkv.shape[1], qkv.shape[2] // 3
    split = mv.reshape(qkv, (batch, length, 3, num_heads, width // num_heads))
    every = slice(None)
    q, k, v = (mv.permute_dims(getitem(split, (every, every, i)), (0, 2, 1, 3)) for i in range(3))
    y = _scaled_dot_product_attention(q, k, v, mask=mask, causal=causal, scale=scale)
    return mv.reshape(mv.permute_dims(y, (0, 2, 1, 3)), (batch, length, width))


@face(_self_attention)
def self_attention(
    qkv: Any, num_heads: int = 1, mask: Any = None, causal: bool = False, scale: float | None = None
) -> Any:
    """Multi-head attention of a sequence to itself, from projections made by one linear map.

    Args:
        qkv: (batch, n, 3·width): queries, keys and values of all heads side by side; within each
            third, head after head.
        num_heads: h, into which the width is divided.
        mask: boolean, broadcasts to (batch, h, n, n) (True: may be seen).
        causal: token i sees tokens up to i only.
        scale: instead of 1/√(width/h).

    Returns:
        (batch, n, width), heads side by side; the same numbers as
        `scaled_dot_product_attention` of the parts, without copies of them.

    Raises:
        ShapeError: if the last axis is not 3·h·(a whole number).

    Source: Vaswani et al., arXiv:1706.03762, section 3.2.2.

    Example:
        >>> import microgpt as mg
        >>> mg.self_attention(mg.ones((2, 5, 3 * 8)), num_heads=4, causal=True).shape
        (2, 5, 8)
    """
    shape = tuple(qkv.shape)
    if num_heads < 1 or len(shape) != 3 or shape[2] % (3 * num_heads) or not shape[2]:
        raise ShapeError(
            f"self_attention with {num_heads} heads was given shape {shape}; required: (batch, n, "
            f"3·width) with a width that {num_heads} heads can share"
        )
    factor = 1 / math.sqrt(shape[2] // 3 // num_heads) if scale is None else float(scale)
    if mask is not None:
        mask = host_array(mask)
        if mask.dtype.kind != "b":
            raise InputError(
                "self_attention takes boolean masks (True: may be seen); got "
                f"{mask.dtype}; for numbers to add use scaled_dot_product_attention"
            )
    return _self_attention(qkv, num_heads=num_heads, mask=mask, causal=causal, scale=factor)
