"""Finds plugins, asks them for backends and kernels, and remembers their answers.

pluggy is asked once per (op, backend). Each op keeps the answer in a `KernelCache`, which is
emptied when a plugin comes or goes, so that an op call costs one dictionary look-up.
"""

from __future__ import annotations

import importlib
import importlib.util
import threading
import warnings
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from time import perf_counter
from typing import Any

import pluggy

from microgpt import config, hooks
from microgpt.backend import Backend, Kernel
from microgpt.errors import BackendError, KernelNotFoundError, PluginError

_lock = threading.RLock()
_caches: weakref.WeakSet[KernelCache] = weakref.WeakSet()

rule_running: ContextVar[str | None] = ContextVar("microgpt_rule_running", default=None)
"""The op whose gradient rule runs at the moment, for `OpEvent.within`."""


class PluginWarning(UserWarning):
    """A plugin that was left out because it could not be loaded."""


class KernelCache(dict[type, Kernel]):
    """The kernels of one op, by class of array; an empty place is filled by asking the plugins."""

    __hash__ = object.__hash__  # pyright: ignore[reportAssignmentType]
    __slots__ = ("__weakref__", "fallback", "op")

    def __init__(self, op: str, fallback: Kernel | None = None) -> None:
        self.op = op
        self.fallback = fallback
        _caches.add(self)

    def __missing__(self, array_type: type) -> Kernel:
        backend = registry.backend_of_type(array_type)
        kernel = registry.kernel(backend.name, self.op) or self.fallback
        if kernel is None:
            raise KernelNotFoundError(
                f"backend '{backend.name}' has no kernel for the op '{self.op}' and the op has no "
                "definition in terms of other ops; `microgpt backends` shows who serves what"
            )
        if registry.listening():
            kernel = _traced(kernel, self.op, backend.name)
        self[array_type] = kernel
        return kernel


def _traced(kernel: Kernel, op: str, backend: str) -> Kernel:
    """`kernel`, reporting each call to the plugins that implement `microgpt_op`."""

    @wraps(kernel, assigned=())
    def run(*inputs: Any, **params: Any) -> Any:
        start = perf_counter()
        output = kernel(*inputs, **params)
        seconds = perf_counter() - start
        registry.notify(op, "forward", backend, seconds, inputs, output, rule_running.get())
        return output

    return run


class Registry:
    """The plugins of this process. Use the one instance, `registry`."""

    def __init__(self) -> None:
        self._manager: pluggy.PluginManager | None = None
        self._points: dict[str, EntryPoint] = {}
        self._backends: dict[str, Backend] = {}
        self._types: dict[type, Backend] = {}
        self._plugin_of: dict[str, str] = {}
        self.broken: dict[str, str] = {}
        """Plugins that could not be loaded, with the reason."""

    # ---- plugins -------------------------------------------------------------------------

    @property
    def manager(self) -> pluggy.PluginManager:
        """The pluggy manager; made, and the configured plugins loaded, on first use."""
        if self._manager is None:
            with _lock:
                if self._manager is None:
                    manager = pluggy.PluginManager(hooks.GROUP)
                    manager.add_hookspecs(hooks)
                    self._points = {p.name: p for p in entry_points(group=hooks.GROUP)}
                    self._manager = manager
                    for name in config.get("plugins"):
                        self._load_configured(name)
        return self._manager

    def _load_configured(self, name: str) -> None:
        try:
            self.load(name)
        except PluginError as error:
            self.broken[name] = str(error)
            warnings.warn(f"{error}; the other plugins are used", PluginWarning, stacklevel=2)

    def load(self, name: str) -> Any:
        """Load and register a plugin by entry-point name, module name or path of a .py file.

        Raises:
            PluginError: if there is no such plugin, or if it fails while being imported.
        """
        manager = self.manager
        if manager.has_plugin(name):
            return manager.get_plugin(name)
        try:
            if name in self._points:
                plugin = self._points[name].load()
            elif name.endswith(".py"):
                plugin = _module_from_file(Path(name))
            else:
                plugin = importlib.import_module(name)
        except Exception as error:
            known = ", ".join(sorted(self._points)) or "none"
            raise PluginError(
                f"plugin '{name}' could not be loaded ({type(error).__name__}: {error}); required: "
                f"the name of an installed plugin ({known}), an importable module, or a .py file"
            ) from error
        self.register(plugin, name)
        return plugin

    def register(self, plugin: Any, name: str | None = None) -> str:
        """Add `plugin` (an object with hook implementations); later ones are asked first."""
        try:
            name = self.manager.register(plugin, name) or str(name)
            self.manager.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            if self.manager.is_registered(plugin):
                self.manager.unregister(plugin)
            raise PluginError(f"plugin '{name or plugin}' was refused: {error}") from error
        self.forget_kernels()
        return name

    def unregister(self, plugin: Any) -> None:
        """Remove a plugin; kernels are asked for anew."""
        self.manager.unregister(plugin)
        self.forget_kernels()

    def forget_kernels(self) -> None:
        """Empty every op's kernel cache."""
        for cache in list(_caches):
            cache.clear()

    # ---- backends ------------------------------------------------------------------------

    def backend_names(self) -> list[str]:
        """All backends that could be used, without loading those that are not in use yet."""
        names = {name for group in self.manager.hook.microgpt_backend_names() for name in group}
        return sorted(names | set(self._points) - self._loaded_without_backend(names))

    def _loaded_without_backend(self, names: set[str]) -> set[str]:
        return {p for p in self._points if self.manager.has_plugin(p) and p not in names}

    def backend(self, name: str | None = None) -> Backend:
        """The backend called `name`, by default the configured one.

        Raises:
            BackendError: if there is none of this name, or if it cannot be loaded.
        """
        if name is None:
            name = config.get("backend")
        found = self._backends.get(name)
        return found if found is not None else self._load_backend(name)

    def _load_backend(self, name: str) -> Backend:
        with _lock:
            made = self.manager.hook.microgpt_backend(name=name)
            if made is None and name in self._points and not self.manager.has_plugin(name):
                try:
                    self.load(name)
                except PluginError as error:
                    self.broken[name] = str(error)
                    raise BackendError(f"backend '{name}' cannot be used: {error}") from error
                made = self.manager.hook.microgpt_backend(name=name)
            if made is None:
                raise BackendError(
                    f"there is no backend '{name}'; installed: {', '.join(self.backend_names())}"
                )
            self._add(made)
            return made

    def _add(self, backend: Backend) -> None:
        for array_type in backend.array_types:
            owner = self._types.get(array_type)
            if owner is not None:
                raise PluginError(
                    f"backend '{backend.name}' declares arrays of class {array_type.__name__}, "
                    f"which belong to backend '{owner.name}'; ops find kernels by the class of "
                    "their inputs, so give the new backend an array class of its own"
                )
        self._types.update(dict.fromkeys(backend.array_types, backend))
        self._backends[backend.name] = backend

    def backend_of_type(self, array_type: type) -> Backend:
        """The backend that arrays of class `array_type` belong to."""
        found = self._types.get(array_type)
        if found is None:
            for name in (config.get("backend"), "numpy", "python"):
                self.backend(name)
            found = self._types.get(array_type)
        if found is None:
            raise BackendError(
                f"an op was given a {array_type.__name__}, which is an array of no loaded backend "
                f"({', '.join(self._backends)}); make a tensor of it with mg.tensor(…)"
            )
        return found

    def backend_of(self, array: Any) -> Backend:
        """The backend that `array` belongs to."""
        return self._types.get(type(array)) or self.backend_of_type(type(array))

    def kernel(self, backend: str, op: str) -> Kernel | None:
        """What the plugins answer to `microgpt_kernel`, unwrapped and uncached."""
        return self.manager.hook.microgpt_kernel(backend=backend, op=op)

    def server_of(self, backend: str, op: str) -> str | None:
        """The name of the plugin that serves `op` on `backend`."""
        for implementation in reversed(self.manager.hook.microgpt_kernel.get_hookimpls()):
            if implementation.function(backend=backend, op=op) is not None:
                return implementation.plugin_name
        return None

    # ---- notification --------------------------------------------------------------------

    def listening(self) -> bool:
        """Whether any plugin wants to be told of operations."""
        return self._manager is not None and bool(self._manager.hook.microgpt_op.get_hookimpls())

    def notify(
        self,
        op: str,
        phase: str,
        backend: str,
        seconds: float,
        inputs: tuple[Any, ...],
        output: Any,
        within: str | None,
    ) -> None:
        event = hooks.OpEvent(op, phase, backend, seconds, inputs, output, within)
        self.manager.hook.microgpt_op(event=event)


def _module_from_file(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.exists():
        raise FileNotFoundError(f"no plugin file {path}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


registry = Registry()


@contextmanager
def plugged(plugin: Any, name: str | None = None) -> Iterator[Callable[[], None]]:
    """Inside this block `plugin` is registered, for the whole process.

    Example:
        >>> import numpy as np
        >>> import microgpt as mg
        >>> class Slow:
        ...     @mg.hookimpl
        ...     def microgpt_kernel(self, backend, op):
        ...         return (lambda x: np.abs(x) + 100) if (backend, op) == ("numpy", "abs") else None
        >>> with mg.plugged(Slow()):
        ...     mg.abs(mg.tensor(-1.0)).item()
        101.0
        >>> mg.abs(mg.tensor(-1.0)).item()
        1.0
    """
    registry.register(plugin, name)
    try:
        yield registry.forget_kernels
    finally:
        registry.unregister(plugin)
