"""``python -m benchmarks NAME…`` or ``all``: see `benchmarks.measure` for how."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

NAMES = {
    "scalar": "W1",
    "ops": "W2",
    "mlp": "W3",
    "cnn": "W4",
    "lstm": "W5",
    "gpt": "W6",
    "generate": "W7",
    "memory": "W8",
    "import": "W9",
    "growth": "W10",
    "names": "names",
}
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POCL_MAX_PTHREAD_COUNT")


def main() -> None:
    """Run the chosen benchmarks, each in a process of its own, with one thread on one core."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="+", choices=[*NAMES, "all"])
    parser.add_argument("--fast", action="store_true", help="fewer rounds, for a first look")
    parser.add_argument("--threads", type=int, default=1, help="threads per library (default 1)")
    parser.add_argument("--cpu", type=int, help="core to run on (default: the last one)")
    parser.add_argument("--json", type=Path, default=Path("out/benchmarks"), metavar="FOLDER")
    options = parser.parse_args()
    chosen = list(NAMES) if "all" in options.names else options.names
    if os.environ.get("BENCHMARK_CHILD"):
        run(chosen[0], options.fast, options.threads, options.json)
        return
    environment = os.environ | {name: str(options.threads) for name in THREADS}
    environment["BENCHMARK_CHILD"] = "1"
    flags = ["--fast"] * options.fast + ["--threads", str(options.threads)]
    flags += ["--json", str(options.json)]
    if hasattr(os, "sched_setaffinity") and options.threads == 1:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[-1] if options.cpu is None else options.cpu})
    for name in chosen:
        command = [sys.executable, "-m", "benchmarks", name, *flags]
        if subprocess.run(command, env=environment, check=False).returncode:
            sys.exit(f"benchmark {name} failed")


def run(name: str, fast: bool, threads: int, folder: Path) -> None:
    """Run one benchmark in this process, print its table and write its figures as JSON."""
    module = importlib.import_module(f"benchmarks.{'imports' if name == 'import' else name}")
    print(f"\n{NAMES[name]}  {module.TITLE}  ({threads} thread{'s' * (threads > 1)})")
    rows = module.measure(fast)
    widths = [
        max(len(str(row[i])) for row in [module.HEAD, *rows]) for i in range(len(module.HEAD))
    ]
    for row in [module.HEAD, *rows]:
        print("  " + "  ".join(str(cell).ljust(w) for cell, w in zip(row, widths, strict=True)))
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "benchmark": name,
        "python": platform.python_version(),
        "processor": platform.processor() or platform.machine(),
        "threads": threads,
        "head": module.HEAD,
        "rows": rows,
    }
    target = folder / f"{name}.json"
    temporary = target.with_suffix(".part")
    temporary.write_text(json.dumps(figures, indent=1))
    os.replace(temporary, target)


if __name__ == "__main__":
    main()
