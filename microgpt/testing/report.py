"""What a gradient check found, in words: the worst element, the pattern, a line that repeats it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

import microgpt
from microgpt.tensor import Tensor

if TYPE_CHECKING:
    from microgpt.testing.subject import Subject


@dataclass
class Failure:
    """One thing that is wrong: its `code` (one of `microgpt.testing.CODES`), and what it is.

    `rows` are the derivatives that were compared, where it is about values.
    """

    code: str
    text: str
    rows: list[Any] = field(default_factory=list)


@dataclass
class GradReport:
    """What a gradient check found.

    Attributes:
        name: the function's.
        failures: what is wrong: at most one thing, the first.
        entries: how many derivatives were compared.
        worst: the largest error, as a share of its tolerance.
        shrunk: whether the inputs are smaller ones than those given.
    """

    name: str
    failures: list[Failure] = field(default_factory=list)
    entries: int = 0
    worst: float = 0.0
    shrunk: bool = False
    subject: Any = field(default=None, repr=False)
    settings: Any = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        """Whether everything agreed."""
        return not self.failures

    def __str__(self) -> str:
        if self.ok:
            return f"{self.name}: {self.entries} derivatives agree"
        lines = [f"[{f.code}] {self.name}: {f.text}" for f in self.failures]
        what = "smallest inputs found that fail" if self.shrunk else "inputs"
        lines.append(f"  {what}: {', '.join(input_texts(self.subject))}")
        lines.append(f"  repeat: {repeat_line(self)}")
        return "\n".join(lines)


def host(x: Any) -> np.ndarray:
    """`x` as a NumPy array."""
    return x.numpy() if isinstance(x, Tensor) else np.asarray(x)


def index_text(k: int, shape: tuple[int, ...]) -> str:
    """The position of element `k` of an array of this shape."""
    return f"[{', '.join(str(int(j)) for j in np.unravel_index(k, shape)) if shape else ''}]"


def describe(
    subject: Subject, i: int, bad: list[Any], rows: list[Any], cotangent: np.ndarray
) -> tuple[str, list[Any]]:
    """Derivatives by input `i` that are wrong, in words; and the compared rows."""
    r = max(bad, key=lambda row: row.share)
    point = subject.points[i]
    relative = abs(r.analytic - r.numeric) / max(abs(r.numeric), 1e-300)
    numeric = f"numeric {r.numeric:+.8g} ± {r.doubt:.1g}"
    if r.kink:
        numeric = f"at a kink, whose slopes on both sides have the mean {r.numeric:+.8g}"
    ones = np.count_nonzero(cotangent)
    seed = f"of output {index_text(int(np.argmax(cotangent)), cotangent.shape)}"
    which = seed if ones == 1 and cotangent.ndim else "of a random sum of the outputs"
    return (
        f"derivative {which} by {subject.describe(i)} at {index_text(r.index, point.shape)} "
        f"({len(bad)} of {len(rows)} elements wrong)\n"
        f"  analytic {r.analytic:+.8g}   {numeric}   relative {relative:.1e}   tolerance "
        f"{r.tolerance:.1g}\n"
        f"  the input is {point.reshape(-1)[r.index]:.6g} there" + _pattern(bad, point, rows),
        rows,
    )


def _pattern(bad: list[Any], point: np.ndarray, rows: list[Any]) -> str:
    """What kind of mistake it looks like."""
    analytic = np.array([r.analytic for r in bad])
    numeric = np.array([r.numeric for r in bad])
    if np.all(np.abs(analytic) < 1e-12):
        return "\n  pattern: analytic is 0: is the gradient cut off, or the input not seen?"
    if np.any(np.abs(numeric) > 1e-12):
        factor = float(analytic @ numeric / (numeric @ numeric))
        if np.allclose(analytic, factor * numeric, rtol=1e-4, atol=1e-10):
            hint = " (a sign error?)" if abs(factor + 1) < 1e-3 else ""
            return f"\n  pattern: analytic ≈ {factor:.4g} × numeric in all wrong elements{hint}"
    if point.ndim >= 1 and len(rows) == point.size and point.size > 1:
        whole = np.array([r.analytic for r in rows]).reshape(point.shape)
        want = np.array([r.numeric for r in rows]).reshape(point.shape)
        square = point.ndim == 2 and point.shape[0] == point.shape[1]
        if square and np.allclose(whole.T, want, rtol=1e-4):
            return "\n  pattern: analytic is the transpose of numeric"
        for axis, n in enumerate(point.shape):
            total = want.sum(axis, keepdims=True)
            if n > 1 and np.allclose(whole, np.broadcast_to(total, want.shape), rtol=1e-4):
                return f"\n  pattern: analytic is numeric summed over axis {axis}"
            if n > 1 and np.allclose(whole, np.broadcast_to(total / n, want.shape), rtol=1e-4):
                return f"\n  pattern: analytic is numeric averaged over axis {axis}"
        if np.allclose(np.sort(whole, None), np.sort(want, None), rtol=1e-4):
            return "\n  pattern: the right numbers in the wrong places"
    return ""


# ---- repeating it ------------------------------------------------------------------------------


def input_texts(subject: Subject) -> list[str]:
    """Shape, type and memory layout of each input."""
    texts = []
    for i, x in enumerate(subject.inputs):
        name = subject.argument_names[i] if subject.argument_names else str(i)
        if isinstance(x, (np.ndarray, Tensor)):
            order = ""
            if isinstance(x, np.ndarray) and not x.flags.c_contiguous:
                order = " F" if x.flags.f_contiguous else f" strides {x.strides}"
            backend = f" on {x.backend}" if isinstance(x, Tensor) and x.backend != "numpy" else ""
            texts.append(f"{name}: {tuple(x.shape)} {x.dtype}{order}{backend}")
        else:
            texts.append(f"{name}: {x!r}")
    return texts


def function_text(function: Any) -> str:
    """How to name a function in a line of code."""
    op = getattr(function, "op", None)
    name = getattr(function, "__name__", type(function).__name__)
    if op is not None and str(getattr(function, "__module__", "")).startswith("microgpt."):
        public = getattr(microgpt, op.name, None) is function
        return f"mg.{op.name}" if public else f"mg.ops.by_name({op.name!r}).function"
    return name if name.isidentifier() else "function"


def input_code(x: Any) -> str:
    """An input as code that makes it again; large arrays by a placeholder."""
    if isinstance(x, Tensor):
        backend = "" if x.backend == "numpy" else f", backend={x.backend!r}"
        return f"mg.tensor({input_code(x.numpy())}{backend})"
    if not isinstance(x, np.ndarray):
        return repr(x)
    if x.size > 64:
        return f"{'…'}  # {x.shape} {x.dtype}"
    code = f"np.array({x.tolist()!r}, dtype='{x.dtype}')"
    if 0 in x.shape:
        return f"np.empty({x.shape}, dtype='{x.dtype}')"
    if x.flags.c_contiguous:
        return code
    if x.flags.f_contiguous:
        return f"np.array({x.tolist()!r}, dtype='{x.dtype}', order='F')"
    if x.strides[0] < 0:
        return f"np.array({x[::-1].tolist()!r}, dtype='{x.dtype}')[::-1]"
    return f"np.repeat({code}, 2, axis=-1)[..., ::2]"


def kwargs_text(kwargs: dict[str, Any]) -> str:
    """Code for further arguments."""
    return "{" + ", ".join(f"{k!r}: {input_code(v)}" for k, v in kwargs.items()) + "}"


def repeat_line(report: GradReport) -> str:
    """One line of code that repeats the check."""
    subject, settings = report.subject, report.settings
    parts = [function_text(subject.function), *[input_code(x) for x in subject.inputs]]
    if tuple(subject.wrt) != tuple(range(len(subject.inputs))):
        parts.append(f"wrt={list(subject.wrt)}")
    if subject.kwargs:
        parts.append(f"kwargs={kwargs_text(subject.kwargs)}")
    if settings.order != 1:
        parts.append(f"order={settings.order}")
    if settings.seed:
        parts.append(f"seed={settings.seed}")
    return f"mg.testing.gradcheck({', '.join(parts)})"
