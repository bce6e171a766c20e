"""Kernels that move elements. Where NumPy can, they return views: arrays are never changed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Key = tuple[tuple[int, int, int], ...]


def _slices(key: Key) -> tuple[slice, ...]:
    # A downward slice that includes element 0 ends at None: -1 would count from the end.
    return tuple([slice(a, None if b < 0 else b, s) for a, b, s in key])


def broadcast_to(x: Any, *, shape: tuple[int, ...]) -> Any:
    # Arithmetic on views that repeat elements is slower: worth avoiding while a copy is small.
    if math.prod(shape) > 65536:
        return np.broadcast_to(x, shape)
    y = np.empty(shape, dtype=x.dtype)
    y[...] = x
    return y


def unslice(x: Any, *, key: Key, shape: tuple[int, ...]) -> Any:
    y = np.zeros(shape, dtype=x.dtype)
    y[_slices(key)] = x
    return y


def pad(x: Any, *, widths: tuple[tuple[int, int], ...], value: float) -> Any:
    shape = [a + n + b for (a, b), n in zip(widths, x.shape, strict=True)]
    y = np.full(shape, value, dtype=x.dtype)
    y[tuple([slice(a, a + n) for (a, _), n in zip(widths, x.shape, strict=True)])] = x
    return y


def unfold(x: Any, *, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Any:
    n, c, h, w = x.shape
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = kernel, stride, padding, dilation
    if ph or pw:
        x = pad(x, widths=((0, 0), (0, 0), (ph, ph), (pw, pw)), value=0)
    rows = (x.shape[2] - dh * (kh - 1) - 1) // sh + 1
    cols = (x.shape[3] - dw * (kw - 1) - 1) // sw + 1
    a, b, u, v = x.strides
    windows = np.lib.stride_tricks.as_strided(
        x, (n, c, kh, kw, rows, cols), (a, b, u * dh, v * dw, u * sh, v * sw), writeable=False
    )
    return windows.reshape(n, c * kh * kw, rows * cols)


def fold(x: Any, *, size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Any:
    n = x.shape[0]
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = kernel, stride, padding, dilation
    h, w = size
    rows = (h + 2 * ph - dh * (kh - 1) - 1) // sh + 1
    cols = (w + 2 * pw - dw * (kw - 1) - 1) // sw + 1
    c = x.shape[1] // (kh * kw)
    parts = x.reshape(n, c, kh, kw, rows, cols)
    y = np.zeros((n, c, h + 2 * ph, w + 2 * pw), dtype=x.dtype)
    for i in range(kh):
        for j in range(kw):
            top, left = i * dh, j * dw
            y[:, :, top : top + sh * rows : sh, left : left + sw * cols : sw] += parts[:, :, i, j]
    return y[:, :, ph : ph + h, pw : pw + w] if ph or pw else y


KERNELS: dict[str, Callable[..., Any]] = {
    "reshape": lambda x, *, shape: x.reshape(shape),
    "permute_dims": lambda x, *, axes: x.transpose(axes) if x.ndim else x,
    "broadcast_to": broadcast_to,
    "flip": lambda x, *, axis: np.flip(x, axis),
    "slice": lambda x, *, key: x[_slices(key)],
    "unslice": unslice,
    "pad": pad,
    "concat": lambda *xs, axis, sizes: np.concatenate(xs, axis=axis),
    "tril": lambda x, *, k: np.tril(x, k),
    "triu": lambda x, *, k: np.triu(x, k),
    "unfold": unfold,
    "fold": fold,
}
