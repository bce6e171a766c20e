"""Linear, Flatten and Dropout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from microgpt import ops
from microgpt.creation import generator as make_generator
from microgpt.errors import InputError, ShapeError
from microgpt.nn import init
from microgpt.nn.module import Module, parameter
from microgpt.ops.network import linear_unchecked
from microgpt.tensor import Tensor


class Linear(Module):
    """x · weightᵀ + bias.

    Args:
        in_features: n, the length of the rows that come in.
        out_features: m, the length of those that go out.
        bias: whether something is added.
        generator: source of the initial values, uniform in ±1/√n as in PyTorch; by default one
            made from the configured seed.
        dtype, backend, device: by default the configured ones.

    Shapes: x (…, n) → (…, m); weight (m, n); bias (m,).

    Example:
        >>> import microgpt as mg
        >>> mg.nn.Linear(784, 16)
        Linear(784, 16)  12,560 parameters
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        generator: np.random.Generator | None = None,
        dtype: Any = None,
        backend: str | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1:
            raise InputError(
                f"Linear needs at least one feature in and out; got {in_features}, {out_features}"
            )
        self.in_features, self.out_features = in_features, out_features
        source = make_generator() if generator is None else generator
        bound = 1 / math.sqrt(in_features)

        def made(shape: tuple[int, ...]) -> Tensor:
            values = init.uniform(shape, -bound, bound, generator=source)
            return parameter(values, dtype, backend, device)

        self.weight = made((out_features, in_features))
        self.bias = made((out_features,)) if bias else None

    def forward(self, x: Any) -> Any:
        """(…, in_features) → (…, out_features)."""
        if not x.shape or x.shape[-1] != self.in_features:
            hint = ""
            if math.prod(x.shape[1:]) == self.in_features:
                hint = "; flatten the images first: x.reshape(len(x), -1), or nn.Flatten()"
            raise ShapeError(
                f"Linear({self.in_features}, {self.out_features}) was given shape "
                f"{tuple(x.shape)}; required: last dimension {self.in_features}{hint}"
            ).about("layer-input")
        return linear_unchecked(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.in_features}, {self.out_features}" + (
            "" if self.bias is not None else ", bias=False"
        )


class Flatten(Module):
    """Dimensions `start_dim` to `end_dim` joined into one; by default all but the first."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: Any) -> Any:
        """(n, a, b, …) → (n, a·b·…)."""
        return ops.flatten(x, self.start_dim, self.end_dim)


class Dropout(Module):
    """In training each element becomes 0 with probability `p` and the others grow by 1/(1-p).

    Args:
        generator: source of the masks, on the host: the same on every backend; by default one
            made from the configured seed. A training checkpoint keeps its state.
    """

    def __init__(self, p: float = 0.5, *, generator: np.random.Generator | None = None) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise InputError(f"Dropout: p must be in [0, 1); got {p}")
        self.p = p
        self.generator = make_generator() if generator is None else generator

    def forward(self, x: Any) -> Any:
        """The same shape."""
        return ops.dropout(x, self.p, self.training, generator=self.generator)

    def extra_repr(self) -> str:
        """The probability."""
        return f"{self.p}"
