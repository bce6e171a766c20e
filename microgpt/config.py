"""Settings, and where each of them comes from.

The first of these that names a setting decides:

1. the argument of a call,
2. the innermost ``with use_backend(…)`` or ``with configure(…)`` block of this thread or task,
3. the environment: ``MICROGPT_BACKEND``, ``MICROGPT_DEVICE``, … (an empty one counts as unset),
4. ``microgpt.toml``, or the table ``[tool.microgpt]`` of a ``pyproject.toml``, in the nearest
   folder from the current one upwards,
5. the default.

A device belongs to the backend it was set with: ``use_backend("numpy")`` in a program started with
``MICROGPT_BACKEND=opencl MICROGPT_DEVICE=gpu`` does not ask NumPy for a device called gpu.

`microgpt config` prints the values in effect. Nothing here is global and mutable: a setting is
changed for a block, for a process (environment) or for a folder (file).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, overload

from microgpt.config_sources import (
    KEYS,
    ROWS,
    Setting,
    check_environment,
    checked,
    from_environment,
    from_file,
    require_known,
)
from microgpt.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "KEYS",
    "Block",
    "Setting",
    "configure",
    "effective",
    "get",
    "place",
    "resolve",
    "use_backend",
]

F = TypeVar("F", bound=Callable[..., Any])


# ---- with blocks ---------------------------------------------------------------------------


class _Entered(NamedTuple):
    """What the blocks around the running code say together; `outer` is the state before."""

    values: Mapping[str, Any]
    outer: _Entered | None


_blocks: ContextVar[_Entered | None] = ContextVar("microgpt_config", default=None)


class Block:
    """What `configure` and `use_backend` return: a context manager that is a decorator too."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def __enter__(self) -> None:
        # The way back is kept in the context itself, so that one block may be entered by many
        # threads, or twice by one.
        entered = _blocks.get()
        values = dict(entered.values) if entered else {}
        if self._values.get("backend", values.get("backend")) != values.get("backend"):
            values.pop("device", None)  # it was a device of the other backend
        _blocks.set(_Entered({**values, **self._values}, entered))

    def __exit__(self, *_: object) -> None:
        entered = _blocks.get()
        _blocks.set(entered.outer if entered else None)

    def __call__(self, function: F) -> F:
        """`function`, plain or async, run inside this block."""
        import inspect

        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise ConfigError(
                f"a generator function cannot be decorated, got {function.__qualname__}: its "
                "settings would leak to the caller at each yield; put the block around its parts"
            )

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with self:
                return function(*args, **kwargs)

        @wraps(function)
        async def run_async(*args: Any, **kwargs: Any) -> Any:
            with self:
                return await function(*args, **kwargs)

        chosen: Any = run_async if inspect.iscoroutinefunction(function) else run
        return chosen


def configure(**settings: Any) -> Block:
    """Settings for a block of code, or for a function when used as a decorator.

    Other threads and async tasks do not see them. Blocks nest; the inner one decides what it
    names and leaves the rest. Plugins are loaded once for a process and so cannot be set here.

    Example:
        >>> from microgpt import config
        >>> with config.configure(dtype="float64", seed=1):
        ...     config.get("dtype")
        'float64'
    """
    for key in settings:
        require_known(key, "configure()")
    if "plugins" in settings:
        raise ConfigError(
            "configure(): the setting 'plugins' must come from MICROGPT_PLUGINS or a file, because "
            "plugins are loaded once for a process; got it for a block: use `with mg.plugged(…)`"
        )
    return Block({key: checked(key, value, "configure()") for key, value in settings.items()})


def use_backend(name: str, device: str | None = None) -> Block:
    """Make new tensors on backend `name` inside a block, or in a decorated function.

    Without `device` it is the one configured for this backend, or the backend's own choice.
    """
    values = {"backend": checked("backend", name, "use_backend()")}
    if device is not None:
        values["device"] = checked("device", device, "use_backend()")
    return Block(values)


# ---- resolution ----------------------------------------------------------------------------


@overload
def get(key: Literal["backend", "dtype"]) -> str: ...
@overload
def get(key: Literal["device"]) -> str | None: ...
@overload
def get(key: Literal["seed"]) -> int | None: ...
@overload
def get(key: Literal["data"]) -> Path | None: ...
@overload
def get(key: Literal["plugins"]) -> tuple[str, ...]: ...
@overload
def get(key: Literal["debug"]) -> bool: ...
@overload
def get(key: str) -> Any: ...
def get(key: str) -> Any:
    """The value of the setting `key` in effect here and now.

    Raises:
        ConfigError: if `key`, or anything in the environment or the settings file, is not valid.
    """
    return _effective(key).value


def resolve(key: str, argument: Any = None) -> Any:
    """`argument`, checked, if it was given (is not None); otherwise the setting `key`."""
    if argument is None:
        return get(key)
    require_known(key, "argument")
    return checked(key, argument, "argument")


def place(backend: str | None = None, device: str | None = None) -> tuple[str, str | None]:
    """Where a new tensor goes: the backend, and its device (None: the backend's own choice)."""
    name: str = resolve("backend", backend)
    return name, _device(name).value if device is None else resolve("device", device)


def effective() -> dict[str, Setting]:
    """All settings in effect here and now, each with its source."""
    check_environment(again=True)
    return {key: _effective(key) for key in KEYS}


def _effective(key: str) -> Setting:
    require_known(key, "microgpt.config")
    check_environment()
    if key == "device":
        return _device(_strongest("backend").value)
    return _strongest(key)


def _strongest(key: str) -> Setting:
    entered = _blocks.get()
    if entered is not None and key in entered.values:
        return Setting(entered.values[key], "with block")
    setting = from_environment(key)
    if setting is not None:
        return setting
    file = from_file()
    if key in file.values:
        return Setting(file.values[key], file.source)
    return Setting(ROWS[key].default, "default")


def _device(backend: str) -> Setting:
    """The device for `backend`: a device named together with another backend does not count."""
    entered = _blocks.get()
    block = entered.values if entered else {}
    if "device" in block and block.get("backend") == backend:
        return Setting(block["device"], "with block")
    file = from_file()
    device, source = file.values.get("device"), file.source
    named = file.values.get("backend")  # by the layers up to the one in hand
    if device is None or named not in (None, backend):
        device, source = None, "default"
    if (setting := from_environment("backend")) is not None:
        named = setting.value
    if (setting := from_environment("device")) is not None and named in (None, backend):
        device, source = setting
    named = block.get("backend", named)
    if "device" in block and named in (None, backend):
        device, source = block["device"], "with block"
    return Setting(device, source)
