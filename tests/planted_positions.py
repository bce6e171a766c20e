"""Mistakes in positions, attention layers and caches, each under the law that must catch it."""

from __future__ import annotations

from typing import Any

from microgpt import nn
from microgpt.nn import attention, masks
from microgpt.nn.positions import RotaryEmbedding
from tests.planting import Plant, changed, instead


def queries_backwards(rotary: RotaryEmbedding, q: Any, k: Any, offset: int) -> tuple[Any, Any]:
    """Queries turned the other way: what is left in the scores is the sum of the positions."""
    cos, sin = rotary._cos, rotary._sin
    try:
        k = rotary(k, offset)
        cos, sin = rotary._cos, rotary._sin
        rotary._sin = -sin
        return rotary(q, offset), k
    finally:
        rotary._cos, rotary._sin = cos, sin


def only_queries(rotary: RotaryEmbedding, q: Any, k: Any, offset: int) -> tuple[Any, Any]:
    return rotary(q, offset), k


def from_the_start(rotary: RotaryEmbedding, q: Any, k: Any, offset: int) -> tuple[Any, Any]:
    return rotary(q), rotary(k)


ONE_TOO_FAR = instead(nn.KVCache, "position", property(lambda self: self.length + 1))

PLANTED: dict[str, dict[str, Plant]] = {
    "rotary_keeps_norms_and_distances": {
        "both parts with one sign": changed(
            RotaryEmbedding, "_grow", "-np.sin(angles), np.sin(angles)",
            "np.sin(angles), np.sin(angles)",
        ),
        "offset ignored": changed(
            RotaryEmbedding, "forward", "self._span(x, offset)", "self._span(x, 0)"
        ),
        "angles of squared positions": changed(
            RotaryEmbedding, "_grow", "_angles(0, length, self.dim, self.base)",
            "_angles(0, length, self.dim, self.base) * np.arange(length)[:, None]",
        ),
        "one half not turned": changed(
            RotaryEmbedding, "_grow", "[np.cos(angles)] * 2",
            "[np.cos(angles), np.ones_like(angles)]",
        ),
    },
    "rotary_attention_sees_distances": {
        "queries the other way": instead(attention, "turned", queries_backwards),
        "queries only": instead(attention, "turned", only_queries),
        "padding ignored": changed(
            attention, "combined", "seen = seen & known[:, None, None, :]", "pass"
        ),
    },
    "cached_attention_equals_the_whole": {
        "rotary from the start": instead(attention, "turned", from_the_start),
        "new rows before the old": changed(
            nn.KVCache, "append", "[self.rows, rows]", "[rows, self.rows]"
        ),
        "only the new rows": changed(
            nn.KVCache, "append", "rows = ops.concat([self.rows, rows], axis=1)", "pass"
        ),
    },
    "cached_blocks_equal_the_whole": {
        "places one too far": ONE_TOO_FAR,
        "crop keeps one more": changed(
            nn.KVCache, "crop", "slice(0, length)", "slice(0, length + 1)"
        ),
        "crop to nothing keeps all": changed(nn.KVCache, "crop", "self.rows = None", "pass"),
        "one cache for all layers": changed(
            nn.TransformerEncoder, "_through", "else cache[depth]", "else cache[0]"
        ),
    },
    "blocks_do_not_see_padding_or_the_future": {
        "padding ignored": changed(
            attention, "combined", "known is not None and known.all()", "True"
        ),
        "padding the wrong way round": changed(
            masks, "_padding", "return host", "return ~host"
        ),
        "first key taken for seen by all": changed(
            attention, "combined",
            "known[:, 0].all() if causal else known.any(axis=1).all()", "True",
        ),
        "queries without keys see all": changed(
            attention, "combined", "empty if empty.any() else None", "None"
        ),
        "the memory's padding ignored": changed(
            nn.TransformerBlock, "forward",
            "key_padding_mask=memory_key_padding_mask", "key_padding_mask=None",
        ),
        "the future seen": changed(
            nn.TransformerBlock, "forward", "is_causal=self.is_causal", "is_causal=False"
        ),
    },
}  # fmt: skip
