"""Ops that move, copy, cut and join elements without computing."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

from microgpt.errors import InputError, ShapeError
from microgpt.ops.declare import face, primitive

Shape = tuple[int, ...]


def _axes(name: str, axis: Any, ndim: int) -> tuple[int, ...]:
    from microgpt.ops.reduction import normal_axes

    return normal_axes(name, axis, ndim)


def _shape_tuple(shape: Any) -> Shape:
    if isinstance(shape, (tuple, list)):
        return tuple([int(n) for n in shape])
    return (int(shape),)


# ---- the same elements in another shape ------------------------------------------------------

_reshape = primitive(
    "reshape",
    vjp=(lambda g, y, x, shape: _reshape(g, shape=tuple(x.shape)),),
    reads=("",),
    doc="the same elements in another shape",
    accuracy="exact",
    domain=lambda d: d.reshaped(),
)


@face(_reshape)
def reshape(x: Any, shape: int | Sequence[int]) -> Any:
    """The elements of `x`, in row-major order, in `shape`; one entry may be -1 (worked out).

    Raises:
        ShapeError: if the number of elements does not fit.

    Example:
        >>> import microgpt as mg
        >>> mg.reshape(mg.arange(6), (2, -1)).shape
        (2, 3)
    """
    want = _shape_tuple(shape)
    size = math.prod(x.shape)
    if -1 in want:
        known = -math.prod(want)
        if want.count(-1) > 1:
            raise ShapeError(f"reshape: only one entry may be -1; got {want}")
        if known == 0 or size % known:
            raise ShapeError(
                f"reshape: {size} elements of shape {tuple(x.shape)} do not divide evenly into "
                f"shape {want}"
            )
        want = tuple([size // known if n == -1 else n for n in want])
    elif math.prod(want) != size:
        raise ShapeError(
            f"reshape: shape {want} holds {math.prod(want)} elements, but {tuple(x.shape)} has "
            f"{size}; required: the same number (one entry may be -1: it is worked out)"
        )
    return _reshape(x, shape=want)


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    """`x` with dimensions `start_dim` to `end_dim` (inclusive) joined into one.

    Example:
        >>> import microgpt as mg
        >>> mg.flatten(mg.zeros((2, 3, 4)), start_dim=1).shape
        (2, 12)
    """
    shape = tuple(x.shape)
    if not shape:
        return reshape(x, (1,))
    first, last = _axes("flatten", start_dim, len(shape)), _axes("flatten", end_dim, len(shape))
    joined = math.prod(shape[first[0] : last[0] + 1])
    return reshape(x, (*shape[: first[0]], joined, *shape[last[0] + 1 :]))


def expand_dims(x: Any, axis: int | tuple[int, ...] = 0) -> Any:
    """`x` with dimensions of length 1 inserted at the positions `axis` of the result.

    Example:
        >>> import microgpt as mg
        >>> mg.expand_dims(mg.zeros((2, 3)), axis=1).shape
        (2, 1, 3)
    """
    places = axis if isinstance(axis, tuple) else (axis,)
    ndim = len(x.shape) + len(places)
    new = set(_axes("expand_dims", places, ndim))
    old = iter(x.shape)
    return reshape(x, tuple([1 if i in new else next(old) for i in range(ndim)]))


def squeeze(x: Any, axis: int | tuple[int, ...] | None = None) -> Any:
    """`x` without the dimensions `axis`, which must have length 1 (None: all of length 1).

    Example:
        >>> import microgpt as mg
        >>> mg.squeeze(mg.zeros((2, 1, 3, 1)), axis=1).shape
        (2, 3, 1)
    """
    shape = tuple(x.shape)
    if axis is None:
        return reshape(x, tuple([n for n in shape if n != 1]))
    gone = _axes("squeeze", axis, len(shape))
    for i in gone:
        if shape[i] != 1:
            raise ShapeError(
                f"squeeze: dimension {i} of shape {shape} has length {shape[i]}; required: 1"
            )
    return reshape(x, tuple([n for i, n in enumerate(shape) if i not in gone]))


def _inverse(axes: Sequence[int]) -> tuple[int, ...]:
    back = [0] * len(axes)
    for i, a in enumerate(axes):
        back[a] = i
    return tuple(back)


_permute_dims = primitive(
    "permute_dims",
    vjp=(lambda g, y, x, axes: _permute_dims(g, axes=_inverse(axes)),),
    reads=("",),
    doc="dimensions in another order",
    accuracy="exact",
    domain=lambda d: d.permuted(),
)


@face(_permute_dims)
def permute_dims(x: Any, axes: Sequence[int]) -> Any:
    """`x` with its dimensions in the order `axes`: dimension i of the result is axes[i] of `x`.

    Example:
        >>> import microgpt as mg
        >>> mg.permute_dims(mg.zeros((2, 3, 4)), (2, 0, 1)).shape
        (4, 2, 3)
    """
    ndim = len(x.shape)
    order = _axes("permute_dims", tuple(axes), ndim)
    if len(order) != ndim:
        raise ShapeError(
            f"permute_dims: {len(order)} axes {tuple(axes)} for an array of {ndim} dimensions; "
            "required: each dimension once"
        )
    return _permute_dims(x, axes=order)


def swapaxes(x: Any, axis1: int, axis2: int) -> Any:
    """`x` with two dimensions exchanged."""
    order = list(range(len(x.shape)))
    (i,), (j,) = (_axes("swapaxes", a, len(order)) for a in (axis1, axis2))
    order[i], order[j] = j, i
    return _permute_dims(x, axes=tuple(order))


def moveaxis(x: Any, source: int, destination: int) -> Any:
    """`x` with dimension `source` moved to position `destination`."""
    ndim = len(x.shape)
    (i,), (j,) = (_axes("moveaxis", a, ndim) for a in (source, destination))
    order = [k for k in range(ndim) if k != i]
    order.insert(j, i)
    return _permute_dims(x, axes=tuple(order))


def matrix_transpose(x: Any) -> Any:
    """`x` with its last two dimensions exchanged (`x.mT`).

    Raises:
        ShapeError: if there are fewer than two.
    """
    if len(x.shape) < 2:
        raise ShapeError(
            f"matrix_transpose needs two dimensions or more; got shape {tuple(x.shape)}"
        )
    return swapaxes(x, -1, -2)


_broadcast_to = primitive(
    "broadcast_to",
    vjp=(lambda g, y, x, shape: _sum_to(g, tuple(x.shape)),),
    reads=("",),
    doc="copies along new dimensions and those of length 1",
    accuracy="exact",
    domain=lambda d: d.broadcast(),
)


def _sum_to(g: Any, shape: Shape) -> Any:
    from microgpt.autograd import unbroadcast

    return g if tuple(g.shape) == shape else unbroadcast(g, shape)


@face(_broadcast_to)
def broadcast_to(x: Any, shape: Sequence[int]) -> Any:
    """`x` repeated to `shape`, by the rules of broadcasting.

    Raises:
        ShapeError: if a dimension is neither 1 nor equal.

    Example:
        >>> import microgpt as mg
        >>> mg.broadcast_to(mg.tensor([1.0, 2.0]), (2, 2))
        tensor([[1., 2.],
                [1., 2.]])
    """
    want = _shape_tuple(shape)
    have = tuple(x.shape)
    if have == want:
        return x
    tail = want[len(want) - len(have) :]
    if len(have) > len(want) or builtins.any(
        m not in (1, n) for m, n in zip(have, tail, strict=True)
    ):
        raise ShapeError(
            f"broadcast_to: shape {have} does not broadcast to {want}; required: each dimension, "
            "counted from the right, is equal or 1"
        )
    return _broadcast_to(x, shape=want)


def broadcast_shapes(*shapes: Shape) -> Shape:
    """The shape to which all `shapes` broadcast.

    Raises:
        ShapeError: if there is none.
    """
    ndim = builtins.max((len(s) for s in shapes), default=0)
    out = []
    for i in range(1, ndim + 1):
        sizes = {s[-i] for s in shapes if len(s) >= i} - {1}
        if len(sizes) > 1:
            raise ShapeError(
                f"shapes {', '.join(map(str, shapes))} do not broadcast: counted from the right, "
                f"dimension {i} has the lengths {sorted(sizes)}; required: equal, or 1"
            )
        out.append(sizes.pop() if sizes else 1)
    return tuple(reversed(out))


# ---- cutting, padding, joining ---------------------------------------------------------------

_flip = primitive(
    "flip",
    vjp=(lambda g, y, x, axis: _flip(g, axis=axis),),
    reads=("",),
    doc="elements in reverse order along axis",
    accuracy="exact",
    domain=lambda d: d.flipped(),
)


@face(_flip)
def flip(x: Any, axis: int | tuple[int, ...] | None = None) -> Any:
    """`x` with the order of elements reversed along `axis` (None: along all).

    Example:
        >>> import microgpt as mg
        >>> mg.flip(mg.tensor([1.0, 2.0, 3.0]))
        tensor([3., 2., 1.])
    """
    return _flip(x, axis=_axes("flip", axis, len(x.shape)))


_slice = primitive(
    "slice",
    vjp=(lambda g, y, x, key: _unslice(g, key=key, shape=tuple(x.shape)),),
    reads=("",),
    doc="x[start:stop:step, …]",
    accuracy="exact",
    domain=lambda d: d.sliced(),
)
_unslice = primitive(
    "unslice",
    vjp=(lambda g, y, x, key, shape: _slice(g, key=key),),
    reads=("",),
    doc="x put back into zeros at [start:stop:step, …], the adjoint of slice",
    accuracy="exact",
    domain=lambda d: d.unsliced(),
)


def slice_axis(x: Any, axis: int, start: int, stop: int) -> Any:
    """Elements `start` to `stop` (not included) along `axis`."""
    (place,) = _axes("slice_axis", axis, len(x.shape))
    n = x.shape[place]
    start, stop, _ = builtins.slice(start, stop).indices(n)
    key = [(0, m, 1) for m in x.shape]
    key[place] = (start, builtins.max(start, stop), 1)
    return _slice(x, key=tuple(key))


_pad = primitive(
    "pad",
    vjp=(
        lambda g, y, x, widths, value: _slice(
            g, key=tuple([(a, a + n, 1) for (a, _), n in zip(widths, x.shape, strict=True)])
        ),
    ),
    reads=("",),
    doc="x with a border of a constant value",
    accuracy="exact",
    domain=lambda d: d.padded(),
)


@face(_pad)
def pad(x: Any, widths: Sequence[tuple[int, int]], value: float = 0.0) -> Any:
    """`x` with `widths[i] = (before, after)` elements of `value` around dimension i.

    Raises:
        ShapeError: if there is not one pair of non-negative numbers per dimension.

    Example:
        >>> import microgpt as mg
        >>> mg.pad(mg.tensor([1.0, 2.0]), [(1, 2)])
        tensor([0., 1., 2., 0., 0.])
    """
    pairs = tuple([(int(a), int(b)) for a, b in widths])
    if len(pairs) != len(x.shape) or builtins.any(a < 0 or b < 0 for a, b in pairs):
        raise ShapeError(
            f"pad needs one pair (before, after) of numbers >= 0 per dimension; got {widths} for "
            f"shape {tuple(x.shape)}"
        )
    return _pad(x, widths=pairs, value=float(value))


def _concat_rule(g: Any, y: Any, *inputs: Any, axis: int, sizes: tuple[int, ...]) -> list[Any]:
    grads = []
    start = 0
    for size in sizes:
        grads.append(slice_axis(g, axis, start, start + size))
        start += size
    return grads


_concat = primitive(
    "concat",
    vjp=_concat_rule,
    reads=("",),
    arity=None,
    doc="arrays joined along an axis they have",
    accuracy="exact",
    domain=lambda d: d.joinable(),
)


@face(_concat)
def concat(arrays: Sequence[Any], axis: int | None = 0) -> Any:
    """`arrays` joined along `axis` (None: flattened first); other dimensions must be equal.

    Example:
        >>> import microgpt as mg
        >>> mg.concat([mg.zeros((2, 1)), mg.ones((2, 2))], axis=1).shape
        (2, 3)
    """
    items = list(arrays)
    if not items:
        raise InputError("concat needs at least one array; got none")
    if axis is None:
        items, axis = [reshape(x, (-1,)) for x in items], 0
    shapes = [tuple(x.shape) for x in items]
    (place,) = _axes("concat", axis, len(shapes[0]))
    for s in shapes[1:]:
        if len(s) != len(shapes[0]) or builtins.any(
            m != n for i, (m, n) in enumerate(zip(s, shapes[0], strict=True)) if i != place
        ):
            raise ShapeError(
                f"concat along axis {axis}: shapes {', '.join(map(str, shapes))} must be equal "
                f"except in dimension {place}"
            )
    return _concat(*items, axis=place, sizes=tuple([s[place] for s in shapes]))


def stack(arrays: Sequence[Any], axis: int = 0) -> Any:
    """`arrays` of equal shape joined along a new dimension at position `axis` of the result.

    Example:
        >>> import microgpt as mg
        >>> mg.stack([mg.zeros(3), mg.ones(3)]).shape
        (2, 3)
    """
    items = list(arrays)
    if not items:
        raise InputError("stack needs at least one array; got none")
    shapes = {tuple(x.shape) for x in items}
    if len(shapes) > 1:
        raise ShapeError(f"stack needs arrays of equal shape; got {sorted(shapes)}")
    (place,) = _axes("stack", axis, len(items[0].shape) + 1)
    return concat([expand_dims(x, place) for x in items], axis=place)


def split(x: Any, sections: int | Sequence[int], axis: int = 0) -> list[Any]:
    """`x` cut along `axis`: into `sections` equal parts, or into parts of the given lengths.

    Raises:
        ShapeError: if the parts do not make up the whole.

    Example:
        >>> import microgpt as mg
        >>> [p.shape for p in mg.split(mg.zeros((4, 6)), [1, 2, 3], axis=1)]
        [(4, 1), (4, 2), (4, 3)]
    """
    (place,) = _axes("split", axis, len(x.shape))
    n = x.shape[place]
    if isinstance(sections, int):
        if sections < 1 or n % sections:
            raise ShapeError(
                f"split: dimension {place} of length {n} does not divide into {sections} equal "
                "parts; give a list of lengths for unequal ones"
            )
        sizes: Sequence[int] = [n // sections] * sections
    else:
        sizes = list(sections)
        if builtins.sum(sizes) != n or builtins.any(s < 0 for s in sizes):
            raise ShapeError(
                f"split: the lengths {sizes} add up to {builtins.sum(sizes)}; required: {n}, the "
                f"length of dimension {place}"
            )
    parts = []
    start = 0
    for size in sizes:
        parts.append(slice_axis(x, place, start, start + size))
        start += size
    return parts


def tile(x: Any, repetitions: int | Sequence[int]) -> Any:
    """`x` put side by side `repetitions[i]` times along dimension i (aligned from the right).

    Example:
        >>> import microgpt as mg
        >>> mg.tile(mg.tensor([1.0, 2.0]), 2)
        tensor([1., 2., 1., 2.])
    """
    times = _shape_tuple(repetitions)
    shape = tuple(x.shape)
    ndim = builtins.max(len(times), len(shape))
    times = (1,) * (ndim - len(times)) + times
    shape = (1,) * (ndim - len(shape)) + shape
    if builtins.any(t < 0 for t in times):
        raise ShapeError(f"tile needs repetitions >= 0; got {times}")
    split_shape = [n for s in shape for n in (1, s)]
    wide = [n for t, s in zip(times, shape, strict=True) for n in (t, s)]
    copies = broadcast_to(reshape(x, split_shape), wide)
    return reshape(copies, [t * s for t, s in zip(times, shape, strict=True)])


def repeat(x: Any, repeats: int, axis: int | None = None) -> Any:
    """`x` with each element repeated `repeats` times along `axis` (None: flattened first).

    Example:
        >>> import microgpt as mg
        >>> mg.repeat(mg.tensor([1.0, 2.0]), 2)
        tensor([1., 1., 2., 2.])
    """
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    if repeats < 0:
        raise ShapeError(f"repeat needs repeats >= 0; got {repeats}")
    shape = list(x.shape)
    (place,) = _axes("repeat", axis, len(shape))
    wide = [*shape[: place + 1], repeats, *shape[place + 1 :]]
    copies = broadcast_to(expand_dims(x, place + 1), wide)
    return reshape(copies, [n * repeats if i == place else n for i, n in enumerate(shape)])


def _triangle(name: str, doc: str) -> Any:
    def rule(g: Any, y: Any, x: Any, k: int) -> Any:
        return call(g, k=k)

    call = primitive(
        name, vjp=(rule,), reads=("",), doc=doc, accuracy="exact",
        domain=lambda d: d.matrix_with_k(),
    )  # fmt: skip
    return call


_tril = _triangle("tril", "zeros above diagonal k")
_triu = _triangle("triu", "zeros below diagonal k")


def _matrix(name: str, x: Any) -> None:
    if len(x.shape) < 2:
        raise ShapeError(f"{name} needs two dimensions or more; got shape {tuple(x.shape)}")


@face(_tril)
def tril(x: Any, k: int = 0) -> Any:
    """The lower triangles of the matrices in `x`: elements with column - row > k become 0.

    Example:
        >>> import microgpt as mg
        >>> mg.tril(mg.ones((2, 2)))
        tensor([[1., 0.],
                [1., 1.]])
    """
    _matrix("tril", x)
    return _tril(x, k=int(k))


@face(_triu)
def triu(x: Any, k: int = 0) -> Any:
    """The upper triangles of the matrices in `x`: elements with column - row < k become 0."""
    _matrix("triu", x)
    return _triu(x, k=int(k))
