"""Checks of one row of the op table, on inputs drawn from the row's own domain."""

from __future__ import annotations

from typing import Any

from microgpt.errors import InputTypeError, missing_extra
from microgpt.ops.table import Op
from microgpt.testing.cases import Case
from microgpt.testing.gradcheck import gradcheck


def check_row(op: Op, case: Case, order: int = 2) -> None:
    """Everything that must hold for the gradients of `op` in one case.

    All that `gradcheck` checks, for both orders. It is Hypothesis that shrinks the case.

    Raises:
        GradcheckError: if something does not hold.
    """

    def function(*inputs: Any) -> Any:
        return case.call(op.function, *inputs, **case.params)

    function.__name__ = op.name
    floats = case.floats()
    if not floats or not (op.rules is not None or op.body is not None):
        return
    gradcheck(function, *case.inputs, wrt=floats, order=order, shrink=False)


def check_op(function: Any, examples: int = 50, order: int = 2) -> None:
    """Check the gradients of an op on `examples` drawn inputs: the one call a new op needs.

    The inputs come from the op's `domain`; without one, they are arrays of any sign of equal
    shapes. On a failure Hypothesis looks for the smallest inputs that fail.

    Args:
        function: what `mg.primitive` or `mg.fused` returned, or an `Op`.

    Raises:
        GradcheckError: if a gradient is wrong.
        MissingExtraError: if Hypothesis is not installed (extra: test).

    Example:
        >>> import microgpt as mg
        >>> @mg.primitive(vjp=lambda g, y, x: (g * mg.cos(x),))
        ... def wave(x):
        ...     '''sin x'''
        ...     return mg.sin(x)
        >>> mg.testing.check_op(wave)
    """
    op = getattr(function, "op", function)
    if not isinstance(op, Op):
        raise InputTypeError(
            "check_op takes an op made by mg.primitive or mg.fused; got "
            f"{type(function).__name__}; for other functions there is mg.testing.gradcheck"
        )
    try:
        from hypothesis import HealthCheck, given, settings
    except ImportError:
        raise missing_extra("hypothesis", "test", "drawing test inputs") from None
    from microgpt.testing.strategies import cases

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]
    )
    @given(case=cases(op))
    def check(case: Case) -> None:
        check_row(op, case, order)

    check()
