"""Layer, root-mean-square and batch normalisation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt import nn
from microgpt.errors import DTypeError, InputError, ShapeError
from tests.calling import call_with

RNG = np.random.default_rng(0)

LAYERS: dict[str, tuple[Any, tuple[int, ...]]] = {
    "layer": (lambda: nn.LayerNorm(4), (2, 3, 4)),
    "layer, two dimensions": (lambda: nn.LayerNorm((3, 2)), (2, 3, 2)),
    "layer, no bias": (lambda: nn.LayerNorm(4, bias=False), (3, 4)),
    "root mean square": (lambda: nn.RMSNorm(4), (2, 4)),
    "root mean square, two dimensions": (lambda: nn.RMSNorm([2, 3], 0.1), (2, 2, 3)),
    "batch, rows": (lambda: nn.BatchNorm1d(3), (4, 3)),
    "batch, signals": (lambda: nn.BatchNorm1d(2, 0.1), (2, 2, 3)),
    "batch, images": (lambda: nn.BatchNorm2d(2), (2, 2, 2, 3)),
    "batch, in evaluation": (lambda: nn.BatchNorm2d(2).eval(), (2, 2, 2, 3)),
    "batch, nothing tracked": (
        lambda: nn.BatchNorm1d(2, track_running_stats=False).eval(),
        (3, 2),
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_parameter_receives_the_gradient_that_differences_give(name: str) -> None:
    make, shape = LAYERS[name]
    with mg.configure(dtype="float64"):
        layer = make()
        x = RNG.standard_normal(shape)
        named = dict(layer.named_parameters())
        for p in named.values():
            p.data = RNG.standard_normal(p.shape)
        (layer(mg.tensor(x)) ** 2).sum().backward()
        assert named
        assert all(p.grad is not None and p.grad.shape == p.shape for p in named.values())

        def loss(x: Any, *values: Any) -> Any:
            # Cubed: the sum of the squares of normalised rows does not depend on them.
            return (call_with(layer, dict(zip(named, values, strict=True)), x) ** 3).sum()

        mg.testing.gradcheck(loss, x, *[p.numpy() for p in named.values()])


def test_normalised_rows() -> None:
    x = mg.tensor(RNG.standard_normal((2, 3, 4)) * 5 + 2)
    y = nn.LayerNorm((3, 4), eps=0.0, dtype="float64")(x).numpy()
    np.testing.assert_allclose(y.mean((1, 2)), 0, atol=1e-14)
    np.testing.assert_allclose(y.var((1, 2)), 1, rtol=1e-12)
    y = nn.RMSNorm(4, elementwise_affine=False)(x).numpy()
    np.testing.assert_allclose((y**2).mean(-1), 1, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_default_epsilon_of_rms_norm_is_that_of_the_dtype(dtype: str) -> None:
    eps = np.finfo(dtype).eps
    x = np.full((1, 2), np.sqrt(eps), dtype)
    y = nn.RMSNorm(2, dtype=dtype)(mg.tensor(x, dtype=dtype))
    np.testing.assert_allclose(y.numpy(), np.sqrt(0.5), rtol=1e-6)


@pytest.mark.parametrize("affine", [True, False])
def test_whole_numbers_become_floats(affine: bool) -> None:
    x = np.array([[3, -3], [1, 7]])
    for layer in (nn.RMSNorm(2, None, affine), nn.RMSNorm(2, 1e-5, affine), nn.LayerNorm(2)):
        y, want = layer(mg.tensor(x)), layer(mg.tensor(x.astype(np.float32)))
        np.testing.assert_array_equal(y.numpy(), want.numpy())


def test_without_parameters() -> None:
    assert not nn.LayerNorm(3, elementwise_affine=False).parameters()
    assert list(dict(nn.LayerNorm(3, bias=False).named_parameters())) == ["weight"]
    assert not nn.RMSNorm(3, elementwise_affine=False).parameters()
    assert not nn.BatchNorm1d(3, affine=False).parameters()
    assert not nn.BatchNorm1d(3, affine=False, track_running_stats=False).state_dict()


# ---- batch normalisation ---------------------------------------------------------------------


def test_running_statistics_move_in_training_only() -> None:
    layer = nn.BatchNorm2d(2, dtype="float64")
    x = RNG.standard_normal((3, 2, 2, 2)) * 3 + 1
    layer(mg.tensor(x))
    mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), ddof=1)
    np.testing.assert_allclose(layer.running_mean.numpy(), 0.1 * mean, rtol=1e-12)
    np.testing.assert_allclose(layer.running_var.numpy(), 0.9 + 0.1 * var, rtol=1e-12)
    assert layer.num_batches_tracked.item() == 1
    before = {name: value.tolist() for name, value in layer.state_dict().items()}
    y = layer.eval()(mg.tensor(x)).numpy()
    assert {name: value.tolist() for name, value in layer.state_dict().items()} == before
    scale = np.sqrt(0.9 + 0.1 * var + 1e-5).reshape(2, 1, 1)
    np.testing.assert_allclose(y, (x - 0.1 * mean.reshape(2, 1, 1)) / scale, rtol=1e-12)


def test_without_momentum_every_batch_counts_alike() -> None:
    layer = nn.BatchNorm1d(1, momentum=None, dtype="float64")
    batches = RNG.standard_normal((4, 5, 1))
    for batch in batches:
        layer(mg.tensor(batch))
    assert layer.running_mean.item() == pytest.approx(batches.mean(), rel=1e-12)
    assert layer.running_var.item() == pytest.approx(batches.var(1, ddof=1).mean(), rel=1e-12)
    assert layer.num_batches_tracked.item() == 4


def test_running_statistics_are_no_part_of_the_graph() -> None:
    layer = nn.BatchNorm1d(2)
    x = mg.tensor(RNG.standard_normal((3, 2)).astype(np.float32), requires_grad=True)
    layer(x)
    assert not layer.running_mean.requires_grad and not layer.running_var.requires_grad
    assert set(dict(layer.named_parameters())) == {"weight", "bias"}


def test_a_later_batch_does_not_change_an_evaluation_that_waits_for_its_gradient() -> None:
    layer = nn.BatchNorm1d(1, dtype="float64").eval()
    x = mg.tensor([[1.0], [2.0]], dtype="float64", requires_grad=True)
    y = layer(x).sum()
    layer.train()(mg.tensor([[5.0], [9.0]], dtype="float64"))
    y.backward()
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy(), 1 / np.sqrt(1 + 1e-5), rtol=1e-12)


def test_the_state_goes_into_another_layer() -> None:
    x = mg.tensor(RNG.standard_normal((8, 3)).astype(np.float32))
    a = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    for _ in range(3):
        a(x)
    b = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    b.load_state_dict(a.state_dict())
    assert set(a.state_dict()) >= {"1.running_mean", "1.running_var", "1.num_batches_tracked"}
    assert b[1].num_batches_tracked.item() == 3
    assert b.eval()(x).tolist() == a.eval()(x).tolist()
    b.train()(x), a.train()(x)
    assert b[1].running_var.tolist() == a[1].running_var.tolist()


# ---- what is refused -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "shape", "parts"),
    [
        (nn.LayerNorm(4), (3, 5), ("LayerNorm(4)", "(3, 5)", "last dimension 4")),
        (nn.LayerNorm(4), (4, 5), ("dimension 0 has this length", "moveaxis(x, 0, -1)")),
        (nn.LayerNorm((2, 3)), (3, 2), ("LayerNorm((2, 3))", "(3, 2)", "dimensions (2, 3)")),
        (nn.RMSNorm(4), (), ("RMSNorm(4)", "()")),
        (nn.RMSNorm(4), (4, 2), ("RMSNorm(4)", "(4, 2)", "last dimension 4", "moveaxis")),
        (nn.BatchNorm1d(3), (3,), ("BatchNorm1d(3)", "(3,)", "x[None]")),
        (nn.BatchNorm1d(3), (2, 5, 3), ("(n, 3) or (n, 3, length)", "(0, 2, 1)")),
        (nn.BatchNorm1d(3), (2, 3, 4, 4), ("nn.BatchNorm2d",)),
        (nn.BatchNorm2d(3), (2, 4, 4, 3), ("BatchNorm2d(3)", "(n, 3, height", "(0, 3, 1, 2)")),
        (nn.BatchNorm2d(3), (3, 4, 4), ("(3, 4, 4)", "x[None]")),
        (nn.BatchNorm1d(3), (1, 3), ("(1, 3)", "no variance", "eval()")),
        (nn.BatchNorm2d(3), (1, 3, 1, 1), ("BatchNorm2d(3)", "larger batch")),
        (nn.BatchNorm1d(3), (0, 3), ("(0, 3)",)),
    ],
)
def test_shape_errors_name_the_layer_and_the_mend(
    layer: nn.Module, shape: tuple[int, ...], parts: tuple[str, ...]
) -> None:
    with pytest.raises(ShapeError) as caught:
        layer(mg.zeros(shape))
    assert all(part in str(caught.value) for part in parts), str(caught.value)


def test_a_refused_batch_leaves_no_trace() -> None:
    layer = nn.BatchNorm1d(2)
    with pytest.raises(ShapeError):
        layer(mg.ones((1, 2)))
    assert layer.num_batches_tracked.item() == 0 and layer.running_mean.tolist() == [0, 0]
    assert layer.eval()(mg.ones((1, 2))).shape == (1, 2)
    for affine in (True, False):
        layer = nn.BatchNorm1d(2, affine=affine)
        with pytest.raises(DTypeError, match=r"BatchNorm1d\(2\)"):
            layer(mg.ones((3, 2), dtype="float64"))
        assert layer.num_batches_tracked.item() == 0
        assert layer.running_mean.tolist() == [0, 0] and layer.running_var.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("call", "part"),
    [
        (lambda: nn.LayerNorm(0), "LayerNorm: normalized_shape"),
        (lambda: nn.LayerNorm(()), "LayerNorm: normalized_shape"),
        (lambda: nn.RMSNorm((2, -1)), "RMSNorm: normalized_shape"),
        (lambda: nn.BatchNorm2d(0), "BatchNorm2d"),
        (lambda: nn.BatchNorm1d(2, momentum=1.5), "momentum"),
    ],
)
def test_impossible_settings_are_refused(call: Any, part: str) -> None:
    with pytest.raises(InputError, match=part):
        call()
