"""Right and wrong answers of a classifier: its worst errors, and what it takes for what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from microgpt.errors import InputError, ShapeError
from microgpt.viz.style import GREY, SEQUENTIAL, array, dark, montage, readable, shown, styled


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
    answers = outputs.argmax(axis=1)
    wrong = np.flatnonzero(answers != classes)
    worst = wrong[np.argsort(outputs[wrong, classes[wrong]], kind="stable")][:count]
    captions = [f"{classes[i]} → {answers[i]}  ({outputs[i, answers[i]]:.2f})" for i in worst]
    title = title or f"{len(worst)} of {len(wrong)} errors: label → answer"
    colours = {"cmap": "gray", "vmin": 0, "vmax": 1}
    side = max(int(np.ceil(np.sqrt(count))), 1)
    with styled() as make:
        figure, ax, _ = montage(
            make, pictures[worst], captions, columns=side, side=1.3, colours=colours, title=title
        )
        if not len(worst):
            ax.text(side / 2, 0.5, "no errors", ha="center", va="center", color=GREY)
        return figure


def confusion_matrix(
    labels: Any, answers: Any, *, names: Sequence[Any] | None = None, title: str = ""
) -> Any:
    """How often each class (row) was given each answer (column).

    The colour is the share of the row, so rare classes can be compared with frequent ones.

    Args:
        labels: (n,) the right classes, 0 and up.
        answers: (n,) the classes answered, or (n, classes) outputs, the largest of which counts.
        names: of the classes; by default their numbers.

    Returns:
        A matplotlib figure; the title says how many answers are right.

    Raises:
        ShapeError: if the two have different lengths.
        InputError: if a class is negative or has no name.

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
    size = int(max(right.max(), given.max())) + 1
    if min(right.min(), given.min()) < 0 or (names is not None and len(names) < size):
        raise InputError(
            f"confusion_matrix: classes from {min(right.min(), given.min())} to {size - 1}; "
            f"required: 0 and up{'' if names is None else f', each with one of {len(names)} names'}"
        )
    size = len(names) if names is not None else size
    counts = np.zeros((size, size), dtype=int)
    np.add.at(counts, (right, given), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    with styled() as make:
        figure = make(figsize=(1.6 + 0.44 * size, 1.3 + 0.44 * size))
        ax = figure.subplots()
        ax.imshow(shares, cmap=SEQUENTIAL, vmin=0, vmax=1)
        for i, j in zip(*np.nonzero(counts), strict=True):
            colour = "white" if dark(shares[i, j]) else "#222222"
            fontsize = 9 if counts[i, j] < 10_000 else 7
            ax.text(
                j, i, f"{counts[i, j]}", ha="center", va="center", color=colour, fontsize=fontsize
            )
        texts = [shown(n) for n in (range(size) if names is None else names)]
        places, size_, upright = readable(texts, 30)
        ax.set_xticks(places, texts, fontsize=size_, rotation=90 if upright else 0)
        ax.set_yticks(places, texts, fontsize=size_)
        ax.tick_params(length=0)
        ax.set(xlabel="answer", ylabel="label")
        ax.spines[:].set_visible(False)
        hits = int(counts.trace())
        default = f"{hits:,} of {len(right):,} right ({hits / len(right):.1%})"
        ax.set_title(title or default)
        return figure
