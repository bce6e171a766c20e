"""The data sets of text, sequences and sound: what comes along, and what is fetched."""

from __future__ import annotations

import dataclasses
import hashlib
import http.server
import io
import platform
import tarfile
import threading
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from microgpt import config, data
from microgpt.data import remote
from microgpt.errors import DataError, InputError, ShapeError

ROOT = Path(__file__).parent.parent


def needs(name: str) -> None:
    """Skip, and say so, where the file has not been put."""
    folder = config.get("data")
    if not folder or not (Path(folder) / name).is_file():
        pytest.skip(f"MICROGPT_DATA names no folder with {name}")


# ---- what comes along --------------------------------------------------------------------------


def test_names_come_along() -> None:
    found = data.names()
    assert len(found) == len(set(found)) == 4_695
    assert set("".join(found)) == set("abcdefghijklmnopqrstuvwxyz")
    assert found[0] == "mary" and found[3712] == "james", "each group from the most frequent on"
    assert min(map(len, found)) == 3 and max(map(len, found)) == 11
    assert "4,695" in repr(found) and "MIT" in repr(found)


def test_japanese_vowels_come_along() -> None:
    found = data.japanese_vowels()
    assert (len(found.x_train), len(found.x_test)) == (270, 370)
    assert np.bincount(found.y_train).tolist() == [30] * 9
    assert np.bincount(found.y_test).tolist() == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    lengths = [len(x) for x in found.x_train + found.x_test]
    assert (min(lengths), max(lengths), sum(lengths)) == (7, 29, 9_961)
    assert {x.shape[1] for x in found.x_train} == {12} and found.x_train[0].dtype == np.float32
    # The first line of the file of the authors begins so, and the digits are all there.
    assert found.x_train[0][:3, 0].tolist() == np.float32([1.860936, 1.891651, 1.939205]).tolist()
    assert found.x_train[0][0, 1] == np.float32(-0.207383)
    assert "7 to 29 long" in repr(found) and "CC BY" in repr(found)


def test_a_linear_model_tells_the_speakers_apart() -> None:
    found = data.japanese_vowels()

    def features(sequences: tuple[np.ndarray, ...]) -> np.ndarray:
        rows = []
        for x in sequences:
            at = np.linspace(0, len(x) - 1, 7)
            same = [np.interp(at, np.arange(len(x)), column) for column in x.T]
            rows.append([*np.ravel(same), 1.0])
        return np.array(rows)

    x = features(found.x_train)
    weights = np.linalg.solve(x.T @ x + 0.1 * np.eye(x.shape[1]), x.T @ np.eye(9)[found.y_train])
    guesses = (features(found.x_test) @ weights).argmax(axis=1)
    assert (guesses == found.y_test).mean() > 0.97, "frames, order and labels belong together"


def test_glove_comes_along_and_its_arithmetic_is_known() -> None:
    glove = data.glove()
    content = (files("microgpt.data") / "_glove.npz").read_bytes()
    assert hashlib.sha256(content).hexdigest().startswith("ee77318b798dd93b5b0c50bae5c7e9d1")
    assert len(glove) == len(set(glove.words)) == 10_020 and glove.vectors.shape == (10_020, 50)
    assert glove.vectors.dtype == np.float32
    gender = glove["woman"] - glove["man"]
    assert glove.cosine(gender, glove["queen"] - glove["king"]) == pytest.approx(0.599, abs=5e-4)
    assert glove.analogy("man", "king", "woman", k=1)[0][0] == "queen"
    assert glove.analogy("germany", "hitler", "italy", k=1)[0][0] == "mussolini"
    raw = glove.analogy("man", "king", "woman", k=2, exclude=False)
    assert [word for word, _ in raw] == ["king", "queen"]
    (first, second), scores = glove.nearest("cat", 2), glove.nearest(glove["cat"], 3)
    assert first[0] == "dog" and first[1] > second[1]
    assert scores[0][0] == "cat" and scores[0][1] == pytest.approx(1) and scores[1][0] == "dog"
    assert glove.cosine("cat", "dog") == pytest.approx(first[1])
    assert "cat" in glove and "qqq" not in glove and glove.index(glove.words[7]) == 7


def test_bad_words_are_refused_with_similar_ones() -> None:
    glove = data.glove()
    with pytest.raises(InputError, match="'quen' is not among the 10,020.*queen"):
        glove["quen"]
    with pytest.raises(InputError, match="'字字' is not among"):
        glove.nearest("字字")
    with pytest.raises(ShapeError, match=r"\(50,\); got \(49,\)"):
        glove.nearest(np.ones(49))
    with pytest.raises(ShapeError, match="one row per word"):
        data.WordVectors("w", ("a",), np.ones((2, 3)), "", "")


def test_sentiment_words_come_along() -> None:
    scores, ratings = data.sentiment_words(), data.sentiment_ratings()
    assert len(scores) == len(ratings) == 7_506
    assert scores["great"] == pytest.approx(3.1) and scores["terrible"] == pytest.approx(-2.1)
    assert scores[":-)"] > 0 > scores["fed up"]
    rows = np.array(list(ratings.values()))
    assert rows.shape == (7_506, 10) and rows.min() == -4 and rows.max() == 4


def test_pythons_documentation_is_there() -> None:
    found = data.python_docs()
    assert platform.python_version() in found.name and len(found) > 300_000
    assert "assert statement" in found.text and found.text == data.python_docs().text
    assert "PSF" in repr(found)


def test_every_embedded_file_has_its_notice() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    stored = [
        f for f in (ROOT / "microgpt" / "data").iterdir() if f.suffix != ".py" and f.is_file()
    ]
    assert sum(f.stat().st_size for f in stored) < 1_300_000
    for file in stored:
        assert file.name in notice, f"NOTICE does not say where {file.name} comes from"


def test_records_cannot_be_changed() -> None:
    for found in (data.names(), data.python_docs(), data.glove(), data.japanese_vowels()):
        with pytest.raises(dataclasses.FrozenInstanceError):
            found.name = "mine"  # type: ignore[misc]


# ---- what is fetched ---------------------------------------------------------------------------


def test_full_names() -> None:
    needs("names.txt")
    found = data.names(full=True)
    assert len(found) == 32_033 and len(set(found)) == 29_494
    assert found[:3] == ("emma", "olivia", "ava")
    assert set("".join(found)) == set("abcdefghijklmnopqrstuvwxyz")


def test_tiny_shakespeare() -> None:
    needs("tinyshakespeare.txt")
    found = data.tiny_shakespeare()
    assert len(found) == 1_115_394 and len(set(found.text)) == 65
    assert found.text.startswith("First Citizen:\nBefore we proceed")


def test_english_chinese() -> None:
    needs("cmn-eng.txt")
    found = data.english_chinese()
    assert len(found) == len(found.attributions) == 29_155
    assert found[0] == ("Hi.", "嗨。"), "without the byte order mark"
    assert all("tatoeba.org" in line for line in found.attributions)
    assert all(en and zh for en, zh in found)


def test_spoken_digits() -> None:
    needs("fsdd-1.0.10.tar.gz")
    found = data.spoken_digits()
    assert len(found) == 3_000 and found.rate == 8_000 and found.test.sum() == 300
    assert np.bincount(found.labels).tolist() == [300] * 10
    assert np.bincount(found.speakers).tolist() == [500] * 6 and len(found.speaker_names) == 6
    assert np.bincount(found.labels[found.test]).tolist() == [30] * 10
    assert found.lengths.min() == 1_148 and found.lengths.max() == 18_262
    assert all(x.dtype == np.float32 and 0 < np.abs(x).max() <= 1 for x in found.samples)
    assert "1312 s" in repr(found)


def test_every_file_names_what_can_be_used_instead() -> None:
    for file in data.FILES.values():
        assert file.mirrors and file.licence and len(file.sha256) == 64
        name = file.instead.removeprefix("mg.data.").removesuffix("()")
        assert callable(getattr(data, name)), f"{file.name}: {file.instead} does not exist"


def archive(path: Path, packing: str, sound: bytes = b"RIFF") -> Path:
    """A tar archive of two recordings, in an order that depends on the packing."""
    with tarfile.open(path, f"w:{packing}") as made:  # type: ignore[call-overload]
        names = ["0_ann_0.wav", "0_ann_1.wav"]
        for name in names if packing == "gz" else names[::-1]:
            member = tarfile.TarInfo(f"set/recordings/{name}")
            member.size = len(sound)
            made.addfile(member, io.BytesIO(sound))
        made.addfile(tarfile.TarInfo("set/README.md"), io.BytesIO())
    return path


def test_an_archive_packed_anew_is_trusted_for_what_is_in_it(tmp_path: Path) -> None:
    first = archive(tmp_path / "first", "gz")
    members = remote.members_hash(first)
    assert members
    known = data.RemoteFile(
        "set.tar.gz", "0" * 64, ("http://127.0.0.1:9/",), "MIT", members=members
    )
    remote.check(archive(tmp_path / "again", "bz2"), known)
    for path in (archive(tmp_path / "other", "gz", b"RIFX"), tmp_path / "no archive"):
        if not path.exists():
            path.write_bytes(first.read_bytes()[:90])
        with pytest.raises(DataError, match="damaged or another"):
            remote.check(path, known)
    with pytest.raises(DataError, match="damaged or another"):
        remote.check(first, dataclasses.replace(known, members=None))


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the address at which this machine serves it."""
    pytest.importorskip("pooch", reason="the package pooch is not installed")
    monkeypatch.delenv("MICROGPT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(remote, "cache_folder", lambda: tmp_path / "cache")
    folder = tmp_path / "served"
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def test_an_archive_packed_anew_is_fetched_and_another_is_not_kept(
    served: tuple[Path, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, address = served
    members = remote.members_hash(archive(tmp_path / "first", "gz"))
    archive(folder / "wrong", "gz", b"RIFX")
    archive(folder / "again", "bz2")
    file = data.RemoteFile(
        "set.tar.gz", "0" * 64, (f"{address}/wrong",), "MIT", "mg.data.names()", members
    )
    monkeypatch.setitem(data.FILES, "set.tar.gz", file)
    with pytest.raises(DataError) as caught:
        data.fetch("set.tar.gz")
    assert "another SHA-256" in str(caught.value) and "use mg.data.names()" in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == [], "what cannot be trusted is not kept"
    both = dataclasses.replace(file, mirrors=(f"{address}/wrong", f"{address}/again"))
    monkeypatch.setitem(data.FILES, "set.tar.gz", both)
    path = data.fetch("set.tar.gz")
    assert remote.members_hash(path) == members
    (folder / "again").unlink()
    assert data.fetch("set.tar.gz") == path, "the second time nothing is asked"
