"""How an op call runs: compute with the backend's kernel, then record a node if needed.

This is the hottest code of the package. `_unary` and `_binary` are the same steps as `_general`,
written out for the inputs that nearly all calls have; everything unusual (Python numbers, NumPy
arrays, raw backend arrays, integers, scalars of a graph) goes through `microgpt.ops.operands`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import update_wrapper
from typing import Any

from microgpt.graph import (
    DEBUG,
    DEBUG_OFF,
    OFF,
    RECORD,
    Node,
    ScalarBase,
    TensorBase,
    caller_line,
    mode,
    numbers,
)
from microgpt.ops import operands
from microgpt.ops.operands import NUMBERS
from microgpt.ops.table import Op

new = object.__new__
mode_now = mode.get


def make(op: Op) -> Callable[..., Any]:
    """The function that calls `op`, for ops whose kernels are the backends' business."""
    if op.elementwise and op.arity == 1:
        call = _unary(op)
    elif op.broadcasts and op.arity == 2:
        call = _binary(op)
    else:
        call = _general(op)
    call.__name__ = call.__qualname__ = op.name
    call.__doc__ = op.doc
    return call


def record(
    op: Op, raws: tuple, parents: tuple, out: Any, params: dict | None, face: type, saved: Any
) -> Any:
    """A tensor of class `face` around `out`, with a node that leads back to `parents`.

    `saved` is what the gradient rules get as the output: `out`, or what a kernel saved for them.
    """
    node = Node()
    node.number = next(numbers)
    node.op = op
    node.params = params
    node.shape = out.shape
    node.grad = None
    node.where = None
    if op.reads is None:
        kept = (*raws, saved)
    else:
        keep = op.keeps(tuple([p is not None for p in parents]))
        kept = tuple([x if k else None for x, k in zip((*raws, saved), keep, strict=True)])
    if op.kind == 0:  # `Node.fill` for what is not elementwise
        node.first = parents
        node.a = kept
        node.second = node.b = node.y = None
    else:
        node.fill(parents, kept)
    if mode_now() == DEBUG:
        node.where = caller_line()
    result = new(face)
    result._data = out
    result._edge = node
    return result


def constant(out: Any, face: type) -> Any:
    """A tensor of class `face` around `out`, without a graph."""
    result = new(face)
    result._data = out
    result._edge = None
    return result


def _finish(op: Op, raws: tuple, parents: tuple, out: Any, face: type) -> Any:
    """The result of an elementwise op outside the usual case of recording without debugging."""
    now = mode_now()
    if now >= DEBUG_OFF:
        operands.check_finite(op, raws, out)
    if now == OFF or now == DEBUG_OFF or op.rules is None or not any_node(parents):
        return constant(out, face)
    return record(op, raws, parents, out, None, face, out)


def any_node(parents: tuple) -> bool:
    """Whether gradients flow to any of the inputs."""
    return parents.count(None) < len(parents)


def _unary(op: Op) -> Callable[..., Any]:
    kernels = op.kernels
    keep_x = keep_y = differentiable = False

    def use_rules() -> None:
        nonlocal keep_x, keep_y, differentiable
        keep_x, keep_y = op.keeps((True,))
        differentiable = op.rules is not None

    use_rules()
    op.use_in_call = use_rules

    def call(a: Any) -> Any:
        if not isinstance(a, TensorBase):
            kernel = kernels.get(type(a))
            return call_other(op, (a,), {}) if kernel is None else kernel(a)
        x = a._data
        edge = a._edge
        if edge is None:
            x = operands.constant_input(op, x)
        try:
            out = kernels[type(x)](x)
        except Exception as error:
            raise operands.explain(op, error, (x,), {}) from error
        if edge is None or not differentiable or mode_now() != RECORD:
            return _finish(op, (x,), (edge,), out, type(a))
        result = new(type(a))
        result._data = out
        result._edge = node = Node()
        node.number = next(numbers)
        node.op = op
        node.first = edge
        node.a = x if keep_x else None
        node.y = out if keep_y else None
        node.shape = edge.shape
        node.params = node.grad = node.where = None
        return result

    return call


def _kept(op: Op, needs: tuple[bool, bool]) -> tuple[bool, ...] | None:
    """`Op.keeps`, with None for keeping nothing."""
    keep = op.keeps(needs)
    return keep if True in keep else None


def _binary(op: Op) -> Callable[..., Any]:
    kernels = op.kernels
    keep_both = keep_first = keep_second = None
    differentiable = False

    def use_rules() -> None:
        nonlocal keep_both, keep_first, keep_second, differentiable
        keep_both = _kept(op, (True, True))
        keep_first = _kept(op, (True, False))
        keep_second = _kept(op, (False, True))
        differentiable = op.rules is not None

    use_rules()
    op.use_in_call = use_rules

    def call(a: Any, b: Any) -> Any:
        if type(b) is float:
            if not isinstance(a, TensorBase) or a._edge is None:
                return call_other(op, (a, b), {})
            x = a._data
            y = b
            first = a._edge
            second = None
        else:
            try:
                x = a._data
                y = b._data
                first = a._edge
                second = b._edge
            except AttributeError:
                return call_other(op, (a, b), {})
            if type(x) is not type(y) or x.dtype is not y.dtype:
                x, y = operands.matched(op, (x, y))
        try:
            out = kernels[type(x)](x, y)
        except Exception as error:
            raise operands.explain(op, error, (x, y), {}) from error
        if mode_now() != RECORD or not differentiable or (first is None and second is None):
            return _finish(op, (x, y), (first, second), out, type(a))
        result = new(type(a))
        result._data = out
        result._edge = node = Node()
        node.number = next(numbers)
        node.op = op
        node.first = first
        node.second = second
        if first is None:
            keep = keep_second
            node.shape = out.shape
        elif second is None:
            keep = keep_first
            node.shape = out.shape
        else:
            keep = keep_both
            shape = first.shape
            node.shape = shape if shape == second.shape else out.shape
        if keep is None:
            node.a = node.b = node.y = None
        else:
            keep_x, keep_y, keep_out = keep
            node.a = x if keep_x else None
            node.b = y if keep_y else None
            node.y = out if keep_out else None
        node.params = node.grad = node.where = None
        return result

    return call


def _general(op: Op) -> Callable[..., Any]:
    def call(*args: Any, **params: Any) -> Any:
        return run(op, args, params)

    return call


def run(op: Op, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    """Call `op` on any kind of inputs."""
    for a in args:
        if isinstance(a, TensorBase):
            face = type(a)
            break
    else:
        return call_raw(op, args, params)
    raws, parents = operands.unwrap(op, args, a)
    now = mode_now()
    if now == RECORD and op.body is not None and any_node(parents):
        return _run_fused(op, args, raws, parents, params, a)
    wanted = op.rules is not None or op.body is not None
    recorded = wanted and now != OFF and now != DEBUG_OFF and any_node(parents)
    saving = None
    if op.body is not None:
        kernel = operands.fused_kernel(op, raws, recorded)
        if kernel is None:
            return op.body(*args, **params)
        if recorded and op.saving is not None:
            saving = op.saving[operands.array_type(raws)]
    else:
        kernel = op.kernels[operands.array_type(raws)]
    try:
        if saving is None:
            saved = out = kernel(*raws, **params)
        else:
            out, saved = saving(*raws, **params)
    except Exception as error:
        raise operands.explain(op, error, raws, params) from error
    if now >= DEBUG_OFF:
        operands.check_finite(op, raws, out)
    if not recorded:
        return constant(out, face)
    return record(op, raws, parents, out, params, face, saved)


def _run_fused(
    op: Op, args: tuple, raws: tuple, parents: tuple, params: dict[str, Any], first: TensorBase
) -> Any:
    """A call of a fused op that is recorded, without debugging."""
    kind = type(first._data)
    kernel = op.fast_recorded[kind]  # pyright: ignore[reportOptionalSubscript]
    if kernel is None:
        return op.body(*args, **params)  # pyright: ignore[reportOptionalCall]
    saving = None if op.saving is None else op.saving[kind]
    try:
        if saving is None:
            saved = out = kernel(*raws, **params)
        else:
            out, saved = saving(*raws, **params)
    except Exception as error:
        raise operands.explain(op, error, raws, params) from error
    return record(op, raws, parents, out, params, type(first), saved)


def call_other(op: Op, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    """A call in which not every input is a tensor."""
    for a in args:
        if isinstance(a, ScalarBase):
            return a._apply(op, args, params)
    kernel = op.kernels.get(type(args[0]))
    if kernel is not None and (type(args[-1]) is type(args[0]) or type(args[-1]) in NUMBERS):
        return kernel(*args, **params)
    return run(op, args, params)


def call_raw(op: Op, args: tuple[Any, ...], params: dict[str, Any]) -> Any:
    """A call on plain numbers or raw backend arrays: compute, record nothing."""
    for a in args:
        if isinstance(a, ScalarBase):
            return a._apply(op, args, params)
    if op.body is not None:
        kernel = operands.fused_kernel(op, args, False)
        if kernel is None:
            return op.body(*args, **params)
    else:
        kernel = op.kernels[operands.array_type(args)]
    try:
        return kernel(*args, **params)
    except Exception as error:
        raise operands.explain(op, error, args, params) from error


def make_bound(op: Op, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function that calls `op`, with the name, signature and docstring of `function`.

    The first `op.arity` arguments are arrays, the others parameters, filled with their defaults.
    """
    signature = inspect.signature(function)
    names = list(signature.parameters)
    variadic = any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values())
    count = len(names) if op.arity is None else op.arity
    defaults = {name: p.default for name, p in list(signature.parameters.items())[count:]}
    array_defaults = tuple(
        None if p.default is p.empty else p.default
        for p in list(signature.parameters.values())[:count]
    )

    every = defaults.keys()

    def call(*args: Any, **kwargs: Any) -> Any:
        if len(args) == count and kwargs.keys() == every:
            return run(op, args, kwargs)
        if variadic or (len(args) == count and kwargs.keys() <= defaults.keys()):
            return run(op, args, {**defaults, **kwargs})
        bound = signature.bind(*args, **kwargs).arguments
        args = tuple([bound.get(n, d) for n, d in zip(names, array_defaults, strict=False)])
        return run(op, args, {n: bound.get(n, d) for n, d in defaults.items()})

    update_wrapper(call, function)
    return call
