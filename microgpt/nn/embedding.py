"""Embedding: a table with one row of numbers for every id."""

from __future__ import annotations

from typing import Any

import numpy as np

from microgpt import ops
from microgpt.creation import generator as make_generator
from microgpt.errors import InputError, ShapeError
from microgpt.nn import init
from microgpt.nn.module import Module, parameter
from microgpt.ops.indexing import host_array


class Embedding(Module):
    """Row number `id` of a table of vectors, for every id.

    Args:
        num_embeddings: v, how many ids there are: 0 to v - 1.
        embedding_dim: n, how many numbers each of them has.
        padding_idx: an id whose row starts as zeros and is not trained: its gradient is 0.
        generator: source of the initial values, standard normal as in PyTorch; by default one
            made from the configured seed.
        dtype, backend, device: by default the configured ones.

    Shapes: ids (…,) integers → (…, n); weight (v, n).

    Raises:
        ShapeError: when called, if an id is not a row of the table. Negative ids are none.

    Example:
        >>> import microgpt as mg
        >>> table = mg.nn.Embedding(27, 16)
        >>> table
        Embedding(27, 16)  432 parameters
        >>> table(mg.tensor([[0, 1, 2]])).shape
        (1, 3, 16)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        generator: np.random.Generator | None = None,
        dtype: Any = None,
        backend: str | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__()
        if num_embeddings < 1 or embedding_dim < 1:
            raise InputError(
                "Embedding needs at least one row and one number in each; got "
                f"{num_embeddings}, {embedding_dim}"
            )
        if padding_idx is not None and not -num_embeddings <= padding_idx < num_embeddings:
            raise InputError(
                f"Embedding: padding_idx must be a row, 0 to {num_embeddings - 1}; got "
                f"{padding_idx}"
            )
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.padding_idx = None if padding_idx is None else padding_idx % num_embeddings
        source = make_generator() if generator is None else generator
        values = init.normal((num_embeddings, embedding_dim), generator=source)
        if self.padding_idx is not None:
            values[self.padding_idx] = 0.0
        self.weight = parameter(values, dtype, backend, device)

    def forward(self, ids: Any) -> Any:
        """(…,) integers → (…, embedding_dim)."""
        host = host_array(ids) if hasattr(ids, "shape") else np.asarray(ids)
        if host.size and not 0 <= host.min() <= host.max() < self.num_embeddings:
            raise ShapeError(
                f"Embedding({self.extra_repr()}) was given ids from {host.min()} to {host.max()}; "
                f"required: 0 to {self.num_embeddings - 1} (was the text encoded with the "
                "vocabulary that the model was made for? Padding needs a row of its own)"
            ).about("id-out-of-range")
        rows = ops.embedding(ids, self.weight)
        if self.padding_idx is None:
            return rows
        return ops.where((host == self.padding_idx)[..., None], ops.detach(rows), rows)

    def extra_repr(self) -> str:
        """The sizes."""
        return f"{self.num_embeddings}, {self.embedding_dim}" + (
            "" if self.padding_idx is None else f", padding_idx={self.padding_idx}"
        )
