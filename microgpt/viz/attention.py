"""Attention patterns: which token looks at which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from microgpt.errors import InputError, ShapeError
from microgpt.viz.montage import fitting, montage
from microgpt.viz.style import GREY, SEQUENTIAL, array, cells, readable, shown, styled


def attention_patterns(
    patterns: Any,
    tokens: Sequence[Any] | None = None,
    *,
    keys: Sequence[Any] | None = None,
    title: str = "",
) -> Any:
    """Attention weights of each head as an image; every row is a query and sums to 1.

    A query (the token that looks) is a row, a key (the token that is looked at) a column. Drawings
    that put queries in columns show the transpose. One colour scale for all heads, from 0; what is
    not finite is yellow.

    Args:
        patterns: (heads, queries, keys), (1, heads, queries, keys), one head (queries, keys), or a
            list with (heads, queries, keys) for every layer.
        tokens: one per query; of the keys too, unless there are `keys` (cross-attention).

    Returns:
        A matplotlib figure: a row of heads for every layer, or heads side by side.

    Raises:
        ShapeError: if a pattern has another shape, or the tokens another length.
        InputError: if a weight is negative (scores before the softmax, for example).

    Example:
        >>> import numpy as np
        >>> import microgpt as mg
        >>> causal = np.tril(np.ones((2, 3, 3)))
        >>> causal /= causal.sum(axis=-1, keepdims=True)
        >>> figure = mg.viz.attention_patterns(causal, ["a", "red", "fox"])
        >>> [text.get_text() for text in figure.axes[0].texts][:5]
        ['head 0', 'head 1', 'a', 'red', 'fox']
    """
    if isinstance(patterns, (list, tuple)) and not patterns:
        raise ShapeError("attention_patterns: no layers; required: one pattern at least")
    layers = isinstance(patterns, (list, tuple)) and np.ndim(array(patterns[0])) > 2
    rows = [_heads(p) for p in (patterns if layers else [patterns])]
    queries, columns = rows[0].shape[1:]
    named = None if tokens is None else [shown(t) for t in tokens]
    named_keys = named if keys is None else [shown(t) for t in keys]
    for heads in rows:
        if heads.shape != rows[0].shape:
            raise ShapeError(
                f"attention_patterns: layers of shape {rows[0].shape} and {heads.shape} (heads, "
                "queries, keys); required: the same shape for all layers"
            )
    for what, labels, length in (("tokens", named, queries), ("keys", named_keys, columns)):
        if labels is not None and len(labels) != length:
            mend = "; give the keys of cross-attention as keys=" if queries != columns else ""
            raise ShapeError(
                f"attention_patterns: {len(labels)} {what} for patterns of shape "
                f"{(queries, columns)} (queries, keys); required: {length}{mend}"
            )
    names = [
        f"layer {i}, head {j}" if layers else f"head {j}"
        for i, heads in enumerate(rows)
        for j in range(len(heads))
    ]
    lowest = min(float(np.min(heads, where=np.isfinite(heads), initial=0.0)) for heads in rows)
    if lowest < 0:
        raise InputError(
            f"attention_patterns: weights down to {lowest:.4g}; required: none below 0 (of scores "
            "take the softmax first)"
        )
    # A row for each layer; many heads of a single layer fill several rows.
    across = len(rows[0])
    if not layers and across > 4:
        across = int(np.ceil(np.sqrt(across)))
    return _draw(np.concatenate(rows), names, across, named, named_keys, title)


def _heads(pattern: Any) -> np.ndarray:
    heads = array(pattern)
    if heads.ndim == 4 and len(heads) == 1:
        heads = heads[0]
    if heads.ndim == 2:
        heads = heads[None]
    if heads.ndim != 3 or 0 in heads.shape:
        hint = "; choose one sequence: patterns[i]" if heads.ndim == 4 else ""
        raise ShapeError(
            f"attention_patterns: shape {heads.shape}; required: (heads, queries, keys){hint}"
        )
    return heads


def _draw(
    images: np.ndarray,
    names: list[str],
    across: int,
    tokens: list[str] | None,
    keys: list[str] | None,
    title: str,
) -> Any:
    queries, columns = images.shape[1:]
    side = float(np.clip(0.24 * max(queries, columns), 1.6, 5.0 if len(images) > 1 else 7.0))
    side = fitting(side, across)
    room = 72 * side / max(queries, columns)  # points from cell to cell
    # A masked score may have become NaN.
    highest = float(np.max(images, where=np.isfinite(images), initial=0.0))
    colours = {"cmap": SEQUENTIAL, "vmin": 0, "vmax": highest or 1.0}
    rows = tokens or [str(i) for i in range(queries)]
    below = keys or [str(i) for i in range(columns)]
    places, size, _ = readable(rows, room)
    places_below, size_below, upright = readable(below, room)
    left = max(map(cells, rows)) * 0.6 * size / 72
    low = (max(map(cells, below)) * 0.6 if upright else 1.2) * size_below / 72
    with styled() as make:
        figure, ax, corners = montage(
            make, images, names, columns=across, side=side, colours=colours, title=title,
            scale="attention", extend="neither", margins=(left + 0.35, low + 0.4),
        )  # fmt: skip
        for i, (x, y) in enumerate(corners):
            if i % across == 0:
                for k in places:
                    ax.text(
                        x - 3 / room, y + k + 0.5, rows[k], fontsize=size, ha="right", va="center"
                    )
            if i + across >= len(corners):  # the lowest picture of its column
                for k in places_below:
                    ax.text(
                        x + k + 0.5, y + queries + 3 / room, below[k], fontsize=size_below,
                        ha="center", va="top", rotation=90 if upright else 0,
                    )  # fmt: skip
        figure.supxlabel("key: the token that is looked at", fontsize=9, color=GREY)
        figure.supylabel("query (row sum 1)", fontsize=9, color=GREY)
        return figure
