"""Japanese vowels: short sequences of speech that come along."""

from __future__ import annotations

import numpy as np

from microgpt.data.embedded import embedded
from microgpt.data.records import Sequences

TRAIN = 270


def japanese_vowels() -> Sequences:
    """640 utterances of the Japanese vowels "ae" by nine men; the task is to tell who speaks.

    Each is 7 to 29 frames of 12 LPC cepstrum coefficients, one frame per 6.4 ms. 270 (30 of each
    speaker) are to learn from, and 370 (24 to 88 of each), recorded at other times, to test on.

    Source: M. Kudo, J. Toyama and M. Shimbo, "Multidimensional curve classification using
    passing-through regions", 1999; UCI Machine Learning Repository, DOI 10.24432/C5NS47, CC BY 4.0.

    Example:
        >>> from microgpt import data
        >>> vowels = data.japanese_vowels()
        >>> vowels.x_train[0].shape
        (20, 12)
        >>> x, lengths = data.pad(vowels.x_train)
        >>> x.shape
        (270, 26, 12)
    """
    stored = embedded("_japanese_vowels.npz")
    # Millionths plus 2²³, the lowest byte first, because bytes alike in kind pack better together.
    low, middle, high = stored["planes"].astype(np.int32)  # (12, frames) each
    millionths = (high << 16 | middle << 8 | low) - (1 << 23)
    frames = (millionths.T / 1e6).astype(np.float32)
    ends = np.cumsum(stored["lengths"], dtype=np.int64)
    sequences = np.split(frames, ends[:-1])
    speakers = stored["speakers"].astype(np.int64)
    return Sequences(
        name="Japanese vowels",
        x_train=tuple(sequences[:TRAIN]),
        y_train=speakers[:TRAIN],
        x_test=tuple(sequences[TRAIN:]),
        y_test=speakers[TRAIN:],
        classes=tuple(f"speaker {i}" for i in range(1, 10)),
        source="Japanese Vowels, DOI 10.24432/C5NS47",
        licence="CC BY 4.0",
    )
