"""What a bug of the museum is, and which checks must find it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from microgpt.testing.museum.planting import Plant

ORACLE = "forward_oracle"
"""The comparison with independent formulas, which lives with the tests because it needs SciPy."""

CONFORMANCE = "conformance"
"""The conformance kit's check of the forward pass of an op, in float32 and float64."""


@dataclass(frozen=True)
class Check:
    """A check of the suite: a property, for one op or none.

    Attributes:
        name: of a property (`microgpt.testing.properties`), `ORACLE` or `CONFORMANCE`.
        op: the op that it is examined for; None for a law that is not about one op.
        codes: of `gradcheck`, or classes of errors: one of them must come. Without any it is an
            AssertionError.
        examples: how many examples are drawn.
    """

    name: str
    op: str | None = None
    codes: tuple[str, ...] = ()
    examples: int = 60

    def __str__(self) -> str:
        return self.name + (f" of {self.op}" if self.op else "")


@dataclass(frozen=True)
class Demo:
    """What a learner would see.

    Attributes:
        what: one line: what is computed or trained.
        run: returns the losses of a training (a list of floats) or a text.
    """

    what: str
    run: Callable[[], Any]


@dataclass(frozen=True)
class Bug:
    """A mistake that somebody could make, or has made.

    Attributes:
        number: its place in the museum, 1 to 60.
        title: what is wrong, in a few words.
        wrong: the line with the mistake; `right`: as it should be.
        story: what the code was and why it looks right.
        blind: which checks do not see it and why, and which one does.
        plant: makes the block in which it is there; None while there is nothing to plant it in.
        killers: the checks that must find it: fail while it is planted, pass without it.
        show: what a learner would see.
        missed_by: checks that one may expect to find it, but that pass all the same.
        seen_in: a real project that had it, as ``owner/repo#N``, or a relative of it.
        waits_for: the part of the library that the bug needs, if it does not exist yet.
        arrived: whether that part is there now.
        room: set by the museum, from the module.
    """

    number: int
    title: str
    wrong: str
    right: str
    story: str
    blind: str
    plant: Plant | None
    killers: tuple[Check, ...]
    show: Demo | None
    missed_by: tuple[Check, ...] = ()
    seen_in: str = ""
    waits_for: str = ""
    arrived: Callable[[], bool] = lambda: False
    room: str = ""


def gradcheck(op: str, *codes: str, examples: int = 60) -> Check:
    """The check by finite differences and all that `gradcheck` looks at."""
    return Check("gradcheck", op, codes, examples)


def oracle(op: str) -> Check:
    """The check by an independent formula of the forward pass."""
    return Check(ORACLE, op)
