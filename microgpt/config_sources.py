"""The settings, what each must be, and reading them from the environment and from files.

`microgpt.config` decides which source wins; here are the sources that are outside the program.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any, NamedTuple

from microgpt.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

PREFIX = "MICROGPT_"
FILE, PROJECT_FILE = "microgpt.toml", "pyproject.toml"


class Setting(NamedTuple):
    """The value of a setting in effect, and where it comes from."""

    value: Any
    source: str


class _Key(NamedTuple):
    default: Any
    required: str
    check: Callable[[Any], Any]  # raises ValueError or TypeError
    from_text: Callable[[str], Any] = str  # comes first for an environment variable


# ---- the keys ------------------------------------------------------------------------------


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value.strip()


def _dtype(value: Any) -> str:
    # np.dtype("float32") has `name`, np.float32 has `__name__`; NumPy itself is not needed here.
    name = value if isinstance(value, str) else getattr(value, "name", None) or value.__name__
    if name not in ("float32", "float64"):
        raise ValueError
    return name


def _seed(value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or value.__index__() < 0:
        raise ValueError
    return value.__index__()


def _path(value: Any) -> Path:
    from pathlib import Path

    return Path(_name(os.fspath(value))).expanduser()


def _plugins(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError
    return tuple(_name(v) for v in value)


def _split(text: str) -> list[str]:
    return [part for part in text.split(",") if part.strip()]


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _switch(text: str) -> bool:
    text = text.strip().lower()
    if text not in ("1", "true", "yes", "on", "0", "false", "no", "off"):
        raise ValueError
    return text in ("1", "true", "yes", "on")


ROWS: dict[str, _Key] = {
    "backend": _Key("numpy", "the name of a backend, such as 'numpy'", _name),
    "device": _Key(None, "the name of a device (`microgpt doctor` lists them)", _name),
    "dtype": _Key("float32", "'float32' or 'float64'", _dtype),
    "seed": _Key(None, "an integer of 0 or more", _seed, int),
    "data": _Key(None, "the path of a folder", _path),
    "plugins": _Key((), "a list of plugin names (in the environment: a,b,c)", _plugins, _split),
    "debug": _Key(False, "true or false (in the environment: 1 or 0)", _bool, _switch),
}
KEYS = tuple(ROWS)
"""The names of all settings."""

_VARIABLES = {key: PREFIX + key.upper() for key in KEYS}


def checked(key: str, value: Any, source: str, text: bool = False) -> Any:
    """`value` of the known `key` in its final type."""
    row = ROWS[key]
    if value is None and row.default is None:
        return None
    try:
        return row.check(row.from_text(str(value)) if text else value)
    except (ValueError, TypeError, AttributeError, RuntimeError):  # RuntimeError: no home folder
        raise ConfigError(
            f"{source}: the setting '{key}' must be {row.required}; got {value!r}"
        ) from None


def unknown(name: str, valid: tuple[str, ...], source: str) -> ConfigError:
    """The error for a setting or variable `name` that is none of the `valid` ones."""
    from difflib import get_close_matches

    close = get_close_matches(name, valid, n=1)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return ConfigError(
        f"{source}: there is no setting '{name}'; {hint}valid: {', '.join(valid)}"
    ).about("unknown-setting")


def require_known(key: str, source: str) -> None:
    """Refuse a `key` that does not exist, naming where it came from."""
    if key not in ROWS:
        raise unknown(key, KEYS, source)


# ---- environment ---------------------------------------------------------------------------

_environment_size = -1


def check_environment(again: bool = False) -> None:
    """Refuse unknown MICROGPT_ variables. Once, unless `again` or their number changes."""
    global _environment_size
    size = len(os.environ)
    if again or size != _environment_size:
        for name in os.environ:
            known = name in _VARIABLES.values() or not name.startswith(PREFIX)
            if not known and not _of_a_plugin(name):
                raise unknown(name, tuple(_VARIABLES.values()), "environment")
        _environment_size = size


def _of_a_plugin(name: str) -> bool:
    """Whether a variable is a plugin's own: MICROGPT_, the name of an entry point, _ and more."""
    from importlib.metadata import entry_points

    points = entry_points(group="microgpt")
    return any(name.startswith(f"{PREFIX}{point.name.upper()}_") for point in points)


def from_environment(key: str) -> Setting | None:
    """The setting `key` as its environment variable has it, if it is set."""
    variable = _VARIABLES[key]
    text = os.environ.get(variable)
    if not text:
        return None
    source = f"environment {variable}"
    return Setting(checked(key, text, source, text=True), source)


# ---- files ---------------------------------------------------------------------------------


class _Found(NamedTuple):
    """The settings file for the current folder, and what would show that it is out of date."""

    values: Mapping[str, Any]
    source: str
    stamps: tuple[tuple[str, Any], ...]
    searched: float


_found: _Found | None = None

SEARCH_SECONDS = 1.0
"""How long a new file in a folder *above* the current one may go unnoticed."""

_SETTLED_NS = 50_000_000  # a file changed twice within one tick of its clock keeps its stamp


def _stamp(path: str) -> tuple[int, ...] | None:
    try:
        s = os.stat(path)
    except OSError:
        return None
    return s.st_mtime_ns, s.st_ino, s.st_dev, s.st_size


def from_file() -> _Found:
    """The settings file in effect. Looked for again when the folder or a file seen changes."""
    global _found
    found = _found
    if found is not None and monotonic() - found.searched < SEARCH_SECONDS:
        for path, stamp in found.stamps:
            if _stamp(path) != stamp:
                break
        else:
            return found
    found = _search()
    now = time_ns()
    settled = all(s is None or abs(now - s[0]) > _SETTLED_NS for _, s in found.stamps)
    _found = found if settled else None
    return found


def _search() -> _Found:
    try:
        folder = os.getcwd()
    except OSError:  # the current folder was deleted
        return _Found({}, "", (), 0.0)
    stamps = [(".", _stamp("."))]
    while True:
        for name in (FILE, PROJECT_FILE):
            path = os.path.join(folder, name)
            stamp = _stamp(path)
            if stamp is not None and os.path.isfile(path):
                stamps.append((path, stamp))
                table = _table(path, os.path.relpath(path))
                if table is not None:
                    return _Found(*table, tuple(stamps), monotonic())
        parent = os.path.dirname(folder)
        if parent == folder:
            return _Found({}, "", tuple(stamps), monotonic())
        folder = parent


def _table(path: str, shown: str) -> tuple[Mapping[str, Any], str] | None:
    """The checked settings in the file at `path`, or None for a pyproject.toml without any."""
    source = f"file {shown if shown.startswith(os.pardir) else os.path.join(os.curdir, shown)}"
    try:
        with open(path, "rb") as file:
            content = file.read()
        if shown.endswith(PROJECT_FILE) and b"microgpt" not in content:
            return None  # somebody else's project: its mistakes are not ours to report
        import tomllib

        table: Any = tomllib.loads(content.decode("utf-8-sig"))
    except (OSError, ValueError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise ConfigError(f"{source}: must be a readable TOML file; got: {error}") from error
    if shown.endswith(PROJECT_FILE):
        source += " [tool.microgpt]"
        table = table.get("tool", {})
        table = table.get("microgpt") if isinstance(table, dict) else None
        if table is None:
            return None
        if not isinstance(table, dict):
            raise ConfigError(f"{source}: must be a table of settings; got {table!r}")
    for key in table:
        require_known(key, source)
    values: dict[str, Any] = {key: checked(key, value, source) for key, value in table.items()}
    # Relative paths in a file are relative to the file, so that they hold in every subfolder.
    folder = os.path.dirname(shown)
    if "data" in values:
        values["data"] = folder / values["data"]
    if "plugins" in values:
        values["plugins"] = tuple(
            os.path.join(folder, p) if p.endswith(".py") else p for p in values["plugins"]
        )
    return values, source
