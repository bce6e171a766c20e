"""The gradient rules of an op as text, taken from the source in which they are declared."""

from __future__ import annotations

import ast
import inspect
import linecache
from collections.abc import Callable
from functools import cache
from textwrap import dedent
from typing import Any, NamedTuple

from microgpt.ops.table import Op


class RuleText(NamedTuple):
    """How the gradient of one input is computed."""

    input: str
    formula: str
    """One expression, or the name of a function of several steps."""
    function: Callable[..., Any] | None = None
    """That function of several steps."""


def input_names(op: Op) -> list[str]:
    """What the inputs are called in the rules or in the definition; all of them as `*inputs`."""
    rules = op.rules if isinstance(op.rules, tuple) else (op.rules,)
    for function, skip in [(op.body, 0), (op.compute, 0), *[(rule, 2) for rule in rules]]:
        if function is None:
            continue
        parameters = list(inspect.signature(function).parameters.values())[skip:]
        if op.arity is None or any(p.kind is p.VAR_POSITIONAL for p in parameters[:1]):
            return [f"*{parameters[0].name}"]
        if len(parameters) >= op.arity:
            return [p.name for p in parameters[: op.arity]]
    return [chr(97 + i) for i in range(op.arity or 1)] if op.arity != 1 else ["x"]


def gradients(op: Op) -> list[RuleText]:
    """One text per input, or one for all of them; empty if there is no gradient."""
    if op.nondifferentiable or (op.rules is None and op.body is None):
        return []
    names = input_names(op)
    if op.rules is None:
        return [RuleText(", ".join(names), "by differentiating the definition")]
    if isinstance(op.rules, tuple):
        return [
            RuleText(name, "none") if rule is None else _text(name, rule)
            for name, rule in zip(names, op.rules, strict=False)
        ]
    parts = joint_parts(op.rules)
    if parts is None:
        return [_text(", ".join(names), op.rules)]
    return [RuleText(name, part) for name, part in zip(names, parts, strict=False)]


def status(op: Op) -> str:
    """In a few words, whether and how the op is differentiated."""
    if op.nondifferentiable or (op.rules is None and op.body is None):
        return "none"
    if op.body is None:
        return "rule"
    return "fused" if op.rules is None else "fused, rule"


def reads(op: Op) -> str:
    """Which values are kept for the rules."""
    if op.rules is None:
        return "what the ops of the definition read" if op.body and not op.nondifferentiable else ""
    names = input_names(op)
    if op.reads is None or names[0].startswith("*"):
        return (
            "the inputs and y, the output" if op.reads is None else "".join(op.reads) or "nothing"
        )
    letters = dict(zip("abcdefgh", names, strict=False)) | {"y": "y (the output)"}
    used = [
        letters[c] for c in (*"abcdefgh", "y") if any(c in r for r in op.reads) and c in letters
    ]
    return ", ".join(used) or "nothing"


def _text(name: str, rule: Callable[..., Any]) -> RuleText:
    formula = expression(rule)
    if formula is not None:
        return RuleText(name, formula)
    called = f"{getattr(rule, '__name__', type(rule).__name__)}(…)"
    return RuleText(name, called, rule)


def expression(function: Callable[..., Any]) -> str | None:
    """What `function` returns, if it is a lambda or nothing but a return statement.

    Example:
        >>> from microgpt.cli.rules import expression
        >>> from microgpt.ops import TABLE
        >>> expression(TABLE["tanh"].rules[0])
        'g - g * y * y'
    """
    node = _node(function)
    return None if node is None else ast.unparse(node)


def joint_parts(function: Callable[..., Any]) -> list[str] | None:
    """The parts of the tuple that a joint rule returns, if that is all it does."""
    node = _node(function)
    return [ast.unparse(e) for e in node.elts] if isinstance(node, ast.Tuple) else None


def source(function: Callable[..., Any]) -> str:
    """The source of a named function, without its indentation."""
    try:
        return dedent(inspect.getsource(function)).rstrip()
    except (OSError, TypeError):
        return "(its source is not available)"


def _node(function: Callable[..., Any]) -> ast.expr | None:
    """The expression that `function` returns, in the syntax tree of its file."""
    code = getattr(function, "__code__", None)
    tree = None if code is None else _tree(code.co_filename)
    if code is None or tree is None:
        return None
    found = [n for n in ast.walk(tree) if _starts(n) == code.co_firstlineno]
    if code.co_name != "<lambda>":
        for node in found:
            if isinstance(node, ast.FunctionDef) and node.name == code.co_name:
                body = node.body[1:] if ast.get_docstring(node) else node.body
                if len(body) == 1 and isinstance(body[0], ast.Return):
                    return body[0].value
        return None
    lambdas = [n for n in found if isinstance(n, ast.Lambda)]
    if len(lambdas) < 2:
        return lambdas[0].body if lambdas else None
    # Several in one line: the columns of the compiled code say which of them it is. A lambda
    # inside it has fewer of them, one around it has the same and is longer.
    spans = [p for p in code.co_positions() if p[2] is not None and p[3]]
    found = [(sum(_within(p, n.body) for p in spans), -len(ast.unparse(n)), n) for n in lambdas]
    hits, _, best = max(found, key=lambda f: f[:2])
    return best.body if hits else None


def _starts(node: ast.AST) -> int | None:
    decorators = getattr(node, "decorator_list", None)
    return getattr(decorators[0] if decorators else node, "lineno", None)


def _within(span: tuple[Any, ...], node: ast.expr) -> bool:
    start, end, column, end_column = span
    return (start, column) >= (node.lineno, node.col_offset) and (end, end_column) <= (
        node.end_lineno,
        node.end_col_offset,
    )


@cache
def _tree(filename: str) -> ast.Module | None:
    lines = linecache.getlines(filename)
    try:
        return ast.parse("".join(lines)) if lines else None
    except SyntaxError:
        return None
