"""Transformer blocks, and stacks of them: encoders and decoders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from microgpt import ops
from microgpt.creation import generator as make_generator
from microgpt.errors import InputError
from microgpt.nn.attention import MultiHeadAttention
from microgpt.nn.cache import KVCache
from microgpt.nn.container import ModuleList
from microgpt.nn.linear import Dropout, Linear
from microgpt.nn.module import Module
from microgpt.nn.norm import LayerNorm, RMSNorm
from microgpt.nn.positions import RotaryEmbedding

_ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "gelu": ops.gelu,
    "gelu_tanh": partial(ops.gelu, approximate="tanh"),
    "relu": ops.relu,
    "silu": ops.silu,
}


class TransformerBlock(Module):
    """Attention, in which tokens look at each other, then two linear maps for each token alone.

    Both are added to what came in. With `cross_attention` there is a second attention between the
    two, to the `memory` of an encoder. The parts are named as in PyTorch's TransformerEncoderLayer
    and TransformerDecoderLayer, whose states can be loaded: `self_attn`, `multihead_attn` (to the
    memory), `linear1`, `linear2`, and `norm1` to `norm3` in the order of their use.

    Args:
        embed_dim: E, length of a token's vector.
        num_heads: heads of each attention.
        hidden: neurons between the two linear maps; by default 4·E.
        norm: 'layer' (LayerNorm) or 'rms' (RMSNorm).
        norm_first: normalise what goes into attention and linear maps (pre-norm, as in GPT-2);
            False: normalise each sum (post-norm, as in the paper and PyTorch's default).
        activation: 'gelu', 'gelu_tanh' (GPT-2's formula), 'relu' or 'silu'.
        bias: whether linear maps and layer norms add something.
        dropout: probability for patterns, hidden neurons and what is added, in training.
        is_causal: whether no token sees a later one.
        cross_attention: whether there is an attention to a memory.
        rotary: as in `MultiHeadAttention`, for the self-attention.
        eps: ε of the norms; by default theirs.
        norm_affine: whether the norms have weights.
        generator: source of initial values and dropout masks; by default one made from the
            configured seed.
        dtype, backend, device: by default the configured ones.

    Shapes: x (n, length, E), memory (n, k, E) → (n, length, E).

    Source: Vaswani et al., arXiv:1706.03762; pre-norm: Xiong et al., arXiv:2002.04745.

    Example:
        >>> import microgpt as mg
        >>> block = mg.nn.TransformerBlock(16, 4, is_causal=True)
        >>> block(mg.ones((1, 5, 16))).shape, block.num_parameters()
        ((1, 5, 16), 3280)
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        hidden: int | None = None,
        *,
        norm: str = "layer",
        norm_first: bool = True,
        activation: str = "gelu",
        bias: bool = True,
        dropout: float = 0.0,
        is_causal: bool = False,
        cross_attention: bool = False,
        rotary: RotaryEmbedding | bool = False,
        eps: float | None = None,
        norm_affine: bool = True,
        generator: np.random.Generator | None = None,
        dtype: Any = None,
        backend: str | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__()
        if activation not in _ACTIVATIONS:
            raise InputError(
                f"TransformerBlock: there is no activation '{activation}'; there are "
                f"{', '.join(_ACTIVATIONS)}"
            )
        hidden = 4 * embed_dim if hidden is None else hidden
        source = make_generator() if generator is None else generator
        place: dict[str, Any] = {"dtype": dtype, "backend": backend, "device": device}
        made: dict[str, Any] = {"generator": source, **place}
        self.embed_dim, self.norm_first, self.is_causal = embed_dim, norm_first, is_causal
        self.activation = activation
        self._activate = _ACTIVATIONS[activation]

        def normed() -> Module:
            return make_norm(norm, embed_dim, eps, norm_affine, bias, **place)

        self.norm1 = normed()
        self.self_attn = MultiHeadAttention(
            embed_dim, num_heads, dropout, bias, rotary=rotary, **made
        )
        self.multihead_attn = None
        if cross_attention:
            self.norm2 = normed()
            self.multihead_attn = MultiHeadAttention(embed_dim, num_heads, dropout, bias, **made)
            self.norm3 = normed()
        else:
            self.norm2 = normed()
        self.linear1 = Linear(embed_dim, hidden, bias, **made)
        self.linear2 = Linear(hidden, embed_dim, bias, **made)
        self.dropout = Dropout(dropout, generator=source) if dropout else None

    def forward(
        self,
        x: Any,
        memory: Any = None,
        *,
        mask: Any = None,
        key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        cache: KVCache | None = None,
        need_weights: bool = False,
    ) -> Any:
        """(n, length, E) → (n, length, E).

        Args:
            x: tokens; with a cache, the new ones.
            memory: (n, k, E), what cross-attention looks at.
            mask, key_padding_mask: for the self-attention, as in `MultiHeadAttention`.
            memory_key_padding_mask: (n, k), True where the memory has a token.
            cache: of this block; `cache.cross` keeps the memory's keys and values.
            need_weights: return (output, patterns), a dict with the pattern (n, heads, length, k)
                of "self" and, if there is a memory, of "cross".

        Raises:
            InputError: if there is a memory and no cross-attention, or the reverse.
            ShapeError: if the shapes do not fit.
        """
        if (memory is None) != (self.multihead_attn is None):
            raise InputError(
                f"TransformerBlock({self.extra_repr()}) "
                + (
                    "looks at a memory and was given none; required: block(x, memory)"
                    if memory is None
                    else "was given a memory and does not look at one; required: "
                    "cross_attention=True when it is made"
                )
            )
        patterns: dict[str, Any] = {}
        pre = self.norm_first

        y = self.self_attn(
            self.norm1(x) if pre else x,
            mask=mask,
            key_padding_mask=key_padding_mask,
            is_causal=self.is_causal,
            need_weights=need_weights,
            cache=cache,
        )
        if need_weights:
            y, patterns["self"] = y
        x = x + self._dropped(y)
        if not pre:
            x = self.norm1(x)

        last = self.norm2
        if self.multihead_attn is not None:
            y = self.multihead_attn(
                self.norm2(x) if pre else x,
                memory,
                key_padding_mask=memory_key_padding_mask,
                need_weights=need_weights,
                cache=None if cache is None else cache.cross,
            )
            if need_weights:
                y, patterns["cross"] = y
            x = x + self._dropped(y)
            if not pre:
                x = self.norm2(x)
            last = self.norm3

        y = self._activate(self.linear1(last(x) if pre else x))
        x = x + self._dropped(self.linear2(self._dropped(y)))
        if not pre:
            x = last(x)
        return (x, patterns) if need_weights else x

    def _dropped(self, x: Any) -> Any:
        return x if self.dropout is None else self.dropout(x)

    def extra_repr(self) -> str:
        """The sizes, and what was chosen."""
        words = [f"{self.embed_dim}, {self.self_attn.num_heads}"]
        words += [] if self.norm_first else ["norm_first=False"]
        words += ["is_causal=True"] if self.is_causal else []
        words += ["cross_attention=True"] if self.multihead_attn is not None else []
        return ", ".join(words)


def make_norm(
    kind: str, size: int, eps: float | None, affine: bool, bias: bool, **place: Any
) -> Module:
    """A LayerNorm ('layer') or RMSNorm ('rms') over vectors of this size."""
    if kind == "layer":
        return LayerNorm(size, 1e-5 if eps is None else eps, affine, bias, **place)
    if kind == "rms":
        return RMSNorm(size, eps, affine, **place)
    raise InputError(f"norm must be 'layer' or 'rms'; got {kind!r}")


class _Stack(Module):
    """Blocks one after the other, and a norm at the end."""

    _fixed: Mapping[str, bool] = MappingProxyType({})

    def __init__(
        self,
        num_layers: int,
        embed_dim: int,
        num_heads: int,
        hidden: int | None = None,
        *,
        final_norm: bool | None = None,
        generator: np.random.Generator | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if num_layers < 1:
            raise InputError(f"{name} needs at least one layer; got {num_layers}")
        source = make_generator() if generator is None else generator
        options = {**self._fixed, **options}
        self.layers = ModuleList(
            TransformerBlock(embed_dim, num_heads, hidden, generator=source, **options)
            for _ in range(num_layers)
        )
        wanted = options.get("norm_first", True) if final_norm is None else final_norm
        place = {k: options[k] for k in ("dtype", "backend", "device") if k in options}
        self.norm = None
        if wanted:
            self.norm = make_norm(
                options.get("norm", "layer"), embed_dim, options.get("eps"),
                options.get("norm_affine", True), options.get("bias", True), **place,
            )  # fmt: skip

    def make_cache(self) -> list[KVCache]:
        """An empty cache for every layer; `cache[0].position` is the next token's position."""
        return [KVCache() for _ in self.layers]

    def _through(
        self, x: Any, memory: Any, cache: Sequence[KVCache] | None, need_weights: bool, **masks: Any
    ) -> Any:
        if cache is not None and len(cache) != len(self.layers):
            raise InputError(
                f"{type(self).__name__} of {len(self.layers)} layers needs as many caches: "
                f"make_cache() makes them; got {len(cache)}"
            )
        patterns = []
        for depth, block in enumerate(self.layers):
            own = None if cache is None else cache[depth]
            x = block(x, memory, cache=own, need_weights=need_weights, **masks)
            if need_weights:
                x, seen = x
                patterns.append(seen)
        if self.norm is not None:
            x = self.norm(x)
        return (x, patterns) if need_weights else x


class TransformerEncoder(_Stack):
    """Blocks in which every token sees every other, unless masks say otherwise.

    Args:
        num_layers: how many blocks.
        embed_dim, num_heads, hidden: of each of them.
        final_norm: whether there is a norm at the end; by default if the blocks are pre-norm.
        generator: as in `TransformerBlock`.
        options: the other arguments of `TransformerBlock`. With ``is_causal=True`` this is the
            body of a GPT.

    Shapes: (n, length, E) → the same.

    Example:
        >>> import microgpt as mg
        >>> encoder = mg.nn.TransformerEncoder(2, 16, 4)
        >>> encoder(mg.ones((1, 5, 16))).shape
        (1, 5, 16)
    """

    def forward(
        self,
        x: Any,
        *,
        mask: Any = None,
        key_padding_mask: Any = None,
        cache: Sequence[KVCache] | None = None,
        need_weights: bool = False,
    ) -> Any:
        """As in `TransformerBlock`; the patterns are a list with a dict per layer."""
        return self._through(
            x, None, cache, need_weights, mask=mask, key_padding_mask=key_padding_mask
        )


class TransformerDecoder(_Stack):
    """Causal blocks that look at a memory too: what an encoder has made of the source.

    Args:
        num_layers: how many blocks.
        embed_dim, num_heads, hidden: of each of them.
        final_norm: whether there is a norm at the end; by default if the blocks are pre-norm.
        generator: as in `TransformerBlock`.
        options: the other arguments of `TransformerBlock`.

    Shapes: x (n, length, E), memory (n, k, E) → (n, length, E).

    Example:
        >>> import microgpt as mg
        >>> decoder = mg.nn.TransformerDecoder(2, 16, 4)
        >>> decoder(mg.ones((1, 5, 16)), mg.ones((1, 7, 16))).shape
        (1, 5, 16)
    """

    _fixed = MappingProxyType({"is_causal": True, "cross_attention": True})

    def forward(
        self,
        x: Any,
        memory: Any,
        *,
        mask: Any = None,
        key_padding_mask: Any = None,
        memory_key_padding_mask: Any = None,
        cache: Sequence[KVCache] | None = None,
        need_weights: bool = False,
    ) -> Any:
        """As in `TransformerBlock`; the patterns are a list with a dict per layer."""
        return self._through(
            x, memory, cache, need_weights, mask=mask, key_padding_mask=key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
        )  # fmt: skip
