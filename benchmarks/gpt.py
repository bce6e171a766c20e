"""W6: a training step of a GPT, forward, backward and AdamW, against PyTorch eager and JAX."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.gpt_peers import SIZES, Step, jax_step, microgpt_step, torch_step
from benchmarks.measure import by_turns, installed, ratio

TITLE = "GPT training step: GPT-2 layout, cross-entropy, AdamW"
HEAD = ("size", "microgpt ms", "tokens/s", "GFLOP/s", "torch ms", "ours is", "goal", "jax jit ms")
GOALS = {"S0": ">= 2x", "S1": ">= 1x", "S2": ">= 1x", "S3": ">= 1x"}
ROUNDS = {"S0": 41, "S1": 21, "S2": 15, "S3": 5}
STEPS = {"S0": 50, "S1": 5, "S2": 2, "S3": 1}
"""Steps in a turn: as in a training, a step finds in the caches what the last one left there."""


def measure(fast: bool) -> list[tuple[str, ...]]:
    """Steps of all libraries by turns; JAX is compared up to S2."""
    there = installed("torch", "jax", "optax")
    rows = []
    for name, size in SIZES.items():
        programs = {"microgpt": microgpt_step(size)}
        if "torch" in there:
            programs["torch"] = torch_step(size)
        if {"jax", "optax"} <= set(there) and name != "S3":
            programs["jax"] = jax_step(size)
        rounds, steps = max(ROUNDS[name] // (4 if fast else 1), 3), STEPS[name]
        turns = {library: _several(step, steps) for library, step in programs.items()}
        seconds = {k: v / steps for k, v in by_turns(turns, rounds, warm_up=2).items()}
        ours, torch, jax = seconds["microgpt"], seconds.get("torch"), seconds.get("jax")
        rows.append(
            (
                name,
                f"{ours * 1e3:.2f}",
                f"{size.tokens / ours:,.0f}",
                f"{size.flops / ours / 1e9:.1f}",
                "" if torch is None else f"{torch * 1e3:.2f}",
                "" if torch is None else ratio(torch, ours),
                GOALS[name],
                "" if jax is None else f"{jax * 1e3:.2f}",
            )
        )
    return rows


def _several(step: Step, count: int) -> Callable[[], object]:
    return lambda: [step() for _ in range(count)]
