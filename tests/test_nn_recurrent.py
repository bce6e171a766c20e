"""Recurrent layers: gradients, lengths, states that are carried on, and messages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt import nn
from microgpt.errors import DTypeError, InputError, ShapeError
from tests.calling import call_with

RNG = np.random.default_rng(0)


def lstm(*sizes: int, **settings: Any) -> nn.LSTM:
    return nn.LSTM(*sizes, generator=mg.generator(0), dtype="float64", **settings)


def rnn(*sizes: int, **settings: Any) -> nn.RNN:
    return nn.RNN(*sizes, generator=mg.generator(0), dtype="float64", **settings)


# ---- gradients -------------------------------------------------------------------------------

H = mg.tensor(RNG.standard_normal((2, 3)))
LAYERS = [
    (lstm(2, 3), (3, 2, 2), {}),
    (lstm(2, 1, 2, bidirectional=True, batch_first=True), (2, 3, 2), {"lengths": [3, 1]}),
    (lstm(2, 3, bias="single"), (3, 2), {}),
    (rnn(2, 3, bias=False, bidirectional=True), (3, 2, 2), {"lengths": [2, 3]}),
    (rnn(2, 3, 2, nonlinearity="relu"), (3, 4, 2), {}),
    (nn.LSTMCell(2, 3, generator=mg.generator(0), dtype="float64"), (2, 2), {"state": (H, -H)}),
    (nn.RNNCell(2, 3, generator=mg.generator(0), dtype="float64"), (2, 2), {"state": H}),
]


@pytest.mark.parametrize("place", range(len(LAYERS)))
def test_every_parameter_receives_the_gradient_that_differences_give(place: int) -> None:
    layer, shape, given = LAYERS[place]
    x = np.random.default_rng(0).standard_normal(shape)
    names = [name for name, _ in layer.named_parameters()]

    def loss(*values: Any) -> Any:
        found = call_with(layer, dict(zip(names, values[1:], strict=True)), values[0])
        return sum(((part * part).sum() for part in flat(found)), mg.zeros((), dtype="float64"))

    def flat(found: Any) -> list[Any]:
        return [t for part in found for t in flat(part)] if isinstance(found, tuple) else [found]

    usual = layer.forward
    object.__setattr__(layer, "forward", lambda a: usual(a, **given))
    loss(mg.tensor(x), *[p for _, p in layer.named_parameters()]).backward()
    for _, p in layer.named_parameters():
        assert p.grad is not None and p.grad.shape == p.shape and p.grad.numpy().any()
    mg.testing.gradcheck(loss, x, *[p.numpy() for _, p in layer.named_parameters()])


def test_relu_has_the_slope_0_at_0() -> None:
    x, w = np.array([[[0.0, 1.0]]]), np.zeros((2, 2))
    sums = mg.tensor(x, requires_grad=True)
    state = mg.zeros((1, 2), dtype="float64")
    mg.ops.rnn_layer(sums, mg.tensor(w), state, nonlinearity="relu").sum().backward()
    assert sums.grad is not None and sums.grad.tolist() == [[[0.0, 1.0]]]


def test_gates_that_are_shut_or_open_stay_finite() -> None:
    for dtype in ("float32", "float64"):
        sums = mg.full((2, 1, 8), -1e4, dtype=dtype, requires_grad=True)
        state = mg.ones((1, 2), dtype=dtype)
        with np.errstate(all="raise", under="ignore"):
            y = mg.ops.lstm_layer(sums, mg.zeros((8, 2), dtype=dtype), state, state)
            y.sum().backward()
        assert y.tolist() == [[[0.0, 0.0]]] * 3
        assert sums.grad is not None and not sums.grad.numpy().any()


# ---- states ----------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [lstm(3, 4, 2), rnn(3, 4, 2)], ids=["LSTM", "RNN"])
def test_two_halves_with_the_carried_state_equal_the_whole(layer: nn.Module) -> None:
    x = mg.tensor(RNG.standard_normal((7, 2, 3)))
    whole, last = layer(x)
    first, state = layer(x[:4])
    second, state = layer(x[4:], state)
    np.testing.assert_allclose(mg.concat([first, second]).numpy(), whole.numpy(), atol=1e-14)
    for a, b in zip(as_tuple(state), as_tuple(last), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-14)


def as_tuple(state: Any) -> tuple[Any, ...]:
    return state if isinstance(state, tuple) else (state,)


@pytest.mark.parametrize("layer", [lstm(3, 4), rnn(3, 4)], ids=["LSTM", "RNN"])
def test_gradients_stop_at_a_detached_state(layer: nn.Module) -> None:
    x = RNG.standard_normal((6, 2, 3))
    results = []
    for cut in (lambda state: state, nn.detach_state):
        early, late = (mg.tensor(part, requires_grad=True) for part in (x[:3], x[3:]))
        _, state = layer(early)
        y, _ = layer(late, cut(state))
        (y * y).sum().backward()
        results.append((y.numpy(), early.grad, late.grad))
    (y, through, _), (cut_y, nothing, to_late) = results
    np.testing.assert_array_equal(y, cut_y)
    assert through is not None and through.numpy().all()
    assert nothing is None and to_late is not None and to_late.numpy().all()
    assert nn.detach_state(None) is None


def test_a_detached_state_does_not_grow_the_graph() -> None:
    layer, state = lstm(1, 2), None
    for _ in range(3):
        y, state = layer(mg.ones((2, 1, 1), dtype="float64"), nn.detach_state(state))
        y.sum().backward()  # would raise GraphFreedError if it led back into the piece before


def test_cells_in_a_loop_equal_the_layer() -> None:
    x = mg.tensor(RNG.standard_normal((4, 2, 3)))
    for layer, cell in ((lstm(3, 5), nn.LSTMCell(3, 5)), (rnn(3, 5), nn.RNNCell(3, 5))):
        cell.to(dtype="float64")
        cell.load_state_dict({k.removesuffix("_l0"): v for k, v in layer.state_dict().items()})
        state = None
        for step in range(4):
            state = cell(x[step], state)
            h = as_tuple(state)[0]
        np.testing.assert_allclose(h.numpy(), layer(x)[0][-1].numpy(), atol=1e-14)


# ---- lengths ---------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lstm, rnn])
@pytest.mark.parametrize("batch_first", [False, True])
def test_what_stands_behind_the_end_is_not_looked_at(make: Any, batch_first: bool) -> None:
    layer = make(3, 4, 2, bidirectional=True, batch_first=batch_first)
    x = RNG.standard_normal((2, 5, 3))
    x[1, 2:] = np.nan
    given = mg.tensor(x if batch_first else x.swapaxes(0, 1), requires_grad=True)
    y, state = layer(given, lengths=np.array([5, 2]))
    alone, alone_state = layer(mg.tensor(x[1, :2]))
    rows = y.numpy() if batch_first else y.numpy().swapaxes(0, 1)
    np.testing.assert_allclose(rows[1, :2], alone.numpy(), atol=1e-14)
    assert not rows[1, 2:].any()
    for a, b in zip(as_tuple(state), as_tuple(alone_state), strict=True):
        np.testing.assert_allclose(a.numpy()[:, 1], b.numpy(), atol=1e-14)
    (y * y).sum().backward()
    assert given.grad is not None
    back = given.grad.numpy() if batch_first else given.grad.numpy().swapaxes(0, 1)
    assert not back[1, 2:].any() and back[0].all()
    assert all(np.isfinite(p.grad.numpy()).all() for p in layer.parameters())


def test_lengths_may_be_a_tensor_or_a_list() -> None:
    layer, x = lstm(3, 2), mg.tensor(RNG.standard_normal((4, 2, 3)))
    want = layer(x, lengths=np.array([4, 1], dtype=np.int32))[0].tolist()
    assert layer(x, lengths=[4, 1])[0].tolist() == want
    assert layer(x, lengths=mg.tensor([4, 1]))[0].tolist() == want


# ---- whole numbers -----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lstm, rnn])
@pytest.mark.parametrize("batch_first", [False, True])
def test_whole_numbers_stand_for_one_hot_vectors_or_rows(make: Any, batch_first: bool) -> None:
    layer, ids = make(4, 3, 2, bidirectional=True, batch_first=batch_first), [[3, 1, 0], [2, 2, 1]]
    table = mg.tensor(RNG.standard_normal((7, 4)), requires_grad=True)
    shape = {"lengths": [3, 1]} if batch_first else {}
    for vectors in (None, table):
        found = []
        rows = mg.tensor(np.eye(4)) if vectors is None else vectors
        for x, given in ((mg.tensor(ids), {"vectors": vectors}), (mg.embedding(ids, rows), {})):
            for p in (*layer.parameters(), table):
                p.grad = None
            y, state = layer(x, **shape, **given)
            ((y * y).sum() + (as_tuple(state)[0] ** 3).sum()).backward()
            leaves = [*layer.parameters(), *([table] if vectors is not None else [])]
            found.append([y.numpy(), *[p.grad.numpy() for p in leaves if p.grad is not None]])
        assert len(found[0]) == len(found[1]) >= 17
        for a, b in zip(*found, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-13)
    one, _ = layer(mg.tensor(ids[0]))
    np.testing.assert_allclose(one.numpy(), layer(mg.one_hot(ids[0], 4, "float64"))[0].numpy())


@pytest.mark.parametrize("size", [3, 300])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_table_gets_its_gradient_in_parts(size: int, reverse: bool) -> None:
    ids = RNG.integers(0, size, (75, 16))
    table = mg.tensor(RNG.standard_normal((size, 128)), requires_grad=True)
    w, state = mg.tensor(RNG.standard_normal((128, 32)) / 8, requires_grad=True), mg.ones((16, 32))
    state = state.astype("float64")
    found = []
    for x, given in ((table, {"ids": ids}), (mg.embedding(ids, table), {})):
        table.grad = w.grad = None
        (mg.ops.lstm_layer(x, w, state, state, reverse=reverse, **given) ** 2).sum().backward()
        assert table.grad is not None and w.grad is not None
        found.append((table.grad.numpy(), w.grad.numpy()))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


# ---- dropout ---------------------------------------------------------------------------------


def test_dropout_lies_between_the_layers_and_only_in_training() -> None:
    layer = lstm(3, 50, 2, dropout=0.5)
    x = mg.tensor(RNG.standard_normal((4, 2, 3)))
    assert layer(x)[0].tolist() != layer(x)[0].tolist()
    layer.eval()
    plain = lstm(3, 50, 2)
    plain.load_state_dict(layer.state_dict())
    assert layer(x)[0].tolist() == plain(x)[0].tolist()
    single = lstm(3, 4, 1, dropout=0.5)
    assert single(x)[0].tolist() == single(x)[0].tolist(), "there is nothing between one layer"


# ---- construction and messages ---------------------------------------------------------------


def test_the_number_of_parameters() -> None:
    n, h = 39, 64
    assert lstm(n, h, bias="single").num_parameters() == 4 * (n * h + h * h + h)
    assert lstm(n, h).num_parameters() == 4 * (n * h + h * h + 2 * h)
    assert lstm(n, h, bias=False).num_parameters() == 4 * (n * h + h * h)
    assert rnn(n, h, bias="single").num_parameters() == n * h + h * h + h
    double = lstm(n, h, 2, bidirectional=True)
    assert [name for name, _ in double.named_parameters()][4:8] == [
        "weight_ih_l0_reverse", "weight_hh_l0_reverse", "bias_ih_l0_reverse", "bias_hh_l0_reverse",
    ]  # fmt: skip
    assert double.weight_ih_l1.shape == (4 * h, 2 * h)


def test_text() -> None:
    layer = nn.LSTM(4, 3, 2, batch_first=True, bidirectional=True, dropout=0.25)
    assert repr(layer).startswith(
        "LSTM(4, 3, num_layers=2, batch_first=True, dropout=0.25, bidirectional=True)  "
    )
    assert (
        repr(nn.RNN(4, 3, nonlinearity="relu")) == "RNN(4, 3, nonlinearity='relu')  27 parameters"
    )
    assert repr(nn.LSTMCell(4, 3, False)) == "LSTMCell(4, 3, bias=False)  84 parameters"


def test_the_same_seed_gives_the_same_layer() -> None:
    a, b = (nn.LSTM(3, 4, 2, generator=mg.generator(7)) for _ in range(2))
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert p.tolist() == q.tolist()


def test_messages_name_the_layer_the_shapes_and_the_mend() -> None:
    layer = nn.LSTM(10, 4)
    with pytest.raises(ShapeError, match=r"LSTM\(10, 4\).*\(5, 3, 9\).*\(t, n, 10\)"):
        layer(mg.zeros((5, 3, 9)))
    with pytest.raises(ShapeError, match=r"\(5, 10, 3\).*moveaxis\(x, 1, -1\)"):
        layer(mg.zeros((5, 10, 3)))
    with pytest.raises(ShapeError, match=r"\(32, 64\).*astype\('int64'\)"):
        layer(mg.zeros((32, 64)))
    with pytest.raises(ShapeError, match="no steps"):
        layer(mg.zeros((0, 3, 10)))
    state = (mg.zeros((1, 5, 4)), mg.zeros((1, 5, 4)))
    with pytest.raises(
        ShapeError, match=r"read as 5 steps of 3 sequences.*make the layer with batch_first=True"
    ):
        layer(mg.zeros((5, 3, 10)), state)
    with pytest.raises(ShapeError, match=r"tuple \(h, c\).*\(1, 3, 4\)"):
        layer(mg.zeros((5, 3, 10)), mg.zeros((1, 3, 4)))
    with pytest.raises(ShapeError, match=r"state of shape.*\(1, 3, 4\)"):
        nn.RNN(10, 4)(mg.zeros((5, 3, 10)), mg.zeros((3, 4)))
    with pytest.raises(ShapeError, match=r"LSTMCell\(10, 4\).*whole sequences go through nn.LSTM"):
        nn.LSTMCell(10, 4)(mg.zeros((5, 3, 10)))
    with pytest.raises(ShapeError, match=r"\(3, 4\).*one step"):
        nn.RNNCell(10, 4)(mg.zeros((3, 10)), mg.zeros((4, 3)))


def test_messages_about_lengths() -> None:
    layer, x = nn.LSTM(2, 3), mg.zeros((5, 3, 2))
    with pytest.raises(ShapeError, match=r"LSTM\(2, 3\).*\(3,\)"):
        layer(x, lengths=[1, 2, 3, 4, 5])
    for bad in ([0, 1, 2], [1, 2, 6]):
        with pytest.raises(ShapeError, match="from 1 to 5"):
            layer(x, lengths=bad)
    with pytest.raises(DTypeError, match="whole numbers"):
        layer(x, lengths=[1.0, 2.0, 3.0])
    with pytest.raises(ShapeError, match=r"x\[:length\]"):
        layer(mg.zeros((5, 2)), lengths=[3])


def test_messages_about_whole_numbers() -> None:
    layer = nn.LSTM(4, 3)
    for bad in ([[4]], [[-1]]):
        for one in (layer, nn.RNN(4, 3)):
            with pytest.raises(ShapeError, match="from 0 to 3"):
                one(mg.tensor(bad))
    with pytest.raises(ShapeError, match=r"float32.*\(7, 5\).*whole numbers and \(v, 4\)"):
        layer(mg.zeros((2, 1, 4)), vectors=mg.zeros((7, 5)))
    with pytest.raises(ShapeError, match=r"vectors of shape \(7, 5\).*\(v, 4\)"):
        layer(mg.tensor([[0]]), vectors=mg.zeros((7, 5)))
    with pytest.raises(ShapeError, match=r"ids of shape \(2,\).*\(v, gates\)"):
        mg.ops.lstm_layer(mg.zeros((5, 8)), mg.zeros((8, 2)), *[mg.zeros((1, 2))] * 2, ids=[1, 2])


def test_messages_about_settings() -> None:
    with pytest.raises(InputError, match="'single'"):
        nn.LSTM(2, 3, bias="double")
    with pytest.raises(InputError, match="relu"):
        nn.RNN(2, 3, nonlinearity="gelu")
    with pytest.raises(InputError, match="relu"):
        nn.RNNCell(2, 3, nonlinearity="gelu")
    with pytest.raises(InputError, match="at least one"):
        nn.LSTM(0, 3)
    with pytest.raises(InputError, match="num_layers"):
        nn.LSTM(2, 3, 0)
    with pytest.raises(InputError, match=r"dropout in \[0, 1\)"):
        nn.LSTM(2, 3, 2, dropout=1.0)


def test_messages_of_the_ops() -> None:
    with pytest.raises(ShapeError, match=r"lstm_layer.*\(t, n, 4h\)"):
        mg.ops.lstm_layer(mg.zeros((2, 3, 8)), mg.zeros((8, 3)), *[mg.zeros((3, 2))] * 2)
    with pytest.raises(ShapeError, match=r"c0 of shape \(2, 3\).*\(3, 2\)"):
        mg.ops.lstm_layer(mg.zeros((2, 3, 8)), mg.zeros((8, 2)), mg.zeros((3, 2)), mg.zeros((2, 3)))
    with pytest.raises(ShapeError, match="no time steps"):
        mg.ops.rnn_layer(mg.zeros((0, 3, 2)), mg.zeros((2, 2)), mg.zeros((3, 2)))
    with pytest.raises(InputError, match="tanh"):
        mg.ops.rnn_layer(mg.zeros((1, 3, 2)), mg.zeros((2, 2)), mg.zeros((3, 2)), nonlinearity="x")
