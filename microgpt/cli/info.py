"""`microgpt info`: what lies in the folder of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from microgpt.cli.progress import entry
from microgpt.cli.text import fields, table
from microgpt.runs import building, folder


def info(run_folder: str, as_json: bool = False) -> int:
    """Print what there is to know of a run; the exit status."""
    place = folder.require_run(run_folder)
    settings = folder.settings_of(place)
    with building.place(settings):
        model = building.make_model(settings)
    done, log = folder.steps(place), _log(place / folder.LOG)
    listed = [path for path in sorted(place.iterdir()) if not path.name.startswith(".")]
    if as_json:
        found = {
            "run": str(place),
            "kind": settings.kind,
            "steps": done,
            "parameters": model.num_parameters(),  # pyright: ignore
            **_losses_by_name(log),
            "settings": settings.tables(),
            "files": {_name(path): _size(path) for path in listed},
        }
        print(json.dumps(found, indent=1))
        return 0
    rows = [
        ("run", f"{place}, {settings.kind} trained on {settings.data.data}"),
        ("steps", f"{done:,} saved" if done else "none saved yet"),
        *_losses(log),
    ]
    print(fields(rows, indent=0))
    print(f"\nParameters: {model.num_parameters():,}\n")  # pyright: ignore
    print(_parameters(model))
    print("\nSettings\n")
    print(fields([(name, _entries(name, each)) for name, each in settings.tables().items()]))
    print("\nFiles\n")
    print(table(("file", "size"), [(_name(path), readable(_size(path))) for path in listed]))
    return 0


def _entries(name: str, entries: dict[str, Any]) -> str:
    """One table of the settings in a line; what says nothing is left out."""
    nothing = ("", ()) if name == "found" else ("",)
    return ", ".join([entry(key, value) for key, value in entries.items() if value not in nothing])


def _name(path: Path) -> str:
    return path.name + ("/" if path.is_dir() else "")


def readable(size: int) -> str:
    """A size in bytes as people say it.

    Example:
        >>> from microgpt.cli.info import readable
        >>> readable(1), readable(999), readable(123456), readable(2500000)
        ('1 byte', '999 bytes', '123 kB', '2.5 MB')
    """
    if size < 1000:
        return f"{size} byte{'' if size == 1 else 's'}"
    value, unit = size / 1000, "kB"
    for larger in ("MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{value:.3g} {unit}"


def _size(path: Path) -> int:
    parts = path.rglob("*") if path.is_dir() else [path]
    return sum(part.stat().st_size for part in parts if part.is_file())


def _log(path: Path) -> list[dict[str, Any]]:
    rows = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:  # the last line of a process that was killed
                break
    return rows


def _losses(log: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The last loss and the best one on what is held out."""
    rows = []
    steps = [row for row in log if row.get("loss") is not None]
    judged = [row for row in log if row.get("val_loss") is not None]
    if steps:
        rows.append(("loss", f"{steps[-1]['loss']:.4f} in step {steps[-1]['step']:,}"))
    if judged:
        best, last = min(judged, key=lambda row: row["val_loss"]), judged[-1]
        rows.append(
            (
                "validation",
                f"best {best['val_loss']:.4f} in step {best['step']:,}, "
                f"last {last['val_loss']:.4f} in step {last['step']:,}",
            )
        )
    return rows


def _losses_by_name(log: list[dict[str, Any]]) -> dict[str, Any]:
    """The same for programs; null where nothing was logged."""
    losses = [row["loss"] for row in log if row.get("loss") is not None]
    judged = [row for row in log if row.get("val_loss") is not None]
    best = min(judged, key=lambda row: row["val_loss"], default=None)
    return {
        "loss": losses[-1] if losses else None,
        "best": None if best is None else {key: best[key] for key in ("step", "val_loss")},
    }


def _parameters(model: Any) -> str:
    """The table of `count()`, of which simple models give the rows and a GPT the whole."""
    counted = model.count()
    if not isinstance(counted, list):
        return str(counted)
    rows = [(name, f"{weights:,}", f"{biases:,}") for name, weights, biases in counted]
    return table(("layer", "weights", "biases"), rows)
