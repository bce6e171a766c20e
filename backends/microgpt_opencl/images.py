"""How images lie in memory, and the launching of the kernels that walk through them.

Results lie as (channels, h, w, n), the batch innermost: a vector then holds the same place of
several images, and windows of any size, stride and padding move by whole vectors. They are views
(n, channels, h, w) of that, so the next layer finds them as it needs them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from microgpt_opencl.arrays import Array, empty, view
from microgpt_opencl.fusion import realised
from microgpt_opencl.optext import C_TYPES

Pair = tuple[int, int]


@lru_cache(maxsize=4096)
def windows(size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> Pair:
    """Number of windows vertically and horizontally."""
    (h, w), (kh, kw), (sh, sw), (ph, pw), (dh, dw) = size, kernel, stride, padding, dilation
    return (h + 2 * ph - dh * (kh - 1) - 1) // sh + 1, (w + 2 * pw - dw * (kw - 1) - 1) // sw + 1


def lanes(x: Array) -> int:
    """Numbers like those of `x` that fill a vector; 1 for kernels with a work-item per number."""
    return max(1, x.device.width * 4 // x.dtype.itemsize) if x.device.cpu else 1


def new_images(like: Array, channels: int, size: Pair) -> Array:
    """Room for as many images as `like` has, (n, channels, *size), with the batch innermost."""
    n, (h, w) = like.shape[0], size
    y = empty(like.device, (channels, h, w, n), like.dtype)
    return view(y, (n, channels, h, w), (1, h * w * n, w * n, n), 0)


def batch_inside(x: Array) -> Array:
    """`x` in memory with a step of 1 from image to image: itself, or a copy."""
    x = realised(x)
    if x.strides[0] == 1:
        return x
    if x.shape[0] == 1:
        return view(x, x.shape, (1, *x.strides[1:]), x.start)  # a step that is never taken
    return framed(x)


def framed(x: Array, ph: int = 0, pw: int = 0) -> Array:
    """A copy of `x` with the batch innermost and an edge of zeros."""
    n, c, h, w = x.shape
    y = new_images(x, c, (h + 2 * ph, w + 2 * pw))
    if y.size:
        k = image_kernel(x, "frame.cl", "frame", lanes(x))
        run(x, k, lanes(x), (n, w + 2 * pw, c * (h + 2 * ph)), x, *x.strides, y, n, h, w, ph, pw)
    return y


def image_kernel(like: Array, file: str, name: str, width: int, **defines: Any) -> Any:
    """A kernel of a template that follows lanes.cl, for numbers like those of `like`."""
    if width == 1:
        defines["PLAIN"] = 1
    return like.device.kernel(
        ("lanes.cl", file), name, REAL=C_TYPES[like.dtype.char], WIDTH=width, **defines
    )


def run(like: Array, kernel: Any, width: int, size: tuple[int, int, int], *args: Any) -> None:
    """Launch `kernel`. With vectors its loops go through the first two axes of `size`."""
    if width == 1:
        run_items(like.device, kernel, size, *args)
    else:
        like.device.launch(kernel, (1, 1, size[2]), (1, 1, 1), *args)


def run_items(device: Any, kernel: Any, size: tuple[int, ...], *args: Any) -> None:
    """Launch `kernel` with a work-item for every index in `size`.

    Drivers of graphics cards form good groups themselves. PoCL compiles a kernel again for every
    shape of a group that it has not seen, so on a CPU there are only a few.
    """
    if not device.cpu:
        device.launch(kernel, size, None, *args)
        return
    together = min(size[0] & -size[0], 64)  # the largest power of two that divides it
    local = (together, *[1] * (len(size) - 1))
    device.launch(kernel, (size[0] // together, *size[1:]), local, *args)
