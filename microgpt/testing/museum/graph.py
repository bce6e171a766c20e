"""Wrong walks through the graph: values that are used more than once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import microgpt as mg
from microgpt.graph import Node
from microgpt.ops.movement import slice_axis
from microgpt.testing.museum import demos
from microgpt.testing.museum.base import Bug, Check, gradcheck, oracle
from microgpt.testing.museum.engine import Gradients, engine
from microgpt.testing.museum.planting import kernels, rules


def _overwrite(gradients: Gradients, node: Node, grad: Any) -> None:
    gradients[node] = grad


def _in_place(gradients: Gradients, node: Node, grad: Any) -> None:
    if node not in gradients:
        gradients[node] = grad
    elif isinstance(grad, np.ndarray):
        gradients[node] += grad
    else:
        gradients[node] = gradients[node] + grad


def _breadth_first(roots: Sequence[Node]) -> list[Node]:
    """Level by level from the output, each node where it is first met."""
    order = list(dict.fromkeys(roots))
    for node in order:
        order += [p for p in node.parents if p is not None and p not in order]
    return order


def _assigning(right: Any) -> Any:
    def index_add(x: Any, indices: Any, *, axis: int, size: int) -> Any:
        where = np.asarray(indices)
        before, after = x.shape[:axis], x.shape[axis + where.ndim :]
        rows = np.moveaxis(x.reshape(*before, where.size, *after), axis, 0)
        y = np.zeros((size, *before, *after), dtype=x.dtype)
        y[where.reshape(-1)] = rows  # += would not do either: it counts repeated indices once
        return np.moveaxis(y, 0, axis)

    return index_add


def _by_identity(own: Any) -> Any:
    def rule(g: Any, y: Any, *inputs: Any, axis: int, sizes: tuple[int, ...]) -> list[Any]:
        starts = {}
        place = 0
        for x, size in zip(inputs, sizes, strict=True):
            starts.setdefault(id(x), place)
            place += size
        return [
            slice_axis(g, axis, starts[id(x)], starts[id(x)] + size)
            for x, size in zip(inputs, sizes, strict=True)
        ]

    return rule


def _reused(x: Any) -> Any:
    """A value used three times, at different distances from the output."""
    square = x * x
    return square * x + mg.tanh(square) + x


BUGS = (
    Bug(
        16,
        "a second use overwrites the gradient of the first",
        wrong="x.grad = g",
        right="x.grad += g",
        story=(
            "The chain rule along one path is all that an expression without repetitions needs, "
            "and the first examples have none. As soon as a value is used twice, as in a + a, both "
            "uses send a gradient back, and the later one wins: the derivative comes out as 1. "
            "Issue 2 of micrograd reports it, for a node that is used again. Among scalars nearly "
            "everything is used more than once, every hidden neuron by all neurons of the next "
            "layer, so what remains is the gradient of the last one."
        ),
        blind=(
            "Checks of single ops with distinct inputs do not see it: each rule is right. "
            "`same_input_twice` gives one tensor to both places of an op, and `sum_of_paths` "
            "lets three paths start at one input."
        ),
        plant=engine(add=_overwrite),
        killers=(Check("same_input_twice", "multiply"), Check("sum_of_paths", "tanh")),
        missed_by=(gradcheck("tanh"), gradcheck("multiply")),
        show=demos.gradient("the derivative of a + a at a = 3", lambda a: a + a, 3.0),
        seen_in="karpathy/micrograd#2",
    ),
    Bug(
        17,
        "gradients added up in place",
        wrong="gradients[x] += g",
        right="gradients[x] = gradients[x] + g",
        story=(
            "Adding in place saves an array. But the rule of addition hands the same array g to "
            "both of its inputs, without a copy, because that is correct and fast. Whoever adds "
            "something to one of them changes the other too, and the gradient of the output which "
            "the caller holds. A residual connection x + f(x) is just this: an addition followed "
            "by another use."
        ),
        blind=(
            "A chain is right, and so is a + a. It takes an op that passes its cotangent on and a "
            "second use after it: `sum_of_paths`, for addition, whose inputs get one array both."
        ),
        plant=engine(add=_in_place),
        killers=(Check("sum_of_paths", "add", examples=200),),
        missed_by=(gradcheck("add"), Check("same_input_twice", "add")),
        show=demos.gradient("the gradients of (a + b) + a by a and b, for weights 1, -2",
                            lambda a, b: (a + b) + a, [1.0, 1.0], [1.0, 1.0]),
    ),
    Bug(
        18,
        "breadth first is no topological order",
        wrong="for node in breadth_first(output)",
        right="for node in reversed(topological_order(output))",
        story=(
            "A node may pass its gradient on only when it has received all of it, from everything "
            "that uses it. Level by level from the output looks like the natural order, and in a "
            "network whose layers follow one another it is one. With a shortcut, the node at its "
            "end is met early, by the short way, and passes on what it has; what comes by the long "
            "way arrives too late. In a residual network everything below the shortcut learns "
            "from the shortcut alone."
        ),
        blind=(
            "Chains and trees are right. Needed are two paths of different lengths from one value. "
            "The definition of silu, x·σ(x), has them, so that its gradient is no longer that of "
            "the kernel, although every rule in it is right; and `sum_of_paths` makes them on "
            "purpose, one use of a result two nodes later than the other."
        ),
        plant=engine(order=_breadth_first),
        killers=(Check("fused_equals_body", "silu"), Check("sum_of_paths", "tanh")),
        missed_by=(Check("same_input_twice", "multiply"),),
        show=demos.gradient("the derivative of x³ + tanh x² + x at 1 and 2 (times 1, -2)",
                            _reused, [1.0, 2.0]),
    ),
    Bug(
        19,
        "repeated indices are assigned, not added",
        wrong="grad[indices] = g",
        right="np.add.at(grad, indices, g)",
        story=(
            "The gradient of picking rows is putting them back. If a row was picked twice, both "
            "gradients belong there, but an assignment keeps the last. With += it is no better: "
            "NumPy reads, adds and writes all places at once, so a place that occurs twice is "
            "counted once. Letters that are frequent in a text then learn from one occurrence per "
            "batch, as if they were rare."
        ),
        blind=(
            "Indices without repetitions are right, and a hand-written test has [0, 2]. The drawn "
            "indices repeat: VALUE, in the gradient of take; the forward oracle sees it in "
            "index_add itself."
        ),
        plant=kernels(index_add=_assigning),
        killers=(gradcheck("take", "VALUE"), oracle("index_add")),
        missed_by=(oracle("take"),),
        show=demos.bigrams("a model learns to guess the next letter", demos.tied),
    ),
    Bug(
        20,
        "the same array joined with itself",
        wrong="start = offset_of[id(x)]",
        right="start = the sum of the lengths before it",
        story=(
            "The gradient of joining arrays is cutting g up again. Where a part begins is looked "
            "up in a dictionary by the array that was joined there. If one array stands in two "
            "places, the dictionary has one entry: both places get the gradient of the first. "
            "Padding a sequence with copies of itself or joining a state with itself is rare, so "
            "this lives long."
        ),
        blind=(
            "Distinct inputs, which every drawn case has, are right. `same_input_twice` gives one "
            "tensor to all places and compares with the sum of the gradients of copies."
        ),
        plant=rules(concat=_by_identity),
        killers=(Check("same_input_twice", "concat", examples=200),),
        missed_by=(gradcheck("concat"), Check("sum_of_paths", "concat")),
        show=demos.gradient("the gradient of (1, 2) joined with itself, for weights 1, -2, 3, -4",
                            lambda x: mg.concat([x, x]), [1.0, 2.0]),
    ),
)  # fmt: skip
