"""Layers as images: weights of a first layer, filters, and what filters make of an image."""

from __future__ import annotations

from typing import Any

import numpy as np

from microgpt.errors import ShapeError
from microgpt.viz.montage import montage
from microgpt.viz.style import DIVERGING, array, limit, styled


def first_layer(weights: Any, shape: tuple[int, int], *, title: str = "") -> Any:
    """Each row of a weight matrix as a picture of what its neuron looks for.

    Blue is positive, red negative, white nothing; one scale, symmetric around 0, for all rows.

    Args:
        weights: (neurons, pixels), or a module with such a `weight`.
        shape: (height, width) of the pictures, height · width = pixels.

    Returns:
        A matplotlib figure.

    Raises:
        ShapeError: if the pixels do not make up a picture of that shape.

    Example:
        >>> import numpy as np
        >>> import microgpt as mg
        >>> figure = mg.viz.first_layer(np.eye(4), (2, 2))
        >>> len(figure.axes[0].images)
        4
    """
    rows = _weights(weights)
    if rows.ndim != 2 or not len(rows) or rows.shape[1] != shape[0] * shape[1]:
        raise ShapeError(
            f"first_layer: weights of shape {rows.shape}; required: (neurons, pixels) with "
            f"{shape[0]}·{shape[1]} pixels"
        )
    return _signed_images(rows.reshape(-1, *shape), "weight", title)


def conv_filters(weights: Any, *, title: str = "", most: int = 64) -> Any:
    """The filters of a convolution: blue weights add, red ones subtract.

    Filters of a single input channel stand side by side; with more, each filter is a row and each
    input channel a column.

    Args:
        weights: (filters, channels, height, width), or a module with such a `weight`.
        most: how many pictures are drawn at most; the title says what is left out.

    Returns:
        A matplotlib figure.

    Raises:
        ShapeError: for any other shape.

    Example:
        >>> import numpy as np
        >>> import microgpt as mg
        >>> len(mg.viz.conv_filters(np.ones((6, 1, 5, 5))).axes[0].images)
        6
    """
    filters = _weights(weights)
    if filters.ndim != 4 or 0 in filters.shape:
        raise ShapeError(
            f"conv_filters: weights of shape {filters.shape}; required: (filters, channels, "
            "height, width), as in the weight of a Conv2d"
        )
    count, channels = filters.shape[:2]
    if channels == 1:
        kept = filters[:most, 0]
        names = [str(i) for i in range(len(kept))]
        columns = None
        whole = count
    else:
        columns = min(channels, most)
        rows = max(min(count, most // columns), 1)
        kept = filters[:rows, :columns].reshape(-1, *filters.shape[2:])
        names = [f"{i}, {j}" for i in range(rows) for j in range(columns)]
        whole = count * channels
    if len(kept) < whole:
        title = f"{title or 'filters'} ({len(kept)} of {whole})"
    elif not title and channels > 1:
        title = "filter, input channel"
    return _signed_images(kept, "weight", title, names, columns)


def feature_maps(maps: Any, *, image: Any = None, title: str = "", most: int = 64) -> Any:
    """What each filter makes of one image: the channels of an activation, side by side.

    White is 0, blue positive, red negative; one scale for all channels.

    Args:
        maps: (channels, height, width), or (1, channels, height, width).
        image: (height, width) or (1, height, width), shown first in grey.
        most: how many channels are drawn at most; the title says what is left out.

    Returns:
        A matplotlib figure.

    Raises:
        ShapeError: for any other shape, or more than one image.

    Example:
        >>> import numpy as np
        >>> import microgpt as mg
        >>> figure = mg.viz.feature_maps(np.ones((3, 4, 4)), image=np.ones((4, 4)))
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['image', '0', '1', '2']
    """
    channels = array(maps)
    if channels.ndim == 4 and len(channels) == 1:
        channels = channels[0]
    if channels.ndim != 3 or 0 in channels.shape:
        hint = "; choose one image: maps[i]" if channels.ndim == 4 else ""
        raise ShapeError(
            f"feature_maps: shape {channels.shape}; required: (channels, height, width){hint}"
        )
    picture = None if image is None else np.squeeze(array(image))
    if picture is not None and picture.ndim != 2:
        raise ShapeError(
            f"feature_maps: an image of shape {array(image).shape}; required: (height, width)"
        )
    if len(channels) > most:
        title = f"{title or 'channels'} ({most} of {len(channels)})"
    return _signed_images(channels[:most], "activation", title, image=picture)


def _weights(weights: Any) -> np.ndarray:
    return array(weights.weight if hasattr(weights, "weight") else weights)


def _signed_images(
    images: np.ndarray,
    unit: str,
    title: str,
    names: list[str] | None = None,
    columns: int | None = None,
    image: np.ndarray | None = None,
) -> Any:
    end = limit(images)
    captions = names or [str(i) for i in range(len(images))]
    colours = {"cmap": DIVERGING, "vmin": -end, "vmax": end}
    pictures = list(images)
    if image is not None:
        captions, pictures = ["image", *captions], [image, *pictures]
    with styled() as make:
        return montage(
            make, pictures, captions, columns=columns, colours=colours, scale=unit, title=title,
            first=None if image is None else {"cmap": "gray"},
        )[0]  # fmt: skip
