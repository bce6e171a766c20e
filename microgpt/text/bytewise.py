"""ByteTokenizer: one token per byte of UTF-8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from microgpt.text.base import Tokenizer, as_bytes


class ByteTokenizer(Tokenizer):
    """One token per byte: 256 of them, for every text in the world and without training.

    Args:
        special, bos, eos: see `Tokenizer`.

    Example:
        >>> from microgpt import text
        >>> text.ByteTokenizer().encode("hé")
        [104, 195, 169]
    """

    kind = "bytes"

    def __init__(
        self, *, special: Sequence[str] = (), bos: str | None = None, eos: str | None = None
    ) -> None:
        super().__init__(256, special, bos, eos)

    def _encode(self, text: str | bytes) -> list[int]:
        return list(as_bytes(text))

    def _token_bytes(self, id: int) -> bytes:
        return bytes([id])

    @classmethod
    def _from_state(cls, state: dict[str, Any], names: dict[str, Any]) -> ByteTokenizer:
        return cls(**names)
