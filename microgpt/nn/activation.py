"""Activation functions as modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from microgpt import ops
from microgpt.errors import InputError
from microgpt.nn.module import Module


class _Elementwise(Module):
    """A module that applies one op."""

    _op: Callable[..., Any]

    def forward(self, x: Any) -> Any:
        """The same shape."""
        return type(self)._op(x)


class ReLU(_Elementwise):
    """max(x, 0)"""

    _op = staticmethod(ops.relu)


class Sigmoid(_Elementwise):
    """1 / (1 + e⁻ˣ)"""

    _op = staticmethod(ops.sigmoid)


class Tanh(_Elementwise):
    """Hyperbolic tangent."""

    _op = staticmethod(ops.tanh)


class SiLU(_Elementwise):
    """x·σ(x)"""

    _op = staticmethod(ops.silu)


class GELU(Module):
    """x·Φ(x); `approximate="tanh"` is the formula of GPT-2."""

    def __init__(self, approximate: str = "none") -> None:
        super().__init__()
        self.approximate = approximate

    def forward(self, x: Any) -> Any:
        """The same shape."""
        return ops.gelu(x, approximate=self.approximate)


class Softmax(Module):
    """exp(x) / Σ exp(x) along `dim`."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Any) -> Any:
        """The same shape."""
        return ops.softmax(x, axis=self.dim)


class LogSoftmax(Module):
    """Logarithm of the softmax along `dim`."""

    def __init__(self, dim: int = -1) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Any) -> Any:
        """The same shape."""
        return ops.log_softmax(x, axis=self.dim)


_BY_NAME = {"relu": ReLU, "sigmoid": Sigmoid, "tanh": Tanh, "gelu": GELU, "silu": SiLU}


def activation(name: str) -> Module:
    """The activation called `name`: relu, sigmoid, tanh, gelu or silu.

    Raises:
        InputError: if there is none of this name.
    """
    if name not in _BY_NAME:
        raise InputError(f"there is no activation '{name}'; there are {', '.join(_BY_NAME)}")
    return _BY_NAME[name]()
