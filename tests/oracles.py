"""What the forward pass of each op must equal: formulas written apart from the kernels.

They are the math module's, SciPy's, or loops over elements; importing this module registers the
property `forward_oracle` of all ops that have one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import signal, special

from microgpt.ops import Op
from microgpt.testing.properties.base import of_ops
from microgpt.testing.rows import call
from microgpt.testing.strategies import Drawer, case_of

Oracle = Callable[..., Any]


def attention(
    q: Any, k: Any, v: Any, mask: Any = None, causal: bool = False, scale: Any = None
) -> Any:
    """Row by row, over the keys that a query may see."""
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    n, m = q.shape[-2], k.shape[-2]
    for place in np.ndindex(q.shape[:-1]):
        lead, i = place[:-1], place[-1]
        scores = {}
        for j in range(m):
            seen = not causal or j <= i + m - n
            extra = 0.0
            if mask is not None and mask.dtype == bool:
                seen = seen and mask[i, j]
            elif mask is not None:
                extra = mask[i, j]
            if seen:
                factor = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
                scores[j] = float(q[place] @ k[(*lead, j)]) * factor + extra
        total = special.logsumexp(list(scores.values()))
        for j, s in scores.items():
            out[place] += math.exp(s - total) * v[(*lead, j)]
    return out


def self_attention(
    qkv: Any, num_heads: int = 1, mask: Any = None, causal: bool = False, scale: Any = None
) -> Any:
    """Head by head."""
    n = qkv.shape[1]
    q, k, v = np.split(qkv, 3, axis=-1)
    if mask is not None:
        mask = np.broadcast_to(mask, (len(qkv), num_heads, n, n))
    out = np.empty(q.shape)
    size = q.shape[-1] // num_heads
    for b in range(len(qkv)):
        for h in range(num_heads):
            part = (b, slice(None), slice(h * size, (h + 1) * size))
            seen = None if mask is None else mask[b, h]
            out[part] = attention(q[part], k[part], v[part], seen, causal, scale)
    return out


def cached_attention(q: Any, kv: Any, num_heads: int = 1, scale: Any = None) -> Any:
    """Query by query and head by head."""
    out = np.empty(q.shape)
    width, late = q.shape[2], kv.shape[1] - q.shape[1]
    size = width // num_heads
    for b, i, h in np.ndindex(*q.shape[:2], num_heads):
        part, seen = slice(h * size, (h + 1) * size), late + i + 1
        k, v = kv[b, :seen, :width], kv[b, :seen, width:]
        out[b, i, part] = attention(q[b, i : i + 1, part], k[:, part], v[:, part], scale=scale)
    return out


def cross_entropy(x: Any, target: Any, reduction: str = "mean", ignore_index: int = -100) -> Any:
    losses = [
        0.0 if t == ignore_index else special.logsumexp(row) - row[t]
        for row, t in zip(x, target, strict=True)
    ]
    if reduction == "none":
        return np.array(losses)
    counted = sum(t != ignore_index for t in target)
    return sum(losses) / (max(counted, 1) if reduction == "mean" else 1)


def normalised(x: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    y = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps)
    return y * (1 if weight is None else weight) + (0 if bias is None else bias)


def lstm(x: Any, weight: Any, h0: Any, c0: Any, ids: Any = None, lengths: Any = None,
         reverse: bool = False) -> Any:  # fmt: skip
    """Row by row; a row that has ended keeps its state; the last memory stands last."""
    x = x if ids is None else x[ids]
    out = np.zeros((len(x) + 1, x.shape[1], weight.shape[1]))
    for row in range(x.shape[1]):
        h, c = h0[row], c0[row]
        end = len(x) if lengths is None else lengths[row]
        for step in sorted(range(len(x)), reverse=reverse):
            if step < end:
                i, f, g, o = np.split(x[step, row] + weight @ h, 4)
                c = special.expit(f) * c + special.expit(i) * np.tanh(g)
                h = special.expit(o) * np.tanh(c)
            out[step, row] = h
        out[-1, row] = c
    return out


def rnn(x: Any, weight: Any, h0: Any, lengths: Any = None, reverse: bool = False,
        nonlinearity: str = "tanh") -> Any:  # fmt: skip
    out = np.zeros(x.shape)
    for row in range(x.shape[1]):
        h = h0[row]
        end = len(x) if lengths is None else lengths[row]
        for step in sorted(range(len(x)), reverse=reverse):
            if step < end:
                total = x[step, row] + weight @ h
                h = np.tanh(total) if nonlinearity == "tanh" else total * (total > 0)
            out[step, row] = h
    return out


def pair(v: Any) -> tuple[int, int]:
    return (v, v) if isinstance(v, int) else tuple(v)


def windows(x: Any, kernel_size: Any, stride: Any = 1, padding: Any = 0, dilation: Any = 1) -> Any:
    """(n, c, kh, kw, rows, columns), by plain loops."""
    (kh, kw), (sh, sw), (ph, pw), (dh, dw) = map(pair, (kernel_size, stride, padding, dilation))
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    rows = range(0, x.shape[2] - dh * (kh - 1), sh)
    columns = range(0, x.shape[3] - dw * (kw - 1), sw)
    out = np.empty((*x.shape[:2], kh, kw, len(rows), len(columns)))
    for a, r in enumerate(rows):
        for b, c in enumerate(columns):
            out[..., a, b] = x[:, :, r : r + dh * (kh - 1) + 1 : dh, c : c + dw * (kw - 1) + 1 : dw]
    return out


def unfold(x: Any, **window: Any) -> Any:
    w = windows(x, **window)
    return w.reshape(w.shape[0], -1, w.shape[-2] * w.shape[-1])


def fold(x: Any, output_shape: Any, **window: Any) -> Any:
    """The matrix of unfold, transposed."""
    area = math.prod(pair(window["kernel_size"]))
    c = x.shape[1] // area
    size = math.prod(output_shape)
    units = np.eye(c * size).reshape(c * size, c, *output_shape)
    matrix = unfold(units, **window).reshape(c * size, -1)
    return (x.reshape(len(x), -1) @ matrix.T).reshape(len(x), c, *output_shape)


def conv2d(x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
           dilation: Any = 1, groups: int = 1) -> Any:  # fmt: skip
    out = []
    per = weight.shape[1]
    (ph, pw), (dh, dw), (sh, sw) = pair(padding), pair(dilation), pair(stride)
    x = np.pad(x, ((0, 0), (0, 0), (ph, ph), (pw, pw)))
    for o, filters in enumerate(weight):
        wide = np.zeros((per, dh * (weight.shape[2] - 1) + 1, dw * (weight.shape[3] - 1) + 1))
        wide[:, ::dh, ::dw] = filters
        first = o // (len(weight) // groups) * per
        maps = [sum(signal.correlate2d(image[first + c], wide[c], "valid") for c in range(per))
                for image in x]  # fmt: skip
        out.append(np.stack(maps)[:, ::sh, ::sw] + (0 if bias is None else bias[o]))
    return np.stack(out, axis=1)


def pool(
    x: Any, kernel_size: Any, how: Any, border: float, stride: Any = None, padding: int = 0
) -> Any:
    (ph, pw) = pair(padding)
    p = ((0, 0), (0, 0), (ph, ph), (pw, pw))
    w = windows(np.pad(x, p, constant_values=border), kernel_size, stride or kernel_size, 0)
    return how(w, axis=(2, 3))


def index_add(x: Any, i: Any, axis: int, size: int) -> Any:
    moved = np.moveaxis(x.reshape(*x.shape[:axis], i.size, *x.shape[axis + i.ndim :]), axis, 0)
    out = np.zeros((size, *moved.shape[1:]))
    for place, row in zip(i.reshape(-1), moved, strict=True):
        out[place] += row
    return np.moveaxis(out, 0, axis)


def scatter_add(x: Any, i: Any, source: Any, axis: int = -1) -> Any:
    out = np.array(x)
    for place in np.ndindex(i.shape):
        to = list(place)
        to[axis] = i[place]
        out[tuple(to)] += source[place]
    return out


def unslice(x: Any, key: Any, shape: Any) -> Any:
    out = np.zeros(shape)
    for place in np.ndindex(x.shape):
        out[tuple([a + i * s for i, (a, _, s) in zip(place, key, strict=True)])] = x[place]
    return out


def keeps(f: Callable[..., Any]) -> Oracle:
    """NumPy's reductions under our parameter names."""
    return lambda x, axis=None, keepdims=False, **kw: f(x, axis=axis, keepdims=keepdims, **kw)


def one(f: Callable[[float], float]) -> Oracle:
    """A function of the math module, element by element; what is too large for it is infinite."""

    def at(v: float) -> float:
        try:
            return f(v)
        except OverflowError:
            return math.inf

    return lambda x: np.vectorize(at, otypes=[float])(x) if x.size else x * 1.0


ORACLES: dict[str, Oracle] = {
    "identity": lambda x: x,
    "astype": lambda x, dtype: x.astype(dtype),
    "zeros_like": lambda x: x * 0,
    "ones_like": lambda x: x * 0 + 1,
    "add": lambda a, b: a + b,
    "add_scaled": lambda a, b, scale: a + scale * b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "pow": lambda a, b: np.vectorize(math.pow, otypes=[float])(a, b) if np.size(a + b) else a + b,
    "negative": lambda x: 0 - x,
    "abs": one(math.fabs),
    "sign": lambda x: (x > 0) * 1.0 - (x < 0),
    "square": lambda x: x * x,
    "exp": one(math.exp),
    "expm1": one(math.expm1),
    "log": one(math.log),
    "log1p": one(math.log1p),
    "sqrt": one(math.sqrt),
    "sin": one(math.sin),
    "cos": one(math.cos),
    "tan": one(math.tan),
    "tanh": one(math.tanh),
    "sigmoid": special.expit,
    "softplus": lambda x: np.logaddexp(0, x),
    "erf": special.erf,
    "relu": lambda x: x * (x > 0),
    "maximum": lambda a, b: np.where(a > b, a, b),
    "minimum": lambda a, b: np.where(a < b, a, b),
    "where": lambda c, a, b: c * a + ~c * b,
    "clip": lambda x, min=None, max=None: np.where(
        x < (-np.inf if min is None else min),
        min or 0.0,
        np.where(x > (np.inf if max is None else max), max or 0.0, x),
    ),
    "equal": lambda a, b: a == b,
    "not_equal": lambda a, b: a != b,
    "less": lambda a, b: a < b,
    "less_equal": lambda a, b: a <= b,
    "greater": lambda a, b: a > b,
    "greater_equal": lambda a, b: a >= b,
    "logical_and": lambda a, b: (a != 0) & (b != 0),
    "logical_or": lambda a, b: (a != 0) | (b != 0),
    "logical_not": lambda x: x == 0,
    "isfinite": lambda x: np.abs(x) < np.inf,
    "isnan": lambda x: x != x,
    "floor": one(math.floor),
    "ceil": one(math.ceil),
    "round": one(lambda v: float(round(v))),
    "reshape": lambda x, shape: x.reshape(shape),
    "permute_dims": lambda x, axes: np.transpose(x, axes),
    "broadcast_to": np.broadcast_to,
    "flip": np.flip,
    "slice": lambda x, key: (
        x[tuple([np.arange(*c) for c in key])]
        if x.ndim < 2
        else x[np.ix_(*[np.arange(*c) for c in key])]
    ),
    "unslice": unslice,
    "pad": lambda x, widths, value=0.0: np.pad(x, widths, constant_values=value) if x.ndim else x,
    "concat": lambda *xs, axis=0: np.concatenate(xs, axis),
    "tril": lambda x, k=0: x * (np.arange(x.shape[-1]) - np.arange(x.shape[-2])[:, None] <= k),
    "triu": lambda x, k=0: x * (np.arange(x.shape[-1]) - np.arange(x.shape[-2])[:, None] >= k),
    "sum": keeps(np.sum),
    "mean": keeps(np.mean),
    "var": lambda x, axis=None, correction=0.0, keepdims=False: np.var(
        x, axis=axis, ddof=correction, keepdims=keepdims
    ),
    "max": keeps(np.max),
    "min": keeps(np.min),
    "prod": keeps(np.prod),
    "logsumexp": lambda x, **kw: special.logsumexp(x, **kw) if x.ndim else x,
    "cumulative_sum": lambda x, axis=-1: np.cumsum(x, axis),
    "argmax": keeps(np.argmax),
    "argmin": keeps(np.argmin),
    "any": keeps(np.any),
    "all": keeps(np.all),
    "softmax": lambda x, axis=-1: special.softmax(x, axis) if x.size else x,
    "log_softmax": lambda x, axis=-1: special.log_softmax(x, axis) if x.size else x,
    "gelu": lambda x, approximate="none": (
        x * special.ndtr(x)
        if approximate == "none"
        else 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    ),
    "silu": lambda x: x * special.expit(x),
    "layer_norm": normalised,
    "rms_norm": lambda x, weight=None, eps=1e-5: (
        x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * (1 if weight is None else weight)
    ),
    "matmul": lambda a, b: np.einsum("...ij,...jk->...ik", a, b),
    "unfold": unfold,
    "fold": fold,
    "conv2d": conv2d,
    "max_pool2d": lambda x, **kw: pool(x, how=np.max, border=-np.inf, **kw),
    "avg_pool2d": lambda x, **kw: pool(x, how=np.mean, border=0.0, **kw),
    "filled": lambda x, shape, value: np.full(shape, value),
    "take": lambda x, i, axis=0: np.take(x, i, axis),
    "index_add": index_add,
    "gather": lambda x, i, axis=-1: np.take_along_axis(x, i, axis),
    "scatter_add": scatter_add,
    "one_hot": lambda i, num_classes, dtype: np.eye(num_classes)[i],
    "argsort": lambda x, axis=-1, descending=False: np.argsort(
        -x if descending else x, axis=axis, kind="stable"
    ),
    "linear": lambda x, w, b: np.einsum("...i,ji->...j", x, w) + (0 if b is None else b),
    "scaled_dot_product_attention": attention,
    "self_attention": self_attention,
    "running_mean": lambda mean, x, beta=0.9, squared=False: (
        beta * mean + (1 - beta) * (x**2 if squared else x)
    ),
    "adam_step": lambda value, mean, square, lr=1e-3, correction=1.0, eps=1e-8: (
        value - lr * mean / (np.sqrt(square) * correction + eps)
    ),
    "cached_attention": cached_attention,
    "cross_entropy": cross_entropy,
    "lstm_layer": lstm,
    "rnn_layer": rnn,
    "transfer": lambda x, **kw: x,
}


@of_ops(25, when=lambda op: op.name in ORACLES)
def forward_oracle(op: Op, d: Drawer) -> None:
    """The value equals that of an independent formula."""
    case = case_of(op, d.of(d.sampled(["normal", "normal", "ties", "extreme"])))
    with np.errstate(all="ignore"):
        y = call(op, case).numpy()
        want = np.asarray(ORACLES[op.name](*case.inputs, **case.params))
    assert y.shape == want.shape, f"{op.name}: shape {y.shape}; required: {want.shape}"
    np.testing.assert_allclose(y, want, rtol=1e-12, atol=1e-13, err_msg=op.name)
