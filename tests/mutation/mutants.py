"""Mutants: one change of one place in the syntax tree of a module, each with a name."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from threading import Lock
from typing import Any

from tests.mutation.changes import arrays_in, replacements
from tests.mutation.sites import Function, Module, Scope, scopes

_ONE_AT_A_TIME = Lock()


@dataclass
class Mutant:
    """One change of one place.

    Attributes:
        module, scope, op: where, and of which op it is a part, if of one only.
        line: in the original file.
        before, after: the statement or expression around the place, original and changed.
        lines: where the functions begin that use the place.
    """

    module: str
    scope: str
    op: str | None
    line: int
    before: str
    after: str
    lines: list[int]
    _tree: ast.Module
    _slot: _Slot
    _new: Any

    @property
    def name(self) -> str:
        """The same for the same change, wherever in the file the lines move."""
        return f"{self.module}:{self.scope}: {self.before} → {self.after}"

    def source(self) -> str:
        """The changed module."""
        with _ONE_AT_A_TIME:  # mutants of one module share its tree
            old = self._slot.get()
            self._slot.put(self._new)
            try:
                return ast.unparse(ast.fix_missing_locations(self._tree))
            finally:
                self._slot.put(old)


@dataclass(frozen=True)
class _Slot:
    """A place in a syntax tree where a node can be taken out and another put in."""

    parent: ast.AST
    field: str
    index: int | None = None

    def get(self) -> Any:
        value = getattr(self.parent, self.field)
        return value if self.index is None else value[self.index]

    def put(self, new: Any) -> None:
        if self.index is None:
            setattr(self.parent, self.field, new)
        else:
            getattr(self.parent, self.field)[self.index] = new


def all_mutants() -> list[Mutant]:
    """Every change that is known, in the order of the files."""
    modules, found = scopes()
    inner = {id(s.node) for s in found}
    out: dict[str, Mutant] = {}
    for scope in found:
        for mutant in _of_scope(modules[scope.module], scope, inner - {id(scope.node)}):
            out.setdefault(mutant.name, mutant)
    return list(out.values())


def draw(mutants: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """`count` of them by chance: the same for the same seed, and an edit of one function does not
    change which are drawn from the others."""

    def place(mutant: Mutant) -> str:
        return hashlib.sha256(f"{seed}:{mutant.name}".encode()).hexdigest()

    return sorted(mutants, key=place)[:count]


def _of_scope(module: Module, scope: Scope, others: set[int]) -> Iterator[Mutant]:
    names = arrays_in(scope.node)
    public = isinstance(scope.node, ast.FunctionDef) and not scope.name.startswith("_")
    for slot, around in _slots(scope.node, scope.node, others, public):
        old = slot.get()
        before, line = _text(around), getattr(old, "lineno", getattr(around, "lineno", 0))
        dump = ast.dump(old) if isinstance(old, ast.AST) else repr(old)
        for new in replacements(old, slot.parent, names):
            if isinstance(new, ast.AST) and ast.dump(new) == dump:
                continue
            slot.put(new)
            after = "pass" if isinstance(new, ast.Pass) else _text(new if around is old else around)
            slot.put(old)
            yield Mutant(
                module.name, scope.name, scope.op, line, before, after, sorted(scope.lines),
                module.tree, slot, new,
            )  # fmt: skip


def _text(node: ast.AST) -> str:
    """A statement without the block that it heads, on one line."""
    if isinstance(node, ast.If | ast.While):
        return f"{type(node).__name__.lower()} {ast.unparse(node.test)}"
    if isinstance(node, ast.For):
        return f"for {ast.unparse(node.target)} in {ast.unparse(node.iter)}"
    if isinstance(node, ast.With):
        return "with " + ", ".join(ast.unparse(item) for item in node.items)
    if isinstance(node, ast.Lambda):
        return ast.unparse(node.body)
    if isinstance(node, ast.FunctionDef):
        return f"def {node.name}({ast.unparse(node.args)})"
    inside = getattr(node, "value", None) if node._fields == ("value",) else None
    return ast.unparse(node if inside is None else inside)  # a bare `return` has nothing inside


def _slots(
    node: ast.AST, around: ast.AST, others: set[int], public: bool
) -> Iterator[tuple[_Slot, ast.AST]]:
    """Places below `node`, each with the statement it is in."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "ctx", "handlers", "targets", "op"):
            continue
        if name == "args" and isinstance(node, Function):
            # The defaults of private functions are never used: their public ones pass everything.
            if public and isinstance(node, ast.FunctionDef):
                yield from _slots(value, node, others, public)
            continue
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or id(child) in others or _is_refusal(child):
                continue
            if isinstance(child, ast.keyword) and child.arg == "strict":
                continue  # a guard
            if isinstance(child, ast.arg | ast.Import | ast.ImportFrom) or _is_text(child):
                continue
            if index == 1 and isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance":
                continue  # classes, in any order
            inside = child if isinstance(child, ast.stmt) else around
            yield _Slot(node, name, index), inside
            yield from _slots(child, inside, others, public)


def _is_refusal(node: ast.AST) -> bool:
    """Whether this only raises: what users see of it is the business of the tests of errors."""
    if isinstance(node, ast.If):
        return not node.orelse and all(isinstance(s, ast.Raise) for s in node.body)
    return isinstance(node, ast.Raise)


def _is_text(node: ast.AST) -> bool:
    if isinstance(node, ast.Expr):
        node = node.value
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
