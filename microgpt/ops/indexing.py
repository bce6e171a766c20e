"""Ops that pick elements by index, and their adjoints, which add to picked places."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np

from microgpt.errors import DTypeError, InputError, InputTypeError, ShapeError
from microgpt.graph import TensorBase
from microgpt.ops import movement as mv
from microgpt.ops.declare import face, primitive
from microgpt.ops.elementwise import numpy_dtype
from microgpt.ops.reduction import one_axis
from microgpt.plugins import registry

filled = primitive(
    "filled",
    nondifferentiable="a constant",
    arity=1,
    doc="an array of one value, of the dtype and on the device of x",
    accuracy="exact",
    domain=lambda d: d.case(d.array(), shape=d.shape(), value=1.5),
)

_take = primitive(
    "take",
    vjp=(
        lambda g, y, x, i, axis: _index_add(g, i, axis=axis, size=x.shape[axis]),
        None,
    ),
    reads=("b", ""),
    index_inputs=(1,),
    doc="x[…, indices, …] along axis",
    accuracy="exact",
    domain=lambda d: d.taken(),
)
_index_add = primitive(
    "index_add",
    vjp=(lambda g, y, x, i, axis, size: _take(g, i, axis=axis), None),
    reads=("b", ""),
    index_inputs=(1,),
    doc="zeros with x added at indices along axis; repeated indices add up; the adjoint of take",
    accuracy="reduction",
    domain=lambda d: d.index_added(),
)


def integers(name: str, indices: Any, like: Any) -> Any:
    """`indices` as an integer array that goes with `like`.

    Raises:
        DTypeError: if they are not integers.
    """
    if isinstance(indices, TensorBase):
        array = indices._data
        dtype = registry.backend_of(array).dtype(array)
    else:
        array = indices if hasattr(indices, "dtype") else np.asarray(indices)
        if array.size == 0 and not hasattr(indices, "dtype"):
            array = array.astype(np.int64)
        dtype = numpy_dtype(array.dtype)
    if dtype.kind not in "iu":
        raise DTypeError(
            f"{name} needs integer indices; got {dtype} (convert with x.astype('int64'), or use "
            "mg.where for a condition)"
        )
    if isinstance(indices, TensorBase) or not isinstance(like, TensorBase):
        return indices if hasattr(indices, "dtype") else array
    backend = registry.backend_of(like._data)
    return array if type(array) in backend.array_types else backend.asarray(array, None, None)


@face(_take)
def take(x: Any, indices: Any, axis: int | None = None) -> Any:
    """Elements of `x` at integer `indices` along `axis`; indices may have any shape and repeat.

    The result has the shape of `x` with dimension `axis` replaced by the shape of `indices`.
    `axis` may be left out when `x` has one dimension. Negative indices count from the end.

    Raises:
        ShapeError: if an index is out of range.

    Example:
        >>> import microgpt as mg
        >>> mg.take(mg.tensor([[1.0, 2.0], [3.0, 4.0]]), [1, 1, 0], axis=0).shape
        (3, 2)
    """
    if axis is None:
        if len(x.shape) != 1:
            raise InputError(f"take from shape {tuple(x.shape)} needs axis=; got None")
        axis = 0
    return _take(x, integers("take", indices, x), axis=one_axis("take", axis, len(x.shape)))


_gather = primitive(
    "gather",
    vjp=(
        lambda g, y, x, i, axis: _scatter_add(
            filled(g, shape=tuple(x.shape), value=0.0), i, g, axis=axis
        ),
        None,
    ),
    reads=("b", ""),
    index_inputs=(1,),
    doc="element [i, …] is x[indices[i, …], …], with the index in the place of axis",
    accuracy="exact",
    domain=lambda d: d.gathered(),
)
_scatter_add = primitive(
    "scatter_add",
    vjp=(
        lambda g, y, x, i, source, axis: g,
        None,
        lambda g, y, x, i, source, axis: _gather(g, i, axis=axis),
    ),
    reads=("", "", "b"),
    index_inputs=(1,),
    doc="x with source added at indices along axis; repeated indices add up",
    accuracy="reduction",
    domain=lambda d: d.scattered(),
)


def _along(name: str, x: Any, indices: Any, axis: int) -> tuple[Any, int]:
    place = one_axis(name, axis, len(x.shape))
    i = integers(name, indices, x)
    shape, want = tuple(i.shape), tuple(x.shape)
    if len(shape) != len(want) or builtins.any(
        m != n for k, (m, n) in enumerate(zip(shape, want, strict=True)) if k != place
    ):
        raise ShapeError(
            f"{name}: indices of shape {shape} must have the shape of x, {want}, except along "
            f"axis {axis}"
        )
    return i, place


@face(_gather)
def gather(x: Any, indices: Any, axis: int = -1) -> Any:
    """One element per index along `axis`: y[i, j] = x[indices[i, j], j] for axis 0.

    `indices` has the shape of `x` except along `axis`.

    Example:
        >>> import microgpt as mg
        >>> mg.gather(mg.tensor([[1.0, 2.0], [3.0, 4.0]]), [[1], [0]], axis=1)
        tensor([[2.],
                [3.]])
    """
    i, place = _along("gather", x, indices, axis)
    return _gather(x, i, axis=place)


@face(_scatter_add)
def scatter_add(x: Any, indices: Any, source: Any, axis: int = -1) -> Any:
    """`x` with the elements of `source` added where `gather` would have picked them.

    Example:
        >>> import microgpt as mg
        >>> mg.scatter_add(mg.zeros(3), [2, 2, 0], mg.tensor([1.0, 2.0, 5.0]))
        tensor([5., 0., 3.])
    """
    i, place = _along("scatter_add", x, indices, axis)
    if tuple(source.shape) != tuple(i.shape):
        raise ShapeError(
            f"scatter_add: source of shape {tuple(source.shape)} must have the shape of the "
            f"indices, {tuple(i.shape)}"
        )
    return _scatter_add(x, i, source, axis=place)


_one_hot = primitive(
    "one_hot",
    nondifferentiable="of integers",
    arity=1,
    doc="1 at the index, 0 elsewhere, along a new last axis",
    accuracy="exact",
    domain=lambda d: d.case(d.integers(4), num_classes=4, dtype="float64"),
)


@face(_one_hot)
def one_hot(indices: Any, num_classes: int = -1, dtype: Any = None) -> Any:
    """For every index a row with a 1 at that place: shape (…,) → (…, num_classes).

    Args:
        indices: integers from 0 to num_classes - 1.
        num_classes: length of the rows; -1 means the largest index + 1.
        dtype: of the result, by default the configured float type.

    Raises:
        ShapeError: if an index is out of range.

    Example:
        >>> import microgpt as mg
        >>> mg.one_hot(mg.tensor([0, 2]), 3)
        tensor([[1., 0., 0.],
                [0., 0., 1.]])
    """
    from microgpt import config

    i = integers("one_hot", indices, indices)
    host = host_array(i)
    largest = int(host.max()) if host.size else -1
    if num_classes == -1:
        num_classes = largest + 1
    if largest >= num_classes or (host.size and int(host.min()) < 0):
        raise ShapeError(
            f"one_hot: indices must be from 0 to {num_classes - 1}; got {int(host.min())} to "
            f"{largest}"
        )
    return _one_hot(i, num_classes=num_classes, dtype=numpy_dtype(dtype or config.get("dtype")))


def host_array(x: Any) -> np.ndarray:
    """The numbers of a tensor or raw array on the host."""
    raw = x._data if isinstance(x, TensorBase) else x
    return np.asarray(registry.backend_of(raw).to_numpy(raw))


_argsort = primitive(
    "argsort",
    nondifferentiable="positions",
    arity=1,
    doc="positions that put x in order along axis; equal ones stay in order",
    accuracy="exact",
    domain=lambda d: d.along(d.distinct(min_ndim=1), **d.optional(descending=d.boolean())),
)


@face(_argsort)
def argsort(x: Any, axis: int = -1, descending: bool = False) -> Any:
    """Positions (int64) that sort `x` along `axis`; equal elements keep their order.

    Example:
        >>> import microgpt as mg
        >>> mg.argsort(mg.tensor([3.0, 1.0, 2.0]))
        tensor([1, 2, 0], dtype=int64)
    """
    return _argsort(x, axis=one_axis("argsort", axis, len(x.shape)), descending=descending)


def sort(x: Any, axis: int = -1, descending: bool = False) -> Any:
    """`x` in order along `axis`; the gradient goes back to where each element came from.

    Example:
        >>> import microgpt as mg
        >>> mg.sort(mg.tensor([3.0, 1.0, 2.0]), descending=True)
        tensor([3., 2., 1.])
    """
    return gather(x, argsort(x, axis, descending), axis)


def topk(x: Any, k: int, axis: int = -1, largest: bool = True) -> tuple[Any, Any]:
    """The `k` largest elements along `axis`, largest first, and their positions.

    Args:
        largest: False picks the smallest ones, smallest first.

    Raises:
        ShapeError: if there are fewer than k.

    Example:
        >>> import microgpt as mg
        >>> values, places = mg.topk(mg.tensor([3.0, 1.0, 2.0]), 2)
        >>> values
        tensor([3., 2.])
    """
    place = one_axis("topk", axis, len(x.shape))
    if not 0 <= k <= x.shape[place]:
        raise ShapeError(
            f"topk: k must be from 0 to {x.shape[place]}, the length of axis {axis}; got {k}"
        )
    order = mv.slice_axis(argsort(x, place, largest), place, 0, k)
    return gather(x, order, place), order


# ---- x[…] ------------------------------------------------------------------------------------


def getitem(x: Any, key: Any) -> Any:
    """`x[key]` for ints, slices, None, ..., integer arrays and boolean masks, as in NumPy."""
    shape = tuple(x.shape)
    if type(key) is slice and shape:  # the usual key needs none of the bookkeeping below
        cut = key.indices(shape[0])
        if cut == (0, shape[0], 1):
            return x
        return mv._slice(x, key=(cut, *[(0, n, 1) for n in shape[1:]]))
    keys = list(key) if isinstance(key, tuple) else [key]
    keys = [_plain(k) for k in keys]
    used = builtins.sum(_dims(k) for k in keys)
    if used > len(shape):
        raise ShapeError(f"x[…]: {used} indices for a tensor of {len(shape)} dimensions {shape}")
    if builtins.any(k is Ellipsis for k in keys):
        at = next(i for i, k in enumerate(keys) if k is Ellipsis)
        keys[at : at + 1] = [slice(None)] * (len(shape) - used)
    else:
        keys += [slice(None)] * (len(shape) - used)
    cuts: list[tuple[int, int, int]] = []
    result_shape: list[int] = []
    picks: dict[int, Any] = {}
    dim = 0
    for k in keys:
        if k is None:
            result_shape.append(1)
            continue
        n = shape[dim]
        if isinstance(k, slice):
            cut = k.indices(n)
            cuts.append(cut)
            result_shape.append(len(range(*cut)))
            dim += 1
        elif isinstance(k, int):
            if not -n <= k < n:
                raise ShapeError(
                    f"x[…]: index {k} is out of range for dimension {dim} of length {n}; "
                    f"required: {-n} to {n - 1}"
                )
            cuts.append((k % n, k % n + 1, 1))
            dim += 1
        else:
            for part in _index_arrays(k):
                picks[len(result_shape)] = part
                cuts.append((0, shape[dim], 1))
                result_shape.append(shape[dim])
                dim += 1
    if builtins.any(c != (0, n, 1) for c, n in zip(cuts, shape, strict=True)):
        x = mv._slice(x, key=tuple(cuts))
    if tuple(x.shape) != tuple(result_shape):
        x = mv._reshape(x, shape=tuple(result_shape))
    return _pick(x, picks) if picks else x


def _plain(k: Any) -> Any:
    if isinstance(k, np.integer) or (isinstance(k, TensorBase) and _is_index_scalar(k)):
        return int(host_array(k) if isinstance(k, TensorBase) else k)
    if k is None or k is Ellipsis or (isinstance(k, (int, slice)) and not isinstance(k, bool)):
        return k
    if isinstance(k, (list, np.ndarray, TensorBase)):
        return k
    raise InputTypeError(
        "a tensor is indexed by ints, slices, None, ..., integer arrays or boolean masks; got "
        f"{type(k).__name__}"
    )


def _is_index_scalar(k: TensorBase) -> bool:
    return tuple(k._data.shape) == () and registry.backend_of(k._data).dtype(k._data).kind in "iu"


def _is_mask(k: Any) -> bool:
    if isinstance(k, TensorBase):
        return registry.backend_of(k._data).dtype(k._data).kind == "b"
    return np.asarray(k).dtype.kind == "b"


def _dims(k: Any) -> int:
    if k is None or k is Ellipsis:
        return 0
    if isinstance(k, (int, slice)) or not _is_mask(k):
        return 1
    return len(k.shape) if hasattr(k, "shape") else np.asarray(k).ndim


def _index_arrays(k: Any) -> Sequence[Any]:
    """The integer arrays that an index array stands for; a mask of n dimensions gives n."""
    if _is_mask(k):
        mask = host_array(k) if isinstance(k, TensorBase) else np.asarray(k)
        return np.nonzero(mask)
    return (k,)


def _pick(x: Any, picks: dict[int, Any]) -> Any:
    """Pick along the dimensions `picks`, whose index arrays broadcast against each other."""
    dims = sorted(picks)
    shape = tuple(x.shape)
    arrays = [integers("x[…]", picks[d], x) for d in dims]
    adjacent = dims == list(range(dims[0], dims[0] + len(dims)))
    front = dims[0] if adjacent else 0
    if not adjacent:
        rest = [d for d in range(len(shape)) if d not in dims]
        x = mv.permute_dims(x, dims + rest)
    sizes = [shape[d] for d in dims]
    flat: Any = None
    for array, n in zip(arrays, sizes, strict=True):
        host = host_array(array)
        if host.size and (host.min() < -n or host.max() >= n):
            raise ShapeError(
                f"x[…]: an index array holds {host.min()} to {host.max()} for a dimension of "
                f"length {n}; required: {-n} to {n - 1}"
            )
        positive = np.where(host < 0, host + n, host)
        flat = positive if flat is None else flat * n + positive
    tail = tuple(x.shape)
    merged = (*tail[:front], int(np.prod(sizes)), *tail[front + len(dims) :])
    return take(mv.reshape(x, merged), flat, axis=front)
