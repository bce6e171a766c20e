"""Every property of every row of the op table, and that no row lacks what the properties need."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import microgpt as mg
from microgpt.ops import TABLE, Op
from microgpt.testing.drawing import Values
from microgpt.testing.properties import PROPERTIES, Property, examine
from microgpt.testing.properties.gradients import smooth
from microgpt.testing.strategies import Drawer, case_of
from tests import oracles

OWN = [op for op in TABLE.values() if op.function.__module__.startswith("microgpt.")]
CHECKS = [
    (prop, op)
    for prop in PROPERTIES.values()
    if prop.applies is not None
    for op in OWN
    if prop.applies(op)
]


@pytest.mark.parametrize(("prop", "op"), CHECKS, ids=lambda x: x.name)
def test_property(prop: Property, op: Op) -> None:
    examine(prop, op)


# ---- nothing is left out -----------------------------------------------------------------------


@pytest.mark.parametrize("op", OWN, ids=lambda op: op.name)
def test_rows_are_complete(op: Op) -> None:
    missing = what_is_missing(op)
    assert not missing, f"the row of {op.name} lacks {missing}"


def what_is_missing(op: Op) -> list[str]:
    """What a row must have, and `op` has not."""
    missing = []
    if not op.doc:
        missing.append("a line of documentation")
    if op.domain is None:
        missing.append("a domain to be tested on")
    if not smooth(op) and not op.nondifferentiable:
        missing.append("a gradient rule, a body, or the reason why there is none")
    if op.name not in oracles.ORACLES:
        missing.append("an oracle for its forward pass, in tests/oracles.py")
    if op.domain is not None and smooth(op) and op.kinks is None and keeps_off_kinks(op):
        missing.append("kinks: its domain keeps off them, so it must say what the slope is there")
    if mg.ops.by_name(op.name) is not op:
        missing.append("its place in the table")
    return missing


def keeps_off_kinks(op: Op) -> bool:
    """Whether the domain asks for values that are away from something, or from each other."""
    asked = []

    class Watched(Drawer):
        def filled(self, shape: Any, low: float = -3.0, high: float = 3.0, away_from: Any = (),
                   margin: float = 0.1, poles: Any = ()) -> Any:  # fmt: skip
            asked.append(bool(len(away_from)))
            return super().filled(shape, low, high, away_from, margin, poles)

        def distinct(self, *args: Any, **kwargs: Any) -> Any:
            asked.append(True)
            return super().distinct(*args, **kwargs)

        def apart(self, *args: Any, **kwargs: Any) -> Any:
            asked.append(True)
            return super().apart(*args, **kwargs)

    @given(data=st.data())
    def draw(data: st.DataObject) -> None:
        case_of(op, Watched(data.draw))

    draw()
    return any(asked)


def test_a_row_that_lacks_something_is_noticed() -> None:
    def bent(x: Any) -> Any:
        return mg.maximum(x, 0.0)

    op = mg.primitive(
        vjp=lambda g, y, x: (mg.where(x > 0, g, 0.0),), domain=lambda d: d.array(away_from=(0.0,))
    )(bent).op
    try:
        found = " and ".join(what_is_missing(op))
    finally:
        TABLE.pop("bent")
    assert "an oracle" in found and "kinks" in found and "domain" not in found.split("kinks")[0]


def test_every_op_is_examined() -> None:
    examined = {op.name for prop, op in CHECKS if prop.name == "gradcheck"}
    assert examined == {op.name for op in OWN if smooth(op)}
    forward = {op.name for prop, op in CHECKS if prop.name == "forward_oracle"}
    assert forward == {op.name for op in OWN}
    assert set(oracles.ORACLES) == forward, "oracles of ops that are gone"


ROW = re.compile(r"^\| (\d*) \| (.+) \| (.+) \|$", re.MULTILINE)


def test_the_guide_lists_every_property_with_its_numbers() -> None:
    text = (Path(__file__).parent.parent / "docs" / "properties.md").read_text(encoding="utf-8")
    written: dict[str, set[int]] = {}
    numbers = []
    for number, _, checks in ROW.findall(text):
        numbers += [int(number)] if number else []
        for name in re.findall(r"`(\w+)`", checks):
            written.setdefault(name, set()).update([int(number)] if number else [])
    assert numbers == list(range(1, 50))
    assert written == {p.name: set(p.numbers) for p in PROPERTIES.values()}
    for prop in PROPERTIES.values():
        assert prop.doc and 0 < prop.share <= 1


# ---- drawing -----------------------------------------------------------------------------------


@given(data=st.data())
def test_families_of_values(data: st.DataObject) -> None:
    ties = Values(data.draw, "ties")
    values = ties.filled((3, 4), away_from=(0.0,))
    assert np.array_equal(values * 2, np.round(values * 2))
    long = Values(data.draw, "long")
    assert max(long.shape()) >= 63 and max(long.shape(1)) <= 4, "one long side per drawer"
    assert (np.abs(Values(data.draw, "ties").filled((9,), poles=(0.0,))) >= 0.1).all()
    rows = Values(data.draw).broadcastable(3)
    assert np.broadcast_shapes(*[x.shape for x in rows]) is not None


def test_extreme_values_are_large_and_signed_zeros() -> None:
    seen = []

    @given(data=st.data())
    def collect(data: st.DataObject) -> None:
        seen.append(Values(data.draw, "extreme").filled((20,)))

    collect()
    values = np.concatenate(seen)
    assert np.abs(values).max() > 1e3
    assert (np.signbit(values) & (values == 0)).any() and (values == 0).any()


def test_a_domain_draws_the_same_case_from_the_same_choices() -> None:
    def drawn() -> list[Any]:
        seen: list[Any] = []
        collect = Property("collect", (), "", lambda op, d: seen.append(case_of(op, d)), smooth)
        examine(collect, TABLE["sum"], examples=5)
        return seen

    runs = drawn(), drawn()
    assert len(runs[0]) == 5
    for a, b in zip(*runs, strict=True):
        assert a.params == b.params and np.array_equal(a.inputs[0], b.inputs[0])
