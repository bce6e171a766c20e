"""W5: training steps of a character LSTM, cross-entropy and Adam, against PyTorch eager."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import microgpt as mg
from benchmarks.measure import by_turns, installed, ratio

TITLE = (
    "Character LSTM: 128 units, 64 steps, batch 32, 65 characters; the state is carried on; Adam"
)
HEAD = ("inputs", "microgpt ms/step", "torch ms/step", "ours is", "goal", "characters/s")
VOCABULARY, UNITS, STEPS, BATCH = 65, 128, 64, 32


def measure(fast: bool) -> list[tuple[str, ...]]:
    """Steps of both libraries by turns, on the same characters."""
    there = bool(installed("torch"))
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (BATCH, 8 * STEPS + 1))
    rows = []
    for name, width in (("one-hot", None), (f"embedding {UNITS}", UNITS)):
        programs = {"microgpt": _microgpt(width, ids)}
        if there:
            programs["torch"] = _torch(width, ids)
        seconds = by_turns(programs, rounds=15 if fast else 45, warm_up=3)
        ours, peer = seconds["microgpt"], seconds.get("torch")
        rows.append(
            (
                name,
                f"{ours * 1e3:.1f}",
                "" if peer is None else f"{peer * 1e3:.1f}",
                "" if peer is None else ratio(peer, ours),
                ">= 1x",
                f"{BATCH * STEPS / ours:,.0f}",
            )
        )
    return rows


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

    torch.set_num_threads(1)
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
