"""Spoken digits, read straight out of their archive."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

import numpy as np

from microgpt.data.audio import read_wav
from microgpt.data.records import Recordings
from microgpt.data.remote import fetch
from microgpt.errors import DataError

_NAME = re.compile(r"([0-9])_([a-z]+)_([0-9]+)\.wav")
RATE = 8_000
TEST_TAKES = 5
"""Takes 0 to 4 of each digit and speaker are to test on, as the authors of the set say."""


def spoken_digits(folder: str | Path | None = None) -> Recordings:
    """3,000 recordings of the digits 0 to 9 by six people at 8 kHz; fetched once (16 MB).

    The official split: the first 5 of the 50 takes of each digit and speaker, 300, are to test on.

    Args:
        folder: where ``fsdd-1.0.10.tar.gz`` lies already; see `fetch`.

    Raises:
        DataError: if the file cannot be had or is damaged; says what to do.

    Source: Z. Jackson and others, "Free spoken digit dataset", version 1.0.10, CC BY-SA 4.0.
    """
    path = fetch("fsdd-1.0.10.tar.gz", folder)
    found = []
    with tarfile.open(path) as archive:
        # Nothing is unpacked to disk.
        for member in archive:
            match = _NAME.fullmatch(Path(member.name).name)
            content = archive.extractfile(member) if match else None
            if match is None or content is None:
                continue
            digit, speaker, take = match.groups()
            samples, rate = read_wav(io.BytesIO(content.read()))
            if rate != RATE or samples.ndim != 1:
                raise DataError(f"{path}: {member.name} is not mono at {RATE} Hz; got {rate} Hz")
            found.append((int(digit), speaker, int(take), samples))
    found.sort(key=lambda recording: recording[:3])
    names = sorted({speaker for _, speaker, _, _ in found})
    return Recordings(
        name="Spoken digits",
        samples=tuple([samples for *_, samples in found]),
        labels=np.array([digit for digit, *_ in found], dtype=np.int64),
        speakers=np.array([names.index(speaker) for _, speaker, _, _ in found], dtype=np.int64),
        test=np.array([take < TEST_TAKES for _, _, take, _ in found]),
        rate=RATE,
        classes=tuple("0123456789"),
        speaker_names=tuple(names),
        source="Free spoken digit dataset 1.0.10",
        licence="CC BY-SA 4.0",
    )
