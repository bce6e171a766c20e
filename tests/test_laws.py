"""The laws of the engine, of networks and of training; and planted mistakes that they catch."""

from __future__ import annotations

import numpy as np
import pytest

from microgpt.testing.properties import PROPERTIES, Property, examine
from tests import planted_networks, planted_positions, planted_recurrent, planted_training

LAWS = [p for p in PROPERTIES.values() if p.applies is None]
PLANTED = {
    **planted_networks.PLANTED,
    **planted_positions.PLANTED,
    **planted_recurrent.PLANTED,
    **planted_training.PLANTED,
}


@pytest.mark.parametrize("law", LAWS, ids=lambda p: p.name)
def test_law(law: Property) -> None:
    examine(law)


@pytest.mark.parametrize(
    ("law", "mistake"), [(law, name) for law, plants in PLANTED.items() for name in plants]
)
def test_a_planted_mistake_breaks_its_law(law: str, mistake: str) -> None:
    with (
        PLANTED[law][mistake](),
        np.errstate(all="ignore"),
        pytest.raises(AssertionError, match="required: "),
    ):
        examine(law, examples=200, shrink=False)


def test_every_law_of_networks_and_training_has_a_planted_mistake() -> None:
    ours = (
        "attention",
        "layers",
        "networks",
        "optimizers",
        "positions",
        "recurrent",
        "runs",
        "training",
    )
    mine = {p.name for p in LAWS if p.check.__module__.split(".")[-1] in ours}
    assert mine == set(PLANTED)
