"""BPETokenizer: frequent neighbours joined to one token, again and again (byte pair encoding)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise
from operator import index
from pathlib import Path
from typing import Any

from microgpt.errors import InputError, missing_extra
from microgpt.text.base import Tokenizer, as_bytes, strings
from microgpt.text.splitting import cut

END_OF_TEXT = "<|endoftext|>"
"""What GPT-2 has between two documents."""

_LONGEST = 65_536
"""Bytes that a token may have: 40 pairs, each of the one before twice, make a thousand billion."""

_LEARNT = 128
"""Training makes tokens of fewer bytes: a ruled line may become one, no whole text of a letter."""

_PIECE, _PART = 1_000, 256
"""Training takes longer pieces than the first in parts of the second: what the package does to
learn from a piece grows with the square of its length."""

_CACHE = 100_000
"""How many different pieces of text an object remembers the tokens of."""


class BPETokenizer(Tokenizer):
    """Byte pair encoding: 256 bytes, and one token per pair that training found frequent.

    Text is cut at the edges of words as GPT-2 does, each piece begins as its bytes, and of the
    pairs of neighbours that are in the table the one that was learnt first is joined, until there
    is none. Any text and any bytes have an encoding.

    Args:
        merges: the pairs in the order in which they were learnt. The first makes token 256, and
            each one the next, unless there is a token of the same bytes already, which it makes
            then. A pair may hold bytes (tokens 0 to 255) and tokens made before it.
        alphabet: the byte that each of the tokens 0 to 255 stands for; by default its own number.
        special, bos, eos: see `Tokenizer`.

    Raises:
        InputError: if a pair holds a token that does not exist yet, is there twice, or makes more
            than 65,536 bytes; or if the alphabet does not hold every byte once.

    Source: R. Sennrich, B. Haddow and A. Birch, "Neural machine translation of rare words with
    subword units", 2016; on bytes: A. Radford et al., "Language models are unsupervised multitask
    learners", 2019.

    Example:
        >>> from microgpt import text
        >>> tokenizer = text.BPETokenizer([(ord("t"), ord("h")), (256, ord("e"))])
        >>> tokenizer.encode("the"), tokenizer.encode("them")
        ([257], [257, 109])
        >>> "·".join(tokenizer.pieces("the thin"))
        'the· ·th·i·n'
    """

    kind = "bpe"

    def __init__(
        self,
        merges: Iterable[tuple[int, int]],
        *,
        alphabet: Iterable[int] = range(256),
        special: Sequence[str] = (),
        bos: str | None = None,
        eos: str | None = None,
    ) -> None:
        self.merges = tuple([(index(a), index(b)) for a, b in merges])
        self.alphabet = tuple([index(byte) for byte in alphabet])
        if sorted(self.alphabet) != list(range(256)):
            raise InputError("the alphabet of a BPETokenizer holds every byte, 0 to 255, once")
        self._ids = {byte: i for i, byte in enumerate(self.alphabet)}
        self._bytes = [bytes([byte]) for byte in self.alphabet]
        tokens = {raw: i for i, raw in enumerate(self._bytes)}
        self._ranks: dict[tuple[int, int], int] = {}
        self._makes: list[int] = []
        for rank, (a, b) in enumerate(self.merges):
            if not (0 <= a < len(self._bytes) and 0 <= b < len(self._bytes)):
                raise InputError(
                    f"pair {rank} of the merges is ({a}, {b}); required: bytes or tokens made "
                    f"before it, 0 to {len(self._bytes) - 1}"
                )
            if self._ranks.setdefault((a, b), rank) != rank:
                raise InputError(f"the merges hold the pair ({a}, {b}) more than once")
            joined = self._bytes[a] + self._bytes[b]
            if len(joined) > _LONGEST:
                raise InputError(f"pair {rank} of the merges makes more than {_LONGEST} bytes")
            if joined not in tokens:
                tokens[joined] = len(self._bytes)
                self._bytes.append(joined)
            self._makes.append(tokens[joined])
        super().__init__(len(self._bytes), special, bos, eos)
        self._known: dict[str, list[int]] = {}

    @classmethod
    def train(
        cls,
        texts: str | Iterable[str],
        vocab_size: int = 768,
        *,
        min_frequency: int = 2,
        special: Sequence[str] = (),
        bos: str | None = None,
        eos: str | None = None,
    ) -> BPETokenizer:
        """A tokenizer for text like `texts`, learnt by the package tokenizers.

        Tokens stay below 128 bytes. A piece of more than 1,000 characters (text without
        spaces, such as DNA, or a long line of dashes) is looked at in parts of 256.

        Args:
            texts: what to learn from; one text or several.
            vocab_size: number of tokens, the 256 bytes and the special ones included. There are
                fewer if no more pairs are frequent enough.
            min_frequency: how often a pair must occur to be joined.
            special, bos, eos: see `Tokenizer`.

        Raises:
            InputError: if `vocab_size` has no room for the bytes and the special tokens.
            InputTypeError: if a text is no string.
            MissingExtraError: if the package tokenizers is not installed.
        """
        empty = cls([], special=special, bos=bos, eos=eos)
        if vocab_size < empty.vocab_size:
            raise InputError(
                f"vocab_size must be at least {empty.vocab_size}, 256 bytes and "
                f"{len(empty.special)} special tokens; got {vocab_size}"
            )
        try:
            from tokenizers import Tokenizer as Learner
            from tokenizers import models, pre_tokenizers, trainers
        except ImportError:
            raise missing_extra("tokenizers", "text", "training a BPETokenizer") from None
        learner: Any = Learner(models.BPE())
        learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = trainers.BpeTrainer(
            vocab_size=vocab_size - len(empty.special),
            min_frequency=min_frequency,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            max_token_length=_LEARNT,
            show_progress=False,
        )
        every = strings("BPETokenizer.train", texts)
        learner.train_from_iterator((part for text in every for part in _fed(text)), trainer)
        merges = _numbered(_learnt(learner), range(256))
        return cls(merges, special=special, bos=bos, eos=eos)

    @classmethod
    def from_gpt2(cls, merges: str | Path) -> BPETokenizer:
        """GPT-2's own tokenizer, for its weights, from its file ``merges.txt``.

        The file of numbers beside it (``vocab.json``) is not needed: they follow from the order.

        Args:
            merges: the path of the file, in which each line has one pair.

        Raises:
            InputError: if a line is no pair of known tokens.
            OSError: if the file cannot be read.
        """
        lines = Path(merges).read_text(encoding="utf-8").split("\n")
        pairs = [
            tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")
        ]
        wrong = [pair for pair in pairs if len(pair) != 2]
        if wrong:
            raise InputError(f"{merges} is no list of merges: a line is {' '.join(wrong[0])!r:.60}")
        # Visible bytes first, each group in order.
        alphabet = sorted(range(256), key=lambda byte: (ord(byte_letters()[byte]) > 255, byte))
        try:
            found = _numbered(pairs, alphabet)
        except KeyError as error:
            raise InputError(
                f"{merges} joins {error.args[0]!r}, which no line before it makes"
            ) from None
        return cls(found, alphabet=alphabet, bos=END_OF_TEXT, eos=END_OF_TEXT)

    def _encode(self, text: str | bytes) -> list[int]:
        # Bytes that are no UTF-8 travel as surrogates, which no string of a user may hold.
        words = as_bytes(text).decode("utf-8", "surrogateescape")
        known, ids = self._known, []
        for piece in cut(words):
            found = known.get(piece)
            if found is None:
                raw = piece.encode("utf-8", "surrogateescape")
                found = self._join([self._ids[byte] for byte in raw])
                if len(known) >= _CACHE:
                    known.clear()
                known[piece] = found
            ids.extend(found)
        return ids

    def _join(self, ids: list[int]) -> list[int]:
        """The bytes of one piece, joined as far as the table goes."""
        ranks, end = self._ranks, len(ids)
        # A joined token stays in the place of its left part; -1 is in that of the right one.
        left, right = list(range(-1, end - 1)), list(range(1, end + 1))
        waiting = [(ranks[p], i) for i, p in enumerate(pairwise(ids)) if p in ranks]
        heapify(waiting)
        while waiting:
            rank, i = heappop(waiting)
            j = right[i]
            if j == end or (ids[i], ids[j]) != self.merges[rank]:
                continue  # one of the two was joined with another neighbour meanwhile
            ids[i], ids[j] = self._makes[rank], -1
            right[i] = right[j]
            if right[j] < end:
                left[right[j]] = i
            for a, b in ((left[i], i), (i, right[i])):
                if a >= 0 and b < end and (ids[a], ids[b]) in ranks:
                    heappush(waiting, (ranks[ids[a], ids[b]], a))
        return [i for i in ids if i >= 0]

    def _token_bytes(self, id: int) -> bytes:
        return self._bytes[id]

    def _own_state(self) -> dict[str, Any]:
        return {"merges": [list(p) for p in self.merges], "alphabet": list(self.alphabet)}

    @classmethod
    def _from_state(cls, state: dict[str, Any], names: dict[str, Any]) -> BPETokenizer:
        return cls(state["merges"], alphabet=state["alphabet"], **names)


# ---- the form in which the package tokenizers has it -------------------------------------------


def byte_letters() -> list[str]:
    """One visible character for each byte, as GPT-2's files write them.

    The 188 bytes that Latin-1 can show stand for themselves, the others for U+0100 onwards.

    Example:
        >>> byte_letters()[ord("a")], byte_letters()[ord(" ")]
        ('a', 'Ġ')
    """
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    letters, spare = [], 0x100
    for byte in range(256):
        letters.append(chr(byte) if byte in shown else chr(spare))
        spare += byte not in shown
    return letters


def _fed(text: str) -> list[str]:
    """A text as the package gets it: whole, or piece by piece if one of its pieces is long."""
    as_bytes(text)  # refuses what has no bytes
    pieces = cut(text)
    if max(map(len, pieces), default=0) <= _PIECE:
        return [text]
    # Each piece alone is cut nowhere, so that the package sees the same pieces.
    parts = []
    for piece in pieces:
        size = _PART if len(piece) > _PIECE else len(piece)
        parts += [piece[i : i + size] for i in range(0, len(piece), size)]
    return parts


def _learnt(learner: Any) -> list[tuple[str, ...]]:
    """The merges of a tokenizer of the package tokenizers, as it writes them."""
    found = json.loads(learner.to_str())["model"]["merges"]
    # Older versions of the package write a pair as one string.
    return [tuple(pair.split(" ")) if isinstance(pair, str) else tuple(pair) for pair in found]


def _numbered(pairs: list[tuple[str, ...]], alphabet: Sequence[int]) -> list[tuple[int, int]]:
    """Pairs written in `byte_letters` as pairs of our numbers."""
    letters = byte_letters()
    numbers = {letters[byte]: i for i, byte in enumerate(alphabet)}
    merges = []
    for a, b in pairs:
        merges.append((numbers[a], numbers[b]))
        numbers.setdefault(a + b, len(numbers))
    return merges
