"""The kernels: one function per op, from arrays to a new array.

`microgpt ops NAME` says what an op computes and which parameters its kernel gets. What is missing
here (softmax, layer_norm, conv2d, …) is fused: microgpt composes it from the ops that are here.
"""

import math

import numpy as np

from microgpt_example_backend.arrays import Array, broadcast_to, elementwise, places, steps, strides

# ---- element by element ------------------------------------------------------------------------


def sigmoid(x):
    """1 / (1 + e⁻ˣ), by e^-|x|, which cannot overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def softplus(x):
    """log(1 + eˣ), by e^-|x|, which cannot overflow."""
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def erf(x):
    """The error function, which NumPy does not have."""
    return np.array([math.erf(v) for v in x.tolist()], dtype=x.dtype)


def clip(x, *, min, max):
    """`x` limited to [min, max]; None is no limit."""
    return Array(np.clip(x.data, min, max), x.shape)


# ---- moving elements ---------------------------------------------------------------------------


def permute_dims(x, *, axes):
    """Dimension i of the result is dimension axes[i] of `x`."""
    offsets = steps(x.shape)
    return Array(x.data[places([offsets[a] for a in axes])], [x.shape[a] for a in axes])


def flip(x, *, axis):
    """The steps along `axis` backwards."""
    offsets = [s[::-1] if i in axis else s for i, s in enumerate(steps(x.shape))]
    return Array(x.data[places(offsets)], x.shape)


def cut(key, shape):
    """Where the elements x[start:stop:step, …] of an array of `shape` are."""
    return [np.arange(*k) * stride for k, stride in zip(key, strides(shape), strict=True)]


def slice(x, *, key):
    """x[start:stop:step, …]"""
    offsets = cut(key, x.shape)
    return Array(x.data[places(offsets)], [len(s) for s in offsets])


def put(parts, shape, value, dtype):
    """An array of one value, with (offsets, row of numbers) put into their places."""
    y = np.full(math.prod(shape), value, dtype=dtype)
    for offsets, row in parts:
        y[places(offsets)] = row
    return Array(y, shape)


def unslice(x, *, key, shape):
    """`x` put back into zeros where `slice` took it from."""
    return put([(cut(key, shape), x.data)], shape, 0, x.dtype)


def pad(x, *, widths, value):
    """`x` in a border of `value`."""
    shape = [a + n + b for (a, b), n in zip(widths, x.shape, strict=True)]
    inside = [(a, a + n, 1) for (a, _), n in zip(widths, x.shape, strict=True)]
    return put([(cut(inside, shape), x.data)], shape, value, x.dtype)


def concat(*xs, axis, sizes):
    """Arrays one after the other along `axis`."""
    shape = list(xs[0].shape)
    shape[axis] = sum(sizes)
    parts, start = [], 0
    for x in xs:
        key = [(start, start + n, 1) if i == axis else (0, n, 1) for i, n in enumerate(x.shape)]
        parts.append((cut(key, shape), x.data))
        start += x.shape[axis]
    return put(parts, shape, 0, xs[0].dtype)


def triangle(keep):
    """The kernel that keeps the elements of matrices for which keep(column - row, k)."""

    def kernel(x, *, k):
        rows, columns = x.shape[-2:]
        place = np.arange(x.size)
        inside = keep(place % max(columns, 1) - place // max(columns, 1) % max(rows, 1), k)
        return Array(np.where(inside, x.data, x.dtype.type(0)), x.shape)

    return kernel


# ---- reducing ----------------------------------------------------------------------------------


def reduction(function):
    """The kernel for a function of a table whose rows are to be reduced to one number each."""

    def kernel(x, *, axis, keepdims=False, **params):
        axis = (axis,) if isinstance(axis, int) else axis
        kept = tuple([i for i in range(x.ndim) if i not in axis])
        table = permute_dims(x, axes=kept + axis).data.reshape(
            math.prod([x.shape[i] for i in kept]), math.prod([x.shape[i] for i in axis])
        )
        sides = [1 if i in axis else n for i, n in enumerate(x.shape)]
        return Array(function(table, **params), sides if keepdims else [x.shape[i] for i in kept])

    return kernel


def mean(table):
    """Of nothing: NaN."""
    n = table.shape[1]
    return table.sum(1) / n if n else np.full(len(table), np.nan, dtype=table.dtype)


def var(table, *, correction):
    """Σ (x - mean)² / (n - correction)"""
    n = table.shape[1]
    if n - correction <= 0:
        return np.full(len(table), np.nan, dtype=table.dtype)
    return np.square(table - table.sum(1, keepdims=True) / n).sum(1) / (n - correction)


def logsumexp(table):
    """log Σ eˣ with the largest taken out, so that nothing overflows."""
    if not table.size:
        return np.full(len(table), -np.inf, dtype=table.dtype)
    top = table.max(1)
    top = np.where(np.isfinite(top), top, table.dtype.type(0))
    return np.log(np.exp(table - top[:, None]).sum(1)) + top


def along(function):
    """The kernel for a function of a table whose rows are to be replaced by others as long."""

    def kernel(x, *, axis, **params):
        order = [i for i in range(x.ndim) if i != axis] + [axis]
        moved = permute_dims(x, axes=order)
        n = x.shape[axis]
        table = moved.data.reshape(moved.size // n if n else 0, n)
        y = Array(function(table, **params).reshape(-1), moved.shape)
        return permute_dims(y, axes=[order.index(i) for i in range(x.ndim)])

    return kernel


def argsort(table, *, descending):
    """Positions in order; equal elements stay in order, in both directions."""
    if not descending:
        return table.argsort(1, kind="stable")
    return table.shape[1] - 1 - table[:, ::-1].argsort(1, kind="stable")[:, ::-1]


def matmul(a, b):
    """Σ over i of (column i of a) · (row i of b), for stacks of matrices that broadcast."""
    (n, k), (rows, m) = a.shape[-2:], b.shape[-2:]
    if k != rows:
        raise ValueError(f"matrices with {k} columns and with {rows} rows")
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    count = math.prod(stack)
    first = broadcast_to(a, shape=(*stack, n, k)).data.reshape(count, n, k)
    second = broadcast_to(b, shape=(*stack, k, m)).data.reshape(count, k, m)
    y = np.zeros((count, n, m), dtype=a.dtype)
    for i in range(k):
        y += first[:, :, i, None] * second[:, i, None, :]
    return Array(y.reshape(-1), (*stack, n, m))


# ---- picking by index, and adding to picked places ---------------------------------------------


def positive(indices, length):
    """Indices from the front; those below 0 count from the end."""
    if ((indices < -length) | (indices >= length)).any():
        raise IndexError(f"an index is out of range for a dimension of length {length}")
    return np.where(indices < 0, indices + length, indices)


def add_at(y, where, row, shape):
    """A copy of `y` with the numbers of `row` added; what goes to the same place adds up."""
    y = y.copy()
    np.add.at(y, where, row)
    return Array(y, shape)


def take(x, indices, *, axis):
    """The steps along `axis` that the indices name."""
    offsets = steps(x.shape)
    offsets[axis] = positive(indices.data, x.shape[axis]) * strides(x.shape)[axis]
    shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
    return Array(x.data[places(offsets)], shape)


def index_add(x, indices, *, axis, size):
    """`x` added to zeros where `take` would have picked it."""
    shape = (*x.shape[:axis], size, *x.shape[axis + indices.ndim :])
    offsets = steps(shape)
    offsets[axis] = positive(indices.data, size) * strides(shape)[axis]
    return add_at(np.zeros(math.prod(shape), dtype=x.dtype), places(offsets), x.data, shape)


def picked(x, indices, axis):
    """Where the elements are that `gather` picks, one per index."""
    offsets = steps(x.shape)
    offsets[axis] = np.zeros(indices.shape[axis], dtype=np.int64)
    return places(offsets) + positive(indices.data, x.shape[axis]) * strides(x.shape)[axis]


def gather(x, indices, *, axis):
    """x[…, indices[…], …], with the index in the place of `axis`."""
    return Array(x.data[picked(x, indices, axis)], indices.shape)


def scatter_add(x, indices, source, *, axis):
    """`x` with `source` added where `gather` would have picked."""
    return add_at(x.data, picked(x, indices, axis), source.data, x.shape)


def one_hot(x, *, num_classes, dtype):
    """For every index a row with a 1 at that place."""
    y = x.data[:, None] == np.arange(num_classes)
    return Array(y.astype(dtype).reshape(-1), (*x.shape, num_classes))


# ---- windows of images -------------------------------------------------------------------------


def windows(shape, kernel, stride, dilation):
    """Where the elements of all windows of images (n, c, height, width) are, and how many."""
    image, channel, down, right = strides(shape)
    rows, columns = (
        (side - d * (k - 1) - 1) // s + 1
        for side, k, s, d in zip(shape[2:], kernel, stride, dilation, strict=True)
    )
    offsets = [
        np.arange(shape[0]) * image,
        np.arange(shape[1]) * channel,
        np.arange(kernel[0]) * dilation[0] * down,
        np.arange(kernel[1]) * dilation[1] * right,
        np.arange(rows) * stride[0] * down,
        np.arange(columns) * stride[1] * right,
    ]
    return places(offsets), rows * columns


def unfold(x, *, kernel, stride, padding, dilation):
    """All windows as columns: (n, c·kh·kw, positions)."""
    x = pad(x, widths=((0, 0), (0, 0), *[(p, p) for p in padding]), value=0)
    where, count = windows(x.shape, kernel, stride, dilation)
    return Array(x.data[where], (x.shape[0], x.shape[1] * kernel[0] * kernel[1], count))


def fold(x, *, size, kernel, stride, padding, dilation):
    """Columns added back to where `unfold` took them from."""
    channels = x.shape[1] // (kernel[0] * kernel[1])
    shape = (x.shape[0], channels, *[n + 2 * p for n, p in zip(size, padding, strict=True)])
    where, _ = windows(shape, kernel, stride, dilation)
    y = add_at(np.zeros(math.prod(shape), dtype=x.dtype), where, x.data, shape)
    inside = [(p, p + n, 1) for n, p in zip(size, padding, strict=True)]
    return slice(y, key=((0, shape[0], 1), (0, channels, 1), *inside))


# ---- a fused op with a gradient of its own -----------------------------------------------------


def silu(x):
    """x·σ(x) in one sweep; without it, microgpt would compose it of two ops."""
    return Array(x.data * sigmoid(x.data), x.shape)


def silu_saving(x):
    """The output, and what the gradient can use again."""
    s = sigmoid(x.data)
    return Array(x.data * s, x.shape), (s,)


def silu_vjp(g, saved, x, *, needs):
    """g·(σ + x·σ·(1 - σ)), the gradient of the one input."""
    # If another plugin has replaced `silu`, we get its output in place of what we saved.
    s = saved[0] if isinstance(saved, tuple) else sigmoid(x.data)
    return (Array(g.data * (s + x.data * s * (1 - s)), x.shape),)


KERNELS = {
    **{name: elementwise(getattr(np, name)) for name in (
        "add", "subtract", "multiply", "divide", "negative", "abs", "sign", "square",
        "exp", "expm1", "log", "log1p", "sqrt", "sin", "cos", "tan", "tanh", "maximum", "minimum",
        "where", "equal", "not_equal", "less", "less_equal", "greater", "greater_equal",
        "logical_and", "logical_or", "logical_not", "isfinite", "isnan", "floor", "ceil", "round",
        "zeros_like", "ones_like",
    )},
    "pow": elementwise(np.power),
    "sigmoid": elementwise(sigmoid),
    "softplus": elementwise(softplus),
    "erf": elementwise(erf),
    "relu": elementwise(lambda x: np.maximum(x, x.dtype.type(0))),
    "add_scaled": lambda a, b, *, scale: a + b * scale,
    "clip": clip,
    "identity": lambda x: x,
    "astype": lambda x, *, dtype: Array(x.data.astype(dtype), x.shape),
    "filled": lambda x, *, shape, value: put([], shape, value, x.dtype),
    "reshape": lambda x, *, shape: Array(x.data, shape),
    "broadcast_to": broadcast_to,
    "permute_dims": permute_dims,
    "flip": flip,
    "slice": slice,
    "unslice": unslice,
    "pad": pad,
    "concat": concat,
    "tril": triangle(lambda distance, k: distance <= k),
    "triu": triangle(lambda distance, k: distance >= k),
    "sum": reduction(lambda table: table.sum(1)),
    "prod": reduction(lambda table: table.prod(1)),
    "max": reduction(lambda table: table.max(1)),
    "min": reduction(lambda table: table.min(1)),
    "any": reduction(lambda table: table.any(1)),
    "all": reduction(lambda table: table.all(1)),
    "argmax": reduction(lambda table: table.argmax(1)),
    "argmin": reduction(lambda table: table.argmin(1)),
    "mean": reduction(mean),
    "var": reduction(var),
    "logsumexp": reduction(logsumexp),
    "cumulative_sum": along(lambda table: table.cumsum(1)),
    "argsort": along(argsort),
    "matmul": matmul,
    "take": take,
    "index_add": index_add,
    "gather": gather,
    "scatter_add": scatter_add,
    "one_hot": one_hot,
    "unfold": unfold,
    "fold": fold,
    "silu": silu,
    "silu_saving": silu_saving,
    "silu_vjp": silu_vjp,
}  # fmt: skip
