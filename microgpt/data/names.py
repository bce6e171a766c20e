"""First names: some come along, more are fetched."""

from __future__ import annotations

from pathlib import Path

from microgpt.data.embedded import embedded, lines
from microgpt.data.records import Documents
from microgpt.data.remote import fetch


def names(*, full: bool = False, folder: str | Path | None = None) -> Documents:
    """First names of people in the United States, in lower case, of the letters a to z.

    Args:
        full: 4,695 different names that come along (those of women first, each group from the
            most frequent on), or the 32,033 of Karpathy's makemore, which are fetched once.
        folder: where ``names.txt`` lies already; see `fetch`.

    Raises:
        DataError: if the full list cannot be had or is damaged; says what to do.

    Source: the census of the United States, in the form in which zxcvbn ships it, MIT; full:
    A. Karpathy, makemore, MIT.

    Example:
        >>> from microgpt import data
        >>> data.names()
        First names: 4,695 documents of up to 11 characters (MIT)
        >>> data.names()[:3]
        ('mary', 'patricia', 'linda')
    """
    if full:
        text = fetch("names.txt", folder).read_text(encoding="ascii")
        return Documents(
            name="Names of makemore",
            documents=tuple(text.split()),
            source="names.txt of makemore by Andrej Karpathy",
            licence="MIT",
        )
    stored = embedded("_first_names.npz")
    return Documents(
        name="First names",
        documents=lines(stored["female"]) + lines(stored["male"]),
        source="frequency lists of zxcvbn by Dan Wheeler and Daniel Wolf, from the US census",
        licence="MIT",
    )
