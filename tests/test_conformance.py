"""The conformance kit is checked itself: planted faults fail, right backends pass."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt.cli import main
from microgpt.errors import BackendError, InputError
from microgpt.ops import TABLE
from microgpt.testing.conformance import TIERS, Kit, Verdict, check_backend
from microgpt.testing.conformance.reference import NumpyCopy
from microgpt.testing.conformance.tiers import NOT_JUDGED, TIER_OF, ops
from tests.planted_kernels import FAULTS, coarse

EXAMPLES = 10

ALL = len(ops())
IN = Counter(TIER_OF[op.function.__module__.rpartition(".")[2]] for op in ops())
EARLY = IN[1] + IN[2] + IN[3]
"""How many ops the kit judges, how many of them in which tier, and in tiers 1 to 3."""


class Without(NumpyCopy):
    """Without the kernels that are named."""

    without: tuple[str, ...] = ()

    def kernel(self, name: str) -> Any:
        return None if name in self.without else super().kernel(name)


@contextmanager
def installed(**settings: Any) -> Iterator[NumpyCopy]:
    """A copy of the NumPy backend, called ``copy``, with other kernels or attributes."""
    backend = Without("copy", kernels=settings.pop("kernels", None))
    for name, value in settings.items():
        setattr(backend, name, value)
    with mg.plugged(backend.plugin()):
        yield backend


@cache
def passes_without(check: str) -> bool:
    with installed():
        return Kit("copy", EXAMPLES).run_check(check).status == "passed"


def test_a_leak_is_found_where_much_memory_was_free() -> None:
    large = np.ones(30_000_000 // 8)
    del large  # glibc now takes arrays up to this size from memory that stays with the process
    kept = [np.ones(300_000 // 8) for _ in range(400)]
    del kept[:-1]
    fault = FAULTS["leaks"]
    with installed(kernels=fault.kernels):
        assert Kit("copy", EXAMPLES).run_check(fault.check).status == "failed"


@pytest.mark.parametrize("name", FAULTS)
def test_planted_faults_are_found(name: str) -> None:
    fault = FAULTS[name]
    with installed(kernels=fault.kernels):
        result = Kit("copy", EXAMPLES).run_check(fault.check)
    assert result.status == "failed" and result.id == fault.check, result
    assert re.search(fault.message, result.message, re.DOTALL), result.message
    assert passes_without(fault.check), "the check must pass without the fault"


def test_there_are_enough_faults_and_all_tiers_find_some() -> None:
    assert len(FAULTS) >= 20
    assert {fault.check[:2] for fault in FAULTS.values()} == {f"T{n}" for n in range(len(TIERS))}


def test_every_op_is_judged_or_left_out_for_a_reason() -> None:
    own = [op for op in TABLE.values() if op.function.__module__.startswith("microgpt.")]
    left_out = {op.name for op in own} - {op.name for op in ops()}
    assert left_out == {"transfer"} < set(NOT_JUDGED)


def test_an_op_of_a_module_without_a_tier_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(TIER_OF, "recurrent")
    with pytest.raises(KeyError, match="recurrent"):
        Kit("numpy", 1).run(tiers=[3])


def test_faults_of_a_kernel_of_the_numpy_backend_itself_are_found() -> None:
    class Fault:
        @mg.hookimpl
        def microgpt_kernel(self, backend: str, op: str) -> Any:
            return coarse(10) if (backend, op) == ("numpy", "matmul") else None

    assert Kit("numpy", EXAMPLES).run_check("T3:matmul").status == "passed"
    with mg.plugged(Fault()):
        assert Kit("numpy", EXAMPLES).run_check("T3:matmul").status == "failed"


def in_order(order: str) -> Any:
    """Matrix products in the working precision, summed in some order."""

    def matmul(a: Any, b: Any) -> Any:
        terms = np.asarray(a)[..., :, :, None] * np.asarray(b)[..., None, :, :]
        n = terms.shape[-2]
        places = np.arange(n)
        if order == "backward":
            places = places[::-1]
        elif order == "mixed":
            places = np.random.default_rng(n).permutation(n)
        if order == "pairs":
            while terms.shape[-2] > 1:
                odd = terms[..., -1:, :] if terms.shape[-2] % 2 else terms[..., :0, :]
                even = terms[..., : terms.shape[-2] // 2 * 2, :]
                terms = np.concatenate([even[..., ::2, :] + even[..., 1::2, :], odd], axis=-2)
            return terms.sum(axis=-2)
        y = np.zeros(terms[..., 0, :].shape if n else np.matmul(a, b).shape, dtype=a.dtype)
        for i in places:
            y = y + terms[..., i, :]
        return y

    return matmul


@pytest.mark.parametrize("order", ["forward", "backward", "mixed", "pairs"])
def test_every_order_of_summation_is_right(order: str) -> None:
    with installed(kernels={"matmul": in_order(order)}):
        kit = Kit("copy", EXAMPLES)
        for check in ("T3:matmul", "T3:conv2d", "T5:matmul", "T5:conv2d"):
            result = kit.run_check(check)
            assert result.status == "passed", result


def test_small_numbers_may_be_flushed_to_zero() -> None:
    def flushed(x: Any) -> Any:
        y = np.exp(x)
        return np.where(np.abs(y) < np.finfo(y.dtype).tiny, y.dtype.type(0), y)

    with installed(kernels={"exp": flushed}):
        assert Kit("copy", EXAMPLES).run_check("T2:exp").status == "passed"


# ---- the contract ------------------------------------------------------------------------------


class Shares(NumpyCopy):
    def asarray(self, data: Any, dtype: Any, device: Any) -> Any:
        super().asarray(0, None, device)
        return np.asarray(data, dtype=dtype).view(self.array)


class OtherDevice(NumpyCopy):
    def device(self, array: Any) -> str:
        return "gpu"


class AnyDevice(NumpyCopy):
    def asarray(self, data: Any, dtype: Any, device: Any) -> Any:
        return np.array(data, dtype=dtype).view(self.array)


class LosesZeros(NumpyCopy):
    def to_numpy(self, array: Any) -> Any:
        plain = array.view(np.ndarray)
        return plain + plain.dtype.type(0) if plain.dtype.kind == "f" else plain


@pytest.mark.parametrize(
    ("kind", "check", "message"),
    [
        (Shares, "T0:copies", "shares memory"),
        (OtherDevice, "T0:devices", "says it is on gpu"),
        (AnyDevice, "T0:errors", "a device that does not exist must raise"),
        (LosesZeros, "T0:round trip float32", "comes back as"),
    ],
)
def test_backends_that_break_the_contract(kind: Any, check: str, message: str) -> None:
    with mg.plugged(kind("broken").plugin()):
        result = Kit("broken", 2).run_check(check)
    assert result.status == "failed" and message in result.message, result


# ---- what a backend declares -------------------------------------------------------------------


def test_missing_ops_are_skipped_and_counted_and_so_is_what_needs_them() -> None:
    # Without its kernels gelu is computed by its definition, for which erf is missing.
    without = ("erf", "gelu", "gelu_saving", "gelu_vjp")
    with installed(missing_ops=("erf",), without=without):
        verdict = check_backend("copy", 1)
    found = {r.id: (r.status, r.message) for r in verdict.results if r.status != "passed"}
    assert found == {
        **{f"T{n}:erf": ("skipped", "declared in missing_ops") for n in (2, 5, 6, 7)},
        **{f"T{n}:gelu": ("skipped", "needs erf, one of missing_ops") for n in (3, 5, 6, 7)},
        "T8:training step": ("skipped", "needs erf, one of missing_ops"),
        "T8:decoding": ("skipped", "needs erf, one of missing_ops"),
    }
    assert verdict.ok
    assert re.fullmatch(
        rf"copy: {ALL - 2}/{ALL} ops, T0–T8, worst \d\.\d ulp \(\w+\), 10 skipped", str(verdict)
    ), str(verdict)


def test_an_op_that_is_missing_without_saying_so_fails() -> None:
    with installed(without=("erf",)):
        result = Kit("copy", 2).run_check("T2:erf")
    assert result.status == "failed" and "no kernel for the op 'erf'" in result.message


def test_missing_ops_that_are_there_or_do_not_exist_fail() -> None:
    for name, message in [("nothing", "is no op"), ("exp", "there is a kernel for it")]:
        with installed(missing_ops=(name,)):
            result = Kit("copy", 2).run_check("T0:declares")
        assert result.status == "failed" and message in result.message, result


def test_a_known_failure_counts_and_does_not_stop_the_tiers() -> None:
    reason = "the device has no better exponential"
    with installed(
        kernels={"expm1": lambda x: np.exp(x) - 1},
        known_failures={"T2:expm1": reason, "T5:expm1": reason},
    ):
        kit = Kit("copy", 6)
        verdict = kit.run(tiers=[1, 2, 3])
    assert verdict.ok and verdict.line(2).startswith("T2 elementwise: 44/45 passed, 1 known")
    assert verdict.details(2) == [f"T2:expm1 known to fail: {reason}"]
    assert str(verdict).startswith(f"copy: {EARLY - 1}/{EARLY} ops, T1–T3, worst")
    assert str(verdict).endswith("1 known failures")


def test_known_failures_that_pass_or_do_not_exist_are_errors() -> None:
    with installed(known_failures={"T2:exp": "?", "T2:nothing": "?", "exp": "?", "T3:sum": "?"}):
        verdict = Kit("copy", 2).run(tiers=[0, 2])
    assert verdict.stale == ["T2:exp", "T2:nothing", "exp"] and not verdict.ok
    assert "take it out" in verdict.details(0)[-1]
    assert str(verdict).endswith("3 stale known failures")


def test_declared_accuracy_is_the_bound() -> None:
    factor = {"float32": np.float32(1 + 2e-6), "float64": 1.0}
    kernels = {"exp": lambda x: np.exp(x) * factor[x.dtype.name]}
    with installed(kernels=kernels, ulps={"exp": 40.0}):
        result = Kit("copy", 4).run_check("T2:exp")
    assert result.status == "passed" and 15 < (result.ulp or 0) < 40


def test_tiers_after_one_that_failed_are_not_reached() -> None:
    with installed(kernels={"exp": np.expm1}):
        verdict = Kit("copy", 2).run(tiers=[1, 2, 3, 8])
    assert {r.status for r in verdict.tier(3)} == {"not reached"}
    assert not verdict.ok
    assert re.fullmatch(
        rf"copy: 54/{EARLY} ops, T1, worst .* ulp \(\w+\), 1 FAILED, {IN[3] + 2} not reached",
        str(verdict),
    ), str(verdict)


def test_wrong_names_of_checks_and_tiers() -> None:
    with pytest.raises(InputError, match="no check 'T2:nothing'; tier 2 has T2:identity"):
        Kit("numpy").run_check("T2:nothing")
    with pytest.raises(InputError, match="no tier 9; required: 0 to 8"):
        Kit("numpy").run(tiers=[9])
    with pytest.raises(InputError, match="1 example per op or more; got 0"):
        Kit("numpy", examples=0)
    with pytest.raises(BackendError, match="no backend 'nothing'"):
        Kit("nothing")


def test_a_verdict_can_be_put_together_from_parts() -> None:
    from dataclasses import asdict

    whole = Kit("numpy", 2).run(tiers=[0, 1, 8])
    parts = []
    for tier in (8, 0, 1):
        kit = Kit("numpy", 2)
        kit.run_tier(tier)
        parts.append(json.loads(json.dumps(asdict(kit.verdict))))
    assert Verdict.joined(parts) == whole
    assert str(whole) == "numpy: 10/10 ops, T0–T1 T8"


# ---- microgpt check ----------------------------------------------------------------------------


def test_check_prints_tiers_and_verdict(tmp_path: Path, capsys: Any) -> None:
    path = tmp_path / "verdicts" / "numpy.json"
    assert main(["check", "--backend", "numpy", "--examples", "1", "--json", str(path)]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"T{n} {t}" for n, t in enumerate(TIERS)]
    assert re.fullmatch(rf"numpy: {ALL}/{ALL} ops, T0–T8, worst \d\.\d ulp \(\w+\)", last), last
    found = json.loads(path.read_text(encoding="utf-8"))
    assert found["ok"] and found["verdict"] == last and found["versions"]["numpy"]
    assert len(found["results"]) == sum(int(s.split("/")[1].split()[0]) for s in lines)


def test_check_of_a_wrong_backend(capsys: Any) -> None:
    with installed(kernels={"exp": np.expm1}):
        options = ["--tier", "1", "2", "--tier", "3", "--examples", "2"]
        assert main(["check", "--backend", "copy", *options]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].startswith("  T2:exp FAILED: exp of ")
    assert [line[:2] for line in lines] == ["T1", "T2", "  ", "T3", "co"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backend", "nothing"], "there is no backend 'nothing'"),
        (["--tier", "9"], "there is no tier 9"),
        (["--examples", "0"], "got 0"),
    ],
)
def test_check_of_what_is_not_there(options: list[str], message: str, capsys: Any) -> None:
    assert main(["check", *options]) == 2
    assert message in capsys.readouterr().err


def test_check_takes_the_configured_backend_and_needs_no_pytest(tmp_path: Path) -> None:
    (tmp_path / "microgpt.toml").write_text("backend = 'numpy'\n")
    code = (
        "import sys\n"
        "sys.modules['pytest'] = None\n"
        "from microgpt.cli import main\n"
        "sys.exit(main(['check', '--examples', '1', '--tier', '0', '2', '8']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].startswith("numpy: 45/45 ops, T0 T2 T8, worst")


def test_check_without_hypothesis_says_what_to_install(monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    assert main(["check", "--backend", "numpy"]) == 2
    assert "pip install 'microgpt-autograd[test]'" in capsys.readouterr().err


# ---- pytest ------------------------------------------------------------------------------------

WRONG = """
import numpy as np
import microgpt as mg

@mg.hookimpl
def microgpt_kernel(backend, op):
    return np.expm1 if (backend, op) == ("numpy", "exp") else None
"""


def pytest_run(folder: Path, *options: str, **settings: str) -> subprocess.CompletedProcess[str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MICROGPT_", "PYTEST_"))}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--pyargs"]
    return subprocess.run(
        [*command, "microgpt.testing.conformance", "--microgpt-examples", "1", *options],
        env={**env, "PYTHONIOENCODING": "utf-8", **settings}, cwd=folder,
        capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip


def test_with_pytest_in_parallel(tmp_path: Path) -> None:
    options = ["--microgpt-backend", "numpy", "--microgpt-json", "found.json", "-n", "2"]
    done = pytest_run(tmp_path, *options)
    assert done.returncode == 0 and "9 passed" in done.stdout, done.stdout + done.stderr
    _, _, end = done.stdout.partition("microgpt conformance of numpy")
    lines = [line for line in end.splitlines() if line.startswith(("T", "numpy"))]
    assert [line.split(":")[0] for line in lines[:-1]] == [f"T{n} {t}" for n, t in enumerate(TIERS)]
    verdict = rf"numpy: {ALL}/{ALL} ops, T0–T8, worst \d\.\d ulp \(\w+\)"
    assert re.fullmatch(verdict, lines[-1]), lines
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert found["verdict"] == lines[-1] and found["ok"]


def test_with_pytest_and_the_configured_backend(tmp_path: Path) -> None:
    (tmp_path / "microgpt.toml").write_text("backend = 'numpy'\n")
    done = pytest_run(tmp_path, "-k", "T0 or T2 or T8")
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout + done.stderr
    assert "numpy: 45/45 ops, T0 T2 T8, worst" in done.stdout


@pytest.mark.parametrize("options", [[], ["-n", "2"]])
def test_with_pytest_on_a_wrong_kernel(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(WRONG)
    chosen = ["--microgpt-backend", "numpy", *options]
    done = pytest_run(tmp_path, *chosen, "-k", "T1 or T2 or T3", MICROGPT_PLUGINS="wrong.py")
    assert done.returncode == 1, done.stdout
    # The tier after the one that failed is skipped, so all ran in one process.
    assert "1 failed, 1 passed, 1 skipped" in done.stdout, done.stdout
    assert "T2:exp FAILED: exp of" in done.stdout
    assert f", 1 FAILED, {IN[3]} not reached" in done.stdout


def test_where_tiers_run_in_several_processes_the_verdict_is_right_still(tmp_path: Path) -> None:
    options = ["-n", "2", "--dist", "each", "-k", "T0 or T8"]
    done = pytest_run(tmp_path, "--microgpt-backend", "numpy", *options)
    assert done.returncode == 0 and "numpy: 0/0 ops, T0 T8" in done.stdout, done.stdout


def test_with_pytest_a_backend_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    done = pytest_run(tmp_path, "--microgpt-backend", "nothing")
    assert done.returncode == 1 and "1 failed" in done.stdout, done.stdout
    assert "there is no backend 'nothing'; installed: " in done.stdout
    assert "Traceback" not in done.stdout


def test_the_plugin_is_idle_in_other_peoples_tests(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "import sys\n"
        "def test_nothing_is_loaded(request):\n"
        "    heavy = ['hypothesis', 'matplotlib', 'microgpt_numpy', 'microgpt.cli']\n"
        "    heavy += ['microgpt.testing.' + n for n in ('strategies', 'conformance.tiers')]\n"
        "    assert not [m for m in heavy if m in sys.modules]\n"
        "    assert request.config.getoption('microgpt_backend') is None\n"
    )
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "microgpt" not in done.stdout
