"""Kernels of attention: scores of a few rows at a time, which stay in the cache of the processor.

The scores of all queries with all keys are never in memory at once. What backward needs of them is
computed again from the logarithm of each row's sum, as in FlashAttention (Dao et al.,
arXiv:2205.14135). Causal attention skips the blocks that nobody may see.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from microgpt_numpy.network import row_sums

BUDGET = 1 << 17
"""Scores computed at a time: half a megabyte of float32."""

_add = np.add.reduce
_largest = np.maximum.reduce


def _rows_per_block(n: int) -> int:
    """Queries per block: few enough to skip much of the future, many enough for the BLAS."""
    return 32 if n <= 128 else 64


class Block(NamedTuple):
    """Queries i to j of the matrices in `where` see keys 0 to `keys`."""

    where: slice
    i: int
    j: int
    keys: int


@lru_cache(maxsize=64)
def _blocks(count: int, heads: int, n: int, m: int, causal: bool) -> tuple[list[Block], int]:
    """Blocks of at most BUDGET scores, as far as rows allow; how many the largest one has."""
    rows = max(n, 1)
    if causal or heads * n * m > BUDGET:
        rows = min(rows, _rows_per_block(n))
    group = max(1, BUDGET // max(heads * rows * m, 1))
    blocks, largest = [], 0
    for first in range(0, count if m else 0, group):
        where = slice(first, min(first + group, count))
        # The last rows, which see all keys, come first: they write where the others add.
        for i in reversed(range(0, n, rows)):
            j = min(i + rows, n)
            keys = j + m - n if causal else m
            blocks.append(Block(where, i, j, keys))
            largest = max(largest, (where.stop - first) * heads * (j - i) * keys)
    return blocks, largest


@lru_cache(maxsize=64)
def _hidden(n: int, m: int, past: int) -> Any:
    """True where query i of n must not see key j of m, with `past` keys before the first query."""
    hidden = ~np.tri(n, m, past, dtype=bool)
    hidden.flags.writeable = False
    return hidden


class _Job:
    """What forward and backward share: queries (matrices, heads, n, d), keys and values alike.

    `mask` has the shape (matrices, heads, n, m) or is None.
    """

    __slots__ = ("blocks", "causal", "k", "largest", "m", "mask", "n", "q", "v")

    def __init__(self, q: Any, k: Any, v: Any, mask: Any, causal: bool, scale: float) -> None:
        count, heads, self.n, _ = q.shape
        self.m = k.shape[2]
        # Scaled once here instead of in every score.
        self.q = q * q.dtype.type(scale)
        self.k, self.v = k, v
        self.mask = mask
        self.causal = causal and self.n > 1
        if causal and self.n > self.m:
            # The first queries see nothing and are NaN, as the definition has it.
            self.causal = False
            seen = ~_hidden(self.n, self.m, self.m - self.n)
            self.mask = np.broadcast_to(
                seen if mask is None else mask & seen, (*q.shape[:3], self.m)
            )
        self.blocks, self.largest = _blocks(count, heads, self.n, self.m, self.causal)

    def scores(self, block: Block, scratch: Any) -> Any:
        """The scores of a block, in `scratch`; -∞ where nothing may be seen."""
        where, i, j, keys = block
        queries = self.q[where, :, i:j]
        count, heads, rows, _ = queries.shape
        scores = scratch[: count * heads * rows * keys].reshape(count, heads, rows, keys)
        np.matmul(queries, self.k[where, :, :keys].swapaxes(2, 3), out=scores)
        if self.causal and rows > 1:
            # Everybody sees the keys before the block's first query; hidden ones are behind them.
            tail = scores[..., keys - rows :]
            np.copyto(tail, -np.inf, where=_hidden(rows, rows, 0))
        if self.mask is not None:
            np.copyto(scores, -np.inf, where=~self.mask[where, :, i:j, :keys])
        return scores

    def run(self, out: Any, sums: Any) -> None:
        """Write the output, and the logarithms of the rows' sums if `sums` is not None."""
        if not self.m:
            out[...] = 0  # the sum of no values
        scratch = np.empty(self.largest, out.dtype)
        for block in self.blocks:
            where, i, j, keys = block
            scores = self.scores(block, scratch)
            # A shift by the largest of all rows would be quicker to find, but then what comes
            # later would change the last digits of what comes before.
            top = _largest(scores, axis=-1, keepdims=True)
            scores -= top
            np.exp(scores, out=scores)
            total = row_sums(scores)
            rows = out[where, :, i:j]
            np.matmul(scores, self.v[where, :, :keys], out=rows)
            rows /= total
            if sums is not None:
                np.log(total, out=total)
                np.add(total, top, out=sums[where, :, i:j])

    def run_back(self, g: Any, sums: Any, to_q: Any, to_k: Any, to_v: Any) -> None:
        """Write the gradients; those of keys and values add up over the blocks."""
        if not self.m:
            to_q[...] = 0
        if not self.n:
            to_k[...] = to_v[...] = 0  # no block writes there
        one, two = np.empty(self.largest, g.dtype), np.empty(self.largest, g.dtype)
        for block in self.blocks:
            where, i, j, keys = block
            rows = g[where, :, i:j]
            weights = self.scores(block, one)
            weights -= sums[where, :, i:j]
            np.exp(weights, out=weights)
            _store(to_v[where, :, :keys], weights.swapaxes(2, 3), rows, j == self.n)
            inner = two[: weights.size].reshape(weights.shape)
            np.matmul(rows, self.v[where, :, :keys].swapaxes(2, 3), out=inner)
            # Σ weights·inner is g·y, but in this way the gradient is exactly 0 for a single key.
            inner -= np.vecdot(weights, inner)[..., None]
            inner *= weights
            np.matmul(inner, self.k[where, :, :keys], out=to_q[where, :, i:j])
            queries = self.q[where, :, i:j]
            _store(to_k[where, :, :keys], inner.swapaxes(2, 3), queries, j == self.n)


def _store(target: Any, a: Any, b: Any, first: bool) -> None:
    if first:
        np.matmul(a, b, out=target)
    else:
        target += np.matmul(a, b)


# ---- queries, keys and values apart ----------------------------------------------------------


def _stacked(x: Any, lead: tuple[int, ...]) -> Any:
    """x (…, n, d) as (matrices, heads, n, d), a view where the memory allows."""
    if x.shape[:-2] != lead:
        x = np.broadcast_to(x, (*lead, *x.shape[-2:]))
    if len(lead) == 2:
        return x
    if len(lead) > 2:
        return x.reshape(math.prod(lead[:-1]), *x.shape[-3:])
    return x[None] if lead else x[None, None]


def _lead(q: Any, k: Any, v: Any, mask: Any) -> tuple[int, ...]:
    """The dimensions in front of the matrices."""
    lead = q.shape[:-2]
    if lead == k.shape[:-2] == v.shape[:-2] and mask is None:
        return lead
    more = () if mask is None else (mask.shape[:-2],)
    return np.broadcast_shapes(lead, k.shape[:-2], v.shape[:-2], *more)


def _job(q: Any, k: Any, v: Any, mask: Any, causal: bool, scale: float, lead: Any) -> _Job:
    q, k, v = (_stacked(x, lead) for x in (q, k, v))
    if mask is not None:
        full = (*lead, q.shape[2], k.shape[2])
        mask = _stacked(np.broadcast_to(mask, full), lead)
    return _Job(q, k, v, mask, causal, scale)


def _attend(
    q: Any, k: Any, v: Any, mask: Any, causal: bool, scale: float, saving: bool
) -> tuple[Any, Any]:
    lead = _lead(q, k, v, mask)
    shape = (*lead, q.shape[-2], v.shape[-1])
    # As the queries lie in memory (heads side by side), so that joining the heads is no copy.
    alike = q.ndim == len(shape) <= 4
    out = np.empty_like(q, shape=shape) if alike else np.empty(shape, q.dtype)
    stacked = _stacked(out, lead)
    sums = np.empty((*stacked.shape[:-1], 1), q.dtype) if saving else None
    with np.errstate(invalid="ignore"):
        _job(q, k, v, mask, causal, scale, lead).run(stacked, sums)
    return out, sums


def scaled_dot_product_attention(
    q: Any, k: Any, v: Any, *, mask: Any, causal: bool, scale: float
) -> Any:
    return _attend(q, k, v, mask, causal, scale, False)[0]


def scaled_dot_product_attention_saving(
    q: Any, k: Any, v: Any, *, mask: Any, causal: bool, scale: float
) -> tuple[Any, tuple]:
    y, sums = _attend(q, k, v, mask, causal, scale, True)
    return y, (sums,)


def scaled_dot_product_attention_vjp(
    g: Any, saved: Any, q: Any, k: Any, v: Any, *, needs: Any, mask: Any, causal: bool, scale: float
) -> tuple:
    if not isinstance(saved, tuple):  # the output of a forward kernel that another plugin replaced
        saved = _attend(q, k, v, mask, causal, scale, True)[1:]
    (sums,) = saved
    lead = _lead(q, k, v, mask)
    grads = [_buffer_for(x, lead) for x in (q, k, v)]
    with np.errstate(invalid="ignore"):
        rows, *stacked = [_stacked(x, lead) for x in (g, *grads)]
        _job(q, k, v, mask, causal, scale, lead).run_back(rows, sums, *stacked)
    grads[0] *= q.dtype.type(scale)
    return tuple([_summed(x, like.shape) for x, like in zip(grads, (q, k, v), strict=True)])


def _buffer_for(x: Any, lead: tuple[int, ...]) -> Any:
    if x.shape[:-2] == lead and len(lead) <= 2:
        return np.empty_like(x)
    return np.empty((*lead, *x.shape[-2:]), x.dtype)


def _summed(grad: Any, shape: tuple[int, ...]) -> Any:
    """Summed over the dimensions along which the input was broadcast."""
    if grad.shape == shape:
        return grad
    extra = grad.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(
        [i + extra for i, n in enumerate(shape) if n == 1 and grad.shape[i + extra] != 1]
    )
    return _add(grad, axes, keepdims=True).reshape(shape)


# ---- side by side ----------------------------------------------------------------------------


def _heads(qkv: Any, num_heads: int) -> tuple[Any, Any, Any]:
    """Views (batch, heads, length, size) of the three thirds."""
    batch, length, width = qkv.shape
    split = qkv.reshape(batch, length, 3, num_heads, width // (3 * num_heads))
    q, k, v = split.transpose(2, 0, 3, 1, 4)
    return q, k, v


def _self_attend(
    qkv: Any, num_heads: int, mask: Any, causal: bool, scale: float, saving: bool
) -> tuple[Any, Any]:
    q, k, v = _heads(qkv, num_heads)
    batch, heads, length, size = q.shape
    y = np.empty((batch, length, heads * size), qkv.dtype)
    out = y.reshape(batch, length, heads, size).transpose(0, 2, 1, 3)
    sums = np.empty((batch, heads, length, 1), qkv.dtype) if saving else None
    if mask is not None:
        mask = np.broadcast_to(mask, (batch, heads, length, length))
    with np.errstate(invalid="ignore"):
        _Job(q, k, v, mask, causal, scale).run(out, sums)
    return y, sums


def self_attention(qkv: Any, *, num_heads: int, mask: Any, causal: bool, scale: float) -> Any:
    return _self_attend(qkv, num_heads, mask, causal, scale, False)[0]


def self_attention_saving(
    qkv: Any, *, num_heads: int, mask: Any, causal: bool, scale: float
) -> tuple[Any, tuple]:
    y, sums = _self_attend(qkv, num_heads, mask, causal, scale, True)
    return y, (sums,)


def self_attention_vjp(
    g: Any, saved: Any, qkv: Any, *, needs: Any, num_heads: int, mask: Any, causal: bool,
    scale: float,
) -> tuple[Any]:  # fmt: skip
    if not isinstance(saved, tuple):  # the output of a forward kernel that another plugin replaced
        saved = _self_attend(qkv, num_heads, mask, causal, scale, True)[1:]
    (sums,) = saved
    grad = np.empty(qkv.shape, qkv.dtype)
    to_q, to_k, to_v = _heads(grad, num_heads)
    batch, length, width = g.shape
    rows = g.reshape(batch, length, num_heads, width // num_heads).transpose(0, 2, 1, 3)
    if mask is not None:
        mask = np.broadcast_to(mask, (batch, num_heads, length, length))
    with np.errstate(invalid="ignore"):
        job = _Job(*_heads(qkv, num_heads), mask, causal, scale)
        job.run_back(rows, sums, to_q, to_k, to_v)
    to_q *= qkv.dtype.type(scale)
    return (grad,)


KERNELS: dict[str, Callable[..., Any]] = {
    "scaled_dot_product_attention": scaled_dot_product_attention,
    "scaled_dot_product_attention_saving": scaled_dot_product_attention_saving,
    "scaled_dot_product_attention_vjp": scaled_dot_product_attention_vjp,
    "self_attention": self_attention,
    "self_attention_saving": self_attention_saving,
    "self_attention_vjp": self_attention_vjp,
}
