"""What must hold for gradients whatever their values are."""

from __future__ import annotations

from typing import Any

import numpy as np

from microgpt.testing.checking import Check
from microgpt.testing.report import host, index_text
from microgpt.testing.subject import LAYOUTS, Pass
from microgpt.testing.values import well_formed


def behaviour(check: Check, cotangent: np.ndarray) -> list[np.ndarray]:
    """All checks that need no numeric derivative; returns the gradients."""
    first = check.run(cotangent, twice=True)
    wrt = check.subject.wrt
    if first.output.dtype.kind == "f" and first.output.dtype != np.float64:
        check.fail(
            "DTYPE",
            f"the output is {first.output.dtype}; required: float64, the type of the inputs (is "
            "there a conversion, or a constant of another type, inside?)",
        )
    grads = [well_formed(check, i, g) for i, g in zip(wrt, first.gradients, strict=True)]
    if first.changed and check.asked("MUTATED"):
        check.fail("MUTATED", f"{' and '.join(first.changed)} changed during the backward pass")
    if first.aliased and check.asked("ALIASED"):
        names = ", ".join(check.subject.describe(wrt[k]) for k in first.aliased)
        check.fail(
            "ALIASED",
            f"the gradient by {names} shares memory with an input or the output: whoever "
            "changes one changes the other; return a new array",
        )
    # Gradients this small may be what rounding left of larger terms that cancel.
    small = 1e-3 * min(1.0, float(np.abs(first.output).max(initial=0.0)))
    if check.asked("NONDET"):
        _repeats(check, grads, first, cotangent)
    if check.asked("ZEROCOT"):
        _zero(check, cotangent)
    if check.asked("LINEARITY"):
        _linear(check, grads, cotangent, small)
    if check.asked("ALIASED"):
        for i, g, kept in zip(wrt, first.gradients, grads, strict=True):
            if not np.array_equal(host(g), kept):
                check.fail(
                    "ALIASED",
                    f"a gradient by {check.subject.describe(i)} that was handed out before was "
                    "changed by a later backward pass: the rule returns the same array again; "
                    "return a new one",
                )
    if check.asked("LAYOUT") and not check.subject.scalars:
        _layouts(check, grads, first.output, cotangent, small)
    return grads


def _repeats(check: Check, grads: list[np.ndarray], first: Pass, cotangent: np.ndarray) -> None:
    if first.trouble is not None:
        check.raised(first.trouble, "NONDET", "in a second backward pass over the same graph ")
    other = check.run(cotangent, code="NONDET", when="in a second call with the same inputs ")
    _same(check, "NONDET", grads, first.again, "differs between two backward passes")
    _same(check, "NONDET", grads, other.gradients, "differs between two calls")
    if not np.array_equal(first.output, other.output, equal_nan=True):
        check.fail("NONDET", "the output differs between two calls with the same inputs")


def still_the_same(check: Check, grads: list[np.ndarray], cotangent: np.ndarray) -> None:
    """After many calls the first one is repeated: does the rule depend on what was before?"""
    if check.asked("NONDET"):
        last = check.gradients(cotangent, code="NONDET", when="after many calls ")
        words = "differs between the first of many calls and one with the same inputs afterwards"
        _same(check, "NONDET", grads, last, words)


def _zero(check: Check, cotangent: np.ndarray) -> None:
    when = "with an output's gradient of 0 "
    found = check.gradients(cotangent * 0, code="ZEROCOT", when=when)
    for i, g in zip(check.subject.wrt, found, strict=True):
        if np.any(host(g) != 0):
            check.fail(
                "ZEROCOT",
                f"the gradient by {check.subject.describe(i)} is "
                f"{float(np.abs(host(g)).max()):.3g} where the output's gradient is 0",
            )


def _linear(check: Check, grads: list[np.ndarray], cotangent: np.ndarray, small: float) -> None:
    for factor in (-1024.0, 1 / 1024.0):
        if any(np.abs(g).max(initial=0.0) > 1e300 for g in grads):
            continue  # it would overflow
        when = f"for {factor:g} times the output's gradient "
        scaled = [
            host(g) / factor
            for g in check.gradients(cotangent * factor, code="LINEARITY", when=when)
        ]
        words = f"{when}is not {factor:g} times as large"
        _same(check, "LINEARITY", grads, scaled, words, 1e-10, small)


def _layouts(
    check: Check, grads: list[np.ndarray], output: np.ndarray, cotangent: np.ndarray, small: float
) -> None:
    for layout in LAYOUTS:
        where = f"for inputs in memory layout '{layout}'"
        found = check.run(cotangent, layout, code="LAYOUT", when=f"{where} ")
        words = f"is another one {where}"
        _same(check, "LAYOUT", grads, found.gradients, words, 1e-10, small)
        if not _close(output, found.output, 1e-10, small):
            check.fail("LAYOUT", f"the output {words}")


def _same(
    check: Check, code: str, want: list[Any], found: list[Any], words: str,
    rtol: float = 0.0, small: float = 0.0,
) -> None:  # fmt: skip
    for i, a, b in zip(check.subject.wrt, want, found, strict=True):
        b = host(b)
        name = check.subject.describe(i)
        if a.shape != b.shape:
            check.fail(code, f"the gradient by {name} {words}: its shape is {b.shape}")
        if not _close(a, b, rtol, small):
            k = int(np.argmax(np.nan_to_num(np.abs(a - b), nan=np.inf)))
            check.fail(
                code,
                f"the gradient by {name} {words}: {a.reshape(-1)[k]:.8g} and "
                f"{b.reshape(-1)[k]:.8g} at {index_text(k, a.shape)}",
            )


def _close(a: np.ndarray, b: np.ndarray, rtol: float, small: float) -> bool:
    if rtol == 0:
        return np.array_equal(a, b, equal_nan=True)
    bound = rtol * max(float(np.abs(a).max(initial=0.0)), small) + 1e-300
    return bool(np.all(np.isfinite(b))) and bool(np.all(np.abs(a - b) <= bound))
