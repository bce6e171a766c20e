"""Tokenizers from files, of whatever class they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from microgpt.errors import CheckpointError, InputError
from microgpt.text.base import FORMAT, VERSION, Tokenizer
from microgpt.text.bpe import BPETokenizer
from microgpt.text.bytewise import ByteTokenizer
from microgpt.text.characters import CharTokenizer

_KINDS: dict[str, type[Tokenizer]] = {
    cls.kind: cls for cls in (CharTokenizer, ByteTokenizer, BPETokenizer)
}


def load(path: str | Path) -> Tokenizer:
    """The tokenizer that `Tokenizer.save` wrote to `path`.

    Raises:
        CheckpointError: if there is no such file, or it holds no tokenizer.

    Example:
        >>> import tempfile
        >>> from microgpt import text
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     text.CharTokenizer("abc").save(f"{folder}/tokenizer.json")
        ...     text.load(f"{folder}/tokenizer.json")
        CharTokenizer(3 tokens)
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError:
        raise CheckpointError(
            f"there is no file {path}; required: one that Tokenizer.save wrote"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None
    try:
        state = json.loads(content.decode())
    except (ValueError, RecursionError):  # neither UTF-8 nor JSON
        raise CheckpointError(
            f"{path} is damaged: it is no JSON; save the tokenizer again"
        ) from None
    try:
        return from_state(state)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from None


def from_state(state: dict[str, Any]) -> Tokenizer:
    """The tokenizer whose `state()` is given, for example from the settings of a checkpoint.

    Raises:
        CheckpointError: if it is the state of no tokenizer, or of a newer version of microgpt.
    """
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise CheckpointError(f"this is no state of a tokenizer, which has format={FORMAT!r}")
    if state.get("version") != VERSION:
        raise CheckpointError(
            f"the tokenizer has version {state.get('version')!r} of the format; this microgpt "
            f"reads version {VERSION}; install a newer one"
        )
    cls = _KINDS.get(str(state.get("kind")))
    if cls is None:
        raise CheckpointError(
            f"there are tokenizers of {', '.join(_KINDS)}; got {state.get('kind')!r}"
        )
    try:
        names = {key: state[key] for key in ("special", "bos", "eos")}
        return cls._from_state(state, names)
    except (KeyError, TypeError, ValueError, InputError) as error:
        raise CheckpointError(f"the state of the tokenizer is damaged: {error}") from None
