"""Warm-up with a cosine, and linear decay: against the formulas, and resumed."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

import microgpt as mg
from microgpt import optim
from microgpt.errors import InputError


def fresh(*rates: float) -> optim.SGD:
    groups = [{"params": [mg.tensor([1.0], requires_grad=True)], "lr": lr} for lr in rates]
    return optim.SGD(groups)


def rates(schedule: optim.Schedule, steps: int) -> list[list[float]]:
    seen = []
    for _ in range(steps):
        seen.append(schedule.get_last_lr())
        schedule.step()
    return seen


@pytest.mark.parametrize(("warmup", "total", "low"), [(0, 4, 0.0), (1, 4, 0.1), (3, 8, 0.25)])
def test_warm_up_and_cosine_written_out(warmup: int, total: int, low: float) -> None:
    found = rates(optim.WarmupCosine(fresh(2.0, 0.5), warmup, total, low), total + 3)
    for step, pair in enumerate(found):
        if step < warmup:
            want = (step + 1) / warmup
        elif step < total:
            angle = math.pi * (step - warmup) / (total - warmup)
            want = low + (1 - low) * 0.5 * (1 + math.cos(angle))
        else:
            want = low
        assert pair == pytest.approx([2.0 * want, 0.5 * want], abs=1e-15)


def test_linear_decay_is_that_of_the_gist() -> None:
    found = rates(optim.LinearDecay(fresh(0.01), 1000), 1002)
    assert [lr for (lr,) in found[:1000]] == [0.01 * (1 - step / 1000) for step in range(1000)]
    assert found[1000:] == [[0.0], [0.0]]


MADE: list[Callable[[Any], optim.Schedule]] = [
    lambda o: optim.WarmupCosine(o, 2, 7, 0.1),
    lambda o: optim.LinearDecay(o, 6),
    lambda o: optim.SequentialLR(o, [optim.LinearLR(o, 0.5, 1.0, 2), optim.StepLR(o, 2)], [3]),
]


@pytest.mark.parametrize("make", MADE)
@pytest.mark.parametrize("after", [0, 1, 2, 5, 9])
def test_a_state_goes_on_in_another_object_made_with_other_rates(make: Any, after: int) -> None:
    whole = rates(make(fresh(0.3, 2.0)), 10)
    first = make(fresh(0.3, 2.0))
    rates(first, after)
    second = make(fresh(7.0, 9.0))
    second.load_state_dict(first.state_dict())
    assert rates(second, 10 - after) == whole[after:]


def test_misuse() -> None:
    for call, words in (
        (lambda: optim.WarmupCosine(fresh(1.0), 5, 5), "warmup < total; got 5 and 5"),
        (lambda: optim.WarmupCosine(fresh(1.0), -1, 5), "warmup"),
        (lambda: optim.WarmupCosine(fresh(1.0), 1, 5, 1.5), "min_ratio"),
        (lambda: optim.LinearDecay(fresh(1.0), 0), "total"),
    ):
        with pytest.raises(InputError, match=words):
            call()
