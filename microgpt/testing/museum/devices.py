"""Mistakes of devices: memory pools, work-groups, threads. Simulated with NumPy kernels."""

from __future__ import annotations

from typing import Any

import numpy as np

import microgpt as mg
from microgpt.testing.museum import demos
from microgpt.testing.museum.base import Bug, Check, gradcheck, oracle
from microgpt.testing.museum.planting import kernels


def _from_pool(right: Any) -> Any:
    pool: dict[Any, list[Any]] = {}

    def multiply(a: Any, b: Any) -> Any:
        y = right(a, b)
        if not isinstance(y, np.ndarray):
            return y
        room = max(64, 1 << (y.size - 1).bit_length())  # one kind of buffer per power of two
        buffers = pool.setdefault((room, y.dtype), [])
        if len(buffers) < 2:
            buffers.append(np.empty(room, y.dtype))
        else:
            buffers.append(buffers.pop(0))  # the older one is surely done with
        out = buffers[-1][: y.size].reshape(y.shape)
        out[...] = y
        return out

    return multiply


def _past_the_end(right: Any) -> Any:
    def sigmoid(x: Any) -> Any:
        y = right(x)
        extra = -x.size % 64
        if x.size > 64 and extra:  # groups of 64; the last one goes past the end, modulo the size
            y = np.array(y)
            y.reshape(-1)[:extra] = right(np.zeros(1, x.dtype))
        return y

    return sigmoid


def _racing(right: Any) -> Any:
    calls = iter(range(1, 1 << 60))

    def index_add(x: Any, indices: Any, *, axis: int, size: int) -> Any:
        where = np.asarray(indices).reshape(-1)
        first = np.random.default_rng(next(calls)).permutation(where.size)
        before = x.shape[:axis]
        rows = np.moveaxis(x.reshape(*before, where.size, *x.shape[axis + np.ndim(indices) :]),
                           axis, 0)  # fmt: skip
        y = np.zeros((size, *rows.shape[1:]), x.dtype)
        # Pairs of threads read the same old value; the one that writes last wins.
        for k in range(0, where.size, 2):
            pair = first[k : k + 2]
            old = y[where[pair]]
            for i, value in zip(pair, old, strict=True):
                y[where[i]] = value + rows[i]
        return np.moveaxis(y, 0, axis)

    return index_add


def _four_products() -> Any:
    x = mg.tensor([1.0, 2.0])
    products = [x * float(k) for k in range(1, 5)]
    return [products[0], products[1]]


def _wrong_values() -> Any:
    y = mg.sigmoid(mg.full((100,), 3.0)).numpy()
    return f"{int((y < 0.9).sum())} of 100 are wrong"


def _votes() -> Any:
    table = mg.zeros((2, 1), requires_grad=True)
    counts = []
    for _ in range(3):
        table.grad = None
        mg.embedding(mg.tensor([0] * 10 + [1] * 6), table).sum().backward()
        counts.append(table.grad.reshape(-1).tolist())  # pyright: ignore
    return [str(c) for c in counts]


BUGS = (
    Bug(
        57,
        "a pool hands a buffer out while it is in use",
        wrong="take the oldest buffer of this size",
        right="take one that nobody refers to",
        story=(
            "Asking the device for memory is slow, so backends keep buffers and use them again. "
            "This pool has two of each size and assumes that a result is done with after two more. "
            "In a chain of ops that is true. A value that the backward pass needs, or a skip "
            "connection, waits longer, and finds something else in its place."
        ),
        blind=(
            "Single calls are right. Needed are results that are kept while others of the same "
            "size are computed: `no_hidden_state` holds one, calls the op for other inputs, and "
            "looks at it again."
        ),
        plant=kernels(multiply=_from_pool),
        killers=(Check("no_hidden_state", "multiply"),),
        missed_by=(gradcheck("multiply"), Check("fresh_result", "multiply")),
        show=demos.value("x·1 and x·2 for x = (1, 2), after x·3 and x·4", _four_products),
    ),
    Bug(
        58,
        "the last work-group runs past the end",
        wrong="y[i % n] = sigmoid(x[i])   (i up to the next multiple of 64)",
        right="if i < n: y[i] = sigmoid(x[i])",
        story=(
            "Devices start threads in groups of 64, so their number is rounded up, and the "
            "threads beyond the end have to do nothing. Here somebody made the index harmless "
            "with a modulo: no crash, but the surplus threads write over the first results, with "
            "what they read beyond the end of the input, zeros as a rule. Multiples of 64, and "
            "arrays that fit into one group, are right."
        ),
        blind=(
            "Small shapes and powers of two, that is nearly all shapes in tests and most in "
            "models. `long_sizes` goes to 65 and 257."
        ),
        plant=kernels(sigmoid=_past_the_end),
        killers=(Check("long_sizes", "sigmoid", examples=200),),
        missed_by=(gradcheck("sigmoid"), oracle("sigmoid")),
        show=demos.value("sigmoid of a hundred times the number 3", _wrong_values),
    ),
    Bug(
        59,
        "two threads add to the same place",
        wrong="old = grad[i]; grad[i] = old + g",
        right="an atomic addition, or one thread per row",
        story=(
            "Putting the gradients of picked rows back is done in parallel, one thread per pick. "
            "Two picks of one row: both threads read the old value, both add theirs, and the one "
            "that writes last wins. Which one that is differs from run to run. Here the race is "
            "simulated, with pairs of threads in an order that changes from call to call."
        ),
        blind=(
            "With distinct indices nothing happens. gradcheck goes back twice and calls twice, "
            "and wants the same bits: NONDET; if both are wrong alike, VALUE."
        ),
        plant=kernels(index_add=_racing),
        killers=(gradcheck("take", "NONDET", "VALUE"),),
        missed_by=(oracle("take"),),
        show=demos.value("ten picks of row 0 and six of row 1, counted three times", _votes),
    ),
)  # fmt: skip
