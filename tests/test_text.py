"""Tokenizers: round trips for any text and any bytes, files, errors."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import microgpt as mg
from microgpt import text
from microgpt.errors import CheckpointError, InputError, InputTypeError

SPECIAL = ("<bos>", "<end>", "<pad>")


def merged(*words: str) -> list[tuple[int, int]]:
    """Merges that make one token of each word, byte by byte."""
    pairs: dict[tuple[int, int], int] = {}
    for word in words:
        first, *rest = word.encode()
        for byte in rest:
            first = pairs.setdefault((first, byte), 256 + len(pairs))
    return list(pairs)


BPE = text.BPETokenizer(
    merged(" the", "the", "aa", "é", "字", "\n\n", "ing", "aaaa"), special=SPECIAL, bos="<bos>"
)
BYTES = text.ByteTokenizer(special=SPECIAL, eos="<end>")
CHARS = text.CharTokenizer.from_text("to be, or not", special=SPECIAL, bos="<bos>", eos="<bos>")
BYTEWISE = pytest.mark.parametrize("tokenizer", [BPE, BYTES], ids=["bpe", "bytes"])
EVERY = pytest.mark.parametrize("tokenizer", [BPE, BYTES, CHARS], ids=["bpe", "bytes", "chars"])

# Text in which the table of BPE has something to join, too.
TEXTS = st.text() | st.lists(
    st.sampled_from(
        ["the", " the", "aaa", "é", "字", "\n", " ", "<bos>", "<end>", "'re", "½", "\x1c", "_"]
    )
).map("".join)
RAW = st.binary() | TEXTS.map(str.encode) | TEXTS.map(lambda t: t.encode()[1:])

# ---- round trips -----------------------------------------------------------------------------


@BYTEWISE
@given(words=TEXTS)
def test_any_text_comes_back(tokenizer: text.Tokenizer, words: str) -> None:
    ids = tokenizer.encode(words)
    assert tokenizer.decode(ids) == words
    assert all(type(i) is int and 0 <= i < tokenizer.vocab_size - len(SPECIAL) for i in ids)


@BYTEWISE
@given(raw=RAW)
@example(b"\xff\xfe the \xe5\xad")
def test_any_bytes_come_back(tokenizer: text.Tokenizer, raw: bytes) -> None:
    ids = tokenizer.encode(raw)
    assert tokenizer.decode_bytes(ids) == raw
    assert tokenizer.decode(ids) == raw.decode("utf-8", "replace")


@given(words=TEXTS)
def test_characters_of_the_table_come_back(words: str) -> None:
    tokenizer = text.CharTokenizer.from_text(words, bos="<bos>")
    ids = tokenizer.encode(words)
    assert tokenizer.decode(ids) == words and len(ids) == len(words)
    assert tokenizer.vocab_size == len(set(words)) + 1 == tokenizer.bos_id + 1  # type: ignore[operator]
    assert "".join(tokenizer.decode_stream(ids)) == words
    assert tokenizer.pieces(words) == list(words)


@BYTEWISE
@given(words=TEXTS)
def test_special_tokens_come_back_and_are_made_on_request_only(
    tokenizer: text.Tokenizer, words: str
) -> None:
    ids = tokenizer.encode(words, special=True)
    assert tokenizer.decode(ids) == words
    marks = [tokenizer.token(i) for i in ids if i >= tokenizer.vocab_size - len(SPECIAL)]
    assert len(marks) == sum(words.count(mark) for mark in SPECIAL)
    plain = words
    for mark in SPECIAL:
        plain = plain.replace(mark, "")
    if not any(mark in plain for mark in SPECIAL):
        assert tokenizer.decode(ids, special=False) == plain


@BYTEWISE
@given(raw=RAW)
@example(b"the \xe5\xad")
def test_a_stream_says_the_same_as_soon_as_it_can(tokenizer: text.Tokenizer, raw: bytes) -> None:
    ids = tokenizer.encode(raw)
    parts = list(tokenizer.decode_stream(iter(ids)))
    assert "".join(parts) == tokenizer.decode(ids)
    for n in range(len(ids)):
        # What is there after n tokens is all that can be told from them.
        start = tokenizer.decode_bytes(ids[:n])
        try:
            whole = start.decode()
        except UnicodeDecodeError:
            continue
        assert "".join(parts[:n]) == whole


def test_a_stream_shows_special_tokens_or_not() -> None:
    ids = CHARS.encode("to", bos=True, eos=True)
    assert list(CHARS.decode_stream(ids)) == ["<bos>", "t", "o", "<bos>"]
    assert list(CHARS.decode_stream(ids, special=False)) == ["t", "o"]


# ---- bos, eos, names -------------------------------------------------------------------------


def test_beginning_and_end() -> None:
    names = text.CharTokenizer.from_text(["emma", "ava"], bos=".", eos=".")
    assert (names.characters, names.bos_id, names.eos_id, names.vocab_size) == ("aemv", 4, 4, 5)
    assert names.encode("ava", bos=True, eos=True) == [4, 0, 3, 0, 4]
    assert BYTES.encode("a", eos=True) == [97, 257]
    assert BPE.special_ids == {"<bos>": 270, "<end>": 271, "<pad>": 272}
    assert BYTES.bos_id is None and BPE.eos_id is None
    with pytest.raises(InputError, match=r"eos=True needs a tokenizer with such a token.*'<eos>'"):
        BPE.encode("a", eos=True)
    assert text.ByteTokenizer(bos="<b>", eos="<e>").special == ("<b>", "<e>")


def test_the_longest_special_token_wins() -> None:
    tokenizer = text.ByteTokenizer(special=["ab", "abc", "b"])
    assert tokenizer.encode("abcabb", special=True) == [257, 256, 258]


@EVERY
def test_repr_and_equality(tokenizer: text.Tokenizer) -> None:
    assert f"{tokenizer.vocab_size} tokens, special: <bos> <end> <pad>" in repr(tokenizer)
    assert tokenizer == tokenizer and tokenizer != text.ByteTokenizer() and tokenizer != 3


# ---- errors ----------------------------------------------------------------------------------


def test_an_unknown_character_is_named_with_what_to_do() -> None:
    with pytest.raises(InputError) as caught:
        CHARS.encode("to bé")
    message = str(caught.value)
    for part in ("'é'", "LATIN SMALL LETTER E WITH ACUTE", "position 4", "' ,benort'", "from_text"):
        assert part in message, message
    with pytest.raises(InputError, match="U\\+0001"):
        CHARS.encode("\x01")


def test_bad_input_is_refused() -> None:
    for call, kind, message in (
        (lambda: CHARS.encode(b"to"), InputTypeError, "got bytes"),
        (lambda: BYTES.encode(b"<end>", special=True), InputTypeError, "special=True"),
        (lambda: BYTES.encode(["to"]), InputTypeError, "got list"),  # type: ignore[arg-type]
        (lambda: BPE.encode("a\ud800"), InputError, "position 1, half of a surrogate"),
        (lambda: text.CharTokenizer("aba"), InputError, "'a' more than once"),
        (lambda: text.CharTokenizer("\udc80"), InputError, "surrogate"),
        (lambda: BYTES.decode([259]), InputError, "no token 259.*0 to 258"),
        (lambda: BYTES.decode([-1]), InputError, "no token -1"),
        (lambda: text.ByteTokenizer(special="<end>"), InputError, "list of strings"),
        (lambda: text.ByteTokenizer(special=[""]), InputError, "at least one character"),
        (lambda: text.BPETokenizer([(0, 256)]), InputError, r"pair 0 .*\(0, 256\).*0 to 255"),
        (lambda: text.BPETokenizer([(1, 2), (1, 2)]), InputError, "more than once"),
        (lambda: text.BPETokenizer([], alphabet=[1] * 256), InputError, "every byte"),
        (lambda: text.BPETokenizer.train("a", 200), InputError, "at least 256"),
    ):
        with pytest.raises(kind, match=message):
            call()


# ---- files -----------------------------------------------------------------------------------


@given(characters=st.sets(st.characters(exclude_categories=["Cs"])).map("".join), words=TEXTS)
def test_characters_are_saved_and_loaded(
    tmp_path_factory: pytest.TempPathFactory, characters: str, words: str
) -> None:
    tokenizer = text.CharTokenizer(characters, special=[words] if words else [], eos="é")
    path = tmp_path_factory.getbasetemp() / "characters.json"
    tokenizer.save(path)
    again = text.load(path)
    assert again == tokenizer and type(again) is text.CharTokenizer
    assert again.encode(characters, eos=True) == tokenizer.encode(characters, eos=True)


@EVERY
def test_every_tokenizer_is_saved_and_loaded(tokenizer: text.Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text("an old file")
    tokenizer.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["tokenizer.json"], "nothing else is left"
    again = text.load(str(path))
    assert type(again) is type(tokenizer) and again == tokenizer
    assert again.encode("to be the one" if tokenizer is not CHARS else "to be") == tokenizer.encode(
        "to be the one" if tokenizer is not CHARS else "to be"
    )
    assert (again.bos_id, again.eos_id) == (tokenizer.bos_id, tokenizer.eos_id)
    assert text.from_state(json.loads(json.dumps(tokenizer.state()))) == tokenizer


def test_a_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tokenizer.json"
    BYTES.save(path)

    def fail(*args: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        CHARS.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["tokenizer.json"]
    assert text.load(path) == BYTES


@EVERY
def test_a_damaged_file_is_refused_in_words(tokenizer: text.Tokenizer, tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    good = json.dumps(tokenizer.state())
    for n in range(0, len(good), 41):
        path.write_text(good[:n])
        with pytest.raises(CheckpointError, match="damaged: it is no JSON"):
            text.load(path)
    for key in tokenizer.state():
        for wrong in (None, 7, [7], {"a": 1}, "?"):
            state = {**tokenizer.state(), key: wrong}
            if key in ("bos", "eos") and wrong in (None, "?"):
                continue
            if key == "characters" and wrong == "?":
                continue
            path.write_text(json.dumps(state))
            with pytest.raises(CheckpointError, match=r"tokenizer.json: "):
                text.load(path)
        state = tokenizer.state()
        del state[key]
        path.write_text(json.dumps(state))
        with pytest.raises(CheckpointError):
            text.load(path)
    with pytest.raises(CheckpointError, match="no file"):
        text.load(tmp_path / "missing.json")
    with pytest.raises(CheckpointError, match="cannot be read"):
        text.load(tmp_path)


def test_what_is_no_text_and_no_token_is_refused() -> None:
    characters, plain = text.CharTokenizer.from_text, text.ByteTokenizer()
    wrong: Any
    for wrong in (None, b"abc", 7, ["a", None], [b"a"]):
        with pytest.raises(InputTypeError, match=r"CharTokenizer.from_text needs .*string"):
            characters(wrong)
        with pytest.raises(InputTypeError, match=r"BPETokenizer.train needs .*string"):
            text.BPETokenizer.train(wrong, 300)
    with pytest.raises(InputTypeError, match="table of characters is a string; got bytes"):
        text.CharTokenizer(b"abc")  # type: ignore[arg-type]
    for wrong, words in (
        ([1.7], "whole numbers; got 1.7"),
        ([1.0], "got 1.0"),
        ([True], "got True"),
        (np.array([True]), "got np.True_"),
        ("hi", "got str; text becomes numbers by encode"),
        (5, "one after the other; got int"),
        (np.zeros((2, 3), int), r"got an array of shape \(3,\); decode the rows one by one"),
        (np.array([1.5]), "got np.float64"),
        (["1"], "got '1'"),
    ):
        for call in (plain.decode, plain.decode_bytes, lambda ids: list(plain.decode_stream(ids))):
            with pytest.raises(InputTypeError, match=words):
                call(wrong)
    assert plain.decode(np.array([104, 105], np.uint8)) == "hi"
    assert plain.decode(mg.tensor([104, 105])) == "hi"
