"""What all tokenizers have in common: special tokens, streams, files."""

from __future__ import annotations

import codecs
import json
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from operator import index
from pathlib import Path
from typing import Any, ClassVar

from microgpt.errors import InputError, InputTypeError

FORMAT = "microgpt tokenizer"
VERSION = 1


class Tokenizer(ABC):
    """Text as whole numbers from 0 to `vocab_size` - 1, and back: decode(encode(text)) == text.

    Special tokens stand for something that is not text, such as the beginning of a document. They
    have the last numbers, and text never turns into one unless `encode` is told so.

    Args:
        ordinary: how many tokens stand for text.
        special: names of special tokens.
        bos, eos: names of the tokens at the beginning and at the end of a document. They are added
            to `special`; one name for both is one token, as in Karpathy's microgpt.

    Raises:
        InputError: if a name is empty or no string.
    """

    kind: ClassVar[str] = ""
    """How a file names this class."""

    def __init__(
        self,
        ordinary: int,
        special: Sequence[str] = (),
        bos: str | None = None,
        eos: str | None = None,
    ) -> None:
        names = [*special, *[name for name in (bos, eos) if name is not None]]
        wrong = [name for name in names if not isinstance(name, str) or not name]
        if not isinstance(special, (list, tuple)) or wrong:
            raise InputError(
                f"special tokens are a list of strings with at least one character; got {special!r}"
                f", bos={bos!r}, eos={eos!r}"
            )
        self.special = tuple(dict.fromkeys(names))
        self.bos, self.eos = bos, eos
        self._ordinary = ordinary
        self._special_ids = {name: ordinary + i for i, name in enumerate(self.special)}
        # The longest first, so that <end> does not hide <ending>.
        longest = sorted(self.special, key=len, reverse=True)
        self._marks = re.compile(
            "(" + "|".join(map(re.escape, longest)) + ")" if names else r"(?!)"
        )

    @property
    def vocab_size(self) -> int:
        """The number of tokens, special ones included."""
        return self._ordinary + len(self.special)

    @property
    def special_ids(self) -> dict[str, int]:
        """The numbers of the special tokens, by name."""
        return dict(self._special_ids)

    @property
    def bos_id(self) -> int | None:
        """The number of the token that begins a document, if there is one."""
        return None if self.bos is None else self._special_ids[self.bos]

    @property
    def eos_id(self) -> int | None:
        """The number of the token that ends a document, if there is one."""
        return None if self.eos is None else self._special_ids[self.eos]

    # ---- to numbers --------------------------------------------------------------------------

    def encode(
        self, text: str | bytes, *, bos: bool = False, eos: bool = False, special: bool = False
    ) -> list[int]:
        """The numbers of the tokens of `text`.

        Args:
            text: a string; where tokens are made of bytes, any bytes as well.
            bos, eos: put the token of the beginning before, of the end behind.
            special: take the names of special tokens in the text for these tokens. By default
                they are text like any other, so that what a user types cannot end a document.

        Raises:
            InputError: if something in the text has no token, or `bos` or `eos` is not defined.
            InputTypeError: if `text` is of another kind, or bytes where that has no meaning.
        """
        if not isinstance(text, (str, bytes)):
            raise InputTypeError(f"encode needs a string; got {type(text).__name__}")
        ids: list[int] = []
        if bos:
            ids.append(self._required(self.bos_id, "bos"))
        if special and isinstance(text, bytes):
            raise InputTypeError("special=True looks for names in a string; got bytes")
        if special and self.special:
            for i, part in enumerate(self._marks.split(str(text))):
                # Every second part is what the pattern found.
                ids.extend([self._special_ids[part]] if i % 2 else self._encode(part))
        else:
            ids.extend(self._encode(text))
        if eos:
            ids.append(self._required(self.eos_id, "eos"))
        return ids

    def pieces(self, text: str | bytes, *, special: bool = False) -> list[str]:
        r"""The text cut where its tokens meet; bytes that are no character alone as ``\x..``.

        Example:
            >>> from microgpt import text
            >>> "·".join(text.ByteTokenizer().pieces("clé"))
            'c·l·\\xc3·\\xa9'
        """
        return [self.token(i) for i in self.encode(text, special=special)]

    # ---- to text -----------------------------------------------------------------------------

    def token(self, id: int) -> str:
        """One token as text."""
        return self.token_bytes(id).decode("utf-8", "backslashreplace")

    def decode(self, ids: Iterable[int], *, special: bool = True) -> str:
        """The text of tokens; bytes that are no UTF-8 become U+FFFD (`decode_bytes` keeps them).

        Args:
            ids: numbers from 0 to `vocab_size` - 1; an array of one dimension will do.
            special: whether special tokens are written by their names, or left out.

        Raises:
            InputError: if a number has no token.
            InputTypeError: if there is something else than whole numbers.
        """
        return self.decode_bytes(ids, special=special).decode("utf-8", "replace")

    def decode_bytes(self, ids: Iterable[int], *, special: bool = True) -> bytes:
        """The text of tokens as bytes, exactly."""
        numbers = list(whole_numbers(ids))
        if not special:
            numbers = [i for i in numbers if i < self._ordinary]
        return b"".join([self.token_bytes(i) for i in numbers])

    def decode_stream(self, ids: Iterable[int], *, special: bool = True) -> Iterator[str]:
        """One string per token, as soon as it comes: what is new of the text.

        A token may end inside a character; the character comes with the token that completes it,
        and what is never completed with one more string at the end.

        Example:
            >>> from microgpt import text
            >>> list(text.ByteTokenizer().decode_stream("é!".encode()))
            ['', 'é', '!']
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for number in whole_numbers(ids):
            if special or number < self._ordinary:
                yield decoder.decode(self.token_bytes(number))
        rest = decoder.decode(b"", final=True)
        if rest:
            yield rest

    def token_bytes(self, id: int) -> bytes:
        """One token as bytes.

        Raises:
            InputError: if the number has no token.
            InputTypeError: if it is no whole number.
        """
        id = whole_number(id)
        if not 0 <= id < self.vocab_size:
            raise InputError(
                f"there is no token {id}: this {type(self).__name__} has 0 to {self.vocab_size - 1}"
                "; decode with the tokenizer that encoded, or give the model its vocab_size"
            )
        if id >= self._ordinary:
            return self.special[id - self._ordinary].encode()
        return self._token_bytes(id)

    # ---- to files ----------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that makes this tokenizer, as what JSON can hold; see `text.from_state`."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "kind": self.kind,
            "special": list(self.special),
            "bos": self.bos,
            "eos": self.eos,
            **self._own_state(),
        }

    def save(self, path: str | Path) -> None:
        """Write a JSON file that `text.load` reads; an old one is replaced in one go.

        Raises:
            OSError: if the file cannot be written.
        """
        target = Path(path)
        content = json.dumps(self.state())
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tokenizer):
            return NotImplemented
        return self.state() == other.state()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        special = f", special: {' '.join(self.special)}" if self.special else ""
        return f"{type(self).__name__}({self.vocab_size:,} tokens{special})"

    # ---- what a tokenizer brings ---------------------------------------------------------------

    @abstractmethod
    def _encode(self, text: str | bytes) -> list[int]: ...

    @abstractmethod
    def _token_bytes(self, id: int) -> bytes: ...

    def _own_state(self) -> dict[str, Any]:
        return {}

    @classmethod
    @abstractmethod
    def _from_state(cls, state: dict[str, Any], names: dict[str, Any]) -> Tokenizer:
        """Made from a state; `names` are the arguments that all tokenizers have."""

    def _required(self, id: int | None, name: str) -> int:
        if id is None:
            raise InputError(
                f"{name}=True needs a tokenizer with such a token; make it with {name}='<{name}>'"
            )
        return id


def strings(name: str, texts: str | Iterable[str]) -> Iterator[str]:
    """One text or several, one by one.

    Args:
        name: of what asks for them, for the error message.

    Raises:
        InputTypeError: if one of them, when its turn comes, is no string.
    """
    if isinstance(texts, bytes | bytearray) or not isinstance(texts, Iterable):
        raise InputTypeError(
            f"{name} needs a string, or several; got {type(texts).__name__}"
            + ("; decode them first" if isinstance(texts, bytes | bytearray) else "")
        )
    return _strings(name, [texts] if isinstance(texts, str) else texts)


def _strings(name: str, texts: Iterable[Any]) -> Iterator[str]:
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputTypeError(
                f"{name} needs strings; text {number} is of type {type(text).__name__}"
            )
        yield text


def whole_numbers(ids: Any) -> Iterator[int]:
    """The numbers of tokens, one by one.

    Raises:
        InputTypeError: if, when its turn comes, one is no whole number.
    """
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        raise InputTypeError(
            f"decode needs numbers of tokens, one after the other; got {type(ids).__name__}"
            + ("; text becomes numbers by encode" if isinstance(ids, str) else "")
        )
    return map(whole_number, ids)


def whole_number(id: Any) -> int:
    """The number of one token, which may be NumPy's or a tensor's.

    Raises:
        InputTypeError: if it is no whole number.
    """
    if type(id) is int:
        return id
    try:
        if isinstance(id, bool) or str(getattr(id, "dtype", "")).endswith("bool"):
            raise TypeError
        return index(id)
    except TypeError:
        shape = getattr(id, "shape", ())
        got = f"an array of shape {tuple(shape)}" if shape else repr(id)
        raise InputTypeError(
            f"tokens are whole numbers; got {got}"
            + ("; decode the rows one by one" if shape else "")
        ) from None


def as_bytes(text: str | bytes) -> bytes:
    """UTF-8 of a string; bytes as they are.

    Raises:
        InputError: if the string holds half of a surrogate pair, which is no character.
    """
    if isinstance(text, bytes):
        return text
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"the text holds {text[error.start]!r} at position {error.start}, half of a surrogate "
            "pair, which has no bytes; give the bytes themselves instead of a string"
        ) from None
