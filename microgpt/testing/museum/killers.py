"""Runs the checks that must find a bug: the suite's own, none made for the purpose."""

from __future__ import annotations

import re

from microgpt.errors import GradcheckError, InputError, missing_extra
from microgpt.ops.table import TABLE
from microgpt.testing.museum.base import CONFORMANCE, ORACLE, Check


def run(killer: Check, *, shrink: bool = False) -> None:
    """Examine what `killer` names, on the same drawn examples in every run.

    Raises:
        AssertionError: if the property does not hold; other errors come from the code under test.
        InputError: if the check lives with the tests and cannot be run from the package.
        MissingExtraError: if Hypothesis is not installed (extra: test).
    """
    try:
        import hypothesis  # noqa: F401
    except ImportError:
        raise missing_extra("hypothesis", "test", "running the checks") from None
    if killer.name == ORACLE:
        raise InputError(
            f"{killer} needs SciPy and lives with the tests: "
            f"python -m pytest tests/test_forward.py -k '{killer.op}'"
        )
    if killer.name == CONFORMANCE:
        _conformance(killer)
        return
    from microgpt.testing.properties import examine

    op = None if killer.op is None else TABLE[killer.op]
    examine(killer.name, op, examples=killer.examples, shrink=shrink)


def _conformance(killer: Check) -> None:
    from microgpt.testing.conformance.kit import Kit
    from microgpt.testing.conformance.tiers import checks

    kit = Kit("numpy", killer.examples)
    forward = [pair for tier in range(1, 5) for pair in checks(tier, kit)]
    for name, check in forward:
        if name == killer.op:
            check()


def failure(killer: Check, *, shrink: bool = False) -> Exception | None:
    """What the check says now; None if it passes."""
    try:
        run(killer, shrink=shrink)
    except Exception as error:
        return error
    return None


def code_of(error: Exception) -> str:
    """The code of a failure of `gradcheck`, else the class of the error."""
    report = getattr(error, "report", None)
    if isinstance(error, GradcheckError) and report is not None:
        return report.failures[0].code
    found = re.match(r"\[([A-Z_]+)\]", str(error))
    return found[1] if found else type(error).__name__
