"""Long texts: Python's own documentation, which every Python has, and tiny Shakespeare."""

from __future__ import annotations

import platform
from pathlib import Path

from microgpt.data.records import Text
from microgpt.data.remote import fetch
from microgpt.errors import DataError


def python_docs() -> Text:
    """The documentation that Python carries for its ``help()``, about half a million characters.

    It is that of the Python in use, and another version has another text: figures obtained with it
    are for one version only, which the name tells.

    Raises:
        DataError: if the Python in use came without it.

    Source: Python Software Foundation, module pydoc_data.topics of the standard library, PSF-2.0.

    Example:
        >>> from microgpt import data
        >>> "assert statement" in data.python_docs().text
        True
    """
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise DataError(
            "this Python came without its documentation (pydoc_data); install the whole standard "
            "library, or use mg.data.tiny_shakespeare()"
        ) from None
    return Text(
        name=f"Documentation of Python {platform.python_version()}",
        text="\n".join([topics[name].strip("\n") + "\n" for name in sorted(topics)]),
        source="pydoc_data.topics of Python's standard library",
        licence="PSF-2.0",
    )


def tiny_shakespeare(folder: str | Path | None = None) -> Text:
    """1,115,394 characters out of Shakespeare's plays, 65 different ones; fetched once (1 MB).

    Args:
        folder: where ``tinyshakespeare.txt`` lies already; see `fetch`.

    Raises:
        DataError: if the file cannot be had or is damaged; says what to do.

    Source: A. Karpathy, char-rnn; the text is in the public domain.
    """
    return Text(
        name="Tiny Shakespeare",
        text=fetch("tinyshakespeare.txt", folder).read_bytes().decode("ascii"),
        source="tinyshakespeare of char-rnn by Andrej Karpathy",
        licence="public domain",
    )
