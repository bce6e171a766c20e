"""`microgpt ops`: the op table."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

from microgpt.cli import rules
from microgpt.cli.backends import kernel_names, survey, where
from microgpt.cli.text import fields, table
from microgpt.errors import InputError
from microgpt.ops.table import TABLE, Op
from microgpt.plugins import registry

_EXPLANATION = """\
gradient  rule: one per input. none: there is none. fused: the op is made of other ops, and its
          gradient is theirs. fused, rule: made of other ops, with a rule of its own.
kernels   the backends that compute the op themselves; others run the definition, if it has one.
microgpt ops NAME shows the rules and all the rest about one op."""


def kind(op: Op) -> str:
    """Whether backends compute the op, or it is made of ops and backends may do better."""
    return "primitive" if op.body is None else "fused"


def served_on(op: Op, backends: list[str]) -> str:
    """The backends with a kernel for the op."""
    found = [b for b in backends if registry.kernel(b, op.name) is not None]
    return " ".join(found) or ("definition" if op.body or op.compute else "-")


def show_table() -> None:
    """Print all ops, one per line."""
    backends = list(survey()[0])
    rows = [(op.name, rules.status(op), served_on(op, backends), op.doc) for op in TABLE.values()]
    print(table(("op", "gradient", "kernels", "formula"), rows, first=22))
    print(f"\n{len(TABLE)} ops.\n{_EXPLANATION}")


def find(name: str) -> Op:
    """The op called `name`.

    Raises:
        InputError: if there is none, with the likely mend.
    """
    from difflib import get_close_matches

    import microgpt

    op = TABLE.get(name) or getattr(getattr(microgpt, name, None), "op", None)
    if op is not None:
        return op
    if callable(getattr(microgpt, name, None)) and name in microgpt.__all__:
        raise InputError(
            f"mg.{name} is no op but a function made of ops; help(mg.{name}) describes it"
        )
    close = get_close_matches(name, TABLE, n=3)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise InputError(f"there is no op '{name}'; {hint}`microgpt ops` lists all of them")


def show_op(name: str) -> None:
    """Print everything about one op."""
    op = find(name)
    made = op.body or op.compute
    form = ", ".join(
        word
        for word, true in (
            (kind(op), True),
            ("elementwise", op.elementwise),
            ("inputs broadcast", op.broadcasts),
            ("integers become floats", op.floats),
        )
        if true
    )
    names = rules.input_names(op)
    lines = [("formula", op.doc), ("kind", form), ("inputs", ", ".join(names))]
    if op.index_inputs:
        indices = [names[i] for i in op.index_inputs if i < len(names)]
        lines.append(("indices", f"{', '.join(indices)}: integers or truth values, no gradient"))
    lines += [("gradient", _gradient_text(op)), ("reads", rules.reads(op))]
    domain = None if op.domain is None else rules.expression(op.domain)
    lines.append(("tested on", domain or "values of any sign"))
    print(op.name)
    print(fields([line for line in lines if line[1]]))
    print()
    rows = []
    for backend in survey()[0]:
        for kernel_name in kernel_names(op):
            for server in registry.servers(backend, kernel_name)[:1]:
                rows.append((backend, kernel_name, server.plugin, where(server.kernel)))
    print(table(("backend", "kernel", "plugin", "function"), rows) if rows else "no kernels")
    for title, function in _functions(op):
        print(f"\n{title}\n")
        print(rules.source(function))
    text = inspect.getdoc(op.function)
    if text and op.function is not made and text != op.doc:
        print(f"\nmg.{op.name}{_signature(op)}\n\n{text}")


def _signature(op: Op) -> str:
    try:
        parameters = inspect.signature(op.function).parameters.values()
    except (TypeError, ValueError):
        return "(…)"
    shown = []
    for p in parameters:
        plain = p.replace(annotation=p.empty)
        shown.append(str(plain))
    return f"({', '.join(shown)})"


def _gradient_text(op: Op) -> str:
    texts = rules.gradients(op)
    if not texts:
        return f"none: {op.nondifferentiable or 'not defined'}"
    if len(texts) == 1 and texts[0].formula.startswith("by "):
        return texts[0].formula
    lines = [f"by {t.input}: {t.formula}" for t in texts]
    return "\n".join([*lines, "(g: gradient of the output y)"])


def _functions(op: Op) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The functions of several steps that belong to the op."""
    if op.body is not None:
        yield "definition", op.body
    seen = set()
    for text in rules.gradients(op):
        if text.function is not None and text.function not in seen:
            seen.add(text.function)
            yield f"gradient rule, by {text.input}", text.function


# ---- Markdown --------------------------------------------------------------------------------


def show_markdown() -> None:
    """Print the table for the reference documentation, by the module that declares the ops."""
    groups: dict[str, list[Op]] = {}
    for op in TABLE.values():
        groups.setdefault(_home(op), []).append(op)
    backends = list(survey()[0])
    print("# Ops\n")
    print(
        "In the gradients, `g` is the gradient of the output `y`. "
        "*definition* means: by differentiating the definition, which is made of other ops.\n"
    )
    for home, ops in groups.items():
        print(f"## {home.rpartition('.')[2].replace('_', ' ').capitalize()}\n")
        print("| op | formula | gradient | kept for it | kernels |")
        print("|---|---|---|---|---|")
        for op in ops:
            row = (
                f"`{op.name}`" + (" (fused)" if op.body is not None else ""),
                _escaped(op.doc),
                _markdown_gradient(op),
                _escaped(rules.reads(op)),
                served_on(op, backends),
            )
            print(f"| {' | '.join(row)} |")
        print()
        for op in ops:
            for text in rules.gradients(op):
                if text.function is not None:
                    print(f"`{op.name}`, gradient by {text.input}:\n")
                    print(f"```python\n{rules.source(text.function)}\n```\n")


def _home(op: Op) -> str:
    for part in (op.body, op.compute, op.domain, op.function):
        if part is not None:
            return part.__module__
    return ""


def _markdown_gradient(op: Op) -> str:
    texts = rules.gradients(op)
    if not texts:
        return f"none: {_escaped(op.nondifferentiable)}"
    if texts[0].formula.startswith("by "):
        return "*definition*"
    return "<br>".join(
        f"{t.input}: "
        + ("none" if t.formula == "none" else f"`{t.formula.replace('|', chr(92) + '|')}`")
        for t in texts
    )


def _escaped(text: str) -> str:
    return re.sub(r"([|*_])", r"\\\1", text)
