"""The settings of runs: what is refused, which source wins, and TOML files."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from microgpt import runs
from microgpt.errors import ConfigError
from microgpt.runs.kinds import KINDS
from microgpt.runs.settings import TABLES, Layer, resolve, rows


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_every_kind_and_preset_is_complete() -> None:
    for kind in KINDS.values():
        known = rows(kind)
        assert set(kind.defaults) <= set(known)
        assert {row.table for row in known.values()} == set(TABLES)
        every = [f for table in (kind.data, kind.model) for f in table.__dataclass_fields__]
        assert len(known) == len(set(every)) + sum(
            row.table not in ("data", "model") for row in known.values()
        ), "a name is there twice"
        for preset in ({}, *kind.presets.values()):
            made = resolve(kind, Layer("preset", preset))
            assert made.flat().items() >= preset.items()


def test_the_last_source_wins_and_steps_and_epochs_replace_each_other() -> None:
    kind = KINDS["gpt"]
    made = resolve(kind, Layer("a", {"lr": 1, "width": 32, "steps": 9}), Layer("b", {"lr": 0.5}))
    assert (made.optimizer.lr, made.model.width, made.training.steps) == (0.5, 32, 9)
    made = resolve(kind, Layer("a", {"steps": 9}), Layer("b", {"epochs": 2}))
    assert (made.training.steps, made.training.epochs) == (0, 2)
    made = resolve(kind, Layer("a", {"steps": 0, "epochs": 3}), Layer("b", {"steps": 4}))
    assert (made.training.steps, made.training.epochs) == (4, 0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"widht": 3}, "gpt has no setting 'widht'; did you mean 'width'?"),
        ({"width": "wide"}, "'width' must be a whole number of 1 or more; got 'wide'"),
        ({"width": 1.5}, "'width' must be a whole number of 1 or more; got 1.5"),
        ({"width": True}, "'width' must be a whole number"),
        ({"lr": float("nan")}, "'lr' must be a finite number of 0 or more; got nan"),
        ({"lr": float("inf")}, "'lr' must be a finite number of 0 or more; got inf"),
        ({"clip_norm": float("inf")}, "'clip_norm' must be a finite number of 0 or more; got inf"),
        ({"beta1": 1.5}, "'beta1' must be a number from 0 to 1; got 1.5"),
        ({"tokenizer": "words"}, "'tokenizer' must be one of char, byte, bpe; got 'words'"),
        ({"data": 7}, "'data' must be a text; got 7"),
        ({"steps": 1, "epochs": 1}, "both 'steps' and 'epochs'"),
        ({"steps": 0}, "'steps' or 'epochs' must be 1 or more"),
    ],
)
def test_wrong_settings(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(words)):
        runs.configure("gpt", **changes)


def test_settings_of_kinds() -> None:
    with pytest.raises(ConfigError, match="no model 'gtp'; did you mean 'gpt'"):
        runs.configure("gtp")
    with pytest.raises(ConfigError, match="mlp has no setting 'width'"):
        runs.configure("mlp", width=3)
    assert runs.configure("mlp", hidden=[30, 20]).model.hidden == (30, 20)
    assert runs.configure("lstm", data="spoken-digits").kind == "lstm-classifier"
    assert runs.configure("lstm-classifier").data.data == "japanese-vowels"


def test_a_file_brings_back_what_was_written() -> None:
    for kind in KINDS:
        settings = runs.configure(kind, lr=1e-5, seed=7, device="a \"b\"\n'c'\\")
        runs.write_settings(settings, "s.toml")
        assert runs.read_settings("s.toml") == settings
        assert list(tomllib.loads(Path("s.toml").read_text())) == ["kind", *TABLES]
    assert not list(Path().glob(".s.toml*")), "no temporary file is left"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            "kind = 'gpt'\n[modle]\nwidth = 3",
            r"s.toml: there is no table \[modle\]; did you mean 'm",
        ),
        (
            "kind = 'gpt'\n[model]\nwidht = 3",
            "s.toml: gpt has no setting 'widht'; did you mean 'wi",
        ),
        ("kind = 'gpt'\n[data]\nwidth = 3", r"'width' belongs under \[model\]; got it under \[dat"),
        ("kind = 'gpt'\nwidth = 3", r"'width' is in no table; it belongs under \[model\]"),
        ("kind = 'gpt'\n[model]\nwidth = '3x'", "s.toml: 'width' must be a whole number of 1 or"),
        ("kind = 'gtp'", "no model 'gtp'; did you mean 'gpt'"),
        ("[model]\nwidth = 3", "'kind' must name the model.*got nothing"),
        ("kind = gpt", "s.toml: must be a readable TOML file"),
        ("kind = 'gpt'\n[training]\nsteps = 3\nepochs = 2", "both 'steps' and 'epochs'"),
    ],
)
def test_damaged_files(content: str, words: str) -> None:
    Path("s.toml").write_text(content)
    with pytest.raises(ConfigError, match=words):
        runs.read_settings("s.toml")
    with pytest.raises(ConfigError, match="there is no settings file other.toml"):
        runs.read_settings("other.toml")


def test_numbers_in_files_are_numbers() -> None:
    Path("s.toml").write_text("kind = 'gpt'\n[model]\nwidth = '3'")
    with pytest.raises(ConfigError, match="'width' must be a whole number of 1 or more; got '3'"):
        runs.read_settings("s.toml")


def test_words_of_the_command_line() -> None:
    known = rows(KINDS["mlp"])
    assert known["hidden"].parsed("30,20", "here") == (30, 20)
    assert known["hidden"].parsed("", "here") == ()
    assert known["lr"].parsed("1e-2", "here") == 0.01
    for name, word in (("hidden", "30,x"), ("lr", "fast"), ("batch", "1.5"), ("batch", "0")):
        with pytest.raises(ConfigError, match=f"here: '{name}' must be .*; got "):
            known[name].parsed(word, "here")


def test_paths_in_a_file_are_relative_to_it(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "own.txt").write_text("a text")
    (tmp_path / "deep" / "s.toml").write_text("kind = 'gpt'\n[data]\ndata = 'own.txt'")
    assert Path(runs.read_settings("deep/s.toml").data.data) == Path("deep/own.txt")
