"""Scalar: one Python float in a graph.

Same op table, same gradient rules as for tensors; only the value is a float. A scalar is its own
node: one object per operation keeps Python's garbage collector, which looks at every object again
and again, from costing more than the arithmetic.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from microgpt import ops
from microgpt.errors import (
    GradientError,
    GraphFreedError,
    InputTypeError,
    ModifiedError,
)
from microgpt.graph import DEBUG, DEBUG_OFF, RECORD, ScalarBase, mode, numbers
from microgpt.ops.table import Op

new = object.__new__
mode_now = mode.get
by_number = operator.attrgetter("_number")


def _unary(function: Callable[..., Any]) -> Any:
    op: Op = function.op  # pyright: ignore[reportFunctionMemberAccess]
    kernels = op.kernels

    def call(self: Scalar) -> Scalar:
        out = new(Scalar)
        out._v = kernels[float](self._v)
        out.grad = 0.0
        if mode_now() != RECORD:
            return _unusual(op, (self,), out)
        out._op = op
        out._a = self
        out._b = None
        out._number = next(numbers)
        return out

    return _named(call, op)


def _binary(function: Callable[..., Any], reflected: bool = False) -> Any:
    op: Op = function.op  # pyright: ignore[reportFunctionMemberAccess]
    kernels = op.kernels

    def call(self: Scalar, other: Any) -> Any:
        if other.__class__ is Scalar:
            value = kernels[float](self._v, other._v)
        elif isinstance(other, (float, int)):
            if other.__class__ is not float and other.__class__ is not int:
                other = float(other)  # np.float64 is a float, but what it makes is not
            value = kernels[float](self._v, other)
        else:
            return NotImplemented
        out = new(Scalar)
        out._v = value
        out.grad = 0.0
        if mode_now() != RECORD:
            return _unusual(op, (self, other), out)
        out._op = op
        out._a = self
        out._b = other
        out._number = next(numbers)
        return out

    def call_reflected(self: Scalar, other: Any) -> Any:
        if not isinstance(other, (float, int)):
            return NotImplemented
        return self._apply(op, (other, self), {})

    return _named(call_reflected if reflected else call, op)


def _named(call: Any, op: Op) -> Any:
    call.__name__ = call.__qualname__ = op.name
    call.__doc__ = op.doc
    return call


def _comparison(function: Callable[..., Any], sign: Callable[[Any, Any], bool]) -> Any:
    def call(self: Scalar, other: Any) -> bool:
        if not isinstance(other, (Scalar, float, int)):
            return NotImplemented
        return sign(self._v, other._v if isinstance(other, Scalar) else other)

    return _named(call, function.op)  # pyright: ignore[reportFunctionMemberAccess]


class Scalar(ScalarBase):
    """A number that remembers how it was computed.

    Drop-in replacement for micrograd's ``Value``: attributes `data` and `grad`, operators with
    numbers on either side, `exp`, `log`, `relu`, `tanh`, `backward`. All functions of the op table
    that work element by element accept scalars too (``mg.sin(x)``).

    Example:
        >>> from microgpt import Scalar
        >>> a, b = Scalar(2.0), Scalar(-3.0)
        >>> c = a * b + a**2
        >>> c.backward()
        >>> c.data, a.grad, b.grad
        (-2.0, 1.0, 2.0)
    """

    __slots__ = ("_a", "_b", "_number", "_op", "_v", "grad")

    # A leaf has _op None. A result has its first input in _a and in _b the second (a Scalar or a
    # number) or None; an op with parameters or more inputs has all inputs in _a, a tuple, and its
    # parameters in _b, a dict. _number is negative once a backward pass has used the node up.
    _a: Any
    _b: Any
    _number: int
    _op: Op | None
    _v: float
    grad: float

    def __init__(self, data: float) -> None:
        try:
            self._v = float(data)
        except (TypeError, ValueError):
            raise InputTypeError(
                f"a Scalar holds one number; got {type(data).__name__} (arrays: mg.tensor)"
            ) from None
        self.grad = 0.0
        self._op = self._a = self._b = None
        self._number = 0

    data: Any = property(
        operator.attrgetter("_v"), lambda self, value: self._set(value), doc="The number."
    )

    def _set(self, value: float) -> None:
        if self._op is not None:
            raise GradientError(
                f"the value of the result of '{self._op.name}' cannot be replaced: others may have "
                "been computed from it; required: a leaf, made with Scalar(…)"
            )
        self._v = float(value)
        # A leaf with a higher number than a result has changed since that was computed.
        self._number = next(numbers)

    __add__ = _binary(ops.add)
    __radd__ = _binary(ops.add, reflected=True)
    __sub__ = _binary(ops.subtract)
    __rsub__ = _binary(ops.subtract, reflected=True)
    __mul__ = _binary(ops.multiply)
    __rmul__ = _binary(ops.multiply, reflected=True)
    __truediv__ = _binary(ops.divide)
    __rtruediv__ = _binary(ops.divide, reflected=True)
    __pow__ = _binary(ops.pow)
    __rpow__ = _binary(ops.pow, reflected=True)
    __neg__ = _unary(ops.negative)
    __abs__ = _unary(ops.abs)
    # == stays identity, as for any Python object, so that scalars can be put in sets.
    __lt__ = _comparison(ops.less, operator.lt)
    __le__ = _comparison(ops.less_equal, operator.le)
    __gt__ = _comparison(ops.greater, operator.gt)
    __ge__ = _comparison(ops.greater_equal, operator.ge)
    exp = _unary(ops.exp)
    log = _unary(ops.log)
    sqrt = _unary(ops.sqrt)
    sin = _unary(ops.sin)
    cos = _unary(ops.cos)
    tanh = _unary(ops.tanh)
    sigmoid = _unary(ops.sigmoid)
    relu = _unary(ops.relu)

    def __float__(self) -> float:
        return self._v

    def __repr__(self) -> str:
        return f"Scalar(data={self._v}, grad={_plain(self.grad)})"

    def item(self) -> float:
        """The number."""
        return self._v

    def detach(self) -> Scalar:
        """The same number as a new leaf."""
        return Scalar(self._v)

    @property
    def shape(self) -> tuple[()]:
        """A scalar has no dimensions."""
        return ()

    @property
    def parents(self) -> tuple[Scalar, ...]:
        """The scalars that this one was computed from."""
        inputs = self._a if self._b.__class__ is dict else (self._a, self._b)
        return tuple([x for x in inputs if x.__class__ is Scalar])

    @property
    def _prev(self) -> set[Scalar]:
        """micrograd's name for the parents."""
        return set(self.parents)

    @property
    def op(self) -> Op | None:
        """The op that made this scalar; None for a leaf."""
        return self._op

    def __reduce__(self) -> Any:
        from microgpt.pickling import pack_scalar, unpack_scalar

        return unpack_scalar, (pack_scalar(self),)

    def _apply(self, op: Op, inputs: tuple[Any, ...], params: dict[str, Any]) -> Any:
        for x in inputs:
            if not isinstance(x, (Scalar, float, int)):
                raise InputTypeError(
                    f"{op.name} was given a Scalar and a {type(x).__name__}; required: scalars and "
                    "numbers (make a tensor of the scalar's value with mg.tensor(x.data))"
                )
        if op.body is not None:
            return op.body(*inputs, **params)
        raws = [x._v if x.__class__ is Scalar else float(x) for x in inputs]
        value = op.kernels[float](*raws, **params)
        if op.rules is None:
            return value
        out = new(Scalar)
        out._v = value
        out.grad = 0.0
        out._op = op
        out._a = inputs
        out._b = params
        out._number = next(numbers)
        return out if mode_now() == RECORD else _unusual(op, inputs, out)

    # ---- gradients ---------------------------------------------------------------------------

    def backward(self, *, retain_graph: bool = False) -> None:
        """Put the derivative of this scalar into the `.grad` of every scalar it depends on.

        Leaves add it to what is there; results start from 0.

        Raises:
            GraphFreedError: if an earlier pass used the graph up.
            ModifiedError: if a number the derivative needs was replaced since.
        """
        order = _collect(self)
        for node in order:
            if node._op is not None:
                node.grad = 0.0
        self.grad = 1.0 if self._op is not None else self.grad + 1.0
        for node in order:
            op = node._op
            if op is None:
                continue
            number = node._number
            if number < 0:
                raise _freed(op)
            a = node._a
            b = node._b
            g = node.grad
            rules: Any = op.rules
            if b is None:
                if a._number > number:
                    _check_unchanged(node, (a,))
                a.grad += rules[0](g, node._v, a._v)
            elif b.__class__ is Scalar:
                x = a._v
                y = b._v
                if a._number > number or b._number > number:
                    _check_unchanged(node, (a, b))
                a.grad += rules[0](g, node._v, x, y)
                b.grad += rules[1](g, node._v, x, y)
            elif b.__class__ is dict:
                _check_unchanged(node, a)
                for x, grad in zip(a, _gradients(node, g, node._v, _values(a)), strict=True):
                    if x.__class__ is Scalar:
                        x.grad += grad
            else:
                if a._number > number:
                    _check_unchanged(node, (a,))
                a.grad += rules[0](g, node._v, a._v, b)
            if not retain_graph:
                node._number = -number


def _plain(grad: Any) -> Any:
    return grad._v if isinstance(grad, Scalar) else grad


def _collect(root: Scalar) -> list[Scalar]:
    """All scalars that `root` depends on, newest first."""
    seen = {root}
    add = seen.add
    stack = [root]
    push = stack.append
    pop = stack.pop
    while stack:
        node = pop()
        b = node._b
        if b.__class__ is dict:
            for x in node._a:
                if x.__class__ is Scalar and x not in seen:
                    add(x)
                    push(x)
            continue
        a = node._a
        if a is not None and a not in seen:
            add(a)
            push(a)
        if b.__class__ is Scalar and b not in seen:
            add(b)
            push(b)
    return sorted(seen, key=_age, reverse=True)


def _age(node: Scalar) -> int:
    # The number of a leaf says when it was changed, which may be after it was used.
    return 0 if node._op is None else abs(node._number)


def _values(inputs: Any) -> list[float]:
    return [x._v if x.__class__ is Scalar else x for x in inputs]


def _inputs(node: Scalar) -> tuple[Any, ...]:
    if node._b.__class__ is dict:
        return node._a
    return (node._a,) if node._b is None else (node._a, node._b)


def _gradients(node: Scalar, g: Any, y: Any, inputs: Any) -> list[Any]:
    """The gradients of all inputs of one node, by the rules of its op."""
    op = node._op
    params = node._b if node._b.__class__ is dict else {}
    if isinstance(op.rules, tuple):  # pyright: ignore[reportOptionalMemberAccess]
        sources = _inputs(node)
        return [
            rule(g, y, *inputs, **params) if rule and x.__class__ is Scalar else None
            for rule, x in zip(op.rules, sources, strict=True)  # pyright: ignore
        ]
    return list(op.rules(g, y, *inputs, **params))  # pyright: ignore


def scalar_gradients(
    output: Scalar, inputs: list[Scalar], *, create_graph: bool = False
) -> list[Any]:
    """Derivatives of `output` by each of `inputs`, without touching any `.grad`.

    Floats, or with `create_graph` scalars that can be differentiated again (where they are not
    constant).
    """
    gradients: dict[Scalar, Any] = {output: 1.0}
    for node in _collect(output):
        g = gradients.get(node)
        if g is None or node._op is None:
            continue
        if node._number < 0:
            raise _freed(node._op)
        sources = _inputs(node)
        _check_unchanged(node, sources)
        y = node if create_graph else node._v
        for x, grad in zip(
            sources,
            _gradients(node, g, y, sources if create_graph else _values(sources)),
            strict=True,
        ):
            if x.__class__ is Scalar and grad is not None:
                before = gradients.get(x)
                gradients[x] = grad if before is None else before + grad
    return [gradients.get(x, 0.0) for x in inputs]


def _unusual(op: Op, inputs: tuple[Any, ...], out: Scalar) -> Scalar:
    """The result of an op under `no_grad` or `debug`."""
    now = mode_now()
    if now >= DEBUG_OFF:
        from microgpt.ops.operands import check_finite

        check_finite(op, tuple(_values(inputs)), out._v)
    if now in (RECORD, DEBUG):
        out._op = op
        if out.__class__ is Scalar and not hasattr(out, "_a"):
            out._a = inputs[0]
            out._b = inputs[1] if len(inputs) > 1 else None
        out._number = next(numbers)
    else:
        out._op = out._a = out._b = None
        out._number = 0
    return out


# ---- failures --------------------------------------------------------------------------------


def _check_unchanged(node: Scalar, inputs: tuple[Any, ...]) -> None:
    """Complain if an input that the gradient rules read was given another value since."""
    op: Any = node._op
    keep = op.keeps((True,) * len(inputs))
    for i, (x, read) in enumerate(zip(inputs, keep, strict=False)):
        if read and x.__class__ is Scalar and x._number > abs(node._number):
            raise ModifiedError(
                f"input {i + 1} of the op '{op.name}' was given another value after the op "
                "recorded it, and the derivative needs the old one; change values only after "
                "backward(), or compute the result again"
            )


def _freed(op: Op) -> GraphFreedError:
    return GraphFreedError(
        f"a second backward pass reached the op '{op.name}', which the first one used up; "
        "required: one backward() per result. Compute it again, add the results up before one "
        "backward(), or call the first with backward(retain_graph=True)"
    )
