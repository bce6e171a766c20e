"""What `microgpt train` prints before and after the training itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from microgpt.cli.text import fields
from microgpt.runs import KINDS, Outcome, Settings
from microgpt.runs.building import Parts, total_steps, warmup_steps
from microgpt.runs.words import count


def run(out: Path, train: Callable[[Callable[[Parts], None]], Outcome]) -> int:
    """Train, with a head and a foot; the exit status."""
    made: list[Parts] = []

    def show(parts: Parts) -> None:
        announce(parts, out)
        print(flush=True)
        made.append(parts)

    outcome = train(show)
    (parts,) = made
    history = outcome.history
    if outcome.done and outcome.done == len(history.losses) and not history.interrupted:
        print(nothing_to_do(parts, outcome, out))
        print(f"\nNext: {following(parts.settings, out)}")
        return 0
    if history.interrupted:
        print(f"\nGo on with: microgpt train --resume {out}")
        return 128 + (history.signal or 2)
    print()
    print(closing(parts, outcome, out))
    print(f"\nNext: {following(parts.settings, out)}")
    return 0


def announce(parts: Parts, out: Path) -> None:
    """What is trained on what, where."""
    settings, material = parts.settings, parts.material
    rows = [
        ("model", describe(settings, parts.model)),
        ("data", material.title),
        ("source", material.origin),
        ("training", _course(parts)),
        ("computes", computes(settings, parts.model)),
        ("folder", str(out)),
    ]
    if 0 < parts.done < total_steps(settings, material):
        rows.append(("goes on", _going_on(parts)))
    print(fields(rows, indent=0))


def _going_on(parts: Parts) -> str:
    said = f"after {count(parts.done, 'step')}"
    if parts.done in parts.settings.found.resumed_at:
        said += (
            "; its length is another now, and the learning rate follows the new one from here: the "
            "weights will differ from those of a run that had this length from the start"
        )
    return said


def nothing_to_do(parts: Parts, outcome: Outcome, out: Path) -> str:
    """Why a run did not go on."""
    why, more = "is finished", "epochs" if parts.settings.training.epochs else "steps"
    if outcome.history.stopped_early:
        why, more = "was ended by its patience", "patience"
    return (
        f"There is nothing to do: {out} {why}, after {count(outcome.done, 'step')}; more "
        f"--{more} would let it go on."
    )


def describe(settings: Settings, model: Any) -> str:
    """A model in one line: gpt, 4,192 parameters (context=16, width=16, …)."""
    shown = ", ".join([entry(name, value) for name, value in vars(settings.model).items()])
    return f"{settings.kind}, {model.num_parameters():,} parameters ({shown})"


def entry(name: str, value: Any) -> str:
    """A setting, such as width=64, without a space at which a line could be broken."""
    if isinstance(value, tuple):
        value = "-".join(map(str, value)) or "none"
    return f"{name}={str(value).lower() if isinstance(value, bool) else value}"


def computes(settings: Settings, model: Any) -> str:
    """Where a model computes: numpy on cpu, float32, seed 0."""
    sample = model.parameters()[0]
    return f"{sample.backend} on {sample.device}, {sample.dtype}, seed {settings.compute.seed}"


def _course(parts: Parts) -> str:
    settings, material = parts.settings, parts.material
    training, rule, schedule = settings.training, settings.optimizer, settings.schedule.schedule
    epochs = f" in {count(training.epochs, 'epoch')}" if training.epochs else ""
    size, every = training.batch * training.accumulate, material.train.examples
    of = count(size, "example") if size <= every else f"{count(every, 'example')} (all there are)"
    falling = {
        "constant": "",
        "linear": ", falling in a line",
        "cosine": ", falling along a cosine",
    }
    rise = warmup_steps(settings, material)
    rising = f" after {count(rise, 'step')} of warm-up" if rise else ""
    return (
        f"{count(total_steps(settings, material), 'step')}{epochs} of {of}, {rule.optimizer} with "
        f"rate {rule.lr:g}{falling[schedule]}{rising}"
    )


def closing(parts: Parts, outcome: Outcome, out: Path) -> str:
    """How good the model is, and where it lies."""
    lines = [("trained", _trained(outcome))]
    if outcome.scores:
        lines.append((outcome.split, scores_line(outcome.scores, parts.material.tokenizer)))
    lines.append(("folder", f"{out} (settings, weights, log)"))
    return fields(lines, indent=0)


def _trained(outcome: Outcome) -> str:
    history = outcome.history
    parts = [count(len(history.losses), "step")]
    if history.losses:
        recent = history.losses[-100:]
        over = f"mean loss of the last {len(recent)} steps" if len(recent) > 1 else "loss"
        parts.append(f"{over} {math.fsum(recent) / len(recent):.4f}")
    if history.best is not None:
        where = f"in step {int(history.best['step']):,}"
        parts.append(f"best validation loss {history.best['val_loss']:.4f} {where}")
    if history.stopped_early:
        parts.append("ended early, by patience")
    return "; ".join(parts)


def scores_line(scores: Mapping[str, float], tokenizer: Any) -> str:
    """loss 2.1034, perplexity 8.19 per token / loss 0.1234, accuracy 97.31 %."""
    words = [f"loss {scores['loss']:.4f}"]
    if tokenizer is not None:
        among = perplexity(scores["loss"])
        words.append(f"perplexity {among:.2f}" if among < 10_000 else f"perplexity {among:.4g}")
    if "accuracy" in scores:
        words.append(f"accuracy {scores['accuracy']:.2%}")
    return ", ".join(words)


def perplexity(loss: float) -> float:
    """Among how many equally likely tokens the model still has to choose: e to the loss."""
    return math.exp(loss) if loss < 700 else math.inf


def following(settings: Settings, out: Path) -> str:
    """The command to try next."""
    if not KINDS[settings.kind].writes:
        return f"microgpt eval {out}"
    if settings.data.documents == "lines":
        return f"microgpt sample {out} --count 10"
    return f"microgpt sample {out} --stream --max-tokens 500"
