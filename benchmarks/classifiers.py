"""What the benchmarks of MLP and CNN share: images, and the same training in both libraries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import microgpt as mg
from benchmarks.measure import by_turns, ratio

Program = Callable[[], object]


def images(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    """The 60,000 images of MNIST, each of `shape`, and their labels; random ones if it is away."""
    try:
        digits = mg.data.mnist()
        return digits.x_train.reshape(-1, *shape), digits.y_train
    except (mg.errors.DataError, mg.errors.MissingExtraError):
        print("  (MNIST is not there: random numbers of the same shape; the work is the same)")
        rng = np.random.default_rng(0)
        return rng.random((60_000, *shape), dtype=np.float32), rng.integers(0, 10, 60_000)


def timed(
    programs: Mapping[str, Program], steps: int, batch: int, fast: bool
) -> tuple[float, float | None, str, float]:
    """Seconds of a step, ours and PyTorch's by turns, their ratio, and those of our epoch."""
    seconds = by_turns(programs, rounds=5 if fast else 11)
    ours = seconds["microgpt"] / steps
    peer = seconds["torch"] / steps if "torch" in seconds else None
    return ours, peer, "" if peer is None else ratio(peer, ours), ours * 60_000 / batch


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
