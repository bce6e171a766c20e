"""Laws of attention and of a small transformer: causality, symmetry, padding, cached decoding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import microgpt as mg
from microgpt.testing.conformance import transformer
from microgpt.testing.properties.base import law
from microgpt.testing.properties.comparing import constant, gradients, holds, leaf, near, zero
from microgpt.testing.strategies import Drawer

LENGTH, VOCABULARY = transformer.LENGTH, transformer.VOCABULARY


def _attended(d: Drawer, past: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Queries, and keys and values of which there are `past` more."""
    lead, n, width = d.shape(0, 2, 1), d.number(1, 6), d.number(1, 4)
    m = n + past
    return (
        d.filled((*lead, n, width)),
        d.filled((*lead, m, width)),
        d.filled((*lead, m, d.number(1, 4))),
    )


# ---- the op ----------------------------------------------------------------------------------


@law(34)
def attention_does_not_see_the_future(d: Drawer) -> None:
    """Causal attention: what comes later changes nothing and gets a gradient of exactly 0."""
    past = d.number(0, 3)
    q, k, v = _attended(d, past)
    n = q.shape[-2]
    cut = d.number(0, n - 1)
    seen = cut + past + 1
    leaves = [leaf(x) for x in (q, k, v)]
    y = mg.scaled_dot_product_attention(*leaves, causal=True)
    early = y[..., : cut + 1, :]
    changed = []
    for x, s in ((q, cut + 1), (k, seen), (v, seen)):
        other = x.copy(order="K")  # the memory layout decides in which order products are summed
        other[..., s:, :] = d.filled(x[..., s:, :].shape, -50, 50)
        changed.append(constant(other))
    again = mg.scaled_dot_product_attention(*changed, causal=True)[..., : cut + 1, :]
    where = f"attention of {n} tokens after {past} others: outputs up to token {cut}"
    zero(f"{where}, change when later tokens do", again.numpy() - early.numpy())
    to_q, to_k, to_v = gradients(early, leaves, d.filled(early.shape))
    zero(f"{where}, gradient on later queries", to_q[..., cut + 1 :, :])
    zero(f"{where}, gradient on later keys", to_k[..., seen:, :])
    zero(f"{where}, gradient on later values", to_v[..., seen:, :])
    y = mg.scaled_dot_product_attention(*leaves, causal=True)[..., cut, :]
    weights = gradients(y, leaves, np.ones(y.shape))[2][..., :seen, :]
    holds(
        bool(np.all(weights > 0)),
        f"{where}: the last one sees the tokens up to itself with the weights "
        f"{weights[..., 0].tolist()}; required: {seen} above 0",
    )


def _mask(d: Drawer, shape: tuple[int, ...]) -> Any:
    """A mask with something to see in each row, as booleans or as numbers, or none."""
    kind = d.sampled(["none", "boolean", "numbers"])
    if kind == "none":
        return None
    if kind == "numbers":
        return constant(d.filled(shape))
    rng = d.rng()
    mask = rng.random(shape) < 0.5
    np.put_along_axis(mask, rng.integers(0, shape[-1], (*shape[:-1], 1)), True, -1)
    return mg.tensor(mask)


@law(35)
def attention_is_a_mean(d: Drawer) -> None:
    """If all values are one row, attention returns this row: its weights add up to 1."""
    q, k, v = _attended(d, d.number(0, 3))
    causal = d.boolean()
    mask = None if causal else _mask(d, (q.shape[-2], k.shape[-2]))
    row = np.ones((1, v.shape[-1])) if d.boolean() else v[..., :1, :]
    scale = d.sampled([None, 0.3, 1000.0])
    y = mg.scaled_dot_product_attention(
        constant(q), constant(k), constant(np.broadcast_to(row, v.shape)), mask, causal, scale
    )
    near("attention whose values are all one row", y, np.broadcast_to(row, y.shape))


@law(36)
def attention_has_no_order(d: Drawer) -> None:
    """Self-attention without causality: tokens in another order give outputs in that order."""
    parts = _attended(d, 0)
    n = parts[0].shape[-2]
    mask = _mask(d, (n, n))
    order = d.rng().permutation(n)
    y = mg.scaled_dot_product_attention(*[constant(x) for x in parts], mask)
    moved = [constant(x[..., order, :]) for x in parts]
    if mask is not None:
        mask = mg.tensor(mask.numpy()[order][:, order])
    again = mg.scaled_dot_product_attention(*moved, mask)
    near(f"attention of tokens in the order {order.tolist()}", again, y.numpy()[..., order, :])


@law(39)
def padding_is_not_seen(d: Drawer) -> None:
    """What a mask hides as padding changes nothing and gets a gradient of exactly 0."""
    batch, longest, n = d.number(1, 3), d.number(1, 6), d.number(1, 4)
    width, heads = d.number(1, 4), d.number(1, 2)
    lengths = [d.number(1, longest) for _ in range(batch)]
    q = leaf(d.filled((batch, heads, n, width)))
    k = leaf(d.filled((batch, heads, longest, width), -20, 20))
    v = leaf(d.filled((batch, heads, longest, d.number(1, 3)), -20, 20))
    real = (np.arange(longest) < np.array(lengths)[:, None])[:, None, None, :]
    hidden = d.sampled([None, -math.inf, -1e30])
    mask = mg.tensor(real) if hidden is None else constant(np.where(real, 0.0, hidden))
    y = mg.scaled_dot_product_attention(q, k, v, mask)
    g = d.filled(y.shape)
    _, to_k, to_v = gradients(y, [q, k, v], g)
    y = y.numpy()
    for i, m in enumerate(lengths):
        what = f"row {i} of a batch, {m} tokens padded to {longest}"
        short = [x[i : i + 1, :, :m] for x in (k, v)]
        alone = mg.scaled_dot_product_attention(q[i : i + 1], *short)
        near(f"attention of {what}, compared with the row alone", y[i], alone[0])
        zero(f"gradient on the padding of keys, {what}", to_k[i, :, m:])
        zero(f"gradient on the padding of values, {what}", to_v[i, :, m:])


# ---- a small transformer ---------------------------------------------------------------------


def weights(d: Drawer) -> transformer.Weights:
    """Weights near those of the conformance kit's transformer."""
    rng = d.rng()
    return {
        name: leaf(w.numpy() + rng.normal(0.0, 0.3, w.shape))
        for name, w in transformer._weights("numpy", "float64").items()
    }


def _ids(d: Drawer, batch: int, length: int) -> np.ndarray:
    return d.rng().integers(0, VOCABULARY, (batch, length))


@law(38)
def decoding_equals_the_whole(d: Drawer) -> None:
    """With cached keys and values, in pieces of any length, the logits are those of the text."""
    w, length = weights(d), d.number(1, LENGTH)
    ids = _ids(d, d.number(1, 2), length)
    whole = transformer._logits(w, mg.tensor(ids)).numpy()
    cache: list[Any] = []
    start = 0
    with mg.no_grad():
        while start < length:
            stop = d.number(start + 1, length)
            new = transformer._logits(w, mg.tensor(ids[:, start:stop]), cache)
            what = f"logits of tokens {start} to {stop - 1} from the cache"
            near(f"{what}, compared with the whole text", new, whole[:, start:stop])
            start = stop


@law(34, 39)
def a_transformer_keeps_apart(d: Drawer) -> None:
    """A transformer: texts of a batch do not see each other, nor tokens the later ones."""
    w, batch, length = weights(d), d.number(1, 3), d.number(1, LENGTH)
    ids = _ids(d, batch, length)
    with mg.no_grad():
        y = transformer._logits(w, mg.tensor(ids)).numpy()
        i, cut = d.number(0, batch - 1), d.number(0, length - 1)
        other = _ids(d, batch, length)
        other[i, : cut + 1] = ids[i, : cut + 1]
        again = transformer._logits(w, mg.tensor(other)).numpy()
        alone = transformer._logits(w, mg.tensor(ids[i : i + 1, : cut + 1])).numpy()
    early = y[i, : cut + 1]
    what = f"logits of text {i} up to token {cut}"
    near(f"{what}, with everything else changed", again[i, : cut + 1], early, 1e-12)
    near(f"{what}, alone", alone[0], early, 1e-12)
