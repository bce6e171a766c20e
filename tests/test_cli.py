import os
import subprocess
import sys
import types

import numpy as np
import pytest

import microgpt as mg
from microgpt.cli import main, opencl, packages, rules
from microgpt.ops import TABLE
from microgpt.plugins import registry


@pytest.fixture(autouse=True)
def no_settings(monkeypatch, tmp_path):
    for name in [n for n in os.environ if n.startswith("MICROGPT_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(capsys):
    """Runs the command: run("ops", "tanh") gives its status, output and errors."""

    def call(*arguments):
        status = main(arguments)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def column(text, start):
    """The rest of the first line that starts with `start`."""
    return next(line[len(start) :].strip() for line in text.splitlines() if line.startswith(start))


# ---- the command itself ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [("doctor",), ("backends",), ("backends", "--ops"), ("backends", "--op", "softmax"), ("ops",)]
    + [("ops", "layer_norm"), ("ops", "where"), ("config",), ()],
)
def test_output_is_plain_and_fits(run, arguments):
    status, out, err = run(*arguments)
    assert (status, err) == (0, "")
    assert "\x1b" not in out
    if arguments != ("doctor",):  # paths cannot be broken
        assert max(map(len, out.splitlines())) <= 100


def test_version_and_help(run, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"microgpt {mg.__version__}\n"
    for command in ("doctor", "backends", "ops", "config"):
        assert command in run()[1]


def test_wrong_usage(capsys):
    assert main(["nonsense"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("microgpt: there is no command 'nonsense'\n(valid: train, sample, ")
    assert main(["--debug", "trian", "gpt"]) == 2
    assert "no command 'trian'; did you mean 'train'?" in capsys.readouterr().err
    with pytest.raises(SystemExit) as caught:
        main(["museum", "nonsense"])
    assert caught.value.code == 2


def test_errors_are_short_and_debug_shows_the_traceback(run):
    status, out, err = run("ops", "tanhh")
    assert (status, out) == (2, "")
    assert err.startswith("microgpt: there is no op 'tanhh'; did you mean tanh")
    assert "Traceback" not in err
    for arguments in (("--debug", "ops", "tanhh"), ("ops", "tanhh", "--debug")):
        status, _, err = run(*arguments)
        assert status == 2
        assert "Traceback" in err and "InputError" in err


def test_a_mistake_of_the_program_says_so(run, monkeypatch):
    monkeypatch.setattr("microgpt.config.effective", lambda: 1 / 0)
    status, _, err = run("config")
    assert status == 2
    assert "ZeroDivisionError" in err and "--debug" in err and "Traceback" not in err


def test_in_a_process_of_its_own(tmp_path):
    for command in ([sys.executable, "-m", "microgpt"], [script()]):
        done = subprocess.run(
            [*command, "ops", "nope"], capture_output=True, text=True, encoding="utf-8"
        )
        assert done.returncode == 2
        assert done.stdout == "" and "no op 'nope'" in done.stderr


def script():
    path = os.path.join(os.path.dirname(sys.executable), "microgpt")
    if not os.path.exists(path):
        pytest.skip("the command is not installed beside this Python")
    return path


def test_a_reader_that_stops_early(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "microgpt", "ops"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait(20) == 0
    process.stderr.close()


def test_output_that_is_not_unicode(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "microgpt", "ops", "exp"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert b"formula     e?" in done.stdout


# ---- config ----------------------------------------------------------------------------------


def test_config_shows_values_and_sources(run, monkeypatch, tmp_path):
    (tmp_path / "microgpt.toml").write_text("seed = 7\nplugins = []")
    monkeypatch.setenv("MICROGPT_DTYPE", "float64")
    _, out, _ = run("config")
    assert column(out, "seed").split() == ["7", "file", os.path.join(".", "microgpt.toml")]
    assert column(out, "dtype").split() == ["float64", "environment", "MICROGPT_DTYPE"]
    assert column(out, "backend").split() == ["numpy", "default"]
    assert column(out, "device").split() == ["-", "default"]


def test_config_errors(run, monkeypatch):
    monkeypatch.setenv("MICROGPT_BACKEN", "numpy")
    status, out, err = run("config")
    assert (status, out) == (2, "")
    assert err.startswith("microgpt: environment: there is no setting 'MICROGPT_BACKEN'")


# ---- backends --------------------------------------------------------------------------------


class Override:
    @mg.hookimpl
    def microgpt_kernel(self, backend, op):
        kernels = {"tanh": np.tanh, "softmax_vjp": lambda *a, **k: None}
        return kernels.get(op) if backend == "numpy" else None


def test_backends(run):
    _, out, _ = run("backends")
    assert column(out, "numpy").startswith("ready, default")
    assert "cpu" in column(out, "numpy") and "float32 float64" in column(out, "numpy")
    assert column(out, "python").startswith("ready")
    assert "Overridden" not in out


def test_overrides_stand_out(run):
    with mg.plugged(Override(), "faster"):
        _, out, _ = run("backends")
        lines = [line.split() for line in out.partition("Overridden kernels")[2].splitlines()[2:]]
        assert lines == [
            ["numpy", "tanh", "faster", "numpy"],
            ["numpy", "softmax_vjp", "faster", "numpy"],
        ]
        _, out, _ = run("backends", "--op", "tanh")
        uses = [line.split()[:4] for line in out.splitlines()[3:5]]
        assert uses == [["numpy", "tanh", "faster", "in"], ["numpy", "tanh", "numpy", "overridden"]]
        _, out, _ = run("backends", "--ops")
        assert column(out, "tanh ").split()[0] == "faster"
        assert column(out, "exp ").split()[0] == "numpy"


def test_every_op_has_a_server_or_a_definition(run):
    _, out, _ = run("backends", "--ops")
    rows = [line.split() for line in out.partition("Who computes what")[2].splitlines()[2:]]
    assert [row[0] for row in rows] == list(TABLE)
    assert {row[1] for row in rows} <= {"numpy", "definition"}


def test_broken_plugins_are_shown(run, monkeypatch):
    monkeypatch.setitem(registry.broken, "torn", "plugin 'torn' could not be loaded: on purpose")
    _, out, _ = run("backends")
    unusable = out.partition("Cannot be used\n")[2]  # where the extra is missing, opencl as well
    assert "  torn        plugin 'torn' could not be loaded: on purpose" in unusable
    status, out, _ = run("doctor")
    assert status == 0
    assert "torn        BROKEN: plugin 'torn' could not be loaded: on purpose" in out


# ---- ops -------------------------------------------------------------------------------------


def test_the_table_has_every_op(run):
    _, out, _ = run("ops")
    first = [line.split()[0] for line in out.splitlines() if line and line[0] != " "]
    assert set(TABLE) <= set(first)
    assert column(out, "tanh ").split()[:2] == ["rule", "numpy"]
    assert column(out, "equal ").startswith("none")
    assert column(out, "softmax ").startswith("fused, rule")
    assert column(out, "layer_norm ").startswith("fused  ")


@pytest.mark.parametrize("name", list(TABLE))
def test_everything_about_each_op(run, name):
    status, out, err = run("ops", name)
    assert (status, err) == (0, "")
    assert out.startswith(f"{name}\n  formula     ")
    assert "source is not available" not in out
    op = TABLE[name]
    if op.nondifferentiable:
        assert f"none: {op.nondifferentiable}" in out
    elif op.rules is None:
        assert "by differentiating the definition" in out
    else:
        assert "\n  gradient    by " in out


def test_one_op_in_detail(run):
    _, out, _ = run("ops", "multiply")
    assert "by a: g * b\n" in out and "by b: g * a\n" in out
    assert column(out, "  reads") == "a, b"
    assert "numpy    multiply  numpy   numpy.multiply" in out
    _, out, _ = run("ops", "tanh")
    assert column(out, "  reads") == "y (the output)"
    _, out, _ = run("ops", "pow")
    assert "by a: _pow_base(…)" in out
    assert "def _pow_base(" in out and "# n·aⁿ⁻¹" in out
    _, out, _ = run("ops", "softmax")
    assert "numpy    softmax_vjp" in out and "def _softmax(" in out
    assert "mg.softmax(x, axis=-1, temperature=1.0)" in out


def test_a_function_that_is_no_op(run):
    status, _, err = run("ops", "embedding")
    assert status == 2
    assert "mg.embedding is no op but a function made of ops" in err


def test_ops_of_users_are_shown_too(run):
    @mg.primitive(vjp=(lambda g, y, x: 3 * x * x * g,))
    def cube_for_this_test(x):
        """x³"""
        return x * x * x

    try:
        _, out, _ = run("ops", "cube_for_this_test")
    finally:
        del TABLE["cube_for_this_test"]
    assert "formula     x³" in out
    assert "by x: 3 * x * x * g" in out
    assert "no kernels" in out


def test_the_reference_table(run):
    _, out, _ = run("ops", "--markdown")
    rows = [line for line in out.splitlines() if line.startswith("| `")]
    assert sorted(row.split("`")[1] for row in rows) == sorted(TABLE)
    assert all(row.replace("\\|", "").count("|") == 6 for row in rows), "five columns each"
    assert "| `multiply` | a · b | a: `g * b`<br>b: `g * a` | a, b | numpy" in out
    assert "| `abs` | \\|x\\|;" in out
    assert "## Elementwise" in out and "```python\ndef _pow_base(" in out


# Two rules in one line, told apart by the columns of the compiled code.
PAIR = (lambda g, y, a, b: g + b, lambda g, y, a, b: (g * a, b)[0])


NESTED = (lambda g, y, x: (lambda z: z * x)(g), lambda g, y, x: x)


def one_return(g, y, x):
    """With a docstring."""
    return g * x


def test_expressions_are_found_in_the_source():
    assert rules.expression(PAIR[0]) == "g + b"
    assert rules.expression(PAIR[1]) == "(g * a, b)[0]"
    assert rules.expression(NESTED[0]) == "(lambda z: z * x)(g)"
    assert rules.expression(NESTED[1]) == "x"
    assert rules.expression(one_return) == "g * x"
    assert rules.expression(np.tanh) is None
    assert rules.expression(eval("lambda g, y, x: g")) is None
    assert rules.expression(rules.expression) is None
    assert "its source is not available" in rules.source(eval("lambda x: x"))


# ---- doctor ----------------------------------------------------------------------------------


def test_doctor(run):
    status, out, _ = run("doctor")
    assert status == 0
    assert column(out, "  NumPy") == np.__version__
    assert "threads" in column(out, "  BLAS")
    assert column(out, "  settings") == "all at their defaults"
    assert column(out, "  numpy ").startswith("default; devices cpu")
    assert out.endswith("The base works: a gradient was computed and is right.\n")


def test_doctor_with_wrong_settings(run, monkeypatch):
    monkeypatch.setenv("MICROGPT_DTYPE", "half")
    status, out, err = run("doctor")
    assert (status, err) == (1, "")
    assert (
        "The base does not work:\n- the settings are not valid: environment MICROGPT_DTYPE" in out
    )


def test_doctor_with_a_backend_that_is_not_there(run, monkeypatch):
    monkeypatch.setenv("MICROGPT_BACKEND", "nope")
    status, out, _ = run("doctor")
    assert status == 1
    assert "the configured backend 'nope' cannot be used: there is no backend 'nope'" in out


def test_doctor_with_a_wrong_gradient(run):
    class Wrong:
        @mg.hookimpl
        def microgpt_kernel(self, backend, op):
            if (backend, op) in (("numpy", "multiply"), ("numpy", "broadcast_to")):
                return lambda *inputs, **_: inputs[0] + 1

    with mg.plugged(Wrong()):
        status, out, _ = run("doctor")
    assert status == 1
    assert "gradient" in out.partition("The base does not work")[2]


def test_doctor_names_the_data_folder(run, monkeypatch, tmp_path):
    monkeypatch.setenv("MICROGPT_DATA", str(tmp_path / "sets"))
    _, out, _ = run("doctor")
    assert "there is no such folder" in out
    (tmp_path / "sets").mkdir()
    assert column(run("doctor")[1], "  data ") == str(tmp_path / "sets")


def test_missing_packages_come_with_the_command(monkeypatch):
    monkeypatch.setattr(
        packages.metadata,
        "requires",
        lambda name: [
            "numpy>=2.0",
            "nothing-like-it>=1.8; extra == 'data'",
            'numpy>=99.5; extra == "train"',
            "numpy>=2; extra == 'fine'",
            "other>=1; sys_platform == 'beos' and extra == 'fine'",
            "microgpt-autograd[data,train]; extra == 'tutorials'",
            "nothing-like-it; extra == 'all'",
        ],
    )
    assert dict(packages.rows()) == {
        "data": "missing: nothing-like-it\npip install 'microgpt-autograd[data]'",
        "train": f"missing: numpy 99.5 (here is {np.__version__})\n"
        "pip install 'microgpt-autograd[train]'",
        "fine": "complete (numpy)",
    }


def test_commands_are_not_broken_at_hyphens():
    from microgpt.cli.text import fields

    command = "pip install 'microgpt-autograd[opencl]'"
    text = fields([("opencl", "missing: " + "some-package, " * 8 + "\n" + command)])
    assert command in text


# ---- OpenCL ----------------------------------------------------------------------------------


def fake_pyopencl(monkeypatch, platforms):
    module = types.ModuleType("pyopencl")
    module.VERSION_TEXT = "2099.1"
    module.device_type = types.SimpleNamespace(CPU=2, GPU=4, ACCELERATOR=8)

    def get_platforms():
        if isinstance(platforms, Exception):
            raise platforms
        return platforms

    module.get_platforms = get_platforms
    monkeypatch.setitem(sys.modules, "pyopencl", module)


def device(name, extensions, kind):
    return types.SimpleNamespace(
        name=name, extensions=extensions, type=kind, double_fp_config=0,
        max_compute_units=4, global_mem_size=2**31,
    )  # fmt: skip


def test_no_pyopencl(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyopencl", None)
    ((name, text),) = opencl.rows()
    assert name == "pyopencl"
    assert "pip install 'microgpt-autograd[opencl]'" in text


@pytest.mark.parametrize("platforms", [[], RuntimeError("PLATFORM_NOT_FOUND_KHR")])
def test_no_platform(monkeypatch, platforms):
    fake_pyopencl(monkeypatch, platforms)
    rows = dict(opencl.rows())
    assert rows["pyopencl"] == "2099.1"
    assert rows["platforms"].startswith("none")
    assert "PoCL" in rows["platforms"] and "pip install" in rows["platforms"]


def test_devices_with_float64_and_without(monkeypatch):
    platform = types.SimpleNamespace(
        name="Some Platform ",
        version="OpenCL 3.0",
        get_devices=lambda: [device("big", "cl_khr_fp64 x", 2), device("small", "x", 4)],
    )
    fake_pyopencl(monkeypatch, [platform])
    monkeypatch.setattr(opencl, "_names", lambda: ["big", "small"])
    rows = opencl.rows()
    assert rows[1] == ("platform", "Some Platform, OpenCL 3.0")
    assert rows[2][1] == 'big, CPU, 4 compute units, 2.0 GiB, float64: yes; device = "big"'
    assert rows[3][1] == (
        'small, GPU, 4 compute units, 2.0 GiB, float64: no, use dtype float32; device = "small"'
    )
