"""The function under test, seen as a function of NumPy arrays, with its gradients.

Everything that knows about tensors and scalars is here; the checks work on arrays.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from microgpt import ops
from microgpt.autograd import gradients_of
from microgpt.errors import InputError, InputTypeError
from microgpt.graph import enable_grad
from microgpt.scalar import Scalar, scalar_gradients
from microgpt.tensor import Tensor, tensor

Points = dict[int, np.ndarray]
LAYOUTS = ("F", "reversed", "step")


@dataclass
class Pass:
    """One forward and backward pass: what came out, and what it may have spoilt."""

    output: np.ndarray
    gradients: list[Any]
    again: list[Any]
    """The gradients of a second pass over the same graph."""
    changed: list[str]
    """What was changed on the way."""
    aliased: list[int]
    """Positions in `gradients` of those that share memory with an input or the output."""
    trouble: Exception | None = None
    """What the second pass raised although the first did not."""


class Subject:
    """A function with the inputs at which it is checked.

    Attributes:
        name: the function's.
        wrt: positions of the inputs to differentiate by.
        points: their values, as float64 arrays.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        inputs: Sequence[Any],
        wrt: Sequence[int] | int | None,
        kwargs: dict[str, Any],
        backend: str | None = None,
    ) -> None:
        self.function, self.kwargs, self.backend = function, kwargs, backend
        self.name = name_of(function)
        self.inputs = list(inputs)
        arrays = any(isinstance(x, (np.ndarray, Tensor)) for x in inputs)
        self.scalars = not arrays and any(isinstance(x, (Scalar, float)) for x in inputs)
        # Beside arrays a plain number is a parameter, unless it is asked for.
        floats = [
            i for i, x in enumerate(inputs)
            if _is_float(x) and not (arrays and isinstance(x, (Scalar, float)))
        ]  # fmt: skip
        self.wrt = floats if wrt is None else [wrt] if isinstance(wrt, int) else list(wrt)
        if not self.wrt:
            raise InputError(
                f"gradcheck({self.name}) needs an input of floats to differentiate by: tensors, "
                f"NumPy arrays or Python floats, each an argument of its own; got "
                f"{', '.join(map(_kind, inputs)) or 'no inputs'} (a list: np.array([…]); an "
                "integer cannot be moved by a small step: write 3.0 instead of 3)"
            )
        self.points: Points = {i: self._point(i) for i in self.wrt}
        self.argument_names = _names(function, len(inputs))

    def _point(self, i: int) -> np.ndarray:
        if not 0 <= i < len(self.inputs):
            raise InputError(
                f"gradcheck({self.name}): wrt names input {i}; there are {len(self.inputs)}, "
                "counted from 0"
            )
        x = self.inputs[i]
        if isinstance(x, Scalar):
            x = x.data
        host = np.array(x.numpy() if isinstance(x, Tensor) else x)
        if host.dtype != np.float64:
            raise InputTypeError(
                f"gradcheck needs float64, in which differences are precise enough; input {i} "
                f"is {host.dtype}: convert it with .astype('float64')"
            ).about("gradcheck-float64")
        return np.ascontiguousarray(host).reshape(host.shape)

    def describe(self, i: int) -> str:
        """How messages call input `i`."""
        return f"input {i} '{self.argument_names[i]}'" if self.argument_names else f"input {i}"

    def moved(self, inputs: Sequence[Any]) -> Subject:
        """The same function at other inputs."""
        return Subject(self.function, inputs, self.wrt, self.kwargs, self.backend)

    # ---- calling it ----------------------------------------------------------------------------

    def _variables(self, points: Points, layout: str | None) -> list[Any]:
        args = [self._placed(x) for x in self.inputs]
        for i, value in points.items():
            if self.scalars:
                args[i] = Scalar(float(value))
                continue
            like = self.inputs[i]
            backend = self.backend or (like.backend if isinstance(like, Tensor) else None)
            made = tensor(value, requires_grad=True, backend=backend)
            if made.backend == "numpy":
                shape_of_memory = like if isinstance(like, np.ndarray) else None
                laid_out = in_layout(value, layout, shape_of_memory)
                made._data = made._edge.data = laid_out  # pyright: ignore
            args[i] = made
        return args

    def _placed(self, x: Any) -> Any:
        """Another argument, on the backend that was asked for."""
        return x.to(self.backend) if self.backend and isinstance(x, Tensor) else x

    def _call(self, args: list[Any]) -> Any:
        kwargs = {k: self._placed(v) for k, v in self.kwargs.items()}
        output = self.function(*args, **kwargs)
        if not isinstance(output, (Tensor, Scalar, float)):
            raise InputTypeError(
                f"gradcheck({self.name}) needs a function that returns a tensor or a scalar; got "
                f"{type(output).__name__}"
            )
        return output

    def value(self, points: Points) -> np.ndarray:
        """The output, as an array."""
        return _host(self._call(self._variables(points, None)))

    def gradient(
        self, points: Points, cotangent: np.ndarray, layout: str | None = None
    ) -> list[Any]:
        """Analytic gradients by each input of `wrt`, for a given gradient of the output.

        `layout` arranges inputs and cotangent in memory in another way.
        """
        return self.run(points, cotangent, layout, twice=False).gradients

    def run(
        self, points: Points, cotangent: np.ndarray, layout: str | None = None, twice: bool = True
    ) -> Pass:
        """A forward pass and one or two backward passes, watched."""
        with enable_grad():
            args = self._variables(points, layout)
            variables = [args[i] for i in self.wrt]
            output = self._call(args)
            if isinstance(output, Scalar):
                found, again = (_seeded(output, variables, cotangent) for _ in range(2))
                return Pass(_host(output), found, again, [], [])
            if not isinstance(output, Tensor) or not output.requires_grad:
                zeros = [np.zeros_like(points[i]) for i in self.wrt]
                return Pass(_host(output), zeros, zeros, [], [])
            before = [x.numpy() for x in variables], output.numpy()
            seed = tensor(cotangent, output.dtype, backend=output.backend)
            if seed.backend == "numpy":
                seed._data = in_layout(seed._data, layout, None)
            found = gradients_of([output], variables, [seed], retain_graph=twice)
            if not twice:
                return Pass(before[1], found, found, [], [])
            first = [_host(g) if isinstance(g, Tensor) else g for g in found]
            trouble = None
            try:
                again = gradients_of([output], variables, [seed], retain_graph=True)
            except Exception as error:  # the check says so where it compares both
                again, trouble = found, error
            changed = [
                self.describe(i)
                for i, x, old in zip(self.wrt, variables, before[0], strict=True)
                if not _same(x.numpy(), old)
            ]
            if not _same(output.numpy(), before[1]):
                changed.append("the output")
            if not _same(seed.numpy(), cotangent.astype(output.numpy().dtype)):
                changed.append("the cotangent")
            for k, (g, kept) in enumerate(zip(found, first, strict=True)):
                if not _same(_host(g), kept):
                    changed.append(f"the first gradient by {self.describe(self.wrt[k])}")
            values = [x._data for x in (*variables, output)]
            aliased = [k for k, g in enumerate(found) if any(_shared(g._data, v) for v in values)]
            return Pass(before[1], found, again, changed, aliased, trouble)

    def gradient_of_gradient(
        self, points: Points, cotangent: np.ndarray, weights: list[np.ndarray]
    ) -> list[Any]:
        """Analytic gradients of Σ weights · gradient."""
        with enable_grad():
            args = self._variables(points, None)
            variables = [args[i] for i in self.wrt]
            output = self._call(args)
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
            like = {"dtype": output.dtype, "backend": output.backend}
            parts = [
                ops.sum(g * tensor(w, **like))
                for g, w in zip(first, weights, strict=True)
            ]  # fmt: skip
            total = ops.sum(ops.stack(parts))
            if not total.requires_grad:
                return zeros
            return gradients_of([total], variables, [None])


def in_layout(value: np.ndarray, layout: str | None, like: np.ndarray | None) -> np.ndarray:
    """The same numbers, arranged in memory as `layout` says, or as in `like`."""
    if layout == "F":
        return np.array(value, order="F")
    if layout == "reversed" and value.ndim:
        return np.array(value[::-1])[::-1]
    if layout == "step" and value.ndim:
        wide = np.full((*value.shape[:-1], value.shape[-1] * 2), np.nan, value.dtype)
        wide[..., ::2] = value
        return wide[..., ::2]
    if layout is None and like is not None and not like.flags.c_contiguous and like.size:
        if _overlaps(like):
            return value  # elements that share memory cannot be moved one by one
        made = np.empty_like(like, dtype=value.dtype, order="K")
        if made.strides != like.strides and like.ndim == value.ndim:
            made = _strided(like, value.dtype)
        made[...] = value
        return made
    return value


def _overlaps(x: np.ndarray) -> bool:
    """Whether some elements may share memory, as in a broadcast array or a sliding window."""
    reach = 0
    for stride, n in sorted((abs(s), n) for n, s in zip(x.shape, x.strides, strict=True) if n > 1):
        if stride < reach + x.itemsize:
            return True
        reach += stride * (n - 1)
    return False


def _strided(like: np.ndarray, dtype: Any) -> np.ndarray:
    """An array with the strides of `like`, in memory of its own."""
    reach = sum((n - 1) * abs(s) for n, s in zip(like.shape, like.strides, strict=True))
    room = np.empty(reach // like.itemsize + 1, dtype)
    start = sum(
        (n - 1) * -s for n, s in zip(like.shape, like.strides, strict=True) if s < 0
    ) // like.itemsize  # fmt: skip
    return np.lib.stride_tricks.as_strided(room[start:], like.shape, like.strides)


def _shared(a: Any, b: Any) -> bool:
    arrays = isinstance(a, np.ndarray) and isinstance(b, np.ndarray)
    return arrays and a.size > 0 and np.shares_memory(a, b)


def _seeded(output: Scalar, variables: list[Any], cotangent: np.ndarray) -> list[np.ndarray]:
    """Gradients of a scalar times the cotangent, which so reaches the rules."""
    found = scalar_gradients(output * float(cotangent), variables)
    return [np.asarray(float(g) if isinstance(g, (int, float)) else g) for g in found]


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def _host(x: Any) -> np.ndarray:
    if isinstance(x, Tensor):
        return x.numpy()
    return np.asarray(float(x.data) if isinstance(x, Scalar) else x)


def name_of(function: Any) -> str:
    """The name of a function, also of one with some arguments filled in, or of a layer."""
    inner = getattr(function, "func", None) if isinstance(function, partial) else None
    return (
        name_of(inner)
        if inner is not None
        else getattr(function, "__name__", type(function).__name__)
    )


def _is_float(x: Any) -> bool:
    if isinstance(x, Tensor):
        return x.dtype.kind == "f"
    return isinstance(x, (float, Scalar)) or (isinstance(x, np.ndarray) and x.dtype.kind == "f")


def _kind(x: Any) -> str:
    kind = type(x).__name__
    return f"{kind} of {x.dtype}" if isinstance(x, (np.ndarray, Tensor)) else kind


def _names(function: Callable[..., Any], count: int) -> list[str]:
    """Names of the positional arguments, where they can be known."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return names[:count] if len(names) >= count else []
