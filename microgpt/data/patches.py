"""Images as sequences: cut into square patches, as a vision transformer reads them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from microgpt.data.checks import positive
from microgpt.errors import InputError, ShapeError


def patchify(images: Any, size: int) -> np.ndarray:
    """Images cut into patches of size x size, row by row, each a vector.

    Args:
        images: (n, height, width) or (n, height, width, channels).
        size: pixels along the side of a patch; it must divide height and width.

    Returns:
        (n, height/size · width/size, size · size · channels), of the same type. In a vector the
        channel runs fastest, then the column, then the row.

    Raises:
        ShapeError: if there is another number of dimensions, or the size divides no side.
        InputError: if the size is no whole number of 1 or more.

    Source: A. Dosovitskiy et al., "An image is worth 16x16 words", 2021.

    Example:
        >>> import numpy as np
        >>> from microgpt import data
        >>> data.patchify(np.arange(16).reshape(1, 4, 4), 2)
        array([[[ 0,  1,  4,  5],
                [ 2,  3,  6,  7],
                [ 8,  9, 12, 13],
                [10, 11, 14, 15]]])
    """
    size, values = positive("size", size), np.asarray(images)
    if values.ndim not in (3, 4):
        raise ShapeError(
            f"patchify needs images (n, height, width[, channels]); got shape {values.shape}"
        )
    n, height, width, *channels = values.shape
    if height % size or width % size:
        raise ShapeError(
            f"patches of {size} x {size} do not fill images of {height} x {width}; the size must "
            f"divide {math.gcd(height, width)}"
        )
    rows, columns = height // size, width // size
    cut = values.reshape(n, rows, size, columns, size, *channels)
    return cut.swapaxes(2, 3).reshape(n, rows * columns, size * size * math.prod(channels))


def unpatchify(patches: Any, size: int, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """The images that `patchify` cut up.

    Args:
        patches: (n, patches, size · size · channels).
        size: as in `patchify`.
        shape: of one image: (height, width) or (height, width, channels); by default a square one,
            with channels if there is more than one.

    Returns:
        (n, *shape), of the same type.

    Raises:
        ShapeError: if the patches do not make such images.
        InputError: if the size is no whole number of 1 or more, or no shape is given and the number
            of patches is no square.

    Example:
        >>> import numpy as np
        >>> from microgpt import data
        >>> images = np.arange(2 * 4 * 6).reshape(2, 4, 6)
        >>> bool((data.unpatchify(data.patchify(images, 2), 2, (4, 6)) == images).all())
        True
    """
    size, values = positive("size", size), np.asarray(patches)
    if values.ndim != 3 or values.shape[2] % (size * size):
        raise ShapeError(
            f"unpatchify needs patches (n, patches, {size}·{size}·channels); got shape "
            f"{values.shape}"
        )
    n, count, length = values.shape
    if shape is None:
        side = math.isqrt(count)
        if side * side != count:
            raise InputError(f"{count} patches make no square image; give shape=(height, width)")
        channels = length // (size * size)
        shape = (side * size, side * size) + ((channels,) if channels != 1 else ())
    if len(shape) not in (2, 3):
        raise ShapeError(f"the shape of an image is (height, width[, channels]); got {shape}")
    height, width, *rest = shape
    fits = height % size == 0 == width % size and math.prod(shape) == count * length
    if not fits or length != size * size * math.prod(rest):
        raise ShapeError(
            f"{count} patches of {length} numbers make no image of shape {tuple(shape)} with "
            f"size={size}"
        )
    cut = values.reshape(n, height // size, width // size, size, size, *rest)
    return cut.swapaxes(2, 3).reshape(n, *shape)
