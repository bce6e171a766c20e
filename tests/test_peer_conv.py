"""PyTorch as the oracle of convolution, pools, norms and the CNN: outputs and all gradients."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt import nn

torch = pytest.importorskip("torch", reason="PyTorch is the oracle here and is not installed")

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Images this small are not worth the waking of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def agree(ours: nn.Module, theirs: Any, x: np.ndarray, what: str, rounds: int = 1) -> None:
    """The same parameters and input: outputs, gradients and buffers must agree to 1e-10."""
    theirs.double().train(ours.training)
    names = dict(ours.named_parameters())
    assert list(names) == [name for name, _ in theirs.named_parameters()], what
    for (name, mine), other in zip(names.items(), theirs.parameters(), strict=True):
        assert mine.shape == tuple(other.shape), f"{what}: {name}"
        mine.data = RNG.standard_normal(mine.shape)
        other.data = torch.from_numpy(mine.numpy())

    def equal(found: Any, want: Any, name: str) -> None:
        np.testing.assert_allclose(
            found, want, rtol=1e-10, atol=1e-10, err_msg=f"{what}: {name}", strict=True
        )

    for _ in range(rounds):
        mine = mg.tensor(x, dtype="float64", requires_grad=True)
        other = torch.tensor(x, requires_grad=True)
        y, want = ours(mine), theirs(other)
        equal(y.numpy(), want.detach().numpy(), "output")
        g = RNG.standard_normal(y.shape)
        y.backward(mg.tensor(g))
        want.backward(torch.from_numpy(g))
        equal(mine.grad.numpy(), other.grad.numpy(), "gradient of the input")  # type: ignore[union-attr]
        for (name, p), q in zip(names.items(), theirs.parameters(), strict=True):
            assert p.grad is not None
            equal(p.grad.numpy(), q.grad.numpy(), f"gradient of {name}")
        for name, buffer in ours.named_buffers():
            equal(np.asarray(buffer.numpy()), theirs.get_buffer(name).numpy(), name)
        x = RNG.standard_normal(x.shape) * 2 + 1


@pytest.mark.parametrize("kernel", [1, 2, 3, (3, 2)])
def test_convolution(kernel: Any) -> None:
    settings = product([1, 2, (2, 1), 3], [0, 1, (2, 1)], [1, (1, 2), 2], [1, 2, 4], [True, False])
    for stride, padding, dilation, groups, bias in settings:
        given = (4, 8, kernel, stride, padding, dilation, groups, bias)
        x = RNG.standard_normal((2, 4, 7, 6))
        ours = nn.Conv2d(*given, dtype="float64")
        agree(ours, torch.nn.Conv2d(*given), x, f"Conv2d{given}")


@pytest.mark.filterwarnings("ignore:Using padding=.same. with even kernel lengths:UserWarning")
@pytest.mark.parametrize("kernel", [1, 2, 3, 4, (2, 3)])
def test_padding_by_name(kernel: Any) -> None:
    for name, dilation in product(["same", "valid"], [1, 2, (1, 2)]):
        given = {"padding": name, "dilation": dilation}
        ours = nn.Conv2d(2, 3, kernel, **given, dtype="float64")
        x = RNG.standard_normal((2, 2, 8, 9))
        agree(ours, torch.nn.Conv2d(2, 3, kernel, **given), x, f"{kernel}, {given}")


@pytest.mark.parametrize("shape", [(1, 1, 28, 28), (3, 1, 5, 5), (1, 3, 1, 6), (2, 2, 6, 1)])
def test_convolution_of_images_of_other_sizes(shape: tuple[int, ...]) -> None:
    for kernel, out, step in product([1, 3, (1, 5)], [1, 7], [1, 2]):
        given = (shape[1], out, kernel, step, 2)
        ours = nn.Conv2d(*given, dtype="float64")
        agree(ours, torch.nn.Conv2d(*given), RNG.standard_normal(shape), f"Conv2d{given} {shape}")


@pytest.mark.parametrize("kind", ["MaxPool2d", "AvgPool2d"])
def test_pools(kind: str) -> None:
    windows: list[tuple[Any, Any, Any]] = [
        *product([2, (2, 1), (1, 2)], [None, 1, 2, 3, (3, 2)], [0]),
        *product([2, 3, (2, 3)], [None, 1, 2, (1, 3)], [0, 1]),
        *product([4, (5, 4)], [None, 2, 3], [0, 2, (2, 1)]),
        (1, None, 0),
    ]
    for given, shape in product(windows, [(2, 3, 8, 6), (1, 2, 7, 9)]):
        x = RNG.standard_normal(shape)
        agree(getattr(nn, kind)(*given), getattr(torch.nn, kind)(*given), x, f"{kind}{given}")


@pytest.mark.parametrize("last", [4, (4,), (3, 4), (2, 3, 4)])
def test_row_norms(last: Any) -> None:
    x = RNG.standard_normal((2, 3, 4)) if last == (2, 3, 4) else RNG.standard_normal((5, 2, 3, 4))
    for eps, affine in product([1e-5, 0.1], [True, False]):
        for bias in (True, False):
            ours = nn.LayerNorm(last, eps, affine, bias, dtype="float64")
            agree(ours, torch.nn.LayerNorm(last, eps, affine, bias), x, f"LayerNorm({last}, {eps})")
        ours = nn.RMSNorm(last, eps, affine, dtype="float64")
        agree(ours, torch.nn.RMSNorm(last, eps, affine), x, f"RMSNorm({last}, {eps})")
    agree(nn.RMSNorm(last, dtype="float64"), torch.nn.RMSNorm(last), x * 1e-8, f"RMSNorm({last})")


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5), (1, 3, 5), (4, 3, 2, 2), (1, 3, 1, 2)])
def test_batch_norms(shape: tuple[int, ...]) -> None:
    kind = "BatchNorm2d" if len(shape) == 4 else "BatchNorm1d"
    for momentum, affine, track, training in product([0.1, 0.7, None], *[[True, False]] * 3):
        given = (3, 1e-3, momentum, affine, track)
        ours = getattr(nn, kind)(*given, dtype="float64")
        theirs = getattr(torch.nn, kind)(*given)
        x = RNG.standard_normal(shape)
        if track and not training:  # with running statistics that are not those of the start
            agree(ours, theirs, x, f"{kind}{given} before")
            for p in (*ours.parameters(), *theirs.parameters()):
                p.grad = None
        ours.train(training)
        agree(ours, theirs, x, f"{kind}{given}, training={training}", rounds=1 if affine else 3)


def test_initial_values_have_pytorchs_bounds() -> None:
    ours = nn.Conv2d(4, 256, 3, groups=2, generator=mg.generator(0))
    theirs = torch.nn.Conv2d(4, 256, 3, groups=2)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert mine.shape == tuple(other.shape)
        assert np.abs(mine.numpy()).max() == pytest.approx(other.abs().max().item(), rel=0.03)
    for ours, theirs in (
        (nn.LayerNorm((2, 3)), torch.nn.LayerNorm((2, 3))),
        (nn.RMSNorm(3), torch.nn.RMSNorm(3)),
        (nn.BatchNorm1d(3), torch.nn.BatchNorm1d(3)),
        (nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3)),
    ):
        state = theirs.state_dict()
        assert list(ours.state_dict()) == list(state)
        for name, value in ours.state_dict().items():
            np.testing.assert_array_equal(value.numpy(), state[name].numpy(), strict=True)


@pytest.mark.parametrize("size", [8, 28, (9, 6)])
def test_the_cnn(size: Any) -> None:
    with mg.configure(dtype="float64"):
        ours = mg.models.CNN(size, 5, 2, (3, 4))
    high, wide = ours.size
    theirs = torch.nn.Sequential()
    for name, part in {
        "conv1": torch.nn.Conv2d(2, 3, 3, padding=1),
        "pool1": torch.nn.MaxPool2d(2),
        "relu1": torch.nn.ReLU(),
        "conv2": torch.nn.Conv2d(3, 4, 3, padding=1),
        "pool2": torch.nn.MaxPool2d(2),
        "relu2": torch.nn.ReLU(),
        "flat": torch.nn.Flatten(),
        "head": torch.nn.Linear(4 * (high // 4) * (wide // 4), 5),
    }.items():
        theirs.add_module(name, part)
    agree(ours, theirs, RNG.standard_normal((3, 2, high, wide)), f"CNN({size})")
