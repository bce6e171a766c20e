"""``python -m benchmarks NAME…`` or ``all``: see `benchmarks.measure` for how.

``--backend opencl`` times that backend; ``--peer torch --peer tinygrad`` says whom beside.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import Options

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
    "startup": "start",
    "names": "names",
}
NO_BACKEND = ("scalar", "ops", "import")
"""These are about the package itself, or (ops) about calls that a backend may put off."""

PEERS = ("torch", "jax", "tinygrad", "numpy")
THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POCL_MAX_PTHREAD_COUNT",
    "NUM_CPU_THREADS",
)  # fmt: skip


def main() -> None:
    """Run the chosen benchmarks, each in a process of its own, with one thread on one core."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="+", choices=[*NAMES, "all"])
    parser.add_argument("--fast", action="store_true", help="fewer rounds, for a first look")
    parser.add_argument(
        "--backend",
        default=os.environ.get("MICROGPT_BACKEND") or "numpy",
        help="which of ours is timed (default: MICROGPT_BACKEND, or numpy)",
    )
    parser.add_argument(
        "--peer",
        action="append",
        choices=PEERS,
        dest="peers",
        help="whom to time beside, may be repeated; numpy is our own backend "
        "(default: what the benchmark is usually compared with)",
    )
    parser.add_argument("--threads", type=int, default=1, help="threads per library (default 1)")
    parser.add_argument("--cpu", type=int, help="core to run on (default: the last one)")
    parser.add_argument("--json", type=Path, default=Path("out/benchmarks"), metavar="FOLDER")
    options = parser.parse_args()
    chosen = list(NAMES) if "all" in options.names else options.names
    if os.environ.get("BENCHMARK_CHILD"):
        peers = None if options.peers is None else tuple(options.peers)
        asked = Options(options.fast, options.backend, peers)
        run(chosen[0], asked, options.threads, options.json)
        return
    if options.backend != "numpy" and "all" in options.names:
        chosen = [name for name in chosen if name not in NO_BACKEND]
    for name in chosen:
        if options.backend != "numpy" and name in NO_BACKEND:
            parser.error(f"{name} is not a benchmark of backends; got --backend {options.backend}")
    environment = os.environ | {name: str(options.threads) for name in THREADS}
    environment |= {"BENCHMARK_CHILD": "1", "MICROGPT_BACKEND": options.backend}
    flags = ["--fast"] * options.fast + ["--threads", str(options.threads)]
    flags += ["--json", str(options.json), "--backend", options.backend]
    flags += [flag for peer in options.peers or () for flag in ("--peer", peer)]
    if hasattr(os, "sched_setaffinity") and options.threads == 1:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[-1] if options.cpu is None else options.cpu})
    for name in chosen:
        command = [sys.executable, "-m", "benchmarks", name, *flags]
        if subprocess.run(command, env=environment, check=False).returncode:
            sys.exit(f"benchmark {name} failed")


def run(name: str, options: Options, threads: int, folder: Path) -> None:
    """Run one benchmark in this process, print its table and write its figures as JSON."""
    module = importlib.import_module(f"benchmarks.{'imports' if name == 'import' else name}")
    title = module.title(options) if hasattr(module, "title") else module.TITLE
    devices = {} if name in NO_BACKEND else _devices(options)
    shown = "".join(f", {backend} on {device}" for backend, device in devices.items())
    print(f"\n{NAMES[name]}  {title}  ({threads} thread{'s' * (threads > 1)}{shown})", flush=True)
    head, rows = module.measure(options)
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]
    above = ""
    for row in [head, *rows]:
        first = "" if row[0] == above else row[0]  # a case of several rows is named once
        cells = zip((first, *row[1:]), widths, strict=True)
        print("  " + "  ".join(str(cell).ljust(w) for cell, w in cells).rstrip())
        above = row[0]
    folder.mkdir(parents=True, exist_ok=True)
    figures = {
        "benchmark": name,
        "python": platform.python_version(),
        "processor": platform.processor() or platform.machine(),
        "threads": threads,
        "backend": options.backend,
        "devices": devices,
        "versions": _versions(),
        "fast": options.fast,
        "head": head,
        "rows": rows,
    }
    ours = "" if options.backend == "numpy" else f"-{options.backend}"
    target = folder / f"{name}{ours}.json"
    temporary = target.with_suffix(".part")
    temporary.write_text(json.dumps(figures, indent=1))
    os.replace(temporary, target)


def _devices(options: Options) -> dict[str, str]:
    """What our backends compute on here."""
    from benchmarks.contest import opened

    found = {}
    for backend in (options.backend, *(["numpy"] if "numpy" in (options.peers or ()) else [])):
        device = opened(backend)
        found[backend] = device if isinstance(device, str) else getattr(device, "title", "")
    return found


def _versions() -> dict[str, str]:
    """Of the libraries that may take part, as far as they are installed."""
    found = {}
    for package in ("numpy", "torch", "jax", "tinygrad", "pyopencl"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


if __name__ == "__main__":
    main()
