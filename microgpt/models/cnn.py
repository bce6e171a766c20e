"""CNN: filters that look for the same small pattern everywhere in an image."""

from __future__ import annotations

from typing import Any

import numpy as np

from microgpt import nn, ops
from microgpt.creation import generator as make_generator
from microgpt.errors import InputError, ShapeError
from microgpt.ops.conv import Pair, pair


class CNN(nn.Module):
    """Two convolutions, each followed by a pool that halves the image, and a linear layer.

    Args:
        size: height and width of the images, at least 4; 28 is MNIST, 8 the digits of
            `mg.data.digits`.
        classes: number of outputs, the logits of a softmax.
        in_channels: 1 for grey images, 3 for colours.
        channels: numbers of filters of the two convolutions.
        kernel_size: odd height and width of the filters; the padding keeps the size.
        activation: relu, sigmoid, tanh, gelu or silu.
        generator: source of the initial weights; by default one made from the configured seed.

    Shapes: (n, in_channels, height, width), or (n, height, width) if grey → (n, classes).

    Source: LeCun, Bottou, Bengio and Haffner, Proceedings of the IEEE 86 (1998): LeNet-5, here
    smaller, with the largest instead of the mean of a window and one linear layer.

    Example:
        >>> import microgpt as mg
        >>> mg.models.CNN()(mg.zeros((2, 28, 28))).shape
        (2, 10)
    """

    def __init__(
        self,
        size: int | Pair = 28,
        classes: int = 10,
        in_channels: int = 1,
        channels: Pair = (8, 16),
        kernel_size: int = 3,
        activation: str = "relu",
        *,
        generator: np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise InputError(f"CNN needs an odd kernel_size, to keep the size; got {kernel_size}")
        source = make_generator() if generator is None else generator
        self.size = height, width = pair("CNN: size", size, 4)
        self.in_channels = in_channels
        first, second = channels
        edge = kernel_size // 2
        features = second * (height // 4) * (width // 4)
        self.conv1 = nn.Conv2d(in_channels, first, kernel_size, padding=edge, generator=source)
        self.conv2 = nn.Conv2d(first, second, kernel_size, padding=edge, generator=source)
        self.pool = nn.MaxPool2d(2)
        self.activation = nn.activation(activation)
        self.head = nn.Linear(features, classes, generator=source)

    def forward(self, x: Any) -> Any:
        """Images to logits."""
        x = self._images(x)  # (n, c, h, w)
        # Activated after the pool: a quarter of the numbers, and for those that only rise (relu,
        # tanh, sigmoid) the same result as before it.
        x = self.activation(self.pool(self.conv1(x)))  # (n, 8, h/2, w/2)
        x = self.activation(self.pool(self.conv2(x)))  # (n, 16, h/4, w/4)
        return self.head(ops.flatten(x, 1))

    def _images(self, x: Any) -> Any:
        """`x` with a dimension of channels."""
        shape, want = tuple(x.shape), (self.in_channels, *self.size)
        if shape[1:] == want:
            return x
        if self.in_channels == 1 and shape[1:] == self.size:
            return ops.reshape(x, (shape[0], *want))
        hint = f" (CNN(size) makes one for other sizes, here {self.size})"
        if len(shape) == 2 and shape[1] == want[0] * want[1] * want[2]:
            hint = f"; flattened images: x.reshape(-1, {want[0]}, {want[1]}, {want[2]})"
        elif shape[1:] == (*self.size, self.in_channels):
            hint = "; channels stand last here: mg.permute_dims(x, (0, 3, 1, 2))"
        elif shape in (want, self.size):
            hint = "; a single image: x[None]"
        raise ShapeError(
            f"CNN was given shape {shape}; required: (n, {want[0]}, {want[1]}, {want[2]}){hint}"
        )

    def count(self) -> list[tuple[str, int, int]]:
        """Name, number of weights and number of biases of every layer.

        Example:
            >>> import microgpt as mg
            >>> mg.models.CNN().count()
            [('1→8, 3×3', 72, 8), ('8→16, 3×3', 1152, 16), ('784→10', 7840, 10)]
        """
        rows = []
        for layer in (self.conv1, self.conv2):
            high, wide = layer.kernel_size
            name = f"{layer.in_channels}→{layer.out_channels}, {high}×{wide}"
            rows.append((name, layer.weight.size, layer.out_channels))
        name = f"{self.head.in_features}→{self.head.out_features}"
        return [*rows, (name, self.head.weight.size, self.head.out_features)]
