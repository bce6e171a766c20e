"""Words as points: an embedding seen from where it is widest."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from microgpt.errors import InputError, ShapeError
from microgpt.viz.style import COLOURS, GREY, array, cells, shown, styled


def principal_components(vectors: Any, count: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates of `vectors` along the `count` directions in which they vary most.

    Args:
        vectors: (n, dimensions).

    Returns:
        The coordinates (n, count), the mean in the origin, and the share of the variance that each
        direction explains. Signs are chosen so that the largest coordinate of each is positive.

    Raises:
        ShapeError: if there are fewer than two vectors, or fewer directions than asked for.
        InputError: if a vector is not finite.

    Source: Pearson (1901), by the singular value decomposition of the centred vectors.

    Example:
        >>> import numpy as np
        >>> places, share = principal_components([[0.0, 0.0], [3.0, 4.0]], 1)
        >>> np.abs(places).round(2).tolist(), share.round(2).tolist()
        ([[2.5], [2.5]], [1.0])
    """
    points = array(vectors).astype(float)
    if points.ndim != 2 or len(points) < 2 or min(points.shape) < count:
        raise ShapeError(
            f"principal_components: vectors of shape {points.shape}; required: (n, dimensions), "
            f"both at least {max(count, 2)}"
        )
    odd = np.flatnonzero(~np.isfinite(points).all(axis=1))
    if len(odd):
        rows = ", ".join(map(str, odd[:5])) + (", …" if len(odd) > 5 else "")
        raise InputError(
            f"principal_components: {len(odd)} of {len(points)} vectors hold NaN or infinity: "
            f"rows {rows}; required: finite numbers (leave these rows out)"
        )
    centred = points - points.mean(axis=0)
    u, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    places = u[:, :count] * sizes[:count]
    largest = places[np.abs(places).argmax(axis=0), np.arange(count)]
    parts = (sizes / max(float(sizes[0]), np.finfo(float).tiny)) ** 2
    share = parts[:count] / max(float(parts.sum()), 1.0)
    return places * np.where(largest < 0, -1.0, 1.0), share


def embedding_map(
    vectors: Any,
    words: Sequence[Any],
    *,
    groups: Sequence[Any] | None = None,
    arrows: Sequence[tuple[Any, Any]] = (),
    title: str = "",
) -> Any:
    """Vectors projected to the plane in which they vary most, each with its word.

    Of more than 150 words those that would lie on others are left out; the picture says how many.

    Args:
        vectors: (n, dimensions), n of at least 2.
        words: n labels.
        groups: the group of each word, shown by colour and in a legend.
        arrows: pairs of words to connect, e.g. ``[("man", "woman"), ("king", "queen")]``.

    Returns:
        A matplotlib figure; the axes say how much of the variance they show.

    Raises:
        ShapeError: if the numbers of vectors, words and groups differ.
        InputError: if an arrow names a word that is not there, or a vector is not finite.

    Example:
        >>> import microgpt as mg
        >>> figure = mg.viz.embedding_map([[0, 1, 0], [1, 0, 0], [0, 0, 2]], ["a", "b", "c"])
        >>> sorted(text.get_text() for text in figure.axes[0].texts)
        ['a', 'b', 'c']
    """
    places, share = principal_components(vectors)
    for what, labels in (("words", words), ("groups", groups)):
        if labels is not None and len(labels) != len(places):
            raise ShapeError(
                f"embedding_map: {len(places)} vectors and {len(labels)} {what}; required: as many"
            )
    known = {word: i for i, word in enumerate(words)}
    missing = sorted({str(w) for pair in arrows for w in pair if w not in known})
    if missing:
        raise InputError(f"embedding_map: arrows between {missing}, which are not among the words")
    kinds = list(dict.fromkeys(groups)) if groups is not None else [None]
    with styled() as make:
        figure = make(figsize=(7.5, 6.5))
        ax = figure.subplots()
        of = [None] * len(places) if groups is None else list(groups)
        for i, kind in enumerate(kinds):
            chosen = np.array([g == kind for g in of])
            ax.scatter(
                *places[chosen].T, s=22, color=COLOURS[i % len(COLOURS)], linewidth=0,
                label=None if kind is None else shown(kind, space=" "), zorder=3,
                marker=MARKERS[i // len(COLOURS) % len(MARKERS)],
            )  # fmt: skip
        for start, end in arrows:
            a, b = places[known[start]], places[known[end]]
            ax.annotate(
                "", b, a, arrowprops={"arrowstyle": "->", "color": GREY, "lw": 1.1, "shrinkA": 5,
                                      "shrinkB": 5},
            )  # fmt: skip
        ax.margins(0.09)
        ax.set_aspect("equal", adjustable="datalim")
        ax.set_xlabel(f"1st principal component ({share[0]:.0%} of the variance)")
        ax.set_ylabel(f"2nd principal component ({share[1]:.0%})")
        ax.axhline(0, color="#e5e5e5", linewidth=0.8, zorder=0)
        ax.axvline(0, color="#e5e5e5", linewidth=0.8, zorder=0)
        if groups is not None:
            # Beside the points: to look for room among many of them takes seconds.
            ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), ncols=1 + len(kinds) // 25)
        if title:
            ax.set_title(title, wrap=True)
        figure.draw_without_rendering()  # settles the layout, and with it the scale of the axes
        size = 9 if len(places) <= 60 else 7.5 if len(places) <= MANY_WORDS else 6
        between = [(places[known[a]], places[known[b]]) for a, b in arrows]
        left_out = _label(ax, places, [shown(w) for w in words], size, between)
        if left_out:
            note = f"{left_out:,} words have no room for a label"
            ax.text(
                0.99, 0.01, note, transform=ax.transAxes, ha="right", va="bottom", color=GREY,
                fontsize=8,
            )  # fmt: skip
        return figure


MARKERS = "o^sDv"
"""Of groups beyond the first seven, whose colours return."""

MANY_WORDS = 150
"""Up to so many words all are written, even where they overlap."""

_SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
"""Where a word may stand, seen from its point: preferred ones first."""

_FAR = (1.0, 3.5, 6.0)
"""How many gaps away; from the second on with a line to the point."""


def _label(
    ax: Any,
    places: np.ndarray,
    words: Sequence[str],
    size: float,
    arrows: Sequence[tuple[np.ndarray, np.ndarray]],
) -> int:
    """Each word at that side of its point, and so near, that it covers least of what is there.

    Returns:
        How many words had no room.
    """
    dots = ax.figure.dpi / 72.0
    at = ax.transData.transform(places)
    frame = ax.bbox
    high = size * 1.15 * dots
    wide = [_width(word, size) * dots for word in words]
    gap = 4.0 * dots
    taken = np.hstack([at - gap / 2, at + gap / 2])  # left, low, right, high of all that is there
    left_out = 0
    for a, b in arrows:
        way = ax.transData.transform(a + (b - a) * np.linspace(0, 1, 60)[:, None])
        taken = np.vstack([taken, np.hstack([way - dots, way + dots])])
    # Words in the thick of it choose last: they have no good place anyway.
    crowd = (np.linalg.norm(at[:, None] - at[None], axis=-1) < 3 * high).sum(axis=1)
    for i in np.argsort(crowd, kind="stable"):
        (x, y), w = at[i], wide[i]
        best, cost, away = (0.0, 0.0), np.inf, False
        for far in _FAR:
            for step, (dx, dy) in enumerate(_SIDES):
                left = x + dx * gap * far - (w / 2, 0.0, w)[dx]
                low = y + dy * gap * far - (high / 2, 0.0, high)[dy]
                box = (left, low, left + w, low + high)
                outside = max(frame.x0 - left, 0) + max(left + w - frame.x1, 0)
                covered = _overlap(box, taken) + outside * high
                found = covered + (0.01 * step + 0.08 * (far - 1)) * w * high
                if found < cost:
                    best, cost, away = (left + w / 2, low + high / 2), found, far > 1
            if cost < 0.08 * w * high:
                break
        if len(words) > MANY_WORDS and cost > 0.25 * w * high:
            left_out += 1
            continue
        half = np.array([w / 2, high / 2])
        taken = np.vstack([taken, np.hstack([best - half, best + half])])
        offset = ((best[0] - x) / dots, (best[1] - y) / dots)
        line = {"arrowstyle": "-", "color": "#aaaaaa", "lw": 0.6, "shrinkA": 0, "shrinkB": 3}
        ax.annotate(
            words[i], places[i], offset, textcoords="offset points", fontsize=size, ha="center",
            va="center", zorder=4, arrowprops=line if away else None,
        ).set_in_layout(False)  # fmt: skip
    return left_out


def _width(word: str, size: float) -> float:
    """Width in points."""
    # The font of other characters is found when they are drawn.
    ems = [_advance(c) if c.isascii() else 0.65 * cells(c) for c in word]
    return size * sum(ems) + 2


@cache
def _advance(character: str) -> float:
    """Width of an ASCII character in ems."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))
    font.set_size(100, 72)
    font.set_text(character)
    return font.get_width_height()[0] / 64 / 100 + 0.06


def _overlap(box: tuple[float, float, float, float], others: np.ndarray) -> float:
    """The area that `box` shares with the others (n, 4) together."""
    wide = np.minimum(box[2], others[:, 2]) - np.maximum(box[0], others[:, 0])
    high = np.minimum(box[3], others[:, 3]) - np.maximum(box[1], others[:, 1])
    return float((np.maximum(wide, 0) * np.maximum(high, 0)).sum())
