"""Reading on with a GPT: what it remembers of earlier tokens, and a quick way to add one more."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from microgpt import autograd, nn, ops
from microgpt.ops.calls import call_raw
from microgpt.ops.network import linear_unchecked
from microgpt.plugins import registry

if TYPE_CHECKING:
    from microgpt.models.gpt import GPT, Block


class Past:
    """Keys and values, side by side, of the tokens that one block has seen: (n, length, 2·C)."""

    def __init__(self) -> None:
        self.rows: Any = None

    @property
    def length(self) -> int:
        """How many tokens."""
        return 0 if self.rows is None else self.rows.shape[1]

    def extended(self, new: Any) -> Any:
        """All rows, with those of new tokens added."""
        self.rows = new if self.rows is None else ops.concat([self.rows, new], axis=1)
        return self.rows


class Cache:
    """What a GPT remembers of the tokens it has read, so that it need not read them again."""

    def __init__(self, layers: int) -> None:
        self.layers = [Past() for _ in range(layers)]

    @property
    def length(self) -> int:
        """How many tokens have been read."""
        return self.layers[0].length


class Reader:
    """Reads n texts on with a GPT: tokens (n, t) in, logits (n, V) of what follows out.

    Texts that outgrow the block are cut: from then on their last block_size tokens are read anew
    for every token, since all positions move.
    """

    def __init__(self, model: GPT, use_cache: bool = True) -> None:
        self.model = model
        self.cache = model.cache() if use_cache else None
        self.seen: list[np.ndarray] = []
        self.steps: _Steps | None = None

    def __call__(self, new: np.ndarray) -> np.ndarray:
        model, size = self.model, self.model.config.block_size
        self.seen.append(new)
        cache = self.cache
        if cache is not None and cache.length + new.shape[1] > size:
            cache = self.cache = self.steps = None
        if self.steps is not None:
            *_, logits = (self.steps(new[:, i : i + 1]) for i in range(new.shape[1]))
            return logits
        if cache is None:
            new = np.concatenate(self.seen, axis=1)[:, -size:]
            self.seen = [new]
        # Without dropout there is nothing that a mode would change.
        modes = model.evaluating() if model.config.dropout else nullcontext()
        with modes, autograd.no_grad():
            logits = model(new, cache=cache, last_only=True)
        if cache is not None and model.config.positions in ("learned", "none"):
            self.steps = _Steps(model, cache)
        return logits.numpy()[:, -1]


class _Steps:
    """One token more for each text: the same computation as `GPT.forward` with a cache.

    It works on the backend's arrays instead of tensors, since at this size most of the time would
    go into keeping books for gradients that nobody wants. Weights changed meanwhile are not seen.
    """

    def __init__(self, model: GPT, cache: Cache) -> None:
        self.table = model.wte.weight._data
        learned = isinstance(model.wpe, nn.LearnedPositions)
        self.places = model.wpe.weight._data if learned else None
        self.first, self.last = _norm(model.ln_e), _norm(model.ln_f)
        head = model.wte if model.lm_head is None else model.lm_head
        self.output = head.weight._data
        blocks: Any = model.h
        self.blocks = [_Step(block, past) for block, past in zip(blocks, cache.layers, strict=True)]
        self.cache = cache
        self.backend = registry.backend_of(self.table)
        self.device = self.backend.device(self.table)

    def __call__(self, new: np.ndarray) -> np.ndarray:
        """(n, 1) tokens → logits (n, V)."""
        ids = self.backend.asarray(new, None, self.device)
        x = _call(ops.take, self.table, ids, axis=0)  # (n, 1, C)
        if self.places is not None:
            place = self.cache.length
            x = _call(ops.add, x, ops.getitem(self.places, slice(place, place + 1)))
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        logits = _call(linear_unchecked, self.last(x), self.output, None)
        return self.backend.to_numpy(logits)[:, 0]


class _Step:
    """One block; see `_Steps`."""

    def __init__(self, block: Block, past: Past) -> None:
        attn, mlp = block.attn, block.mlp
        self.norms = _norm(block.ln_1), _norm(block.ln_2)
        c = attn.c_proj.in_features
        self.ask = _linear(attn.c_attn, slice(0, c))
        self.tell = _linear(attn.c_attn, slice(c, 3 * c))
        self.join, self.up, self.down = map(_linear, (attn.c_proj, mlp.c_fc, mlp.c_proj))
        self.act: Callable[[Any], Any] = mlp.act
        if isinstance(mlp.act, nn.GELU):
            self.act = partial(_call, ops.gelu, approximate=mlp.act.approximate)
        self.heads, self.scale = attn.heads, 1 / math.sqrt(c // attn.heads)
        self.past = past
        past.rows = past.rows._data

    def __call__(self, x: Any) -> Any:
        """(n, 1, C) → (n, 1, C)."""
        y = self.norms[0](x)
        old, kv = self.past.rows, self.tell(y)
        sizes = (old.shape[1], 1)
        self.past.rows = rows = _call(ops.concat, old, kv, axis=1, sizes=sizes)
        seen = _call(
            ops.cached_attention, self.ask(y), rows, num_heads=self.heads, scale=self.scale
        )
        x = _call(ops.add, x, self.join(seen))
        return _call(ops.add, x, self.down(self.act(self.up(self.norms[1](x)))))


def _call(function: Any, *arrays: Any, **params: Any) -> Any:
    """The op behind `function`, on raw arrays and without the checks of its face."""
    return call_raw(function.op, arrays, params)


def _linear(layer: nn.Linear, part: slice | None = None) -> Callable[[Any], Any]:
    """The layer, or the part of it that makes some of the numbers, as a function on arrays."""
    weight, bias = layer.weight._data, None if layer.bias is None else layer.bias._data
    if part is not None:
        weight = ops.getitem(weight, part)
        bias = None if bias is None else ops.getitem(bias, part)
    op = linear_unchecked.op
    return lambda x: call_raw(op, (x, weight, bias), {})


def _norm(layer: Any) -> Callable[[Any], Any]:
    """The norm as a function on arrays."""
    if layer is None:
        return lambda x: x
    weight = None if layer.weight is None else layer.weight._data
    eps = {"eps": layer.eps}
    if isinstance(layer, nn.RMSNorm):
        return lambda x: call_raw(ops.rms_norm.op, (x, weight), eps)
    bias = None if layer.bias is None else layer.bias._data
    return lambda x: call_raw(ops.layer_norm.op, (x, weight, bias), eps)
