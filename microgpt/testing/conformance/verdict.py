"""What the kit found: results, the line of each tier, the verdict, JSON."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

TIERS = (
    "contract", "movement", "elementwise", "reductions, products, fused", "indexing", "gradients",
    "lifetime", "determinism", "transformer",
)  # fmt: skip

PASSED, FAILED, KNOWN, SKIPPED, UNREACHED = "passed", "failed", "known", "skipped", "not reached"


@dataclass
class Result:
    """One check.

    Attributes:
        id: the tier and what was checked (``"T2:exp"``).
        status: passed; failed; known (a failure that the backend declares); skipped (it needs an
            op that the backend declares as missing); not reached (a tier before it failed).
        message: what is wrong, or the reason.
        ulp: the largest error of an elementwise op in float32, in units in the last place.
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

    @classmethod
    def joined(cls, parts: Iterable[Mapping[str, Any]]) -> Verdict:
        """One verdict from parts (of `asdict`) that may have been found by different processes."""
        found: dict[str, Result] = {}
        stale: set[str] = set()
        backend, versions = "", {}
        for part in parts:
            backend, versions = part["backend"], dict(part["versions"])
            stale |= set(part["stale"])
            found |= {r["id"]: Result(**r) for r in part["results"]}
        results = sorted(found.values(), key=lambda r: r.tier)
        return cls(backend, results, sorted(stale), versions)

    @property
    def ok(self) -> bool:
        """Whether something was checked, and nothing failed that is not a declared failure."""
        return bool(self.results) and not self.stale and not self.count(FAILED)

    def tier(self, number: int) -> list[Result]:
        """The results of one tier."""
        return [r for r in self.results if r.tier == number]

    def count(self, status: str) -> int:
        """How many checks have this status."""
        return sum(r.status == status for r in self.results)

    def line(self, number: int) -> str:
        """One line about a tier."""
        found = self.tier(number)
        counts = {s: sum(r.status == s for r in found) for s in (PASSED, *NAMES)}
        parts = [f"{counts[PASSED]}/{len(found)} passed"]
        parts += [f"{counts[s]} {NAMES[s]}" for s in NAMES if counts[s]]
        worst = _worst(found)
        return f"T{number} {TIERS[number]}: {', '.join(parts)}{worst}"

    def details(self, number: int) -> list[str]:
        """Lines about what went wrong in a tier, and about what its backend says of itself."""
        lines = []
        for r in self.tier(number):
            if r.status == FAILED:
                lines.append(f"{r.id} FAILED: {r.message}")
            elif r.status in (KNOWN, SKIPPED):
                lines.append(f"{r.id} {NAMES[r.status]}: {r.message}")
        for name in self.stale:
            if tier_of(name, default=0) == number:
                lines.append(
                    f"{name} is in known_failures, but no check of that name failed: take it out"
                )
        return lines

    def __str__(self) -> str:
        forward = [r for r in self.results if 1 <= r.tier <= 4]
        right = sum(r.status == PASSED for r in forward)
        parts = [f"{right}/{len(forward)} ops", self._reached()]
        text = f"{self.backend}: {', '.join(parts)}{_worst(forward)}"
        for status in NAMES:
            count = self.count(status)
            text += f", {count} {VERDICT_NAMES[status]}" if count else ""
        return text + (f", {len(self.stale)} stale known failures" if self.stale else "")

    def _reached(self) -> str:
        """The tiers in which every check that ran passed or failed as declared: T0–T8, T0 T2."""
        clean = [
            n
            for n in range(len(TIERS))
            if self.tier(n) and all(r.status in (PASSED, SKIPPED, KNOWN) for r in self.tier(n))
        ]
        runs: list[list[int]] = []
        for n in clean:
            if runs and runs[-1][-1] == n - 1:
                runs[-1].append(n)
            else:
                runs.append([n])
        names = [f"T{r[0]}" if len(r) == 1 else f"T{r[0]}–T{r[-1]}" for r in runs]
        return " ".join(names) or "no tier"

    def write_json(self, path: str | Path) -> None:
        """Write everything to a file, whole or not at all."""
        data = {"verdict": str(self), "ok": self.ok, **asdict(self)}
        partial = Path(f"{path}.partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(data, indent=1, ensure_ascii=False), encoding="utf-8")
        os.replace(partial, path)


NAMES = {
    FAILED: "failed", KNOWN: "known to fail", SKIPPED: "skipped", UNREACHED: "not reached",
}  # fmt: skip
VERDICT_NAMES = NAMES | {FAILED: "FAILED", KNOWN: "known failures"}


def tier_of(check: str, default: int | None = None) -> int:
    """The tier in the name of a check: 2 for ``"T2:exp"``.

    Raises:
        ValueError: if it names no tier and there is no default.
    """
    head, colon, _ = check.partition(":")
    if colon and head in [f"T{n}" for n in range(len(TIERS))]:
        return int(head[1:])
    if default is None:
        raise ValueError(f"'{check}' does not begin with T0: to T{len(TIERS) - 1}:")
    return default


def _worst(results: list[Result]) -> str:
    rated = [r for r in results if r.ulp is not None]
    if not rated:
        return ""
    worst = max(rated, key=lambda r: r.ulp or 0.0)
    return f", worst {worst.ulp:.1f} ulp ({worst.id.partition(':')[2]})"
