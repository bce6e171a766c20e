"""Small runs, for the tests of `mg.runs`."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from microgpt import checkpoints, runs, train

NAMES = [a + b + c for a in ("an", "be", "ka") for b in ("na", "ri", "lo", "t") for c in "aeiny"]
PROSE = "the cat sat on the mat, and then it went home.\n\n" * 30
QUICK = {"steps": 7, "batch": 3, "eval_every": 3, "save_every": 2, "seed": 5}
TINY = {"width": 8, "layers": 1, "heads": 2, "context": 6, "dropout": 0.2}
CELLS = {"embedding": 4, "hidden": 6, "context": 6}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt on lines": ("gpt", {"data": "lines.txt", **TINY}),
    "gpt on prose": ("gpt", {"data": "prose.txt", "tokenizer": "byte", **TINY}),
    "mlp": ("mlp", {"hidden": [6], "limit": 60}),
    "cnn": ("cnn", {"channels": [2, 3], "limit": 40}),
    "lstm on lines": ("lstm", {"data": "lines.txt", **CELLS}),
    "lstm on prose": ("lstm", {"data": "prose.txt", **CELLS}),
    "lstm-classifier": ("lstm", {"data": "japanese-vowels", "hidden": 4, "limit": 40}),
}


def write_texts() -> None:
    """The files that `CASES` name, in the working folder."""
    Path("lines.txt").write_text("\n".join(NAMES))
    Path("prose.txt").write_text(PROSE)


def small(case: str = "gpt on lines", **changes: Any) -> runs.Settings:
    kind, settings = CASES[case]
    return runs.configure(kind, **{**QUICK, **settings, **changes})


def go(settings: runs.Settings, out: str = "run", **how: Any) -> runs.Outcome:
    return runs.start(settings, out, progress=False, **how)


def weights(out: str) -> str:
    """A digest of those of the newest checkpoint: pytest would compare bytes for minutes."""
    content = (checkpoints.checkpoints(out)[-1] / "model.safetensors").read_bytes()
    return hashlib.sha256(content).hexdigest()


class Stop(train.Callback):
    """Ends a training before its time, as a signal does."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_step(self, run: train.Run) -> None:
        if run.step == self.after:
            raise train.StopTraining


def broken_off(monkeypatch: pytest.MonkeyPatch, settings: runs.Settings, after: int) -> None:
    whole = train.fit
    with monkeypatch.context() as patch:
        patch.setattr(train, "fit", lambda *a, **k: whole(*a, **k, callbacks=[Stop(after)]))
        go(settings, "broken")
