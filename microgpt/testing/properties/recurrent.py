"""Laws of recurrent layers: sequences of several lengths, and states that are carried on."""

from __future__ import annotations

from typing import Any

import numpy as np

import microgpt as mg
from microgpt import nn
from microgpt.testing.properties.base import law
from microgpt.testing.properties.comparing import constant, gradients, leaf, near, same, zero
from microgpt.testing.strategies import Drawer


def _layer(d: Drawer, **settings: Any) -> tuple[Any, int]:
    """A recurrent layer with drawn settings, and how many inputs it has."""
    inputs = d.number(1, 3)
    kind, kinds = d.sampled([nn.LSTM, nn.RNN]), {}
    if kind is nn.RNN:
        kinds = {"nonlinearity": d.sampled(["tanh", "relu"])}
    made = kind(
        inputs, d.number(1, 3), d.number(1, 2), bias=d.sampled([True, False, "single"]),
        batch_first=True, generator=d.rng(), dtype="float64", **settings, **kinds,
    )  # fmt: skip
    return made, inputs


def _state(d: Drawer, layer: Any, n: int) -> tuple[mg.Tensor, ...]:
    count = layer.num_layers * (2 if layer.bidirectional else 1)
    shape = (count, n, layer.hidden_size)
    return tuple(constant(d.filled(shape, -1, 1)) for _ in range(1 + isinstance(layer, nn.LSTM)))


def _called(layer: Any, x: Any, state: Any, lengths: Any = None) -> tuple[Any, tuple[Any, ...]]:
    """The output, and the state after it as a tuple."""
    y, after = layer(x, state if len(state) > 1 else state[0], lengths)
    return y, after if isinstance(after, tuple) else (after,)


@law(39)
def sequences_end_at_their_lengths(d: Drawer) -> None:
    """What stands behind the end of a sequence changes nothing, and gets a gradient of 0."""
    layer, inputs = _layer(d, bidirectional=d.boolean())
    n, longest = d.number(1, 3), d.number(1, 5)
    lengths = d.rng().integers(1, longest + 1, n)
    values = d.filled((n, longest, inputs))
    state = _state(d, layer, n)
    x = leaf(values)
    y, after = _called(layer, x, state, lengths)
    behind = np.arange(longest) >= lengths[:, None]
    zero(f"output behind the lengths {lengths.tolist()}", y.numpy()[behind])
    parts = [y, *after]
    weights = [d.filled(part.shape) for part in parts]
    loss = mg.sum(parts[0] * constant(weights[0]))
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        loss = loss + mg.sum(part * constant(weight))
    (dx,) = gradients(loss, [x])
    zero(f"gradient behind the lengths {lengths.tolist()}", dx[behind])
    other = np.where(behind[:, :, None], d.filled(values.shape, -50, 50), values)
    again, last = _called(layer, constant(other), state, lengths)
    for found, want in zip([again, *last], parts, strict=True):
        same(f"with other numbers behind the lengths {lengths.tolist()}", found, want)
    for i, end in enumerate(lengths.tolist()):
        what = f"row {i} of length {end} in a batch of {n} rows of {longest}"
        own = tuple(part[:, i : i + 1] for part in state)
        alone, alone_after = _called(layer, constant(values[i : i + 1, :end]), own)
        near(f"output of {what}, compared with the row alone", y[i, :end], alone[0])
        for found, want in zip(after, alone_after, strict=True):
            near(f"state after {what}, compared with the row alone", found[:, i], want[:, 0])


@law(38)
def pieces_with_the_state_equal_the_whole(d: Drawer) -> None:
    """A sequence read in pieces, with the state carried on, gives outputs of the whole."""
    layer, inputs = _layer(d)
    n, steps = d.number(1, 3), d.number(2, 6)
    x = leaf(d.filled((n, steps, inputs)))
    first = _state(d, layer, n)
    whole, after = _called(layer, x, first)
    cut = d.number(1, steps - 1)
    early, state = _called(layer, x[:, :cut], first)
    late, last = _called(layer, x[:, cut:], state)
    what = f"of {steps} steps, cut after {cut}"
    near(f"outputs {what}", mg.concat([early, late], axis=1), whole)
    for found, want in zip(last, after, strict=True):
        near(f"state {what}", found, want)
    g = d.filled(late.shape)
    near(
        f"gradient through the carried state {what}",
        gradients(late, [x], g)[0], gradients(whole[:, cut:], [x], g)[0],
    )  # fmt: skip
    _, state = _called(layer, x[:, :cut], first)
    stopped, _ = _called(layer, x[:, cut:], nn.detach_state(state))
    same(f"outputs after a detached state {what}", stopped, late)
    zero(f"gradient before a detached state {what}", gradients(stopped, [x], g)[0][:, :cut])
