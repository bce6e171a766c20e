"""Where plugins come from, and what is checked of them before anything is asked of them.

`microgpt.plugins` keeps and asks the plugins; here they are found, imported and judged. What is
wrong with a plugin is said when it is registered, not when an op happens to need it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from microgpt import hooks
from microgpt.backend import Backend
from microgpt.errors import PluginError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

DISTRIBUTION = "microgpt-autograd"

EXTRAS = {"opencl": "opencl"}
"""Backends that are installed with an extra of the distribution: backend → extra."""

HOOKS = tuple(name for name in vars(hooks) if name.startswith(hooks.GROUP + "_"))
"""The names of all hooks."""

_ATTRIBUTES = ("name", "array_types", "dtypes")
_METHODS = tuple(n for n in vars(Backend) if n[0] != "_" and callable(getattr(Backend, n)))


def installed() -> tuple[dict[str, EntryPoint], dict[str, str]]:
    """The entry points of the group by name, and what is wrong with their names."""
    from importlib.metadata import entry_points

    points: dict[str, EntryPoint] = {}
    clashes: dict[str, str] = {}
    for point in entry_points(group=hooks.GROUP):
        first = points.setdefault(point.name, point)
        if first.value != point.value:
            clashes[f"{point.name} ({point.value})"] = (
                f"two installed packages bring a plugin called '{point.name}': {first.value}, "
                f"which is used, and {point.value}; uninstall one of them"
            )
    return points, clashes


def load(name: str, points: Mapping[str, EntryPoint]) -> Any:
    """Import the plugin that `name` stands for: an entry point, a .py file or a module.

    Raises:
        PluginError: if there is no such plugin, or if it fails while being imported.
    """
    import importlib

    # SystemExit: a script that was not meant to be imported must not end the program either.
    try:
        if name in points:
            return points[name].load()
        if name.endswith(".py"):
            return _from_file(name)
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:
        text = f"plugin '{name}' could not be loaded: {type(error).__name__}: {error}"
        # The module itself, not one that it imports, is what is missing.
        missing = isinstance(error, ModuleNotFoundError) and error.name in (
            name,
            name.split(".")[0],
        )
        if name not in points and (missing or isinstance(error, FileNotFoundError)):
            text += (
                "; required: the name of an installed plugin "
                f"({', '.join(sorted(points)) or 'there is none'}), of a module that can be "
                "imported, or the path of a .py file"
            )
        raise PluginError(text) from error


def _from_file(name: str) -> Any:
    import importlib.util
    from pathlib import Path

    path = Path(name).expanduser().resolve()
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    # A name of its own, so that the file takes the place of no module that can be imported; and
    # in sys.modules, because dataclasses and pickle look up the module of a class there.
    module_name = f"{hooks.GROUP}_plugin_file_{path.stem}_{abs(hash(path)):x}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[module_name]
        raise
    return module


def short_name(name: str) -> str:
    """What a plugin loaded as `name` is called: for a file, its name without the folder."""
    return name.replace("\\", "/").rpartition("/")[2][:-3] if name.endswith(".py") else name


def own_name(plugin: Any) -> str:
    """What a plugin registered without a name is called."""
    return getattr(plugin, "__name__", None) or type(plugin).__name__


def check_hooks(plugin: Any, name: str) -> None:
    """Refuse a plugin in which a hook is not marked, or that has none at all.

    Raises:
        PluginError: naming the functions.
    """
    found = {hook: getattr(plugin, hook, None) for hook in HOOKS}
    unmarked = [
        hook
        for hook, function in found.items()
        if function is not None and not hasattr(function, hooks.GROUP + "_impl")
    ]
    if unmarked:
        raise PluginError(
            f"plugin '{name}' was refused: {', '.join(unmarked)} must be marked with @mg.hookimpl "
            "to be a hook; got a function without the mark"
        )


def check_backend(made: Any, name: str, plugin: str) -> None:
    """Refuse what `plugin` made as backend `name` if it cannot be one.

    Raises:
        PluginError: naming everything that is missing or of the wrong kind.
    """
    wrong = [a for a in _ATTRIBUTES if not hasattr(made, a)]
    wrong += [f"{m}()" for m in _METHODS if not callable(getattr(made, m, None))]
    if wrong:
        raise PluginError(
            f"backend '{name}' of plugin '{plugin}' was refused: it must have {', '.join(wrong)}; "
            f"got a {type(made).__name__} without; derive it from microgpt.backend.Backend"
        )
    if made.name != name:
        raise PluginError(
            f"plugin '{plugin}' was asked for the backend '{name}' and returned one called "
            f"{made.name!r}; return None for names that are not yours"
        )
    types = made.array_types
    if not isinstance(types, tuple) or not types or not all(isinstance(t, type) for t in types):
        raise PluginError(
            f"backend '{name}' of plugin '{plugin}' was refused: array_types must be a tuple with "
            f"the classes of its arrays; got {types!r}"
        )


def no_backend(name: str, names: list[str], broken: Mapping[str, str], points: int) -> str:
    """The message for a backend that nobody brings."""
    from difflib import get_close_matches

    text = f"there is no backend '{name}'; installed: {', '.join(names) or 'none'}"
    if name in EXTRAS:
        text += f"; it comes with an extra: pip install '{DISTRIBUTION}[{EXTRAS[name]}]'"
    elif close := get_close_matches(name, names, n=1):
        text += f"; did you mean '{close[0]}'?"
    if broken:
        text += f"; plugins that could not be loaded: {'; '.join(sorted(broken.values()))}"
    if not points:
        text += (
            "; not even microgpt's own backends are installed: run `pip install -e .` in the "
            "folder with its pyproject.toml"
        )
    return text
