"""Fused ops on rows of numbers: softmax and its relatives, activations, normalisation."""

from __future__ import annotations

import math
from typing import Any

from microgpt.errors import InputError, ShapeError
from microgpt.ops import elementwise as el
from microgpt.ops import reduction as rd
from microgpt.ops.declare import face, fused


def _softmax_rule(g: Any, y: Any, x: Any, axis: int) -> tuple[Any]:
    return (y * (g - rd.sum(g * y, axis=axis, keepdims=True)),)


@fused(vjp=_softmax_rule, reads="y", domain=lambda d: d.along(d.array(min_ndim=1)))
def _softmax(x: Any, axis: int = -1) -> Any:
    """exp(x) / Σ exp(x) along axis"""
    e = el.exp(x - el.detach(rd.max(x, axis=axis, keepdims=True)))
    return e / rd.sum(e, axis=axis, keepdims=True)


@face(_softmax)
def softmax(x: Any, axis: int = -1, temperature: float = 1.0) -> Any:
    """exp(x/T) / Σ exp(x/T) along `axis`: positive numbers that add up to 1.

    The maximum is taken out first, so large numbers do not overflow.

    Args:
        temperature: T > 0. Below 1 the largest stands out more, above 1 less.

    Example:
        >>> import microgpt as mg
        >>> mg.softmax(mg.tensor([0.0, 0.0, 10000.0]))
        tensor([0., 0., 1.])
    """
    if temperature != 1.0:
        if not temperature > 0:
            raise InputError(
                f"softmax needs a temperature > 0; got {temperature} (for T → 0 use argmax)"
            )
        x = x / temperature
    return _rows(_softmax, "softmax", x, axis)


def _rows(op: Any, name: str, x: Any, axis: int) -> Any:
    """Call `op` along `axis`; rows without elements have nothing to normalise."""
    place = rd.one_axis(name, axis, len(x.shape))
    if 0 in x.shape:
        return x * 1.0
    return op(x, axis=place)


def _log_softmax_rule(g: Any, y: Any, x: Any, axis: int) -> tuple[Any]:
    return (g - el.exp(y) * rd.sum(g, axis=axis, keepdims=True),)


@fused(vjp=_log_softmax_rule, reads="y", domain=lambda d: d.along(d.array(min_ndim=1)))
def _log_softmax(x: Any, axis: int = -1) -> Any:
    """x - log Σ eˣ along axis"""
    return x - rd.logsumexp(x, axis=axis, keepdims=True)


@face(_log_softmax)
def log_softmax(x: Any, axis: int = -1) -> Any:
    """Logarithm of `softmax`, exact where the softmax itself would round to 0.

    Example:
        >>> import microgpt as mg
        >>> mg.log_softmax(mg.tensor([0.0, 10000.0]))
        tensor([-10000.,      0.])
    """
    return _rows(_log_softmax, "log_softmax", x, axis)


# ---- activations -----------------------------------------------------------------------------

_ROOT_2_PI = math.sqrt(2 / math.pi)


@fused(domain=lambda d: d.rows(d.array(), **d.optional(approximate=d.sampled(["none", "tanh"]))))
def _gelu(x: Any, approximate: str = "none") -> Any:
    """x·Φ(x), or 0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))"""
    if approximate == "none":
        return x * ((el.erf(x * math.sqrt(0.5)) + 1.0) * 0.5)
    # ½(1 + tanh u) = σ(2u), which does not cancel for x → -∞.
    return x * el.sigmoid((x + x * x * x * 0.044715) * (2 * _ROOT_2_PI))


@face(_gelu)
def gelu(x: Any, approximate: str = "none") -> Any:
    """Gaussian error linear unit x·Φ(x), with Φ the normal distribution function.

    `approximate="tanh"` is the formula of GPT-2 (Hendrycks and Gimpel, arXiv:1606.08415).

    Example:
        >>> import microgpt as mg
        >>> round(mg.gelu(mg.tensor(1.0)).item(), 4)
        0.8413
    """
    if approximate not in ("none", "tanh"):
        raise InputError(f"gelu: approximate must be 'none' or 'tanh'; got {approximate!r}")
    return _gelu(x, approximate=approximate)


@fused(domain=lambda d: d.array())
def silu(x: Any) -> Any:
    """x·σ(x), the sigmoid linear unit"""
    return x * el.sigmoid(x)


# ---- normalisation ---------------------------------------------------------------------------


@fused(arity=3, domain=lambda d: d.normalised(bias=True))
def _layer_norm(x: Any, weight: Any, bias: Any, eps: float = 1e-5) -> Any:
    """(x - mean) / √(var + ε) · weight + bias over the last axis"""
    centred = x - rd.mean(x, axis=-1, keepdims=True)
    variance = rd.mean(centred * centred, axis=-1, keepdims=True)
    y = centred / el.sqrt(variance + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


@face(_layer_norm)
def layer_norm(x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """Each row (last axis) shifted to mean 0, scaled to variance 1, times `weight` plus `bias`.

    Args:
        x: (…, n).
        weight, bias: (n,) or None.
        eps: added to the variance.

    Source: Ba, Kiros and Hinton, arXiv:1607.06450.

    Example:
        >>> import microgpt as mg
        >>> mg.layer_norm(mg.tensor([1.0, 3.0]), eps=0.0)
        tensor([-1.,  1.])
    """
    _check_row_parameters("layer_norm", x, weight, bias)
    return _layer_norm(x, weight, bias, eps=eps)


@fused(arity=2, domain=lambda d: d.normalised(bias=False))
def _rms_norm(x: Any, weight: Any, eps: float = 1e-5) -> Any:
    """x / √(mean x² + ε) · weight over the last axis"""
    y = x / el.sqrt(rd.mean(x * x, axis=-1, keepdims=True) + eps)
    return y if weight is None else y * weight


@face(_rms_norm)
def rms_norm(x: Any, weight: Any = None, eps: float = 1e-5) -> Any:
    """Each row (last axis) divided by its root mean square, times `weight` (n,) or None.

    Source: Zhang and Sennrich, arXiv:1910.07467.

    Example:
        >>> import microgpt as mg
        >>> mg.rms_norm(mg.tensor([1.0, -1.0]), eps=0.0)
        tensor([ 1., -1.])
    """
    _check_row_parameters("rms_norm", x, weight)
    return _rms_norm(x, weight, eps=eps)


def _check_row_parameters(name: str, x: Any, *parameters: Any) -> None:
    if not x.shape:
        raise ShapeError(
            f"{name} works on rows: x needs one dimension or more; got a single number"
        )
    for p in parameters:
        if p is not None and getattr(p, "shape", None) != (x.shape[-1],):
            # People who come from PyTorch give the normalised shape second.
            got = p.shape if hasattr(p, "shape") else f"{p!r}, which is no array"
            raise ShapeError(
                f"{name}: weight and bias must have shape ({x.shape[-1]},), the last dimension "
                f"of x {tuple(x.shape)}; got {got}"
            )
