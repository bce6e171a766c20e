"""W4: training steps of a small CNN on MNIST, cross-entropy and SGD, against PyTorch eager."""

from __future__ import annotations

import numpy as np

import microgpt as mg
from benchmarks.classifiers import epoch, images, microgpt_training, torch_training
from benchmarks.contest import Program, compared, contenders, head
from benchmarks.measure import Options, Table

TITLE = "CNN on MNIST: two convolutions (8, 16 filters), each with pool and relu, SGD with momentum"
BATCH = 64


def measure(options: Options) -> Table:
    """Steps of all libraries by turns, and what an epoch of 60,000 images takes."""
    x, y = images(1, 28, 28)
    steps = 20 if options.fast else 40
    table = Table(head(options, f"filters, batch {BATCH}", "step", "epoch"), [])
    for side in (3, 5):
        programs = contenders(
            options,
            lambda side=side: _microgpt(side, x, y, BATCH, steps),
            {"torch": {"torch": lambda side=side: _torch(side, x, y, BATCH, steps)}},
        )
        table.rows.extend(
            compared(
                options,
                f"{side}×{side}",
                programs,
                rounds=5 if options.fast else 11,
                steps=steps,
                goal=">= 1x",
                more=lambda seconds: epoch(seconds, BATCH),
            )
        )
    return table


def _microgpt(side: int, x: np.ndarray, y: np.ndarray, batch: int, steps: int) -> Program:
    model = mg.models.CNN(kernel_size=side, generator=mg.generator(0))
    optimizer = mg.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return microgpt_training(model, optimizer, x, y, batch, steps)


def _torch(side: int, x: np.ndarray, y: np.ndarray, batch: int, steps: int) -> Program:
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for n, m in ((1, 8), (8, 16)):
        layers += [nn.Conv2d(n, m, side, padding=side // 2), nn.MaxPool2d(2), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 7 * 7, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    return torch_training(model, optimizer, x, y, batch, steps)
