"""What ops are called with: cases drawn from their domains, and numbers with special meaning."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from microgpt.ops.table import Op
from microgpt.testing.cases import Case
from microgpt.testing.conformance.calling import LAYOUTS
from microgpt.testing.drawing import Shape
from microgpt.testing.strategies import Drawer, case_of

FAMILIES = {"normal": 0.4, "long": 0.25, "ties": 0.1, "extreme": 0.15, "empty": 0.1}
"""Which share of the examples each family of inputs gets."""

SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, 0.5, -1.5, 2.5, 1e-3, -1e-3, 30.0, -30.0, 100.0, -100.0, 1e4, -1e4,
     1e-20, -1e-20, 3e38, -3e38, 1e-40, -1e-40, math.inf, -math.inf, math.nan]
)  # fmt: skip


class Empty(Drawer):
    """Draws shapes without elements, where the domain allows it."""

    def shape(self, min_ndim: int = 0, max_ndim: int = 3, min_side: int = 0) -> Shape:
        sides = list(super().shape(max(min_ndim, min(1, max_ndim)), max_ndim, min_side))
        if sides and min_side == 0:
            sides[self.number(0, len(sides) - 1)] = 0
        return tuple(sides)


def each(
    op: Op,
    examples: int,
    check: Callable[[Case, tuple[str, ...], str], None],
    families: tuple[str, ...] = tuple(FAMILIES),
    share: float = 1.0,
    least: int = 2,
) -> None:
    """Call check(case, layouts, family) with drawn cases, the same ones in every run.

    Args:
        share: the part of `examples` that is drawn, divided among the families.
        least: examples of each family. The first one drawn is always the simplest there is.
    """
    for family in families:
        least = min(least, examples)
        _drawn(op, max(least, math.ceil(examples * share * FAMILIES[family])), check, family)


def _drawn(op: Op, count: int, check: Callable[..., None], family: str) -> None:
    def examine(data: st.DataObject) -> None:
        drawer = Empty(data.draw) if family == "empty" else Drawer(data.draw, family)
        layouts = tuple([drawer.sampled(LAYOUTS) for _ in range(4)])
        check(case_of(op, drawer), layouts, family)

    # Hypothesis reads the source of what it runs, again and again: it is kept short.
    def run(data: st.DataObject) -> None:
        examine(data)

    # Else all ops would be examined with the same random choices.
    run._hypothesis_internal_add_digest = f"{op.name}:{family}".encode()  # pyright: ignore
    chosen = settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]
    )
    chosen(given(data=st.data())(run))()


# ---- special numbers ---------------------------------------------------------------------------

# Beyond this, a period of the sine is less than the distance of two numbers in float32.
_PERIODIC = {"sin", "cos", "tan"}
_ROWS = {
    "sum", "mean", "prod", "max", "min", "any", "all", "cumulative_sum", "argmax", "argmin",
    "var", "logsumexp",
}  # fmt: skip
_WITHOUT_NAN = {"argmax", "argmin", "argsort"}


def special_cases(op: Op, drawn: Case) -> Iterator[Case]:
    """Cases with NaN, infinities, signed zeros and numbers of extreme size.

    `drawn` is a case of the domain; ops that move numbers get its shapes and parameters.
    """
    module = op.function.__module__.rpartition(".")[2]
    values = SPECIAL[np.abs(SPECIAL) < 1e5] if op.name in _PERIODIC else SPECIAL
    values = values[~np.isnan(values)] if op.name in _WITHOUT_NAN else values
    if op.name in _ROWS:
        yield from _special_rows(op, values)
    elif op.name == "matmul":
        rows = np.tile([0.5, 1.0, -2.0], (len(values), 1))
        rows[:, 1] = values
        yield replace(drawn, inputs=(rows, np.array([[1.0, 2.0], [0.5, -1.0], [3.0, 1.0]])))
    elif op.name in ("softmax", "log_softmax"):
        hidden = np.array([[-math.inf, 0.0, 1.0], [1e4, -1e4, 0.0], [-math.inf, -math.inf, 3.0]])
        yield Case((hidden,), {"axis": 1})
    elif op.elementwise and op.arity == 1:
        yield Case((np.resize(values, 67),))
    elif op.elementwise:
        first, second = np.meshgrid(values, values)
        yield Case((first.reshape(-1), second.reshape(-1)))
    elif op.name == "where":
        yes = np.resize([True, False, False], values.size)
        yield Case((yes, values, values[::-1].copy()))
    elif op.name == "clip":
        yield Case((values,), {"min": -1.0, "max": 1.5})
    elif module in ("movement", "indexing") or op.name == "astype":
        if op.name in ("index_add", "scatter_add"):  # sums, which must not overflow
            values = values[~(np.abs(values) > 1e5) | np.isinf(values)]
        yield replace(drawn, inputs=tuple([_resized(values, x) for x in drawn.inputs]))


def _special_rows(op: Op, values: np.ndarray) -> Iterator[Case]:
    rows = np.tile([0.5, 1.0, -2.0, 0.25], (len(values), 1))
    rows[:, 2] = values
    yield Case((rows,), {"axis": 1})
    for axis in (0, 1, 2):
        yield Case((np.zeros((2, 0, 3)),), {"axis": axis})


def _resized(values: np.ndarray, x: Any) -> Any:
    if isinstance(x, np.ndarray) and x.dtype.kind == "f":
        return np.resize(values, x.shape)
    return x


# ---- integers and booleans ---------------------------------------------------------------------

_NOT_OF_INTEGERS = {"clip", "add_scaled", "filled", "pad", "index_add", "scatter_add"}
_ARITHMETIC = {
    "add", "subtract", "multiply", "negative", "abs", "sign", "square", "relu", "maximum",
    "minimum", "floor", "ceil", "round", "prod", "max", "min", "cumulative_sum", "argmax",
    "argmin", "isfinite", "isnan", "less", "less_equal", "greater", "greater_equal", "argsort",
    "tril", "triu", "unslice",
}  # fmt: skip


def converted(op: Op, case: Case, dtype: str) -> Case | None:
    """The case with integers or booleans in the place of floats; None where the op takes none."""
    module = op.function.__module__.rpartition(".")[2]
    kinds = module in ("elementwise", "movement", "indexing", "reduction")
    if op.floats or not kinds or op.name in _NOT_OF_INTEGERS or not case.floats():
        return None
    if dtype == "bool" and op.name in _ARITHMETIC:
        return None

    def convert(x: Any) -> Any:
        if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
            return x
        y = x > 0 if dtype == "bool" else np.rint(np.clip(x * 2, -9, 9))
        return np.asarray(y).astype(dtype)

    return replace(case, inputs=tuple([convert(x) for x in case.inputs]))
