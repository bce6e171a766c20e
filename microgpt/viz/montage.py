"""Images of one size side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from microgpt.viz.style import colour_map, noted

MANY = 64
"""More images than so many are drawn as a single one: each by itself takes milliseconds."""

WIDEST = 16.0
"""Inches of a row, as long as its images do not become smaller than `LEAST`."""

LEAST = 0.6


def fitting(side: float, across: int) -> float:
    """The longer side of an image of which so many stand in a row, in inches: at most `side`."""
    return min(side, max(WIDEST / (1.1 * across), LEAST))


def montage(
    make: Callable[..., Any],
    images: Sequence[np.ndarray] | np.ndarray,
    captions: Sequence[str],
    *,
    columns: int | None = None,
    side: float = 1.25,
    colours: dict[str, Any],
    first: dict[str, Any] | None = None,
    scale: str = "",
    extend: str = "both",
    margins: tuple[float, float] = (0.0, 0.0),
    title: str = "",
) -> tuple[Any, Any, list[tuple[float, float]]]:
    """Images side by side in rows, all on one axes (a hundred axes take seconds).

    Args:
        make: what `styled` gives.
        captions: written above each.
        columns: by default as many as rows, roughly.
        side: length of the longer side of an image in inches, at most; see `fitting`.
        colours: cmap, vmin and vmax of the images. What is not finite is yellow.
        first: those of the first image, if they are others; it is scaled to the size of the second.
        scale: label of a colour bar; without it there is none. `extend` says at which ends there
            are values beyond it.
        margins: inches kept free at the left and below.

    Returns:
        The figure, the axes, and the upper left corner of every image; its pixels are units.
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import PatchCollection
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    across = columns or max(int(np.ceil(np.sqrt(len(images)))), 1)
    down = max(-(-len(images) // across), 1)
    high, wide = images[-1].shape[:2] if len(images) else (1, 1)
    unit = max(high, wide)
    tiled = len(images) > MANY and first is None
    step_x, step_y = wide + 0.09 * unit, high + 0.2 * unit
    if tiled:  # whole pixels
        step_x, step_y = int(np.ceil(step_x)), int(np.ceil(step_y))
    inch = fitting(side, across) / unit
    title = noted(title, *images)
    above = 0.2 + 0.2 * len(title.splitlines()) if title else 0.15
    width = step_x * across * inch + (0.95 if scale else 0.15) + margins[0]
    width = max(width, 0.1 * max(map(len, title.splitlines()), default=0) + 0.3)
    height = step_y * down * inch + above + margins[1]
    figure = make(figsize=(width, height))
    ax = figure.subplots()
    ax.set_axis_off()
    places = [(step_x * (i % across), step_y * (i // across)) for i in range(len(images))]
    norm = Normalize(colours["vmin"], colours["vmax"])
    mapped = ScalarMappable(norm, colour_map(colours["cmap"]))
    if tiled:
        extent = int(step_y * (down - 1) + high), int(step_x * (across - 1) + wide)
        whole = np.zeros((*extent, 4), np.uint8)
        for image, (x, y) in zip(images, places, strict=True):
            shades = mapped.to_rgba(np.ma.masked_invalid(image), bytes=True)
            whole[int(y) : int(y) + high, int(x) : int(x) + wide] = shades
        ax.imshow(whole, extent=(0, extent[1], extent[0], 0))
    else:
        for i, (image, (x, y)) in enumerate(zip(images, places, strict=True)):
            given = first if first is not None and i == 0 else colours
            given = {**given, "cmap": colour_map(given["cmap"])}
            ax.imshow(image, extent=(x, x + wide, y + high, y), **given)
    size = min(8.0, 72 * inch * step_x / (0.62 * max(map(len, captions), default=1)))
    for caption, (x, y) in zip(captions, places, strict=True):
        ax.text(
            x + wide / 2, y - 0.03 * unit, caption, ha="center", va="bottom", fontsize=size
        ).set_in_layout(False)  # there is room for it, and measuring all of them takes long
    # Without a frame a white corner would not be seen as part of the picture.
    frames = [Rectangle(place, wide, high) for place in places]
    ax.add_collection(
        PatchCollection(frames, facecolors="none", edgecolors="#bbbbbb", linewidths=0.6)
    )
    ax.set(
        xlim=(-0.03 * unit, step_x * (across - 1) + wide + 0.03 * unit),
        ylim=(step_y * (down - 1) + high + 0.03 * unit, -0.17 * unit),
        aspect="equal",
    )
    if scale:
        shrink = min(0.85, 4.0 / height)
        bar = figure.colorbar(
            mapped, ax=ax, shrink=shrink, aspect=min(shrink * height * 8, 25), label=scale,
            extend=extend,
        )  # fmt: skip
        bar.outline.set_visible(False)
    if title:
        figure.suptitle(title)
    return figure, ax, places
