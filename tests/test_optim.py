"""Optimizers against written-out formulas and PyTorch; clipping; schedules."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt import optim
from microgpt.errors import CheckpointError, InputError, InputTypeError

START = np.array([1.0, -2.0, 0.5])


def gradient(step: int) -> np.ndarray:
    return np.array([0.3, -0.1, 1.0]) * (step + 1) + 0.1


def run(make: Any, steps: int = 3) -> list[list[float]]:
    p = mg.tensor(START, requires_grad=True)
    optimizer = make([p])
    seen = []
    for step in range(steps):
        p.grad = mg.tensor(gradient(step))
        optimizer.step()
        seen.append(p.tolist())
    return seen


def test_sgd_by_hand() -> None:
    want, found = START, run(lambda ps: optim.SGD(ps, lr=0.1, weight_decay=0.01))
    for step in range(3):
        want = want - 0.1 * (gradient(step) + 0.01 * want)
        np.testing.assert_allclose(found[step], want, rtol=1e-12)


def test_momentum_by_hand() -> None:
    for nesterov in (False, True):
        found = run(lambda ps: optim.SGD(ps, lr=0.1, momentum=0.9, nesterov=nesterov))  # noqa: B023
        want, v = START, None
        for step in range(3):
            g = gradient(step)
            v = g if v is None else 0.9 * v + g
            want = want - 0.1 * (g + 0.9 * v if nesterov else v)
            np.testing.assert_allclose(found[step], want, rtol=1e-12)


@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamW])
def test_adam_by_hand(kind: Any) -> None:
    found = run(lambda ps: kind(ps, lr=0.01, betas=(0.8, 0.9), weight_decay=0.1))
    want, m, v = START, np.zeros(3), np.zeros(3)
    for t in range(1, 4):
        g = gradient(t - 1)
        if kind is optim.AdamW:
            want = want * (1 - 0.01 * 0.1)
        else:
            g = g + 0.1 * want
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
        want = want - 0.01 * (m / (1 - 0.8**t)) / (np.sqrt(v / (1 - 0.9**t)) + 1e-8)
        np.testing.assert_allclose(found[t - 1], want, rtol=1e-10)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.2, "weight_decay": 0.1}),
        ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
        ("Adam", {"lr": 0.1, "weight_decay": 0.1}),
        ("AdamW", {"lr": 0.1}),
    ],
)
def test_optimizers_equal_pytorch(name: str, settings: dict[str, Any]) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle here and is not installed")
    p = torch.tensor(START, requires_grad=True)
    theirs = getattr(torch.optim, name)([p], **settings)
    found = run(lambda ps: getattr(optim, name)(ps, **settings), steps=5)
    for step in range(5):
        p.grad = torch.tensor(gradient(step))
        theirs.step()
        np.testing.assert_allclose(found[step], p.detach().numpy(), rtol=1e-10)


def test_groups_have_settings_of_their_own() -> None:
    a, b = (mg.tensor([1.0], requires_grad=True) for _ in range(2))
    optimizer = optim.SGD([{"params": [a], "lr": 1.0}, {"params": [b]}], lr=0.1)
    a.grad = b.grad = mg.ones(1)
    optimizer.step()
    assert (a.item(), b.item()) == (0.0, pytest.approx(0.9))


def test_values_handed_out_keep_their_numbers() -> None:
    p = mg.tensor([1.0], requires_grad=True)
    held = p.detach()
    optimizer = optim.SGD([p], lr=1.0)
    y = (p * p).sum()
    p.grad = mg.ones(1)
    optimizer.step()
    assert held.item() == 1.0 and p.item() == 0.0
    with pytest.raises(mg.errors.ModifiedError, match="optimizer"):
        y.backward()


def test_parameters_without_gradient_are_left_alone() -> None:
    p = mg.tensor([1.0], requires_grad=True)
    optimizer = optim.AdamW([p])
    optimizer.step()
    assert p.item() == 1.0 and optimizer.state == [{}]
    p.grad = mg.ones(1)
    optimizer.zero_grad()
    assert p.grad is None


def test_state_goes_on_where_it_was() -> None:
    def steps(optimizer: Any, p: Any, which: range) -> None:
        for step in which:
            p.grad = mg.tensor(gradient(step))
            optimizer.step()

    whole = mg.tensor(START, requires_grad=True)
    steps(optim.AdamW([whole], lr=0.1), whole, range(4))
    first = mg.tensor(START, requires_grad=True)
    one = optim.AdamW([first], lr=0.1)
    steps(one, first, range(2))
    second = mg.tensor(first, requires_grad=True)
    two = optim.AdamW([second], lr=9.0)
    two.load_state_dict(one.state_dict())
    steps(two, second, range(2, 4))
    assert second.tolist() == whole.tolist()
    other = optim.AdamW([mg.tensor([1.0], requires_grad=True)])
    with pytest.raises(CheckpointError, match=r"shape \(3,\)"):
        other.load_state_dict(one.state_dict())


def test_misuse() -> None:
    p = mg.tensor([1.0], requires_grad=True)
    for call, kind, words in (
        (lambda: optim.SGD([]), InputError, "no parameters"),
        (lambda: optim.SGD([p, p]), InputError, "twice"),
        (lambda: optim.SGD([p * 2]), InputTypeError, "multiply"),
        (lambda: optim.SGD([p], lr=-1), InputError, "lr"),
        (lambda: optim.SGD([p], nesterov=True), InputError, "momentum"),
        (lambda: optim.Adam([p], betas=(1.0, 0.9)), InputError, "betas"),
        (lambda: optim.SGD([{"params": [p], "rate": 1}]), InputError, "rate"),
    ):
        with pytest.raises(kind, match=words):
            call()


def test_clipping_is_idempotent_and_keeps_the_direction() -> None:
    a, b = mg.tensor([3.0, 0.0], requires_grad=True), mg.tensor([4.0], requires_grad=True)
    a.grad, b.grad = mg.tensor([3.0, 0.0]), mg.tensor([4.0])
    assert optim.clip_grad_norm_([a, b], 1.0) == 5.0
    assert a.grad.tolist() == pytest.approx([0.6, 0.0]) and b.grad.tolist() == pytest.approx([0.8])
    assert optim.clip_grad_norm_([a, b], 1.0) == pytest.approx(1.0)
    optim.clip_grad_value_([b], 0.5)
    assert b.grad.tolist() == [0.5]
    b.grad = mg.tensor([math.nan])
    with pytest.raises(mg.errors.AnomalyError, match="debug"):
        optim.clip_grad_norm_([b], 1.0, error_if_nonfinite=True)


def rates(schedule: optim.Schedule, steps: int) -> list[float]:
    seen = []
    for _ in range(steps):
        seen.append(schedule.get_last_lr()[0])
        schedule.step()
    return seen


def fresh() -> optim.SGD:
    return optim.SGD([mg.tensor([1.0], requires_grad=True)], lr=2.0)


def test_schedules() -> None:
    assert rates(optim.StepLR(fresh(), 2, 0.1), 5) == pytest.approx([2, 2, 0.2, 0.2, 0.02])
    assert rates(optim.LinearLR(fresh(), 0.5, 1.0, 2), 4) == pytest.approx([1, 1.5, 2, 2])
    cosine = rates(optim.CosineAnnealingLR(fresh(), 4, eta_min=1.0), 6)
    assert cosine == pytest.approx([2, 1 + math.cos(math.pi / 4) / 2 + 0.5, 1.5, 1.1464466, 1, 1])
    assert rates(optim.LambdaLR(fresh(), lambda t: t), 3) == [0, 2, 4]
    o = fresh()
    warm = optim.SequentialLR(
        o, [optim.LinearLR(o, 0.5, 1.0, 2), optim.CosineAnnealingLR(o, 2)], [2]
    )
    assert rates(warm, 5) == pytest.approx([1, 1.5, 2, 1, 0])
    with pytest.raises(InputError, match="milestone"):
        optim.SequentialLR(o, [optim.StepLR(o, 1)], [1, 2])


def test_schedules_equal_pytorch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle here and is not installed")
    o = torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=2.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(o, 7, eta_min=0.1)
    ours = optim.CosineAnnealingLR(fresh(), 7, eta_min=0.1)
    for _ in range(7):
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr())
        o.step()
        theirs.step()
        ours.step()


def test_a_schedule_goes_on_where_it_was() -> None:
    a, b = optim.StepLR(fresh(), 2), optim.StepLR(fresh(), 2)
    rates(a, 3)
    b.load_state_dict(a.state_dict())
    assert b.get_last_lr() == a.get_last_lr()


# ---- groups and states -------------------------------------------------------------------------


def leaf(*values: float) -> Any:
    return mg.tensor(list(values), requires_grad=True)


def stepped(optimizer: Any, params: list[Any], count: int) -> None:
    for _ in range(count):
        optimizer.zero_grad()
        sum((p * p * p).sum() for p in params).backward()  # type: ignore[union-attr]
        optimizer.step()


@pytest.mark.parametrize("kind", [optim.SGD, optim.AdamW])
def test_a_group_that_comes_later_is_trained_like_one_of_its_own(kind: Any) -> None:
    settings = {"momentum": 0.9} if kind is optim.SGD else {}
    a, b, c = leaf(1.0, 2.0), leaf(3.0), leaf(4.0, 5.0)
    both = kind([a, b], lr=0.01, **settings)
    stepped(both, [a, b], 2)
    both.add_param_group({"params": c, "lr": 0.02})
    stepped(both, [a, b, c], 3)
    assert [len(group["params"]) for group in both.param_groups] == [2, 1]
    one, two, three = leaf(1.0, 2.0), leaf(3.0), leaf(4.0, 5.0)
    stepped(kind([one, two], lr=0.01, **settings), [one, two], 5)
    stepped(kind([three], lr=0.02, **settings), [three], 3)
    for found, want in ((a, one), (b, two), (c, three)):
        np.testing.assert_allclose(found.numpy(), want.numpy(), rtol=1e-6)
    for group, kind_of_error, match in (
        ({"params": [b]}, InputError, "twice"),
        ({"params": [leaf(1.0)], "lr": -1}, InputError, "lr"),
        ({"params": [leaf(1.0)], "rate": 1}, InputError, "rate"),
        ({"lr": 1}, InputError, "params"),
        ({"params": [a * 2]}, InputTypeError, "multiply"),
    ):
        with pytest.raises(kind_of_error, match=match):
            both.add_param_group(group)
    assert len(both.param_groups) == 2 and len(both.state) == 3


@pytest.mark.parametrize("kind", [optim.StepLR, optim.CosineAnnealingLR])
def test_a_schedule_does_not_know_groups_that_come_later(kind: Any) -> None:
    optimizer = fresh()
    schedule = kind(optimizer, 5)
    optimizer.add_param_group({"params": leaf(1.0)})
    with pytest.raises(InputError, match="rates for 1 groups .* has 2.*new schedule"):
        schedule.step()


def test_parameters_put_into_a_group_by_hand_are_noticed() -> None:
    """They were left as they are, in silence."""
    for change in (
        lambda groups: groups[0]["params"].append(leaf(2.0)),
        lambda groups: groups[0]["params"].pop(),
        lambda groups: groups[0].update(params=[leaf(1.0)]),
        lambda groups: groups.append({"params": [leaf(1.0)]}),
    ):
        p = leaf(1.0)
        optimizer = optim.SGD([p])
        stepped(optimizer, [p], 1)
        change(optimizer.param_groups)
        with pytest.raises(InputError, match="by hand.*add_param_group"):
            optimizer.step()


def test_the_state_of_another_optimizer_is_refused() -> None:
    def used(kind: Any, **settings: Any) -> Any:
        p = leaf(1.0, 2.0)
        optimizer = kind([p], **settings)
        stepped(optimizer, [p], 2)
        return optimizer

    adam, adamw, sgd = used(optim.Adam), used(optim.AdamW), used(optim.SGD, momentum=0.9)
    for taker in (adam, adamw, sgd):
        for giver in (adam, adamw, sgd):
            if giver is not taker:
                before = repr(taker), taker.state_dict()["state"]
                with pytest.raises(CheckpointError, match=rf"{type(giver).__name__};.* is"):
                    taker.load_state_dict(giver.state_dict())
                np.testing.assert_equal((repr(taker), taker.state_dict()["state"]), before)
    without = {k: v for k, v in adam.state_dict().items() if k != "class"}
    with pytest.raises(CheckpointError, match="settings lr, betas.*required by SGD: .*momentum"):
        sgd.load_state_dict(without)
    adamw.load_state_dict(without)  # files may come from elsewhere, and these look alike
    del without["state"][0]["mean"]
    with pytest.raises(CheckpointError, match="parameter 0 has step, square; Adam remembers"):
        adam.load_state_dict(without)
    with pytest.raises(CheckpointError, match="'groups' and 'state'"):
        adam.load_state_dict({"state": []})
