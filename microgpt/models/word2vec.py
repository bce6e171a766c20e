"""word2vec: words that stand among the same words get similar vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from microgpt import nn, ops
from microgpt.creation import generator as make_generator
from microgpt.errors import InputError, ShapeError
from microgpt.nn import init
from microgpt.ops.network import like

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


class SkipGram(nn.Module):
    """The skip-gram model with negative sampling.

    Every word has a vector v as the centre and a vector u as the context of others. Trained are
    the answers to "do these two stand near each other?": σ(u·v) is to be near 1 for pairs of the
    text, near 0 for the centre and words drawn at random. What is used afterwards are the v.

    Args:
        words: the vocabulary, word after word, or how many there are.
        dim: length of the vectors.
        generator: source of the initial centre vectors, uniform in ±0.5/dim; context vectors start
            as zeros. By default one made from the configured seed.
        dtype, backend, device: by default the configured ones.

    Source: Mikolov, Sutskever, Chen, Corrado and Dean, arXiv:1310.4546.

    Example:
        >>> import microgpt as mg
        >>> model = mg.models.SkipGram(["cat", "dog", "tree"], dim=8)
        >>> model.num_parameters()
        48
        >>> round(model([0], [1], [[2, 2]]).item(), 4)
        2.0794
    """

    def __init__(
        self,
        words: Sequence[str] | int,
        dim: int = 100,
        *,
        generator: np.random.Generator | None = None,
        **place: Any,
    ) -> None:
        super().__init__()
        self.words = tuple(map(str, range(words))) if isinstance(words, int) else tuple(words)
        self._ids = {word: i for i, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            raise InputError("SkipGram: a word appears twice in the vocabulary")
        source = make_generator() if generator is None else generator
        self.centre = nn.Embedding(len(self.words), dim, generator=source, **place)
        self.context = nn.Embedding(len(self.words), dim, generator=source, **place)
        init.uniform_(self.centre.weight, -0.5 / dim, 0.5 / dim, generator=source)
        init.zeros_(self.context.weight)

    def forward(self, centre: Any, context: Any, negatives: Any) -> Any:
        """The loss -log σ(u·v) - Σ log σ(-uₙ·v), averaged over pairs.

        Args:
            centre: words (n,).
            context: a word near each of them, (n,).
            negatives: words drawn at random for each of them, (n, k).
        """
        centre, context, negatives = (np.asarray(a) for a in (centre, context, negatives))
        n = len(centre)
        if centre.ndim != 1 or context.shape != (n,) or negatives.shape[:-1] != (n,):
            raise ShapeError(
                "SkipGram needs centre (n,), context (n,) and negatives (n, k); got "
                f"{centre.shape}, {context.shape}, {negatives.shape}"
            )
        v = self.centre(centre)  # (n, dim)
        u = self.context(np.concatenate([context[:, None], negatives], axis=1))  # (n, 1 + k, dim)
        scores = ops.matmul(u, ops.reshape(v, (n, v.shape[1], 1)))  # (n, 1 + k, 1)
        wrong = np.ones((1, 1 + negatives.shape[1], 1))
        wrong[:, 0] = -1  # -log σ(s) is softplus(-s)
        return ops.sum(ops.softplus(scores * like(scores, wrong))) / float(max(n, 1))

    # ---- what it has learned -----------------------------------------------------------------

    def vector(self, word: str | int) -> np.ndarray:
        """The vector of a word (or of its number), divided by its length."""
        return self._unit()[self._id(word)]

    def nearest(self, word: str | int, k: int = 10) -> list[tuple[str, float]]:
        """The k words whose vectors point most nearly the same way, with the cosines."""
        return self._ranked(self.vector(word), {self._id(word)}, k)

    def analogy(self, a: str, b: str, c: str, k: int = 10) -> list[tuple[str, float]]:
        """What is to c as b is to a: the words near b - a + c, other than these three.

        Source: Mikolov, Yih and Zweig, NAACL 2013.
        """
        target = self.vector(b) - self.vector(a) + self.vector(c)
        return self._ranked(target, {self._id(word) for word in (a, b, c)}, k)

    def _unit(self) -> np.ndarray:
        rows = self.centre.weight.numpy()
        return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)

    def _ranked(self, target: np.ndarray, without: set[int], k: int) -> list[tuple[str, float]]:
        cosines = self._unit() @ (target / max(float(np.linalg.norm(target)), 1e-30))
        order = [int(i) for i in np.argsort(-cosines, kind="stable") if int(i) not in without]
        return [(self.words[i], float(cosines[i])) for i in order[:k]]

    def _id(self, word: str | int) -> int:
        found = self._ids.get(word) if isinstance(word, str) else word
        if found is None or not 0 <= found < len(self.words):
            raise InputError(f"SkipGram has no word {word!r}; it has {len(self.words)} others")
        return found

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{len(self.words)} words, {self.centre.embedding_dim}"


def skip_gram_batches(
    texts: Sequence[Sequence[int]],
    vocab_size: int,
    *,
    window: int = 5,
    negatives: int = 5,
    batch_size: int = 256,
    generator: np.random.Generator | None = None,
) -> Iterator[Pairs]:
    """One epoch of (centre, context, negatives) from texts of word numbers.

    Each word is paired with those up to a distance away that is drawn from 1 to `window`, so that
    near words count more. Negatives are drawn in proportion to frequency^¾, as in the paper.

    Args:
        texts: lists of word numbers; pairs stay within a text.
        window: the largest distance.
        negatives: k, how many random words per pair.
        batch_size: n, pairs per batch; the last batch may be smaller.
        generator: source of windows, negatives and order.

    Raises:
        InputError: if a word is not in the vocabulary, or a setting is below 1.
        ShapeError: if a text is no list of numbers.

    Example:
        >>> import microgpt as mg
        >>> batches = skip_gram_batches([[0, 1, 2]], 3, window=1, generator=mg.generator(0))
        >>> centre, context, negatives = next(batches)
        >>> sorted(zip(centre.tolist(), context.tolist()))
        [(0, 1), (1, 0), (1, 2), (2, 1)]
    """
    if window < 1 or negatives < 1 or batch_size < 1:
        raise InputError(
            "skip_gram_batches: window, negatives and batch_size must be 1 or more; got "
            f"{window}, {negatives}, {batch_size}"
        )
    source = make_generator() if generator is None else generator
    counts = np.zeros(vocab_size)
    found: list[np.ndarray] = []
    for text in texts:
        ids = np.asarray(text, dtype=np.int64)
        if ids.ndim != 1:
            raise ShapeError(
                "skip_gram_batches: texts are lists of word numbers; got one of shape "
                f"{ids.shape} (a single text: [text])"
            )
        if ids.size and not 0 <= ids.min() <= ids.max() < vocab_size:
            raise InputError(
                f"skip_gram_batches: words are numbers from 0 to {vocab_size - 1}; got "
                f"{ids.min()} to {ids.max()}"
            )
        counts += np.bincount(ids, minlength=vocab_size)
        reach = source.integers(1, window + 1, len(ids))
        for distance in range(1, min(window, len(ids) - 1) + 1):
            left, right = ids[:-distance], ids[distance:]
            near, far = reach[:-distance] >= distance, reach[distance:] >= distance
            found.append(np.stack([left[near], right[near]]))
            found.append(np.stack([right[far], left[far]]))
    if not found:
        return
    pairs = np.concatenate(found, axis=1)
    pairs = pairs[:, source.permutation(pairs.shape[1])]
    sums = np.cumsum(counts**0.75)
    for first in range(0, pairs.shape[1], batch_size):
        centre, context = pairs[:, first : first + batch_size]
        draws = source.random((len(centre), negatives)) * sums[-1]
        yield centre, context, np.searchsorted(sums, draws, side="right")
