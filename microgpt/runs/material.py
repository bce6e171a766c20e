"""What a run learns from, whatever kind of data it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from microgpt.errors import DataError
from microgpt.runs.settings import Settings
from microgpt.runs.tables import Found
from microgpt.text import Tokenizer


@dataclass(frozen=True)
class Material:
    """Batches to learn from, batches to be judged by, and what there is to say of them.

    Attributes:
        title: what it is, with numbers, in one line.
        origin: source and licence, in one line.
        train: resumable batches, one pass per epoch.
        held_out: batches kept back to validate on while it learns; None if there are none.
        test: batches to be judged by at the end; None if all that is held out is `held_out`.
        found: sizes that the model needs.
        settings: those it was read with, without ``auto``.
        loss: called with outputs and targets.
        metrics: measured on what is held out.
        tokenizer: for texts.
    """

    title: str
    origin: str
    train: Any
    held_out: Iterable[Any] | None
    test: Iterable[Any] | None
    found: Found
    settings: Settings
    loss: Callable[..., Any]
    metrics: Mapping[str, Callable[..., float]] = field(default_factory=dict)
    tokenizer: Tokenizer | None = None


_CALL = re.compile(r"mg\.data\.(\w+)\(\)")
_NAMES = {"tiny_shakespeare": "shakespeare"}
"""Data sets that settings name otherwise than the calls do."""


@contextmanager
def named_as_settings() -> Iterator[None]:
    """For a block: errors advise data sets as settings name them, not as calls of Python."""

    def name(call: re.Match[str]) -> str:
        return "--data " + _NAMES.get(call[1], call[1].replace("_", "-"))

    try:
        yield
    except DataError as error:
        raise DataError(_CALL.sub(name, str(error))) from error


def require_same(settings: Settings, found: Found) -> None:
    """Refuse data that are not those in which the settings have `found` their sizes.

    Raises:
        DataError: says what differs, and what to do.
    """
    known = replace(settings.found, resumed_at=())  # that is no matter of the data
    if known in (Found(), found):
        return
    what = [name for name, value in vars(known).items() if value != getattr(found, name)]
    raise DataError(
        f"{settings.data.data} is not what this run learnt from: {', '.join(what)} "
        f"{'differ' if len(what) > 1 else 'differs'} from [found] in the settings. Bring the "
        "old data back, or remove [found] from a copy of the settings and start a new run"
    )
