"""Analytic against numeric derivatives: one by one where they are few, along directions beside it
where they are many."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from microgpt.testing.checking import Check
from microgpt.testing.judging import Row, judge, unit_of
from microgpt.testing.numeric import Slope, noise, slope
from microgpt.testing.report import host, index_text
from microgpt.testing.subject import Points

FULL = 4096
"""Up to so many entries the whole Jacobian is compared; beyond, directions and samples."""

Values = Callable[[Points], np.ndarray]


def signed(rng: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Random numbers of both signs, none of them near 0."""
    signs = rng.choice([-1.0, 1.0], shape)
    if signs.size > 1 and abs(signs.sum()) == signs.size:
        signs.reshape(-1)[0] *= -1.0
    return np.asarray(rng.uniform(0.5, 1.5, shape) * signs)


def well_formed(check: Check, i: int, grad: Any) -> np.ndarray:
    """The gradient by input `i`, after a look at its shape, dtype and finiteness."""
    point, name = check.points[i], check.subject.describe(i)
    if tuple(grad.shape) != point.shape:
        check.fail(
            "SHAPE",
            f"the gradient by {name} has shape {tuple(grad.shape)}; the input has {point.shape}",
        )
    analytic = host(grad)
    if analytic.dtype != np.float64:
        check.fail("DTYPE", f"the gradient by {name} is {analytic.dtype}; the input is float64")
    if not np.isfinite(analytic).all():
        k = int(np.flatnonzero(~np.isfinite(analytic))[0])
        check.fail(
            "NONFINITE",
            f"the gradient by {name} is {analytic.reshape(-1)[k]} at {index_text(k, point.shape)}, "
            f"where the input is {point.reshape(-1)[k]:.6g} and the output is finite",
        )
    return analytic


def first_order(check: Check, output: np.ndarray, cotangent: np.ndarray) -> None:
    """Gradients of every output, or of random sums of the outputs when there are many."""
    subject, points = check.subject, check.points
    cotangents = [cotangent]
    if not output.size:
        pass  # the shapes of the gradients still count
    elif output.size * sum(points[i].size for i in subject.wrt) <= FULL:
        cotangents += list(np.eye(output.size).reshape(-1, *output.shape))
    else:
        cotangents += [signed(check.rng, output.shape) for _ in range(check.settings.n_proj - 1)]
    if output.size == 1:  # plain derivatives are easier to read
        cotangents.reverse()
    # Numeric derivatives of all outputs by an input are shared by all cotangents.
    tables = [_slopes(check, subject.value, i, output.size) for i in subject.wrt]
    ways = [
        _directions(check, subject.value, i, t) for i, t in zip(subject.wrt, tables, strict=True)
    ]
    kinked = any(s.left is not None for table in tables for s in table)
    for g in cotangents:
        found = check.gradients(g)
        for i, grad, table, way in zip(subject.wrt, found, tables, ways, strict=True):
            analytic = _compare(check, "VALUE", i, grad, table, g)
            _compare_along(check, subject.value, "VALUE", i, analytic, way, g)
        if kinked:
            _compare_together(check, found, g)


def second_order(check: Check, output: np.ndarray) -> None:
    """Gradients of a random sum of the gradients."""
    subject = check.subject
    cotangent = signed(check.rng, output.shape)
    weights = [signed(check.rng, check.points[i].shape) for i in subject.wrt]

    # Where they are few, every element of the gradients is followed on its own: then a small one
    # is not lost in the rounding of a sum.
    together = np.concatenate([w.reshape(-1) for w in weights])
    few = together.size <= 256

    def inner(points: Points) -> np.ndarray:
        grads = np.concatenate([host(g).reshape(-1) for g in subject.gradient(points, cotangent)])
        return grads if few else np.asarray(float((grads * together).sum()))

    outer = together if few else np.ones(())

    try:
        found = subject.gradient_of_gradient(check.points, cotangent, weights)
    except Exception as error:
        check.raised(error, "SECOND_ORDER", "in the gradient of the gradient ")
    for i, grad in zip(subject.wrt, found, strict=True):
        table = _slopes(check, inner, i, 8)  # each costs a forward and a backward pass
        analytic = _compare(check, "SECOND_ORDER", i, grad, table, outer)
        way = _directions(check, inner, i, table)
        _compare_along(check, inner, "SECOND_ORDER", i, analytic, way, outer)


# ---- one by one --------------------------------------------------------------------------------


def _slopes(check: Check, function: Values, i: int, outputs: int) -> list[Slope]:
    """Slopes along the elements of an input; of many elements those at edges and some others."""
    point = check.points[i]
    places: Sequence[int] = range(point.size)
    if point.size * max(outputs, 1) > FULL and point.size > 64:
        edges = {0, point.size - 1, 63, 64, min(255, point.size - 1), min(256, point.size - 1)}
        drawn = check.rng.choice(point.size, 24, replace=False).tolist()
        places = sorted(edges | set(drawn))
    return [_element(check, function, i, k) for k in places]


def _element(check: Check, function: Values, i: int, k: int) -> Slope:
    point = check.points[i]

    def at(value: float) -> np.ndarray:
        moved = np.array(point, order="C")
        moved.reshape(-1)[k] = value
        return function({**check.points, i: moved})

    return slope(at, float(point.reshape(-1)[k]), k)


def _compare(
    check: Check, code: str, i: int, grad: Any, table: list[Slope], cotangent: np.ndarray
) -> np.ndarray:
    analytic = well_formed(check, i, grad)
    rows = [Row(analytic.reshape(-1)[s.index], s, cotangent) for s in table]
    check.report.entries += len(rows)
    if rows:
        judge(check, code, i, rows, cotangent)
    return analytic


# ---- all at once -------------------------------------------------------------------------------


def _directions(
    check: Check, function: Values, i: int, table: list[Slope]
) -> list[tuple[np.ndarray, Slope]]:
    """Slopes along random directions, for inputs of which only some elements were looked at."""
    point = check.points[i]
    if len(table) == point.size:
        return []
    size = min(1.0, float(np.sqrt(np.mean(point**2)))) or 1.0
    found = []
    for _ in range(check.settings.n_proj):
        way = signed(check.rng, point.shape) * np.maximum(np.abs(point), size)
        found.append((way, _along(check, function, {i: way})))
    return found


def _along(check: Check, function: Values, ways: dict[int, np.ndarray]) -> Slope:
    def at(t: float) -> np.ndarray:
        moved = {i: x + t * ways[i] if i in ways else x for i, x in check.points.items()}
        return function(moved)

    return slope(at, 0.0)


def _along_row(
    check: Check, analytic: np.ndarray, way: np.ndarray, found: Slope, cotangent: np.ndarray
) -> Row:
    row = Row(float((analytic * way).sum()), found, cotangent)
    row.scale = max(row.scale, float(np.abs(analytic * way).sum()))  # it may cancel
    row.judge(check, cotangent, unit_of(check, [row], cotangent))
    return row


def _compare_along(
    check: Check, function: Values, code: str, i: int, analytic: np.ndarray,
    ways: list[tuple[np.ndarray, Slope]], cotangent: np.ndarray,
) -> None:  # fmt: skip
    """Of a large input, all elements at once; then the one that is wrong is looked for."""
    for way, found in ways:
        check.report.entries += 1
        row = _along_row(check, analytic, way, found, cotangent)
        if row.wrong():
            row.doubt += float((noise(found, 1.0) * np.abs(cotangent)).sum())
            row.judge(check, cotangent, unit_of(check, [row], cotangent))
        if not row.wrong():
            continue
        places = np.arange(way.size)
        while places.size > 1:
            half, rest = np.array_split(places, 2)
            part = np.zeros(way.shape)
            part.reshape(-1)[half] = way.reshape(-1)[half]
            tried = _along(check, function, {i: part})
            wrong = _along_row(check, analytic, part, tried, cotangent).wrong()
            places = half if wrong else rest
        k = int(places[0])
        s = _element(check, function, i, k)
        judge(check, code, i, [Row(analytic.reshape(-1)[k], s, cotangent)], cotangent)
        check.fail(
            code,
            f"the derivative by all elements of {check.subject.describe(i)} along a random "
            f"direction: analytic {row.analytic:+.8g}, numeric {row.numeric:+.8g} ± "
            f"{row.doubt:.1g}, though single elements agree",
        )


def _compare_together(check: Check, grads: list[Any], cotangent: np.ndarray) -> None:
    """Where elements tie, their shares of the gradient must add up to the whole.

    Each share alone may be anything between 0 and 1. But when all elements move together the
    function is often smooth, and its slope is the sum of the shares.
    """
    groups = [[k] for k in range(len(grads))] + [list(range(len(grads)))]
    for group in groups[: 1 if len(grads) == 1 else None]:
        chosen = [check.subject.wrt[k] for k in group]
        ways = {i: np.ones_like(check.points[i]) for i in chosen}
        total = sum(float(host(grads[k]).sum()) for k in group)
        row = Row(total, _along(check, check.subject.value, ways), cotangent)
        row.scale = max(row.scale, sum(float(np.abs(host(grads[k])).sum()) for k in group))
        row.judge(check, cotangent, unit_of(check, [row], cotangent))
        if not row.share <= 1:
            names = " and ".join(check.subject.describe(i) for i in chosen)
            check.fail(
                "TIE",
                f"at a tie or kink, the gradients by all elements of {names} add up to "
                f"{total:.8g}; required: {row.numeric:.8g}, the slope when they all move "
                "together (the shares of tied elements must add up to the whole)",
            )
