"""Asks the plugins for backends and kernels, and remembers their answers.

The plugins are asked once per (op, backend). Each op keeps the answer in a `KernelCache`, which is
emptied when a plugin comes or goes, so that an op call costs one dictionary look-up.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from time import perf_counter
from typing import Any, NamedTuple

from microgpt import config, plugin_sources
from microgpt.backend import Backend, Kernel
from microgpt.errors import (
    BackendError,
    KernelNotFoundError,
    MicrogptError,
    MissingExtraError,
    PluginError,
)
from microgpt.plugin_manager import Plugins, PluginWarning, lock

__all__ = [
    "KernelCache",
    "PluginWarning",
    "Registry",
    "Server",
    "plugged",
    "registry",
    "rule_running",
]

_caches: weakref.WeakSet[KernelCache] = weakref.WeakSet()

# The classes of NumPy and of Python belong to the backends shipped here, loaded or not.
_OWNERS = {"numpy": "numpy", "builtins": "python"}

rule_running: ContextVar[str | None] = ContextVar("microgpt_rule_running", default=None)
"""The op whose gradient rule runs at the moment, for `OpEvent.within`."""


class KernelCache(dict[type, Kernel]):
    """The kernels of one op, by class of array; an empty place is filled by asking the plugins."""

    __hash__ = object.__hash__  # pyright: ignore[reportAssignmentType]
    __slots__ = ("__weakref__", "fallback", "op")

    def __init__(self, op: str, fallback: Kernel | None = None) -> None:
        self.op = op
        self.fallback = fallback
        with lock:
            _caches.add(self)

    def __missing__(self, array_type: type) -> Kernel:
        with lock:
            backend = registry.backend_of_type(array_type)
            kernel = registry.kernel(backend.name, self.op)
            if kernel is None:
                kernel = self.fallback
            if kernel is None:
                raise KernelNotFoundError(
                    f"backend '{backend.name}' has no kernel for the op '{self.op}' and the op has "
                    "no definition in terms of other ops; `microgpt backends` shows who serves what"
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


class Server(NamedTuple):
    """A plugin, and the kernel it supplies for some op."""

    plugin: str
    kernel: Kernel


class Registry(Plugins):
    """The plugins of this process. Use the one instance, `registry`."""

    def __init__(self) -> None:
        super().__init__()
        self._backends: dict[str, Backend] = {}
        self._types: dict[type, Backend] = {}
        self._makers: dict[str, str] = {}  # backend → plugin
        self._kernels: dict[tuple[str, str], Kernel | None] = {}
        self.rules_changed: list[Callable[[], None]] = []
        """Called when the answers to `microgpt_rules` may have changed."""
        self._rules_given = False

    def forget_kernels(self) -> None:
        """Empty every op's kernel cache."""
        with lock:
            self._kernels.clear()
            for cache in list(_caches):
                cache.clear()

    def _changed(self) -> None:
        super()._changed()
        given = bool(self._hooks("microgpt_rules"))
        if given or self._rules_given:
            self._rules_given = given
            for call in self.rules_changed:
                call()

    def rules(self, op: str) -> Any:
        """What the plugins answer to `microgpt_rules`: the rules to use in place of the op's."""
        if not self._rules_given:
            return None
        for plugin, rules in self._answers("microgpt_rules", op=op):
            if callable(rules) or isinstance(rules, tuple):
                return rules
            raise PluginError(
                f"plugin '{plugin}' must answer microgpt_rules(op='{op}') with a tuple of "
                f"functions or one function, or with None to leave the op alone; got {rules!r}"
            )
        return None

    def _removed(self, name: str) -> None:
        for backend in [b for b, maker in self._makers.items() if maker == name]:
            del self._makers[backend], self._backends[backend]
        self._types = {t: b for t, b in self._types.items() if b.name in self._backends}

    # ---- backends ------------------------------------------------------------------------

    def backend_names(self) -> list[str]:
        """Names that may be backends, without loading what is not in use yet."""
        return sorted(self._offered().union(self.idle_plugins()))

    def installed_backends(self) -> list[str]:
        """Names of all backends there are. To know them, every installed plugin is imported."""
        names = self._offered()
        for point in self._points:
            try:
                names.update(self._offered_by(point))
            except PluginError as error:
                self.broken[point] = str(error)
        return sorted(names)

    def _offered(self) -> set[str]:
        return {n for _, found in self._answers("microgpt_backend_names") for n in found}

    def _offered_by(self, point: str) -> set[str]:
        """Names of the backends of an entry point, which is imported but not registered."""
        plugin = plugin_sources.load(point, self._points)
        offered = getattr(plugin, "microgpt_backend_names", None)
        return set() if offered is None else set(offered())

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
        with lock:
            found = self._backends.get(name)  # another thread may have been quicker
            if found is not None:
                return found
            try:
                plugin, made = self._made(name)
                plugin_sources.check_backend(made, name, plugin)
                self._add(made, plugin)
            except PluginError as error:
                self.broken[name] = str(error)
                raise BackendError(f"backend '{name}' cannot be used: {error}") from error
            except MicrogptError as error:  # what it says is meant for the user
                # An extra that is not installed is nothing broken.
                if name in self._points and not isinstance(error, MissingExtraError):
                    self.broken[name] = str(error)
                raise
            self.broken.pop(name, None)
            return made

    def _made(self, name: str) -> tuple[str, Any]:
        """The plugin that brings the backend `name`, and the backend it made."""
        for answer in self._answers("microgpt_backend", name=name):
            return answer
        # Entry points are usually called like their backend; only if not, the others are imported.
        for point in sorted(self._points, key=lambda point: point != name):
            try:
                if name not in self._offered_by(point):
                    continue
            except PluginError as error:
                if point == name:
                    raise
                self.broken[point] = str(error)
                continue
            before = self.plugin_names()
            plugin = self.manager.get_name(self.load(point))
            if plugin is not None and plugin not in before:
                self._behind.add(plugin)
                self.forget_kernels()
            for answer in self._answers("microgpt_backend", name=name):
                return answer
            raise PluginError(
                f"plugin '{plugin}' names it in microgpt_backend_names, so microgpt_backend must "
                "make it; got None"
            )
        names = self.installed_backends()
        text = plugin_sources.no_backend(name, names, self.broken, len(self._points))
        raise BackendError(text).about("unknown-backend")

    def _add(self, backend: Backend, plugin: str) -> None:
        for array_type in backend.array_types:
            owner = self._types.get(array_type)
            taken = owner.name if owner is not None else _OWNERS.get(array_type.__module__)
            if taken not in (None, backend.name):
                raise PluginError(
                    f"backend '{backend.name}' of plugin '{plugin}' declares arrays of class "
                    f"{array_type.__name__}, which belong to backend '{taken}'; ops find kernels "
                    "by the class of their inputs, so give it an array class of its own"
                )
        self._types.update(dict.fromkeys(backend.array_types, backend))
        self._backends[backend.name] = backend
        self._makers[backend.name] = plugin

    def maker_of(self, backend: str) -> str | None:
        """The name of the plugin that brought the backend `backend`, if it is loaded."""
        return self._makers.get(backend)

    def backend_of_type(self, array_type: type) -> Backend:
        """The backend that arrays of class `array_type` belong to."""
        found = self._types.get(array_type)
        if found is None:
            self.backend(_OWNERS.get(array_type.__module__))
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

    # ---- kernels -------------------------------------------------------------------------

    def kernel(self, backend: str, op: str) -> Kernel | None:
        """What the plugins answer to `microgpt_kernel`: asked once, then remembered.

        Raises:
            PluginError: if the answer cannot be called.
        """
        key = (backend, op)
        with lock:
            if key not in self._kernels:
                self._kernels[key] = next((s.kernel for s in self._servers(*key)), None)
            return self._kernels[key]

    def servers(self, backend: str, op: str) -> list[Server]:
        """All plugins with a kernel for `op` on `backend`; the first one's is used."""
        return list(self._servers(backend, op))

    def server_of(self, backend: str, op: str) -> str | None:
        """The name of the plugin that serves `op` on `backend`."""
        return next((s.plugin for s in self._servers(backend, op)), None)

    def _servers(self, backend: str, op: str) -> Iterator[Server]:
        for plugin, kernel in self._answers("microgpt_kernel", backend=backend, op=op):
            if not callable(kernel):
                raise PluginError(
                    f"plugin '{plugin}' must answer microgpt_kernel(backend='{backend}', "
                    f"op='{op}') with a function, or with None to leave the op to others; "
                    f"got {kernel!r}"
                )
            yield Server(plugin, kernel)


registry = Registry()


@contextmanager
def plugged(plugin: Any, name: str | None = None) -> Iterator[Any]:
    """Inside this block `plugin` is registered, for the whole process; the block gets it back.

    Raises:
        PluginError: if it breaks the rules of the hooks, or if it is registered already.

    Example:
        >>> import numpy as np
        >>> import microgpt as mg
        >>> class Wrong:
        ...     @mg.hookimpl
        ...     def microgpt_kernel(self, backend, op):
        ...         if (backend, op) == ("numpy", "abs"):
        ...             return lambda x: np.abs(x) + 100
        >>> with mg.plugged(Wrong()):
        ...     mg.abs(mg.tensor(-1.0)).item()
        101.0
        >>> mg.abs(mg.tensor(-1.0)).item()
        1.0
    """
    registry.register(plugin, name)
    try:
        yield plugin
    finally:
        registry.unregister(plugin)
