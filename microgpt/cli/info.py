"""`microgpt info`: what lies in the folder of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from microgpt.checkpoints import checkpoints
from microgpt.cli.progress import entry
from microgpt.cli.text import fields, table
from microgpt.runs import building, folder


def info(run_folder: str) -> int:
    """Print what there is to know of a run; the exit status."""
    place = folder.require_run(run_folder)
    settings = folder.settings_of(place)
    with building.place(settings):
        model = building.make_model(settings)
    found = checkpoints(place)
    log = _log(place / folder.LOG)
    rows = [
        ("run", f"{place}, a {settings.kind} trained on {settings.data.data}"),
        ("steps", f"{_step(found[-1]):,} saved" if found else "none saved yet"),
        *_losses(log),
    ]
    print(fields(rows, indent=0))
    print(f"\nParameters: {model.num_parameters():,}\n")  # pyright: ignore
    print(_parameters(model))
    print("\nSettings\n")
    print(fields([(name, _entries(entries)) for name, entries in settings.tables().items()]))
    print("\nFiles\n")
    listed = [
        (str(path.relative_to(place)), f"{_size(path):,} bytes")
        for path in sorted(place.iterdir())
        if not path.name.startswith(".")
    ]
    print(table(("file", "size"), listed))
    return 0


def _entries(entries: dict[str, Any]) -> str:
    """One table of the settings in a line; what says nothing is left out."""
    return ", ".join(
        [entry(name, value) for name, value in entries.items() if value not in ("", ())]
    )


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


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


def _parameters(model: Any) -> str:
    """The table of `count()`, of which simple models give the rows and a GPT the whole."""
    counted = model.count()
    if not isinstance(counted, list):
        return str(counted)
    rows = [(name, f"{weights:,}", f"{biases:,}") for name, weights, biases in counted]
    return table(("layer", "weights", "biases"), rows)
