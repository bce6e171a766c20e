"""Windows of images as columns, and columns added back to the places their windows came from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from microgpt_opencl.arrays import Array, empty
from microgpt_opencl.fusion import realised
from microgpt_opencl.images import Pair, run_items, windows
from microgpt_opencl.optext import C_TYPES


def _launch(x: Array, name: str, size: tuple[int, int, int], *args: Any) -> None:
    logical = {"LOGICAL": 1} if x.dtype.char == "?" else {}
    kernel = x.device.kernel("unfold.cl", name, REAL=C_TYPES[x.dtype.char], **logical)
    run_items(x.device, kernel, size, *args)


def unfold(x: Array, *, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Array:
    n, c, h, w = x.shape
    rows, cols = windows((h, w), kernel, stride, padding, dilation)
    lines = c * kernel[0] * kernel[1]
    y = empty(x.device, (n, lines, rows * cols), x.dtype)
    if y.size:
        x = realised(x)
        _launch(x, "unfold", (cols, rows, n * lines), x, *x.strides, y, c, h, w,
                *kernel, *stride, *padding, *dilation)  # fmt: skip
    return y


def fold(
    x: Array, *, size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Array:
    n, c = x.shape[0], x.shape[1] // (kernel[0] * kernel[1])
    h, w = size
    y = empty(x.device, (n, c, h, w), x.dtype)
    if y.size:
        x = realised(x)
        _launch(x, "fold", (w, h, n * c), x, *x.strides, y, c,
                *windows(size, kernel, stride, padding, dilation),
                *kernel, *stride, *padding, *dilation)  # fmt: skip
    return y


KERNELS: dict[str, Callable[..., Any]] = {"unfold": unfold, "fold": fold}
