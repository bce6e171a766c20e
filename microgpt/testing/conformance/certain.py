"""Cases that must not depend on what happens to be drawn: for each op the usual mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from microgpt.ops.table import Op
from microgpt.testing.cases import Case


def certain_cases(op: Op) -> Iterator[Case]:
    """Cases of `op` that are always checked."""
    yield from CASES.get(op.name, list)()


def _numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-3, 3, shape)


def _axes() -> list[Case]:
    """Reductions over some axes, all, none, with the axes kept and not."""
    x = _numbers(2, 3, 4)
    axes: tuple[Any, ...] = (None, 0, -1, (0, 2), (2, 0), (1,), ())
    cases = [Case((x,), {"axis": a, "keepdims": k}) for a in axes for k in (False, True)]
    return [*cases, Case((_numbers(257) / 3,), {})]


def _matmul() -> list[Case]:
    return [
        Case((_numbers(2, 1, 3, 4), _numbers(5, 4, 2, seed=1))),
        Case((_numbers(3, 2, 4), _numbers(4, 5, seed=1))),
        Case((_numbers(65, 257), _numbers(257, 63, seed=1))),
        Case((_numbers(2, 0), _numbers(0, 3))),
    ]


def _ties() -> list[Case]:
    return [Case((np.array([[1.0, 3.0, 3.0, 0.0], [2.0, 0.0, 0.0, 2.0]]),), {"axis": 1})]


def _attention() -> list[Case]:
    q, k, v = _numbers(2, 3, 4), _numbers(2, 5, 4, seed=1), _numbers(2, 5, 2, seed=2)
    mask = np.array([[1, 0, 1, 1, 0], [1, 1, 1, 0, 1], [1, 0, 0, 1, 1]], dtype=bool)
    same = (q, _numbers(2, 3, 4, seed=1), _numbers(2, 3, 2, seed=2))
    return [
        Case((q, k, v), {"causal": True}),
        Case(same, {"causal": True}),
        Case((q, k, v), {"mask": mask}),
        Case((q, k, v), {"mask": np.where(mask, 0.5, -1e30), "scale": 0.3}),
    ]


def _cross_entropy() -> list[Case]:
    x = _numbers(5, 4)
    return [
        Case((x, np.array([0, -100, 3, -100, 1]))),
        Case((x, np.array([0, 2, 3, 2, 1])), {"ignore_index": 2}),
        Case((x, np.full(5, -100))),
        Case((np.array([[1e4, -1e4, 0.0], [0.0, 1e4, -1e4]]), np.array([1, 1]))),
    ]


def _conv2d() -> list[Case]:
    x = _numbers(2, 4, 9, 8)
    return [
        Case((x, _numbers(6, 2, 3, 2, seed=1), _numbers(6, seed=2)), {"groups": 2, "stride": 2}),
        Case((x, _numbers(3, 4, 2, 3, seed=1), None), {"padding": (1, 2), "dilation": (2, 1)}),
    ]


def _taken() -> list[Case]:
    places = np.array([[0, -1, 2], [2, 2, -3]])
    return [Case((_numbers(4, 3), places), {"axis": 1}), Case((_numbers(3), places), {"axis": 0})]


def _index_added() -> list[Case]:
    places = np.array([0, 2, 0, -1, 2, 0])
    return [
        Case((_numbers(6), places), {"axis": 0, "size": 3}),
        Case((_numbers(2, 6, 3), places), {"axis": 1, "size": 4}),
    ]


def _along() -> tuple[np.ndarray, np.ndarray]:
    return _numbers(2, 4), np.array([[0, 3, -1, 3, 0], [1, 1, 1, -4, 2]])


def _picked() -> list[Case]:
    x, places = _along()
    return [Case((x, places), {"axis": 1}), Case((x.T.copy(), places.T.copy()), {"axis": 0})]


def _scattered() -> list[Case]:
    x, places = _along()
    return [Case((x, places, _numbers(2, 5, seed=1)), {"axis": 1})]


def _permuted() -> list[Case]:
    orders = [(2, 0, 3, 1), (1, 2, 3, 0), (0, 3, 1, 2)]
    return [Case((_numbers(2, 3, 4, 5),), {"axes": axes}) for axes in orders]


def _sliced() -> list[Case]:
    keys = [((4, -1, -2), (1, 5, 3)), ((1, 4, 1), (5, 0, -1)), ((2, 2, 1), (0, 6, 1))]
    return [Case((_numbers(5, 6),), {"key": key}) for key in keys]


def _triangles() -> list[Case]:
    return [Case((_numbers(2, 4, 5),), {"k": k}) for k in (-1, 0, 2)]


CASES: dict[str, Callable[[], list[Case]]] = {
    **dict.fromkeys(("sum", "mean", "prod", "max", "min", "any", "all", "var", "logsumexp"), _axes),
    **dict.fromkeys(("argmax", "argmin"), _ties),
    "matmul": _matmul,
    "scaled_dot_product_attention": _attention,
    "cross_entropy": _cross_entropy,
    "conv2d": _conv2d,
    "take": _taken,
    "index_add": _index_added,
    "gather": _picked,
    "scatter_add": _scattered,
    "permute_dims": _permuted,
    "slice": _sliced,
    "tril": _triangles,
    "triu": _triangles,
    "pad": lambda: [Case((_numbers(2, 3),), {"widths": ((1, 0), (2, 1)), "value": -1.5})],
    "concat": lambda: [
        Case(
            (_numbers(2, 3), _numbers(2, 1, seed=1), _numbers(2, 4, seed=2)),
            {"axis": 1},
            lambda f, *xs, **kw: f(list(xs), **kw),
        )
    ],
    "softmax": lambda: [Case((_numbers(3, 65) * 1e3,), {"axis": 1})],
    "log_softmax": lambda: [Case((_numbers(3, 65) * 1e3,), {"axis": 1})],
}
