"""Runs the tiers on one backend and sums up."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from microgpt import config
from microgpt.errors import InputError, missing_extra
from microgpt.plugins import registry

TIERS = (
    "contract", "movement", "elementwise", "reductions, products, fused", "indexing", "gradients",
    "lifetime", "determinism", "transformer",
)  # fmt: skip


@dataclass
class Result:
    """One check: `id` is the tier and what was checked (``"T2:exp"``).

    `status` is passed, failed, skipped (a declared missing op, or a tier before it failed) or
    known (a failure that the backend declares).
    """

    id: str
    tier: int
    status: str
    message: str = ""
    ulp: float | None = None


@dataclass
class Verdict:
    """What the kit found about a backend."""

    backend: str
    results: list[Result]
    stale: list[str] = field(default_factory=list)
    """Entries of `known_failures` that match no failure."""
    versions: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether nothing failed that is not a declared failure."""
        return not self.stale and all(r.status != "failed" for r in self.results)

    def tier(self, number: int) -> list[Result]:
        """The results of one tier."""
        return [r for r in self.results if r.tier == number]

    def line(self, number: int) -> str:
        """One line about a tier."""
        found = self.tier(number)
        counts = {s: sum(r.status == s for r in found) for s in ("passed", *OTHERS)}
        parts = [f"{counts['passed']}/{len(found)} passed"]
        parts += [f"{counts[s]} {s}" for s in OTHERS if counts[s]]
        ulp = max((r.ulp for r in found if r.ulp is not None), default=None)
        worst = "" if ulp is None else f", worst {ulp:.2g} ulp"
        return f"T{number} {TIERS[number]}: {', '.join(parts)}{worst}"

    def __str__(self) -> str:
        forward = [r for r in self.results if 1 <= r.tier <= 4]
        right = sum(r.status == "passed" for r in forward)
        clean = [n for n in range(len(TIERS)) if all(r.status == "passed" for r in self.tier(n))]
        reached = "no tier"
        if clean == list(range(len(TIERS))):
            reached = f"T0–T{len(TIERS) - 1}"
        elif clean:
            reached = " ".join(f"T{n}" for n in clean)
        rated = [r for r in forward if r.ulp is not None]
        worst = max(rated, key=lambda r: r.ulp or 0.0, default=None)
        text = f"{self.backend}: {right}/{len(forward)} ops, {reached}"
        if worst is not None:
            text += f", worst {worst.ulp:.2g} ulp ({worst.id.partition(':')[2]})"
        skipped = sum(r.status == "skipped" for r in self.results)
        known = sum(r.status == "known" for r in self.results)
        text += f", {skipped} skipped" if skipped else ""
        text += f", {known} known failures" if known else ""
        failed = sum(r.status == "failed" for r in self.results)
        text += f", {failed} FAILED" if failed else ""
        return text + (f", {len(self.stale)} stale known failures" if self.stale else "")

    def write_json(self, path: str | Path) -> None:
        """Write everything to a file, whole or not at all."""
        data = {"verdict": str(self), "ok": self.ok, **asdict(self)}
        partial = Path(f"{path}.partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(data, indent=1, ensure_ascii=False), encoding="utf-8")
        os.replace(partial, path)


OTHERS = ("failed", "known", "skipped")


class Kit:
    """The checks for one backend, to be run tier by tier.

    Args:
        backend: its name; it must be installed, or registered in this process.
        examples: drawn inputs per op.

    Raises:
        BackendError: if there is no such backend, or it cannot be loaded.
        MissingExtraError: if Hypothesis is not installed (extra: test).
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

    def run_tier(self, number: int) -> list[Result]:
        """Run one tier, or skip it if one before it failed."""
        from microgpt.testing.conformance.tiers import checks

        broken = {r.tier for r in self.verdict.results if r.status == "failed" and r.tier < number}
        for name, check in checks(number, self):
            result = Result(f"T{number}:{name}", number, "passed")
            if broken:
                result.status, result.message = "skipped", f"T{min(broken)} failed"
            elif name in self.backend.missing_ops:
                result.status, result.message = "skipped", "declared in missing_ops"
            else:
                self._try(check, result)
            self.verdict.results.append(result)
        if number == len(TIERS) - 1:
            known = {r.id for r in self.verdict.results if r.status == "known"}
            skipped = {r.id for r in self.verdict.results if r.status == "skipped"}
            self.verdict.stale = sorted(set(self.backend.known_failures) - known - skipped)
        return self.verdict.tier(number)

    def _try(self, check: Callable[[], float | None], result: Result) -> None:
        try:
            result.ulp = check()
        except Exception as error:
            known = self.backend.known_failures.get(result.id)
            result.status = "failed" if known is None else "known"
            result.message = known or _short(error)

    def run(self, tell: Callable[[str], Any] | None = None) -> Verdict:
        """Run all tiers; `tell` gets a line after each one, and the failures."""
        for number in range(len(TIERS)):
            results = self.run_tier(number)
            if tell is not None:
                tell(self.verdict.line(number))
                for r in results:
                    if r.status == "failed":
                        tell(f"  {r.id} FAILED: {r.message}")
        if tell is not None:
            for name in self.verdict.stale:
                tell(f"  {name} is in known_failures, but did not fail: take it out")
            tell(str(self.verdict))
        return self.verdict


def _short(error: Exception) -> str:
    text = str(error) or type(error).__name__
    if not isinstance(error, AssertionError):
        text = f"{type(error).__name__}: {text}"
    return text if len(text) < 700 else text[:700] + " …"


def check_backend(
    name: str | None = None, examples: int = 20, tell: Callable[[str], Any] | None = None
) -> Verdict:
    """Run the whole kit on the backend `name`, by default the configured one.

    Args:
        examples: drawn inputs per op.
        tell: is called with each line of the report, for example `print`.

    Raises:
        BackendError: if there is no such backend.
        MissingExtraError: if Hypothesis is not installed (extra: test).

    Example:
        >>> import microgpt as mg
        >>> verdict = mg.testing.conformance.check_backend("numpy", examples=1)
        >>> verdict.ok
        True
    """
    return Kit(name, examples).run(tell)
