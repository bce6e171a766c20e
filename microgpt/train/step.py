"""One optimizer step: forward and backward over a group of batches, clipping, the update."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from microgpt import checkpoints
from microgpt.optim import clip_grad_norm_
from microgpt.train import anomaly
from microgpt.train.batches import counted, home, ignored_target, tensors, unit
from microgpt.train.run import Run
from microgpt.train.settings import Settings


class Stepper:
    """Takes the steps of a run."""

    def __init__(self, run: Run, loss: Callable[..., Any], settings: Settings) -> None:
        self.run, self.loss, self.settings = run, loss, settings
        self._place, self._ignored = home(run.model), ignored_target(loss)
        self._generators = checkpoints.generators(run.model)
        self.norm: float | None = None
        """Norm of the gradient of the last step before clipping, where it was computed."""
        self.count = 0
        """Targets that the loss of the last step is the mean of."""
        self.units = 0
        """Tokens or examples in the last step."""
        self.unit = ""

    def take(self, group: Sequence[Any], want_norm: bool) -> float:
        """Step along the gradient of the mean loss over all targets in `group`.

        If none of the targets counts there is nothing to learn: the loss is 0, and the step is
        counted without a change of the weights or of what the optimizer remembers.

        Raises:
            AnomalyError: if the loss, or the norm if it is computed, is not finite.
        """
        run = self.run
        batches = [tensors(batch, self._place) for batch in group]
        shares = self._shares(batches)
        self.norm = None
        if not self.count:
            run.optimizer.zero_grad()
            run.step += 1
            return 0.0
        states = [g.bit_generator.state for g in self._generators]
        value = self._backward(batches, shares)
        if not math.isfinite(value):
            self._explain(batches, shares, states, f"the loss is {value}")
        clip_norm = self.settings.clip_norm
        if want_norm or clip_norm is not None:
            limit = math.inf if clip_norm is None else clip_norm
            # Those that the optimizer changes and whose gradients it forgets; others just add up.
            self.norm = clip_grad_norm_(run.optimizer._parameters(), limit)
            if not math.isfinite(self.norm):
                self._explain(batches, shares, states, f"the norm of the gradient is {self.norm}")
        run.optimizer.step()
        run.step += 1
        return value

    def _shares(self, batches: Sequence[Any]) -> list[float]:
        """What each batch contributes to the mean over all targets that count."""
        if not self.unit:
            self.unit = unit(batches[0][-1])
        if len(batches) == 1:
            self.count, self.units = counted(batches[0][-1], self._ignored)
            return [1.0]
        sizes = [counted(batch[-1], self._ignored) for batch in batches]
        self.count = sum([count for count, _ in sizes])
        self.units = sum([units for _, units in sizes])
        if not self.count:
            return []
        return [count / self.count for count, _ in sizes]

    def _backward(self, batches: Sequence[Any], shares: Sequence[float]) -> float:
        """The mean loss; its gradient is left in the parameters."""
        run = self.run
        run.optimizer.zero_grad()
        total = 0.0
        for (*inputs, target), share in zip(batches, shares, strict=True):
            if not share:
                continue  # every target is ignored
            result = self.loss(run.model(*inputs), target)
            value = float(result.item())
            if not math.isfinite(value):
                return value
            total += share * value
            if share != 1.0:
                result = result * share
            result.backward()
        return total

    def _explain(
        self, batches: Sequence[Any], shares: Sequence[float], states: Sequence[Any], what: str
    ) -> NoReturn:
        def again() -> None:
            for generator, state in zip(self._generators, states, strict=True):
                generator.bit_generator.state = state
            self._backward(batches, shares)

        anomaly.explain(self.run, again, batches, what, self.settings)
