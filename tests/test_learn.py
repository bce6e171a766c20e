"""Lessons: their list is complete, their shared part works, their solutions hold."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

import microgpt as mg
from microgpt.cli import main
from microgpt.learn import Lesson, LessonError, catalogue, images, long_text, start
from microgpt.learn.catalogue import CHAPTERS, Card, cards, chosen

FOLDER = Path(__file__).parent.parent / "tutorials"
each = pytest.mark.parametrize("card", cards(), ids=lambda card: card.file)


def lesson(tmp_path: Path) -> Lesson:
    return Lesson(fast=True, seed=3, out=tmp_path)


# ---- checks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "bound", "text", "good"),
    [
        (5, {"equals": 5}, "= 5", True),
        (5, {"equals": 6}, "= 6", False),
        ("DCAB", {"equals": "DCAB"}, "= DCAB", True),
        (True, {"equals": True}, "= yes", True),
        (False, {"equals": True}, "= yes", False),
        (0.5, {"at_least": 0.5}, ">= 0.5", True),
        (0.499, {"at_least": 0.5}, ">= 0.5", False),
        (0.5, {"at_most": 0.5}, "<= 0.5", True),
        (0.5, {"above": 0.5}, "> 0.5", False),
        (0.5, {"below": 0.5}, "< 0.5", False),
        (0.5, {"above": 0.4, "below": 0.6}, "> 0.4, < 0.6", True),
        (1.02, {"near": 1, "within": 0.01}, "= 1 ± 0.01", False),
        (1.005, {"near": 1, "within": 0.01}, "= 1 ± 0.01", True),
        (float("nan"), {"at_least": 0.0}, ">= 0", False),
        (float("nan"), {"near": 0.0, "within": 1.0}, "= 0 ± 1", False),
        (mg.tensor(2.0), {"below": 3}, "< 3", True),
    ],
)
def test_checks(tmp_path, capsys, value, bound, text, good) -> None:
    here = lesson(tmp_path)
    assert here.check("a name", value, **bound) is good
    line = capsys.readouterr().out
    assert re.fullmatch(rf"CHECK  a name +\S+  {re.escape(text)} *(PASS|FAIL)\n", line), line
    assert line.endswith("PASS\n" if good else "FAIL\n")
    assert (here.passed, here.failed) == ((["a name"], []) if good else ([], ["a name"]))


def test_a_check_needs_a_bound(tmp_path) -> None:
    with pytest.raises(mg.errors.InputError, match="'free' needs a bound: equals, near"):
        lesson(tmp_path).check("free", 1.0)


def test_a_failed_check_ends_the_lesson(tmp_path, capsys, monkeypatch) -> None:
    here = lesson(tmp_path)
    here.check("fine", 1, equals=1)
    here.finish()
    assert capsys.readouterr().out.endswith("all 1 checks passed\n")
    here.check("wrong", 2, equals=1)
    with pytest.raises(SystemExit, match=r"1 check\(s\) failed: wrong"):
        here.finish()
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    with pytest.raises(LessonError, match="failed: wrong"):
        here.finish()


def test_streams_of_random_numbers_are_apart(tmp_path) -> None:
    here, other = lesson(tmp_path), Lesson(True, 4, tmp_path)
    draws = [g.random() for g in (here.generator(), here.generator(1), other.generator())]
    assert len(set(draws)) == 3 and here.generator().random() == draws[0]
    assert here.pick(10, 2) == 2 and Lesson(False, 1, tmp_path).pick(10, 2) == 10


def test_options(tmp_path, capsys, monkeypatch) -> None:
    here = start("A title", ["--fast", "--seed", "7", "--out", str(tmp_path)])
    assert (here.fast, here.seed, here.out) == (True, 7, tmp_path)
    out = capsys.readouterr().out
    assert out.startswith("A title\nbackend numpy, device cpu, seed 7\n")
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    monkeypatch.setattr(sys, "argv", ["kernel", "-f", "connection.json"])
    monkeypatch.setenv("LESSON_OPTIONS", f"--seed 9 --out '{tmp_path / 'two words'}'")
    here = start("A notebook")
    assert (here.fast, here.seed, here.out) == (False, 9, tmp_path / "two words")


def test_pictures_are_written(tmp_path, capsys) -> None:
    here = Lesson(True, 1, tmp_path / "new" / "folder")
    here.picture(mg.viz.cost_curve({"cost": [2.0, 1.0]}), "curve.png")
    here.picture("<svg xmlns='http://www.w3.org/2000/svg'/>", "tree.svg")
    assert {p.name for p in here.out.iterdir()} == {"curve.png", "tree.svg"}
    assert capsys.readouterr().out.count("picture ") == 2


def test_images_of_a_named_folder_are_not_replaced(tmp_path, monkeypatch) -> None:
    with pytest.raises(mg.errors.DataError):
        images(Lesson(True, 1, tmp_path, data=str(tmp_path)))


def test_images_without_a_folder(tmp_path, monkeypatch, capsys) -> None:
    def away(folder=None):
        raise mg.errors.DataError("no network")

    monkeypatch.delenv("MICROGPT_DATA", raising=False)
    monkeypatch.setattr(mg.data, "mnist", away)
    digits, is_mnist = images(Lesson(True, 1, tmp_path))
    assert not is_mnist and digits.x_train.shape[1:] == (28, 28)
    assert "no network" in (out := capsys.readouterr().out) and "data: the 1,797 digits" in out


def test_texts(tmp_path, monkeypatch, capsys) -> None:
    def away(folder=None):
        raise mg.errors.DataError("no network")

    with pytest.raises(mg.errors.DataError):
        long_text(Lesson(True, 1, tmp_path, data=str(tmp_path)))
    monkeypatch.delenv("MICROGPT_DATA", raising=False)
    monkeypatch.setattr(mg.data, "tiny_shakespeare", away)
    assert len(long_text(Lesson(True, 1, tmp_path)).text) > 100_000
    assert "no network" in (out := capsys.readouterr().out) and "\ndata: " in out


# ---- the list ----------------------------------------------------------------------------------


def test_all_scripts_are_listed() -> None:
    assert {card.file for card in cards()} == {p.stem for p in FOLDER.glob("[!_]*.py")}
    order = [CHAPTERS.index(card.chapter) for card in cards()]
    assert order == sorted(order) and set(order) == set(range(len(CHAPTERS)))


@each
def test_a_card_tells_the_truth(card: Card) -> None:
    text = card.script.read_text(encoding="utf-8")
    first = text.splitlines()[1]
    chapter = "Talk" if card.chapter == "talk" else f"Chapter {card.chapter}"
    assert first.lower().startswith(f"# # {'the talk' if chapter == 'Talk' else chapter}".lower())
    for picture in card.pictures:
        assert f'"{picture}"' in text, f"{picture} is not drawn"
    assert card.fast <= card.seconds and card.summary and re.search("[一-鿿]", card.summary_zh)


@each
def test_form_of_a_lesson(card: Card) -> None:
    for file in (card.script, card.solution):
        text = file.read_text(encoding="utf-8")
        assert text.startswith("# %% [markdown]\n"), file
        assert "lesson.finish()" in text and "lesson = start(" in text, file
        assert not re.search(r"__file__|__name__|sys\.argv", text), "it must run as a notebook"
    lesson_text = card.script.read_text(encoding="utf-8")
    assert "## Try this" in lesson_text and f"solutions/{card.file}.py" in lesson_text


def test_lessons_are_chosen_by_chapter_and_name() -> None:
    assert [card.file for card in chosen(["4"])] == ["ch04_chain_rule"]
    with pytest.raises(mg.errors.InputError, match="did you mean 'ch06_softmax'"):
        chosen(["ch06_softmaxx"])
    with pytest.raises(mg.errors.InputError, match="a chapter \\(1, 2, .*talk\\)"):
        chosen(["9"])


def test_lessons_that_are_not_there(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(catalogue.microgpt, "__file__", str(tmp_path / "a" / "__init__.py"))
    with pytest.raises(mg.errors.DataError, match="install microgpt again"):
        catalogue.folder()


# ---- the command -------------------------------------------------------------------------------


def test_the_list(capsys) -> None:
    assert main(["learn"]) == 0
    out = capsys.readouterr().out
    assert all(card.file in out for card in cards()) and "microgpt learn 7" in out


def test_running_one_and_several(tmp_path, capsys) -> None:
    assert main(["learn", "ch06_softmax", "--fast", "--seed", "2", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "temperature.png").exists()
    out = capsys.readouterr().out
    assert "seed 2" in out and "CHECK  Snape" in out
    names = ["ch06_softmax", "ch06_gpt3_count"]
    assert main(["learn", *names, "--fast", "--jobs", "2", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "ch06_gpt3_count" / "gpt3_table.svg").exists()
    assert "2 lessons, " in capsys.readouterr().out


def test_a_lesson_that_fails(tmp_path, capsys, monkeypatch) -> None:
    (tmp_path / "lessons.toml").write_text("")
    (tmp_path / "bad.py").write_text(
        "from microgpt.learn import start\n"
        "lesson = start('Bad')\nlesson.uses('nothing')\n"
        "lesson.check('one', 1, equals=1)\nlesson.check('two', 2, equals=3)\nlesson.finish()\n"
    )
    (tmp_path / "stops.py").write_text("raise RuntimeError('in the middle')\n")
    some = [Card(name, "1", name, "", 1, 1, "", (), "", "") for name in ("bad", "stops")]
    monkeypatch.setattr("microgpt.learn.catalogue.folder", lambda: tmp_path)
    monkeypatch.setattr("microgpt.cli.learn.cards", lambda: tuple(some))
    assert main(["learn", "--all", "--jobs", "2"]) == 1
    out = capsys.readouterr().out
    assert "in the middle" in out and "CHECK  two" in out, "what they said is shown"
    assert re.search(r"^bad +\S+ s +1 +1 +nothing$", out, re.MULTILINE)
    assert re.search(r"^stops +\S+ s +0 +stopped", out, re.MULTILINE)
    assert "not well: bad, stops" in out


def test_all_and_names_exclude_each_other(capsys) -> None:
    assert main(["learn", "4", "--all"]) == 2
    assert "leave one of them out" in capsys.readouterr().err


# ---- running them ------------------------------------------------------------------------------


@each
def test_the_solutions_hold(card: Card, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(card.solution), "--fast", "--out", str(tmp_path)],
        capture_output=True, text=True, encoding="utf-8", env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "checks passed" in done.stdout


@pytest.mark.parametrize("name", ["ch04_chain_rule", "ch06_softmax"])
def test_a_lesson_is_a_notebook(name: str, tmp_path: Path) -> None:
    """All of them are executed as notebooks when the site is built."""
    jupytext = pytest.importorskip("jupytext", reason="extra docs is not installed")
    client = pytest.importorskip("nbclient", reason="extra docs is not installed")
    notebook = jupytext.read(FOLDER / f"{name}.py")
    environment = os.environ | {"LESSON_OPTIONS": f"--fast --out '{tmp_path}'"}
    client.NotebookClient(notebook, timeout=120, kernel_name="python3").execute(env=environment)
    outputs = [o for cell in notebook.cells for o in cell.get("outputs", [])]
    assert any("checks passed" in o.get("text", "") for o in outputs)
    shown = {kind for o in outputs for kind in o.get("data", {})}
    assert {"image/png", "image/svg+xml"} & shown
