"""Kernels of optimizer steps, a stretch of memory at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from microgpt_numpy.rowwise import STRETCH, flat, stretches


def running_mean(mean: Any, x: Any, *, beta: float, squared: bool) -> Any:
    y = np.empty(mean.shape, mean.dtype)
    if mean.size <= STRETCH:
        _mixed(mean, x, y, np.empty(x.shape, x.dtype), beta, squared)
        return y
    before, new, out = flat(mean), flat(x), flat(y)
    spare = np.empty(STRETCH, mean.dtype)
    for part in stretches(mean.size):
        values = new[part]
        _mixed(before[part], values, out[part], spare[: values.size], beta, squared)
    return y


def _mixed(before: Any, new: Any, out: Any, spare: Any, beta: float, squared: bool) -> None:
    kind = before.dtype.type
    np.multiply(new, kind(1 - beta), out=spare)
    if squared:
        spare *= new
    np.multiply(before, kind(beta), out=out)
    out += spare


def adam_step(
    value: Any, mean: Any, square: Any, *, lr: float, correction: float, eps: float
) -> Any:
    y = np.empty(value.shape, value.dtype)
    if value.size <= STRETCH:
        _stepped(value, mean, square, y, lr, correction, eps)
        return y
    start, direction, spread, out = flat(value), flat(mean), flat(square), flat(y)
    for part in stretches(value.size):
        _stepped(start[part], direction[part], spread[part], out[part], lr, correction, eps)
    return y


def _stepped(
    value: Any, mean: Any, square: Any, out: Any, lr: float, correction: float, eps: float
) -> None:
    kind = value.dtype.type
    np.sqrt(square, out=out)
    out *= kind(correction)
    out += kind(eps)
    np.divide(mean, out, out=out)
    out *= kind(lr)
    np.subtract(value, out, out=out)


KERNELS: dict[str, Callable[..., Any]] = {"running_mean": running_mean, "adam_step": adam_step}
