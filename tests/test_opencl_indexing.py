"""Moving and indexing on OpenCL devices: exact copies, order of additions, indices out of range."""

import numpy as np
import pytest

pytest.importorskip("pyopencl", reason="pyopencl is not installed")

from microgpt_numpy import indexing as numpy_indexing
from microgpt_numpy import movement as numpy_movement
from microgpt_opencl import KERNELS, platforms
from microgpt_opencl.device import Device
from microgpt_opencl.transfers import from_numpy, to_numpy

from microgpt.errors import BackendError

NUMPY = {**numpy_movement.KERNELS, **numpy_indexing.KERNELS}


STYLES = ["as it is", "processor, memory of its own", "graphics card"]


@pytest.fixture(scope="module", params=STYLES)
def device(request):
    try:
        name, found = next(iter(platforms.found().items()))
    except BackendError as error:
        pytest.skip(f"no OpenCL device: {error}")
    device = Device(name, found, cpu=False if request.param == "graphics card" else None)
    if "own" in request.param:
        device.unified, device.units = False, 3
    return device


def numbers(*shape):
    """Different numbers, some of them negative zeros."""
    x = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape) - 7
    return np.where(x % 5 == 0, np.float32(-0.0), x)


def both(device, op, *inputs, **params):
    """What the kernels of the OpenCL and NumPy backends make of arrays."""
    found = KERNELS[op](*[from_numpy(device, x) for x in inputs], **params)
    return to_numpy(found), NUMPY[op](*inputs, **params)


def equal(found, expected):
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)
    if found.dtype.kind == "f":
        np.testing.assert_array_equal(np.signbit(found), np.signbit(expected))


@pytest.mark.parametrize(
    "op, shape, params",
    [
        ("unslice", (2, 19), {"key": ((4, -1, -3), (1, 20, 1)), "shape": (5, 21)}),
        ("unslice", (2, 9), {"key": ((0, 2, 1), (1, 19, 2)), "shape": (2, 21)}),
        ("unslice", (0, 3), {"key": ((2, 2, 1), (0, 3, 1)), "shape": (4, 3)}),
        ("pad", (2, 3, 18), {"widths": ((0, 1), (2, 0), (1, 3)), "value": -0.0}),
        ("pad", (1, 2, 1, 2, 1, 2), {"widths": ((1, 1),) * 6, "value": 2.5}),
        ("pad", (0, 2), {"widths": ((1, 1), (0, 1)), "value": 2.5}),
        ("pad", (1,) * 13, {"widths": ((1, 0),) * 13, "value": 2.5}),
        ("tril", (2, 5, 20), {"k": 1}),
        ("triu", (2, 20, 5), {"k": -2}),
        ("tril", (3, 3), {"k": -(2**40)}),
    ],
)
def test_moving_copies_bits(device, op, shape, params):
    equal(*both(device, op, numbers(*shape), **params))


@pytest.mark.parametrize("cut", [(1, 4, 1), (0, 6, 3), (-1, -1, -1)])
def test_unslice_writes_within_its_result_only(device, cut):
    with pytest.raises(ValueError, match="must be what slice gives"):
        KERNELS["unslice"](from_numpy(device, numbers(3)), key=(cut,), shape=(3,))


@pytest.mark.parametrize("axis", [0, 1])
def test_concat_joins_more_parts_than_one_launch_takes(device, axis):
    sizes = (1, 0, 18, 2, 3, 1, 1, 1, 40, 2, 1)
    parts = [numbers(n, 3) if axis == 0 else numbers(3, n) for n in sizes]
    equal(*both(device, "concat", *parts, axis=axis, sizes=sizes))


def test_pad_of_many_axes_in_another_order(device):
    x, order, widths = numbers(2, 3, 2, 2, 3, 2), (5, 3, 1, 4, 2, 0), ((0, 0),) * 5 + ((1, 1),)
    y = KERNELS["permute_dims"](from_numpy(device, x), axes=order)
    expected = np.pad(x.transpose(order), widths)
    equal(to_numpy(KERNELS["pad"](y, widths=widths, value=0.0)), expected)


def test_concat_of_views(device):
    x = numbers(4, 6)
    on_device = from_numpy(device, x)
    parts = [
        KERNELS["permute_dims"](on_device, axes=(1, 0)),
        KERNELS["slice"](KERNELS["reshape"](on_device, shape=(6, 4)), key=((5, -1, -1), (0, 4, 1))),
    ]
    found = KERNELS["concat"](*parts, axis=1, sizes=(4, 4))
    equal(to_numpy(found), np.concatenate([x.T, x.reshape(6, 4)[::-1]], axis=1))


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("count", [5, 400])
def test_repeated_indices_add_up_in_order(device, axis, count):
    # Numbers so different in size that another order of additions gives other results.
    x = np.float32(10) ** (np.arange(count, dtype=np.float32) % 9) / 3
    x = np.stack([x, -x * 7], axis=1 - axis)
    places = np.arange(count) * 7 % 4 - 2
    expected = np.zeros((4, 2), np.float32)
    for i, row in zip(places, x if axis == 0 else x.T, strict=True):
        expected[i] += row
    expected = expected if axis == 0 else expected.T
    given = from_numpy(device, x), from_numpy(device, places)
    equal(to_numpy(KERNELS["index_add"](*given, axis=axis, size=4)), expected)
    own = from_numpy(device, np.repeat(np.expand_dims(places, 1 - axis), 2, 1 - axis))
    zeros = from_numpy(device, np.zeros_like(expected))
    equal(to_numpy(KERNELS["scatter_add"](zeros, own, given[0], axis=axis)), expected)


@pytest.mark.parametrize("count", [5, 400])
def test_truths_add_up_to_truth(device, count):
    x = np.arange(count) % 3 == 0
    equal(*both(device, "index_add", x, np.arange(count) % 6, axis=0, size=7))


@pytest.mark.parametrize("dtype", ["int32", "int64", "uint8"])
def test_take_and_gather(device, dtype):
    x = numbers(3, 5, 17)
    last = 2 if dtype == "uint8" else -1
    equal(*both(device, "take", x, np.array([[0, last], [4, 1]], dtype), axis=1))
    own = np.broadcast_to(np.array([[[last]], [[0]], [[3]]], dtype), (3, 1, 17))
    equal(*both(device, "gather", x, own, axis=1))


@pytest.mark.parametrize("bad", [[0, 3], [-4, 0], [2**62, 0], [-(2**63), 0]])
def test_an_index_out_of_range_is_an_error(device, bad):
    x, places = from_numpy(device, numbers(3)), from_numpy(device, np.array(bad))
    y = from_numpy(device, numbers(2))
    for op, inputs, params in (
        ("take", (x, places), {}), ("gather", (x, places), {}),
        ("scatter_add", (x, places, y), {}), ("index_add", (y, places), {"size": 3}),
    ):  # fmt: skip
        with pytest.raises(IndexError, match="must be from -3 to 2; got"):
            KERNELS[op](*inputs, axis=0, **params)


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("shape, axis", [((37,), 0), ((3, 10, 2), 1), ((2, 1), 1), ((0, 4), 1)])
def test_sorting_is_stable_and_knows_nan(device, descending, shape, axis):
    x = (numbers(*shape) * 11 + 200) % 6
    x[x == 4] = np.nan
    equal(*both(device, "argsort", x, axis=axis, descending=descending))


def test_one_hot_and_filled(device):
    for n in (0, 1, 20):
        equal(*both(device, "one_hot", np.array([[0, 19, 3]]), num_classes=n, dtype=np.dtype("f4")))
    equal(*both(device, "filled", np.array([True]), shape=(2, 3), value=0.5))
    equal(*both(device, "filled", np.array([1.0], "f4"), shape=(0, 3), value=1.0))
