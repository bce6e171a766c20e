"""W3: an epoch of MNIST with a small MLP, cross-entropy and SGD, against PyTorch eager."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

import microgpt as mg
from benchmarks.classifiers import Program, images, microgpt_training, timed, torch_training
from benchmarks.measure import installed

TITLE = "MLP on MNIST: sigmoid layers, cross-entropy, SGD; batches drawn anew"
HEAD = ("network", "batch", "microgpt µs/step", "torch µs/step", "ours is", "goal", "epoch")
NETWORKS = ((784, 16, 16, 10), (784, 100, 10))


def measure(fast: bool) -> list[tuple[str, ...]]:
    """Steps of both libraries by turns; the last column is our whole epoch of 60,000 images."""
    x, y = images(784)
    there = bool(installed("torch"))
    rows = []
    for sizes in NETWORKS:
        for batch in (10, 100):
            steps = 200 if fast else 600
            programs = {"microgpt": _microgpt(sizes, x, y, batch, steps)}
            if there:
                programs["torch"] = _torch(sizes, x, y, batch, steps)
            ours, peer, compared, epoch = timed(programs, steps, batch, fast)
            rows.append(
                (
                    "-".join(map(str, sizes)),
                    str(batch),
                    f"{ours * 1e6:.0f}",
                    "" if peer is None else f"{peer * 1e6:.0f}",
                    compared,
                    ">= 2x",
                    f"{epoch:.2f} s",
                )
            )
    return rows


def _microgpt(
    sizes: tuple[int, ...], x: np.ndarray, y: np.ndarray, batch: int, steps: int
) -> Program:
    model = mg.models.MLP(sizes, "sigmoid", squash=False, generator=mg.generator(0))
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)
    return microgpt_training(model, optimizer, x, y, batch, steps)


def _torch(sizes: tuple[int, ...], x: np.ndarray, y: np.ndarray, batch: int, steps: int) -> Program:
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for depth, (n, m) in enumerate(pairwise(sizes)):
        layers += [nn.Sigmoid()] * (depth > 0) + [nn.Linear(n, m)]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return torch_training(model, optimizer, x, y, batch, steps)
