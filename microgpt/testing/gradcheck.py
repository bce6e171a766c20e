"""gradcheck: analytic gradients against central differences, in float64.

Numeric derivatives come from four evaluations, R = (4·D(h/2) - D(h)) / 3 with D the central
difference, and the difference |R - D(h/2)| says how far they can be trusted: the tolerance grows
with it, and where it is larger than what it is compared with, the check does not pass but is
*inconclusive*. The cotangent is random and signed, because a sum of the outputs is blind to rules
that forget a normalisation (the gradient of Σ softmax is 0 for a wrong rule as well).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from microgpt import ops
from microgpt.autograd import gradients_of
from microgpt.errors import GradcheckError, InputError, InputTypeError
from microgpt.graph import enable_grad
from microgpt.scalar import Scalar, scalar_gradients
from microgpt.tensor import Tensor, tensor

STEP = 2.0**-9
FULL = 4096
"""Up to so many entries the whole Jacobian is compared; beyond, projections and samples."""


@dataclass
class Failure:
    """One thing that is wrong.

    `code` is SHAPE, DTYPE, NONFINITE, VALUE, SECOND_ORDER or INCONCLUSIVE.
    """

    code: str
    text: str


@dataclass
class GradReport:
    """What a gradient check found.

    Attributes:
        ok: whether everything agreed.
        failures: what did not.
        entries: how many derivatives were compared.
        worst: the largest error, as a share of its tolerance.
    """

    name: str
    failures: list[Failure] = field(default_factory=list)
    entries: int = 0
    worst: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether everything agreed."""
        return not self.failures

    def __str__(self) -> str:
        if self.ok:
            return f"{self.name}: {self.entries} derivatives agree"
        return "\n".join(f"[{f.code}] {self.name}: {f.text}" for f in self.failures)


def gradcheck(
    function: Callable[..., Any],
    *inputs: Any,
    order: int = 1,
    wrt: Sequence[int] | None = None,
    kwargs: dict[str, Any] | None = None,
    seed: int = 0,
    rtol: float = 1e-8,
    atol: float = 1e-9,
    raises: bool = True,
) -> GradReport:
    """Compare the gradients of `function` with finite differences.

    Args:
        function: of tensors to one tensor, or of scalars to one scalar.
        inputs: float64 tensors, NumPy arrays or Python numbers; others are passed on as they are.
        order: 2 checks the gradients of the gradient as well.
        wrt: positions of the inputs to differentiate by; by default all floats.
        kwargs: further arguments.
        seed: of the random cotangents.
        rtol, atol: how much the two may differ beyond the estimated error of the numeric one.
        raises: False returns the report of a failed check instead of raising.

    Raises:
        GradcheckError: if they differ; the message names the argument, the worst element, both
            values and the pattern found; `.report` has all of it.
        InputError: if there is nothing to differentiate by.

    Example:
        >>> import microgpt as mg
        >>> x = mg.tensor([0.5, 2.0], dtype="float64")
        >>> print(mg.testing.gradcheck(lambda x: mg.sin(x) * x, x, order=2))
        <lambda>: 8 derivatives agree
    """
    name = getattr(function, "__name__", type(function).__name__)
    check = _Check(function, inputs, wrt, kwargs or {}, seed, rtol, atol, name)
    check.first_order()
    if order >= 2 and check.report.ok:
        check.second_order()
    report = check.report
    if raises and not report.ok:
        error = GradcheckError(f"{report}\n  repeat: gradcheck(…, seed={seed})")
        error.report = report
        raise error
    return report


class _Check:
    """One check: the function seen as one of NumPy arrays, and its gradients."""

    def __init__(
        self,
        function: Callable[..., Any],
        inputs: Sequence[Any],
        wrt: Sequence[int] | None,
        kwargs: dict[str, Any],
        seed: int,
        rtol: float,
        atol: float,
        name: str,
    ) -> None:
        self.function, self.kwargs, self.seed = function, kwargs, seed
        self.rtol, self.atol = rtol, atol
        self.report = GradReport(name)
        self.inputs = list(inputs)
        self.scalars = any(isinstance(x, (Scalar, float)) for x in inputs)
        floats = [i for i, x in enumerate(inputs) if _is_float(x)]
        self.wrt = floats if wrt is None else list(wrt)
        if not self.wrt:
            raise InputError(
                f"gradcheck({name}) needs an input of floats to differentiate by; got "
                f"{', '.join(type(x).__name__ for x in inputs) or 'no inputs'}"
            )
        self.points: dict[int, np.ndarray] = {}
        for i in self.wrt:
            x = inputs[i]
            host = np.array(x.numpy() if isinstance(x, Tensor) else getattr(x, "data", x) if
                            isinstance(x, Scalar) else x)  # fmt: skip
            if host.dtype != np.float64:
                raise InputTypeError(
                    f"gradcheck needs float64, in which differences are precise enough; input {i} "
                    f"is {host.dtype}: convert it with .astype('float64')"
                )
            self.points[i] = np.ascontiguousarray(host).reshape(host.shape)

    # ---- the function, and its derivatives, as functions of arrays --------------------------

    def _variables(self, points: dict[int, np.ndarray]) -> list[Any]:
        args = list(self.inputs)
        for i, value in points.items():
            if self.scalars:
                args[i] = Scalar(float(value))
            else:
                like = self.inputs[i]
                backend = like.backend if isinstance(like, Tensor) else None
                args[i] = _with_layout(value, like, backend)
        return args

    def value(self, points: dict[int, np.ndarray]) -> np.ndarray:
        """The output, as an array."""
        output = self.function(*self._variables(points), **self.kwargs)
        if isinstance(output, (Scalar, float)):
            return np.asarray(float(output))
        if not isinstance(output, Tensor):
            raise InputTypeError(
                f"gradcheck({self.report.name}) needs a function that returns a tensor or a "
                f"scalar; got {type(output).__name__}"
            )
        return output.numpy()

    def gradient(self, points: dict[int, np.ndarray], cotangent: np.ndarray) -> list[Any]:
        """Analytic gradients by each input, for a given gradient of the output."""
        with enable_grad():
            args = self._variables(points)
            variables = [args[i] for i in self.wrt]
            output = self.function(*args, **self.kwargs)
            if isinstance(output, Scalar):
                found = scalar_gradients(output, variables)
                return [np.asarray(g) * cotangent for g in found]
            if not isinstance(output, Tensor) or not output.requires_grad:
                return [np.zeros_like(points[i]) for i in self.wrt]
            seed = tensor(cotangent, output.dtype, backend=output.backend)
            return gradients_of([output], variables, [seed])

    def gradient_of_gradient(
        self, points: dict[int, np.ndarray], cotangent: np.ndarray, weights: list[np.ndarray]
    ) -> list[Any]:
        """Analytic gradients of Σ weights · gradient."""
        with enable_grad():
            args = self._variables(points)
            variables = [args[i] for i in self.wrt]
            output = self.function(*args, **self.kwargs)
            zeros = [np.zeros_like(points[i]) for i in self.wrt]
            if isinstance(output, Scalar):
                first = scalar_gradients(output, variables, create_graph=True)
                total: Any = sum(g * float(w) for g, w in zip(first, weights, strict=True))
                if not isinstance(total, Scalar):
                    return zeros
                found = scalar_gradients(total * float(cotangent), variables)
                return [np.asarray(g) for g in found]
            if not isinstance(output, Tensor) or not output.requires_grad:
                return zeros
            seed = tensor(cotangent, output.dtype, backend=output.backend)
            first = gradients_of([output], variables, [seed], create_graph=True)
            total = ops.sum(
                ops.stack([ops.sum(g * w) for g, w in zip(first, weights, strict=True)])
            )
            if not total.requires_grad:
                return zeros
            return gradients_of([total], variables, [None])

    # ---- the two orders ----------------------------------------------------------------------

    def first_order(self) -> None:
        """Gradients of every element, or of random sums of the outputs when there are many."""
        output = self.value(self.points)
        if not np.isfinite(output).all():
            self._fail("NONFINITE", "the output is not finite at this point")
            return
        rng = np.random.default_rng(self.seed)
        size = sum(self.points[i].size for i in self.wrt)
        if not output.size:
            cotangents = [np.zeros(output.shape)]  # the shapes of gradients still count
        elif output.size * size <= FULL:
            units = np.eye(output.size).reshape(-1, *output.shape)
            cotangents = [_signed(rng, output.shape), *units]
        else:
            cotangents = [_signed(rng, output.shape) for _ in range(3)]
        # Numeric derivatives of all outputs by an input are shared by all cotangents.
        tables = [self._numeric(self.value, i, rng) for i in self.wrt]
        for cotangent in cotangents:
            found = self.gradient(self.points, cotangent)
            for i, grad, table in zip(self.wrt, found, tables, strict=True):
                self._compare("VALUE", i, grad, table, cotangent, output)
                if not self.report.ok:
                    return

    def second_order(self) -> None:
        """Gradients of a random sum of the gradients."""
        output = self.value(self.points)
        if not output.size:
            return
        rng = np.random.default_rng(self.seed + 1)
        cotangent = _signed(rng, output.shape)
        weights = [_signed(rng, self.points[i].shape) for i in self.wrt]

        def inner(points: dict[int, np.ndarray]) -> np.ndarray:
            grads = self.gradient(points, cotangent)
            return np.asarray(
                sum(float((_host(g) * w).sum()) for g, w in zip(grads, weights, strict=True))
            )

        found = self.gradient_of_gradient(self.points, cotangent, weights)
        one = np.ones(())
        for i, grad in zip(self.wrt, found, strict=True):
            table = self._numeric(inner, i, rng)
            self._compare("SECOND_ORDER", i, grad, table, one, inner(self.points))

    # ---- numeric derivatives -----------------------------------------------------------------

    def _numeric(
        self, function: Callable[[dict[int, np.ndarray]], np.ndarray], i: int, rng: Any
    ) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """(flat index, derivative of every output, its uncertainty) for each tried element."""
        point = self.points[i]
        places = range(point.size)
        if point.size * max(function(self.points).size, 1) > FULL and point.size > 64:
            edges = {0, point.size - 1, 63, 64, min(255, point.size - 1), min(256, point.size - 1)}
            places = sorted(edges | set(rng.choice(point.size, 24, replace=False).tolist()))
        return [(k, *self._derivative(function, i, k)) for k in places]

    def _derivative(
        self, function: Callable[[dict[int, np.ndarray]], np.ndarray], i: int, k: int
    ) -> tuple[np.ndarray, np.ndarray]:
        point = self.points[i]
        x = point.reshape(-1)[k]
        step = STEP * 2.0 ** np.ceil(np.log2(max(1.0, abs(x))))

        def at(h: float) -> np.ndarray:
            moved = np.array(point, order="C")
            moved.reshape(-1)[k] = x + h
            return function({**self.points, i: moved})

        far, near = at(step) - at(-step), at(step / 2) - at(-step / 2)
        wide, narrow = far / (2 * step), near / step
        best = (4 * narrow - wide) / 3
        size = np.abs(at(0.0))
        noise = 16 * np.finfo(float).eps * size / step
        # The error of `narrow` bounds that of `best` amply: it is of lower order.
        return best, np.abs(best - narrow) ** 1.5 * 0.1 + np.abs(best - narrow) * 1e-3 + noise

    # ---- comparison --------------------------------------------------------------------------

    def _compare(
        self,
        code: str,
        i: int,
        grad: Any,
        table: list[tuple[int, np.ndarray, np.ndarray]],
        cotangent: np.ndarray,
        output: np.ndarray,
    ) -> None:
        point = self.points[i]
        if tuple(grad.shape) != point.shape:
            self._fail(
                "SHAPE", f"the gradient by input {i} has shape {tuple(grad.shape)}; the input has "
                f"{point.shape}",
            )  # fmt: skip
            return
        analytic = _host(grad)
        if analytic.dtype != np.float64:
            self._fail("DTYPE", f"the gradient by input {i} is {analytic.dtype}, not float64")
            return
        if not np.isfinite(analytic).all():
            self._fail("NONFINITE", f"the gradient by input {i} is not finite")
            return
        rows = []
        for k, derivative, error in table:
            numeric = float((derivative * cotangent).sum())
            scale = float((np.abs(derivative) * np.abs(cotangent)).sum())
            doubt = float((error * np.abs(cotangent)).sum())
            tolerance = self.atol + self.rtol * max(scale, 1.0) + 3 * doubt
            rows.append((k, float(analytic.reshape(-1)[k]), numeric, doubt, tolerance, scale))
        self.report.entries += len(rows)
        if not rows:
            return
        shares = [abs(a - n) / t for _, a, n, _, t, _ in rows]
        self.report.worst = max(self.report.worst, *shares)
        bad = [row for row, share in zip(rows, shares, strict=True) if not share <= 1]
        if bad:
            self._describe(code, i, bad, rows)
            return
        # A tolerance that large would let anything pass: say so instead.
        vague = [r for r in rows if r[4] > 1e-3 * max(abs(r[2]), r[5], 1.0)]
        if vague:
            k, a, n, doubt, _, _ = vague[0]
            self._fail(
                "INCONCLUSIVE",
                f"d(out)/d(input {i}) at {_index(k, point.shape)}: the numeric derivative is too "
                f"uncertain ({n:.6g} ± {doubt:.1g}, analytic {a:.6g}): a kink or a jump nearby? "
                "Move the point",
            )

    def _describe(self, code: str, i: int, bad: list[Any], rows: list[Any]) -> None:
        k, a, n, doubt, tolerance, _ = max(bad, key=lambda r: abs(r[1] - r[2]) / r[4])
        point = self.points[i]
        self._fail(
            code,
            f"d(out)/d(input {i}) at {_index(k, point.shape)} ({len(bad)} of {len(rows)} elements "
            f"wrong)\n  analytic {a:+.8g}   numeric {n:+.8g} ± {doubt:.1g}   tolerance "
            f"{tolerance:.1g}\n  input {i}: shape {point.shape}, {point.reshape(-1)[k]:.6g} there"
            + _pattern(bad, point, rows),
        )

    def _fail(self, code: str, text: str) -> None:
        self.report.failures.append(Failure(code, text))


def _pattern(bad: list[Any], point: np.ndarray, rows: list[Any]) -> str:
    """What kind of mistake it looks like."""
    analytic = np.array([r[1] for r in bad])
    numeric = np.array([r[2] for r in bad])
    if np.all(np.abs(analytic) < 1e-12):
        return "\n  pattern: analytic is 0: is the gradient cut off, or the input not seen?"
    if np.any(np.abs(numeric) > 1e-12):
        factor = float(analytic @ numeric / (numeric @ numeric))
        if np.allclose(analytic, factor * numeric, rtol=1e-4, atol=1e-10):
            hint = " (a sign error?)" if abs(factor + 1) < 1e-3 else ""
            return f"\n  pattern: analytic ≈ {factor:.4g} × numeric in all wrong elements{hint}"
    if point.ndim == 2 and len(rows) == point.size:
        whole = np.array([r[1] for r in rows]).reshape(point.shape)
        want = np.array([r[2] for r in rows]).reshape(point.shape)
        if point.shape[0] == point.shape[1] and np.allclose(whole.T, want, rtol=1e-4):
            return "\n  pattern: analytic is the transpose of numeric"
    return ""


def _signed(rng: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Random numbers of both signs, none of them near 0."""
    return np.asarray(rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape))


def _index(k: int, shape: tuple[int, ...]) -> str:
    place = ", ".join(str(int(j)) for j in np.unravel_index(k, shape)) if shape else ""
    return f"[{place}]"


def _host(x: Any) -> np.ndarray:
    return x.numpy() if isinstance(x, Tensor) else np.asarray(x)


def _is_float(x: Any) -> bool:
    if isinstance(x, Tensor):
        return x.dtype.kind == "f"
    return isinstance(x, (float, Scalar)) or (isinstance(x, np.ndarray) and x.dtype.kind == "f")


def _with_layout(value: np.ndarray, like: Any, backend: str | None) -> Tensor:
    """A leaf with `value`, laid out in memory as `like` is where that is an array."""
    made = tensor(value, requires_grad=True, backend=backend)
    if isinstance(like, np.ndarray) and made.backend == "numpy" and not like.flags.c_contiguous:
        laid_out = np.lib.stride_tricks.as_strided(
            np.empty(_span(like), dtype=value.dtype), value.shape, np.abs(like.strides)
        )
        if not _overlaps(like):
            laid_out[...] = value
            made._data = made._edge.data = laid_out  # pyright: ignore
    return made


def _span(like: np.ndarray) -> int:
    """How many elements of memory an array of these strides reaches over."""
    reach = sum((n - 1) * abs(s) for n, s in zip(like.shape, like.strides, strict=True) if n)
    return reach // like.itemsize + 1


def _overlaps(like: np.ndarray) -> bool:
    return any(s == 0 and n > 1 for n, s in zip(like.shape, like.strides, strict=True))
