"""Libraries of the Python array API standard as backends."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt.array_api import HOST, SAME, ArrayAPIBackend
from microgpt.cli import main
from microgpt.errors import BackendError, DTypeError, ShapeError
from microgpt.testing.conformance import check_backend
from microgpt.testing.conformance.tiers import ops

LIBRARIES = {
    "array_api_strict": ("array_api_strict",),
    "torch": ("array_api_compat.torch", "torch", "array_api_compat"),
}


def library(name: str) -> Any:
    """The namespace; without it the test is skipped, and says so."""
    path, *needs = LIBRARIES[name]
    for package in needs:
        pytest.importorskip(package, reason=f"{package} is not installed: pip install {package}")
    return pytest.importorskip(path, reason=f"{path} is not installed: pip install {path}")


@pytest.fixture(params=LIBRARIES)
def backend(request: Any) -> Iterator[ArrayAPIBackend]:
    """Each library as a backend under its own name."""
    made = ArrayAPIBackend(library(request.param), request.param)
    with mg.plugged(made.plugin()):
        yield made


@pytest.fixture
def strict() -> Iterator[ArrayAPIBackend]:
    made = ArrayAPIBackend(library("array_api_strict"))
    with mg.plugged(made.plugin()):
        yield made


def test_the_kit_passes(backend: ArrayAPIBackend) -> None:
    told: list[str] = []
    verdict = check_backend(backend.name, 1, told.append)
    assert verdict.ok, "\n".join(told)
    count = len(ops())
    assert str(verdict).startswith(f"{backend.name}: {count}/{count} ops, T0–T8, worst ")
    assert verdict.count("passed") == len(verdict.results)


def test_the_kit_passes_on_another_device() -> None:
    xp = library("array_api_strict")
    cpu, other = xp.Device("CPU_DEVICE"), xp.Device("device1")
    made = ArrayAPIBackend(
        xp, "elsewhere", device=other, to_numpy=lambda x: np.asarray(xp.to_device(x, cpu))
        if hasattr(xp, "to_device") else np.asarray(x.to_device(cpu)),
    )  # fmt: skip
    with mg.plugged(made.plugin()):
        told: list[str] = []
        assert check_backend("elsewhere", 1, told.append, tiers=(0, 1, 3, 4, 5, 8)).ok, "\n".join(
            told
        )
        x = mg.ones(3, backend="elsewhere")
        assert (x * x + 1).device == x.device == str(other)
        assert x._data.device == other


def test_the_arrays_are_those_of_the_library(backend: ArrayAPIBackend) -> None:
    x = mg.tensor([1.0, 4.0], backend=backend.name, requires_grad=True)
    y = mg.sqrt(x)
    assert type(y._data) is type(backend.namespace.asarray(0.0))
    y.sum().backward()
    assert type(x.grad._data) is type(y._data)
    assert y.tolist() == [1.0, 2.0] and x.grad.tolist() == [0.5, 0.25]
    assert backend.versions()


def run(name: str) -> tuple[list[float], list[np.ndarray]]:
    """Losses of a few steps of an MLP, and its weights in the end."""
    rng = np.random.default_rng(0)
    data, classes = rng.standard_normal((32, 6)), rng.integers(0, 3, 32)
    with mg.use_backend(name):
        x, target = mg.tensor(data.astype("float32")), mg.tensor(classes)
        first = mg.tensor((rng.standard_normal((16, 6)) / 3).astype("float32"), requires_grad=True)
        bias = mg.zeros(16, requires_grad=True)
        last = mg.tensor((rng.standard_normal((3, 16)) / 4).astype("float32"), requires_grad=True)
        weights = [first, bias, last]
        optimizer = mg.optim.Adam(weights, lr=0.05)
        losses = []
        for _ in range(8):
            logits = mg.linear(mg.gelu(mg.linear(x, first, bias)), last)
            loss = mg.cross_entropy(logits, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert {w.backend for w in weights} == {name}
        return losses, [w.numpy() for w in weights]


def test_training_agrees_with_numpy(backend: ArrayAPIBackend) -> None:
    losses, weights = run(backend.name)
    want, exact = run("numpy")
    assert want[-1] < 0.7 * want[0], "it learns"
    assert np.allclose(losses, want, rtol=1e-5)
    for found, w in zip(weights, exact, strict=True):
        assert np.allclose(found, w, rtol=1e-4, atol=1e-5)


def test_gradients_agree_with_numpy_in_both_orders(backend: ArrayAPIBackend) -> None:
    host = np.random.default_rng(1).uniform(0.5, 2, (3, 4))

    def slope(name: str) -> list[np.ndarray]:
        x = mg.tensor(host, requires_grad=True, backend=name)

        def f(x: Any) -> Any:
            return mg.sum(mg.softmax(x @ x.mT, axis=-1) * mg.logsumexp(x, axis=1) ** 2)

        first = mg.grad(f)(x)
        second = mg.grad(lambda x: mg.sum(mg.grad(f)(x) ** 2))(x)
        return [first.numpy(), second.numpy()]

    for found, want in zip(slope(backend.name), slope("numpy"), strict=True):
        assert found.dtype == np.float64 and np.allclose(found, want, rtol=1e-12)


def test_backward_from_one_element_of_any_shape(backend: ArrayAPIBackend) -> None:
    for shape in ((), (1,), (1, 1)):
        x = mg.tensor([1.0, 2.0], requires_grad=True, backend=backend.name)
        (x * x).sum().reshape(shape).backward()
        assert x.grad is not None and x.grad.tolist() == [2.0, 4.0]


def test_indices_may_be_lists(backend: ArrayAPIBackend) -> None:
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]], backend=backend.name)
    assert mg.take(x, [1, 0], axis=0).tolist() == [[3.0, 4.0], [1.0, 2.0]]
    assert mg.gather(x, [[1], [0]], axis=1).tolist() == [[2.0], [3.0]]
    assert x[[1, 1]].tolist() == [[3.0, 4.0], [3.0, 4.0]]


def test_causal_attention_of_raw_arrays(backend: ArrayAPIBackend) -> None:
    values = np.random.default_rng(0).normal(size=(1, 3, 2))
    x = mg.tensor(values, backend=backend.name)
    want = mg.scaled_dot_product_attention(x, x, x, causal=True).numpy()
    found = mg.scaled_dot_product_attention(x._data, x._data, x._data, causal=True)
    assert isinstance(found, backend.array_types)
    np.testing.assert_allclose(np.asarray(found), want, rtol=1e-12)


def test_numpy_itself_is_refused() -> None:
    with pytest.raises(BackendError, match="arrays of numpy are NumPy's.*the backend 'numpy'"):
        ArrayAPIBackend(np)
    compat = pytest.importorskip("array_api_compat.numpy", reason="array_api_compat is missing")
    with pytest.raises(BackendError, match="an array class of its own"):
        ArrayAPIBackend(compat)


def test_devices(backend: ArrayAPIBackend) -> None:
    assert list(backend.devices()) == ["cpu"]
    x = mg.ones(2, backend=backend.name, device="cpu")
    assert x.device == "cpu" and x.to("numpy").device == "cpu"
    with pytest.raises(BackendError, match=f"'{backend.name}' has the devices cpu; got .*'gpu'"):
        mg.ones(2, backend=backend.name, device="gpu")


def test_errors(backend: ArrayAPIBackend) -> None:
    name = backend.name
    x = mg.ones((2, 3), backend=name)
    with pytest.raises(ShapeError, match=r"add: shapes do not broadcast.*\(2, 3\), \(2,\)"):
        x + mg.ones(2, backend=name)
    with pytest.raises(ShapeError, match="matmul: the last dimension of the first"):
        x @ x
    with pytest.raises(ShapeError, match="out of range for a dimension of length 3"):
        mg.take(x, mg.tensor([3], backend=name), axis=1)
    with pytest.raises(BackendError, match=rf"'{name}' and 'numpy'|'numpy' and '{name}'"):
        x + mg.ones((2, 3), backend="numpy")
    with pytest.raises(DTypeError, match="two float types, float32 and float64"):
        x + mg.ones((2, 3), backend=name, dtype="float64")


def test_dtypes_that_the_library_does_not_have(strict: ArrayAPIBackend) -> None:
    assert "float32" in strict.dtypes and "float16" not in strict.dtypes
    with pytest.raises(BackendError, match="has no dtype float16; it has float32, float64"):
        mg.tensor(np.ones(2, "float16"), backend=strict.name)


def test_what_the_standard_lacks_is_computed_on_the_host_and_says_so(
    strict: ArrayAPIBackend, capsys: Any
) -> None:
    for op in HOST:
        assert strict.kernels[op].__name__ == f"{op}_by_numpy_on_the_host"
    assert main(["backends", "--op", "erf"]) == 0
    assert "erf_by_numpy_on_the_host" in capsys.readouterr().out
    assert not set(HOST) & set(SAME)


def test_functions_that_an_older_version_lacks_are_computed_on_the_host() -> None:
    xp = library("array_api_strict")
    names = [n for n in dir(xp) if not n.startswith("__")]
    older = SimpleNamespace(**{n: getattr(xp, n) for n in names if n != "cumulative_sum"})
    older.__name__ = "older"
    backend = ArrayAPIBackend(older)
    with mg.plugged(backend.plugin()):
        y = mg.cumulative_sum(mg.tensor([1.0, 2.0, 4.0], backend="older"))
        assert y.tolist() == [1.0, 3.0, 7.0] and y.backend == "older"
    assert backend.kernels["cumulative_sum"].__name__ == "cumulative_sum_by_numpy_on_the_host"
