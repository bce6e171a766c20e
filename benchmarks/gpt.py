"""W6: a training step of a GPT, forward, backward and AdamW, against PyTorch, JAX and tinygrad."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.contest import Maker, compared, contenders, head
from benchmarks.gpt_peers import SIZES, Size, Step, jax_step, microgpt_step, torch_step
from benchmarks.gpt_tinygrad import tinygrad_step
from benchmarks.measure import Options, PeerMissing, Table

TITLE = "GPT training step: GPT-2 layout, cross-entropy, AdamW"
GOALS = {
    "numpy": {"S0": ">= 2x", "S1": ">= 1x", "S2": ">= 1x", "S3": ">= 1x"},
    "opencl": {"S2": ">= 1.5x", "S3": ">= 1.5x"},
}
ROUNDS = {"S0": 41, "S1": 21, "S2": 15, "S3": 5}
STEPS = {"S0": 50, "S1": 5, "S2": 2, "S3": 1}
"""Steps in a turn: as in a training, a step finds in the caches what the last one left there."""


def measure(options: Options) -> Table:
    """Steps of all libraries by turns; JAX and tinygrad are compared up to S2."""
    table = Table(head(options, "size", "step", "tokens/s", "GFLOP/s"), [])
    for name, size in SIZES.items():
        steps = STEPS[name]
        peers: dict[str, dict[str, Callable[[Size], Step]]] = {
            "torch": {"torch": torch_step},
            "jax": {"jax jit": jax_step if name != "S3" else _not_this_size},
            "tinygrad": {
                f"tinygrad {device}": partial(tinygrad_step, device=device)
                if name != "S3"
                else _not_this_size
                for device in ("CPU", "CL")
            },
        }
        programs = contenders(
            options,
            _several(microgpt_step, size, steps),
            {
                peer: {label: _several(make, size, steps) for label, make in makers.items()}
                for peer, makers in peers.items()
            },
            usual=("torch", "jax"),
        )
        table.rows.extend(
            compared(
                options,
                name,
                programs,
                rounds=max(ROUNDS[name] // (4 if options.fast else 1), 3),
                steps=steps,
                warm_up=2,
                goal=GOALS.get(options.backend, {}).get(name, ""),
                more=lambda seconds, size=size: (
                    f"{size.tokens / seconds:,.0f}",
                    f"{size.flops / seconds / 1e9:.1f}",
                ),
            )
        )
    return table


def _several(make: Callable[[Size], Step], size: Size, count: int) -> Maker:
    """A turn: some steps, one after the other."""

    def program() -> Callable[[], object]:
        step = make(size)
        return lambda: [step() for _ in range(count)]

    return program


def _not_this_size(size: Size) -> Step:
    raise PeerMissing(f"not at {size.width} wide, {size.layers} layers: its step takes too long")
