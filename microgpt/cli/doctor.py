"""`microgpt doctor`: what is here, what is missing, and the command that mends it."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable

from microgpt.cli import opencl, packages
from microgpt.cli.text import WIDTH, fields, lines_of
from microgpt.errors import ConfigError, MicrogptError, MissingExtraError

Rows = list[tuple[str, str]]


def report() -> int:
    """Print the report.

    Returns:
        0 if the base works: Python, NumPy, the settings and the backend in effect; otherwise 1.
    """
    from microgpt import __version__

    problems: list[str] = []
    print(f"microgpt {__version__}")
    print(fields(_base(problems)))
    print("\nBackends and plugins")
    print(fields(_backends(problems)))
    print("\nOpenCL")
    print(fields(opencl.rows()))
    print("\nExtras")
    print(fields(packages.rows()))
    print()
    if problems:
        print("The base does not work:")
        for problem in problems:
            print("- " + "\n  ".join(lines_of(problem, WIDTH - 2)))
        return 1
    print("The base works: a gradient was computed and is right.")
    return 0


def _safely(look: Callable[[], str]) -> str:
    """What `look` finds; the report must not end because one look fails."""
    try:
        return look()
    except Exception as error:
        return f"cannot be told ({type(error).__name__}: {error})"


# ---- the base --------------------------------------------------------------------------------


def _base(problems: list[str]) -> Rows:
    rows: Rows = [
        (
            "Python",
            f"{platform.python_version()} ({platform.python_implementation()}), {sys.executable}",
        ),
        ("platform", f"{platform.platform()}, {os.cpu_count()} CPUs"),
        ("NumPy", _safely(_numpy)),
        ("BLAS", _safely(packages.blas)),
        ("installed", _safely(packages.distribution)),
        ("settings", _settings(problems)),
        ("data", _safely(_data)),
    ]
    wrong = _gradient_problem()
    if wrong:
        problems.append(wrong)
    return rows


def _numpy() -> str:
    import numpy

    return numpy.__version__


def _settings(problems: list[str]) -> str:
    from microgpt.config import effective

    try:
        found = effective()
    except ConfigError as error:
        problems.append(f"the settings are not valid: {error}")
        return str(error)
    changed = [f"{k}={s.value} ({s.source})" for k, s in found.items() if s.source != "default"]
    return "\n".join(changed) or "all at their defaults"


def _data() -> str:
    from pathlib import Path

    from microgpt import config

    folder = config.get("data")
    if folder is not None:
        return f"{folder}" if Path(folder).is_dir() else f"{folder}\nthere is no such folder"
    try:
        from microgpt.data.remote import cache_folder

        return f"{cache_folder()} (MICROGPT_DATA names another)"
    except MissingExtraError:
        return f"the embedded digits; for the larger sets: {packages.pip('data')}"


def _gradient_problem() -> str:
    """A small gradient by the NumPy backend, or what prevents it."""
    try:
        import microgpt as mg

        x = mg.tensor([1.0, 2.0, 3.0], requires_grad=True, dtype="float64", backend="numpy")
        mg.sum(x * x).backward()
        found = None if x.grad is None else x.grad.tolist()
    except ConfigError:
        return ""  # said already
    except Exception as error:
        return f"a small gradient failed: {type(error).__name__}: {error}"
    right = [2.0, 4.0, 6.0]
    return "" if found == right else f"the gradient of Σx² at (1, 2, 3) is {found}, not {right}"


# ---- backends --------------------------------------------------------------------------------


def _backends(problems: list[str]) -> Rows:
    from microgpt import config
    from microgpt.cli.backends import devices_of, survey

    try:
        works, reasons = survey()
        chosen = config.get("backend")
    except ConfigError:
        return [("", "not looked at until the settings are valid")]
    except MicrogptError as error:
        problems.append(str(error))
        return [("", str(error))]
    rows: Rows = []
    for name, backend in works.items():
        versions = ", ".join(f"{k} {v}" for k, v in backend.versions().items())
        default = "default; " if name == chosen else ""
        rows.append(
            (
                name,
                f"{default}devices {devices_of(backend)}" + (f"; {versions}" if versions else ""),
            )
        )
    rows += [(name, f"BROKEN: {reason}") for name, reason in sorted(reasons.items())]
    if chosen not in works:
        reason = reasons.get(chosen)
        if reason is None:
            from microgpt.plugins import registry

            try:
                registry.backend(chosen)
            except MicrogptError as error:
                reason = str(error)
        problems.append(f"the configured backend '{chosen}' cannot be used: {reason}")
    return rows
