"""Numbers of things in words."""

from __future__ import annotations


def count(number: int, thing: str) -> str:
    """How many things there are.

    Example:
        >>> from microgpt.runs.words import count
        >>> count(1, "step"), count(2000, "step")
        ('1 step', '2,000 steps')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
