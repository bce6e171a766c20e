"""Kernels that work in portions are right where there are many, and a short one at the end.

The portions are made so small that the inputs which the properties draw have several of them.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from microgpt_numpy import attention, conv, elementwise, network, optimizing, rowwise

from microgpt.ops import TABLE
from microgpt.testing.properties import examine
from tests import oracles  # noqa: F401  (registers `forward_oracle`)

SIZES = [
    (rowwise, "STRETCH", 3), (optimizing, "STRETCH", 3), (elementwise, "STRETCH", 3),
    (attention, "BUDGET", 2), (conv, "PORTION", 1), (conv, "FEW", 3),
]  # fmt: skip
CACHES = [rowwise.stretches, attention._blocks, conv._plan]
OPS = [
    "adam_step", "avg_pool2d", "cached_attention", "conv2d", "erf", "gelu", "layer_norm",
    "max_pool2d", "rms_norm", "running_mean", "scaled_dot_product_attention", "self_attention",
    "silu",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def small_portions() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module, name, size in SIZES:
            assert getattr(module, name) > 100 * size
            patch.setattr(module, name, size)
        # Rows per block are no constant: two of them, however many queries there are.
        patch.setattr(attention, "_rows_per_block", lambda n: 2)
        for cache in CACHES:
            cache.cache_clear()
        yield
    for cache in CACHES:
        cache.cache_clear()


@pytest.mark.parametrize("name", OPS)
def test_in_portions_the_kernel_is_the_formula(name: str) -> None:
    examine("forward_oracle", TABLE[name])


@pytest.mark.parametrize("name", [name for name in OPS if name != "erf"])
def test_in_portions_the_kernel_and_its_gradient_are_the_definition(name: str) -> None:
    examine("fused_equals_body", TABLE[name])


def test_there_are_several_portions() -> None:
    assert rowwise.stretches(7) == (slice(0, 3), slice(3, 6), slice(6, 7))
    assert rowwise.stretches(5, length=2) == tuple([slice(i, i + 1) for i in range(5)])
    blocks, _ = attention._blocks(2, 1, 3, 3, True)
    assert len(blocks) == 4


def test_sums_of_columns_in_the_two_ways_are_one() -> None:
    """`column_sums` has one way for few rows and one for many."""
    rng = np.random.default_rng(0)
    for count in (1, 4095, 4096, 4097, 9000):
        rows = rng.standard_normal((count, 3))
        np.testing.assert_allclose(network.column_sums(rows), rows.sum(axis=0), rtol=1e-10)
