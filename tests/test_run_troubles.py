"""Runs that get another length, fail at the start, or are given the wrong data."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from microgpt import checkpoints, runs
from microgpt.data import remote
from microgpt.errors import (
    AnomalyError,
    CheckpointError,
    ConfigError,
    DataError,
    MissingExtraError,
)
from microgpt.runs import building
from tests.running import NAMES, QUICK, broken_off, go, small, write_texts


@pytest.fixture(autouse=True)
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_texts()


# ---- another length --------------------------------------------------------------------------


def test_a_run_of_another_length_says_so_in_its_settings() -> None:
    go(small("mlp"))
    whole = go(small("mlp", steps=12), "whole")
    longer = runs.resume("run", small("mlp", steps=12), progress=False)
    assert longer.history.losses[:8] != whole.history.losses[:8], "another course from the start"
    saved = runs.read_settings("run/settings.toml")
    assert saved.training.steps == 12 and saved.found.resumed_at == (7,)
    assert runs.load("run").step, "the mark is no matter of the data"
    with pytest.warns(UserWarning, match=r"another length after 7 steps \(resumed_at\).*be others"):
        again = go(saved, "again")
    assert again.history.losses == whole.history.losses
    assert runs.read_settings("again/settings.toml").found.resumed_at == ()
    runs.resume("run", small("mlp", steps=15), progress=False)
    assert runs.read_settings("run/settings.toml").found.resumed_at == (7, 12)


def test_a_run_that_goes_on_as_it_was_bears_no_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = small("mlp", schedule="constant")
    go(settings)
    runs.resume("run", small("mlp", schedule="constant", steps=12), progress=False)
    assert runs.read_settings("run/settings.toml").found.resumed_at == ()
    broken_off(monkeypatch, small("mlp"), after=4)
    runs.resume("broken", progress=False)
    assert runs.read_settings("broken/settings.toml").found.resumed_at == ()


def test_a_run_does_not_become_shorter_than_it_is() -> None:
    go(small("mlp"))
    before = Path("run/settings.toml").read_text()
    with pytest.raises(ConfigError, match="run has 7 steps already; got steps=5"):
        runs.resume("run", small("mlp", steps=5))
    go(small("mlp", steps=30), "long")
    changes = {key: value for key, value in QUICK.items() if key != "steps"}
    shorter = runs.configure("mlp", **{**changes, "hidden": [6], "limit": 60, "epochs": 1})
    with pytest.raises(ConfigError, match=r"has 30 steps already; got epochs=1 \(18 steps\)"):
        runs.resume("long", shorter)
    assert Path("run/settings.toml").read_text() == before
    over = runs.resume("run", progress=False)
    assert over.done == len(over.history.losses) == 7 and over.scores


# ---- starts that fail ------------------------------------------------------------------------


def test_a_start_that_failed_does_not_block_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "tensorboardX", None)
        with pytest.raises(MissingExtraError, match="tensorboardX"):
            go(small("mlp", tensorboard=True))
    assert not Path("run").exists(), "what is missing is noticed before anything is written"
    with pytest.warns(RuntimeWarning), pytest.raises(AnomalyError):
        go(small("mlp", lr=1e39, save_every=0))
    assert Path("run/settings.toml").exists() and not checkpoints.checkpoints("run")
    with pytest.raises(CheckpointError, match="no weights in run: .* or failed before it"):
        runs.load("run")
    go(small("mlp"), "run")
    assert runs.load("run").step


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_anomaly_names_no_line_of_the_command() -> None:
    with pytest.raises(AnomalyError) as caught:
        go(small("mlp", lr=1e30))
    said = str(caught.value)
    assert "made the first" in said and __file__ not in said and "  at " not in said


def test_weights_that_a_run_does_not_have() -> None:
    go(small("mlp", held_out=0))
    with pytest.raises(CheckpointError, match="run has no best weights; take the last ones"):
        runs.load("run", weights="best")


# ---- the wrong data --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name", "words"),
    [
        ("gpt", "digits", "'digits' is a set of pictures.*: microgpt train mlp --data digits"),
        ("gpt", "spoken-digits", "a set of sequences.*: microgpt train lstm --data spoken-digits"),
        ("mlp", "names", "'names' is a text.*: microgpt train gpt --data names"),
        ("gpt", "folder", "folder is a folder; --data names a text file"),
        ("gpt", "utf16.txt", "begins with the byte order mark of UTF-16; convert it"),
    ],
)
def test_data_that_do_not_fit(kind: str, name: str, words: str) -> None:
    Path("folder").mkdir()
    Path("utf16.txt").write_text("a text", encoding="utf-16")
    with pytest.raises(DataError, match=words):
        building.read(runs.configure(kind, data=name))


def test_a_file_with_the_name_of_a_data_set_is_a_file() -> None:
    Path("digits").write_text("\n".join(NAMES))
    assert building.read(runs.configure("gpt", data="digits", context=6)).found.outputs > 1


def test_advice_is_in_the_words_of_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_download", _offline)
    monkeypatch.delenv("MICROGPT_DATA", raising=False)
    for kind, name, instead in (
        ("gpt", "makemore", "--data names"),
        ("gpt", "shakespeare", "--data python-docs"),
        ("mlp", "mnist", "--data digits"),
        ("lstm", "spoken-digits", "--data japanese-vowels"),
    ):
        with pytest.raises(DataError) as caught:
            building.read(runs.configure(kind, data=name))
        assert str(caught.value) == f"offline; use {instead}"


def _offline(file: remote.RemoteFile) -> None:
    raise DataError(f"offline; use {file.instead}")


def test_filters_are_no_larger_than_the_pictures() -> None:
    for kernel in (99, 9, 4):
        with pytest.raises(ConfigError, match=f"'kernel' must be odd .* 8 x 8; got {kernel}"):
            building.build(small("cnn", kernel=kernel))
    building.build(small("cnn", kernel=7))
