"""Which lessons there are: read from `lessons.toml`, which lies beside their scripts."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from pathlib import Path

import microgpt
from microgpt.errors import DataError, InputError

CHAPTERS = ("1", "2", "3", "4", "5", "6", "7", "8", "talk")


@dataclass(frozen=True)
class Card:
    """What is known about a lesson without running it.

    Attributes:
        file: name of the script, without ``.py``.
        chapter: of the series, ``"1"`` to ``"8"``, or ``"talk"``.
        title: as it says itself.
        shows: in a line, what one sees happen.
        seconds, fast: how long it takes on one core, and shrunk.
        data: what it works on.
        pictures: the files that it writes.
        summary, summary_zh: in some sentences, in English and in Chinese.
    """

    file: str
    chapter: str
    title: str
    shows: str
    seconds: float
    fast: float
    data: str
    pictures: tuple[str, ...]
    summary: str
    summary_zh: str

    @property
    def script(self) -> Path:
        """Where it lies."""
        return folder() / f"{self.file}.py"

    @property
    def solution(self) -> Path:
        """Where the solutions of its exercises lie."""
        return folder() / "solutions" / f"{self.file}.py"


def folder() -> Path:
    """The folder with the lessons: in the installed package, or beside it in a checkout.

    Raises:
        DataError: if there is none.
    """
    package = Path(microgpt.__file__).parent
    for place in (package / "tutorials", package.parent / "tutorials"):
        if (place / "lessons.toml").is_file():
            return place
    raise DataError(
        f"the lessons are neither in {package} nor beside it; install microgpt again: "
        "pip install --force-reinstall microgpt-autograd"
    )


@cache
def cards() -> tuple[Card, ...]:
    """All lessons, in the order in which to go through them.

    Example:
        >>> cards()[0].chapter, cards()[-1].chapter
        ('1', 'talk')
    """
    with open(folder() / "lessons.toml", "rb") as file:
        entries = tomllib.load(file)["lesson"]
    return tuple([Card(**{**entry, "pictures": tuple(entry["pictures"])}) for entry in entries])


def chosen(names: Sequence[str]) -> list[Card]:
    """The lessons of chapters or of names, each once, in the order of the list.

    Raises:
        InputError: if there is no such chapter or lesson.

    Example:
        >>> [card.file for card in chosen(["4", "ch06_softmax"])]
        ['ch04_chain_rule', 'ch06_softmax']
    """
    known = {card.file for card in cards()}
    for name in names:
        if name not in known and name not in CHAPTERS:
            close = get_close_matches(name, known, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else ""
            raise InputError(
                f"there is no lesson '{name}'{hint} required: a chapter ({', '.join(CHAPTERS)}) or "
                "a name of those that `microgpt learn` lists"
            )
    return [card for card in cards() if card.file in names or card.chapter in names]
