"""Processes in which one module is a mutant: each runs checks until one fails, and ends."""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_all_start_methods, get_context
from typing import Any

from tests.mutation.sites import MODULES, ROOT

# A server process that has these loaded starts a process for each mutant quickly. None of them
# imports what is mutated.
PRELOADED = ["numpy", "scipy.signal", "scipy.special", "hypothesis", "pluggy", "pytest"]
MEMORY = 6 << 30


class _Changed(importlib.machinery.SourceFileLoader):
    """Loads a module from other text than that of its file."""

    def __init__(self, name: str, path: str, text: str) -> None:
        super().__init__(name, path)
        self.text = text

    def get_code(self, fullname: str) -> Any:
        return compile(self.text, self.path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, module: str, text: str) -> None:
        self.loader = _Changed(module, str(ROOT / MODULES[module]), text)

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> Any:
        if fullname != self.loader.name:
            return None
        return importlib.util.spec_from_loader(fullname, self.loader)


def context() -> Any:
    """Fresh processes: from a server where the system has them, else started anew."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    if "forkserver" not in get_all_start_methods():
        return get_context("spawn")
    made = get_context("forkserver")
    made.set_forkserver_preload(PRELOADED)
    return made


def attempt(
    ctx: Any, module: str | None, text: str | None, checks: list[str], examples: int, *,
    timeout: float, budget: float,
) -> dict[str, Any]:  # fmt: skip
    """Run checks against a changed module (None: against the library as it is).

    Args:
        timeout: seconds after which one check counts as endless.
        budget: seconds after which no further check is begun.

    Returns:
        "check": the one that failed, or "import", "timeout", "crash", or None for a survivor;
        "why": the first line of the failure; "at": the check that was running; "passed": how many
        did not fail.
    """
    ours, theirs = ctx.Pipe(duplex=False)
    job = (theirs, module, text, checks, examples)
    process = ctx.Process(target=_run, args=job, daemon=True)
    process.start()
    theirs.close()
    passed, at, start = 0, "import", time.perf_counter()
    try:
        while True:
            kind, said = "timeout", ""
            if ours.poll(timeout):
                try:
                    kind, said = ours.recv()
                except EOFError:
                    kind = "crash"
            if kind == "failed":
                return {"check": at, "why": said, "at": at, "passed": passed}
            if kind in ("timeout", "crash"):
                return {"check": kind, "why": f"in {at}", "at": at, "passed": passed}
            passed += at != "import"
            late = time.perf_counter() - start > budget
            if kind == "done" or late:
                why = f"stopped after {budget:g} s" if late else ""
                return {"check": None, "why": why, "at": at, "passed": passed}
            at = said
    finally:
        process.kill()
        process.join()
        ours.close()


def _run(pipe: Any, module: str | None, text: str | None, checks: list[str], examples: int) -> None:
    with _quiet():
        try:
            check = _loaded(module, text)
            for name in checks:
                pipe.send(("begin", name))
                check.run(name, examples)
        except BaseException as error:
            lines = str(error).strip().splitlines() or [""]
            pipe.send(("failed", f"{type(error).__name__}: {lines[0]}"[:160]))
        else:
            pipe.send(("done", ""))


def _loaded(module: str | None, text: str | None) -> Any:
    """`tests.mutation.checks`, over a library in which `module` is changed."""
    if "microgpt" in sys.modules:
        raise ImportError("microgpt was imported before its module could be changed")
    if module is not None and text is not None:
        sys.meta_path.insert(0, _Finder(module, text))
    _limit_memory()
    checks = importlib.import_module("tests.mutation.checks")
    if module is not None:
        loader = importlib.import_module(module).__loader__
        if not isinstance(loader, _Changed):
            raise ImportError(f"{module} was loaded from its file, not from the changed text")
    return checks


def _limit_memory() -> None:
    """A mutant that asks for too much fails by itself and does not harm the machine."""
    try:
        import resource
    except ImportError:  # not on this system
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


@contextmanager
def _quiet() -> Iterator[None]:
    """What Hypothesis and the interpreter print about failures would drown the report."""
    with open(os.devnull, "w") as nowhere:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(nowhere.fileno(), stream.fileno())
        yield


def traced(ctx: Any, only: str | None) -> dict[str, Any]:
    """What there is to run in the library as it is, and what it calls.

    Returns:
        "checks": all names of checks; "ops" and "laws": see `checks.trace`; "failing": the laws
        that do not hold, whatever is mutated.

    Raises:
        RuntimeError: if it cannot be found out, because the library fails without any mutant.
    """
    ours, theirs = ctx.Pipe(duplex=False)
    process = ctx.Process(target=_trace, args=(theirs, only), daemon=True)
    process.start()
    theirs.close()
    try:
        kind, found = ours.recv()
    except EOFError:
        raise RuntimeError("the library as it is ended the process") from None
    finally:
        process.join()
        ours.close()
    if kind == "failed":
        raise RuntimeError(f"without any mutant: {found}")
    return found


def _trace(pipe: Any, only: str | None) -> None:
    files = {str(ROOT / path): name for name, path in MODULES.items()}
    with _quiet():
        try:
            check = _loaded(None, None)
            pipe.send(("done", check.trace(files, only)))
        except BaseException as error:
            pipe.send(("failed", repr(error)))
