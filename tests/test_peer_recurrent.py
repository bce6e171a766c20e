"""Recurrent layers against PyTorch: outputs, last states and all gradients, in float64."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt import nn

torch = pytest.importorskip("torch", reason="PyTorch is the oracle here and is not installed")

INPUTS, HIDDEN, STEPS, ROWS = 3, 4, 6, 5
LENGTHS = np.array([4, 6, 1, 3, 6])


def pair(kind: str, **settings: Any) -> tuple[nn.Module, Any]:
    """The same layer in both libraries, with PyTorch's weights."""
    torch.manual_seed(0)
    theirs = getattr(torch.nn, kind)(INPUTS, HIDDEN, dtype=torch.float64, **settings)
    ours = getattr(nn, kind)(INPUTS, HIDDEN, dtype="float64", **settings)
    ours.load_state_dict({name: p.detach().numpy() for name, p in theirs.state_dict().items()})
    return ours, theirs


def near(found: Any, want: Any) -> None:
    np.testing.assert_allclose(found, want.detach().numpy(), rtol=1e-10, atol=1e-10)


def agree(ours: Any, theirs: Any, x: np.ndarray, state: Any, lengths: Any) -> None:
    """Compare everything: first with states in, then what comes out, then what goes back."""
    mine = [mg.tensor(a, requires_grad=True) for a in (x, *state)]
    other = [torch.tensor(a, requires_grad=True) for a in (x, *state)]
    memory = type(ours).__name__ == "LSTM"

    def given(parts: list[Any]) -> Any:
        if len(parts) == 1:
            return None
        return (parts[1], parts[2]) if memory else parts[1]

    y, after = ours(mine[0], given(mine), lengths)
    if lengths is None:
        want, last = theirs(other[0], given(other))
    else:
        utils = torch.nn.utils.rnn
        packed = utils.pack_padded_sequence(
            other[0], torch.tensor(lengths), ours.batch_first, enforce_sorted=False
        )
        padded, last = theirs(packed, given(other))
        want, _ = utils.pad_packed_sequence(padded, ours.batch_first, total_length=STEPS)
    found, wanted = [y, *(after if memory else [after])], [want, *(last if memory else [last])]
    rng = np.random.default_rng(1)
    loss = other_loss = None
    for a, b in zip(found, wanted, strict=True):
        near(a.numpy(), b)
        g = rng.standard_normal(a.shape)
        loss = (a * mg.tensor(g)).sum() + (0.0 if loss is None else loss)
        other_loss = (b * torch.tensor(g)).sum() + (0.0 if other_loss is None else other_loss)
    loss.backward()
    other_loss.backward()
    for a, b in zip(mine, other, strict=True):
        near(a.grad.numpy(), b.grad)
    gradients = {name: p.grad for name, p in theirs.named_parameters()}
    assert gradients.keys() == dict(ours.named_parameters()).keys()
    for name, p in ours.named_parameters():
        near(p.grad.numpy(), gradients[name])


KINDS: list[tuple[str, dict[str, Any]]] = [
    ("LSTM", {}),
    ("RNN", {"nonlinearity": "tanh"}),
    ("RNN", {"nonlinearity": "relu"}),
]


@pytest.mark.parametrize(("kind", "settings"), KINDS, ids=("lstm", "tanh", "relu"))
@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_layers_equal_pytorch(
    kind: str, settings: dict[str, Any], layers: int, bidirectional: bool
) -> None:
    rng = np.random.default_rng(0)
    count = 2 if kind == "LSTM" else 1
    for batch_first, lengths, with_state in product((False, True), (None, LENGTHS), (False, True)):
        ours, theirs = pair(
            kind, num_layers=layers, bidirectional=bidirectional, batch_first=batch_first,
            bias=batch_first == with_state, **settings,
        )  # fmt: skip
        x = rng.standard_normal((ROWS, STEPS, INPUTS) if batch_first else (STEPS, ROWS, INPUTS))
        shape = (layers * (1 + bidirectional), ROWS, HIDDEN)
        state = [rng.standard_normal(shape) for _ in range(count * with_state)]
        agree(ours, theirs, x, state, lengths)


@pytest.mark.parametrize("lengths", [False, True])
def test_long_sequences_equal_pytorch(lengths: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """So large that the NumPy kernel goes back through the steps in several parts."""
    monkeypatch.setattr("tests.test_peer_recurrent.HIDDEN", 32)
    monkeypatch.setattr("tests.test_peer_recurrent.STEPS", 75)
    rng = np.random.default_rng(0)
    ours, theirs = pair("LSTM", bidirectional=True)
    x, state = rng.standard_normal((75, 16, INPUTS)), rng.standard_normal((2, 2, 16, 32))
    ends = np.append(rng.integers(1, 76, 15), 75) if lengths else None
    agree(ours, theirs, x, list(state), ends)


@pytest.mark.parametrize(("kind", "settings"), KINDS, ids=("lstm", "tanh", "relu"))
def test_one_sequence_equals_pytorch(kind: str, settings: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    for batch_first, with_state in product((False, True), (False, True)):
        ours, theirs = pair(kind, num_layers=2, batch_first=batch_first, **settings)
        count = 2 if kind == "LSTM" else 1
        state = [rng.standard_normal((2, HIDDEN)) for _ in range(count * with_state)]
        agree(ours, theirs, rng.standard_normal((STEPS, INPUTS)), state, None)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("LSTMCell", {}), ("RNNCell", {}), ("RNNCell", {"nonlinearity": "relu"})],
)
@pytest.mark.parametrize("shape", [(ROWS,), ()])
def test_cells_equal_pytorch(kind: str, settings: dict[str, Any], shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    ours, theirs = pair(kind, **settings)
    x = rng.standard_normal((2, *shape, INPUTS))
    mine, other = mg.tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    state = want = None
    for step in range(2):
        state, want = ours(mine[step], state), theirs(other[step], want)
    found, wanted = (state, want) if kind == "LSTMCell" else ([state], [want])
    for a, b in zip(found, wanted, strict=True):
        near(a.numpy(), b)
    sum((a * a).sum() for a in found).backward()
    sum((b * b).sum() for b in wanted).backward()
    near(mine.grad.numpy(), other.grad)
    for name, p in theirs.named_parameters():
        near(getattr(ours, name).grad.numpy(), p.grad)


def test_a_layer_starts_as_pytorchs_does() -> None:
    layer, theirs = nn.LSTM(50, 64, generator=mg.generator(0)), torch.nn.LSTM(50, 64)
    assert layer.num_parameters() == sum(p.numel() for p in theirs.parameters())
    for p in layer.parameters():
        values = p.numpy()
        assert np.abs(values).max() <= 1 / 8
        assert values.std() == pytest.approx(1 / 8 / np.sqrt(3), rel=0.1)
