"""A failed gradient check on disk: a stand-alone script that repeats it, and a picture."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from microgpt.errors import InputError
from microgpt.testing.literals import function_text, literal, options
from microgpt.testing.report import GradReport
from microgpt.testing.source import Gathered

SCRIPT = '''"""A gradient check that failed. Run it with: python {file}

{text}
"""

from __future__ import annotations

import functools  # noqa: F401

import numpy as np  # noqa: F401

import microgpt as mg

{function}

report = mg.testing.gradcheck(
{arguments}
    raises=False,
)
print(report)
raise SystemExit(not report.ok)
'''


def write_report(report: GradReport, folder: str | Path, name: str | None = None) -> Path:
    """Write a failed check as a small script that repeats it, with a picture if it can be drawn.

    The picture shows the analytic and the numeric derivatives and where they differ, for the
    inputs that were given (the script has the smallest ones that fail); it needs
    matplotlib (extra: tutorials) and is left out without it, and where the failure is not about
    values.

    Returns:
        The path of the script; the picture lies beside it as a .png.

    Raises:
        InputError: if the check passed.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> import microgpt as mg
        >>> wrong = mg.testing.gradcheck(lambda x: x * mg.ops.detach(x), np.ones(2), raises=False)
        >>> folder = tempfile.mkdtemp()
        >>> mg.testing.write_report(wrong, folder, "square").name
        'square.py'
    """
    if report.ok:
        raise InputError(f"the check of {report.name} passed; there is no failure to write down")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    code = report.failures[0].code.lower()
    stem = name or f"{''.join(c if c.isalnum() else '_' for c in report.name).strip('_')}-{code}"
    path = folder / f"{stem}.py"
    _write(path, _script(report, path.name).encode())
    if (report.before or report.failures[0]).rows:
        _draw(report, path.with_suffix(".png"))
    return path


def _script(report: GradReport, file: str) -> str:
    subject, settings = report.subject, report.settings
    arguments = [function_text(subject.function)]
    arguments += [literal(x) for x in subject.inputs] + options(subject, settings)
    text = str(report).replace("\\", "\\\\").replace('"""', "'''")
    return SCRIPT.format(
        file=file,
        text=textwrap.indent(text, "    "),
        function=_definition(subject.function),
        arguments=textwrap.indent(",\n".join(arguments) + ",", "    "),
    )


def _definition(function: Any) -> str:
    """Code that defines the function, or says what has to be added to do so."""
    text = function_text(function)
    if text.startswith("mg."):
        return f"# {text} is an op of microgpt."
    gathered = Gathered()
    gathered.function(function)
    if not gathered.missing:
        return "\n\n".join(gathered.lines)
    needs = "; ".join(f"{name} ({what})" for name, what in gathered.missing.items())
    ask = f"Define or import here, then delete these lines: {needs}"
    stop = f"raise SystemExit(\n    {ask!r}\n)"
    return "\n\n".join([stop, *gathered.lines])


def _draw(report: GradReport, path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    # The inputs given say more than the smallest ones that fail.
    rows = (report.before or report.failures[0]).rows
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    values, errors = figure.subplots(2, 1, sharex=True)
    place = np.arange(len(rows))
    values.plot(place, [r.analytic for r in rows], "o", color="#0072b2", label="analytic")
    values.plot(place, [r.numeric for r in rows], "x", color="#d55e00", label="numeric")
    values.set_ylabel("derivative")
    values.legend()
    shares = np.array([max(r.share, 1e-6) for r in rows])
    colours = ["#d55e00" if s > 1 else "#0072b2" for s in shares]
    errors.bar(place, shares, color=colours)
    errors.axhline(1.0, color="black", linewidth=0.8)
    errors.set_yscale("log")
    errors.set_xlim(-0.6, max(len(rows), 6) - 0.4)
    errors.set_ylabel("error / tolerance")
    errors.set_xlabel("element of the input, flattened")
    errors.set_xticks(place[:: max(1, len(rows) // 12)])
    errors.set_xticklabels([str(r.index) for r in rows][:: max(1, len(rows) // 12)])
    values.set_title(f"{report.name}: {report.failures[0].code}")
    partial = path.with_suffix(".partial")
    figure.savefig(partial, dpi=120, format="png")
    os.replace(partial, path)


def _write(path: Path, data: bytes) -> None:
    partial = path.with_suffix(".partial")
    partial.write_bytes(data)
    os.replace(partial, path)
