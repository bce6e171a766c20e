"""Layers, losses, initialisers, and the MLP."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt import nn
from microgpt.errors import (
    CheckpointError,
    DTypeError,
    GradientError,
    InputError,
    InputTypeError,
    ShapeError,
)
from tests.calling import call_with

RNG = np.random.default_rng(0)


def every_layer() -> list[tuple[nn.Module, tuple[int, ...]]]:
    g = mg.generator(0)
    return [
        (nn.Linear(4, 3, generator=g), (2, 4)),
        (nn.Linear(4, 3, bias=False, generator=g), (2, 5, 4)),
        (
            nn.Sequential(nn.Linear(4, 3, generator=g), nn.Tanh(), nn.Linear(3, 2, generator=g)),
            (2, 4),
        ),
        (mg.models.MLP((4, 3, 2), "sigmoid", generator=g), (2, 4)),
        (mg.models.MLP((4, 3, 2), "gelu", generator=g), (2, 4)),
    ]


@pytest.mark.parametrize("place", range(5))
def test_every_parameter_receives_the_gradient_that_differences_give(place: int) -> None:
    with mg.configure(dtype="float64", seed=1):
        layer, shape = every_layer()[place]
        x = RNG.standard_normal(shape)
        named = list(layer.named_parameters())
        (layer(mg.tensor(x)) ** 2).sum().backward()
        assert all(p.grad is not None and p.grad.shape == p.shape for _, p in named)

        def loss(*values: Any) -> Any:
            return (call_with(layer, dict(zip([n for n, _ in named], values[1:], strict=True)),
                              values[0]) ** 2).sum()  # fmt: skip

        mg.testing.gradcheck(loss, x, *[p.numpy() for _, p in named])


def test_linear_equals_pytorch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle here and is not installed")
    ours = mg.models.MLP((5, 4, 3), "tanh", generator=mg.generator(0))
    theirs = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3))
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        other.data = torch.from_numpy(mine.numpy())
    x, y = RNG.standard_normal((6, 5)).astype(np.float32), RNG.integers(0, 3, 6)
    loss = mg.cross_entropy(ours(mg.tensor(x)), mg.tensor(y))
    want = torch.nn.functional.cross_entropy(theirs(torch.from_numpy(x)), torch.from_numpy(y))
    loss.backward()
    want.backward()
    assert loss.item() == pytest.approx(want.item(), rel=1e-6)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(mine.grad.numpy(), other.grad.numpy(), rtol=1e-4, atol=1e-7)  # type: ignore[union-attr]


def test_losses_equal_pytorch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is the oracle here and is not installed")
    f = torch.nn.functional
    x, y = RNG.standard_normal((2, 4, 3)), RNG.random((2, 4, 3))
    classes = RNG.integers(0, 4, (2, 3))
    classes[0, 1] = -100
    for reduction in ("mean", "sum", "none"):
        for mine, theirs in (
            (nn.MSELoss(reduction)(mg.tensor(x), mg.tensor(y)),
             f.mse_loss(torch.tensor(x), torch.tensor(y), reduction=reduction)),
            (nn.BCEWithLogitsLoss(reduction)(mg.tensor(x), mg.tensor(y)),
             f.binary_cross_entropy_with_logits(
                 torch.tensor(x), torch.tensor(y), reduction=reduction)),
            (nn.CrossEntropyLoss(reduction)(mg.tensor(x), mg.tensor(classes)),
             f.cross_entropy(torch.tensor(x), torch.tensor(classes), reduction=reduction)),
        ):  # fmt: skip
            np.testing.assert_allclose(mine.numpy(), theirs.numpy(), rtol=1e-12)


def test_the_networks_of_the_videos() -> None:
    network = mg.models.MLP(generator=mg.generator(0))
    assert network.num_parameters() == 13_002
    assert sum(w + b for _, w, b in network.count()) == 13_002
    out = network(mg.zeros((2, 784)))
    assert out.shape == (2, 10) and out.min().item() > 0 and out.max().item() < 1
    cost = nn.SumSquaredError()
    zero, constant = mg.zeros((10, 10)), mg.full((10, 10), 0.1)
    assert cost(zero, mg.eye(10)).item() == 1.0
    assert cost(constant, mg.eye(10)).item() == pytest.approx(0.9)
    with pytest.raises(InputError, match="relu"):
        mg.models.MLP((2, 2), "step")
    with pytest.raises(InputError, match="sizes|size"):
        mg.models.MLP((2,))


def test_shape_errors_name_the_layer_and_the_mend() -> None:
    layer = nn.Linear(784, 16, generator=mg.generator(0))
    with pytest.raises(ShapeError, match=r"Linear\(784, 16\).*\(3, 28, 28\).*[Ff]latten"):
        layer(mg.zeros((3, 28, 28)))
    with pytest.raises(ShapeError, match=r"\(3, 10\).*784"):
        layer(mg.zeros((3, 10)))
    assert nn.Flatten()(mg.zeros((3, 28, 28))).shape == (3, 784)


# ---- Module ----------------------------------------------------------------------------------


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(2, 2, generator=mg.generator(0))
        self.second = nn.Linear(2, 2, generator=mg.generator(1))
        self.second.weight = self.first.weight
        self.register_buffer("mean", mg.zeros(2))

    def forward(self, x: Any) -> Any:
        return self.second(self.first(x)) + self.mean


def test_shared_parameters_count_once_and_collect_both_gradients() -> None:
    model = Tied()
    assert model.num_parameters() == 8 and len(model.parameters()) == 3
    x = mg.ones((1, 2))
    model(x).sum().backward()
    w, b = model.first.weight.numpy().astype(float), model.first.bias.numpy().astype(float)  # type: ignore[union-attr]
    hidden = w @ np.ones(2) + b
    want = np.outer(np.ones(2), hidden) + np.outer(w.sum(0), np.ones(2))
    np.testing.assert_allclose(model.first.weight.grad.numpy(), want, rtol=1e-5)  # type: ignore[union-attr]


def test_frozen_parameters_stay_parameters() -> None:
    model = Tied()
    model.first.bias.requires_grad = False  # type: ignore[union-attr]
    assert {"first.weight", "first.bias", "second.bias"} == dict(model.named_parameters()).keys()
    assert model.num_parameters(trainable=True) == 6
    model.first.bias = mg.zeros(2)
    assert "first.bias" in dict(model.named_parameters())


def test_state_goes_into_another_model() -> None:
    a, b = Tied(), Tied()
    a.mean = mg.ones(2)
    a.first.weight.data = np.eye(2)
    b.load_state_dict(a.state_dict())
    assert b.mean.tolist() == [1, 1] and b.second.weight.tolist() == [[1, 0], [0, 1]]
    before = b.first.bias.tolist()  # type: ignore[union-attr]
    state: dict[str, Any] = dict(a.state_dict(), extra=mg.zeros(1), mean=np.zeros(3))
    del state["first.bias"]
    with pytest.raises(CheckpointError) as caught:
        b.load_state_dict(state)
    for part in ("missing: first.bias (2,)", "unexpected: extra", "mean: shape (3,)", "(2,) here"):
        assert part in str(caught.value)
    assert b.first.bias.tolist() == before  # type: ignore[union-attr]
    del state["mean"]
    b.load_state_dict(state, strict=False)


def test_modes_parts_and_text() -> None:
    model = nn.Sequential(
        nn.Linear(2, 3, generator=mg.generator(0)), nn.Dropout(0.5, generator=mg.generator(0))
    )
    assert "Linear(2, 3)  9 parameters" in repr(model) and "Dropout(0.5)" in repr(model)
    assert all(not m.training for _, m in model.eval().named_modules())
    x = mg.ones((4, 2))
    assert model(x).tolist() == model(x).tolist(), "no dropout in evaluation"
    model.train()
    assert model(x).tolist() != model(x).tolist()
    model.to(dtype="float64")
    assert {p.dtype for p in model.parameters()} == {np.dtype("float64")}
    model(mg.ones((1, 2), dtype="float64")).sum().backward()
    model.zero_grad()
    assert all(p.grad is None for p in model.parameters())
    assert all(not p.requires_grad for p in model.requires_grad_(False).parameters())


def test_misuse_of_modules() -> None:
    class NoInit(nn.Module):
        def __init__(self) -> None:
            self.layer = nn.Linear(1, 1)

    with pytest.raises(InputTypeError, match="super"):
        NoInit()
    model = nn.Module()
    with pytest.raises(GradientError, match="leaf"):
        model.w = nn.Parameter([1.0]) * 2
    with pytest.raises(InputTypeError, match="forward"):
        model(1)
    with pytest.raises(InputTypeError, match="modules"):
        nn.Sequential(mg.relu)
    with pytest.raises(InputError, match=r"\[0, 1\)"):
        nn.Dropout(1.0)


def test_evaluating_gives_every_part_its_mode_back_whatever_happens() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5)))
    model[1].eval()
    model[1][0].train()
    before = [m.training for _, m in model.named_modules()]
    with pytest.raises(ZeroDivisionError), model.evaluating():
        assert not any(m.training for _, m in model.named_modules())
        1 / 0  # noqa: B018
    assert [m.training for _, m in model.named_modules()] == before == [True, True, False, True]


def test_errors_of_ops_name_the_innermost_module_once() -> None:
    class Mine(nn.Module):
        def __init__(self, part: nn.Module) -> None:
            super().__init__()
            self.part = part

        def forward(self, x: Any) -> Any:
            return mg.matmul(self.part(x), mg.ones((3, 3)))

    wrong = mg.ones((2, 4), dtype="float64")
    with pytest.raises(DTypeError, match=r"^Linear\(4, 2\): linear was given .*two float types"):
        Mine(nn.Sequential(nn.Linear(4, 2)))(wrong)
    with pytest.raises(ShapeError, match=r"^Mine: matmul"):
        Mine(nn.Sequential(nn.Linear(4, 2)))(mg.ones((2, 4)))
    with pytest.raises(ShapeError, match=r"^Linear\(4, 2\) was given") as caught:
        Mine(nn.Linear(4, 2))(mg.ones((2, 5)))
    assert str(caught.value).count("Linear") == 1 and "Mine" not in str(caught.value)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.LSTM(3, 2), (2, 1, 3)),
        (nn.MultiHeadAttention(4, 2), (1, 3, 4)),
        (nn.BatchNorm2d(3), (2, 3, 4, 4)),
        (nn.LayerNorm(4), (2, 4)),
        (nn.Conv2d(1, 2, 3), (1, 1, 4, 4)),
    ],
)
def test_layers_are_named_where_float_types_differ(layer: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(DTypeError, match=rf"^{type(layer).__name__}\("):
        layer(mg.ones(shape, dtype="float64"))


# ---- randomness ------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_weights_and_masks() -> None:
    with mg.configure(seed=5):
        a, b = mg.models.MLP((3, 2)), mg.models.MLP((3, 2))
    assert a.layers[0].weight.tolist() == b.layers[0].weight.tolist()
    masks = [mg.dropout(mg.ones(50), 0.3, generator=mg.generator(2)).tolist() for _ in range(2)]
    assert masks[0] == masks[1]
    with pytest.raises(InputError, match="generator"):
        mg.dropout(mg.ones(2))


def test_dropout_keeps_the_mean_and_scales_gradients() -> None:
    x = mg.ones(20_000, requires_grad=True)
    y = mg.dropout(x, 0.25, generator=mg.generator(0))
    assert y.mean().item() == pytest.approx(1.0, abs=0.02)
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == y.tolist()


@pytest.mark.parametrize(
    ("name", "deviation"),
    [
        ("xavier_uniform", math.sqrt(2 / 300)),
        ("xavier_normal", math.sqrt(2 / 300)),
        ("kaiming_uniform", math.sqrt(2 / 200)),
        ("kaiming_normal", math.sqrt(2 / 200)),
        ("normal", 1.0),
        ("uniform", math.sqrt(1 / 12)),
    ],
)
def test_initial_values_have_the_promised_spread(name: str, deviation: float) -> None:
    values = getattr(nn.init, name)((100, 200), generator=mg.generator(0))
    assert values.std() == pytest.approx(deviation, rel=0.02)
    p = nn.Parameter(np.zeros((100, 200), np.float32))
    getattr(nn.init, name + "_")(p, generator=mg.generator(0))
    np.testing.assert_allclose(p.numpy(), values, rtol=1e-6)


def test_linear_starts_as_pytorchs_does() -> None:
    layer = nn.Linear(100, 50, generator=mg.generator(0))
    w = layer.weight.numpy()
    assert np.abs(w).max() <= 0.1 and w.std() == pytest.approx(0.1 / math.sqrt(3), rel=0.05)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    assert layer.bias.tolist() == [0.0] * 50  # type: ignore[union-attr]
    with pytest.raises(ShapeError, match="two dimensions"):
        nn.init.fans((3,))
