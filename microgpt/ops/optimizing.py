"""Fused steps of optimizers: running means, and what Adam makes of them."""

from __future__ import annotations

from typing import Any

from microgpt.ops import elementwise as el
from microgpt.ops.declare import fused


@fused(arity=2, domain=lambda d: d.running_mean())
def running_mean(mean: Any, x: Any, beta: float = 0.9, squared: bool = False) -> Any:
    """β·mean + (1 - β)·x, or x² if squared"""
    return mean * beta + (x * x if squared else x) * (1 - beta)


@fused(arity=3, domain=lambda d: d.adam())
def adam_step(
    value: Any,
    mean: Any,
    square: Any,
    lr: float = 1e-3,
    correction: float = 1.0,
    eps: float = 1e-8,
) -> Any:
    """value - lr·mean / (√square·correction + ε)"""
    return value - mean / (el.sqrt(square) * correction + eps) * lr
