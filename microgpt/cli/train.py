"""`microgpt train`: from settings to a run folder."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from microgpt import config, runs
from microgpt.cli import progress
from microgpt.errors import InputError
from microgpt.runs import building, files, folder
from microgpt.runs.kinds import KINDS, Kind, kind_named
from microgpt.runs.settings import Layer, Row, Settings, nearest, resolve, rows
from microgpt.runs.tables import Found
from microgpt.runs.training import continuation

_GROUPS = {
    "data": "data",
    "model": "model",
    "optimizer": "optimizer",
    "schedule": "learning rate",
    "training": "how long, and what is kept",
    "compute": "where, and from which random numbers",
}
_METAVARS = {"int": "N", "float": "X", "str": "NAME", "tuple[int, ...]": "N,N"}


def main(arguments: Sequence[str]) -> int:
    """Train what the arguments (those behind ``train``) ask for.

    Returns:
        0, or 130 after SIGINT and 143 after SIGTERM, as shells expect.
    """
    given = list(arguments)
    kind, layers = _look_ahead(given)
    parser = _parser(kind)
    if not given:
        parser.print_help()
        return 0
    options, unknown = parser.parse_known_args(given)
    run = options.resume or options.out
    if options.resume is not None and not run:
        raise InputError("train: --resume needs the folder of the run: --resume runs/names")
    if options.resume and options.out and Path(options.resume) != Path(options.out):
        raise InputError(
            f"train: a run goes on in its own folder; got --resume {options.resume} and --out "
            f"{options.out}; leave --out away"
        )
    if options.overwrite and options.resume is not None:
        raise InputError(
            "train: --resume goes on with a run, --overwrite puts another in its place; got both"
        )
    if kind is None:
        if options.resume is not None:
            folder.require_run(run)
        raise InputError(
            f"train needs a model ({', '.join(KINDS)}), --config FILE or --resume RUN; for "
            "instance: microgpt train gpt --data names"
        )
    if unknown:
        raise _unknown(unknown[0], parser, kind)
    known = rows(kind)
    words = {
        name: known[name].parsed(value, "command line") if isinstance(value, str) else value
        for name, value in vars(options).items()
        if name in known
    }
    settings = resolve(
        kind, *_configured(layers), *layers, *_preset(kind, options.preset),
        Layer("command line", words),
    )  # fmt: skip
    _require_used(settings, words)
    if options.resume is not None:
        place = folder.require_run(run)
        if options.dry_run:
            parts = continuation(place, settings)
            return _show(parts, parts.settings, place)
        return progress.run(place, lambda show: runs.resume(place, settings, announce=show))
    out = Path(options.out) if options.out else folder.free_name(settings)
    if options.dry_run:
        with building.place(settings):
            return _show(building.build(settings), settings, out)
    return progress.run(
        out, lambda show: runs.start(settings, out, overwrite=options.overwrite, announce=show)
    )


_OF_USE = {
    "vocab": ("tokenizer", ("bpe",)),
    "beta2": ("optimizer", ("adamw", "adam")),
    "final": ("schedule", ("cosine", "linear")),
}
"""Settings that count with some values of another one only."""


def _require_used(settings: Settings, words: dict[str, Any]) -> None:
    """Refuse an argument that would change nothing."""
    values = settings.flat()
    for name, (other, useful) in _OF_USE.items():
        if name in words and values[other] not in useful:
            wanted = " or ".join([f"--{other} {value}" for value in useful])
            raise InputError(
                f"train: --{name} counts with {wanted} only; got --{other} {values[other]}"
            )
    for name in ("patience", "eval_every"):
        if words.get(name) and not values["held_out"]:
            flag = "--" + name.replace("_", "-")
            raise InputError(
                f"train: {flag} needs something to validate on; got --held-out 0 (nothing)"
            )


def _show(parts: building.Parts, settings: Settings, out: Path) -> int:
    progress.announce(parts, out)
    print("\nNothing was trained or written (--dry-run). The settings:\n")
    print(files.dumps(settings))
    return 0


# ---- where settings come from ----------------------------------------------------------------


def _look_ahead(given: list[str]) -> tuple[Kind | None, list[Layer]]:
    """Which model it is about, and what a settings file says: the arguments depend on it."""
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for flag in ("--config", "--out", "--data"):
        first.add_argument(flag)
    first.add_argument("--resume", nargs="?", const="")
    found, _ = first.parse_known_args(given)
    name = given[0] if given and not given[0].startswith("-") else None
    kind = None if name is None else kind_named(name, "train", found.data)
    file = found.config
    if file is None and found.resume is not None:
        saved = Path(found.resume or found.out or "") / folder.SETTINGS
        file = saved if saved.is_file() else None
    if file is None:
        return kind, []
    other, layer = files.read(file)
    if name not in (None, other.name, other.command):
        raise InputError(f"train: {file} is about {other.name}; got {name}")
    if found.data is not None:  # what other data turned out to be does not count
        kept = {k: v for k, v in layer.values.items() if k not in vars(Found())}
        layer = Layer(layer.source, kept)
    return other, [layer]


def _configured(layers: list[Layer]) -> list[Layer]:
    """What `microgpt config` shows, for what no file settles."""
    settled = {name for layer in layers for name in layer.values}
    place = config.place()
    values = {
        "backend": place[0],
        "device": place[1] or "",
        "dtype": config.get("dtype"),
        "seed": config.get("seed") or 0,
    }
    return [Layer("configuration", {k: v for k, v in values.items() if k not in settled})]


def _preset(kind: Kind, name: str | None) -> list[Layer]:
    if name is None:
        return []
    if name not in kind.presets:
        raise InputError(
            f"train: there is no preset '{name}'{nearest(name, kind.presets)}\n"
            f"(valid: {', '.join(kind.presets)})"
        )
    return [Layer(f"preset {name}", kind.presets[name])]


# ---- the parser ------------------------------------------------------------------------------


def _parser(kind: Kind | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"microgpt train{f' {kind.name}' if kind else ''}",
        usage=f"microgpt train {kind.name if kind else 'MODEL'} [--data …] [--out …] [settings]",
        description=f"Train {kind.line}." if kind else "Train a model, and keep it in a folder.",
        epilog=_sets(kind) if kind else _models(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model", nargs="?", metavar="MODEL", help=", ".join(KINDS))
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    run = parser.add_argument_group("the run")
    run.add_argument("--out", metavar="FOLDER", help="a new one (default: runs/MODEL-DATA)")
    run.add_argument("--config", metavar="FILE", help="settings in a TOML file; arguments win")
    run.add_argument(
        "--resume", nargs="?", const="", metavar="FOLDER", help="go on with the run in FOLDER"
    )
    run.add_argument("--overwrite", action="store_true", help="replace the run in --out")
    run.add_argument("--dry-run", action="store_true", help="show what would be trained")
    presets = kind.presets if kind else {}
    if presets:
        names = "{" + ",".join(presets) + "}"
        run.add_argument("--preset", metavar=names, help="settings under one name")
    else:
        parser.set_defaults(preset=None)
    for table, title in _GROUPS.items() if kind else ():
        group = parser.add_argument_group(title)
        for row in rows(kind).values():  # pyright: ignore[reportArgumentType]
            if row.table == table:
                _add(group, row)
    return parser


def _add(group: Any, row: Row) -> None:
    flag = "--" + row.name.replace("_", "-")
    default = row.default
    shown = ",".join(map(str, default)) if isinstance(default, tuple) else default
    help = row.help if isinstance(shown, (str, bool)) and not shown else f"{row.help} ({shown})"
    how: dict[str, Any] = {"default": argparse.SUPPRESS, "help": help}
    if row.type == "bool":
        group.add_argument(flag, action=argparse.BooleanOptionalAction, **how)
    else:
        # Values are checked like those of a file, with the same words.
        metavar = "{" + ",".join(row.choices) + "}" if row.choices else _METAVARS[row.type]
        if row.alone:
            how |= {"nargs": "?", "const": row.alone}
        group.add_argument(flag, metavar=metavar, **how)


def _models() -> str:
    lines = [f"  {kind.name:<16} {kind.line}" for kind in KINDS.values()]
    return "\n".join(
        ["models:", *lines, "", "`microgpt train gpt --help` lists the settings of one."]
    )


def _sets(kind: Kind) -> str:
    lines = ["data sets by name: " + ", ".join(kind.sets)]
    for other in KINDS.values():
        if other.command == kind.name:
            lines.append(
                f"with {' or '.join(other.sets)} it is {other.line}:\n"
                f"see microgpt train {other.name} --help"
            )
    return "\n".join(lines)


def _unknown(argument: str, parser: argparse.ArgumentParser, kind: Kind) -> InputError:
    if not argument.startswith("-"):
        return InputError(f"train: the model comes first, then settings; got '{argument}'")
    flags = [flag for action in parser._actions for flag in action.option_strings]
    names = [flag.lstrip("-") for flag in flags]  # the dashes would make all of them alike
    near = nearest(argument.split("=")[0].lstrip("-"), names).replace("'", "'--", 1)
    return InputError(
        f"train: there is no argument '{argument}'{near}\n"
        f"(`microgpt train {kind.name} --help` lists them)"
    )
