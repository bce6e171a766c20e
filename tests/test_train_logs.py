"""What a run shows and writes down."""

from __future__ import annotations

import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt import nn, optim, train
from microgpt.errors import MissingExtraError
from microgpt.train import progress as shown
from tests.training import Stop, log_of, parts, rich


class Kept(train.Logger):
    """Notes what a logger is told."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.said: list[Any] = []

    def start(self, step: int) -> None:
        self.said.append(step)

    def log(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def close(self) -> None:
        self.said.append("closed")


def test_rows_of_steps_and_evaluations(tmp_path: Path) -> None:
    kept = Kept()
    history = train.fit(**rich(loggers=[kept]), out=tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert lines == kept.rows and len(lines) == 12
    assert [row["step"] for row in lines] == [1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9, 9]
    steps = [row for row in lines if "loss" in row]
    assert [row["loss"] for row in steps] == history.losses
    assert {row["step"]: row["grad_norm"] for row in steps} == history.grad_norms
    assert steps[0]["lr"] == 0.05 and steps[1]["lr"] < 0.05, "the rate the step was made with"
    assert set(steps[0]) == {
        "step", "epoch", "loss", "lr", "grad_norm", "examples_per_second", "seconds",
    }  # fmt: skip
    assert steps[-1]["examples_per_second"] > 0
    evaluations = [row for row in lines if "loss" not in row]
    assert [{k: v for k, v in row.items() if k != "seconds"} for row in evaluations] == (
        history.evaluations
    )
    times = [row["seconds"] for row in lines]
    assert times == sorted(times)
    assert kept.said == [0, "closed"]


def test_loggers_are_closed_after_an_error_and_told_of_a_resumption(tmp_path: Path) -> None:
    train.fit(**parts(), out=tmp_path, callbacks=[Stop(4)])
    kept = Kept()

    class Fails(train.Callback):
        def on_step(self, run: train.Run) -> None:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        train.fit(**parts(), out=tmp_path, resume=True, loggers=[kept], callbacks=[Fails()])
    assert kept.said == [4, "closed"]


def test_log_every_and_words_as_units(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nn.Sequential(nn.Linear(4, 5, generator=mg.generator(0)))
    x = np.random.default_rng(0).standard_normal((6, 3, 4)).astype(np.float32)
    batches = [(x, np.zeros((6, 3), int))] * 5

    def loss(y: Any, t: Any) -> Any:
        return mg.cross_entropy(y.reshape(-1, 5), t.reshape(-1))

    optimizer = optim.SGD(model.parameters(), lr=0.1)
    train.fit(model, loss, optimizer, batches, epochs=2, log_every=3, out=tmp_path, progress=False)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in lines] == [3, 6, 9]
    assert all(row["tokens_per_second"] > 0 for row in lines)
    monkeypatch.setattr(shown, "_LINE_SECONDS", 0.0)
    train.fit(model, loss, optimizer, batches, epochs=1)
    assert re.search(r"\d tokens/s", capsys.readouterr().out)


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    metrics = {"odd": lambda y, t: float("nan"), "small": lambda y, t: np.float32(0.5)}
    train.fit(**{**rich(epochs=1), "metrics": metrics}, out=tmp_path)
    last = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert last["val_odd"] is None and last["val_small"] == 0.5


def test_a_line_that_was_cut_off_and_those_after_the_checkpoint_are_dropped(
    tmp_path: Path,
) -> None:
    train.fit(**rich(), out=tmp_path / "whole")
    out = tmp_path / "broken"
    train.fit(**rich(), out=out, callbacks=[Stop(4)])
    with open(out / "log.jsonl", "a") as file:
        file.write('{"step": 5, "epoch": 2}\n{"step": 6, "lo')
    train.fit(**rich(), out=out, resume=True)
    assert log_of(out) == log_of(tmp_path / "whole")


def test_a_log_without_checkpoint_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n')
    train.fit(**rich(epochs=1), out=tmp_path, resume=True)
    assert [row["step"] for row in log_of(tmp_path)] == [1, 2, 3, 3]


# ---- TensorBoard -----------------------------------------------------------------------------


def test_tensorboard_files_have_every_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # it does without, and is quicker then
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    from tensorboardX.proto.event_pb2 import Event

    history = train.fit(**rich(loggers=[train.TensorBoard(tmp_path)]))
    (file,) = tmp_path.iterdir()
    content, found = file.read_bytes(), {}
    while content:  # length (8 bytes), its checksum (4), an event, its checksum (4)
        size = int.from_bytes(content[:8], "little")
        event = Event.FromString(content[12 : 12 + size])
        content = content[16 + size :]
        for value in event.summary.value:
            found[value.tag, event.step] = value.simple_value
    for step, loss in enumerate(history.losses, 1):
        assert found["loss", step] == pytest.approx(loss)
    assert {tag for tag, _ in found} == {
        "loss", "lr", "grad_norm", "examples_per_second", "val_loss", "val_accuracy",
    }  # fmt: skip


def test_tensorboard_that_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    with pytest.raises(MissingExtraError, match=r"tensorboardX.*microgpt-autograd\[tensorboard\]"):
        train.TensorBoard(tmp_path)


# ---- on the screen ---------------------------------------------------------------------------


def lines_of(capsys: pytest.CaptureFixture[str], **changes: Any) -> list[str]:
    train.fit(**rich(**changes) | {"progress": True})
    return capsys.readouterr().out.splitlines()


def test_without_a_terminal_there_is_a_line_per_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of(capsys)
    assert len(lines) == 3
    pattern = r"epoch 1/3  loss 0\.\d{4}  val loss 0\.\d{4}  val accuracy [01]\.\d{4}  \d+\.\d s"
    assert re.fullmatch(pattern, lines[0])


def test_a_line_per_evaluation_and_every_ten_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"epochs": None, "steps": 5, "eval_every": 5}
    lines = lines_of(capsys, **settings)
    number = r"[01]\.\d{4}"
    assert len(lines) == 1, "no line of another kind in between"
    pattern = rf"step 5/5  loss {number}  val loss {number}  val accuracy {number}"
    assert re.fullmatch(pattern, lines[0])
    lines = lines_of(capsys, epochs=None, steps=5)
    assert [line.split("  ")[0] for line in lines] == ["step 3/5"]
    monkeypatch.setattr(shown, "_LINE_SECONDS", 0.0)
    lines = lines_of(capsys, **settings)
    pattern = r"step 2/5  loss \d\.\d{4}  lr 0\.0495  [\d,]+ examples/s  0:00 to go"
    assert re.fullmatch(pattern, lines[1])


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("tqdm", reason="tqdm is not installed")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(shown, "_BAR_SECONDS", 0.0)
    monkeypatch.setenv("TQDM_MININTERVAL", "0")
    train.fit(**rich() | {"progress": True})
    pattern = r"[89]/9 .*loss \d\.\d{4}  lr 0\.0\d+  [\d,]+ examples/s"
    assert re.search(pattern, screen.getvalue())


def test_early_stopping_and_interruption_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    lines = lines_of(capsys, epochs=None, steps=40, eval_every=1, patience=2)
    assert re.match(
        r"stopped early after step \d+: val_loss was best after step \d+, 0\.", lines[-1]
    )
