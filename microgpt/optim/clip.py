"""Gradient clipping. Gradients are replaced, not overwritten."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from microgpt import ops
from microgpt.errors import AnomalyError, InputError
from microgpt.plugins import registry
from microgpt.tensor import Tensor


def clip_grad_norm_(
    parameters: Iterable[Tensor], max_norm: float, error_if_nonfinite: bool = False
) -> float:
    """Scale all gradients down together so that their joint 2-norm is at most `max_norm`.

    Returns:
        The norm before. A second call changes nothing.

    Raises:
        AnomalyError: with `error_if_nonfinite`, if the norm is NaN or infinite.

    Example:
        >>> import microgpt as mg
        >>> p = mg.tensor([0.0, 0.0], requires_grad=True)
        >>> p.grad = mg.tensor([3.0, 4.0])
        >>> mg.optim.clip_grad_norm_([p], 1.0)
        5.0
        >>> p.grad
        tensor([0.6, 0.8])
    """
    if not max_norm > 0:
        raise InputError(f"clip_grad_norm_ needs max_norm > 0; got {max_norm}")
    held = [p for p in parameters if p.grad is not None]
    total = 0.0
    for p in held:
        raw = p.grad._data  # pyright: ignore[reportOptionalMemberAccess]
        flat = np.asarray(registry.backend_of(raw).to_numpy(raw), dtype=np.float64).reshape(-1)
        total += float(flat @ flat)
    norm = math.sqrt(total)
    if error_if_nonfinite and not math.isfinite(norm):
        raise AnomalyError(
            f"the norm of the gradients is {norm}; mg.debug() finds the op that made the first "
            "NaN or infinity"
        )
    if norm > max_norm:
        for p in held:
            p.grad = p.grad.detach() * (max_norm / norm)  # pyright: ignore[reportOptionalMemberAccess]
    return norm


def clip_grad_value_(parameters: Iterable[Tensor], clip_value: float) -> None:
    """Limit every element of every gradient to ±`clip_value`."""
    if not clip_value > 0:
        raise InputError(f"clip_grad_value_ needs clip_value > 0; got {clip_value}")
    for p in parameters:
        if p.grad is not None:
            p.grad = ops.clip(p.grad.detach(), -clip_value, clip_value)
