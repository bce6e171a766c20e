"""What data sets of text, sequences and sound are: frozen records that say where they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from microgpt.errors import InputError, ShapeError


@dataclass(frozen=True, repr=False)
class Text:
    """One long text.

    Attributes:
        name: what it is called.
        text: the text.
        source, licence: where it comes from, and on what terms.
    """

    name: str
    text: str
    source: str
    licence: str

    def __len__(self) -> int:
        """Number of characters."""
        return len(self.text)

    def __repr__(self) -> str:
        return (
            f"{self.name}: {len(self.text):,} characters, {len(set(self.text))} different ones "
            f"({self.licence})"
        )


@dataclass(frozen=True, repr=False)
class Documents:
    """Many short texts; `Documents` is iterated, indexed and counted as the tuple of them."""

    name: str
    documents: tuple[str, ...]
    source: str
    licence: str

    def __len__(self) -> int:
        """Number of documents."""
        return len(self.documents)

    def __getitem__(self, index: Any) -> Any:
        """A document, or a tuple of them."""
        return self.documents[index]

    def __repr__(self) -> str:
        longest = max(map(len, self.documents))
        return (
            f"{self.name}: {len(self.documents):,} documents of up to {longest} characters "
            f"({self.licence})"
        )


@dataclass(frozen=True, repr=False)
class Pairs:
    """Sentences with their translations.

    Attributes:
        pairs: (sentence, translation) each.
        attributions: who wrote them, one line per pair; the licence wants it handed on.
    """

    name: str
    pairs: tuple[tuple[str, str], ...]
    attributions: tuple[str, ...]
    source: str
    licence: str

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.pairs)

    def __getitem__(self, index: Any) -> Any:
        """A pair, or a tuple of them."""
        return self.pairs[index]

    def __repr__(self) -> str:
        return f"{self.name}: {len(self.pairs):,} pairs of sentences ({self.licence})"


@dataclass(frozen=True, repr=False, eq=False)
class Sequences:
    """Labelled sequences of different lengths, each (length, features) float32.

    Attributes:
        x_train, x_test: the sequences.
        y_train, y_test: (n,) int64 class numbers.
        classes: names of the classes, by number.
    """

    name: str
    x_train: tuple[np.ndarray, ...]
    y_train: np.ndarray
    x_test: tuple[np.ndarray, ...]
    y_test: np.ndarray
    classes: tuple[str, ...]
    source: str
    licence: str

    def __repr__(self) -> str:
        lengths = [len(x) for x in self.x_train + self.x_test]
        return (
            f"{self.name}: {len(self.x_train):,} sequences to learn from, {len(self.x_test):,} to "
            f"test on, {min(lengths)} to {max(lengths)} long, in {len(self.classes)} classes "
            f"({self.licence})"
        )


@dataclass(frozen=True, repr=False, eq=False)
class Recordings:
    """Recordings of sound, with what was said and by whom.

    Attributes:
        samples: one array per recording, (length,) float32 in -1 to 1.
        labels: (n,) int64 class numbers.
        speakers: (n,) int64, numbers into `speaker_names`.
        test: (n,) bool, which recordings are to test on.
        rate: samples per second.
        classes, speaker_names: names, by number.
    """

    name: str
    samples: tuple[np.ndarray, ...]
    labels: np.ndarray
    speakers: np.ndarray
    test: np.ndarray
    rate: int
    classes: tuple[str, ...]
    speaker_names: tuple[str, ...]
    source: str
    licence: str

    def __len__(self) -> int:
        """Number of recordings."""
        return len(self.samples)

    @property
    def lengths(self) -> np.ndarray:
        """(n,) int64: samples of each recording."""
        return np.array([len(x) for x in self.samples], dtype=np.int64)

    def __repr__(self) -> str:
        seconds = int(self.lengths.sum()) / self.rate
        return (
            f"{self.name}: {len(self.samples):,} recordings, {seconds:.0f} s in all, "
            f"{int(self.test.sum()):,} of them to test on, by {len(self.speaker_names)} speakers, "
            f"in {len(self.classes)} classes ({self.licence})"
        )


def pad(
    sequences: Sequence[Any], length: int | None = None, value: float = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Sequences of different lengths in one array, filled up behind, and their lengths.

    Args:
        sequences: arrays of shape (length_i, …), alike in the other dimensions.
        length: of the result; by default that of the longest. Longer sequences are cut off.
        value: what is behind the end of a sequence.

    Returns:
        An array (n, length, …) of the type of the first sequence, and (n,) int64 lengths.

    Raises:
        InputError: if there are no sequences, or the length is negative.
        ShapeError: if they differ in more than their length.

    Example:
        >>> from microgpt import data
        >>> data.pad([[1, 2, 3], [4]])
        (array([[1, 2, 3],
               [4, 0, 0]]), array([3, 1]))
    """
    arrays = [np.asarray(s) for s in sequences]
    if not arrays or (length is not None and length < 0):
        raise InputError(
            f"pad needs at least one sequence and no negative length; got {len(arrays)}, {length}"
        )
    if len({a.shape[1:] for a in arrays}) > 1 or arrays[0].ndim < 1:
        raise ShapeError(
            "pad needs sequences that differ in their length only; got shapes "
            f"{sorted({a.shape for a in arrays})[:5]}"
        )
    lengths = np.array([len(a) for a in arrays], dtype=np.int64)
    if length is None:
        length = int(lengths.max())
    lengths = np.minimum(lengths, length)
    out = np.full((len(arrays), length, *arrays[0].shape[1:]), value, dtype=arrays[0].dtype)
    for row, array, n in zip(out, arrays, lengths, strict=True):
        row[:n] = array[:n]
    return out, lengths
