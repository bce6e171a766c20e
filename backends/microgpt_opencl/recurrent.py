"""Recurrent layers: on a processor many time steps in one launch, elsewhere launches per step.

The gradient of the hidden weights is a product over many steps, after these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from microgpt_opencl import linalg
from microgpt_opencl.arrays import Array, empty, view
from microgpt_opencl.device import Device
from microgpt_opencl.elementwise import astype, fill
from microgpt_opencl.fusion import contiguous, copied, realised
from microgpt_opencl.optext import C_TYPES
from microgpt_opencl.programs import Kernel
from microgpt_opencl.transfers import from_numpy

ROWS_EACH = 48
"""Rows of the batch that a work-item of a processor owns at most: with 128 units of float32, what
one step needs of them stays in the second-level cache, and the weights are still read rarely."""

TOGETHER = 2**20
"""Bytes of gradients of gates that a processor computes before it uses them, while they are still
in cache; with ids no more of them is kept."""

INT = np.dtype(np.int32)


@lru_cache(maxsize=256)
def _kernel(device: Device, name: str, char: str) -> Kernel:
    real, width = C_TYPES[char], 1
    files = "lanes.cl", "recurrent.cl"
    defines: dict[str, Any] = {"REAL": real}
    if device.cpu:
        files += ("recurrent_cpu.cl",)
        width = max(device.width * 4 // np.dtype(char).itemsize, 2)
        # AVX-512 has 32 registers for vectors, narrower ones mostly 16.
        defines["ROWS"] = 6 if device.width == 16 else 2
    return device.kernel(files, name, **defines, WIDTH=width)


class _Layer(NamedTuple):
    """What all kernels of a layer want to know."""

    device: Device
    char: str
    steps: int
    n: int
    size: int
    reverse: bool
    lengths: Any
    """On the device; None where all rows have all steps."""

    @property
    def width(self) -> int:
        return max(self.device.width * 4 // np.dtype(self.char).itemsize, 2)

    @property
    def parts(self) -> tuple[int, int]:
        """Work-items of a processor, and rows of each."""
        wanted = max(min(self.device.units, -(-self.n // 2)), -(-self.n // ROWS_EACH))
        each = -(-self.n // wanted)
        return -(-self.n // each), each

    @property
    def together(self) -> int:
        """Steps of an LSTM whose gradients are computed by one launch."""
        step = 4 * self.n * self.size * np.dtype(self.char).itemsize
        return min(max(TOGETHER // step, 1), self.steps)

    def order(self) -> Iterator[int]:
        steps = range(self.steps)
        return reversed(steps) if self.reverse else iter(steps)

    def backwards(self) -> Iterator[tuple[int, int | None]]:
        """Each step, the last one first, and the step before it."""
        order = list(self.order())
        return zip(reversed(order), [*order[-2::-1], None], strict=True)

    def run(self, name: str, *args: Any) -> None:
        """Launch a kernel of a processor."""
        groups, each = self.parts
        kernel = _kernel(self.device, name, self.char)
        self.device.launch(kernel, (groups,), (1,), *args, each)

    def run_step(self, name: str, *args: Any) -> None:
        """Launch a kernel of a graphics card, one work-item per state."""
        kernel = _kernel(self.device, name, self.char)
        self.device.launch(kernel, (self.size, self.n), (1, 1), *args)

    def uneven(self, other: Array) -> tuple[Array, int]:
        """The lengths as arguments of a kernel, or `other` in their place."""
        return (other, 0) if self.lengths is None else (self.lengths, 1)

    def packed(self, weight: Array, gates: int, forward: bool) -> Array:
        """The hidden weights in the order in which a processor reads them."""
        size, width = self.size, self.width
        together = forward and gates == 4
        depth = size if forward else gates * size
        step = width if together else 4 * width
        blocks = -(-size // step)
        out = empty(self.device, (blocks, depth, 4 * width), weight.dtype)
        strides = reversed(weight.strides) if forward else weight.strides
        kernel = _kernel(self.device, "pack", self.char)
        self.device.launch(
            kernel, (blocks,), (1,), weight, *strides, out, depth, step,
            size if together else width, size,
        )  # fmt: skip
        return out


def _layer(rows: tuple[int, ...], weight: Array, lengths: Any, reverse: bool) -> _Layer:
    device = weight.device
    if lengths is not None:
        lengths = from_numpy(device, np.asarray(lengths, INT))
    steps, n = rows
    return _Layer(device, weight.dtype.char, steps, n, weight.shape[1], reverse, lengths)


def _at(x: Array, step: int) -> Array:
    """One step of `x`, whose first axis is time."""
    return view(x, x.shape[1:], x.strides[1:], x.start + step * x.strides[0])


def _even(x: Array) -> Array:
    """`x` with its last axis dense; the others may have any strides."""
    x = realised(x)
    return x if x.strides[-1] == 1 else contiguous(x)


def _as_int(ids: Array) -> Array:
    return contiguous(ids if ids.dtype is INT else astype(ids, dtype=INT))


def _add_to_weight(
    to_weight: Array, to_gates: Array, states: Array, first: Array, low: int, layer: _Layer
) -> None:
    """Add the gradients of the gates, of the steps from `low` on, times the states before these."""
    count, n = to_gates.shape[:2]

    def add(gates: Array, before: Array) -> None:
        flipped = view(gates, gates.shape[::-1], gates.strides[::-1], gates.start)
        linalg.product(flipped, before, out=to_weight, adding=True)

    def rows(x: Array, start: int, stop: int) -> Array:
        size = x.shape[2]
        return view(x, ((stop - start) * n, size), (size, 1), x.start + start * n * size)

    start, stop = 0, count
    if layer.reverse and low + count == layer.steps:
        stop -= 1
        add(_at(to_gates, stop), first)
    elif not layer.reverse and low == 0:
        start = 1
        add(_at(to_gates, 0), first)
    if start < stop:
        shift = low + (1 if layer.reverse else -1)
        add(rows(to_gates, start, stop), rows(states, start + shift, stop + shift))


def _zeros(like: Array, shape: tuple[int, ...]) -> Array:
    return contiguous(fill(like, 0, shape))


# ---- long short-term memory --------------------------------------------------------------------


def _lstm(
    gates_x: Array, weight_hh: Array, h0: Array, c0: Array, ids: Any, lengths: Any,
    reverse: bool, keep: bool,
) -> tuple[Array, Array, Array, Array]:  # fmt: skip
    """The output; with `keep` also the gates (t, n, 4h), c and tanh(c) (t, n, h) of all steps, but
    for the last c, which is in the output."""
    rows = (gates_x if ids is None else ids).shape[:2]
    x, weight = _even(gates_x), realised(weight_hh)
    h0, c0 = contiguous(h0), contiguous(c0)
    ids = None if ids is None else _as_int(ids)
    layer = _layer(rows, weight, lengths, reverse)
    device, steps, n, size = layer.device, layer.steps, layer.n, layer.size
    y = empty(device, (steps + 1, n, size), x.dtype)
    if keep or not device.cpu:
        gates = empty(device, (steps if keep else 1, n, 4 * size), x.dtype)
    else:
        gates = y
    cs, tanh_c = (empty(device, (steps, n, size), x.dtype) for _ in "12") if keep else (y, y)
    if not y.size:
        return y, gates, cs, tanh_c
    by_id = (y, 0) if ids is None else (ids, 1)
    x_step, x_row = (x.strides[0], x.strides[1]) if ids is None else (0, x.strides[0])
    with device.lock:
        if device.cpu:
            packed = layer.packed(weight, 4, True)
            layer.run(
                "lstm_forward", x, x_step, x_row, *by_id, packed, h0, c0,
                *layer.uneven(y), y, gates, cs, tanh_c, int(keep), steps, n, size, int(reverse),
            )  # fmt: skip
            return y, gates, cs, tanh_c
        h, c, last, final = h0, c0, _at(y, steps), 0 if reverse else steps - 1
        flipped = view(weight, weight.shape[::-1], weight.strides[::-1], weight.start)
        for step in layer.order():
            new_h, sums = _at(y, step), _at(gates, step if keep else 0)
            new_c = _at(cs, step) if keep and step != final else last
            linalg.product(h, flipped, out=sums)
            layer.run_step(
                "lstm_cell", _at(x, step) if ids is None else x, x_row, _at(by_id[0], step),
                by_id[1], h, c,
                *layer.uneven(y), new_h, new_c, sums, _at(tanh_c, step), step, int(keep),
            )  # fmt: skip
            h, c = new_h, new_c
    return y, gates, cs, tanh_c


def lstm_layer(
    gates_x: Array, weight_hh: Array, h0: Array, c0: Array, ids: Any, *, lengths: Any,
    reverse: bool,
) -> Array:  # fmt: skip
    return _lstm(gates_x, weight_hh, h0, c0, ids, lengths, reverse, keep=False)[0]


def lstm_layer_saving(
    gates_x: Array, weight_hh: Array, h0: Array, c0: Array, ids: Any, *, lengths: Any,
    reverse: bool,
) -> tuple[Array, tuple[Array, ...]]:  # fmt: skip
    saved = _lstm(gates_x, weight_hh, h0, c0, ids, lengths, reverse, keep=True)
    return saved[0], saved


def lstm_layer_vjp(
    g: Array, saved: Any, gates_x: Array, weight_hh: Array, h0: Array, c0: Array, ids: Any, *,
    needs: Any, lengths: Any, reverse: bool,
) -> tuple[Any, Any, Any, Any, None]:  # fmt: skip
    if not isinstance(saved, tuple):  # the output of a forward kernel that another plugin replaced
        saved = _lstm(gates_x, weight_hh, h0, c0, ids, lengths, reverse, keep=True)
    y, gates, cs, tanh_c = saved
    if not y.size:
        return fill(gates_x, 0), fill(weight_hh, 0), fill(h0, 0), fill(c0, 0), None
    weight, h0, c0, g = realised(weight_hh), contiguous(h0), contiguous(c0), contiguous(g)
    layer = _layer(gates.shape[:2], weight, lengths, reverse)
    device, steps, n, size = layer.device, layer.steps, layer.n, layer.size
    many = layer.together if device.cpu else steps
    kept = empty(device, (steps if ids is None else many, *gates.shape[1:]), gates.dtype)
    to_table = None if ids is None or not needs[0] else _zeros(y, gates_x.shape)
    to_weight = _zeros(y, weight.shape) if needs[1] else None
    index = None if ids is None else _as_int(ids)
    with device.lock:
        to_h, to_c = _zeros(y, (n, size)), copied(_at(g, steps))
        packed = layer.packed(weight, 4, False) if device.cpu else y
        for end in range(steps, 0, -many):
            start = max(end - many, 0)
            low = steps - end if reverse else start
            to_gates = _some(kept, low if ids is None else 0, end - start)
            if device.cpu:
                layer.run(
                    "lstm_backward", g, gates, cs, tanh_c, c0, packed, *layer.uneven(y), to_gates,
                    to_h, to_c, end, start, low, steps, n, size, int(reverse),
                )  # fmt: skip
            else:
                for step, before in layer.backwards():
                    layer.run_step(
                        "lstm_cell_gradient", _at(g, step), _at(gates, step), _at(tanh_c, step),
                        c0 if before is None else _at(cs, before), *layer.uneven(y),
                        _at(to_gates, step), to_h, to_c, step,
                    )  # fmt: skip
                    linalg.product(_at(to_gates, step), weight, out=to_h, adding=True)
            if to_weight is not None:
                _add_to_weight(to_weight, to_gates, y, h0, low, layer)
            if to_table is not None and index is not None:
                _add_to_table(to_table, to_gates, _some(index, low, end - start))
    return kept if ids is None else to_table, to_weight, to_h, to_c, None


def _some(x: Array, start: int, count: int) -> Array:
    """`count` steps of `x`, whose first axis is time."""
    return view(x, (count, *x.shape[1:]), x.strides, x.start + start * x.strides[0])


def _add_to_table(table: Array, rows: Array, ids: Array) -> None:
    """Add each row to the one of the table that its id names."""
    device, width = rows.device, table.shape[1]
    lanes = max(device.width * 4 // rows.dtype.itemsize, 2) if device.cpu else 1
    vectors = -(-width // lanes)
    each = -(-vectors // device.units) if device.cpu else 1
    kernel = _kernel(device, "add_rows", rows.dtype.char)
    device.launch(kernel, (-(-vectors // each),), (1,), rows, ids, table, ids.size, width, each)


# ---- simple recurrence -------------------------------------------------------------------------


def rnn_layer(
    gates_x: Array, weight_hh: Array, h0: Array, *, lengths: Any, reverse: bool, nonlinearity: str
) -> Array:
    x, weight, h = _even(gates_x), realised(weight_hh), contiguous(h0)
    layer = _layer(x.shape[:2], weight, lengths, reverse)
    device, relu = layer.device, int(nonlinearity == "relu")
    y = empty(device, x.shape, x.dtype)
    if not y.size:
        return y
    with device.lock:
        if device.cpu:
            layer.run(
                "rnn_forward", x, x.strides[0], x.strides[1], layer.packed(weight, 1, True), h,
                *layer.uneven(y), y, layer.steps, layer.n, layer.size, int(reverse), relu,
            )  # fmt: skip
            return y
        flipped = view(weight, weight.shape[::-1], weight.strides[::-1], weight.start)
        for step in layer.order():
            new = _at(y, step)
            linalg.product(h, flipped, out=new)
            layer.run_step(
                "rnn_cell", _at(x, step), x.strides[1], h, *layer.uneven(y), new, step, relu
            )
            h = new
    return y


def rnn_layer_vjp(
    g: Array, y: Array, gates_x: Array, weight_hh: Array, h0: Array, *, needs: Any, lengths: Any,
    reverse: bool, nonlinearity: str,
) -> tuple[Any, Any, Any]:  # fmt: skip
    if not y.size:
        return fill(gates_x, 0), fill(weight_hh, 0), fill(h0, 0)
    g, y = contiguous(g), contiguous(y)
    weight, h0 = realised(weight_hh), contiguous(h0)
    layer = _layer(y.shape[:2], weight, lengths, reverse)
    device, relu = layer.device, int(nonlinearity == "relu")
    to_gates = empty(device, y.shape, y.dtype)
    with device.lock:
        to_h = _zeros(y, h0.shape)
        if device.cpu:
            layer.run(
                "rnn_backward", g, y, layer.packed(weight, 1, False), *layer.uneven(y), to_gates,
                to_h, layer.steps, layer.n, layer.size, int(reverse), relu,
            )  # fmt: skip
        else:
            for step, _ in layer.backwards():
                part = _at(to_gates, step)
                layer.run_step(
                    "rnn_cell_gradient", _at(g, step), _at(y, step), *layer.uneven(y), part, to_h,
                    step, relu,
                )  # fmt: skip
                linalg.product(part, weight, out=to_h, adding=True)
    to_weight = None
    if needs[1]:
        to_weight = _zeros(y, weight.shape)
        _add_to_weight(to_weight, to_gates, y, h0, 0, layer)
    return to_gates, to_weight, to_h


KERNELS: dict[str, Callable[..., Any]] = {
    "lstm_layer": lstm_layer,
    "lstm_layer_saving": lstm_layer_saving,
    "lstm_layer_vjp": lstm_layer_vjp,
    "rnn_layer": rnn_layer,
    "rnn_layer_vjp": rnn_layer_vjp,
}
