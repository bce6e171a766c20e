"""What is installed beside microgpt: the extras, and the BLAS underneath NumPy."""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib import metadata

from microgpt.plugin_sources import DISTRIBUTION


def pip(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install '{DISTRIBUTION}[{extra}]'"


def distribution() -> str:
    """Where the installed package is, as pip knows it."""
    try:
        found = metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return (
            f"pip knows no {DISTRIBUTION}, so no backend is found: run `pip install -e .` in the "
            "folder with its pyproject.toml"
        )
    import microgpt

    return f"{DISTRIBUTION} {found.version}, {os.path.dirname(microgpt.__file__)}"


# ---- extras ----------------------------------------------------------------------------------


def rows() -> list[tuple[str, str]]:
    """Each extra with what is installed of it, and the command for the rest."""
    lines = []
    for extra, requirements in extras().items():
        lacking = [text for name, minimum in requirements if (text := _lack(name, minimum))]
        text = f"missing: {', '.join(lacking)}\n{pip(extra)}"
        names = ", ".join(name for name, _ in requirements)
        lines.append((extra, text if lacking else f"complete ({names})"))
    return lines or [("", "not known, because microgpt is not installed by pip")]


def extras() -> dict[str, list[tuple[str, str]]]:
    """The packages of each extra, with the least version, that are for this machine."""
    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return {}
    found: dict[str, list[tuple[str, str]]] = {}
    for requirement in requirements:
        parsed = parse(requirement)
        if parsed is not None and parsed[0] != "all":  # the other extras together
            extra, name, minimum = parsed
            found.setdefault(extra, []).append((name, minimum))
    return found


_HERE = {
    "sys_platform": sys.platform,
    "platform_machine": platform.machine(),
    "platform_system": platform.system(),
    "os_name": os.name,
}


def parse(requirement: str) -> tuple[str, str, str] | None:
    """Extra, package and least version of a requirement; None if it is not for this machine.

    Only what the package's own metadata has is understood: conditions joined by `and`.

    Example:
        >>> from microgpt.cli.packages import parse
        >>> parse("pooch>=1.8; extra == 'data'")
        ('data', 'pooch', '1.8')
    """
    head, _, marker = requirement.partition(";")
    name = re.match(r"[\w.-]+", head.strip())
    conditions = dict(re.findall(r"(\w+)\s*==\s*['\"]([^'\"]+)['\"]", marker))
    extra = conditions.pop("extra", None)
    if name is None or extra is None or name[0] == DISTRIBUTION:  # extras made of other extras
        return None
    if any(_HERE.get(key, value) != value for key, value in conditions.items()):
        return None
    minimum = re.search(r">=\s*([\w.]+)", head)
    return extra, name[0], minimum[1] if minimum else ""


def _lack(name: str, minimum: str) -> str:
    """What is wrong with an installed package, or its name if it is not there."""
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return name
    old = _numbers(version) < _numbers(minimum)
    return f"{name} {minimum} (here is {version})" if old else ""


def _numbers(version: str) -> list[int]:
    return [int(n) for n in re.findall(r"\d+", version.split("+")[0])[:3]]


# ---- BLAS ------------------------------------------------------------------------------------


def blas() -> str:
    """The BLAS that NumPy was built with, and how many threads it uses."""
    import numpy as np

    built = np.show_config(mode="dicts") or {}
    found = built.get("Build Dependencies", {}).get("blas", {})
    name = f"{found.get('name', 'unknown')} {found.get('version', '')}".strip()
    threads = _threads()
    variables = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
    given = [f"{v}={os.environ[v]}" for v in variables if v in os.environ]
    text = f"{name}, {threads or 'an unknown number of'} threads"
    return f"{text} ({', '.join(given)})" if given else text


def _threads() -> int | None:
    """The number of threads that the OpenBLAS in NumPy's wheels uses, asked of itself."""
    import ctypes
    from pathlib import Path

    import numpy as np

    home = Path(np.__file__).parent
    folders = (home.parent / "numpy.libs", home / ".dylibs", home / ".libs")
    for library in (file for folder in folders for file in folder.glob("*openblas*")):
        loaded = ctypes.CDLL(str(library))
        for prefix in ("scipy_openblas", "openblas"):
            for suffix in ("64_", ""):
                function = getattr(loaded, f"{prefix}_get_num_threads{suffix}", None)
                if function is not None:
                    return int(function())
    return None
