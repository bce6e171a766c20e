"""What a gradient check found, in words: the worst element, the pattern, a line that repeats it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from microgpt.tensor import Tensor
from microgpt.testing.literals import input_texts, repeat_line

if TYPE_CHECKING:
    from microgpt.testing.subject import Subject


@dataclass
class Failure:
    """One thing that is wrong: its `code` (one of `microgpt.testing.CODES`), and what it is.

    `rows` are the derivatives that were compared, where it is about values, and `pattern` says what
    kind of mistake it looks like.
    """

    code: str
    text: str
    rows: list[Any] = field(default_factory=list)
    pattern: list[str] = field(default_factory=list)


@dataclass
class GradReport:
    """What a gradient check found.

    Attributes:
        name: the function's.
        failures: what is wrong: at most one thing, the first.
        entries: how many derivatives were compared.
        worst: the largest error, as a share of its tolerance.
        shrunk: whether the inputs are smaller ones than those given.
        before: the failure with the inputs given, if `shrunk`.
        hint: what else was found out about the failure.
        cause: what a gradient rule or kernel raised, if that is the failure.
    """

    name: str
    failures: list[Failure] = field(default_factory=list)
    entries: int = 0
    worst: float = 0.0
    shrunk: bool = False
    before: Failure | None = field(default=None, repr=False)
    hint: str = ""
    cause: Exception | None = field(default=None, repr=False)
    subject: Any = field(default=None, repr=False)
    settings: Any = field(default=None, repr=False)

    @property
    def ok(self) -> bool:
        """Whether everything agreed."""
        return not self.failures

    def __str__(self) -> str:
        if self.ok:
            return f"{self.name}: {self.entries} derivatives agree"
        lines, told = [], []
        for f in self.failures:
            lines.append(f"[{f.code}] {self.name}: {f.text}")
            told += [f"  pattern: {found}" for found in f.pattern]
        if self.before is not None:
            more = [f"  pattern: {found}" for found in self.before.pattern]
            told += [f"{line} (with the inputs given)" for line in more if line not in told]
        lines += told
        if self.hint:
            lines.append(f"  {self.hint}")
        what = "smallest inputs found that fail" if self.shrunk else "inputs"
        lines.append(f"  {what}: {', '.join(input_texts(self.subject))}")
        lines.append(f"  repeat: {repeat_line(self.subject, self.settings)}")
        return "\n".join(lines)


def host(x: Any) -> np.ndarray:
    """`x` as a NumPy array."""
    return x.numpy() if isinstance(x, Tensor) else np.asarray(x)


def index_text(k: int, shape: tuple[int, ...]) -> str:
    """The position of element `k` of an array of this shape."""
    return f"[{', '.join(str(int(j)) for j in np.unravel_index(k, shape)) if shape else ''}]"


def describe(
    code: str, subject: Subject, i: int, bad: list[Any], rows: list[Any], cotangent: np.ndarray
) -> Failure:
    """The failure that derivatives by input `i` are wrong, in words."""
    r = max(bad, key=lambda row: row.share)
    point = subject.points[i]
    relative = abs(r.analytic - r.numeric) / max(abs(r.numeric), 1e-300)
    numeric = f"numeric {r.numeric:+.8g} ± {r.doubt:.1g}"
    if r.kink:
        numeric = f"at a kink, whose slopes on both sides have the mean {r.numeric:+.8g}"
    which = "of a random sum of the outputs"
    if cotangent.size == 1:
        factor = cotangent.item()
        which = "of the output" if factor == 1 else f"of {factor:.4g} times the output"
    elif np.count_nonzero(cotangent) == 1:
        which = f"of output {index_text(int(np.argmax(cotangent)), cotangent.shape)}"
    text = (
        f"derivative {which} by {subject.describe(i)} at {index_text(r.index, point.shape)} "
        f"({len(bad)} of {len(rows)} elements wrong)\n"
        f"  analytic {r.analytic:+.8g}   {numeric}   relative {relative:.1e}   tolerance "
        f"{r.tolerance:.1g}\n"
        f"  the input is {point.reshape(-1)[r.index]:.6g} there"
    )
    return Failure(code, text, rows, _pattern(bad, point, rows))


def _pattern(bad: list[Any], point: np.ndarray, rows: list[Any]) -> list[str]:
    """What kind of mistake it looks like."""
    found = [_of_wrong(bad) or _of_whole(point, rows) or _offset(bad), _where(bad, point, rows)]
    return [text for text in found if text]


def _of_wrong(bad: list[Any]) -> str:
    """What the wrong elements have in common."""
    analytic = np.array([r.analytic for r in bad])
    numeric = np.array([r.numeric for r in bad])
    size = max(np.abs(analytic).max(), np.abs(numeric).max())
    if np.all(np.abs(analytic) <= 1e-9 * size):
        return "analytic is 0: is the gradient cut off, or the input not seen?"
    if np.all(np.abs(numeric) <= 1e-9 * size):
        return "numeric is 0: the output does not depend on these elements"
    factor = float(analytic @ numeric / (numeric @ numeric))
    if not np.allclose(analytic, factor * numeric, rtol=1e-4, atol=1e-10 * size):
        return ""
    hint = " (a sign error?)" if abs(factor + 1) < 1e-3 else ""
    digits = 4 if abs(factor - 1) > 1e-3 else 10
    return f"analytic ≈ {factor:.{digits}g} × numeric in all wrong elements{hint}"


def _of_whole(point: np.ndarray, rows: list[Any]) -> str:
    """What has been done to the gradient as a whole."""
    if point.ndim == 0 or len(rows) != point.size or point.size < 2:
        return ""
    whole = np.array([r.analytic for r in rows]).reshape(point.shape)
    want = np.array([r.numeric for r in rows]).reshape(point.shape)

    def is_now(other: np.ndarray) -> bool:
        return np.allclose(whole, other, rtol=1e-4, atol=1e-9 * np.abs(want).max())

    if point.ndim == 2 and point.shape[0] == point.shape[1] and is_now(want.T):
        return "analytic is the transpose of numeric"
    for axis, n in enumerate(point.shape):
        total = want.sum(axis, keepdims=True)
        if n > 1 and is_now(np.broadcast_to(total, want.shape)):
            return f"analytic is numeric summed over axis {axis}"
        if n > 1 and is_now(np.broadcast_to(total / n, want.shape)):
            return f"analytic is numeric averaged over axis {axis}"
    if np.allclose(np.sort(whole, None), np.sort(want, None), rtol=1e-4):
        return "the right numbers in the wrong places"
    return ""


def _offset(bad: list[Any]) -> str:
    away = np.array([r.analytic - r.numeric for r in bad])
    if len(bad) > 1 and np.allclose(away, away[0], rtol=1e-4):
        return f"analytic ≈ numeric {away[0]:+.4g} in all wrong elements: a constant is added"
    return ""


def _where(bad: list[Any], point: np.ndarray, rows: list[Any]) -> str:
    """What the places of the wrong elements have in common, unless all are wrong."""
    if len(bad) == len(rows) or len(rows) != point.size or len(bad) < 2:
        return ""
    wrong = np.zeros(point.size, bool)
    wrong[[r.index for r in bad]] = True
    wrong = wrong.reshape(point.shape)
    for axis in range(point.ndim if point.ndim > 1 else 0):
        others = tuple(a for a in range(point.ndim) if a != axis)
        hit = np.flatnonzero(wrong.any(others))
        if len(hit) == 1 and point.shape[axis] > 1:
            place = ", ".join(str(hit[0]) if a == axis else ":" for a in range(point.ndim))
            return f"all wrong elements are in [{place}]"
    for name, mask in (("negative", point < 0), ("0", point == 0), ("positive", point > 0)):
        if np.array_equal(wrong, mask):
            return f"the wrong elements are those where the input is {name}"
    return ""
