"""W1: scalar programs against micrograd, seconds and peak memory of one training step."""

from __future__ import annotations

import math
import sys
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

from benchmarks.measure import Options, Row, Table, by_turns, installed, ratio
from benchmarks.scalar_programs import gpt_step, moons_step
from microgpt import Scalar

TITLE = "scalar programs: the same source with either value class"
HEAD = (
    "program",
    "microgpt ms",
    "micrograd ms",
    "speed",
    "goal",
    "peak MB",
    "micrograd",
    "memory",
    "goal",
)


def measure(options: Options) -> Table:
    """Both programs with both classes, by turns."""
    rows: list[Row] = []

    def work() -> None:
        rows.extend(_rows(options.fast))

    # micrograd walks its graph by recursion: it needs room that the main thread does not have.
    sys.setrecursionlimit(1_000_000)
    threading.stack_size(512 * 1024 * 1024)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return Table(HEAD, rows)


def _rows(fast: bool) -> list[Row]:
    there = bool(installed("micrograd"))
    rows = []
    for name, make in (("moons 2-16-16-1", moons_step), ("GPT step, 9 tokens", gpt_step)):
        programs: dict[str, Callable[[], Any]] = {"microgpt": make(Scalar)}
        if there:
            programs["micrograd"] = make(_value_with_exp_and_log())
        losses = {k: [step() for _ in range(2)] for k, step in programs.items()}
        for found in losses.values():
            # Same program, same numbers: the peers must agree before they are timed.
            assert all(
                math.isclose(a, b, rel_tol=1e-9)
                for a, b in zip(found, losses["microgpt"], strict=True)
            )
        seconds = by_turns(programs, rounds=3 if fast else 9)
        memory = {k: _peak(step) for k, step in programs.items()}
        ours = seconds["microgpt"]
        peer = seconds.get("micrograd")
        rows.append(
            (
                name,
                f"{ours * 1e3:.1f}",
                "" if peer is None else f"{peer * 1e3:.1f}",
                "" if peer is None else ratio(peer, ours),
                ">= 3x",
                f"{memory['microgpt'] / 1e6:.1f}",
                "" if peer is None else f"{memory['micrograd'] / 1e6:.1f}",
                "" if peer is None else f"{memory['microgpt'] / memory['micrograd']:.2f}",
                "<= 0.5",
            )
        )
    return rows


def _peak(step: Callable[[], Any]) -> int:
    tracemalloc.start()
    step()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak


def _value_with_exp_and_log() -> Any:
    """micrograd's Value; the package has neither exp nor log, so a subclass adds both."""
    from micrograd.engine import Value

    class WithExpAndLog(Value):
        pass

    def exp(self: Any) -> Any:
        out = Value(math.exp(self.data), (self,), "exp")

        def _backward() -> None:
            self.grad += out.data * out.grad

        out._backward = _backward
        return out

    def log(self: Any) -> Any:
        out = Value(math.log(self.data), (self,), "log")

        def _backward() -> None:
            self.grad += out.grad / self.data

        out._backward = _backward
        return out

    # Its operators return plain Values, so the methods have to be on that class to be found.
    Value.exp, Value.log = exp, log
    return WithExpAndLog
