"""W4: training steps of a small CNN on MNIST, cross-entropy and SGD, against PyTorch eager."""

from __future__ import annotations

import numpy as np

import microgpt as mg
from benchmarks.classifiers import Program, images, microgpt_training, timed, torch_training
from benchmarks.measure import installed

TITLE = "CNN on MNIST: two convolutions (8, 16 filters), each with pool and relu, SGD with momentum"
HEAD = ("filters", "batch", "microgpt ms/step", "torch ms/step", "ours is", "goal", "epoch")


def measure(fast: bool) -> list[tuple[str, ...]]:
    """Steps of both libraries by turns; the last column is our whole epoch of 60,000 images."""
    x, y = images(1, 28, 28)
    there = bool(installed("torch"))
    rows = []
    batch, steps = 64, 20 if fast else 40
    for side in (3, 5):
        programs = {"microgpt": _microgpt(side, x, y, batch, steps)}
        if there:
            programs["torch"] = _torch(side, x, y, batch, steps)
        ours, peer, compared, epoch = timed(programs, steps, batch, fast)
        rows.append(
            (
                f"{side}×{side}",
                str(batch),
                f"{ours * 1e3:.2f}",
                "" if peer is None else f"{peer * 1e3:.2f}",
                compared,
                ">= 1x",
                f"{epoch:.1f} s",
            )
        )
    return rows


def _microgpt(side: int, x: np.ndarray, y: np.ndarray, batch: int, steps: int) -> Program:
    model = mg.models.CNN(kernel_size=side, generator=mg.generator(0))
    optimizer = mg.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return microgpt_training(model, optimizer, x, y, batch, steps)


def _torch(side: int, x: np.ndarray, y: np.ndarray, batch: int, steps: int) -> Program:
    import torch
    from torch import nn

    torch.set_num_threads(1)
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for n, m in ((1, 8), (8, 16)):
        layers += [nn.Conv2d(n, m, side, padding=side // 2), nn.MaxPool2d(2), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 7 * 7, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return torch_training(model, optimizer, x, y, batch, steps)
