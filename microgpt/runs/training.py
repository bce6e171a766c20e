"""Starting a run, and going on with one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from microgpt import train
from microgpt.errors import ConfigError
from microgpt.runs import building, files, folder, loading
from microgpt.runs.settings import Settings

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
    """

    history: train.History
    scores: dict[str, float]
    split: str


def start(
    settings: Settings,
    out: str | Path,
    *,
    overwrite: bool = False,
    announce: Announce | None = None,
    progress: bool = True,
) -> Outcome:
    """Train what the settings say in a new folder.

    Args:
        out: the folder; refused if there is something in it.
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
    with building.place(settings):
        parts = building.build(settings)
        if announce is not None:
            announce(parts)
        folder.begin(out, parts.settings, parts.material.tokenizer, overwrite)
        return _fit(parts, Path(out), resume=False, progress=progress)


def resume(
    out: str | Path,
    settings: Settings | None = None,
    *,
    announce: Announce | None = None,
    progress: bool = True,
) -> Outcome:
    """Go on with an interrupted run; the result equals that of an unbroken one bit for bit.

    Args:
        settings: the run's own, or with changes to what may change (`CHANGEABLE`).

    Raises:
        InputError: if there is no run in the folder.
        ConfigError: if settings differ that may not.
        CheckpointError: if the checkpoint is damaged.
    """
    place = folder.require_run(out)
    settings = _reconciled(files.load(place / folder.SETTINGS), settings, place)
    with building.place(settings):
        parts = building.build(settings, folder.tokenizer_of(place))
        if announce is not None:
            announce(parts)
        files.write(parts.settings, place / folder.SETTINGS)
        return _fit(parts, place, resume=True, progress=progress)


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


def _fit(parts: building.Parts, out: Path, *, resume: bool, progress: bool) -> Outcome:
    table, material = parts.settings.training, parts.material
    history = train.fit(
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
        loggers=[train.TensorBoard(out / folder.TENSORBOARD)] if table.tensorboard else [],
        out=out,
        resume=resume,
        progress=progress,
    )
    if history.interrupted:
        return Outcome(history, {}, "")
    loading.take_weights(parts.model, out)
    return Outcome(history, *loading.judge(parts.model, material))
