"""Elementwise kernels against mpmath at 40 digits, over the whole range in which they matter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

import microgpt as mg
from microgpt.ops import TABLE

Exact = Callable[[Any], Any]

# From and to where, and the function; the bound is the kit's default, 4 ulp, but for one.
UNARY: dict[str, tuple[float, float, Exact]] = {
    "exp": (-80.0, 80.0, mpmath.exp),
    "expm1": (-5.0, 80.0, mpmath.expm1),
    "log": (1e-30, 1e4, mpmath.log),
    "log1p": (-0.9, 1e4, mpmath.log1p),
    "sqrt": (0.0, 1e6, mpmath.sqrt),
    "sin": (-50.0, 50.0, mpmath.sin),
    "cos": (-50.0, 50.0, mpmath.cos),
    "tan": (-50.0, 50.0, mpmath.tan),
    "tanh": (-12.0, 12.0, mpmath.tanh),
    "sigmoid": (-80.0, 40.0, lambda x: 1 / (1 + mpmath.exp(-x))),
    "softplus": (-80.0, 80.0, lambda x: mpmath.log1p(mpmath.exp(x))),
    "erf": (-6.5, 6.5, mpmath.erf),
}


BOUNDS = {("erf", "float32"): 0.6}  # computed in float64 and rounded once


def ulps_off(name: str, dtype: str) -> float:
    """The largest error of the NumPy kernel, in units in the last place."""
    low, high, exact = UNARY[name]
    rng = np.random.default_rng(0)
    near_zero = rng.uniform(-1, 1, 40) * 10.0 ** -rng.integers(1, 12, 40)
    x = np.concatenate([np.linspace(low, high, 301), rng.uniform(low, high, 300), near_zero])
    x = x[(x >= low) & (x <= high)].astype(dtype)
    found = getattr(mg, name)(mg.tensor(x)).numpy()
    with mpmath.workdps(40):
        want = [exact(mpmath.mpf(float(v))) for v in x]
        space = np.spacing(np.abs(np.array([float(w) for w in want]).astype(dtype)))
        away = [abs(mpmath.mpf(float(y)) - w) / float(s)
                for y, w, s in zip(found, want, space, strict=True)]  # fmt: skip
    return float(max(away))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", UNARY)
def test_accurate_to_four_units_in_the_last_place(name: str, dtype: str) -> None:
    assert ulps_off(name, dtype) <= BOUNDS.get((name, dtype), 4.0)


def test_no_elementwise_function_of_real_numbers_is_left_out() -> None:
    rounded = {op.name for op in TABLE.values() if op.elementwise and op.floats and op.arity == 1}
    own = {name for name in rounded if TABLE[name].function.__module__.startswith("microgpt.")}
    assert own == set(UNARY)
