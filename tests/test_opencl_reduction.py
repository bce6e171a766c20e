"""Reductions of the OpenCL backend: every way through memory, in both styles, against NumPy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyopencl", reason="the OpenCL backend needs pyopencl")

from microgpt_numpy import reduction as reference
from microgpt_opencl import OpenCLBackend
from microgpt_opencl.arrays import Array, view
from microgpt_opencl.device import Device
from microgpt_opencl.reduction import KERNELS, column_sums
from microgpt_opencl.transfers import from_numpy, to_numpy

from microgpt.errors import MicrogptError

FLOATING = ("sum", "mean", "var", "logsumexp", "prod", "max", "min", "any", "all")


@pytest.fixture(scope="module", params=["loops", "work-items"])
def device(request: Any) -> Device:
    """A device in the style of CPUs, and one in that of GPUs."""
    try:
        first = OpenCLBackend().open()
    except MicrogptError as error:
        pytest.skip(f"no OpenCL device: {error}")
    return Device(first.name, first.cl_device, cpu=request.param == "loops")


def random(shape: tuple[int, ...], dtype: str = "float32", seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=shape)
    return (values * (20 if dtype[0] in "iu" else 1)).astype(dtype)


def walked(device: Device, base: np.ndarray, x: np.ndarray) -> Array:
    """`x`, a view of `base`, as the same view of a device array."""
    memory = from_numpy(device, base)
    start = (x.__array_interface__["data"][0] - base.__array_interface__["data"][0]) // x.itemsize
    return view(memory, x.shape, tuple([s // x.itemsize for s in x.strides]), start)


def agree(name: str, got: Array, x: np.ndarray, **parameters: Any) -> None:
    with np.errstate(all="ignore"):
        want = np.asarray(reference.KERNELS[name](x, **parameters))
    found = to_numpy(got)
    assert found.shape == want.shape
    assert found.dtype == want.dtype
    rtol = 1e-11 if x.dtype == np.float64 else 1e-4 if x.dtype == np.float32 else 0
    if name in ("max", "min", "any", "all", "argmax", "argmin"):
        rtol = 0
    atol = rtol * max(float(np.max(np.abs(want), initial=0, where=np.isfinite(want))), 1)
    np.testing.assert_allclose(found, want, rtol=rtol, atol=atol if rtol else 0)


VIEWS = {
    "rows": ((7, 1003), lambda b: b, (1,)),
    "short rows": ((301, 3), lambda b: b, (1,)),
    "long row": ((140_001,), lambda b: b, (0,)),
    "columns": ((45, 131), lambda b: b, (0,)),
    "high columns": ((1300, 70), lambda b: b, (0,)),
    "narrow columns": ((4096, 3), lambda b: b, (0,)),
    "batch of columns": ((3, 19, 37), lambda b: b, (1,)),
    "all": ((5, 6, 7), lambda b: b, (0, 1, 2)),
    "outer and inner": ((6, 5, 40), lambda b: b, (0, 2)),
    "every other axis": ((3, 4, 5, 6, 7), lambda b: b, (0, 2, 4)),
    "other every other axis": ((3, 4, 5, 6, 7), lambda b: b, (1, 3)),
    "transposed": ((33, 50), lambda b: b.T, (0,)),
    "transposed, other axis": ((33, 50), lambda b: b.T, (1,)),
    "permuted": ((4, 5, 6, 7), lambda b: b.transpose(2, 0, 3, 1), (1, 3)),
    "steps": ((20, 60), lambda b: b[1::3, 2::2], (1,)),
    "backwards": ((9, 40), lambda b: b[::-1, ::-1], (0,)),
    "backwards, rows": ((9, 40), lambda b: b[::-1, ::-1], (1,)),
    "part": ((9, 40), lambda b: b[2:7, 3:30], (0, 1)),
    "many steps": ((6, 6, 6, 6, 6), lambda b: b[:5, 1:, :5, 1:, :5], (2,)),
    "broadcast, reduced": ((1, 30), lambda b: np.broadcast_to(b, (17, 30)), (0,)),
    "broadcast, kept": ((40, 1), lambda b: np.broadcast_to(b, (40, 8)), (0,)),
    "broadcast, both": ((5, 1, 6), lambda b: np.broadcast_to(b, (4, 5, 3, 6)), (0, 1)),
    "no axes": ((3, 4), lambda b: b, ()),
    "ones": ((3, 1, 4), lambda b: b, (1,)),
    "one number": ((), lambda b: b, ()),
}


@pytest.mark.parametrize("name", VIEWS)
def test_every_way_through_memory(device: Device, name: str) -> None:
    shape, look, axis = VIEWS[name]
    base = random(shape)
    if name in ("long row", "high columns", "narrow columns"):
        base = (
            np.where(base < 0, base - 30, base + 30).astype(np.float32) / 30
        )  # products stay finite
        base = np.clip(base, -1.001, 1.001)
    x = look(base)
    on_device = walked(device, base, x)
    for op in FLOATING:
        for keepdims in (False, True):
            parameters: dict[str, Any] = {"axis": axis, "keepdims": keepdims}
            if op == "var":
                parameters["correction"] = 0.5
            agree(op, KERNELS[op](on_device, **parameters), x, **parameters)
    for i in range(x.ndim):
        for op in ("argmax", "argmin", "cumulative_sum"):
            agree(op, KERNELS[op](on_device, axis=i), x, axis=i)


@pytest.mark.parametrize(
    "dtype", ["float64", "bool", "int8", "uint16", "int64"],
)  # fmt: skip
def test_types(device: Device, dtype: str) -> None:
    if dtype == "float64" and not device.double:
        pytest.skip("the device has no float64")
    x = np.abs(random((37, 5), dtype)) if dtype[0] == "u" else random((37, 5), dtype)
    on_device = from_numpy(device, x)
    for axis in ((0,), (1,), (0, 1)):
        for op in ("sum", "prod", "max", "min", "any", "all"):
            agree(
                op, KERNELS[op](on_device, axis=axis, keepdims=False), x, axis=axis, keepdims=False
            )
        for op in ("argmax", "argmin", "cumulative_sum"):
            agree(op, KERNELS[op](on_device, axis=axis[0]), x, axis=axis[0])
    repeated = np.broadcast_to(x[:, None], (37, 7, 5))
    for op in ("sum", "prod"):
        got = KERNELS[op](walked(device, x, repeated), axis=(1,), keepdims=False)
        agree(op, got, repeated, axis=(1,), keepdims=False)


def test_nothing(device: Device) -> None:
    x = np.zeros((0, 3), np.float32)
    on_device = from_numpy(device, x)
    for op in ("sum", "prod", "mean", "logsumexp", "any", "all"):
        for axis in ((0,), (1,), (0, 1)):
            agree(
                op, KERNELS[op](on_device, axis=axis, keepdims=False), x, axis=axis, keepdims=False
            )
    for op in ("max", "min"):
        agree(op, KERNELS[op](on_device, axis=(1,), keepdims=True), x, axis=(1,), keepdims=True)
    for axis in (0, 1):
        agree("cumulative_sum", KERNELS["cumulative_sum"](on_device, axis=axis), x, axis=axis)
    agree("argmax", KERNELS["argmax"](on_device, axis=1), x, axis=1)
    one = from_numpy(device, np.ones((4, 1), np.float32))
    got = KERNELS["var"](one, axis=(1,), correction=1.0, keepdims=False)
    assert np.isnan(to_numpy(got)).all()


def test_nan_infinities_and_ties(device: Device) -> None:
    x = np.zeros((8, 70), np.float32)
    x[0, 50] = x[0, 60] = np.nan
    x[1, [3, 40]] = np.inf
    x[2, [4, 41]] = -np.inf
    x[3] = -np.inf
    x[4, [20, 30]] = 2
    x[5, 10], x[5, 11] = np.nan, np.inf
    x[6] = -0.0
    x[7, 69] = np.nan
    for values, axis in ((x, 1), (x.T.copy(), 0)):
        on_device = from_numpy(device, values)
        for op in ("max", "min", "any", "all", "logsumexp", "sum"):
            got = KERNELS[op](on_device, axis=(axis,), keepdims=False)
            agree(op, got, values, axis=(axis,), keepdims=False)
        for op in ("argmax", "argmin"):
            agree(op, KERNELS[op](on_device, axis=axis), values, axis=axis)


def test_positions_in_long_rows(device: Device) -> None:
    x = np.zeros((2, 150_000), np.float32)
    x[0, [70_000, 70_001, 140_000]] = 1
    x[1, [300, 149_999]] = -1
    on_device = from_numpy(device, x)
    for op in ("argmax", "argmin"):
        agree(op, KERNELS[op](on_device, axis=1), x, axis=1)


@pytest.mark.parametrize("shape", [(700_001,), (7001, 20)])
def test_rounding_errors(device: Device, shape: tuple[int, ...]) -> None:
    """One after the other, tenths would be off by far more than the bound."""
    x = np.full(shape, 0.1, np.float32)
    n = shape[0]
    total = n * float(x.flat[0])
    bound = (8 + 4 * math.sqrt(n)) * 2.0**-24 * total
    on_device = from_numpy(device, x)
    got = to_numpy(KERNELS["sum"](on_device, axis=(0,), keepdims=False))
    assert np.max(np.abs(got - total)) <= bound / 8
    running = to_numpy(KERNELS["cumulative_sum"](on_device, axis=0))
    assert np.max(np.abs(running[-1] - total)) <= bound


def test_huge_broadcast_takes_no_memory(device: Device) -> None:
    x = from_numpy(device, np.array([[1.5], [2.0]], np.float32))
    huge = view(x, (2, 10**9), (1, 0), 0)
    held = device.pool.held
    for op, want in (("sum", 3.5e9), ("mean", 1.75), ("max", 2.0), ("any", 1.0), ("var", 0.0625),
                     ("logsumexp", math.log(1e9 * (math.exp(1.5) + math.exp(2))))):  # fmt: skip
        extra = {"correction": 0.0} if op == "var" else {}
        got = KERNELS[op](huge, axis=(0, 1), keepdims=False, **extra)
        assert float(got) == pytest.approx(want, rel=1e-6)
    assert device.pool.held - held < 1 << 20


def test_column_sums(device: Device) -> None:
    x = random((2, 300, 130))
    agree("sum", column_sums(from_numpy(device, x)), x, axis=(0, 1), keepdims=False)


def test_bits_do_not_depend_on_units(device: Device) -> None:
    x = from_numpy(device, random((2051, 333)))
    before = device.units
    results = []
    for units in (1, 3, 16):
        device.units = units
        results += [
            [
                to_numpy(KERNELS["sum"](x, axis=axis, keepdims=False))
                for axis in ((0,), (1,), (0, 1))
            ]
        ]
    device.units = before
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert np.array_equal(a, b)
