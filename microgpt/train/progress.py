"""What a person sees of a run: a bar on a terminal, lines elsewhere, or nothing."""

from __future__ import annotations

import math
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
        self._first = self._told = run.step
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
            self.say(f"{self._place()}  {self._numbers(loss, lr)}{self._rest(now)}")

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
        """One evaluation further: the mean loss since the one before, and what was measured."""
        history = self.run.history
        recent = history.losses[self._told :]
        self._told = self.run.step
        loss = f"  loss {math.fsum(recent) / len(recent):.4f}" if recent else ""
        self.say(f"{self._place()}{loss}{_values(history.evaluations[-1])}")

    def epoch(self) -> None:
        """One epoch further, where nothing is measured between two epochs."""
        row = self.run.history.epochs[-1]
        place = self._place() if self.epochs is None else f"epoch {self.run.epoch}/{self.epochs}"
        self.say(f"{place}  loss {row['loss']:.4f}{_values(row)}  {row['seconds']:.1f} s")

    def _place(self) -> str:
        return f"step {self.run.step}" + ("" if self.steps is None else f"/{self.steps}")

    def say(self, text: str) -> None:
        """A line that does not tear the bar apart."""
        self._shown = perf_counter()
        if self._bar is not None:
            self._bar.write(text)
        elif self.wanted:
            print(text, flush=True)


def _values(row: dict[str, float]) -> str:
    shown = [f"  {k.replace('_', ' ')} {v:.4f}" for k, v in row.items() if k.startswith("val_")]
    return "".join(shown)
