"""Ops on images: sliding windows, convolution and pooling. Layout: (n, channels, height, width)."""

from __future__ import annotations

import math
from typing import Any

from microgpt.errors import InputError, ShapeError
from microgpt.ops import movement as mv
from microgpt.ops import reduction as rd
from microgpt.ops.declare import face, fused, primitive
from microgpt.ops.linalg import matmul

Pair = tuple[int, int]


def pair(name: str, value: int | tuple[int, int], least: int) -> Pair:
    """`value` for height and width.

    Raises:
        InputError: if it is neither a number nor a pair, or smaller than `least`.
    """
    two = (value, value) if isinstance(value, int) else tuple(value)
    if len(two) != 2 or not all(isinstance(v, int) and v >= least for v in two):
        raise InputError(f"{name} must be a number >= {least} or a pair of them; got {value!r}")
    return two


def output_size(size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    """Number of window positions vertically and horizontally.

    Raises:
        ShapeError: if the window is larger than the padded image.
    """
    out = tuple(
        [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(size, kernel, stride, padding, dilation, strict=True)
        ]
    )
    if min(out) < 1:
        raise ShapeError(
            f"a window of {kernel} (dilation {dilation}) does not fit into an image of {size} with "
            f"padding {padding}; required: at most the padded size"
        )
    return out  # pyright: ignore[reportReturnType]


_unfold = primitive(
    "unfold",
    vjp=(
        lambda g, y, x, kernel, stride, padding, dilation: _fold(
            g, size=tuple(x.shape[2:]), kernel=kernel, stride=stride, padding=padding,
            dilation=dilation,
        ),
    ),
    reads=("",),
    doc="all windows of an image as columns",
    accuracy="exact",
    domain=lambda d: d.windows(),
)  # fmt: skip
_fold = primitive(
    "fold",
    vjp=(
        lambda g, y, x, size, kernel, stride, padding, dilation: _unfold(
            g, kernel=kernel, stride=stride, padding=padding, dilation=dilation
        ),
    ),
    reads=("",),
    doc="columns added back to the places their windows came from",
    accuracy="reduction",
    domain=lambda d: d.folded(),
)  # fmt: skip


@face(_unfold)
def unfold(
    x: Any,
    kernel_size: int | Pair,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
) -> Any:
    """Windows of images as columns: (n, c, h, w) → (n, c·kh·kw, positions).

    Example:
        >>> import microgpt as mg
        >>> mg.unfold(mg.zeros((1, 3, 5, 5)), 2).shape
        (1, 12, 16)
    """
    _image("unfold", x)
    kernel, step, edge, gap = _window(kernel_size, stride, padding, dilation)
    output_size(tuple(x.shape[2:]), kernel, step, edge, gap)
    return _unfold(x, kernel=kernel, stride=step, padding=edge, dilation=gap)


@face(_fold)
def fold(
    x: Any,
    output_shape: int | Pair,
    kernel_size: int | Pair,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
) -> Any:
    """The adjoint of `unfold`: (n, c·kh·kw, positions) → (n, c, *output_shape); overlaps add up.

    Example:
        >>> import microgpt as mg
        >>> mg.fold(mg.ones((1, 4, 1)), 2, 2).shape
        (1, 1, 2, 2)
    """
    size = pair("output_shape", output_shape, 1)
    kernel, step, edge, gap = _window(kernel_size, stride, padding, dilation)
    out = output_size(size, kernel, step, edge, gap)
    area = kernel[0] * kernel[1]
    if len(x.shape) != 3 or x.shape[1] % area or x.shape[2] != out[0] * out[1]:
        raise ShapeError(
            f"fold: x of shape {tuple(x.shape)}; required: (n, c·{area}, {out[0] * out[1]}) for "
            f"windows of {kernel} in an image of {size}"
        )
    return _fold(x, size=size, kernel=kernel, stride=step, padding=edge, dilation=gap)


def _window(
    kernel: int | Pair, stride: int | Pair, padding: int | Pair, dilation: int | Pair
) -> tuple[Pair, Pair, Pair, Pair]:
    return (
        pair("kernel_size", kernel, 1),
        pair("stride", stride, 1),
        pair("padding", padding, 0),
        pair("dilation", dilation, 1),
    )


def _image(name: str, x: Any) -> None:
    if len(x.shape) != 4:
        raise ShapeError(
            f"{name} needs images (n, channels, height, width); got shape {tuple(x.shape)} "
            "(a single image needs a dimension in front: x[None])"
        )


@fused(arity=3, domain=lambda d: d.convolution(), accuracy="reduction")
def _conv2d(
    x: Any,
    weight: Any,
    bias: Any,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Any:
    """y[o, i, j] = Σ weight[o, c, u, v] · x[c, i·stride + u, j·stride + v] + bias[o]"""
    n = x.shape[0]
    out_channels, per_group, kh, kw = weight.shape
    height, width = output_size(tuple(x.shape[2:]), (kh, kw), stride, padding, dilation)
    columns = _unfold(x, kernel=(kh, kw), stride=stride, padding=padding, dilation=dilation)
    columns = mv.reshape(columns, (n, groups, per_group * kh * kw, height * width))
    rows = mv.reshape(weight, (groups, out_channels // groups, per_group * kh * kw))
    y = mv.reshape(matmul(rows, columns), (n, out_channels, height, width))
    return y if bias is None else y + mv.reshape(bias, (out_channels, 1, 1))


@face(_conv2d)
def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    stride: int | Pair = 1,
    padding: int | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Any:
    """Cross-correlation of images with filters, as in PyTorch.

    Args:
        x: (n, c, h, w).
        weight: (o, c / groups, kh, kw).
        bias: (o,) or None.

    Returns:
        (n, o, h', w') with h' = (h + 2·padding - dilation·(kh - 1) - 1) // stride + 1.

    Example:
        >>> import microgpt as mg
        >>> mg.conv2d(mg.ones((1, 1, 3, 3)), mg.ones((2, 1, 2, 2))).shape
        (1, 2, 2, 2)
    """
    _image("conv2d", x)
    shape = tuple(weight.shape)
    if len(shape) != 4 or groups < 1 or x.shape[1] != shape[1] * groups or shape[0] % groups:
        raise ShapeError(
            f"conv2d: x {tuple(x.shape)}, weight {shape}, groups={groups}; required: x "
            "(n, c, h, w), weight (o, c/groups, kh, kw), with c and o divisible by groups"
        )
    if bias is not None and tuple(bias.shape) != shape[:1]:
        raise ShapeError(f"conv2d: bias of shape {tuple(bias.shape)}; required: {shape[:1]}")
    kernel, step, edge, gap = _window(tuple(shape[2:]), stride, padding, dilation)  # pyright: ignore
    output_size(tuple(x.shape[2:]), kernel, step, edge, gap)
    return _conv2d(x, weight, bias, stride=step, padding=edge, dilation=gap, groups=groups)


def _pool_columns(x: Any, kernel: Pair, stride: Pair, padding: Pair, value: float) -> Any:
    """Windows of every channel apart: (n·c, kh·kw, positions)."""
    n, c, h, w = x.shape
    if padding != (0, 0):
        (top, left), edges = padding, ((0, 0), (0, 0))
        x = mv.pad(x, (*edges, (top, top), (left, left)), value)
        h, w = h + 2 * top, w + 2 * left
    flat = mv.reshape(x, (n * c, 1, h, w))
    return _unfold(flat, kernel=kernel, stride=stride, padding=(0, 0), dilation=(1, 1))


@fused(domain=lambda d: d.pooled(distinct=True), kinks="share", accuracy="exact")
def _max_pool2d(
    x: Any, kernel: Pair = (2, 2), stride: Pair = (2, 2), padding: Pair = (0, 0)
) -> Any:
    """largest element of each window"""
    height, width = output_size(tuple(x.shape[2:]), kernel, stride, padding, (1, 1))
    columns = _pool_columns(x, kernel, stride, padding, -math.inf)
    return mv.reshape(rd.max(columns, axis=1), (x.shape[0], x.shape[1], height, width))


@fused(domain=lambda d: d.pooled(distinct=False), accuracy="reduction")
def _avg_pool2d(
    x: Any, kernel: Pair = (2, 2), stride: Pair = (2, 2), padding: Pair = (0, 0)
) -> Any:
    """mean of each window; the padding counts as zeros"""
    height, width = output_size(tuple(x.shape[2:]), kernel, stride, padding, (1, 1))
    columns = _pool_columns(x, kernel, stride, padding, 0.0)
    return mv.reshape(rd.mean(columns, axis=1), (x.shape[0], x.shape[1], height, width))


def _pool(
    name: str, op: Any, x: Any, kernel: int | Pair, stride: int | Pair | None, padding: int | Pair
) -> Any:
    _image(name, x)
    window, step, edge, _ = _window(kernel, kernel if stride is None else stride, padding, 1)
    if edge[0] * 2 > window[0] or edge[1] * 2 > window[1]:
        raise InputError(
            f"{name}: padding {edge} must be at most half of the window {window}, or windows "
            "would lie wholly outside the image"
        )
    output_size(tuple(x.shape[2:]), window, step, edge, (1, 1))
    return op(x, kernel=window, stride=step, padding=edge)


@face(_max_pool2d)
def max_pool2d(
    x: Any, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0
) -> Any:
    """Largest element of every window; `stride` is by default the window.

    Equally large ones share the gradient.

    Example:
        >>> import microgpt as mg
        >>> mg.max_pool2d(mg.reshape(mg.arange(4.0), (1, 1, 2, 2)), 2).item()
        3.0
    """
    return _pool("max_pool2d", _max_pool2d, x, kernel_size, stride, padding)


@face(_avg_pool2d)
def avg_pool2d(
    x: Any, kernel_size: int | Pair, stride: int | Pair | None = None, padding: int | Pair = 0
) -> Any:
    """Mean of every window; `stride` is by default the window.

    Example:
        >>> import microgpt as mg
        >>> mg.avg_pool2d(mg.reshape(mg.arange(4.0), (1, 1, 2, 2)), 2).item()
        1.5
    """
    return _pool("avg_pool2d", _avg_pool2d, x, kernel_size, stride, padding)
