"""Kernels for images: windows as columns, convolution and pooling.

A convolution is one large matrix product, of the filters with the columns of all windows. Three
things make it quick:

- Images are laid out with their channels first and framed by zeros: (c, n, h + edge, w + edge).
  With stride 1, what a filter sees at offset (u, v) of all windows is then one stretch of memory
  per channel, copied at once. Windows that begin in the frame are computed too and left out of the
  result (the *grid* holds all places, the result those that count), and the frame of one row, or
  image, also ends the one before.
- Results keep this layout, and are views (n, c, h, w) of it, so that the next layer finds it.
- A batch is worked off in portions whose columns stay in the cache and in bounds.
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

PORTION = 1 << 21
"""Bytes that the columns of one portion of a batch may take."""


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

    channels: int
    size: Pair  # h, w
    padding: Pair
    frame: Pair  # an image with its zeros: those after it are the next one's
    out: Pair  # places that count
    grid: Pair  # places that are computed; the frame's if stretches of memory are copied
    offsets: tuple[tuple[int, int, int, int], ...]  # of what a filter sees: u, v, top, left
    step: Pair
    tail: int  # how far the windows of the last image reach beyond its frame
    portion: int  # images at once

    @property
    def flat(self) -> bool:
        """Whether columns are stretches of the frame."""
        return self.grid == self.frame


@lru_cache(maxsize=256)
def _plan(
    shape: tuple[int, ...], kernel: Pair, stride: Pair, padding: Pair, dilation: Pair, bytes_: int
) -> _Plan:
    n, c, h, w = shape
    (kh, kw), (ph, pw), (dh, dw) = kernel, padding, dilation
    out = _sizes((h, w), kernel, stride, padding, dilation)
    # At least the places of stride 1, so that a window begins in the frame of its own image.
    frame = max(h + ph, h + 2 * ph - dh * (kh - 1)), max(w + pw, w + 2 * pw - dw * (kw - 1))
    wasteful = math.prod(frame) > 2 * math.prod(out)
    grid = out if wasteful or stride != (1, 1) else frame
    tail = dh * (kh - 1) * frame[1] + dw * (kw - 1)
    each = c * kh * kw * math.prod(grid) * bytes_
    portions = max(1, -(-n * each // PORTION))
    offsets = tuple((u, v, u * dh, v * dw) for u, v in product(range(kh), range(kw)))
    return _Plan(
        c, (h, w), padding, frame, out, grid, offsets, stride, tail, max(1, -(-n // portions))
    )


def _buffers(plan: _Plan, kernel: Pair, dtype: Any) -> tuple[Any, Any]:
    """A frame of zeros, one long row per channel, and columns, for one portion."""
    places = plan.portion * math.prod(plan.grid)
    length = plan.portion * math.prod(plan.frame) + plan.tail
    return (
        np.zeros((plan.channels, length), dtype),
        np.empty((plan.channels, *kernel, places), dtype),
    )


def _portions(plan: _Plan, n: int) -> Iterator[tuple[int, int]]:
    return ((i, min(i + plan.portion, n)) for i in range(0, n, plan.portion))


def _inside(plan: _Plan, frame: Any, n: int) -> Any:
    """The images in the frame, (c, n, h, w)."""
    images = frame[:, : n * math.prod(plan.frame)].reshape(-1, n, *plan.frame)
    (h, w), (ph, pw) = plan.size, plan.padding
    return images[:, :, ph : ph + h, pw : pw + w]


def _seen(plan: _Plan, frame: Any, n: int) -> Iterator[tuple[int, int, Any]]:
    """What filters see at each of their offsets: u, v and (c, places) or (c, n, rows, cols)."""
    (a, b), (rows, cols), (sh, sw) = frame.strides, plan.grid, plan.step
    width = plan.frame[1]
    shape, strides = (plan.channels, n * rows * cols), (a, b)
    if not plan.flat:
        shape = (plan.channels, n, rows, cols)
        strides = (a, b * math.prod(plan.frame), b * width * sh, b * sw)
    for u, v, top, left in plan.offsets:
        seen = frame[:, top * width + left :]
        yield u, v, np.lib.stride_tricks.as_strided(seen, shape, strides)


def _fill_columns(plan: _Plan, columns: Any, frame: Any, x: Any) -> None:
    """Columns (c, kh, kw, places) of the images x."""
    n = len(x)
    _inside(plan, frame, n)[...] = x.transpose(1, 0, 2, 3)
    for u, v, seen in _seen(plan, frame, n):
        columns[:, u, v].reshape(seen.shape)[...] = seen


def conv2d(
    x: Any, weight: Any, bias: Any, *, stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Any:
    n, kernel, out = len(x), weight.shape[2:], len(weight)
    plan = _plan(x.shape, kernel, stride, padding, dilation, x.itemsize)
    filters = weight.reshape(groups, out // groups, -1)
    frame, columns = _buffers(plan, kernel, x.dtype)
    places = math.prod(plan.grid)
    y = np.empty((groups, out // groups, n * places), x.dtype)
    for start, stop in _portions(plan, n):
        part = columns[..., : (stop - start) * places]
        _fill_columns(plan, part, frame, x[start:stop])
        rows = part.reshape(groups, filters.shape[2], -1)
        np.matmul(filters, rows, out=y[:, :, start * places : stop * places])
    if bias is not None:
        y += bias.reshape(groups, -1, 1)
    return _counted(plan, y.reshape(out, n, *plan.grid))


def _counted(plan: _Plan, grid: Any) -> Any:
    """The places that count, (n, c, h, w), of a grid (c, n, …)."""
    return grid[:, :, : plan.out[0], : plan.out[1]].transpose(1, 0, 2, 3)


def conv2d_saving(x: Any, weight: Any, bias: Any, **params: Any) -> tuple[Any, tuple]:
    return conv2d(x, weight, bias, **params), ()  # the gradient does not need the result


def conv2d_vjp(
    g: Any, saved: Any, x: Any, weight: Any, bias: Any, *, needs: Any, stride: Pair, padding: Pair,
    dilation: Pair, groups: int,
) -> tuple[Any, Any, Any]:  # fmt: skip
    for_x, for_weight, for_bias = needs
    n, kernel, out = len(x), weight.shape[2:], len(weight)
    plan = _plan(x.shape, kernel, stride, padding, dilation, x.itemsize)
    filters = weight.reshape(groups, out // groups, -1)
    frame, columns = _buffers(plan, kernel, x.dtype)
    places = math.prod(plan.grid)
    to_x = np.empty((x.shape[1], n, *plan.size), x.dtype) if for_x else None
    to_weight = np.zeros(filters.shape, x.dtype) if for_weight else None
    to_bias = np.zeros(out, x.dtype) if for_bias else None
    on_grid = np.zeros((out, plan.portion * places), x.dtype)
    for start, stop in _portions(plan, n):
        part = columns[..., : (stop - start) * places]
        rows = part.reshape(groups, filters.shape[2], -1)
        given = on_grid[:, : part.shape[-1]]
        # Places that do not count keep their zero: they change no sum.
        _counted(plan, given.reshape(out, stop - start, *plan.grid))[...] = g[start:stop]
        by_group = given.reshape(groups, out // groups, -1)
        if to_bias is not None:
            to_bias += np.add.reduce(given, 1)
        if to_weight is not None:
            if to_x is not None and start:
                frame[...] = 0  # the border holds what the last portion added up there
            _fill_columns(plan, part, frame, x[start:stop])
            to_weight += np.matmul(by_group, rows.transpose(0, 2, 1))
        if to_x is not None:
            np.matmul(filters.transpose(0, 2, 1), by_group, out=rows)
            to_x[:, start:stop] = _put_back(plan, part, frame, stop - start)
    return (
        None if to_x is None else to_x.transpose(1, 0, 2, 3),
        None if to_weight is None else to_weight.reshape(weight.shape),
        to_bias,
    )


def _put_back(plan: _Plan, columns: Any, frame: Any, n: int) -> Any:
    """Columns added up at the places that they were taken from: images (c, n, h, w)."""
    frame[...] = 0
    for u, v, seen in _seen(plan, frame, n):
        seen += columns[:, u, v].reshape(seen.shape)
    return _inside(plan, frame, n)


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
    if kernel == stride and padding == (0, 0):
        return (_to_tiles(g, y, x, kernel),)
    (h, w), (ph, pw) = x.shape[2:], padding
    x = _framed(x, padding, -math.inf)
    out = y.shape[2:]

    def windows(image: Any) -> Iterator[Any]:
        for rows in _rows_of(image, kernel, stride, out):
            yield from _columns_of(rows, kernel, stride, out)

    hits = [seen == y for seen in windows(x)]
    share = _shared(g, _combined(np.add, _numbers(hits, kernel)))
    to_x = np.zeros_like(x)
    for seen, hit in zip(windows(to_x), hits, strict=True):
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


def _to_tiles(g: Any, y: Any, x: Any, kernel: Pair) -> Any:
    """The gradient if windows neither overlap nor leave out what lies between them."""
    (kh, kw), (rows, cols) = kernel, y.shape[2:]
    narrow = cols * kw
    to_x = np.empty_like(x)
    to_x[:, :, rows * kh :] = 0
    to_x[..., narrow:] = 0
    largest = _widened(y, kw, y)
    hits = [part[..., :narrow] == largest for part in _rows_of(x, kernel, kernel, (rows, cols))]
    count = _combined(np.add, _numbers(hits, kernel))
    count = _combined(np.add, _columns_of(count, kernel, kernel, (rows, cols)))
    share = _widened(_shared(g, count), kw, y)
    for part, hit in zip(_rows_of(to_x, kernel, kernel, (rows, cols)), hits, strict=True):
        np.multiply(hit, share, out=part[..., :narrow])
    return to_x


def _widened(x: Any, times: int, like: Any) -> Any:
    """Every column of x several times, laid out as `like`."""
    n, c, h, w = x.shape
    wide = np.empty_like(like, shape=(n, c, h, w * times))
    wide[..., ::times] = x
    for v in range(1, times):
        wide[..., v::times] = wide[..., ::times]
    return wide


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
