"""What a backend must do beside computing: hold arrays, name devices, refuse, let go of memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import microgpt as mg
from microgpt.backend import Backend
from microgpt.errors import MicrogptError

Check = Callable[[], float | None]

SPECIAL = [0.0, -0.0, 1.0, -1.5, np.inf, -np.inf, np.nan, 1e-30, 3e38]


def checks(backend: Backend) -> Iterator[tuple[str, Check]]:
    """Tier 0."""
    yield "declares", partial(_declares, backend)
    for dtype in backend.dtypes:
        yield f"round trip {dtype}", partial(_round_trip, backend, dtype)
    yield "shapes", partial(_shapes, backend)
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
    for op in backend.ulps:
        assert op in mg.ops.TABLE, f"ulps names '{op}', which is no op"
    x = backend.asarray(np.ones(3, "float32"), None, None)
    assert isinstance(x, backend.array_types), (
        f"asarray returned a {type(x).__name__}, which is none of array_types"
    )
    assert tuple(x.shape) == (3,) and x.ndim == 1, "arrays have shape and ndim"
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


# ---- tier 6 ------------------------------------------------------------------------------------


def lifetime_checks(backend: Backend) -> Iterator[tuple[str, Check]]:
    """Tier 6."""
    yield "views", partial(_views, backend)
    yield "reuse", partial(_reuse, backend)
    yield "leak", partial(_leak, backend)


def _views(backend: Backend) -> None:
    """A part of an array lives on when the whole is gone."""
    with mg.use_backend(backend.name):
        parts = []
        for i in range(50):
            whole = mg.full((64, 64), float(i))
            parts.append((whole[3:5, ::7], whole.T[0], whole.reshape(-1)[5:9]))
            del whole
        for i, views in enumerate(parts):
            for v in views:
                values = v.numpy()
                assert np.all(values == i), f"a part of an array of {i} holds {values.flat[0]} now"


def _reuse(backend: Backend) -> None:
    """Memory that is used again never changes what somebody still holds."""
    rng = np.random.default_rng(0)
    with mg.use_backend(backend.name):
        kept = []
        for _ in range(60):
            host = rng.standard_normal((33, 17)).astype("float32")
            x = mg.tensor(host, requires_grad=True)
            y = mg.exp(mg.tanh(x) * 0.5)
            y.sum().backward()
            kept.append((host, y.detach(), x.grad))
            del x, y
        for host, y, grad in kept:
            want = np.exp(np.tanh(host.astype("float64")) * 0.5)
            slope = want * 0.5 * (1 - np.tanh(host.astype("float64")) ** 2)
            assert np.allclose(y.numpy(), want, rtol=1e-5), "a result changed while it was held"
            assert np.allclose(grad.numpy(), slope, rtol=1e-4, atol=1e-6), "a gradient changed"


def _leak(backend: Backend) -> None:
    """200 steps of training; one array kept in each of them would be 50 MB."""
    with mg.use_backend(backend.name):
        w = mg.full((256, 256), 0.01, requires_grad=True)
        x = mg.ones((256, 256))

        def step() -> None:
            nonlocal w
            loss = mg.mean(mg.tanh(x @ w))
            (grad,) = mg.autograd.gradients_of([loss], [w], [None])
            w = mg.tensor(w - grad, requires_grad=True)

        for _ in range(50):
            step()
        backend.synchronize()
        before = _resident()
        for _ in range(200):
            step()
        backend.synchronize()
        grown = _resident() - before
    assert grown < 25e6, f"200 steps left {grown / 1e6:.0f} MB behind; required: flat memory"


def _resident() -> float:
    """Bytes of main memory in use; 0 where that cannot be known."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return float(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0.0
