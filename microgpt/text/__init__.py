"""Tokenizers: text to numbers and back, by characters, by bytes, or by pieces of words."""

from microgpt.text.base import Tokenizer
from microgpt.text.bpe import BPETokenizer
from microgpt.text.bytewise import ByteTokenizer
from microgpt.text.characters import CharTokenizer
from microgpt.text.files import from_state, load

__all__ = [
    "BPETokenizer",
    "ByteTokenizer",
    "CharTokenizer",
    "Tokenizer",
    "from_state",
    "load",
]
