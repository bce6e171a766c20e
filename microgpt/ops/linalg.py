"""Matrix products and Einstein sums."""

from __future__ import annotations

import math
from typing import Any

from microgpt.errors import InputError, ShapeError
from microgpt.ops import elementwise as el
from microgpt.ops import movement as mv
from microgpt.ops import reduction as rd
from microgpt.ops.declare import face, primitive


def _matmul_first(g: Any, y: Any, a: Any, b: Any) -> Any:
    return _matmul(g, mv.swapaxes(b, -1, -2))


def _matmul_second(g: Any, y: Any, a: Any, b: Any) -> Any:
    if len(b.shape) == 2 and len(a.shape) > 2:
        # One product of tall matrices instead of a stack of products and a sum.
        a = mv.reshape(a, (math.prod(a.shape[:-1]), a.shape[-1]))
        g = mv.reshape(g, (math.prod(g.shape[:-1]), g.shape[-1]))
    return _matmul(mv.swapaxes(a, -1, -2), g)


_matmul = primitive(
    "matmul",
    vjp=(_matmul_first, _matmul_second),
    reads=("b", "a"),
    broadcasts=True,
    doc="matrix product of the last two dimensions; the others broadcast",
    accuracy="reduction",
    domain=lambda d: d.matrices(),
)


@face(_matmul)
def matmul(a: Any, b: Any) -> Any:
    """Matrix product, `a @ b`: (…, n, k) and (…, k, m) give (…, n, m); leading ones broadcast.

    One-dimensional inputs are a row on the left and a column on the right.

    Raises:
        ShapeError: if the inner lengths differ.

    Example:
        >>> import microgpt as mg
        >>> mg.matmul(mg.ones((2, 3)), mg.ones(3))
        tensor([3., 3.])
    """
    first, second = getattr(a, "shape", ()), getattr(b, "shape", ())
    if len(first) > 1 and len(second) > 1:
        return _matmul(a, b)
    if not first or not second:
        raise ShapeError(
            f"matmul needs arrays of one dimension or more; got shapes {tuple(first)} and "
            f"{tuple(second)} (use * to scale by a number)"
        )
    left = mv.reshape(a, (1, first[0])) if len(first) == 1 else a
    right = mv.reshape(b, (second[0], 1)) if len(second) == 1 else b
    if left.shape[-1] != right.shape[-2]:
        raise ShapeError(
            f"matmul: the last dimension of the first ({left.shape[-1]}) must equal the first of "
            f"the second ({right.shape[-2]}); got shapes {tuple(first)} and {tuple(second)}"
        )
    y = _matmul(left, right)
    gone = [-2] * (len(first) == 1) + [-1] * (len(second) == 1)
    return mv.squeeze(y, tuple(gone))


def outer(a: Any, b: Any) -> Any:
    """All products of an element of vector `a` with one of vector `b`: (n,), (m,) → (n, m).

    Example:
        >>> import microgpt as mg
        >>> mg.outer(mg.tensor([1.0, 2.0]), mg.tensor([3.0, 4.0]))
        tensor([[3., 4.],
                [6., 8.]])
    """
    if len(a.shape) != 1 or len(b.shape) != 1:
        raise ShapeError(
            f"outer needs two vectors; got shapes {tuple(a.shape)} and {tuple(b.shape)}"
        )
    return el.multiply(mv.reshape(a, (a.shape[0], 1)), b)


# ---- einsum ----------------------------------------------------------------------------------


def einsum(subscripts: str, *operands: Any) -> Any:
    """Sum of products by the names of dimensions, as in ``einsum("bij,bjk->bik", a, b)``.

    Supports any number of operands, repeated names (diagonals), ``...`` for leading dimensions,
    and leaving out the output (names that occur once, in alphabetical order). Operands are
    contracted from left to right as matrix products.

    Raises:
        InputError: if the text is malformed or does not fit the operands.
        ShapeError: if one name stands for two lengths.

    Example:
        >>> import microgpt as mg
        >>> mg.einsum("ij,j->i", mg.ones((2, 3)), mg.ones(3))
        tensor([3., 3.])
    """
    inputs, output = _parse(subscripts, [len(x.shape) for x in operands])
    lengths: dict[str, int] = {}
    for names, x in zip(inputs, operands, strict=True):
        for name, n in zip(names, x.shape, strict=True):
            if lengths.setdefault(name, n) != n and 1 not in (lengths[name], n):
                raise ShapeError(
                    f"einsum '{subscripts}': dimension {name} is {lengths[name]} in one operand "
                    f"and {n} in another; shapes {[tuple(x.shape) for x in operands]}"
                )
            lengths[name] = max(lengths[name], n) if n != 0 else 0
    pending = []
    for names, x in zip(inputs, operands, strict=True):
        names, x = _diagonals(names, x)
        wide = tuple([lengths[c] for c in names])
        pending.append((names, mv.broadcast_to(x, wide)))
    names, value = pending.pop(0)
    names, value = _sum_unused(names, value, {c for n, _ in pending for c in n} | set(output))
    while pending:
        other_names, other = pending.pop(0)
        later = {c for n, _ in pending for c in n} | set(output)
        other_names, other = _sum_unused(other_names, other, set(names) | later)
        names, value = _contract(names, value, other_names, other, later)
    if set(names) != set(output):
        raise InputError(f"einsum '{subscripts}': the output names no dimension of the operands")
    return mv.permute_dims(value, [names.index(c) for c in output])


def _parse(subscripts: str, ndims: list[int]) -> tuple[list[str], str]:
    text = subscripts.replace(" ", "")
    left, arrow, right = text.partition("->")
    inputs = left.split(",")
    if len(inputs) != len(ndims):
        raise InputError(
            f"einsum '{subscripts}' names {len(inputs)} operands; got {len(ndims)} of them"
        )
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ" if c not in text]
    extras = [
        ndim - len(names) + 3 if "..." in names else 0
        for names, ndim in zip(inputs, ndims, strict=True)
    ]
    most = max(extras, default=0)
    dots = "".join(spare[:most])
    inputs = [
        names.replace("...", dots[most - max(extra, 0) :])
        for names, extra in zip(inputs, extras, strict=True)
    ]
    if not arrow:
        seen = "".join(inputs)
        right = dots + "".join(sorted(c for c in set(seen) - set(dots) if seen.count(c) == 1))
    right = right.replace("...", dots)
    for names, ndim in zip(inputs, ndims, strict=True):
        if len(names) != ndim or not all(c.isalpha() for c in names):
            raise InputError(
                f"einsum '{subscripts}': '{names}' must name the {ndim} dimensions of its operand "
                "with letters"
            )
    if len(set(right)) != len(right) or not set(right) <= set("".join(inputs)):
        raise InputError(
            f"einsum '{subscripts}': the output '{right}' must name dimensions of the operands, "
            "each once"
        )
    return inputs, right


def _diagonals(names: str, x: Any) -> tuple[str, Any]:
    """Take the diagonal of dimensions with the same name."""
    for name in dict.fromkeys(names):
        while names.count(name) > 1:
            i, j = names.index(name), names.rindex(name)
            n = x.shape[i]
            rest = [k for k in range(len(names)) if k not in (i, j)]
            flat = mv.permute_dims(x, [*rest, i, j])
            flat = mv.reshape(flat, (*flat.shape[:-2], n * n))
            key = tuple([(0, m, 1) for m in flat.shape[:-1]]) + ((0, n * n, n + 1),)
            x = mv._slice(flat, key=key)
            names = "".join(names[k] for k in rest) + name
    return names, x


def _sum_unused(names: str, x: Any, used: set[str]) -> tuple[str, Any]:
    gone = tuple([i for i, c in enumerate(names) if c not in used])
    if gone:
        x = rd.sum(x, axis=gone)
        names = "".join(c for c in names if c in used)
    return names, x


def _contract(a: str, x: Any, b: str, y: Any, later: set[str]) -> tuple[str, Any]:
    """One pair as a batched matrix product: (batch, left, summed) @ (batch, summed, right)."""
    batch = [c for c in a if c in b and c in later]
    summed = [c for c in a if c in b and c not in later]
    left = [c for c in a if c not in b]
    right = [c for c in b if c not in a]

    def arranged(names: str, value: Any, order: list[list[str]]) -> tuple[Any, list[int]]:
        flat = [c for group in order for c in group]
        moved = mv.permute_dims(value, [names.index(c) for c in flat])
        sizes = dict(zip(flat, moved.shape, strict=True))
        counts = [math.prod([sizes[c] for c in group]) for group in order]
        return mv.reshape(moved, counts), [sizes[c] for c in flat]

    first, sizes_a = arranged(a, x, [batch, left, summed])
    second, sizes_b = arranged(b, y, [batch, summed, right])
    product = _matmul(first, second)
    names = batch + left + right
    shape = sizes_a[: len(batch) + len(left)] + sizes_b[len(batch) + len(summed) :]
    return "".join(names), mv.reshape(product, shape)
