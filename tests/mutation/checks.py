"""What a mutant must be noticed by: the properties, op by op, the laws, and the tests of the face.

Imported in the processes that run a mutant, after the changed module has been put in place.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt.autograd import gradients_of
from microgpt.ops import TABLE, Op
from microgpt.testing.properties import PROPERTIES, Property, examine
from microgpt.testing.strategies import Drawer, case_of
from tests import oracles
from tests.mutation.sites import ROOT

OWN = [op for op in TABLE.values() if op.function.__module__.startswith("microgpt.")]
FIRST = [oracles.forward_oracle.__name__, "gradcheck", "fused_equals_body", "float32_dtype"]
"""The properties that notice most for their time."""
TESTS = "tests"
"""The tests that are about no row of the table in particular, in the files of these topics."""
FILES = (
    "forward", "composites", "gradients", "accuracy", "kernel_portions", "engine", "plugins",
    "array_api",
)  # fmt: skip
LEFT_OUT = ("100_000", "memory_stays_flat", "the_kit", "torch")
"""Of these, tests of depth, of memory and of whole backends: they take longer than the others."""


def names() -> list[str]:
    """Every check: 'property op' for those of an op, 'property' for the laws; quick ones first."""
    rest = sorted(PROPERTIES.keys() - FIRST, key=lambda name: (PROPERTIES[name].share, name))
    kinds = [PROPERTIES[name] for name in [*FIRST, *rest]]
    found = [
        f"{p.name} {op.name}"
        for p in kinds
        for op in OWN
        if p.applies is not None and p.applies(op)
    ]
    return [*found, *[p.name for p in kinds if p.applies is None], TESTS]


def run(name: str, examples: int) -> None:
    """One check on a fixed choice of examples.

    Raises:
        AssertionError, or whatever the library raises: if it does not hold.
    """
    if name == TESTS:
        _run_tests()
        return
    prop, _, op = name.partition(" ")
    # As in the test suite, a warning is a failure.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        examine(prop, TABLE[op] if op else None, examples=examples, shrink=False)


class _NotOfOps:
    """A pytest plugin that leaves the tests of single rows out: the properties have been there."""

    failed = ""

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        def wanted(item: Any) -> bool:
            values = item.callspec.params.values() if hasattr(item, "callspec") else ()
            of_op = any(isinstance(v, Op) for v in values)
            return not of_op and not any(words in item.name for words in LEFT_OUT)

        items[:] = [item for item in items if wanted(item)]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed = report.nodeid


def _run_tests() -> None:
    plugin = _NotOfOps()
    files = [str(ROOT / "tests" / f"test_{name}.py") for name in FILES]
    # Hypothesis objects to its plugin being loaded after properties have been examined.
    left_out = ["-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    options = ["-x", "-q", "--assert=plain", f"--rootdir={ROOT}", *left_out]
    if pytest.main([*options, *files], plugins=[plugin]) != 0:
        raise AssertionError(plugin.failed or "the tests could not be collected")


def trace(files: dict[str, str], only: str | None) -> dict[str, Any]:
    """The functions that each op and each law call: {name: {module: [first lines]}}.

    Args:
        files: the modules of interest, by path.
        only: one op; then there are no laws.
    """
    chosen = [op for op in OWN if only in (None, op.name)]
    ops = {op.name: _called(files, _passes, op) for op in chosen}
    laws, failing = {}, []
    for name in [p.name for p in PROPERTIES.values() if p.applies is None and only is None]:
        try:
            laws[name] = _called(files, run, name, 2)
        except Exception:  # whatever it is, the law fails without a mutant, and that is reported
            failing.append(name)
    return {"checks": names(), "ops": ops, "laws": laws, "failing": failing}


def _passes(op: Op) -> None:
    """An op's output and gradients of both orders, recorded and not, on a few drawn cases."""

    def check(op: Op, d: Drawer) -> None:
        case = case_of(op, d)
        floats = case.floats()
        for recorded in (False, True):
            args = [
                mg.tensor(x, requires_grad=i in floats) if isinstance(x, np.ndarray) else x
                for i, x in enumerate(case.inputs)
            ]
            y = case.call(op.function, *args, **case.params)
            wrt = [args[i] for i in floats]
            for _ in range(2 if recorded else 1):
                if not y.requires_grad:
                    break
                ones = [mg.ops.ones_like(y)]
                grads = gradients_of([y], wrt, ones, create_graph=recorded)
                y = sum((mg.sum(g * g) for g in grads), 0.0)

    examine(Property("passes", (), "", check, lambda op: True), op, examples=20, shrink=False)


def _called(files: dict[str, str], function: Callable[..., None], *args: Any) -> dict[str, Any]:
    seen: set[tuple[str, int]] = set()

    def record(frame: Any, event: str, arg: object) -> None:
        if event == "call":
            seen.add((frame.f_code.co_filename, frame.f_code.co_firstlineno))

    sys.setprofile(record)
    try:
        function(*args)
    finally:
        sys.setprofile(None)
    called: dict[str, list[int]] = {}
    for file, line in sorted(seen):
        if file in files:
            called.setdefault(files[file], []).append(line)
    return called
