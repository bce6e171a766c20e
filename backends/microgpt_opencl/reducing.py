"""How reductions walk through memory: which axes become one, and what is launched after what."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import NamedTuple

from microgpt_opencl.arrays import dense_strides

SHARE = 1 << 15
"""Elements that a work-group on a CPU should have to do at least, so that starting it pays."""


class Strided(NamedTuple):
    """An axis: whether it is reduced, its length, and the step to the next element."""

    reduced: bool
    n: int
    stride: int


class Form(NamedTuple):
    """A reduction without what does not matter for it.

    Attributes:
        axes: the axes that are left, larger steps first; all reduced ones go forward.
        rest: the kept ones among them, as few as possible; `lengths` and `steps` are those of the
            last two and three of `rest`.
        shift: where the first element is now.
        count: elements that go into one result.
        repeat: how often each of them counts, because axes that repeat were dropped.
        shape, strides: of the result, if results lie one after the other in the order of `axes`;
            `kept_shape`, `kept_strides` are the same with keepdims.
    """

    axes: tuple[Strided, ...]
    rest: tuple[Strided, ...]
    lengths: tuple[int, int]
    steps: tuple[int, int, int]
    shift: int
    count: int
    repeat: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    kept_shape: tuple[int, ...]
    kept_strides: tuple[int, ...]


@lru_cache(maxsize=4096)
def form(shape: tuple[int, ...], strides: tuple[int, ...], axis: tuple[int, ...]) -> Form:
    """The form of a reduction over the axes `axis`."""
    order = sorted(
        [i for i, (n, s) in enumerate(zip(shape, strides, strict=True)) if n != 1 and s],
        key=lambda i: -abs(strides[i]),
    )
    axes, shift = [], 0
    for i in order:
        n, s = shape[i], strides[i]
        if i in axis and s < 0:
            shift += (n - 1) * s
            s = -s
        axes.append(Strided(i in axis, n, s))
    repeat = prod([shape[i] for i in axis if strides[i] == 0])
    kept_shape = tuple([1 if i in axis else n for i, n in enumerate(shape)])
    out, step = [0] * len(shape), 1
    for i in reversed(order):
        if i not in axis:
            out[i] = step
            step *= shape[i]
    dense = dense_strides(kept_shape)
    if all(o == d for o, d, n in zip(out, dense, kept_shape, strict=True) if n != 1):
        out = list(dense)
    left = [i for i in range(len(shape)) if i not in axis]
    rest = merged([a for a in axes if not a.reduced])
    return Form(
        merged(axes, kinds=True), rest, *three(rest[-3:]), shift,
        prod([a.n for a in axes if a.reduced]), repeat,
        tuple([shape[i] for i in left]), tuple([out[i] for i in left]), kept_shape, tuple(out),
    )  # fmt: skip


def alone(how: Form) -> Form:
    """`how` with something to reduce, even if that is single elements."""
    if how.count > 1:
        return how
    return how._replace(axes=(*how.axes, Strided(True, 1, 1)))


def merged(axes: list[Strided], kinds: bool = False) -> tuple[Strided, ...]:
    """The same walk with as few axes as possible; with `kinds`, reduced ones stay apart."""
    found: list[Strided] = []
    for a in axes:
        if (
            found
            and found[-1].stride == a.n * a.stride
            and (not kinds or found[-1].reduced == a.reduced)
        ):
            found[-1] = Strided(a.reduced, found[-1].n * a.n, a.stride)
        else:
            found.append(a)
    return tuple(found)


def three(axes: tuple[Strided, ...]) -> tuple[tuple[int, int], tuple[int, int, int]]:
    """Lengths of the last two of three axes, and the steps of all; axes that lack are of one."""
    a, b, c = (*[Strided(False, 1, 0)] * (3 - len(axes)), *axes)
    return (b.n, c.n), (a.stride, b.stride, c.stride)


# ---- launches --------------------------------------------------------------------------------


class Stage(NamedTuple):
    """One launch: its kernel, work-groups, arguments in the middle, and how many results."""

    kernel: str
    groups: tuple[int]
    args: tuple[int, ...]
    size: int


@lru_cache(maxsize=4096)
def stages(
    axes: tuple[Strided, ...], centred: bool, cpu: bool, units: int
) -> tuple[Stage, ...] | None:
    """The launches for a reduction of the form `axes`; None if it has to be copied first.

    Each launch reduces one axis, or cuts it into parts and reduces those; the longest comes first.
    `centred` ones take a number per result, so all must be done in one go.
    """
    if centred and sum([a.reduced for a in axes]) > 1:
        return None
    found = []
    while any(a.reduced for a in axes):
        if axes[-1].stride != 1:
            return None
        if cpu and not centred:
            axes = _folded(axes)
        j = max([j for j, a in enumerate(axes) if a.reduced], key=lambda j: axes[j].n)
        after = merged(list(axes[j + 1 :]))
        outer = merged([*axes[:j], *after[:-1]])
        if len(outer) > 3:
            return None
        part = _part(axes[j].n, bool(after), cpu)
        parts = -(-axes[j].n // part)
        inner = after[-1].n if after else 1
        found.append(_stage(outer, axes[j], part, parts, inner, bool(after), cpu, units))
        left = [*axes[:j], *([Strided(True, parts, 0)] if parts > 1 else []), *axes[j + 1 :]]
        steps = dense_strides(tuple([a.n for a in left]))
        axes = merged(
            [Strided(a.reduced, a.n, s) for a, s in zip(left, steps, strict=True)], kinds=True
        )
        centred = False
    return tuple(found)


def _folded(axes: tuple[Strided, ...]) -> tuple[Strided, ...]:
    """A long reduced axis before a short one that fills no vector: columns are taken several times
    side by side, as if the matrix were less high and wider."""
    if len(axes) < 2:
        return axes
    a, b = axes[-2:]
    times = 1
    while a.reduced and not b.reduced and a.n % (2 * times) == 0 and b.n * times < 64:
        times *= 2
    if times == 1 or a.n * b.n < 4096 or a.stride != b.n:
        return axes
    return (*axes[:-2], Strided(True, a.n // times, a.stride * times),
            Strided(True, times, a.stride), b)  # fmt: skip


def _part(n: int, columns: bool, cpu: bool) -> int:
    """The length of the parts of an axis; whoever has more than one unit may share them out."""
    if cpu:
        longest, part = (1024, 512) if columns else (1 << 17, 1 << 16)
    else:
        longest, part = (128, 64) if columns else (16384, 8192)
    return n if n <= longest else part


def _stage(
    outer: tuple[Strided, ...], axis: Strided, part: int, parts: int, inner: int, columns: bool,
    cpu: bool, units: int,
) -> Stage:  # fmt: skip
    lengths, steps = three(outer)
    results = prod([a.n for a in outer]) * parts
    start = (*lengths, *steps, axis.n)
    if not cpu:
        if columns or part <= 32:
            total = results * inner
            args = (*start, axis.stride, part, parts, inner, int(columns), total)
            return Stage("columns_gpu", (-(-total // 128),), args, total)
        return Stage("rows_gpu", (results,), (*start, part, parts), results)
    most = max(results * part * inner // SHARE, 1)
    wanted = min(most, units * 4) if units > 1 else 1
    if not columns:
        share = -(-results // min(results, wanted))
        args = (*start, part, parts, results, share)
        return Stage("rows", (-(-results // share),), args, results)
    # Tiles of whole vectors, so that work can be shared even where there is one matrix.
    tile = min(-(-inner // (64 * -(-wanted // results))) * 64, 4096)
    tiles = -(-inner // tile)
    total = results * tiles
    share = -(-total // min(total, wanted))
    args = (*start, axis.stride, part, parts, inner, tile, tiles, total, share)
    return Stage("columns", (-(-total // share),), args, results * inner)
