"""One op, or the gradient of one, on raw arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from microgpt.autograd import attach, gradients_of
from microgpt.graph import TensorBase, enable_grad, no_grad
from microgpt.ops import calls
from microgpt.ops.table import Op
from microgpt.plugins import registry
from microgpt.tensor import Tensor, tensor

Arrays = Sequence[Any]


@dataclass
class Call:
    """One op with its inputs (for a gradient: the output's, the output, then the op's inputs)."""

    op: Op
    inputs: tuple[Any, ...]
    params: dict[str, Any]
    phase: str
    within: str | None  # the op in whose gradient rule it runs
    operator: str = ""  # its sign, if it is one of the arrays' operators
    needs: tuple[bool, ...] = ()  # for the gradient of a fused op: by which inputs
    body: str = ""  # the backend without a kernel for it, which ran the op's body
    hosts: tuple[Any, ...] = ()  # the inputs as NumPy arrays
    host_params: dict[str, Any] = field(default_factory=dict)

    def kernel(self) -> str:
        """The name under which a backend supplies it, or the operator's sign."""
        return self.operator or self.op.name + ("_vjp" if self.needs else "")

    def title(self) -> str:
        """What ran, in words."""
        name = self.op.name + (f" (the arrays' operator {self.operator})" if self.operator else "")
        if self.within:
            return f"{name}, backward, in the gradient rule of {self.within}"
        return f"{name}, {self.phase}"


# ---- running an op on raw arrays ---------------------------------------------------------------


def plain(x: Any, convert: Callable[[Any], Any]) -> Any:
    """A parameter of an op, with the array of a tensor converted (a mask, for instance)."""
    return attach(Tensor, convert(x._data)) if isinstance(x, TensorBase) else convert(x)


def run_op(op: Op, inputs: Arrays, params: Mapping[str, Any]) -> Any:
    """The raw result of `op`, by the backend's kernel or by the op's body."""
    given = [attach(Tensor, x) if is_array(x) else x for x in inputs]
    with no_grad():
        return calls.run(op, tuple(given), dict(params))._data


def gradients(
    op: Op, g: Any, y: Any, inputs: Arrays, needs: Sequence[bool], params: Mapping[str, Any]
) -> list[Any]:
    """Raw gradients of a fused op, as a backward pass on the backend of `g` computes them.

    `y` is the output, or what the backend's kernel saved, or None where neither is read.
    """
    kernel = op.fast_rules[type(g)] if op.fast_rules is not None else None
    if kernel is not None:
        return list(kernel(g, y, *inputs, needs=tuple(needs), **params))
    if callable(op.rules):
        found = list(op.rules(g, y, *inputs, **params))
        return found + [None] * (len(inputs) - len(found))
    return _through_forward(op, g, inputs, needs, params)


def _through_forward(
    op: Op, g: Any, inputs: Arrays, needs: Sequence[bool], params: Mapping[str, Any]
) -> list[Any]:
    """The same by running the op once more, and going back through what it did."""
    backend = registry.backend_of(g)
    leaves: list[Any] = []
    for x, needed in zip(inputs, needs, strict=True):
        if is_array(x):
            x = tensor(attach(Tensor, x), None, needed, backend.name, backend.device(g))
        leaves.append(x)
    with enable_grad():
        out = calls.run(op, tuple(leaves), dict(params))
    wanted = [x for x, needed in zip(leaves, needs, strict=True) if needed]
    found = iter(gradients_of([out], wanted, [attach(Tensor, g)]))
    return [next(found)._data if needed else None for needed in needs]


def is_array(x: Any) -> bool:
    """Whether `x` is an array of a backend, and not a number, nothing, or a bare shape."""
    return hasattr(x, "shape") and hasattr(x, "dtype")


def is_float(x: Any) -> bool:
    """Whether `x` is a NumPy array of floats."""
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"
