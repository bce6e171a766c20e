"""Kernels for recurrent layers: one matrix product per time step, the gates computed in place.

A step works on blocks that stay in cache. The gates lie in memory one after the other, (4, n, h) in
the order i, f, o, g, so that the three sigmoids are one contiguous block; their weights are negated
beforehand, because e⁻ˣ is what a sigmoid needs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import accumulate
from typing import Any

import numpy as np

from microgpt_numpy.indexing import index_add


def _ended(lengths: Any, steps: int) -> list[Any]:
    """For each step the rows whose sequence has ended before it; None where none has."""
    if lengths is None:
        return [None] * steps
    over = np.arange(steps)[:, None] >= lengths
    return [rows if rows.any() else None for rows in over]


def _order(steps: int, reverse: bool) -> range:
    return range(steps - 1, -1, -1) if reverse else range(steps)


# ---- long short-term memory --------------------------------------------------------------------


def _blocks(dtype: Any, *shapes: tuple[int, ...]) -> list[Any]:
    """Arrays in one piece of memory. Many middle-sized pieces, let go of and asked for in every
    training step, go back to the operating system each time, and cost more than the computation.
    """
    sizes = [math.prod(shape) for shape in shapes]
    whole, ends = np.empty(sum(sizes), dtype), list(accumulate(sizes))
    return [
        whole[end - size : end].reshape(shape)
        for size, end, shape in zip(sizes, ends, shapes, strict=True)
    ]


def _by_gate(blocks: Any) -> Any:
    """Blocks of the gates i, f, g, o in the order i, f, o, g, the first three negated."""
    ordered = np.array(blocks[[0, 1, 3, 2]], order="C")
    np.negative(ordered[:3], out=ordered[:3])
    return ordered


def _lstm(
    gates_x: Any,
    weight_hh: Any,
    h0: Any,
    c0: Any,
    ids: Any,
    lengths: Any,
    reverse: bool,
    keep: bool,
) -> tuple[Any, Any, Any, Any]:
    """The output; with `keep` also the gates (t, 4, n, h), c and tanh(c) (t, n, h) of all steps."""
    steps, n = (gates_x if ids is None else ids).shape[:2]
    size, dtype = weight_hh.shape[1], gates_x.dtype
    one = dtype.type(1)
    weight = _by_gate(weight_hh.reshape(4, size, size).transpose(0, 2, 1))
    if ids is None:
        parts = gates_x.reshape(steps, n, 4, size).transpose(0, 2, 1, 3)
        table: Any = None
        picked: Any = None
    else:
        table = _by_gate(gates_x.reshape(-1, 4, size).transpose(1, 0, 2))
        parts, picked = ids, np.empty((4, n, size), dtype)
    kept = steps if keep else 2  # the memory before is needed while the next one is written
    gates, cs, tanh_cs = _blocks(dtype, (kept, 4, n, size), (kept, n, size), (kept, n, size))
    y = np.empty((steps + 1, n, size), dtype)
    product = np.empty((n, size), dtype)
    ended = _ended(lengths, steps)
    h, c = h0, c0
    with np.errstate(over="ignore"):  # where e⁻ˣ is infinite, its sigmoid is the right 0
        for step in _order(steps, reverse):
            place = step if keep else step % 2
            x, four, new_h = parts[step], gates[place], y[step]
            new_c, tanh_c = cs[place], tanh_cs[place]
            np.matmul(h, weight, out=four)
            sigmoids = four[:3]
            i, f, o, g = four
            if table is None:
                np.subtract(four[:2], x[:2], out=four[:2])
                np.subtract(o, x[3], out=o)
                np.add(g, x[2], out=g)
            else:  # all ids are rows; clip spares a copy
                table.take(x, 1, picked, "clip")
                np.add(four, picked, out=four)
            np.exp(sigmoids, out=sigmoids)
            np.add(sigmoids, one, out=sigmoids)
            np.divide(one, sigmoids, out=sigmoids)
            np.tanh(g, out=g)
            np.multiply(f, c, out=new_c)
            np.multiply(i, g, out=product)
            np.add(new_c, product, out=new_c)
            np.tanh(new_c, out=tanh_c)
            np.multiply(o, tanh_c, out=new_h)
            rows = ended[step]
            if rows is not None:
                new_h[rows], new_c[rows] = h[rows], c[rows]
            h, c = new_h, new_c
    y[steps] = c
    return y, gates, cs, tanh_cs


def lstm_layer(
    gates_x: Any, weight_hh: Any, h0: Any, c0: Any, ids: Any, *, lengths: Any, reverse: bool
) -> Any:
    return _lstm(gates_x, weight_hh, h0, c0, ids, lengths, reverse, keep=False)[0]


def lstm_layer_saving(
    gates_x: Any, weight_hh: Any, h0: Any, c0: Any, ids: Any, *, lengths: Any, reverse: bool
) -> tuple[Any, tuple]:
    saved = _lstm(gates_x, weight_hh, h0, c0, ids, lengths, reverse, keep=True)
    return saved[0], saved


def lstm_layer_vjp(
    g: Any,
    saved: Any,
    gates_x: Any,
    weight_hh: Any,
    h0: Any,
    c0: Any,
    ids: Any,
    *,
    needs: Any,
    lengths: Any,
    reverse: bool,
) -> tuple[Any, Any, Any, Any, None]:
    """Backwards through the steps, some at a time: what they add to the gradients of the weights is
    summed up while it is in cache, and with `ids` nothing larger is kept.
    """
    if not isinstance(saved, tuple):  # the output of a forward kernel that another plugin replaced
        saved = _lstm(gates_x, weight_hh, h0, c0, ids, lengths, reverse, keep=True)
    y, gates, cs, tanh_cs = saved
    steps, n = gates.shape[0], gates.shape[2]
    size, dtype = weight_hh.shape[1], gates_x.dtype
    one = dtype.type(1)
    many = _together(steps, 4 * n * size * dtype.itemsize)
    to_gates = np.empty((steps if ids is None else many, n, 4 * size), dtype)
    to_weight = np.zeros(weight_hh.shape, dtype) if needs[1] else None
    to_table: Any = None if ids is None else np.zeros(gates_x.shape, dtype)
    to_h, to_c = np.zeros((n, size), dtype), np.array(g[steps])
    slopes, written, shown = _blocks(dtype, (4, n, size), (n, size), (n, size))
    shut, of_both, (of_i, of_f, of_o, of_g) = slopes[:3], slopes[:2], slopes
    ended = _ended(lengths, steps)
    order = _order(steps, reverse)
    for end in range(steps, 0, -many):
        chosen = order[max(end - many, 0) : end]
        low, high = min(chosen), max(chosen) + 1
        sums = to_gates[low:high] if ids is None else to_gates[: high - low]
        parts = sums.reshape(high - low, n, 4, size).transpose(0, 2, 1, 3)
        for step in reversed(chosen):
            i, f, o, new = gates[step]
            h, part, rows = y[step], parts[step - low], ended[step]
            np.add(to_h, g[step], out=to_h)
            kept = None if rows is None else (to_h[rows], to_c[rows])
            # h = o·tanh(c), so ∂h/∂c = o·(1 - tanh²(c)) = o - h·tanh(c).
            np.multiply(h, tanh_cs[step], out=shown)
            np.subtract(o, shown, out=shown)
            np.multiply(shown, to_h, out=shown)
            np.add(to_c, shown, out=to_c)
            # c = f·c₋ + i·g: by the sums of i and f, (1 - i)·i·g and (1 - f)·f·c₋; by that of g,
            # i·(1 - g²); and of h by that of o, (1 - o)·h.
            np.multiply(i, new, out=written)
            np.multiply(written, new, out=of_g)
            np.subtract(i, of_g, out=of_g)
            np.subtract(one, gates[step, :3], out=shut)
            np.multiply(of_i, written, out=of_i)
            before = c0 if step == order[0] else cs[step + 1 if reverse else step - 1]
            np.multiply(f, before, out=written)
            np.multiply(of_f, written, out=of_f)
            np.multiply(of_o, h, out=of_o)
            np.multiply(of_both, to_c, out=part[:2])
            np.multiply(of_g, to_c, out=part[2])
            np.multiply(of_o, to_h, out=part[3])
            np.multiply(to_c, f, out=to_c)
            if rows is not None:
                sums[step - low][rows] = 0
            np.matmul(sums[step - low], weight_hh, out=to_h)
            if kept is not None:
                to_h[rows], to_c[rows] = kept
        flat = sums.reshape(-1, 4 * size)
        if to_weight is not None:
            to_weight += flat.T @ _before(y[:steps], h0, low, high, reverse)
        if ids is not None:
            _add_rows(to_table, flat, ids[low:high].reshape(-1))
    return to_gates if ids is None else to_table, to_weight, to_h, to_c, None


def _together(steps: int, size: int) -> int:
    """How many steps, of `size` bytes each, half a megabyte holds."""
    return min(max(2**19 // max(size, 1), 1), steps)


def _before(states: Any, first: Any, low: int, high: int, reverse: bool) -> Any:
    """The states before the steps from `low` to `high`, one row below the other."""
    if reverse and high == len(states):
        found = np.concatenate([states[low + 1 :], first[None]])
    elif reverse:
        found = states[low + 1 : high + 1]
    else:
        found = (
            states[low - 1 : high - 1] if low else np.concatenate([first[None], states[: high - 1]])
        )
    return found.reshape(-1, states.shape[2])


def _add_rows(table: Any, rows: Any, ids: Any) -> None:
    """Add each row to that of the table which its id names. For few ids a product is fastest."""
    if len(table) <= 256:
        table += (np.arange(len(table))[:, None] == ids).astype(rows.dtype) @ rows
    else:
        places, which = np.unique(ids, return_inverse=True)
        table[places] += index_add(rows, which, axis=0, size=len(places))


# ---- simple recurrence -------------------------------------------------------------------------


def rnn_layer(
    gates_x: Any, weight_hh: Any, h0: Any, *, lengths: Any, reverse: bool, nonlinearity: str
) -> Any:
    steps = gates_x.shape[0]
    y = np.empty(gates_x.shape, gates_x.dtype)
    weight = weight_hh.T
    ended = _ended(lengths, steps)
    h = h0
    for step in _order(steps, reverse):
        new = y[step]
        np.matmul(h, weight, out=new)
        np.add(new, gates_x[step], out=new)
        if nonlinearity == "tanh":
            np.tanh(new, out=new)
        else:
            np.maximum(new, 0, out=new)
        rows = ended[step]
        if rows is not None:
            new[rows] = h[rows]
        h = new
    return y


def rnn_layer_vjp(
    g: Any,
    y: Any,
    gates_x: Any,
    weight_hh: Any,
    h0: Any,
    *,
    needs: Any,
    lengths: Any,
    reverse: bool,
    nonlinearity: str,
) -> tuple[Any, Any, Any]:
    """tanh' = 1 - y², relu' = (y > 0)."""
    steps = gates_x.shape[0]
    one = gates_x.dtype.type(1)
    to_gates = np.empty(gates_x.shape, gates_x.dtype)
    to_h = np.zeros(h0.shape, gates_x.dtype)
    ended = _ended(lengths, steps)
    for step in reversed(_order(steps, reverse)):
        np.add(to_h, g[step], out=to_h)
        rows = ended[step]
        kept = None if rows is None else to_h[rows]
        part = to_gates[step]
        if nonlinearity == "tanh":
            np.multiply(y[step], y[step], out=part)
            np.subtract(one, part, out=part)
            np.multiply(part, to_h, out=part)
        else:
            np.multiply(to_h, y[step] > 0, out=part)
        if rows is not None:
            part[rows] = 0
        np.matmul(part, weight_hh, out=to_h)
        if rows is not None:
            to_h[rows] = kept
    to_weight = None
    if needs[1]:
        to_weight = to_gates.reshape(-1, h0.shape[1]).T @ _before(y, h0, 0, steps, reverse)
    return to_gates, to_weight, to_h


KERNELS: dict[str, Callable[..., Any]] = {
    "lstm_layer": lstm_layer,
    "lstm_layer_saving": lstm_layer_saving,
    "lstm_layer_vjp": lstm_layer_vjp,
    "rnn_layer": rnn_layer,
    "rnn_layer_vjp": rnn_layer_vjp,
}
