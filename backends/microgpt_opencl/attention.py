"""Attention: one launch forward, one backward (on graphics cards two), no matrix of all scores.

Queries, keys and values are walked through by strides, so heads that lie side by side are read and
written where they are.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np

from microgpt_opencl import reduction
from microgpt_opencl.arrays import Array, empty, view
from microgpt_opencl.elementwise import fill
from microgpt_opencl.fusion import contiguous, realised
from microgpt_opencl.movement import broadcast_to, reshape
from microgpt_opencl.optext import C_TYPES
from microgpt_opencl.programs import Kernel
from microgpt_opencl.transfers import from_numpy

CAUSAL, MASKED, SAVING = 1, 2, 4

BLOCK = 32
"""Work-items of a group on a graphics card; each has a query, or a key."""

KEPT_MASKS = 8
LARGEST_KEPT = 1 << 20

_UNSIGNED = (1 << 64) - 1  # kernels take strides as unsigned, and wrap around as C does


class Kernels(NamedTuple):
    """The kernels for one pair of sizes, and how many queries a work-group takes."""

    forward: Kernel
    backward: tuple[Kernel, ...]
    rows: int


@lru_cache(maxsize=256)
def _kernels(device: Any, char: str, head: int, value: int) -> Kernels:
    sizes = dict(REAL=C_TYPES[char], HEAD=head, VHEAD=value)
    if not device.cpu:
        names = ("attention", "attention_vjp_q", "attention_vjp_kv")
        forward, *backward = [
            device.kernel("attention_gpu.cl", name, BLOCK=BLOCK, **sizes) for name in names
        ]
        return Kernels(forward, tuple(backward), BLOCK)
    width = device.width if char == "f" else max(device.width // 2, 2)
    sizes.update(WIDTH=width, TILE=8 if device.width == 16 else 4)
    tools = "attention_tools.cl"
    return Kernels(
        device.kernel((tools, "attention.cl"), "attention", **sizes),
        (device.kernel((tools, "attention_vjp.cl"), "attention_vjp", **sizes),),
        2 * width,
    )


class _Job:
    """Queries (batch, heads, n, d), keys and values alike, with unit stride along the last axis."""

    def __init__(
        self, q: Array, k: Array, v: Array, mask: Array | None, causal: bool, scale: float
    ) -> None:
        self.q, self.k, self.v = (_aligned(x) for x in (q, k, v))
        self.device, self.shape = q.device, q.shape[:3]
        self.n, self.m = q.shape[2], k.shape[2]
        self.kernels = _kernels(q.device, q.dtype.char, q.shape[3], v.shape[3])
        self.flags = CAUSAL * causal | MASKED * (mask is not None)
        self.scale = scale
        if mask is None:
            self.mask = (None, 0, 0, 0, 0, 0)
        else:
            strides = [s & _UNSIGNED for s in mask.strides]
            self.mask = (mask, *strides)

    def run(self, out: Array, sums: Array | None) -> None:
        """Write the output, and the logarithms of the rows' sums if wanted."""
        batch, heads, n = self.shape
        if not prod(out.shape):
            return
        flags = self.flags | SAVING * (sums is not None)
        self._launch(
            self.kernels.forward, n, *_part(self.q), *_part(self.k), *_part(self.v), *self.mask,
            *_part(out), *_row(sums), n, self.m, flags, self.scale,
        )  # fmt: skip

    def run_back(self, g: Array, y: Array, sums: Array, grads: list[Array]) -> None:
        """Write the gradients of queries, keys and values."""
        n, m = self.n, self.m
        q, k, v = (_part(x) for x in (self.q, self.k, self.v))
        of_g, of_y = _part(_aligned(g)), _part(_aligned(y))
        to_q, to_k, to_v = (_part(x) for x in grads)
        tail = n, m, self.flags, self.scale
        if self.device.cpu:
            (kernel,) = self.kernels.backward
            batch, heads, _ = self.shape
            self.device.launch(
                kernel, (1, heads, batch), (1, 1, 1), *of_g, *of_y, sums, *q, *k, *v, *self.mask,
                *to_q, *to_k, *to_v, *tail,
            )  # fmt: skip
            return
        of_q, of_kv = self.kernels.backward
        means = empty(self.device, self.shape, sums.dtype)
        self._launch(of_q, n, *of_g, *of_y, sums, *q, *k, *v, *self.mask, means, *to_q, *tail)
        if m:
            self._launch(of_kv, m, *of_g, sums, *q, *k, *v, *self.mask, means, *to_k, *to_v, *tail)

    def _launch(self, kernel: Kernel, length: int, *args: Any) -> None:
        batch, heads, _ = self.shape
        local = 1 if self.device.cpu else self.kernels.rows
        groups = -(-length // self.kernels.rows), heads, batch
        self.device.launch(kernel, groups, (local, 1, 1), *args)


def _part(x: Array) -> tuple[Any, ...]:
    """An array as kernels take it: its strides along batch, heads and rows."""
    batch, heads, rows, _ = x.strides
    if min(batch, heads, rows) < 0:
        return x, batch & _UNSIGNED, heads & _UNSIGNED, rows & _UNSIGNED
    return x, batch, heads, rows


def _row(sums: Array | None) -> tuple[Any, ...]:
    return (None, 0) if sums is None else (sums,)


def _aligned(x: Array) -> Array:
    """`x` with neighbours along its last axis."""
    x = realised(x)
    return x if x.strides[-1] == 1 or x.shape[-1] == 1 else contiguous(x)


# ---- masks -----------------------------------------------------------------------------------

_masks: WeakKeyDictionary[Any, OrderedDict[Any, Array]] = WeakKeyDictionary()


def _uploaded(device: Any, mask: np.ndarray) -> Array:
    """A mask on the device. Layers and steps share masks: the last few are kept, by contents."""
    if mask.nbytes > LARGEST_KEPT:
        return from_numpy(device, mask)
    key = mask.shape, mask.tobytes()
    with device.lock:
        kept = _masks.setdefault(device, OrderedDict())
        found = kept.get(key)
        if found is None:
            found = kept[key] = from_numpy(device, mask)
            if len(kept) > KEPT_MASKS:
                kept.popitem(last=False)
        kept.move_to_end(key)
    return found


# ---- queries, keys and values apart ----------------------------------------------------------


def _stacked(x: Array, lead: tuple[int, ...]) -> Array:
    """x (…, n, d) as (batch, heads, n, d), a view where the memory allows."""
    x = realised(x)
    if x.shape[:-2] != lead:
        x = broadcast_to(x, shape=(*lead, *x.shape[-2:]))
    if len(lead) == 2:
        return x
    if len(lead) < 2:
        more = 2 - len(lead)
        return view(x, (1,) * more + x.shape, (0,) * more + x.strides, x.start)
    return reshape(x, shape=(prod(lead[:-1]), *x.shape[-3:]))


def _job(q: Array, k: Array, v: Array, mask: Any, causal: bool, scale: float, lead: Any) -> _Job:
    n, m = q.shape[-2], k.shape[-2]
    if mask is not None:
        whole = broadcast_to(_uploaded(q.device, np.asarray(mask, bool)), shape=(*lead, n, m))
        mask = _stacked(whole, lead)
    if not q.shape[-1]:  # scores of nothing are 0
        q, k = (fill(x, 0, (*x.shape[:-1], 1)) for x in (q, k))
    q, k, v = (_stacked(x, lead) for x in (q, k, v))
    return _Job(q, k, v, mask, causal, scale)


@lru_cache(maxsize=1024)
def _lead(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The dimensions in front of the matrices."""
    return np.broadcast_shapes(*[shape[:-2] for shape in shapes])


def _leading(q: Array, k: Array, v: Array, mask: Any) -> tuple[int, ...]:
    more = () if mask is None else (np.shape(mask),)
    return _lead(q.shape, k.shape, v.shape, *more)


def _attend(
    q: Array, k: Array, v: Array, mask: Any, causal: bool, scale: float, saving: bool
) -> tuple[Array, Array | None]:
    lead = _leading(q, k, v, mask)
    n, size = q.shape[-2], v.shape[-1]
    q = realised(q)
    if len(lead) == 2 and q.ndim == 4 and q.strides[1] < q.strides[2]:
        # As the queries lie in memory, heads side by side, so that joining them is no copy.
        batch, heads = lead
        flat = empty(q.device, (batch, n, heads, size), q.dtype)
        strides = flat.strides
        out = view(flat, (*lead, n, size), (strides[0], strides[2], strides[1], strides[3]), 0)
    else:
        out = empty(q.device, (*lead, n, size), q.dtype)
    stacked = _stacked(out, lead)
    sums = empty(q.device, stacked.shape[:3], q.dtype) if saving else None
    if prod(out.shape):
        _job(q, k, v, mask, causal, scale, lead).run(stacked, sums)
    return out, sums


def scaled_dot_product_attention(
    q: Array, k: Array, v: Array, *, mask: Any, causal: bool, scale: float
) -> Array:
    return _attend(q, k, v, mask, causal, scale, False)[0]


def scaled_dot_product_attention_saving(
    q: Array, k: Array, v: Array, *, mask: Any, causal: bool, scale: float
) -> tuple[Array, tuple]:
    y, sums = _attend(q, k, v, mask, causal, scale, True)
    return y, (y, sums)


def scaled_dot_product_attention_vjp(
    g: Array, saved: Any, q: Array, k: Array, v: Array, *, needs: Any, mask: Any, causal: bool,
    scale: float,
) -> tuple:  # fmt: skip
    if not isinstance(saved, tuple):  # the output of a forward kernel that another plugin replaced
        saved = _attend(q, k, v, mask, causal, scale, True)
    y, sums = saved
    lead = _leading(q, k, v, mask)
    if not prod(y.shape):  # nobody looks, or there is nothing to see
        return tuple([fill(x, 0) for x in (q, k, v)])
    job = _job(q, k, v, mask, causal, scale, lead)
    device, dtype = g.device, g.dtype
    grads = [empty(device, x.shape, dtype) for x in (job.q, job.k, job.v)]
    job.run_back(_stacked(g, lead), _stacked(y, lead), sums, grads)
    found = []
    for grad, x in zip(grads, (q, k, v), strict=True):
        whole = (*lead, *x.shape[-2:])
        found.append(_summed(reshape(grad, shape=whole), x.shape) if x.shape[-1] else fill(x, 0))
    return tuple(found)


def _summed(grad: Array, shape: tuple[int, ...]) -> Array:
    """Summed over the dimensions along which the input was broadcast."""
    if grad.shape == shape:
        return grad
    extra = grad.ndim - len(shape)
    axes = tuple(range(extra)) + tuple(
        [i + extra for i, n in enumerate(shape) if n == 1 and grad.shape[i + extra] != 1]
    )
    return reshape(reduction.KERNELS["sum"](grad, axis=axes, keepdims=True), shape=shape)


# ---- side by side ----------------------------------------------------------------------------


def _heads(x: Array, parts: int, num_heads: int) -> list[Array]:
    """Views (batch, heads, length, size) of the parts of x (batch, length, parts · width)."""
    batch, length, width = x.shape
    width //= parts
    size = width // num_heads
    of_batch, of_row, step = x.strides
    return [
        view(
            x, (batch, num_heads, length, size), (of_batch, size * step, of_row, step),
            x.start + i * width * step,
        )
        for i in range(parts)
    ]  # fmt: skip


def _side_by_side(
    qkv: Array, num_heads: int, mask: Any, causal: bool, scale: float
) -> tuple[Array, _Job]:
    qkv = _aligned(qkv)
    q, k, v = _heads(qkv, 3, num_heads)
    return qkv, _job(q, k, v, mask, causal, scale, q.shape[:2])


def _self_attend(
    qkv: Array, num_heads: int, mask: Any, causal: bool, scale: float, saving: bool
) -> tuple[Array, Array | None]:
    batch, length, width = qkv.shape
    y = empty(qkv.device, (batch, length, width // 3), qkv.dtype)
    sums = empty(qkv.device, (batch, num_heads, length), qkv.dtype) if saving else None
    if prod(y.shape):
        _, job = _side_by_side(qkv, num_heads, mask, causal, scale)
        job.run(_heads(y, 1, num_heads)[0], sums)
    return y, sums


def self_attention(qkv: Array, *, num_heads: int, mask: Any, causal: bool, scale: float) -> Array:
    return _self_attend(qkv, num_heads, mask, causal, scale, False)[0]


def self_attention_saving(
    qkv: Array, *, num_heads: int, mask: Any, causal: bool, scale: float
) -> tuple[Array, tuple]:
    y, sums = _self_attend(qkv, num_heads, mask, causal, scale, True)
    return y, (y, sums)


def self_attention_vjp(
    g: Array, saved: Any, qkv: Array, *, needs: Any, num_heads: int, mask: Any, causal: bool,
    scale: float,
) -> tuple[Array]:  # fmt: skip
    if not isinstance(saved, tuple):  # the output of a forward kernel that another plugin replaced
        saved = _self_attend(qkv, num_heads, mask, causal, scale, True)
    y, sums = saved
    grad = empty(qkv.device, qkv.shape, qkv.dtype)
    if prod(grad.shape):
        _, job = _side_by_side(qkv, num_heads, mask, causal, scale)
        (rows,), (out,) = _heads(_aligned(g), 1, num_heads), _heads(_aligned(y), 1, num_heads)
        job.run_back(rows, out, sums, _heads(grad, 3, num_heads))
    return (grad,)


def cached_attention(q: Array, kv: Array, *, num_heads: int, scale: float) -> Array:
    q, kv = _aligned(q), _aligned(kv)
    y = empty(q.device, q.shape, q.dtype)
    if prod(y.shape):
        (queries,) = _heads(q, 1, num_heads)
        k, v = _heads(kv, 2, num_heads)
        job = _job(queries, k, v, None, True, scale, queries.shape[:2])
        job.run(_heads(y, 1, num_heads)[0], None)
    return y


KERNELS: dict[str, Callable[..., Any]] = {
    "scaled_dot_product_attention": scaled_dot_product_attention,
    "scaled_dot_product_attention_saving": scaled_dot_product_attention_saving,
    "scaled_dot_product_attention_vjp": scaled_dot_product_attention_vjp,
    "self_attention": self_attention,
    "self_attention_saving": self_attention_saving,
    "self_attention_vjp": self_attention_vjp,
    "cached_attention": cached_attention,
}
