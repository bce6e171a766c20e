"""Checks of one row of the op table, on inputs drawn from the row's own domain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from microgpt.errors import InputError, InputTypeError, missing_extra
from microgpt.ops.table import Op
from microgpt.tensor import tensor
from microgpt.testing.cases import Case
from microgpt.testing.gradcheck import CODES, gradcheck


def as_function(op: Op, case: Case) -> Callable[..., Any]:
    """The op as a function of the inputs of `case`, with its parameters filled in."""

    def function(*inputs: Any) -> Any:
        return case.call(op.function, *inputs, **case.params)

    function.__name__ = op.name
    return function


def check_row(op: Op, case: Case, order: int = 2, checks: Sequence[str] = CODES) -> None:
    """Everything that `gradcheck` checks, for the gradients of `op` in one case.

    It is Hypothesis that shrinks the case.

    Raises:
        GradcheckError: if something does not hold.
    """
    floats = case.floats()
    if not floats or (op.rules is None and op.body is None):
        return
    # Called plainly, the op itself makes a line that repeats the failure and can be pasted.
    plain = case.call is Case((), {}).call
    function = op.function if plain else as_function(op, case)
    gradcheck(
        function, *case.inputs, wrt=floats, kwargs=case.params if plain else {}, order=order,
        checks=checks, shrink=False,
    )  # fmt: skip


def call(op: Op, case: Case, given: Mapping[int, Any] | None = None, dtype: Any = None) -> Any:
    """The tensor that `op` makes of the inputs of `case`, with those in `given` as they are."""

    def made(x: Any) -> Any:
        if not isinstance(x, np.ndarray):
            return x
        return tensor(x, dtype if x.dtype.kind == "f" else None)

    given = given or {}
    inputs = [given[i] if i in given else made(x) for i, x in enumerate(case.inputs)]
    params = {k: made(v) for k, v in case.params.items()}
    return case.call(op.function, *inputs, **params)


def cotangent_for(shape: tuple[int, ...]) -> np.ndarray:
    """The gradient of an output that `run` starts from: numbers of both signs, none of them 0."""
    return np.cos(np.arange(float(np.prod(shape)))).reshape(shape)


def run(
    op: Op, case: Case, dtype: Any = None, cotangents: Callable[..., Any] | None = None
) -> tuple[np.ndarray, list[np.ndarray | None]]:
    """Output and gradients of one call.

    Args:
        dtype: of the floats, by default their own.
        cotangents: joins the cotangents of two calls for one of both.
    """
    leaves = {i: tensor(case.inputs[i], dtype, requires_grad=True) for i in case.floats()}
    y = call(op, case, leaves, dtype)
    if y.requires_grad:
        g = cotangent_for(y.shape)
        if cotangents is not None:
            half = (y.shape[0] // 2, *y.shape[1:])
            half = half if cotangents is np.concatenate else y.shape[1:]
            g = cotangents([cotangent_for(half)] * 2)
        y.backward(tensor(g, y.dtype))
    grads = [leaf.grad for leaf in leaves.values()]
    return y.numpy(), [None if g is None else g.numpy() for g in grads]


def check_op(function: Any, examples: int = 50, order: int = 2) -> None:
    """Hold an op to every property of ops, on drawn inputs: the one call that a new op needs.

    Beside the gradients of both orders these are: linearity, ties and kinks, memory layouts, long
    arrays, extreme values, broadcasting, one input in two places, no hidden state, float32, and
    more; `microgpt.testing.properties.PROPERTIES` has them all. The inputs come from the op's
    `domain`; without one, they are arrays of any sign of equal shapes. On a failure Hypothesis
    looks for the smallest inputs that fail.

    Args:
        function: what `mg.primitive` or `mg.fused` returned, or an `Op`.
        examples: how many inputs are drawn for the most important properties; others get fewer.
        order: 1 leaves out the gradients of gradients.

    Raises:
        AssertionError: if a property does not hold; a GradcheckError, which is one, if a gradient
            is wrong.
        MissingExtraError: if Hypothesis is not installed (extra: test).
        InputError: if `examples` or `order` is out of range.
        InputTypeError: if `function` is no op.

    Example:
        >>> import microgpt as mg
        >>> @mg.primitive(vjp=lambda g, y, x: (g * mg.cos(x),))
        ... def wave(x):
        ...     '''sin x'''
        ...     return mg.sin(x)
        >>> mg.testing.check_op(wave, examples=10)
    """
    op = getattr(function, "op", function)
    if not isinstance(op, Op):
        raise InputTypeError(
            "check_op takes an op made by mg.primitive or mg.fused; got "
            f"{type(function).__name__}; for other functions there is mg.testing.gradcheck"
        )
    if isinstance(examples, bool) or not isinstance(examples, int) or examples < 1:
        raise InputError(
            f"check_op: examples must be a whole number of 1 or more; got {examples!r}; the inputs "
            "themselves are drawn from the op's domain"
        )
    if order not in (1, 2):
        raise InputError(f"check_op: order must be 1 or 2; got {order!r}")
    try:
        import hypothesis  # noqa: F401
    except ImportError:
        raise missing_extra("hypothesis", "test", "drawing test inputs") from None
    from microgpt.testing.properties import PROPERTIES, examine

    second = {"gradcheck_twice", "hessian_symmetry", "adjoint"}
    for prop in PROPERTIES.values():
        if prop.applies is not None and prop.applies(op) and (order > 1 or prop.name not in second):
            examine(prop, op, examples=examples)
