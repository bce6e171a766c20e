"""W3: an epoch of MNIST with a small MLP, cross-entropy and SGD, against PyTorch eager."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

import microgpt as mg
from benchmarks.measure import by_turns, installed, ratio

TITLE = "MLP on MNIST: sigmoid layers, cross-entropy, SGD; batches drawn anew"
HEAD = ("network", "batch", "microgpt µs/step", "torch µs/step", "ours is", "goal", "epoch")
NETWORKS = ((784, 16, 16, 10), (784, 100, 10))


def measure(fast: bool) -> list[tuple[str, ...]]:
    """Steps of both libraries by turns; the last column is our whole epoch of 60,000 images."""
    try:
        digits = mg.data.mnist()
        x, y = digits.x_train.reshape(-1, 784), digits.y_train
    except (mg.errors.DataError, mg.errors.MissingExtraError):
        print("  (MNIST is not there: random numbers of the same shape; the work is the same)")
        rng = np.random.default_rng(0)
        x = rng.random((60_000, 784), dtype=np.float32)
        y = rng.integers(0, 10, 60_000)
    there = bool(installed("torch"))
    rows = []
    for sizes in NETWORKS:
        for batch in (10, 100):
            steps = 200 if fast else 600
            programs = {"microgpt": _microgpt(sizes, x, y, batch, steps)}
            if there:
                programs["torch"] = _torch(sizes, x, y, batch, steps)
            seconds = by_turns(programs, rounds=5 if fast else 11)
            ours = seconds["microgpt"] / steps
            peer = seconds["torch"] / steps if there else None
            rows.append(
                (
                    "-".join(map(str, sizes)),
                    str(batch),
                    f"{ours * 1e6:.0f}",
                    "" if peer is None else f"{peer * 1e6:.0f}",
                    "" if peer is None else ratio(peer, ours),
                    ">= 2x",
                    f"{ours * 60_000 / batch:.2f} s",
                )
            )
    return rows


def _microgpt(
    sizes: tuple[int, ...], x: np.ndarray, y: np.ndarray, batch: int, steps: int
) -> Callable[[], object]:
    model = mg.models.MLP(sizes, "sigmoid", squash=False, generator=mg.generator(0))
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)
    batches = mg.data.batches(x, y, batch_size=batch, seed=0)

    def train() -> None:
        for _, (images, labels) in zip(range(steps), batches, strict=False):
            loss = mg.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return train


def _torch(
    sizes: tuple[int, ...], x: np.ndarray, y: np.ndarray, batch: int, steps: int
) -> Callable[[], object]:
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for depth, (n, m) in enumerate(pairwise(sizes)):
        layers += [nn.Sigmoid()] * (depth > 0) + [nn.Linear(n, m)]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    images, labels = torch.from_numpy(x), torch.from_numpy(y)

    def train() -> None:
        order = torch.randperm(len(images))
        for step in range(steps):
            chosen = order[step * batch : (step + 1) * batch]
            loss = nn.functional.cross_entropy(model(images[chosen]), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return train
