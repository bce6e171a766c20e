"""Expressions that wait: what runs together, what is kept, and that nobody can tell."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import microgpt as mg
from microgpt.errors import ShapeError
from tests.opencl import backend, needed, on, small_items

needed()


def style(name: str):
    return backend().open() if name == "vectors" else small_items()


from microgpt_opencl import fusion  # noqa: E402

STYLES = ("vectors", "small items")
RNG = np.random.default_rng(0)


def launched(device, run):
    """How often which kernel was launched meanwhile."""
    before = dict(device.activity)
    run()
    return {k: n - before.get(k, 0) for k, n in device.activity.items() if n != before.get(k, 0)}


def test_a_whole_expression_is_one_kernel():
    device = backend().open()
    x, y = (on(device, RNG.standard_normal((40, 50)).astype("float32")) for _ in range(2))
    z = (x * 2.0 + y) / (y * y + 1.0)
    assert z.block is None
    work = launched(device, lambda: backend().synchronize() or np.asarray(z))
    assert [k for k in work if "copy" not in k] == ["multiply+add+multiply+add+divide"]


@pytest.mark.parametrize("name", STYLES)
def test_what_runs_together_does_not_change_the_bits(name):
    device = style(name)
    a, b = (RNG.standard_normal((33, 70)).astype("float32") for _ in range(2))
    x, y = on(device, a), on(device, b)
    together = np.asarray(x * y + x)
    product = x * y
    np.asarray(product)  # computed by itself
    assert np.array_equal(np.asarray(product + x), together)
    assert np.array_equal(together, a * b + a)  # each step is rounded, as by NumPy


def test_what_somebody_still_holds_is_written_in_the_same_sweep():
    device = backend().open()
    x = on(device, np.ones((64, 64), "float32"))
    held = x * 3.0
    result = held + 1.0
    work = launched(device, lambda: np.asarray(result))
    assert held.block is not None, "the product would have to be computed again"
    assert work.pop("copy to host") == 1 and len(work) == 1
    assert np.asarray(held).max() == 3.0


def test_what_nobody_holds_takes_no_memory():
    device = backend().open()
    x = on(device, np.ones((512, 512), "float32"))
    np.asarray(x * 2.0 + 1.0)
    gc.collect()
    used = device.pool.used
    y = x
    for _ in range(10):
        y = y * 1.5
    z = np.asarray(y)
    assert z.max() == pytest.approx(1.5**10)
    assert device.pool.used <= used + y.size * 4 * 1.3


def test_an_intermediate_result_of_nobody_is_not_written():
    from microgpt_opencl.elementwise import KERNELS
    from microgpt_opencl.fusion import _collect

    x = on(backend().open(), np.ones(10, "float32"))
    result = KERNELS["exp"](x * 2.0)  # not inside of assert, which would hold its parts
    kept = _collect(result).kept
    assert kept == (1,)
    held = x * 2.0
    result = KERNELS["exp"](held)
    kept = _collect(result).kept
    assert kept == (0, 1)


def test_endless_chains_are_computed_on_the_way():
    device = backend().open()
    x = on(device, np.zeros(100, "float32"))
    for _ in range(1000):
        x = x + 1.0
        assert x.weight <= 40
    assert np.asarray(x).max() == 1000.0


@pytest.mark.parametrize("name", STYLES)
@pytest.mark.parametrize("size", [1, 15, 16, 17, 63, 64, 65, 255, 256, 257, 5000])
def test_ends_of_rows(name, size):
    """Rows that are no whole number of vectors, with a row, a column and a number broadcast."""
    device = style(name)
    a, row, column = (RNG.standard_normal(s).astype("float32") for s in ((3, size), size, (3, 1)))
    found = np.asarray(on(device, a) * on(device, row) + on(device, column) * 2.0)
    np.testing.assert_allclose(found, a * row + column * 2, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", STYLES)
@pytest.mark.parametrize("shape", [(5, 6, 7), (80, 90, 2), (100, 3, 40)])
def test_strides(name, shape):
    """Transposed, reversed and stepped inputs, together with ordinary ones."""
    from microgpt_opencl.movement import flip, permute_dims, slice_

    device = style(name)
    a = RNG.standard_normal(shape).astype("float32")
    b = RNG.standard_normal(shape[::-1]).astype("float32")
    x, y = on(device, a), on(device, b)
    turned = permute_dims(y, axes=(2, 1, 0))
    assert np.array_equal(np.asarray(x + turned), a + b.T)
    assert np.array_equal(np.asarray(turned * 2.0), b.T * 2)
    assert np.array_equal(np.asarray(flip(x, axis=(0, 2)) + turned), a[::-1, :, ::-1] + b.T)
    key = tuple([(n - 1, -1, -2) for n in shape])
    assert np.array_equal(np.asarray(slice_(x, key=key) + 1.0), a[::-2, ::-2, ::-2] + 1)


def test_results_keep_the_order_of_their_inputs():
    from microgpt_opencl.movement import permute_dims

    device = backend().open()
    x = permute_dims(on(device, np.ones((4, 5, 6), "float32")), axes=(2, 0, 1))
    y = x * 2.0
    np.asarray(y)
    assert y.strides == x.strides


@pytest.mark.parametrize("name", STYLES)
@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 5, 2)])
def test_nothing_at_all(name, shape):
    x = on(style(name), np.zeros(shape, "float32"))
    assert np.asarray(x * 2.0 + x).shape == shape


def test_large_arguments_do_not_disturb_their_neighbours():
    """PoCL's sine of a vector is wrong everywhere if one element is large."""
    values = np.linspace(0.001, 1, 32).astype("float32")
    values[3], values[20], values[21] = 1e10, np.inf, np.nan
    x = mg.tensor(values, backend="opencl")
    with np.errstate(invalid="ignore"):
        for op, true in ((mg.sin, np.sin), (mg.cos, np.cos), (mg.tan, np.tan)):
            np.testing.assert_allclose(op(x).numpy(), true(values.astype("float64")), rtol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("odd", [0.0, -0.0, 1e-310, np.inf, np.nan, -1.0, 1e300, 1e-300])
@pytest.mark.parametrize("n", [5, 8, 16, 33])
def test_odd_bases_of_powers_do_not_disturb_their_neighbours(dtype, odd, n):
    """PoCL's power of a vector of float64 is wrong elsewhere if one element is 0, say."""
    x = RNG.uniform(0.01, 3, n)
    x[n // 2] = odd
    with np.errstate(all="ignore"):
        x = x.astype(dtype)
        exponents = RNG.uniform(-2, 3, n).astype(dtype)
        t = mg.tensor(x, backend="opencl")
        for found, want in (
            (t**1.5, x ** np.asarray(1.5, dtype)),
            (t ** mg.tensor(exponents, backend="opencl"), x**exponents),
        ):
            np.testing.assert_allclose(found.numpy(), want, rtol=64 * np.finfo(dtype).eps)


def test_more_elements_than_kernels_can_count_are_refused():
    x = mg.ones((1, 1), backend="opencl")
    with pytest.raises(ShapeError, match=r"2³¹ - 1 elements; got shape \(65536, 32768\)"):
        mg.broadcast_to(x, (65536, 32768))
    column, row = mg.ones((65536, 1), backend="opencl"), mg.ones((1, 32768), backend="opencl")
    with pytest.raises(ShapeError, match="2³¹ - 1 elements"):
        column + row


def test_nan_and_infinities_go_through():
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 3e38], "float32")
    t = mg.tensor(x, backend="opencl")
    with np.errstate(all="ignore"):
        assert np.array_equal((t * 2 - t).numpy(), x * 2 - x, equal_nan=True)
        assert np.array_equal(
            mg.maximum(t, t[::-1]).numpy(), np.maximum(x, x[::-1]), equal_nan=True
        )
        assert np.array_equal(mg.relu(t).numpy(), np.maximum(x, 0), equal_nan=True)
        assert np.array_equal(mg.isfinite(t).numpy(), np.isfinite(x))


def test_small_steps_of_gradient_descent_are_one_launch():
    from microgpt_opencl.elementwise import add_scaled
    from microgpt_opencl.siblings import LARGEST, MOST

    device = backend().open()
    sizes = [*range(1, 2 * MOST), LARGEST + 1]
    values = [RNG.standard_normal(n).astype("float32") for n in sizes]
    p, g = [on(device, v) for v in values], [on(device, v * 2) for v in values]
    steps = [add_scaled(a, b, scale=-0.1) for a, b in zip(p, g, strict=True)]
    other = add_scaled(p[3], g[3], scale=5.0)
    work = launched(device, lambda: [np.asarray(y) for y in steps])
    assert work.pop("copy to host") == len(sizes)
    assert work == {"add_scaled_many": 2, "add_scaled": 1}, "the large one by itself"
    for y, v in zip(steps, values, strict=True):
        assert np.array_equal(np.asarray(y), v + (v * 2) * np.float32(-0.1)), "the same bits"
    assert np.array_equal(np.asarray(other), values[3] + values[3] * 2 * np.float32(5))


def test_steps_that_nobody_wants_are_forgotten():
    from microgpt_opencl.elementwise import add_scaled

    device = backend().open()
    x = on(device, np.ones(10, "float32"))
    for i in range(500):
        y = add_scaled(x, x, scale=0.5), add_scaled(x, x, scale=float(i))
    assert sum(map(len, device.siblings.values())) < 100
    del y
    y = add_scaled(x, x, scale=2.0)
    work = launched(device, lambda: np.asarray(y))
    assert work == {"add_scaled": 1, "copy to host": 1}
    assert np.asarray(y).tolist() == [3.0] * 10


@pytest.mark.parametrize("swapped", [False, True])
def test_steps_of_one_launch_that_meet_in_one_expression(swapped):
    """The smaller one has to be computed first, and takes the other, already listed, along."""
    from microgpt_opencl.elementwise import add_scaled

    device = backend().open()
    values = np.arange(12, dtype="float32").reshape(4, 3), np.array([1, 2, 3], "float32")
    large, small = (
        add_scaled(on(device, v), on(device, np.ones_like(v)), scale=-0.5) for v in values
    )
    want = (values[0] - 0.5) * (values[1] - 0.5)
    work = launched(device, lambda: np.asarray(small * large if swapped else large * small))
    assert work == {"add_scaled_many": 1, "multiply": 1, "copy to host": 1}
    np.testing.assert_array_equal(np.asarray(small * large), want)


def test_nothing_is_kept_because_siblings_met(monkeypatch):
    from microgpt_opencl.elementwise import add_scaled

    device = backend().open()
    kept = []
    follow = fusion._follow
    monkeypatch.setattr(fusion, "_follow", lambda r, w: kept.append(w.kept) or follow(r, w))
    x, y = on(device, np.ones((4, 3), "float32")), on(device, np.ones(3, "float32"))
    z = (add_scaled(x, x, scale=0.5) * add_scaled(y, y, scale=0.5) + 1.0) * 2.0 - 3.0
    assert np.asarray(z).tolist() == [[3.5] * 3] * 4
    assert kept == [(3,)], "the last of four results, the others are nobody's"


def test_what_comes_from_the_host_meets_no_work_in_flight():
    """A block that went back to the pool may still be read by work that was not even begun."""
    device = backend().open()
    n = 300_000
    results = []
    for i in range(40):
        x = on(device, np.full(n, i, "float32"))
        results.append(fusion.realised(x * 2.0))
        del x
    assert [float(np.asarray(y)[-1]) for y in results] == [2.0 * i for i in range(40)]


def test_waiting_data_does_not_pile_up():
    device = backend().open()
    device.finish()
    device.pool.trim()
    values = np.ones(1 << 16, "float32")
    most = 0
    for _ in range(200):  # nothing here waits for the device by itself
        x = on(device, values)
        y = fusion.realised(x * 2.0)
        most = max(most, device.pool.held)
    del y
    assert most < 200 * values.nbytes / 4, "blocks are used again"


def test_the_host_does_not_run_away():
    from microgpt_opencl.device import AHEAD

    device = backend().open()
    x = on(device, np.ones(10, "float32"))
    most = 0
    for _ in range(5 * AHEAD):
        y = fusion.realised(x * 2.0)
        most = max(most, device.launches - device.finished)
    assert AHEAD < most <= 2 * AHEAD + device.together
    assert np.asarray(y).tolist() == [2.0] * 10
