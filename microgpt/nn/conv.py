"""Layers for images (n, channels, height, width): convolution and pooling."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from microgpt import ops
from microgpt.creation import generator as make_generator
from microgpt.errors import InputError, ShapeError
from microgpt.nn import init
from microgpt.nn.module import Module, parameter
from microgpt.nn.shapes import image_hint
from microgpt.ops.conv import Pair, pair


def _short(two: Pair) -> int | Pair:
    return two[0] if two[0] == two[1] else two


class Conv2d(Module):
    """Filters that slide over images: y[o] = bias[o] + Σ weight[o, c] ⋆ x[c].

    Args:
        in_channels: c.
        out_channels: o, the number of filters.
        kernel_size: height and width of the filters.
        stride: step of the windows.
        padding: zeros around the image: a number, one for the height and one for the width,
            'valid' (none) or 'same' (as many as keep the size, with stride 1; the odd one comes
            below and to the right).
        dilation: distance of the pixels that a filter sees.
        groups: number of parts that the channels are cut into; filters see one part.
        bias: whether something is added.
        generator: source of the initial values, uniform in ±1/√(c/groups·kh·kw) as in PyTorch;
            by default one made from the configured seed.
        dtype, backend, device: by default the configured ones.

    Shapes: x (n, c, h, w) → (n, o, h', w') with
    h' = (h + 2·padding - dilation·(kh - 1) - 1) // stride + 1; weight (o, c/groups, kh, kw);
    bias (o,).

    Raises:
        InputError: if a size is not positive, or the groups do not divide the channels.
        ShapeError: when called, if x has other channels or is smaller than a filter.

    Example:
        >>> import microgpt as mg
        >>> mg.nn.Conv2d(1, 8, 3, padding="same")(mg.zeros((64, 1, 28, 28))).shape
        (64, 8, 28, 28)
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | Pair,
        stride: int | Pair = 1,
        padding: int | Pair | str = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        generator: np.random.Generator | None = None,
        dtype: Any = None,
        backend: str | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__()
        if (
            min(in_channels, out_channels, groups) < 1
            or in_channels % groups
            or (out_channels % groups)
        ):
            raise InputError(
                "Conv2d needs positive channels that groups divides; got in_channels="
                f"{in_channels}, out_channels={out_channels}, groups={groups}"
            )
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = pair("Conv2d: kernel_size", kernel_size, 1)
        self.stride = pair("Conv2d: stride", stride, 1)
        self.dilation = pair("Conv2d: dilation", dilation, 1)
        self.padding, self._extra = self._edges(padding)
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        bound = 1 / math.sqrt(init.fans(shape)[0])
        source = make_generator() if generator is None else generator

        def made(sides: tuple[int, ...]) -> Any:
            values = init.uniform(sides, -bound, bound, generator=source)
            return parameter(values, dtype, backend, device)

        self.weight = made(shape)
        self.bias = made((out_channels,)) if bias else None

    def _edges(self, padding: int | Pair | str) -> tuple[Pair, Pair]:
        """Zeros on both sides, and what comes below and to the right in addition."""
        if padding == "valid":
            return (0, 0), (0, 0)
        if padding == "same":
            if self.stride != (1, 1):
                raise InputError(
                    f"Conv2d: padding='same' keeps the size, which stride {self.stride} does not; "
                    "required: stride=1, or a number as padding"
                )
            high, wide = (d * (k - 1) for d, k in zip(self.dilation, self.kernel_size, strict=True))
            return (high // 2, wide // 2), (high % 2, wide % 2)
        if isinstance(padding, str):
            raise InputError(
                f"Conv2d: padding must be a number, a pair, 'same' or 'valid'; got {padding!r}"
            )
        return pair("Conv2d: padding", padding, 0), (0, 0)

    def forward(self, x: Any) -> Any:
        """(n, in_channels, h, w) → (n, out_channels, h', w')."""
        if len(x.shape) != 4 or x.shape[1] != self.in_channels:
            shape = tuple(x.shape)
            raise ShapeError(
                f"Conv2d({self.extra_repr()}) was given shape {shape}; required: "
                f"(n, {self.in_channels}, height, width){image_hint(shape, self.in_channels)}"
            )
        if self._extra != (0, 0):
            below, right = self._extra
            x = ops.pad(x, ((0, 0), (0, 0), (0, below), (0, right)))
        try:
            return ops.conv2d(
                x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups
            )
        except ShapeError as error:
            raise ShapeError(f"Conv2d({self.extra_repr()}): {error}") from None

    def extra_repr(self) -> str:
        """The sizes, and what is not as by default."""
        parts = [str(self.in_channels), str(self.out_channels), str(_short(self.kernel_size))]
        if self.stride != (1, 1):
            parts.append(f"stride={_short(self.stride)}")
        if self._extra != (0, 0):
            parts.append("padding='same'")
        elif self.padding != (0, 0):
            parts.append(f"padding={_short(self.padding)}")
        if self.dilation != (1, 1):
            parts.append(f"dilation={_short(self.dilation)}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        return ", ".join(parts)


class _Pool(Module):
    """What both pools share: a window that slides over every channel by itself."""

    def __init__(
        self,
        kernel_size: int | Pair,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        self.kernel_size = pair(f"{name}: kernel_size", kernel_size, 1)
        self.stride = self.kernel_size if stride is None else pair(f"{name}: stride", stride, 1)
        self.padding = pair(f"{name}: padding", padding, 0)
        if any(2 * p > k for p, k in zip(self.padding, self.kernel_size, strict=True)):
            raise InputError(
                f"{name}: padding {self.padding} must be at most half of the window "
                f"{self.kernel_size}, or windows would lie wholly outside the image"
            )

    def _pooled(self, op: Any, x: Any) -> Any:
        shape = tuple(x.shape)
        if len(shape) != 4:
            hint = image_hint(shape, 1) if len(shape) == 2 else ""
            if len(shape) == 3:
                hint = "; a single image: x[None]; images without a channel dimension: x[:, None]"
            raise ShapeError(
                f"{type(self).__name__}({self.extra_repr()}) was given shape {shape}; required: "
                f"(n, channels, height, width){hint}"
            )
        try:
            return op(x, self.kernel_size, self.stride, self.padding)
        except ShapeError as error:
            raise ShapeError(f"{type(self).__name__}({self.extra_repr()}): {error}") from None

    def extra_repr(self) -> str:
        """The window, and what is not as by default."""
        parts = [str(_short(self.kernel_size))]
        if self.stride != self.kernel_size:
            parts.append(f"stride={_short(self.stride)}")
        if self.padding != (0, 0):
            parts.append(f"padding={_short(self.padding)}")
        return ", ".join(parts)


class MaxPool2d(_Pool):
    """The largest pixel of every window, of each channel by itself.

    Equally large ones share the gradient.

    Args:
        kernel_size: height and width of the window.
        stride: step of the windows; by default their size, so that they do not overlap.
        padding: rows and columns of -∞ around the image, at most half a window.

    Shapes: (n, c, h, w) → (n, c, h', w') with h' = (h + 2·padding - kernel) // stride + 1.

    Example:
        >>> import microgpt as mg
        >>> mg.nn.MaxPool2d(2)(mg.reshape(mg.arange(4.0), (1, 1, 2, 2))).item()
        3.0
    """

    def forward(self, x: Any) -> Any:
        """(n, c, h, w) → (n, c, h', w')."""
        return self._pooled(ops.max_pool2d, x)


class AvgPool2d(_Pool):
    """The mean of every window, of each channel by itself; the padding counts as zeros.

    Args:
        kernel_size: height and width of the window.
        stride: step of the windows; by default their size, so that they do not overlap.
        padding: rows and columns of zeros around the image, at most half a window.

    Shapes: (n, c, h, w) → (n, c, h', w') with h' = (h + 2·padding - kernel) // stride + 1.

    Example:
        >>> import microgpt as mg
        >>> mg.nn.AvgPool2d(2)(mg.reshape(mg.arange(4.0), (1, 1, 2, 2))).item()
        1.5
    """

    def forward(self, x: Any) -> Any:
        """(n, c, h, w) → (n, c, h', w')."""
        return self._pooled(ops.avg_pool2d, x)
