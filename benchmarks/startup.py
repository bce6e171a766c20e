"""What comes before the second training step: import, opening of the device, first step of S2.

Every run is a process of its own. A cold one finds no compiled kernel: its caches (ours, and that
of PoCL) are an empty folder. The warm one after it finds what the cold one left there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.contest import ways
from benchmarks.measure import Options, Row, Table, installed, note

TITLE = "start of a program: the first training step of an S2 GPT in a fresh process"
HEAD = (
    "library", "caches", "import s", "opening s", "first step s", "together s", "second step s",
    "whole process s", "goal",
)  # fmt: skip
GOALS = {"cold": "together <= 5", "warm": "together <= 1"}
CACHES = ("MICROGPT_OPENCL_CACHE", "POCL_CACHE_DIR")

_PROGRAM = """
import json, sys
from time import perf_counter

times = [perf_counter()]
if sys.argv[1] == "torch":
    import torch
    times.append(perf_counter())
else:
    import microgpt
    times.append(perf_counter())
    microgpt.ones(1).numpy()
times.append(perf_counter())
# What the benchmark itself has to load belongs to neither.
from benchmarks import gpt_peers
late = perf_counter() - times[-1]
make = gpt_peers.torch_step if sys.argv[1] == "torch" else gpt_peers.microgpt_step
step = make(gpt_peers.SIZES["S2"])
for _ in range(2):
    step()
    if sys.argv[1] != "torch":
        microgpt.plugins.registry.backend(microgpt.config.get("backend")).synchronize()
    times.append(perf_counter())
found = [b - a for a, b in zip(times, times[1:])]
found[2] -= late
print(json.dumps(found))
"""


def measure(options: Options) -> Table:
    """Cold and warm runs by turns; the model is built in the time of the first step."""
    runs: dict[tuple[str, str], Mapping[str, str]] = {}
    for way, variables in ways(options.backend).items():
        states = ("cold", "warm") if options.backend == "opencl" else ("",)
        for state in states:
            runs[way, state] = variables | {"MICROGPT_BACKEND": options.backend}
    for peer in ("torch",) if options.peers is None else options.peers:
        if peer == "numpy" and options.backend != "numpy":
            runs[peer, ""] = {"MICROGPT_BACKEND": "numpy"}
        elif peer == "torch" and installed(peer):
            runs[peer, ""] = {}
        elif peer not in ("numpy", "torch"):
            note(f"{peer} takes no part in this one")
    times: dict[tuple[str, str], list[list[float]]] = {run: [] for run in runs}
    for _ in range(2 if options.fast else 7):
        with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
            for (library, state), variables in runs.items():
                place = str(Path(folder, library))
                caches = dict.fromkeys(CACHES, place) if state else {}
                environment = os.environ | dict(variables) | caches
                times[library, state].append(_started(library, environment))
    return Table(HEAD, [_row(*run, found) for run, found in times.items()])


def _started(library: str, environment: Mapping[str, str]) -> list[float]:
    """Seconds of import, opening, first and second step, whole process."""
    start = perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, library],
        check=True, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    return [*json.loads(done.stdout), perf_counter() - start]


def _row(library: str, caches: str, times: list[list[float]]) -> Row:
    """The medians. Those of the parts need not add up to that of the sums."""
    bring, opening, first, second, process = (median(part) for part in zip(*times, strict=True))
    together = median(sum(each[:3]) for each in times)
    columns = (bring, opening, first, together, second, process)
    return (library, caches, *(f"{x:.2f}" for x in columns), GOALS.get(caches, ""))
