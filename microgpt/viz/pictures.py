"""matplotlib figures of what a network learned. They are returned, not shown (extra: tutorials)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from microgpt.errors import ShapeError, missing_extra

BLUE, RED, GREY = "#2166ac", "#b2182b", "#666666"
"""The two ends of the diverging scale, apart for the colour-blind too."""


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError:
        raise missing_extra("matplotlib", "tutorials", "drawing a picture") from None
    if matplotlib.get_backend().lower() not in ("agg", "svg", "pdf"):
        matplotlib.use("agg")
    import matplotlib.pyplot as plt

    return plt


def _array(values: Any) -> np.ndarray:
    return np.asarray(values.numpy() if hasattr(values, "numpy") else values)


def first_layer(weights: Any, shape: tuple[int, int], *, title: str = "") -> Any:
    """Each row of a weight matrix as a picture of what its neuron looks for.

    Blue is positive, red negative, white nothing; one scale, symmetric around 0, for all rows.

    Args:
        weights: (neurons, pixels).
        shape: (height, width) of the pictures, height · width = pixels.

    Returns:
        A matplotlib figure.

    Raises:
        ShapeError: if the pixels do not make up a picture of that shape.
    """
    rows = _array(weights)
    if rows.ndim != 2 or rows.shape[1] != shape[0] * shape[1]:
        raise ShapeError(
            f"first_layer: weights of shape {rows.shape}; required: (neurons, pixels) with "
            f"{shape[0]}·{shape[1]} pixels"
        )
    plt = _pyplot()
    columns = int(np.ceil(np.sqrt(len(rows))))
    lines = int(np.ceil(len(rows) / columns))
    figure, axes = plt.subplots(
        lines, columns, figsize=(1.4 * columns + 1, 1.4 * lines + 0.5), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    # The 99th percentile: a single large weight would bleach all the others.
    limit = float(np.percentile(np.abs(rows), 99)) or 1.0
    image = None
    for ax in axes.flat:
        ax.set_axis_off()
    for i, (row, ax) in enumerate(zip(rows, axes.flat, strict=False)):
        image = ax.imshow(row.reshape(shape), cmap="RdBu", vmin=-limit, vmax=limit)
        ax.set_title(str(i), fontsize=8, color=GREY, pad=2)
    figure.colorbar(image, ax=axes, shrink=0.7, label="weight", extend="both")
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def error_gallery(
    images: Any, labels: Any, probabilities: Any, *, count: int = 25, title: str = ""
) -> Any:
    """The `count` wrongly classified images of whose label the network was least convinced.

    Args:
        images: (n, height, width), 0 black to 1 white.
        labels: (n,) the right classes.
        probabilities: (n, classes) outputs, larger is surer.

    Returns:
        A matplotlib figure; the caption of each image says "label → answer (its output)".
    """
    pictures, classes, outputs = _array(images), _array(labels), _array(probabilities)
    answers = outputs.argmax(axis=1)
    wrong = np.flatnonzero(answers != classes)
    worst = wrong[np.argsort(outputs[wrong, classes[wrong]], kind="stable")][:count]
    plt = _pyplot()
    side = max(int(np.ceil(np.sqrt(count))), 1)
    lines = max(int(np.ceil(len(worst) / side)), 1)
    figure, axes = plt.subplots(
        lines, side, figsize=(1.35 * side, 1.55 * lines + 0.4), squeeze=False, layout="constrained"
    )
    for ax in axes.flat:
        ax.set_axis_off()
    for i, ax in zip(worst, axes.flat, strict=False):
        ax.imshow(pictures[i], cmap="gray", vmin=0, vmax=1)
        caption = f"{classes[i]} → {answers[i]}  ({outputs[i, answers[i]]:.2f})"
        ax.set_title(caption, fontsize=8, pad=2)
    figure.suptitle(title or f"{len(worst)} of {len(wrong)} errors: label → answer", fontsize=11)
    return figure


def cost_curve(
    curves: Mapping[str, Sequence[float]],
    *,
    window: int = 100,
    steps_per_epoch: int | None = None,
    ylabel: str = "cost",
    title: str = "",
) -> Any:
    """Costs per step, each curve as a mean over `window` steps with the raw values pale behind it.

    Args:
        curves: name → cost of every step.
        steps_per_epoch: labels the axis with epochs instead of steps.

    Returns:
        A matplotlib figure with a logarithmic cost axis.
    """
    plt = _pyplot()
    figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
    low, high = [], []
    for (name, values), colour in zip(curves.items(), (BLUE, RED, "#1b7837", GREY), strict=False):
        costs = np.asarray(values, dtype=float)
        width = max(min(window, len(costs) // 5), 1)
        sums = np.cumsum(np.insert(costs, 0, 0.0))
        smooth = (sums[width:] - sums[:-width]) / width
        unit = steps_per_epoch or 1
        every = max(len(costs) // 2000, 1)
        x = np.arange(1, len(costs) + 1) / unit
        ax.plot(x[::every], costs[::every], color=colour, alpha=0.15, linewidth=0.6)
        middle = (np.arange(len(smooth)) + width / 2 + 0.5) / unit
        ax.plot(middle, smooth, color=colour, linewidth=1.8, label=name)
        low.append(float(smooth.min()))
        high.append(float(smooth.max()))
    ax.set_yscale("log")
    if low and min(low) > 0:
        ax.set_ylim(min(low) / 4, max(high) * 3)  # the raw values of tiny batches reach far down
    ax.set_xlabel("epoch" if steps_per_epoch else "step")
    ax.set_ylabel(ylabel)
    ax.grid(alpha=0.3, which="both")
    ax.legend(frameon=False)
    if title:
        ax.set_title(title, fontsize=11)
    return figure


def save(figure: Any, path: Any) -> Any:
    """Write a figure to `path` by way of a temporary file, and close it.

    Returns:
        The path.
    """
    import os
    from pathlib import Path

    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    kind = target.suffix.lstrip(".") or "png"
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        figure.savefig(temporary, dpi=130, format=kind)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
        _pyplot().close(figure)
    return target
