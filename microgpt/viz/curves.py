"""How a training went: cost per step, and the whole log of a run."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from microgpt.errors import InputError, InputTypeError
from microgpt.viz.style import COLOURS, array, shown, styled

MOST_POINTS = 2000
"""Points of a curve that are drawn; a picture has no more columns."""

FEW_POINTS = 60
"""Up to so many points of a curve are marked."""

DASHES = ("-", "--", ":", "-.")
"""Of curves beyond the first seven, whose colours return."""

_UNITS = ("step", "epoch", "time", "seconds", "tokens", "examples")
"""Of rows of a log: where they belong, not what was measured."""

_LOGARITHMIC = ("loss", "grad_norm", "cost")

_WORDS = {"lr": "learning rate", "grad_norm": "gradient norm"}


def cost_curve(
    curves: Mapping[str, Sequence[float]],
    *,
    window: int = 100,
    steps_per_epoch: int | None = None,
    ylabel: str = "cost",
    title: str = "",
) -> Any:
    """Costs per step, each curve as a mean over `window` steps with the raw values pale behind it.

    Args:
        curves: name → cost of every step.
        steps_per_epoch: labels the axis with epochs instead of steps.

    Returns:
        A matplotlib figure with a logarithmic cost axis.

    Raises:
        InputError: if there is no curve, or one has no values, or no finite ones.

    Example:
        >>> import microgpt as mg
        >>> mg.viz.cost_curve({"slow": [3.0, 2.0], "quick": [3.0, 1.0]}).axes[0].get_xlabel()
        'step'
    """
    if not curves:
        raise InputError("cost_curve: no curve; required: {name: cost of every step}")
    series = {name: _costs(name, values) for name, values in curves.items()}
    with styled() as make:
        figure = make(figsize=(7, 4))
        ax = figure.subplots()
        low, high, seen = np.inf, -np.inf, []
        for i, (name, costs) in enumerate(series.items()):
            colour, dashes = COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]
            x = np.arange(1, len(costs) + 1) / (steps_per_epoch or 1)
            odd = int((~np.isfinite(costs)).sum())
            label = shown(name, space=" ", most=40 if len(series) <= 12 else 20)
            label += f" ({odd:,} of {len(costs):,} not finite)" if odd else ""
            smooth = _line(ax, x, costs, colour, label, window, dashes)
            low, high = min(low, float(np.nanmin(smooth))), max(high, float(np.nanmax(smooth)))
            seen.append(costs[np.isfinite(costs)])
        if low > 0:
            _logarithmic(ax)
            # Raw values of tiny batches reach far down.
            every = np.concatenate(seen)
            bottom, top = max(low / 4, float(every.min()) / 1.3), float(every.max()) * 1.3
            ax.set_ylim(bottom, min(high * 3, top))
        ax.set(xlabel="epoch" if steps_per_epoch else "step", ylabel=ylabel)
        ax.set_title(title, wrap=True)
        if not steps_per_epoch:
            _whole(ax)
        ax.grid(which="both")
        ax.margins(x=0.02)
        if len(series) <= 12:
            ax.legend()
        else:  # a long one would cover the curves
            ax.legend(
                loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=7, ncols=1 + len(series) // 20
            )
        return figure


def _costs(name: str, values: Sequence[float]) -> np.ndarray:
    costs = array(values).astype(float)
    if costs.ndim != 1 or not len(costs):
        raise InputError(
            f"cost_curve: {name!r} has shape {costs.shape}; required: one cost per step"
        )
    if not np.isfinite(costs).any():
        raise InputError(
            f"cost_curve: none of the {len(costs):,} values of {name!r} is finite; required: at "
            "least one (a training that diverged at once needs a smaller learning rate)"
        )
    return costs


def training_curves(log: Any, *, window: int = 50, title: str = "") -> Any:
    """All that a training wrote down, one panel for each kind of number, over the steps.

    Losses share a panel, the validation loss as points; so do accuracies and other metrics with
    their ``val_`` twins. Gradient norm and learning rate have panels of their own.

    Args:
        log: the History that `train.fit` returns, the path of a run folder or of its JSONL log, or
            rows (mappings such as ``{"step": 1, "loss": 2.3, "lr": 0.1}``).
        window: curves with very many points are shown as means over so many, raw values pale.

    Returns:
        A matplotlib figure.

    Raises:
        InputTypeError: if `log` is none of these.
        InputError: if there is no such file, nothing to draw, or a row of the log is no mapping.

    Example:
        >>> import microgpt as mg
        >>> rows = [{"step": i, "loss": 1 / i, "lr": 0.1} for i in range(1, 9)]
        >>> figure = mg.viz.training_curves([*rows, {"step": 8, "val_loss": 0.2}])
        >>> [ax.get_ylabel() for ax in figure.axes]
        ['loss', 'learning rate']
    """
    series = _series(log)
    panels: dict[str, list[str]] = {}
    for name in series:
        panels.setdefault(name.removeprefix("val_").removeprefix("train_"), []).append(name)
    order = sorted(panels, key=lambda p: ({"loss": 0, "grad_norm": 8, "lr": 9}.get(p, 5), p))
    if not order:
        raise InputError(
            "training_curves: the log holds no numbers; required: rows with a step or an epoch and "
            "a loss, lr, grad_norm or metric"
        )
    with styled() as make:
        tall = [1.6 if p == "loss" else 1.0 for p in order]
        figure = make(figsize=(7, 1.0 + 1.7 * sum(tall)))
        every = figure.subplots(
            len(order), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": tall}
        )
        for panel, ax in zip(order, every.flat, strict=True):
            _panel(ax, panel, {name: series[name] for name in panels[panel]}, window)
        every[-1, 0].set_xlabel("step")
        _whole(every[-1, 0])
        if title:
            every[0, 0].set_title(title, wrap=True)
        figure.align_ylabels(list(every.flat))
        return figure


def _panel(
    ax: Any, panel: str, curves: Mapping[str, tuple[np.ndarray, np.ndarray]], window: int
) -> None:
    lowest = np.inf
    for (name, (x, y)), colour in zip(curves.items(), cycle(COLOURS), strict=False):
        label = {"loss": "training", "val_loss": "validation"}.get(name, name)
        if name.startswith("val_") or len(x) <= MOST_POINTS // 10:
            ax.plot(x, y, marker=_mark(x), color=colour, label=label, markersize=4, linewidth=1.4)
        else:
            _line(ax, x, y, colour, label, window)
        lowest = min(lowest, float(np.min(y, where=np.isfinite(y), initial=np.inf)))
    only_validation = all(name.startswith("val_") for name in curves)
    ax.set_ylabel(("validation " if only_validation else "") + _WORDS.get(panel, panel))
    ax.grid(which="both")
    ax.margins(x=0.02)
    if panel in _LOGARITHMIC and 0 < lowest < np.inf:
        _logarithmic(ax)
    elif panel == "lr":
        ax.set_ylim(bottom=0)
    if len(curves) > 1:
        ax.legend()


def _mark(x: np.ndarray) -> str:
    """Few points are seen as points: a single one has no line."""
    return "o" if len(x) <= FEW_POINTS else "none"


def _whole(ax: Any) -> None:
    """Whole numbers at the axis of steps."""
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))


def _logarithmic(ax: Any) -> None:
    """A logarithmic axis with plain numbers at 1, 2, 5, 10, …"""
    from matplotlib.ticker import LogLocator

    ax.set_yscale("log")
    ax.yaxis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
    for place in (ax.yaxis.set_major_formatter, ax.yaxis.set_minor_formatter):
        place(lambda value, _: f"{value:g}")
    ax.tick_params(axis="y", which="minor", labelsize=8)


def _line(
    ax: Any,
    x: np.ndarray,
    y: np.ndarray,
    colour: str,
    label: str,
    window: int,
    dashes: str = "-",
) -> np.ndarray:
    """A curve as running means, with the raw values pale behind it. Returns the means.

    What is not finite is left out of the means, and where nothing else is, the line is broken.
    """
    width = max(min(window, len(y) // 5), 1)
    finite = np.isfinite(y)
    sums = np.cumsum(np.insert(np.where(finite, y, 0.0), 0, 0.0))
    counts = np.cumsum(np.insert(finite, 0, 0))
    count = counts[width:] - counts[:-width]
    smooth = np.where(count > 0, (sums[width:] - sums[:-width]) / np.maximum(count, 1), np.nan)
    middle = np.convolve(x, np.ones(width) / width, "valid")
    every = max(len(y) // MOST_POINTS, 1)
    if width > 1:
        ax.plot(x[::every], y[::every], color=colour, alpha=0.2, linewidth=0.6)
    ax.plot(
        middle[::every], smooth[::every], color=colour, label=label, linestyle=dashes,
        marker=_mark(middle), markersize=4,
    )  # fmt: skip
    return smooth


# ---- reading -----------------------------------------------------------------------------------


def _series(log: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """name → steps and values."""
    if hasattr(log, "losses") and hasattr(log, "epochs"):
        return _of_history(log)
    if isinstance(log, (str, os.PathLike)):
        return _of_rows(_read(Path(log)))
    if not isinstance(log, Iterable):
        raise InputTypeError(
            f"training_curves: got a {type(log).__name__}; required: a History, the path of a run "
            "or its log, or rows"
        )
    return _of_rows(log)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _of_history(history: Any) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    losses = np.asarray(history.losses, dtype=float)
    found = {"loss": (np.arange(1, len(losses) + 1), losses)} if len(losses) else {}
    norms = getattr(history, "grad_norms", {})
    if norms:
        found["grad_norm"] = (np.array(list(norms)), np.array(list(norms.values()), dtype=float))
    per_epoch = len(losses) / max(len(history.epochs), 1)
    epochs = [
        {"step": row.get("step", round(per_epoch * (i + 1))), **row}
        for i, row in enumerate(history.epochs)
    ]
    # What was measured between epochs too is taken from the evaluations.
    for rows in (getattr(history, "evaluations", []), epochs):
        for name, values in _of_rows(rows).items():
            found.setdefault(name, values)
    return found


def _read(path: Path) -> Iterable[Mapping[str, Any]]:
    file = path / "log.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise InputError(
            f"training_curves: there is no file {file}; required: the folder of a run, which holds "
            "a log.jsonl, or the path of such a log"
        )
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise InputError(f"training_curves: {file} is no text; required: a JSONL log") from None
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            if number == len(lines):
                continue  # the run may be writing this line just now
            raise InputError(f"{file}, line {number}: required: a JSON object; got {line[:60]!r}")
        rows.append(row)
    return rows


def _of_rows(rows: Iterable[Mapping[str, Any]]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    points: dict[str, list[tuple[float, float]]] = {}
    for i, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise InputError(
                f"training_curves: row {i} of the log is a {type(row).__name__}; required: "
                'mappings such as {"step": 1, "loss": 2.3}'
            )
        step = next((row[k] for k in ("step", "epoch") if _is_number(row.get(k))), i + 1)
        for name, value in row.items():
            if _is_number(value) and not any(name == u or name.startswith(f"{u}_") for u in _UNITS):
                points.setdefault(name, []).append((float(step), float(value)))
    return {
        name: (np.array([x for x, _ in pairs]), np.array([y for _, y in pairs]))
        for name, pairs in points.items()
    }
