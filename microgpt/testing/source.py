"""The source of a function with what it uses, so that a script can define it again."""

from __future__ import annotations

import ast
import builtins
import inspect
import sys
import textwrap
from functools import partial
from types import CodeType, ModuleType
from typing import Any

import numpy as np

from microgpt.tensor import Tensor
from microgpt.testing.literals import function_text, instance_text, literal

SKIP = {"np", "mg", "functools", *dir(builtins)}
"""Names that every script has."""


class Gathered:
    """Code that defines functions, in order, and what could not be written down.

    Attributes:
        lines: pieces of code.
        missing: for each name that the script still needs, what it is.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.missing: dict[str, str] = {}
        self._seen: dict[str, Any] = {}

    def function(self, function: Any) -> None:
        """Add what is needed to write `function_text(function)`."""
        if isinstance(function, partial):
            self.function(function.func)
            return
        text = function_text(function)
        if text.startswith("mg."):
            return
        owner = getattr(function, "__self__", function)
        if owner is not function or not hasattr(function, "__name__"):
            name = instance_text(owner)
            self.missing[name] = f"an object of the class {type(owner).__qualname__}"
            return
        self._define(text, function)

    def _define(self, name: str, function: Any) -> None:
        op = getattr(function, "op", None)
        target = op.compute or op.body if op is not None else function
        code = _source(target)
        if code is None:
            self.missing[name] = f"the function {getattr(target, '__qualname__', name)}"
            return
        tree = ast.parse(code)
        lambda_ = isinstance(tree.body[0], ast.Expr)
        known = {**getattr(target, "__globals__", {}), **_closure(target)}
        for used in _free_names(tree):
            self._value(used, known)
        self.lines.append(f"{name} = {code}" if lambda_ else code)

    def _value(self, name: str, known: dict[str, Any]) -> None:
        """Add the definition of one name."""
        if name not in known:
            self.missing.setdefault(name, "not found")
            return
        value = known[name]
        if name in self._seen:
            if self._seen[name] is not value:
                self.missing[name] = "two different things have this name"
            return
        self._seen[name] = value
        if isinstance(value, ModuleType) and not _installed(value):
            self.missing[name] = f"the module {value.__name__}"
        elif isinstance(value, ModuleType):
            self.lines.append(f"import {value.__name__} as {name}")
        elif isinstance(value, (np.ndarray, Tensor)) or _plain(value):
            self.lines.append(f"{name} = {literal(value)}")
        elif inspect.isfunction(value) and str(value.__module__).startswith("microgpt."):
            self.lines.append(f"from {value.__module__} import {value.__name__} as {name}")
        elif inspect.isfunction(value):
            self._define(name, value)
        elif inspect.isclass(value) and value.__module__.partition(".")[0] in ("microgpt", "numpy"):
            self.lines.append(f"from {value.__module__} import {value.__qualname__} as {name}")
        else:
            self.missing[name] = f"an object of the class {type(value).__qualname__}"


def _installed(module: ModuleType) -> bool:
    """Whether a script in any folder can import it."""
    file = getattr(module, "__file__", None) or ""
    top = module.__name__.partition(".")[0]
    return top in (*sys.stdlib_module_names, "microgpt") or "-packages" in file


def _plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(_plain(v) for v in value)
    return value is None or isinstance(value, (bool, int, float, str, np.generic))


def _closure(function: Any) -> dict[str, Any]:
    found = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # not assigned yet
            continue
    return found


def _source(function: Any) -> str | None:
    """The definition, of a lambda the expression; None where it cannot be found."""
    try:
        text = textwrap.dedent(inspect.getsource(function)).rstrip()
    except (OSError, TypeError):
        return None
    if function.__name__ != "<lambda>":
        try:
            return text if isinstance(ast.parse(text).body[0], ast.FunctionDef) else None
        except SyntaxError:
            return None
    return _lambda(text, function.__code__)


def _lambda(text: str, code: CodeType) -> str | None:
    """The lambda with this code in lines of source, which may begin and end anywhere."""
    lines = text.splitlines()
    tries = [text, f"({text})", f"({text}", "_(" + text.strip().rstrip(",") + ")", f"{text} pass"]
    tries += ["\n".join([*lines, "    pass"]), "{" + text + "}", "[" + text + "]"]
    for tried in tries:
        try:
            tree = ast.parse(tried)
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Lambda) and _same(node, code):
                return ast.unparse(node)
    return None


def _same(node: ast.Lambda, code: CodeType) -> bool:
    """Whether a lambda of the source compiles to this code, but for where its names live."""
    made = compile(ast.Expression(node), "", "eval").co_consts[0]
    names = {*made.co_names, *made.co_freevars}
    return (
        made.co_varnames == code.co_varnames
        and names == {*code.co_names, *code.co_freevars}
        and [c for c in made.co_consts if not isinstance(c, CodeType)]
        == [c for c in code.co_consts if not isinstance(c, CodeType)]
    )


def _free_names(tree: ast.Module) -> list[str]:
    """Names that code uses and does not define."""
    defined: set[str] = set()
    used: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            defined.add(node.name)
        elif isinstance(node, ast.arg):
            defined.add(node.arg)
        elif isinstance(node, ast.Name):
            if isinstance(node.ctx, ast.Load):
                used.append(node.id)
            else:
                defined.add(node.id)
    hints = {  # annotations are not evaluated
        id(name)
        for node in ast.walk(tree)
        for hint in (getattr(node, "annotation", None), getattr(node, "returns", None))
        if isinstance(hint, ast.AST)
        for name in ast.walk(hint)
    }
    names = [n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in hints]
    return [n for n in dict.fromkeys(used) if n in names and n not in defined and n not in SKIP]
