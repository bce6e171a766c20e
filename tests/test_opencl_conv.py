"""Convolution, pools and unfold on OpenCL devices against the NumPy kernels, in both styles."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from microgpt_numpy import conv as reference

pytest.importorskip("pyopencl", reason="pyopencl is not installed")

from microgpt_opencl import conv, platforms, pool, unfold
from microgpt_opencl.arrays import Array, view
from microgpt_opencl.device import Device
from microgpt_opencl.transfers import from_numpy, to_numpy

from microgpt.errors import BackendError

STYLES = ("vectors", "narrow", "units", "items")
LAYOUTS = [(0, 1, 2, 3), (1, 2, 3, 0), (2, 1, 3, 0), (3, 0, 1, 2)]


@pytest.fixture(scope="module")
def devices() -> dict[str, Device]:
    """The first device as four: as it is, with smaller registers, with more units, as a GPU."""
    try:
        name, found = next(iter(platforms.found().items()))
    except (BackendError, StopIteration):
        pytest.skip("there is no OpenCL device")
    made = {style: Device(name, found, cpu=style != "items") for style in STYLES}
    made["narrow"].width = 8
    made["units"].units = 6
    return made


@pytest.fixture(params=STYLES)
def device(request: Any, devices: dict[str, Device]) -> Device:
    return devices[request.param]


def put(device: Device, x: np.ndarray | None, order: tuple[int, ...] | None = None) -> Any:
    """`x` on the device, in memory in this order of axes, the slowest first."""
    if x is None:
        return None
    order = order or tuple(range(x.ndim))
    y = from_numpy(device, np.ascontiguousarray(x.transpose(order)))
    back = np.argsort(order)
    return view(y, x.shape, tuple([y.strides[i] for i in back]), y.start)


def same(found: Any, want: Any, what: str) -> None:
    """Equal up to rounding, with NaN and infinities in the same places."""
    if want is None:
        assert found is None, what
        return
    assert type(found) is Array and found.shape == want.shape and found.dtype == want.dtype, what
    finite = np.abs(want[np.isfinite(want)]).max(initial=1.0)
    tolerance = (2e-5 if want.dtype == np.float32 else 1e-12) * finite
    np.testing.assert_allclose(to_numpy(found), want, rtol=0, atol=tolerance, err_msg=what)


def test_convolution(device: Device) -> None:
    rng, pick = np.random.default_rng(0), random.Random(0)
    for _ in range(12):
        dtype = np.dtype(pick.choice(["f4", "f4", "f8"] if device.double else ["f4"]))
        groups, ins, outs = (
            pick.choice([1, 1, 2, 3]),
            pick.choice([1, 3, 4]),
            pick.choice([1, 3, 5]),
        )
        kernel, stride = (
            (pick.randint(1, 4), pick.randint(1, 4)),
            (pick.randint(1, 3), pick.choice([1, 1, 3])),
        )
        padding, dilation = (
            (pick.randint(0, 2), pick.randint(0, 3)),
            (pick.randint(1, 2), pick.randint(1, 2)),
        )
        size = [
            max(d * (k - 1) + 1 - 2 * p, 1) + pick.randint(0, 6)
            for k, p, d in zip(kernel, padding, dilation, strict=True)
        ]
        x = rng.standard_normal((pick.choice([1, 2, 17, 33, 64]), groups * ins, *size)).astype(
            dtype
        )
        weight = rng.standard_normal((groups * outs, ins, *kernel)).astype(dtype)
        bias = rng.standard_normal(groups * outs).astype(dtype) if pick.random() < 0.7 else None
        params = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
        what = f"{x.shape} {weight.shape} {dtype} {params}"
        a, w = put(device, x, pick.choice(LAYOUTS)), put(device, weight, pick.choice(LAYOUTS))
        b = put(device, bias)
        y, saved = conv.conv2d_saving(a, w, b, **params)
        want = reference.conv2d(x, weight, bias, **params)
        same(y, want, what)
        same(conv.conv2d(a, w, b, **params), want, what)
        g = rng.standard_normal(want.shape).astype(dtype)
        needs = (pick.random() < 0.7, pick.random() < 0.7, bias is not None and pick.random() < 0.7)
        wants = reference.conv2d_vjp(g, (), x, weight, bias, needs=needs, **params)
        given = put(device, g, pick.choice(LAYOUTS))
        for kept in (saved, y):  # y: another plugin's forward kernel saves nothing
            founds = conv.conv2d_vjp(given, kept, a, w, b, needs=needs, **params)
            for name, found, wanted in zip(("x", "weight", "bias"), founds, wants, strict=True):
                same(found, wanted, f"{what}: {name}")
        again = conv.conv2d_vjp(given, y, a, w, b, needs=needs, **params)
        for found, second in zip(founds, again, strict=True):
            assert found is None or to_numpy(found).tobytes() == to_numpy(second).tobytes(), what


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # NumPy warns of inf - inf
def test_pools(device: Device) -> None:
    rng, pick = np.random.default_rng(1), random.Random(1)
    for case in range(16):
        dtype = np.dtype(pick.choice(["f4", "f4", "f8"] if device.double else ["f4"]))
        kernel, stride = (
            (pick.randint(1, 3), pick.randint(1, 4)),
            (pick.randint(1, 4), pick.randint(1, 4)),
        )
        padding = (pick.randint(0, kernel[0] // 2), pick.randint(0, kernel[1] // 2))
        if case % 4 == 0:
            kernel, stride, padding = (2, 2), (2, 2), (0, 0)
        size = [
            max(k - 2 * p, 1) + pick.randint(0, 5) for k, p in zip(kernel, padding, strict=True)
        ]
        # Small integers, so that several are the largest.
        x = rng.integers(-3, 4, (pick.choice([1, 2, 17, 33]), 3, *size)).astype(dtype)
        if case % 3 == 0:
            x[rng.random(x.shape) < 0.03] = np.nan
            x[rng.random(x.shape) < 0.2] = -np.inf
            x[rng.random(x.shape) < 0.03] = np.inf
        params = dict(kernel=kernel, stride=stride, padding=padding)
        what = f"{x.shape} {dtype} {params}"
        a = put(device, x, pick.choice(LAYOUTS))
        for op in ("max_pool2d", "avg_pool2d"):
            want = getattr(reference, op)(x, **params)
            y = pool.KERNELS[op](a, **params)
            same(y, want, f"{op} {what}")
            g = rng.standard_normal(want.shape).astype(dtype)
            wants = getattr(reference, f"{op}_vjp")(g, want, x, needs=(True,), **params)
            given = put(device, g, pick.choice(LAYOUTS))
            founds = pool.KERNELS[f"{op}_vjp"](given, y, a, needs=(True,), **params)
            same(founds[0], wants[0], f"gradient of {op} {what}")


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8", "bool"])
def test_unfold_and_fold(device: Device, dtype: str) -> None:
    if dtype == "float64" and not device.double:
        pytest.skip("the device has no float64")
    rng, pick = np.random.default_rng(2), random.Random(2)
    for _ in range(5):
        kernel, stride = (
            (pick.randint(1, 3), pick.randint(1, 3)),
            (pick.randint(1, 3), pick.randint(1, 3)),
        )
        padding, dilation = (
            (pick.randint(0, 2), pick.randint(0, 2)),
            (pick.randint(1, 2), pick.randint(1, 2)),
        )
        size = (pick.randint(5, 8), pick.randint(5, 8))
        params = dict(kernel=kernel, stride=stride, padding=padding, dilation=dilation)
        x = rng.integers(0, 2 if dtype == "bool" else 9, (3, 2, *size)).astype(dtype)
        want = reference.unfold(x, **params)
        what = f"{size} {params}"
        found = unfold.unfold(put(device, x, pick.choice(LAYOUTS)), **params)
        np.testing.assert_array_equal(to_numpy(found), want, what, strict=True)
        back = reference.fold(want, size=size, **params)
        found = unfold.fold(
            put(device, want, pick.choice([(0, 1, 2), (2, 0, 1)])), size=size, **params
        )
        np.testing.assert_array_equal(to_numpy(found), back, what, strict=True)


@pytest.mark.parametrize(
    "n, ins, outs, size",
    [(0, 2, 3, (4, 5)), (2, 0, 3, (4, 5)), (2, 2, 0, (4, 5)), (2, 2, 3, (0, 5)), (0, 0, 0, (0, 0))],
)
def test_nothing(device: Device, n: int, ins: int, outs: int, size: tuple[int, int]) -> None:
    x, weight = np.ones((n, ins, *size), "f4"), np.ones((outs, ins, 2, 2), "f4")
    bias = np.ones(outs, "f4")
    params: Any = dict(stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)
    want = np.zeros((n, outs, size[0] + 1, size[1] + 1), "f4")
    if x.size and weight.size:
        want = reference.conv2d(x, weight, bias, **params)
    elif want.size:
        want += 1
    a, w, b = put(device, x), put(device, weight), put(device, bias)
    y, saved = conv.conv2d_saving(a, w, b, **params)
    same(y, want, "conv2d")
    founds = conv.conv2d_vjp(y, saved, a, w, b, needs=(True, True, True), **params)
    same(founds[0], np.zeros_like(x), "gradient of x")
    same(founds[1], np.zeros_like(weight), "gradient of the filters")
    same(founds[2], want.sum((0, 2, 3)), "gradient of the bias")
    windows: Any = dict(kernel=(2, 2), stride=(1, 1), padding=(1, 1))
    for op in ("max_pool2d", "avg_pool2d"):
        y = pool.KERNELS[op](a, **windows)
        assert y.shape == (n, ins, size[0] + 1, size[1] + 1)
        (found,) = pool.KERNELS[f"{op}_vjp"](y, y, a, needs=(True,), **windows)
        assert found.shape == x.shape
    columns = unfold.unfold(a, **windows, dilation=(1, 1))
    assert columns.shape == (n, ins * 4, (size[0] + 1) * (size[1] + 1))
    same(unfold.fold(columns, size=size, **windows, dilation=(1, 1)), 4 * x, "fold")
