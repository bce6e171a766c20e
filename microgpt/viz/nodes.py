"""What a picture of a graph shows of each node: name, symbol, shape, value, gradient."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from microgpt.graph import Keep, Leaf, Node
from microgpt.plugins import registry
from microgpt.scalar import Scalar
from microgpt.viz.walk import Bones, Constant, count, kept

SYMBOLS = {
    "add": "+", "subtract": "−", "multiply": "×", "divide": "÷", "pow": "^", "matmul": "@",
    "negative": "−x", "square": "x²", "sqrt": "√x", "exp": "eˣ", "log": "ln x", "abs": "|x|",
    "sum": "Σ", "sigmoid": "σ", "relu": "ReLU", "gelu": "GELU", "silu": "SiLU",
    "less": "<", "less_equal": "≤", "greater": ">", "greater_equal": "≥", "equal": "=",
}  # fmt: skip
"""What is written for an op whose symbol everybody knows; others go by their names."""

COMMUTATIVE = ("add", "multiply", "maximum", "minimum")


class GraphNode(NamedTuple):
    """One box of a picture.

    Attributes:
        kind: "op", "leaf" (may have a gradient), "constant", or "rest" (what is not drawn).
        name: given by the user or the module; "" if there is none.
        label: the op's symbol with its constant, or what kind of leaf it is.
        inputs: places of the inputs in the list of nodes, in the order of the arguments.
        lines: shape, value and gradient, as far as they are known.
        tooltip: all there is to say.
    """

    kind: str
    name: str
    label: str
    inputs: tuple[int, ...]
    lines: tuple[str, ...]
    tooltip: str

    @property
    def title(self) -> str:
        """The first line: the name if there is one, and the operation."""
        if self.name and self.kind == "op":
            return f"{self.name} = {self.label}"
        return self.name or self.label


def describe(graph: Bones, place: int, inputs: tuple[int, ...]) -> GraphNode:
    """The node at `place`, with `inputs` as the places of its inputs in the picture."""
    item = graph.items[place]
    key = id(item.data) if isinstance(item, Constant) else id(item)
    name = graph.names.get(key, "")
    if isinstance(item, Scalar):
        return _scalar_node(item, name, inputs)
    if isinstance(item, Constant):
        lines = _shape_lines(item.data) + _value_lines(item.data)
        tooltip = "\n".join([name or "constant: no gradient flows here", *_full(item.data)])
        return GraphNode("constant", name, "constant", inputs, lines, tooltip)
    leaf = isinstance(item, Leaf)
    value = item.data if leaf else graph.values.get(id(item))
    lines = _value_lines(value)
    if item.shape:
        lines = (str(tuple(item.shape)), *lines)
    tooltip = [name] if name else []
    tooltip += ["leaf"] if leaf else _op_tooltip(item, inputs)
    tooltip += [f"shape {tuple(item.shape)}"] if value is None else _full(value)
    if item.grad is not None and not isinstance(item.grad, Keep):
        lines += _grad_lines(item.grad._data)
        tooltip += ["gradient:", *_full(item.grad._data)]
    elif leaf:
        tooltip.append("no gradient yet")
    label = "leaf" if leaf else _tensor_label(item)
    return GraphNode(
        "leaf" if leaf else "op", name, label, inputs, lines, "\n".join(tooltip)
    )  # fmt: skip


def rest(graph: Bones, drawn: Sequence[int]) -> GraphNode:
    """The box that stands for all nodes that are not drawn."""
    left = set(range(len(graph.items))).difference(drawn)
    counts: Counter[str] = Counter()
    for place in left:
        op = getattr(graph.items[place], "op", None)
        counts["leaf" if op is None else op.name] += 1
    common = tuple(f"{n:,} {what}" for what, n in counts.most_common(3))
    every = "\n".join(f"{n:,} {what}" for what, n in counts.most_common())
    return GraphNode("rest", "", f"… {len(left):,} more", (), common, f"not drawn:\n{every}")


def _scalar_node(item: Scalar, name: str, inputs: tuple[int, ...]) -> GraphNode:
    grad = float(item.grad)
    lines = (f"value {_number(item.data)}", f"grad {_number(grad)}")
    full = [f"value {item.data!r}", f"gradient {grad!r}"]
    if item.op is None:
        return GraphNode("leaf", name, "leaf", inputs, lines, "\n".join([name or "leaf", *full]))
    given = item._a if isinstance(item._b, dict) else (item._a, item._b)
    constants = [None if x is None or isinstance(x, Scalar) else _number(x) for x in given]
    label = _label(item.op.name, constants)
    tooltip = [name] if name else []
    tooltip += [f"{item.op.name}: {item.op.doc}", _from(inputs), *full]
    return GraphNode("op", name, label, inputs, lines, "\n".join(tooltip))


def _tensor_label(node: Node) -> str:
    constants: list[str | None] = []
    for i, parent in enumerate(node.parents):
        saved = kept(node, i)
        if parent is not None or (hasattr(saved, "shape") and count(saved) > 1):
            constants.append(None)
        elif saved is None:
            constants.append("constant")
        else:
            constants.append(_number(_host(saved).reshape(-1)[0]))
    # The value of a constant that no rule reads is not kept; for most ops that says little.
    return _label(node.op.name, constants if len(constants) == 2 and node.op.kind == 2 else [])


def _label(op: str, constants: Sequence[str | None]) -> str:
    symbol = SYMBOLS.get(op, op)
    if len(constants) != 2 or (constants[0] is None and constants[1] is None):
        return symbol
    first, second = constants
    if op == "pow":
        return f"x ^ {second}" if first is None else f"{first} ^ x"
    if op not in SYMBOLS:
        return f"{op}({first or 'x'}, {second or 'x'})"
    if first is None or op in COMMUTATIVE:
        return f"{symbol} {second if first is None else first}"
    return f"{first} {symbol} x"


def _op_tooltip(node: Node, inputs: tuple[int, ...]) -> list[str]:
    lines = [f"{node.op.name}: {node.op.doc.strip().splitlines()[0]}", _from(inputs)]
    lines += [f"{key} = {value!r:.60}" for key, value in (node.params or {}).items()]
    if node.where:
        lines.append(f"made in {node.where}")
    if node.saved is None:
        lines.append("its values were freed by a backward pass (retain_graph=True keeps them)")
    return lines


def _from(inputs: Sequence[int]) -> str:
    return "of " + ", ".join(f"#{i}" for i in inputs)


def _host(raw: Any) -> np.ndarray:
    if isinstance(raw, (int, float, bool)):
        return np.asarray(raw)
    return np.asarray(registry.backend_of(raw).to_numpy(raw))


def _number(value: Any) -> str:
    return f"{float(value):.4g}".replace("-", "−")


def _shape_lines(raw: Any) -> tuple[str, ...]:
    return (str(tuple(raw.shape)),) if raw.shape else ()


def _value_lines(raw: Any) -> tuple[str, ...]:
    if raw is None:
        return ()
    if count(raw) == 1:
        return (f"value {_number(_host(raw).reshape(-1)[0])}",)
    if len(raw.shape) == 1 and count(raw) <= 3:
        return (f"[{', '.join(_number(x) for x in _host(raw))}]",)
    return ()


def _grad_lines(raw: Any) -> tuple[str, ...]:
    if count(raw) == 1:
        return (f"grad {_number(_host(raw).reshape(-1)[0])}",)
    if len(raw.shape) == 1 and count(raw) <= 3:
        return (f"grad [{', '.join(_number(x) for x in _host(raw))}]",)
    return (f"|grad| {_number(np.linalg.norm(_host(raw)))}",)


def _full(raw: Any) -> list[str]:
    host = _host(raw)
    head = f"shape {host.shape}, {host.dtype}"
    if host.size <= 1 or host.dtype.kind not in "fiu":
        return [head, *[f"value {x}" for x in host.reshape(-1)[:1]]]
    mean = float(host.mean(dtype=np.float64))
    return [head, f"from {_number(host.min())} to {_number(host.max())}, mean {_number(mean)}"]
