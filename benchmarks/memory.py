"""W8: the most memory that a training step of an S3 GPT needs, each library in its own process.

It is memory of the host that is counted: on a processor that is all there is, on a graphics card it
is not what matters. A process of ours with a backend that compiles its kernels runs once before
it counts, so that it finds them compiled, as every later run of a program does.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping

from benchmarks.contest import ways
from benchmarks.measure import Options, Table, installed, note

TITLE = "peak memory of an {size} training step, above what the process had before the model"

_PROGRAM = """
import resource, sys
from pathlib import Path
from benchmarks import gpt_peers

def peak():
    status = Path("/proc/self/status")
    if status.exists():  # on Linux the other figure begins with the peak of the parent
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

getattr(gpt_peers, sys.argv[1])(gpt_peers.SIZES["S0"])()
before = peak()
step = getattr(gpt_peers, sys.argv[1])(gpt_peers.SIZES[sys.argv[2]])
for _ in range(3):
    step()
print((peak() - before) / 2**20, peak() / 2**20)
"""


def title(options: Options) -> str:
    """What the table is about: a first look takes a smaller model."""
    return TITLE.format(size=_size(options))


def measure(options: Options) -> Table:
    """Three steps in a fresh process for each library."""
    own = {
        way: variables | {"MICROGPT_BACKEND": options.backend}
        for way, variables in ways(options.backend).items()
    }
    libraries = {way: ("microgpt_step", variables) for way, variables in own.items()}
    for peer in ("torch",) if options.peers is None else options.peers:
        if peer == "numpy" and options.backend != "numpy":
            libraries[peer] = ("microgpt_step", {"MICROGPT_BACKEND": "numpy"})
        elif peer == "torch" and installed(peer):
            libraries[peer] = ("torch_step", {})
        elif peer not in ("numpy", "torch"):
            note(f"{peer} takes no part in this one")
    found = {}
    for library, (program, variables) in libraries.items():
        if library in own and options.backend != "numpy":
            _peaks(program, _size(options), variables)
        found[library] = _peaks(program, _size(options), variables)
    columns = ["ours is"] if len(own) == 1 else [f"{way.split(', ')[1]} is" for way in own]
    table = Table(("library", "model and step MB", "whole process MB", *columns, "goal"), [])
    for library, (step, process) in found.items():
        compared = ["" if library in own else f"{found[way][0] / step:.2f} of it" for way in own]
        goal = "<= 1" if library == "torch" else ""
        table.rows.append((library, f"{step:.0f}", f"{process:.0f}", *compared, goal))
    return table


def _size(options: Options) -> str:
    return "S2" if options.fast else "S3"


def _peaks(program: str, size: str, variables: Mapping[str, str]) -> tuple[float, float]:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, program, size],
        check=True, stdout=subprocess.PIPE, text=True, env=os.environ | dict(variables),
    )  # fmt: skip
    step, process = done.stdout.split()
    return float(step), float(process)
