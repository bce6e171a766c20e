"""The whole extension surface: the hooks that a plugin may implement.

A plugin is any object (usually a module) with functions of these names, each marked with
`hookimpl`. It is found through the entry-point group ``microgpt`` or named in the ``plugins``
setting. A backend implements the first three; a plugin that makes one operation faster needs
`microgpt_kernel` alone; one that gives an op another gradient, `microgpt_rules`; a profiler needs
`microgpt_op`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, overload

if TYPE_CHECKING:
    from microgpt.backend import Backend

F = TypeVar("F", bound=Callable[..., Any])

GROUP = "microgpt"
"""The entry-point group, and the name of the pluggy project."""


# The two marks are those of pluggy's HookimplMarker and HookspecMarker. Setting them here lets
# pluggy wait until a plugin is asked for something, which keeps `import microgpt` quick.


@overload
def hookimpl(function: F) -> F: ...
@overload
def hookimpl(*, tryfirst: bool = ..., trylast: bool = ...) -> Callable[[F], F]: ...
def hookimpl(function: Any = None, *, tryfirst: bool = False, trylast: bool = False) -> Any:
    """Mark a function as the implementation of the hook of the same name.

    Args:
        function: the function, when used without parentheses.
        tryfirst: ask it before those of other plugins; `trylast`: after them.

    Example:
        >>> import microgpt as mg
        >>> @mg.hookimpl(trylast=True)
        ... def microgpt_kernel(backend, op):
        ...     return None
    """
    options = {
        "wrapper": False,
        "hookwrapper": False,
        "optionalhook": False,
        "tryfirst": tryfirst,
        "trylast": trylast,
        "specname": None,
    }

    def mark(function: F) -> F:
        setattr(function, GROUP + "_impl", options)
        return function

    return mark if function is None else mark(function)


def _hookspec(firstresult: bool = False) -> Callable[[F], F]:
    def mark(function: F) -> F:
        options = {"firstresult": firstresult, "historic": False, "warn_on_impl": None}
        setattr(function, GROUP + "_spec", {**options, "warn_on_impl_args": None})
        return function

    return mark


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


@_hookspec()
def microgpt_backend_names() -> list[str]:  # pyright: ignore[reportReturnType]
    """Names of the backends that this plugin can make."""


@_hookspec(firstresult=True)
def microgpt_backend(name: str) -> Backend | None:
    """The backend called `name`, or None when it is not this plugin's. Asked once per name."""


@_hookspec(firstresult=True)
def microgpt_kernel(backend: str, op: str) -> Callable[..., Any] | None:
    """The function that computes `op` on arrays of `backend`, or None to leave it to others.

    It gets the input arrays by position and the op's parameters by keyword, and returns a new
    array. Asked once per (op, backend); the answer is kept until plugins come or go.
    """


@_hookspec(firstresult=True)
def microgpt_rules(op: str) -> Any:
    """The gradient rules to use for `op` in place of its own, on every backend, or None.

    They have the form of the `vjp` argument of `mg.primitive`. A kernel ``<op>_vjp`` of a backend
    is not used then. The gradient kernel of one backend is replaced with `microgpt_kernel`.
    """


@_hookspec()
def microgpt_op(event: OpEvent) -> None:
    """Told of every operation that ran. While no plugin implements it, it costs nothing."""
