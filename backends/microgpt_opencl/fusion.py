"""Elementwise ops wait until somebody needs their numbers; then all that wait run as one kernel.

An array without memory is an expression: an op and its arguments, which may be expressions
themselves. `realise` turns it into numbers with one sweep over memory. On the way it also writes
those intermediate results that somebody else still holds, because gradients need them later: they
are then in no case computed twice. Each expression is computed with its own rounding, so results do
not depend on what ran together.
"""

from __future__ import annotations

from functools import lru_cache
from math import prod
from sys import getrefcount
from typing import Any, NamedTuple

import numpy as np

from microgpt_opencl import codegen
from microgpt_opencl.arrays import MOST, Array, dense_strides, empty, same_device, too_large
from microgpt_opencl.programs import Kernel

HEAVIEST = 24
"""Steps in an expression; a longer one is computed in parts."""

SHARE = 1 << 14
"""Elements that a work-item on a CPU should have to do at least, so that starting it pays."""

SMALL = 4096
"""Elements up to which an array that is not simply a row gets a kernel for any strides: building a
faster one for each way of lying in memory would take longer than it could ever save."""

AXES = 4
"""Axes of the kernels for any strides."""

_new = object.__new__
_broadcast_shapes = lru_cache(maxsize=4096)(np.broadcast_shapes)


def defer(op: str, dtype: np.dtype, *args: Any) -> Array:
    """The expression `op` of `args`, with results of `dtype`.

    They are numbers and arrays (one at least), which broadcast.
    """
    arrays = [a for a in args if type(a) is Array]
    first = arrays[0]
    shape, device, weight = first.shape, first.device, 1 + first.weight
    for a in arrays[1:]:
        if a.device is not device:
            same_device(first, a)
        if a.shape != shape:
            shape = _broadcast_shapes(shape, a.shape)
        weight += a.weight
    return deferred(op, dtype, args, shape, device, weight)


def deferred(
    op: str, dtype: np.dtype, args: tuple, shape: tuple[int, ...], device: Any, weight: int = 1
) -> Array:
    """An expression, when its shape and device are known."""
    if weight > HEAVIEST:
        for a in args:
            if type(a) is Array and a.weight > HEAVIEST // 4:
                realise(a)
        weight = 1 + sum([a.weight for a in args if type(a) is Array])
    if prod(shape) > MOST:
        raise too_large(shape)
    y = _new(Array)
    y.shape = shape
    y.dtype = dtype
    y.device = device
    y.block = None
    y.start = 0
    y.strides = ()
    y.op = op
    y.args = args
    y.weight = weight
    return y


def realised(x: Array) -> Array:
    """`x`, after computing it if that has not been done."""
    if x.block is None:
        realise(x)
    return x


def contiguous(x: Array) -> Array:
    """`x` in memory row by row: itself, or a copy."""
    if x.block is None:
        realise(x)
    if x.strides == dense_strides(x.shape):
        return x
    return copied(x)


def copied(x: Array) -> Array:
    """A copy of `x`, row by row."""
    y = deferred("identity", x.dtype, (x,), x.shape, x.device)
    realise(y, in_order=True)
    return y


# ---- computing -------------------------------------------------------------------------------


def realise(root: Array, in_order: bool = False) -> None:
    """Compute the expression `root`, and what it is made of where others hold that too.

    The result lies in memory in the order in which its inputs do, `in_order` row by row.
    """
    device = root.device
    with device.lock:
        if root.block is not None:
            return  # another thread was quicker
        work = _collect(root)
        if prod(root.shape) == 0:
            for i in work.kept:
                _settle(work.nodes[i], empty(device, root.shape, work.nodes[i].dtype), None)
            return
        _run(work, in_order)


class _Work(NamedTuple):
    nodes: list[Array]  # expressions, each after those that it needs; the root is the last
    leaves: list[Array]  # arrays to read
    numbers: list[tuple[str, Any]]  # C type and value
    steps: tuple[codegen.Step, ...]
    kept: tuple[int, ...]  # nodes whose numbers are written


def _collect(root: Array) -> _Work:
    """The expressions to compute together with `root`: all it needs of the same shape."""
    shape = root.shape
    if all(type(a) is not Array or a.block is not None for a in root.args):
        return _single(root)
    nodes: list[Array] = []
    leaves: list[Array] = []
    numbers: list[tuple[str, Any]] = []
    places: dict[int, tuple[str, int]] = {}
    uses: list[int] = []
    steps: list[codegen.Step] = []
    todo: list[tuple[Array, bool]] = [(root, False)]
    while todo:
        x, arguments_done = todo.pop()
        if id(x) in places:
            continue
        if x.block is None and x.shape != shape:
            realise(x)  # computed once, not once for each place it is broadcast to
        if x.block is not None:
            places[id(x)] = ("x", len(leaves))
            leaves.append(x)
            continue
        if not arguments_done:
            todo.append((x, True))
            todo += [(a, False) for a in reversed(x.args) if type(a) is Array]
            continue
        found: list[tuple[str, int]] = []
        for a in x.args:
            if type(a) is Array:
                place = places[id(a)]
                if place[0] == "v":
                    uses[place[1]] += 1
                found.append(place)
            else:
                found.append(("s", len(numbers)))
                numbers.append((codegen.number_type(x), a))
        places[id(x)] = ("v", len(nodes))
        nodes.append(x)
        uses.append(0)
        steps.append(codegen.Step(x.op, x.dtype.char, tuple(found)))  # pyright: ignore[reportArgumentType]
    a = x = None  # they refer to nodes as well
    # References to a node: the list's, getrefcount's own, one for each use. More are others'.
    others = [i for i in range(len(nodes) - 1) if getrefcount(nodes[i]) > uses[i] + 2]
    return _Work(nodes, leaves, numbers, tuple(steps), (*others, len(nodes) - 1))


def _single(root: Array) -> _Work:
    """The work for one op of computed arrays, which most are: the same, found with less ado."""
    leaves: list[Array] = []
    numbers: list[tuple[str, Any]] = []
    found: list[tuple[str, int]] = []
    for a in root.args:
        if type(a) is not Array:
            found.append(("s", len(numbers)))
            numbers.append((codegen.number_type(root), a))
            continue
        at = next((i for i, x in enumerate(leaves) if x is a), len(leaves))
        if at == len(leaves):
            leaves.append(a)
        found.append(("x", at))
    step = codegen.Step(root.op, root.dtype.char, tuple(found))  # pyright: ignore[reportArgumentType]
    return _Work([root], leaves, numbers, (step,), (0,))


def _settle(node: Array, at: Array, strides: tuple[int, ...] | None) -> None:
    """`node` is computed: its numbers lie where those of `at` do."""
    node.strides = at.strides if strides is None else strides
    node.start = at.start
    node.weight = 0
    node.op = None
    node.args = ()
    node.block = at.block


def _run(work: _Work, in_order: bool) -> None:
    root = work.nodes[-1]
    device = root.device
    shape = root.shape
    walk = plan(
        shape,
        tuple([x.strides if x.shape == shape else _spread(x, shape) for x in work.leaves]),
        in_order,
    )
    leaves = tuple([
        codegen.Leaf(x.dtype.char, kind)
        for x, kind in zip(work.leaves, walk.kinds, strict=True)
    ])  # fmt: skip
    types = tuple([char for char, _ in work.numbers])
    spec = codegen.Spec(
        work.steps, leaves, work.kept, types, len(walk.shape), _whole(walk, device)
    )  # fmt: skip
    kernel = device.programs.fused.get(spec)
    if kernel is None:
        kernel = device.programs.fused[spec] = _build(spec, device)
    outputs = [empty(device, shape, work.nodes[i].dtype) for i in work.kept]
    args: list[Any] = [*outputs]
    for x, strides in zip(work.leaves, walk.strides, strict=True):
        args += (x, *strides)
    args += [value for _, value in work.numbers]
    _launch(device, kernel, walk, args)
    for i, y in zip(work.kept, outputs, strict=True):
        _settle(work.nodes[i], y, walk.out)


def _launch(device: Any, kernel: Kernel, walk: Walk, args: list[Any]) -> None:
    rows, inner = prod(walk.shape[:-1]), walk.shape[-1]
    if not device.cpu:
        total = rows * inner
        local = min(256, device.max_local)
        groups = min(-(-total // local), device.units * 64)
        device.launch(kernel, (groups,), (local,), *args, *walk.shape[:-1], inner, total)
        return
    units = rows if len(walk.shape) > 1 else -(-inner // device.width)
    most = max(rows * inner // SHARE, 1)
    groups = min(units, most, device.units * 4) if device.units > 1 else 1
    share = -(-units // groups)
    groups = -(-units // share)
    device.launch(kernel, (groups,), (1,), *args, *walk.shape[:-1], inner, units, share)


def _whole(walk: Walk, device: Any) -> bool:
    """Whether rows are whole vectors, for kernels to which it makes a difference."""
    *outer, inner = walk.shape
    return not outer or (prod(walk.shape) > SMALL and inner % device.width == 0)


def _build(spec: codegen.Spec, device: Any) -> Kernel:
    label = "+".join([s.op for s in spec.steps if s.op != "identity"]) or "copy"
    source = codegen.source(spec, device.width, device.cpu)
    return device.programs.of_source(source, "fused", label)


# ---- how to walk through memory --------------------------------------------------------------


class Walk(NamedTuple):
    """The common way through the memory of all inputs and outputs.

    Axes along which everything goes on evenly have become one. `shape` is what is left, the
    innermost last; `kinds` says how each input goes along the innermost: by 1 ("u"), not at all
    ("z"), or by a stride ("s"); `strides` has the other strides, and that one.
    """

    shape: tuple[int, ...]
    kinds: tuple[str, ...]
    strides: tuple[tuple[int, ...], ...]
    out: tuple[int, ...]


@lru_cache(maxsize=4096)
def _stretched(
    shape: tuple[int, ...], strides: tuple[int, ...], wanted: tuple[int, ...]
) -> tuple[int, ...]:
    extra = len(wanted) - len(shape)
    return (0,) * extra + tuple(
        [
            0 if n == 1 and m != 1 else s
            for n, m, s in zip(shape, wanted[extra:], strides, strict=True)
        ]
    )


def _spread(x: Array, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides of `x`, broadcast to `shape`."""
    return _stretched(x.shape, x.strides, shape)


@lru_cache(maxsize=4096)
def plan(shape: tuple[int, ...], strides: tuple[tuple[int, ...], ...], in_order: bool) -> Walk:
    """The walk for inputs of these strides, all broadcast to `shape`."""
    axes = [i for i, n in enumerate(shape) if n != 1]
    out = dense_strides(shape)
    if not in_order:
        like = max(strides, key=lambda s: sum([s[i] != 0 for i in axes]), default=None)
        if like is not None and all(like[i] != 0 for i in axes):
            order = sorted(axes, key=lambda i: -abs(like[i]))
            if order != axes:
                axes = order
                found, step = [0] * len(shape), 1
                for i in reversed(order):
                    found[i] = step
                    step *= shape[i]
                out = tuple([f if n != 1 else step for f, n in zip(found, shape, strict=True)])
    every = [out, *strides]
    merged: list[list[int]] = []  # [length, stride of out, strides of inputs…]
    for i in axes:
        here = [shape[i], *[s[i] for s in every]]
        if merged and all(a == b * shape[i] for a, b in zip(merged[-1][1:], here[1:], strict=True)):
            merged[-1] = [merged[-1][0] * shape[i], *here[1:]]
        else:
            merged.append(here)
    if not merged:
        merged = [[1, *[1 for _ in every]]]
    sizes = tuple([m[0] for m in merged])
    kinds, steps = [], []
    for k in range(len(strides)):
        along = [m[2 + k] for m in merged]
        kind = {0: "z", 1: "u"}.get(along[-1], "s")
        kinds.append(kind)
        steps.append(tuple(along if kind == "s" else along[:-1]))
    walk = Walk(sizes, tuple(kinds), tuple(steps), out)
    flat = len(sizes) == 1 and "s" not in kinds
    return walk if flat or prod(sizes) > SMALL or len(sizes) > AXES else _general(walk, merged)


def _general(walk: Walk, merged: list[list[int]]) -> Walk:
    """The same walk with AXES axes, whose inputs go along the innermost by any stride."""
    missing = AXES - len(merged)
    steps = [tuple([0] * missing + [m[2 + k] for m in merged]) for k in range(len(walk.kinds))]
    shape = (1,) * missing + walk.shape
    return Walk(shape, ("s",) * len(walk.kinds), tuple(steps), walk.out)
