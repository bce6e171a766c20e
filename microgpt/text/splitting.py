"""Where GPT-2 cuts text before it looks for pairs to join: at the edges of words.

Source: the pattern of GPT-2 (Radford et al., 2019), 's|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+|
 ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+, in the words of Python's own `re`, which lacks \\p{L} and
\\p{N}. Every character falls in one of the pieces.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from functools import lru_cache

# Python's \s counts the separators U+001C to U+001F as white space, Unicode does not.
_SPACE = "\\t-\\r \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000"


def cut(text: str) -> list[str]:
    """`text` in pieces, which joined are the text.

    Example:
        >>> cut("We'll see 42 of them…")
        ['We', "'ll", ' see', ' 42', ' of', ' them', '…']
    """
    return _pattern(text.isascii()).findall(text)


@lru_cache
def _pattern(ascii_only: bool) -> re.Pattern[str]:
    # \p{N} is Nd, which is \d, and Nl and No; all of them are in \w, and so are \p{L}, the marks
    # that Python counts as letters (none) and the underscore.
    number = "\\d" if ascii_only else "\\d" + _other_numbers()
    letter = f"[^\\W_{number}]"
    other = f"(?:[^\\w{_SPACE}]|_)"
    return re.compile(
        f"'(?:[stmd]|re|ve|ll)| ?{letter}+| ?[{number}]+| ?{other}+"
        f"|[{_SPACE}]+(?![^{_SPACE}])|[{_SPACE}]+"
    )


def _other_numbers() -> str:
    """Roman numerals, fractions, circled numbers…: Unicode's categories Nl and No."""
    every = map(chr, range(sys.maxunicode + 1))
    return "".join([c for c in every if unicodedata.category(c) in ("Nl", "No")])
