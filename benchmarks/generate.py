"""W7: text from an S2 model with a cache of keys and values, against PyTorch eager with one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.contest import compared, contenders, head
from benchmarks.gpt_peers import SIZES, Size, microgpt_model, torch_model
from benchmarks.measure import Options, Table

TITLE = "generation with a KV cache, S2 model: one token of prompt, then until the block is full"


def measure(options: Options) -> Table:
    """Whole texts of all libraries by turns, drawn at temperature 1."""
    size = SIZES["S2"]
    table = Table(head(options, "texts at once", "position", "tokens/s"), [])
    for texts in (1, 8):
        programs = contenders(
            options,
            lambda texts=texts: _microgpt(size, texts),
            {"torch": {"torch": lambda texts=texts: _torch(size, texts)}},
        )
        table.rows.extend(
            compared(
                options,
                str(texts),
                programs,
                rounds=5 if options.fast else 21,
                steps=size.context - 1,
                goal=">= 1.5x" if texts == 1 and options.backend == "numpy" else "",
                more=lambda seconds, texts=texts: (f"{texts / seconds:,.0f}",),
            )
        )
    return table


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
