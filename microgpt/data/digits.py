"""The small digits that come along, so that every lesson runs offline."""

from __future__ import annotations

from importlib.resources import as_file, files

import numpy as np

from microgpt.data.sets import Dataset

TRAIN = 1_437


def digits() -> Dataset:
    """1,797 handwritten digits of 8x8 pixels.

    Images are float32 from 0 to 1 in steps of 1/16. The first 1,437 (four fifths) are to learn
    from, the last 360 to test on. The file lists the digits writer by writer, 13 people in all, so
    nearly all test digits come from writers whose hand was not seen in training: accuracies are
    lower, and more honest, than on a shuffled split.

    Source: test set of "Optical Recognition of Handwritten Digits", E. Alpaydin and C. Kaynak, UCI
    Machine Learning Repository, 1998, DOI 10.24432/C50P49, CC BY 4.0.

    Example:
        >>> from microgpt import data
        >>> data.digits().x_train.shape
        (1437, 8, 8)
    """
    with as_file(files("microgpt.data") / "_digits.npz") as path, np.load(path) as stored:
        images = stored["images"].astype(np.float32) / np.float32(16)
        labels = stored["labels"].astype(np.int64)
    return Dataset(
        name="digits",
        x_train=images[:TRAIN],
        y_train=labels[:TRAIN],
        x_test=images[TRAIN:],
        y_test=labels[TRAIN:],
        classes=tuple("0123456789"),
        source="Optical Recognition of Handwritten Digits, DOI 10.24432/C50P49",
        licence="CC BY 4.0",
    )
