"""Smaller inputs that fail in the same way: fewer elements first, then rounder numbers."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from microgpt.tensor import Tensor, tensor
from microgpt.testing.report import GradReport
from microgpt.testing.subject import Subject

if TYPE_CHECKING:
    from microgpt.testing.gradcheck import Settings

SECONDS = 5.0
"""After so long the smallest input found so far is good enough."""


def smaller(subject: Subject, settings: Settings, report: GradReport) -> GradReport:
    """The report of the smallest failing inputs that can be found from those of `report`."""
    from microgpt.testing.gradcheck import examine

    before, kind = report.failures[0], type(report.cause)
    code = before.code
    end = perf_counter() + SECONDS
    progress = True
    while progress and perf_counter() < end:
        progress = False
        for inputs in _candidates(subject.inputs, subject.wrt):
            if perf_counter() > end:
                break
            try:
                with np.errstate(all="ignore"):
                    found = examine(subject.moved(inputs), settings)
            except Exception:  # the function does not accept such inputs
                continue
            alike = found.failures and found.failures[0].code == code
            if alike and type(found.cause) is kind:
                subject, report, progress = found.subject, found, True
                report.shrunk, report.before = True, before
                break
    return report


def _candidates(inputs: list[Any], wrt: list[int]) -> Iterator[list[Any]]:
    """Inputs that are smaller or simpler in one respect."""
    arrays = {
        i: (x.numpy() if isinstance(x, Tensor) else x)
        for i, x in enumerate(inputs)
        if isinstance(x, (Tensor, np.ndarray))
    }

    def replaced(**changes: np.ndarray) -> list[Any]:
        made = list(inputs)
        for key, value in changes.items():
            i = int(key[1:])
            like = inputs[i]
            made[i] = tensor(value, backend=like.backend) if isinstance(like, Tensor) else value
        return made

    # Every axis of one length is cut in all inputs at once, so that they still fit together.
    lengths = sorted({n for x in arrays.values() for n in x.shape if n > 1}, reverse=True)
    for n in lengths:
        for keep in (slice(0, n // 2), slice(n // 2, n), slice(0, n - 1), slice(1, n)):
            changes = {}
            for i, x in arrays.items():
                cut = tuple([keep if m == n else slice(None) for m in x.shape])
                changes[f"x{i}"] = x[cut]
            yield replaced(**changes)
    for i, x in arrays.items():
        for axis, n in enumerate(x.shape):
            if n > 1:
                cut = [slice(None)] * x.ndim
                cut[axis] = slice(0, 1)
                yield replaced(**{f"x{i}": x[tuple(cut)]})
    for i in wrt:
        x = arrays.get(i)
        if x is None:
            yield from _rounder(inputs, i)
            continue
        for simple in (np.zeros_like(x), np.ones_like(x), np.round(x), np.round(x, 1)):
            better = _complexity(simple) < _complexity(x)
            if better:
                yield replaced(**{f"x{i}": simple})


def _rounder(inputs: list[Any], i: int) -> Iterator[list[Any]]:
    """Inputs with a shorter number at `i`."""
    x = float(inputs[i])
    for simple in (0.0, 1.0, float(round(x)), round(x, 1)):
        if _complexity(np.asarray(simple)) < _complexity(np.asarray(x)):
            yield [*inputs[:i], type(inputs[i])(simple), *inputs[i + 1 :]]


def _complexity(x: np.ndarray) -> int:
    """How long the numbers are when written."""
    return sum(len(repr(v)) - (v in (0.0, 1.0)) for v in x.reshape(-1).tolist())
