"""What the tests of figures share."""

from __future__ import annotations

from typing import Any

import numpy as np


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape)


def probabilities(*shape: int) -> np.ndarray:
    weights = np.exp(random(*shape))
    return weights / weights.sum(axis=-1, keepdims=True)


def pixels(figure: Any) -> np.ndarray:
    """The figure drawn; with warnings as errors, a missing character would be noticed."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3]


def texts(ax: Any) -> list[str]:
    return [t.get_text() for t in ax.texts]
