"""MNIST: 70,000 handwritten digits of 28x28 pixels."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from microgpt.data.remote import FILES, fetch
from microgpt.data.sets import Dataset
from microgpt.errors import DataError

_TYPES = {8: np.uint8, 9: np.int8, 11: np.int16, 12: np.int32, 13: np.float32, 14: np.float64}


def read_idx(path: str | Path) -> np.ndarray:
    """The array in a file of the IDX format, compressed by gzip or not.

    Raises:
        DataError: if the file is not of that format, or cut off.
    """
    raw = Path(path).read_bytes()
    try:
        data = gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw
    except (EOFError, OSError) as error:
        raise DataError(f"{path} is damaged: {error}; fetch it again") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES:
        raise DataError(f"{path} is no IDX file: it starts with {data[:4]!r}")
    ndim = data[3]
    shape = tuple(int(n) for n in np.frombuffer(data, ">i4", ndim, 4))
    values = np.frombuffer(data, np.dtype(_TYPES[data[2]]).newbyteorder(">"), offset=4 + 4 * ndim)
    if values.size != int(np.prod(shape)):
        raise DataError(f"{path} is cut off: {values.size} values; required: shape {shape}")
    return values.reshape(shape)


def mnist(folder: str | Path | None = None) -> Dataset:
    """60,000 images to learn from and 10,000 to test on.

    Args:
        folder: where the four files lie already, directly or in a folder ``mnist``; by default
            the setting ``data`` (``MICROGPT_DATA``), else they are fetched once (11 MB) and kept.

    Returns:
        Images of shape (n, 28, 28), float32 from 0 (black) to 1 (white); labels int64.

    Raises:
        DataError: if the files cannot be had or are damaged; says what to do.

    Source: Y. LeCun, C. Cortes and C. J. C. Burges, "The MNIST database", CC BY-SA 3.0.
    """
    parts = [read_idx(fetch(name, folder)) for name in FILES if name.startswith("mnist/")]
    x_train, y_train, x_test, y_test = parts
    return Dataset(
        name="MNIST",
        x_train=x_train.astype(np.float32) / np.float32(255),
        y_train=y_train.astype(np.int64),
        x_test=x_test.astype(np.float32) / np.float32(255),
        y_test=y_test.astype(np.int64),
        classes=tuple("0123456789"),
        source="The MNIST database of handwritten digits",
        licence="CC BY-SA 3.0",
    )
