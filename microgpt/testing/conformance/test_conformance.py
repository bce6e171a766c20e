"""The conformance kit as pytest tests: one per tier, in order."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from microgpt.errors import MicrogptError
from microgpt.testing.conformance.kit import Kit
from microgpt.testing.conformance.verdict import FAILED, TIERS, UNREACHED, Verdict, tier_of

KITS: pytest.StashKey[Kit | str] = pytest.StashKey()


def kit_of(config: pytest.Config) -> Kit | str:
    """The kit for the backend of --microgpt-backend, by default the configured one; or why not."""
    if KITS not in config.stash:
        option: Any = config.getoption
        try:
            made: Kit | str = Kit(option("microgpt_backend"), option("microgpt_examples"))
        except MicrogptError as error:
            made = str(error)
        config.stash[KITS] = made
    return config.stash[KITS]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test per tier; a single one to say it if there is no such backend."""
    usable = isinstance(kit_of(metafunc.config), Kit)
    tiers = range(len(TIERS)) if usable else [None]
    metafunc.parametrize("tier", tiers, ids=lambda n: "backend" if n is None else f"T{n}")


def test_tier(tier: int | None, request: pytest.FixtureRequest) -> None:
    """All checks of one tier."""
    kit = kit_of(request.config)
    if tier is None or isinstance(kit, str):
        pytest.fail(str(kit), pytrace=False)
    results = kit.run_tier(tier)
    stale = [name for name in kit.verdict.stale if tier_of(name, default=0) == tier]
    # The plugin puts the parts together, from whichever process they come.
    part = Verdict(kit.name, results, stale, kit.verdict.versions)
    request.node.microgpt_verdict = asdict(part)
    failed = [r for r in results if r.status == FAILED]
    if failed or stale:
        pytest.fail("\n".join(part.details(tier)), pytrace=False)
    if results and all(r.status == UNREACHED for r in results):
        pytest.skip(results[0].message)
