"""What several loaders ask of their arguments."""

from __future__ import annotations

from operator import index
from typing import Any

from microgpt.errors import InputError


def positive(name: str, value: Any) -> int:
    """A whole number of 1 or more, which may be NumPy's.

    Raises:
        InputError: with the name of the argument, if `value` is something else.
    """
    try:
        number = 0 if isinstance(value, bool) else index(value)
    except TypeError:
        number = 0
    if number < 1:
        raise InputError(f"{name} must be a whole number >= 1; got {value!r}")
    return number
