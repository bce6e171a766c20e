"""Calling an op of a backend with given numbers, arranged in memory in many ways."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import microgpt as mg
from microgpt.errors import MicrogptError
from microgpt.ops.table import Op
from microgpt.testing.cases import Case
from microgpt.testing.conformance import reference

LAYOUTS = ("plain", "transposed", "reversed", "step", "offset", "repeated")
"""How an array may lie in memory; all but the first are made by ops of the backend."""


@dataclass
class Call:
    """One call of an op.

    Attributes:
        inputs: NumPy arrays with the numbers that both sides get, or what else the op takes.
        layouts: for each input, one of `LAYOUTS`.
    """

    op: Op
    case: Case
    dtype: str
    layouts: tuple[str, ...] = ()
    inputs: list[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.inputs = [self._numbers(i, x) for i, x in enumerate(self.case.inputs)]

    def layout(self, i: int) -> str:
        """The layout of input `i`."""
        return self.layouts[i % len(self.layouts)] if self.layouts else "plain"

    def _numbers(self, i: int, x: Any) -> Any:
        """Floats are rounded to the type, so that both sides get the same numbers."""
        if not isinstance(x, np.ndarray):
            return x
        x = x.astype(self.dtype) if x.dtype.kind == "f" else x
        if self.layout(i) == "repeated" and x.ndim and x.dtype.kind == "f":
            x = np.broadcast_to(x[:1], x.shape) if len(x) else x
        return np.array(x)

    def differentiable(self) -> bool:
        """Whether the op has a gradient, and an input that it may flow to."""
        has_rule = self.op.rules is not None or self.op.body is not None
        return has_rule and bool(self.case.floats())

    def on(
        self, backend: str, inputs: Sequence[Any] | None = None, wanted: bool = False
    ) -> tuple[Any, list[Any]]:
        """The output on a backend, and the input tensors (leaves of a graph if `wanted`)."""
        exactly = backend == reference.NAME
        dtype = "float64" if exactly else self.dtype
        floats = set(self.case.floats()) if wanted else set()
        with mg.use_backend(backend):
            args = []
            for i, x in enumerate(self.inputs if inputs is None else inputs):
                if isinstance(x, np.ndarray):
                    x = x.astype(dtype) if x.dtype.kind == "f" else x
                    x = placed(x, "plain" if exactly else self.layout(i))
                    if i in floats:
                        x.requires_grad = True
                args.append(x)
            params = {k: _param(k, v, dtype) for k, v in self.case.params.items()}
            return self.case.call(self.op.function, *args, **params), args

    def gradients(
        self, backend: str, cotangent: np.ndarray, inputs: Sequence[Any] | None = None
    ) -> tuple[Any, list[Any]]:
        """The output, and the gradients by the float inputs (None where there is none)."""
        y, args = self.on(backend, inputs, wanted=True)
        if y.requires_grad:
            with mg.use_backend(backend):
                dtype = "float64" if backend == reference.NAME else self.dtype
                exactly = backend == reference.NAME
                layout = "plain" if exactly or not self.layouts else self.layouts[-1]
                y.backward(placed(cotangent.astype(dtype), layout))
        return y, [args[i].grad for i in self.case.floats()]

    def cotangent(self, shape: tuple[int, ...]) -> np.ndarray:
        """Numbers of both signs for the gradient of the output."""
        size = int(np.prod(shape))
        g = np.cos(np.arange(1.0, size + 1)).reshape(shape)
        if g.ndim and g.size and self.layouts and self.layouts[-1] == "repeated":
            g = np.broadcast_to(g[:1], shape)
        return np.array(g.astype(self.dtype))

    def __str__(self) -> str:
        shapes = ", ".join(
            str(x.shape) if isinstance(x, np.ndarray) else repr(x) for x in self.inputs
        )
        params = "".join(
            f", {k}={'an array' if isinstance(v, np.ndarray) else repr(v)}"
            for k, v in self.case.params.items()
        )
        ways = [self.layout(i) for i, x in enumerate(self.inputs) if isinstance(x, np.ndarray)]
        laid = f", laid out {', '.join(ways)}" if set(ways) - {"plain"} else ""
        return f"{self.op.name} of {shapes}{params} in {self.dtype}{laid}"


def _param(name: str, value: Any, dtype: str) -> Any:
    if isinstance(value, np.ndarray):
        return mg.tensor(value.astype(dtype) if value.dtype.kind == "f" else value)
    return dtype if name == "dtype" and np.dtype(value).kind == "f" else value


def placed(x: np.ndarray, layout: str) -> Any:
    """A tensor of the numbers `x`, arranged in memory in some way by ops of the backend in use.

    Where the backend cannot do that, or does it wrongly, the plain tensor: the checks of movement
    say so, and no other check shall.
    """
    if layout == "plain" or not x.ndim:
        return mg.tensor(x)
    try:
        with np.errstate(all="ignore"):
            made = _arranged(x, layout).detach()
            right = np.array_equal(made.numpy(), x, equal_nan=x.dtype.kind == "f")
    except (MicrogptError, ArithmeticError, ValueError, TypeError, IndexError):
        right, made = False, None
    return made if right and made is not None else mg.tensor(x)


def _arranged(x: np.ndarray, layout: str) -> Any:
    if layout == "transposed":
        axes = tuple(range(x.ndim))[::-1]
        return mg.permute_dims(mg.tensor(np.array(x.transpose(axes), order="C")), axes)
    if layout == "reversed":
        return mg.flip(mg.tensor(np.array(np.flip(x))))
    if layout == "step":
        wide = np.ones((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
        wide[..., ::2] = x
        return mg.tensor(wide)[..., ::2]
    if layout == "offset":
        longer = np.ones((x.shape[0] + 1, *x.shape[1:]), x.dtype)
        longer[1:] = x
        return mg.tensor(longer)[1:]
    return mg.broadcast_to(mg.tensor(x[:1]), x.shape)
