"""Which functions are mutated: rules, bodies, kernels, and whatever these call.

Found in the syntax trees alone, so that the parent process need not import what is mutated. The
roots are the `vjp=` of every op, every function declared by `fused` or `primitive`, and the kernels
of the NumPy backend; from there names are followed through the modules of `MODULES`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
OPS = (
    "activation", "attention", "cached_attention", "conv", "elementwise", "indexing", "linalg",
    "movement", "network", "optimizing", "recurrent", "reduction",
)  # fmt: skip
KERNELS = (
    "attention", "cached_attention", "conv", "elementwise", "indexing", "linalg", "movement",
    "network", "optimizing", "recurrent", "reduction", "rowwise",
)  # fmt: skip
MODULES = {
    **{f"microgpt.ops.{name}": f"microgpt/ops/{name}.py" for name in OPS},
    "microgpt.autograd": "microgpt/autograd.py",
    **{f"microgpt_numpy.{name}": f"backends/microgpt_numpy/{name}.py" for name in KERNELS},
}
"""Modules with something to mutate, and their files. Of autograd only what a rule calls counts."""

Function = ast.FunctionDef | ast.Lambda


@dataclass
class Scope:
    """A function, or a value at module level, whose inside may be mutated.

    Attributes:
        module: dotted name.
        name: of the function; for a lambda or value that of the op it belongs to.
        node: the function; for a value the statement or dictionary that holds it.
        lines: where the code objects begin whose being called means that this is used.
        op: the op of which this is a rule, body or kernel, if it is of one only.
    """

    module: str
    name: str
    node: ast.AST
    lines: set[int] = field(default_factory=set)
    op: str | None = None


def code(node: ast.AST) -> Iterator[ast.AST]:
    """A node and all nodes in it that run when it is used: no annotations, no decorators."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from code(child)


def first_line(node: Function) -> int:
    """The line that the code object of a function gives as its first."""
    decorators = getattr(node, "decorator_list", [])
    return decorators[0].lineno if decorators else node.lineno


class Module:
    """The syntax tree of a module, with what its top-level names stand for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.source = (ROOT / MODULES[name]).read_text(encoding="utf-8")
        self.tree = ast.parse(self.source)
        self.functions: dict[str, ast.FunctionDef] = {}
        self.values: dict[str, ast.Assign | ast.AnnAssign] = {}
        self.imported: dict[str, tuple[str, str | None]] = {}
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef):
                self.functions[node.name] = node
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self.values[node.targets[0].id] = node
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                self.values[node.target.id] = node
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    place = (whole, None) if whole in MODULES else (node.module, alias.name)
                    self.imported[alias.asname or alias.name] = place


def scopes() -> tuple[dict[str, Module], list[Scope]]:
    """All modules, and everything in them that is reached from a rule, a body or a kernel."""
    modules = {name: Module(name) for name in MODULES}
    found: dict[int, Scope] = {}
    queue: list[tuple[Module, Scope]] = []

    def reach(module: Module, scope: Scope) -> None:
        known = found.get(id(scope.node))
        if known is None:
            found[id(scope.node)] = scope
            queue.append((module, scope))
        else:
            known.lines |= scope.lines
            known.op = known.op if known.op == scope.op else None

    for module in modules.values():
        for scope in _roots(module):
            reach(module, scope)
    while queue:
        module, scope = queue.pop()
        for other, target in _called(modules, module, scope.node):
            for new in _named(other, target, scope):
                reach(other, new)
    return modules, sorted(found.values(), key=lambda s: (s.module, _line(s.node), s.name))


def _line(node: ast.AST) -> int:
    return getattr(node, "lineno", 0)


def _roots(module: Module) -> Iterator[Scope]:
    yield from _rules(module)
    for name, node in module.functions.items():
        for decorator in node.decorator_list:
            if _callee(decorator) in ("fused", "primitive"):
                yield Scope(module.name, name, node, {first_line(node)}, name.strip("_"))
    table = module.values.get("KERNELS")
    if table is None or not isinstance(table.value, ast.Dict):
        return
    for key, value in zip(table.value.keys, table.value.values, strict=True):
        if isinstance(key, ast.Constant):
            op = str(key.value).removesuffix("_vjp").removesuffix("_saving")
            if isinstance(value, ast.Name) and value.id in module.functions:
                node = module.functions[value.id]
                yield Scope(module.name, value.id, node, {first_line(node)}, op)
            elif isinstance(value, ast.Lambda):
                yield Scope(module.name, f"kernel {key.value}", value, {value.lineno}, op)
            else:  # a function of NumPy, which the tracing does not see
                yield Scope(module.name, f"kernel {key.value}", _Entry(table.value, value), op=op)


class _Entry(ast.AST):
    """One value of a dictionary, as a node of its own that can be walked and replaced."""

    _fields = ("value",)

    def __init__(self, table: ast.Dict, value: ast.expr) -> None:
        self.table, self.place = table, table.values.index(value)
        self.lineno = value.lineno

    @property
    def value(self) -> ast.expr:
        return self.table.values[self.place]

    @value.setter
    def value(self, new: ast.expr) -> None:
        self.table.values[self.place] = new


def _rules(module: Module) -> Iterator[Scope]:
    for top in module.tree.body:
        for call in ast.walk(top):
            if not isinstance(call, ast.Call) or _callee(call) not in ("fused", "primitive"):
                continue
            op = _op_name(call, top)
            for keyword in call.keywords:
                if keyword.arg != "vjp":
                    continue
                value = keyword.value
                rules = value.elts if isinstance(value, ast.Tuple) else [value]
                for i, rule in enumerate(rules):
                    if isinstance(rule, ast.Lambda):
                        name = f"{op or _top_name(top)} rule {i}"
                        yield Scope(module.name, name, rule, {rule.lineno}, op)
                    elif isinstance(rule, ast.Name):
                        node = module.functions.get(rule.id) or _inner(top, rule.id)
                        yield Scope(module.name, rule.id, node, {first_line(node)}, op)


def _inner(top: ast.AST, name: str) -> ast.FunctionDef:
    return next(n for n in ast.walk(top) if isinstance(n, ast.FunctionDef) and n.name == name)


def _top_name(top: ast.AST) -> str:
    return getattr(top, "name", "module")


def _op_name(call: ast.Call, top: ast.AST) -> str | None:
    if call.args and isinstance(call.args[0], ast.Constant):
        return str(call.args[0].value)
    return top.name.strip("_") if isinstance(top, ast.FunctionDef) and not call.args else None


def _callee(node: ast.AST) -> str:
    target = node.func if isinstance(node, ast.Call) else node
    return target.id if isinstance(target, ast.Name) else ""


def _called(
    modules: dict[str, Module], module: Module, node: ast.AST
) -> Iterator[tuple[Module, str]]:
    """Names of the known modules that occur inside a function."""
    own = {a.arg for f in ast.walk(node) if isinstance(f, Function) for a in f.args.args}
    for inner in code(node):
        if isinstance(inner, ast.Name) and inner.id not in own:
            if inner.id in module.functions or inner.id in module.values:
                yield module, inner.id
            elif inner.id in module.imported:
                home, name = module.imported[inner.id]
                if home in modules and name is not None:
                    yield modules[home], name
        elif isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name):
            home, name = module.imported.get(inner.value.id, ("", ""))
            if home in modules and name is None:
                yield modules[home], inner.attr


def _named(module: Module, name: str, user: Scope) -> Iterator[Scope]:
    """What a top-level name stands for: a function, or a value that is not an op."""
    if name in module.functions:
        node = module.functions[name]
        yield Scope(module.name, name, node, {first_line(node)}, _face_of(module, node))
    elif name in module.values:
        node = module.values[name]
        makes_op = isinstance(node.value, ast.Call) and isinstance(node.value.func, ast.Name)
        if not makes_op and name != "KERNELS":
            yield Scope(module.name, name, node, set(user.lines), user.op)


def _face_of(module: Module, node: ast.FunctionDef) -> str | None:
    """The op whose public function this is."""
    for decorator in node.decorator_list:
        if _callee(decorator) == "face" and isinstance(decorator, ast.Call):
            target = decorator.args[0]
            if isinstance(target, ast.Name):
                return target.id.strip("_")
    return None
