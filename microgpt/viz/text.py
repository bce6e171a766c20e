"""Next-token probabilities as bars, and texts coloured by how expected each token was."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from microgpt.errors import InputError, ShapeError
from microgpt.viz.style import (
    ADVANCE,
    COLOURS,
    MONO,
    SEQUENTIAL,
    array,
    cells,
    dark,
    plain,
    shown,
    styled,
)  # fmt: skip


@cache
def _places(character: str) -> int:
    """How many places a character takes in a line of `MONO`, or of what stands in for it."""
    from matplotlib.font_manager import findfont, get_font

    if not cells(character) or get_font(findfont(MONO)).get_char_index(ord(character)):
        return cells(character)
    return 2


def _wide(text: str) -> int:
    return len(text) if text.isascii() else sum(map(_places, text))


class _Piece(NamedTuple):
    """A token, or the part of it that is on one line."""

    token: int
    line: int
    column: int
    width: int
    text: str


def token_probabilities(
    probabilities: Any,
    tokens: Sequence[Any],
    *,
    top: int = 10,
    chosen: Any = None,
    title: str = "",
) -> Any:
    """The `top` most probable tokens as bars, and one bar for all others together.

    Args:
        probabilities: (tokens,), not negative, with the sum 1.
        tokens: their texts; white space is made visible.
        chosen: the number of the token that was drawn; it is marked, and shown in any case.

    Returns:
        A matplotlib figure.

    Raises:
        ShapeError: if there are not as many tokens as probabilities.
        InputError: if these are no probabilities (logits, for example), or `chosen` is no token.

    Example:
        >>> import microgpt as mg
        >>> figure = mg.viz.token_probabilities([0.1, 0.6, 0.3], ["a", " b", "c"], top=2)
        >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
        ['␣b', 'c', '1 other']
    """
    p = array(probabilities).astype(float)
    if p.ndim != 1 or len(p) != len(tokens) or not len(p):
        hint = "; choose one position: probabilities[-1]" if p.ndim > 1 else ""
        raise ShapeError(
            f"token_probabilities: shape {p.shape} for {len(tokens)} tokens; required: one "
            f"probability for each{hint}"
        )
    _check(p, "token_probabilities")
    if abs(p.sum() - 1) > 1e-3:
        raise InputError(
            f"token_probabilities: the sum is {p.sum():.4g}; required: 1 (of logits take the "
            "softmax first)"
        )
    if chosen is not None and not 0 <= int(chosen) < len(p):
        raise InputError(
            f"token_probabilities: chosen is {chosen}; required: a number from 0 to {len(p) - 1}"
        )
    order = list(np.argsort(-p, kind="stable")[: max(top, 1)])
    if chosen is not None and chosen not in order:
        order = [*order[:-1], int(chosen)] if len(order) > 1 else [int(chosen)]
    rest = len(p) - len(order)
    values = [float(p[i]) for i in order]
    names = [shown(tokens[i]) for i in order]
    colours = [COLOURS[1] if i == chosen else COLOURS[0] for i in order]
    if rest:
        values.append(max(1.0 - sum(values), 0.0))
        names.append("1 other" if rest == 1 else f"{rest:,} others")
        colours.append("#c8c8c8")
    with styled() as make:
        figure = make(figsize=(5.5, 0.7 + 0.3 * len(values)))
        ax = figure.subplots()
        places = range(len(values))
        ax.barh(places, values, color=colours, height=0.72)
        for y, value in zip(places, values, strict=True):
            mark = "  chosen" if y < len(order) and order[y] == chosen else ""
            ax.text(value, y, f" {_percent(value)}{mark}", va="center", fontsize=9)
        ax.set_yticks(places, names, fontsize=10)
        ax.invert_yaxis()
        ax.set_xlim(0, max(values) * (1.15 if chosen is None else 1.3))
        ax.xaxis.set_visible(False)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
        if title:
            ax.set_title(title, wrap=True)
        return figure


def shaded_text(
    tokens: Sequence[Any], probabilities: Any, *, columns: int = 72, title: str = ""
) -> Any:
    """A text in which each token is the darker, the less the model expected it.

    The shade is the surprise -log₂ p in bits: white for a certain token, dark for 8 bits (one in
    256) and more.

    Args:
        tokens: texts in their order; a line break in them starts a new line.
        probabilities: (tokens,), what the model gave each of them, given those before. NaN for
            a first token of which there is no prediction.
        columns: characters of a line.

    Returns:
        A matplotlib figure.

    Raises:
        ShapeError: if there are not as many probabilities as tokens.
        InputError: if these are no probabilities.

    Example:
        >>> import microgpt as mg
        >>> figure = mg.viz.shaded_text(["to", " be", " or"], [0.01, 0.9, 0.5])
        >>> [text.get_text() for text in figure.axes[0].texts]  # white on dark, black on light
        ['to', ' be or']
    """
    p = array(probabilities).astype(float)
    if p.shape != (len(tokens),) or not len(p):
        raise ShapeError(
            f"shaded_text: probabilities of shape {p.shape} for {len(tokens)} tokens; required: "
            "one each"
        )
    _check(p[~np.isnan(p)], "shaded_text")
    if columns < 2:
        raise InputError(f"shaded_text: columns must be at least 2; got {columns}")
    from matplotlib import colormaps

    bits = np.where(np.isnan(p), 0.0, -np.log2(np.maximum(np.nan_to_num(p, nan=1.0), 1e-30)))
    shares = np.minimum(bits / 8.0, 1.0) * 0.85
    pieces, lines = _wrapped(tokens, columns)
    size, high = 10, 1.75  # points, and a line in ems
    em = size / 72
    # In inches: the text has a size of its own, so the axes must be just as large.
    wide, tall, side, below = columns * ADVANCE * em, lines * high * em, 0.15, 0.75
    above = 0.15 + 0.25 * len(title.splitlines())
    with styled() as make:
        figure = make(figsize=(wide + 2 * side, tall + above + below), layout="none")
        across, up = figure.get_size_inches()
        ax = figure.add_axes((side / across, below / up, wide / across, tall / up))
        ax.set(xlim=(0, columns), ylim=(lines - 0.5, -0.5))
        ax.set_axis_off()
        scale = colormaps[SEQUENTIAL]
        _draw_pieces(ax, pieces, shares, size)
        key = figure.add_axes((0.3, 0.5 / up, 0.4, 0.1 / up))
        bar = figure.colorbar(
            _mappable(scale), cax=key, orientation="horizontal", label="surprise in bits"
        )
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)
        if title:
            ax.set_title(title, wrap=True)
        return figure


def _draw_pieces(ax: Any, pieces: Sequence[_Piece], shares: np.ndarray, size: float) -> None:
    from matplotlib import colormaps, rcParams
    from matplotlib.collections import PolyCollection

    boxes = [
        [(x, line - 0.42), (x + w, line - 0.42), (x + w, line + 0.42), (x, line + 0.42)]
        for _, line, x, w, _ in pieces
    ]
    shades = colormaps[SEQUENTIAL](shares[[piece.token for piece in pieces]])
    ax.add_collection(PolyCollection(boxes, facecolors=shades, linewidths=0))
    # One text for all pieces of a line in one colour, spaces between them: a text for each piece
    # takes milliseconds. Where a place has not the width of a character, another text begins.
    rows: dict[tuple[int, bool], list[tuple[int, str]]] = {}
    for piece in pieces:
        runs = rows.setdefault((piece.line, dark(shares[piece.token])), [])
        x, before = runs[-1] if runs else (0, "…")
        if (before + piece.text).isascii():
            runs[-1] = (x, before.ljust(piece.column - x) + piece.text)
        else:
            runs.append((piece.column, piece.text))
    family = [MONO, *rcParams["font.family"]]
    for (line, white), runs in rows.items():
        for x, text in runs:
            if text.strip():
                ax.text(
                    x, line, text.replace("$", r"\$"), family=family, fontsize=size,
                    va="center_baseline", color="white" if white else "#222222",
                )  # fmt: skip


def _mappable(scale: Any) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    shades = ListedColormap([scale(0.85 * i / 63) for i in range(64)])
    return ScalarMappable(Normalize(0, 8), shades)


def _wrapped(tokens: Sequence[Any], columns: int) -> tuple[list[_Piece], int]:
    """The pieces of all tokens, each on one line, and the number of lines."""
    pieces: list[_Piece] = []
    line = column = 0
    for i, token in enumerate(tokens):
        text = token.decode("utf-8", "replace") if isinstance(token, bytes) else str(token)
        for k, part in enumerate(text.replace("\t", "    ").split("\n")):
            if k:
                line, column = line + 1, 0
            part = "".join(map(plain, part))
            if column and column + _wide(part) > columns:
                line, column = line + 1, 0
            for k, piece in enumerate(_broken(part, columns)):
                line, column = (line + 1, 0) if k else (line, column)
                pieces.append(_Piece(i, line, column, _wide(piece), piece))
                column += _wide(piece)
    return pieces, line + 1


def _broken(part: str, columns: int) -> list[str]:
    """Pieces of at most so many places."""
    pieces: list[str] = [""] if part else []
    room = columns
    for character in part:
        width = _places(character)
        if width > room:
            pieces.append("")
            room = columns
        pieces[-1] += character
        room -= width
    return pieces


def _check(p: np.ndarray, what: str) -> None:
    if len(p) and not (p.min() >= 0 and p.max() <= 1 + 1e-6):
        raise InputError(
            f"{what}: values from {p.min():.4g} to {p.max():.4g}; required: probabilities, from 0 "
            "to 1 (of logits take the softmax first)"
        )


def _percent(value: float) -> str:
    return f"{value:.1%}" if value >= 0.001 else f"{value:.2%}" if value >= 1e-4 else "< 0.01%"
