"""The pytest plugin of microgpt: options, one marker, reports of failed gradient checks.

It is found through the entry-point group ``pytest11`` and so is loaded into the test runs of
everybody who has microgpt installed. Hence it does nothing until one of its options is used, and
neither imports Hypothesis nor loads a profile of it.
"""

from __future__ import annotations

from typing import Any

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Our options, in a group of their own."""
    group = parser.getgroup("microgpt", "gradient checks and backend conformance (microgpt)")
    group.addoption(
        "--gradcheck-report",
        metavar="DIR",
        default=None,
        help="write every failed gradient check there, as a script that repeats it and a picture",
    )
    group.addoption(
        "--microgpt-backend",
        metavar="NAME",
        default=None,
        help="the backend that microgpt.testing.conformance checks",
    )
    group.addoption(
        "--microgpt-examples",
        metavar="N",
        type=int,
        default=20,
        help="drawn inputs per op in microgpt.testing.conformance (20)",
    )
    group.addoption(
        "--microgpt-json",
        metavar="FILE",
        default=None,
        help="write the verdict of microgpt.testing.conformance there, as JSON",
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    """Writes the report of a gradient check that failed a test."""
    result = yield
    folder = item.config.getoption("gradcheck_report")
    error = None if call.excinfo is None else call.excinfo.value
    report = getattr(error, "report", None)
    if folder is not None and result.failed and report is not None:
        from microgpt.testing.evidence import write_report
        from microgpt.testing.report import GradReport

        if isinstance(report, GradReport):
            name = "".join(c if c.isalnum() else "_" for c in item.name).strip("_")
            path = write_report(report, folder, name)
            result.sections.append(("microgpt", f"gradient check written to {path}"))
    return result
