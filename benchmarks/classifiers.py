"""What the benchmarks of MLP and CNN share: images, and the same training in both libraries."""

from __future__ import annotations

from typing import Any

import numpy as np

import microgpt as mg
from benchmarks.contest import Program
from benchmarks.measure import Row, note

IMAGES = 60_000


def images(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    """The 60,000 images of MNIST, each of `shape`, and their labels; random ones if it is away."""
    try:
        digits = mg.data.mnist()
        return digits.x_train.reshape(-1, *shape), digits.y_train
    except (mg.errors.DataError, mg.errors.MissingExtraError):
        note("MNIST is not there: random numbers of the same shape; the work is the same")
        rng = np.random.default_rng(0)
        return rng.random((IMAGES, *shape), dtype=np.float32), rng.integers(0, 10, IMAGES)


def epoch(seconds: float, batch: int) -> Row:
    """A column: what a whole epoch takes, from the seconds of a step."""
    return (f"{seconds * IMAGES / batch:.2f} s",)


def microgpt_training(
    model: Any, optimizer: Any, x: np.ndarray, y: np.ndarray, batch: int, steps: int
) -> Program:
    """Some steps on batches in a new order every time."""
    batches = mg.data.batches(x, y, batch_size=batch, seed=0)

    def train() -> None:
        for _, (chosen, labels) in zip(range(steps), batches, strict=False):
            loss = mg.cross_entropy(model(chosen), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return train


def torch_training(
    model: Any, optimizer: Any, x: np.ndarray, y: np.ndarray, batch: int, steps: int
) -> Program:
    """The same in PyTorch."""
    import torch

    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)

    def train() -> None:
        order = torch.randperm(len(inputs))
        for step in range(steps):
            chosen = order[step * batch : (step + 1) * batch]
            loss = torch.nn.functional.cross_entropy(model(inputs[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return train
