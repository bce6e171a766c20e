"""Multi-head attention, and the cache of keys and values that decoding uses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from microgpt import ops
from microgpt.creation import generator as make_generator
from microgpt.errors import InputError, ShapeError
from microgpt.nn import init
from microgpt.nn.cache import KVCache
from microgpt.nn.linear import Dropout, Linear
from microgpt.nn.masks import Mask, combined
from microgpt.nn.module import Module, parameter
from microgpt.nn.positions import RotaryEmbedding
from microgpt.nn.shapes import axis_hint
from microgpt.ops.network import like, linear_unchecked


class MultiHeadAttention(Module):
    """Every query gets a mean of values, weighted by how well their keys match it; in some heads.

    Parameters are named as in `torch.nn.MultiheadAttention`, whose state can be loaded. Everything
    is batch first. Two things differ from PyTorch: **masks are True where something may be seen**
    (`key_padding_mask` of PyTorch, and its `attn_mask`, are True where it may not: pass `~mask`),
    and the pattern that is returned on request is that of every head, not their mean.

    A query that may see no key at all (a padded place, say) gets zeros from attention, and sends
    no gradient back; PyTorch gives NaN there.

    Args:
        embed_dim: E, length of the queries' vectors and of the output's.
        num_heads: how many heads E is divided among.
        dropout: probability with which an entry of a pattern is set to 0 in training.
        bias: whether the linear maps add something.
        kdim, vdim: lengths of the keys' and values' vectors; by default E.
        rotary: turns queries and keys by their positions: a `RotaryEmbedding` of the heads' size,
            or True for the usual one. For self-attention.
        generator: source of the initial values, Xavier uniform for the maps in front as in
            PyTorch, and of dropout's masks; by default one made from the configured seed.
        dtype, backend, device: by default the configured ones.

    Shapes: query (n, q, E), key (n, k, kdim), value (n, k, vdim) → (n, q, E).

    Source: Vaswani et al., arXiv:1706.03762, section 3.2.

    Example:
        >>> import microgpt as mg
        >>> attention = mg.nn.MultiHeadAttention(8, 2)
        >>> x = mg.ones((1, 3, 8))
        >>> y, pattern = attention(x, is_causal=True, need_weights=True)
        >>> y.shape, pattern.shape
        ((1, 3, 8), (1, 2, 3, 3))
        >>> pattern[0, 0].detach()
        tensor([[1.        , 0.        , 0.        ],
                [0.5       , 0.5       , 0.        ],
                [0.33333334, 0.33333334, 0.33333334]])
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        kdim: int | None = None,
        vdim: int | None = None,
        *,
        rotary: RotaryEmbedding | bool = False,
        generator: np.random.Generator | None = None,
        dtype: Any = None,
        backend: str | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__()
        if embed_dim < 1 or num_heads < 1 or embed_dim % num_heads:
            raise InputError(
                "MultiHeadAttention divides embed_dim evenly among its heads; got embed_dim "
                f"{embed_dim} and num_heads {num_heads}"
            )
        self.embed_dim, self.num_heads = embed_dim, num_heads
        self.head_dim = embed_dim // num_heads
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        source = make_generator() if generator is None else generator

        def made(*shape: int) -> Any:
            return parameter(init.xavier_uniform(shape, generator=source), dtype, backend, device)

        self._packed = self.kdim == self.vdim == embed_dim
        if self._packed:
            self.in_proj_weight = made(3 * embed_dim, embed_dim)
        else:
            self.q_proj_weight = made(embed_dim, embed_dim)
            self.k_proj_weight = made(embed_dim, self.kdim)
            self.v_proj_weight = made(embed_dim, self.vdim)
        self.in_proj_bias = (
            parameter(np.zeros(3 * embed_dim), dtype, backend, device) if bias else None
        )
        self.out_proj = Linear(
            embed_dim, embed_dim, bias, generator=source, dtype=dtype, backend=backend,
            device=device,
        )  # fmt: skip
        if bias:
            self.out_proj.bias.data = np.zeros(embed_dim)  # pyright: ignore[reportOptionalMemberAccess]
        self.dropout = Dropout(dropout, generator=source) if dropout else None
        self.rotary = RotaryEmbedding(self.head_dim) if rotary is True else rotary or None
        if self.rotary is not None and self.rotary.dim != self.head_dim:
            raise InputError(
                f"MultiHeadAttention({self.extra_repr()}): rotary positions of size "
                f"{self.rotary.dim}; required: that of a head, {self.head_dim}"
            )

    def forward(
        self,
        query: Any,
        key: Any = None,
        value: Any = None,
        *,
        mask: Any = None,
        key_padding_mask: Any = None,
        is_causal: bool = False,
        need_weights: bool = False,
        cache: KVCache | None = None,
    ) -> Any:
        """Attention of `query` to `key` and `value`; without these to itself.

        Args:
            query: (n, q, E).
            key: (n, k, kdim); by default the queries.
            value: (n, k, vdim); by default the keys.
            mask: boolean (True: may be seen) or numbers that are added to the scores; broadcasts
                to (n, heads, q, k). It gets no gradient.
            key_padding_mask: (n, k), True where there **is** a token, False where there is padding:
                the opposite of PyTorch's.
            is_causal: a query sees no key after its own place (both end at the same place).
            need_weights: return (output, pattern), the pattern (n, heads, q, k) before dropout.
            cache: keys and values of earlier calls, to which those of this one are added. With a
                `key` of its own (cross-attention), they are computed in the first call and kept.
                Masks then speak of all keys. Not while gradients are recorded.

        Raises:
            ShapeError: if the shapes do not fit the layer or each other.
            GradientError: if a cache is used while gradients are recorded.
        """
        if key is query and value is query:
            key = value = None
        own = key is None and value is None
        if self.rotary is not None and not own:
            raise InputError(
                f"{self._name()}: rotary positions are for self-attention; got a key of its own"
            )
        masks = (mask, key_padding_mask, is_causal)
        by_hand = need_weights or (self.dropout is not None and self.training)
        if own and self._packed:
            self._check("query", query, self.embed_dim)
            rows = linear_unchecked(query, self.in_proj_weight, self.in_proj_bias)
            if self.rotary is None and not by_hand:
                joined = self._at_once(rows, masks, cache)
                if joined is not None:
                    return linear_unchecked(joined, self.out_proj.weight, self.out_proj.bias)
            q, k, v = self._split(rows, 3)
        else:
            key = query if key is None else key
            q, k, v = self._projections(query, key, key if value is None else value, cache)
        keys = k.shape[2] + (cache.length if cache is not None and own else 0)
        told = combined(self._name(), (*q.shape[:3], keys), *masks, separate=not by_hand)
        if self.rotary is not None:
            q, k = turned(self.rotary, q, k, 0 if cache is None else cache.position)
        if cache is not None and own:
            both = ops.concat([self._joined(k), self._joined(v)], axis=-1)
            k, v = self._split(cache.append(both), 2)
        heads, pattern = self._attend(q, k, v, told, by_hand)
        joined = self._joined(heads)
        y = linear_unchecked(joined, self.out_proj.weight, self.out_proj.bias)
        return (y, pattern) if need_weights else y

    def _at_once(self, rows: Any, masks: tuple[Any, Any, bool], cache: Any) -> Any:
        """All heads' outputs side by side by one op, or None if the masks need more than that.

        `rows` (n, q, 3E) are queries, keys and values of the tokens given.
        """
        n, length, _ = rows.shape
        if cache is not None:
            if masks[0] is not None or masks[1] is not None or not masks[2]:
                return None
            queries, new = ops.split(rows, (self.embed_dim, 2 * self.embed_dim), axis=-1)
            return ops.cached_attention(queries, cache.append(new), self.num_heads)
        told = combined(self._name(), (n, self.num_heads, length, length), *masks, separate=True)
        if told.mask is not None and told.mask.dtype.kind != "b":
            return None
        if told.empty is not None and told.empty.shape[1] > 1:
            return None
        y = ops.self_attention(rows, self.num_heads, told.mask, told.causal)
        return y if told.empty is None else ops.where(told.empty[:, 0], 0.0, y)

    def _attend(self, q: Any, k: Any, v: Any, told: Mask, by_hand: bool) -> tuple[Any, Any]:
        """(n, heads, q, E / heads), and the pattern if it was asked for, or thinned out."""
        pattern = None
        if by_hand:
            pattern = weights(q, k, told)
            y = ops.matmul(pattern if self.dropout is None else self.dropout(pattern), v)
        else:
            y = ops.scaled_dot_product_attention(q, k, v, _with(q, told.mask), told.causal)
        return y if told.empty is None else ops.where(told.empty, 0.0, y), pattern

    # ---- queries, keys, values -----------------------------------------------------------------

    def _split(self, rows: Any, parts: int) -> list[Any]:
        """(n, length, parts·E) → so many times (n, heads, length, E / heads)."""
        n, length, _ = rows.shape
        split = ops.reshape(rows, (n, length, parts, self.num_heads, self.head_dim))
        split = ops.permute_dims(split, (2, 0, 3, 1, 4))
        return [ops.getitem(split, part) for part in range(parts)]

    def _joined(self, heads: Any) -> Any:
        """(n, heads, length, E / heads) → (n, length, E)."""
        n, _, length, _ = heads.shape
        return ops.reshape(ops.permute_dims(heads, (0, 2, 1, 3)), (n, length, self.embed_dim))

    def _projections(self, query: Any, key: Any, value: Any, cache: KVCache | None) -> Any:
        self._check("query", query, self.embed_dim)
        self._check("key", key, self.kdim)
        self._check("value", value, self.vdim)
        if query.shape[0] != key.shape[0] or tuple(key.shape[:2]) != tuple(value.shape[:2]):
            raise ShapeError(
                f"{self._name()}: query of shape {tuple(query.shape)}, key of shape "
                f"{tuple(key.shape)} and value of shape {tuple(value.shape)}; required: one batch "
                "size, and as many values as keys"
            )
        q = self._projected(0, 1, query)
        if cache is not None:
            rows = cache.kept(key, lambda: self._keys_and_values(key, value))
        elif key is value and self._packed:
            rows = self._projected(1, 3, key)
        else:
            k, v = self._projected(1, 2, key), self._projected(2, 3, value)
            return (*self._split(q, 1), *self._split(k, 1), *self._split(v, 1))
        return (*self._split(q, 1), *self._split(rows, 2))

    def _keys_and_values(self, key: Any, value: Any) -> Any:
        """(n, k, 2E), for each token its key and then its value."""
        if key is value and self._packed:
            return self._projected(1, 3, key)
        return ops.concat([self._projected(1, 2, key), self._projected(2, 3, value)], axis=-1)

    def _projected(self, first: int, stop: int, x: Any) -> Any:
        """Parts `first` to `stop` of the linear map; 0 are queries, 1 keys, 2 values."""
        rows = slice(first * self.embed_dim, stop * self.embed_dim)
        if self._packed:
            weight = ops.getitem(self.in_proj_weight, rows)
        else:
            weight = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)[first]
        bias = None if self.in_proj_bias is None else ops.getitem(self.in_proj_bias, rows)
        return linear_unchecked(x, weight, bias)

    def _check(self, what: str, x: Any, width: int) -> None:
        shape = x.shape
        if len(shape) != 3 or shape[2] != width:
            hint = "; a single text: x[None] puts the batch in front" if len(shape) == 2 else ""
            raise ShapeError(
                f"{self._name()} was given a {what} of shape {tuple(shape)}; required: (batch, "
                f"length, {width}){hint or (axis_hint(tuple(shape), width) if shape else '')}"
            )

    def _name(self) -> str:
        return f"MultiHeadAttention({self.extra_repr()})"

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.embed_dim}, {self.num_heads}"


def turned(rotary: RotaryEmbedding, q: Any, k: Any, offset: int) -> tuple[Any, Any]:
    """Queries and keys turned by the same angles; the first of each stands at position `offset`."""
    return rotary(q, offset), rotary(k, offset)


def weights(q: Any, k: Any, told: Mask) -> Any:
    """(n, heads, q, k): softmax(q·kᵀ/√size) under a mask; rows without a key are 0."""
    scores = ops.matmul(q, ops.matrix_transpose(k)) * (1 / math.sqrt(q.shape[-1]))
    mask = _with(q, told.mask)
    if mask is not None:
        scores = ops.where(mask, scores, -math.inf) if mask.dtype.kind == "b" else scores + mask
    pattern = ops.softmax(scores, axis=-1)
    return pattern if told.empty is None else ops.where(told.empty, 0.0, pattern)


def _with(q: Any, mask: np.ndarray | None) -> Any:
    """Numbers to add as a tensor like `q`; booleans stay on the host, where ops take them."""
    return mask if mask is None or mask.dtype.kind == "b" else like(q, mask)
