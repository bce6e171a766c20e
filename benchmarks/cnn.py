"""W4: training steps of a small CNN on MNIST, cross-entropy and SGD, against PyTorch eager."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import microgpt as mg
from benchmarks.measure import by_turns, installed, ratio

TITLE = "CNN on MNIST: two convolutions (8, 16 filters), each with pool and relu, SGD with momentum"
HEAD = ("filters", "batch", "microgpt ms/step", "torch ms/step", "ours is", "goal", "epoch")


def measure(fast: bool) -> list[tuple[str, ...]]:
    """Steps of both libraries by turns; the last column is our whole epoch of 60,000 images."""
    try:
        digits = mg.data.mnist()
        x, y = digits.x_train, digits.y_train
    except (mg.errors.DataError, mg.errors.MissingExtraError):
        print("  (MNIST is not there: random numbers of the same shape; the work is the same)")
        rng = np.random.default_rng(0)
        x = rng.random((60_000, 28, 28), dtype=np.float32)
        y = rng.integers(0, 10, 60_000)
    there = bool(installed("torch"))
    rows = []
    batch, steps = 64, 20 if fast else 40
    for side in (3, 5):
        programs = {"microgpt": _microgpt(side, x, y, batch, steps)}
        if there:
            programs["torch"] = _torch(side, x, y, batch, steps)
        seconds = by_turns(programs, rounds=5 if fast else 11)
        ours = seconds["microgpt"] / steps
        peer = seconds["torch"] / steps if there else None
        rows.append(
            (
                f"{side}×{side}",
                str(batch),
                f"{ours * 1e3:.2f}",
                "" if peer is None else f"{peer * 1e3:.2f}",
                "" if peer is None else ratio(peer, ours),
                ">= 1x",
                f"{ours * 60_000 / batch:.1f} s",
            )
        )
    return rows


def _microgpt(
    side: int, x: np.ndarray, y: np.ndarray, batch: int, steps: int
) -> Callable[[], object]:
    model = mg.models.CNN(kernel_size=side, generator=mg.generator(0))
    optimizer = mg.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    batches = mg.data.batches(x, y, batch_size=batch, seed=0)

    def train() -> None:
        for _, (images, labels) in zip(range(steps), batches, strict=False):
            loss = mg.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return train


def _torch(side: int, x: np.ndarray, y: np.ndarray, batch: int, steps: int) -> Callable[[], object]:
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for n, m in ((1, 8), (8, 16)):
        layers += [nn.Conv2d(n, m, side, padding=side // 2), nn.MaxPool2d(2), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 7 * 7, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    images, labels = torch.from_numpy(x)[:, None], torch.from_numpy(y)

    def train() -> None:
        order = torch.randperm(len(images))
        for step in range(steps):
            chosen = order[step * batch : (step + 1) * batch]
            loss = nn.functional.cross_entropy(model(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return train
