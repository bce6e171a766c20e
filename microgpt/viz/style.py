"""One style for all pictures: colours that the colour-blind can tell apart, sizes one can read.

Figures are matplotlib's (extra: tutorials). They are made without pyplot, so that none is shown,
and none is kept alive by a list of open figures; a notebook shows them as any other value.
"""

from __future__ import annotations

import io
import os
import re
import unicodedata
import warnings
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

ODD = "#f0e442"
"""Yellow, which is in none of the colour maps: what is NaN or infinite."""

LONGEST = 20
"""Places of a label; a wide character, such as 猫, takes two."""

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

MONO = "DejaVu Sans Mono"
"""Of texts whose characters stand in columns."""

ADVANCE = 0.602
"""From one character of `MONO` to the next, in ems."""

# Characters that DejaVu, which comes with matplotlib, does not have: all of these that there are.
_FALLBACK = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR",
    "Source Han Sans SC", "Source Han Sans JP", "PingFang SC", "Hiragino Sans",
    "Apple SD Gothic Neo", "Microsoft YaHei", "Yu Gothic", "MS Gothic", "Malgun Gothic", "SimHei",
    "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "IPAexGothic", "IPAGothic", "NanumGothic",
    "Droid Sans Fallback", "Arial Unicode MS", "Noto Emoji", "Symbola",
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

        _told = False

        def draw(self, renderer: Any) -> None:
            # Hinting changes the widths of characters: a line would outgrow what is behind it.
            unhinted = matplotlib.rc_context({"text.hinting": "none"})
            with unhinted, warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                super().draw(renderer)
            missing = ""
            for warning in caught:
                glyph = re.match(r"Glyph (\d+) .*missing from", str(warning.message))
                if glyph is None:
                    warnings.warn_explicit(
                        warning.message, warning.category, warning.filename, warning.lineno
                    )
                elif chr(int(glyph[1])) not in missing:
                    missing += chr(int(glyph[1]))
            if missing and not self._told:
                self._told = True  # a figure is drawn more than once
                warnings.warn(
                    f"no installed font has the characters {missing}; boxes stand for them. "
                    f"Install one, such as Noto Sans CJK, and delete the list of fonts in "
                    f"{matplotlib.get_cachedir()}",
                    stacklevel=2,
                )

        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png", dpi=110)
            return buffer.getvalue()

    return matplotlib, Picture, ["DejaVu Sans", *fallback(fontManager.get_font_names())]


def fallback(installed: Sequence[str]) -> list[str]:
    """The installed fonts that have what DejaVu lacks.

    Example:
        >>> fallback(["Serif", "IPAGothic", "Noto Sans CJK SC"])
        ['Noto Sans CJK SC', 'IPAGothic']
    """
    return [font for font in _FALLBACK if font in installed]


@contextmanager
def styled() -> Iterator[Callable[..., Any]]:
    """A block in which matplotlib draws in our style; gives the function that makes figures."""
    matplotlib, picture, fonts = _matplotlib()
    with matplotlib.rc_context({**STYLE, "font.family": fonts}):
        yield picture


def array(values: Any) -> np.ndarray:
    """Tensors of any backend, arrays and nested lists as NumPy arrays."""
    if hasattr(values, "numpy"):
        values = values.numpy()
    elif isinstance(values, (list, tuple)) and any(hasattr(v, "numpy") for v in values):
        values = [array(v) for v in values]
    return np.asarray(values)


def shown(token: Any, *, space: str = "␣", most: int = LONGEST) -> str:
    """`token` as a label: short, white space made visible, nothing taken for a formula.

    Args:
        space: what is written for a space; " " for names, which are no tokens.
        most: places of the longest label; of a longer one the end is cut off.

    Example:
        >>> shown(" the"), shown(b"caf\\xc3\\xa9"), shown("$"), shown("two words", space=" ")
        ('␣the', 'café', '\\\\$', 'two words')
        >>> shown("x" * 200)
        'xxxxxxxxxxxxxxxxxxx…'
    """
    text = token.decode("utf-8", "replace") if isinstance(token, bytes) else str(token)
    signs = {" ": space, "\n": "↵", "\t": "⇥"}
    # What is cut off anyway is not looked at: a token may be a whole file.
    text = "".join(signs.get(c) or plain(c) for c in text[: 8 * most])
    if cells(text) > most:
        while cells(text) > most - 1:
            text = text[:-1]
        text += "…"
    return text.replace("$", r"\$") or "∅"


def plain(character: str) -> str:
    """The character, or its code if it cannot be seen."""
    if character.isprintable():
        return character
    return character.encode("unicode_escape").decode()


def cells(text: str) -> int:
    """How many places a text takes where all characters have places of one width.

    Example:
        >>> cells("cat"), cells("猫"), cells("e\\u0301")
        (3, 2, 1)
    """
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(unicodedata.combining(c) > 0 for c in text)


def noted(title: str, *images: np.ndarray) -> str:
    """The title, and under it what yellow means if it occurs in one of the images."""
    if all(np.isfinite(image).all() for image in images):
        return title
    return f"{title}\nyellow: NaN or infinite".lstrip("\n")


def colour_map(name: str) -> Any:
    """A colour map that marks what is not finite."""
    from matplotlib import colormaps

    return colormaps[name].with_extremes(bad=ODD)


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
    longest = max((cells(label) for label in labels[::every]), default=0)
    return range(0, len(labels), every), size, (longest * 0.62 + 0.4) * size > room * every
