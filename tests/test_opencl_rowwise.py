"""Softmax, norms and cross entropy of the OpenCL backend, against those of NumPy.

Each test runs in both styles: vectors and loops, and small work-items with local memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyopencl", reason="pyopencl is not installed")

from microgpt_numpy import KERNELS as NUMPY
from microgpt_opencl import KERNELS, platforms, transfers
from microgpt_opencl.device import Device

from microgpt.errors import BackendError, ShapeError

TOLERANCE = {"f": 2e-5, "d": 1e-12}
# Less than a vector, a whole number of vectors, one number more, and many work-items for a row.
SHAPES = [(3, 5), (40, 16), (70, 65), (2, 3, 7), (7,), (3, 1000)]


@pytest.fixture(scope="module", params=["vectors", "vectors, three units", "work-items"])
def device(request: pytest.FixtureRequest) -> Device:
    try:
        name, found = next(iter(platforms.found().items()))
    except BackendError as error:
        pytest.skip(str(error))
    device = Device(name, found, cpu=request.param != "work-items")
    if "three" in request.param:
        device.units = 3  # rows are split among work-groups, whose sums are added up
    return device


@pytest.fixture(params=["f", "d"])
def dtype(request: pytest.FixtureRequest, device: Device) -> str:
    if request.param == "d" and not device.double:
        pytest.skip("the device has no float64")
    return request.param


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """NumPy warns of rows without elements; there the results are what is compared."""
    with np.errstate(invalid="ignore", divide="ignore"):
        yield


def numbers(dtype: str, *shape: int, seed: int = 0) -> np.ndarray:
    return np.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def up(device: Device, *values: np.ndarray | None) -> list[Any]:
    return [None if v is None else transfers.from_numpy(device, np.asarray(v)) for v in values]


def agree(found: Any, wanted: Any) -> None:
    if wanted is None:
        assert found is None
        return
    wanted = np.asarray(wanted)
    tolerance = TOLERANCE[wanted.dtype.char]
    values = transfers.to_numpy(found)
    assert (values.shape, values.dtype) == (wanted.shape, wanted.dtype)
    np.testing.assert_allclose(values, wanted, rtol=tolerance, atol=tolerance)


# ---- softmax -----------------------------------------------------------------------------------


@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
@pytest.mark.parametrize("shape", SHAPES)
def test_softmax_along_every_axis(device: Device, dtype: str, op: str, shape: tuple) -> None:
    x, g = 3 * numbers(dtype, *shape), numbers(dtype, *shape, seed=1)
    for axis in range(len(shape)):
        y = NUMPY[op](x, axis=axis)
        agree(KERNELS[op](*up(device, x), axis=axis), y)
        wanted = NUMPY[op + "_vjp"](g, y, x, needs=(True,), axis=axis)
        found = KERNELS[op + "_vjp"](*up(device, g, y, x), needs=(True,), axis=axis)
        agree(found[0], wanted[0])


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("op", ["softmax", "log_softmax"])
def test_infinities_nan_and_large_numbers(device: Device, dtype: str, op: str, axis: int) -> None:
    x = numbers(dtype, 20, 20)
    x[0, :2] = np.inf, 1
    x[1, 3] = np.nan
    x[2] = x[:, 2] = -np.inf
    x[5] = 1e4 * np.arange(20)
    agree(KERNELS[op](*up(device, x), axis=axis), NUMPY[op](x, axis=axis))


def test_views_are_read_where_they_lie(device: Device) -> None:
    x = numbers("f", 30, 40)
    (whole,) = up(device, x)
    turned = KERNELS["permute_dims"](whole, axes=(1, 0))
    part = KERNELS["slice"](turned, key=((3, 33, 2), (1, 30, 1)))
    agree(KERNELS["softmax"](part, axis=1), NUMPY["softmax"](x.T[3:33:2, 1:30], axis=1))


# ---- normalisation -----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [*SHAPES, (0, 5), (5, 0)])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("biased", [True, False])
def test_layer_norm(device: Device, dtype: str, shape: tuple, weighted: bool, biased: bool) -> None:
    x, g = 5 + numbers(dtype, *shape), numbers(dtype, *shape, seed=1)
    weight = numbers(dtype, shape[-1], seed=2) if weighted else None
    bias = numbers(dtype, shape[-1], seed=3) if biased else None
    y, saved = NUMPY["layer_norm_saving"](x, weight, bias, eps=1e-5)
    here = up(device, x, weight, bias)
    mine, kept = KERNELS["layer_norm_saving"](*here, eps=1e-5)
    agree(mine, y)
    agree(KERNELS["layer_norm"](*here, eps=1e-5), y)
    needs = (True, weighted, biased)
    wanted = NUMPY["layer_norm_vjp"](g, saved, x, weight, bias, needs=needs, eps=1e-5)
    (upper,) = up(device, g)
    for known in (kept, mine):  # what was saved, or the output that another plugin computed
        found = KERNELS["layer_norm_vjp"](upper, known, *here, needs=needs, eps=1e-5)
        for a, b in zip(found, wanted, strict=True):
            agree(a, b)


@pytest.mark.parametrize("shape", [*SHAPES, (0, 5), (5, 0)])
@pytest.mark.parametrize("weighted", [True, False])
def test_rms_norm(device: Device, dtype: str, shape: tuple, weighted: bool) -> None:
    x, g = numbers(dtype, *shape), numbers(dtype, *shape, seed=1)
    weight = numbers(dtype, shape[-1], seed=2) if weighted else None
    y = NUMPY["rms_norm"](x, weight, eps=1e-5)
    here = up(device, x, weight)
    mine, kept = KERNELS["rms_norm_saving"](*here, eps=1e-5)
    agree(mine, y)
    needs = (True, weighted)
    wanted = NUMPY["rms_norm_vjp"](g, y, x, weight, needs=needs, eps=1e-5)
    (upper,) = up(device, g)
    for known in (kept, mine):
        found = KERNELS["rms_norm_vjp"](upper, known, *here, needs=needs, eps=1e-5)
        for a, b in zip(found, wanted, strict=True):
            agree(a, b)


def test_only_the_gradients_that_are_needed(device: Device) -> None:
    x, w, b, g = up(device, *[numbers("f", *s) for s in ((6, 9), (9,), (9,), (6, 9))])
    y, saved = KERNELS["layer_norm_saving"](x, w, b, eps=1e-5)
    found = KERNELS["layer_norm_vjp"](g, saved, x, w, b, needs=(False, True, False), eps=1e-5)
    assert [grad is None for grad in found] == [True, False, True]


# ---- cross entropy -----------------------------------------------------------------------------


@pytest.mark.parametrize("index", ["int64", "int32", "uint8"])
@pytest.mark.parametrize("shape", [(70, 65), (100, 10), (1, 2), (0, 3)])
@pytest.mark.parametrize("ignored", [-100, 1])
def test_cross_entropy(device: Device, dtype: str, shape: tuple, index: str, ignored: int) -> None:
    x, g = 3 * numbers(dtype, *shape), np.asarray(1.7, dtype)
    target = np.random.default_rng(4).integers(0, shape[1], shape[0]).astype(index)
    if index != "uint8":
        target[::3] = ignored
    y, saved = NUMPY["cross_entropy_saving"](x, target, ignore_index=ignored)
    here = up(device, x, target)
    mine, kept = KERNELS["cross_entropy_saving"](*here, ignore_index=ignored)
    agree(mine, y)
    both = dict(needs=(True, False), ignore_index=ignored)
    wanted = NUMPY["cross_entropy_vjp"](g, saved, x, target, **both)[0]
    (upper,) = up(device, g)
    for known in (kept, mine):
        found = KERNELS["cross_entropy_vjp"](upper, known, *here, **both)
        agree(found[0], wanted)
        assert found[1] is None


@pytest.mark.parametrize("bad", [3, -1, 10**12])
def test_targets_that_are_no_classes(device: Device, bad: int) -> None:
    target = np.zeros(50, np.int64)
    target[7], target[9] = -100, bad
    x, t = up(device, numbers("f", 50, 3), target)
    with pytest.raises(ShapeError, match=rf"from 0 to 2 .*-100.*got .*{bad}"):
        KERNELS["cross_entropy"](x, t, ignore_index=-100)


def test_nothing_counts(device: Device) -> None:
    x, t, g = up(device, numbers("f", 5, 3), np.full(5, -100), np.ones((), "f"))
    loss, saved = KERNELS["cross_entropy_saving"](x, t, ignore_index=-100)
    agree(loss, np.float32(0))
    found = KERNELS["cross_entropy_vjp"](g, saved, x, t, needs=(True, False), ignore_index=-100)
    agree(found[0], np.zeros((5, 3), "f"))
