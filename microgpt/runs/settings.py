"""The settings of a run: what each may be, and which of several sources wins.

A setting is a field of one of `tables`: two of them depend on the kind of model, the others are
the same for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple

from microgpt.errors import ConfigError
from microgpt.runs.tables import Compute, Found, Optimizer, Schedule, Training

if TYPE_CHECKING:
    from microgpt.runs.kinds import Kind


SHARED = {
    "optimizer": Optimizer,
    "schedule": Schedule,
    "training": Training,
    "compute": Compute,
    "found": Found,
}


@dataclass(frozen=True)
class Settings:
    """Everything that a run depends on.

    Attributes:
        kind: gpt, mlp, cnn, lstm or lstm-classifier.
        data, model: tables of that kind, see `microgpt.runs.kinds`.
    """

    kind: str
    data: Any
    model: Any
    optimizer: Optimizer
    schedule: Schedule
    training: Training
    compute: Compute
    found: Found

    def flat(self) -> dict[str, Any]:
        """All settings by name, without the tables."""
        tables = [getattr(self, table) for table in TABLES]
        return {f.name: getattr(t, f.name) for t in tables for f in fields(t)}

    def tables(self) -> dict[str, dict[str, Any]]:
        """All settings by table and name."""
        return {t: dict(vars(getattr(self, t))) for t in TABLES}


TABLES = ("data", "model", *SHARED)
"""The tables of a settings file, in order."""


# ---- what each may be ------------------------------------------------------------------------


class Row(NamedTuple):
    """One setting of a kind: where it stands, its default, and what is allowed."""

    name: str
    table: str
    type: str
    default: Any
    help: str
    choices: tuple[str, ...]
    least: float | None
    most: float | None
    alone: str

    @property
    def required(self) -> str:
        """What a value must be, in words."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        words, plural = {
            "int": ("a whole number", False),
            "float": ("a number" if self.most is not None else "a finite number", False),
            "bool": ("true or false", False),
            "str": ("a text", False),
            "tuple[int, ...]": ("a list of whole numbers", True),
            "tuple[str, ...]": ("a list of texts", True),
        }[self.type]
        if self.most is not None:
            words += f" from {self.least} to {self.most}"
        elif self.least is not None:
            words += f", each {self.least} or more" if plural else f" of {self.least} or more"
        return words

    def checked(self, value: Any, source: str) -> Any:
        """`value` in its final type.

        Raises:
            ConfigError: if it is not what is required.
        """
        try:
            final = _CONVERT[self.type](value)
        except TypeError:
            final = None
        if final is None or not self._allows(final):
            raise self._wrong(value, source)
        return final

    def parsed(self, text: str, source: str) -> Any:
        """A word of the command line as a value: 100,50 is a list.

        Raises:
            ConfigError: if it is not what is required.
        """
        try:
            value = _PARSE[self.type](text)
        except ValueError:
            raise self._wrong(text, source) from None
        return self.checked(value, source)

    def _wrong(self, value: Any, source: str) -> ConfigError:
        return ConfigError(f"{source}: '{self.name}' must be {self.required}; got {value!r}")

    def _allows(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        if self.least is None:
            return True
        most = float("inf") if self.most is None else self.most
        numbers = value if isinstance(value, tuple) else (value,)
        return all(self.least <= n <= most and math.isfinite(n) for n in numbers)


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError
    return float(value)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _several(check: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def convert(values: Any) -> tuple[Any, ...]:
        if not isinstance(values, list | tuple):
            raise TypeError
        return tuple([check(value) for value in values])

    return convert


_CONVERT: dict[str, Callable[[Any], Any]] = {
    "int": _whole,
    "float": _number,
    "bool": _truth,
    "str": _text,
    "tuple[int, ...]": _several(_whole),
    "tuple[str, ...]": _several(_text),
}
_PARSE: dict[str, Callable[[str], Any]] = {
    "int": int,
    "float": float,
    "str": str,
    "tuple[int, ...]": lambda text: [int(part) for part in text.split(",") if part.strip()],
}


def rows(kind: Kind) -> dict[str, Row]:
    """Every setting of `kind`, by name."""
    found = {}
    for table, columns in {"data": kind.data, "model": kind.model, **SHARED}.items():
        for f in fields(columns):
            default = kind.defaults.get(f.name, f.default)
            found[f.name] = Row(f.name, table, str(f.type), default, **f.metadata)
    return found


def nearest(name: str, valid: Iterable[str]) -> str:
    """'; did you mean …?' if one of the `valid` names resembles `name`, else nothing."""
    close = get_close_matches(name, list(valid), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""


# ---- which source wins -----------------------------------------------------------------------


class Layer(NamedTuple):
    """Settings from one source, by name; `source` stands at the head of error messages."""

    source: str
    values: Mapping[str, Any]


def resolve(kind: Kind, *layers: Layer) -> Settings:
    """The settings of a run of `kind`: its defaults, changed by the layers; the last one wins.

    What suits the data set comes before the layers. A layer that names ``steps`` or ``epochs``
    replaces both, as each says how long it takes.

    Raises:
        ConfigError: if a name is unknown, or a value not what is required.
    """
    known = rows(kind)
    values = {name: row.default for name, row in known.items()}
    chosen = [layer.values["data"] for layer in layers if "data" in layer.values]
    suited = kind.sets.get(str(chosen[-1] if chosen else values["data"]), {})
    for source, given in (Layer("data set", suited), *layers):
        for name, value in given.items():
            if name not in known:
                raise ConfigError(
                    f"{source}: {kind.name} has no setting '{name}'{nearest(name, known)}\n"
                    f"(`microgpt train {kind.name} --help` lists them)"
                )
            values[name] = known[name].checked(value, source)
        lengths = {name for name in ("steps", "epochs") if values[name] and name in given}
        if len(lengths) == 2:
            raise ConfigError(
                f"{source}: both 'steps' and 'epochs' say how long it takes; got "
                f"{values['steps']} and {values['epochs']}: name one of them"
            )
        if lengths:
            values[({"steps", "epochs"} - lengths).pop()] = 0
    if not values["steps"] and not values["epochs"]:
        raise ConfigError(f"{kind.name}: 'steps' or 'epochs' must be 1 or more; got 0 for both")
    return Settings(kind=kind.name, **_tables(kind, values))


def _tables(kind: Kind, values: Mapping[str, Any]) -> dict[str, Any]:
    made = {}
    for table, columns in {"data": kind.data, "model": kind.model, **SHARED}.items():
        made[table] = columns(**{f.name: values[f.name] for f in fields(columns)})
    return made
