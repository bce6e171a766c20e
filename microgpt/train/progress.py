"""What a person sees of a run: a bar on a terminal, lines elsewhere, or nothing."""

from __future__ import annotations

import sys
from time import perf_counter
from typing import Any

from microgpt.train.run import Run

_BAR_SECONDS = 0.2
_LINE_SECONDS = 10.0


class Rate:
    """Tokens or examples per second of training, evaluations and saving left out."""

    def __init__(self) -> None:
        self.units = 0
        self.busy = 0.0

    def since(self, mark: list[float]) -> float:
        """The rate since `mark`, [units, seconds], which is moved to now."""
        units, busy = self.units - mark[0], self.busy - mark[1]
        mark[:] = self.units, self.busy
        return units / busy if busy > 0 else 0.0


class Progress:
    """Shows a run on standard error (the bar) or standard output (lines)."""

    def __init__(
        self, wanted: bool, run: Run, epochs: int | None, steps: int | None, rate: Rate
    ) -> None:
        self.run, self.epochs, self.steps, self.rate = run, epochs, steps, rate
        self.wanted = wanted
        self.unit = "examples"
        self._bar: Any = None
        self._mark = [0.0, 0.0]
        self._shown = self._began = perf_counter()
        self._first = run.step
        if wanted and sys.stderr is not None and sys.stderr.isatty():
            try:
                from tqdm import tqdm
            except ImportError:
                return  # lines are the progress, then
            self._bar = tqdm(total=steps, initial=run.step, unit="step", leave=False)

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()

    def step(self, loss: float, lr: float, now: float) -> None:
        """One step further; `now` is the time of `perf_counter`."""
        if self._bar is not None:
            if now - self._shown > _BAR_SECONDS:
                self._shown = now
                self._bar.set_postfix_str(self._numbers(loss, lr), refresh=False)
            self._bar.update()
        elif self.wanted and now - self._shown > _LINE_SECONDS:
            of = "" if self.steps is None else f"/{self.steps}"
            self.say(f"step {self.run.step}{of}  {self._numbers(loss, lr)}{self._rest(now)}")

    def _numbers(self, loss: float, lr: float) -> str:
        rate = self.rate.since(self._mark)
        return f"loss {loss:.4f}  lr {lr:.3g}  {rate:,.0f} {self.unit}/s"

    def _rest(self, now: float) -> str:
        """How long it will still take."""
        done = self.run.step - self._first
        if self.steps is None or not done:
            return ""
        seconds = round((now - self._began) / done * (self.steps - self.run.step))
        return f"  {seconds // 60}:{seconds % 60:02d} to go"

    def evaluation(self) -> None:
        """One evaluation further, not at the end of an epoch."""
        row = self.run.history.evaluations[-1]
        of = "" if self.steps is None else f"/{self.steps}"
        self.say(f"step {self.run.step}{of}  {_values(row)}")

    def epoch(self) -> None:
        """One epoch further."""
        row = self.run.history.epochs[-1]
        of = "" if self.epochs is None else f"/{self.epochs}"
        self.say(
            f"epoch {self.run.epoch}{of}  loss {row['loss']:.4f}{_values(row, '  ')}  "
            f"{row['seconds']:.1f} s"
        )

    def say(self, text: str) -> None:
        """A line that does not tear the bar apart."""
        self._shown = perf_counter()
        if self._bar is not None:
            self._bar.write(text)
        elif self.wanted:
            print(text, flush=True)


def _values(row: dict[str, float], before: str = "") -> str:
    shown = [f"{k.replace('_', ' ')} {v:.4f}" for k, v in row.items() if k.startswith("val_")]
    return before + "  ".join(shown) if shown else ""
