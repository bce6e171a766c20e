"""Timing by turns: A B C A B C …, so that a slow moment of the machine hits everybody; medians."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from statistics import median
from time import perf_counter
from typing import NamedTuple, TypeVar

Name = TypeVar("Name")
Row = tuple[str, ...]
PATIENCE = 120.0
"""Seconds after which a program takes no more turns, if it had one that counts."""


@dataclass(frozen=True)
class Options:
    """What the command line asks of a benchmark."""

    fast: bool = False
    backend: str = "numpy"
    peers: tuple[str, ...] | None = None
    """Whom to time beside; None: those that the benchmark is usually compared with."""


class Table(NamedTuple):
    """What a benchmark found."""

    head: Row
    rows: list[Row]


class PeerMissing(Exception):
    """A peer cannot be timed here; the message says why."""


def by_turns(
    programs: Mapping[Name, Callable[[], object]],
    rounds: int,
    warm_up: int = 1,
    patience: float = PATIENCE,
) -> dict[Name, float]:
    """Median seconds of one call of each program."""
    times: dict[Name, list[float]] = {name: [] for name in programs}
    spent = dict.fromkeys(programs, 0.0)
    for turn in range(warm_up + rounds):
        for name, program in programs.items():
            if times[name] and spent[name] > patience:
                continue
            gc.collect()
            start = perf_counter()
            program()
            seconds = perf_counter() - start
            spent[name] += seconds
            if turn >= warm_up:
                times[name].append(seconds)
    return {name: median(values) for name, values in times.items()}


def ratio(peer: float, ours: float) -> str:
    """How many times faster we are."""
    return f"{peer / ours:.2f}x"


@cache
def note(text: str) -> None:
    """Print a remark above the table, once."""
    print(f"  ({text})", flush=True)


def installed(*names: str) -> list[str]:
    """Those of the peers `names` that can be imported; the others are named in a note."""
    there = [name for name in names if find_spec(name)]
    missing = sorted(set(names) - set(there))
    if missing:
        note(f"not installed, so not compared: {', '.join(missing)}")
    return there
