"""Convolution, pooling, and the CNN."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt import nn
from microgpt.errors import CheckpointError, InputError, ShapeError
from tests.calling import call_with

RNG = np.random.default_rng(0)

LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "plain": (lambda **at: nn.Conv2d(2, 3, 2, **at), (2, 2, 4, 3)),
    "stride and padding": (lambda **at: nn.Conv2d(1, 2, (3, 2), 2, (1, 0), **at), (1, 1, 5, 4)),
    "dilated": (lambda **at: nn.Conv2d(1, 2, 2, dilation=(2, 1), **at), (2, 1, 4, 3)),
    "groups": (lambda **at: nn.Conv2d(4, 2, 2, groups=2, bias=False, **at), (1, 4, 3, 3)),
    "same": (lambda **at: nn.Conv2d(1, 1, (2, 3), padding="same", **at), (1, 1, 3, 3)),
    "CNN": (lambda generator: mg.models.CNN(4, 3, 1, (2, 2), generator=generator), (2, 1, 4, 4)),
    "colours": (
        lambda generator: mg.models.CNN((5, 4), 2, 3, (1, 2), 1, "tanh", generator=generator),
        (2, 3, 5, 4),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_parameter_receives_the_gradient_that_differences_give(name: str) -> None:
    make, shape = LAYERS[name]
    with mg.configure(dtype="float64"):
        layer = make(generator=mg.generator(0))
        x = RNG.standard_normal(shape)
        named = dict(layer.named_parameters())
        (layer(mg.tensor(x)) ** 2).sum().backward()
        assert all(p.grad is not None and p.grad.shape == p.shape for p in named.values())

        def loss(x: Any, *values: Any) -> Any:
            return (call_with(layer, dict(zip(named, values, strict=True)), x) ** 2).sum()

        mg.testing.gradcheck(loss, x, *[p.numpy() for p in named.values()])


def test_convolution_written_out() -> None:
    layer = nn.Conv2d(2, 3, (3, 2), (2, 1), (1, 0), generator=mg.generator(0), dtype="float64")
    x = RNG.standard_normal((2, 2, 5, 4))
    weight, padded = layer.weight.numpy(), np.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    want = np.empty((2, 3, 3, 3))
    for n, o, i, j in np.ndindex(*want.shape):
        window = padded[n, :, 2 * i : 2 * i + 3, j : j + 2]
        want[n, o, i, j] = (window * weight[o]).sum() + layer.bias.numpy()[o]
    np.testing.assert_allclose(layer(mg.tensor(x)).numpy(), want, rtol=1e-12)


def test_pools_written_out() -> None:
    x = RNG.standard_normal((2, 3, 5, 7))
    for kind, reduce in ((nn.MaxPool2d, np.max), (nn.AvgPool2d, np.mean)):
        y = kind((2, 3))(mg.tensor(x)).numpy()
        assert y.shape == (2, 3, 2, 2)
        for n, c, i, j in np.ndindex(*y.shape):
            window = x[n, c, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3]
            assert y[n, c, i, j] == pytest.approx(reduce(window), rel=1e-12)


def test_equally_large_pixels_share_the_gradient() -> None:
    image = mg.tensor([[[[1.0, 1.0, 3.0], [1.0, 0.0, 2.0], [5.0, 5.0, 5.0]]]], requires_grad=True)
    nn.MaxPool2d(2)(image).sum().backward()
    third = float(np.float32(1) / 3)
    assert image.grad is not None
    assert image.grad.tolist() == [[[[third, third, 0], [third, 0, 0], [0, 0, 0]]]]


def test_starts_as_pytorchs_does() -> None:
    layer = nn.Conv2d(8, 64, 5, groups=2, generator=mg.generator(0))
    bound, w = 1 / np.sqrt(4 * 25), layer.weight.numpy()
    assert w.shape == (64, 4, 5, 5) and np.abs(w).max() <= bound
    assert w.std() == pytest.approx(bound / np.sqrt(3), rel=0.03)
    assert layer.bias is not None and np.abs(layer.bias.numpy()).max() <= bound


@pytest.mark.parametrize(
    ("layer", "shape", "parts"),
    [
        ("Conv2d(3, 8, 3)", (5, 9, 9, 3), ("Conv2d(3, 8, 3)", "(5, 9, 9, 3)", "(0, 3, 1, 2)")),
        ("Conv2d(3, 8, 3)", (3, 9, 9), ("(3, 9, 9)", "(n, 3, height, width)", "x[None]")),
        ("Conv2d(3, 8, 3)", (9, 9, 3), ("permute_dims(x, (2, 0, 1))[None]",)),
        ("Conv2d(1, 8, 3)", (5, 28, 28), ("(n, 1, height, width)", "x[:, None]")),
        ("Conv2d(1, 8, 3)", (28, 28), ("one grey image", "x[None, None]")),
        ("Conv2d(1, 8, 3)", (64, 784), ("(64, 784)", "reshape(-1, 1, 28, 28)")),
        ("Conv2d(1, 8, 3)", (4, 2, 8, 8), ("(4, 2, 8, 8)", "required: (n, 1,")),
        ("Conv2d(1, 8, 5)", (1, 1, 3, 8), ("Conv2d(1, 8, 5)", "(5, 5)", "(3, 8)", "padded size")),
        ("MaxPool2d(2)", (3, 28, 28), ("MaxPool2d(2)", "(3, 28, 28)", "x[:, None]")),
        ("AvgPool2d(2)", (64, 784), ("AvgPool2d(2)", "(64, 784)", "28, 28")),
        ("MaxPool2d(4, 2)", (1, 1, 3, 8), ("MaxPool2d(4, stride=2)", "(3, 8)")),
    ],
)
def test_shape_errors_name_the_layer_and_the_mend(
    layer: str, shape: tuple[int, ...], parts: tuple[str, ...]
) -> None:
    with pytest.raises(ShapeError) as caught:
        eval(f"nn.{layer}")(mg.zeros(shape))
    assert all(part in str(caught.value) for part in parts), str(caught.value)


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda: nn.Conv2d(3, 4, 3, groups=2), "groups"),
        (lambda: nn.Conv2d(0, 4, 3), "positive"),
        (lambda: nn.Conv2d(1, 4, 0), "Conv2d: kernel_size"),
        (lambda: nn.Conv2d(1, 4, 3, stride=0), "Conv2d: stride"),
        (lambda: nn.Conv2d(1, 4, 3, 2, "same"), "stride=1"),
        (lambda: nn.Conv2d(1, 4, 3, padding="full"), "'valid'"),
        (lambda: nn.Conv2d(1, 4, 3, padding=-1), "Conv2d: padding"),
        (lambda: nn.MaxPool2d(2, padding=2), "half"),
        (lambda: nn.AvgPool2d((2, 3, 1)), "AvgPool2d: kernel_size"),  # type: ignore[arg-type]
        (lambda: mg.models.CNN(kernel_size=4), "odd"),
        (lambda: mg.models.CNN(3), "CNN: size"),
        (lambda: mg.models.CNN(activation="step"), "relu"),
    ],
)
def test_impossible_settings_are_refused(call: Any, part: str) -> None:
    with pytest.raises(InputError, match=part):
        call()


def test_what_repr_says() -> None:
    assert repr(nn.Conv2d(1, 8, 3)) == "Conv2d(1, 8, 3)  80 parameters"
    layer = nn.Conv2d(2, 4, (3, 2), 2, 1, 2, 2, False)
    assert layer.extra_repr() == (
        "2, 4, (3, 2), stride=2, padding=1, dilation=2, groups=2, bias=False"
    )
    assert nn.Conv2d(1, 1, 2, padding="same").extra_repr() == "1, 1, 2, padding='same'"
    assert nn.MaxPool2d(3, 2, 1).extra_repr() == "3, stride=2, padding=1"
    assert repr(nn.AvgPool2d(2)) == "AvgPool2d(2)"


# ---- the CNN ---------------------------------------------------------------------------------


def test_the_cnn_and_its_parameters() -> None:
    model = mg.models.CNN(generator=mg.generator(0))
    assert model.num_parameters() == 9_098 == sum(w + b for _, w, b in model.count())
    images = RNG.random((2, 28, 28)).astype(np.float32)
    grey, channelled = model(mg.tensor(images)), model(mg.tensor(images[:, None]))
    assert grey.shape == (2, 10) and grey.tolist() == channelled.tolist()
    small = mg.models.CNN(8, generator=mg.generator(0))
    assert small(mg.zeros((3, 8, 8))).shape == (3, 10)
    assert small.count()[2] == ("64→10", 640, 10)
    assert mg.models.CNN((9, 6), 2, 3, (4, 5), 5)(mg.zeros((1, 3, 9, 6))).shape == (1, 2)


@pytest.mark.parametrize(
    ("shape", "part"),
    [
        ((5, 784), "reshape(-1, 1, 28, 28)"),
        ((28, 28), "x[None]"),
        ((5, 28, 28, 1), "permute_dims"),
        ((5, 8, 8), "(5, 8, 8); required: (n, 1, 28, 28)"),
    ],
)
def test_the_cnn_refuses_other_images(shape: tuple[int, ...], part: str) -> None:
    with pytest.raises(ShapeError) as caught:
        mg.models.CNN()(mg.zeros(shape))
    assert part in str(caught.value), str(caught.value)


def test_the_cnn_learns_the_digits() -> None:
    digits = mg.data.digits()
    x, y = mg.tensor(digits.x_train[:300]), mg.tensor(digits.y_train[:300])
    model = mg.models.CNN(8, generator=mg.generator(0))
    optimizer = mg.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(20):
        loss = mg.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_state_goes_into_another_cnn() -> None:
    a, b = (mg.models.CNN(8, generator=mg.generator(seed)) for seed in (0, 1))
    x = mg.tensor(RNG.random((2, 8, 8)).astype(np.float32))
    assert a(x).tolist() != b(x).tolist()
    b.load_state_dict(a.state_dict())
    assert a(x).tolist() == b(x).tolist()
    with pytest.raises(CheckpointError, match=r"head.weight: shape \(10, 64\)"):
        mg.models.CNN(28).load_state_dict(a.state_dict())
    same = mg.models.CNN(8, generator=mg.generator(0))
    assert same.state_dict()["conv1.weight"].tolist() == a.conv1.weight.tolist()
