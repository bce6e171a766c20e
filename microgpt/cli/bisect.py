"""`microgpt bisect`: the first op at which two backends part, in a program run on both at once."""

from __future__ import annotations

import os
import runpy
import shlex
import sys
import traceback
from collections.abc import Sequence

from microgpt.errors import InputError
from microgpt.testing.bisection import find


def bisect(
    script: str, backends: str, arguments: Sequence[str], seed: int | None, rtol: float | None
) -> int:
    """Run `script` as a program on two backends and print where they part.

    Args:
        script: a Python file.
        backends: two names with a comma between them.
        arguments: what the script finds in `sys.argv`.
        seed, rtol: see `microgpt.testing.bisect`.

    Returns:
        The exit status: 0 if the backends agree, 1 if they part.

    Raises:
        InputError: if there is no such script, if it fails, or if it runs no op on the backends.
        BackendError: if there is no such backend.
    """
    names = backends.split(",")
    if len(names) != 2 or not all(names):
        raise InputError(
            f"--backends takes two names with a comma between them (numpy,opencl); got {backends!r}"
        )
    if not os.path.isfile(script):
        raise InputError(f"there is no script {script!r}; required: the path of a Python file")
    again = ["microgpt", "bisect", script, "--backends", backends]
    again += [] if seed is None else ["--seed", str(seed)]
    again += [] if rtol is None else ["--rtol", str(rtol)]
    again += ["--", *arguments] if arguments else []

    def program() -> None:
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            if end.code not in (None, 0):
                raise InputError(f"it ended with the exit status {end.code!r}") from end

    outside = sys.argv, sys.path
    sys.argv = [script, *arguments]
    sys.path = [os.path.dirname(os.path.abspath(script)), *sys.path]
    try:
        found = find(program, script, names[0], names[1], (), seed, rtol, shlex.join(again))
    except Exception as error:
        notes = getattr(error, "__notes__", None)
        if not notes:  # it was not the script that failed
            raise
        raise InputError(
            f"{script}{_line(error, script)} failed {notes[-1]}: {type(error).__name__}: {error}\n"
            "Required: a script that ends by itself and without an error."
        ) from error
    finally:
        sys.argv, sys.path = outside
    print(found)
    return 0 if found.agree else 1


def _line(error: Exception, script: str) -> str:
    """In which line of the script it happened."""
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == script]
    return f", line {lines[-1]}," if lines else ""
