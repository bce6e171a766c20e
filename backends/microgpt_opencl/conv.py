"""Convolution: the kernels run over the images themselves, without columns of their windows.

The gradient of the images is a convolution too, of the gradient of the result, with the roles of
filters and channels exchanged. The gradients of the filters and of the bias are found together.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from microgpt_opencl import reduction
from microgpt_opencl.arrays import Array, dense_strides, empty, view
from microgpt_opencl.elementwise import fill
from microgpt_opencl.fusion import contiguous, realised
from microgpt_opencl.images import (
    Pair,
    batch_inside,
    framed,
    image_kernel,
    lanes,
    new_images,
    run,
    run_items,
    windows,
)

CACHE = 1 << 15
"""Bytes of rows that go through all tiles of the filters' gradient before the next ones."""

SLABS = 16
"""Parts of the filters' gradient that are summed apart, where there are no vectors."""


def _many(x: Array) -> bool:
    """Whether the device has the 32 large registers of AVX-512, not 16 smaller ones."""
    return x.device.width >= 16


# ---- the result, and the gradient of the images ------------------------------------------------


def _tile(x: Array, length: int) -> tuple[int, int, int]:
    """Lanes, filters and vectors of the tile, added up at once, that `length` numbers fill."""
    width = lanes(x)
    if width > 1:
        for blocks in (4, 2, 1) if _many(x) else (2, 1):
            if length >= width * blocks:
                return width, 4, blocks
    return 1, 1, 1


def _correlate(
    x: Array, filters: tuple[Any, ...], bias: Array | None, y: Array, groups: int, ins: int,
    outs: int, kernel: Pair, step: Pair, edge: Pair, gap: Pair, gaps: Pair,
) -> None:  # fmt: skip
    """Fill y: see the kernel. `filters` is the array and its steps along group, out, in, u, v."""
    n, _, h, w = x.shape
    _, _, rows, cols = y.shape
    if not y.size:
        return
    (kw, (ph, pw), dw) = kernel[1], edge, gap[1]
    whole_rows = step[1] == 1 and gaps[1] == 1
    width, at_once, blocks = _tile(x, n * cols if whole_rows else n)
    length, across = n, cols
    if width > 1:
        x = batch_inside(x)
        if n < width * blocks:
            # Rows count as one long batch, so there must be room for what lies beyond their ends.
            left = max(0, pw - min(0, (kw - 1) * dw))
            right = max(0, cols - 1 - pw + max(0, (kw - 1) * dw) - (w - 1))
            more = max(left, right)
            if more or x.strides[3] != n:
                x = framed(x, 0, more)
            length, across, w, pw = n * cols, 1, w + 2 * more, pw - more
    else:
        x = realised(x)
    k = image_kernel(x, "conv.cl", "correlate", width, OUTS=at_once, BLOCKS=blocks)
    # Without a bias any memory stands in for it.
    run(x, k, width, (length, across, rows * groups * -(-outs // at_once)), x, *x.strides, *filters,
        filters[0] if bias is None else bias, int(bias is not None), y, *y.strides, length, groups,
        ins, outs, h, w, across, *kernel, *step, ph, pw, *gap, *gaps)  # fmt: skip


def conv2d(x: Array, weight: Array, bias: Array | None, **params: Any) -> Array:
    return conv2d_saving(x, weight, bias, **params)[0]


def conv2d_saving(
    x: Array, weight: Array, bias: Array | None, *, stride: Pair, padding: Pair, dilation: Pair,
    groups: int,
) -> tuple[Array, tuple]:  # fmt: skip
    x, weight = realised(x), realised(weight)
    bias = None if bias is None else contiguous(bias)
    out, ins, kh, kw = weight.shape
    y = new_images(x, out, windows(x.shape[2:], (kh, kw), stride, padding, dilation))  # pyright: ignore[reportArgumentType]
    saved: tuple = ()
    if lanes(x) > 1 and x.strides[0] != 1 and x.shape[0] > 1:
        # A copy of our own. The gradient of the filters can use it, and may need its edge.
        x = framed(x) if ins % _taps(x) == 0 else framed(x, *padding)
        if ins % _taps(x):
            padding = (0, 0)
        saved = (x,)
    a, b, c, d = weight.strides
    outs = out // groups
    _correlate(x, (weight, outs * a, a, b, c, d), bias, y, groups, ins, outs, (kh, kw), stride,
               padding, dilation, (1, 1))  # fmt: skip
    return y, saved


def conv2d_vjp(
    g: Array, saved: Any, x: Array, weight: Array, bias: Array | None, *,
    needs: tuple[bool, bool, bool], stride: Pair, padding: Pair, dilation: Pair, groups: int,
) -> tuple[Array | None, Array | None, Array | None]:  # fmt: skip
    for_x, for_weight, for_bias = needs
    g, weight = realised(g), realised(weight)
    vectors = lanes(g) > 1
    if vectors and (for_x or for_weight):
        g = batch_inside(g)
    out, ins, kh, kw = weight.shape
    outs = out // groups
    to_x = to_weight = to_bias = None
    if for_x:
        to_x = new_images(x, x.shape[1], x.shape[2:])  # pyright: ignore[reportArgumentType]
        a, b, c, d = weight.strides
        (ph, pw), (dh, dw) = padding, dilation
        _correlate(g, (weight, outs * a, b, a, c, d), None, to_x, groups, outs, ins, (kh, kw),
                   (1, 1), (-ph, -pw), (-dh, -dw), stride)  # fmt: skip
    if for_weight:
        if not (weight.size and x.size):
            to_weight = fill(weight, 0)
        elif vectors:
            # Another plugin's forward kernel may have left a plain result instead of `saved`.
            seen = saved[0] if type(saved) is tuple and saved else realised(x)
            to_weight, to_bias = _filters_gradient(
                g, seen, x, weight, for_bias, stride, padding, dilation, groups
            )
        else:
            to_weight = _filters_gradient_plain(
                g, realised(x), weight, stride, padding, dilation, groups
            )
    if for_bias and to_bias is None:
        to_bias = reduction.sum(g, axis=(0, 2, 3), keepdims=False)
    return to_x, to_weight, to_bias


# ---- the gradient of the filters -----------------------------------------------------------------


def _taps(x: Array) -> int:
    """Places of a filter in a tile."""
    return 4 if _many(x) else 2


def _filters_gradient(
    g: Array, seen: Array, x: Array, weight: Array, with_bias: bool, stride: Pair, padding: Pair,
    dilation: Pair, groups: int,
) -> tuple[Array, Array | None]:  # fmt: skip
    """With vectors. `seen` is x, or a copy in a frame; g has the batch innermost."""
    device, dtype, n, width = x.device, x.dtype, x.shape[0], lanes(x)
    out, ins, kh, kw = weight.shape
    rows, cols = g.shape[2:]
    outs, taps = out // groups, _taps(x)
    by_channel = ins % taps == 0
    if seen.shape != x.shape:
        padding = (0, 0)  # is in its frame already
    elif not by_channel and padding != (0, 0):
        seen, padding = framed(seen, *padding), (0, 0)
    else:
        seen = batch_inside(seen)
    whole_rows = stride[1] == 1 and seen.strides[3] == n and g.strides[3] == n
    if not whole_rows and stride[1] == 1 and n < 4 * width:
        g = g if g.strides[3] == n else framed(g)
        seen = seen if seen.strides[3] == n else framed(seen)
        whole_rows = True
    h, w = seen.shape[2:]
    parts = groups * -(-outs // 4)
    slabs = 1 if device.units == 1 else min(rows, max(1, -(-2 * device.units // parts)))
    tiles = -(-ins * kh * kw // taps)
    chunk = max(1, CACHE // ((4 * cols + taps * w) * n * dtype.itemsize))
    partial = empty(device, (slabs * parts * (tiles + 1) * 4 * taps * width,), dtype)
    to_weight = empty(device, (slabs, out, ins, kh, kw), dtype)
    to_bias = empty(device, (slabs, out), dtype)
    k = image_kernel(x, "conv_weight.cl", "weight_gradient", width, TAPS=taps)
    device.launch(k, (parts, slabs), (1, 1), seen, *seen.strides[1:], g, *g.strides[1:], partial,
                  to_weight, to_bias, int(with_bias), n, groups, ins, outs, h, w, rows, cols,
                  kh, kw, *stride, *padding, *dilation, chunk, int(by_channel),
                  int(whole_rows))  # fmt: skip
    return _added(to_weight), _added(to_bias) if with_bias else None


def _filters_gradient_plain(
    g: Array, x: Array, weight: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Array:
    """With a work-item for each number of a filter, in each slab of rows."""
    out, ins, kh, kw = weight.shape
    rows, cols = g.shape[2:]
    slabs = min(rows, SLABS)
    to_weight = empty(x.device, (slabs, out, ins, kh, kw), x.dtype)
    k = image_kernel(x, "conv_weight.cl", "weight_gradient_plain", 1, TAPS=4)
    run(x, k, 1, (kh * kw, ins, out * slabs), x, *x.strides, g, *g.strides, to_weight, x.shape[0],
        groups, ins, out // groups, *x.shape[2:], rows, cols, kh, kw, *stride, *padding, *dilation,
        slabs)  # fmt: skip
    return _added(to_weight)


def _added(x: Array) -> Array:
    """The sum along the first axis, always in the same order."""
    slabs, shape = x.shape[0], x.shape[1:]
    if slabs == 1:
        return view(x, shape, dense_strides(shape), 0)
    y = empty(x.device, shape, x.dtype)
    k = image_kernel(x, "conv_weight.cl", "add_slabs", lanes(x), TAPS=_taps(x))
    run_items(x.device, k, (prod(shape),), x, y, slabs)
    return y


KERNELS: dict[str, Callable[..., Any]] = {
    "conv2d": conv2d,
    "conv2d_saving": conv2d_saving,
    "conv2d_vjp": conv2d_vjp,
}
