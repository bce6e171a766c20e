"""Which keys a query may see: masks, padding and causality, brought together on the host."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from microgpt.errors import DTypeError, GradientError, ShapeError
from microgpt.ops.indexing import host_array


class Mask(NamedTuple):
    """What attention is told.

    Attributes:
        mask: broadcasts to (n, heads, q, k): booleans, or numbers to be added; None: there is none.
        causal: whether the kernel masks the future itself.
        empty: which queries see no key, (…, q, 1), or None if all see one. Their mask is open, so
            that nothing is divided by 0, and what comes out for them is to be set to 0.
    """

    mask: np.ndarray | None
    causal: bool
    empty: np.ndarray | None


def combined(
    layer: str, shape: tuple[int, ...], mask: Any, padding: Any, causal: bool, *, separate: bool
) -> Mask:
    """The mask for attention with a pattern of `shape` (n, heads, q, k).

    Args:
        layer: for messages.
        mask, padding, causal: as `MultiHeadAttention` is given them.
        separate: whether causality may be left to the kernel; else it becomes part of the mask.

    Raises:
        ShapeError: if a shape does not fit.
        DTypeError: if a mask holds integers, or a padding mask anything but booleans.
        GradientError: if a mask requires a gradient, which it would not get.
    """
    batch, _, queries, keys = shape
    causal = causal and not (queries == 1 and keys > 0)
    known = None if padding is None else _padding(layer, padding, (batch, keys))
    if known is not None and known.all():
        known = None
    if mask is None and (separate or not causal) and (keys >= queries or not causal):
        if known is None:
            return Mask(None, causal, None)
        # With causality all are sure to see something if they see the first key.
        if known[:, 0].all() if causal else known.any(axis=1).all():
            return Mask(known[:, None, None, :], causal, None)
    seen = np.ones((1, 1, queries, keys), dtype=bool)
    if causal:
        seen = np.tril(seen, keys - queries)
    if known is not None:
        seen = seen & known[:, None, None, :]
    numbers = None
    if mask is not None:
        given = _mask(layer, mask, shape)
        if given.dtype.kind == "b":
            seen = seen & given
        else:
            numbers = given
            seen = seen & ~np.isneginf(given)
    empty = np.logical_not(seen.any(axis=-1, keepdims=True))
    if numbers is None:
        told = seen | empty
    else:
        told = np.where(seen, numbers, np.where(empty, 0.0, -np.inf))
    return Mask(told, False, empty if empty.any() else None)


def _padding(layer: str, padding: Any, shape: tuple[int, int]) -> np.ndarray:
    host = host_array(padding) if hasattr(padding, "dtype") else np.asarray(padding)
    if host.dtype.kind != "b":
        raise DTypeError(
            f"{layer}: key_padding_mask of dtype {host.dtype}; required: booleans, True where "
            "there is a token (ids != padding)"
        )
    if host.shape != shape:
        raise ShapeError(
            f"{layer}: key_padding_mask of shape {host.shape}; required: {shape}, (batch, keys), "
            "True where there is a token"
            + ("; the cache's keys count too" if host.shape[0] == shape[0] else "")
        )
    return host


def _mask(layer: str, mask: Any, shape: tuple[int, ...]) -> np.ndarray:
    if getattr(mask, "requires_grad", False):
        raise GradientError(
            f"{layer}: the mask requires a gradient, which attention does not compute; required: "
            "a constant (mask.detach())"
        )
    host = host_array(mask) if hasattr(mask, "dtype") else np.asarray(mask)
    try:
        # Three dimensions would be taken for heads, queries and keys, and are meant for texts.
        fits = host.ndim in (0, 1, 2, 4) and np.broadcast_shapes(host.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        hint = "; one mask per text: mask[:, None]; per head: mask[None]" if host.ndim == 3 else ""
        raise ShapeError(
            f"{layer}: mask of shape {host.shape}; required: (queries, keys) or one of four "
            f"dimensions, that broadcasts to (batch, heads, queries, keys), {shape}{hint}"
        )
    if host.dtype.kind in "iu":
        raise DTypeError(
            f"{layer}: mask of dtype {host.dtype}; required: booleans (True: may be seen; "
            "mask.astype('bool')), or floats that are added to the scores"
        )
    return host
