"""W10: how the time per token grows as batch, context, width and depth of a GPT double."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.contest import contenders
from benchmarks.gpt_peers import SIZES, microgpt_step, torch_step
from benchmarks.measure import Options, Table, by_turns

TITLE = "growth of a GPT training step (from S2), beside that of the arithmetic"
HEAD = (
    "library", "doubled", "ms", "ms/token", "time per token grows", "arithmetic per token grows",
    "goal",
)  # fmt: skip


def measure(options: Options) -> Table:
    """The base and its four doublings, by turns, in all libraries."""
    base = SIZES["S2"]
    sizes = {"nothing": base}
    for name in ("batch", "context", "width", "layers"):
        sizes[name] = replace(base, **{name: 2 * getattr(base, name)})
    programs = {}
    for name, size in sizes.items():
        found = contenders(
            options,
            lambda size=size: microgpt_step(size),
            {"torch": {"torch": lambda size=size: torch_step(size)}},
            usual=(),
        )
        programs |= {(library, name): program for library, program in found.items()}
    seconds = by_turns(programs, rounds=5 if options.fast else 21, warm_up=2)
    table = Table(HEAD, [])
    for library in dict.fromkeys(library for library, _ in programs):
        first = seconds[library, "nothing"] / base.tokens
        for name, size in sizes.items():
            each = seconds[library, name] / size.tokens
            work = (size.flops / size.tokens) / (base.flops / base.tokens)
            ours = library != "torch" and name != "nothing"
            table.rows.append(
                (
                    library,
                    name,
                    f"{seconds[library, name] * 1e3:.1f}",
                    f"{each * 1e3:.4f}",
                    f"{each / first:.2f}x",
                    f"{work:.2f}x",
                    "no more than the arithmetic" if ours else "",
                )
            )
    return table
