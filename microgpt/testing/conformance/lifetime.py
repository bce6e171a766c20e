"""Memory: parts of arrays, memory that is used again, memory that is never given back."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

import microgpt as mg
from microgpt.backend import Backend

Check = Callable[[], float | None]


def checks(backend: Backend) -> Iterator[tuple[str, Check]]:
    """Tier 6, but for what concerns single ops."""
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
        x = mg.ones((4, 256))

        def step() -> None:
            nonlocal w
            loss = mg.mean(x @ mg.tanh(w))
            (grad,) = mg.autograd.gradients_of([loss], [w], [None])
            w = mg.tensor(w - grad, requires_grad=True)

        for _ in range(50):
            step()
        backend.synchronize()
        _give_back()
        before = _resident()
        for _ in range(200):
            step()
        backend.synchronize()
        grown = _resident() - before
    assert grown < 25e6, f"200 steps left {grown / 1e6:.0f} MB behind; required: flat memory"


def _give_back() -> None:
    """Free memory goes to the system where C can do that, so that a leak cannot fill it unseen."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if os.name == "posix" else None
    if trim is not None:  # glibc
        trim(0)


def _resident() -> float:
    """Bytes of main memory in use; 0 where that cannot be known."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return float(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0.0
