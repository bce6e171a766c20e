"""Seq2Seq: a transformer that reads one sequence and writes another."""

from __future__ import annotations

from typing import Any

import numpy as np

from microgpt import nn, ops
from microgpt.autograd import no_grad
from microgpt.creation import generator as make_generator
from microgpt.errors import InputError, ShapeError
from microgpt.ops.indexing import host_array
from microgpt.tensor import tensor


class Seq2Seq(nn.Module):
    """Encoder and decoder: a target token looks at those before it, and at all of the source.

    Ids are embedded, sines and cosines of their positions are added, `layers` blocks read the
    source, and as many write the target, which look at what the encoder has made of the source
    (cross-attention, without a mask but for padding).

    Args:
        source_size, target_size: how many ids both vocabularies have.
        width: length of the vectors.
        heads: of every attention.
        layers: blocks of the encoder, and of the decoder.
        hidden: neurons of each block; by default 4·width.
        activation, dropout: as in `nn.TransformerBlock`.
        pad, start, end: ids of padding (in both), and of the target's start and end.
        generator: source of initial values and dropout masks; by default one made from the
            configured seed.

    Shapes: source (n, s) and target (n, t) integers → logits (n, t, target_size).

    Source: Vaswani et al., arXiv:1706.03762, with the norms in front (pre-norm).

    Example:
        >>> import microgpt as mg
        >>> model = mg.models.Seq2Seq(10, 12, 16, 2, 1)
        >>> source, target = mg.tensor([[4, 5, 6]]), mg.tensor([[1, 7]])
        >>> model(source, target).shape
        (1, 2, 12)
    """

    def __init__(
        self,
        source_size: int,
        target_size: int,
        width: int = 48,
        heads: int = 4,
        layers: int = 2,
        hidden: int | None = None,
        *,
        activation: str = "relu",
        dropout: float = 0.0,
        pad: int = 0,
        start: int = 1,
        end: int = 2,
        generator: np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        generator = make_generator() if generator is None else generator
        self.pad, self.start, self.end = pad, start, end
        self.read = nn.Embedding(source_size, width, generator=generator)
        self.written = nn.Embedding(target_size, width, generator=generator)
        self.positions = nn.SinusoidalPositions(width)
        options: dict[str, Any] = {
            "activation": activation,
            "dropout": dropout,
            "generator": generator,
        }
        self.encoder = nn.TransformerEncoder(layers, width, heads, hidden, **options)
        self.decoder = nn.TransformerDecoder(layers, width, heads, hidden, **options)
        self.head = nn.Linear(width, target_size, generator=generator)

    def forward(self, source: Any, target: Any, *, need_weights: bool = False) -> Any:
        """Logits of the token after each of `target`'s, which begins with `start`.

        With `need_weights` (logits, patterns): for each layer of the decoder a dict of "self"
        (n, heads, t, t) and "cross" (n, heads, t, s).
        """
        self._check("target", target)
        memory, known = self.encode(source)
        if target.shape[0] != known.shape[0]:
            raise ShapeError(
                f"Seq2Seq was given sources of shape {known.shape} and targets of shape "
                f"{tuple(target.shape)}; required: (n, s) and (n, t), one target for each source"
            )
        return self._decode(target, memory, known, need_weights=need_weights)

    def encode(self, source: Any) -> tuple[Any, np.ndarray]:
        """What the encoder makes of (n, s) ids: (n, s, width), and where these are no padding."""
        self._check("source", source)
        known = host_array(source) != self.pad
        return self.encoder(self.positions(self.read(source)), key_padding_mask=known), known

    def _check(self, what: str, ids: Any) -> None:
        shape = tuple(ids.shape)
        if len(shape) != 2 or not shape[1]:
            raise ShapeError(
                f"Seq2Seq was given {what} ids of shape {shape}; required: (n, length), n "
                "sequences of one id or more" + ("; a single one: ids[None]" * (len(shape) == 1))
            )

    def _decode(
        self,
        target: Any,
        memory: Any,
        known: np.ndarray,
        cache: list[nn.KVCache] | None = None,
        need_weights: bool = False,
    ) -> Any:
        x = self.positions(self.written(target), offset=cache[0].position if cache else 0)
        y = self.decoder(
            x,
            memory,
            memory_key_padding_mask=known,
            cache=cache,
            need_weights=need_weights,
        )
        return (self.head(y[0]), y[1]) if need_weights else self.head(y)

    def loss(self, source: Any, target: Any) -> Any:
        """Mean of -log p over the target's tokens after the first; padding does not count.

        Args:
            source: (n, s) ids.
            target: (n, t) ids, from `start` to `end`, padded behind.
        """
        ids = host_array(target)
        logits = self(source, target[:, :-1])
        wanted = tensor(ids[:, 1:].reshape(-1), backend=logits.backend, device=logits.device)
        rows = ops.reshape(logits, (-1, logits.shape[-1]))
        return ops.cross_entropy(rows, wanted, ignore_index=self.pad)

    def translate(self, source: Any, max_length: int = 64) -> list[list[int]]:
        """The likeliest token, one after the other, up to `end`: ids without start and end.

        Dropout is off, and keys and values of what is written already are kept.

        Args:
            source: (n, s) ids.
            max_length: where to stop if no end comes.

        Raises:
            InputError: if `max_length` is not positive.
        """
        if max_length < 1:
            raise InputError(f"translate writes at least one token; got max_length {max_length}")
        with self.evaluating(), no_grad():
            return self._written(source, max_length)

    def _written(self, source: Any, max_length: int) -> list[list[int]]:
        memory, known = self.encode(source)
        place = {"backend": memory.backend, "device": memory.device}
        cache = self.decoder.make_cache()
        last = np.full(len(known), self.start)
        going = np.ones(len(known), bool)
        texts: list[list[int]] = [[] for _ in known]
        for _ in range(max_length):
            logits = self._decode(tensor(last[:, None], **place), memory, known, cache)
            last = host_array(ops.argmax(logits[:, -1], axis=-1))
            going &= last != self.end
            for n in np.flatnonzero(going):
                texts[n].append(int(last[n]))
            if not going.any():
                break
        return texts
