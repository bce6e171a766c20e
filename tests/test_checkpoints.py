"""Weights and checkpoints on disk: whole or not at all, whatever happens meanwhile."""

from __future__ import annotations

import errno
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt import checkpoints, durable, nn, train
from microgpt.errors import CheckpointError, InputError
from tests.training import parts


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


def test_arrays_of_every_kind_come_back_as_they_were(tmp_path: Path) -> None:
    model = nn.Module()
    model.gain = nn.Parameter(1.5)  # a parameter without axes
    model.register_buffer("steps", mg.tensor(np.arange(3)))
    state = {
        "scalar": np.array(2.0),
        "empty": np.zeros((0, 3), np.float32),
        "strided": np.arange(12.0).reshape(3, 4).T[::2],
        "mask": np.array([True, False]),
        "half": np.array([1.5], np.float16),
        "odd": [float("inf"), -0.0, 0.1, 10**30, "text", True],
        "array": {"array": "a name that the file format uses itself"},
        "dict": {"dict": {}},
    }
    checkpoints.save(tmp_path, 1, model, state)
    model.gain.data = np.array(0.0)
    back = checkpoints.load(tmp_path, model)
    assert back is not None and model.gain.item() == 1.5 and model.gain.shape == ()
    assert back.pop("step") == 1 and back.keys() == state.keys()
    for name, value in state.items():
        if isinstance(value, np.ndarray):
            assert back[name].dtype == value.dtype and back[name].shape == value.shape
            np.testing.assert_array_equal(back[name], value)
        else:
            assert back[name] == value
    checkpoints.load_weights(model, checkpoints.save_weights(model, tmp_path / "w"))
    assert model.gain.shape == ()


def small(value: float) -> nn.Module:
    model = nn.Module()
    model.weight = nn.Parameter(np.full(3, float(value)))
    return model


@pytest.mark.parametrize("name", ["model.safetensors", "state.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "bit"])
def test_damage_is_found_and_the_checkpoint_before_is_named(
    name: str, damage: str, tmp_path: Path
) -> None:
    for step in (1, 2):
        checkpoints.save(tmp_path, step, small(step), {"a": np.arange(100.0), "b": [1, 2]})
    file = checkpoints.checkpoints(tmp_path)[-1] / name
    content = file.read_bytes()
    if damage == "missing":
        file.unlink()
    else:
        flipped = content[:-5] + bytes([content[-5] ^ 128]) + content[-4:]
        file.write_bytes({"empty": b"", "cut": content[:-9], "bit": flipped}[damage])
    model = small(0)
    with pytest.raises(CheckpointError, match="remove .*002 to go on from checkpoint-00000001"):
        checkpoints.load(tmp_path, model)
    assert model.weight.tolist() == [0.0] * 3, "nothing was set"
    for part in file.parent.iterdir():
        part.unlink()
    file.parent.rmdir()
    assert checkpoints.load(tmp_path, model) is not None and model.weight.tolist() == [1.0] * 3


@pytest.mark.parametrize("at", range(6))
def test_a_full_disk_leaves_what_is_there(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in (1, 2):
        checkpoints.save(tmp_path, step, small(step), {})
    names = sorted(p.name for p in tmp_path.iterdir())
    calls = iter(range(100))

    def full(handle: int) -> None:
        if next(calls) == at:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    if at < 5:  # three files, their folder, the run folder
        with pytest.raises(CheckpointError, match=r"No space left.*the checkpoints before it"):
            checkpoints.save(tmp_path, 3, small(3), {})
        monkeypatch.undo()
    if at < 4:
        assert sorted(p.name for p in tmp_path.iterdir()) == names
    assert checkpoints.load(tmp_path, small(0)) is not None
    checkpoints.save(tmp_path, 3, small(3), {})
    assert len(list(tmp_path.iterdir())) == 2


def test_files_are_durable_before_they_get_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def noted(name: str, of: Callable[..., Any]) -> Any:
        def call(*args: Any) -> Any:
            what = (
                args[0]
                if isinstance(args[0], (str, Path))
                else os.readlink(f"/proc/self/fd/{args[0]}")
            )
            done.append(f"{name} {Path(what).name.split('.')[0] or 'hidden'}")
            return of(*args)

        return call

    if not Path("/proc/self/fd").exists():
        pytest.skip("the names of open files are not to be had here")
    run = tmp_path / "run"
    monkeypatch.setattr(os, "fsync", noted("sync", os.fsync))
    monkeypatch.setattr(os, "rename", noted("rename", os.rename))
    checkpoints.save(run, 1, small(1), {})
    assert done == [
        f"sync {tmp_path.name}",  # that the run folder exists
        "sync model", "sync state", "sync state", "sync hidden",
        "rename hidden", "sync run",
    ]  # fmt: skip


# ---- a process that dies ---------------------------------------------------------------------

CALLS = ("open", "mkdir", "rename", "replace", "fsync", "unlink", "rmdir", "close")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for the disk: that protects from power cuts, not from dying."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def dies_at(call: int, work: Callable[[], object]) -> bool:
    """Do `work` in a process that dies at once before its n-th call to the system."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking while threads run
        child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    try:
        count = iter(range(1, 10**6))

        def deadly(of: Callable[..., Any]) -> Callable[..., Any]:
            def run(*args: Any, **kwargs: Any) -> Any:
                if next(count) == call:
                    os._exit(9)
                return of(*args, **kwargs)

            return run

        durable.open = deadly(open)  # pyright: ignore[reportAttributeAccessIssue]
        for name in CALLS:
            setattr(os, name, deadly(getattr(os, name)))
        work()
        os._exit(0)
    except BaseException:
        os._exit(1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("step", [2, 3], ids=["the same step again", "the next step"])
@pytest.mark.parametrize("keep", [1, 2])
@pytest.mark.usefixtures("quick")
def test_dying_at_any_call_to_the_system(step: int, keep: int, tmp_path: Path) -> None:
    call, died = 0, True
    while died:
        call += 1
        run = tmp_path / str(call)
        for old in (1, 2):
            checkpoints.save(run, old, small(old), {"value": old}, keep)
        died = dies_at(call, lambda: checkpoints.save(run, step, small(9), {"value": 9}, keep))  # noqa: B023
        found = [p.name for p in run.iterdir()]
        model = small(0)
        state = checkpoints.load(run, model)
        assert state is not None, f"call {call} left {found}"
        assert model.weight.tolist() == [state["value"]] * 3 and state["value"] in (2, 9)
        before = checkpoints.checkpoints(run)
        assert len(before) >= keep, f"call {call} left {found}"
        for place in before:
            checkpoints.load_weights(model, place / "model.safetensors")
        checkpoints.save(run, 4, small(4), {"value": 4}, keep)
        names = [f"checkpoint-{n:08d}" for n in (step, 4)[2 - keep :]]
        left = sorted(p.name for p in run.iterdir())
        if keep == 1 or state["value"] == 9:
            assert left == names, f"call {call} left {found}"
        assert not [name for name in left if name.startswith(".")], f"call {call} left {found}"
    assert call > 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.usefixtures("quick")
def test_dying_while_weights_are_replaced(tmp_path: Path) -> None:
    call, died = 0, True
    path = tmp_path / "weights.safetensors"
    while died:
        call += 1
        checkpoints.save_weights(small(1), path)
        died = dies_at(call, lambda: checkpoints.save_weights(small(9), path))
        model = small(0)
        checkpoints.load_weights(model, path)
        assert model.weight.tolist() in ([1.0] * 3, [9.0] * 3)
    assert call > 4


def test_what_a_running_process_writes_is_left_alone(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, 1, small(1), {})
    alive = tmp_path / f".checkpoint-00000002.{os.getppid()}-0.part"
    dead = tmp_path / f".checkpoint-00000002.{2**22 + 1}-0.part"
    alive.mkdir()
    dead.mkdir()
    checkpoints.save(tmp_path, 3, small(3), {})
    assert alive.exists() and not dead.exists()


def test_an_old_checkpoint_with_a_higher_number_does_not_push_out_the_new_one(
    tmp_path: Path,
) -> None:
    for step in (80, 90, 5):
        checkpoints.save(tmp_path, step, small(step), {}, keep=2)
    assert [p.name[-2:] for p in checkpoints.checkpoints(tmp_path)] == ["05", "90"]
    checkpoints.save(tmp_path, 6, small(6), {}, keep=1)
    assert [p.name[-2:] for p in checkpoints.checkpoints(tmp_path)] == ["06"]
    with pytest.raises(InputError, match="keep=0"):
        checkpoints.save(tmp_path, 7, small(7), {}, keep=0)


def test_more_steps_than_eight_digits_stay_in_order(tmp_path: Path) -> None:
    for step in (99_999_999, 100_000_000):
        checkpoints.save(tmp_path, step, small(step), {})
    state = checkpoints.load(tmp_path, small(0))
    assert state is not None and state["step"] == 100_000_000


def test_nothing_is_pickled(tmp_path: Path) -> None:
    train.fit(**parts(), out=tmp_path)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert path.suffix in (".safetensors", ".json", ".jsonl") or path.name == ".lock"


def test_a_changed_number_in_the_document_is_found(tmp_path: Path) -> None:
    """Somebody edits the learning rate, and the run would go on with it."""
    state = {"lr": 0.1, "odd": [1e-320, float("nan"), 2**70, "å\u2028"], "d": {"1": None}}
    checkpoints.save(tmp_path, 1, small(1), state)
    back = checkpoints.load(tmp_path, small(0))
    assert back is not None and repr(back["odd"]) == repr(state["odd"])
    file = checkpoints.checkpoints(tmp_path)[0] / "state.json"
    file.write_text(file.read_text().replace('"lr": 0.1', '"lr": 0.2'))
    with pytest.raises(CheckpointError, match=r"state\.json is damaged: its checksum"):
        checkpoints.load(tmp_path, small(0))


@pytest.mark.parametrize("text", ["[]", "3", "null", '"text"', "{}", '{"format": 3}'])
def test_documents_of_another_kind_are_refused(text: str, tmp_path: Path) -> None:
    checkpoints.save(tmp_path, 1, small(1), {})
    (checkpoints.checkpoints(tmp_path)[0] / "state.json").write_text(text)
    with pytest.raises(CheckpointError, match="cannot be read: (it has format|state.json is dam)"):
        checkpoints.load(tmp_path, small(0))
