"""The tool that makes random mutants is itself held to what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.mutation.__main__ import known_equivalents, report
from tests.mutation.mutants import Mutant, all_mutants, draw
from tests.mutation.sites import MODULES, ROOT
from tests.mutation.worker import attempt, context

ALL = all_mutants()


def first(scope: str, after: str) -> Mutant:
    """The first mutant of a scope with `after`."""
    return next(m for m in ALL if m.scope == scope and m.after == after)


def judged(mutant: Mutant, *checks: str) -> dict[str, Any]:
    return attempt(
        context(), mutant.module, mutant.source(), list(checks), 15, timeout=60, budget=120
    )


def test_every_mutant_is_another_program() -> None:
    originals = {name: (ROOT / path).read_text(encoding="utf-8") for name, path in MODULES.items()}
    assert len({m.name for m in ALL}) == len(ALL) > 3000
    assert {m.module for m in ALL} == MODULES.keys()
    for mutant in draw(ALL, 100, seed=0):
        text = mutant.source()
        compile(text, mutant.module, "exec")
        assert text != originals[mutant.module] and mutant.before != mutant.after
    rest = draw(ALL, 100, seed=0)[0]
    assert rest.source() == rest.source(), "taking the source leaves the tree as it was"


def test_the_same_seed_draws_the_same_mutants() -> None:
    again = [m.name for m in draw(all_mutants(), 50, seed=3)]
    assert again == [m.name for m in draw(ALL, 50, seed=3)]
    assert again[:20] == [m.name for m in draw(ALL, 20, seed=3)]
    assert again != [m.name for m in draw(ALL, 50, seed=4)]


def test_each_kind_of_change_is_made() -> None:
    for scope, after in (
        ("multiply rule 0", "g / b"),  # an operator
        ("expm1 rule 0", "g * (y + 2)"),  # a constant
        ("divide rule 1", "g * y / b"),  # a sign dropped
        ("subtract rule 0", "-g"),  # a sign put in
        ("square rule 0", "g"),  # an input handed back
        ("multiply rule 1", "y * a"),  # another array
        ("sin rule 0", "g * sin(x)"),  # a sibling
        ("where rule 1", "where(c, 0.0, g)"),  # arguments exchanged
        ("abs rule 0", "g * x"),  # a function left out
        ("kernel any", "np.all(x, axis=axis, keepdims=keepdims)"),
        ("kernel any", "np.any(x, axis=axis, keepdims=not keepdims)"),
        ("kernel any", "np.any(x, keepdims=keepdims)"),
        ("kernel exp", "np.expm1"),
        ("_inside", "logical_or(greater_equal(x, low), less_equal(x, high))"),
        ("_pow_base", "if b != 2"),
        ("_products_of_others", "while width <= size"),
        ("softmax_vjp", "pass"),
        ("unbroadcast", "if have != shape"),
    ):
        assert any(m.scope == scope and m.after == after for m in ALL), (scope, after)
    kinds = [m.after for m in ALL if m.module == "microgpt_numpy.conv"]
    assert any("top:top + sh * rows + 1:sh" in after for after in kinds), "a slice off by one"


def test_refusals_and_domains_are_left_alone() -> None:
    assert not [m for m in ALL if "Error" in m.before or "domain" in m.before]
    assert not [m for m in ALL if m.before == "if len(have) > len(want)"]


def test_an_obviously_wrong_mutant_is_killed() -> None:
    wrong = first("multiply rule 0", "g / b")
    found = judged(wrong, "forward_oracle multiply", "gradcheck multiply")
    assert found["check"] == "gradcheck multiply" and found["passed"] == 1
    assert found["why"].startswith("GradcheckError: [VALUE] multiply")


def test_an_equivalent_mutant_survives() -> None:
    # Where a = b, the share of a tie is taken before anyone asks who wins.
    mutant = first("minimum rule 1", "g * _share(less_equal(b, a), equal(a, b), g)")
    found = judged(mutant, "gradcheck minimum", "ties minimum", "declared_kinks minimum")
    assert found["check"] is None and found["passed"] == 3
    assert mutant.name in known_equivalents()


def test_what_does_not_end_or_does_not_start_is_killed() -> None:
    mutant = first("kernel exp", "np.expm1")
    endless = mutant.source() + "\nwhile True: pass\n"
    for text, checks in ((endless, "timeout"), ("import no_such_module", "import")):
        found = attempt(context(), mutant.module, text, ["gradcheck exp"], 5, timeout=5, budget=60)
        assert found["check"] == checks and found["passed"] == 0
    crash = mutant.source() + "\nimport os\nos._exit(3)\n"
    found = attempt(context(), mutant.module, crash, ["gradcheck exp"], 5, timeout=60, budget=60)
    assert found["check"] == "crash"


def test_every_accepted_equivalent_is_a_mutant_with_a_reason() -> None:
    names = {m.name for m in ALL}
    for name, reason in known_equivalents().items():
        assert name in names, "no such mutant any more: take it out of equivalent.toml"
        assert len(reason) > 20


def test_the_report_fails_for_a_survivor_only(capsys: pytest.CaptureFixture[str]) -> None:
    record = {
        "name": "m:f: a → b", "module": "m", "line": 3, "scope": "f", "before": "a", "after": "b",
        "check": None, "why": "", "passed": 2, "checks": 2,
    }  # fmt: skip
    killed = {**record, "check": "gradcheck add"}
    assert report([killed], {}, []) == 0
    assert report([record], {}, []) == 1
    assert "survived: m:3 f\n    - a\n    + b" in capsys.readouterr().out
    assert report([record, killed], {record["name"]: "only the cost"}, []) == 1
    assert "killed by gradcheck add, but listed as equivalent" in capsys.readouterr().out
    assert report([record], {record["name"]: "only the cost"}, []) == 0
    assert report([killed], {}, ["gradcheck add"]) == 1


def test_the_command_writes_a_line_for_each_mutant_and_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "mutants.jsonl"
    command = [sys.executable, "-m", "tests.mutation", "--only", "exp", "--count", "3",
               "--examples", "10", "--out", str(out), "--resume"]  # fmt: skip
    for seconds in (0.0, None):
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, env={**os.environ}
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "3 mutants: 3 killed, 0 equivalent, 0 survived" in done.stdout
        records = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
        assert len(records) == 3 and all(r["check"] for r in records)
        if seconds is not None:
            times = [r["seconds"] for r in records]
    assert [r["seconds"] for r in records] == times, "kills are not judged twice"
