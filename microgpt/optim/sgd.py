"""Stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from microgpt import ops
from microgpt.errors import InputError
from microgpt.optim.base import Group, Optimizer

_STEP = ops.add_scaled.op.kernels


class SGD(Optimizer):
    """p ← p - lr·g, with g the gradient or a running sum of gradients (momentum).

    With weight decay λ, momentum μ and dampening τ: g ← g + λ·p; v ← μ·v + (1 - τ)·g (v = g in the
    first step); g ← g + μ·v (Nesterov) or v; p ← p - lr·g. Source: Sutskever et al., ICML 2013, in
    PyTorch's form.

    Args:
        params: tensors, or groups of them with settings of their own.
        lr: learning rate.
        momentum, dampening, weight_decay, nesterov: see above; by default off.

    Raises:
        InputError: if a setting is out of range; Nesterov needs momentum without dampening.

    Example:
        >>> import microgpt as mg
        >>> p = mg.tensor([1.0], requires_grad=True)
        >>> optimizer = mg.optim.SGD([p], lr=0.1)
        >>> (p * p).sum().backward()
        >>> optimizer.step()
        >>> p
        tensor([0.8], requires_grad=True)
    """

    _remembered = ("velocity",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
            },
        )

    def _check(self, group: Group) -> None:
        super()._check(group)
        if not group["momentum"] >= 0:
            raise InputError(f"SGD: momentum must be >= 0; got {group['momentum']}")
        if group["nesterov"] and (not group["momentum"] or group["dampening"]):
            raise InputError("SGD: nesterov needs momentum > 0 and dampening = 0")

    def _update(self, value: Any, grad: Any, group: Group, state: dict[str, Any]) -> Any:
        if group["weight_decay"]:
            grad = grad + value * group["weight_decay"]
        momentum = group["momentum"]
        if momentum:
            velocity = state.get("velocity")
            if velocity is None:
                velocity = grad
            else:
                velocity = velocity * momentum + grad * (1 - group["dampening"])
            state["velocity"] = velocity
            grad = grad + velocity * momentum if group["nesterov"] else velocity
        return _STEP[type(value)](value, grad, scale=-group["lr"])
