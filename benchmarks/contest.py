"""Who takes part: our backend, in each way that it computes matrix products, and the peers.

**Work that waits.** A device of ours may still be busy when a step returns, so every turn of ours
ends with the backend's `synchronize`. Expressions that nobody has asked for yet are another matter:
after the last step of a turn the new parameters may be among them. They are computed when the next
turn reads them, so a turn pays for what the turn before left over and leaves as much itself. After
the warm-up each turn therefore holds exactly as many updates as it has steps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import microgpt as mg
from benchmarks.measure import Options, PeerMissing, Row, by_turns, installed, note, ratio
from microgpt import config
from microgpt.plugins import registry

Program = Callable[[], object]
Maker = Callable[[], Program]
Peers = Mapping[str, Mapping[str, Maker]]
"""For each peer its programs, by the names that they have in the table."""

GEMM = "MICROGPT_OPENCL_GEMM"
PACKAGES = {"jax": ("jax", "optax")}


def ways(backend: str) -> dict[str, dict[str, str]]:
    """The ways in which a backend computes matrix products, each with its environment."""
    if backend != "opencl":
        return {backend: {}}
    device = opened(backend)
    found = {"opencl, own kernels": {GEMM: "kernel"}}
    if getattr(device, "matrix_unit", False):
        found["opencl, vectors"] = {GEMM: "vectors"}
    # On a graphics card there is no memory that the host's BLAS could work on.
    if getattr(device, "unified", True):
        found["opencl, host BLAS"] = {GEMM: "blas"}
    return found


def opened(backend: str) -> object:
    """The device that a backend computes on here, as it knows it."""
    found = registry.backend(backend)
    open_device = getattr(found, "open", None)
    if open_device is None:
        return found.devices()[0]
    return open_device(config.get("device"))


def choose(backend: str, way: Mapping[str, str]) -> None:
    """Let products be computed in one of the `ways`, in this process."""
    if GEMM in way:
        opened(backend).multiply_by(way[GEMM])  # pyright: ignore[reportAttributeAccessIssue]


def on(backend: str, make: Maker, environment: Mapping[str, str] | None = None) -> Program:
    """A program of ours on a backend, with products computed as `environment` has it."""
    found, variables = registry.backend(backend), environment or {}

    def inside(run: Callable[[], Program | object]) -> object:
        choose(backend, variables)
        with mg.use_backend(backend):
            result = run()
        found.synchronize()
        return result

    program = inside(make)
    return lambda: inside(program)  # pyright: ignore[reportArgumentType]


def contenders(
    options: Options, ours: Maker, peers: Peers, usual: tuple[str, ...] = ("torch",)
) -> dict[str, Program]:
    """Programs that are to be timed by turns; those of our backend come first."""
    programs = {way: on(options.backend, ours, env) for way, env in ways(options.backend).items()}
    peers = {"numpy": {"numpy": lambda: on("numpy", ours)}} | dict(peers)
    for peer in usual if options.peers is None else options.peers:
        if peer == options.backend:
            continue
        if peer not in peers:
            note(f"{peer} takes no part in this one")
            continue
        packages = PACKAGES.get(peer, (peer,))
        if len(installed(*packages)) < len(packages):
            continue
        for name, make in peers[peer].items():
            try:
                programs[name] = make()
            except PeerMissing as error:
                note(f"{name} is not compared: {error}")
    return programs


def head(options: Options, case: str, per: str, *more: str) -> Row:
    """The titles of the columns that `compared` fills."""
    found = list(ways(options.backend))
    columns = ["ours is"] if len(found) == 1 else [f"{way.split(', ')[1]} is" for way in found]
    return (case, "library", f"ms/{per}", *more, *columns, "goal")


def compared(
    options: Options,
    case: str,
    programs: Mapping[str, Program],
    *,
    rounds: int,
    steps: int = 1,
    warm_up: int = 1,
    goal: str = "",
    more: Callable[[float], Row] = lambda seconds: (),
) -> list[Row]:
    """One row per program: its time for a step, and how much faster than it each of ours is.

    Args:
        steps: how many of them a call of a program takes.
        goal: what the comparison with PyTorch should come to.
        more: further columns, from the seconds of a step.
    """
    turns = by_turns(programs, rounds, warm_up)
    seconds = {name: value / steps for name, value in turns.items()}
    own = list(ways(options.backend))
    rows = []
    for name, value in seconds.items():
        peer = name not in own
        ratios = [ratio(value, seconds[way]) if peer else "" for way in own]
        target = goal if name == "torch" else ""
        milliseconds = f"{value * 1e3:.{3 if value < 1e-3 else 2}f}"
        rows.append((case, name, milliseconds, *more(value), *ratios, target))
    return rows
