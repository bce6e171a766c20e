"""A run that was stopped, killed or interrupted anywhere goes on to the same bits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from microgpt import checkpoints, train
from microgpt.errors import CheckpointError, InputError
from tests.training import Stop, X, Y, evidence, log_of, parts, rich

pytestmark = pytest.mark.usefixtures("ctrl_c")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for the disk: that protects from power cuts, which nobody tests here."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


WAYS: dict[str, dict[str, Any]] = {
    "epochs": {},
    "steps": {"epochs": None, "steps": 8, "eval_every": 2},
    "early stopping": {"epochs": None, "steps": 40, "eval_every": 1, "patience": 2},
    "step by step": {"epochs": 2, "eval_every": 3, "save_every": 1, "keep": 1},
}


@pytest.mark.parametrize("way", WAYS)
def test_stopped_after_any_step_and_resumed_is_the_unbroken_run(way: str, tmp_path: Path) -> None:
    made = rich(**WAYS[way])
    want = evidence(made, train.fit(**made, out=tmp_path / "whole"), tmp_path / "whole")
    total = len(want["losses"])
    assert total >= 6 and want["evaluations"] and want["best"] in want["evaluations"]
    if way == "early stopping":
        assert want["stopped_early"] and total < 40
    for after in range(1, total + 1):
        out = tmp_path / str(after)
        train.fit(**rich(**WAYS[way]), out=out, callbacks=[Stop(after)])
        made = rich(**WAYS[way])
        found = evidence(made, train.fit(**made, out=out, resume=True), out)
        assert found == want, f"stopped after step {after}"


@pytest.mark.parametrize("way", WAYS)
def test_stopped_again_and_again(way: str, tmp_path: Path) -> None:
    made = rich(**WAYS[way])
    want = evidence(made, train.fit(**made, out=tmp_path / "whole"), tmp_path / "whole")
    out = tmp_path / "broken"
    for after in range(1, len(want["losses"]) + 1):
        train.fit(**rich(**WAYS[way]), out=out, resume=True, callbacks=[Stop(after)])
    made = rich(**WAYS[way])
    assert evidence(made, train.fit(**made, out=out, resume=True), out) == want
    # A run that is over stays over.
    made = rich(**WAYS[way])
    assert evidence(made, train.fit(**made, out=out, resume=True), out) == want


def test_plain_iterables_resume_too(tmp_path: Path) -> None:
    def settings() -> dict[str, Any]:
        listed = [(X[:5], Y[:5]), (X[5:10], Y[5:10]), (X[10:], Y[10:])]
        return parts(batches=listed, accumulate=2)

    whole = train.fit(**settings())
    for after in (1, 2, 3):
        out = tmp_path / str(after)
        train.fit(**settings(), out=out, callbacks=[Stop(after)])
        assert train.fit(**settings(), out=out, resume=True).losses == whole.losses


def test_a_longer_run_goes_on_from_a_shorter_one(tmp_path: Path) -> None:
    whole = train.fit(**parts(epochs=None, steps=12))
    train.fit(**parts(epochs=None, steps=5), out=tmp_path)
    longer = train.fit(**parts(epochs=None, steps=12), out=tmp_path, resume=True)
    assert longer.losses == whole.losses
    assert [row["loss"] for row in longer.epochs] == [row["loss"] for row in whole.epochs]


# ---- interruption ----------------------------------------------------------------------------


class Interrupted:
    """Batches during the n-th of which (over all passes) a signal arrives."""

    def __init__(self, batches: Any, at: int, number: int) -> None:
        self.batches, self.at, self.number = batches, at, number
        self.count = 0

    def __iter__(self) -> Any:
        for batch in self.batches:
            self.count += 1
            if self.count == self.at:
                signal.raise_signal(self.number)
            yield batch

    def __len__(self) -> int:
        return len(self.batches)

    def state_dict(self) -> Any:
        return self.batches.state_dict()

    def load_state_dict(self, state: Any) -> None:
        self.batches.load_state_dict(state)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("which", ["batches", "val"])
def test_a_signal_at_any_moment(which: str, number: int, tmp_path: Path) -> None:
    whole = rich()
    want = evidence(whole, train.fit(**whole, out=tmp_path / "whole"), tmp_path / "whole")
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    for at in range(1, 13):
        out = tmp_path / str(at)
        made = rich()
        made[which] = Interrupted(made[which], at, number)
        before = train.fit(**made, out=out)
        assert before.interrupted and before.signal == number
        if which == "batches":  # the step was finished, and no other begun
            assert len(before.losses) == -(-at // 5) * 3 - 3 + (at % 5 + 1) // 2 + (at % 5 == 0) * 3
        made = rich()
        history = train.fit(**made, out=out, resume=True)
        assert not history.interrupted and history.signal is None
        assert evidence(made, history, out) == want, f"{number} in number {at} of {which}"
    assert handlers == [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]


@pytest.mark.parametrize("moment", ["on_step", "on_evaluation", "on_epoch"])
def test_a_signal_between_steps_begins_no_other(moment: str, tmp_path: Path) -> None:
    class Once(train.Callback):
        pass

    setattr(Once, moment, lambda self, run: signal.raise_signal(signal.SIGTERM))
    for way in ("epochs", "steps"):
        out = tmp_path / way
        history = train.fit(**rich(**WAYS[way], callbacks=[Once()]), out=out)
        first = 3 if moment == "on_epoch" or (moment, way) == ("on_evaluation", "epochs") else 2
        assert len(history.losses) == (1 if moment == "on_step" else first)
        assert history.interrupted
        made, whole = rich(**WAYS[way]), rich(**WAYS[way])
        found = evidence(made, train.fit(**made, out=out, resume=True), out)
        other = tmp_path / f"whole {way}"
        assert found == evidence(whole, train.fit(**whole, out=other), other)


def test_training_in_another_thread(tmp_path: Path) -> None:
    whole, made = parts(), parts()
    want = evidence(whole, train.fit(**whole))
    with ThreadPoolExecutor(1) as pool:
        assert evidence(made, pool.submit(train.fit, **made).result()) == want


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    class Impatient(train.Callback):
        def on_step(self, run: train.Run) -> None:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train.fit(**parts(callbacks=[Impatient()]), out=tmp_path)
    assert not checkpoints.checkpoints(tmp_path)


def test_a_second_sigterm_is_patient() -> None:
    class Twice(train.Callback):
        def on_step(self, run: train.Run) -> None:
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)

    history = train.fit(**parts(callbacks=[Twice()]))
    assert history.signal == signal.SIGTERM and len(history.losses) == 1


def test_a_signal_that_the_process_ignores_stays_ignored() -> None:
    class Once(train.Callback):
        def on_step(self, run: train.Run) -> None:
            signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        history = train.fit(**parts(callbacks=[Once()]))
    finally:
        signal.signal(signal.SIGINT, before)
    assert not history.interrupted and len(history.losses) == 15


# ---- other processes -------------------------------------------------------------------------

SCRIPT = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # the shell may have switched it off
import microgpt as mg
from tests.training import rich
pause = float(sys.argv[2])
class Slow(mg.train.Callback):
    def on_step(self, run):
        print("step", run.step, flush=True)
        time.sleep(pause)
history = mg.train.fit(
    **rich(epochs=None, steps=int(sys.argv[3]), eval_every=3, save_every=1),
    out=sys.argv[1], resume=True, callbacks=[Slow()])
print("interrupted" if history.interrupted else "done", len(history.losses))
"""

posix = pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")


def start(out: Path, pause: float, steps: int) -> subprocess.Popen[str]:
    root = Path(__file__).parent.parent
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(out), str(pause), str(steps)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=root,
    )


@posix
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_sigterm_save_and_exit_cleanly(number: int, tmp_path: Path) -> None:
    with start(tmp_path, 0.05, 40) as process:
        assert process.stdout is not None and process.stdout.readline() == "step 1\n"
        process.send_signal(number)
        said = process.stdout.read().split()
        assert process.wait(60) == 0 and said[-2] == "interrupted"
    last = checkpoints.checkpoints(tmp_path)[-1]
    assert last.name == f"checkpoint-{int(said[-1]):08d}" and int(said[-1]) < 40


@posix
def test_a_killed_process_never_leaves_an_unreadable_checkpoint(tmp_path: Path) -> None:
    """Killed 8 times (TRAINING_KILLS) at random moments, resumed, and equal to the unbroken run."""
    kills = int(os.environ.get("TRAINING_KILLS", "8"))
    rng = np.random.default_rng(0)
    out, last = tmp_path / "run", 0
    for _ in range(kills):
        with start(out, 0, 10**6) as process:
            assert process.stdout is not None
            for _ in range(int(rng.integers(2, 6))):  # at the second step the first is saved
                assert process.stdout.readline().startswith("step")
            time.sleep(float(rng.uniform(0, 0.03)))
            process.kill()
            process.wait()
        model = rich()["model"]
        state = checkpoints.load(out, model)
        assert state is not None and state["step"] == len(state["losses"]) > last
        for place in checkpoints.checkpoints(out):
            checkpoints.load_weights(model, place / "model.safetensors")
        last = state["step"]
    steps = last + 5
    made = rich(epochs=None, steps=steps, eval_every=3, save_every=1)
    found = evidence(made, train.fit(**made, out=out, resume=True), out)
    whole = rich(epochs=None, steps=steps, eval_every=3, save_every=1)
    other = tmp_path / "whole"
    assert found == evidence(whole, train.fit(**whole, out=other), other)
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in other.iterdir())
    assert sorted(p.name for p in (out / "best").iterdir()) == sorted(
        p.name for p in (other / "best").iterdir()
    )


@posix
def test_two_processes_do_not_train_into_one_folder(tmp_path: Path) -> None:
    with start(tmp_path, 0.2, 10**6) as process:
        assert process.stdout is not None and process.stdout.readline() == "step 1\n"
        with pytest.raises(CheckpointError, match="another training"):
            train.fit(**parts(), out=tmp_path, resume=True)
        process.kill()
        process.wait()
    train.fit(**rich(epochs=None, steps=9), out=tmp_path, resume=True)


def test_a_new_run_is_not_mixed_with_an_old_one(tmp_path: Path) -> None:
    train.fit(**parts(), out=tmp_path)
    with pytest.raises(InputError, match="checkpoint-00000015; resume=True"):
        train.fit(**parts(), out=tmp_path)
    assert len(log_of(tmp_path)) == 1


def test_a_schedule_that_is_missing_is_not_overlooked(tmp_path: Path) -> None:
    train.fit(**parts(), out=tmp_path, callbacks=[Stop(4)])
    with pytest.raises(CheckpointError, match="no schedule; the run in .* has one"):
        train.fit(**{**parts(), "schedule": None}, out=tmp_path, resume=True)


def test_a_damaged_checkpoint_is_not_passed_over(tmp_path: Path) -> None:
    train.fit(**parts(), out=tmp_path)
    newest = checkpoints.checkpoints(tmp_path)[-1]
    (newest / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match="remove the folder checkpoint-00000015 to go on"):
        train.fit(**parts(), out=tmp_path, resume=True)
    for file in newest.iterdir():
        file.unlink()
    newest.rmdir()
    whole = train.fit(**parts())
    assert train.fit(**parts(), out=tmp_path, resume=True).losses == whole.losses
