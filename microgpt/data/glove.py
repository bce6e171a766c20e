"""Word vectors that come along, and the arithmetic that people do with them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from microgpt.data.embedded import embedded
from microgpt.errors import InputError, ShapeError


@dataclass(frozen=True, repr=False, eq=False)
class WordVectors:
    """One vector per word.

    Attributes:
        name: what the table is called.
        words: the words, the most frequent first.
        vectors: (n, d) float32, that of word i in row i.
        source, licence: where it comes from, and on what terms.

    Example:
        >>> from microgpt import data
        >>> glove = data.glove()
        >>> [word for word, _ in glove.analogy("man", "king", "woman", k=1)]
        ['queen']
    """

    name: str
    words: tuple[str, ...]
    vectors: np.ndarray
    source: str
    licence: str
    _rows: dict[str, int] = field(init=False)
    _lengths: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2 or len(self.words) != len(self.vectors):
            raise ShapeError(
                f"WordVectors needs one row per word; got {len(self.words)} words and vectors of "
                f"shape {self.vectors.shape}"
            )
        object.__setattr__(self, "_rows", {word: i for i, word in enumerate(self.words)})
        object.__setattr__(self, "_lengths", np.linalg.norm(self.vectors, axis=1))

    def __len__(self) -> int:
        """Number of words."""
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return word in self._rows

    def __getitem__(self, word: str) -> np.ndarray:
        """The vector of a word, (d,).

        Raises:
            InputError: if the word is not in the table; names similar ones.
        """
        return self.vectors[self.index(word)]

    def index(self, word: str) -> int:
        """The row of a word.

        Raises:
            InputError: if the word is not in the table; names similar ones.
        """
        if word not in self._rows:
            from difflib import get_close_matches

            near = get_close_matches(str(word).lower(), self.words, 3)
            hint = f"; there are {', '.join(near)}" if near else ""
            raise InputError(
                f"the word {word!r} is not among the {len(self.words):,} of {self.name}{hint}"
            )
        return self._rows[word]

    def cosine(self, a: Any, b: Any) -> float:
        """The cosine of the angle between two words, or vectors.

        Example:
            >>> from microgpt import data
            >>> glove = data.glove()
            >>> gender = glove["woman"] - glove["man"]
            >>> round(glove.cosine(gender, glove["queen"] - glove["king"]), 3)
            0.599
        """
        x, y = self._vector(a), self._vector(b)
        return float(x @ y / (np.linalg.norm(x) * np.linalg.norm(y)))

    def nearest(
        self, of: Any, k: int = 10, *, exclude: Iterable[str] | None = None
    ) -> list[tuple[str, float]]:
        """The k words with the largest cosine to a word, or vector, and the cosines.

        Args:
            of: a word, or a vector (d,).
            exclude: words to leave out; by default the word itself.
        """
        if exclude is None:
            exclude = [of] if isinstance(of, str) else []
        target = self._vector(of)
        scores = self.vectors @ target / (self._lengths * np.linalg.norm(target))
        scores[[self.index(word) for word in exclude]] = -np.inf
        best = np.argsort(-scores, kind="stable")[: max(k, 0)]
        return [(self.words[i], float(scores[i])) for i in best if np.isfinite(scores[i])]

    def analogy(
        self, a: str, b: str, c: str, k: int = 10, *, exclude: bool = True
    ) -> list[tuple[str, float]]:
        """As a is to b, so is c to …: the k words nearest to b - a + c, and the cosines.

        Args:
            exclude: leave the three words out, as is usual; they are often the nearest.
        """
        target = self[b].astype(np.float64) - self[a] + self[c]
        return self.nearest(target, k, exclude=(a, b, c) if exclude else ())

    def _vector(self, of: Any) -> np.ndarray:
        vector = np.asarray(self[of] if isinstance(of, str) else of, dtype=np.float64)
        if vector.shape != self.vectors.shape[1:]:
            raise ShapeError(
                f"a vector of {self.name} has shape {self.vectors.shape[1:]}; got {vector.shape}"
            )
        return vector

    def __repr__(self) -> str:
        return (
            f"{self.name}: {len(self.words):,} words, {self.vectors.shape[1]} numbers each "
            f"({self.licence})"
        )


def glove() -> WordVectors:
    """10,020 frequent English words as vectors of 50 numbers, learnt from 6 billion words.

    Each number is kept in 8 bits with a scale per word, which changes a vector by 0.7 %.

    Source: J. Pennington, R. Socher and C. D. Manning, "GloVe: Global vectors for word
    representation", 2014; glove.6B, PDDL 1.0.

    Example:
        >>> from microgpt import data
        >>> data.glove()
        GloVe 6B: 10,020 words, 50 numbers each (PDDL 1.0)
    """
    stored = embedded("_glove.npz")
    return WordVectors(
        name="GloVe 6B",
        words=tuple(str(stored["words"]).split("\n")),
        vectors=stored["vectors"].astype(np.float32) * stored["scale"].astype(np.float32)[:, None],
        source="glove.6B.50d of Stanford's GloVe, 8 bits per number",
        licence="PDDL 1.0",
    )
