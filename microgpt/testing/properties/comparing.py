"""What the laws have in common: variables, gradients, and comparisons that say what differs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import microgpt as mg
from microgpt.testing.report import host, index_text

TOLERANCE = 1e-10


def leaf(values: Any) -> mg.Tensor:
    """A variable in float64."""
    return mg.tensor(values, dtype="float64", requires_grad=True)


def constant(values: Any) -> mg.Tensor:
    """A constant in float64."""
    return mg.tensor(values, dtype="float64")


def gradients(
    output: mg.Tensor, leaves: Sequence[mg.Tensor], cotangent: Any = None
) -> list[np.ndarray]:
    """What one backward pass leaves in the `.grad` of each leaf; zeros where it leaves nothing."""
    for x in leaves:
        x.grad = None
    output.backward(None if cotangent is None else constant(cotangent))
    return [np.zeros(x.shape) if x.grad is None else x.grad.numpy() for x in leaves]


def near(
    what: str, found: Any, want: Any, tolerance: float = TOLERANCE, scale: float = 1.0
) -> None:
    """Require equal numbers, up to `tolerance` times the largest of them or of `scale`."""
    a, b = host(found), host(want)
    if a.shape != b.shape:
        raise AssertionError(f"{what}: shape {a.shape}; required: {b.shape}")
    allowed = tolerance * max(scale, float(np.abs(b).max(initial=0.0)))
    with np.errstate(invalid="ignore"):
        away = np.abs(a - b)
    if not bool(np.all(away <= allowed)):
        k = int(np.argmax(np.nan_to_num(away, nan=np.inf)))
        raise AssertionError(
            f"{what}: {a.reshape(-1)[k]:.12g} at {index_text(k, a.shape)}; required: "
            f"{b.reshape(-1)[k]:.12g} within {allowed:.1g}"
        )


def same(what: str, found: Any, want: Any) -> None:
    """Require the same bits."""
    a, b = host(found), host(want)
    if (a.shape, a.dtype) != (b.shape, b.dtype):
        raise AssertionError(f"{what}: {a.dtype}{a.shape}; required: {b.dtype}{b.shape}")
    if a.tobytes() != b.tobytes():
        k = int(np.argmax((a != b).reshape(-1)))
        raise AssertionError(
            f"{what}: {a.reshape(-1)[k].item()!r} at {index_text(k, a.shape)}; required: the same "
            f"bits as {b.reshape(-1)[k].item()!r}"
        )


def zero(what: str, found: Any) -> None:
    """Require zeros, exactly."""
    a = host(found)
    if np.any(a != 0):
        k = int(np.argmax((a != 0).reshape(-1)))
        raise AssertionError(
            f"{what}: {a.reshape(-1)[k].item()!r} at {index_text(k, a.shape)}; required: exactly 0"
        )


def holds(condition: Any, message: str) -> None:
    """Require a condition."""
    if not condition:
        raise AssertionError(message)


def refused(what: str, call: Any, error: type[Exception]) -> None:
    """Require an error of a class."""
    try:
        result = call()
    except error:
        return
    raise AssertionError(f"{what} gave {host(result)!r}; required: a {error.__name__}")
