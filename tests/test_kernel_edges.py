"""Kernels at the edges: nothing to compute, targets that are no classes, numbers that overflow."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt.errors import ShapeError
from microgpt.ops import TABLE

RNG = np.random.default_rng(0)


# ---- targets -----------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [3, 100])
@pytest.mark.parametrize("target", [10**9, -(10**9), 4, -1])
def test_a_bad_target_costs_no_memory(n: int, target: int) -> None:
    """Once the memory was as large as the target."""
    targets = np.zeros(n, dtype=np.int64)
    mg.cross_entropy(mg.zeros((n, 4)), mg.tensor(targets))  # whatever is loaded once
    targets[-1] = target
    tracemalloc.start()
    try:
        with pytest.raises(ShapeError, match=f"0 to 3 .*got .*{abs(target)}"):
            mg.cross_entropy(mg.zeros((n, 4)), mg.tensor(targets))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.parametrize("n", [0, 3, 100])
@pytest.mark.parametrize("ignored", [-100, 2, 9])
def test_the_loss_of_few_and_many_targets_is_that_of_the_formula(n: int, ignored: int) -> None:
    x, target = RNG.standard_normal((n, 4)), RNG.integers(0, 4, n)
    target[n // 2 :] = ignored
    counts = target != ignored
    p = np.exp(x) / np.exp(x).sum(axis=1, keepdims=True)
    losses = -np.log(p[np.arange(n), np.where(counts, target, 0)])
    want = losses[counts].mean() if counts.any() else 0.0
    found = mg.cross_entropy(mg.tensor(x), mg.tensor(target), ignore_index=ignored)
    np.testing.assert_allclose(found.item(), want, rtol=1e-12)


def test_logits_with_the_classes_last_are_told_how_to_become_rows() -> None:
    logits, target = mg.zeros((2, 3, 5)), mg.zeros((2, 3), dtype="int64")
    with pytest.raises(ShapeError, match=r"logits\.reshape\(\(-1, 5\)\)"):
        mg.cross_entropy(logits, target)
    assert mg.cross_entropy(logits.reshape((-1, 5)), target.reshape(-1)).item() > 0


# ---- attention ---------------------------------------------------------------------------------


@pytest.mark.parametrize("lead", [(), (2,), (2, 3), (2, 0), (2, 1, 3), (2, 0, 3), (0, 2, 2)])
@pytest.mark.parametrize(("n", "m"), [(0, 4), (3, 4), (0, 0), (3, 0)])
def test_attention_where_there_is_nothing_to_see_or_nobody_who_looks(
    lead: tuple[int, ...], n: int, m: int
) -> None:
    def arrays() -> list[Any]:
        rng = np.random.default_rng(0)
        shapes = (*lead, n, 2), (*lead, m, 2), (*lead, m, 5)
        return [mg.tensor(rng.standard_normal(shape), requires_grad=True) for shape in shapes]

    for _ in range(3):  # what lies in fresh memory is not always wrong
        waste = np.full((200, 7), np.nan)
        del waste
        op, params = TABLE["scaled_dot_product_attention"], dict(mask=None, causal=False, scale=0.5)
        inputs, same = arrays(), arrays()
        y = mg.scaled_dot_product_attention(*inputs, scale=0.5)
        want = op.body(*same, **params)
        assert y.shape == want.shape
        y.sum().backward()
        if want.requires_grad:
            want.sum().backward()
        np.testing.assert_allclose(y.numpy(), want.numpy(), atol=1e-12)
        for a, b in zip(inputs, same, strict=True):
            expected = np.zeros(a.shape) if b.grad is None else b.grad.numpy()
            np.testing.assert_allclose(a.grad.numpy(), expected, atol=1e-12)


# ---- large numbers -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["layer_norm", "rms_norm"])
def test_norms_of_float16_do_not_overflow(name: str) -> None:
    """768 squares of numbers around 12 add up to more than float16 can hold."""
    x = (RNG.standard_normal((2, 768)) * 12 + 5).astype(np.float16)
    w, g = (RNG.standard_normal(n).astype(np.float16) for n in (768, (2, 768)))

    def computed(dtype: str) -> list[np.ndarray]:
        a, b = (mg.tensor(v.astype(dtype), requires_grad=True) for v in (x, w))
        y = getattr(mg, name)(a, b)
        y.backward(mg.tensor(g.astype(dtype)))
        assert str(y.dtype) == str(a.grad.dtype) == str(b.grad.dtype) == dtype
        return [v.numpy().astype(np.float64) for v in (y, a.grad, b.grad)]

    for found, want in zip(computed("float16"), computed("float64"), strict=True):
        np.testing.assert_allclose(found, want, rtol=2e-3, atol=2e-3 * np.abs(want).max())


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("approximate", ["none", "tanh"])
@pytest.mark.parametrize(
    ("dtype", "size"), [("float32", 1e20), ("float32", 3e38), ("float64", 1e300)]
)
def test_gelu_of_large_numbers(dtype: str, size: float, approximate: str) -> None:
    x = mg.tensor(np.array([size, -size]), dtype=dtype, requires_grad=True)
    y = mg.gelu(x, approximate=approximate)
    y.sum().backward()
    np.testing.assert_array_equal(y.numpy(), [x.numpy()[0], 0.0])
    np.testing.assert_allclose(x.grad.numpy(), [1.0, 0.0], atol=1e-30)


@pytest.mark.parametrize("key", [slice(-9, None, -1), slice(-6, None, -1), slice(-5, None, -1)])
def test_downward_slices_from_before_the_first_element(key: slice) -> None:
    x = mg.tensor(np.arange(5.0), requires_grad=True)
    y = x[key]
    assert y.tolist() == np.arange(5.0)[key].tolist()
    y.sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [float(i in y.tolist()) for i in range(5)]
