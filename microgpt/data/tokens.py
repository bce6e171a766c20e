"""Batches for models that predict the next token: of one long text, or of many documents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeVar

import numpy as np

from microgpt.data.checks import positive
from microgpt.data.loader import Batches, EpochBatches
from microgpt.errors import InputError, ShapeError

Items = TypeVar("Items", bound=Sequence[Any] | np.ndarray)


def _whole(ids: Any) -> np.ndarray:
    """Tokens as an array (n,) of whole numbers."""
    array = np.asarray(ids)
    if isinstance(ids, (str, bytes)) or (array.size and array.dtype.kind not in "iu"):
        kind = type(ids).__name__ if array.ndim == 0 else f"an array of {array.dtype}"
        raise InputError(
            f"tokens must be whole numbers; got {kind}; encode text with a tokenizer of "
            "microgpt.text first"
        )
    if array.ndim != 1:
        raise ShapeError(f"tokens must have shape (n,); got {array.shape}")
    return array


class TokenBatches(EpochBatches):
    """Windows of a text with their continuations: targets[:, t] is the token after inputs[:, t].

    Which windows come depends on the seed, the epoch and the position in it alone, so a run that
    was interrupted goes on with those it would have seen: keep `state_dict()`.

    Args:
        ids: the tokens of the text, (n,) whole numbers; a memory-mapped file will do.
        block_size: T, tokens per window.
        batch_size: B, windows per batch.
        steps: batches per epoch when windows are random; by default as many as it takes to see
            about n tokens.
        order: "random": each window begins anywhere, as in nanoGPT. "consecutive": the text from
            its beginning, without overlap; what is left at the end is shorter than a window and
            left out, and the last batch may be smaller. "streams": the text in B equal parts, of
            which each batch takes the next window: row b goes on where row b of the batch before
            ended, so that a recurrent network can keep its state.
        seed, transform, tensors: see `Batches`.

    Shapes: inputs and targets (B, T), int64.

    Raises:
        ShapeError: if `ids` has another number of dimensions.
        InputError: if they are no whole numbers, or too few for a window (or B of them).

    Example:
        >>> import numpy as np
        >>> from microgpt import data
        >>> batches = data.token_batches(np.arange(9), 4, 2, order="consecutive")
        >>> [(x.tolist(), y.tolist()) for x, y in batches]
        [([[0, 1, 2, 3], [4, 5, 6, 7]], [[1, 2, 3, 4], [5, 6, 7, 8]])]
    """

    def __init__(
        self,
        ids: Any,
        block_size: int,
        batch_size: int,
        *,
        seed: int | None = None,
        steps: int | None = None,
        order: Literal["random", "consecutive", "streams"] = "random",
        transform: Callable[..., Any] | None = None,
        tensors: bool = True,
    ) -> None:
        super().__init__(batch_size, seed, transform, tensors)
        self.ids = _whole(ids)
        block_size, batch_size = positive("block_size", block_size), self.batch_size
        if order not in ("random", "consecutive", "streams"):
            raise InputError(f"order is random, consecutive or streams; got {order!r}")
        if steps is not None:
            steps = positive("steps", steps)
            if order != "random":
                raise InputError(
                    "steps is for random windows; the other orders end with the text; got "
                    f"steps={steps}, order={order!r}"
                )
        # One more, because the last target is the token after the window.
        needed = block_size * (batch_size if order == "streams" else 1) + 1
        if len(self.ids) < needed:
            raise InputError(
                f"block_size={block_size}"
                + (f" in {batch_size} streams" if order == "streams" else "")
                + f" needs at least {needed} tokens; got {len(self.ids)}; take a smaller block_size"
            )
        self.block_size, self.order, self.steps = block_size, order, steps

    def __len__(self) -> int:
        """Batches per epoch."""
        count = len(self.ids) - 1
        if self.order == "streams":
            return count // self.batch_size // self.block_size
        if self.order == "consecutive":
            return -(-(count // self.block_size) // self.batch_size)
        return self.steps or -(-count // (self.block_size * self.batch_size))

    @property
    def examples(self) -> int:
        """Number of windows in an epoch."""
        if self.order == "consecutive":
            return (len(self.ids) - 1) // self.block_size
        return len(self) * self.batch_size

    def _batch(self, order: Any, position: int) -> tuple[np.ndarray, ...]:
        size, block = self.batch_size, self.block_size
        if self.order == "random":
            random = np.random.default_rng([self.seed, self.epoch, position])
            starts = random.integers(0, len(self.ids) - block, size=size)
        elif self.order == "consecutive":
            stop = min((position + 1) * size, self.examples)
            starts = np.arange(position * size, stop) * block
        else:
            starts = np.arange(size) * ((len(self.ids) - 1) // size) + position * block
        windows = self.ids[starts[:, None] + np.arange(block + 1)].astype(np.int64)  # (B, T + 1)
        return np.ascontiguousarray(windows[:, :-1]), np.ascontiguousarray(windows[:, 1:])


def token_batches(
    ids: Any,
    block_size: int,
    batch_size: int,
    *,
    seed: int | None = None,
    steps: int | None = None,
    order: Literal["random", "consecutive", "streams"] = "random",
    transform: Callable[..., Any] | None = None,
    tensors: bool = True,
) -> TokenBatches:
    """`TokenBatches` of the tokens `ids`; see there."""
    return TokenBatches(
        ids,
        block_size,
        batch_size,
        seed=seed,
        steps=steps,
        order=order,
        transform=transform,
        tensors=tensors,
    )


class DocumentBatches(Batches):
    """Documents, one per row: a model reads each from its first token and predicts the next ones.

    Rows are as long as the longest document of the batch. Behind a shorter one, inputs hold `pad`
    and targets `ignore_index`, which `cross_entropy` leaves out.

    Args:
        documents: the tokens of each, whole numbers.
        bos, eos: numbers of the tokens to put before and behind each document, or None.
        block_size: the most tokens that a row may have; longer documents are cut off there.
        pad: what stands in the inputs behind a document; any token will do, because a model that
            looks back only does not see it.
        ignore_index: what stands in the targets there.
        batch_size, seed, shuffle, drop_last, transform, tensors: see `Batches`.

    Shapes: inputs and targets (B, T), int64.

    Raises:
        InputError: if there are no documents, or one has nothing to predict or holds anything but
            whole numbers.

    Example:
        >>> from microgpt import data
        >>> (x, y), = data.document_batches([[1, 2, 3], [1]], 2, bos=0, eos=0, shuffle=False)
        >>> x.tolist(), y.tolist()
        ([[0, 1, 2, 3], [0, 1, 0, 0]], [[1, 2, 3, 0], [1, 0, -100, -100]])
    """

    def __init__(
        self,
        documents: Sequence[Any],
        batch_size: int,
        *,
        bos: int | None = None,
        eos: int | None = None,
        block_size: int | None = None,
        pad: int = 0,
        ignore_index: int = -100,
        seed: int | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
        transform: Callable[..., Any] | None = None,
        tensors: bool = True,
    ) -> None:
        before = [] if bos is None else [bos]
        behind = [] if eos is None else [eos]
        rows = [[*before, *_whole(document), *behind] for document in documents]
        short = [i for i, row in enumerate(rows) if len(row) < 2]
        if short:
            raise InputError(
                f"document {short[0]} has {len(rows[short[0]])} of at least 2 tokens, so there is "
                "none to predict; leave it out, or give bos and eos"
            )
        if block_size is not None:
            most = positive("block_size", block_size) + 1
            rows = [row[:most] for row in rows]
        self.lengths = np.array([len(row) - 1 for row in rows], dtype=np.int64)
        longest = int(self.lengths.max(initial=0))
        inputs = np.full((len(rows), longest), pad, dtype=np.int64)
        targets = np.full((len(rows), longest), ignore_index, dtype=np.int64)
        for i, row in enumerate(rows):
            inputs[i, : len(row) - 1] = row[:-1]
            targets[i, : len(row) - 1] = row[1:]
        super().__init__(
            inputs,
            targets,
            self.lengths,
            batch_size=batch_size,
            seed=seed,
            shuffle=shuffle,
            drop_last=drop_last,
            transform=transform,
            tensors=tensors,
        )

    def _batch(self, order: np.ndarray | None, position: int) -> tuple[np.ndarray, ...]:
        inputs, targets, lengths = super()._batch(order, position)
        longest = lengths.max()
        return inputs[:, :longest].copy(), targets[:, :longest].copy()


def document_batches(
    documents: Sequence[Any],
    batch_size: int,
    *,
    bos: int | None = None,
    eos: int | None = None,
    block_size: int | None = None,
    pad: int = 0,
    ignore_index: int = -100,
    seed: int | None = None,
    shuffle: bool = True,
    drop_last: bool = False,
    transform: Callable[..., Any] | None = None,
    tensors: bool = True,
) -> DocumentBatches:
    """`DocumentBatches` of the documents; see there."""
    return DocumentBatches(
        documents,
        batch_size,
        bos=bos,
        eos=eos,
        block_size=block_size,
        pad=pad,
        ignore_index=ignore_index,
        seed=seed,
        shuffle=shuffle,
        drop_last=drop_last,
        transform=transform,
        tensors=tensors,
    )


def split(items: Items, val: float = 0.1, *, seed: int | None = None) -> tuple[Items, Items]:
    """A part to learn from and a part to validate on.

    Args:
        items: a text, a list, or an array that is cut along its first dimension.
        val: the share of the second part, between 0 and 1; each part gets at least one item.
        seed: by default the second part is the end of `items`, as it should be for a text. With a
            seed, items are drawn for it, as it should be for a list of documents that is in order;
            both parts keep the order. The same seed draws the same items.

    Raises:
        InputError: if `val` is not a share, or there are fewer than two items.

    Example:
        >>> from microgpt import data
        >>> data.split("to be or not", 0.25)
        ('to be or ', 'not')
        >>> data.split(["a", "b", "c", "d"], 0.25, seed=1)
        (['b', 'c', 'd'], ['a'])
    """
    n = len(items)
    if not 0 < val < 1 or n < 2:
        raise InputError(
            f"split needs two items and a share val between 0 and 1; got {n} items, val={val}"
        )
    count = min(max(round(n * val), 1), n - 1)
    if seed is None:
        return items[: n - count], items[n - count :]  # type: ignore[return-value]
    if isinstance(items, str):
        raise InputError(
            "split draws no characters out of a text; leave the seed out, or give lines"
        )
    drawn = np.zeros(n, dtype=bool)
    drawn[np.random.default_rng(seed).permutation(n)[:count]] = True
    if isinstance(items, np.ndarray):
        return items[~drawn], items[drawn]  # type: ignore[return-value]
    train = [item for item, chosen in zip(items, drawn, strict=True) if not chosen]
    return train, [item for item, chosen in zip(items, drawn, strict=True) if chosen]  # type: ignore[return-value]
