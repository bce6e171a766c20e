"""The pytest plugin of microgpt: options, reports of failed gradient checks, backend verdicts.

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


def pytest_configure(config: pytest.Config) -> None:
    """Gather what the conformance kit finds."""
    config.pluginmanager.register(_Conformance(config), "microgpt-conformance")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With pytest-xdist: all tiers of a backend in one process, because each builds on the last."""
    dist = getattr(config.option, "dist", "no")
    if config.getoption("microgpt_backend") is None or dist not in ("load", "loadgroup"):
        return None
    from xdist.scheduler import LoadScopeScheduling  # pyright: ignore[reportMissingImports]

    class Scheduler(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            tier = "test_conformance.py::test_tier[" in nodeid
            return "microgpt.testing.conformance" if tier else nodeid

    return Scheduler(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    """Writes the report of a gradient check that failed a test."""
    result = yield
    part = getattr(item, "microgpt_verdict", None)
    if part is not None and call.when == "call":
        result.microgpt_verdict = part  # what pytest-xdist sends along to the first process
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


class _Conformance:
    """Gathers what the conformance kit found, in this process or in others; tells it at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self.worker = hasattr(config, "workerinput")
        self.json = config.getoption("microgpt_json")
        self.parts: list[dict[str, Any]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        part = getattr(report, "microgpt_verdict", None)
        if part is not None and not self.worker:
            self.parts.append(part)

    def _verdict(self) -> Any:
        from microgpt.testing.conformance.verdict import Verdict

        return Verdict.joined(self.parts)

    def pytest_sessionfinish(self) -> None:
        if self.parts and self.json:
            self._verdict().write_json(self.json)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self.parts:
            return
        verdict = self._verdict()
        terminalreporter.section(f"microgpt conformance of {verdict.backend}")
        for tier in sorted({r.tier for r in verdict.results}):
            terminalreporter.line(verdict.line(tier))
            for line in verdict.details(tier):
                terminalreporter.line(f"  {line}")
        terminalreporter.line(str(verdict))
