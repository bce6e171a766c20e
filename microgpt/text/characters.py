"""CharTokenizer: one token per character."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

from microgpt.errors import InputError, InputTypeError
from microgpt.text.base import Tokenizer, as_bytes, strings


class CharTokenizer(Tokenizer):
    """One token per character of a fixed table.

    Args:
        characters: the table: character i has number i.
        special, bos, eos: see `Tokenizer`.

    Raises:
        InputError: if a character is there twice, or is half of a surrogate pair.
        InputTypeError: if the table is no string.

    Example:
        >>> from microgpt import text
        >>> tokenizer = text.CharTokenizer.from_text(["emma", "ava"], bos="<bos>", eos="<bos>")
        >>> tokenizer
        CharTokenizer(5 tokens, special: <bos>)
        >>> tokenizer.encode("eva", bos=True, eos=True)
        [4, 1, 3, 0, 4]
    """

    kind = "characters"

    def __init__(
        self,
        characters: str,
        *,
        special: Sequence[str] = (),
        bos: str | None = None,
        eos: str | None = None,
    ) -> None:
        if not isinstance(characters, str):
            raise InputTypeError(
                f"the table of characters is a string; got {type(characters).__name__}"
            )
        as_bytes(characters)  # refuses what has no bytes
        super().__init__(len(characters), special, bos, eos)
        self.characters = characters
        self._ids = {c: i for i, c in enumerate(characters)}
        if len(self._ids) < len(characters):
            twice = sorted({c for c in characters if characters.count(c) > 1})
            raise InputError(f"the table of characters has {twice[0]!r} more than once")

    @classmethod
    def from_text(
        cls,
        text: str | Iterable[str],
        *,
        special: Sequence[str] = (),
        bos: str | None = None,
        eos: str | None = None,
    ) -> CharTokenizer:
        """A table of the characters in `text`, or in several texts, in the order of Unicode.

        Raises:
            InputTypeError: if a text is no string.
        """
        found: set[str] = set()
        for part in strings("CharTokenizer.from_text", text):
            found.update(part)
        return cls("".join(sorted(found)), special=special, bos=bos, eos=eos)

    def _encode(self, text: str | bytes) -> list[int]:
        if isinstance(text, bytes):
            raise InputTypeError("CharTokenizer needs a string; got bytes; decode them first")
        try:
            return [self._ids[c] for c in text]
        except KeyError as error:
            raise InputError(self._unknown(text, error.args[0])) from None

    def _unknown(self, text: str, character: str) -> str:
        name = unicodedata.name(character, f"U+{ord(character):04X}")
        known = repr(self.characters if len(self.characters) <= 80 else self.characters[:80] + "…")
        return (
            f"the character {character!r} ({name}) at position {text.index(character)} is not in "
            f"the table of this CharTokenizer, which knows {len(self.characters)}: {known}; make "
            "the table from all texts (CharTokenizer.from_text), leave the character out, or use "
            "ByteTokenizer or BPETokenizer, which know every character"
        )

    def _token_bytes(self, id: int) -> bytes:
        return self.characters[id].encode()

    def _own_state(self) -> dict[str, Any]:
        return {"characters": self.characters}

    @classmethod
    def _from_state(cls, state: dict[str, Any], names: dict[str, Any]) -> CharTokenizer:
        characters = state["characters"]
        if not isinstance(characters, str):
            raise TypeError("characters must be a string")
        return cls(characters, **names)
