"""Elementwise ops wait until somebody needs their numbers; then all that wait run as one kernel.

An array without memory is an expression: an op and its arguments, which may be expressions
themselves. `realise` turns it into numbers with one sweep over memory. On the way it also writes
those intermediate results that somebody else still holds, because gradients need them later: they
are then in no case computed twice. Each expression is computed with its own rounding, so results do
not depend on what ran together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from math import prod
from sys import getrefcount
from typing import Any, NamedTuple

import numpy as np

from microgpt_opencl import codegen, siblings
from microgpt_opencl.arrays import (
    MOST,
    Array,
    dense_strides,
    empty,
    same_device,
    settle,
    too_large,
    writable,
)
from microgpt_opencl.programs import Kernel
from microgpt_opencl.walking import SMALL, Walk, plan, spread

HEAVIEST = 24
"""Steps in an expression; a longer one is computed in parts."""

SHARE = 1 << 14
"""Elements that a work-item on a CPU should have to do at least, so that starting it pays."""

RECIPES = 4096
"""Recipes of sweeps that are remembered."""

_new = object.__new__
_broadcast_shapes = lru_cache(maxsize=4096)(np.broadcast_shapes)


def defer(op: str, dtype: np.dtype, *args: Any) -> Array:
    """The expression `op` of `args`, with results of `dtype`.

    They are numbers and arrays (one at least), which broadcast.
    """
    first: Any = None
    shape, weight = (), 1
    for a in args:
        if type(a) is not Array:
            continue
        weight += a.weight
        if first is None:
            first, shape = a, a.shape
            continue
        if a.device is not first.device:
            same_device(first, a)
        if a.shape != shape:
            shape = _broadcast_shapes(shape, a.shape)
    return deferred(op, dtype, args, shape, first.device, weight)


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
        if root.op == siblings.OP and not in_order and siblings.computed(root):
            return
        if root.op == "fill" and root.shape == () and root.args[0] == root.args[0]:  # not NaN
            _constant(root)
            return
        work = _collect(root)
        key = (root.shape, in_order, work.steps, work.kept, work.described)
        recipes = device.programs.recipes
        recipe = recipes.get(key)
        if recipe is None:
            if len(recipes) >= RECIPES:
                recipes.clear()
            recipe = recipes[key] = _recipe(work, in_order)
        _follow(recipe, work)


def _constant(x: Array) -> None:
    """Make `x` one of the constants of its device: gradients of losses begin with a 1 each time."""
    device, value = x.device, x.args[0]
    key = ("constant", x.dtype.char, value, math.copysign(1, value))
    block = device.programs.recipes.get(key)
    if block is None and device.unified:  # no kernel is built for one number
        y = empty(device, (), x.dtype, for_host=True)
        with np.errstate(over="ignore"):
            writable(y)[...] = value
        block = device.programs.recipes[key] = y.block
    if block is None:
        work = _single(x)
        _follow(_recipe(work, True), work)
        device.programs.recipes[key] = x.block
    else:
        settle(x, block, ())


class Work(NamedTuple):
    """What is to be computed in one sweep.

    Attributes:
        nodes: expressions, each after those that it needs; the root is the last.
        leaves: arrays to read.
        described: of each leaf the type, the shape and the strides.
        numbers: numbers among the arguments.
        steps: for each node its op, type, and where its arguments are: leaf i is 3i, node i is
            3i + 1, number i is 3i + 2. (One hash of plain tuples finds everything about a sweep
            that was done before.)
        kept: the nodes whose numbers are written.
    """

    nodes: list[Array]
    leaves: list[Array]
    described: Sequence[Any]
    numbers: list[Any]
    steps: Sequence[tuple[str, str, tuple[int, ...]]]
    kept: tuple[int, ...]


def _collect(root: Array) -> Work:
    """The expressions to compute together with `root`: all it needs of the same shape."""
    for a in root.args:
        if type(a) is Array and a.block is None:
            break
    else:
        return _single(root)
    a = None  # it may refer to a node
    found = Work([], [], [], [], [], ())
    uses: list[int] = []
    nodes = found.nodes
    if _visit(root, root.shape, found, {}, uses) and any(x.block is not None for x in nodes):
        nodes.clear()  # nobody holds them because of this
        return _collect(root)  # a sibling of what had to be computed first was among them
    # References to a node: the list's, getrefcount's own, one for each use. More are others'.
    others = [i for i in range(len(nodes) - 1) if getrefcount(nodes[i]) > uses[i] + 2]
    return Work(
        nodes, found.leaves, tuple(found.described), found.numbers, tuple(found.steps),
        (*others, len(nodes) - 1),
    )  # fmt: skip


def _visit(
    x: Array, shape: tuple[int, ...], work: Work, places: dict[int, int], uses: list[int]
) -> bool:
    """Put the expression `x` into the work, behind all that it needs.

    Returns whether something was computed on the way.

    Args:
        places: where arrays and expressions are, by their id; as in `Work.steps`.
        uses: of each expression, how often others in the work use it.
    """
    nodes, leaves, described, numbers, steps, _ = work
    computed = False
    for a in x.args:
        if type(a) is Array and id(a) not in places:
            if a.block is None:
                if a.shape == shape:
                    computed |= _visit(a, shape, work, places, uses)
                    continue
                realise(a)  # computed once, not once for each place it is broadcast to
                computed = True
            places[id(a)] = 3 * len(leaves)
            leaves.append(a)
            described += (a.dtype.char, a.shape, a.strides)  # pyright: ignore
    found: list[int] = []
    for a in x.args:
        if type(a) is Array:
            place = places[id(a)]
            if place % 3 == 1:
                uses[place // 3] += 1
            found.append(place)
        else:
            found.append(3 * len(numbers) + 2)
            numbers.append(a)
    places[id(x)] = 3 * len(nodes) + 1
    nodes.append(x)
    uses.append(0)
    steps.append((x.op, x.dtype.char, tuple(found)))  # pyright: ignore
    return computed


def _single(root: Array) -> Work:
    """The work for one op of computed arrays, which most are: the same, found with less ado."""
    leaves: list[Array] = []
    described: list[Any] = []
    numbers: list[Any] = []
    found: list[int] = []
    for a in root.args:
        if type(a) is not Array:
            found.append(3 * len(numbers) + 2)
            numbers.append(a)
            continue
        for i, x in enumerate(leaves):
            if x is a:
                found.append(3 * i)
                break
        else:
            found.append(3 * len(leaves))
            leaves.append(a)
            described += (a.dtype.char, a.shape, a.strides)
    step = (root.op, root.dtype.char, tuple(found))
    return Work([root], leaves, tuple(described), numbers, (step,), (0,))  # pyright: ignore[reportArgumentType]


class Recipe(NamedTuple):
    """How to launch a sweep, once that is known.

    Attributes:
        kernel: None where there is nothing to compute.
        size, local: of the launch, in work-items.
        room: bytes of each result.
        between: numbers that go behind each input.
        last: numbers at the end.
        strides: of the results.
    """

    kernel: Kernel | None
    size: tuple[int, ...]
    local: tuple[int, ...]
    room: tuple[int, ...]
    between: tuple[tuple[int, ...], ...]
    last: tuple[int, ...]
    strides: tuple[int, ...]


def _follow(recipe: Recipe, work: Work) -> None:
    """Launch, and let the nodes that are kept be what the results are."""
    device = work.nodes[-1].device
    take = device.pool.take
    blocks = [take(room) for room in recipe.room]
    if recipe.kernel is not None:
        args: list[Any] = []
        for block in blocks:
            args += (block.buffer, 0)
        for x, between in zip(work.leaves, recipe.between, strict=True):
            args += (x.block.buffer, x.start, *between)  # pyright: ignore[reportOptionalMemberAccess]
        args += work.numbers
        args += recipe.last
        device.submit(recipe.kernel, recipe.size, recipe.local, args)
    for i, block in zip(work.kept, blocks, strict=True):
        settle(work.nodes[i], block, recipe.strides)


def _recipe(work: Work, in_order: bool) -> Recipe:
    """The recipe for this work and all that is like it."""
    root = work.nodes[-1]
    device, shape = root.device, root.shape
    room = tuple([prod(shape) * work.nodes[i].dtype.itemsize for i in work.kept])
    if not prod(shape):
        return Recipe(None, (), (), room, (), (), dense_strides(shape))
    walk = plan(shape, tuple([spread(x.shape, x.strides, shape) for x in work.leaves]), in_order)
    steps = tuple([
        codegen.Step(op, char, tuple([("xvs"[place % 3], place // 3) for place in places]))
        for op, char, places in work.steps
    ])  # fmt: skip
    leaves = tuple([
        codegen.Leaf(x.dtype.char, kind) for x, kind in zip(work.leaves, walk.kinds, strict=True)
    ])  # fmt: skip
    numbers = tuple([
        codegen.number_type(node) for node in work.nodes for a in node.args if type(a) is not Array
    ])  # fmt: skip
    spec = codegen.Spec(steps, leaves, work.kept, numbers, len(walk.shape), _whole(walk, device))
    kernel = device.programs.fused.get(spec)
    if kernel is None:
        kernel = device.programs.fused[spec] = _build(spec, device)
    size, local, last = _shared_out(device, walk)
    return Recipe(kernel, size, local, room, walk.strides, (*walk.shape[:-1], *last), walk.out)


def _shared_out(
    device: Any, walk: Walk
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Global size, local size, and the last numbers that tell each work-item its share."""
    rows, inner = prod(walk.shape[:-1]), walk.shape[-1]
    if not device.cpu:
        total = rows * inner
        local = min(256, device.max_local)
        groups = min(-(-total // local), device.units * 64)
        return (groups * local,), (local,), (inner, total)
    units = rows if len(walk.shape) > 1 else -(-inner // device.width)
    most = max(rows * inner // SHARE, 1)
    groups = min(units, most, device.units * 4) if device.units > 1 else 1
    share = -(-units // groups)
    return (-(-units // share),), (1,), (inner, units, share)


def _whole(walk: Walk, device: Any) -> bool:
    """Whether rows are whole vectors, for kernels to which it makes a difference."""
    *outer, inner = walk.shape
    return not outer or (prod(walk.shape) > SMALL and inner % device.width == 0)


def _build(spec: codegen.Spec, device: Any) -> Kernel:
    label = "+".join([s.op for s in spec.steps if s.op != "identity"]) or "copy"
    source = codegen.source(spec, device.width, device.cpu)
    return device.programs.of_source(source, "fused", label)
