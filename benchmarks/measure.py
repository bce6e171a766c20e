"""Timing by turns: A B C A B C …, so that a slow moment of the machine hits everybody; medians."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from statistics import median
from time import perf_counter


def by_turns(
    programs: Mapping[str, Callable[[], object]], rounds: int, warm_up: int = 1
) -> dict[str, float]:
    """Median seconds of one call of each program."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    for turn in range(warm_up + rounds):
        for name, program in programs.items():
            gc.collect()
            start = perf_counter()
            program()
            seconds = perf_counter() - start
            if turn >= warm_up:
                times[name].append(seconds)
    return {name: median(values) for name, values in times.items()}


def ratio(peer: float, ours: float) -> str:
    """How many times faster we are."""
    return f"{peer / ours:.2f}x"


def installed(*names: str) -> list[str]:
    """Those of the peers `names` that can be imported; the others are named in a note."""
    there = [name for name in names if find_spec(name)]
    missing = sorted(set(names) - set(there))
    if missing:
        print(f"  (not installed, so not compared: {', '.join(missing)})")
    return there
