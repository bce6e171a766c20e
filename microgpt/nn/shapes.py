"""What layers say about shapes that do not fit: the likely slip, and how to mend it."""

from __future__ import annotations

import math


def image_hint(shape: tuple[int, ...], channels: int) -> str:
    """The likely mend if `shape` was meant as images (n, channels, height, width); or nothing.

    Example:
        >>> image_hint((28, 28), 1)
        '; one grey image: x[None, None] puts batch and channel in front'
    """
    if len(shape) == 4 and shape[-1] == channels:
        return "; channels stand last here: mg.permute_dims(x, (0, 3, 1, 2)) puts them second"
    if len(shape) == 3 and shape[0] == channels:
        return "; a single image: x[None] puts the batch in front"
    if len(shape) == 3 and channels == 1:
        return "; grey images without a channel dimension: x[:, None] adds it"
    if len(shape) == 3 and shape[-1] == channels:
        return "; one image, channels last: mg.permute_dims(x, (2, 0, 1))[None]"
    if len(shape) == 2:
        side = math.isqrt(shape[1] // channels)
        if side > 1 and side * side * channels == shape[1] and shape[0] != shape[1]:
            return f"; flattened images: x.reshape(-1, {channels}, {side}, {side}) restores them"
        if channels == 1:
            return "; one grey image: x[None, None] puts batch and channel in front"
    return ""


def axis_hint(shape: tuple[int, ...], length: int) -> str:
    """The likely mend if the dimension of this length stands elsewhere in `shape`; or nothing."""
    if length in shape[:-1]:
        place = shape.index(length)
        return (
            f"; dimension {place} has this length: mg.moveaxis(x, {place}, -1) puts it last, if "
            "that is the one that was meant"
        )
    return ""
