"""The direction of imports: a module may import only what stands above it in LAYERS."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "microgpt"
BACKENDS = ROOT / "backends"

# From the ground up. A package stands for all of its modules; inside it only circles are wrong.
# Modules in one line are peers, which do not import each other.
LAYERS = [
    ("errors", "hooks"),
    ("backend",),
    ("config_sources",),
    ("config",),
    ("plugin_sources",),
    ("plugin_manager",),
    ("plugins",),
    ("graph",),
    ("ops",),
    ("autograd",),
    ("pickling",),
    ("tensor", "scalar"),
    ("creation", "transforms", "recompute"),
    ("",),  # the package itself: `import microgpt as mg`
    ("tracing", "array_api"),
    ("nn",),
    ("optim",),
    ("models",),
    ("text",),
    ("data",),
    ("durable",),
    ("checkpoints",),
    ("train",),
    ("runs",),
    ("viz", "testing"),
    ("learn",),
    ("cli",),
    ("__main__",),
]
RANKS = {name: rank for rank, names in enumerate(LAYERS) for name in names}

# Imports inside functions that point upwards. Each needs a reason why it cannot be avoided.
UPWARDS = {
    ("ops.movement", "autograd"): "un-broadcasting lives in one place, that of the backward pass",
    ("pickling", "scalar"): "scalars are unpacked by the module that packs them for their class",
}

BACKENDS_MAY = {"errors", "hooks", "backend"}


def modules(folder, prefix):
    """Dotted names, and files, of the modules in a package."""
    for file in sorted(folder.rglob("*.py")):
        parts = [prefix, *file.relative_to(folder).with_suffix("").parts]
        if parts[-1] == "__init__":
            parts.pop()
        yield ".".join(parts), file


def imports(name, file):
    """(imported module, is it at module level) for everything under microgpt or a backend."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    deferred = set()
    for node in ast.walk(tree):
        lazy = isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        if lazy or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)):
            kind = "lazy" if lazy else "typing"
            deferred.update({(child, kind) for child in ast.walk(node)})
    typing = {node for node, kind in deferred if kind == "typing"}
    lazy = {node for node, kind in deferred if kind == "lazy"}
    for node in ast.walk(tree):
        if node in typing or not isinstance(node, (ast.Import, ast.ImportFrom)):
            continue
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import in line {node.lineno}"
            found = [_exists(f"{node.module}.{a.name}") or node.module for a in node.names]
        else:
            found = [alias.name for alias in node.names]
        for target in found:
            if target.split(".")[0].startswith("microgpt"):
                yield target, node not in lazy


def _exists(dotted):
    """`dotted`, if it is a module and not something inside one."""
    top, *rest = dotted.split(".")
    folder = PACKAGE if top == "microgpt" else BACKENDS / top
    path = folder.joinpath(*rest)
    return dotted if rest and (path.with_suffix(".py").exists() or path.is_dir()) else None


def layer(dotted):
    """The name in LAYERS that a module of microgpt belongs to."""
    return "".join(dotted.split(".")[1:2])


FILES = dict(modules(PACKAGE, "microgpt"))
BACKEND_FILES = {
    name: file for folder in sorted(BACKENDS.iterdir()) if folder.is_dir()
    for name, file in modules(folder, folder.name)
}  # fmt: skip


def test_every_module_has_its_layer():
    missing = {layer(name) for name in FILES} - set(RANKS)
    assert not missing, f"write down in LAYERS where {sorted(missing)} belong"


@pytest.mark.parametrize("name", FILES)
def test_imports_point_one_way(name):
    own = layer(name)
    short = name.removeprefix("microgpt").removeprefix(".")
    for target, at_module_level in imports(name, FILES[name]):
        other = layer(target)
        assert target.split(".")[0] == "microgpt", f"{name} imports the backend {target}"
        if other == own or RANKS[other] < RANKS[own]:
            continue
        allowed = not at_module_level and (short, other) in UPWARDS
        assert allowed, f"{name} imports {target}, which is not above it in LAYERS" + (
            "" if at_module_level else " (inside a function; UPWARDS lists what may)"
        )


def test_the_list_of_exceptions_is_not_longer_than_needed():
    used = {
        (name.removeprefix("microgpt").removeprefix("."), layer(target))
        for name, file in FILES.items()
        for target, at_module_level in imports(name, file)
        if not at_module_level
    }
    assert set(UPWARDS) <= used


def test_there_are_no_circles():
    graph = {
        name: {t for t, at_module_level in imports(name, file) if at_module_level and t != name}
        for name, file in {**FILES, **BACKEND_FILES}.items()
    }
    # In a package, `from microgpt.ops import add` asks its __init__, which its own modules must not
    # do; `from microgpt.ops import elementwise` asks the module.
    done, path = set(), []

    def visit(name):
        assert name not in path, "imports in a circle: " + " → ".join([*path, name])
        if name in done or name not in graph:
            return
        path.append(name)
        for target in sorted(graph[name]):
            visit(target)
        path.pop()
        done.add(name)

    for name in graph:
        visit(name)


@pytest.mark.parametrize("name", BACKEND_FILES)
def test_backends_know_only_what_a_backend_is(name):
    own = name.split(".")[0]
    for target, _ in imports(name, BACKEND_FILES[name]):
        if target.split(".")[0] != "microgpt":
            assert target.split(".")[0] == own, f"{name} imports another backend, {target}"
        else:
            assert layer(target) in BACKENDS_MAY, f"{name} imports {target}"


# ---- what importing costs --------------------------------------------------------------------

HEAVY = (
    "pyopencl", "torch", "hypothesis", "matplotlib", "scipy", "tqdm", "pooch", "safetensors",
    "pluggy", "importlib.metadata", "asyncio", "urllib.request", "argparse",
    "multiprocessing", "microgpt_numpy", "microgpt_python",
    *[f"microgpt.{n}" for n in ("cli", "nn", "optim", "models", "data", "train", "viz", "testing")],
    "microgpt.text", "microgpt.runs",
)  # fmt: skip

LOADED = """
import sys
before = set(sys.modules)
import numpy
with_numpy = set(sys.modules)
import microgpt as mg
print(*sorted(set(sys.modules) - with_numpy))
mg.tensor([1.0, 2.0], requires_grad=True).exp().sum().backward()
print(*sorted(set(sys.modules) - with_numpy))
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    done = subprocess.run(
        [sys.executable, "-c", LOADED],
        cwd=tmp_path_factory.mktemp("empty"),
        env={k: v for k, v in os.environ.items() if not k.startswith("MICROGPT_")},
        capture_output=True,
        text=True,
        check=True,
    )
    return [set(line.split()) for line in done.stdout.splitlines()]


def test_importing_microgpt_loads_nothing_heavy(loaded):
    assert not loaded[0] & set(HEAVY)


def test_importing_and_computing_needs_the_base_dependencies_only(loaded):
    standard = set(sys.stdlib_module_names)
    allowed = {"numpy", "pluggy", "microgpt", "microgpt_numpy", "org"}  # org: java, asked by copy
    strangers = {m.split(".")[0] for m in loaded[1]} - standard - allowed
    assert not strangers, f"loaded by an op on NumPy arrays: {sorted(strangers)}"
    assert "microgpt_numpy" in loaded[1], "the check itself works"
    # Only the backend in use is loaded.
    assert not {m for m in loaded[1] if m.startswith("microgpt_")} - {
        m for m in loaded[1] if m.split(".")[0] == "microgpt_numpy"
    }


def test_the_declared_dependencies_are_the_base():
    import tomllib

    with open(ROOT / "pyproject.toml", "rb") as file:
        dependencies = tomllib.load(file)["project"]["dependencies"]
    assert sorted(d.split(">")[0] for d in dependencies) == ["numpy", "pluggy"]


def test_the_checks_of_this_file_find_what_they_look_for(tmp_path):
    file = tmp_path / "bad.py"
    file.write_text(
        "from typing import TYPE_CHECKING\n"
        "from microgpt.ops import elementwise, TABLE\n"
        "import microgpt.cli\n"
        "if TYPE_CHECKING:\n    from microgpt import tensor\n"
        "def f():\n    from microgpt import autograd\n"
        "import microgpt_numpy\n"
    )
    assert sorted(imports("microgpt.graph", file)) == [
        ("microgpt.autograd", False),
        ("microgpt.cli", True),
        ("microgpt.ops", True),
        ("microgpt.ops.elementwise", True),
        ("microgpt_numpy", True),
    ]
