"""GELU and SiLU, as expressions of their parts."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from microgpt_opencl.arrays import Array
from microgpt_opencl.elementwise import clip
from microgpt_opencl.fusion import defer

# Beyond this |x| the slope of gelu is 0 or 1.
_FLAT = {"f": 10.0, "d": 20.0}


def _distribution(x: Array) -> Array:
    """Φ(x) = ½(1 + erf(x/√2))."""
    return (defer("erf", x.dtype, x * math.sqrt(0.5)) + 1.0) * 0.5


def gelu(x: Array, *, approximate: str) -> Array:
    return _distribution(x) * x if approximate == "none" else defer("gelu", x.dtype, x)


def gelu_vjp(g: Array, y: Array, x: Array, *, needs: Any, approximate: str) -> tuple[Array]:
    if approximate == "none":
        density = defer("exp", x.dtype, x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
        return (g * (_distribution(x) + x * density),)
    flat = _FLAT[x.dtype.char]
    near = clip(x, min=-flat, max=flat)
    share = defer("gelu_share", x.dtype, near)
    return (g * defer("gelu_slope", x.dtype, near, share),)


def silu(x: Array) -> Array:
    return x * defer("sigmoid", x.dtype, x)


def silu_vjp(g: Array, y: Array, x: Array, *, needs: Any) -> tuple[Array]:
    s = defer("sigmoid", x.dtype, x)
    return (g * (s * (x * (1.0 - s) + 1.0)),)


KERNELS: dict[str, Callable[..., Any]] = {
    "gelu": gelu,
    "gelu_vjp": gelu_vjp,
    "silu": silu,
    "silu_vjp": silu_vjp,
}
