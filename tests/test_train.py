"""The training loop: exact resume, interruption, checkpoints that survive being killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt import checkpoints, nn, optim, train
from microgpt.errors import AnomalyError, CheckpointError, InputError, InputTypeError

X = np.random.default_rng(0).standard_normal((23, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)


class Stop(train.Callback):
    """Ends the training after some steps."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_step(self, run: train.Run) -> None:
        if run.step == self.after:
            raise train.StopTraining


def parts() -> dict[str, Any]:
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
    }


@pytest.mark.parametrize("after", [1, 5, 7, 10, 14])
def test_a_resumed_run_equals_the_unbroken_one_bit_for_bit(tmp_path: Path, after: int) -> None:
    whole = parts()
    history = train.fit(**whole)
    broken = parts()
    train.fit(**broken, out=tmp_path, callbacks=[Stop(after)])
    resumed = parts()
    again = train.fit(**resumed, out=tmp_path, resume=True)
    assert again.losses == history.losses and len(history.losses) == 15
    for a, b in zip(whole["model"].parameters(), resumed["model"].parameters(), strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()
    assert [r["loss"] for r in again.epochs] == [r["loss"] for r in history.epochs]


def test_plain_iterables_resume_too(tmp_path: Path) -> None:
    def settings() -> dict[str, Any]:
        made = parts()
        made["batches"] = [(X[:5], Y[:5]), (X[5:10], Y[5:10]), (X[10:], Y[10:])]
        return made

    whole = train.fit(**settings())
    train.fit(**settings(), out=tmp_path, callbacks=[Stop(4)])
    assert train.fit(**settings(), out=tmp_path, resume=True).losses == whole.losses


def test_history_validation_and_metrics() -> None:
    made = parts()
    test = mg.data.batches(X, Y, batch_size=7, shuffle=False)
    history = train.fit(**made, val=test, metrics={"accuracy": train.accuracy})
    row = history.epochs[-1]
    assert set(row) == {"epoch", "loss", "seconds", "val_loss", "val_accuracy"}
    assert made["model"].training, "evaluation gives the mode back"
    found = train.evaluate(made["model"], mg.cross_entropy, test, {"accuracy": train.accuracy})
    made["model"].eval()
    with mg.no_grad():
        logits = made["model"](mg.tensor(X))
    assert found["loss"] == pytest.approx(mg.cross_entropy(logits, mg.tensor(Y)).item(), rel=1e-5)
    assert found["accuracy"] == row["val_accuracy"] == float((logits.numpy().argmax(1) == Y).mean())


def test_progress_without_a_terminal_is_a_line_per_epoch(
    capsys: pytest.CaptureFixture[str],
) -> None:
    train.fit(**{**parts(), "progress": True})
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and lines[0].startswith("epoch 1/3  loss 0.")


def test_a_loss_that_is_not_finite_stops_with_the_step(tmp_path: Path) -> None:
    made = parts()
    steps = made["optimizer"].state[0]
    made["loss"] = lambda p, t: mg.cross_entropy(p, t) * (np.inf if steps.get("step") == 2 else 1.0)
    with pytest.raises(AnomalyError, match=r"step 3.*mg\.debug"):
        train.fit(**made, out=tmp_path, save_every=1)
    assert [p.name for p in checkpoints.checkpoints(tmp_path)][-1] == "checkpoint-00000002"


def test_misuse() -> None:
    for change, kind, words in (
        ({"epochs": 0}, InputError, "epochs"),
        ({"resume": True}, InputError, "out="),
        ({"batches": []}, InputError, "no batches"),
        ({"batches": [X]}, InputTypeError, "tuple"),
    ):
        with pytest.raises(kind, match=words):
            train.fit(**{**parts(), **change})


# ---- interruption ----------------------------------------------------------------------------

SCRIPT = """
import sys, time
import numpy as np
import microgpt as mg
out = sys.argv[1]
x = np.random.default_rng(0).standard_normal((64, 4)).astype(np.float32)
y = (x[:, 0] > 0).astype(np.int64)
model = mg.models.MLP((4, 64, 2), "tanh", generator=mg.generator(1))
optimizer = mg.optim.AdamW(model.parameters(), lr=0.01)
class Slow(mg.train.Callback):
    def on_step(self, run):
        if run.step == 3:
            print("ready", flush=True)
        time.sleep(float(sys.argv[2]))
history = mg.train.fit(model, mg.cross_entropy, optimizer,
    mg.data.batches(x, y, batch_size=8, seed=0), epochs=int(sys.argv[3]), out=out, resume=True,
    save_every=1, callbacks=[Slow()], progress=False)
print("interrupted" if history.interrupted else "done", len(history.losses))
"""


def start(tmp_path: Path, pause: float, epochs: int) -> subprocess.Popen[str]:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    return subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "run"), str(pause), str(epochs)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_saves_and_exits_cleanly_and_the_run_goes_on(tmp_path: Path) -> None:
    with start(tmp_path, 0.05, 5) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        said = process.stdout.read().split()
        assert process.wait(60) == 0 and said[0] == "interrupted"
    steps = int(said[1])
    assert checkpoints.checkpoints(tmp_path / "run")[-1].name == f"checkpoint-{steps:08d}"
    with start(tmp_path, 0, 5) as process:
        assert process.communicate(timeout=60)[0].split()[-2:] == ["done", "40"]


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_a_killed_process_never_leaves_an_unreadable_checkpoint(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    model = mg.models.MLP((4, 64, 2), "tanh", generator=mg.generator(1))
    last = 0
    for _ in range(6):
        with start(tmp_path, 0, 10_000) as process:
            deadline = time.monotonic() + 30
            while not list((tmp_path / "run").glob("checkpoint-*")):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(0.2 + float(rng.uniform(0, 0.4)))
            process.kill()
        state = checkpoints.load(tmp_path / "run", model)
        assert state is not None and state["step"] == len(state["losses"]) >= last
        last = state["step"]
    assert last > 6


# ---- checkpoints -----------------------------------------------------------------------------


def test_weights_go_to_a_file_and_back(tmp_path: Path) -> None:
    a, b = (mg.models.MLP((3, 2), generator=mg.generator(i)) for i in (0, 1))
    path = checkpoints.save_weights(a, tmp_path / "deep" / "w.safetensors")
    checkpoints.load_weights(b, path)
    assert a.layers[0].weight.tolist() == b.layers[0].weight.tolist()
    assert [p.name for p in path.parent.iterdir()] == ["w.safetensors"]
    safetensors = pytest.importorskip("safetensors.numpy")
    assert set(safetensors.load_file(path)) == {"layers.0.weight", "layers.0.bias"}


def test_missing_damaged_and_foreign_files_are_told_apart(tmp_path: Path) -> None:
    model = mg.models.MLP((3, 2), generator=mg.generator(0))
    with pytest.raises(CheckpointError, match="no weights file"):
        checkpoints.load_weights(model, tmp_path / "none")
    path = checkpoints.save_weights(model, tmp_path / "w")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(CheckpointError, match="damaged"):
        checkpoints.load_weights(model, path)
    checkpoints.save_weights(mg.models.MLP((4, 2), generator=mg.generator(0)), path)
    with pytest.raises(CheckpointError, match=r"\(2, 4\) in the state, \(2, 3\) here"):
        checkpoints.load_weights(model, path)
    assert checkpoints.load(tmp_path / "empty", model) is None


def test_the_last_checkpoints_are_kept_and_state_survives(tmp_path: Path) -> None:
    model = mg.models.MLP((3, 2), generator=mg.generator(0))
    state = {"a": np.arange(3), "b": [1, {"c": np.float32(2.5)}], "d": None}
    for step in (1, 2, 3, 3):
        checkpoints.save(tmp_path, step, model, state, keep=2)
    names = [p.name for p in checkpoints.checkpoints(tmp_path)]
    assert names == ["checkpoint-00000002", "checkpoint-00000003"]
    assert sorted(p.name for p in tmp_path.iterdir()) == names, "nothing temporary is left"
    back = checkpoints.load(tmp_path, model)
    assert back is not None and back["step"] == 3 and back["b"] == [1, {"c": 2.5}]
    assert back["a"].tolist() == [0, 1, 2]
    document = tmp_path / names[-1] / "state.json"
    document.write_text(json.dumps({"format": 99}))
    with pytest.raises(CheckpointError, match="format 99"):
        checkpoints.load(tmp_path, model)
    document.write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read.*remove the folder"):
        checkpoints.load(tmp_path, model)
    with pytest.raises(CheckpointError, match="object"):
        checkpoints.save(tmp_path, 9, model, {"x": object()})


def test_nothing_is_pickled(tmp_path: Path) -> None:
    train.fit(**parts(), out=tmp_path)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert path.suffix in (".safetensors", ".json")
