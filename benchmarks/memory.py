"""W8: the most memory that a training step of an S3 GPT needs, each library in its own process."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.measure import installed

TITLE = "peak memory of an S3 training step, above what the process had before the model"
HEAD = ("library", "model and step MB", "whole process MB", "ours is", "goal")

_PROGRAM = """
import resource, sys
from benchmarks import gpt_peers

def peak():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

getattr(gpt_peers, sys.argv[1])(gpt_peers.SIZES["S0"])()
before = peak()
step = getattr(gpt_peers, sys.argv[1])(gpt_peers.SIZES[sys.argv[2]])
for _ in range(3):
    step()
print((peak() - before) / 2**20, peak() / 2**20)
"""


def measure(fast: bool) -> list[tuple[str, ...]]:
    """Three steps in a fresh process for each library."""
    size = "S2" if fast else "S3"
    peers = ["microgpt", *installed("torch")]
    found = {name: _peaks(f"{name}_step", size) for name in peers}
    ours = found["microgpt"][0]
    rows = []
    for name, (step, process) in found.items():
        compared = "" if name == "microgpt" else f"{ours / step:.2f} of it"
        goal = "" if name == "microgpt" else "<= 1"
        rows.append((name, f"{step:.0f}", f"{process:.0f}", compared, goal))
    return rows


def _peaks(program: str, size: str) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, program, size],
        check=True, capture_output=True, text=True, env=dict(os.environ),
    )  # fmt: skip
    step, process = done.stdout.split()
    return float(step), float(process)
