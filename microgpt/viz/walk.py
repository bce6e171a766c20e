"""The graph behind a result, walked without recursion: what there is, and what it is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from microgpt.autograd import collect
from microgpt.errors import InputError, InputTypeError
from microgpt.graph import Leaf, Node, TensorBase
from microgpt.nn.module import Module
from microgpt.scalar import Scalar


class Constant(NamedTuple):
    """An array that no gradient flows to."""

    data: Any


Item = Scalar | Node | Constant


@dataclass
class Bones:
    """A graph without its values: objects with inputs before results, and their names."""

    items: list[Item]
    inputs: list[tuple[int, ...]]
    names: Mapping[int, str]
    values: dict[int, Any] = field(default_factory=dict)
    """id of a node → its output, where that is known."""

    def nearest(self, count: int) -> list[int]:
        """Places of the `count` nodes with the fewest steps to the result, ascending."""
        reached = [len(self.items) - 1]
        seen = set(reached)
        for place in reached:  # the list grows while it is walked: breadth first
            for i in self.inputs[place]:
                if i not in seen and len(seen) < count:
                    seen.add(i)
                    reached.append(i)
        return sorted(reached)


def bones(root: Any, params: Module | None = None, names: Mapping[str, Any] | None = None) -> Bones:
    """The graph behind `root`, without recursion.

    Raises:
        InputTypeError: if `root` is no tensor and no scalar, or `params` no module.
        InputError: if a name stands for something that has no place in a graph.
    """
    if params is not None and not isinstance(params, Module):
        raise InputTypeError(
            f"params is the module whose parameters are named; got {type(params).__name__} (a "
            "dict of names and tensors or scalars is given as names=…)"
        )
    known = _names(params, names or {})
    if isinstance(root, Scalar):
        return _scalar_bones(root, known)
    if isinstance(root, TensorBase):
        # The user holds the values of what has a name, whether or not the graph does.
        tensors = [x for x in (names or {}).values() if isinstance(x, TensorBase)]
        return _tensor_bones(root, known, {id(x._edge): x._data for x in (*tensors, root)})
    raise InputTypeError(f"a graph belongs to a tensor or a scalar; got {type(root).__name__}")


def _names(params: Module | None, names: Mapping[str, Any]) -> dict[int, str]:
    found: dict[int, str] = {}
    named = [] if params is None else [*params.named_parameters(), *params.named_buffers()]
    for name, value in [*named, *names.items()]:
        if isinstance(value, Scalar):
            found[id(value)] = name
        elif isinstance(value, TensorBase):
            found[id(value._data if value._edge is None else value._edge)] = name
        else:
            raise InputError(
                f"names: {name!r} stands for a {type(value).__name__}; required: name → tensor or "
                "scalar of the graph"
            )
    return found


def _ordered(root: Any, newest_first: Sequence[Any]) -> list[Any]:
    """Results by age; each leaf, which has none, just before its first use."""
    order: list[Any] = []
    seen: set[int] = set()
    for item in reversed(newest_first):
        if not _is_op(item):
            continue
        for parent in item.parents:
            if parent is not None and not _is_op(parent) and id(parent) not in seen:
                seen.add(id(parent))
                order.append(parent)
        order.append(item)
    return order or [root]


def _is_op(item: Any) -> bool:
    return not isinstance(item, (Leaf, Constant)) and item.op is not None


def _scalar_bones(root: Scalar, names: Mapping[int, str]) -> Bones:
    from microgpt.scalar import _collect

    order = _ordered(root, _collect(root))
    places = {id(item): i for i, item in enumerate(order)}
    inputs = [tuple([places[id(p)] for p in item.parents]) for item in order]
    return Bones(order, inputs, names)


def _tensor_bones(root: TensorBase, names: Mapping[int, str], values: dict[int, Any]) -> Bones:
    if root._edge is None:
        return Bones([Constant(root._data)], [()], names)
    made = Bones([], [], names, values)
    places: dict[int, int] = {}
    for item in _ordered(root._edge, collect([root._edge])):
        sources = []
        if not isinstance(item, Leaf):
            for i, parent in enumerate(item.parents):
                saved = kept(item, i)
                if parent is not None:
                    sources.append(places[id(parent)])
                    if saved is not None:
                        made.values.setdefault(id(parent), saved)
                elif hasattr(saved, "shape") and (count(saved) > 1 or id(saved) in names):
                    # No node, but something to see: the inputs of a network, targets, masks.
                    if id(saved) not in places:
                        places[id(saved)] = len(made.items)
                        made.items.append(Constant(saved))
                        made.inputs.append(())
                    sources.append(places[id(saved)])
            output = (item.saved or (None,))[-1]
            if hasattr(output, "shape"):
                made.values.setdefault(id(item), output)
        places[id(item)] = len(made.items)
        made.items.append(item)
        made.inputs.append(tuple(sources))
    return made


def kept(node: Node, place: int) -> Any:
    """The input at `place`, if it is kept for a gradient rule and not freed yet."""
    saved = node.saved
    return saved[place] if saved is not None and place < len(saved) - 1 else None


def count(raw: Any) -> int:
    """How many elements a backend's array has."""
    n = 1
    for length in raw.shape:
        n *= length
    return n
