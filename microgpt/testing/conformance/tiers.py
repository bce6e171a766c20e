"""The checks of each tier. Each one raises if something is wrong, or returns the error in ulp."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from microgpt.ops.table import TABLE, Op
from microgpt.testing.conformance import (
    contract,
    forward,
    lifetime,
    reference,
    repeating,
    transformer,
)

if TYPE_CHECKING:
    from microgpt.testing.conformance.kit import Kit

Check = Callable[[], float | None]

TIER_OF = {
    "elementwise": 2, "movement": 1, "indexing": 4, "reduction": 3, "activation": 3, "linalg": 3,
    "conv": 3, "network": 3, "attention": 3, "cached_attention": 3, "recurrent": 3, "optimizing": 3,
}  # fmt: skip
"""The tier of an op's forward pass, by the module of `microgpt.ops` that declares it."""

NOT_JUDGED = {
    "transfer": "its kernel is the engine's own, made of what tier 0 judges",
    "declare": "only the examples in its documentation make ops there, where they are run",
}
"""Modules of `microgpt.ops` whose ops have no tier, and why."""


def checks(tier: int, kit: Kit) -> Iterator[tuple[str, Check]]:
    """Name and function of each check of a tier."""
    for name, check in _checks(tier, kit):
        yield name, partial(_compared, check)


def _compared(check: Check) -> float | None:
    with reference.available():
        return check()


def _checks(tier: int, kit: Kit) -> Iterator[tuple[str, Check]]:
    if tier == 0:
        yield from contract.checks(kit.backend)
    elif tier <= 4:
        for op in ops():
            if _tier(op) == tier:
                yield op.name, partial(forward.forward, kit, op)
    elif tier == 5:
        for op in ops():
            if op.rules is not None or op.body is not None:
                yield op.name, partial(forward.gradient, kit, op)
    elif tier == 6:
        yield from lifetime.checks(kit.backend)
        for op in ops():
            yield op.name, partial(repeating.reuse, kit, op)
    elif tier == 7:
        for op in ops():
            yield op.name, partial(repeating.determinism, kit, op)
    else:
        yield from transformer.checks(kit.backend)


def _tier(op: Op) -> int | None:
    package, _, module = op.function.__module__.rpartition(".")
    if package != "microgpt.ops" or module in NOT_JUDGED:
        return None
    return TIER_OF[module]  # a module without a tier is a mistake here, not an op to pass over


def ops() -> list[Op]:
    """The ops that microgpt brings, without those of users and of the engine itself."""
    return [op for op in TABLE.values() if _tier(op) is not None]
