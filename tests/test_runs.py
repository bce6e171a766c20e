"""Runs: their folders, and that they can be repeated, resumed and loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt import checkpoints, runs
from microgpt.errors import CheckpointError, ConfigError, DataError, InputError
from microgpt.runs import building, files, folder
from tests.running import CASES, NAMES, broken_off, go, small, weights, write_texts


@pytest.fixture(autouse=True)
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_texts()


# ---- runs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_repeated_and_resumed_runs_equal_the_first(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = go(small(case))
    assert len(outcome.history.losses) == 7 and np.isfinite(outcome.history.losses).all()
    saved = runs.read_settings("run/settings.toml")
    assert saved.found.outputs > 1

    again = go(saved, "again")
    assert again.history.losses == outcome.history.losses and again.scores == outcome.scores
    assert weights("again") == weights("run")

    broken_off(monkeypatch, saved, after=4)
    assert weights("broken") != weights("run")
    resumed = runs.resume("broken", progress=False)
    assert resumed.history.losses == outcome.history.losses
    assert resumed.scores == outcome.scores and weights("broken") == weights("run")

    trained = runs.load("run")
    assert trained.weights == "best" and trained.evaluate() == (outcome.scores, outcome.split)
    last = runs.load("run", weights="last")
    assert (last.step, last.weights) == (7, "last") and not last.model.training
    stored = checkpoints.checkpoints("run")[-1] / "model.safetensors"
    fresh = building.make_model(saved)
    checkpoints.load_weights(fresh, stored)
    for a, b in zip(fresh.parameters(), last.model.parameters(), strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()


@pytest.mark.parametrize("case", [case for case in CASES if "on" in case.split()])
def test_writing(case: str) -> None:
    go(small(case))
    trained = runs.load("run")
    first, again, other = ["".join(trained.write("an", 30, seed=s)) for s in (1, 1, 2)]
    assert first == again and first != other
    assert len(list(trained.write("an", 5, 0.0))) <= 6
    if "lines" in case:
        assert "<bos>" not in first, "the end of a text is not written"


def test_writing_without_a_new_line() -> None:
    Path("prose.txt").write_text("abc" * 60)
    go(small("gpt on prose", tokenizer="char"))
    assert len("".join(runs.load("run").write(max_tokens=9))) == 9


def test_only_writers_write() -> None:
    go(small("mlp"))
    with pytest.raises(InputError, match="kind mlp writes no texts; microgpt eval run"):
        runs.load("run").write()


def test_the_tokenizer_comes_with_the_run() -> None:
    pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
    go(small("gpt on prose", tokenizer="bpe", vocab=270))
    trained = runs.load("run")
    assert trained.tokenizer is not None and trained.tokenizer.vocab_size == 270
    assert trained.settings.found.outputs == 270


def test_what_a_text_is() -> None:
    for changes, lines in (({}, True), ({"documents": "whole"}, False)):
        made = building.read(small(**changes))
        assert made.settings.data.documents == ("lines" if lines else "whole")
        assert (made.tokenizer.bos is not None) == lines  # pyright: ignore
    made = building.read(small("gpt on prose"))
    assert made.settings.data.documents == "whole"
    assert Path(made.settings.data.data) == Path("prose.txt").resolve()


def test_no_part_is_in_two_places() -> None:
    """What a model is judged by is not what it has learnt from."""
    material = building.read(small(batch=1, context=40))

    def found(batches: Any) -> set[bytes]:
        rows = [np.asarray(x.numpy()) for x, _ in batches]
        parts = [row[row != 0].tobytes() for batch in rows for row in batch]
        return set(parts)

    assert len(found(material.train)) == 54 and len(found(material.held_out)) == 6
    assert not found(material.train) & found(material.held_out)
    material = building.read(small("mlp", limit=0))
    sizes = [sum(len(y) for *_, y in part) for part in (material.train, material.held_out)]
    assert sizes == [1293, 144] and sum(len(y) for *_, y in material.test) == 360  # pyright: ignore


def test_nothing_held_out() -> None:
    outcome = go(small(held_out=0))
    assert outcome.scores == {} and not Path("run/best").exists()
    trained = runs.load("run")
    assert trained.weights == "last"
    with pytest.raises(InputError, match="nothing was held out"):
        trained.evaluate()


def test_the_configured_float_type_and_backend_are_those_of_the_settings() -> None:
    go(small("mlp", dtype="float64"))
    parameter = runs.load("run").model.parameters()[0]
    assert str(parameter.dtype) == "float64" and parameter.backend == "numpy"
    assert mg.config.get("dtype") == "float32", "nothing leaks out of the run"


@pytest.mark.parametrize("rule", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_optimizers_and_schedules(rule: str, schedule: str) -> None:
    settings = small(
        "mlp", optimizer=rule, schedule=schedule, lr=0.5, warmup=0.3, final=0.2, steps=7
    )
    parts = building.build(settings)
    rates = []
    for _ in range(9):
        rates.append(parts.optimizer.param_groups[0]["lr"])
        parts.schedule.step()
    assert type(parts.optimizer).__name__.lower() == rule
    assert rates[:3] == pytest.approx([0.5 / 3, 1 / 3, 0.5])
    end = 0.5 if schedule == "constant" else 0.1
    assert rates[7:] == pytest.approx([end, end])
    assert rates[2:] == sorted(rates[2:], reverse=True)
    decay = [group["weight_decay"] for group in parts.optimizer.param_groups]
    assert decay == [0.01, 0.0]


# ---- folders ---------------------------------------------------------------------------------


def test_nothing_is_lost() -> None:
    go(small("mlp"))
    before = weights("run")
    with pytest.raises(InputError, match="run holds a run already.*--resume.*--overwrite"):
        go(small("mlp"))
    Path("other").mkdir()
    Path("other/thesis.txt").write_text("years")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="holds other files, and no run"):
            go(small("mlp"), "other", overwrite=overwrite)
    with pytest.raises(InputError, match="lines.txt is a file"):
        go(small("mlp"), "lines.txt")
    Path("run/notes.txt").write_text("mine")
    with pytest.raises(DataError):
        go(small(data="missing.txt"), overwrite=True)
    assert weights("run") == before, "a run is not removed before the new one can begin"
    go(small("mlp", seed=6), overwrite=True)
    assert weights("run") != before
    assert Path("run/notes.txt").read_text() == "mine", "files of others stay"


def test_a_run_in_use_is_not_overwritten() -> None:
    filelock = pytest.importorskip("filelock", reason="filelock is not installed")
    go(small("mlp"))
    before = weights("run")
    with filelock.FileLock("run/.lock"), pytest.raises(CheckpointError, match="another training"):
        go(small("mlp", seed=6), overwrite=True)
    assert weights("run") == before


def test_the_log_for_tensorboard() -> None:
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed")
    go(small("mlp", tensorboard=True))
    assert list(Path("run/tensorboard").iterdir())


def test_names_of_folders() -> None:
    assert folder.free_name(small()) == Path("runs/gpt-lines")
    Path("runs/gpt-lines").mkdir(parents=True)
    assert folder.free_name(small()) == Path("runs/gpt-lines-2")


def test_no_such_run() -> None:
    go(small("mlp"), "runs/one")
    with pytest.raises(InputError, match="no run in runs/two .*; there are runs/one"):
        runs.load("runs/two")
    for call in (runs.load, runs.resume):
        with pytest.raises(InputError, match="no run in nowhere/at/all"):
            call("nowhere/at/all")
    Path("begun").mkdir()
    files.write(building.read(small("mlp")).settings, "begun/settings.toml")
    with pytest.raises(
        CheckpointError, match="no weights in begun: .*--config begun/settings.toml --out begun"
    ):
        runs.load("begun")
    runs.write_settings(small("mlp"), "begun/settings.toml")
    with pytest.raises(ConfigError, match=r"was not written by a run: \[found\] is missing"):
        runs.load("begun")
    runs.resume("begun", progress=False)
    assert runs.load("begun").step
    with pytest.raises(InputError, match="weights are best or last; got 'worst'"):
        runs.load("begun", weights="worst")


def test_a_run_goes_on_with_its_own_settings() -> None:
    settings = small("mlp", schedule="constant")
    whole = go(small("mlp", schedule="constant", steps=12), "whole")
    go(settings)
    with pytest.raises(ConfigError, match=r"other settings: lr = 0.003, now 0.1\. Start a new run"):
        runs.resume("run", small("mlp", schedule="constant", lr=0.1))
    with pytest.raises(ConfigError, match="cannot go on as cnn"):
        runs.resume("run", small("cnn"))
    longer = runs.resume("run", small("mlp", schedule="constant", steps=12), progress=False)
    assert longer.history.losses == whole.history.losses and weights("run") == weights("whole")
    assert runs.read_settings("run/settings.toml").training.steps == 12


def test_other_data_are_noticed() -> None:
    go(small())
    Path("lines.txt").write_text("\n".join([*NAMES, "Zoë"]))
    with pytest.raises(DataError, match="not what this run learnt from: sha256 differs"):
        runs.resume("run")
    with pytest.raises(DataError, match="not what this run learnt from"):
        runs.load("run").evaluate()
    assert "".join(runs.load("run").write("a", 3)) is not None, "writing needs no data"


@pytest.mark.parametrize(
    ("content", "changes", "words"),
    [
        (None, {}, "no text file .*names.txt; the data set that comes by name: --data names"),
        (b"\xff\xfe\x00", {}, "no text in UTF-8"),
        (b" \n", {}, "is empty"),
        (b"ab", {"documents": "whole"}, "context of 6 needs 7"),
    ],
)
def test_bad_texts(content: bytes | None, changes: dict[str, Any], words: str) -> None:
    if content is not None:
        Path("names.txt").write_bytes(content)
    with pytest.raises(DataError, match=words):
        building.read(small(data="names.txt", **changes))


def test_models_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match="'width' must be a multiple of 'heads'.*got 8 and 3"):
        building.build(small(heads=3))
    with pytest.raises(ConfigError, match="'channels' must be two numbers; got \\[4\\]"):
        building.build(small("cnn", channels=[4]))


def test_data_sets_by_name() -> None:
    with pytest.raises(DataError, match="mlp learns from one of digits, mnist; got 'digit'; did"):
        building.read(small("mlp", data="digit"))
    made = building.read(runs.configure("gpt", data="names"))
    assert made.found.outputs == 27 and "MIT" in made.origin
