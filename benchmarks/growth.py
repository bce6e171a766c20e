"""W10: how the time per token grows as batch, context, width and depth of a GPT double."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.gpt_peers import SIZES, microgpt_step
from benchmarks.measure import by_turns

TITLE = "growth of a GPT training step (from S2), beside that of the arithmetic"
HEAD = ("doubled", "ms", "ms/token", "time per token grows", "arithmetic per token grows", "goal")


def measure(fast: bool) -> list[tuple[str, ...]]:
    """The base and its four doublings, by turns."""
    base = SIZES["S2"]
    sizes = {"nothing": base}
    for name in ("batch", "context", "width", "layers"):
        sizes[name] = replace(base, **{name: 2 * getattr(base, name)})
    programs = {name: microgpt_step(size) for name, size in sizes.items()}
    seconds = by_turns(programs, rounds=5 if fast else 21, warm_up=2)
    first = seconds["nothing"] / base.tokens
    rows = []
    for name, size in sizes.items():
        each = seconds[name] / size.tokens
        work = (size.flops / size.tokens) / (base.flops / base.tokens)
        rows.append(
            (
                name,
                f"{seconds[name] * 1e3:.1f}",
                f"{each * 1e3:.4f}",
                f"{each / first:.2f}x",
                f"{work:.2f}x",
                "" if name == "nothing" else "no more than the arithmetic",
            )
        )
    return rows
