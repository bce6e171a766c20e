"""gradcheck: analytic gradients against central differences, in float64.

The cotangent is random and signed, because a sum of the outputs is blind to rules that forget a
normalisation (the gradient of Σ softmax is 0 for a wrong rule as well). The tolerance follows from
the estimated error of the numeric derivative; where that is too large to tell right from wrong, the
check does not pass but is *inconclusive*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from microgpt.errors import GradcheckError, InputError
from microgpt.tensor import Tensor, tensor
from microgpt.testing.behaviour import behaviour, still_the_same
from microgpt.testing.checking import Check, Settings, Stop, in_words
from microgpt.testing.report import GradReport, index_text
from microgpt.testing.subject import Subject
from microgpt.testing.values import first_order, second_order, signed

CODES = (
    "SHAPE", "DTYPE", "NONFINITE", "VALUE", "TIE", "INCONCLUSIVE", "LINEARITY", "ZEROCOT",
    "NONDET", "MUTATED", "ALIASED", "LAYOUT", "SECOND_ORDER",
)  # fmt: skip
"""What can be wrong. The first six belong together: they compare values and are always on."""


def gradcheck(
    function: Callable[..., Any],
    *inputs: Any,
    order: int = 1,
    wrt: Sequence[int] | int | None = None,
    kwargs: dict[str, Any] | None = None,
    checks: Sequence[str] | str = CODES,
    n_proj: int = 3,
    seed: int = 0,
    rtol: float = 1e-9,
    atol: float = 1e-9,
    backend: str | None = None,
    shrink: bool = True,
    raises: bool = True,
) -> GradReport:
    """Compare the gradients of `function` with finite differences.

    What is checked, with the code of a failure:
    the gradient has the input's shape (SHAPE) and dtype (DTYPE), is finite (NONFINITE) and equals
    the numeric derivative (VALUE), at a kink it lies between the slopes of both sides (TIE);
    it is linear in the gradient of the output (LINEARITY) and 0 where that is 0 (ZEROCOT); it is
    the same when asked again (NONDET); nothing that was given is changed (MUTATED) or handed back
    as a gradient (ALIASED); the memory layout of inputs and output gradient makes no difference
    (LAYOUT); with order 2, the gradient's own gradient is right too (SECOND_ORDER). Where the
    numeric derivative is too uncertain to decide, the check fails as INCONCLUSIVE.

    Args:
        function: of tensors to one tensor, or of scalars to one scalar.
        inputs: float64 tensors or NumPy arrays, or scalars and Python floats; others are passed on
            as they are, and so are Python floats beside arrays.
        order: 2 checks the gradients of the gradient as well.
        wrt: positions of the inputs to differentiate by, or one; by default all floats.
        kwargs: further arguments.
        checks: the codes to check for, or one; by default all.
        n_proj: how many random output gradients are tried where the Jacobian has more than 4,096
            entries, and how many random directions of the input; beside them 24 elements of each
            input and those at its edges are compared.
        seed: of the random output gradients and directions.
        rtol, atol: how much the two may differ beyond the estimated error of the numeric one;
            rtol is relative to Σ|∂out·cotangent|, so that cancellation is no failure; atol is in
            units of the input's largest derivative where that is below 1.
        backend: where the tensors are made; by default where they are, and for arrays the
            configured one.
        shrink: look for a smaller input that fails in the same way.
        raises: False returns the report of a failed check instead of raising.

    Raises:
        GradcheckError: if a check fails; the message names the argument, the worst element, both
            values and the pattern found; `.report` has all of it. What a gradient rule raised is
            a failure too: under the code of what was looked at (VALUE at first), and as the
            error's `__cause__`. What `function` itself raises at these inputs is passed on.
        InputError: if there is nothing to differentiate by, or a code or order does not exist.

    Example:
        >>> import microgpt as mg
        >>> x = mg.tensor([0.5, 2.0], dtype="float64")
        >>> print(mg.testing.gradcheck(lambda x: mg.sin(x) * x, x, order=2))
        <lambda>: 8 derivatives agree
    """
    __tracebackhide__ = True  # pytest then shows the line that called this
    checks = [checks] if isinstance(checks, str) else checks
    unknown = [c for c in checks if c not in CODES]
    if unknown:
        raise InputError(f"gradcheck knows no check {unknown[0]!r}; it has {', '.join(CODES)}")
    if order not in (1, 2):
        raise InputError(
            f"gradcheck checks gradients (order=1) and gradients of gradients (order=2); got "
            f"order={order!r}; for higher ones check a function that contains mg.grad"
        )
    subject = Subject(function, inputs, wrt, kwargs or {}, backend)
    settings = Settings(tuple(checks), order, n_proj, seed, rtol, atol)
    first = report = examine(subject, settings)
    if not report.ok and shrink:
        from microgpt.testing.shrink import smaller

        report = smaller(first.subject, settings, first)
    if not report.ok and (report.failures[0].rows or report.failures[0].code == "TIE"):
        hint = _only_here(report.subject, settings)
        if hint and report.shrunk and not _only_here(first.subject, settings):
            report, hint = first, ""  # what was found on the way is another failure
        report.hint = hint
    if raises and not report.ok:
        error = GradcheckError(str(report))
        error.report = report
        raise error from report.cause
    return report


def examine(subject: Subject, settings: Settings) -> GradReport:
    """One check of `subject`, up to the first failure."""
    check = Check(subject, settings)
    try:
        _run(check)
    except Stop:
        pass
    return check.report


def _only_here(subject: Subject, settings: Settings) -> str:
    """Whether the derivatives are wrong at this point only."""
    rng = np.random.default_rng(settings.seed + 1)
    inputs = list(subject.inputs)
    for i, x in subject.points.items():
        moved = x + 0.01 * rng.uniform(0.5, 1.5, x.shape) * np.where(x == 0, 1.0, np.abs(x))
        like = inputs[i]
        inputs[i] = type(like)(float(moved)) if subject.scalars else moved
        if isinstance(like, Tensor):
            inputs[i] = tensor(moved, backend=like.backend)
    try:
        with np.errstate(all="ignore"):
            fine = examine(subject.moved(inputs), settings).ok
    except Exception:  # the function does not accept such inputs: nothing is known
        return ""
    if not fine:
        return ""
    return (
        "nearby everything agrees: only this point is special, as where the inside of a relu, abs "
        "or max is at its kink (its slope there is a convention), or where the rule has a case of "
        "its own"
    )


def _run(check: Check) -> None:
    try:
        output = check.subject.value(check.points)
    except Exception as error:
        # Not the gradient is wrong: the function cannot be computed at all.
        error.add_note(
            f"gradcheck called {check.subject.name} with the inputs given, without "
            f"looking at gradients yet; {in_words(error)}"
        )
        raise
    if not np.isfinite(output).all():
        k = int(np.flatnonzero(~np.isfinite(output))[0])
        check.fail(
            "NONFINITE",
            f"the output is {output.reshape(-1)[k]} at {index_text(k, output.shape)}; required: "
            "inputs at which it is finite",
        )
    check.output = output
    cotangent = signed(check.rng, output.shape)
    grads = behaviour(check, cotangent)
    first_order(check, output, cotangent)
    if check.settings.order >= 2 and output.size and check.asked("SECOND_ORDER"):
        second_order(check, output)
    still_the_same(check, grads, cotangent)
