"""Where the numbers of a run are written to: JSON lines, TensorBoard, or a logger of your own."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from microgpt.errors import missing_extra

Row = dict[str, Any]


class Logger:
    """Base class of loggers for `fit(loggers=…)`.

    A row is a dict of numbers. That of a step has step, epoch, loss, lr, grad_norm (of the
    gradient before clipping), examples_per_second or tokens_per_second, and seconds since the
    start of the run; that of an evaluation has step, epoch, val_loss, val_… for every metric, and
    seconds.
    """

    def start(self, step: int) -> None:
        """Before the first step; `step` steps were taken before the run was resumed."""

    def log(self, row: Row) -> None:
        """One row."""

    def close(self) -> None:
        """After the last step, and after an error."""


class JSONLines(Logger):
    """One JSON object per line of a file; what is not finite is written as null.

    `fit` writes `log.jsonl` into its `out` with it. Every line is handed to the system at once,
    so that `tail -f` and a process that is killed show what has happened.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.lines = 0
        """How many were written, including those before the run was resumed."""
        self._file: Any = None

    def start(self, step: int) -> None:
        """Go on after `lines` lines; what a run that died has written after them is dropped."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        kept = size = 0
        if self.path.exists():
            with open(self.path, "rb") as file:
                for line in file:
                    if kept == self.lines or not line.endswith(b"\n"):
                        break
                    kept += 1
                    size += len(line)
            os.truncate(self.path, size)
        self.lines = kept
        self._file = open(self.path, "a", encoding="utf-8", newline="\n", buffering=1)  # noqa: SIM115

    def log(self, row: Row) -> None:
        """Write one line."""
        clean = {
            k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()
        }
        self._file.write(json.dumps(clean, allow_nan=False, default=float) + "\n")
        self.lines += 1

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


class TensorBoard(Logger):
    """Every number of every row as a scalar for TensorBoard (extra: tensorboard).

    Written by tensorboardX, which needs neither TensorFlow nor PyTorch; looked at with
    ``tensorboard --logdir FOLDER``.

    Args:
        folder: where event files go.

    Raises:
        MissingExtraError: if tensorboardX is not installed.
    """

    def __init__(self, folder: str | Path) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError:
            raise missing_extra("tensorboardX", "tensorboard", "train.TensorBoard") from None
        self._make = SummaryWriter
        self.folder = Path(folder)
        self._writer: Any = None

    def start(self, step: int) -> None:
        """Open an event file; what earlier ones have about later steps is hidden."""
        self._writer = self._make(str(self.folder), purge_step=step + 1 if step else None)

    def log(self, row: Row) -> None:
        """One point in the curve of every number."""
        for name, value in row.items():
            if name not in ("step", "epoch", "seconds"):
                self._writer.add_scalar(name, value, row["step"])

    def close(self) -> None:
        """Write what is waiting, and close the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
