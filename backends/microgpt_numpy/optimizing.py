"""Kernels of optimizer steps, a stretch of memory at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from microgpt_numpy.rowwise import STRETCH, flat, stretches


def running_mean(mean: Any, x: Any, *, beta: float, squared: bool) -> Any:
    kind = mean.dtype.type
    y = np.empty(mean.shape, mean.dtype)
    before, new, out = flat(mean), flat(x), flat(y)
    old, share = kind(beta), kind(1 - beta)
    spare = np.empty(min(mean.size, STRETCH), mean.dtype)
    for part in stretches(mean.size):
        values, target = new[part], out[part]
        added = spare[: values.size]
        np.multiply(values, share, out=added)
        if squared:
            added *= values
        np.multiply(before[part], old, out=target)
        target += added
    return y


def adam_step(
    value: Any, mean: Any, square: Any, *, lr: float, correction: float, eps: float
) -> Any:
    kind = value.dtype.type
    y = np.empty(value.shape, value.dtype)
    start, direction, spread, out = flat(value), flat(mean), flat(square), flat(y)
    for part in stretches(value.size):
        step = out[part]
        np.sqrt(spread[part], out=step)
        step *= kind(correction)
        step += kind(eps)
        np.divide(direction[part], step, out=step)
        step *= kind(lr)
        np.subtract(start[part], step, out=step)
    return y


KERNELS: dict[str, Callable[..., Any]] = {"running_mean": running_mean, "adam_step": adam_step}
