"""`mg.checkpoint` with layers that draw random numbers or remember their batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt import nn
from microgpt.errors import GradientError
from microgpt.ops import replay

X = np.random.default_rng(0).standard_normal((2, 5, 8))
Step = Callable[[Any, Any], Any]


class Layers(nn.Module):
    """Layers with dropout in four places, which share one generator."""

    def __init__(self) -> None:
        super().__init__()
        options: dict[str, Any] = {"generator": mg.generator(0), "dtype": "float64"}
        self.block = nn.TransformerBlock(8, 2, dropout=0.4, is_causal=True, **options)
        self.lstm = nn.LSTM(8, 8, 2, dropout=0.3, batch_first=True, **options)
        self.norm = nn.BatchNorm1d(5, dtype="float64")
        self.source = options["generator"]

    def forward(self, x: Any) -> Any:
        return self.norm(self.lstm(self.block(x))[0])


def plain(function: Any, x: Any) -> Any:
    return function(x)


def nested(function: Any, x: Any) -> Any:
    return mg.checkpoint(lambda x: mg.checkpoint(function, x) * 1.0, x)


def trained(step: Step) -> tuple[list[np.ndarray], float]:
    """Output, gradients and buffers of two layers one after the other, and the next draw."""
    layers, x = Layers(), mg.tensor(X, requires_grad=True)
    y = step(layers, step(layers, x))
    (y * y * y).sum().backward()
    tensors = [y, x.grad, *[p.grad for p in layers.parameters()]]
    tensors += [value for _, value in layers.named_buffers()]
    return [t.numpy() for t in tensors], layers.source.random()


@pytest.mark.parametrize("step", [mg.checkpoint, nested])
def test_dropout_and_batch_norm_inside_are_as_without(step: Step) -> None:
    (found, draw), (want, same) = trained(step), trained(plain)
    assert draw == same
    for a, b in zip(found, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_masks_are_repeated_however_the_generator_is_reached() -> None:
    holder = {"generator": mg.generator(1)}

    def thinned(x: Any) -> Any:
        return mg.dropout(x, 0.5, generator=holder["generator"])

    x = mg.tensor(np.ones(64), requires_grad=True)
    y = mg.checkpoint(thinned, x)
    holder["generator"].random(7)  # others draw between forward and backward
    before = holder["generator"].bit_generator.state
    for _ in range(2):
        x.grad = None
        y.sum().backward(retain_graph=True)
        np.testing.assert_array_equal(x.grad.numpy(), y.numpy())
        assert holder["generator"].bit_generator.state == before


def test_second_derivatives_have_the_same_mask() -> None:
    layer = nn.Dropout(0.5, generator=mg.generator(3))
    x = mg.tensor(np.arange(1.0, 9.0), requires_grad=True)
    y = mg.checkpoint(lambda x: layer(x) ** 3, x)
    kept = y.numpy() != 0
    y.sum().backward(create_graph=True)
    first, x.grad = x.grad, None
    first.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), 6 * 8 * x.numpy() * kept)


@pytest.mark.parametrize("kind", ["random", "state", "shape"])
def test_a_function_that_returns_something_else_is_refused(kind: str) -> None:
    source, calls = mg.generator(0), []

    def function(x: Any) -> Any:
        calls.append(1)
        if kind == "random":
            return x * mg.tensor(source.random(4))
        return x * float(len(calls)) if kind == "state" else mg.concat([x] * len(calls))

    x = mg.tensor(np.ones(4), requires_grad=True)
    y = mg.checkpoint(function, x).sum()
    with pytest.raises(GradientError, match="Dropout"):
        y.backward()


def test_sums_in_another_order_and_nan_are_no_difference() -> None:
    noise = iter([0.0, 1e-15, 0.0])

    def function(x: Any) -> Any:
        return mg.concat(
            [x * (1.0 + next(noise)), mg.tensor([np.nan, np.inf, -np.inf], dtype="float64")]
        )

    x = mg.tensor([1.0, 1e6], dtype="float64", requires_grad=True)
    mg.checkpoint(function, x)[:2].sum().backward()
    assert x.grad is not None and x.grad.tolist() == pytest.approx([1.0, 1.0])


def test_outside_of_checkpoint_nothing_is_remembered() -> None:
    source = mg.generator(0)
    with replay.watched() as draws:
        source.random()
        replay.note(source)
        state = source.bit_generator.state
        mg.dropout(mg.ones(3), generator=source)
    assert draws == [(source, state)]
    mg.dropout(mg.ones(3), generator=mg.generator(1))
    assert draws == [(source, state)] and not replay.again()
