"""W7: text from an S2 model with a cache of keys and values, against PyTorch eager with one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.gpt_peers import SIZES, Size, microgpt_model, torch_model
from benchmarks.measure import by_turns, installed, ratio

TITLE = "generation with a KV cache, S2 model: one token of prompt, then until the block is full"
HEAD = ("texts at once", "microgpt tokens/s", "torch tokens/s", "ours is", "goal")


def measure(fast: bool) -> list[tuple[str, ...]]:
    """Whole texts of both libraries by turns, drawn at temperature 1."""
    size = SIZES["S2"]
    there = bool(installed("torch"))
    rows = []
    for texts in (1, 8):
        programs = {"microgpt": _microgpt(size, texts)}
        if there:
            programs["torch"] = _torch(size, texts)
        seconds = by_turns(programs, rounds=5 if fast else 21)
        written = texts * (size.context - 1)
        ours, peer = seconds["microgpt"], seconds.get("torch")
        rows.append(
            (
                str(texts),
                f"{written / ours:,.0f}",
                "" if peer is None else f"{written / peer:,.0f}",
                "" if peer is None else ratio(peer, ours),
                ">= 1.5x" if texts == 1 else "",
            )
        )
    return rows


def _microgpt(size: Size, texts: int) -> Callable[[], object]:
    model = microgpt_model(size)
    prompt = [[0]] * texts if texts > 1 else [0]
    return lambda: model.generate(prompt, size.context - 1, seed=0)


def _torch(size: Size, texts: int) -> Callable[[], object]:
    import torch

    model: Any = torch_model(size).eval()

    @torch.no_grad()
    def write() -> list[Any]:
        caches: list[list[Any]] = [[] for _ in range(size.layers)]
        ids = torch.zeros((texts, 1), dtype=torch.int64)
        found = []
        for _ in range(size.context - 1):
            weights = torch.softmax(model(ids, caches)[:, -1], -1)
            ids = torch.multinomial(weights, 1)
            found.append(ids.tolist())
        return found

    return write
