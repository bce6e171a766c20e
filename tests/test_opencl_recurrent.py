"""Recurrent layers on OpenCL, in both styles of kernels, against the NumPy backend."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from microgpt_numpy import recurrent as reference

from microgpt.errors import BackendError

pytest.importorskip("pyopencl", reason="needs pyopencl")

from microgpt_opencl import platforms, recurrent
from microgpt_opencl.device import Device
from microgpt_opencl.transfers import from_numpy


def _first() -> Any:
    try:
        return next(iter(platforms.found().values()), None)
    except BackendError:
        return None


pytestmark = pytest.mark.skipif(_first() is None, reason="needs an OpenCL device")


@lru_cache(maxsize=2)
def device(style: str) -> Device:
    """The first device, with kernels written for a processor or for a graphics card."""
    return Device(f"first, as {style}", _first(), style == "cpu")


styles = pytest.mark.parametrize("style", ["cpu", "gpu"])
CASES = [  # steps, n, size, ids, lengths, reverse
    (1, 1, 1, False, False, True),
    (3, 5, 4, False, False, False),
    (4, 7, 16, True, True, False),  # size is the length of a vector
    (3, 9, 70, True, False, True),  # a block and a piece of one
    (2, 51, 33, False, True, True),  # more rows than a work-item takes
    (2, 0, 3, True, False, False),
]
cases = pytest.mark.parametrize(("steps", "n", "size", "by_id", "uneven", "reverse"), CASES)


def drawn(steps: int, n: int, size: int, by_id: bool, uneven: bool, dtype: Any) -> Any:
    """x, weights, h0, c0, ids, the gradient from outside, and lengths."""
    rng = np.random.default_rng(size)

    def some(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(dtype)

    x = some(6, 4 * size) if by_id else some(steps, n, 4 * size)
    ids = rng.integers(0, 6, (steps, n)) if by_id else None
    lengths = rng.integers(1, steps + 1, n) if uneven else None
    weight = some(4 * size, size) / np.sqrt(size, dtype=dtype)
    return x, weight, some(n, size), some(n, size), ids, some(steps + 1, n, size), lengths


def on(where: Device, arrays: Any) -> list[Any]:
    return [None if a is None else from_numpy(where, a) for a in arrays]


def assert_close(found: Any, wanted: Any) -> None:
    for a, b in zip(found, wanted, strict=True):
        if a is None or b is None:
            assert a is b
            continue
        limit = 20 * np.finfo(b.dtype).eps * max(1.0, float(np.abs(b).max(initial=0)))
        np.testing.assert_allclose(np.asarray(a), b, rtol=0, atol=limit)


@styles
@cases
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_lstm_agrees_with_numpy(
    style: str, steps: int, n: int, size: int, by_id: bool, uneven: bool, reverse: bool, dtype: str
) -> None:
    where = device(style)
    if dtype == "float64" and not where.double:
        pytest.skip("the device has no float64")
    *inputs, g, lengths = drawn(steps, n, size, by_id, uneven, dtype)
    params: Any = {"lengths": lengths, "reverse": reverse}
    needs = (True,) * 4
    y, kept = reference.lstm_layer_saving(*inputs, **params)
    slopes = reference.lstm_layer_vjp(g, kept, *inputs, needs=needs, **params)
    there = on(where, inputs)
    found, saved = recurrent.lstm_layer_saving(*there, **params)
    (outside,) = on(where, [g])
    back = recurrent.lstm_layer_vjp(outside, saved, *there, needs=needs, **params)
    assert_close([found, *back], [y, *slopes])
    assert np.array_equal(recurrent.lstm_layer(*there, **params), found)
    again = recurrent.lstm_layer_vjp(outside, found, *there, needs=needs, **params)
    assert all(np.array_equal(a, b) for a, b in zip(back[:4], again[:4], strict=True))


@cases
@pytest.mark.parametrize("limit", [1, 2000])
def test_gradients_by_some_steps_at_a_time(
    steps: int, n: int, size: int, by_id: bool, uneven: bool, reverse: bool, limit: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(recurrent, "TOGETHER", limit)
    test_lstm_agrees_with_numpy("cpu", steps, n, size, by_id, uneven, reverse, "float32")


@styles
@cases
@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_rnn_agrees_with_numpy(
    style: str, steps: int, n: int, size: int, by_id: bool, uneven: bool, reverse: bool,
    nonlinearity: str,
) -> None:  # fmt: skip
    where = device(style)
    x, weight, h0, _, _, g, lengths = drawn(steps, n, size, False, uneven, "float32")
    inputs = [np.array(x[:, :, :size]), np.array(weight[:size]), h0]
    params: Any = {"lengths": lengths, "reverse": reverse, "nonlinearity": nonlinearity}
    y = reference.rnn_layer(*inputs, **params)
    slopes = reference.rnn_layer_vjp(g[:steps], y, *inputs, needs=(True,) * 3, **params)
    there = on(where, inputs)
    found = recurrent.rnn_layer(*there, **params)
    (outside,) = on(where, [g[:steps]])
    back = recurrent.rnn_layer_vjp(outside, found, *there, needs=(True,) * 3, **params)
    assert_close([found, *back], [y, *slopes])


@styles
def test_inputs_may_have_any_strides(style: str) -> None:
    where = device(style)
    *inputs, _, _ = drawn(3, 4, 5, False, False, "float32")
    params: Any = {"lengths": None, "reverse": False}
    plain = recurrent.lstm_layer(*on(where, inputs), **params)
    x, weight, h0, c0 = [_flipped(a) for a in on(where, [a.T for a in inputs[:4]])]
    found = recurrent.lstm_layer(x, weight, h0, c0, None, **params)
    assert np.array_equal(found, plain)


def _flipped(x: Any) -> Any:
    from microgpt_opencl.movement import permute_dims

    return permute_dims(x, axes=tuple(reversed(range(x.ndim))))


@styles
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e30])
def test_extreme_sums_are_numpy_s(style: str, value: float) -> None:
    where = device(style)
    *inputs, _, _ = drawn(2, 3, 5, False, False, "float32")
    inputs[0][0, 1] = value
    params: Any = {"lengths": None, "reverse": False}
    with np.errstate(all="ignore"):
        wanted = reference.lstm_layer(*inputs, **params)
    found = np.asarray(recurrent.lstm_layer(*on(where, inputs), **params))
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_processor_takes_few_launches() -> None:
    where = device("cpu")
    *inputs, g, _ = drawn(16, 4, 8, True, False, "float32")
    there, params = on(where, inputs), {"lengths": None, "reverse": False}
    before = where.activity.copy()
    _, saved = recurrent.lstm_layer_saving(*there, **params)
    (outside,) = on(where, [g])
    recurrent.lstm_layer_vjp(outside, saved, *there, needs=(True,) * 4, **params)
    new = where.activity - before
    assert new["lstm_forward"] == new["lstm_backward"] == 1
    assert sum(new.values()) < 16  # not one for each step
