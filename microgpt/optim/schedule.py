"""Learning-rate schedules: call `step()` after every `optimizer.step()`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from microgpt.errors import InputError
from microgpt.optim.base import Group, Optimizer


class Schedule:
    """Base class: the rate at step t is `factor(t)` times the rate the optimizer was made with."""

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer
        self.base_lrs = [group["lr"] for group in optimizer.param_groups]
        self.last_step = 0
        self._apply()

    def factor(self, step: int) -> float:
        """What the initial rate is multiplied by at `step`, which counts from 0."""
        raise InputError(f"{type(self).__name__} defines no factor()")

    def _apply(self) -> None:
        factor = self.factor(self.last_step)
        for group, lr in self._initial():
            group["lr"] = lr * factor

    def _initial(self) -> list[tuple[Group, float]]:
        """The groups with their initial rates."""
        groups = self.optimizer.param_groups
        if len(groups) != len(self.base_lrs):
            raise InputError(
                f"{type(self).__name__} has rates for {len(self.base_lrs)} groups of parameters, "
                f"and the optimizer has {len(groups)}; required: a new schedule after "
                "add_param_group"
            )
        return list(zip(groups, self.base_lrs, strict=True))

    def step(self) -> None:
        """Go on to the rate of the next step."""
        self.last_step += 1
        self._apply()

    def get_last_lr(self) -> list[float]:
        """The rate of each group now."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, Any]:
        """Initial rates and the number of steps."""
        return {"base_lrs": list(self.base_lrs), "last_step": self.last_step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.base_lrs, self.last_step = list(state["base_lrs"]), state["last_step"]
        self._apply()


class LambdaLR(Schedule):
    """The rate times `lr_lambda(step)`.

    Example:
        >>> import microgpt as mg
        >>> optimizer = mg.optim.SGD([mg.tensor(1.0, requires_grad=True)], lr=1.0)
        >>> schedule = mg.optim.LambdaLR(optimizer, lambda step: 0.5**step)
        >>> schedule.step()
        >>> schedule.get_last_lr()
        [0.5]
    """

    def __init__(self, optimizer: Optimizer, lr_lambda: Callable[[int], float]) -> None:
        self.lr_lambda = lr_lambda
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """`lr_lambda(step)`."""
        return self.lr_lambda(step)


class StepLR(Schedule):
    """The rate times `gamma` after every `step_size` steps."""

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1) -> None:
        if step_size < 1:
            raise InputError(f"StepLR needs step_size >= 1; got {step_size}")
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """gamma to the number of finished periods."""
        return self.gamma ** (step // self.step_size)


class LinearLR(Schedule):
    """From `start_factor` to `end_factor` in `total_iters` steps, then constant: a warm-up."""

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
    ) -> None:
        if total_iters < 1:
            raise InputError(f"LinearLR needs total_iters >= 1; got {total_iters}")
        self.start_factor, self.end_factor = start_factor, end_factor
        self.total_iters = total_iters
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """A straight line, then its end."""
        share = min(step, self.total_iters) / self.total_iters
        return self.start_factor + (self.end_factor - self.start_factor) * share


class CosineAnnealingLR(Schedule):
    """Half a cosine from the initial rate to `eta_min` in `T_max` steps, then constant.

    Source: Loshchilov and Hutter, arXiv:1608.03983, without restarts.
    """

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0) -> None:
        if T_max < 1:
            raise InputError(f"CosineAnnealingLR needs T_max >= 1; got {T_max}")
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """(1 + cos πt/T) / 2, for a minimum of 0."""
        return (1 + math.cos(math.pi * min(step, self.T_max) / self.T_max)) / 2

    def _apply(self) -> None:
        factor = self.factor(self.last_step)
        for group, lr in self._initial():
            group["lr"] = self.eta_min + (lr - self.eta_min) * factor


class LinearDecay(Schedule):
    """A straight line from the initial rate to 0: lr · (1 - step/total), then 0.

    Example:
        >>> import microgpt as mg
        >>> optimizer = mg.optim.SGD([mg.tensor(1.0, requires_grad=True)], lr=1.0)
        >>> schedule = mg.optim.LinearDecay(optimizer, total=4)
        >>> schedule.step()
        >>> schedule.get_last_lr()
        [0.75]
    """

    def __init__(self, optimizer: Optimizer, total: int) -> None:
        if total < 1:
            raise InputError(f"LinearDecay needs total >= 1; got {total}")
        self.total = total
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """1 - step/total, not below 0."""
        return 1 - min(step, self.total) / self.total


class WarmupCosine(Schedule):
    """A straight line up to the initial rate, then half a cosine down: how GPTs are trained.

    The first step has 1/warmup of the rate and step number `warmup` (the last of the warm-up) all
    of it; from step `total` on the rate is `min_ratio` times the initial one.
    Source: Loshchilov and Hutter, arXiv:1608.03983; Goyal et al., arXiv:1706.02677 (warm-up).

    Args:
        warmup: steps of the warm-up; 0 for none.
        total: steps of the training, warm-up included.
        min_ratio: share of the rate that is left at the end, 0 to 1.

    Raises:
        InputError: unless 0 <= warmup < total and 0 <= min_ratio <= 1.

    Example:
        >>> import microgpt as mg
        >>> optimizer = mg.optim.SGD([mg.tensor(1.0, requires_grad=True)], lr=1.0)
        >>> schedule = mg.optim.WarmupCosine(optimizer, warmup=2, total=6)
        >>> rates = []
        >>> for _ in range(7):
        ...     rates += [round(lr, 3) for lr in schedule.get_last_lr()]
        ...     schedule.step()
        >>> rates
        [0.5, 1.0, 1.0, 0.854, 0.5, 0.146, 0.0]
    """

    def __init__(
        self, optimizer: Optimizer, warmup: int, total: int, min_ratio: float = 0.0
    ) -> None:
        if not 0 <= warmup < total:
            raise InputError(f"WarmupCosine needs 0 <= warmup < total; got {warmup} and {total}")
        if not 0 <= min_ratio <= 1:
            raise InputError(f"WarmupCosine needs min_ratio from 0 to 1; got {min_ratio}")
        self.warmup, self.total, self.min_ratio = warmup, total, min_ratio
        super().__init__(optimizer)

    def factor(self, step: int) -> float:
        """(step + 1)/warmup, then half a cosine from 1 to `min_ratio`."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        share = min((step - self.warmup) / (self.total - self.warmup), 1.0)
        return self.min_ratio + (1 - self.min_ratio) * (1 + math.cos(math.pi * share)) / 2


class SequentialLR(Schedule):
    """One schedule after the other: number i takes over at step `milestones[i - 1]`.

    Each counts its steps from where it takes over.
    """

    def __init__(
        self, optimizer: Optimizer, schedules: Sequence[Schedule], milestones: Sequence[int]
    ) -> None:
        if len(milestones) != len(schedules) - 1 or list(milestones) != sorted(milestones):
            raise InputError(
                f"SequentialLR needs one milestone, in order, between each two of its "
                f"{len(schedules)} schedules; got {list(milestones)}"
            )
        self.schedules, self.milestones = list(schedules), list(milestones)
        # Each part set a rate when it was made; the initial ones are what the first remembers.
        for schedule in self.schedules:
            schedule.base_lrs = list(self.schedules[0].base_lrs)
        for group, lr in zip(optimizer.param_groups, self.schedules[0].base_lrs, strict=True):
            group["lr"] = lr
        super().__init__(optimizer)

    def _apply(self) -> None:
        place = sum(self.last_step >= m for m in self.milestones)
        active = self.schedules[place]
        active.last_step = self.last_step - (self.milestones[place - 1] if place else 0)
        active._apply()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state` was taken; its initial rates are those of every part."""
        for schedule in self.schedules:
            schedule.base_lrs = list(state["base_lrs"])
        super().load_state_dict(state)
