"""Right and wrong answers of a classifier: its worst errors, and what it takes for what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from microgpt.errors import InputError, ShapeError
from microgpt.viz.montage import montage
from microgpt.viz.style import GREY, SEQUENTIAL, array, cells, dark, readable, shown, styled

MOST_NUMBERS = 30
"""Classes of the largest confusion matrix whose counts are written into it."""

MOST_CLASSES = 4000
"""More of them have no room in memory, nor in a picture."""


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

    Raises:
        ShapeError: if the three do not belong together.
        InputError: if a label is none of the classes.

    Example:
        >>> import numpy as np
        >>> import microgpt as mg
        >>> figure = mg.viz.error_gallery(np.ones((2, 4, 4)), [0, 1], [[0.9, 0.1], [0.7, 0.3]])
        >>> figure.axes[0].texts[0].get_text()
        '1 → 0  (0.70)'
    """
    pictures, classes, outputs = array(images), array(labels), array(probabilities)
    if pictures.ndim != 3 or classes.shape != pictures.shape[:1] or outputs.ndim != 2 or (
        len(outputs) != len(pictures)
    ):  # fmt: skip
        raise ShapeError(
            f"error_gallery: images {pictures.shape}, labels {classes.shape}, probabilities "
            f"{outputs.shape}; required: (n, height, width), (n,), (n, classes)"
        )
    classes = _classes(classes, "error_gallery: labels")
    if len(classes) and not 0 <= classes.min() <= classes.max() < outputs.shape[1]:
        raise InputError(
            f"error_gallery: labels from {classes.min()} to {classes.max()} and probabilities of "
            f"{outputs.shape[1]} classes; required: labels from 0 to {outputs.shape[1] - 1}"
        )
    answers = outputs.argmax(axis=1)
    wrong = np.flatnonzero(answers != classes)
    worst = wrong[np.argsort(outputs[wrong, classes[wrong]], kind="stable")][:count]
    captions = [f"{classes[i]} → {answers[i]}  ({outputs[i, answers[i]]:.2f})" for i in worst]
    title = title or f"{len(worst)} of {len(wrong)} errors: label → answer"
    colours = {"cmap": "gray", "vmin": 0, "vmax": 1}
    columns = max(min(int(np.ceil(np.sqrt(count))), len(worst)), 1)
    with styled() as make:
        figure, ax, _ = montage(
            make, pictures[worst], captions, columns=columns, side=1.3, colours=colours, title=title
        )
        if not len(worst):
            ax.text(0.5, 0.5, "no errors", ha="center", va="center", color=GREY)
        return figure


def confusion_matrix(
    labels: Any, answers: Any, *, names: Sequence[Any] | None = None, title: str = ""
) -> Any:
    """How often each class (row) was given each answer (column).

    The colour is the share of the row, so rare classes can be compared with frequent ones. Up to
    30 classes the counts are written into it, beyond that there is a scale for the shares.

    Args:
        labels: (n,) the right classes, 0 and up.
        answers: (n,) the classes answered, or (n, classes) outputs, the largest of which counts.
        names: of the classes; by default their numbers.

    Returns:
        A matplotlib figure; the title says how many answers are right.

    Raises:
        ShapeError: if the two have different lengths.
        InputError: if a class is no whole number, negative, has no name, or there are over 4,000.

    Example:
        >>> import microgpt as mg
        >>> figure = mg.viz.confusion_matrix([0, 0, 1, 1], [0, 1, 1, 1])
        >>> [text.get_text() for text in figure.axes[0].texts]
        ['1', '1', '2']
    """
    right, given = array(labels), array(answers)
    if given.ndim == 2:
        given = given.argmax(axis=1)
    if right.ndim != 1 or right.shape != given.shape or not len(right):
        raise ShapeError(
            f"confusion_matrix: labels {array(labels).shape}, answers {array(answers).shape}; "
            "required: (n,) and (n,) or (n, classes)"
        )
    right = _classes(right, "confusion_matrix: labels")
    given = _classes(given, "confusion_matrix: answers")
    size = int(max(right.max(), given.max())) + 1
    if min(right.min(), given.min()) < 0 or (names is not None and len(names) < size):
        raise InputError(
            f"confusion_matrix: classes from {min(right.min(), given.min())} to {size - 1}; "
            f"required: 0 and up{'' if names is None else f', each with one of {len(names)} names'}"
        )
    size = len(names) if names is not None else size
    if size > MOST_CLASSES:
        raise InputError(
            f"confusion_matrix: {size:,} classes; required: at most {MOST_CLASSES:,} (number those "
            "that occur from 0 on, as np.unique(..., return_inverse=True) does)"
        )
    counts = np.zeros((size, size), dtype=int)
    np.add.at(counts, (right, given), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with styled() as make:
        numbers = size <= MOST_NUMBERS
        side = 0.44 * size if numbers else 8.0
        texts = [shown(n, space=" ") for n in (range(size) if names is None else names)]
        places, fontsize, upright = readable(texts, 72 * side / size)
        ticks = [texts[i] for i in places]
        left = max(map(cells, ticks)) * 0.6 * fontsize / 72
        width = max(side + left, 2.6) + (0.8 if numbers else 1.8)
        figure = make(figsize=(width, side + 1.0 + (left if upright else 0.25)))
        ax = figure.subplots()
        image = ax.imshow(shares, cmap=SEQUENTIAL, vmin=0, vmax=1)
        if numbers:
            _write_counts(ax, counts, shares)
        else:
            bar = figure.colorbar(image, ax=ax, shrink=0.5, aspect=25, label="share of the label")
            bar.outline.set_visible(False)
        ax.set_xticks(places, ticks, fontsize=fontsize, rotation=90 if upright else 0)
        ax.set_yticks(places, ticks, fontsize=fontsize)
        ax.tick_params(length=0)
        ax.set(xlabel="answer", ylabel="label")
        ax.spines[:].set_visible(False)
        hits = int(counts.trace())
        default = f"{hits:,} of {len(right):,} right ({hits / len(right):.1%})"
        ax.set_title(title or default, wrap=True)
        return figure


def _classes(values: np.ndarray, what: str) -> np.ndarray:
    """Whole numbers, also where they came as floats."""
    if values.dtype.kind in "iub":
        return values.astype(np.int64)
    if values.dtype.kind != "f" or not (np.isfinite(values) & (values == np.round(values))).all():
        raise InputError(f"{what} {values.reshape(-1)[:4]}; required: classes, whole numbers")
    return values.astype(np.int64)


def _write_counts(ax: Any, counts: np.ndarray, shares: np.ndarray) -> None:
    for i, j in zip(*np.nonzero(counts), strict=True):
        text = f"{counts[i, j]}"
        ax.text(
            j, i, text, ha="center", va="center", fontsize=min(9.0, 28 / (0.62 * len(text))),
            color="white" if dark(float(shares[i, j])) else "#222222",
        ).set_in_layout(False)  # fmt: skip
