"""Kernels for images: windows as columns, convolution and pooling.

A convolution is one matrix product per row of the result, of the filters with the columns of all
windows of that row, in all images. Three things make it quick:

- Images are laid out row by row, and within a row with the batch innermost: (h, c, w, n). What a
  filter sees at one of its offsets is then one long stretch of memory per channel and row.
- Only the width is spread out: a *strip* holds, for one row of the images, what each column of a
  filter sees. The strips of neighbouring rows lie one after the other, so that the kh of them
  that a window covers already are the matrix to multiply with, and each serves kh rows of windows.
  The gradient of the images comes from the rows of g in the same way.
- Results keep this layout, and are views (n, c, h, w) of it, so that the next layer finds it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from microgpt_numpy.movement import pad

Pair = tuple[int, int]

PORTION = 1 << 23
"""Bytes that the columns of one portion of a batch may take."""

FEW = 1 << 16
"""Numbers up to which gradients of the filters from single rows are kept, to be added at once."""


def _sizes(size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    """Number of windows vertically and horizontally."""
    (h, w), (kh, kw), (sh, sw), (ph, pw), (dh, dw) = size, kernel, stride, padding, dilation
    return (h + 2 * ph - dh * (kh - 1) - 1) // sh + 1, (w + 2 * pw - dw * (kw - 1) - 1) // sw + 1


# ---- unfold and fold -------------------------------------------------------------------------


def _framed(x: Any, padding: Pair, value: float) -> Any:
    (ph, pw) = padding
    return pad(x, widths=((0, 0), (0, 0), (ph, ph), (pw, pw)), value=value) if ph or pw else x


def unfold(x: Any, *, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Any:
    n, c = x.shape[:2]
    (kh, kw), (sh, sw), (dh, dw) = kernel, stride, dilation
    rows, cols = _sizes(x.shape[2:], kernel, stride, padding, dilation)
    x = _framed(x, padding, 0)
    a, b, u, v = x.strides
    windows = np.lib.stride_tricks.as_strided(
        x, (n, c, kh, kw, rows, cols), (a, b, u * dh, v * dw, u * sh, v * sw), writeable=False
    )
    return windows.reshape(n, c * kh * kw, rows * cols)


def fold(x: Any, *, size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Any:
    n = x.shape[0]
    (h, w), (kh, kw), (sh, sw), (ph, pw), (dh, dw) = size, kernel, stride, padding, dilation
    rows, cols = _sizes(size, kernel, stride, padding, dilation)
    c = x.shape[1] // (kh * kw)
    parts = x.reshape(n, c, kh, kw, rows, cols)
    y = np.zeros((n, c, h + 2 * ph, w + 2 * pw), dtype=x.dtype)
    for i, j in product(range(kh), range(kw)):
        top, left = i * dh, j * dw
        y[:, :, top : top + sh * rows : sh, left : left + sw * cols : sw] += parts[:, :, i, j]
    return y[:, :, ph : ph + h, pw : pw + w] if ph or pw else y


# ---- convolution -----------------------------------------------------------------------------


class _Plan(NamedTuple):
    """What follows from the shapes."""

    groups: int
    channels: Pair  # of an image and of a result, in one group
    size: Pair
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    out: Pair
    sliding: bool  # whether windows are strips that follow one another
    portion: int  # images at once


@lru_cache(maxsize=256)
def _plan(
    shape: tuple[int, ...], filters: tuple[int, ...], bytes_: int, *, stride: Pair, padding: Pair,
    dilation: Pair, groups: int,
) -> _Plan:  # fmt: skip
    n, _, h, w = shape
    filters_, c, kh, kw = filters
    rows, cols = out = _sizes((h, w), (kh, kw), stride, padding, dilation)
    sliding = dilation[0] == 1 and stride[0] <= kh
    each = groups * (h + 2 * padding[0] if sliding else rows * kh) * kw * c * cols * bytes_
    portions = max(1, -(-n * each // PORTION))
    return _Plan(
        groups, (c, filters_ // groups), (h, w), (kh, kw), stride, padding, dilation, out, sliding,
        max(1, -(-n // portions)),
    )  # fmt: skip


def _portions(plan: _Plan, n: int) -> Iterator[slice]:
    return (slice(i, min(i + plan.portion, n)) for i in range(0, n, plan.portion))


def _images(n: int, channels: int, size: Pair, dtype: Any) -> Any:
    """Room for (n, c, h, w), in our layout."""
    return np.empty((size[0], channels, size[1], n), dtype).transpose(3, 1, 0, 2)


def _by_row(x: Any, groups: int) -> Any:
    """(n, groups · c, h, w) seen as (groups, h, c, w, n)."""
    n, c, h, w = x.shape
    return x.reshape(n, groups, c // groups, h, w).transpose(1, 3, 2, 4, 0)


def _met(plan: _Plan, tall: int) -> Iterator[tuple[int, int, slice, slice]]:
    """Offsets u, v in a filter, and the rows and columns of a frame that all windows have there."""
    (rows, cols), (sh, sw), (dh, dw) = plan.out, plan.stride, plan.dilation
    for u, v in product(range(tall), range(plan.kernel[1])):
        top, left = u * dh, v * dw
        bottom, right = top + sh * (rows - 1) + 1, left + sw * (cols - 1) + 1
        yield u, v, slice(top, bottom, sh), slice(left, right, sw)


def _columns(plan: _Plan, x: Any) -> Any:
    """What filters see of images (n, c, h, w): (groups, rows, kh · kw · c, cols · n)."""
    groups, (h, w), (kh, kw), (ph, pw) = plan.groups, plan.size, plan.kernel, plan.padding
    n, c, (rows, cols) = len(x), plan.channels[0], plan.out
    frame = np.zeros((groups, h + 2 * ph, c, w + 2 * pw, n), x.dtype)
    frame[:, ph : ph + h, :, pw : pw + w] = _by_row(x, groups)
    if plan.sliding:
        strips = np.empty((groups, h + 2 * ph, kw, c, cols, n), x.dtype)
        for _, v, _, columns in _met(plan, 1):
            strips[:, :, v] = frame[:, :, :, columns]
        return _stacked(strips, plan.stride[0], (groups, rows, kh * kw * c, cols * n))
    seen = np.empty((groups, rows, kh, kw, c, cols, n), x.dtype)
    for u, v, lines, columns in _met(plan, kh):
        seen[:, :, u, v] = frame[:, lines, :, columns]
    return seen.reshape(groups, rows, kh * kw * c, cols * n)


def _stacked(strips: Any, step: int, shape: tuple[int, int, int, int]) -> Any:
    """For every `step`-th row of (groups, h, …, cols, n) it and some that follow, as one matrix."""
    group, row, size = strips.strides[0], strips.strides[1], strips.itemsize
    return np.lib.stride_tricks.as_strided(
        strips, shape, (group, row * step, shape[3] * size, size), writeable=False
    )


def conv2d(x: Any, weight: Any, bias: Any, **params: Any) -> Any:
    plan = _plan(x.shape, weight.shape, x.itemsize, **params)
    groups, (c, out), (rows, cols) = plan.groups, plan.channels, plan.out
    filters = weight.reshape(groups, out, c, *plan.kernel).transpose(0, 1, 3, 4, 2)
    filters = filters.reshape(groups, 1, out, -1)  # (…, kh · kw · c)
    y = _images(len(x), groups * out, plan.out, x.dtype)
    for part in _portions(plan, len(x)):
        found = np.matmul(filters, _columns(plan, x[part])).reshape(groups, rows, out, cols, -1)
        target = _by_row(y[part], groups)
        if bias is None:
            target[...] = found
        else:
            np.add(found, bias.reshape(groups, 1, out, 1, 1), out=target)
    return y


def conv2d_saving(x: Any, weight: Any, bias: Any, **params: Any) -> tuple[Any, tuple]:
    return conv2d(x, weight, bias, **params), ()  # the gradient does not need the result


def conv2d_vjp(
    g: Any, saved: Any, x: Any, weight: Any, bias: Any, *, needs: Any, **params: Any
) -> tuple[Any, Any, Any]:
    for_x, for_weight, for_bias = needs
    plan = _plan(x.shape, weight.shape, x.itemsize, **params)
    groups, (c, out), (kh, kw), (rows, cols) = plan.groups, plan.channels, plan.kernel, plan.out
    to_x = _images(len(x), groups * c, plan.size, x.dtype) if for_x else None
    to_weight = np.zeros((groups, kh * kw * c, out), x.dtype) if for_weight else None
    to_bias = np.zeros((groups, out), x.dtype) if for_bias else None
    at_once = max(1, FEW // weight.size)
    for part in _portions(plan, len(x)):
        n = part.stop - part.start
        # With an edge of zeros, so that all rows of the images find kh rows.
        given = np.zeros((groups, rows + 2 * (kh - 1), out, cols, n), x.dtype)
        inside = given[:, kh - 1 : kh - 1 + rows]
        inside[...] = _by_row(g[part], groups)
        if to_bias is not None:
            to_bias += np.add.reduce(inside, (1, 3, 4))
        if to_weight is not None:
            columns = _columns(plan, x[part])
            across = inside.reshape(groups, rows, out, cols * n).transpose(0, 1, 3, 2)
            for i in range(0, rows, at_once):
                some = slice(i, i + at_once)
                to_weight += np.add.reduce(np.matmul(columns[:, some], across[:, some]), 1)
        if to_x is not None:
            _by_row(to_x[part], groups)[...] = _put_back(plan, given, weight)
    if to_weight is not None:
        to_weight = to_weight.reshape(groups, kh, kw, c, out).transpose(0, 4, 3, 1, 2)
        to_weight = to_weight.reshape(weight.shape)
    return to_x, to_weight, None if to_bias is None else to_bias.reshape(-1)


def _put_back(plan: _Plan, given: Any, weight: Any) -> Any:
    """The gradient of images, (groups, h, c, w, n), from `given`, that of results in its edge."""
    groups, (c, out), (kh, kw), (rows, cols) = plan.groups, plan.channels, plan.kernel, plan.out
    (h, w), (ph, pw), n = plan.size, plan.padding, given.shape[-1]
    filters = weight.reshape(groups, out, c, kh, kw)
    if plan.sliding and plan.stride[0] == 1:
        # Row i of a frame is row u of the windows of row i - u: of the kh rows the last is u = 0.
        above = _stacked(given[:, ph:], 1, (groups, h, kh * out, cols * n))
        filters = filters[:, :, :, ::-1].transpose(0, 4, 2, 3, 1)  # kw, c, kh, out
        parts = np.matmul(filters.reshape(groups, 1, kw * c, kh * out), above)
        parts = parts.reshape(groups, h, kw, c, cols, n)
        images = np.zeros((groups, h, c, w + 2 * pw, n), given.dtype)
        for _, v, _, columns in _met(plan, 1):
            images[:, :, :, columns] += parts[:, :, v]
        return images[:, :, :, pw : pw + w]
    inside = given[:, kh - 1 : kh - 1 + rows].reshape(groups, rows, out, cols * n)
    filters = filters.transpose(0, 3, 4, 2, 1)  # kh, kw, c, out
    parts = np.matmul(filters.reshape(groups, 1, kh * kw * c, out), inside)
    parts = parts.reshape(groups, rows, kh, kw, c, cols, n)
    images = np.zeros((groups, h + 2 * ph, c, w + 2 * pw, n), given.dtype)
    for u, v, lines, columns in _met(plan, kh):
        images[:, lines, :, columns] += parts[:, :, u, v]
    return images[:, ph : ph + h, :, pw : pw + w]


# ---- pools -----------------------------------------------------------------------------------


def _rows_of(x: Any, kernel: Pair, stride: Pair, out: Pair) -> Iterator[Any]:
    """Row u of every window, over the full width: (n, c, rows, w)."""
    last = stride[0] * (out[0] - 1) + 1
    return (x[:, :, u : u + last : stride[0]] for u in range(kernel[0]))


def _columns_of(x: Any, kernel: Pair, stride: Pair, out: Pair) -> Iterator[Any]:
    """Column v of every window, of rows that have been picked already."""
    last = stride[1] * (out[1] - 1) + 1
    return (x[..., v : v + last : stride[1]] for v in range(kernel[1]))


def _combined(combine: np.ufunc, parts: Iterator[Any]) -> Any:
    """All parts put together, in a buffer of our own."""
    first = next(parts)
    second = next(parts, None)
    if second is None:
        return first.copy(order="K")
    y = combine(first, second)
    for part in parts:
        combine(y, part, out=y)
    return y


def _pooled(combine: np.ufunc, x: Any, kernel: Pair, stride: Pair) -> Any:
    """First rows, which lie in one piece, then columns of what is left."""
    out = _sizes(x.shape[2:], kernel, stride, (0, 0), (1, 1))
    rows = _combined(combine, _rows_of(x, kernel, stride, out))
    return _combined(combine, _columns_of(rows, kernel, stride, out))


def max_pool2d(x: Any, *, kernel: Pair, stride: Pair, padding: Pair) -> Any:
    return _pooled(np.maximum, _framed(x, padding, -math.inf), kernel, stride)


def max_pool2d_vjp(
    g: Any, y: Any, x: Any, *, needs: Any, kernel: Pair, stride: Pair, padding: Pair
) -> tuple[Any]:
    """g / (number of largest elements of the window), for each of them."""
    (h, w), (ph, pw) = x.shape[2:], padding
    x = _framed(x, padding, -math.inf)
    out = y.shape[2:]

    def windows(image: Any) -> Iterator[Any]:
        for rows in _rows_of(image, kernel, stride, out):
            yield from _columns_of(rows, kernel, stride, out)

    hits = [seen == y for seen in windows(x)]
    share = np.empty_like(y)  # read several times, so in the order in which x lies
    share[...] = _shared(g, _combined(np.add, _numbers(hits, kernel)))
    apart = stride[0] >= kernel[0] and stride[1] >= kernel[1]
    to_x = np.zeros_like(x)
    for seen, hit in zip(windows(to_x), hits, strict=True):
        if apart:
            np.multiply(hit, share, out=seen)
        else:
            seen += hit * share
    return (to_x[:, :, ph : ph + h, pw : pw + w],)


def _numbers(hits: list[Any], kernel: Pair) -> Iterator[Any]:
    """True as 1, in integers that can count all elements of a window."""
    small = math.prod(kernel) <= 255
    return (hit.view(np.uint8) if small else hit.astype(np.intp) for hit in hits)


def _shared(g: Any, count: Any) -> Any:
    """g / count. Where nothing is the largest, because there are NaN, the gradient is none."""
    if np.all(count == 1):
        return g
    with np.errstate(divide="ignore", invalid="ignore"):
        return g / count.astype(g.dtype)


def avg_pool2d(x: Any, *, kernel: Pair, stride: Pair, padding: Pair) -> Any:
    y = _pooled(np.add, _framed(x, padding, 0), kernel, stride)
    y *= x.dtype.type(1 / math.prod(kernel))
    return y


def avg_pool2d_saving(x: Any, **params: Any) -> tuple[Any, tuple]:
    return avg_pool2d(x, **params), ()  # the gradient does not need the result


def avg_pool2d_vjp(
    g: Any, saved: Any, x: Any, *, needs: Any, kernel: Pair, stride: Pair, padding: Pair
) -> tuple[Any]:
    """g / (size of the window), added up for all windows that an element is in."""
    (n, c, h, w), (ph, pw), out = x.shape, padding, g.shape[2:]
    g = g * x.dtype.type(1 / math.prod(kernel))
    wide = np.zeros_like(g, shape=(n, c, out[0], w + 2 * pw))
    for part in _columns_of(wide, kernel, stride, out):
        part += g
    to_x = np.zeros_like(g, shape=(n, c, h + 2 * ph, w + 2 * pw))
    for part in _rows_of(to_x, kernel, stride, out):
        part += wide
    return (to_x[:, :, ph : ph + h, pw : pw + w],)


KERNELS: dict[str, Callable[..., Any]] = {
    "unfold": unfold,
    "fold": fold,
    "conv2d": conv2d,
    "conv2d_saving": conv2d_saving,
    "conv2d_vjp": conv2d_vjp,
    "max_pool2d": max_pool2d,
    "max_pool2d_vjp": max_pool2d_vjp,
    "avg_pool2d": avg_pool2d,
    "avg_pool2d_saving": avg_pool2d_saving,
    "avg_pool2d_vjp": avg_pool2d_vjp,
}
