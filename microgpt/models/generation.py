"""Writing on: from logits to probabilities, from probabilities to a token, token after token.

Nothing here knows a model. A *reader* is anything that is given the next tokens (n, t) of n texts
and returns the logits (n, V) of what follows; it remembers what it was given before. Sampling is
done on the host in float64, so that a seed gives the same text on every backend.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from microgpt.creation import generator as make_generator
from microgpt.errors import AnomalyError, InputError, InputTypeError, ShapeError

Reader = Callable[[np.ndarray], np.ndarray]


class Sampler:
    """Draws tokens from logits.

    Args:
        temperature: T ≥ 0, what logits are divided by. Below 1 likely tokens become likelier; 0
            takes the likeliest, and of equal ones the first; infinity makes all equal.
        top_k: only the k likeliest tokens may be drawn (of equal ones the first).
        top_p: only the likeliest tokens that together have at least this probability, after
            temperature and top_k. Source: Holtzman et al., arXiv:1904.09751.
        seed: of the draws; by default the configured one.
        generator: the source of the draws, instead of a seed.

    Raises:
        InputError: if a setting is out of range.

    Example:
        >>> import microgpt as mg
        >>> sampler = mg.models.Sampler(temperature=0)
        >>> sampler.probabilities([1.0, 3.0, 3.0])
        array([0., 1., 0.])
    """

    def __init__(
        self,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        *,
        generator: np.random.Generator | None = None,
    ) -> None:
        if not temperature >= 0:
            raise InputError(f"temperature must be 0 or more; got {temperature}")
        if top_k is not None:
            try:
                number = 0 if isinstance(top_k, bool) else operator.index(top_k)
            except TypeError:
                number = 0
            if number < 1:
                raise InputError(f"top_k must be a whole number, 1 or more, or None; got {top_k!r}")
            top_k = number
        if top_p is not None and not 0 < top_p <= 1:
            raise InputError(f"top_p must be above 0 and at most 1, or None; got {top_p}")
        self.temperature, self.top_k, self.top_p = temperature, top_k, top_p
        self.generator = make_generator(seed) if generator is None else generator

    def probabilities(self, logits: Any) -> np.ndarray:
        """Of each token to be drawn: logits (…, V) → (…, V), in float64; they add up to 1.

        Raises:
            AnomalyError: if a row of logits has a NaN or +infinity, or nothing but -infinity.
        """
        values = logits.numpy() if hasattr(logits, "numpy") else logits
        z = np.array(values, dtype=np.float64)
        top = np.maximum.reduce(z, -1, keepdims=True)
        if not (math.isfinite(top.item()) if top.size == 1 else np.isfinite(top).all()):
            raise AnomalyError(
                "no token can be drawn from these logits: a row has NaN or +infinity, or nothing "
                "but -infinity; required: finite numbers, and -infinity for what is impossible "
                "(has the training made the weights NaN? mg.debug() names the op that made the "
                "first one)"
            )
        z -= top
        if self.temperature == 0:
            chosen = z.argmax(axis=-1)[..., None]
            return (np.arange(z.shape[-1]) == chosen).astype(np.float64)
        if self.temperature == math.inf:
            z[z != -math.inf] = 0.0
        elif self.temperature != 1:
            with np.errstate(over="ignore"):  # what becomes -infinity has the probability 0
                z /= self.temperature
        p = np.exp(z, out=z)
        if self.top_k is not None and self.top_k < p.shape[-1]:
            p[_ranks(p) >= self.top_k] = 0.0
        p /= np.add.reduce(p, -1, keepdims=True)
        if self.top_p is not None and self.top_p < 1:
            order = np.argsort(-p, axis=-1, kind="stable")
            falling = np.take_along_axis(p, order, axis=-1)
            before = np.cumsum(falling, axis=-1) - falling
            falling[before >= self.top_p] = 0.0
            np.put_along_axis(p, order, falling, axis=-1)
            p /= p.sum(axis=-1, keepdims=True)
        return p

    def __call__(self, logits: Any) -> tuple[np.ndarray, np.ndarray]:
        """One token for each row of logits (n, V), and the probability it had: (n,), (n,)."""
        p = self.probabilities(logits)
        if len(p) == 1 and self.temperature:  # the same draw, with less ado
            sums = p[0].cumsum()
            i = sums.searchsorted(self.generator.random() * sums[-1], side="right")
            ids = np.array([min(int(i), p.shape[-1] - 1)])
            return ids, p[0, ids]
        rows = np.arange(len(p))
        if self.temperature == 0:
            ids = p.argmax(axis=-1)
        else:
            # The first token at which the running sum exceeds the draw; one of probability 0
            # does not raise the sum, so it is never the first.
            sums = np.cumsum(p, axis=-1)
            draws = self.generator.random((len(p), 1)) * sums[:, -1:]
            ids = np.minimum((sums <= draws).sum(axis=-1), p.shape[-1] - 1)
        return ids, p[rows, ids]


def _ranks(p: np.ndarray) -> np.ndarray:
    """The place of each number in its row, counted from the largest; equal ones stay in order."""
    order = np.argsort(-p, axis=-1, kind="stable")
    ranks = np.empty_like(order)
    np.put_along_axis(ranks, order, np.arange(p.shape[-1]), axis=-1)
    return ranks


def tokens(
    reader: Reader,
    prompt: np.ndarray,
    max_tokens: int,
    sampler: Sampler,
    stop: int | None = None,
) -> Iterator[tuple[list[int | None], list[float]]]:
    """Token after token: for each step the next token of every text, and its probability.

    Args:
        reader: see the top of this file.
        prompt: tokens (n, t) to begin with.
        max_tokens: how many are drawn at most.
        stop: a token that ends a text. It is not part of it: from there on, the text has None.
    """
    going = np.ones(len(prompt), dtype=bool)
    new = prompt
    for _ in range(max_tokens):
        ids, p = sampler(reader(new))
        if stop is None:
            yield ids.tolist(), p.tolist()
        else:
            going &= ids != stop
            if not going.any():
                return
            yield [i if g else None for i, g in zip(ids.tolist(), going, strict=True)], p.tolist()
        new = ids[:, None]


def generate(
    reader: Reader,
    prompt: Any,
    max_tokens: int,
    sampler: Sampler,
    *,
    stop: int | None = None,
    tokenizer: Any = None,
    stream: bool = False,
    return_probabilities: bool = False,
) -> Any:
    """What follows `prompt`, in the form of the prompt.

    Args:
        reader: see the top of this file.
        prompt: a text (with `tokenizer`), a list of tokens, or a batch (n, t) of them.
        stream: give an iterator that yields tokens (or pieces of text) as they come.
        return_probabilities: give pairs (token, the probability with which it was drawn): of
            lists, or with `stream` one after the other.

    The texts of a batch are as long as each other, and draw from one generator.

    Raises:
        InputError: if `max_tokens` is negative, or the prompt cannot be read.
    """
    if max_tokens < 0:
        raise InputError(f"generate: max_tokens must be 0 or more; got {max_tokens}")
    text = isinstance(prompt, str)
    ids = encoded(prompt, tokenizer)
    single = ids.ndim == 1
    steps = tokens(reader, ids[None] if single else ids, max_tokens, sampler, stop)
    if stream:
        if not single:
            return steps if return_probabilities else (new for new, _ in steps)
        one: Any = ((new[0], p[0]) for new, p in steps)
        if text:
            one = _pieces(one, tokenizer.decode)
        return one if return_probabilities else (new for new, _ in one)
    found = list(steps)
    texts, chances = [], []
    for row in range(1 if single else len(ids)):
        pairs = [(new[row], p[row]) for new, p in found if new[row] is not None]
        texts.append([token for token, _ in pairs])
        chances.append([p for _, p in pairs])
    written = tokenizer.decode(texts[0]) if text else texts[0] if single else texts
    if return_probabilities:
        return written, chances[0] if single else chances
    return written


def encoded(prompt: Any, tokenizer: Any = None) -> np.ndarray:
    """The prompt as tokens, (t,) or (n, t).

    Raises:
        InputError: if it is empty, or a text without a tokenizer.
        InputTypeError: if it holds something else than whole numbers.
        ShapeError: if it has another number of dimensions, or texts of different lengths.
    """
    if isinstance(prompt, str):
        if tokenizer is None:
            raise InputError(
                "generate was given a text and needs tokenizer= to read it; or give the tokens"
            )
        prompt = tokenizer.encode(prompt)
    try:
        ids = np.asarray(prompt.numpy() if hasattr(prompt, "numpy") else prompt)
    except ValueError:
        raise ShapeError(
            "generate: the texts of a batch must be as long as each other; shorten them, or "
            "generate one at a time"
        ) from None
    if not ids.size:
        raise InputError(
            "generate needs at least one token to begin with; got none (models of names or lines "
            "begin with the token that separates them)"
        )
    if ids.dtype.kind not in "iu":
        raise InputTypeError(f"generate needs tokens, which are whole numbers; got {ids.dtype}")
    if ids.ndim not in (1, 2):
        raise ShapeError(
            f"generate needs tokens (t,) or a batch (n, t); got shape {tuple(ids.shape)}"
        )
    return ids


def _pieces(
    drawn: Iterator[tuple[int, float]], decode: Callable[[list[int]], str]
) -> Iterator[tuple[str, float]]:
    """Text for tokens; a token that ends within a character gives '' and its text comes later."""
    waiting: list[int] = []
    for token, p in drawn:
        waiting.append(token)
        piece = decode(waiting)
        if piece.endswith("\ufffd"):
            yield "", p
        else:
            waiting = []
            yield piece, p
    if waiting:
        yield decode(waiting), math.nan
