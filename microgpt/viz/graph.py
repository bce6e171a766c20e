"""Graphs as SVG and as text, drawn in pure Python and without recursion: any depth, any size."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np

from microgpt.autograd import collect
from microgpt.errors import InputTypeError
from microgpt.graph import Keep, Leaf, TensorBase
from microgpt.plugins import registry
from microgpt.scalar import Scalar


class Box(NamedTuple):
    """One node of a picture."""

    title: str
    lines: tuple[str, ...]
    inputs: tuple[int, ...]
    leaf: bool


def boxes(root: Any) -> list[Box]:
    """The nodes of the graph behind `root`, inputs before what is computed from them.

    Raises:
        InputTypeError: if `root` is no tensor and no scalar.
    """
    if isinstance(root, Scalar):
        return _scalar_boxes(root)
    if not isinstance(root, TensorBase):
        raise InputTypeError(f"a graph belongs to a tensor or a scalar; got {type(root).__name__}")
    if root._edge is None:
        return [Box("constant", (f"shape {tuple(root._data.shape)}",), (), True)]
    order = collect([root._edge])[::-1]
    places = {node: i for i, node in enumerate(order)}
    found = []
    for node in order:
        inputs = tuple([places[p] for p in node.parents if p is not None])
        lines = [f"shape {tuple(node.shape)}"]
        values = node.data if isinstance(node, Leaf) else (node.saved or (None,))[-1]
        if node is root._edge:
            values = root._data
        if values is not None and _count(values) == 1:
            lines.append(f"value {_number(values)}")
        if node.grad is not None and not isinstance(node.grad, Keep):
            if _count(node.grad._data) == 1:
                lines.append(f"grad {_number(node.grad._data)}")
            else:
                host = registry.backend_of(node.grad._data).to_numpy(node.grad._data)
                lines.append(f"|grad| {float(np.linalg.norm(host)):.4g}")
        leaf = isinstance(node, Leaf)
        found.append(Box("leaf" if leaf else node.op.name, tuple(lines), inputs, leaf))
    return found


def _scalar_boxes(root: Scalar) -> list[Box]:
    from microgpt.scalar import _collect

    order = _collect(root)[::-1]
    places = {node: i for i, node in enumerate(order)}
    return [
        Box(
            "leaf" if node.op is None else node.op.name,
            (f"value {node.data:.4g}", f"grad {float(node.grad):.4g}"),
            tuple([places[p] for p in node.parents]),
            node.op is None,
        )
        for node in order
    ]


def _count(raw: Any) -> int:
    n = 1
    for length in raw.shape:
        n *= length
    return n


def _number(raw: Any) -> str:
    return f"{float(np.asarray(registry.backend_of(raw).to_numpy(raw)).reshape(-1)[0]):.4g}"


# ---- text ------------------------------------------------------------------------------------


def text_tree(root: Any, max_lines: int = 200) -> str:
    """The graph behind `root` as an indented text, the result first.

    A node that was shown before is referred to by its number.

    Example:
        >>> from microgpt import Scalar
        >>> from microgpt.viz import text_tree
        >>> a = Scalar(2.0)
        >>> print(text_tree(a * a + 1.0))
        #2 add  value 5  grad 0
          #1 multiply  value 4  grad 0
            #0 leaf  value 2  grad 0
            #0 leaf  (above)
    """
    nodes = boxes(root)
    shown: set[int] = set()
    lines: list[str] = []
    stack = [(len(nodes) - 1, 0)]
    while stack:
        place, depth = stack.pop()
        if len(lines) == max_lines:
            lines.append(f"… {len(nodes) - len(shown)} more nodes (max_lines={max_lines})")
            break
        box = nodes[place]
        # Very deep graphs are not indented beyond what a terminal can show.
        indent = "  " * min(depth, 30)
        if place in shown:
            lines.append(f"{indent}#{place} {box.title}  (above)")
            continue
        shown.add(place)
        lines.append(f"{indent}#{place} {box.title}  {'  '.join(box.lines)}")
        stack.extend((i, depth + 1) for i in reversed(box.inputs))
    return "\n".join(lines)


def to_dot(root: Any) -> str:
    """The graph behind `root` in the language of Graphviz, for those who have it."""
    rows = ["digraph {", "  rankdir=LR;", "  node [shape=box, fontname=Helvetica];"]
    for i, box in enumerate(boxes(root)):
        label = "\\n".join((box.title, *box.lines))
        rows.append(f'  n{i} [label="{label}"];')
        rows.extend(f"  n{j} -> n{i};" for j in box.inputs)
    return "\n".join([*rows, "}"])


# ---- SVG -------------------------------------------------------------------------------------

WIDTH, HEIGHT, GAP_X, GAP_Y = 120, 54, 40, 14


def to_svg(root: Any) -> str:
    """The graph behind `root` as an SVG picture, left to right: leaves, operations, result.

    Example:
        >>> from microgpt import Scalar
        >>> from microgpt.viz import to_svg
        >>> to_svg(Scalar(2.0) * 3.0).startswith("<svg")
        True
    """
    nodes = boxes(root)
    columns = _columns(nodes)
    filled: dict[int, int] = {}
    spots = []
    for column in columns:
        row = filled.get(column, 0)
        filled[column] = row + 1
        spots.append((10 + column * (WIDTH + GAP_X), 10 + row * (HEIGHT + GAP_Y)))
    width = 20 + (max(columns) + 1) * (WIDTH + GAP_X)
    height = 20 + max(filled.values()) * (HEIGHT + GAP_Y)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for box, (x, y) in zip(nodes, spots, strict=True):
        for j in box.inputs:
            x0, y0 = spots[j]
            parts.append(_arrow(x0 + WIDTH, y0 + HEIGHT / 2, x, y + HEIGHT / 2))
    for box, (x, y) in zip(nodes, spots, strict=True):
        fill = "#e8f1fa" if box.leaf else "#fdf3e1"
        parts.append(
            f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="{fill}" '
            'stroke="#345"/>'
        )
        for k, line in enumerate((box.title, *box.lines)):
            weight = ' font-weight="bold"' if k == 0 else ""
            parts.append(
                f'<text x="{x + WIDTH / 2}" y="{y + 16 + 15 * k}" text-anchor="middle"{weight}>'
                f"{escape(line)}</text>"
            )
    return "\n".join([*parts, "</svg>"])


def _arrow(x0: float, y0: float, x1: float, y1: float) -> str:
    middle = (x0 + x1) / 2
    return (
        f'<path d="M{x0},{y0} C{middle},{y0} {middle},{y1} {x1},{y1}" fill="none" '
        'stroke="#89a" stroke-width="1.2"/>'
    )


def _columns(nodes: Sequence[Box]) -> list[int]:
    """The column of each node: one right of its furthest input; leaves next to their use."""
    columns: list[int] = []
    for box in nodes:
        columns.append(1 + max((columns[i] for i in box.inputs), default=-1))
    nearest: dict[int, int] = {}
    for i, box in enumerate(nodes):
        for j in box.inputs:
            nearest[j] = min(nearest.get(j, columns[i]), columns[i])
    return [
        max(nearest.get(i, 1) - 1, 0) if box.leaf else columns[i] for i, box in enumerate(nodes)
    ]
