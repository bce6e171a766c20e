"""Texts for runs: from a file or by the name of a data set, as batches of tokens."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from microgpt import data, ops, text
from microgpt.errors import DataError
from microgpt.runs.material import Material, require_same
from microgpt.runs.settings import Settings
from microgpt.runs.tables import Found
from microgpt.runs.words import count

SETS: dict[str, Callable[[], data.Documents | data.Text]] = {
    "names": data.names,
    "makemore": lambda: data.names(full=True),
    "python-docs": data.python_docs,
    "shakespeare": data.tiny_shakespeare,
}
"""Data sets by name, and what reads them."""

BOUNDARY = "<bos>"
"""The token that stands before and behind each document."""

_EVALUATION_BATCH = 64
_LONGEST_LINE = 64


class _Source(NamedTuple):
    name: str
    content: str
    origin: str


def read(settings: Settings, tokenizer: text.Tokenizer | None = None) -> Material:
    """The text that the settings name.

    Args:
        tokenizer: one that is there already; by default it is made from the text.

    Raises:
        DataError: if there is no such text, or too little of it.
    """
    source = _source(settings.data.data)
    digest = sha256(source.content.encode()).hexdigest()
    if tokenizer is not None:  # before it meets characters that it does not know
        require_same(settings, Found(sha256=digest, outputs=tokenizer.vocab_size))
    lines = _is_lines(settings.data.documents, source.content)
    table = replace(settings.data, data=source.name, documents="lines" if lines else "whole")
    settings = replace(settings, data=table)
    if tokenizer is None:
        tokenizer = _tokenizer(settings, source.content, lines)
    made = (_documents if lines else _whole)(settings, source, tokenizer)
    return replace(made, found=Found(sha256=digest, outputs=tokenizer.vocab_size))


def loss(outputs: Any, targets: Any) -> Any:
    """Mean cross-entropy of the next tokens.

    Args:
        outputs: logits (n, t, V), or a tuple that begins with them (of models with a state).
        targets: (n, t) tokens; those of value -100 do not count.
    """
    logits = outputs[0] if isinstance(outputs, tuple) else outputs
    return ops.cross_entropy(
        ops.reshape(logits, (-1, logits.shape[-1])), ops.reshape(targets, (-1,))
    )


# ---- where it comes from ---------------------------------------------------------------------


def _source(name: str) -> _Source:
    if name in SETS:
        found = SETS[name]()
        content = found.text if isinstance(found, data.Text) else "\n".join(found.documents)
        return _Source(name, content, f"{found.name}: {found.source} ({found.licence})")
    path = Path(name).expanduser()
    if path.is_dir():
        raise DataError(f"{path} is a folder; --data names a text file, or a data set")
    if not path.is_file():
        near = f"; the data set that comes by name: --data {path.stem}" if path.stem in SETS else ""
        raise DataError(
            f"there is no text file {path}{near}\n(data sets by name: {', '.join(SETS)})"
        )
    raw = path.read_bytes()
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise DataError(
            f"{path} is no text in UTF-8: it begins with the byte order mark of UTF-16; convert it "
            f"first, for example: iconv -f UTF-16 -t UTF-8 {path.name} > utf8-{path.name}"
        )
    try:
        content = raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8: {error}; convert it first") from None
    if not content.strip():
        raise DataError(f"{path} is empty")
    return _Source(str(path.resolve()), content, f"your file {path.name}")


def _is_lines(documents: str, content: str) -> bool:
    """Whether every line is a text of its own: by default if all are short and none is empty."""
    if documents != "auto":
        return documents == "lines"
    lines = content.rstrip("\n").split("\n")
    return len(lines) > 1 and all(0 < len(line.strip()) <= _LONGEST_LINE for line in lines)


def _tokenizer(settings: Settings, content: str, lines: bool) -> text.Tokenizer:
    table = settings.data
    ends: dict[str, Any] = {"bos": BOUNDARY, "eos": BOUNDARY} if lines else {}
    if table.tokenizer == "byte":
        return text.ByteTokenizer(**ends)
    if table.tokenizer == "char":
        return text.CharTokenizer.from_text(_lines(content) if lines else content, **ends)
    return text.BPETokenizer.train(
        _lines(content) if lines else content, vocab_size=table.vocab, **ends
    )


def _lines(content: str) -> list[str]:
    return [line.strip() for line in content.split("\n") if line.strip()]


# ---- batches ---------------------------------------------------------------------------------


def _documents(settings: Settings, source: _Source, tokenizer: text.Tokenizer) -> Material:
    context, seed = settings.model.context, settings.compute.seed
    documents = [tokenizer.encode(line) for line in _lines(source.content)]
    share = settings.data.held_out
    learnt, kept = data.split(documents, share, seed=seed) if share else (documents, [])

    def batches(part: list[list[int]], size: int, **how: Any) -> Any:
        return data.document_batches(
            part, size, bos=tokenizer.bos_id, eos=tokenizer.eos_id, block_size=context, **how
        )

    cut = sum(len(d) + 1 > context for d in documents)
    return _material(
        settings,
        source,
        tokenizer,
        f"{count(len(learnt), 'line')} to learn from, {len(kept):,} to validate on"
        + (f" (cut off after {count(context, 'token')}: {cut:,})" if cut else ""),
        batches(learnt, settings.training.batch, seed=seed),
        batches(kept, _EVALUATION_BATCH, shuffle=False) if kept else None,
    )


def _whole(settings: Settings, source: _Source, tokenizer: text.Tokenizer) -> Material:
    context, seed = settings.model.context, settings.compute.seed
    tokens = np.array(tokenizer.encode(source.content), dtype=np.int64)
    share = settings.data.held_out
    learnt, kept = data.split(tokens, share) if share else (tokens, tokens[:0])
    for part, needed, name in ((learnt, True, "learn from"), (kept, share > 0, "validate on")):
        if needed and len(part) <= context:
            raise DataError(
                f"{source.name} has {count(len(part), 'token')} to {name}, and a context of "
                f"{context} needs {context + 1}; take a longer text, or a smaller context"
            )
    return _material(
        settings,
        source,
        tokenizer,
        f"{count(len(learnt), 'token')} to learn from, {len(kept):,} to validate on",
        data.token_batches(learnt, context, settings.training.batch, seed=seed),
        data.token_batches(kept, context, _EVALUATION_BATCH, order="consecutive")
        if share
        else None,
    )


def _material(
    settings: Settings,
    source: _Source,
    tokenizer: text.Tokenizer,
    sizes: str,
    train: Any,
    held_out: Any,
) -> Material:
    return Material(
        title=(
            f"{Path(source.name).name}: {sizes}; {tokenizer.vocab_size:,} different tokens "
            f"({settings.data.tokenizer})"
        ),
        origin=source.origin,
        train=train,
        held_out=held_out,
        test=None,
        found=Found(),
        settings=settings,
        loss=loss,
        tokenizer=tokenizer,
    )
