"""Runs the tiers on one backend and sums up."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from microgpt import config
from microgpt.errors import InputError, KernelNotFoundError, missing_extra
from microgpt.plugins import registry
from microgpt.testing.conformance.verdict import (
    FAILED,
    KNOWN,
    PASSED,
    SKIPPED,
    TIERS,
    UNREACHED,
    Result,
    Verdict,
    tier_of,
)

__all__ = ["TIERS", "Kit", "Result", "Verdict", "check_backend"]

Check = Callable[[], float | None]


class Kit:
    """The checks for one backend, to be run tier by tier, or one by one.

    Args:
        backend: its name; it must be installed, or registered in this process. By default the
            configured one.
        examples: drawn inputs per op.

    Raises:
        BackendError: if there is no such backend, or it cannot be loaded.
        MissingExtraError: if Hypothesis is not installed (extra: test).

    Example:
        >>> from microgpt.testing.conformance import Kit
        >>> Kit("numpy", examples=2).run_check("T2:exp").status
        'passed'
    """

    def __init__(self, backend: str | None = None, examples: int = 20) -> None:
        try:
            import hypothesis  # noqa: F401
        except ImportError:
            raise missing_extra("hypothesis", "test", "the conformance kit") from None
        if examples < 1:
            raise InputError(f"the conformance kit needs 1 example per op or more; got {examples}")
        self.backend = registry.backend(backend or config.get("backend"))
        self.name = self.backend.name
        self.examples = examples
        self.verdict = Verdict(self.name, [], versions=dict(self.backend.versions()))

    def checks(self, tier: int) -> dict[str, Check]:
        """The checks of a tier, by id.

        Raises:
            InputError: if there is no such tier.
        """
        from microgpt.testing.conformance.tiers import checks

        if tier not in range(len(TIERS)):
            raise InputError(f"there is no tier {tier}; required: 0 to {len(TIERS) - 1}")
        return {f"T{tier}:{name}": check for name, check in checks(tier, self)}

    def run_check(self, name: str) -> Result:
        """Run one check, whatever the tiers before it say; it does not count for the verdict.

        Args:
            name: its id, for example ``"T2:exp"``.

        Raises:
            InputError: if there is no such check.
        """
        found = self.checks(tier_of(name, default=0)).get(name)
        if found is None:
            tier = tier_of(name, default=0)
            raise InputError(
                f"there is no check '{name}'; tier {tier} has {', '.join(self.checks(tier))}"
            )
        return self._result(name, found)

    def run_tier(self, number: int) -> list[Result]:
        """Run one tier, or none of its checks if a tier before it failed."""
        broken = [r.tier for r in self.verdict.results if r.status == FAILED and r.tier < number]
        for name, check in self.checks(number).items():
            if broken:
                reason = f"T{min(broken)} failed"
                self.verdict.results.append(Result(name, number, UNREACHED, reason))
            else:
                self.verdict.results.append(self._result(name, check))
        # What passes, or is not there, must not be declared as a failure.
        excused = {
            r.id for r in self.verdict.tier(number) if r.status in (KNOWN, SKIPPED, UNREACHED)
        }
        declared = {n for n in self.backend.known_failures if tier_of(n, default=0) == number}
        self.verdict.stale = sorted({*self.verdict.stale, *(declared - excused)})
        return self.verdict.tier(number)

    def _result(self, name: str, check: Check) -> Result:
        result = Result(name, tier_of(name), PASSED)
        missing = self.backend.missing_ops
        if name.partition(":")[2] in missing and result.tier:
            result.status, result.message = SKIPPED, "declared in missing_ops"
            return result
        try:
            result.ulp = check()
        except Exception as failure:
            error = _first(failure)
            known = self.backend.known_failures.get(name)
            needed = [op for op in missing if f"op '{op}'" in str(error)]
            if isinstance(error, KernelNotFoundError) and needed:
                result.status, result.message = SKIPPED, f"needs {needed[0]}, one of missing_ops"
            elif known is not None:
                result.status, result.message = KNOWN, known
            else:
                result.status, result.message = FAILED, _short(error)
        return result

    def run(
        self, tell: Callable[[str], Any] | None = None, tiers: Iterable[int] | None = None
    ) -> Verdict:
        """Run the tiers, by default all.

        Args:
            tell: is called with a line after each tier, with the failures, and with the verdict.
            tiers: numbers of tiers; the others are left out.
        """
        for number in sorted(set(range(len(TIERS)) if tiers is None else tiers)):
            self.run_tier(number)
            if tell is not None:
                tell(self.verdict.line(number))
                for line in self.verdict.details(number):
                    tell(f"  {line}")
        if tell is not None:
            tell(str(self.verdict))
        return self.verdict


def _first(error: BaseException) -> BaseException:
    """The failure itself, where Hypothesis found several or one that does not repeat."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _short(error: BaseException) -> str:
    text = str(error) or type(error).__name__
    if isinstance(error, AssertionError):
        text = text.partition("\nassert ")[0]  # what pytest adds about the expression
    else:
        text = f"{type(error).__name__}: {text}"
    return text if len(text) < 700 else text[:700] + " …"


def check_backend(
    name: str | None = None,
    examples: int = 20,
    tell: Callable[[str], Any] | None = None,
    tiers: Iterable[int] | None = None,
) -> Verdict:
    """Run the kit on the backend `name`, by default the configured one.

    Args:
        examples: drawn inputs per op.
        tell: is called with each line of the report, for example `print`.
        tiers: numbers of the tiers to run, by default all.

    Raises:
        BackendError: if there is no such backend.
        MissingExtraError: if Hypothesis is not installed (extra: test).

    Example:
        >>> import microgpt as mg
        >>> from microgpt.testing.conformance import check_backend
        >>> check_backend("numpy", examples=1, tiers=[0, 8]).ok
        True
    """
    return Kit(name, examples).run(tell, tiers)
