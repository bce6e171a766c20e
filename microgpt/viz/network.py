"""Activations that flow through an MLP: its neurons as circles, its weights as lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from microgpt.errors import InputError, ShapeError
from microgpt.viz.flow import Column, flow
from microgpt.viz.style import (
    DIVERGING,
    GREY,
    ODD,
    array,
    cells,
    colour_map,
    dark,
    limit,
    shown,
    styled,
)

RADIUS = 0.4
"""Of a neuron; the neurons of the fullest column are 1 apart."""

LEAST_TALL = 8.0
"""Neurons are not drawn larger than in a column of so many."""

DOTS = 1.6
"""How many neurons' room the three dots take."""

STRONGEST = 1200
"""Lines drawn between two layers at most: those of the largest weights."""


@dataclass
class _Layer:
    """One column of the picture: which neurons are shown, where, and how dark."""

    column: Column
    kept: list[int]
    x: float = 0.0
    heights: Sequence[float] = ()
    shades: Sequence[float] = ()

    @property
    def whole(self) -> bool:
        return len(self.kept) == len(self.column.values)

    @property
    def finite(self) -> bool:
        weights = self.column.weights
        return bool(
            np.isfinite(self.column.values).all()
            and (weights is None or np.isfinite(weights).all())
        )

    @property
    def span(self) -> float:
        return len(self.kept) + (0.0 if self.whole else DOTS)


def mlp_flow(
    model: Any,
    x: Any,
    *,
    shape: tuple[int, int] | None = None,
    labels: Sequence[Any] | None = None,
    most: int = 16,
    title: str = "",
) -> Any:
    """One input on its way through an MLP, from left to right.

    Each column is a layer, each circle a neuron, the darker the more active; the number in it is
    its activation. Lines are weights: blue ones add, red ones subtract, strong ones are thick. Of
    columns with more than `most` neurons only the most active are shown. If the model ends
    without squashing its output (logits), the last column shows their softmax. Neurons that are
    NaN or infinite are hatched in yellow, and such weights dotted.

    Args:
        model: a `models.MLP`, or a `Sequential` of Linear layers and activations.
        x: one input, of any shape with as many elements as the model has inputs.
        shape: (height, width) if the input is an image, which is then drawn beside; by default
            that of a two-dimensional `x`, or a square from 5×5 up.
        labels: names of the outputs; by default their numbers.
        most: at least 2.

    Returns:
        A matplotlib figure.

    Raises:
        InputTypeError: if the model is of another kind.
        ShapeError: if the input, its shape or the labels do not fit.

    Example:
        >>> import microgpt as mg
        >>> model = mg.models.MLP((784, 16, 16, 10))
        >>> figure = mg.viz.mlp_flow(model, mg.zeros((28, 28)))
        >>> [text.get_text() for text in figure.axes[0].texts][:4]
        ['16 of 784 inputs', '16 neurons', '16 neurons', '10 outputs']
    """
    if most < 2:
        raise InputError(f"mlp_flow: most must be at least 2; got {most}")
    columns, softmaxed = flow(model, x)
    names = _names(labels, len(columns[-1].values))
    image = _image(columns[0].values, shape, array(x).shape)
    layers = [_Layer(column, _chosen(column.values, most)) for column in columns]
    tall = max(LEAST_TALL, *(layer.span for layer in layers))
    start = 0.62 * tall if image is not None else 0.0
    for i, layer in enumerate(layers):
        layer.x = start + 0.45 * tall * i
        layer.heights = _heights(layer, tall)
        layer.shades = _shades(layer, softmaxed and i == len(layers) - 1)
    with styled() as make:
        figure = make(figsize=(2.6 * len(layers) + (2.6 if image is not None else 0.6), 6.2))
        ax = figure.subplots()
        ax.set_axis_off()
        for i, layer in enumerate(layers):
            what = "inputs" if i == 0 else "outputs" if i == len(layers) - 1 else "neurons"
            some = "" if layer.whole else f"{len(layer.kept)} of "
            caption = f"{some}{len(layer.column.values):,} {what}"
            ax.text(layer.x, tall + 0.5, caption, ha="center", va="top", color=GREY)
        for before, layer in pairwise(layers):
            _draw_weights(ax, before, layer)
        for i, layer in enumerate(layers):
            _draw_neurons(ax, layer, numbers=i > 0)
        _draw_names(ax, layers[-1], names)
        if image is not None:
            _draw_image(ax, image, tall, layers[0].x)
        ax.set_aspect("equal")
        if not all(layer.finite for layer in layers):
            note = "yellow circle, dotted line: NaN or infinite"
            ax.text(layers[0].x - RADIUS, tall + 1.3, note, va="top", color=GREY)
        longest = max(cells(names[n]) for n in layers[-1].kept)
        right = layers[-1].x + max(1.4 + 0.36 * longest, 2.0)
        ax.set(xlim=(-0.6, right), ylim=(tall + 2.0, -1.2))
        ax.set_title(title, wrap=True)
        return figure


def _names(labels: Sequence[Any] | None, count: int) -> list[str]:
    if labels is not None and len(labels) != count:
        raise ShapeError(f"mlp_flow: {len(labels)} labels for {count} outputs; required: as many")
    return [shown(name, space=" ") for name in (range(count) if labels is None else labels)]


def _image(
    values: np.ndarray, shape: tuple[int, int] | None, given: tuple[int, ...]
) -> np.ndarray | None:
    side = round(len(values) ** 0.5)
    if shape is None and len(given) == 2 and min(given) > 1:
        shape = given
    elif shape is None and side >= 5 and side * side == len(values):
        shape = (side, side)
    if shape is None:
        return None
    if shape[0] * shape[1] != len(values):
        raise ShapeError(
            f"mlp_flow: {len(values)} inputs are no image of shape {shape}; required: height · "
            "width = inputs"
        )
    return values.reshape(shape)


# ---- placing -----------------------------------------------------------------------------------


def _chosen(values: np.ndarray, most: int) -> list[int]:
    """The neurons that are shown, in their order."""
    if len(values) <= most:
        return list(range(len(values)))
    # What is not finite is what one looks for.
    finite = np.isfinite(values)
    size = np.where(finite, np.abs(values), 2 * np.max(np.abs(values), where=finite, initial=0.5))
    active = np.flatnonzero(size > 0.5 * size.max())
    if len(active) >= most:  # of the many bright pixels of an image some from everywhere
        chosen = active[np.linspace(0, len(active) - 1, most).round().astype(int)]
    else:
        chosen = np.sort(np.argsort(-size, kind="stable")[:most])
    return [int(n) for n in chosen]


def _heights(layer: _Layer, tall: float) -> list[float]:
    """Heights of circles at distance 1, or more where there is room, in the middle."""
    step = min(tall / layer.span, 1.6)
    top = (tall - layer.span * step) / 2 + step / 2 - 0.5
    half = len(layer.kept) // 2
    dots = 0.0 if layer.whole else DOTS
    return [top + step * (i if i < half else i + dots) for i in range(len(layer.kept))]


def _shades(layer: _Layer, probabilities: bool) -> list[float]:
    """0 to 1: activations up to 1 as they are, others relative to the largest of the layer."""
    values = layer.column.values
    size = np.where(np.isfinite(values), np.abs(values), 0.0)
    if not probabilities and size.max() > 1:
        size = size / size.max()
    return [float(size[n]) for n in layer.kept]


# ---- drawing -----------------------------------------------------------------------------------


def _draw_weights(ax: Any, before: _Layer, layer: _Layer) -> None:
    from matplotlib import colormaps
    from matplotlib.collections import LineCollection

    weights: Any = layer.column.weights
    chosen = weights[np.ix_(layer.kept, before.kept)]
    odd = ~np.isfinite(chosen)
    size = np.where(odd, np.inf, np.abs(chosen))
    strength = np.clip(size / limit(chosen), 0, 1)
    order = np.argsort(size, axis=None, kind="stable")[-STRONGEST:]  # strong ones on top
    lines, colours, widths, styles = [], [], [], []
    for to, start in zip(*np.unravel_index(order, chosen.shape), strict=True):
        s = float(strength[to, start])
        place = 0.5 + (0.2 + 0.25 * s) * (1 if chosen[to, start] > 0 else -1)
        lines.append(
            [(before.x + RADIUS, before.heights[start]), (layer.x - RADIUS, layer.heights[to])]
        )
        colour = (0.0, 0.0, 0.0) if odd[to, start] else colormaps[DIVERGING](place)[:3]
        colours.append((*colour, 0.12 + 0.8 * s))
        widths.append(0.3 + 1.5 * s)
        styles.append(":" if odd[to, start] else "-")
    ax.add_collection(
        LineCollection(lines, colors=colours, linewidths=widths, linestyles=styles, zorder=1)
    )


def _draw_neurons(ax: Any, layer: _Layer, *, numbers: bool) -> None:
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Circle

    circles = [Circle((layer.x, y), RADIUS) for y in layer.heights]
    finite = np.isfinite(layer.column.values[layer.kept])
    colours = [
        str(1 - 0.92 * shade) if f else ODD for f, shade in zip(finite, layer.shades, strict=True)
    ]
    edge = {"edgecolors": "#444444", "linewidths": 0.9}
    ax.add_collection(PatchCollection(circles, facecolors=colours, **edge, zorder=2))
    hatched = [circle for circle, f in zip(circles, finite, strict=True) if not f]
    if hatched:
        ax.add_collection(
            PatchCollection(hatched, facecolors="none", hatch="////", **edge, zorder=2)
        )
    if not layer.whole:
        half = len(layer.kept) // 2
        middle = (layer.heights[half - 1] + layer.heights[half]) / 2
        heights = [middle - 0.45, middle, middle + 0.45]
        ax.plot([layer.x] * 3, heights, "o", color=GREY, markersize=3)
    if numbers:
        for y, n, shade in zip(layer.heights, layer.kept, layer.shades, strict=True):
            # Not on the hatching.
            back = (
                None
                if np.isfinite(layer.column.values[n])
                else {"fc": ODD, "ec": "none", "pad": 0.6}
            )
            ax.text(
                layer.x, y, _short(float(layer.column.values[n])), ha="center", va="center",
                fontsize=6.5, zorder=3, bbox=back,
                color="white" if dark(0.92 * shade) else "#222222",
            )  # fmt: skip


def _short(value: float) -> str:
    """Two places, as few characters as a circle has room for."""
    if not np.isfinite(value):
        return "NaN" if np.isnan(value) else "∞" if value > 0 else "−∞"
    if abs(value) >= 9_999.5:
        return f"{value:.0e}".replace("e+0", "e").replace("e+", "e").replace("-", "−")
    text = f"{value:.2f}" if abs(value) < 9.95 else f"{value:.0f}"
    return text.replace("0.", ".", 1).replace("-", "−") if abs(value) < 0.995 else text


def _draw_names(ax: Any, layer: _Layer, names: list[str]) -> None:
    values = layer.column.values
    best = int(values.argmax()) if np.isfinite(values).all() else None
    for y, n in zip(layer.heights, layer.kept, strict=True):
        style = {"fontsize": 14, "fontweight": "bold"} if n == best else {"color": GREY}
        ax.text(layer.x + 0.75, y, names[n], ha="left", va="center", **{"fontsize": 11, **style})


def _draw_image(ax: Any, image: np.ndarray, tall: float, right: float) -> None:
    from matplotlib.patches import Rectangle

    high, wide = np.array(image.shape) / max(image.shape) * 0.36 * tall
    middle = tall / 2 - 0.5
    top = middle - high / 2
    box = (0.0, wide, top + high, top)
    # As in the circles, dark is active.
    ax.imshow(image, cmap=colour_map("gray_r"), extent=box, zorder=2, interpolation="nearest")
    ax.add_patch(
        Rectangle((0, top), wide, high, fill=False, edgecolor="#bbbbbb", linewidth=0.8, zorder=3)
    )
    ax.annotate(
        "", (right - 0.9, middle), (wide + 0.4, middle),
        arrowprops={"arrowstyle": "->", "color": GREY, "lw": 1.4},
    )  # fmt: skip
