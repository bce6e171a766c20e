"""The training loop: steps, and between them whatever is due."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from time import perf_counter
from typing import Any

from microgpt.errors import InputError
from microgpt.train.evaluation import Metrics, measure
from microgpt.train.logs import JSONLines, Logger
from microgpt.train.progress import Progress, Rate
from microgpt.train.run import Callback, Run, StopTraining
from microgpt.train.saving import Saver, state_of
from microgpt.train.settings import Settings
from microgpt.train.signals import Interrupts
from microgpt.train.step import Stepper


class Loop:
    """One call of `fit`."""

    def __init__(
        self,
        run: Run,
        saver: Saver,
        settings: Settings,
        loss: Callable[..., Any],
        metrics: Metrics | None,
        callbacks: list[Callback],
        loggers: list[Logger],
    ) -> None:
        self.run, self.saver, self.settings, self.loss = run, saver, settings, loss
        self.metrics, self.callbacks, self.loggers = metrics, callbacks, loggers
        batches = saver.batches
        self.length = len(batches) if hasattr(batches, "__len__") else None
        self.stepper = Stepper(run, loss, settings)
        self.rate = Rate()
        self._mark = [0.0, 0.0]
        self._lines: JSONLines | None = None
        self.began = perf_counter() - saver.position.elapsed

    def start(self, stack: ExitStack, progress: bool) -> None:
        """Get loggers, signals and the bar ready; `stack` puts everything back."""
        settings, run, saver = self.settings, self.run, self.saver
        if saver.out is not None:
            self._lines = JSONLines(saver.out / "log.jsonl")
            self._lines.lines = saver.position.lines
            self.loggers.append(self._lines)
        for logger in self.loggers:
            stack.callback(logger.close)
            logger.start(run.step)
        total = settings.steps
        if total is None and self.length is not None and settings.epochs is not None:
            total = settings.epochs * -(-self.length // settings.accumulate)
        self.progress = Progress(progress, run, settings.epochs, total, self.rate)
        stack.callback(self.progress.close)
        self.interrupts = stack.enter_context(Interrupts())

    # ---- the loop ----------------------------------------------------------------------------

    def train(self) -> None:
        """Steps until the end, a reason to stop, or a signal."""
        run, saver, settings = self.run, self.saver, self.settings
        run.model.train()
        self._judge()
        try:
            if settings.eval_every and run.step and run.step % settings.eval_every == 0:
                self._evaluate()  # what the run before an interruption did not come to
            while not self._finished():
                self._epoch()
            if saver.val is not None:
                self._evaluate()
        except StopTraining:
            pass
        self._save()
        if self.interrupts.received is not None:
            run.history.interrupted, run.history.signal = True, self.interrupts.received
            where = f"; saved in {saver.out}" if saver.out else ""
            self.progress.say(f"interrupted after step {run.step}{where}")

    def _finished(self) -> bool:
        """Whether the run is over; an epoch all of whose batches are used is closed first."""
        settings, run = self.settings, self.run
        if settings.epochs is not None:
            enough = run.epoch >= settings.epochs
        else:
            enough = run.step >= settings.steps  # pyright: ignore[reportOperatorIssue]
        position = self.saver.position
        used_up = position.ended or position.seen == self.length
        return (enough or run.history.stopped_early) and (not position.seen or not used_up)

    def _epoch(self) -> None:
        """The rest of an epoch, or as much of it as there are steps to take."""
        run, saver, settings = self.run, self.saver, self.settings
        position, schedule = saver.position, saver.schedule
        groups = run.optimizer.param_groups
        every, save_every, log_every = settings.eval_every, settings.save_every, settings.log_every
        started = perf_counter() - position.seconds
        then = perf_counter()
        for group in saver.groups(settings.accumulate):
            lr = groups[0]["lr"]
            logged = (run.step + 1) % log_every == 0
            value = self._step(group, logged)
            if schedule is not None:
                schedule.step()
            position.seen += len(group)
            now = perf_counter()
            self.rate.busy += now - then
            position.seconds = now - started
            if logged:
                self._log(value, lr)
            self.progress.step(value, lr, now)
            for callback in self.callbacks:
                callback.on_step(run)
            self.interrupts.pause()
            if every and run.step % every == 0:
                self._evaluate()
            if save_every and run.step % save_every == 0:
                self._save()
            if self._finished():
                return
            self.interrupts.pause()
            then = perf_counter()
        self._finish_epoch(perf_counter() - started)

    def _step(self, group: list[Any], logged: bool) -> float:
        """One optimizer step, and its place in the history."""
        stepper, history, position = self.stepper, self.run.history, self.saver.position
        value = stepper.take(group, logged)
        self.progress.unit = stepper.unit
        history.losses.append(value)
        if stepper.norm is not None:
            history.grad_norms[self.run.step] = stepper.norm
        position.total += value * stepper.count
        position.count += stepper.count
        self.rate.units += stepper.units
        return value

    # ---- between steps -----------------------------------------------------------------------

    def _evaluate(self) -> None:
        """Measure on `val`, unless that was done after this step."""
        run, saver, position = self.run, self.saver, self.saver.position
        if position.evaluated == run.step:
            return
        before = state_of(saver.val)
        try:
            found = measure(run.model, self.loss, saver.val, self.metrics, self.interrupts.pause)
        except BaseException:
            if before is not None:  # begin anew when the run goes on
                saver.val.load_state_dict(before)
            raise
        row: dict[str, Any] = {"step": run.step, "epoch": run.epoch + 1}
        row |= {f"val_{name}": value for name, value in found.items()}
        history, value = run.history, row["val_loss"]
        history.evaluations.append(row)
        position.evaluated = run.step
        self._write({**row, "seconds": self._elapsed()})
        if value == value and (history.best is None or value < history.best["val_loss"]):
            history.best, position.waited = dict(row), 0
            if self.settings.keep_best:
                self._note()
                saver.save_best()
        else:
            position.waited += 1
        if self.settings.eval_every:
            self.progress.evaluation()
        for callback in self.callbacks:
            callback.on_evaluation(run)
        self._judge()

    def _judge(self) -> None:
        """Whether `patience` is at its end."""
        history, patience = self.run.history, self.settings.patience
        history.stopped_early = patience is not None and self.saver.position.waited >= patience
        if history.stopped_early and history.best is not None:
            self.progress.say(
                f"stopped early after step {self.run.step}: val_loss was best after step "
                f"{history.best['step']}, {history.best['val_loss']:.4f}"
            )

    def _finish_epoch(self, seconds: float) -> None:
        run, saver, position = self.run, self.saver, self.saver.position
        if not position.seen:
            raise InputError("fit got no batches (a generator that was used up?)")
        if saver.val is not None and not self.settings.eval_every:
            self._evaluate()
        loss = position.total / position.count if position.count else 0.0
        row: dict[str, float] = {"epoch": run.epoch + 1, "loss": loss, "seconds": seconds}
        evaluations = run.history.evaluations
        if evaluations and evaluations[-1]["step"] == run.step:
            row |= {k: v for k, v in evaluations[-1].items() if k.startswith("val_")}
        run.history.epochs.append(row)
        run.epoch += 1
        position.seen, position.ended, position.seconds = 0, False, 0.0
        position.total, position.count = 0.0, 0
        if not self.settings.eval_every:
            self.progress.epoch()
        for callback in self.callbacks:
            callback.on_epoch(run)
        self._save()
        self.interrupts.pause()

    def _save(self) -> None:
        self._note()
        self.saver.save()

    def _note(self) -> None:
        """What a checkpoint says about the log and the time."""
        self.saver.position.elapsed = self._elapsed()
        if self._lines is not None:
            self.saver.position.lines = self._lines.lines

    def _elapsed(self) -> float:
        return round(perf_counter() - self.began, 3)

    def _log(self, loss: float, lr: float) -> None:
        stepper = self.stepper
        if not self.loggers:
            return
        self._write(
            {
                "step": self.run.step,
                "epoch": self.run.epoch + 1,
                "loss": loss,
                "lr": lr,
                "grad_norm": stepper.norm,
                f"{stepper.unit}_per_second": round(self.rate.since(self._mark), 1),
                "seconds": self._elapsed(),
            }
        )

    def _write(self, row: dict[str, Any]) -> None:
        for logger in self.loggers:
            logger.log(row)
