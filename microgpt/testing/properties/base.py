"""What a property is, and how one is examined.

A property is a function of a `Drawer` (and, where it is about ops, of a row of the op table) that
draws what it needs and raises an AssertionError if something does not hold. Its numbers are those
of the list in `docs/properties.md`. The same functions serve the test suite, `check_op` for an op
of one's own, the bug museum and the mutation tests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from microgpt.errors import InputError
from microgpt.ops.table import Op
from microgpt.testing.strategies import Drawer


@dataclass(frozen=True)
class Property:
    """Something that must hold for all inputs.

    Attributes:
        name: the name of the function that checks it.
        numbers: its places in the list of properties.
        doc: one line.
        check: ``check(op, d)``, or ``check(d)`` for a law that is not about a single op.
        applies: to which ops; None for a law.
        share: how many of a profile's examples it gets.
    """

    name: str
    numbers: tuple[int, ...]
    doc: str
    check: Callable[..., None]
    applies: Callable[[Op], bool] | None = None
    share: float = 1.0


PROPERTIES: dict[str, Property] = {}
"""All properties by name."""


def of_ops(
    *numbers: int, when: Callable[[Op], bool], share: float = 1.0
) -> Callable[[Callable[[Op, Drawer], None]], Callable[[Op, Drawer], None]]:
    """Register ``check(op, d)`` as a property of the ops for which `when` holds."""

    def register(check: Callable[[Op, Drawer], None]) -> Callable[[Op, Drawer], None]:
        _add(check, numbers, when, share)
        return check

    return register


def law(
    *numbers: int, share: float = 1.0
) -> Callable[[Callable[[Drawer], None]], Callable[[Drawer], None]]:
    """Register ``check(d)`` as a property of the engine, of layers or of training."""

    def register(check: Callable[[Drawer], None]) -> Callable[[Drawer], None]:
        _add(check, numbers, None, share)
        return check

    return register


def _add(check: Any, numbers: tuple[int, ...], when: Any, share: float) -> None:
    name = check.__name__
    if name in PROPERTIES:
        raise InputError(f"there are two properties called {name}; give one another name")
    doc = (check.__doc__ or name).strip().splitlines()[0]
    PROPERTIES[name] = Property(name, numbers, doc, check, when, share)


def examine(
    prop: Property | str,
    op: Op | None = None,
    *,
    examples: int | None = None,
    shrink: bool = True,
    digest: bytes | None = None,
) -> None:
    """Check a property on drawn examples.

    Args:
        prop: a property or its name.
        op: the row to check, for a property of ops.
        examples: how many; by default the number of the Hypothesis profile in force. Given, the
            examples are the same ones in every run, and none are kept in a database.
        shrink: look for the smallest example that fails.

    Raises:
        AssertionError: if the property does not hold.
    """
    if isinstance(prop, str):
        prop = PROPERTIES[prop]
    fixed: dict[str, Any] = {}
    count = settings().max_examples if examples is None else examples
    if examples is not None:
        fixed = {"derandomize": True, "database": None}
    if not shrink:
        fixed["phases"] = (Phase.explicit, Phase.generate)

    @settings(
        max_examples=max(1, round(count * prop.share)),
        deadline=None,
        suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]
        **fixed,
    )
    @given(data=st.data())
    def check(data: st.DataObject) -> None:
        drawer = Drawer(data.draw)
        if op is None:
            prop.check(drawer)
        else:
            prop.check(op, drawer)

    # Else all properties of all ops would share one key of Hypothesis's database, and one seed.
    inner: Any = check
    inner.hypothesis.inner_test._hypothesis_internal_add_digest = (
        digest or f"{prop.name}:{op.name if op else ''}".encode()
    )
    check()
