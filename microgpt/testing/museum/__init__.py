"""The bug museum: mistakes that people make in autograd libraries, to be switched on and looked at.

Every bug is planted in the library as it is: by a plugin that replaces a kernel or a gradient rule,
or, where hooks do not reach, by one function in the place of another. The test suite has to find
each of them, by the check that is named, and to pass without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType

from microgpt.errors import InputError
from microgpt.testing.museum import (
    broadcasting,
    consistent,
    cotangents,
    devices,
    graph,
    kinks,
    memory,
    models,
    numerics,
    second_order,
    training,
    values,
)
from microgpt.testing.museum.base import CONFORMANCE, ORACLE, Bug, Check, Demo

__all__ = ["BUGS", "CONFORMANCE", "ORACLE", "ROOMS", "Bug", "Demo", "Check", "find", "planted"]

_MODULES = (
    values, broadcasting, graph, cotangents, kinks, numerics, memory, second_order, consistent,
    models, training, devices,
)  # fmt: skip


def _name(room: ModuleType) -> str:
    return room.__name__.rpartition(".")[2].replace("_", " ")


ROOMS = {_name(room): (room.__doc__ or "").splitlines()[0] for room in _MODULES}
"""The rooms in the order of a visit, and what is shown there."""

_bugs = [replace(bug, room=_name(room)) for room in _MODULES for bug in room.BUGS]

BUGS: dict[int, Bug] = {bug.number: bug for bug in sorted(_bugs, key=lambda bug: bug.number)}
"""All bugs by number."""


def find(number: int) -> Bug:
    """The bug of this number.

    Raises:
        InputError: if there is none.
    """
    if number not in BUGS:
        raise InputError(
            f"there is no bug {number} in the museum; `microgpt museum` lists all {len(BUGS)}"
        )
    return BUGS[number]


@contextmanager
def planted(number: int) -> Iterator[Bug]:
    """Inside this block the library has the bug of this number, for the whole process.

    Raises:
        InputError: if there is no such bug, or nothing to plant it in yet.

    Example:
        >>> import microgpt as mg
        >>> x = mg.tensor([0.5], requires_grad=True)
        >>> with mg.testing.museum.planted(1):  # 1 - y where it should be 1 - y²
        ...     mg.tanh(x).sum().backward()
        >>> round(x.grad.item(), 3), round(mg.grad(mg.tanh)(0.5), 3)
        (0.538, 0.786)
    """
    bug = find(number)
    if bug.plant is None:
        raise InputError(f"bug {number} cannot be planted yet: it waits for {bug.waits_for}")
    with bug.plant():
        yield bug
