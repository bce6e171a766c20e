"""SVG text of a laid-out graph: readable on dark pages too, with all details as tooltips."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from html import escape

from microgpt.viz.layout import arrange
from microgpt.viz.nodes import COMMUTATIVE, SYMBOLS, GraphNode
from microgpt.viz.style import plain

FONT = "DejaVu Sans, Verdana, Helvetica, Arial, sans-serif"
SIZE, LINE, PADDING = 12, 16, 10
NUMBER = 5
"""Room for the number of an input."""
LONGEST = 34
"""Characters of a line; of longer ones the end is shown, which tells parameters apart."""

FILL = {
    "op": ("#fff6e0", "#b07800"),
    "leaf": ("#e4f0fa", "#0072b2"),
    "constant": ("#f3f3f3", "#777777"),
    "rest": ("#ffffff", "#777777"),
    "result": ("#e2f4ec", "#00805c"),
}
"""Fill and border by the kind of a box."""

_NARROW = frozenset(" .,:;'|!ijlI()[]ft/-")
_WIDE = frozenset("mwMW@%×…—∞←→GOQD‖")


@lru_cache(4096)
def text_width(text: str, size: float = SIZE, bold: bool = False) -> float:
    """Width of `text` in pixels in a wide sans-serif font: narrower fonts fit all the more."""
    units = 0.0
    for c in text:
        if c in _NARROW:
            units += 0.42
        elif c in _WIDE:
            units += 0.95
        elif unicodedata.east_asian_width(c) in "WF":
            units += 1.05
        else:
            units += 0.7 if c.isupper() else 0.65
    return units * size * (1.09 if bold else 1.0)


def shortened(text: str, longest: int = LONGEST) -> str:
    """`text`, of which the beginning is left out if it is too long.

    Example:
        >>> shortened("transformer.blocks.11.attention.out.weight", 20)
        '…tention.out.weight'
    """
    return text if len(text) <= longest else "…" + text[len(text) - longest + 2 :]


def _safe(text: str) -> str:
    """As XML takes it, which knows no control characters."""
    return escape("".join(c if c == "\n" else plain(c) for c in text))


def draw(nodes: Sequence[GraphNode], caption: str = "", down: bool = False) -> str:
    """The picture of `nodes`, the last of which is the result; with `down` from top to bottom."""
    texts = [[shortened(t) for t in (node.title, *node.lines)] for node in nodes]
    sizes = []
    for node, lines in zip(nodes, texts, strict=True):
        padding = PADDING + (NUMBER if _ordered(node) and not down else 0)
        width = max(text_width(t, bold=not k) for k, t in enumerate(lines))
        sizes.append((2 * padding + width, PADDING + LINE * len(lines)))
    plan = arrange([node.inputs for node in nodes], sizes, down)
    width, height = plan.width, plan.height
    if caption:
        width = max(width, text_width(caption) + 2 * PADDING)
        height += LINE + PADDING
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="{FONT}" font-size="{SIZE}" '
        f'role="img">',
        f"<title>graph of {len(nodes):,} nodes</title>",
        # The page behind may be dark.
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="#ffffff"/>',
        '<g fill="none" stroke="#8a94a0" stroke-width="1.3">',
    ]
    for (source, target, argument), route in zip(plan.edges, plan.routes, strict=True):
        tip = f"#{source} → #{target}, input {argument + 1}"
        parts.append(f'<path class="edge" d="{_path(route, down)}"><title>{tip}</title></path>')
    parts.append("</g>")
    parts.append(f'<path fill="#8a94a0" d="{_heads(plan.routes, down)}"/>')
    for i, (node, lines, box) in enumerate(zip(nodes, texts, plan.boxes, strict=True)):
        result = i == len(nodes) - 1 and node.kind == "op"
        parts += _box(i, node, lines, box, "result" if result else node.kind)
    parts += _argument_numbers(nodes, plan.edges, plan.routes, down)
    if caption:
        y = height - PADDING
        parts.append(f'<text x="{PADDING}" y="{y:.0f}" fill="#444444">{_safe(caption)}</text>')
    return "\n".join([*parts, "</svg>"])


def _box(
    number: int,
    node: GraphNode,
    lines: Sequence[str],
    box: tuple[float, float, float, float],
    kind: str,
) -> list[str]:
    x, y, width, height = box
    fill, border = FILL[kind]
    dashed = ' stroke-dasharray="4 3"' if kind in ("constant", "rest") else ""
    thick = "2.2" if kind == "result" else "1.2"
    parts = [
        f'<g class="node {node.kind}"><title>{_safe(f"#{number} {node.tooltip}")}</title>',
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="6" '
        f'fill="{fill}" stroke="{border}" stroke-width="{thick}"{dashed}/>',
    ]
    for k, line in enumerate(lines):
        style = ' font-weight="bold" fill="#111111"' if k == 0 else ' fill="#333333"'
        parts.append(
            f'<text x="{x + width / 2:.1f}" y="{y + 18 + LINE * k:.1f}" '
            f'text-anchor="middle"{style}>{_safe(line)}</text>'
        )
    return [*parts, "</g>"]


def _path(route: Sequence[tuple[float, float]], down: bool) -> str:
    """Curves from column to column, straight lines through columns: never through a box."""
    x, y = route[0]
    parts = [f"M{x:.1f},{y:.1f}"]
    for i, (x1, y1) in enumerate(route[1:]):
        if i % 2:
            parts.append(f"V{y1:.1f}" if down else f"H{x1:.1f}")
        elif down:
            middle = (y + y1) / 2
            parts.append(f"C{x:.1f},{middle:.1f} {x1:.1f},{middle:.1f} {x1:.1f},{y1:.1f}")
        else:
            middle = (x + x1) / 2
            parts.append(f"C{middle:.1f},{y:.1f} {middle:.1f},{y1:.1f} {x1:.1f},{y1:.1f}")
        x, y = x1, y1
    return "".join(parts)


def _heads(routes: Sequence[Sequence[tuple[float, float]]], down: bool) -> str:
    shape = "l-3.5,-7h7z" if down else "l-7,-3.5v7z"
    return "".join(f"M{x:.1f},{y:.1f}{shape}" for x, y in (route[-1] for route in routes))


def _ordered(node: GraphNode) -> bool:
    """Whether it matters which input is which."""
    alike = {SYMBOLS.get(op, op) for op in COMMUTATIVE}
    return node.kind == "op" and len(node.inputs) > 1 and node.label not in alike


def _argument_numbers(
    nodes: Sequence[GraphNode],
    edges: Sequence[tuple[int, int, int]],
    routes: Sequence[Sequence[tuple[float, float]]],
    down: bool,
) -> list[str]:
    parts = ['<g font-size="8" fill="#777777">']
    for (_, target, argument), route in zip(edges, routes, strict=True):
        if _ordered(nodes[target]):
            x, y = route[-1]
            dx, dy = (5, -2) if down else (3, 3)
            parts.append(f'<text x="{x + dx:.1f}" y="{y + dy:.1f}">{argument + 1}</text>')
    return [*parts, "</g>"] if len(parts) > 1 else []
