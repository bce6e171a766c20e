"""The settings of `fit`, checked."""

from __future__ import annotations

from dataclasses import dataclass

from microgpt.errors import InputError


@dataclass(frozen=True)
class Settings:
    """How long, how often, how many; see `fit`."""

    epochs: int | None
    steps: int | None
    eval_every: int | None
    clip_norm: float | None
    accumulate: int
    patience: int | None
    keep_best: bool
    log_every: int
    save_every: int | None
    keep: int

    def check(self, val: bool, out: bool, resume: bool) -> None:
        """Complain about what does not fit together.

        Raises:
            InputError: with the argument, and what it needs.
        """
        if (self.epochs is None) == (self.steps is None):
            raise InputError(
                "fit needs either epochs (passes over the batches) or steps (optimizer steps); got "
                f"epochs={self.epochs} and steps={self.steps}"
            )
        for name in (
            "epochs", "steps", "eval_every", "accumulate", "patience", "log_every", "save_every",
            "keep",
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and not (value >= 1 and value == int(value)):
                raise InputError(f"fit needs {name} >= 1, a whole number; got {value}")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise InputError(f"fit needs clip_norm > 0; got {self.clip_norm}")
        for name in ("eval_every", "patience"):
            if getattr(self, name) is not None and not val:
                raise InputError(f"fit({name}=…) needs val=, the batches to evaluate on")
        for name, given in (("resume", resume), ("save_every", self.save_every)):
            if given and not out:
                raise InputError(f"fit({name}={given}) needs out=, the folder with the checkpoints")
