"""The bug museum: every bug is found by the checks that are named for it, and by nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import microgpt as mg
from microgpt import autograd, checkpoints, nn, ops, recompute, transforms
from microgpt.cli import main
from microgpt.cli.museum import compared, curve
from microgpt.ops import TABLE, attention
from microgpt.optim import Adam, AdamW, Optimizer
from microgpt.plugins import registry
from microgpt.testing import museum
from microgpt.testing.museum import BUGS, ORACLE, Bug, Check, killers
from microgpt.testing.strategies import cases
from tests.oracles import ORACLES

THERE = [bug for bug in BUGS.values() if bug.plant is not None]
WAITING = [bug for bug in BUGS.values() if bug.plant is None]
KILLS = [(bug, killer) for bug in THERE for killer in bug.killers]
MISSES = [(bug, check) for bug in THERE for check in bug.missed_by]


def run(killer: Check) -> None:
    """The check that a killer names; the forward oracles are the tests' own."""
    with np.errstate(all="ignore"):
        if killer.name != ORACLE:
            killers.run(killer)
            return
        op = TABLE[killer.op or ""]

        @settings(
            max_examples=killer.examples,
            deadline=None,
            derandomize=True,
            database=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        @given(data=st.data())
        def forward(data: st.DataObject) -> None:
            case = data.draw(cases(op))
            args = [mg.tensor(x) if isinstance(x, np.ndarray) else x for x in case.inputs]
            y = case.call(op.function, *args, **case.params)
            want = np.asarray(ORACLES[op.name](*case.inputs, **case.params))
            assert y.shape == want.shape
            np.testing.assert_allclose(y.numpy(), want, rtol=1e-12, atol=1e-13)

        forward()


def label(x: object) -> str:
    return str(x.number) if isinstance(x, Bug) else str(x).replace(" of ", ":")


# ---- every bug is found ------------------------------------------------------------------------


@pytest.mark.parametrize(("bug", "killer"), KILLS, ids=label)
def test_a_planted_bug_is_found(bug: Bug, killer: Check) -> None:
    with museum.planted(bug.number), pytest.raises(Exception) as caught:
        run(killer)
    code = killers.code_of(caught.value)
    if killer.codes:
        assert code in killer.codes, f"{code}: {caught.value}"
    else:
        assert isinstance(caught.value, AssertionError), f"{code}: {caught.value}"


CLEAN = list(dict.fromkeys(replace(killer, codes=()) for _, killer in KILLS))


@pytest.mark.parametrize("killer", CLEAN, ids=label)
def test_without_the_bug_the_check_passes(killer: Check) -> None:
    run(killer)


@pytest.mark.parametrize(("bug", "check"), MISSES, ids=label)
def test_what_is_said_to_miss_a_bug_does(bug: Bug, check: Check) -> None:
    assert check not in [replace(killer, codes=()) for killer in bug.killers]
    with museum.planted(bug.number):
        run(replace(check, examples=20))


def test_every_bug_has_a_killer_and_a_story() -> None:
    assert list(BUGS) == list(range(1, 61))
    for bug in BUGS.values():
        assert bug.room in museum.ROOMS and bug.wrong and bug.right and bug.blind
        assert bug.story.count(".") >= 2, f"bug {bug.number} has no story"
        assert bool(bug.killers) == bool(bug.plant) == bool(bug.show) == (not bug.waits_for)


@pytest.mark.parametrize("bug", WAITING, ids=label)
def test_what_a_bug_waits_for_is_not_there_yet(bug: Bug) -> None:
    assert not bug.arrived(), f"{bug.waits_for} is there now: plant bug {bug.number}"
    with pytest.raises(mg.errors.InputError, match="waits for"), museum.planted(bug.number):
        pass


# ---- planting and taking out -------------------------------------------------------------------

PLACES = [
    (autograd, "propagate"), (recompute, "propagate"), (autograd, "unbroadcast"),
    (autograd, "_fitted"), (attention, "_scores"), (ops, "dropout"), (mg, "dropout"),
    (transforms, "gradients_of"), (checkpoints, "_generators"), (Adam, "_update"),
    (AdamW, "_decoupled"), (Optimizer, "state_dict"), (Optimizer, "zero_grad"),
    (nn.attention, "turned"), (nn.KVCache, "position"),
]  # fmt: skip


def library() -> list[object]:
    """Everything that a bug may have replaced."""
    found: list[object] = [vars(owner)[name] for owner, name in PLACES]
    for op in TABLE.values():
        found += [op.rules, op.reads, op.kind, op.body, op.fast_rules, op.saving, op.fast,
                  op.fast_recorded]  # fmt: skip
        for ending in ("", "_vjp", "_saving"):
            found.append(registry.kernel("numpy", op.name + ending))
    return found


@pytest.mark.parametrize("bug", THERE, ids=label)
def test_nothing_is_left_behind(bug: Bug) -> None:
    before, plugins = library(), registry.plugin_names()
    with museum.planted(bug.number):
        inside = library()
    after = library()
    assert any(a is not b for a, b in zip(before, inside, strict=True)), "nothing was planted"
    assert all(a is b for a, b in zip(before, after, strict=True))
    assert registry.plugin_names() == plugins


def test_a_bug_is_taken_out_after_an_error_too() -> None:
    before = library()
    for number in (1, 16, 44):
        with pytest.raises(ZeroDivisionError), museum.planted(number):
            raise ZeroDivisionError
    assert all(a is b for a, b in zip(before, library(), strict=True))


def names(checks: tuple[Check, ...]) -> str:
    return ", ".join(f"`{c.name}`" + (f" of {c.op}" if c.op else "") for c in checks)


def test_the_guide_has_every_bug_and_the_right_answers() -> None:
    text = (Path(__file__).parent.parent / "docs" / "museum.md").read_text(encoding="utf-8")
    lines = set(text.splitlines())
    for bug in BUGS.values():
        title = bug.title.replace("|", "\\|")
        assert f"| {bug.number} | {bug.room} | {title} | {bug.seen_in} |" in lines
        answer = f"| {bug.number} | {names(bug.killers)} | {names(bug.missed_by)} |"
        assert bug.plant is None or answer in lines, answer
    assert all(f"| {room} | {what} |" in lines for room, what in museum.ROOMS.items())


def test_there_is_no_bug_61() -> None:
    with pytest.raises(mg.errors.InputError, match="no bug 61"):
        museum.find(61)


# ---- the backward pass to read -----------------------------------------------------------------


def test_the_backward_pass_of_the_museum_is_right() -> None:
    from microgpt.testing.museum.engine import engine

    x = mg.tensor([0.5, -1.0], "float64", requires_grad=True)

    def f(x: mg.Tensor) -> mg.Tensor:
        y = mg.checkpoint(lambda x: x * mg.tanh(x), x)
        return (y * y + x).sum() + (mg.concat([x, y]) ** 2).mean()

    want = [mg.grad(f)(x), mg.hessian(f)(x)]
    with engine()():
        found = [mg.grad(f)(x), mg.hessian(f)(x)]
        f(x).backward(retain_graph=False)
    for a, b in zip(found, want, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-14)
    np.testing.assert_allclose(x.grad.numpy(), want[0].numpy(), rtol=1e-14)  # type: ignore[union-attr]


# ---- the command -------------------------------------------------------------------------------


def test_the_list_names_every_bug(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["museum"]) == 0
    lines = capsys.readouterr().out
    text = " ".join(lines.split())
    for bug in BUGS.values():
        assert f"\n{bug.number} " in lines and f"{bug.number} {bug.room} {bug.title}" in text
    assert text.count("not yet: waits for") == len(WAITING)
    assert "karpathy/micrograd#2" in text


@pytest.mark.parametrize("number", BUGS)
def test_show_tells_the_story(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["museum", "show", str(number)]) == 0
    text = " ".join(capsys.readouterr().out.split())
    bug = BUGS[number]
    assert bug.title in text and " ".join(bug.story.split()) in text
    assert all(str(killer) in text for killer in bug.killers)


@pytest.mark.parametrize("bug", BUGS.values(), ids=label)
def test_run_shows_the_difference(
    bug: Bug, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # That the checks find the bugs is tested above; here a few examples do.
    run_all = killers.run
    monkeypatch.setattr(killers, "run", lambda killer, **kw: run_all(replace(killer, examples=2)))
    assert main(["museum", "run", str(bug.number)]) == 0
    text = capsys.readouterr().out
    if bug.plant is None:
        assert "Not yet" in text
        return
    shown = {
        line.split("bug", 1)[0].strip(): line.split("bug", 1)[1]
        for line in text.splitlines()
        if line.startswith(("  without the bug", "  with the bug"))
    }
    assert shown["without the"] != shown["with the"], text
    assert "FAILS" not in text
    assert text.count("without the bug: passes; with it:") == sum(
        check.name != ORACLE for check in (*bug.killers, *bug.missed_by)
    )


@pytest.mark.parametrize(
    ("number", "message"),
    [(1, "[VALUE] tanh"), (16, "of one tensor twice"), (33, "[LAYOUT] exp"), (53, "resumed")],
)
def test_run_ends_with_the_message_of_the_check(
    number: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["museum", "run", str(number)]) == 0
    assert message in capsys.readouterr().out.split("What the suite says:")[1]


@pytest.mark.parametrize("number", [16, 21, 47])
def test_ask_does_not_tell(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["museum", "ask", str(number)]) == 0
    text = capsys.readouterr().out
    bug = BUGS[number]
    assert bug.wrong in text and bug.story[:40] not in text
    for check in (*bug.killers, *bug.missed_by):
        assert f"\n  {check}\n" in text


def test_mistakes_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["museum", "show"]) == 2
    assert "needs the number of a bug" in capsys.readouterr().err
    assert main(["museum", "run", "99"]) == 2
    assert "no bug 99" in capsys.readouterr().err


def test_curves() -> None:
    assert curve([2.0, 1.0, float("nan")], [1.0, 2.0]) == "█▁×"
    assert curve([1.0] * 100, [1.0]) == "▁" * 34
    assert curve([1e6, 1e3, 1.0], [1e6, 1.0]) == "█▅▁"
    lines = compared([2.0, 1.0], "ShapeError: no")
    assert lines[0].endswith("█▁  loss 2 → 1") and lines[1].endswith("ShapeError: no")
    assert compared("3", "3")[-1].strip() == "(no difference to be seen)"
