"""Pickling and copying of graphs of any depth: a graph becomes a flat list, oldest node first.

Training checkpoints do not use this (weights are never pickled); it serves `copy.deepcopy`,
`multiprocessing` and keeping a computation for later.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from microgpt.autograd import attach, collect
from microgpt.graph import Leaf, Node, TensorBase, numbers
from microgpt.ops.table import by_name
from microgpt.plugins import registry


class Reference(NamedTuple):
    """The place of an array in the list of all arrays."""

    place: int


class _Arrays:
    """The arrays of a graph, each once.

    What several nodes share is shared again afterwards: that a leaf still has the values its
    nodes recorded is checked by identity.
    """

    def __init__(self) -> None:
        self._places: dict[int, int] = {}
        self._alive: list[Any] = []
        self.stored: list[tuple[str, str, np.ndarray]] = []

    def put(self, raw: Any) -> Any:
        """A reference to an array; tuples of them likewise; anything else as it is."""
        if isinstance(raw, tuple):
            return tuple([self.put(x) for x in raw])
        if not hasattr(raw, "shape"):
            return raw
        if id(raw) not in self._places:
            backend = registry.backend_of(raw)
            self._places[id(raw)] = len(self.stored)
            self._alive.append(raw)
            self.stored.append((backend.name, backend.device(raw), np.array(backend.to_numpy(raw))))
        return Reference(self._places[id(raw)])


def pack(tensor: TensorBase) -> dict[str, Any]:
    """A tensor and the graph behind it, as flat lists and NumPy arrays."""
    arrays = _Arrays()
    order = [] if tensor._edge is None else collect([tensor._edge])[::-1]
    places = {node: i for i, node in enumerate(order)}
    nodes: list[tuple[Any, ...]] = []
    for node in order:
        if isinstance(node, Leaf):
            grad = None if node.grad is None else arrays.put(node.grad._data)
            nodes.append((None, arrays.put(node.data), grad))
            continue
        parents = tuple([None if p is None else places[p] for p in node.parents])
        saved = None if node.saved is None else tuple([arrays.put(x) for x in node.saved])
        nodes.append((node.op.name, parents, saved, node.params, node.shape, node.where))
    return {
        "face": type(tensor),
        "data": arrays.put(tensor._data),
        "edge": None if tensor._edge is None else places[tensor._edge],
        "nodes": nodes,
        "arrays": arrays.stored,
    }


def unpack(packed: dict[str, Any]) -> Any:
    """The tensor that `pack` described, with a graph of its own."""
    face = packed["face"]
    arrays = [
        registry.backend(name).asarray(host, None, device)
        for name, device, host in packed["arrays"]
    ]

    def raw(value: Any) -> Any:
        if type(value) is tuple:
            return tuple([raw(x) for x in value])
        return arrays[value.place] if isinstance(value, Reference) else value

    nodes: list[Node] = []
    for name, *rest in packed["nodes"]:
        if name is None:
            data, grad = rest
            node: Node = Leaf(raw(data), face)
            node.grad = None if grad is None else attach(face, raw(grad))
        else:
            parents, saved, node_params, shape, where = rest
            node = Node()
            node.number = next(numbers)
            node.op = by_name(name)
            node.fill(
                tuple([None if p is None else nodes[p] for p in parents]),
                None if saved is None else tuple([raw(x) for x in saved]),
            )
            node.params, node.shape, node.where, node.grad = node_params, shape, where, None
        nodes.append(node)
    edge = None if packed["edge"] is None else nodes[packed["edge"]]
    return attach(face, raw(packed["data"]), edge)


def pack_scalar(scalar: Any) -> list[tuple[Any, ...]]:
    """A scalar and the graph behind it, oldest first."""
    from microgpt.scalar import _collect, _inputs

    order = _collect(scalar)[::-1]
    places = {node: i for i, node in enumerate(order)}
    rows: list[tuple[Any, ...]] = []
    for node in order:
        inputs: Any = ()
        if node._op is not None:
            inputs = tuple([Reference(places[x]) if x in places else x for x in _inputs(node)])
        params = node._b if isinstance(node._b, dict) else None
        name = None if node._op is None else node._op.name
        rows.append((name, node._v, node.grad, inputs, params, node._number < 0))
    return rows


def unpack_scalar(rows: list[tuple[Any, ...]]) -> Any:
    """The scalar that `pack_scalar` described."""
    from microgpt.scalar import Scalar

    nodes: list[Any] = []
    for name, value, grad, inputs, params, used in rows:
        node = Scalar(value)
        node.grad = grad
        if name is not None:
            sources = tuple([nodes[x.place] if isinstance(x, Reference) else x for x in inputs])
            number = next(numbers)
            node._op, node._number = by_name(name), -number if used else number
            if params is not None:
                node._a, node._b = sources, params
            else:
                node._a, node._b = sources[0], sources[1] if len(sources) > 1 else None
        nodes.append(node)
    return nodes[-1]
