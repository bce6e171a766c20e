"""Adam and AdamW."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from microgpt.errors import InputError
from microgpt.ops.optimizing import adam_step, running_mean
from microgpt.optim.base import Group, Optimizer

_MEAN, _STEP = running_mean.op.function, adam_step.op.function


class Adam(Optimizer):
    """Steps scaled by running means of the gradient and of its square.

    m ← β₁·m + (1-β₁)·g; v ← β₂·v + (1-β₂)·g²; p ← p - lr·m̂ / (√v̂ + ε) with m̂ = m / (1-β₁ᵗ),
    v̂ = v / (1-β₂ᵗ). Weight decay is added to the gradient. Source: Kingma and Ba, arXiv:1412.6980.

    Args:
        params: tensors, or groups of them with settings of their own.
        lr, betas, eps, weight_decay: as in PyTorch, with its defaults.

    Example:
        >>> import microgpt as mg
        >>> p = mg.tensor([1.0], requires_grad=True)
        >>> optimizer = mg.optim.Adam([p], lr=0.1)
        >>> (p * p).sum().backward()
        >>> optimizer.step()
        >>> round(p.item(), 4)
        0.9
    """

    _decoupled = False
    _together = True
    _remembered = ("step", "mean", "square")

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        )

    def _check(self, group: Group) -> None:
        super()._check(group)
        betas = group["betas"]
        if len(betas) != 2 or not all(0 <= b < 1 for b in betas):
            raise InputError(f"{type(self).__name__}: betas must be two in [0, 1); got {betas}")
        if not group["eps"] >= 0:
            raise InputError(f"{type(self).__name__}: eps must be >= 0; got {group['eps']}")

    def _update(self, value: Any, grad: Any, group: Group, state: dict[str, Any]) -> Any:
        lr, decay, (first, second) = group["lr"], group["weight_decay"], group["betas"]
        if decay and self._decoupled:
            value = value * (1 - lr * decay)
        elif decay:
            grad = grad + value * decay
        step = state["step"] = state.get("step", 0) + 1
        if step == 1:
            mean, square = grad * (1 - first), grad * grad * (1 - second)
        else:
            mean = _MEAN(state["mean"], grad, beta=first, squared=False)
            square = _MEAN(state["square"], grad, beta=second, squared=True)
        state["mean"], state["square"] = mean, square
        return _STEP(
            value,
            mean,
            square,
            lr=lr / (1 - first**step),
            correction=1 / math.sqrt(1 - second**step),
            eps=group["eps"],
        )


class AdamW(Adam):
    """Adam with weight decay apart from the gradient: p ← p - lr·λ·p first.

    Source: Loshchilov and Hutter, arXiv:1711.05101.
    """

    _decoupled = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay)
