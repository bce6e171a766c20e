"""Fused activations and normalisations: many steps on one stretch of memory at a time.

Each step of NumPy goes through its whole input; in stretches that fit into the cache of the
processor, the next step finds there what the last one wrote. Backward computes again what is cheap
to compute, so that little is kept between the passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from microgpt_numpy.elementwise import erf
from microgpt_numpy.network import column_sums, row_sums

STRETCH = 1 << 15
"""Elements worked on at a time: 128 KiB of float32, of which a few fit into the cache."""

_dot = np.vecdot


def stretches(size: int, length: int = 1) -> Iterator[slice]:
    """Slices of about STRETCH elements, in whole rows of `length`."""
    step = max(STRETCH // max(length, 1), 1)
    for i in range(0, size, step):
        yield slice(i, min(i + step, size))


def flat(x: Any) -> Any:
    return x.reshape(-1)


def _rows(x: Any) -> Any:
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])


# ---- gelu ------------------------------------------------------------------------------------

# ½(1 + tanh u) = 1/(1 + e⁻²ᵘ), with -2u = x·(LINEAR + CUBIC·x²).
_LINEAR = -2 * math.sqrt(2 / math.pi)
_CUBIC = 0.044715 * _LINEAR
# Beyond this |x| the slope of gelu is 0 or 1, and e⁻²ᵘ would overflow.
_FLAT = {"e": 4.0, "f": 10.0, "d": 20.0}
# Above this |x| the quotient gelu(x)/x has all its digits.
_CLEAR = {"e": 1e-2, "f": 1e-30, "d": 1e-290}


def gelu(x: Any, *, approximate: str) -> Any:
    if approximate == "none":
        y = erf(x * x.dtype.type(math.sqrt(0.5)))
        y = y + 1
        y *= x
        y *= 0.5
        return y
    one, linear, cubic = (x.dtype.type(c) for c in (1, _LINEAR, _CUBIC))
    y = np.empty(x.shape, x.dtype)
    source, target = flat(x), flat(y)
    with np.errstate(over="ignore", invalid="ignore"):
        for part in stretches(x.size):
            a, t = source[part], target[part]
            np.multiply(a, a, out=t)
            t *= cubic
            t += linear
            t *= a
            np.exp(t, out=t)
            t += one
            np.divide(a, t, out=t)
    return y


def gelu_saving(x: Any, *, approximate: str) -> tuple[Any, tuple]:
    y = gelu(x, approximate=approximate)
    return y, (y,)


def gelu_vjp(g: Any, saved: Any, x: Any, *, needs: Any, approximate: str) -> tuple[Any]:
    grad = np.empty(x.shape, x.dtype)
    source, target, upper = flat(x), flat(grad), flat(g)
    # A tuple holds our own output; what another plugin computed might be something else.
    value = flat(saved[0]) if isinstance(saved, tuple) else None
    quotient, whole = _SLOPES[approximate]
    spare = np.empty((2, min(x.size, STRETCH)), x.dtype)
    for part in stretches(x.size):
        a, out = source[part], target[part]
        first, second = spare[:, : a.size]
        # gelu(x)/x needs no exponential, or no error function, but an x with all its digits.
        np.abs(a, out=out)
        clear = out.min() > _CLEAR[a.dtype.char] and out.max() < _FLAT[a.dtype.char]
        if clear and value is not None:
            np.divide(value[part], a, out=first)
            quotient(a, first, out, second)
        else:
            whole(a, out, first, second)
        out *= upper[part]
    return (grad,)


def _exact_by_quotient(x: Any, share: Any, out: Any, spare: Any) -> None:
    """Φ + x·φ(x), with Φ given as `share`."""
    kind = x.dtype.type
    np.multiply(x, x, out=out)
    out *= kind(-0.5)
    np.exp(out, out=out)
    out *= x
    out *= kind(1 / math.sqrt(2 * math.pi))
    out += share


def _exact(x: Any, out: Any, share: Any, spare: Any) -> None:
    """Φ(x) + x·φ(x)."""
    kind = x.dtype.type
    share[...] = erf(x * kind(math.sqrt(0.5)))
    share += kind(1)
    share *= kind(0.5)
    _exact_by_quotient(x, share, out, spare)


def _tanh_by_quotient(x: Any, share: Any, out: Any, rest: Any) -> None:
    """σ·(1 + x·(1 - σ)·2u'), with σ given as `share`."""
    kind = x.dtype.type
    np.multiply(x, x, out=out)
    out *= kind(3 * _CUBIC)
    out += kind(_LINEAR)
    out *= x  # -2u'·x
    np.subtract(share, kind(1), out=rest)
    out *= rest
    out += kind(1)
    out *= share


def _tanh(a: Any, out: Any, s: Any, x: Any) -> None:
    """σ + x·σ·(1 - σ)·2u' with σ = 1/(1 + e⁻²ᵘ)."""
    kind = a.dtype.type
    limit = _FLAT[a.dtype.char]
    np.minimum(a, kind(limit), out=x)
    np.maximum(x, kind(-limit), out=x)
    np.multiply(x, x, out=out)
    np.multiply(out, kind(_CUBIC), out=s)
    s += kind(_LINEAR)
    s *= x
    np.exp(s, out=s)
    out *= kind(3 * _CUBIC)
    out += kind(_LINEAR)
    out *= x
    sigma = np.add(s, kind(1), out=x)
    np.reciprocal(sigma, out=sigma)
    s *= sigma  # 1 - σ, without cancellation
    out *= s
    np.subtract(kind(1), out, out=out)
    out *= sigma


_SLOPES = {"none": (_exact_by_quotient, _exact), "tanh": (_tanh_by_quotient, _tanh)}


# ---- silu ------------------------------------------------------------------------------------


def silu(x: Any) -> Any:
    y = np.empty(x.shape, x.dtype)
    source, target = flat(x), flat(y)
    one = x.dtype.type(1)
    with np.errstate(over="ignore", invalid="ignore"):
        for part in stretches(x.size):
            a, t = source[part], target[part]
            np.negative(a, out=t)
            np.exp(t, out=t)
            t += one
            np.divide(a, t, out=t)
    return y


def silu_vjp(g: Any, y: Any, x: Any, *, needs: Any) -> tuple[Any]:
    """g·(σ + y·(1 - σ))."""
    grad = np.empty(x.shape, x.dtype)
    source, target, upper, value = flat(x), flat(grad), flat(g), flat(y)
    one = x.dtype.type(1)
    with np.errstate(over="ignore", invalid="ignore"):
        for part in stretches(x.size):
            t = target[part]
            np.negative(source[part], out=t)
            np.exp(t, out=t)
            t += one
            np.reciprocal(t, out=t)
            rest = one - t
            rest *= value[part]
            t += rest
            t *= upper[part]
    return (grad,)


# ---- layer norm ------------------------------------------------------------------------------


def _centred(rows: Any, out: Any) -> Any:
    """Rows without their means, in `out`."""
    mean = row_sums(rows)
    mean /= rows.dtype.type(rows.shape[-1])
    np.subtract(rows, mean, out=out)
    return mean


def _normalise(x: Any, weight: Any, bias: Any, eps: float, saving: bool) -> tuple[Any, Any, Any]:
    n = x.shape[-1]
    kind = x.dtype.type
    y = np.empty(x.shape, x.dtype)
    source, target = _rows(x), _rows(y)
    means = np.empty((len(source), 1), x.dtype) if saving else None
    scales = np.empty((len(source), 1), x.dtype) if saving else None
    for part in stretches(len(source), n):
        rows, out = source[part], target[part]
        mean = _centred(rows, out)
        scale = _dot(out, out)[:, None]
        scale /= kind(n)
        scale += kind(eps)
        np.sqrt(scale, out=scale)
        np.reciprocal(scale, out=scale)
        out *= scale
        if weight is not None:
            out *= weight
        if bias is not None:
            out += bias
        if means is not None and scales is not None:
            means[part], scales[part] = mean, scale
    return y, means, scales


def layer_norm(x: Any, weight: Any, bias: Any, *, eps: float) -> Any:
    return _normalise(x, weight, bias, eps, False)[0]


def layer_norm_saving(x: Any, weight: Any, bias: Any, *, eps: float) -> tuple[Any, tuple]:
    y, means, scales = _normalise(x, weight, bias, eps, True)
    return y, (means, scales)


def layer_norm_vjp(
    g: Any, saved: Any, x: Any, weight: Any, bias: Any, *, needs: Any, eps: float
) -> tuple[Any, Any, Any]:
    """With x̂ the normalised row: (ĝ - mean ĝ - x̂·mean(ĝ·x̂)) / σ, where ĝ = g·weight."""
    if not isinstance(saved, tuple):  # the output of a forward kernel that another plugin replaced
        saved = _normalise(x, weight, bias, eps, True)[1:]
    means, scales = saved
    for_x, for_weight, for_bias = needs
    n = x.shape[-1]
    kind = x.dtype.type
    source, upper = _rows(x), _rows(g)
    grad = np.empty(x.shape, x.dtype) if for_x else None
    target = None if grad is None else _rows(grad)
    to_weight = np.zeros(n, x.dtype) if for_weight else None
    for part in stretches(len(source), n):
        rows = upper[part]
        normal = source[part] - means[part]
        normal *= scales[part]
        if to_weight is not None:
            to_weight += _column_dots(rows, normal)
        if target is None:
            continue
        out = target[part]
        if weight is None:
            out[...] = rows
        else:
            np.multiply(rows, weight, out=out)
        dots = _dot(out, normal)[:, None]
        dots /= kind(n)
        mean = row_sums(out)
        mean /= kind(n)
        out -= mean
        normal *= dots
        out -= normal
        out *= scales[part]
    return grad, to_weight, column_sums(upper) if for_bias else None


def _column_dots(a: Any, b: Any) -> Any:
    return column_sums(a * b)


# ---- rms norm --------------------------------------------------------------------------------


def _inverse_root(rows: Any, eps: float) -> Any:
    scale = _dot(rows, rows)[:, None]
    scale /= rows.dtype.type(rows.shape[-1])
    scale += rows.dtype.type(eps)
    np.sqrt(scale, out=scale)
    return np.reciprocal(scale, out=scale)


def rms_norm(x: Any, weight: Any, *, eps: float) -> Any:
    n = x.shape[-1]
    y = np.empty(x.shape, x.dtype)
    source, target = _rows(x), _rows(y)
    for part in stretches(len(source), n):
        rows = source[part]
        np.multiply(rows, _inverse_root(rows, eps), out=target[part])
        if weight is not None:
            target[part] *= weight
    return y


def rms_norm_vjp(g: Any, y: Any, x: Any, weight: Any, *, needs: Any, eps: float) -> tuple[Any, Any]:
    """With r the root and x̂ = x/r: (ĝ - x̂·mean(ĝ·x̂)) / r, where ĝ = g·weight."""
    for_x, for_weight = needs
    n = x.shape[-1]
    source, upper = _rows(x), _rows(g)
    grad = np.empty(x.shape, x.dtype) if for_x else None
    target = None if grad is None else _rows(grad)
    to_weight = np.zeros(n, x.dtype) if for_weight else None
    for part in stretches(len(source), n):
        rows = upper[part]
        scale = _inverse_root(source[part], eps)
        normal = source[part] * scale
        if to_weight is not None:
            to_weight += _column_dots(rows, normal)
        if target is None:
            continue
        out = target[part]
        if weight is None:
            out[...] = rows
        else:
            np.multiply(rows, weight, out=out)
        dots = _dot(out, normal)[:, None]
        dots /= x.dtype.type(n)
        normal *= dots
        out -= normal
        out *= scale
    return grad, to_weight


KERNELS: dict[str, Callable[..., Any]] = {
    "gelu": gelu,
    "gelu_saving": gelu_saving,
    "gelu_vjp": gelu_vjp,
    "silu": silu,
    "silu_vjp": silu_vjp,
    "layer_norm": layer_norm,
    "layer_norm_saving": layer_norm_saving,
    "layer_norm_vjp": layer_norm_vjp,
    "rms_norm": rms_norm,
    "rms_norm_vjp": rms_norm_vjp,
}
