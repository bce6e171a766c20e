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

KEYS = 16
"""Keys that such a group has in local memory at a time, where they fit."""

KEPT_MASKS = 8
LARGEST_KEPT = 1 << 20

_UNSIGNED = (1 << 64) - 1  # kernels take strides as unsigned, and wrap around as C does

Part = tuple[Array, int, int, int]
"""An array (batch, heads, rows, size) as kernels take it: with the strides of all axes but the
last, along which numbers are neighbours. What is Array's own shape does not matter."""


@lru_cache(maxsize=256)
def _kernels(device: Any, char: str, head: int, value: int, back: bool) -> tuple[Kernel, ...]:
    """Of one direction only: each takes seconds to compile, and who only generates needs one."""
    sizes = dict(REAL=C_TYPES[char], HEAD=head, VHEAD=value)
    if device.cpu:
        sizes.update(WIDTH=_width(device, char), TILE=8 if device.width == 16 else 4)
        name = "attention_vjp" if back else "attention"
        return (device.kernel(("attention_tools.cl", f"{name}.cl"), name, **sizes),)
    sizes.update(
        BLOCK=BLOCK, KEYS=_keys(device.local_memory, (8 if char == "d" else 4), head + value)
    )
    names = ("attention_vjp_q", "attention_vjp_kv") if back else ("attention",)
    return tuple([device.kernel("attention_gpu.cl", name, **sizes) for name in names])


def _width(device: Any, char: str) -> int:
    return device.width if char == "f" else max(device.width // 2, 2)


def _keys(memory: int, itemsize: int, size: int) -> int:
    """As many keys with their values, of `size` numbers together, as local memory has room for."""
    keys = KEYS
    while keys > 1 and keys * (size + 2) * itemsize > memory:
        keys //= 2
    return keys


class _Job(NamedTuple):
    """What forward and backward share."""

    device: Any
    dtype: np.dtype
    lengths: tuple[int, int, int, int]
    """Batch, heads, queries, keys."""
    sizes: tuple[int, int]
    """Of a query, of a value."""
    inputs: tuple[Any, ...]
    """The parts q, k, v, and the mask with the strides of all its axes."""
    flags: int
    scale: float

    def run(self, out: Part, sums: Array | None) -> None:
        """Write the output, and the logarithms of the rows' sums if wanted."""
        _, _, n, m = self.lengths
        (kernel,) = _kernels(self.device, self.dtype.char, *self.sizes, False)
        saving = (None, 0) if sums is None else (sums,)
        flags = self.flags if sums is None else self.flags | SAVING
        self._launch(kernel, n, *self.inputs, *out, *saving, n, m, flags, self.scale)

    def run_back(self, g: Part, y: Part, sums: Array, to_q: Part, to_k: Part, to_v: Part) -> None:
        """Write the gradients of queries, keys and values."""
        batch, heads, n, m = self.lengths
        kernels = _kernels(self.device, self.dtype.char, *self.sizes, True)
        tail = n, m, self.flags, self.scale
        if self.device.cpu:
            self.device.launch(
                kernels[0], (1, heads, batch), (1, 1, 1), *g, *y, sums, *self.inputs,
                *to_q, *to_k, *to_v, *tail,
            )  # fmt: skip
            return
        means = empty(self.device, (batch, heads, n), self.dtype)
        self._launch(kernels[0], n, *g, *y, sums, *self.inputs, means, *to_q, *tail)
        if m:
            self._launch(kernels[1], m, *g, sums, *self.inputs, means, *to_k, *to_v, *tail)

    def _launch(self, kernel: Kernel, rows: int, *args: Any) -> None:
        device = self.device
        local, each = (1, 2 * _width(device, self.dtype.char)) if device.cpu else (BLOCK, BLOCK)
        groups = -(-rows // each), self.lengths[1], self.lengths[0]
        device.launch(kernel, groups, (local, 1, 1), *args)


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


@lru_cache(maxsize=1024)
def _steps(
    shape: tuple[int, ...], strides: tuple[int, ...], lead: tuple[int, ...]
) -> tuple[int, int, int] | None:
    """The strides of (batch, heads, rows) in x (…, rows, size) that is repeated to fill `lead`.

    All dimensions of `lead` but the last are one batch. None if memory has no such strides, or
    numbers along the last axis are no neighbours.
    """
    if strides[-1] != 1 and shape[-1] != 1:
        return None
    repeated = (0,) * (len(lead) + 2 - len(shape))
    steps = repeated + tuple(
        [0 if n == 1 else s for n, s in zip(shape[:-2], strides[:-2], strict=True)]
    )
    batch, size = None, 1
    for n, step in zip(reversed(lead[:-1]), reversed(steps[:-1]), strict=True):
        if n == 1:
            continue
        if batch is None:
            batch = step
        elif step != batch * size:
            return None
        size *= n
    heads = steps[-1] if steps else 0
    return (batch or 0) & _UNSIGNED, heads & _UNSIGNED, strides[-2] & _UNSIGNED


def _part(x: Array, lead: tuple[int, ...]) -> Part:
    """x (…, rows, size) as (batch, heads, rows, size): where it lies if possible, else a copy."""
    if x.block is None:
        realised(x)
    steps = _steps(x.shape, x.strides, lead)
    if steps is None:
        x = contiguous(broadcast_to(x, shape=(*lead, *x.shape[-2:])))
        return _part(x, lead)
    return x, *steps


def _masked(device: Any, mask: Any, whole: tuple[int, ...]) -> tuple[Any, ...]:
    """A mask as kernels take it, repeated to be of shape `whole`."""
    if mask is None:
        return None, 0, 0, 0, 0, 0
    x = broadcast_to(_uploaded(device, np.asarray(mask, bool)), shape=whole)
    # Keys need no neighbours: they are repeated where the mask is the same for all of them.
    steps = _steps((*whole[:-1], 1), x.strides, whole[:-2])
    if steps is None:
        x = contiguous(x)
        steps = _steps((*whole[:-1], 1), x.strides, whole[:-2]) or (0, 0, 0)
    return x, *steps, x.strides[-1]


def _job(q: Array, k: Array, v: Array, mask: Any, causal: bool, scale: float, lead: Any) -> _Job:
    n, m = q.shape[-2], k.shape[-2]
    if not q.shape[-1]:  # scores of nothing are 0
        q, k = (fill(x, 0, (*x.shape[:-1], 1)) for x in (q, k))
    return _Job(
        q.device,
        q.dtype,
        (prod(lead[:-1]), lead[-1] if lead else 1, n, m),
        (q.shape[-1], v.shape[-1]),
        (*_part(q, lead), *_part(k, lead), *_part(v, lead),
         *_masked(q.device, mask, (*lead, n, m))),
        CAUSAL * causal | MASKED * (mask is not None),
        scale,
    )  # fmt: skip


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
    sums = empty(q.device, (*lead, n), q.dtype) if saving else None
    if prod(out.shape):
        _job(q, k, v, mask, causal, scale, lead).run(_part(out, lead), sums)
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
    # Where there are no numbers in queries and keys, there is one in what stands for them.
    sizes = (job.sizes[0], job.sizes[0], job.sizes[1])
    grads = [
        empty(g.device, (*lead, x.shape[-2], size), g.dtype)
        for x, size in zip((q, k, v), sizes, strict=True)
    ]
    job.run_back(_part(g, lead), _part(y, lead), sums, *[_part(x, lead) for x in grads])
    return tuple(
        [
            _summed(grad, x.shape) if x.shape[-1] else fill(x, 0)
            for grad, x in zip(grads, (q, k, v), strict=True)
        ]
    )


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


@lru_cache(maxsize=1024)
def _offsets(strides: tuple[int, ...], width: int, parts: int, heads: int) -> tuple[Any, ...]:
    """Where each of the parts starts, and its strides along batch, heads and rows."""
    of_batch, of_row, _ = strides
    steps = of_batch & _UNSIGNED, width // parts // heads, of_row & _UNSIGNED
    return tuple([(i * (width // parts), steps) for i in range(parts)])


def _heads(x: Array, parts: int, num_heads: int) -> list[Part]:
    """The parts of x (batch, length, parts · width), each as (batch, heads, length, size)."""
    if x.block is None:
        realised(x)
    if x.strides[2] != 1 and x.shape[2] != 1:
        x = contiguous(x)
    found = []
    for offset, steps in _offsets(x.strides, x.shape[2], parts, num_heads):
        part = view(x, x.shape, x.strides, x.start + offset) if offset else x
        found.append((part, *steps))
    return found


def _side_by_side(
    q: Part, k: Part, v: Part, num_heads: int, width: int, mask: Any, causal: bool, scale: float
) -> _Job:
    """The job of parts that `_heads` made; `width` is that of the queries of all heads."""
    x = q[0]
    (batch, n), m, size = x.shape[:2], k[0].shape[1], width // num_heads
    return _Job(
        x.device,
        x.dtype,
        (batch, num_heads, n, m),
        (size, size),
        (*q, *k, *v, *_masked(x.device, mask, (batch, num_heads, n, m))),
        CAUSAL * causal | MASKED * (mask is not None),
        scale,
    )


def _self_attend(
    qkv: Array, num_heads: int, mask: Any, causal: bool, scale: float, saving: bool
) -> tuple[Array, Array | None]:
    batch, length, width = qkv.shape
    y = empty(qkv.device, (batch, length, width // 3), qkv.dtype)
    sums = empty(qkv.device, (batch, num_heads, length), qkv.dtype) if saving else None
    if prod(y.shape):
        q, k, v = _heads(qkv, 3, num_heads)
        job = _side_by_side(q, k, v, num_heads, width // 3, mask, causal, scale)
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
        q, k, v = _heads(qkv, 3, num_heads)
        job = _side_by_side(q, k, v, num_heads, y.shape[2], mask, causal, scale)
        (rows,), (out,) = _heads(g, 1, num_heads), _heads(y, 1, num_heads)
        to_q, to_k, to_v = _heads(grad, 3, num_heads)
        job.run_back(rows, out, sums, to_q, to_k, to_v)
    return (grad,)


def cached_attention(q: Array, kv: Array, *, num_heads: int, scale: float) -> Array:
    y = empty(q.device, q.shape, q.dtype)
    if prod(y.shape):
        (queries,) = _heads(q, 1, num_heads)
        k, v = _heads(kv, 2, num_heads)
        job = _side_by_side(queries, k, v, num_heads, q.shape[2], None, True, scale)
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
