"""Plain text for terminals of 80 to 100 columns."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

WIDTH = 98


def lines_of(text: str, width: int) -> list[str]:
    """`text` in lines of at most `width`; commands and names are not torn apart."""
    parts = []
    for line in text.splitlines():
        parts += wrap(line, width, break_long_words=False, break_on_hyphens=False)
    return parts or [""]


def table(head: Sequence[str], rows: Sequence[Sequence[str]], first: int = WIDTH) -> str:
    """Columns as wide as their contents; the last one is wrapped.

    Entries of the first column that are longer than `first` get a line of their own.

    Example:
        >>> from microgpt.cli.text import table
        >>> print(table(("op", "formula"), [("add", "a + b"), ("negative", "-x")]))
        op        formula
        add       a + b
        negative  -x
    """
    lines = [tuple(head), *map(tuple, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head) - 1)]
    widths[0] = max([len(line[0]) for line in lines if len(line[0]) <= first])
    start = sum(widths) + 2 * len(widths)
    text = []
    for line in lines:
        if len(line[0]) > widths[0]:
            text.append(line[0])
            line = ("", *line[1:])
        begin = "".join(f"{part:<{width}}  " for part, width in zip(line, widths, strict=False))
        rest = lines_of(line[-1], max(WIDTH - start, 24))
        text.append((begin + rest[0]).rstrip())
        text += [" " * start + more for more in rest[1:]]
    return "\n".join(text)


def fields(rows: Sequence[tuple[str, str]], indent: int = 2) -> str:
    """Names and values, one below the other; long values are wrapped.

    Example:
        >>> from microgpt.cli.text import fields
        >>> print(fields([("Python", "3.13"), ("NumPy", "2.4")]))
          Python      3.13
          NumPy       2.4
    """
    start = indent + 12
    text = []
    for name, value in rows:
        parts = lines_of(value, WIDTH - start)
        text.append(f"{'':{indent}}{name:<11} {parts[0]}".rstrip())
        text += [" " * start + part for part in parts[1:]]
    return "\n".join(text)
