"""Keeps the plugins of a process: loads, registers and removes them, asks them and tells them.

What they are asked for is the business of `microgpt.plugins`.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from microgpt import config, hooks, plugin_sources
from microgpt.errors import MicrogptError, PluginError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    import pluggy

lock = threading.RLock()
"""Held while plugins come and go and while their answers are put away: a thread that was late
cannot leave the kernel of a plugin that is gone."""

_telling: ContextVar[bool] = ContextVar("microgpt_telling", default=False)


class PluginWarning(UserWarning):
    """A plugin that was left out because it could not be loaded."""


class Plugins:
    """The plugins in use, by name. `microgpt.plugins.Registry` adds backends and kernels."""

    def __init__(self) -> None:
        self._manager: pluggy.PluginManager | None = None
        self._ready = False
        self._points: dict[str, EntryPoint] = {}
        self._names: dict[str, str] = {}  # what was asked for → name of the plugin
        self._behind: set[str] = set()  # plugins loaded only because their backend was needed
        self._listeners: list[tuple[str, Callable[[hooks.OpEvent], Any]]] = []
        self.broken: dict[str, str] = {}
        """Plugins and backends that could not be loaded, with the reason."""

    # ---- plugins -------------------------------------------------------------------------

    @property
    def manager(self) -> pluggy.PluginManager:
        """The pluggy manager; made, and the configured plugins loaded, on first use."""
        if not self._ready:
            with lock:
                if self._manager is None:  # else this very thread is loading the plugins
                    self._start()
        return self._manager  # pyright: ignore[reportReturnType]

    def _start(self) -> None:
        import pluggy

        configured = config.get("plugins")
        self._points, clashes = plugin_sources.installed()
        self.broken.update(clashes)
        self._manager = pluggy.PluginManager(hooks.GROUP)
        self._manager.add_hookspecs(hooks)
        failed: list[PluginError] = []
        try:
            for name in configured:
                try:
                    self.load(name)
                except PluginError as error:
                    self.broken[name] = str(error)
                    failed.append(error)
        except BaseException:
            self._manager = None  # interrupted: begin again next time
            raise
        self._ready = True
        for error in failed:
            warnings.warn(f"{error}; the other plugins are used", PluginWarning, stacklevel=2)

    def load(self, name: str) -> Any:
        """Load and register a plugin by entry-point name, module name or path of a .py file.

        Raises:
            PluginError: if there is no such plugin, if it fails while being imported, or if it
                breaks the rules of the hooks.
        """
        with lock:
            manager = self.manager
            plugin = manager.get_plugin(self._names.get(name, name))
            if plugin is not None:
                return plugin
            plugin = plugin_sources.load(name, self._points)
            known = manager.get_name(plugin)  # by another of its names
            if known is None:
                short = plugin_sources.short_name(name)
                known = self.register(plugin, name if manager.has_plugin(short) else short)
            self._names[name] = known
            self.broken.pop(name, None)
            return plugin

    def register(self, plugin: Any, name: str | None = None) -> str:
        """Add `plugin` (an object with hook implementations); later ones are asked first.

        Returns:
            Its name: by default that of the module or class.

        Raises:
            PluginError: if it breaks the rules of the hooks, or if it is registered already.
        """
        from pluggy import PluginValidationError

        with lock:
            manager = self.manager
            known = manager.get_name(plugin)
            if known is not None:
                raise PluginError(f"plugin '{known}' is registered already; unregister it first")
            if name is None:
                name = free = plugin_sources.own_name(plugin)
                number = 1
                while manager.has_plugin(name):
                    number += 1
                    name = f"{free}-{number}"
            plugin_sources.check_hooks(plugin, name)
            try:
                manager.register(plugin, name)
                manager.check_pending()
                self._check_registered(plugin)
            except (PluginValidationError, ValueError) as error:
                if manager.get_name(plugin) is not None:
                    manager.unregister(plugin)
                raise PluginError(f"plugin '{name}' was refused: {error}") from error
            try:
                self._changed()
            except BaseException:  # an answer that cannot be used; leave everything as it was
                self.unregister(plugin)
                raise
            return name

    def _check_registered(self, plugin: Any) -> None:
        callers = self.manager.get_hookcallers(plugin) or []
        if not callers:
            raise ValueError(
                "it implements no hook; required: a function with one of the names "
                f"{', '.join(plugin_sources.HOOKS)}, marked with @mg.hookimpl"
            )
        for caller in callers:
            for hook in caller.get_hookimpls():
                if hook.plugin is plugin and (hook.wrapper or hook.hookwrapper):
                    raise ValueError(
                        f"{caller.name} is a hook wrapper; required: a plain function (to wrap a "
                        "kernel, return a kernel that calls it)"
                    )

    def unregister(self, plugin: Any) -> None:
        """Remove a plugin and its backends; kernels are asked for anew.

        Raises:
            PluginError: if it is not registered.
        """
        with lock:
            name = self.manager.get_name(plugin)
            if name is None:
                raise PluginError(
                    f"plugin '{plugin_sources.own_name(plugin)}' is not registered, so it cannot "
                    f"be removed; registered: {', '.join(self.plugin_names()) or 'none'}"
                )
            self.manager.unregister(plugin)
            self._behind.discard(name)
            self._removed(name)
            self._changed()

    def plugin_names(self) -> list[str]:
        """The plugins that are in use, in the order in which they were registered."""
        return [name for name, plugin in self.manager.list_name_plugin() if plugin is not None]

    def idle_plugins(self) -> list[str]:
        """The plugins that are installed and not in use."""
        manager = self.manager
        return [p for p in self._points if not manager.has_plugin(self._names.get(p, p))]

    def _changed(self) -> None:
        self._listeners = [
            (hook.plugin_name, lambda event, hook=hook: _call(hook, {"event": event}))
            for hook in self._hooks("microgpt_op")
        ]
        self.forget_kernels()

    def _removed(self, name: str) -> None:
        """Forget what came from the plugin `name`."""

    def forget_kernels(self) -> None:
        """Forget what the plugins answered."""

    # ---- asking --------------------------------------------------------------------------
    # Not by pluggy's own call, which does not say which plugin answered, or failed.

    def _hooks(self, name: str) -> list[Any]:
        """The implementations of a hook: last registered first, unless they ask otherwise."""
        found = reversed(getattr(self.manager.hook, name).get_hookimpls())
        # A backend is loaded when it is needed, perhaps last of all. That must not put its kernels
        # before those of the plugins that were listed to override them.
        return sorted(found, key=lambda hook: hook.plugin_name in self._behind)

    def _answers(self, hook_name: str, **given: Any) -> Iterator[tuple[str, Any]]:
        """Which plugins answer, and what; the first one is the answer in effect."""
        for hook in self._hooks(hook_name):
            try:
                answer = _call(hook, given)
            except MicrogptError:
                raise
            except Exception as error:
                asked = ", ".join(f"{k}={v!r}" for k, v in given.items())
                raise PluginError(
                    f"plugin '{hook.plugin_name}' failed in {hook_name}({asked}): "
                    f"{type(error).__name__}: {error}"
                ) from error
            if answer is not None:
                yield hook.plugin_name, answer

    # ---- notification --------------------------------------------------------------------

    def listening(self) -> bool:
        """Whether any plugin wants to be told of operations."""
        return bool(self._listeners)

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
        """Tell the listening plugins of an operation; not of those that they do themselves."""
        if _telling.get():
            return
        event = hooks.OpEvent(op, phase, backend, seconds, inputs, output, within)
        token = _telling.set(True)
        try:
            for plugin, listener in self._listeners:
                try:
                    listener(event)
                except MicrogptError:
                    raise
                except Exception as error:  # else it would look like a mistake of the op
                    raise PluginError(
                        f"plugin '{plugin}' failed in microgpt_op when told of {op}: "
                        f"{type(error).__name__}: {error}"
                    ) from error
        finally:
            _telling.reset(token)


def _call(hook: Any, given: dict[str, Any]) -> Any:
    """Call a hook implementation with those of the arguments that it takes."""
    extra = {name: given[name] for name in hook.kwargnames if name in given}
    return hook.function(*[given[name] for name in hook.argnames], **extra)
