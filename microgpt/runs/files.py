"""Settings in TOML files: read with every mistake named, written complete and in one go."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from microgpt import durable
from microgpt.errors import ConfigError, missing_extra
from microgpt.runs.kinds import Kind, kind_named
from microgpt.runs.settings import TABLES, Layer, Settings, nearest, resolve, rows


def read(path: str | Path) -> tuple[Kind, Layer]:
    """The kind and the settings that a TOML file names, by name.

    A relative path in ``data`` is relative to the file.

    Raises:
        ConfigError: if the file cannot be read, or names a table, a setting or a kind that does
            not exist, or a setting in the wrong table.
    """
    source = str(path)
    content = _content(Path(path))
    kind = kind_named(_word(content.pop("kind", None), source), source)
    known = rows(kind)
    values: dict[str, Any] = {}
    for table, entries in content.items():
        if not isinstance(entries, dict):
            row = known.get(table)
            where = f"it belongs under [{row.table}]" if row else "settings stand in tables"
            raise ConfigError(f"{source}: '{table}' is in no table; {where}")
        if table not in TABLES:
            raise ConfigError(
                f"{source}: there is no table [{table}]{nearest(table, TABLES)}\n"
                f"(valid: {', '.join(TABLES)})"
            )
        for name, value in entries.items():
            row = known.get(name)
            if row is not None and row.table != table:
                raise ConfigError(
                    f"{source}: '{name}' belongs under [{row.table}]; got it under [{table}]"
                )
            values[name] = value
    # Checked here, so that a mistake in the file is found even if an argument replaces it.
    for name, row in known.items():
        if name in values:
            values[name] = row.checked(values[name], source)
    data = values.get("data", "")
    beside = Path(path).parent / data
    if data and not Path(data).is_absolute() and beside.exists():
        values["data"] = str(beside)
    return kind, Layer(source, values)


def load(path: str | Path) -> Settings:
    """The settings in a TOML file, with the defaults of what it does not name.

    Raises:
        ConfigError: see `read`.
    """
    kind, layer = read(path)
    return resolve(kind, layer)


def write(settings: Settings, path: str | Path) -> None:
    """Write the complete settings as TOML; an old file is replaced in one go.

    Raises:
        MissingExtraError: if the package tomli-w is not installed (extra: train).
    """
    content = dumps(settings).encode()
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        durable.write(temporary, content)
        os.replace(temporary, target)
        durable.sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def dumps(settings: Settings) -> str:
    """The complete settings as the text of a TOML file."""
    try:
        import tomli_w
    except ImportError:
        raise missing_extra("tomli-w", "train", "saving the settings of a run") from None
    tables = {
        table: {name: _plain(value) for name, value in entries.items()}
        for table, entries in settings.tables().items()
    }
    return tomli_w.dumps({"kind": settings.kind, **tables})


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _content(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"there is no settings file {path}") from None
    except (OSError, ValueError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        raise ConfigError(f"{path}: must be a readable TOML file; got: {error}") from error


def _word(value: Any, source: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(
            f"{source}: 'kind' must name the model, such as kind = \"gpt\", in the first line; got "
            + ("nothing" if value is None else repr(value))
        )
    return value
