"""The changes: what may stand in the place of a node of a syntax tree."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from typing import Any

SIBLINGS = [
    "sin cos", "tan tanh", "exp expm1", "log log1p", "sqrt square", "abs negative", "floor ceil",
    "max min", "maximum minimum", "argmax argmin", "any all", "sum mean", "_add _largest",
    "equal not_equal", "greater greater_equal", "less less_equal", "logical_and logical_or",
    "isfinite isnan", "zeros_like ones_like", "zeros ones", "add subtract", "tril triu",
    "multiply true_divide", "cumsum cumprod", "sigmoid tanh", "softmax log_softmax", "sign abs",
    "_take _index_add", "_gather _scatter_add", "_slice _unslice", "take take_along_axis",
]  # fmt: skip
"""Functions that are easily taken for each other."""

SWAPPED = {a: b for pair in SIBLINGS for a, b in (pair.split(), pair.split()[::-1])}

OPERATORS: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
COMPARISONS: dict[type, list[type]] = {
    ast.Lt: [ast.LtE, ast.Gt], ast.LtE: [ast.Lt, ast.GtE], ast.Gt: [ast.GtE, ast.Lt],
    ast.GtE: [ast.Gt, ast.LtE], ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is], ast.In: [ast.NotIn], ast.NotIn: [ast.In],
}  # fmt: skip

NO_ARRAYS = {
    "axis", "axes", "keepdims", "shape", "dtype", "key", "kernel", "stride", "padding", "dilation",
    "size", "widths", "name", "op", "needs", "eps", "scale", "correction", "causal", "groups",
    "approximate", "value", "k", "num_classes", "ignore_index",
}  # fmt: skip
"""Parameters that stand for no array; a name of an array is not replaced by one of these."""


def arrays_in(node: ast.AST) -> list[str]:
    """Names in a function that may stand for arrays, in the order in which they come up."""
    found = []
    if isinstance(node, ast.FunctionDef | ast.Lambda):
        found = [a.arg for a in node.args.args if a.arg not in NO_ARRAYS]
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            found.append(inner.id)
    return list(dict.fromkeys(found))


def replacements(node: Any, parent: ast.AST, arrays: list[str]) -> Iterator[Any]:
    """What may stand in the place of a node; `arrays` are the names in scope, see `arrays_in`."""
    kind = type(node).__name__
    make = _MAKERS.get(kind)
    if make is not None:
        yield from make(node)
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in arrays:
        at = arrays.index(node.id)
        for other in {arrays[at - 1], arrays[(at + 1) % len(arrays)]} - {node.id}:
            yield ast.Name(other, ast.Load())
    returned = isinstance(parent, ast.Return | ast.Lambda)
    if returned and isinstance(node, ast.Name | ast.Call | ast.BinOp | ast.IfExp):
        yield ast.UnaryOp(ast.USub(), node)
        for name in arrays[:3]:
            yield ast.Name(name, ast.Load())


def _copy(node: Any, **fields: Any) -> Any:
    new = copy.copy(node)
    for name, value in fields.items():
        setattr(new, name, value)
    return new


def _binary(node: ast.BinOp) -> Iterator[ast.AST]:
    other = OPERATORS.get(type(node.op))
    if other is not None:
        yield _copy(node, op=other())
    if not isinstance(node.op, ast.Add | ast.Mult | ast.BitAnd | ast.BitOr):
        yield _copy(node, left=node.right, right=node.left)
    yield node.left
    yield node.right


def _augmented(node: ast.AugAssign) -> Iterator[ast.AST]:
    other = OPERATORS.get(type(node.op))
    if other is not None:
        yield _copy(node, op=other())
    yield ast.Pass()


def _constant(node: ast.Constant) -> Iterator[ast.AST]:
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    elif isinstance(value, int):
        yield ast.Constant(value + 1)
        yield ast.Constant(value - 1)
    elif isinstance(value, float):
        yield ast.Constant(value * 1.01 if value else 0.01)
        yield ast.Constant(-value if value else 1.0)


def _compare(node: ast.Compare) -> Iterator[ast.AST]:
    for i, op in enumerate(node.ops):
        for other in COMPARISONS[type(op)]:
            yield _copy(node, ops=[*node.ops[:i], other(), *node.ops[i + 1 :]])


def _boolean(node: ast.BoolOp) -> Iterator[ast.AST]:
    yield _copy(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    for i in range(len(node.values)):
        rest = [v for k, v in enumerate(node.values) if k != i]
        yield rest[0] if len(rest) == 1 else _copy(node, values=rest)


def _call(node: ast.Call) -> Iterator[ast.AST]:
    args = node.args
    for i in range(len(args) - 1):
        if not any(isinstance(a, ast.Starred) for a in args[i : i + 2]):
            yield _copy(node, args=[*args[:i], args[i + 1], args[i], *args[i + 2 :]])
    if len(args) > 1:
        yield _copy(node, args=args[:-1])
    if args and not isinstance(args[0], ast.Starred | ast.GeneratorExp):
        yield args[0]
    for i, keyword in enumerate(node.keywords):
        if keyword.arg == "strict":  # of zip: a guard, which the package never sets off
            continue
        yield _copy(node, keywords=node.keywords[:i] + node.keywords[i + 1 :])
        if keyword.arg == "keepdims" and isinstance(keyword.value, ast.Name):
            opposite = ast.UnaryOp(ast.Not(), keyword.value)
            changed = ast.keyword(keyword.arg, opposite)
            yield _copy(node, keywords=[*node.keywords[:i], changed, *node.keywords[i + 1 :]])


def _if(node: ast.If) -> Iterator[ast.AST]:
    yield _copy(node, test=ast.UnaryOp(ast.Not(), node.test))
    yield _copy(node, test=ast.Constant(True))
    yield _copy(node, test=ast.Constant(False))


def _choice(node: ast.IfExp) -> Iterator[ast.AST]:
    yield _copy(node, body=node.orelse, orelse=node.body)
    yield node.body
    yield node.orelse


def _slice(node: ast.Slice) -> Iterator[ast.AST]:
    for name in ("lower", "upper", "step"):
        bound = getattr(node, name)
        if bound is not None:
            yield _copy(node, **{name: None})
            for op in (ast.Add(), ast.Sub()):
                yield _copy(node, **{name: ast.BinOp(bound, op, ast.Constant(1))})


def _sequence(node: ast.Tuple | ast.List) -> Iterator[ast.AST]:
    for i in range(len(node.elts) - 1):
        swapped = [*node.elts[:i], node.elts[i + 1], node.elts[i], *node.elts[i + 2 :]]
        yield _copy(node, elts=swapped)


def _name(node: ast.Name) -> Iterator[ast.AST]:
    if isinstance(node.ctx, ast.Load) and node.id in SWAPPED:
        yield ast.Name(SWAPPED[node.id], ast.Load())


def _attribute(node: ast.Attribute) -> Iterator[ast.AST]:
    if isinstance(node.ctx, ast.Load) and node.attr in SWAPPED:
        yield _copy(node, attr=SWAPPED[node.attr])


def _statement(node: ast.Expr) -> Iterator[ast.AST]:
    yield ast.Pass()


def _unary(node: ast.UnaryOp) -> Iterator[ast.AST]:
    yield node.operand


_MAKERS: dict[str, Any] = {
    "BinOp": _binary,
    "AugAssign": _augmented,
    "Constant": _constant,
    "Compare": _compare,
    "BoolOp": _boolean,
    "Call": _call,
    "If": _if,
    "IfExp": _choice,
    "Slice": _slice,
    "Tuple": _sequence,
    "List": _sequence,
    "Name": _name,
    "Attribute": _attribute,
    "Expr": _statement,
    "UnaryOp": _unary,
}
