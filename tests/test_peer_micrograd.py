"""Programs written for micrograd's `Value`, run with ours, with micrograd and with PyTorch."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from microgpt import Scalar as Value
from tests.peers.comparison import quiet
from tests.peers.programs import OPERATIONS, Program, program

SEEDS = range(60)


@pytest.fixture(scope="module")
def torch() -> Any:
    with quiet():
        return pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")


@pytest.fixture(scope="module")
def micrograd() -> Any:
    return pytest.importorskip(
        "micrograd.engine", reason="micrograd is not installed: pip install micrograd"
    )


def with_values(run: Callable[..., list[Any]], kind: Any) -> tuple[list[float], list[float]]:
    """Values and gradients of all nodes, by a class with `data`, `grad` and `backward`."""
    nodes = run(kind)
    nodes[-1].backward()
    return [x.data for x in nodes], [x.grad for x in nodes]


def with_pytorch(run: Callable[..., list[Any]], torch: Any) -> tuple[list[float], list[float]]:
    nodes = run(lambda x: torch.tensor(x, dtype=torch.float64, requires_grad=True))
    for node in nodes:
        node.retain_grad()
    nodes[-1].backward()
    gradients = [0.0 if x.grad is None else x.grad.item() for x in nodes]
    return [x.item() for x in nodes], gradients


def same(found: tuple[list[float], list[float]], wanted: tuple[list[float], list[float]]) -> None:
    for ours, theirs in zip(found, wanted, strict=True):
        scale = max(abs(x) for x in theirs)
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-13 * scale)


# ---- expressions that anybody would write ------------------------------------------------------


def rational(scalar: Callable[[float], Any]) -> list[Any]:
    """Every operator, with numbers on either side."""
    a, b = scalar(-3.0), scalar(1.5)
    c = 2 * a - b / 4
    d = (1 - c) ** 2 / 5 + 10 / (b + 2)
    e = -d + a * b * c - 0.5
    return [a, b, c, d, e, e**-1 + d]


def assigned_again(scalar: Callable[[float], Any]) -> list[Any]:
    """Names bound again and again: the nodes before them live on."""
    x, y = scalar(2.0), scalar(-0.75)
    total = x * y
    total += total + 1
    total += 3 + total - y
    total *= x
    total -= (y - x).relu() + 2 * (x - y).relu()
    total /= y**2
    return [x, y, total]


def gates(scalar: Callable[[float], Any]) -> list[Any]:
    """relu open and shut, and a node whose both paths meet again."""
    x, w = scalar(0.6), scalar(-1.25)
    shut, wide = (x * w).relu(), (x - w).relu()
    s = shut + wide
    return [x, w, shut, wide, s, s * s + s * x + shut]


def itself(scalar: Callable[[float], Any]) -> list[Any]:
    """One node as both operands."""
    x = scalar(1.7)
    y = x * x + x / x - (x - x)
    return [x, y, y + y]


EXPRESSIONS = {f.__name__: f for f in (rational, assigned_again, gates, itself)}


def test_an_expression_worked_out_by_hand() -> None:
    # 2(x² + 1) and its derivative 4x: one case that stands where no peer is installed.
    values, gradients = with_values(itself, Value)
    assert values == pytest.approx([1.7, 3.89, 7.78], rel=1e-15)
    assert gradients == pytest.approx([6.8, 2.0, 1.0], rel=1e-15)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expressions_are_as_in_pytorch(name: str, torch: Any) -> None:
    same(with_values(EXPRESSIONS[name], Value), with_pytorch(EXPRESSIONS[name], torch))


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expressions_are_as_in_micrograd(name: str, micrograd: Any) -> None:
    same(with_values(EXPRESSIONS[name], Value), with_values(EXPRESSIONS[name], micrograd.Value))


# ---- random programs -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_random_programs_are_as_in_pytorch(seed: int, torch: Any) -> None:
    made = program(seed)
    same(with_values(made.run, Value), with_pytorch(made.run, torch))


@pytest.mark.parametrize("seed", SEEDS)
def test_random_programs_are_as_in_micrograd(seed: int, micrograd: Any) -> None:
    made = program(seed)
    same(with_values(made.run, Value), with_values(made.run, micrograd.Value))


def reused(made: Program) -> int:
    """How many nodes are an operand more than once."""
    uses = [x for step in made.steps for x in step.operands if isinstance(x, int)]
    return sum(uses.count(node) > 1 for node in set(uses))


def test_programs_have_every_operation_and_use_nodes_again() -> None:
    programs = [program(seed) for seed in SEEDS]
    assert {step.name for made in programs for step in made.steps} == set(OPERATIONS)
    assert min(reused(made) for made in programs) >= 3
    assert all(
        with_values(made.run, Value)[1].count(0.0) < len(made.steps) / 2 for made in programs
    )
    assert program(0) == programs[0] != programs[1]


def test_a_wrong_gradient_is_noticed(torch: Any) -> None:
    made = program(0)
    values, gradients = with_values(made.run, Value)
    wanted = with_pytorch(made.run, torch)
    for i, g in enumerate(gradients):
        if g:
            wrong = [*gradients[:i], g * (1 + 1e-9), *gradients[i + 1 :]]
            with pytest.raises(AssertionError):
                same((values, wrong), wanted)


# ---- micrograd's own network -----------------------------------------------------------------


def trained(network: Any, value: Any) -> tuple[list[float], list[float]]:
    """Losses and final parameters of a small classifier: six steps of gradient descent."""
    network.random = random.Random(7)
    model = network.MLP(2, [6, 6, 1])
    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (12, 2))
    labels = [1.0 if x * y > 0 else -1.0 for x, y in points]
    losses = []
    for _ in range(6):
        scores = [model([value(float(x)) for x in point]) for point in points]
        margins = [(1 - label * s).relu() for label, s in zip(labels, scores, strict=True)]
        loss = sum(margins) * (1.0 / len(margins))
        loss = loss + 1e-3 * sum(p * p for p in model.parameters())
        model.zero_grad()
        loss.backward()
        for p in model.parameters():
            p.data -= 0.1 * p.grad
        losses.append(loss.data)
    return losses, [p.data for p in model.parameters()]


def test_its_network_trains_the_same_on_ours(
    micrograd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = pytest.importorskip("micrograd.nn", reason="this micrograd has no networks")
    monkeypatch.setattr(network, "random", random)  # which `trained` replaces: put back at the end
    theirs = trained(network, micrograd.Value)
    monkeypatch.setattr(network, "Value", Value)
    ours = trained(network, Value)
    assert ours[0][-1] < ours[0][0]
    same(ours, theirs)
