"""The common way through the memory of all inputs and outputs of an elementwise kernel."""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from microgpt_opencl.arrays import dense_strides

SMALL = 4096
"""Elements up to which an array that is not simply a row gets a kernel for any strides: building a
faster one for each way of lying in memory would take longer than it could ever save."""

AXES = 4
"""Axes of the kernels for any strides."""


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


def spread(
    shape: tuple[int, ...], strides: tuple[int, ...], wanted: tuple[int, ...]
) -> tuple[int, ...]:
    """The strides of an array, broadcast to the shape `wanted`."""
    extra = len(wanted) - len(shape)
    return (0,) * extra + tuple(
        [
            0 if n == 1 and m != 1 else s
            for n, m, s in zip(shape, wanted[extra:], strides, strict=True)
        ]
    )


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
