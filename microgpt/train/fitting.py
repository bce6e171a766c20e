"""`fit`: the training loop as it is called."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from microgpt.nn import Module
from microgpt.optim import Optimizer, Schedule
from microgpt.train.evaluation import Metrics
from microgpt.train.logs import Logger
from microgpt.train.loop import Loop
from microgpt.train.run import Callback, History, Run
from microgpt.train.saving import Saver
from microgpt.train.settings import Settings


def fit(
    model: Module,
    loss: Callable[..., Any],
    optimizer: Optimizer,
    batches: Any,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    val: Iterable[Any] | None = None,
    metrics: Metrics | None = None,
    eval_every: int | None = None,
    schedule: Schedule | None = None,
    clip_norm: float | None = None,
    accumulate: int = 1,
    patience: int | None = None,
    keep_best: bool = True,
    callbacks: Iterable[Callback] = (),
    loggers: Iterable[Logger] = (),
    log_every: int = 10,
    out: str | Path | None = None,
    resume: bool = False,
    save_every: int | None = None,
    keep: int = 2,
    progress: bool = True,
) -> History:
    """Train `model` for `epochs` passes over `batches`, or for `steps` optimizer steps.

    Args:
        loss: called with the model's output and the last array of each batch; a mean over the
            targets that count (see `evaluate`).
        batches: an iterable of tuples (inputs…, target) of NumPy arrays or tensors, one pass per
            epoch; `mg.data.batches` can be resumed in the middle of one.
        epochs, steps: how long; one of them. Both count from the start of the run, before it was
            resumed. Steps go on into the next epoch.
        val: batches to evaluate on after every epoch, or every `eval_every` steps, and at the end;
            `metrics` are computed there.
        schedule: stepped after every optimizer step.
        clip_norm: limit of the joint norm of the gradients of the optimizer's parameters.
        accumulate: batches per optimizer step. Each weighs as much as the number of its targets
            that count, so the step is that of one batch of them all. The last step of an epoch
            has the batches that are left.
        patience: end after so many evaluations in a row whose val_loss is not below the best.
        keep_best: keep the checkpoint with the lowest val_loss in ``out/best``.
        loggers: get the numbers of every `log_every`-th step and of every evaluation; with `out`
            they are written to ``out/log.jsonl`` too. Without `clip_norm` the norm of the gradient
            is computed for these steps only.
        out: folder for checkpoints, written after every epoch, every `save_every` steps, at the end
            and when the training is interrupted; the last `keep` are kept. It is locked meanwhile.
        resume: go on from the newest checkpoint in `out`, if there is one. The resumed run equals
            the unbroken one bit for bit, its log too except for times, if seeds were given and
            `batches` are of `mg.data`.
        progress: show a bar with loss, rate and remaining time (needs tqdm; extra: train), or,
            where there is no terminal, a line per evaluation (or per epoch) and every 10 seconds.

    Returns:
        The history. After Ctrl-C (SIGINT) or SIGTERM it has `interrupted=True` and the number of
        the `signal`: the step in progress was finished and a checkpoint written. A second Ctrl-C
        raises KeyboardInterrupt at once.

    Raises:
        AnomalyError: when the loss, or a norm that is computed, is NaN or infinite: it names the
            first op that made it so. Nothing has been saved of that step.
        InputError: if settings do not fit together, if there are no batches, or if `out` has
            checkpoints and `resume` is not set.
        CheckpointError: if another process trains into `out`, or if its checkpoint is damaged.

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
    settings = Settings(
        epochs, steps, eval_every, clip_norm, accumulate, patience, keep_best, log_every,
        save_every, keep,
    )  # fmt: skip
    settings.check(val is not None, out is not None, resume)
    run = Run(model, optimizer, History())
    with ExitStack() as stack:
        saver = stack.enter_context(Saver(run, batches, val, schedule, out, settings))
        saver.begin(resume)
        loop = Loop(run, saver, settings, loss, metrics, list(callbacks), list(loggers))
        loop.start(stack, progress)
        loop.train()
    return run.history
