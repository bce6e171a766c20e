"""One style for all pictures: colours that the colour-blind can tell apart, sizes one can read.

Figures are matplotlib's (extra: tutorials). They are made without pyplot, so that none is shown,
and none is kept alive by a list of open figures; a notebook shows them as any other value.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from microgpt.errors import missing_extra
from microgpt.viz.files import write

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#5b5b5b")
"""Of curves and groups, in this order: the palette of Okabe and Ito (2008), dark ones first."""

BLUE, RED, GREY = "#2166ac", "#b2182b", "#666666"
"""Positive, negative, and what stands back."""

DIVERGING = "RdBu"
"""Colour map of weights, symmetric around 0: red negative, white nothing, blue positive."""

SEQUENTIAL = "Blues"
"""Colour map of what cannot be negative: white nothing, blue much."""

STYLE: dict[str, Any] = {
    "figure.facecolor": "white", "savefig.facecolor": "white", "axes.facecolor": "white",
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.08, "figure.constrained_layout.w_pad": 0.08,
    "font.size": 10, "axes.titlesize": 11, "axes.labelsize": 10, "figure.titlesize": 12,
    "xtick.labelsize": 9, "ytick.labelsize": 9, "legend.fontsize": 9, "legend.frameon": False,
    "axes.spines.top": False, "axes.spines.right": False,
    "axes.edgecolor": "#444444", "axes.labelcolor": "#222222", "text.color": "#222222",
    "xtick.color": "#444444", "ytick.color": "#444444",
    "grid.color": "#dddddd", "grid.linewidth": 0.7, "axes.axisbelow": True,
    "lines.linewidth": 1.8,
}  # fmt: skip

# Characters that DejaVu, which comes with matplotlib, does not have; the first that is installed.
_FALLBACK = (
    "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei",
    "PingFang SC", "Microsoft YaHei", "SimHei", "Arial Unicode MS",
)  # fmt: skip


@cache
def _matplotlib() -> tuple[Any, type[Any], list[str]]:
    """matplotlib, the class of our figures, and the fonts to use."""
    try:
        import matplotlib
    except ImportError:
        raise missing_extra("matplotlib", "tutorials", "drawing a picture") from None
    from matplotlib.figure import Figure
    from matplotlib.font_manager import fontManager

    class Picture(Figure):
        """A figure that a notebook shows although pyplot does not know it."""

        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png", dpi=110)
            return buffer.getvalue()

    installed = set(fontManager.get_font_names())
    return matplotlib, Picture, ["DejaVu Sans", *[f for f in _FALLBACK if f in installed][:1]]


@contextmanager
def styled() -> Iterator[Callable[..., Any]]:
    """A block in which matplotlib draws in our style; gives the function that makes figures."""
    matplotlib, picture, fonts = _matplotlib()
    with matplotlib.rc_context({**STYLE, "font.family": fonts}):
        yield picture


def montage(
    make: Callable[..., Any],
    images: Sequence[np.ndarray] | np.ndarray,
    captions: Sequence[str],
    *,
    columns: int | None = None,
    side: float = 1.25,
    colours: Sequence[dict[str, Any]] | dict[str, Any],
    scale: str = "",
    extend: str = "both",
    margins: tuple[float, float] = (0.0, 0.0),
    title: str = "",
) -> tuple[Any, Any, list[tuple[float, float]]]:
    """Images of one size side by side in rows, all on one axes (a hundred axes take seconds).

    Args:
        make: what `styled` gives.
        captions: written above each.
        columns: by default as many as rows, roughly.
        side: length of the longer side of an image in inches.
        colours: arguments of `imshow`, the same for all images or one each.
        scale: label of a colour bar, for the last image; without it there is none. `extend`
            says at which ends there are values beyond it.
        margins: inches kept free at the left and below.

    Returns:
        The figure, the axes, and the upper left corner of every image; its pixels are units.
    """
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    across = columns or max(int(np.ceil(np.sqrt(len(images)))), 1)
    down = max(-(-len(images) // across), 1)
    high, wide = images[0].shape[:2] if len(images) else (1, 1)
    unit = max(high, wide)
    step_x, step_y = wide + 0.09 * unit, high + 0.2 * unit
    inch = side / unit
    width = step_x * across * inch + (0.95 if scale else 0.15) + margins[0]
    height = step_y * down * inch + (0.4 if title else 0.15) + margins[1]
    figure = make(figsize=(width, height))
    ax = figure.subplots()
    ax.set_axis_off()
    corners, frames, drawn = [], [], None
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x, y = step_x * (i % across), step_y * (i // across)
        given = colours if isinstance(colours, dict) else colours[i]
        drawn = ax.imshow(image, extent=(x, x + wide, y + high, y), **given)
        corners.append((x, y))
        frames.append(Rectangle((x, y), wide, high))
        ax.text(x + wide / 2, y - 0.03 * unit, caption, ha="center", va="bottom", fontsize=8)
    # Without a frame a white corner would not be seen as part of the picture.
    ax.add_collection(
        PatchCollection(frames, facecolors="none", edgecolors="#bbbbbb", linewidths=0.6)
    )
    ax.set(
        xlim=(-0.03 * unit, step_x * across - 0.06 * unit),
        ylim=(step_y * (down - 1) + high + 0.03 * unit, -0.17 * unit),
        aspect="equal",
    )
    if scale and drawn is not None:
        shrink = min(0.85, 4.0 / height)
        bar = figure.colorbar(
            drawn, ax=ax, shrink=shrink, aspect=min(shrink * height * 8, 25), label=scale,
            extend=extend,
        )  # fmt: skip
        bar.outline.set_visible(False)
    if title:
        figure.suptitle(title)
    return figure, ax, corners


def array(values: Any) -> np.ndarray:
    """Tensors of any backend, arrays and nested lists as NumPy arrays."""
    if hasattr(values, "numpy"):
        values = values.numpy()
    elif isinstance(values, (list, tuple)) and any(hasattr(v, "numpy") for v in values):
        values = [array(v) for v in values]
    return np.asarray(values)


def shown(token: Any) -> str:
    """`token` as a label: white space is made visible, and nothing is taken for a formula.

    Example:
        >>> shown(" the"), shown(b"caf\\xc3\\xa9"), shown("$")
        ('␣the', 'café', '\\\\$')
    """
    text = token.decode("utf-8", "replace") if isinstance(token, bytes) else str(token)
    signs = {" ": "␣", "\n": "↵", "\t": "⇥", "$": r"\$"}
    return (
        "".join(
            signs.get(c) or (c if c.isprintable() else c.encode("unicode_escape").decode())
            for c in text
        )
        or "∅"
    )


def limit(values: np.ndarray, percentile: float = 99.0) -> float:
    """The end of a colour scale: a single large value would bleach all the others.

    Example:
        >>> limit(np.array([0.0, -2.0, 2.0]))
        2.0
    """
    size = np.abs(values[np.isfinite(values)])
    if not size.size:
        return 1.0
    return float(np.percentile(size, percentile)) or float(size.max()) or 1.0


def dark(share: float) -> bool:
    """Whether text on this share of a colour scale should be white."""
    return share > 0.55


def save(figure: Any, path: str | os.PathLike[str], *, dpi: int = 150) -> Path:
    """Write a figure to `path` (.png, .svg, .pdf, …), whole or not at all; folders are made.

    Args:
        figure: a figure of this package or any other of matplotlib.
        dpi: dots per inch, for formats that have dots.

    Returns:
        The path.

    Example:
        >>> import tempfile
        >>> import microgpt as mg
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = mg.viz.save(mg.viz.cost_curve({"cost": [3.0, 2.0]}), f"{folder}/cost.png")
        ...     path.stat().st_size > 1000
        True
    """
    kind = Path(path).suffix.lstrip(".") or "png"
    return write(path, lambda file: figure.savefig(file, dpi=dpi, format=kind))


def readable(labels: Sequence[str], room: float) -> tuple[range, float, bool]:
    """Which of the labels of places 0, 1, … can be shown, at what size, and whether upright.

    Args:
        room: points from one place to the next.

    Example:
        >>> readable(["a", "b", "c"], 10.0)
        (range(0, 3), 9.0, False)
        >>> readable(["a", "b", "c"], 4.0)
        (range(0, 3, 2), 7.2, False)
    """
    every = max(int(np.ceil(5.5 / (0.9 * room))), 1)
    size = min(0.9 * room * every, 9.0)
    longest = max((len(label) for label in labels[::every]), default=0)
    return range(0, len(labels), every), size, longest * 0.62 * size > room * every
