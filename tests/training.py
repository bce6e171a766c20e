"""A small training with everything in it, for the tests of `mg.train`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

import microgpt as mg
from microgpt import nn, optim, train

X = np.random.default_rng(0).standard_normal((23, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


class Stop(train.Callback):
    """Ends the training after some steps."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_step(self, run: train.Run) -> None:
        if run.step == self.after:
            raise train.StopTraining


def parts(**changes: Any) -> dict[str, Any]:
    """Arguments of `fit`: 5 batches per epoch, 3 epochs, dropout, AdamW, a schedule, clipping."""
    model = nn.Sequential(
        nn.Linear(4, 8, generator=mg.generator(1)),
        nn.Tanh(),
        nn.Dropout(0.3, generator=mg.generator(2)),
        nn.Linear(8, 2, generator=mg.generator(3)),
    )
    optimizer = optim.AdamW(model.parameters(), lr=0.05)
    return {
        "model": model,
        "loss": mg.cross_entropy,
        "optimizer": optimizer,
        "batches": mg.data.batches(X, Y, batch_size=5, seed=4),
        "schedule": optim.CosineAnnealingLR(optimizer, 15),
        "clip_norm": 1.0,
        "epochs": 3,
        "progress": False,
        **changes,
    }


def rich(**changes: Any) -> dict[str, Any]:
    """`parts` with accumulation over uneven groups (2, 2, 1 batches) and a shuffled `val`."""
    val = mg.data.batches(X[:10], Y[:10], batch_size=3, seed=9)
    return parts(
        accumulate=2, val=val, metrics={"accuracy": train.accuracy}, log_every=1, **changes
    )


def log_of(out: Path) -> list[dict[str, Any]]:
    """The lines of a log without times."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if "second" not in k} for row in lines]


def evidence(made: dict[str, Any], history: train.History, out: Path | None = None) -> Any:
    """Everything that two equal runs have in common, to the bit."""
    model, optimizer = made["model"], made["optimizer"]
    best = parts()["model"]
    if out is not None and (out / "best").exists():
        mg.checkpoints.load(out / "best", best)
    return {
        "weights": [p.numpy().tobytes() for p in model.parameters()],
        "optimizer": json.dumps(optimizer.state_dict(), default=lambda a: a.tolist()),
        "schedule": made["schedule"].state_dict(),
        "dropout": model[2].generator.bit_generator.state,
        "losses": history.losses,
        "grad_norms": history.grad_norms,
        "evaluations": history.evaluations,
        "epochs": [{k: v for k, v in row.items() if k != "seconds"} for row in history.epochs],
        "best": history.best,
        "stopped_early": history.stopped_early,
        "best weights": [p.numpy().tobytes() for p in best.parameters()],
        "log": None if out is None else log_of(out),
    }
