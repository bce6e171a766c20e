"""The two ways to declare an op: `primitive`, which backends compute, and `fused`, made of ops."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

from microgpt.errors import PluginError
from microgpt.ops import calls
from microgpt.ops.table import Kinks, Op, Rule, add


def primitive(
    name: str | Callable[..., Any] | None = None,
    *,
    vjp: tuple[Rule | None, ...] | Rule | None = None,
    reads: tuple[str, ...] | str | None = None,
    doc: str = "",
    arity: int | None = -1,
    broadcasts: bool = False,
    elementwise: bool = False,
    floats: bool = False,
    domain: Callable[[Any], Any] | None = None,
    nondifferentiable: str = "",
    index_inputs: tuple[int, ...] = (),
    kinks: Kinks = None,
    jumps: bool = False,
    accuracy: str = "",
) -> Any:
    """Declare a differentiable operation.

    Two spellings. With a name, the kernels are the backends' business::

        multiply = primitive("multiply", vjp=(lambda g, y, a, b: g * b,
                                              lambda g, y, a, b: g * a), broadcasts=True)

    As a decorator, the function computes on the arrays of any backend whose operators it uses;
    its arguments without default are arrays, the others are parameters:

    Args:
        name: the op's name, or the decorated function.
        vjp: gradient rules ``rule(g, y, *inputs, **params)``, one per input (None: no gradient),
            or one function that returns them all. Write them with ops and operators, then
            gradients of gradients work too.
        reads: which values each rule reads (see `Op`); by default everything is kept.
        doc: the formula, one line; by default the first line of the docstring.
        arity: number of inputs that are arrays; by default the number of rules.
        broadcasts: whether inputs broadcast; gradients are summed back for you.
        elementwise: whether the output has the inputs' shape, broadcast, and there are no
            parameters.
        floats: whether integer inputs are converted to the default float type.
        domain: draws test inputs; without it, values of any sign are drawn.
        nondifferentiable: the reason why there is no gradient, instead of `vjp`.
        index_inputs: positions of inputs that are indices or masks, free in dtype.
        kinks: points where the gradient is a convention, with the slope there: ``{0.0: 0.0}``;
            or "share" if equal inputs share the gradient. Tests hold the op to it.
        jumps: whether the value itself jumps at these points.
        accuracy: how exact kernels must be: "exact", "ulp", "reduction" or "composite" (see `Op`).

    Raises:
        PluginError: if there is neither vjp nor `nondifferentiable`, or the name is taken.

    Example:
        >>> import microgpt as mg
        >>> @mg.primitive(vjp=lambda g, y, x: (3 * x**2 * g,))
        ... def cube(x):
        ...     '''x³'''
        ...     return x * x * x
        >>> float(mg.grad(cube)(2.0))
        12.0
        >>> mg.testing.gradcheck(cube, mg.tensor([1.0, -2.0], dtype="float64")).ok
        True
    """
    if name is not None and not isinstance(name, str):
        return primitive()(name)
    settings = {
        "rules": vjp,
        "reads": reads,
        "broadcasts": broadcasts,
        "elementwise": elementwise,
        "floats": floats,
        "domain": domain,
        "nondifferentiable": nondifferentiable,
        "index_inputs": index_inputs,
        "kinks": kinks,
        "jumps": jumps,
        "accuracy": accuracy,
    }

    def declare(function: Callable[..., Any] | None, op_name: str, module: str) -> Any:
        if vjp is None and not nondifferentiable:
            raise PluginError(
                f"op '{op_name}' has no gradient rule; required: vjp=(…) with one rule per input, "
                "or nondifferentiable='why' if there is none"
            )
        count = arity
        if function is not None:
            count = _array_count(function)
        elif count == -1:
            count = len(vjp) if isinstance(vjp, tuple) else 1
        line = doc or (inspect.getdoc(function) or op_name).splitlines()[0]
        op = Op(op_name, doc=line, arity=count, compute=function, **settings)
        call = calls.make(op) if function is None else calls.make_bound(op, function)
        op.function = call
        call.__module__ = module
        call.op = op
        add(op, module)
        return call

    if isinstance(name, str):
        return declare(None, name, sys._getframe(1).f_globals["__name__"])
    return lambda function: declare(function, function.__name__, function.__module__)


def fused(
    function: Callable[..., Any] | None = None,
    *,
    vjp: tuple[Rule | None, ...] | Rule | None = None,
    reads: tuple[str, ...] | str | None = None,
    doc: str = "",
    arity: int | None = None,
    domain: Callable[[Any], Any] | None = None,
    index_inputs: tuple[int, ...] = (),
    nondifferentiable: str = "",
    kinks: Kinks = None,
    accuracy: str = "",
) -> Any:
    """Declare an op by its definition in terms of other ops.

    The body is the definition, the fallback where a backend has no kernel of this name, and the
    oracle that kernels are tested against. A backend that supplies a kernel ``name`` gets one
    node in the graph instead of the body's many, if there is also a gradient: the op's own
    `vjp`, or a kernel ``name_vjp(g, y, *inputs, needs, **params)`` that returns the gradients of
    all inputs. Gradients of gradients always go through `vjp` or the body. Where there is no
    `vjp`, the backend may also supply ``name_saving(*inputs, **params)`` → (output, saved), used
    when a gradient is wanted; ``name_vjp`` then gets `saved` (a tuple of arrays) in place of y,
    except where another plugin has replaced the kernel ``name``: there it gets that one's y.

    Args and errors are those of `primitive`; `arity` is by default the number of arguments
    without default value.
    """
    if function is None:
        return lambda f: fused(
            f, vjp=vjp, reads=reads, doc=doc, arity=arity, domain=domain,
            index_inputs=index_inputs, nondifferentiable=nondifferentiable, kinks=kinks,
            accuracy=accuracy,
        )  # fmt: skip
    op = Op(
        function.__name__.strip("_"),
        doc=doc or (inspect.getdoc(function) or "").splitlines()[0],
        arity=_array_count(function) if arity is None else arity,
        rules=vjp,
        reads=reads,
        broadcasts=False,
        elementwise=False,
        floats=True,
        domain=domain,
        body=function,
        index_inputs=index_inputs,
        nondifferentiable=nondifferentiable,
        kinks=kinks,
        accuracy=accuracy,
    )
    call = calls.make_bound(op, function)
    op.function = call
    call.op = op
    add(op, function.__module__)
    return call


def _array_count(function: Callable[..., Any]) -> int:
    parameters = inspect.signature(function).parameters.values()
    return sum(
        p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        for p in parameters
    )


def face(primitive_call: Any) -> Callable[[Callable[..., Any]], Any]:
    """Make the decorated function the public one of an op: it checks its arguments and calls it."""

    def decorate(function: Callable[..., Any]) -> Any:
        primitive_call.op.function = function
        function.op = primitive_call.op  # pyright: ignore[reportFunctionMemberAccess]
        return function

    return decorate
