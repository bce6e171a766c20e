"""The whole extension surface: the hooks that a plugin may implement.

A plugin is any object (usually a module) with functions of these names, each marked with
`hookimpl`. It is found through the entry-point group ``microgpt`` or named in the ``plugins``
setting. A backend implements the first three; a plugin that makes one operation faster needs
`microgpt_kernel` alone; a profiler needs `microgpt_op`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from microgpt.backend import Backend

GROUP = "microgpt"
"""The entry-point group, and the name of the pluggy project."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@dataclass(frozen=True, slots=True)
class OpEvent:
    """One finished operation, as `microgpt_op` sees it.

    `phase` is ``"forward"`` for a kernel and ``"backward"`` for the gradient rules of one node.
    Kernels that run inside a gradient rule carry the name of its op in `within`, so that a
    listener can count the rule or its kernels, but not both.
    """

    op: str
    phase: str
    backend: str
    seconds: float
    inputs: tuple[Any, ...]
    output: Any
    within: str | None = None


@hookspec
def microgpt_backend_names() -> list[str]:  # pyright: ignore[reportReturnType]
    """Names of the backends that this plugin can make."""


@hookspec(firstresult=True)
def microgpt_backend(name: str) -> Backend | None:
    """The backend called `name`, or None when it is not this plugin's. Asked once per name."""


@hookspec(firstresult=True)
def microgpt_kernel(backend: str, op: str) -> Callable[..., Any] | None:
    """The function that computes `op` on arrays of `backend`, or None to leave it to others.

    It gets the input arrays by position and the op's parameters by keyword, and returns a new
    array. Asked once per (op, backend); the answer is kept until plugins come or go.
    """


@hookspec
def microgpt_op(event: OpEvent) -> None:
    """Told of every operation that ran. While no plugin implements it, it costs nothing."""
