"""Training runs by name: settings in a TOML file, everything that comes of them in one folder.

>>> from microgpt import runs
>>> settings = runs.configure("mlp", hidden=[32], epochs=3)
>>> settings.model.hidden, settings.training.batch
((32,), 32)

`start` trains what settings say, `resume` goes on after an interruption, `load` gives the model
back. The commands `microgpt train`, `sample`, `eval` and `info` are these functions.
"""

from __future__ import annotations

from typing import Any

from microgpt.runs.files import load as read_settings
from microgpt.runs.files import write as write_settings
from microgpt.runs.kinds import KINDS, Kind, kind_named
from microgpt.runs.loading import Trained, load
from microgpt.runs.settings import Layer, Settings, resolve
from microgpt.runs.training import Outcome, resume, start

__all__ = [
    "KINDS",
    "Kind",
    "Outcome",
    "Settings",
    "Trained",
    "configure",
    "load",
    "read_settings",
    "resume",
    "start",
    "write_settings",
]


def configure(kind: str, **changes: Any) -> Settings:
    """The settings of a kind of model, with changes to its defaults.

    Args:
        kind: a name in `KINDS`.
        changes: settings by name, such as ``lr=0.01``, whatever table they are in.

    Raises:
        ConfigError: if a name is unknown, or a value not what is required.

    Example:
        >>> from microgpt import runs
        >>> runs.configure("gpt", width=32).model.width
        32
    """
    found = kind_named(kind, "configure()", changes.get("data"))
    return resolve(found, Layer("configure()", changes))
