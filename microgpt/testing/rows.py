"""Checks of one row of the op table, on inputs drawn from the row's own domain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from microgpt.errors import GradientError, InputTypeError, missing_extra
from microgpt.ops.table import Op
from microgpt.tensor import Tensor, tensor
from microgpt.testing.cases import Case
from microgpt.testing.gradcheck import gradcheck


def check_row(op: Op, case: Case, order: int = 2) -> None:
    """Everything that must hold for the gradients of `op` in one case.

    Shapes, dtypes, values against finite differences in float64 for both orders, linearity in the
    cotangent, repeatability, and that nothing was changed on the way.

    Raises:
        GradcheckError: if a gradient is wrong.
        GradientError: if it is not linear, not repeatable, or changes what it was given.
    """

    def function(*inputs: Any) -> Any:
        return case.call(op.function, *inputs, **case.params)

    function.__name__ = op.name
    floats = case.floats()
    if not floats or not (op.rules is not None or op.body is not None):
        return
    gradcheck(function, *case.inputs, wrt=floats, order=order)
    _check_cotangents(op, function, case, floats)


def _check_cotangents(op: Op, function: Callable[..., Any], case: Case, floats: Any) -> None:
    args: list[Any] = [
        tensor(x, requires_grad=i in floats) if isinstance(x, np.ndarray) else x
        for i, x in enumerate(case.inputs)
    ]
    before = [x.numpy() if isinstance(x, Tensor) else x for x in args]
    y = function(*args)
    if not isinstance(y, Tensor) or not y.requires_grad:
        return
    g = np.random.default_rng(3).standard_normal(y.shape)

    def gradients(cotangent: np.ndarray) -> list[np.ndarray]:
        for i in floats:
            args[i].grad = None
        y.backward(tensor(cotangent), retain_graph=True)
        return [
            args[i].grad.numpy() if args[i].grad is not None else np.zeros(args[i].shape)
            for i in floats
        ]

    once, again = gradients(g), gradients(g)
    zero, scaled = gradients(g * 0), gradients(g * 1024.0)
    for i, a, b, z, s in zip(floats, once, again, zero, scaled, strict=True):
        what = f"{op.name}: the gradient by input {i}"
        if not np.array_equal(a, b):
            raise GradientError(f"{what} differs between two passes over the same graph")
        if np.any(z != 0):
            raise GradientError(f"{what} is not 0 where the cotangent is 0")
        if not np.allclose(s, a * 1024.0, rtol=1e-10, atol=1e-9):
            raise GradientError(f"{what} is not linear in the cotangent")
    for i, (x, old) in enumerate(zip(args, before, strict=True)):
        if isinstance(x, Tensor) and not np.array_equal(x.numpy(), old, equal_nan=True):
            raise GradientError(f"{op.name} changed its input {i}")


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
