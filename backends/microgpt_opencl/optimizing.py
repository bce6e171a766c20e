"""Steps of optimizers, as expressions: all of Adam's step becomes one sweep over memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from microgpt_opencl.arrays import Array
from microgpt_opencl.fusion import defer


def running_mean(mean: Array, x: Array, *, beta: float, squared: bool) -> Array:
    op = "running_square" if squared else "running_mean"
    return defer(op, mean.dtype, mean, x, float(beta), float(1 - beta))


def adam_step(
    value: Array, mean: Array, square: Array, *, lr: float, correction: float, eps: float
) -> Array:
    return defer(
        "adam_step", value.dtype, value, mean, square, float(lr), float(correction), float(eps)
    )


KERNELS: dict[str, Callable[..., Any]] = {"running_mean": running_mean, "adam_step": adam_step}
