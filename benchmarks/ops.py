"""W2: a chain of 1,000 tiny tensor operations, forward and backward."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import microgpt as mg
from benchmarks.measure import Options, Row, Table, by_turns, installed, ratio

TITLE = "chain of 1,000 ops on 3x4 float32 arrays: y·a, +x, tanh, -a in turn"
HEAD = ("library", "forward µs/op", "both µs/op", "ours is", "goal")
LENGTH = 1000
SHAPE = (3, 4)


def measure(options: Options) -> Table:
    """Forward alone and forward with backward, every library by turns."""
    makers = {
        "torch": _torch,
        "autograd": _autograd,
        "mygrad": _mygrad,
    }
    peers = installed(*makers)
    pairs = {"microgpt": _microgpt(), **{name: makers[name]() for name in peers}}
    forward = {f"{name} forward": pair[0] for name, pair in pairs.items()}
    both = {f"{name} both": pair[1] for name, pair in pairs.items()}
    rounds = 15 if options.fast else 101
    seconds = by_turns({"numpy forward": _numpy, **forward, **both}, rounds, warm_up=3)
    scale = 1e6 / LENGTH
    raw = seconds["numpy forward"] * scale
    ours = seconds["microgpt both"]
    own_forward = seconds["microgpt forward"] * scale
    rows: list[Row] = [
        ("NumPy alone", f"{raw:.2f}", "", "", ""),
        (
            "microgpt",
            f"{own_forward:.2f} ({own_forward - raw:+.2f})",
            f"{ours * scale:.2f}",
            "",
            "forward <= 1.5 above NumPy",
        ),
    ]
    for name in peers:
        peer = seconds[f"{name} both"]
        goal = ">= 2x" if name == "torch" else ""
        forward_time = seconds[f"{name} forward"] * scale
        rows.append((name, f"{forward_time:.2f}", f"{peer * scale:.2f}", ratio(peer, ours), goal))
    return Table(HEAD, rows)


def _numpy() -> None:
    x, a = np.ones(SHAPE, np.float32), np.full(SHAPE, 1.0001, np.float32)
    y = x
    for _ in range(LENGTH // 4):
        y = np.subtract(np.tanh(np.add(np.multiply(y, a), x)), a)


Pair = tuple[Callable[[], object], Callable[[], object]]


def _microgpt() -> Pair:
    x = mg.ones(SHAPE, requires_grad=True)
    a = mg.full(SHAPE, 1.0001)

    def forward():
        y = x
        for _ in range(LENGTH // 4):
            y = mg.tanh(y * a + x) - a
        return y

    def both():
        x.grad = None
        forward().sum().backward()

    return forward, both


def _torch() -> Pair:
    import torch

    x = torch.ones(SHAPE, requires_grad=True)
    a = torch.full(SHAPE, 1.0001)

    def forward():
        y = x
        for _ in range(LENGTH // 4):
            y = torch.tanh(y * a + x) - a
        return y

    def both():
        x.grad = None
        forward().sum().backward()

    return forward, both


def _autograd() -> Pair:
    import autograd.numpy as anp
    from autograd import elementwise_grad

    x = np.ones(SHAPE, np.float32)
    a = np.full(SHAPE, 1.0001, np.float32)

    def f(x):
        y = x
        for _ in range(LENGTH // 4):
            y = anp.tanh(y * a + x) - a
        return y

    gradient = elementwise_grad(f)
    # Outside a gradient nothing is recorded: its forward pass alone is NumPy's.
    return (lambda: f(x)), (lambda: gradient(x))


def _mygrad() -> Pair:
    import mygrad

    x = mygrad.tensor(np.ones(SHAPE, np.float32))
    a = np.full(SHAPE, 1.0001, np.float32)

    def forward():
        y = x
        for _ in range(LENGTH // 4):
            y = mygrad.tanh(y * a + x) - a
        return y

    def both():
        forward().sum().backward()
        x.null_grad()

    return forward, both
