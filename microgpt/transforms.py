"""Functions of functions: gradients, Jacobians and Hessians, nestable to any order.

All of them take a function of tensors or plain numbers and give a new function. Numbers are
differentiated by the scalar engine and come back as numbers; lists, tuples and dicts of tensors
are differentiated element by element.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from microgpt import ops
from microgpt.autograd import collect, gradients_of
from microgpt.errors import InputError, InputTypeError, ShapeError
from microgpt.graph import Leaf, TensorBase, enable_grad, recording
from microgpt.scalar import Scalar, scalar_gradients
from microgpt.tensor import Tensor, tensor

Function = Callable[..., Any]

# ---- nested arguments ------------------------------------------------------------------------


def _flatten(tree: Any, leaves: list[Any]) -> Any:
    """Put the values of nested lists, tuples and dicts into `leaves`; returns the structure."""
    if isinstance(tree, (list, tuple)):
        kind: Any = type(tree)
        return (kind, [_flatten(item, leaves) for item in tree])
    if isinstance(tree, dict):
        return (dict, {key: _flatten(value, leaves) for key, value in tree.items()})
    leaves.append(tree)
    return None


def _rebuild(structure: Any, leaves: Any) -> Any:
    if structure is None:
        return next(leaves)
    kind, parts = structure
    if kind is dict:
        return {key: _rebuild(part, leaves) for key, part in parts.items()}
    items = [_rebuild(part, leaves) for part in parts]
    return kind(*items) if hasattr(kind, "_fields") else kind(items)


def _fresh(value: Any, name: str) -> Any:
    """A variable with the value of an argument, connected to the graph the argument is part of."""
    if isinstance(value, TensorBase):
        if value._edge is not None:
            return ops.identity(value)
        return tensor(value, requires_grad=True)  # pyright: ignore[reportArgumentType]
    if isinstance(value, Scalar):
        return ops.identity(value)
    if isinstance(value, (float, int)) and not isinstance(value, bool):
        return Scalar(value)
    if isinstance(value, np.ndarray):
        return tensor(value, requires_grad=True)
    raise InputTypeError(
        f"{name} differentiates by numbers, tensors and arrays, also in lists, tuples and dicts; "
        f"got a {type(value).__name__} (choose other arguments with argnums=)"
    )


def _positions(argnums: int | tuple[int, ...], count: int, name: str) -> tuple[int, ...]:
    places = (argnums,) if isinstance(argnums, int) else tuple(argnums)
    for place in places:
        if not -count <= place < count:
            raise InputError(f"{name}: argnums={argnums} for a call with {count} arguments")
    return tuple([p % count for p in places])


def _variables(
    args: tuple[Any, ...], argnums: int | tuple[int, ...], name: str
) -> tuple[list[Any], list[Any], Any]:
    """Arguments with the chosen ones made variables, those variables, and their structure."""
    places = _positions(argnums, len(args), name)
    leaves: list[Any] = []
    structures = [_flatten(args[p], leaves) for p in places]
    variables = [_fresh(value, name) for value in leaves]
    kinds = {isinstance(v, Scalar) for v in variables}
    if len(kinds) > 1:
        raise InputTypeError(
            f"{name}: numbers and tensors cannot be differentiated together; got both; make "
            "tensors of the numbers (mg.tensor(2.0)) or leave them out with argnums="
        )
    filled = list(args)
    supply = iter(variables)
    for p, structure in zip(places, structures, strict=True):
        filled[p] = _rebuild(structure, supply)

    def shaped(values: list[Any]) -> Any:
        source = iter(values)
        parts = [_rebuild(s, source) for s in structures]
        return parts[0] if isinstance(argnums, int) else tuple(parts)

    return filled, variables, shaped


def _has_outside(output: Tensor, variables: list[Any]) -> bool:
    """Whether gradients of `output` may be wanted by something other than `variables`."""
    if not recording() or output._edge is None:
        return False
    own = {v._edge for v in variables}
    return any(
        (isinstance(node, Leaf) and node not in own) or (node in own and node.parents)
        for node in collect([output._edge])
    )


def _gradients(output: Any, variables: list[Any], name: str, cotangent: Any = None) -> list[Any]:
    """Gradients of `output`, recorded when something else may differentiate them again."""
    if isinstance(output, Scalar):
        outside = recording() and _scalar_outside(output, variables)
        grads = scalar_gradients(output, variables, create_graph=outside)
        return grads if cotangent is None else [g * cotangent for g in grads]
    if not isinstance(output, TensorBase):
        if isinstance(output, (int, float)):
            return [0.0 if isinstance(v, Scalar) else v.detach() * 0 for v in variables]
        raise InputTypeError(
            f"{name} needs a function that returns a tensor or a number; got "
            f"{type(output).__name__}"
        )
    if output._edge is None:
        return [v.detach() * 0 for v in variables]
    again = _has_outside(output, variables) or (  # pyright: ignore[reportArgumentType]
        cotangent is not None and cotangent._edge is not None
    )
    return gradients_of([output], variables, [cotangent], create_graph=again, retain_graph=True)


def _scalar_outside(output: Scalar, variables: list[Any]) -> bool:
    own = set(variables)
    seen = {output}
    stack = [output]
    while stack:
        node = stack.pop()
        if (node.op is None and node not in own) or (node in own and node.op is not None):
            return True
        for parent in node.parents:
            if parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return False


# ---- gradients -------------------------------------------------------------------------------


def value_and_grad(
    function: Function, argnums: int | tuple[int, ...] = 0, has_aux: bool = False
) -> Function:
    """A function that returns the value of `function` and its gradient.

    Args:
        function: returns a number or a tensor of one element (or, with `has_aux`, a pair of that
            and anything else).
        argnums: by which arguments to differentiate; a tuple gives a tuple of gradients. An
            argument may be a number, a tensor, or lists, tuples and dicts of them; the gradient
            has the same structure.

    Raises:
        ShapeError: if the value has more than one element.

    Example:
        >>> import microgpt as mg
        >>> value, slope = mg.value_and_grad(lambda x: x**3)(2.0)
        >>> float(value), float(slope)
        (8.0, 12.0)
    """

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with enable_grad():
            filled, variables, shaped = _variables(args, argnums, "grad")
            output = function(*filled, **kwargs)
            output, aux = output if has_aux else (output, None)
            if isinstance(output, Tensor) and output.size != 1:
                raise ShapeError(
                    f"grad needs a function that returns one number; got shape {output.shape}; "
                    "reduce it (.sum(), .mean()), or use mg.jacobian or mg.vjp"
                )
            seed = ops.ones_like(output) if isinstance(output, Tensor) else None
            gradient = shaped(_gradients(output, variables, "grad", seed))
        value = _detached(output, variables)
        return ((value, aux), gradient) if has_aux else (value, gradient)

    return run


def _detached(output: Any, variables: list[Any]) -> Any:
    """The value of a function; still part of the graph if other variables reach it."""
    if isinstance(output, Scalar):
        return output if _scalar_outside(output, variables) else output.data
    if isinstance(output, Tensor) and not _has_outside(output, variables):
        return output.detach()
    return output


def grad(function: Function, argnums: int | tuple[int, ...] = 0) -> Function:
    """A function that returns the gradient of `function`; see `value_and_grad`.

    Example:
        >>> import microgpt as mg
        >>> mg.grad(mg.grad(lambda x: x**3))(2.0)
        12.0
        >>> mg.grad(lambda x: (x * x).sum())(mg.tensor([1.0, 2.0]))
        tensor([2., 4.])
    """
    both = value_and_grad(function, argnums)

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return run


def vjp(function: Function, *primals: Any) -> tuple[Any, Function]:
    """The value of `function` and a function from cotangents to gradients of all arguments.

    Example:
        >>> import microgpt as mg
        >>> y, pull = mg.vjp(lambda x: x * x, mg.tensor([1.0, 2.0]))
        >>> pull(mg.tensor([1.0, 10.0]))
        (tensor([ 2., 40.]),)
    """
    with enable_grad():
        filled, variables, shaped = _variables(primals, tuple(range(len(primals))), "vjp")
        output = function(*filled)

    def pull(cotangent: Any) -> Any:
        with enable_grad():
            if isinstance(output, Tensor) and not isinstance(cotangent, Tensor):
                cotangent = tensor(
                    np.broadcast_to(np.asarray(cotangent), output.shape), output.dtype
                )
            return shaped(_gradients(output, variables, "vjp", cotangent))

    return _detached(output, variables), pull


def jvp(function: Function, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    """The value of `function` and its derivative in the direction `tangents`.

    The gradient rules are linear in the cotangent, so the derivative in a direction is the
    gradient of the gradient with respect to it: no rules of its own are needed.

    Example:
        >>> import microgpt as mg
        >>> y, dy = mg.jvp(lambda x: x * x, (mg.tensor([1.0, 2.0]),), (mg.tensor([1.0, 1.0]),))
        >>> dy
        tensor([2., 4.])
    """
    if len(primals) != len(tangents):
        raise InputError(f"jvp: {len(primals)} arguments but {len(tangents)} tangents")
    flat_tangents: list[Any] = []
    _flatten(tangents, flat_tangents)
    with enable_grad():
        filled, variables, _ = _variables(tuple(primals), tuple(range(len(primals))), "jvp")
        output = function(*filled)
        value = _detached(output, variables)
        if isinstance(output, Scalar):
            grads = scalar_gradients(output, variables, create_graph=True)
            total: Any = sum(g * t for g, t in zip(grads, flat_tangents, strict=True))
            return value, (total if recording() and isinstance(value, Scalar) else float(total))
        if not isinstance(output, Tensor) or output._edge is None:
            return value, ops.zeros_like(output)
        seed = tensor(ops.zeros_like(output.detach()), requires_grad=True)
        grads = gradients_of([output], variables, [seed], create_graph=True)
        pairs = [(g, t) for g, t in zip(grads, flat_tangents, strict=True) if g._edge is not None]
        if not pairs:
            return value, ops.zeros_like(output.detach())
        for g, t in pairs:
            if tuple(t.shape) != g.shape:
                raise ShapeError(f"jvp: tangent of shape {t.shape} for an argument of {g.shape}")
        outputs = [g for g, _ in pairs]
        again = isinstance(value, Tensor) and value._edge is not None
        again = again or any(isinstance(t, Tensor) and t.requires_grad for _, t in pairs)
        cotangents = [t if isinstance(t, Tensor) else tensor(t, g.dtype) for g, t in pairs]
        (direction,) = gradients_of(outputs, [seed], cotangents, create_graph=again)
        return value, direction


def jacobian(function: Function, argnums: int = 0) -> Function:
    """A function that returns all partial derivatives, of shape (*output, *argument).

    Example:
        >>> import microgpt as mg
        >>> mg.jacobian(lambda x: x * x)(mg.tensor([1.0, 2.0]))
        tensor([[2., 0.],
                [0., 4.]])
    """

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with enable_grad():
            filled, variables, shaped = _variables(args, argnums, "jacobian")
            output = function(*filled, **kwargs)
            if isinstance(output, Scalar):
                return shaped(_gradients(output, variables, "jacobian"))
            size = output.size
            rows = []
            for i in range(size):
                unit = np.zeros(size, dtype=output.dtype)
                unit[i] = 1
                seed = tensor(unit.reshape(output.shape), backend=output.backend)
                rows.append(_gradients(output, variables, "jacobian", seed))
            stacked = [
                ops.reshape(ops.stack(list(column)), (*output.shape, *v.shape))
                if rows
                else tensor(np.zeros((*output.shape, *v.shape), dtype=output.dtype))
                for column, v in zip(
                    zip(*rows, strict=True) if rows else variables, variables, strict=True
                )
            ]
            return shaped(stacked)

    return run


def hessian(function: Function, argnums: int = 0) -> Function:
    """A function that returns all second derivatives of a number, of shape (*x, *x).

    Example:
        >>> import microgpt as mg
        >>> mg.hessian(lambda x: (x**3).sum())(mg.tensor([1.0, 2.0]))
        tensor([[ 6.,  0.],
                [ 0., 12.]])
    """
    return jacobian(grad(function, argnums), argnums)


def hvp(function: Function, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> Any:
    """The Hessian of `function` times a vector, without making the Hessian.

    Returns the derivative of the gradient in the direction `tangents`, as a tuple with one entry
    per argument if there are several.

    Example:
        >>> import microgpt as mg
        >>> x, v = mg.tensor([1.0, 2.0]), mg.tensor([1.0, 1.0])
        >>> mg.hvp(lambda x: (x**3).sum(), (x,), (v,))
        tensor([ 6., 12.])
    """
    places = tuple(range(len(primals)))
    flat_tangents: list[Any] = []
    _flatten(tangents, flat_tangents)
    with enable_grad():
        filled, variables, shaped = _variables(tuple(primals), places, "hvp")
        output = function(*filled)
        if isinstance(output, Scalar):
            first = scalar_gradients(output, variables, create_graph=True)
            total: Any = sum(g * float(t) for g, t in zip(first, flat_tangents, strict=True))
            again = recording() and _scalar_outside(output, variables)
            second = scalar_gradients(total, variables, create_graph=again)
        else:
            seed = ops.ones_like(output)
            first = gradients_of([output], variables, [seed], create_graph=True)
            live = [
                (g, t) for g, t in zip(first, flat_tangents, strict=True) if g._edge is not None
            ]
            second = [v.detach() * 0 for v in variables]
            if live:
                again = _has_outside(output, variables)
                second = gradients_of(
                    [g for g, _ in live], variables, [t for _, t in live], create_graph=again
                )
        result = shaped(second)
    return result[0] if len(primals) == 1 else result
