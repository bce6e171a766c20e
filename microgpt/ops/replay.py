"""What a function must find again when it is computed once more in the backward pass.

`checkpoint` runs a function twice and needs the same result twice: random masks must be the same,
and layers that count their batches must not count this one again. Whatever draws in a forward pass
calls `note` first; whatever has a memory asks `again`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np  # which loads np.random, with all its sources of chance, when asked for it

Draws = list[tuple["np.random.Generator", Any]]
"""Generators, with the states that they had before their first draw."""

_watching: ContextVar[tuple[Draws, ...]] = ContextVar("microgpt_watching", default=())
_again: ContextVar[bool] = ContextVar("microgpt_again", default=False)


def note(generator: np.random.Generator) -> None:
    """To be called before numbers are drawn from `generator` in a forward pass."""
    for draws in _watching.get():
        if not any(known is generator for known, _ in draws):
            draws.append((generator, generator.bit_generator.state))


def again() -> bool:
    """Whether the computation in progress has been made before, and is repeated for `backward`."""
    return _again.get()


@contextmanager
def watched() -> Iterator[Draws]:
    """A list that gets the generators which a block of code draws from."""
    draws: Draws = []
    token = _watching.set((*_watching.get(), draws))
    try:
        yield draws
    finally:
        _watching.reset(token)


@contextmanager
def replayed(draws: Draws) -> Iterator[None]:
    """The generators as they were at first, for a block of code; then as they are now."""
    states = [generator.bit_generator.state for generator, _ in draws]
    tokens = _watching.set(()), _again.set(True)
    try:
        for generator, state in draws:
            generator.bit_generator.state = state
        yield
    finally:
        _watching.reset(tokens[0])
        _again.reset(tokens[1])
        for (generator, _), state in zip(draws, states, strict=True):
            generator.bit_generator.state = state
