"""Laws of positions, of attention layers, and of blocks that decode with a cache."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

import microgpt as mg
from microgpt import nn
from microgpt.testing.properties.base import law
from microgpt.testing.properties.comparing import constant, gradients, leaf, near, zero
from microgpt.testing.strategies import Drawer

# ---- rotary positions ------------------------------------------------------------------------


@law(37)
def rotary_keeps_norms_and_distances(d: Drawer) -> None:
    """Rotary positions: lengths stay, and products of turned rows depend on the distance alone."""
    dim, length, offset = 2 * d.number(1, 4), d.number(2, 6), d.number(0, 40)
    rotary = nn.RotaryEmbedding(dim, d.sampled([10000.0, 100.0]))
    values = d.filled((d.number(1, 2), length, dim))
    x, g = leaf(values), d.filled(values.shape)
    y = rotary(x, offset)
    near("lengths of rows turned by rotary positions", _norms(y.numpy()), _norms(values))
    first = d.number(0, length - 1)
    part = rotary(constant(values[:, first:]), offset + first)
    near(f"rows from position {offset + first} on, turned alone", part, y.numpy()[:, first:])
    (dx,) = gradients(y, [x], g)
    near("gradient turned back by rotary positions, turned again", rotary(constant(dx), offset), g)
    q, k = d.filled((dim,)), d.filled((dim,))
    rows = [rotary(constant(np.tile(v, (length, 1))), offset).numpy() for v in (q, k)]
    scores = rows[0] @ rows[1].T
    away = d.sampled([1, 7, 1000])
    moved = [rotary(constant(np.tile(v, (length, 1))), offset + away).numpy() for v in (q, k)]
    near(f"scores of all pairs, {away} positions further on", moved[0] @ moved[1].T, scores)
    near("scores of the next pair of positions", scores[1:, 1:], scores[:-1, :-1])


def _norms(x: np.ndarray) -> np.ndarray:
    return np.sqrt((x**2).sum(-1))


@law(37)
def rotary_attention_sees_distances(d: Drawer) -> None:
    """Attention with rotary positions: hidden tokens in front of a text change nothing."""
    heads, batch, length, hidden = d.number(1, 2), d.number(1, 2), d.number(2, 5), d.number(1, 6)
    layer = _attention(d, heads, heads * 2 * d.number(1, 2), rotary=True)
    width = layer.embed_dim
    text, causal = d.filled((batch, length, width)), d.boolean()
    alone, pattern = layer(constant(text), is_causal=causal, need_weights=True)
    both = np.concatenate([d.filled((batch, hidden, width), -20, 20), text], axis=1)
    real = np.arange(hidden + length) >= hidden
    y, moved = layer(
        constant(both),
        key_padding_mask=np.tile(real, (batch, 1)),
        is_causal=causal,
        need_weights=True,
    )
    what = f"a text of {length} tokens after {hidden} hidden ones"
    near(f"pattern of {what}", moved.numpy()[:, :, hidden:, hidden:], pattern, 1e-9)
    near(f"attention of {what}", y.numpy()[:, hidden:], alone, 1e-9)


def _attention(d: Drawer, heads: int, width: int, **options: Any) -> nn.MultiHeadAttention:
    layer = nn.MultiHeadAttention(width, heads, generator=d.rng(), dtype="float64", **options)
    return _shaken(d, layer)


def _shaken(d: Drawer, module: Any) -> Any:
    """With other numbers in all parameters, the zeros and ones of a new layer among them."""
    rng = d.rng()
    for p in module.parameters():
        p.data = p.numpy() + rng.normal(0.0, 0.3, p.shape)
    return module


# ---- decoding --------------------------------------------------------------------------------


@law(38)
def cached_attention_equals_the_whole(d: Drawer) -> None:
    """An attention layer with a cache, in pieces of any length, gives what the whole text gives."""
    heads, rotary = d.number(1, 2), d.boolean()
    layer = _attention(d, heads, heads * 2 * d.number(1, 2), rotary=rotary)
    x = d.filled((d.number(1, 2), d.number(1, 6), layer.embed_dim))
    with mg.no_grad():
        whole = layer(constant(x), is_causal=True).numpy()
        cache = nn.KVCache()
        for start, stop in _pieces(d, x.shape[1]):
            new = layer(constant(x[:, start:stop]), is_causal=True, cache=cache)
            near(
                f"attention of tokens {start} to {stop - 1} from a cache", new, whole[:, start:stop]
            )


def _pieces(d: Drawer, length: int) -> list[tuple[int, int]]:
    cuts = [0]
    while cuts[-1] < length:
        cuts.append(d.number(cuts[-1] + 1, length))
    return list(pairwise(cuts))


VOCABULARY, LONGEST = 7, 6


class _Model(nn.Module):
    """Embedding, positions of any kind, and a stack with or without a memory."""

    def __init__(self, d: Drawer) -> None:
        super().__init__()
        heads = d.number(1, 2)
        width = 4 * heads
        self.kind = d.sampled(["sinusoidal", "learned", "rotary"])
        source = d.rng()
        self.embedding = nn.Embedding(VOCABULARY, width, generator=source)
        self.positions: Any = None
        if self.kind == "sinusoidal":
            self.positions = nn.SinusoidalPositions(width)
        elif self.kind == "learned":
            self.positions = nn.LearnedPositions(LONGEST, width, 1.0, generator=source)
        self.memory = d.boolean()
        kind = nn.TransformerDecoder if self.memory else nn.TransformerEncoder
        self.stack = kind(
            d.number(1, 2), width, heads, 5, is_causal=True, rotary=self.kind == "rotary",
            norm=d.sampled(["layer", "rms"]), norm_first=d.boolean(), generator=source,
        )  # fmt: skip
        self.width = width

    def forward(self, ids: np.ndarray, memory: Any, cache: Any = None) -> Any:
        x = self.embedding(mg.tensor(ids))
        if self.positions is not None:
            x = self.positions(x, offset=0 if cache is None else cache[0].position)
        return self.stack(x, memory, cache=cache) if self.memory else self.stack(x, cache=cache)


@law(38)
def cached_blocks_equal_the_whole(d: Drawer) -> None:
    """Blocks with a cache and positions of any kind: tokens in pieces, cropped, and again."""
    model = _shaken(d, _Model(d).to(dtype="float64"))
    batch, length = d.number(1, 2), d.number(1, LONGEST)
    ids = d.rng().integers(0, VOCABULARY, (batch, length))
    memory = constant(d.filled((batch, 3, model.width))) if model.memory else None
    with mg.no_grad():
        cache = model.stack.make_cache()
        whole = model(ids, memory).numpy()
        for start, stop in _pieces(d, length):
            new = model(ids[:, start:stop], memory, cache)
            what = f"tokens {start} to {stop - 1} from a cache, {model.kind} positions"
            near(what, new, whole[:, start:stop])
        kept = d.number(0, length - 1)
        for each in cache:
            each.crop(kept)
        ids[:, kept:] = d.rng().integers(0, VOCABULARY, (batch, length - kept))
        new, whole = model(ids[:, kept:], memory, cache), model(ids, memory).numpy()
        what = f"other tokens from {kept} on, {model.kind} positions"
        near(f"{what}, after a cache was cropped", new, whole[:, kept:])


# ---- padding ---------------------------------------------------------------------------------


@law(34, 39)
def blocks_do_not_see_padding_or_the_future(d: Drawer) -> None:
    """A block with padding, in front or behind: real tokens are as if alone, padding gets 0."""
    heads, batch, longest = d.number(1, 2), d.number(1, 3), d.number(1, 5)
    causal, memory = d.boolean(), d.boolean()
    block = nn.TransformerBlock(
        2 * heads, heads, 3, is_causal=causal, cross_attention=memory, norm_first=d.boolean(),
        generator=d.rng(), dtype="float64",
    )  # fmt: skip
    _shaken(d, block)
    width = block.embed_dim
    x, other = (leaf(d.filled((batch, longest, width))) for _ in range(2))
    real, known = (_real(d, batch, longest) for _ in range(2))
    given: dict[str, Any] = {"key_padding_mask": real}
    if memory:
        given |= {"memory": other, "memory_key_padding_mask": known}
    y = block(x, **given)
    out = y.numpy()
    to_x, to_other = gradients(y, [x, other], d.filled(out.shape) * real[..., None])
    zero("gradient of real tokens' outputs on padding", to_x[~real])
    if memory:
        zero("gradient of real tokens' outputs on the memory's padding", to_other[~known])
    if causal:
        cut = d.number(0, longest - 1)
        g = d.filled(out.shape) * (np.arange(longest) <= cut)[:, None]
        (to_x,) = gradients(block(x, **given), [x], g)
        zero(f"gradient of outputs up to {cut} on later tokens", to_x[:, cut + 1 :])
    for i in range(batch):
        if not real[i].any() or not known[i].any():
            continue
        alone = [constant(x.numpy()[i : i + 1, real[i]])]
        alone += [constant(other.numpy()[i : i + 1, known[i]])] if memory else []
        what = f"text {i}, {real[i].sum()} of {longest} places, compared with the text alone"
        near(what, out[i, real[i]], block(*alone)[0])
    near("share of finite numbers where padding is", np.isfinite(out).mean(), 1.0)


def _real(d: Drawer, batch: int, longest: int) -> np.ndarray:
    """(batch, longest): where texts of any length have tokens, with padding on one side."""
    lengths = np.array([d.number(0, longest) for _ in range(batch)])
    places = np.arange(longest)
    return (places[::-1] if d.boolean() else places) < lengths[:, None]
