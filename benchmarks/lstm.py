"""W5: training steps of a character LSTM, cross-entropy and Adam, against PyTorch eager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import microgpt as mg
from benchmarks.contest import compared, contenders, head
from benchmarks.measure import Options, Table

TITLE = (
    "Character LSTM: 128 units, 64 steps, batch 32, 65 characters; the state is carried on; Adam"
)
VOCABULARY, UNITS, STEPS, BATCH = 65, 128, 64, 32


def measure(options: Options) -> Table:
    """Steps of all libraries by turns, on the same characters."""
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (BATCH, 8 * STEPS + 1))
    table = Table(head(options, "inputs", "step", "characters/s"), [])
    for name, width in (("one-hot", None), (f"embedding {UNITS}", UNITS)):
        programs = contenders(
            options,
            lambda width=width: _microgpt(width, ids),
            {"torch": {"torch": lambda width=width: _torch(width, ids)}},
        )
        table.rows.extend(
            compared(
                options,
                name,
                programs,
                rounds=15 if options.fast else 45,
                warm_up=3,
                goal=">= 1x",
                more=lambda seconds: (f"{BATCH * STEPS / seconds:,.0f}",),
            )
        )
    return table


def _pieces(ids: np.ndarray) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
    """The next 64 characters of every text and what follows each; then from the start again."""
    place = 0

    def piece() -> tuple[np.ndarray, np.ndarray]:
        nonlocal place
        start, place = place, (place + STEPS) % (ids.shape[1] - 1)
        part = ids[:, start : start + STEPS + 1]
        return part[:, :-1], part[:, 1:]

    return piece


def _microgpt(width: int | None, ids: np.ndarray) -> Callable[[], object]:
    model = mg.models.CharLSTM(VOCABULARY, UNITS, 1, width, bias=True, generator=mg.generator(0))
    optimizer = mg.optim.Adam(model.parameters(), lr=1e-3)
    piece = _pieces(ids)
    state: Any = None

    def step() -> None:
        nonlocal state
        now, following = piece()
        logits, state = model(mg.tensor(now), mg.nn.detach_state(state))
        loss = mg.cross_entropy(logits.reshape((-1, VOCABULARY)), mg.tensor(following.reshape(-1)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def _torch(width: int | None, ids: np.ndarray) -> Callable[[], object]:
    import torch
    from torch import nn

    torch.manual_seed(0)
    table = nn.Embedding(VOCABULARY, width) if width else None
    lstm = nn.LSTM(width or VOCABULARY, UNITS)  # steps first, its faster layout
    head = nn.Linear(UNITS, VOCABULARY)
    parts = [m for m in (table, lstm, head) if m is not None]
    optimizer = torch.optim.Adam([p for m in parts for p in m.parameters()], lr=1e-3)
    piece = _pieces(ids)
    state: Any = None

    def step() -> None:
        nonlocal state
        now, following = (torch.from_numpy(part.T.copy()) for part in piece())
        x = table(now) if table else nn.functional.one_hot(now, VOCABULARY).float()
        before = None if state is None else tuple(part.detach() for part in state)
        x, state = lstm(x, before)
        logits = head(x)
        loss = nn.functional.cross_entropy(logits.reshape(-1, VOCABULARY), following.reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step
