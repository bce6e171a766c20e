"""W9: what ``import microgpt`` costs above ``import numpy``."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.measure import Options, Table, by_turns

TITLE = "import microgpt above import numpy"
HEAD = ("program", "ms", "above numpy", "goal")


def measure(options: Options) -> Table:
    """Whole processes by turns, as on a machine where the bytecode is cached (pip compiles it)."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}

    def process(code: str):
        return lambda: subprocess.run([sys.executable, "-c", code], check=True, env=environment)

    names = {"import numpy": "import numpy", "import microgpt": "import numpy, microgpt"}
    seconds = by_turns({k: process(v) for k, v in names.items()}, rounds=7 if options.fast else 25)
    base = seconds["import numpy"]
    goals = {"import numpy": "", "import microgpt": "<= 60 ms"}
    rows = [
        (k, f"{v * 1e3:.1f}", f"{(v - base) * 1e3:+.1f} ms", goals[k]) for k, v in seconds.items()
    ]
    return Table(HEAD, rows)
