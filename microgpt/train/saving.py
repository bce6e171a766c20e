"""Saves a run and brings it back, so that it goes on as if nothing had happened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from microgpt import checkpoints
from microgpt.errors import AnomalyError, CheckpointError, InputError, missing_extra
from microgpt.optim import Schedule
from microgpt.train.anomaly import listed, nonfinite, where_from
from microgpt.train.run import Run
from microgpt.train.settings import Settings


@dataclass
class Position:
    """Where a run is, beyond what callbacks see."""

    seen: int = 0
    """Batches of the present epoch that were used."""
    ended: bool = False
    """Whether the batches said that there are no more in this epoch."""
    total: float = 0.0
    """Sum of loss · targets over them."""
    count: int = 0
    """Targets that counted in them."""
    evaluated: int = 0
    """Step of the last evaluation."""
    waited: int = 0
    """Evaluations since the best one."""
    seconds: float = 0.0
    """Time that the present epoch has taken."""
    elapsed: float = 0.0
    """Time that the run has taken."""
    lines: int = 0
    """Lines of the log."""


class Saver:
    """Checkpoints of a run in a folder, which is locked meanwhile; without a folder nothing."""

    def __init__(
        self,
        run: Run,
        batches: Any,
        val: Any,
        schedule: Schedule | None,
        out: Any,
        settings: Settings,
    ) -> None:
        self.run, self.batches, self.val, self.schedule = run, batches, val, schedule
        self.out = None if out is None else Path(out)
        self.settings = settings
        self.position = Position()
        self._skip = 0
        self._saved: Any = None
        self._lock: Any = None

    def __enter__(self) -> Saver:
        if self.out is not None:
            self._lock = _locked(self.out)
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._lock is not None:
            self._lock.release()
        elif kind is None:
            self._check("and there is no checkpoint from before (out=… makes some)")

    def groups(self, size: int) -> Iterator[list[Any]]:
        """The batches of the epoch, `size` at a time, without those used before a resumption.

        The last group of an epoch has what is left.
        """
        position = self.position
        if position.ended:  # they were asked before the interruption, and have gone on since
            return
        batches = iter(self.batches)
        skip, self._skip = self._skip, 0
        for _ in islice(batches, skip):
            pass
        while group := list(islice(batches, size)):
            position.ended = len(group) < size
            yield group

    # ---- saving ------------------------------------------------------------------------------

    def save(self) -> None:
        """Write a checkpoint, if there is a folder and something to write."""
        now = self.run.step, self.run.epoch, self.position.evaluated, len(self.run.history.epochs)
        if self.out is not None and now != self._saved:
            checkpoints.save(
                self.out, self.run.step, self.run.model, self._state(), self.settings.keep
            )
            self._saved = now

    def save_best(self) -> None:
        """Write the checkpoint in the folder `best`, in the place of the one before."""
        if self.out is not None:
            folder = self.out / "best"
            checkpoints.save(folder, self.run.step, self.run.model, self._state(), keep=1)

    def _state(self) -> dict[str, Any]:
        run, history = self.run, self.run.history
        self._check("and was not saved")
        return {
            "optimizer": run.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "batches": state_of(self.batches),
            "val": state_of(self.val),
            "losses": np.array(history.losses),
            "grad_norms": [
                np.array(list(history.grad_norms), np.int64),
                np.array(list(history.grad_norms.values()), np.float64),
            ],
            "epochs": history.epochs,
            "evaluations": history.evaluations,
            "best": history.best,
            "epoch": run.epoch,
            "position": asdict(self.position),
        }

    def _check(self, consequence: str) -> None:
        """Complain if weights are not finite."""
        bad = nonfinite(self.run.model)
        if bad:
            raise AnomalyError(
                f"after step {self.run.step} {listed(bad)} {'is' if len(bad) == 1 else 'are'} "
                f"not finite, {consequence}; {where_from(self.settings)}"
            )

    # ---- resuming ----------------------------------------------------------------------------

    def begin(self, resume: bool) -> None:
        """Bring back the newest checkpoint, if there is one.

        Raises:
            InputError: if there is one, and the run shall begin anew.
            CheckpointError: if the checkpoint is damaged or of another model.
        """
        if self.out is None:
            return
        if not resume:
            found = checkpoints.checkpoints(self.out)
            if found:
                raise InputError(
                    f"{self.out} has checkpoints of an earlier run, up to {found[-1].name}; "
                    "resume=True goes on from there; to begin anew, choose another folder or "
                    "remove this one"
                )
            return
        run, history = self.run, self.run.history
        state = checkpoints.load(self.out, run.model)
        if state is None:
            return
        if (self.schedule is None) != (state["schedule"] is None):
            have, want = ("no", "one") if self.schedule is None else ("a", "none")
            raise CheckpointError(
                f"fit was called with {have} schedule; the run in {self.out} has {want}"
            )
        run.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        history.losses = state["losses"].tolist()
        steps, norms = state["grad_norms"]
        history.grad_norms = dict(zip(steps.tolist(), norms.tolist(), strict=True))
        history.epochs, history.evaluations = state["epochs"], state["evaluations"]
        history.best = state["best"]
        run.epoch, run.step = state["epoch"], state["step"]
        self.position = Position(**state["position"])
        if state["batches"] is not None and hasattr(self.batches, "load_state_dict"):
            self.batches.load_state_dict(state["batches"])
        elif not self.position.ended:
            self._skip = self.position.seen
        if state["val"] is not None and hasattr(self.val, "load_state_dict"):
            self.val.load_state_dict(state["val"])


def state_of(batches: Any) -> Any:
    """Where `batches` are, if they can say so."""
    return batches.state_dict() if hasattr(batches, "state_dict") else None


def _locked(folder: Path) -> Any:
    """A lock on a run folder, which ends with the process, however that ends.

    Raises:
        CheckpointError: if another process, or another call of `fit`, trains into it.
    """
    try:
        from filelock import FileLock, Timeout
    except ImportError:
        raise missing_extra("filelock", "train", "fit(out=…)") from None
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise CheckpointError(
            f"another training is writing into {folder}; wait for it, stop it, or choose another "
            "folder"
        ) from None
    return lock
