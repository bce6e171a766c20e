"""MLP: layers of neurons, each connected to all of the layer before."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from microgpt import nn
from microgpt.creation import generator as make_generator
from microgpt.errors import InputError


class MLP(nn.Module):
    """A multilayer perceptron.

    With the sigmoid the last layer is squeezed into (0, 1) too, as in 3Blue1Brown's chapter 1;
    with any other activation its sums are left as they are (logits for a softmax).

    Args:
        sizes: numbers of neurons, from the input to the output.
        activation: sigmoid, relu, tanh, gelu or silu.
        squash: whether the activation is applied to the output as well; by default only the
            sigmoid is.
        generator: source of the initial weights; by default one made from the configured seed.

    Shapes: (…, sizes[0]) → (…, sizes[-1]).

    Example:
        >>> import microgpt as mg
        >>> mg.models.MLP((784, 16, 16, 10)).num_parameters()
        13002
    """

    def __init__(
        self,
        sizes: Sequence[int] = (784, 16, 16, 10),
        activation: str = "sigmoid",
        *,
        squash: bool | None = None,
        generator: np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        if len(sizes) < 2:
            raise InputError(f"MLP needs an input and an output size; got {tuple(sizes)}")
        source = make_generator() if generator is None else generator
        self.sizes = tuple(sizes)
        self.layers = nn.ModuleList(nn.Linear(n, m, generator=source) for n, m in pairwise(sizes))
        self.activation = nn.activation(activation)
        self.squash = activation == "sigmoid" if squash is None else squash

    def forward(self, x: Any) -> Any:
        """a ← σ(W a + b), layer by layer."""
        last = len(self.layers) - 1
        for depth, layer in enumerate(self.layers):
            x = layer(x)
            if depth < last or self.squash:
                x = self.activation(x)
        return x

    def count(self) -> list[tuple[str, int, int]]:
        """Name, number of weights and number of biases of every layer.

        Example:
            >>> import microgpt as mg
            >>> mg.models.MLP((784, 16, 16, 10)).count()
            [('784→16', 12544, 16), ('16→16', 256, 16), ('16→10', 160, 10)]
        """
        return [(f"{n}→{m}", n * m, m) for n, m in pairwise(self.sizes)]
