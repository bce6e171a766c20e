"""Starting a run, and going on with one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from microgpt import train
from microgpt.errors import AnomalyError, ConfigError
from microgpt.runs import building, files, folder, loading
from microgpt.runs.settings import Settings
from microgpt.runs.words import count

CHANGEABLE = (
    "steps", "epochs", "eval_every", "save_every", "keep", "patience", "tensorboard",
    "backend", "device",
)  # fmt: skip
"""What may differ when a run goes on: how long it takes, what is kept, and where it computes."""

Announce = Callable[[building.Parts], object]


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Attributes:
        history: of the training, see `mg.train.History`.
        scores: loss and metrics on what was held out (on the test set, if there is one) with the
            best weights; empty if nothing was held out, or the run was interrupted.
        split: what `scores` were measured on: test or held-out.
        done: steps that were taken before this call, by a run that went on.
    """

    history: train.History
    scores: dict[str, float]
    split: str
    done: int = 0


def start(
    settings: Settings,
    out: str | Path,
    *,
    overwrite: bool = False,
    announce: Announce | None = None,
    progress: bool = True,
) -> Outcome:
    """Train what the settings say in a new folder.

    Settings of a run that got another length on its way (`resumed_at`) do not repeat it, of which
    a warning tells.

    Args:
        out: the folder; refused if there is something in it, except a run that has saved nothing.
        overwrite: replace a run that is there.
        announce: called with everything that was made, before the first step.
        progress: whether `fit` shows how far it is.

    Raises:
        InputError: if there is something in the folder.
        DataError: if the data are not to be had.

    Example:
        >>> import tempfile
        >>> from microgpt import runs
        >>> settings = runs.configure("mlp", hidden=[16], epochs=2)
        >>> with tempfile.TemporaryDirectory() as place:
        ...     outcome = runs.start(settings, f"{place}/digits", progress=False)
        >>> outcome.scores["accuracy"] > 0.5
        True
    """
    folder.require_free(out, overwrite)
    if settings.found.resumed_at:
        warnings.warn(_unlike(settings), stacklevel=2)
        settings = replace(settings, found=replace(settings.found, resumed_at=()))
    loggers = _loggers(settings, Path(out))
    with building.place(settings):
        parts = building.build(settings)
        if announce is not None:
            announce(parts)
        folder.begin(out, parts.settings, parts.material.tokenizer, overwrite)
        return _fit(parts, Path(out), loggers, resume=False, progress=progress)


def resume(
    out: str | Path,
    settings: Settings | None = None,
    *,
    announce: Announce | None = None,
    progress: bool = True,
) -> Outcome:
    """Go on with an interrupted run; the result equals that of an unbroken one bit for bit.

    A run may get another length. Its learning rate then follows the new length from where it goes
    on, so that the result differs from that of a run that had this length from the start; the
    settings say so by `resumed_at`. With a constant learning rate there is no difference.

    Args:
        settings: the run's own, or with changes to what may change (`CHANGEABLE`).

    Raises:
        InputError: if there is no run in the folder.
        ConfigError: if settings differ that may not, or ask for fewer steps than were taken.
        CheckpointError: if the checkpoint is damaged.
    """
    parts, place = continuation(out, settings), Path(out)
    loggers = _loggers(parts.settings, place)
    with building.place(parts.settings):
        if announce is not None:
            announce(parts)
        files.write(parts.settings, place / folder.SETTINGS)
        return _fit(parts, place, loggers, resume=True, progress=progress)


def continuation(out: str | Path, settings: Settings | None = None) -> building.Parts:
    """What `resume` goes on with; nothing is written. It raises what `resume` does."""
    place = folder.require_run(out)
    saved = files.load(place / folder.SETTINGS)
    settings = _reconciled(saved, settings, place)
    with building.place(settings):
        return _continued(building.build(settings, folder.tokenizer_of(place)), saved, place)


def _reconciled(saved: Settings, wanted: Settings | None, place: Path) -> Settings:
    if wanted is None:
        return saved
    if wanted.kind != saved.kind:
        raise ConfigError(f"{place} is a run of {saved.kind}; it cannot go on as {wanted.kind}")
    old, new = saved.flat(), wanted.flat()
    if Path(new["data"]).expanduser().resolve() == Path(old["data"]):  # named in another way
        new["data"] = old["data"]
    if new.get("documents") == "auto":
        new["documents"] = old["documents"]
    differ = [n for n in old if old[n] != new[n] and n not in (*CHANGEABLE, *vars(saved.found))]
    if differ:
        listed = ", ".join(f"{n} = {old[n]!r}, now {new[n]!r}" for n in differ)
        raise ConfigError(
            f"{place} cannot go on with other settings: {listed}. Start a new run: microgpt train "
            f"--config {place / folder.SETTINGS} --out NEW, with your changes"
        )
    return replace(wanted, data=saved.data, found=saved.found)


def _continued(parts: building.Parts, saved: Settings, place: Path) -> building.Parts:
    """What a run goes on with: refused if it is over already, marked if its length is another."""
    settings, done = parts.settings, folder.steps(place)
    total = building.total_steps(settings, parts.material)
    if total < done:
        table = settings.training
        wanted = f"steps={table.steps}"
        if table.epochs:
            wanted = f"epochs={table.epochs} ({count(total, 'step')})"
        raise ConfigError(
            f"{place} has {count(done, 'step')} already; got {wanted}. Start a new run: "
            f"microgpt train --config {place / folder.SETTINGS} --out NEW, with your changes"
        )
    marks = settings.found.resumed_at
    bends = settings.schedule.schedule != "constant" or settings.schedule.warmup > 0
    other = total != building.total_steps(saved, parts.material)
    if done and bends and other and marks[-1:] != (done,):
        found = replace(settings.found, resumed_at=(*marks, done))
        settings = replace(settings, found=found)
    return replace(parts, settings=settings, done=done)


def _unlike(settings: Settings) -> str:
    """Why settings do not repeat the run that they come from."""
    steps = " and ".join([count(step, "step") for step in settings.found.resumed_at])
    return (
        f"these settings are of a run that got another length after {steps} (resumed_at), "
        "and its learning rate another course from there; a run from them has one course from its "
        "first step, so its weights will be others"
    )


def _loggers(settings: Settings, out: Path) -> list[train.Logger]:
    """Made before anything is written, as a package may be missing."""
    return [train.TensorBoard(out / folder.TENSORBOARD)] if settings.training.tensorboard else []


def _fit(
    parts: building.Parts, out: Path, loggers: list[train.Logger], *, resume: bool, progress: bool
) -> Outcome:
    try:
        history = _history(parts, out, loggers, resume, progress)
    except AnomalyError as error:
        # Every line of a run is the package's own; the nearest one outside is that of the command.
        said = [line for line in str(error).split("\n") if not line.startswith("  at ")]
        raise AnomalyError("\n".join(said)) from error
    if history.interrupted:
        return Outcome(history, {}, "", parts.done)
    loading.take_weights(parts.model, out)
    return Outcome(history, *loading.judge(parts.model, parts.material), parts.done)


def _history(
    parts: building.Parts, out: Path, loggers: list[train.Logger], resume: bool, progress: bool
) -> train.History:
    table, material = parts.settings.training, parts.material
    return train.fit(
        parts.model,
        material.loss,
        parts.optimizer,
        material.train,
        epochs=table.epochs or None,
        steps=table.steps or None,
        val=material.held_out,
        metrics=material.metrics,
        schedule=parts.schedule,
        clip_norm=parts.settings.optimizer.clip_norm or None,
        accumulate=table.accumulate,
        eval_every=(table.eval_every or None) if material.held_out else None,
        patience=(table.patience or None) if material.held_out else None,
        keep_best=material.held_out is not None,
        save_every=table.save_every or None,
        keep=table.keep,
        loggers=loggers,
        out=out,
        resume=resume,
        progress=progress,
    )
