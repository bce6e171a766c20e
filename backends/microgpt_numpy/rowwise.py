"""Fused activations and normalisations: many steps on one stretch of memory at a time.

Each step of NumPy goes through its whole input; in stretches that fit into the cache of the
processor, the next step finds there what the last one wrote. Backward computes again what is cheap
to compute, so that little is kept between the passes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from microgpt_numpy.elementwise import erf
from microgpt_numpy.network import column_sums, row_sums

STRETCH = 1 << 15
"""Elements worked on at a time: 128 KiB of float32, of which a few fit into the cache."""

_dot = np.vecdot


@lru_cache(maxsize=256)
def stretches(size: int, length: int = 1) -> tuple[slice, ...]:
    """Slices of about STRETCH elements, in whole rows of `length`."""
    step = max(STRETCH // max(length, 1), 1)
    return tuple([slice(i, min(i + step, size)) for i in range(0, size, step)])


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
        y *= 0.5  # before the product, which would overflow for the largest x
        y *= x
        return y
    y = np.empty(x.shape, x.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        if x.size <= STRETCH:
            _gelu_tanh(x, y)
        else:
            source, target = flat(x), flat(y)
            for part in stretches(x.size):
                _gelu_tanh(source[part], target[part])
    return y


def _gelu_tanh(x: Any, out: Any) -> None:
    kind = x.dtype.type
    np.multiply(x, x, out=out)
    out *= kind(_CUBIC)
    out += kind(_LINEAR)
    out *= x
    np.exp(out, out=out)
    out += kind(1)
    np.divide(x, out, out=out)


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
    with np.errstate(over="ignore", invalid="ignore"):  # x² of large x, where the slope is 0 or 1
        for part in stretches(x.size):
            a, out = source[part], target[part]
            first, second = spare[:, : a.size]
            # gelu(x)/x needs no exponential, or no error function, but an x with all its digits.
            np.abs(a, out=out)
            clear = value is not None and (
                np.minimum.reduce(out) > _CLEAR[a.dtype.char]
                and np.maximum.reduce(out) < _FLAT[a.dtype.char]
            )
            if clear:
                np.divide(value[part], a, out=first)  # pyright: ignore[reportOptionalSubscript]
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


def _wide(x: Any) -> Any:
    """In float32: the squares of a row of float16 add up beyond the largest of these numbers."""
    return None if x is None else x.astype(np.float32)


def _narrow(arrays: tuple, dtype: Any) -> tuple:
    return tuple([None if x is None else x.astype(dtype) for x in arrays])


def _normalise(rows: Any, out: Any, weight: Any, bias: Any, eps: float) -> tuple[Any, Any]:
    """Write the result of some rows; their means and 1/√(variance + ε), as columns."""
    kind, n = rows.dtype.type, rows.shape[-1]
    mean = row_sums(rows)
    mean /= kind(n)
    np.subtract(rows, mean, out=out)
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
    return mean, scale


def _one_row(x: Any, weight: Any, bias: Any, eps: float) -> Any:
    """What a model that writes token by token asks for: the columns are Python numbers here."""
    n = x.size
    y = x - float(np.add.reduce(x, axis=None)) / n
    variance = float(np.vdot(y, y)) / n + eps
    if not variance > 0:
        return None
    y *= 1 / math.sqrt(variance)
    if weight is not None:
        y *= weight
    if bias is not None:
        y += bias
    return y


def layer_norm(x: Any, weight: Any, bias: Any, *, eps: float) -> Any:
    if 0 < x.size == x.shape[-1] and x.dtype.char != "e":
        y = _one_row(x, weight, bias, eps)
        if y is not None:
            return y
    return layer_norm_saving(x, weight, bias, eps=eps)[0]


def layer_norm_saving(x: Any, weight: Any, bias: Any, *, eps: float) -> tuple[Any, tuple]:
    if x.dtype.char == "e":
        y, saved = layer_norm_saving(_wide(x), _wide(weight), _wide(bias), eps=eps)
        return y.astype(x.dtype), saved
    y = np.empty(x.shape, x.dtype)
    source, target = _rows(x), _rows(y)
    if x.size <= STRETCH:
        return y, _normalise(source, target, weight, bias, eps)
    means = np.empty((len(source), 1), x.dtype)
    scales = np.empty((len(source), 1), x.dtype)
    for part in stretches(len(source), x.shape[-1]):
        means[part], scales[part] = _normalise(source[part], target[part], weight, bias, eps)
    return y, (means, scales)


def layer_norm_vjp(
    g: Any, saved: Any, x: Any, weight: Any, bias: Any, *, needs: Any, eps: float
) -> tuple[Any, Any, Any]:
    """With x̂ the normalised row: (ĝ - mean ĝ - x̂·mean(ĝ·x̂)) / σ, where ĝ = g·weight."""
    if not isinstance(saved, tuple):  # the output of a forward kernel that another plugin replaced
        saved = layer_norm_saving(x, weight, bias, eps=eps)[1]
    if x.dtype.char == "e":
        wide = (_wide(a) for a in (x, weight, bias))
        return _narrow(layer_norm_vjp(_wide(g), saved, *wide, needs=needs, eps=eps), x.dtype)
    means, scales = saved
    for_x, for_weight, for_bias = needs
    n = x.shape[-1]
    source, upper = _rows(x), _rows(g)
    grad = np.empty(x.shape, x.dtype) if for_x else None
    target = None if grad is None else _rows(grad)
    to_weight = None
    for part in stretches(len(source), n):
        rows, scale = upper[part], scales[part]
        normal = source[part] - means[part]
        normal *= scale
        if for_weight:
            dots = column_sums(rows * normal)
            to_weight = dots if to_weight is None else to_weight + dots
        if target is not None:
            _project(rows, weight, normal, scale, target[part], True)
    if for_weight and to_weight is None:
        to_weight = np.zeros(n, x.dtype)
    return grad, to_weight, column_sums(upper) if for_bias else None


def _project(rows: Any, weight: Any, normal: Any, scale: Any, out: Any, centred: bool) -> None:
    """Write (ĝ - mean ĝ - x̂·mean(ĝ·x̂))·scale; without mean ĝ if not `centred`."""
    n = rows.dtype.type(rows.shape[-1])
    if weight is None:
        out[...] = rows
    else:
        np.multiply(rows, weight, out=out)
    dots = _dot(out, normal)[:, None]
    dots /= n
    if centred:
        mean = row_sums(out)
        mean /= n
        out -= mean
    normal *= dots
    out -= normal
    out *= scale


# ---- rms norm --------------------------------------------------------------------------------


def _inverse_root(rows: Any, eps: float) -> Any:
    scale = _dot(rows, rows)[:, None]
    scale /= rows.dtype.type(rows.shape[-1])
    scale += rows.dtype.type(eps)
    np.sqrt(scale, out=scale)
    return np.reciprocal(scale, out=scale)


def rms_norm(x: Any, weight: Any, *, eps: float) -> Any:
    if x.dtype.char == "e":
        return rms_norm(_wide(x), _wide(weight), eps=eps).astype(x.dtype)
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
    if x.dtype.char == "e":
        grads = rms_norm_vjp(_wide(g), y, _wide(x), _wide(weight), needs=needs, eps=eps)
        return _narrow(grads, x.dtype)
    for_x, for_weight = needs
    n = x.shape[-1]
    source, upper = _rows(x), _rows(g)
    grad = np.empty(x.shape, x.dtype) if for_x else None
    target = None if grad is None else _rows(grad)
    to_weight = None
    for part in stretches(len(source), n):
        rows = upper[part]
        scale = _inverse_root(source[part], eps)
        normal = source[part] * scale
        if for_weight:
            dots = column_sums(rows * normal)
            to_weight = dots if to_weight is None else to_weight + dots
        if target is not None:
            _project(rows, weight, normal, scale, target[part], False)
    if for_weight and to_weight is None:
        to_weight = np.zeros(n, x.dtype)
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
