"""Attention on OpenCL against the NumPy kernels, with vectors and with small work-items."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.opencl import backend, needed, on, small_items

needed()

from microgpt_numpy import attention as numpy_attention  # noqa: E402
from microgpt_numpy.cached_attention import cached_attention  # noqa: E402
from microgpt_opencl import attention  # noqa: E402
from microgpt_opencl.arrays import view  # noqa: E402

NAME = "scaled_dot_product_attention"


@pytest.fixture(params=["vectors", "small items"])
def device(request):
    return backend().open() if request.param == "vectors" else small_items()


def drawn(rng: Any, dtype: str, *shapes: tuple[int, ...]) -> list[np.ndarray]:
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def agree(found: Any, want: Any, dtype: str) -> None:
    tolerance = 3e-5 if dtype == "float32" else 1e-12
    for have, true in zip(found, want, strict=True):
        values = np.asarray(have)
        assert values.shape == true.shape and values.dtype == true.dtype
        np.testing.assert_allclose(values, true, rtol=tolerance, atol=tolerance)


def both(
    device: Any, arrays: list[np.ndarray], g: np.ndarray, place: Any = on, **params: Any
) -> tuple[Any, Any]:
    """Output and gradients, by OpenCL and by NumPy."""
    results = []
    for module, put in ((attention, lambda x: place(device, x)), (numpy_attention, lambda x: x)):
        inputs = [put(x) for x in arrays]
        y, saved = module.KERNELS[NAME + "_saving"](*inputs, **params)
        grads = module.KERNELS[NAME + "_vjp"](
            put(g), saved, *inputs, needs=(True, True, True), **params
        )
        results.append((y, *grads))
    return tuple(results)  # pyright: ignore[reportReturnType]


# Every pair of sizes and type is a program to compile: few of them, or the first run takes minutes.
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(
    ("dtype", "lead", "n", "m", "head", "value"),
    [
        ("float32", (2, 3), 64, 64, 8, 8), ("float32", (2, 3), 33, 70, 8, 5),
        ("float32", (), 1, 2, 3, 1), ("float32", (4,), 65, 65, 1, 1),
        ("float32", (2, 1, 3), 7, 9, 8, 8), ("float64", (2, 3), 33, 70, 8, 5),
        ("float64", (2, 1, 3), 7, 9, 8, 5),
    ],
)  # fmt: skip
def test_shapes(device, dtype, causal, lead, n, m, head, value):
    rng = np.random.default_rng(0)
    *arrays, g = drawn(
        rng, dtype, (*lead, n, head), (*lead, m, head), (*lead, m, value), (*lead, n, value)
    )
    agree(*both(device, arrays, g, mask=None, causal=causal, scale=0.4), dtype)


@pytest.mark.parametrize("causal", [False, True])
def test_masks_and_broadcasting(device, causal):
    rng = np.random.default_rng(1)
    q, k, v, g = drawn(
        rng, "float32", (2, 3, 20, 8), (1, 3, 20, 8), (20, 8), (2, 3, 20, 8)
    )  # fmt: skip
    for shape in ((20, 20), (2, 1, 1, 20), (2, 3, 20, 20)):
        mask = rng.random(shape) > 0.4
        mask[..., 0] = True  # everybody sees something
        agree(*both(device, [q, k, v], g, mask=mask, causal=causal, scale=1.0), "float32")


def every_other(device: Any, x: np.ndarray) -> Any:
    wide = np.full((*x.shape[:-1], 2 * x.shape[-1]), np.nan, x.dtype)
    wide[..., ::2] = x
    y = on(device, wide)
    return view(y, x.shape, (*y.strides[:-1], 2), 0)


def last_row_first(device: Any, x: np.ndarray) -> Any:
    y = on(device, x[..., ::-1, :])
    *lead, row, one = y.strides
    return view(y, x.shape, (*lead, -row, one), (x.shape[-2] - 1) * row)


def heads_inside(device: Any, x: np.ndarray) -> Any:
    y = on(device, np.concatenate([np.full(3, np.nan, x.dtype), x.swapaxes(-2, -3).ravel()]))
    _, heads, rows, size = x.shape
    return view(y, x.shape, (rows * heads * size, size, heads * size, 1), 3)


@pytest.mark.parametrize("place", [every_other, last_row_first, heads_inside])
def test_any_strides(device, place):
    *arrays, g = drawn(np.random.default_rng(7), "float32", *[(2, 3, 35, 8)] * 4)
    agree(*both(device, arrays, g, place, mask=None, causal=True, scale=0.4), "float32")


@pytest.mark.parametrize(
    "shapes",
    [
        ((3, 9, 8), (9, 8), (2, 1, 9, 8)), ((2, 2, 1, 9, 8), (3, 9, 8), (1, 2, 3, 9, 8)),
        ((2, 1, 2, 2, 9, 8), (9, 8), (2, 9, 8)),
    ],
)  # fmt: skip
def test_leading_dimensions_are_repeated_and_gradients_summed(device, shapes):
    rng = np.random.default_rng(8)
    lead = np.broadcast_shapes(*[shape[:-2] for shape in shapes])
    *arrays, g = drawn(rng, "float32", *shapes, (*lead, 9, 8))
    for shape in ((9,), (9, 9), (*lead, 1, 9)):
        mask = rng.random(shape) > 0.4
        mask[..., 0] = True
        agree(*both(device, arrays, g, mask=mask, causal=False, scale=0.4), "float32")


def test_masks_lie_in_memory_in_any_way(device):
    rng = np.random.default_rng(9)
    *arrays, g = drawn(rng, "float32", *[(2, 3, 20, 8)] * 4)
    wide = rng.random((20, 40)) > 0.4
    rows = wide[:, :1]  # the same for all keys: hidden ones are NaN
    for mask in (wide[:, :20].T, wide[:, ::-2], np.broadcast_to(rows, (3, 20, 20)), rows):
        agree(*both(device, arrays, g, mask=mask, causal=False, scale=0.4), "float32")


def test_queries_and_keys_without_numbers(device):
    """All scores are 0: every query is the mean of the values that it sees."""
    shapes = ((2, 4, 0), (2, 5, 0), (2, 5, 1), (2, 4, 1))
    *arrays, g = drawn(np.random.default_rng(10), "float32", *shapes)
    agree(*both(device, arrays, g, mask=None, causal=True, scale=1.0), "float32")


def test_a_block_of_keys_fits_local_memory():
    room = 48 << 10
    for size in (2, 128, 700, 2000):
        keys = attention._keys(room, 8, size)
        assert keys * (size + 2) * 8 <= room
        assert keys == attention.KEYS or 2 * keys * (size + 2) * 8 > room


def test_a_mask_that_was_changed_is_noticed(device):
    rng = np.random.default_rng(2)
    q, k, v = (on(device, x) for x in drawn(rng, "float32", (5, 8), (5, 8), (5, 8)))
    mask = np.ones((5, 5), bool)
    params = dict(causal=False, scale=1.0)
    first = np.asarray(attention.KERNELS[NAME](q, k, v, mask=mask, **params))
    mask[:, 2:] = False
    second = np.asarray(attention.KERNELS[NAME](q, k, v, mask=mask, **params))
    assert np.abs(first - second).max() > 0.01


def test_nobody_to_look_and_nothing_to_see(device):
    for n, m in ((0, 3), (3, 0), (0, 0)):
        shapes = ((2, n, 4), (2, m, 4), (2, m, 4), (2, n, 4))
        *arrays, g = drawn(np.random.default_rng(3), "float32", *shapes)
        found, want = both(device, arrays, g, mask=None, causal=False, scale=1.0)
        agree(found, want, "float32")


@pytest.mark.parametrize("masked", [False, True])
def test_heads_side_by_side(device, masked):
    rng = np.random.default_rng(4)
    qkv, g = drawn(rng, "float32", (2, 37, 3 * 16), (2, 37, 16))
    mask = np.tri(37, k=2, dtype=bool) if masked else None
    params = dict(num_heads=2, mask=mask, causal=True, scale=0.35)
    results = []
    for module, put in ((attention, lambda x: on(device, x)), (numpy_attention, lambda x: x)):
        x = put(qkv)
        y, saved = module.KERNELS["self_attention_saving"](x, **params)
        for kept in (saved, y):  # another plugin may have computed the output
            (grad,) = module.KERNELS["self_attention_vjp"](put(g), kept, x, needs=(True,), **params)
            results.append((y, grad))
    agree(results[0], results[2], "float32")
    agree(results[1], results[2], "float32")


def test_a_part_of_an_array_side_by_side(device):
    rng = np.random.default_rng(11)
    qkv, g = drawn(rng, "float32", (3, 37, 3 * 16), (2, 37, 16))
    whole = on(device, qkv)
    x = view(whole, (2, *whole.shape[1:]), whole.strides, whole.strides[0])
    params = dict(num_heads=2, mask=None, causal=True, scale=0.35)
    kernels, true = attention.KERNELS, numpy_attention.KERNELS
    y, saved = kernels["self_attention_saving"](x, **params)
    (grad,) = kernels["self_attention_vjp"](on(device, g), saved, x, needs=(True,), **params)
    want, kept = true["self_attention_saving"](qkv[1:], **params)
    (slope,) = true["self_attention_vjp"](g, kept, qkv[1:], needs=(True,), **params)
    agree((y, grad), (want, slope), "float32")


@pytest.mark.parametrize("new", [1, 3])
def test_kept_keys_and_values(device, new):
    rng = np.random.default_rng(5)
    q, kv = drawn(rng, "float32", (2, new, 24), (2, 9, 48))
    found = attention.KERNELS["cached_attention"](
        on(device, q), on(device, kv), num_heads=3, scale=0.5
    )
    agree([found], [cached_attention(q, kv, num_heads=3, scale=0.5)], "float32")


def test_large_scores(device):
    """Forward and backward round scores in the same way, else the weights would not add up to 1."""
    rng = np.random.default_rng(6)
    *arrays, g = drawn(rng, "float32", (1, 6, 2), (1, 6, 2), (1, 6, 2), (1, 6, 2))
    arrays[0] *= 3000
    arrays[1] *= 30
    ones = np.ones_like(arrays[2])
    inputs = [on(device, x) for x in (arrays[0], arrays[1], ones)]
    params = dict(mask=None, causal=False, scale=0.7)
    y, saved = attention.KERNELS[NAME + "_saving"](*inputs, **params)
    grads = attention.KERNELS[NAME + "_vjp"](
        on(device, np.ones_like(g)), saved, *inputs, needs=(True, True, True), **params
    )
    # The weights of a query add up to 1, so the gradients of the values add up to the queries.
    assert np.asarray(grads[2]).sum() == pytest.approx(12, rel=1e-3)
