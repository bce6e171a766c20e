"""How each op is computed: read from the code of its kernel, so that it cannot be out of date."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import CodeType, FunctionType
from typing import Any

_PACKAGE = __name__.partition(".")[0]
_MEANS = {
    "defer": "fused expression",
    "deferred": "fused expression",
    "view": "view",
}
"""What it means that a kernel calls a function of this name."""

# Every kernel may need its inputs in memory; how they get there says nothing about the kernel.
_NOT_FOLLOWED = (f"{_PACKAGE}.fusion", f"{_PACKAGE}.arrays", f"{_PACKAGE}.device",
                 f"{_PACKAGE}.transfers")  # fmt: skip


def how(kernel: Callable[..., Any]) -> str:
    """The files of OpenCL C, and the other ways of computing, that `kernel` may use.

    Which of them a call takes depends on shapes, layouts and the device; the profiler shows it.
    """
    found: dict[str, None] = {}
    for function in _reached(kernel):
        for code in _codes(function.__code__):
            for value in (*code.co_consts, *map(function.__globals__.get, code.co_names)):
                for text in _texts(value):
                    if text.endswith(".cl") and " " not in text:
                        found[text] = None
                    elif text.startswith("host BLAS"):
                        found["host BLAS"] = None
            found.update(dict.fromkeys(_MEANS[n] for n in code.co_names if n in _MEANS))
    return ", ".join(sorted(found, key=_rank)) or "as it is"


def _rank(way: str) -> int:
    """Files first, and last what nearly every op makes use of."""
    ways = ("host BLAS", "fused expression", "view")
    return ways.index(way) + 1 if way in ways else 0


def _texts(value: Any) -> list[str]:
    """The texts in a constant."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = tuple(value.values())
    return [v for v in value if isinstance(v, str)] if isinstance(value, tuple) else []


def _reached(kernel: Callable[..., Any]) -> Iterator[FunctionType]:
    """The functions of this package that `kernel` may call."""
    todo: list[Any] = [kernel]
    seen: set[int] = set()
    while todo:
        function = todo.pop(0)
        if isinstance(function, partial):
            function = function.func
        function = getattr(function, "__wrapped__", function)  # behind a cache
        if not isinstance(function, FunctionType) or id(function) in seen:
            continue
        seen.add(id(function))
        if not function.__module__.startswith(_PACKAGE) or function.__module__ in _NOT_FOLLOWED:
            continue
        yield function
        todo += [cell.cell_contents for cell in function.__closure__ or ()]
        for code in _codes(function.__code__):
            for name in code.co_names:
                target = function.__globals__.get(name)
                todo.append(target)
                if getattr(target, "__name__", "").startswith(_PACKAGE):  # a module
                    todo += [getattr(target, n, None) for n in code.co_names]


def _codes(code: CodeType) -> Iterator[CodeType]:
    """`code` and that of the functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
