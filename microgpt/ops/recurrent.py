"""Fused ops of recurrent layers: a whole layer, in one direction, over all time steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from microgpt.errors import DTypeError, InputError, ShapeError
from microgpt.graph import TensorBase
from microgpt.ops import elementwise as el
from microgpt.ops import movement as mv
from microgpt.ops.declare import face, fused
from microgpt.ops.indexing import getitem, host_array, integers, take
from microgpt.ops.linalg import matmul
from microgpt.plugins import registry


def _order(steps: int, reverse: bool) -> Iterable[int]:
    return range(steps - 1, -1, -1) if reverse else range(steps)


def _running(lengths: np.ndarray | None, step: int, x: Any) -> Any:
    """The rows (n, 1) that have not ended before `step`; None if these are all."""
    if lengths is None or step < int(lengths.min(initial=step + 1)):
        return None
    rows = (step < lengths)[:, None]
    if not isinstance(x, TensorBase):  # raw arrays do not mix with NumPy's
        return registry.backend_of(x).asarray(rows, None, None)
    return rows


@fused(arity=5, index_inputs=(4,), domain=lambda d: d.lstm())
def _lstm_layer(
    gates_x: Any,
    weight_hh: Any,
    h0: Any,
    c0: Any,
    ids: Any = None,
    lengths: np.ndarray | None = None,
    reverse: bool = False,
) -> Any:
    """cₜ = σ(f)·cₜ₋₁ + σ(i)·tanh(g), hₜ = σ(o)·tanh(cₜ), with i, f, g, o = xₜ + W·hₜ₋₁"""
    if ids is not None:
        gates_x = take(gates_x, ids, axis=0)
    steps = gates_x.shape[0]
    weight = mv.matrix_transpose(weight_hh)
    h, c = h0, c0
    hs = [h0] * steps
    for step in _order(steps, reverse):
        gates = getitem(gates_x, step) + matmul(h, weight)
        i, f, g, o = mv.split(gates, 4, axis=1)
        new_c = el.sigmoid(f) * c + el.sigmoid(i) * el.tanh(g)
        new_h = el.sigmoid(o) * el.tanh(new_c)
        running = _running(lengths, step, h)
        h = hs[step] = new_h if running is None else el.where(running, new_h, h)
        c = new_c if running is None else el.where(running, new_c, c)
    return mv.stack([*hs, c])


@face(_lstm_layer)
def lstm_layer(
    gates_x: Any,
    weight_hh: Any,
    h0: Any,
    c0: Any,
    lengths: Any = None,
    reverse: bool = False,
    ids: Any = None,
) -> Any:
    """All time steps of a layer of long short-term memory, in one direction.

    Args:
        gates_x: (t, n, 4h), what the inputs add to the gates i, f, g, o, biases included: one
            `linear` over all time steps.
        weight_hh: (4h, h), what the state before adds to them.
        h0: (n, h), the state before the first step.
        c0: (n, h), the memory before the first step.
        lengths: (n,) whole numbers: how many steps of each row are real. In the steps behind
            them the state stays as it is, and the gradient of `gates_x` is 0.
        reverse: from the last step to the first.
        ids: (t, n) whole numbers. Then `gates_x` is a table (v, 4h), and each step of a row uses
            the row of the table that its id names.

    Returns:
        (t + 1, n, h): the states h of all t steps, and after them the last memory c.

    Raises:
        ShapeError: if the shapes do not fit, a length is not from 1 to t, or an id no row.

    Source: Hochreiter and Schmidhuber, Neural Computation 9 (1997), with the forget gate of
    Gers, Schmidhuber and Cummins, Neural Computation 12 (2000).

    Example:
        >>> import microgpt as mg
        >>> y = mg.ops.lstm_layer(mg.zeros((3, 1, 8)), mg.zeros((8, 2)), *[mg.ones((1, 2))] * 2)
        >>> y.shape, y[3].tolist()  # all gates are half open
        ((4, 1, 2), [[0.125, 0.125]])
    """
    if ids is not None:
        ids = checked_ids("lstm_layer", gates_x, ids)
    states = {"h0": h0, "c0": c0}
    real = _checked("lstm_layer", 4, gates_x, weight_hh, states, lengths, ids)
    return _lstm_layer(gates_x, weight_hh, h0, c0, ids, lengths=real, reverse=bool(reverse))


def checked_ids(name: str, table: Any, ids: Any) -> Any:
    """`ids`, after a look at whether they are rows of the table."""
    index = integers(name, ids, table)
    host, count = host_array(index), table.shape[0]
    if len(table.shape) != 2 or host.ndim != 2:
        raise ShapeError(
            f"{name}: ids of shape {host.shape} for a table of shape {tuple(table.shape)}; "
            "required: (t, n) and (v, gates)"
        )
    if host.size and not 0 <= int(host.min()) <= int(host.max()) < count:
        raise ShapeError(
            f"{name}: ids from {host.min()} to {host.max()}; required: from 0 to {count - 1}, "
            "rows of the table"
        )
    return index


@fused(arity=3, domain=lambda d: d.rnn())
def _rnn_layer(
    gates_x: Any,
    weight_hh: Any,
    h0: Any,
    lengths: np.ndarray | None = None,
    reverse: bool = False,
    nonlinearity: str = "tanh",
) -> Any:
    """hₜ = tanh(xₜ + W·hₜ₋₁), or relu"""
    steps = gates_x.shape[0]
    weight = mv.matrix_transpose(weight_hh)
    squash = el.tanh if nonlinearity == "tanh" else el.relu
    h = h0
    hs = [h0] * steps
    for step in _order(steps, reverse):
        new = squash(getitem(gates_x, step) + matmul(h, weight))
        running = _running(lengths, step, h)
        h = hs[step] = new if running is None else el.where(running, new, h)
    return mv.stack(hs)


@face(_rnn_layer)
def rnn_layer(
    gates_x: Any,
    weight_hh: Any,
    h0: Any,
    lengths: Any = None,
    reverse: bool = False,
    nonlinearity: str = "tanh",
) -> Any:
    """All time steps of a simple recurrent layer, in one direction.

    Args:
        gates_x: (t, n, h), what the inputs add, biases included.
        weight_hh: (h, h).
        h0: (n, h), the state before the first step.
        lengths, reverse: as in `lstm_layer`.
        nonlinearity: 'tanh' or 'relu'.

    Returns:
        (t, n, h): the states of all steps.

    Raises:
        ShapeError: if the shapes do not fit, or a length is not from 1 to t.

    Source: Elman, Cognitive Science 14 (1990).

    Example:
        >>> import microgpt as mg
        >>> x, w = mg.ones((3, 1, 1)), mg.full((1, 1), 2.0)
        >>> mg.ops.rnn_layer(x, w, mg.zeros((1, 1)), nonlinearity="relu").flatten().tolist()
        [1.0, 3.0, 7.0]
    """
    if nonlinearity not in ("tanh", "relu"):
        raise InputError(f"rnn_layer: nonlinearity must be 'tanh' or 'relu'; got {nonlinearity!r}")
    real = _checked("rnn_layer", 1, gates_x, weight_hh, {"h0": h0}, lengths)
    return _rnn_layer(
        gates_x, weight_hh, h0, lengths=real, reverse=bool(reverse), nonlinearity=nonlinearity
    )


def _checked(
    name: str,
    gates: int,
    gates_x: Any,
    weight_hh: Any,
    states: dict[str, Any],
    lengths: Any,
    ids: Any = None,
) -> np.ndarray | None:
    """The lengths on the host, after a look at all shapes."""
    shape, weight = tuple(gates_x.shape), tuple(weight_hh.shape)
    if ids is not None:
        shape = (*ids.shape, shape[1])
    width = "h" if gates == 1 else f"{gates}h"
    if len(shape) != 3 or len(weight) != 2 or not weight[0] == shape[2] == gates * weight[1]:
        raise ShapeError(
            f"{name}: gates_x of shape {shape} and weight_hh of shape {weight}; required: "
            f"(t, n, {width}) and ({width}, h)"
        )
    if shape[0] < 1:
        raise ShapeError(f"{name}: gates_x of shape {shape} has no time steps; required: t >= 1")
    for key, state in states.items():
        if tuple(state.shape) != (shape[1], weight[1]):
            raise ShapeError(
                f"{name}: {key} of shape {tuple(state.shape)}; required: {(shape[1], weight[1])}, "
                "one row per sequence"
            )
    return None if lengths is None else checked_lengths(name, lengths, shape[0], shape[1])


def checked_lengths(name: str, lengths: Any, steps: int, rows: int) -> np.ndarray:
    """Lengths of sequences as an array of their own on the host.

    Raises:
        ShapeError: if there is not one for each row, or one is not from 1 to `steps`.
        DTypeError: if they are not whole numbers.
    """
    array = host_array(lengths) if isinstance(lengths, TensorBase) else np.asarray(lengths)
    if array.shape != (rows,):
        raise ShapeError(
            f"{name}: lengths of shape {array.shape}; required: ({rows},), one whole number per "
            "sequence"
        )
    if array.size and array.dtype.kind not in "iu":
        raise DTypeError(
            f"{name}: lengths are whole numbers; got {array.dtype} (convert with .astype('int64'))"
        )
    if array.size and not 1 <= int(array.min()) <= int(array.max()) <= steps:
        raise ShapeError(
            f"{name}: lengths from {array.min()} to {array.max()}; required: from 1 to {steps}, "
            "the number of time steps"
        )
    return np.array(array, dtype=np.int64)
