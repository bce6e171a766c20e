"""The training loop: progress, history, validation, Ctrl-C, checkpoints and exact resume."""

from __future__ import annotations

import math
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from microgpt import checkpoints
from microgpt.autograd import attach
from microgpt.errors import AnomalyError, InputError, InputTypeError
from microgpt.graph import no_grad
from microgpt.nn import Module
from microgpt.ops.indexing import host_array
from microgpt.optim import Optimizer, Schedule, clip_grad_norm_
from microgpt.plugins import registry
from microgpt.tensor import Tensor

Metrics = Mapping[str, Callable[[Any, Any], float]]


class StopTraining(Exception):
    """Raised by a callback to end the training cleanly."""


@dataclass
class History:
    """What happened: the loss of every step, and one row per epoch."""

    losses: list[float] = field(default_factory=list)
    epochs: list[dict[str, float]] = field(default_factory=list)
    interrupted: bool = False


@dataclass
class Run:
    """What callbacks get to see."""

    model: Module
    optimizer: Optimizer
    history: History
    epoch: int = 0
    step: int = 0


class Callback:
    """Base class of callbacks; raise `StopTraining` in any method to end cleanly."""

    def on_step(self, run: Run) -> None:
        """After every step; `run.history.losses[-1]` is its loss."""

    def on_epoch(self, run: Run) -> None:
        """After every epoch; `run.history.epochs[-1]` is its row."""


def accuracy(outputs: Any, targets: Any) -> float:
    """Share of rows whose largest output is at the place of the target.

    Args:
        outputs: (n, classes).
        targets: (n,) class numbers.

    Example:
        >>> import microgpt as mg
        >>> mg.train.accuracy(mg.eye(2), mg.tensor([0, 0]))
        0.5
    """
    right = host_array(outputs).argmax(axis=-1) == host_array(targets)
    return float(right.mean())


def evaluate(
    model: Module, loss: Callable[..., Any], batches: Iterable[Any], metrics: Metrics | None = None
) -> dict[str, float]:
    """Loss and metrics over all batches, weighted by their sizes, without training.

    The size of a batch is the number of its targets, whether or not the loss ignores some.

    Example:
        >>> import numpy as np
        >>> import microgpt as mg
        >>> model, x = mg.nn.Linear(2, 2), np.zeros((4, 2), np.float32)
        >>> batches = mg.data.batches(x, np.zeros(4, int), batch_size=2)
        >>> sorted(mg.train.evaluate(model, mg.cross_entropy, batches))
        ['loss']
    """
    was_training = model.training
    model.eval()
    totals: dict[str, float] = {}
    count = 0
    place = _home(model)
    try:
        with no_grad():
            for batch in batches:
                *inputs, target = _tensors(batch, place)
                outputs = model(*inputs)
                values = {"loss": loss(outputs, target).item()}
                values |= {name: f(outputs, target) for name, f in (metrics or {}).items()}
                size = len(target)
                count += size
                for name, value in values.items():
                    totals[name] = totals.get(name, 0.0) + value * size
    finally:
        model.train(was_training)
    if not count:
        raise InputError("evaluate got no batches (a generator that was used up?)")
    return {name: total / count for name, total in totals.items()}


def fit(
    model: Module,
    loss: Callable[..., Any],
    optimizer: Optimizer,
    batches: Any,
    *,
    epochs: int,
    val: Iterable[Any] | None = None,
    metrics: Metrics | None = None,
    schedule: Schedule | None = None,
    clip_norm: float | None = None,
    callbacks: Iterable[Callback] = (),
    out: str | Path | None = None,
    resume: bool = False,
    save_every: int | None = None,
    keep: int = 2,
    progress: bool = True,
) -> History:
    """Train `model` for `epochs` passes over `batches`.

    Args:
        loss: called with the model's output and the last array of each batch.
        batches: an iterable of tuples (inputs…, target) of NumPy arrays or tensors, one pass per
            epoch; `mg.data.batches` can be resumed in the middle of one.
        val: batches to evaluate on after every epoch; `metrics` are computed there.
        schedule: stepped after every optimizer step.
        clip_norm: limit of the joint norm of the gradients.
        out: folder for checkpoints, written after every epoch, every `save_every` steps, and when
            the training is interrupted; the last `keep` are kept.
        resume: go on from the newest checkpoint in `out`, if there is one. The resumed run equals
            the unbroken one bit for bit, if seeds were given and `batches` are of `mg.data`.
        progress: show a bar (needs tqdm; extra: train), or one line per epoch where there is no
            terminal.

    Returns:
        The history. After Ctrl-C it has `interrupted=True`: the step in progress was finished and
        a checkpoint written. A second Ctrl-C raises KeyboardInterrupt at once.

    Raises:
        AnomalyError: when the loss is NaN or infinite; nothing has been saved of that step.

    Example:
        >>> import numpy as np
        >>> import microgpt as mg
        >>> x = np.linspace(-1, 1, 8, dtype=np.float32)[:, None]
        >>> model = mg.nn.Linear(1, 1, generator=mg.generator(0))
        >>> history = mg.train.fit(
        ...     model, mg.mse_loss, mg.optim.SGD(model.parameters(), lr=0.5),
        ...     mg.data.batches(x, 2 * x + 1, batch_size=4, seed=0), epochs=20, progress=False)
        >>> round(model.weight.item(), 2), round(model.bias.item(), 2)
        (2.0, 1.0)
    """
    if epochs < 1:
        raise InputError(f"fit needs epochs >= 1; got {epochs}")
    if resume and out is None:
        raise InputError("fit(resume=True) needs out=, the folder with the checkpoints")
    run = Run(model, optimizer, History())
    saver = _Saver(run, batches, schedule, out, keep)
    if resume:
        saver.restore()
    place = _home(model)
    model.train()
    observers = list(callbacks)
    with _interrupts() as interrupted, _Bar(progress, epochs, batches, run) as bar:
        try:
            while run.epoch < epochs:
                started = perf_counter()
                for batch in saver.rest_of_epoch():
                    value = _step(run, loss, _tensors(batch, place), clip_norm)
                    if schedule is not None:
                        schedule.step()
                    saver.seen += 1
                    bar.step(value)
                    for observer in observers:
                        observer.on_step(run)
                    if interrupted():
                        raise StopTraining
                    if save_every and run.step % save_every == 0:
                        saver.save()
                _finish_epoch(run, saver, loss, val, metrics, perf_counter() - started)
                bar.epoch()
                for observer in observers:
                    observer.on_epoch(run)
                saver.save()
        except StopTraining:
            run.history.interrupted = interrupted()
            saver.save()
            if run.history.interrupted:
                where = f"; saved in {out}, go on with resume=True" if out else ""
                bar.say(f"interrupted after step {run.step}{where}")
    return run.history


def _step(run: Run, loss: Callable[..., Any], batch: list[Any], clip_norm: float | None) -> float:
    """Forward, backward, change the parameters."""
    *inputs, target = batch
    result = loss(run.model(*inputs), target)
    value = float(result.item())
    if not math.isfinite(value):
        raise AnomalyError(
            f"the loss is {value} in step {run.step + 1}; run that step under mg.debug() to see "
            "which op made the first NaN or infinity (a smaller learning rate, or clip_norm=1.0, "
            "often helps)"
        )
    run.optimizer.zero_grad()
    result.backward()
    if clip_norm is not None:
        clip_grad_norm_(run.model.parameters(), clip_norm)
    run.optimizer.step()
    run.step += 1
    run.history.losses.append(value)
    return value


def _finish_epoch(
    run: Run,
    saver: _Saver,
    loss: Callable[..., Any],
    val: Iterable[Any] | None,
    metrics: Metrics | None,
    seconds: float,
) -> None:
    if not saver.seen:
        raise InputError("fit got no batches (a generator that was used up?)")
    recent = run.history.losses[-saver.seen :]
    row = {"epoch": run.epoch + 1, "loss": math.fsum(recent) / len(recent), "seconds": seconds}
    if val is not None:
        found = evaluate(run.model, loss, val, metrics)
        row |= {f"val_{name}": value for name, value in found.items()}
    run.history.epochs.append(row)
    run.epoch += 1
    saver.seen = 0


# ---- batches ---------------------------------------------------------------------------------


def _home(model: Module) -> Tensor | None:
    """A parameter, to see where the model lives and in which float type."""
    return next(iter(model.parameters()), None)


def _tensors(batch: Any, like: Tensor | None) -> list[Any]:
    """The parts of a batch as tensors where the model lives, floats in its type."""
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise InputTypeError(
            f"a batch is a tuple (inputs…, target); got {type(batch).__name__}"
            + (f" of {len(batch)}" if isinstance(batch, (tuple, list)) else "")
        )
    if like is None:
        backend, device, wanted = registry.backend(), None, None
    else:
        backend = registry.backend_of(like._data)
        device, wanted = backend.device(like._data), backend.dtype(like._data)
    parts = []
    for part in batch:
        if not isinstance(part, Tensor):
            host = np.asarray(part)
            part = attach(
                Tensor, backend.asarray(host, wanted if host.dtype.kind == "f" else None, device)
            )
        parts.append(part)
    return parts


# ---- interruption and saving -----------------------------------------------------------------


@contextmanager
def _interrupts() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a flag that is looked at between steps."""
    flag = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield flag.is_set
        return

    def handle(number: int, frame: Any) -> None:
        if flag.is_set():
            raise KeyboardInterrupt
        flag.set()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield flag.is_set
    finally:
        signal.signal(signal.SIGINT, before)


class _Saver:
    """Saves a run and brings it back."""

    def __init__(
        self, run: Run, batches: Any, schedule: Schedule | None, out: Any, keep: int
    ) -> None:
        self.run, self.batches, self.schedule = run, batches, schedule
        self.out, self.keep = out, keep
        self.seen = 0
        """Batches of the present epoch that were used."""
        self._skip = 0

    def rest_of_epoch(self) -> Iterator[Any]:
        """The batches of the epoch, without those that a run before an interruption used."""
        skip, self._skip = self._skip, 0
        for i, batch in enumerate(self.batches):
            if i >= skip:
                yield batch

    def save(self) -> None:
        """Write a checkpoint, if there is a folder for it."""
        if self.out is None:
            return
        run = self.run
        resumable = hasattr(self.batches, "state_dict")
        state = {
            "optimizer": run.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "batches": self.batches.state_dict() if resumable else None,
            "losses": np.array(run.history.losses),
            "epochs": run.history.epochs,
            "epoch": run.epoch,
            "seen": self.seen,
        }
        checkpoints.save(self.out, run.step, run.model, state, self.keep)

    def restore(self) -> None:
        """Bring back the newest checkpoint, if there is one."""
        run = self.run
        state = checkpoints.load(self.out, run.model)
        if state is None:
            return
        run.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None and state["schedule"] is not None:
            self.schedule.load_state_dict(state["schedule"])
        run.history.losses = state["losses"].tolist()
        run.history.epochs = state["epochs"]
        run.epoch, run.step, self.seen = state["epoch"], state["step"], state["seen"]
        if hasattr(self.batches, "load_state_dict") and state["batches"] is not None:
            self.batches.load_state_dict(state["batches"])
        else:
            self._skip = self.seen


class _Bar:
    """A tqdm bar on a terminal, one line per epoch elsewhere, or nothing."""

    def __init__(self, wanted: bool, epochs: int, batches: Any, run: Run) -> None:
        self.run, self.epochs = run, epochs
        self.lines = wanted
        self.bar: Any = None
        self.total = epochs * len(batches) if hasattr(batches, "__len__") else None
        if wanted and sys.stderr is not None and sys.stderr.isatty():
            try:
                from tqdm import tqdm
            except ImportError:
                return  # one line per epoch is the progress, then
            self.bar = tqdm(total=self.total, initial=run.step, unit="step", leave=False)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def step(self, loss: float) -> None:
        """One step further."""
        if self.bar is not None:
            self.bar.update()
            if self.run.step % 50 == 0:
                self.bar.set_postfix_str(f"loss {loss:.4f}", refresh=False)

    def epoch(self) -> None:
        """One epoch further."""
        row = self.run.history.epochs[-1]
        shown = [f"loss {row['loss']:.4f}"]
        shown += [f"{k.replace('_', ' ')} {v:.4f}" for k, v in row.items() if k.startswith("val_")]
        self.say(
            f"epoch {self.run.epoch}/{self.epochs}  {'  '.join(shown)}  {row['seconds']:.1f} s"
        )

    def say(self, text: str) -> None:
        """A line that does not tear the bar apart."""
        if self.bar is not None:
            self.bar.write(text)
        elif self.lines:
            print(text, flush=True)
