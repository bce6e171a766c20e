"""A tensor's graph once more, one scalar for every number: to zoom into a small computation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from microgpt import ops
from microgpt.errors import BackendError, GradientError, InputError, InputTypeError
from microgpt.graph import Leaf, Node, ScalarBase, TensorBase
from microgpt.nn.module import Module
from microgpt.ops.table import Op
from microgpt.plugins import registry
from microgpt.scalar import Scalar
from microgpt.viz.walk import Constant, bones, count, kept

MOST = 2_000
"""Elements of all tensors of a graph together that are still turned into scalars."""

_MOVES = (
    "reshape", "permute_dims", "broadcast_to", "flip", "slice", "concat", "take", "gather", "max",
    "min", "matmul",
)  # fmt: skip
"""Ops whose NumPy kernels only move or compare elements, or call `+` and `*` of theirs."""


class Grid(ScalarBase):
    """An array of scalars: what an op is given in place of a tensor."""

    __slots__ = ("values",)

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values, dtype=object)

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths of the dimensions."""
        return self.values.shape

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return self.values.ndim

    @property
    def dtype(self) -> np.dtype:
        """What the scalars are."""
        return np.dtype(np.float64)

    def detach(self) -> Grid:
        """The same numbers as constants."""
        return Grid(_each(float, self.values))

    def _apply(  # pyright: ignore[reportIncompatibleVariableOverride]
        self, op: Op, inputs: tuple[Any, ...], params: dict[str, Any]
    ) -> Any:
        """What `op` computes, element by element or by the ops of its body."""
        if op.name in _OWN:
            return _OWN[op.name](*inputs, **params)
        if op.body is not None:
            return op.body(*inputs, **params)
        given = [_raw(x) for x in inputs]
        if op.elementwise:
            return Grid(_each(op.function, *given))
        if op.name in ("sum", "mean"):
            total = np.sum(given[0], **params)
            share = np.size(total) / given[0].size
            if op.name == "mean" and share != 1:
                total = total * share
            return Grid(total)
        if op.name not in _MOVES:
            raise _unwritten(op)
        return Grid(op.kernels[np.ndarray](*given, **params))

    def __add__(self, other: Any) -> Any:
        return ops.add(self, other)

    def __radd__(self, other: Any) -> Any:
        return ops.add(other, self)

    def __sub__(self, other: Any) -> Any:
        return ops.subtract(self, other)

    def __rsub__(self, other: Any) -> Any:
        return ops.subtract(other, self)

    def __mul__(self, other: Any) -> Any:
        return ops.multiply(self, other)

    def __rmul__(self, other: Any) -> Any:
        return ops.multiply(other, self)

    def __truediv__(self, other: Any) -> Any:
        return ops.divide(self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return ops.divide(other, self)

    def __neg__(self) -> Any:
        return ops.negative(self)


def _unwritten(op: Op) -> InputError:
    return InputError(
        f"as_scalars: the op '{op.name}' is not written for single numbers (or not with these "
        "options); use smaller ops in its place"
    )


def _logsumexp(x: Any, axis: Any, keepdims: bool) -> Any:
    """By smaller ops: there is no scalar op of many inputs."""
    highest = ops.max(x, axis=axis, keepdims=True).detach()
    total = ops.sum(ops.exp(x - highest), axis=axis, keepdims=True)
    out = ops.log(total) + highest
    return out if keepdims else ops.sum(out, axis=axis)


def _cross_entropy(logits: Any, target: Any, ignore_index: int) -> Any:
    """The mean of -log softmax at the targets that count; (n, classes), (n,)."""
    scores = ops.log_softmax(logits, axis=-1).values
    picked = [scores[i, k] for i, k in enumerate(target.tolist()) if k != ignore_index]
    return Grid(-sum(picked) / max(len(picked), 1))


_OWN: dict[str, Callable[..., Any]] = {"logsumexp": _logsumexp, "cross_entropy": _cross_entropy}
"""What is not made of ops that work on single numbers, written with such."""


def _each(function: Callable[..., Any], *arrays: Any) -> Any:
    return np.frompyfunc(function, len(arrays), 1)(*arrays)


def _raw(x: Any) -> Any:
    """Scalars and floats in an object array; whole numbers, which are indices, as they are."""
    if isinstance(x, Grid):
        return x.values
    host = _host(x._data if isinstance(x, TensorBase) else x)
    return host.astype(object) if host.dtype.kind == "f" else host


def _host(raw: Any) -> np.ndarray:
    if isinstance(raw, (int, float, bool, list, np.ndarray)):
        return np.asarray(raw)
    return np.asarray(registry.backend_of(raw).to_numpy(raw))


def as_scalars(
    root: Any, *, params: Module | None = None, names: Mapping[str, Any] | None = None
) -> tuple[Any, dict[str, Scalar]]:
    """The computation behind a tensor in the scalar engine, to look at every single number.

    Args:
        root: a tensor with a graph, small enough to be read as scalars.
        params, names: as for `Graph`; every element of a named leaf gets a name, ``w[0, 1]``.

    Returns:
        The result, a Scalar or a NumPy array of them in the shape of `root`; and the named
        scalars. ``Graph(result, names=named)`` draws them.

    Raises:
        InputTypeError: if `root` is no tensor.
        GradientError: if it has no graph.
        InputError: if there are more than 2,000 elements, an op has no scalar form, or the
            graph does not hold a constant that is needed (a gradient rule that does not read a
            constant does not keep it, and a backward pass frees what was kept).

    Example:
        >>> import microgpt as mg
        >>> w = mg.tensor([[1.0, 2.0]], requires_grad=True)
        >>> loss, named = mg.viz.as_scalars(mg.sum(w * w), names={"w": w})
        >>> loss.backward()
        >>> loss.data, named["w[0, 1]"].grad
        (5.0, 4.0)
    """
    if not isinstance(root, TensorBase):
        raise InputTypeError(f"as_scalars takes a tensor apart; got {type(root).__name__}")
    if root._edge is None:
        raise GradientError("as_scalars: the tensor is a constant, nothing was recorded for it")
    graph = bones(root, params, names)
    size = sum(count(x.data) if isinstance(x, Constant) else _size(x) for x in graph.items)
    if size > MOST:
        raise InputError(
            f"as_scalars: the graph has {size:,} elements; required: at most {MOST:,} (a smaller "
            "model, or fewer examples)"
        )
    grids: dict[int, Grid] = {}
    named: dict[str, Scalar] = {}
    for item in graph.items:
        if isinstance(item, Leaf):
            made = _each(Scalar, _host(item.data).astype(float))
            grids[id(item)] = Grid(made)
            if id(item) in graph.names:
                named.update(_elements(graph.names[id(item)], grids[id(item)].values))
        elif isinstance(item, Node):
            grids[id(item)] = _computed(item, grids)
    values = grids[id(root._edge)].values
    found = _each(float, values)
    if not np.allclose(np.asarray(found, float), _host(root._data), rtol=1e-4, atol=1e-5):
        raise InputError(
            "as_scalars: the scalars give another result than the tensors, so something that went "
            "into it is not in the graph; make constants leaves (requires_grad=True)"
        )
    return (values[()] if values.shape == () else values), named


def _size(node: Any) -> int:
    n = 1
    for length in node.shape:
        n *= length
    return n


def _computed(node: Node, grids: Mapping[int, Grid]) -> Grid:
    inputs: list[Any] = []
    for i, parent in enumerate(node.parents):
        constant = kept(node, i)
        if parent is not None:
            inputs.append(grids[id(parent)])
        elif constant is None and not (node.op.body is not None and i > 0):
            raise InputError(
                f"as_scalars: input {i + 1} of the op '{node.op.name}' is a constant that the "
                "graph does not hold; make it a leaf (requires_grad=True), and take the graph "
                "apart before backward()"
            )
        elif constant is None:  # of a fused op, it may have been left out: a bias, say
            inputs.append(None)
        else:
            values = _raw(constant)
            inputs.append(Grid(values) if values.dtype == object else values)
    first = next(x for x in inputs if isinstance(x, Grid))
    try:
        out = first._apply(node.op, tuple(inputs), node.params or {})
    except BackendError:  # its body makes arrays of its own: a mask, say
        raise _unwritten(node.op) from None
    return out if isinstance(out, Grid) else Grid(out)


def _elements(name: str, values: Any) -> dict[str, Scalar]:
    if values.shape == ():
        return {name: values[()]}
    return {f"{name}[{', '.join(map(str, place))}]": x for place, x in np.ndenumerate(values)}
