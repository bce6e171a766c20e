"""Adapters for ops that move, repeat and pick elements."""

from __future__ import annotations

from typing import Any

import microgpt as mg
from tests.peers.comparison import Adapter, Lacking


def expand(x: Any, sizes: Any) -> Any:
    # -1 keeps a length.
    new = len(sizes) - x.ndim
    return mg.broadcast_to(
        x, tuple(x.shape[i - new] if n == -1 else n for i, n in enumerate(sizes))
    )


def has_axes(x: Any) -> None:
    """Leave out samples in which 0 or -1 names a dimension of a 0-d array."""
    if x.ndim == 0:
        raise Lacking("an axis of a 0-d array")


def transpose(x: Any, a: int, b: int) -> Any:
    has_axes(x)
    return mg.swapaxes(x, a, b)


def movedim(x: Any, source: Any, destination: Any) -> Any:
    axes = [0] * x.ndim
    for a, b in zip(source, destination, strict=True):
        axes[b % x.ndim] = a % x.ndim
    return mg.permute_dims(x, axes)


def squeeze(x: Any, dim: Any = None) -> Any:
    # PyTorch passes over dimensions that are longer than 1; ours refuse them.
    if dim is None:
        return mg.squeeze(x)
    dims = dim if isinstance(dim, tuple) else (dim,)
    return mg.squeeze(x, tuple(d for d in dims if x.ndim and x.shape[d] == 1))


def flatten(x: Any, *, start_dim: int = 0, end_dim: int = -1) -> Any:
    return mg.flatten(x, start_dim, end_dim)


def unflatten(x: Any, dim: int, sizes: Any) -> Any:
    place = dim % x.ndim
    return mg.reshape(x, (*x.shape[:place], *sizes, *x.shape[place + 1 :]))


def flip(x: Any, *, dims: Any) -> Any:
    return mg.flip(x, tuple(dims))


def same_rank(arrays: Any) -> list[Any]:
    """Leave out what PyTorch keeps for old programs: empty vectors joined with matrices."""
    if len({x.ndim for x in arrays}) > 1:
        raise Lacking("arrays of unequal rank joined")
    return list(arrays)


def cat(arrays: Any, dim: int = 0) -> Any:
    return mg.concat(same_rank(arrays), axis=dim)


def hstack(arrays: Any) -> Any:
    return mg.concat(same_rank(arrays), axis=0 if arrays[0].ndim == 1 else 1)


def vstack(arrays: Any) -> Any:
    rows = [mg.reshape(x, (1, -1)) if x.ndim < 2 else x for x in same_rank(arrays)]
    return mg.concat(rows, axis=0)


def split(x: Any, size: Any, dim: int = 0) -> Any:
    n = x.shape[dim]
    if isinstance(size, int):
        size = [min(size, n - start) for start in range(0, n, size)]
    return mg.split(x, list(size), axis=dim)


def chunk(x: Any, chunks: int, dim: int = 0) -> Any:
    return split(x, -(-x.shape[dim] // chunks), dim)


def unbind(x: Any, dim: int = 0) -> Any:
    n = x.shape[dim]
    return [mg.squeeze(part, dim) for part in mg.split(x, n, axis=dim)]


def repeat_interleave(x: Any, *, repeats: Any, dim: Any = None, output_size: Any = None) -> Any:
    if not isinstance(repeats, int):
        raise Lacking("numbers of repetitions that differ")
    return mg.repeat(x, repeats, axis=dim)


def at(x: Any, dim: int, key: Any) -> Any:
    """x[…, key, …] with `key` at dimension `dim`."""
    return x[(slice(None),) * (dim % x.ndim) + (key,)]


def narrow(x: Any, dim: int, start: Any, length: int) -> Any:
    start = start if isinstance(start, int) else start.item()
    start = start % x.shape[dim] if length else 0
    return at(x, dim, slice(start, start + length))


def sliced(x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    return at(x, dim, slice(start, end, step))


def index_select(x: Any, dim: int, index: Any) -> Any:
    has_axes(x)
    return mg.take(x, index, axis=dim)


def gather(x: Any, dim: int, index: Any) -> Any:
    has_axes(x)
    if index.ndim != x.ndim:
        raise Lacking("indices of another rank")
    if any(index.shape[i] != n for i, n in enumerate(x.shape) if i != dim % x.ndim):
        raise Lacking("fewer rows of indices than rows")
    return mg.gather(x, index, dim)


def scatter_add(x: Any, dim: int, index: Any, source: Any) -> Any:
    has_axes(x)
    if any(index.shape[i] != n for i, n in enumerate(x.shape) if i != dim % x.ndim):
        raise Lacking("fewer rows of indices than rows")
    return mg.scatter_add(x, index, source, dim)


def index_add(x: Any, dim: int, index: Any, source: Any, *, alpha: float = 1) -> Any:
    has_axes(x)
    shape = [1] * x.ndim
    shape[dim] = -1
    rows = mg.broadcast_to(mg.reshape(index, shape), source.shape)
    return mg.scatter_add(x, rows, alpha * source, dim)


def take_along_dim(x: Any, index: Any, dim: Any = None) -> Any:
    if dim is None:
        return mg.gather(mg.flatten(x), mg.flatten(index), 0)
    longest = [max(a, b) for a, b in zip(x.shape, index.shape, strict=True)]
    lengths = [n if i == dim else m for i, (n, m) in enumerate(zip(x.shape, longest, strict=True))]
    places = [
        n if i == dim else m for i, (n, m) in enumerate(zip(index.shape, longest, strict=True))
    ]
    return mg.gather(mg.broadcast_to(x, lengths), mg.broadcast_to(index, places), dim)


def pad(x: Any, widths: Any, mode: str = "constant", value: float = 0.0) -> Any:
    # PyTorch lists the widths from the last dimension backwards; negative ones cut.
    if isinstance(mode, float):
        mode, value = "constant", mode
    pairs = [(0, 0)] * x.ndim
    for i in range(len(widths) // 2):
        pairs[x.ndim - 1 - i] = (widths[2 * i], widths[2 * i + 1])
    if any(n < 0 for pair in pairs for n in pair):
        raise Lacking("negative widths of padding")
    return mg.pad(x, pairs, value)


def nonzero(x: Any, *, as_tuple: bool = False) -> Any:
    if x.ndim == 0:
        raise Lacking("an axis of a 0-d array")
    found = mg.nonzero(x)
    return found if as_tuple else mg.stack(found, axis=-1)


def one_hot(x: Any, *, num_classes: int = -1) -> Any:
    return mg.one_hot(x, num_classes, dtype="int64")


MOVING: dict[str, Adapter] = {
    "__getitem__": lambda x, key: x[key],
    "broadcast_to": mg.broadcast_to,
    "cat": cat,
    "chunk": chunk,
    "constant_pad_nd": pad,
    "expand": expand,
    "expand_as": lambda x, other: mg.broadcast_to(x, other.shape),
    "flatten": flatten,
    "flip": flip,
    "fliplr": lambda x: mg.flip(x, 1),
    "flipud": lambda x: mg.flip(x, 0),
    "gather": gather,
    "hstack": hstack,
    "index_add": index_add,
    "index_select": index_select,
    "mT": mg.matrix_transpose,
    "movedim": movedim,
    "narrow": narrow,
    "nn.functional.one_hot": one_hot,
    "nn.functional.pad:constant": pad,
    "nonzero": nonzero,
    "permute": mg.permute_dims,
    "ravel": mg.flatten,
    "repeat": mg.tile,
    "repeat_interleave": repeat_interleave,
    "reshape": mg.reshape,
    "scatter_add": scatter_add,
    "select": at,
    "slice": sliced,
    "split": split,
    "split:list_args": split,
    "split_with_sizes": split,
    "squeeze": squeeze,
    "squeeze:multiple": squeeze,
    "stack": mg.stack,
    "t": lambda x: x.T if x.ndim == 2 else mg.ops.identity(x),
    "take": lambda x, index: mg.take(mg.flatten(x), index, axis=0),
    "take_along_dim": take_along_dim,
    "tile": mg.tile,
    "transpose": transpose,
    "tril": mg.tril,
    "triu": mg.triu,
    "unbind": unbind,
    "unflatten": unflatten,
    "unsqueeze": mg.expand_dims,
    "view": mg.reshape,
    "vstack": vstack,
}
