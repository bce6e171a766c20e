"""How a bug is put in, and taken out again: by the hooks where they reach, else by replacement."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

from microgpt.hooks import hookimpl
from microgpt.ops.table import TABLE
from microgpt.plugins import plugged, registry

Plant = Callable[[], AbstractContextManager[Any]]
"""Makes a block inside which the bug is there."""

Kernel = Callable[..., Any]


class Mistake:
    """A plugin with a wrong kernel or a wrong gradient rule, and nothing else."""

    def __init__(self, kernels: dict[str, Kernel], rules: dict[str, Any]) -> None:
        self.kernels, self.rules = kernels, rules

    @hookimpl(tryfirst=True)
    def microgpt_kernel(self, backend: str, op: str) -> Kernel | None:
        """The wrong kernel, on NumPy."""
        return self.kernels.get(op) if backend == "numpy" else None

    @hookimpl(tryfirst=True)
    def microgpt_rules(self, op: str) -> Any:
        """The wrong rules, on every backend."""
        return self.rules.get(op)


def kernels(**made: Callable[[Kernel], Kernel]) -> Plant:
    """Kernels of the NumPy backend replaced.

    Args:
        made: for each op a function that gets the right kernel (None: there is none) and returns
            the wrong one. It is called anew for every planting, so no state is carried over.
    """

    def plant() -> AbstractContextManager[Any]:
        wrong = {op: make(_right_kernel(op)) for op, make in made.items()}
        return plugged(Mistake(wrong, {}), "museum: kernels")

    return plant


def _right_kernel(op: str) -> Any:
    registry.backend("numpy")
    return registry.kernel("numpy", op)


def rules(**made: Callable[[Any], Any]) -> Plant:
    """Gradient rules replaced, on all backends and for scalars.

    Args:
        made: for each op a function that gets the right rules and returns the wrong ones.
    """

    def plant() -> AbstractContextManager[Any]:
        wrong = {op: make(TABLE[op].own_rules) for op, make in made.items()}
        return plugged(Mistake({}, wrong), "museum: rules")

    return plant


@contextmanager
def replaced(owner: Any, name: str, new: Any) -> Iterator[None]:
    """Inside this block `owner`, a module, class or object, has `new` under `name`."""
    own = vars(owner)[name]  # not getattr: a static method is to come back as one
    setattr(owner, name, new)
    try:
        yield
    finally:
        setattr(owner, name, own)


def functions(*places: tuple[Any, str, Any]) -> Plant:
    """Functions or attributes replaced: (module or class, name, new) each."""
    return both(*[lambda place=place: replaced(*place) for place in places])


class _NoKernels(dict):
    """Looks like the kernels of a backend that has none for this op."""

    def __missing__(self, array_type: type) -> None:
        return None


def by_definition(op: str) -> Plant:
    """The fused op computed, and differentiated, by its definition, whatever kernels there are."""
    row = TABLE[op]
    return functions((row, "fast", _NoKernels()), (row, "fast_recorded", _NoKernels()))


def both(*plants: Plant) -> Plant:
    """Several at once."""

    @contextmanager
    def plant() -> Iterator[None]:
        with ExitStack() as stack:
            for each in plants:
                stack.enter_context(each())
            yield

    return plant
