"""W3: an epoch of MNIST with a small MLP, cross-entropy and SGD, against PyTorch eager."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

import microgpt as mg
from benchmarks.classifiers import epoch, images, microgpt_training, torch_training
from benchmarks.contest import Program, compared, contenders, head
from benchmarks.measure import Options, Table

TITLE = "MLP on MNIST: sigmoid layers, cross-entropy, SGD; batches drawn anew"
NETWORKS = ((784, 16, 16, 10), (784, 100, 10))
GOALS = {"numpy": {10: ">= 2x", 100: ">= 2x"}, "opencl": {100: ">= 1x"}}


def measure(options: Options) -> Table:
    """Steps of all libraries by turns, and what an epoch of 60,000 images takes."""
    x, y = images(784)
    steps = 200 if options.fast else 600
    table = Table(head(options, "network, batch", "step", "epoch"), [])
    for sizes in NETWORKS:
        for batch in (10, 100):
            work = (sizes, x, y, batch, steps)
            programs = contenders(
                options,
                lambda work=work: _microgpt(*work),
                {"torch": {"torch": lambda work=work: _torch(*work)}},
            )
            table.rows.extend(
                compared(
                    options,
                    f"{'-'.join(map(str, sizes))}, {batch}",
                    programs,
                    rounds=5 if options.fast else 11,
                    steps=steps,
                    goal=GOALS.get(options.backend, {}).get(batch, ""),
                    more=lambda seconds, batch=batch: epoch(seconds, batch),
                )
            )
    return table


def _microgpt(
    sizes: tuple[int, ...], x: np.ndarray, y: np.ndarray, batch: int, steps: int
) -> Program:
    model = mg.models.MLP(sizes, "sigmoid", squash=False, generator=mg.generator(0))
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)
    return microgpt_training(model, optimizer, x, y, batch, steps)


def _torch(sizes: tuple[int, ...], x: np.ndarray, y: np.ndarray, batch: int, steps: int) -> Program:
    import torch
    from torch import nn

    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for depth, (n, m) in enumerate(pairwise(sizes)):
        layers += [nn.Sigmoid()] * (depth > 0) + [nn.Linear(n, m)]
    model = nn.Sequential(*layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return torch_training(model, optimizer, x, y, batch, steps)
