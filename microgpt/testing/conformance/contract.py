"""What a backend must do beside computing: hold arrays, name devices, refuse, let go of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import microgpt as mg
from microgpt.backend import Backend
from microgpt.errors import MicrogptError
from microgpt.plugins import registry

Check = Callable[[], float | None]

SPECIAL = [0.0, -0.0, 1.0, -1.5, np.inf, -np.inf, np.nan, 1e-30, 3e38]


def checks(backend: Backend) -> Iterator[tuple[str, Check]]:
    """Tier 0."""
    yield "declares", partial(_declares, backend)
    for dtype in backend.dtypes:
        yield f"round trip {dtype}", partial(_round_trip, backend, dtype)
    yield "shapes", partial(_shapes, backend)
    yield "operators", partial(_operators, backend)
    yield "copies", partial(_copies, backend)
    yield "devices", partial(_devices, backend)
    yield "moving", partial(_moving, backend)
    yield "errors", partial(_errors, backend)
    yield "out of range", partial(_out_of_range, backend)


def _declares(backend: Backend) -> None:
    assert backend.name and backend.array_types, "a backend has a name and classes of arrays"
    assert "float32" in backend.dtypes, f"float32 is required; it has {backend.dtypes}"
    for op in backend.missing_ops:
        assert op in mg.ops.TABLE, f"missing_ops names '{op}', which is no op"
        assert registry.kernel(backend.name, op) is None, (
            f"missing_ops names '{op}', but there is a kernel for it: take it out"
        )
    for op in backend.ulps:
        assert op in mg.ops.TABLE, f"ulps names '{op}', which is no op"
    x = backend.asarray(np.ones(3, "float32"), None, None)
    assert isinstance(x, backend.array_types), (
        f"asarray returned a {type(x).__name__}, which is none of array_types"
    )
    assert tuple(x.shape) == (3,) and x.ndim == 1, "arrays have shape and ndim"
    assert registry.backend_of(x) is backend, (
        f"arrays of class {type(x).__name__} belong to backend '{registry.backend_of(x).name}'"
    )
    backend.synchronize()


def _round_trip(backend: Backend, dtype: str) -> None:
    kind = np.dtype(dtype).kind
    values = np.array(SPECIAL if kind == "f" else [0, 1, 1, 0] if kind == "b" else [0, 1, 2, 100])
    with np.errstate(over="ignore"):
        host = values.astype(dtype)
    array = backend.asarray(host, None, None)
    assert backend.dtype(array) == np.dtype(dtype), (
        f"an array made of {dtype} says it is {backend.dtype(array)}"
    )
    back = np.asarray(backend.to_numpy(array))
    assert back.dtype == np.dtype(dtype), f"{dtype} comes back as {back.dtype}"
    assert back.tobytes() == host.tobytes(), f"{host} comes back as {back}"


def _shapes(backend: Backend) -> None:
    for shape in [(), (1,), (0,), (3, 0, 2), (2, 3, 4), (1, 1, 1, 5)]:
        host = np.arange(np.prod(shape), dtype="float32").reshape(shape)
        for data in (host, host.T, host[..., ::-1] if shape else host):
            back = np.asarray(backend.to_numpy(backend.asarray(data, None, None)))
            assert back.shape == data.shape, f"{data.shape} comes back as {back.shape}"
            assert np.array_equal(back, data), f"an array of shape {data.shape} comes back changed"


def _operators(backend: Backend) -> None:
    """Gradient rules are written with them, and with Python numbers on either side."""
    host, other = np.array([1.5, -2.0, 3.0], "float32"), np.array([-0.5, 4.0, 2.0], "float32")
    x, y = (backend.asarray(a, None, None) for a in (host, other))
    for what, found, want in [
        ("x + y", lambda: x + y, host + other), ("x - y", lambda: x - y, host - other),
        ("x * y", lambda: x * y, host * other), ("x / y", lambda: x / y, host / other),
        ("x ** 2", lambda: x**2, host**2), ("-x", lambda: -x, -host),
        ("x + 1.0", lambda: x + 1.0, host + 1), ("1.0 + x", lambda: 1.0 + x, 1 + host),
        ("x - 1", lambda: x - 1, host - 1), ("1 - x", lambda: 1 - x, 1 - host),
        ("2 * x", lambda: 2 * x, 2 * host), ("x * 0.5", lambda: x * 0.5, host * 0.5),
        ("x / 2", lambda: x / 2, host / 2), ("2.0 / y", lambda: 2.0 / y, 2 / other),
        ("x > 0", lambda: x > 0, host > 0), ("x >= y", lambda: x >= y, host >= other),
        ("x < y", lambda: x < y, host < other), ("x <= 0", lambda: x <= 0, host <= 0),
    ]:  # fmt: skip
        try:
            made = np.asarray(backend.to_numpy(found()))
        except TypeError as error:
            raise AssertionError(f"arrays must have the operator in {what}: {error}") from error
        assert made.dtype == want.dtype, f"{what} gives {made.dtype}; required: {want.dtype}"
        assert np.allclose(made, want, rtol=1e-6), f"{what} gives {made}; required: {want}"


def _copies(backend: Backend) -> None:
    host = np.ones(4, "float32")
    array = backend.asarray(host, None, None)
    host[:] = 7
    assert np.all(np.asarray(backend.to_numpy(array)) == 1), (
        "asarray shares memory with its argument: changing one changes the other"
    )


def _devices(backend: Backend) -> None:
    devices = list(backend.devices())
    assert devices and all(isinstance(d, str) for d in devices), f"devices() gave {devices}"
    for device in devices:
        array = backend.asarray(np.ones(2, "float32"), None, device)
        assert backend.device(array) == device, (
            f"an array made on {device} says it is on {backend.device(array)}"
        )


def _moving(backend: Backend) -> None:
    x = mg.tensor([1.0, 2.0], requires_grad=True, backend="numpy")
    y = x.to(backend.name)
    assert y.backend == backend.name
    (y * y).sum().backward()
    assert x.grad is not None and x.grad.backend == "numpy", "gradients go back where x is"
    assert x.grad.tolist() == [2.0, 4.0], f"gradient through .to(): {x.grad.tolist()}"
    assert isinstance(y.numpy(), np.ndarray) and isinstance((y[0]).item(), float)


def _refused(what: str, call: Callable[[], Any]) -> None:
    try:
        call()
    except MicrogptError:
        return
    except Exception as error:
        raise AssertionError(
            f"{what} must raise an error of microgpt (see microgpt.errors); it raised "
            f"{type(error).__name__}: {error}"
        ) from error
    raise AssertionError(f"{what} must raise an error; it went through")


def _errors(backend: Backend) -> None:
    def made(*shape: int) -> Any:
        return mg.zeros(shape, backend=backend.name)

    _refused("add of (2,) and (3,)", lambda: made(2) + made(3))
    _refused("matmul of (2, 3) and (2, 3)", lambda: made(2, 3) @ made(2, 3))
    _refused("reshape of (2, 3) to (4,)", lambda: made(2, 3).reshape(4))
    _refused("a device that does not exist", lambda: mg.zeros(2, backend=backend.name, device="?"))
    assert (made(2) + 1).tolist() == [1.0, 1.0], "after an error the backend must go on"


def _out_of_range(backend: Backend) -> None:
    with mg.use_backend(backend.name):
        x = mg.tensor([[1.0, 2.0], [3.0, 4.0]])
        for bad in (2, -3):
            _refused(f"take at index {bad} of 2", lambda bad=bad: mg.take(x, mg.tensor([bad])))
            _refused(f"embedding of {bad} of 2", lambda bad=bad: mg.embedding(mg.tensor([bad]), x))
