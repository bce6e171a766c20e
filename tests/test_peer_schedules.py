"""Schedules against torch.optim.lr_scheduler."""

from __future__ import annotations

from typing import Any

import pytest

import microgpt as mg
from microgpt import optim

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
theirs = torch.optim.lr_scheduler

RATES = (2.0, 0.25)


def ours() -> optim.SGD:
    return optim.SGD([{"params": [mg.tensor([1.0], requires_grad=True)], "lr": r} for r in RATES])


def peer() -> Any:
    return torch.optim.SGD(
        [{"params": [torch.ones(1, requires_grad=True)], "lr": r} for r in RATES]
    )


def warmup_cosine(o: Any, warmup: int, total: int) -> Any:
    up = theirs.LinearLR(o, 1 / warmup, 1.0, max(warmup - 1, 1))
    return theirs.SequentialLR(o, [up, theirs.CosineAnnealingLR(o, total - warmup)], [warmup])


PAIRS: list[tuple[Any, Any]] = [
    (lambda o: optim.WarmupCosine(o, 4, 12), lambda o: warmup_cosine(o, 4, 12)),
    (lambda o: optim.WarmupCosine(o, 2, 9), lambda o: warmup_cosine(o, 2, 9)),
    (lambda o: optim.WarmupCosine(o, 0, 12), lambda o: theirs.CosineAnnealingLR(o, 12)),
    (lambda o: optim.LinearDecay(o, 12), lambda o: theirs.LinearLR(o, 1.0, 0.0, 12)),
    (lambda o: optim.StepLR(o, 3, 0.5), lambda o: theirs.StepLR(o, 3, 0.5)),
    (lambda o: optim.LinearLR(o, 0.2, 1.0, 5), lambda o: theirs.LinearLR(o, 0.2, 1.0, 5)),
    (lambda o: optim.LambdaLR(o, lambda t: 0.9**t), lambda o: theirs.LambdaLR(o, lambda t: 0.9**t)),
]


@pytest.mark.parametrize(("make", "make_peer"), PAIRS)
def test_rates_equal_pytorch(make: Any, make_peer: Any) -> None:
    schedule, their_optimizer = make(ours()), peer()
    their_schedule = make_peer(their_optimizer)
    # PyTorch's cosine goes up again after its end, ours stays: 12 steps, or 9, and no further.
    for step in range(9):
        want = [group["lr"] for group in their_optimizer.param_groups]
        assert schedule.get_last_lr() == pytest.approx(want, abs=1e-12), f"step {step}"
        their_optimizer.step()
        their_schedule.step()
        schedule.step()
