"""Ways to plant a mistake for the length of a block."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

import microgpt as mg
from microgpt.ops import TABLE

Plant = Callable[[], AbstractContextManager[Any]]


class Kernels:
    """Overrides NumPy kernels."""

    def __init__(self, **kernels: Any) -> None:
        self.kernels = kernels

    @mg.hookimpl
    def microgpt_kernel(self, backend: str, op: str) -> Any:
        return self.kernels.get(op) if backend == "numpy" else None


def kernels(**given: Any) -> Plant:
    """Other kernels for the ops named, through the hook."""
    return lambda: mg.plugged(Kernels(**given))


def instead(owner: Any, name: str, value: Any) -> Plant:
    """Another function in the place of ``owner.name``."""

    @contextmanager
    def plant() -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(owner, name, value)
            yield

    return plant


def changed(owner: Any, name: str, old: str, new: str) -> Plant:
    """The function ``owner.name`` with one piece of its text replaced."""

    def plant() -> AbstractContextManager[None]:
        function = getattr(owner, name)
        source = textwrap.dedent(inspect.getsource(function))
        count = source.count(old)
        assert count == 1, f"the text of {name} has {old!r} {count} times; required: once"
        code = compile(source.replace(old, new), "<planted>", "exec", annotations.compiler_flag)
        made: dict[str, Any] = {}
        exec(code, function.__globals__, made)
        return instead(owner, name, made[function.__name__])()

    return plant


def op(compute: Callable[..., Any], rule: Any) -> Any:
    """An op that does not stay in the table."""

    def planted(x: Any) -> Any:
        return compute(x)

    made = mg.primitive(vjp=rule)(planted)
    TABLE.pop("planted")
    return made


def square(rule: Any) -> Any:
    return op(lambda x: x * x, rule)


def half(x: Any) -> Any:
    """x², whose gradient is half of what it should be."""
    return x * mg.ops.detach(x)
