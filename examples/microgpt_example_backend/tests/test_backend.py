"""The tests of this backend: the kit that microgpt brings, and one that it is really used."""

import pytest

import microgpt as mg
from microgpt.testing.conformance import TIERS, Kit


@pytest.fixture(scope="module")
def kit():
    """One kit for all tiers: none runs after one that failed."""
    return Kit("example", examples=10)


@pytest.mark.parametrize("tier", range(len(TIERS)))
def test_conformance(kit, tier):
    """All checks of one tier."""
    kit.run_tier(tier)
    wrong = kit.verdict.details(tier)
    assert not wrong, "\n".join(wrong)


def test_it_is_used():
    """Forward and backward pass on arrays of this backend."""
    with mg.use_backend("example"):
        x = mg.tensor([1.0, 2.0], requires_grad=True)
        mg.sum(x * x).backward()
    assert x.backend == "example" and x.grad.tolist() == [2.0, 4.0]
