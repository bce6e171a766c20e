"""A backward pass to read and to make mistakes in.

It does what `microgpt.autograd.propagate` does, without the short cuts that make that one fast.
The bugs of the engine are this pass with one of its parts wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from microgpt import autograd, recompute
from microgpt.graph import FREED, Node
from microgpt.testing.museum.planting import Plant, both, functions

Gradients = dict[Node, Any]


def add_up(gradients: Gradients, node: Node, grad: Any) -> None:
    """A node that is used several times gets the sum of what comes back from its uses."""
    gradients[node] = gradients[node] + grad if node in gradients else grad


def backward_pass(
    order: Callable[[Sequence[Node]], list[Node]] = autograd.collect,
    add: Callable[[Gradients, Node, Any], None] = add_up,
) -> Callable[..., None]:
    """The pass, made of an order of the nodes (newest first) and a way of adding gradients up."""

    def propagate(
        roots: Sequence[Node],
        seeds: Sequence[Any],
        *,
        retain_graph: bool = False,
        create_graph: bool = False,
        wanted: Gradients | None = None,
        stop: bool = False,
    ) -> None:
        pull = autograd._pull_recorded if create_graph else autograd._pull
        gradients: Gradients = {}
        for root, seed in zip(roots, seeds, strict=True):
            add(gradients, root, seed)
        for node in order(roots):
            if node not in gradients:
                continue
            g = gradients.pop(node)
            if wanted is not None and node in wanted:
                wanted[node] = g
                if stop:
                    continue
            if node.op is None:  # a leaf
                if wanted is None:
                    autograd._accumulate(node, g)  # pyright: ignore[reportArgumentType]
                continue
            if node.grad is not None:
                autograd._keep(node, g)
            if node.y is FREED:
                raise autograd._freed(node)
            for parent, grad in pull(node, node.op, g):
                add(gradients, parent, grad)
            if not retain_graph:
                node.free()

    return propagate


def engine(**parts: Any) -> Plant:
    """The pass above in the place of the library's, with the given parts."""
    made = backward_pass(**parts)
    # `recompute` imports the name, so it is replaced there too.
    return both(functions((autograd, "propagate", made), (recompute, "propagate", made)))
