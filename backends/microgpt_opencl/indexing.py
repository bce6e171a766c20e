"""Ops that pick by index and add to picked places.

Indices are looked at before anything is done with them: one that is out of range is an error, and
never reaches a kernel that would read or write there.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from microgpt_opencl.arrays import Array, empty, readable, view
from microgpt_opencl.elementwise import astype, cast, fill
from microgpt_opencl.fusion import contiguous, copied, realised
from microgpt_opencl.movement import reshape, shares
from microgpt_opencl.optext import C_TYPES
from microgpt_opencl.programs import Kernel
from microgpt_opencl.transfers import from_numpy, to_numpy

INT32, INT64 = np.dtype(np.int32), np.dtype(np.int64)

FEW = 256
"""Indices that one work-item of a GPU can well go through; more of them are sorted first."""

STRIPE = 64
"""Columns that a work-item of a CPU takes along when it scatters."""


def _kernel(x: Array, name: str, index: str = "long") -> Kernel:
    """A kernel for elements of the type of `x` and indices of type `index`."""
    device, char = x.device, x.dtype.char
    return device.kernel(
        "indexing.cl", name, REAL=C_TYPES[char], INDEX=index, WIDTH=device.width,
        TRUTH=int(char == "?"),
    )  # fmt: skip


def _run(x: Array, name: str, indices: Array, units: int, elements: int, *args: Any) -> None:
    """Launch a kernel whose work is shared by `units` on a CPU, and by `elements` elsewhere."""
    device = x.device
    groups, local = shares(device, units, elements)
    run = _kernel(x, name, C_TYPES[indices.dtype.char])
    device.launch(run, (groups,), (local,), *args)


# ---- indices ---------------------------------------------------------------------------------


def _plain(indices: Any, like: Array) -> Array:
    """Indices on the device of `like`, row by row, as int32 or int64."""
    if type(indices) is not Array:
        indices = from_numpy(like.device, np.asarray(indices))
    if indices.dtype not in (INT32, INT64):
        indices = astype(indices, dtype=INT64)
    return contiguous(indices)


def _checked(indices: Any, like: Array, size: int) -> Array:
    """Indices for an axis of `size` elements of `like`, ready for a kernel.

    Raises:
        IndexError: if one is out of range.
    """
    device = like.device
    if type(indices) is not Array:
        indices = from_numpy(device, np.asarray(indices))
    x = contiguous(indices)
    if not x.size:
        return _plain(x, like)
    if device.unified:
        values = readable(x)
        bad = values.max() >= size or values.min() < -size
    else:
        bad = _found_bad(x, size)
    if bad:
        values = to_numpy(x)
        raise IndexError(
            f"indices along an axis of length {size} must be from {-size} to {size - 1}; got "
            f"{values.min()} to {values.max()}"
        )
    return _plain(x, like)


def _found_bad(x: Array, size: int) -> bool:
    """Whether a kernel finds an index out of range; waits for it."""
    device = x.device
    local = 1 if device.cpu else min(256, device.max_local)
    groups = min(-(-x.size // local), 64)
    bad = empty(device, (groups,), INT32)
    check = _kernel(x, "check", C_TYPES[x.dtype.char])
    device.launch(check, (groups,), (local,), x, bad, x.size, size)
    return bool(to_numpy(bad).any())


# ---- picking ---------------------------------------------------------------------------------


def take(x: Array, indices: Any, *, axis: int) -> Array:
    size = x.shape[axis]
    where = _checked(indices, x, size)
    front, back = x.shape[:axis], x.shape[axis + 1 :]
    return _taken(x, where, front, size, back, where.shape, own=0)


def gather(x: Array, indices: Any, *, axis: int) -> Array:
    size = x.shape[axis]
    where = _checked(indices, x, size)
    front, back = x.shape[:axis], x.shape[axis + 1 :]
    return _taken(x, where, front, size, back, (where.shape[axis],), own=1)


def _taken(
    x: Array,
    where: Array,
    front: tuple[int, ...],
    size: int,
    back: tuple[int, ...],
    places: tuple[int, ...],
    own: int,
) -> Array:
    y = empty(x.device, (*front, *places, *back), x.dtype)
    if not y.size:
        return y
    before, after, count = prod(front), prod(back), prod(places)
    x = reshape(x, shape=(before, size, after))
    _run(
        x, "take", where, before * count, y.size,
        x, where, y, before, size, count, after, *x.strides, own,
    )  # fmt: skip
    return y


def one_hot(x: Any, *, num_classes: int, dtype: np.dtype) -> Array:
    x = _plain(x, x)
    y = empty(x.device, (*x.shape, num_classes), np.dtype(np.dtype(dtype).type))
    if y.size:
        _run(y, "one_hot", x, x.size, y.size, x, y, x.size, num_classes)
    return y


# ---- adding ----------------------------------------------------------------------------------


def index_add(x: Array, indices: Any, *, axis: int, size: int) -> Array:
    where = _checked(indices, x, size)
    front, back = x.shape[:axis], x.shape[axis + where.ndim :]
    shape = (*front, size, *back)
    if not x.size or 0 in shape:
        return fill(x, 0, shape)
    device = x.device
    x = contiguous(x)
    before, count, after = prod(front), where.size, prod(back)
    if not device.cpu and count > FEW:
        y = realised(fill(x, 0, shape))
        return _add_sorted(x, _from_front(where, 1, size, count, 1), y, before, size, after)
    y = empty(device, shape, x.dtype)
    wide = after >= device.units * 4 * device.width
    units = -(-after // device.width) if wide else size
    elements = x.size + y.size if device.cpu else before * after
    _run(
        x, "index_add", where, units, elements,
        x, where, y, before, size, count, after, int(wide),
    )  # fmt: skip
    return y


def scatter_add(x: Array, indices: Any, source: Array, *, axis: int) -> Array:
    size = x.shape[axis]
    where = _checked(indices, x, size)
    y = copied(x)
    if not where.size or not y.size:
        return y
    source = contiguous(cast(source, x.dtype))
    device = x.device
    before, count, after = prod(x.shape[:axis]), where.shape[axis], prod(x.shape[axis + 1 :])
    if not device.cpu and count > FEW:
        places = _from_front(where, before, size, count, after)
        return _add_sorted(source, places, y, 1, y.size, 1)
    wide = STRIPE if device.cpu else 1
    stripes = -(-after // wide)
    units = before * stripes
    _run(
        x, "scatter_add", where, units, where.size if device.cpu else units,
        source, where, y, before, size, count, after, stripes, wide,
    )  # fmt: skip
    return y


def _from_front(indices: Array, before: int, size: int, count: int, after: int) -> Array:
    """For each element the number of its target, (b · size + index) · after + a, as int64: equal
    targets are equal numbers, whichever way the indices were written."""
    places = empty(indices.device, (indices.size,), INT64)
    _run(
        places, "from_front", indices, 1, places.size,
        indices, places, before, size, count, after,
    )  # fmt: skip
    return places


def _add_sorted(x: Array, places: Array, y: Array, before: int, size: int, after: int) -> Array:
    """Add the rows of `x` to those of `y` at `places`, which are brought into order first."""
    count = places.size
    order = _sorted(places, 1, count, 1, False)
    _run(
        x, "add_sorted", places, 1, x.size,
        x, places, order, y, before, size, count, after,
    )  # fmt: skip
    return y


# ---- sorting ---------------------------------------------------------------------------------


def argsort(x: Array, *, axis: int, descending: bool) -> Array:
    device = x.device
    if not x.size:
        return empty(device, x.shape, INT64)
    if device.unified:
        return _host_argsort(realised(x), axis, descending)
    before, size, after = prod(x.shape[:axis]), x.shape[axis], prod(x.shape[axis + 1 :])
    order = _sorted(reshape(x, shape=(before, size, after)), before, size, after, descending)
    return reshape(order, shape=x.shape)


def _host_argsort(x: Array, axis: int, descending: bool) -> Array:
    """NumPy's sorting, which uses vectors, on memory that the host shares with the device."""
    device, values = x.device, readable(x)
    device.activity["host argsort"] += 1
    if not descending:
        return from_numpy(device, np.argsort(values, axis=axis, kind="stable"))
    # Reversed before and after, so that equal elements keep their order.
    order = np.argsort(np.flip(values, axis), axis=axis, kind="stable")
    return from_numpy(device, np.flip(x.shape[axis] - 1 - order, axis))


def _sorted(x: Array, before: int, size: int, after: int, descending: bool) -> Array:
    """Positions that sort `x`, (before, size, after), along its middle axis."""
    x = reshape(x, shape=(before, size, after))
    rows = before * after
    shape = (rows, size)
    order, spare = empty(x.device, shape, INT64), empty(x.device, shape, INT64)
    length = 0
    while length < size:  # the first step writes 0, 1, …, which are runs of one element
        _run(
            x, "merge", order, rows * size, rows * size,
            x, spare, order, rows, size, after, *x.strides, length, int(descending),
        )  # fmt: skip
        order, spare = spare, order
        length = 2 * length or 1
    # `spare` was written last; its rows belong to (b, a).
    return view(spare, (before, size, after), (after * size, 1, size), 0)


KERNELS: dict[str, Callable[..., Any]] = {
    "filled": lambda x, *, shape, value: fill(
        x, bool(value) if x.dtype.kind == "b" else value, shape
    ),
    "take": take,
    "index_add": index_add,
    "gather": gather,
    "scatter_add": scatter_add,
    "one_hot": one_hot,
    "argsort": argsort,
}
