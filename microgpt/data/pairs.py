"""English sentences with Chinese translations."""

from __future__ import annotations

from pathlib import Path

from microgpt.data.records import Pairs
from microgpt.data.remote import fetch
from microgpt.errors import DataError


def english_chinese(folder: str | Path | None = None) -> Pairs:
    """29,155 English sentences with Mandarin translations, the shortest first; fetched once (4 MB).

    Args:
        folder: where ``cmn-eng.txt`` lies already; see `fetch`.

    Raises:
        DataError: if the file cannot be had or is damaged; says what to do.

    Source: Tatoeba (tatoeba.org), as selected by ManyThings.org, CC BY 2.0 FR. Whoever hands
    sentences on has to name their authors: `Pairs.attributions`.
    """
    path = fetch("cmn-eng.txt", folder)
    pairs, attributions = [], []
    # Only line feeds end a line here, and the file begins with a byte order mark.
    for number, line in enumerate(path.read_bytes().decode("utf-8-sig").split("\n"), 1):
        if not line.strip():
            continue
        fields = line.rstrip("\r").split("\t")
        if len(fields) != 3:
            raise DataError(f"{path}, line {number}: {len(fields)} fields; required: 3; {line:.60}")
        pairs.append((fields[0], fields[1]))
        attributions.append(fields[2])
    return Pairs(
        name="English–Chinese",
        pairs=tuple(pairs),
        attributions=tuple(attributions),
        source="Tatoeba, as selected by ManyThings.org",
        licence="CC BY 2.0 FR",
    )
