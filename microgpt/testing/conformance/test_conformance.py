"""The conformance kit as pytest tests: one per tier, in order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from microgpt.testing.conformance.kit import TIERS, Kit


@pytest.fixture(scope="module")
def kit(request: pytest.FixtureRequest) -> Iterator[Kit]:
    """The kit for the backend of --microgpt-backend, by default the configured one."""
    option: Any = request.config.getoption
    made = Kit(option("microgpt_backend"), option("microgpt_examples"))
    yield made
    if option("microgpt_json"):
        made.verdict.write_json(option("microgpt_json"))


@pytest.mark.parametrize("tier", range(len(TIERS)), ids=lambda n: f"T{n}")
def test_tier(kit: Kit, tier: int, capsys: Any) -> None:
    """All checks of one tier."""
    results = kit.run_tier(tier)
    with capsys.disabled():
        print(f"\n{kit.verdict.line(tier)}", end="")
        if tier == len(TIERS) - 1:
            print(f"\n{kit.verdict}")
    failed = [r for r in results if r.status == "failed"]
    assert not failed, "\n".join(f"{r.id}: {r.message}" for r in failed)
    if tier == len(TIERS) - 1:
        assert not kit.verdict.stale, f"known_failures that did not fail: {kit.verdict.stale}"
    if results and all(r.status == "skipped" for r in results):
        pytest.skip(results[0].message)
