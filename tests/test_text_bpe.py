"""Byte pair encoding: against its definition, and against the package tokenizers."""

from __future__ import annotations

import sys
import unicodedata
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from microgpt import text
from microgpt.errors import InputError, MissingExtraError
from microgpt.text import bpe
from microgpt.text.bpe import byte_letters
from microgpt.text.splitting import cut
from tests.test_text import BPE, TEXTS


@given(words=st.text())
def test_cutting_loses_nothing(words: str) -> None:
    assert "".join(cut(words)) == words


def test_pieces_are_what_a_lesson_shows() -> None:
    assert BPE.pieces("the singing") == ["the", " ", "s", "ing", "ing"]
    assert BPE.pieces("字") == ["字"]
    assert text.ByteTokenizer().pieces("字") == ["\\xe5", "\\xad", "\\x97"]


@given(words=st.text(st.sampled_from("ab "), max_size=30))
def test_the_pair_learnt_first_is_joined_first(words: str) -> None:
    tokenizer = text.BPETokenizer([(97, 98), (98, 97), (256, 256), (257, 97), (32, 258)])
    expected: list[int] = []
    for piece in cut(words):
        ids = list(piece.encode())
        # One pair at a time, the leftmost of the earliest kind, found by looking at all of them.
        while True:
            ranks = [
                (tokenizer.merges.index(pair), i)
                for i, pair in enumerate(pairwise(ids))
                if pair in tokenizer.merges
            ]
            if not ranks:
                break
            rank, i = min(ranks)
            ids[i : i + 2] = [256 + rank]
        expected += ids
    assert tokenizer.encode(words) == expected


CORPUS = (
    "It was the best of times, it was the worst of times. We'll see, they're clever: the cleverest "
    "of them all! Naïve café, 字典 字典 字典, 1999 and 2026½.\n\n\tEach line, each line.\n\n"
) * 3


def as_library(tokenizer: text.BPETokenizer) -> Any:
    """The same tokenizer in the package tokenizers."""
    tokenizers = pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
    letters = byte_letters()
    count = tokenizer.vocab_size - len(tokenizer.special)
    spelt = ["".join(letters[b] for b in tokenizer.token_bytes(i)) for i in range(count)]
    merges = [(spelt[a], spelt[b]) for a, b in tokenizer.merges]
    made = tokenizers.Tokenizer(
        tokenizers.models.BPE({word: i for i, word in enumerate(spelt)}, merges)
    )
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    return made


@pytest.fixture(scope="module")
def trained() -> text.BPETokenizer:
    pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
    return text.BPETokenizer.train(CORPUS, 330, special=["<pad>"], bos="<bos>")


def test_training_finds_frequent_pairs(trained: text.BPETokenizer, tmp_path: Path) -> None:
    assert trained.vocab_size == 330 and trained.special == ("<pad>", "<bos>")
    assert len(trained.encode(CORPUS)) < len(CORPUS.encode()) / 2
    assert " the" in trained.pieces("see the cat")
    assert trained == text.BPETokenizer.train([CORPUS], 330, special=["<pad>"], bos="<bos>")
    few = text.BPETokenizer.train("ab ab", 10_000)
    assert few.vocab_size < 260, "there is nothing more to learn"
    trained.save(tmp_path / "bpe.json")
    again = text.load(tmp_path / "bpe.json")
    assert again == trained and again.encode(CORPUS) == trained.encode(CORPUS)


@given(words=TEXTS | st.text(st.sampled_from(sorted(set(CORPUS)))))
@example("a  b\x1c\x85\u2028 ² Ⅷ ʼn'S're 'll_x̃ ᠎")
def test_encoding_is_that_of_the_library(trained: text.BPETokenizer, words: str) -> None:
    library = as_library(trained)
    ids = trained.encode(words)
    assert ids == library.encode(words).ids
    assert trained.decode(ids) == library.decode(ids, skip_special_tokens=False) == words


def test_two_pairs_may_make_the_same_token() -> None:
    """As long runs of one character do: aaaaa is aa·aaa, or aaaa·a."""
    a, b = 97, 98
    aa, aaa, ab = 256, 257, 258
    tokenizer = text.BPETokenizer([(a, a), (aa, a), (a, b), (aa, ab), (aaa, b)], special=["<x>"])
    # aaab is aa·ab; aaa·b would be the same token, which is there once.
    assert tokenizer.vocab_size == 256 + 4 + 1 and tokenizer.special_ids == {"<x>": 260}
    assert tokenizer.encode("aaab") == [259] and tokenizer.token(259) == "aaab"
    assert text.from_state(tokenizer.state()) == tokenizer


@given(picks=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=25), n=st.data())
def test_any_table_is_applied_as_by_the_library(
    picks: list[tuple[int, int]], n: st.DataObject
) -> None:
    pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
    merges: list[tuple[int, int]] = []
    for i, j in picks:
        # Of the letters a and b only: many pairs make a token that is there already.
        made = text.BPETokenizer(merges).vocab_size
        known = [97, 98, *range(256, made)]
        pair = known[i % len(known)], known[j % len(known)]
        if pair not in merges:
            merges.append(pair)
    tokenizer = text.BPETokenizer(merges)
    words = n.draw(st.text("ab", max_size=40))
    assert tokenizer.encode(words) == as_library(tokenizer).encode(words).ids


WORDS = st.text("'stmdrevl xA!_ \n\t½Ⅷ7字éّ̃\x1c\x85\u2028\u3000²ʼ", max_size=12)
OLD = st.characters(exclude_categories=["Cn", "Cs"]).filter(
    lambda c: unicodedata.ucd_3_2_0.category(c) != "Cn"
)
"""Characters of an old Unicode: of newer ones Python and the library may know different ones."""


@given(words=WORDS | st.text(OLD, max_size=12))
@example("!x_x7x½x字! x !!  _\n x")
def test_text_is_cut_where_the_library_cuts_it(words: str) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
    splitter = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    spans = [span for _, span in splitter.pre_tokenize_str(words)]
    assert cut(words) == [words[i:j] for i, j in spans]


def test_a_table_that_would_fill_the_memory_is_refused() -> None:
    doubling = [(97, 97), *[(256 + i, 256 + i) for i in range(60)]]
    with pytest.raises(InputError, match="pair 16 of the merges makes more than 65536 bytes"):
        text.BPETokenizer(doubling)


def test_a_long_piece_takes_no_longer_than_its_length() -> None:
    words = "ab" * 20_000
    tokenizer = text.BPETokenizer([(97, 98), (256, 256), (257, 257), (258, 258)])
    assert tokenizer.encode(words) == [259] * 2_500


def test_gpt2_merges_have_the_numbers_of_gpt2(tmp_path: Path) -> None:
    path = tmp_path / "merges.txt"
    path.write_text("#version: 0.2\nĠ t\nh e\nĠt he\n", encoding="utf-8")
    tokenizer = text.BPETokenizer.from_gpt2(path)
    # Known numbers of GPT-2: "!" is 0, "a" 64, "Ġt" 256; its special token is the last.
    assert tokenizer.encode("! a the") == [0, 220, 64, 258]
    assert tokenizer.token(188) == "\x00" and tokenizer.token(198) == "\n"
    assert tokenizer.special_ids == {"<|endoftext|>": 259} and tokenizer.bos_id == 259
    assert tokenizer.decode(tokenizer.encode("naïve 字\n")) == "naïve 字\n"
    tokenizer.save(tmp_path / "gpt2.json")
    assert text.load(tmp_path / "gpt2.json") == tokenizer
    for content, message in (("a b c\n", "no list of merges.*a b c"), ("ab c\n", "joins 'ab'")):
        path.write_text(content)
        with pytest.raises(InputError, match=message):
            text.BPETokenizer.from_gpt2(path)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"microgpt-autograd\[text\]"):
        text.BPETokenizer.train("a text", 300)
    assert BPE.encode("the") == [BPE.encode("the")[0]], "what is trained works without it"


@pytest.mark.parametrize("words", ["ab" * 30_000, "=" * 40_000, " " * 40_000 + "end", "a" * 1_001])
def test_text_without_spaces_is_learnt_from_in_parts(words: str) -> None:
    pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
    tokenizer = text.BPETokenizer.train(words, 1000)
    longest = max(len(tokenizer.token_bytes(i)) for i in range(tokenizer.vocab_size))
    assert longest == 64, "the next one would not stay below 128"
    assert tokenizer.decode(tokenizer.encode(words)) == words


@given(words=WORDS | st.text(OLD, max_size=12) | st.text("!'s a\n", min_size=6))
@example("ab  ''s\n\n        'tis")
@example("0000::::::")
def test_the_library_cuts_no_part_that_it_is_fed(words: str) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="the package tokenizers is not installed")
    splitter = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bpe, "_PIECE", 5)
        patch.setattr(bpe, "_PART", 3)
        parts = bpe._fed(words)
    assert "".join(parts) == words
    pieces = cut(words)
    if max(map(len, pieces), default=0) <= 5:
        assert parts == [words]
    else:
        assert all(len(splitter.pre_tokenize_str(part)) == 1 for part in parts)
        assert {p for p in pieces if len(p) <= 5} <= set(parts)
