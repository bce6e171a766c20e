"""checkpoint: trade time for memory by computing a part of the graph again in backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from microgpt import ops
from microgpt.autograd import attach, propagate
from microgpt.errors import GradientError, InputTypeError
from microgpt.graph import Leaf, Node, TensorBase, enable_grad, no_grad, numbers, recording
from microgpt.ops.calls import record
from microgpt.ops.indexing import host_array
from microgpt.ops.replay import Draws, replayed, watched
from microgpt.ops.table import Op
from microgpt.tensor import Tensor


def _gradients_again(
    g: Any,
    y: Any,
    *values: Any,
    function: Callable[..., Any],
    captured: tuple[Node, ...],
    draws: Draws,
) -> list[Any]:
    """Run the function once more, this time recorded, and go back through it."""
    recorded = isinstance(g, TensorBase)
    args = values[: len(values) - len(captured)]
    inputs = [
        ops.identity(x) if isinstance(x, TensorBase) and x._edge is not None
        else x if isinstance(x, TensorBase)
        else attach(Tensor, x, Leaf(x, Tensor)) if _differentiable(x)
        else attach(Tensor, x) if hasattr(x, "shape")
        else x
        for x in args
    ]  # fmt: skip
    with enable_grad(), replayed(draws):
        output = function(*inputs)
    _compare(y, output)
    edges = [x._edge if isinstance(x, TensorBase) else None for x in inputs]
    wanted: dict[Node, Any] = {e: None for e in (*edges, *captured) if e is not None}
    if recorded:
        propagate(
            [output._edge], [g], retain_graph=True, create_graph=True, wanted=wanted, stop=True
        )
    else:
        with no_grad():
            propagate([output._edge], [g], wanted=wanted, stop=True)
    return [None if e is None else wanted[e] for e in (*edges, *captured)]


def _compare(first: Any, second: Any) -> None:
    """Complain if the function has made something else of the same arguments."""
    a, b = host_array(first), host_array(second)
    if a.shape == b.shape and a.dtype == b.dtype:
        if a.dtype.kind != "f" or np.array_equal(a, b, equal_nan=True):
            return
        # Some devices add up in another order each time.
        largest = float(np.max(np.abs(a), where=np.isfinite(a), initial=0.0))
        near = largest * float(np.sqrt(np.finfo(a.dtype).eps))
        if np.allclose(a, b, rtol=0.0, atol=near, equal_nan=True):
            return
    raise GradientError(
        "checkpoint: computed again for backward, the function returned something else, so its "
        "gradients would be wrong; required: the same result for the same arguments. Dropout of "
        "microgpt (mg.dropout, nn.Dropout) is repeated; other random numbers must be drawn outside "
        "of the function, and what it uses (weights, lists, modes) must not change meanwhile"
    )


def _differentiable(x: Any) -> bool:
    return hasattr(x, "shape") and Tensor.dtype.fget(attach(Tensor, x)).kind == "f"  # pyright: ignore


_OP = Op(
    "checkpoint",
    doc="a function, computed again in the backward pass",
    arity=None,
    rules=_gradients_again,
    reads=None,
    broadcasts=False,
    elementwise=False,
    floats=False,
    domain=None,
)


def checkpoint(function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)`, computed again in the backward pass instead of kept in memory.

    Of everything inside only arguments and result stay in memory, and tensors that the function
    uses from outside (weights, say) get their gradients as always. The function must return one
    tensor, and the same one when called again. The masks of `dropout` are drawn again as they were,
    and generators go on as if there had been one call; batch norm counts the batch once. Other
    random numbers must be drawn outside of the function.

    Raises:
        InputTypeError: if the function returns anything but a tensor.
        GradientError: in backward, if the function returns something else when called again.

    Source: Chen, Xu, Zhang and Guestrin, arXiv:1604.06174.

    Example:
        >>> import microgpt as mg
        >>> x = mg.tensor([0.0, 1.0], requires_grad=True)
        >>> y = mg.checkpoint(lambda x: mg.exp(mg.sin(x)), x)
        >>> y.sum().backward()
        >>> bool(mg.all(x.grad == mg.grad(lambda x: mg.exp(mg.sin(x)).sum())(x)))
        True
    """
    if not recording():
        return function(*args)
    start = next(numbers)
    inputs = [
        attach(type(a), a._data, Leaf(a._data, type(a)))
        if isinstance(a, TensorBase) and a._edge is not None
        else a
        for a in args
    ]
    with watched() as draws:
        output = function(*inputs)
    if not isinstance(output, TensorBase):
        raise InputTypeError(
            f"checkpoint needs a function that returns one tensor; got {type(output).__name__}"
        )
    own = {x._edge for x in inputs if isinstance(x, TensorBase)}
    captured = _frontier(output._edge, start, own)
    parents = tuple([a._edge if isinstance(a, TensorBase) else None for a in args]) + captured
    if not any(p is not None for p in parents):
        return output.detach()  # pyright: ignore[reportAttributeAccessIssue]
    raws = [a._data if isinstance(a, TensorBase) else a for a in args] + [None] * len(captured)
    params = {"function": function, "captured": captured, "draws": draws}
    return record(_OP, tuple(raws), parents, output._data, params, type(output), output._data)


def _frontier(root: Node | None, start: int, own: set[Any]) -> tuple[Node, ...]:
    """The nodes from before number `start` that the graph of `root` was built on."""
    found: dict[Node, None] = {}
    seen: set[Node] = set()
    stack = [] if root is None else [root]
    while stack:
        node = stack.pop()
        if node in seen or node in own:
            continue
        seen.add(node)
        if node.number < start:
            found[node] = None
        else:
            stack.extend([p for p in node.parents if p is not None])
    return tuple(found)
