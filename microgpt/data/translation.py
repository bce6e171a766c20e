"""Sentences in English and French that a small grammar makes: a language to learn in minutes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from microgpt.data.french import Sentence, sentence, vocabulary
from microgpt.errors import InputError

PAD, START, END = 0, 1, 2
"""Ids of padding, of what stands in front of a sentence's first word, and behind its last."""


class Words:
    """Words and their ids; 0 to 2 are padding, start and end.

    Example:
        >>> words = Words(["the", "red", "car"])
        >>> words.encode(["the", "car"]), words.decode([5, 3, 2, 0]), len(words)
        ([5, 3], ['the', 'car'], 6)
    """

    def __init__(self, words: Iterable[str]) -> None:
        self.words = ["<pad>", "<start>", "<end>", *sorted(set(words))]
        self._ids = {word: i for i, word in enumerate(self.words)}

    def encode(self, words: Sequence[str]) -> list[int]:
        """The ids of words.

        Raises:
            InputError: naming those that are not known.
        """
        strange = [word for word in words if word not in self._ids]
        if strange:
            raise InputError(
                f"the vocabulary of {len(self)} words does not have {', '.join(strange)}; "
                "sentences are made of the words of data.translation()"
            )
        return [self._ids[word] for word in words]

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The words of ids, up to the end if it is there, without start and padding."""
        found = []
        for i in ids:
            if i == END:
                break
            if i > END:
                found.append(self.words[i])
        return found

    def __len__(self) -> int:
        return len(self.words)


@dataclass(frozen=True, repr=False, eq=False)
class Translations:
    """English sentences with their French translations, and both vocabularies.

    Attributes:
        train, test: sentences to learn from and to be tested on; no English sentence is in both.
        english, french: the words.
    """

    train: tuple[Sentence, ...]
    test: tuple[Sentence, ...]
    english: Words
    french: Words

    def arrays(self, sentences: Sequence[Sentence]) -> tuple[np.ndarray, np.ndarray]:
        """Ids of English and French sentences, (n, longest) each, padded behind.

        The French ones begin with the start and end with the end; English ones have neither.
        """
        source = _padded([self.english.encode(s.english) for s in sentences])
        target = [[START, *self.french.encode(s.french), END] for s in sentences]
        return source, _padded(target)

    def __repr__(self) -> str:
        return (
            f"translation: {len(self.train):,} sentences to learn from, {len(self.test):,} to test "
            f"on, {len(self.english)} English and {len(self.french)} French words"
        )


def _padded(rows: list[list[int]]) -> np.ndarray:
    made = np.full((len(rows), max(map(len, rows), default=0)), PAD, np.int64)
    for row, ids in zip(made, rows, strict=True):
        row[: len(ids)] = ids
    return made


def translation(train: int = 8000, test: int = 500, *, seed: int = 0) -> Translations:
    """English sentences with exact French translations, made by the grammar of `data.french`.

    They need more than words in the place of words: adjectives go behind the noun and agree with
    it, pronouns go in front of the verb, "not" becomes two words, and numbers are counted in
    twenties from 80 on. All are different, so those of the test are new. The vocabularies do not
    depend on the seed.

    Args:
        train, test: how many sentences.
        seed: draws them.

    Raises:
        InputError: if a number is below 1.

    Example:
        >>> from microgpt import data
        >>> data.translation(200, 50)
        translation: 200 sentences to learn from, 50 to test on, 178 English and 220 French words
    """
    if train < 1 or test < 1:
        raise InputError(
            f"translation needs sentences to learn from and to test on; got {train}, {test}"
        )
    rng = np.random.default_rng([seed, 29])
    found: dict[tuple[str, ...], Sentence] = {}
    while len(found) < train + test:
        drawn = sentence(rng)
        found.setdefault(drawn.english, drawn)
    sentences = list(found.values())
    english, french = (Words(words) for words in vocabulary())
    return Translations(tuple(sentences[test:]), tuple(sentences[:test]), english, french)


def joined(words: Sequence[str]) -> str:
    """Words as a text: hyphens and apostrophes tie them to their neighbours.

    Example:
        >>> joined(["j'", "aime", "vingt", "-deux", "chats"])
        "j'aime vingt-deux chats"
    """
    return " ".join(words).replace(" -", "-").replace("' ", "'")


def exact_match(found: Sequence[Any], wanted: Sequence[Any]) -> float:
    """Which share of translations is right, every word of them.

    Raises:
        InputError: if there are not as many of both, or none.

    Example:
        >>> exact_match([["le", "chat"], ["un", "chien"]], [["le", "chat"], ["le", "chien"]])
        0.5
    """
    if len(found) != len(wanted) or not wanted:
        raise InputError(
            f"exact_match compares as many translations as sentences, at least one; got "
            f"{len(found)} and {len(wanted)}"
        )
    return sum(list(a) == list(b) for a, b in zip(found, wanted, strict=True)) / len(wanted)


def alignment(pattern: np.ndarray, sentences: Sequence[Sentence]) -> float:
    """For which share of French words the largest weight is on the English word they stand for.

    Args:
        pattern: (n, t, s) weights of cross-attention with which the model writes the t-th French
            word of sentence n.
        sentences: the n sentences; words that stand for no single one are not counted.

    Example:
        >>> from microgpt.data.french import Sentence
        >>> pair = Sentence(("red", "cars"), ("voitures", "rouges"), (1, 0))
        >>> alignment(np.array([[[0.2, 0.8], [0.4, 0.6]]]), [pair])
        0.5
    """
    best = np.asarray(pattern).argmax(-1)
    pairs = [
        (int(best[n, t]), place)
        for n, s in enumerate(sentences)
        for t, place in enumerate(s.sources)
        if place is not None
    ]
    return sum(a == b for a, b in pairs) / max(len(pairs), 1)
