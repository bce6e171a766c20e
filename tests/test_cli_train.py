"""The commands train, sample, eval and info, as a person types them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from microgpt import checkpoints, runs
from microgpt.cli import main
from microgpt.cli.progress import scores_line
from microgpt.runs.kinds import KINDS

Run = Callable[..., tuple[int, str, str]]

NAMES = [a + b + c for a in ("an", "be", "ka") for b in ("na", "ri", "lo", "t") for c in "aeiny"]
GPT = [
    "train", "gpt", "--data", "names.txt", "--width", "8", "--layers", "1", "--heads", "2",
    "--context", "6", "--steps", "6", "--batch", "4", "--eval-every", "3",
]  # fmt: skip
MLP = ["train", "mlp", "--hidden", "6", "--limit", "60", "--steps", "6"]


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [n for n in os.environ if n.startswith("MICROGPT_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    Path("names.txt").write_text("\n".join(NAMES))


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the command: run("info", "runs/names") gives its status, output and errors."""

    def call(*arguments: str) -> tuple[int, str, str]:
        status = main(arguments)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def field(text: str, name: str) -> str:
    """What a line that starts with `name` says."""
    return next(line[12:] for line in text.splitlines() if line.startswith(f"{name} "))


# ---- train -----------------------------------------------------------------------------------


def test_train_sample_eval_info(run: Run) -> None:
    status, out, err = run(*GPT, "--out", "runs/names")
    assert (status, err) == (0, "")
    assert field(out, "model").startswith("gpt, 1,032 parameters (context=6, width=8")
    assert "54 lines to learn from, 6 to validate on" in field(out, "data")
    assert field(out, "training").startswith("6 steps of 4 examples, adamw with rate 0.003")
    assert field(out, "computes") == "numpy on cpu, float32, seed 0"
    assert re.search(r"^step 3/6  loss 2\.\d+  val loss 2\.\d+$", out, re.MULTILINE)
    assert "epoch" not in out
    assert field(out, "trained").startswith("6 steps; mean loss of the last 6 steps 2.")
    assert out.endswith("\nNext: microgpt sample runs/names --count 10\n")
    assert max(map(len, out.splitlines())) <= 100

    status, out, err = run("sample", "runs/names", "--count", "3", "--seed", "1", "--prompt", "an")
    assert (status, err) == (0, "")
    assert len(out.splitlines()) == 3 and all(x.startswith("an") for x in out.splitlines())
    streamed = run(
        "sample", "runs/names", "--count", "3", "--seed", "1", "--prompt", "an", "--stream"
    )
    assert streamed == (0, out, "")

    status, out, _ = run("eval", "runs/names", "--json")
    found = json.loads(out)
    assert status == 0 and found["split"] == "held-out" and found["weights"] == "best"
    assert found["perplexity"] == pytest.approx(2.718281828 ** found["loss"])
    _, out, _ = run("eval", "runs/names")
    assert field(out, "held-out").startswith(f"loss {found['loss']:.4f}, perplexity ")

    status, out, err = run("info", "runs/names")
    assert (status, err) == (0, "")
    assert field(out, "steps") == "6 saved" and "Parameters: 1,032" in out
    assert f"best {found['loss']:.4f}" in field(out, "validation")
    for word in ("Embedding", "width=8", "seed=0", "settings.toml", "tokenizer.json", "best"):
        assert word in out


@pytest.mark.parametrize("kind", ["mlp", "cnn", "lstm-classifier"])
def test_models_that_name_classes(run: Run, kind: str) -> None:
    status, out, err = run("train", kind, "--limit", "40", "--steps", "4", "--out", "one")
    assert (status, err) == (0, "") and out.endswith("Next: microgpt eval one\n")
    assert "to test on" in field(out, "data") and "CC BY" in out
    assert "accuracy" in field(out, "test")
    _, text, _ = run("eval", "one")
    assert field(text, "test") == field(out, "test")
    found = json.loads(run("eval", "one", "--json")[1])
    assert 0 <= found["accuracy"] <= 1 and "perplexity" not in found
    assert run("info", "one")[0] == 0
    status, _, err = run("sample", "one")
    assert status == 2 and f"kind {kind} writes no texts" in err


def test_the_folder_names_itself_and_is_not_overwritten_by_mistake(run: Run) -> None:
    assert run(*MLP)[0] == run(*MLP)[0] == 0
    assert sorted(p.name for p in Path("runs").iterdir()) == ["mlp-digits", "mlp-digits-2"]
    status, out, err = run(*MLP, "--out", "runs/mlp-digits")
    assert (status, out) == (2, "") and "runs/mlp-digits holds a run already" in err
    assert run(*MLP, "--out", "runs/mlp-digits", "--overwrite")[0] == 0


def test_a_dry_run_writes_nothing(run: Run) -> None:
    before = sorted(Path().iterdir())
    status, out, _ = run(*GPT, "--dry-run")
    assert status == 0 and sorted(Path().iterdir()) == before
    assert "Nothing was trained or written" in out and 'kind = "gpt"' in out and "width = 8" in out


def test_arguments_beat_presets_and_presets_beat_the_file(run: Run) -> None:
    Path("s.toml").write_text(
        "kind = 'gpt'\n[data]\ndata = 'names.txt'\n[model]\nwidth = 12\nheads = 2\nlayers = 1\n"
        "[training]\nsteps = 3\n"
    )
    assert run("train", "--config", "s.toml", "--heads", "3", "--lr", "0.5", "--out", "one")[0] == 0
    made = runs.read_settings("one/settings.toml")
    assert (made.model.width, made.model.heads, made.optimizer.lr) == (12, 3, 0.5)
    assert (made.training.steps, made.training.epochs) == (3, 0)
    arguments = ("--config", "s.toml", "--preset", "karpathy", "--steps", "2", "--out", "two")
    assert run("train", "gpt", *arguments)[0] == 0
    made = runs.read_settings("two/settings.toml")
    assert (made.model.layout, made.model.width, made.training.steps) == ("karpathy", 16, 2)
    assert Path(made.data.data).name == "names.txt"


def test_the_saved_settings_repeat_the_run(run: Run) -> None:
    run(*GPT, "--out", "one", "--seed", "3")
    assert run("train", "--config", "one/settings.toml", "--out", "two")[0] == 0
    assert weights("one") == weights("two")
    assert Path("one/settings.toml").read_text() == Path("two/settings.toml").read_text()
    # Of other data there is nothing to compare.
    Path("others.txt").write_text("\n".join(NAMES[::-1]))
    arguments = ("--config", "one/settings.toml", "--data", "others.txt", "--out", "three")
    assert run("train", *arguments)[0] == 0
    assert weights("three") != weights("one")


def weights(out: str) -> str:
    """A digest of those of the newest checkpoint: pytest would compare bytes for minutes."""
    content = (checkpoints.checkpoints(out)[-1] / "model.safetensors").read_bytes()
    return hashlib.sha256(content).hexdigest()


def test_settings_come_from_the_configuration_too(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MICROGPT_SEED", "9")
    monkeypatch.setenv("MICROGPT_DTYPE", "float64")
    run(*MLP, "--out", "one")
    compute = runs.read_settings("one/settings.toml").compute
    assert (compute.seed, compute.dtype, compute.backend) == (9, "float64", "numpy")
    monkeypatch.delenv("MICROGPT_SEED")
    run("train", "--config", "one/settings.toml", "--out", "two")
    assert runs.read_settings("two/settings.toml").compute == compute


def test_the_data_decide_which_lstm(run: Run) -> None:
    _, out, _ = run("train", "lstm", "--data", "japanese-vowels", "--dry-run")
    assert field(out, "model").startswith("lstm-classifier")
    _, out, _ = run("train", "lstm", "--documents", "--data", "names.txt", "--dry-run")
    assert field(out, "model").startswith("lstm, ")


def test_help_has_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["train", "--help"], ["train", "gpt", "--help"], ["sample", "-h"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 0
    text = capsys.readouterr().out
    for word in ("--width N", "{char,byte,bpe}", "--preset {karpathy,s2}", "(0.1)", *KINDS):
        assert word in text
    assert main(["train"]) == 0 and "a transformer that continues" in capsys.readouterr().out


def test_the_page_about_training(capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parent.parent / "docs" / "train.md").read_text(encoding="utf-8")
    for command in (["train", kind] for kind in KINDS):
        with pytest.raises(SystemExit):
            main([*command, "--help"])
    for command in ("sample", "eval"):
        with pytest.raises(SystemExit):
            main([command, "--help"])
    known = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    flags = set(re.findall(r"--[a-z][a-z-]+", text))
    assert len(flags) > 15 and flags <= known
    (block,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    Path("s.toml").write_text(block)
    assert runs.read_settings("s.toml").training.steps == 2000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("train gpt --widht 3", "no argument '--widht'; did you mean '--width'?"),
        (
            "train gpt --width=wide",
            "command line: 'width' must be a whole number of 1 or more; got",
        ),
        ("train gtp", "no model 'gtp'; did you mean 'gpt'?"),
        ("train gpt names.txt", "the model comes first, then settings; got 'names.txt'"),
        ("train gpt --data nothing.txt", "there is no text file nothing.txt"),
        ("train --lr 1", "train needs a model (gpt,"),
        ("train --resume nope", "there is no run in nope"),
        ("train gpt --resume a --out b", "--resume a and --out b"),
        ("train gpt --resume a --overwrite", "--resume goes on with a run, --overwrite puts"),
        ("train gpt --preset karpaty", "no preset 'karpaty'; did you mean 'karpathy'?"),
        ("train gpt --vocab 300", "--vocab counts with --tokenizer bpe only; got --tokenizer char"),
        ("train gpt --optimizer sgd --beta2 0.9", "--beta2 counts with --optimizer adamw or --op"),
        ("train gpt --schedule constant --final 0", "--final counts with --schedule cosine or"),
        ("train mlp --held-out 0 --patience 3", "--patience needs something to validate on"),
        ("train gpt --lr inf", "command line: 'lr' must be a finite number of 0 or more; got inf"),
        ("train gpt --seed -1", "command line: 'seed' must be a whole number of 0 or more; got"),
        ("train gpt --data digits", "a set of pictures"),
        ("train gpt --data .", ". is a folder"),
        ("train cnn --kernel 99", "'kernel' must be odd and no larger than the pictures"),
        ("train gpt --resume", "--resume needs the folder of the run"),
        ("train --config nope.toml", "there is no settings file nope.toml"),
        ("train --config bad.toml", "bad.toml: gpt has no setting 'stesp'; did you mean 'steps'?"),
        ("train mlp --config bad.toml", "bad.toml"),
        ("sample nope", "there is no run in nope"),
        ("eval nope", "there is no run in nope"),
        ("info nope", "there is no run in nope"),
    ],
)
def test_mistakes(run: Run, arguments: str, words: str) -> None:
    Path("bad.toml").write_text("kind = 'gpt'\n[training]\nstesp = 3")
    status, out, err = run(*arguments.split())
    assert (status, out) == (2, "")
    assert words in err and err.startswith("microgpt: ") and "Traceback" not in err
    assert not Path("runs").exists()
    assert "Traceback" in run(*arguments.split(), "--debug")[2]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="everything is allowed here")
def test_a_folder_that_cannot_be_written_is_no_mistake_of_the_program(run: Run) -> None:
    Path("closed").mkdir(mode=0o500)
    status, _, err = run(*MLP, "--out", "closed/run")
    assert status == 2 and "Permission denied" in err and "mistake of microgpt" not in err


def test_mistakes_in_sampling(run: Run) -> None:
    run(*GPT, "--out", "one")
    for arguments, words in (
        (
            ("--prompt", "Annë"),
            "the prompt has 'A', 'ë', which this model has never seen; this model kn",
        ),
        (("--seed", "-1"), "--seed must be 0 or more; got -1"),
        (("--count", "0"), "--count must be 1 or more; got 0"),
        (("--temperature", "-1"), "temperature must be 0 or more"),
        (("--top-p", "2"), "top_p must be above 0"),
        (("--backend", "nonsense"), "nonsense"),
    ):
        status, _, err = run("sample", "one", *arguments)
        assert status == 2 and words in err


def test_info_of_a_run_that_has_just_begun(run: Run) -> None:
    run(*GPT, "--out", "one")
    for place in (*checkpoints.checkpoints("one"), Path("one/best")):
        for file in sorted(place.rglob("*"), reverse=True):
            file.rmdir() if file.is_dir() else file.unlink()
        place.rmdir()
    Path("one/log.jsonl").write_text('{"step": 1, "loss": 2.5}\n{"step": 2, "lo')
    status, out, _ = run("info", "one")
    assert status == 0 and field(out, "steps") == "none saved yet"
    assert field(out, "loss") == "2.5000 in step 1"
    status, _, err = run("sample", "one")
    assert status == 2 and "no weights in one: its training has saved nothing" in err
    again = err.partition("microgpt train ")[2].split()
    assert again == ["--config", "one/settings.toml", "--out", "one"]
    assert run("train", *again)[0] == 0


def test_texts_that_are_all_the_same(run: Run) -> None:
    run(*GPT, "--out", "one")
    status, out, err = run("sample", "one", "--temperature", "0", "--count", "3")
    assert status == 0 and len(set(out.splitlines())) == 1
    assert (
        err == "microgpt: note: with --temperature 0 nothing is drawn, so all texts are the same\n"
    )
    assert run("sample", "one", "--temperature", "0")[2] == ""


def test_info_for_programs(run: Run) -> None:
    run(*MLP, "--out", "one", "--hidden", "")
    status, out, _ = run("info", "one")
    assert status == 0 and field(out, "run") == "one, mlp trained on digits"
    assert "hidden=none" in out and "best/" in out
    assert re.search(r"^best/ +\d+(\.\d+)? kB$", out, re.MULTILINE)
    status, out, _ = run("info", "one", "--json")
    found = json.loads(out)
    assert (status, found["kind"], found["steps"]) == (0, "mlp", 6)
    assert found["settings"]["model"]["hidden"] == [] and found["parameters"] == 650
    assert found["files"]["settings.toml"] == Path("one/settings.toml").stat().st_size
    assert found["best"]["val_loss"] > 0


def test_few_examples_are_told(run: Run) -> None:
    Path("names.txt").write_text("anna\nbert\ncara\n")
    arguments = ("train", "gpt", "--data", "names.txt", "--held-out", "0", "--dry-run")
    _, out, _ = run(*arguments, "--steps", "1")
    assert field(out, "training").startswith("1 step of 3 examples (all there are), adamw")
    _, out, _ = run(*arguments, "--epochs", "1", "--batch", "1")
    assert field(out, "training").startswith("3 steps in 1 epoch of 1 example, adamw")


def test_a_perplexity_without_end_is_short() -> None:
    assert scores_line({"loss": 30.0}, object()) == "loss 30.0000, perplexity 1.069e+13"
    assert scores_line({"loss": 2.0}, object()) == "loss 2.0000, perplexity 7.39"


# ---- going on --------------------------------------------------------------------------------


def test_a_run_gets_another_length(run: Run) -> None:
    run(*MLP, "--out", "one")
    status, out, _ = run("train", "--resume", "one")
    assert status == 0 and "There is nothing to do: one is finished, after 6 steps; more" in out
    status, out, err = run("train", "--resume", "one", "--steps", "5")
    assert (status, out) == (2, "") and "one has 6 steps already; got steps=5" in err
    status, out, err = run("train", "--resume", "one", "--steps", "5", "--dry-run")
    assert (status, out) == (2, "") and "one has 6 steps already; got steps=5" in err
    status, out, _ = run("train", "--resume", "one", "--steps", "9", "--dry-run")
    assert status == 0 and "after 6 steps; its length" in out
    assert "resumed_at" in out and runs.read_settings("one/settings.toml").training.steps == 6
    status, out, _ = run("train", "--resume", "one", "--steps", "9")
    assert status == 0 and field(out, "goes on").startswith("after 6 steps; its length is another")
    assert field(out, "trained").startswith("9 steps;")
    assert "resumed_at=6" in run("info", "one")[1]
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        status, _, err = run("train", "--config", "one/settings.toml", "--out", "two")
    assert status == 0 and err.startswith("microgpt: warning: these settings are of a run that got")


# ---- interruption ----------------------------------------------------------------------------


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_a_signal_saves_and_the_run_goes_on_bit_for_bit(run: Run) -> None:
    words = ["train", "mlp", "--hidden", "150,150", "--epochs", "12", "--batch", "16", "--out"]
    assert run(*words, "whole")[0] == 0
    for number, status, again in (
        # With the original command line, or with the folder alone.
        (signal.SIGINT, 130, (*words, "first", "--resume")),
        (signal.SIGTERM, 143, ("train", "--resume", "second")),
    ):
        name = "first" if number == signal.SIGINT else "second"
        out = interrupted([*words, name], number, status)
        assert out.endswith(f"\nGo on with: microgpt train --resume {name}\n")
        assert "resume=True" not in out
        assert 162 <= int(checkpoints.checkpoints(name)[-1].name.rpartition("-")[2]) < 972
        assert weights(name) != weights("whole")
        assert run(*again)[0] == 0
        assert weights(name) == weights("whole")


def interrupted(arguments: list[str], number: signal.Signals, status: int) -> str:
    """What a training prints that gets a signal after its second epoch."""
    process = subprocess.Popen(
        [sys.executable, "-m", "microgpt", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    watchdog = threading.Timer(100, process.kill)
    watchdog.start()
    try:
        for line in process.stdout:
            if line.startswith("epoch 2/"):
                break
        process.send_signal(number)
        out, err = process.communicate()
    finally:
        watchdog.cancel()
    assert (process.returncode, err) == (status, "")
    return out
