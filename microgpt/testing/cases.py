"""Case: the inputs and parameters of one call of an op."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np


def _plain_call(function: Callable[..., Any], *inputs: Any, **params: Any) -> Any:
    return function(*inputs, **params)


@dataclass(frozen=True)
class Case:
    """What one test of an op gives to it.

    Attributes:
        inputs: NumPy arrays, in the order of the op's inputs.
        params: keyword parameters.
        call: how the public function is called with them.
        rows: positions of inputs that may have one more dimension in front: the op then does the
            same to each of its elements. Empty where that is not so.
        joined: these inputs have that dimension already (as images do), so rows are joined.
    """

    inputs: tuple[Any, ...]
    params: dict[str, Any] = field(default_factory=dict)
    call: Callable[..., Any] = _plain_call
    rows: tuple[int, ...] = ()
    joined: bool = False

    def floats(self) -> tuple[int, ...]:
        """Positions of the inputs that can be differentiated."""
        return tuple(
            i
            for i, x in enumerate(self.inputs)
            if x is not None and np.asarray(x).dtype.kind == "f"
        )

    def replaced(self, inputs: Sequence[Any], params: dict[str, Any] | None = None) -> Case:
        """The same call with other inputs, and perhaps other parameters."""
        return replace(self, inputs=tuple(inputs), params=self.params if params is None else params)
