"""Graphs as SVG and as text, drawn in pure Python and without recursion: any depth, any size."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from microgpt.errors import InputError
from microgpt.nn.module import Module
from microgpt.viz.files import write
from microgpt.viz.layout import columns_of
from microgpt.viz.nodes import GraphNode, describe, rest
from microgpt.viz.svg import draw
from microgpt.viz.walk import bones

MAX_NODES = 100
"""How many nodes are drawn if nothing else is said: what one can still read."""

MAX_COLUMNS = 14
"""With more of them a picture goes down the page instead of across."""

DEEPEST = 24
"""Levels that a text is indented at most."""


class Graph:
    """A picture of the graph behind a tensor or a scalar, as it is now.

    Notebooks show it as SVG, `print` as a text tree. Green is the result, orange operations, blue
    leaves, grey constants; hovering over a box tells its shape, range and gradient. Small
    numbers at a box tell its inputs apart where their order matters. Of a tensor's
    intermediate results those values are known that have a name here or that a gradient rule
    keeps until ``backward()`` (with ``retain_graph=True`` after it too); ``retain_grad()`` keeps
    their gradients. Of scalars all are known.

    Args:
        root: the result.
        params: a module, whose parameters and buffers get their dotted names.
        names: names of further tensors or scalars of the graph.
        max_nodes: of larger graphs the nodes nearest to the result are drawn, and a box for the
            rest; None draws them all.
        direction: "right" or "down"; by default right, unless the picture would get too wide for
            a page.

    Attributes:
        nodes: what is drawn, inputs before results.
        size: how many nodes there are.

    Raises:
        InputTypeError: if `root` is no tensor and no scalar.
        InputError: if `max_nodes` is not at least 1, or there is no such direction.

    Example:
        >>> import microgpt as mg
        >>> a, b = mg.Scalar(2.0), mg.Scalar(-3.0)
        >>> c = (a * b + 1).tanh()
        >>> graph = mg.viz.Graph(c, names={"a": a, "b": b})
        >>> graph
        Graph(5 nodes, 4 edges)
        >>> print(graph.text(width=60))
        #4 tanh  value −0.9999  grad 0
        └─ #3 + 1  value −5  grad 0
           └─ #2 ×  value −6  grad 0
              ├─ #0 a  value 2  grad 0
              └─ #1 b  value −3  grad 0
    """

    def __init__(
        self,
        root: Any,
        *,
        params: Module | None = None,
        names: Mapping[str, Any] | None = None,
        max_nodes: int | None = MAX_NODES,
        direction: str | None = None,
    ) -> None:
        if direction not in (None, "right", "down"):
            raise InputError(f"Graph: direction is 'right', 'down' or None; got {direction!r}")
        self.direction = direction
        if max_nodes is not None and max_nodes < 1:
            raise InputError(f"Graph: max_nodes must be at least 1, or None; got {max_nodes}")
        whole = bones(root, params, names)
        self.size = len(whole.items)
        cut = max_nodes is not None and self.size > max_nodes
        drawn = whole.nearest(max_nodes or 1) if cut else list(range(self.size))
        shift = 1 if cut else 0  # the box of the rest comes first
        places = {place: i + shift for i, place in enumerate(drawn)}
        self.nodes: list[GraphNode] = [rest(whole, drawn)] if cut else []
        for place in drawn:
            sources: list[int] = []
            for i in whole.inputs[place]:
                source = places.get(i, 0)
                # One edge from the rest is enough, however many inputs lie there.
                if source or not cut or 0 not in sources:
                    sources.append(source)
            self.nodes.append(describe(whole, place, tuple(sources)))
        self.cut = cut

    @property
    def edges(self) -> list[tuple[int, int]]:
        """(input, result) places in `nodes`, in the order of the results and their arguments."""
        return [(i, j) for j, node in enumerate(self.nodes) for i in node.inputs]

    @cached_property
    def svg(self) -> str:
        """The picture."""
        caption = ""
        if self.cut:
            count = len(self.nodes) - 1
            caption = (
                f"{count:,} of {self.size:,} nodes, those nearest to the result; "
                f"… {self.size - count:,} more"
            )
        direction = self.direction
        if direction is None:
            columns = 1 + max(columns_of([node.inputs for node in self.nodes]))
            direction = "right" if columns <= MAX_COLUMNS else "down"
        return draw(self.nodes, caption, down=direction == "down")

    def _repr_svg_(self) -> str:
        return self.svg

    def text(self, max_lines: int = 200, width: int | None = None) -> str:
        """The graph as an indented text, the result first.

        A node that was shown before is referred to by its number.

        Args:
            width: longest line; by default that of the terminal.
        """
        lines = _tree(
            [node.inputs for node in self.nodes], self.nodes.__getitem__, max_lines, width
        )
        if self.cut:
            lines.append(f"{len(self.nodes) - 1:,} of {self.size:,} nodes (max_nodes)")
        return "\n".join(lines)

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        size = f"{self.size:,} nodes"
        if self.cut:
            size = f"{len(self.nodes) - 1:,} of {size}"
        return f"Graph({size}, {len(self.edges):,} edges)"

    def dot(self) -> str:
        """The graph in the language of Graphviz, for those who have it."""
        rows = ["digraph {", "  rankdir=LR;", "  node [shape=box, fontname=Helvetica];"]
        for i, node in enumerate(self.nodes):
            text = "\n".join((node.title, *node.lines)).replace("\\", "\\\\").replace('"', '\\"')
            rows.append('  n{} [label="{}"];'.format(i, text.replace("\n", "\\n")))
            rows.extend(f"  n{j} -> n{i};" for j in node.inputs)
        return "\n".join([*rows, "}"])

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the graph to `path`, whole or not at all: .svg, .txt (the tree) or .dot.

        Raises:
            InputError: for any other ending.
        """
        makers = {
            ".svg": lambda: self.svg,
            ".txt": lambda: self.text(max_lines=10**9, width=10**9) + "\n",
            ".dot": self.dot,
        }
        ending = Path(path).suffix
        if ending not in makers:
            raise InputError(
                f"Graph.save writes {', '.join(makers)}; got the ending {ending!r} (a browser "
                "shows and prints SVG)"
            )
        return write(path, lambda file: file.write(makers[ending]().encode()))


def text_tree(
    root: Any,
    max_lines: int = 200,
    *,
    width: int | None = None,
    params: Module | None = None,
    names: Mapping[str, Any] | None = None,
) -> str:
    """The graph behind `root` as an indented text; see `Graph.text`.

    Example:
        >>> from microgpt import Scalar
        >>> from microgpt.viz import text_tree
        >>> a = Scalar(2.0)
        >>> print(text_tree(a * a + 1.0))
        #2 + 1  value 5  grad 0
        └─ #1 ×  value 4  grad 0
           ├─ #0 leaf  value 2  grad 0
           └─ #0 leaf  (above)
    """
    whole = bones(root, params, names)
    # Of a large graph only those nodes are looked at that are shown.
    node = cache(lambda place: describe(whole, place, whole.inputs[place]))
    return "\n".join(_tree(whole.inputs, node, max_lines, width))


def _tree(
    inputs: Sequence[Sequence[int]],
    node: Callable[[int], GraphNode],
    max_lines: int,
    width: int | None,
) -> list[str]:
    """The lines of a text tree, the last node first."""
    columns = width or shutil.get_terminal_size().columns
    shown: set[int] = set()
    lines: list[str] = []
    # place of the node, what stands before its branch, the branch, depth
    stack = [(len(inputs) - 1, "", "", 0)]
    while stack:
        place, before, branch, depth = stack.pop()
        if len(lines) == max_lines:
            lines.append(f"… {len(inputs) - len(shown):,} more nodes (max_lines={max_lines})")
            break
        again = place in shown
        facts = ("(above)",) if again else node(place).lines
        line = "  ".join((f"{before}{branch}#{place} {node(place).title}", *facts))
        lines.append(line if len(line) <= columns else line[: columns - 1] + "…")
        if again:
            continue
        shown.add(place)
        if branch and depth < DEEPEST:
            before += "│  " if branch == "├─ " else "   "
        for k, i in enumerate(reversed(inputs[place])):
            stack.append((i, before, "├─ " if k else "└─ ", depth + 1))
    return lines


def to_dot(
    root: Any, *, params: Module | None = None, names: Mapping[str, Any] | None = None
) -> str:
    """The whole graph behind `root` in the language of Graphviz, for those who have it."""
    return Graph(root, params=params, names=names, max_nodes=None).dot()


def to_svg(
    root: Any,
    *,
    params: Module | None = None,
    names: Mapping[str, Any] | None = None,
    max_nodes: int | None = MAX_NODES,
    direction: str | None = None,
) -> str:
    """The graph behind `root` as an SVG picture, left to right: leaves, operations, result.

    See `Graph`, which notebooks show as it is.

    Example:
        >>> from microgpt import Scalar
        >>> from microgpt.viz import to_svg
        >>> to_svg(Scalar(2.0) * 3.0).startswith("<svg")
        True
    """
    graph = Graph(root, params=params, names=names, max_nodes=max_nodes, direction=direction)
    return graph.svg
