"""Wrong kernels, as backends really have them, and the check of the kit that must fail for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Kernel = Callable[..., Any]


class Fault(NamedTuple):
    """Kernels to use in place of right ones, and the check that finds them."""

    kernels: dict[str, Kernel]
    check: str
    message: str  # a pattern for what the check says


def rounded(x: Any, bits: int) -> Any:
    """`x` with so many bits of mantissa, as matrix units keep them."""
    mantissa, exponent = np.frexp(np.asarray(x, dtype=np.float64))
    return np.ldexp(np.round(mantissa * 2.0 ** (bits + 1)) / 2.0 ** (bits + 1), exponent)


def coarse(bits: int) -> Kernel:
    """Matrix products of rounded inputs, with exact sums."""
    return lambda a, b: (rounded(a, bits) @ rounded(b, bits)).astype(a.dtype)


def half(a: Any, b: Any) -> Any:
    return (a.astype("float16").astype("float32") @ b.astype("float16").astype("float32")).astype(
        a.dtype
    )


def tail(x: Any) -> Any:
    y = np.array(np.exp(x), order="C")
    y.reshape(-1)[64:] *= np.float32(1.001)
    return y


def whole_groups_only(x: Any) -> Any:
    flat = np.ascontiguousarray(x).reshape(-1)
    y = np.zeros_like(flat)
    groups = flat.size if flat.size < 64 else flat.size // 64 * 64
    np.negative(flat[:groups], out=y[:groups])
    return y.reshape(x.shape)


def contiguous_only(x: Any) -> Any:
    plain = x.view(np.ndarray)
    strides = np.empty(x.shape, x.dtype).strides
    return np.cos(np.lib.stride_tricks.as_strided(plain, x.shape, strides))


def offset_forgotten(x: Any) -> Any:
    base = x
    while isinstance(base.base, np.ndarray) and base.base.dtype == x.dtype:
        base = base.base
    flat = np.ascontiguousarray(base.view(np.ndarray)).reshape(-1)
    return np.abs(flat[: x.size].reshape(x.shape)) if x.flags.c_contiguous else np.abs(x)


def clamped(x: Any, indices: Any, *, axis: int) -> Any:
    return np.take(x, np.where(indices < 0, indices + x.shape[axis], indices), axis, mode="clip")


def from_the_front(x: Any, indices: Any, *, axis: int) -> Any:
    if indices.size and not -x.shape[axis] <= indices.min() <= indices.max() < x.shape[axis]:
        raise IndexError("out of range")
    return np.take(x, np.abs(indices) % max(x.shape[axis], 1), axis)


def last_wins(x: Any, indices: Any, *, axis: int, size: int) -> Any:
    before, after = x.shape[:axis], x.shape[axis + indices.ndim :]
    y = np.zeros((*before, size, *after), dtype=x.dtype)
    rows = np.moveaxis(np.asarray(x).reshape(*before, indices.size, *after), axis, 0)
    np.moveaxis(y, axis, 0)[np.asarray(indices).reshape(-1)] = rows
    return y


def scatter_last(x: Any, indices: Any, source: Any, *, axis: int) -> Any:
    y = np.array(x)
    if indices.size:
        picked = np.take_along_axis(y, np.asarray(indices), axis) + np.asarray(source)
        np.put_along_axis(y, np.asarray(indices), picked, axis)
    return y


def halves_its_input(x: Any) -> Any:
    y = 1 / (1 + np.exp(-x))
    if x.flags.writeable and x.size:
        x *= 0.5
    return y


def in_one_buffer() -> Kernel:
    buffers: dict[Any, Any] = {}

    def square(x: Any) -> Any:
        y = buffers.setdefault((x.shape, x.dtype), np.empty(x.shape, x.dtype))
        np.multiply(x, x, out=y)
        return y

    return square


def cached_by_address() -> Kernel:
    cache: dict[Any, Any] = {}

    def sin(x: Any) -> Any:
        key = x.ctypes.data, x.shape, x.strides, x.dtype
        if key not in cache:
            cache[key] = np.sin(x)
        return np.array(cache[key])

    return sin


def racing() -> Kernel:
    rng = np.random.default_rng()

    def total(x: Any, *, axis: Any, keepdims: bool) -> Any:
        if len(axis) == x.ndim and x.dtype.kind == "f":
            mixed = rng.permutation(np.asarray(x).reshape(-1))
            sums = np.cumsum(mixed, dtype=x.dtype)[-1:] if mixed.size else np.zeros(1, x.dtype)
            return sums.reshape((1,) * x.ndim if keepdims else ())
        return np.sum(x, axis=axis, keepdims=keepdims)

    return total


def keeping() -> Kernel:
    kept: list[Any] = []

    def tanh(x: Any) -> Any:
        kept.append(np.tanh(x))
        return kept[-1]

    return tanh


def all_kept() -> Kernel:
    """Like `keeping`, but it keeps copies, which no reference to a result shows."""
    kept: list[Any] = []

    def tanh(x: Any) -> Any:
        y = np.tanh(x)
        kept.append(np.array(y))
        return y

    return tanh


def needs_elements(x: Any, *, axis: Any, keepdims: bool) -> Any:
    if not x.size:
        raise RuntimeError("invalid work size")
    return np.sum(x, axis=axis, keepdims=keepdims)


def first_axis_only(x: Any, *, axis: Any, keepdims: bool) -> Any:
    y = np.mean(x, axis=axis[:1] if len(axis) > 1 else axis, keepdims=True)
    shape = [1 if i in axis else n for i, n in enumerate(x.shape)]
    y = np.broadcast_to(y[tuple([slice(0, n) for n in shape])], shape)
    return y if keepdims else y.reshape([n for i, n in enumerate(x.shape) if i not in axis])


def no_projection(g: Any, y: Any, x: Any, *, needs: Any, axis: int) -> Any:
    return (g * y,)


def counts_ignored(x: Any, target: Any, *, ignore_index: int) -> Any:
    ignored = np.asarray(target) == ignore_index
    safe = np.where(ignored, 0, target)
    if safe.size and not 0 <= safe.min() <= safe.max() < x.shape[1]:
        raise IndexError("no such class")
    top = x.max(axis=1, keepdims=True) if x.size else 0
    logs = x - top - np.log(np.exp(x - top).sum(axis=1, keepdims=True))
    losses = np.where(ignored, 0, -logs[np.arange(len(x)), safe])
    return np.asarray(losses.sum() / max(len(x), 1), dtype=x.dtype)


def seen_twice(q: Any, k: Any, v: Any, *, mask: Any, causal: bool, scale: float) -> Any:
    """Attention whose causal mask lets each query see one key too many."""
    scores = np.asarray(q @ np.swapaxes(k, -1, -2)) * scale
    n, m = scores.shape[-2:]
    if causal:
        scores = np.where(np.tril(np.ones((n, m), dtype=bool), m - n + 1), scores, -np.inf)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights = weights / weights.sum(axis=-1, keepdims=True)
    return (weights @ np.asarray(v)).astype(q.dtype)


def linear_by_matrix_unit(g: Any, y: Any, x: Any, w: Any, b: Any, *, needs: Any) -> Any:
    rows, values = rounded(g.reshape(-1, g.shape[-1]), 10), x.reshape(-1, x.shape[-1])
    to_x = (rows @ rounded(w, 10)).astype(x.dtype).reshape(x.shape)
    return to_x, (rows.T @ rounded(values, 10)).astype(x.dtype), None if b is None else sum_rows(g)


def sum_rows(g: Any) -> Any:
    return np.asarray(g).reshape(-1, g.shape[-1]).sum(axis=0)


def saves_the_wrong_thing(x: Any, weight: Any, bias: Any, *, eps: float) -> Any:
    centred = x - x.mean(axis=-1, keepdims=True)
    scale = 1 / np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + eps)
    y = centred * scale * (1 if weight is None else weight) + (0 if bias is None else bias)
    return y, (np.asarray(centred), np.asarray(scale))  # not normalised


FAULTS = {
    # ---- kernels that work on small inputs
    "tail": Fault({"exp": tail}, "T2:exp", r"exp of \(6"),
    "whole groups only": Fault({"negative": whole_groups_only}, "T2:negative", "0"),
    "ignores strides": Fault({"cos": contiguous_only}, "T2:cos", "laid out"),
    "ignores the offset": Fault({"abs": offset_forgotten}, "T2:abs", "laid out.*offset"),
    "crash without elements": Fault({"sum": needs_elements}, "T3:sum", "invalid work size"),
    # ---- too few bits
    "TF32": Fault({"matmul": coarse(10)}, "T3:matmul", "±"),
    "bfloat16": Fault({"matmul": coarse(7)}, "T3:matmul", "±"),
    "fp16": Fault({"matmul": half}, "T3:matmul", "±"),
    "fast math": Fault({"exp": lambda x: np.exp(x) * x.dtype.type(1 + 2e-6)}, "T2:exp", "±"),
    "expm1 by exp": Fault({"expm1": lambda x: np.exp(x) - 1}, "T2:expm1", "±"),
    "log1p by log": Fault({"log1p": lambda x: np.log(1 + x)}, "T2:log1p", "±"),
    "sum in float16": Fault(
        {"sum": lambda x, *, axis, keepdims: np.sum(
            x, axis=axis, keepdims=keepdims, dtype="float16" if x.dtype.kind == "f" else None
        ).astype(x.dtype if x.dtype.kind == "f" else "int64")},
        "T3:sum", "±",
    ),
    "gradient by TF32": Fault({"linear_vjp": linear_by_matrix_unit}, "T5:linear", "gradient by"),
    # ---- special numbers
    "max without NaN": Fault(
        {"max": lambda x, *, axis, keepdims: np.fmax.reduce(x, axis=axis, keepdims=keepdims)},
        "T3:max", "required: nan",
    ),
    "relu of NaN": Fault({"relu": lambda x: np.where(x > 0, x, 0 * x)}, "T2:relu", "inf|nan"),
    "sigmoid overflows": Fault(
        {"sigmoid": lambda x: np.exp(x) / (1 + np.exp(x))}, "T2:sigmoid", "nan; required: 1"
    ),
    "softmax overflows": Fault(
        {"softmax": lambda x, *, axis: np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True)},
        "T3:softmax", "nan",
    ),
    "negative zero": Fault({"reshape": lambda x, *, shape: (x + x.dtype.type(0)).reshape(shape)
                            if x.dtype.kind == "f" else x.reshape(shape)}, "T1:reshape", "-0.0"),
    "halves away from zero": Fault(
        {"round": lambda x: (np.sign(x) * np.floor(np.abs(x) + 0.5)).astype(x.dtype)},
        "T2:round", "required",
    ),
    # ---- shapes, axes, parameters
    "inverse axes": Fault(
        {"permute_dims": lambda x, *, axes: x.transpose(np.argsort(axes)) if axes else x},
        "T1:permute_dims", "required",
    ),
    "keepdims ignored": Fault(
        {"min": lambda x, *, axis, keepdims: np.min(x, axis=axis)}, "T3:min", "shape"
    ),
    "one axis of a tuple": Fault({"mean": first_axis_only}, "T3:mean", "axis"),
    "diagonal": Fault({"tril": lambda x, *, k: np.tril(x, k - 1)}, "T1:tril", "required"),
    "pads with zeros": Fault(
        {"pad": lambda x, *, widths, value: np.pad(x, widths) if x.ndim else x}, "T1:pad", "value"
    ),
    "last of equal ones": Fault(
        {"argmax": lambda x, *, axis: x.shape[axis] - 1 - np.argmax(np.flip(x, axis), axis=axis)},
        "T3:argmax", "required",
    ),
    # ---- data types
    "float64 for float32": Fault(
        {"sqrt": lambda x: np.sqrt(x, dtype=np.float64)}, "T2:sqrt", "dtype float64"
    ),
    "numbers for truth": Fault(
        {"less": lambda a, b: np.less(a, b).astype(np.int8)}, "T2:less", "dtype int8"
    ),
    "integers by floats": Fault({"floor": lambda x: np.floor(x.astype(np.float32))}, "T2:floor",
                                "dtype float32"),
    # ---- indices
    "clamps indices": Fault({"take": clamped}, "T0:out of range", "went through"),
    "no negative indices": Fault({"take": from_the_front}, "T4:take", "required"),
    "last of equal indices": Fault({"index_add": last_wins}, "T4:index_add", "required"),
    "no sum of equal indices": Fault({"scatter_add": scatter_last}, "T4:scatter_add", "required"),
    # ---- gradients and fused kernels
    "softmax_vjp without Σ": Fault({"softmax_vjp": no_projection}, "T5:softmax", "gradient by"),
    "wrong thing saved": Fault(
        {"layer_norm_saving": saves_the_wrong_thing}, "T5:layer_norm", "gradient by"
    ),
    "ignored rows count": Fault({"cross_entropy": counts_ignored}, "T3:cross_entropy", "±"),
    "sees the future": Fault(
        {"scaled_dot_product_attention": seen_twice}, "T3:scaled_dot_product_attention", "causal"
    ),
    "sees the future, decoding": Fault(
        {"scaled_dot_product_attention": seen_twice}, "T8:decoding", "logits of token"
    ),
    "linear by TF32": Fault(
        {"linear": lambda x, w, b: (rounded(x, 10) @ rounded(w, 10).T).astype(x.dtype)
         + (0 if b is None else b)},
        "T8:training step", "loss|weights",
    ),
    # ---- memory
    "changes its input": Fault({"sigmoid": halves_its_input}, "T2:sigmoid", "changed its input"),
    "one buffer for all": Fault({"square": in_one_buffer()}, "T6:square", "while it was held"),
    "cache by address": Fault({"sin": cached_by_address()}, "T6:sin", "address"),
    "keeps its results": Fault({"tanh": keeping()}, "T6:tanh", "still alive"),
    "leaks": Fault({"tanh": all_kept()}, "T6:leak", "200 steps left"),
    "races": Fault({"sum": racing()}, "T7:sum", "second time"),
}  # fmt: skip
