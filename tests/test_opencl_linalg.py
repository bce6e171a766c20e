"""Matrix products on OpenCL: by our kernels for processors and graphics cards, and by the BLAS."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache

import numpy as np
import pytest

from microgpt.errors import BackendError
from tests.opencl import backend, needed, on, small_items, spare

needed()

from microgpt_opencl import linalg, linear, tuning  # noqa: E402
from microgpt_opencl.movement import flip, permute_dims, slice_  # noqa: E402

RNG = np.random.default_rng(0)
WAYS = ("kernel", "vectors", "emulated tiles", "blas", "small items")


@pytest.fixture(params=WAYS)
def device(request, monkeypatch):
    """A device, with products computed in one of the ways."""
    monkeypatch.setattr(linalg, "LARGE", 0)  # small ones show all there is to see of tiles
    if request.param == "small items":
        yield small_items()
    elif request.param == "emulated tiles":
        yield emulated_tiles()
    else:
        device = backend().open()
        before = device.gemm
        device.multiply_by(request.param)
        device.programs.recipes.clear()  # they are for products that are LARGE
        yield device
        device.multiply_by(before)
        device.programs.recipes.clear()


@cache
def emulated_tiles():
    """A processor whose products are computed as on a matrix unit, without one."""
    device = spare()
    if not device.unified:
        pytest.skip("the device is no processor")
    device.width, device.matrix_unit, device.tiles = 16, False, True
    if not linalg._blocks(device.local_memory, 4, 32, tiles=True)[0]:
        pytest.skip(f"tiles do not fit into {device.local_memory} bytes of local memory")
    return device


def close(found, want, terms):
    """Within the rounding of a sum of so many terms."""
    unit = np.finfo(want.dtype).eps
    assert found.shape == want.shape and found.dtype == want.dtype
    np.testing.assert_allclose(found, want, atol=unit * (8 + 4 * terms**0.5) * terms, rtol=0)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((3, 4), (4, 5)), ((4,), (4, 5)), ((3, 4), (4,)), ((4,), (4,)), ((2, 3, 4), (4, 5)),
        ((2, 3, 4), (2, 4, 5)), ((5, 1, 3, 4), (2, 4, 5)), ((2, 2, 2, 3, 4), (2, 1, 2, 4, 2)),
        ((0, 4), (4, 5)), ((3, 0), (0, 5)), ((2, 0, 3), (2, 3, 0)), ((1, 300), (300, 70)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_shapes(device, a, b, dtype):
    x, y = (RNG.uniform(-1, 1, shape).astype(dtype) for shape in (a, b))
    close(np.asarray(linalg.matmul(on(device, x), on(device, y))), x @ y, max(a[-1], 1))


@pytest.mark.parametrize("m", [63, 64, 65])
@pytest.mark.parametrize("n", [255, 256, 257])
@pytest.mark.parametrize("k", [5, 385])
def test_ends_of_blocks(device, m, n, k):
    x, y = RNG.uniform(-1, 1, (m, k)).astype("f"), RNG.uniform(-1, 1, (k, n)).astype("f")
    close(np.asarray(linalg.matmul(on(device, x), on(device, y))), x @ y, k)


@pytest.mark.parametrize("m", [5, 9, 12, 22, 100])
@pytest.mark.parametrize("n", [1, 7, 8, 9, 15, 16, 17, 33])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_few_columns(device, m, n, dtype):
    """They go through narrow blocks, to which rows that are whole are not copied."""
    for k in (3, 40, 390):
        x, y = (RNG.uniform(-1, 1, s).astype(dtype) for s in ((m, 2 * k), (n, k)))
        start, bias = RNG.uniform(-1, 1, (m, n)).astype(dtype), RNG.uniform(-1, 1, n).astype(dtype)
        a = slice_(on(device, x), key=((0, m, 1), (k, 2 * k, 1)))
        b, row, out = on(device, y.T), on(device, bias), on(device, start)
        close(np.asarray(linalg.product(a, b, bias=row)), x[:, k:] @ y.T + bias, k + 1)
        b = permute_dims(on(device, y), axes=(1, 0))
        linalg.product(a, b, out=out, bias=row, adding=True)
        close(np.asarray(out), start + x[:, k:] @ y.T + bias, k + 2)


@pytest.mark.parametrize("width", [4, 8, 16])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_widths_of_other_processors(monkeypatch, width, dtype):
    device = spare()
    if not device.unified:
        pytest.skip("the device is no processor")
    monkeypatch.setattr(device, "width", width)
    device.multiply_by("vectors")
    for m, k, n in ((37, 50, 41), (24, 33, width), (100, 390, 3)):
        x, w = (RNG.uniform(-1, 1, s).astype(dtype) for s in ((m, k), (n, k)))
        b, g = RNG.uniform(-1, 1, n).astype(dtype), RNG.uniform(-1, 1, (m, n)).astype(dtype)
        ax, aw, ab, ag = (on(device, v) for v in (x, w, b, g))
        close(np.asarray(linear.linear(ax, aw, ab)), x @ w.T + b, k + 1)
        of_x, of_w, of_b = linear.linear_vjp(ag, None, ax, aw, ab, needs=(True, True, True))
        close(np.asarray(of_x), g @ w, n)
        close(np.asarray(of_w), g.T @ x, m)
        close(np.asarray(of_b), g.sum(0), m)


def test_layouts(device):
    """Transposed, reversed, stepped, broadcast factors; heads side by side."""
    x, y = RNG.uniform(-1, 1, (40, 30)).astype("f"), RNG.uniform(-1, 1, (50, 30)).astype("f")
    a, b = on(device, x), on(device, y)
    close(np.asarray(linalg.matmul(a, permute_dims(b, axes=(1, 0)))), x @ y.T, 30)
    close(np.asarray(linalg.matmul(flip(a, axis=1), permute_dims(b, axes=(1, 0)))),
          x[:, ::-1] @ y.T, 30)  # fmt: skip
    every_other = slice_(a, key=((0, 40, 3), (1, 30, 2)))
    half = slice_(b, key=((0, 50, 1), (0, 15, 1)))
    close(np.asarray(linalg.matmul(every_other, permute_dims(half, axes=(1, 0)))),
          x[::3, 1::2] @ y[:, :15].T, 15)  # fmt: skip
    heads = RNG.uniform(-1, 1, (2, 7, 3, 5)).astype("f")  # (batch, length, heads, size)
    q = permute_dims(on(device, heads), axes=(0, 2, 1, 3))
    k = permute_dims(on(device, heads), axes=(0, 2, 3, 1))
    want = heads.transpose(0, 2, 1, 3) @ heads.transpose(0, 2, 3, 1)
    close(np.asarray(linalg.matmul(q, k)), want, 5)


@pytest.mark.parametrize(
    ("m", "n", "k"),
    [
        (32, 32, 32), (64, 64, 64), (64, 65, 385), (65, 79, 416), (100, 127, 64), (130, 96, 800),
        (70, 520, 65), (65, 1060, 66),
    ],
)  # fmt: skip
def test_large_products(device, m, n, k):
    """Such as are computed in blocks, and on tiles where there are tiles."""
    x, y = RNG.uniform(-1, 1, (m, k)).astype("f"), RNG.uniform(-1, 1, (k, n)).astype("f")
    start, bias = RNG.uniform(-1, 1, (m, n)).astype("f"), RNG.uniform(-1, 1, n).astype("f")
    want, row = x @ y, on(device, bias)
    for a in (on(device, x), permute_dims(on(device, x.T), axes=(1, 0)),
              slice_(on(device, np.repeat(x, 2, 1)), key=((0, m, 1), (0, 2 * k, 2)))):  # fmt: skip
        for b in (on(device, y), permute_dims(on(device, y.T), axes=(1, 0))):
            close(np.asarray(linalg.product(a, b, bias=row)), want + bias, k + 1)
            room = on(device, np.tile(start, (1, 2)))
            out = slice_(room, key=((0, m, 1), (n, 2 * n, 1)))
            linalg.product(a, b, out=out, bias=row, adding=True)
            close(np.asarray(out), start + want + bias, k + 2)
            linalg.product(a, b, out=out, adding=True)
            close(np.asarray(out), start + 2 * want + bias, 2 * k + 2)
            assert np.array_equal(np.asarray(room)[:, :n], start)


def test_the_gradients_of_a_large_linear(device):
    x, w = RNG.uniform(-1, 1, (3, 50, 70)).astype("f"), RNG.uniform(-1, 1, (97, 70)).astype("f")
    b, g = RNG.uniform(-1, 1, 97).astype("f"), RNG.uniform(-1, 1, (3, 50, 97)).astype("f")
    ax, aw, ab, ag = (on(device, v) for v in (x, w, b, g))
    of_x, of_w, of_b = linear.linear_vjp(ag, None, ax, aw, ab, needs=(True, True, True))
    close(np.asarray(of_x), g @ w, 97)
    close(np.asarray(of_w), np.einsum("abn,abk->nk", g, x), 150)
    close(np.asarray(of_b), g.sum((0, 1)), 150)


@pytest.mark.parametrize("k", [64, 500])
def test_no_digit_is_lost(device, k):
    """Of a product in float32; with one part less on tiles the error is several times as large."""
    several = 8 + k**0.5
    for low, limit in ((-1, 4 if device.tiles else several), (0.5, several)):
        x, y = RNG.uniform(low, 1, (64, k)).astype("f"), RNG.uniform(low, 1, (k, 96)).astype("f")
        found = np.asarray(linalg.matmul(on(device, x), on(device, y)))
        wide = x.astype("d"), y.astype("d")
        error = (found - wide[0] @ wide[1]) / (np.abs(wide[0]) @ np.abs(wide[1]))
        assert np.abs(error).max() < 2**-24 * limit


@pytest.mark.parametrize("scale", [1e-42, 1e-37, 1e-20, 1e-13, 1e18, 1e30, 3e38])
def test_numbers_of_any_size(device, scale):
    """Where parts of numbers would vanish or be infinite, tiles leave the block to vectors."""
    x, y = RNG.uniform(0.5, 1, (70, 66)).astype("f"), RNG.uniform(0.5, 1, (66, 64)).astype("f")
    s = np.float32(scale)
    for a, b in ((x * s, y), (x, y * s), (x * s, y * s)):
        want = a.astype("d") @ b.astype("d")
        found = np.asarray(linalg.matmul(on(device, a), on(device, b)))
        with np.errstate(over="ignore"):
            limit = np.abs(want) * 66 * 2**-24 + 66 * 2.0**-149
            assert (np.abs(found - want) <= limit)[want < 3.4e38].all()
            assert np.isposinf(found[want > 3.5e38]).all()


def test_small_numbers_among_large_ones(device):
    """Tiles may lose digits of numbers below 2⁻¹¹⁰, and products below 2⁻¹²⁶, beside large ones."""
    x, y = RNG.uniform(0.5, 1, (70, 66)).astype("f"), RNG.uniform(0.5, 1, (66, 64)).astype("f")
    x[3] *= np.float32(1e-33)
    x[5] *= np.float32(1e-37)
    y[:, 7] *= np.float32(1e-10)
    wide = x.astype("d"), y.astype("d")
    found, want = np.asarray(linalg.matmul(on(device, x), on(device, y))), wide[0] @ wide[1]
    lost = 66 * 2.0**-124 if device.tiles else 66 * 2.0**-149
    np.testing.assert_allclose(found, want, rtol=66 * 2**-24, atol=lost)


def test_one_block_with_special_numbers_among_others(device):
    x, y = RNG.uniform(-1, 1, (200, 800)).astype("f"), RNG.uniform(-1, 1, (800, 70)).astype("f")
    want = x @ y
    x[150, 500] = np.nan  # in the third block of rows and the second along k
    x[170, 20] = np.inf
    found = np.asarray(linalg.matmul(on(device, x), on(device, y)))
    assert np.isnan(found[150]).all()
    np.testing.assert_array_equal(found[170], np.where(y[20] > 0, np.inf, -np.inf))
    rest = [i for i in range(200) if i not in (150, 170)]
    close(found[rest], want[rest], 800)


def test_writing_into_and_adding_to_an_array(device):
    x, y = RNG.uniform(-1, 1, (9, 6)).astype("f"), RNG.uniform(-1, 1, (6, 20)).astype("f")
    start = RNG.uniform(-1, 1, (9, 20)).astype("f")
    out = on(device, start)
    linalg.product(on(device, x), on(device, y), out=out, adding=True)
    close(np.asarray(out), start + x @ y, 7)
    linalg.product(on(device, x), on(device, y), out=out)
    close(np.asarray(out), x @ y, 6)


def test_linear_and_its_gradients(device):
    x, w = RNG.uniform(-1, 1, (4, 5, 33)).astype("f"), RNG.uniform(-1, 1, (20, 33)).astype("f")
    b, g = RNG.uniform(-1, 1, 20).astype("f"), RNG.uniform(-1, 1, (4, 5, 20)).astype("f")
    ax, aw, ab, ag = (on(device, v) for v in (x, w, b, g))
    y = linear.linear(ax, aw, ab)
    close(np.asarray(y), x @ w.T + b, 34)
    of_x, of_w, of_b = linear.linear_vjp(ag, y, ax, aw, ab, needs=(True, True, True))
    close(np.asarray(of_x), g @ w, 20)
    close(np.asarray(of_w), np.einsum("abn,abk->nk", g, x), 20)
    close(np.asarray(of_b), g.sum((0, 1)), 20)
    assert linear.linear_vjp(ag, y, ax, aw, ab, needs=(False, False, False)) == (None, None, None)
    nothing = on(device, np.zeros((3, 0), "f"))
    empty = on(device, np.zeros((20, 0), "f"))
    assert np.array_equal(np.asarray(linear.linear(nothing, empty, ab)), np.tile(b, (3, 1)))


def test_integers(device):
    x, y = RNG.integers(-9, 9, (5, 6)), RNG.integers(-9, 9, (6, 7))
    assert np.array_equal(np.asarray(linalg.matmul(on(device, x), on(device, y))), x @ y)


def test_infinities_stay_where_they_are(device):
    x, y = np.ones((20, 40), "f"), np.ones((40, 30), "f")
    x[3, 7], x[5, 1], y[2, 9] = np.inf, np.nan, np.inf
    with np.errstate(invalid="ignore"):
        found = np.asarray(linalg.matmul(on(device, x), on(device, y)))
        np.testing.assert_array_equal(found, x @ y)


def test_who_computed_is_counted(monkeypatch):
    device = spare()
    if not device.unified:
        pytest.skip("the device is no processor")
    monkeypatch.setattr(linalg, "LARGE", 0)
    x = on(device, np.ones((64, 64), "f"))
    own = "gemm (matrix unit)" if device.tiles else "gemm"
    for way, label in (("kernel", own), ("vectors", "gemm"), ("blas", "host BLAS sgemm")):
        device.multiply_by(way)
        before = device.activity[label]
        linalg.matmul(x, x)
        assert device.activity[label] == before + 1
    monkeypatch.setenv("MICROGPT_OPENCL_GEMM", "magic")
    with pytest.raises(BackendError, match="one of kernel, vectors, blas; got 'magic'"):
        spare()


@pytest.mark.parametrize("memory", [32 << 10, 48 << 10, 128 << 10, 256 << 10, 1 << 20])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_blocks_fit_into_local_memory(memory, dtype):
    device = spare()
    if device.local_memory < memory:
        pytest.skip(f"the device has {device.local_memory} bytes")
    device.local_memory = memory
    x, y = (RNG.uniform(-1, 1, shape).astype(dtype) for shape in ((70, 400), (400, 80)))
    close(np.asarray(linalg.matmul(on(device, x), on(device, y))), x @ y, 400)
    if device.cpu:
        (kernel,) = (key for key in device.programs._kernels if key[1] == "gemm")
        sizes = dict(kernel[2:])
        row, columns = sizes["KC"] * x.itemsize, sizes["NC"]
        assert (48 + columns) * row <= memory < (48 + 2 * columns) * row or columns == 512


def test_tiles_that_do_not_fit_are_not_used(monkeypatch):
    monkeypatch.setattr(linalg, "LARGE", 0)
    device = spare()
    if not device.unified:
        pytest.skip("the device is no processor")
    device.width, device.matrix_unit, device.tiles = 16, False, True
    device.local_memory = 256 << 10
    x = RNG.uniform(-1, 1, (70, 70)).astype("f")
    close(np.asarray(linalg.matmul(on(device, x), on(device, x))), x @ x, 70)
    assert "gemm" in device.activity and "gemm (matrix unit)" not in device.activity


GUARDED = """
import ctypes, mmap
from types import SimpleNamespace
import numpy as np, pyopencl as cl
from microgpt.plugins import registry
from microgpt_opencl import linalg
from microgpt_opencl.arrays import empty, view

device = registry.backend("opencl").open()
libc = ctypes.CDLL(None)
libc.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int

def guarded(values):
    # The last element lies in front of a page that must not be touched.
    room = -(-values.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, room + mmap.PAGESIZE)
    whole = np.frombuffer(memory, np.uint8)
    assert libc.mprotect(whole.ctypes.data + room, mmap.PAGESIZE, 0) == 0
    start = room - values.nbytes
    whole[start:room] = values.reshape(-1).view(np.uint8)
    flags = cl.mem_flags.READ_ONLY | cl.mem_flags.USE_HOST_PTR
    buffer = cl.Buffer(device.context, flags, hostbuf=whole[:room])
    x = empty(device, values.shape, values.dtype)
    x.block = SimpleNamespace(buffer=buffer, memory=SimpleNamespace(host=whole[:room]), keep=memory)
    return view(x, x.shape, x.strides, start // values.itemsize)

rng = np.random.default_rng(0)
sizes = [(1, 1, 1), (5, 3, 7), (17, 33, 15), (64, 63, 65), (13, 400, 31), (100, 17, 257)]
sizes += [(12, 16, 16), (20, 33, 9), (23, 33, 9), (96, 400, 16), (103, 400, 1)]  # narrow
sizes += [(64, 64, 64), (70, 97, 65), (65, 400, 600)]  # on tiles, where there are tiles
linalg.LARGE = 0
for m, k, n in sizes:
    a, b, c = rng.random((m, k), "f"), rng.random((k, n), "f"), rng.random((n, k), "f")
    x, y, z = guarded(a), guarded(b), guarded(c)  # alive until the device is done with them
    found = np.asarray(linalg.product(x, y))
    assert np.allclose(found, a @ b, rtol=1e-4)
    found = np.asarray(linalg.product(x, view(z, (k, n), (1, k), z.start)))
    assert np.allclose(found, a @ c.T, rtol=1e-4)
print("nothing outside was touched")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="protects pages by the C library of Linux")
def test_nothing_outside_of_the_factors_is_read():
    if not backend().open().unified:
        pytest.skip("the device has memory of its own")
    done = subprocess.run([sys.executable, "-c", GUARDED], capture_output=True, text=True)
    assert done.stdout.strip() == "nothing outside was touched", done.stderr


def test_tiles_are_measured_once_and_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("MICROGPT_OPENCL_CACHE", str(tmp_path))
    monkeypatch.setattr(tuning, "CANDIDATES", tuning.CANDIDATES[:1] + tuning.CANDIDATES[7:8])
    monkeypatch.setattr(tuning, "SMALL", 1)
    device = small_items()
    measured = []
    seconds = tuning._seconds
    monkeypatch.setattr(
        tuning, "_seconds", lambda *a: measured.append(a[2]) or seconds(*a)
    )  # fmt: skip
    monkeypatch.setattr(device.programs, "tiles", None)
    best = tuning.tile(device, "float", 60, 60, 60, 1)
    assert best in tuning.CANDIDATES and len(measured) == 2
    assert tuning.tile(device, "float", 64, 50, 40, 1) == best and len(measured) == 2  # its class
    (file,) = tmp_path.glob("tiles-*.json")
    assert json.loads(file.read_text()) == {"float 64x64x64x1": list(best)}
    device.programs.tiles = None  # as in another process
    assert tuning.tile(device, "float", 60, 60, 60, 1) == best and len(measured) == 2
    file.write_text("{damaged")
    device.programs.tiles = None
    tuning.tile(device, "float", 60, 60, 60, 1)
    assert len(measured) == 4 and json.loads(file.read_text())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("rows", "k", "n"), [(5, 1, 1), (64, 3, 257), (700, 33, 17), (65, 100, 63)]
)
@pytest.mark.parametrize("units", [1, 3])
def test_all_gradients_of_a_linear_layer_in_one_launch(monkeypatch, dtype, rows, k, n, units):
    device = backend().open()
    monkeypatch.setattr(device, "units", units)
    device.programs.recipes.clear()  # they are for the device as it is
    x, w, g = (RNG.uniform(-1, 1, s).astype(dtype) for s in ((rows, k), (n, k), (rows, n)))
    before = sum(device.activity.values())
    arrays = [on(device, a) for a in (g, x, w)]
    found = linear.linear_vjp(arrays[0], None, arrays[1], arrays[2], None, needs=(True,) * 3)
    assert sum(device.activity.values()) - before == 4, "three copies to the device, one launch"
    for y, want, terms in zip(found, (g @ w, g.T @ x, g.sum(axis=0)), (n, rows, rows), strict=True):
        close(np.asarray(y), want, terms)
    to_x, to_w, to_bias = linear.linear_vjp(
        arrays[0], None, arrays[1], arrays[2], None, needs=(False, True, True)
    )
    assert to_x is None and np.array_equal(np.asarray(to_w), np.asarray(found[1]))
    assert np.array_equal(np.asarray(to_bias), np.asarray(found[2]))
    device.programs.recipes.clear()
