"""Pools: the largest number or the mean of every window of an image."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from microgpt_opencl.arrays import Array
from microgpt_opencl.fusion import realised
from microgpt_opencl.images import (
    Pair,
    batch_inside,
    image_kernel,
    lanes,
    new_images,
    run,
    windows,
)


def _width(x: Array) -> int:
    """Lanes of the vectors to work with: 1, plain numbers, where the batch does not fill one."""
    width = lanes(x)
    return width if x.shape[0] >= width else 1


def _laid_out(x: Array, width: int) -> Array:
    return realised(x) if width == 1 else batch_inside(x)


def _pooled(x: Array, mean: float, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    n, c, h, w = x.shape
    rows, cols = windows((h, w), kernel, stride, padding, (1, 1))
    y = new_images(x, c, (rows, cols))
    if y.size:
        width = _width(x)
        x = _laid_out(x, width)
        run(x, image_kernel(x, "pool.cl", "pool", width), width, (n, cols, c * rows), x, *x.strides,
            y, *y.strides, n, h, w, rows, cols, *kernel, *stride, *padding, mean)  # fmt: skip
    return y


def max_pool2d(x: Array, *, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    return _pooled(x, 0.0, kernel, stride, padding)


def max_pool2d_vjp(
    g: Array, y: Array, x: Array, *, needs: Any, kernel: Pair, stride: Pair, padding: Pair
) -> tuple[Array]:
    n, c, h, w = x.shape
    rows, cols = y.shape[2:]
    to_x = new_images(x, c, (h, w))
    if not to_x.size:
        return (to_x,)
    width = _width(x)
    x, g = _laid_out(x, width), _laid_out(g, width)
    if kernel == stride == (2, 2) and padding == (0, 0):
        run(x, image_kernel(x, "pool.cl", "max_gradient_fours", width), width,
            (n, (w + 1) // 2, c * ((h + 1) // 2)), x, *x.strides, g, *g.strides,
            to_x, *to_x.strides, n, h, w, rows, cols)  # fmt: skip
        return (to_x,)
    y = _laid_out(y, width)
    sizes = (n, h, w, rows, cols, *kernel, *stride, *padding)
    arrays = (x, *x.strides, y, *y.strides, g, *g.strides)
    if stride[0] >= kernel[0] and stride[1] >= kernel[1]:
        down, across = -(-(h + padding[0]) // stride[0]), -(-(w + padding[1]) // stride[1])
        run(x, image_kernel(x, "pool.cl", "max_gradient_apart", width), width,
            (n, across, c * down), *arrays, to_x, *to_x.strides, *sizes)  # fmt: skip
        return (to_x,)
    share = new_images(x, c, (rows, cols))
    run(x, image_kernel(x, "pool.cl", "max_share", width), width, (n, cols, c * rows), *arrays,
        share, *share.strides, *sizes)  # fmt: skip
    _gather(x, y, share, to_x, sizes, 0.0, width)
    return (to_x,)


def _gather(
    x: Array, y: Array, share: Array, to_x: Array, sizes: tuple[int, ...], mean: float, width: int
) -> None:
    """The gradient of images from what each of their windows has for it."""
    n, c, h, w = to_x.shape
    run(to_x, image_kernel(to_x, "pool.cl", "gather", width), width, (n, w, c * h), x, *x.strides,
        y, *y.strides, share, *share.strides, to_x, *to_x.strides, *sizes, mean)  # fmt: skip


def avg_pool2d(x: Array, *, kernel: Pair, stride: Pair, padding: Pair) -> Array:
    return _pooled(x, 1 / prod(kernel), kernel, stride, padding)


def avg_pool2d_saving(x: Array, **params: Any) -> tuple[Array, tuple]:
    return avg_pool2d(x, **params), ()  # the gradient does not need the result


def avg_pool2d_vjp(
    g: Array, saved: Any, x: Array, *, needs: Any, kernel: Pair, stride: Pair, padding: Pair
) -> tuple[Array]:
    n, c, h, w = x.shape
    to_x = new_images(x, c, (h, w))
    if to_x.size:
        width = _width(x)
        g = _laid_out(g, width)
        sizes = (n, h, w, *g.shape[2:], *kernel, *stride, *padding)
        _gather(g, g, g, to_x, sizes, 1 / prod(kernel), width)  # x and y are not looked at
    return (to_x,)


KERNELS: dict[str, Callable[..., Any]] = {
    "max_pool2d": max_pool2d,
    "max_pool2d_vjp": max_pool2d_vjp,
    "avg_pool2d": avg_pool2d,
    "avg_pool2d_saving": avg_pool2d_saving,
    "avg_pool2d_vjp": avg_pool2d_vjp,
}
