"""Next-token probabilities as bars, and texts coloured by how expected each token was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from microgpt.errors import InputError, ShapeError
from microgpt.viz.style import COLOURS, SEQUENTIAL, array, dark, shown, styled


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
        InputError: if these are no probabilities (logits, for example).

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
            ax.text(value, y, f" {_percent(value)}", va="center", fontsize=9)
        ax.set_yticks(places, names, fontsize=10)
        ax.invert_yaxis()
        ax.set_xlim(0, max(values) * 1.15)
        ax.xaxis.set_visible(False)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
        if title:
            ax.set_title(title)
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
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['to', ' be', ' or']
    """
    p = array(probabilities).astype(float)
    if p.shape != (len(tokens),) or not len(p):
        raise ShapeError(
            f"shaded_text: probabilities of shape {p.shape} for {len(tokens)} tokens; required: "
            "one each"
        )
    _check(p[~np.isnan(p)], "shaded_text")
    pieces, lines = _wrapped(tokens, columns)
    from matplotlib import colormaps
    from matplotlib.patches import Rectangle

    size, wide, high = 10, 0.602, 1.75  # the advance of DejaVu Sans Mono, and lines, in ems
    em = size / 72
    with styled() as make:
        figure = make(
            figsize=(columns * wide * em + 0.3, lines * high * em + (1.25 if title else 1))
        )
        ax = figure.subplots()
        ax.set(xlim=(0, columns), ylim=(lines - 0.5, -0.5))
        ax.set_axis_off()
        scale = colormaps[SEQUENTIAL]
        for i, line, column, text in pieces:
            bits = 0.0 if np.isnan(p[i]) else -float(np.log2(max(p[i], 1e-30)))
            share = min(bits / 8.0, 1.0) * 0.85
            if text.strip("\n"):
                ax.add_patch(
                    Rectangle((column, line - 0.42), len(text), 0.84, color=scale(share), lw=0)
                )
            ax.text(
                column, line, text.replace("$", r"\$"), family="DejaVu Sans Mono", fontsize=size,
                va="center_baseline", color="white" if dark(share) else "#222222",
            )  # fmt: skip
        norm = figure.colorbar(
            _mappable(scale), ax=ax, orientation="horizontal", shrink=0.4, aspect=30, pad=0.02,
            label="surprise in bits",
        )  # fmt: skip
        norm.outline.set_visible(False)
        if title:
            ax.set_title(title)
        return figure


def _mappable(scale: Any) -> Any:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    shades = ListedColormap([scale(0.85 * i / 63) for i in range(64)])
    return ScalarMappable(Normalize(0, 8), shades)


def _wrapped(tokens: Sequence[Any], columns: int) -> tuple[list[tuple[int, int, int, str]], int]:
    """(token, line, column, text) of every piece, and the number of lines."""
    pieces: list[tuple[int, int, int, str]] = []
    line = column = 0
    for i, token in enumerate(tokens):
        text = token.decode("utf-8", "replace") if isinstance(token, bytes) else str(token)
        for k, part in enumerate(text.replace("\t", "    ").split("\n")):
            if k:
                line, column = line + 1, 0
            if column and column + len(part) > columns:
                line, column = line + 1, 0
            for start in range(0, len(part), columns):
                if start:
                    line, column = line + 1, 0
                piece = part[start : start + columns]
                pieces.append((i, line, column, piece))
                column += len(piece)
    return pieces, line + 1


def _check(p: np.ndarray, what: str) -> None:
    if len(p) and not (p.min() >= 0 and p.max() <= 1 + 1e-6):
        raise InputError(
            f"{what}: values from {p.min():.4g} to {p.max():.4g}; required: probabilities, from 0 "
            "to 1 (of logits take the softmax first)"
        )


def _percent(value: float) -> str:
    return f"{value:.1%}" if value >= 0.001 else f"{value:.2%}" if value >= 1e-4 else "< 0.01%"
