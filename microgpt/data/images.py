"""Images on the host, in NumPy."""

from __future__ import annotations

import numpy as np

from microgpt.errors import InputError, ShapeError


def resize(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Images at another resolution, by bilinear interpolation.

    Pixels are squares and their values belong to their centres, so the picture keeps its place.

    Args:
        images: (…, height, width).
        size: the new (height, width).

    Returns:
        (…, *size), of the same dtype.

    Raises:
        ShapeError: if there are fewer than two dimensions or no pixels.
        InputError: if the new size is not positive.

    Example:
        >>> import numpy as np
        >>> from microgpt import data
        >>> data.resize(np.array([[0.0, 1.0]]), (1, 4))
        array([[0.  , 0.25, 0.75, 1.  ]])
    """
    if images.ndim < 2 or 0 in images.shape[-2:]:
        raise ShapeError(f"resize needs images (…, height, width); got shape {images.shape}")
    if len(size) != 2 or min(size) < 1:
        raise InputError(f"resize needs a positive (height, width); got {size}")
    out = images
    for axis, length in zip((-2, -1), size, strict=True):
        out = _resample(out, axis, length)
    return out.astype(images.dtype, copy=False)


def _resample(images: np.ndarray, axis: int, length: int) -> np.ndarray:
    old = images.shape[axis]
    centres = np.clip((np.arange(length) + 0.5) * old / length - 0.5, 0, old - 1)
    low = np.floor(centres).astype(int)
    high = np.minimum(low + 1, old - 1)
    share = (centres - low).astype(images.dtype)
    if axis == -2:
        share = share[:, None]
    return np.take(images, low, axis) * (1 - share) + np.take(images, high, axis) * share
