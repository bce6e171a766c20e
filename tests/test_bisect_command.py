"""`microgpt bisect SCRIPT`."""

import subprocess
import sys
import textwrap

import pytest

import microgpt as mg
from microgpt.cli import main
from tests.second_backend import Other, off


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Writes a script and runs the command on it: status, output, errors."""
    monkeypatch.chdir(tmp_path)

    def call(source, *arguments, backends="numpy,other"):
        if source is not None:
            text = "import sys\nimport microgpt as mg\n" + textwrap.dedent(source)
            (tmp_path / "script.py").write_text(text)
        status = main(["bisect", "script.py", "--backends", backends, *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


TRAIN = """
    if __name__ == "__main__":
        print("arguments", sys.argv[1:], mg.config.get("seed"))
        model = mg.models.MLP((3, 4, 2), "tanh", generator=mg.generator(0))
        steps = mg.optim.Adam(model.parameters())
        for _ in range(2):
            steps.zero_grad()
            mg.mse_loss(model(mg.ones((5, 3))), mg.zeros((5, 2))).backward()
            steps.step()
"""


def test_a_script_that_agrees(run):
    path = list(sys.path), list(sys.argv)
    with mg.plugged(Other()):
        status, out, err = run(TRAIN, "--seed", "4", "--", "--fast", "x")
    assert (status, err) == (0, "")
    first, last = out.splitlines()
    assert first == "arguments ['--fast', 'x'] 4"
    assert last.startswith("script.py: numpy and other agree in all ")
    assert (sys.path, sys.argv) == path


def test_a_script_that_parts(run):
    with mg.plugged(Other({"tanh": off()})):
        status, out, err = run(TRAIN)
        assert (status, err) == (1, "")
        assert "script.py: numpy and other part at op 2: tanh, forward" in out
        assert run(TRAIN, "--rtol", "0.5")[0] == 0


def test_the_command_is_the_line_to_repeat_where_the_op_alone_agrees(run):
    calls = [False, False, True]
    with mg.plugged(Other({"tanh": lambda k, x: k(x) * (1.01 if calls.pop() else 1)})):
        status, out, _ = run(TRAIN, "--seed", "4", "--", "--fast")
    assert status == 1
    assert "  repeat: microgpt bisect script.py --backends numpy,other --seed 4 -- --fast\n" in out


def test_a_script_may_import_its_neighbours(run, tmp_path):
    (tmp_path / "near.py").write_text("import microgpt as mg\nmg.exp(mg.zeros(2))\n")
    with mg.plugged(Other()):
        assert run("import near\n")[0] == 0
    sys.modules.pop("near")


@pytest.mark.parametrize(
    ("source", "backends", "said"),
    [
        (None, "numpy,other", "there is no script 'script.py'"),
        ("pass", "numpy,other", "bisect needs a function that runs ops"),
        ("mg.exp(mg.zeros(2))", "numpy", "--backends takes two names with a comma between them"),
        ("mg.exp(mg.zeros(2))", "numpy,nonsense", "no backend 'nonsense'"),
        ("mg.exp(mg.zeros(2))\n1 / 0", "numpy,other",
         "script.py, line 4, failed while numpy and other ran together, after 1 ops: "
         "ZeroDivisionError: division by zero"),
        ("mg.exp(mg.zeros(2))\nsys.exit(3)", "numpy,other",
         "after 1 ops: InputError: it ended with the exit status 3"),
        ("mg.exp(mg.zeros(2))\nmg.tan(mg.zeros(2))", "numpy,other",
         "after 2 ops: BackendError: backend 'other' fails at op 2, tan, forward, of (2,)"),
    ],
)  # fmt: skip
def test_errors_of_the_command(run, source, backends, said):
    def fail(kernel, x):
        raise RuntimeError("no")

    with mg.plugged(Other({"tan": fail})):
        status, _, err = run(source, backends=backends)
    assert status == 2
    assert said in err and "Traceback" not in err


def test_a_script_that_ends_itself_agrees(run):
    with mg.plugged(Other()):
        assert run("mg.exp(mg.zeros(2))\nsys.exit()")[0] == 0


def test_in_a_process_of_its_own(tmp_path):
    (tmp_path / "script.py").write_text("import microgpt as mg\nmg.exp(mg.ones(2))\n")
    done = subprocess.run(
        [sys.executable, "-m", "microgpt", "bisect", "script.py", "--backends", "numpy,numpy"],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "script.py: numpy and numpy agree in 1 op call\n"
