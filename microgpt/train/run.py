"""What a training run consists of, as callbacks and the caller get to see it."""

from __future__ import annotations

from dataclasses import dataclass, field

from microgpt.nn import Module
from microgpt.optim import Optimizer


class StopTraining(Exception):
    """Raised by a callback to end the training cleanly."""


@dataclass
class History:
    """What happened in a training run."""

    losses: list[float] = field(default_factory=list)
    """The loss of every optimizer step."""
    epochs: list[dict[str, float]] = field(default_factory=list)
    """One row per finished epoch: epoch, loss, seconds, and what was measured at its end."""
    evaluations: list[dict[str, float]] = field(default_factory=list)
    """One row per evaluation: step, epoch, val_loss and val_… for every metric."""
    grad_norms: dict[int, float] = field(default_factory=dict)
    """Step → norm of its gradient before clipping: of every step with `clip_norm`, otherwise of
    those that are logged."""
    best: dict[str, float] | None = None
    """The row of `evaluations` with the lowest val_loss."""
    stopped_early: bool = False
    """Whether `patience` ended the training."""
    interrupted: bool = False
    """Whether a signal ended it."""
    signal: int | None = None
    """The number of that signal."""


@dataclass
class Run:
    """What callbacks get to see."""

    model: Module
    optimizer: Optimizer
    history: History
    epoch: int = 0
    """Finished epochs."""
    step: int = 0
    """Optimizer steps taken."""


class Callback:
    """Base class of callbacks; raise `StopTraining` in any method to end cleanly."""

    def on_step(self, run: Run) -> None:
        """After every step; `run.history.losses[-1]` is its loss."""

    def on_evaluation(self, run: Run) -> None:
        """After every evaluation; `run.history.evaluations[-1]` is its row."""

    def on_epoch(self, run: Run) -> None:
        """After every epoch; `run.history.epochs[-1]` is its row."""
