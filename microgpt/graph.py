"""The recorded graph: one node per operation, and nothing that is not needed backwards.

A tensor points to the node that made it, a node points to the nodes of its inputs, and nothing
points back to a tensor. So there are no cycles: dropping the result of a computation frees its
graph at once, without the garbage collector.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from contextlib import ContextDecorator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from microgpt import config
from microgpt.errors import ConfigError

numbers = itertools.count(1)
"""Numbers nodes in the order of their creation: a node's inputs always have smaller ones."""

# What an operation has to do beyond computing, in one number that is cheap to test.
OFF, RECORD, DEBUG_OFF, DEBUG = 0, 1, 2, 3


def _first_mode() -> int:
    """What the environment and the settings file say about debugging when this is imported."""
    try:
        return DEBUG if config.get("debug") else RECORD
    except ConfigError:
        return RECORD  # said by the first call that needs a setting, and by `microgpt config`


_FIRST: int = _first_mode()
mode: ContextVar[int] = ContextVar("microgpt_mode", default=_FIRST)


class TensorBase:
    """What the ops need to know of a tensor; `microgpt.tensor.Tensor` is its only face."""

    __slots__ = ("_data", "_edge")

    _data: Any
    """The backend's array."""
    _edge: Node | None
    """Where gradients of this tensor go: None (nowhere), a `Leaf`, or the op's `Node`."""


class ScalarBase:
    """What the ops need to know of a scalar; `microgpt.scalar.Scalar` is its only face."""

    __slots__ = ()

    _apply: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any]
    """(op, inputs, params): computes the op on numbers and records it."""


class _Freed:
    """In the place of a node's saved output: a backward pass has used the node up."""

    def __repr__(self) -> str:
        return "FREED"


FREED = _Freed()


class Node:
    """One recorded operation.

    `parents` are the nodes of the inputs (None: no gradient flows there). `saved` holds the values
    that the gradient rules read, (inputs…, output), with None in the place of each value that no
    rule reads; it is None itself once a backward pass has freed it.

    Nearly all nodes are of elementwise ops with one or two inputs, and each further object per
    node costs time, so these have fields instead of tuples: parents in `first` and `second`,
    saved values in `a`, `b` and `y`. Other nodes have both tuples in `first` and `a`.
    """

    __slots__ = (
        "a", "b", "first", "grad", "number", "op", "params", "second", "shape", "where", "y",
    )  # fmt: skip

    a: Any
    b: Any
    first: Any
    grad: Any
    number: int
    op: Any
    params: dict[str, Any] | None
    second: Any
    shape: tuple[int, ...]
    where: str | None
    y: Any

    @property
    def parents(self) -> tuple[Node | None, ...]:
        """The nodes of the inputs."""
        kind = self.op.kind
        if kind == 1:
            return (self.first,)
        return (self.first, self.second) if kind == 2 else self.first

    @property
    def saved(self) -> tuple[Any, ...] | None:
        """The values kept for the gradient rules."""
        if self.y is FREED:
            return None
        kind = self.op.kind
        if kind == 1:
            return (self.a, self.y)
        return (self.a, self.b, self.y) if kind == 2 else self.a

    def fill(self, parents: tuple[Node | None, ...], saved: tuple[Any, ...] | None) -> None:
        """Set `parents` and `saved`."""
        self.second = self.a = self.b = self.y = None
        kind = self.op.kind
        if kind == 1:
            (self.first,) = parents
        elif kind == 2:
            self.first, self.second = parents
        else:
            self.first = parents
        if saved is None:
            self.y = FREED
        elif kind == 1:
            self.a, self.y = saved
        elif kind == 2:
            self.a, self.b, self.y = saved
        else:
            self.a = saved

    def free(self) -> None:
        """Let go of the saved values; the structure of the graph stays, for pictures."""
        self.a = self.b = None
        self.y = FREED

    def __repr__(self) -> str:
        return f"<{self.op.name} node of shape {self.shape}>"


class Keep:
    """In a node's `grad`: the backward pass shall leave the gradient there (`retain_grad`)."""

    __slots__ = ("face",)

    def __init__(self, face: type[TensorBase]) -> None:
        self.face = face


class Leaf(Node):
    """The place where a tensor made by the user collects its gradient."""

    __slots__ = ("data", "face")

    def __init__(self, data: Any, face: type[TensorBase]) -> None:
        self.number = 0
        self.op = None
        self.params = None
        self.where = None
        self.shape = data.shape
        self.data = data
        self.face = face
        self.grad = None

    @property
    def parents(self) -> tuple[Node | None, ...]:
        """A leaf was computed from nothing."""
        return ()

    def __repr__(self) -> str:
        return f"<leaf of shape {self.shape}>"


class _Mode(ContextDecorator):
    """A block with another mode; a fresh one for every use."""

    __slots__ = ("_choose", "_token")

    def __init__(self, choose: Callable[[], int]) -> None:
        self._choose = choose

    def __enter__(self) -> None:
        self._token = mode.set(self._choose())

    def __exit__(self, *_: object) -> None:
        mode.reset(self._token)

    def _recreate_cm(self) -> _Mode:
        return _Mode(self._choose)


def no_grad() -> Any:
    """Inside this block (or decorated function) nothing is recorded for gradients.

    Example:
        >>> import microgpt as mg
        >>> x = mg.tensor([1.0, 2.0], requires_grad=True)
        >>> with mg.no_grad():
        ...     y = x * 2
        >>> y.requires_grad
        False
    """
    return _Mode(lambda: DEBUG_OFF if debugging() else OFF)


def enable_grad() -> Any:
    """Inside this block operations are recorded, even within `no_grad`."""
    return _Mode(lambda: DEBUG if debugging() else RECORD)


def debug() -> Any:
    """Inside this block every node remembers the line that made it.

    Errors of the backward pass name that line, and the first NaN or infinity that an operation
    makes from finite inputs raises `AnomalyError`, in the forward and in the backward pass.

    Example:
        >>> import numpy as np
        >>> import microgpt as mg
        >>> with mg.debug(), np.errstate(divide="ignore"):
        ...     try:
        ...         mg.log(mg.tensor([0.0]))
        ...     except mg.errors.AnomalyError as error:
        ...         print(str(error).splitlines()[0])
        log made the first infinity (-inf) from finite inputs
    """
    return _Mode(lambda: DEBUG if recording() else DEBUG_OFF)


_outer: ContextVar[tuple[int, ...]] = ContextVar("microgpt_outer_modes", default=())


class _DebugBlock(config.Block):
    """A block of settings that switches debug mode too."""

    def __enter__(self) -> None:
        super().__enter__()
        now = mode.get()
        _outer.set((*_outer.get(), now))
        mode.set(
            (DEBUG if recording() else DEBUG_OFF) if self._values["debug"] else now % DEBUG_OFF
        )

    def __exit__(self, *_: object) -> None:
        *rest, now = _outer.get()
        _outer.set(tuple(rest))
        mode.set(now)
        super().__exit__()


def configure(**settings: Any) -> config.Block:
    """Settings for a block of code, or for a function when used as a decorator.

    Args:
        settings: backend, device, dtype, seed, data or debug; see `microgpt config`.

    Other threads and async tasks do not see them. Blocks nest; the inner one decides what it
    names and leaves the rest.

    Example:
        >>> import microgpt as mg
        >>> with mg.configure(dtype="float64"):
        ...     mg.zeros(1).dtype
        dtype('float64')
    """
    block = config.configure(**settings)
    return _DebugBlock(block._values) if "debug" in settings else block


def debugging() -> bool:
    """Whether nodes remember lines and values are checked for NaN."""
    return mode.get() >= DEBUG_OFF


def recording() -> bool:
    """Whether operations on tensors that require gradients are being recorded."""
    return mode.get() in (RECORD, DEBUG)


_PACKAGE = str(Path(__file__).parent)


def caller_line() -> str:
    """File and line of the nearest frame outside the package, for debug mode."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back
    return "?" if frame is None else f"{frame.f_code.co_filename}:{frame.f_lineno}"
