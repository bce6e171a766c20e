"""One check in progress: what it is about, what it found, and the first failure that ends it."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from microgpt.errors import BackendError, PluginError, ShapeError
from microgpt.ops.table import Op
from microgpt.testing.report import Failure, GradReport
from microgpt.testing.subject import Pass, Subject


@dataclass(frozen=True)
class Settings:
    """How thoroughly, and how strictly."""

    checks: tuple[str, ...]
    order: int = 1
    n_proj: int = 3
    seed: int = 0
    rtol: float = 1e-9
    atol: float = 1e-9


class Stop(Exception):
    """The first failure ends a check."""


class Check:
    """A check of `subject`, whose value is `output`; its `report` grows on the way."""

    output = np.ones(())

    def __init__(self, subject: Subject, settings: Settings) -> None:
        self.subject, self.settings = subject, settings
        self.points = subject.points
        self.report = GradReport(subject.name, subject=subject, settings=settings)
        self.rng = np.random.default_rng(settings.seed)

    def asked(self, code: str) -> bool:
        """Whether to check for `code`."""
        return code in self.settings.checks

    def fail(self, code: str, text: str) -> NoReturn:
        """Note a failure and stop."""
        self.failed(Failure(code, text))

    def failed(self, failure: Failure) -> NoReturn:
        """The same with a failure that is ready."""
        self.report.failures.append(failure)
        raise Stop

    def raised(self, error: Exception, code: str, when: str = "") -> NoReturn:
        """Note as a failure what a gradient rule or a kernel raised, and stop.

        An error of a backend or plugin says nothing about gradients and is passed on.
        """
        if isinstance(error, (BackendError, PluginError)):
            raise error
        self.report.cause = error
        shape = isinstance(error, ShapeError) and code == "VALUE"
        self.fail("SHAPE" if shape else code, f"{when}{in_words(error)}")

    def run(
        self, cotangent: np.ndarray, layout: str | None = None, *, code: str = "VALUE",
        when: str = "", twice: bool = False,
    ) -> Pass:  # fmt: skip
        """A forward and backward pass; an exception is a failure with this code."""
        try:
            return self.subject.run(self.points, cotangent, layout, twice)
        except Exception as error:
            self.raised(error, code, when)

    def gradients(self, cotangent: np.ndarray, **how: Any) -> list[Any]:
        """Analytic gradients by each of the inputs; arguments as of `run`."""
        return self.run(cotangent, **how).gradients


def in_words(error: Exception) -> str:
    """Which op raised `error`, in which pass, and in which line of whose code."""
    op, backward = _op_of(error)
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    who = "the function"
    if op is not None:
        who = f"the gradient rule of '{op.name}'" if backward else f"the op '{op.name}'"
    frames = traceback.extract_tb(error.__traceback__)
    ours = [module for module, _ in _frames(error)]
    text = f"{who} raised {what}"
    if backward and ours and ours[-1] in ("microgpt.autograd", "microgpt.scalar"):
        # Not the rule itself failed, but what took its result.
        text = (
            f"what {who} returned cannot be used ({what}); required: one array per input, of that "
            "input's shape, or None where no gradient flows"
        )
    places = [
        f"{f.filename}, line {f.lineno}"
        for f, module in zip(frames, ours, strict=True)
        if not module.startswith("microgpt.")
    ]
    return text + (f"\n  raised in {places[-1]}" if places else "")


def _frames(error: Exception) -> list[tuple[str, dict[str, Any]]]:
    """Module and local variables of the calls that led to `error`, outermost first."""
    return [
        (frame.f_globals.get("__name__", ""), frame.f_locals)
        for frame, _ in traceback.walk_tb(error.__traceback__)
    ]


def _op_of(error: Exception) -> tuple[Op | None, bool]:
    """The op that was at work, and whether it was its gradient rule."""
    for module, variables in _frames(error):
        backward = module in ("microgpt.autograd", "microgpt.scalar")
        if not backward and not module.startswith("microgpt.ops."):
            continue
        op = variables.get("op") or getattr(variables.get("node"), "_op", None)
        if isinstance(op, Op):
            return op, backward
    return None, False
