"""`microgpt explain`: the common mistakes, and the way out of each."""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import cache
from importlib.resources import files

from microgpt.cli.text import table
from microgpt.errors import InputError


@cache
def topics() -> dict[str, str]:
    """The sections of the explanations, by name.

    Example:
        >>> topics()["item-of-many"].splitlines()[0][:30]
        '`item()` is for one number. Fo'
    """
    text = files("microgpt").joinpath("explanations.md").read_text(encoding="utf-8")
    _, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    return {name: body.strip() for name, _, body in (s.partition("\n") for s in sections)}


def explain(topic: str | None) -> int:
    """Print a section, or the list of them.

    Raises:
        InputError: if there is no such section.
    """
    found = topics()
    if topic is None:
        rows = [(name, re.split(r"(?<=\.)\s", body)[0]) for name, body in found.items()]
        print(table(("topic", "what happened"), rows))
        print("\nmicrogpt explain TOPIC tells more, and the way out.")
        return 0
    if topic not in found:
        close = get_close_matches(topic, found, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
        raise InputError(
            f"there is no explanation '{topic}'{hint} `microgpt explain` lists them: "
            f"{', '.join(found)}"
        )
    print(f"{topic}\n\n{found[topic]}")
    return 0
