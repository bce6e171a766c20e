"""Case: the inputs and parameters of one call of an op."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
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
    """

    inputs: tuple[Any, ...]
    params: dict[str, Any] = field(default_factory=dict)
    call: Callable[..., Any] = _plain_call

    def floats(self) -> tuple[int, ...]:
        """Positions of the inputs that can be differentiated."""
        return tuple(
            i
            for i, x in enumerate(self.inputs)
            if x is not None and np.asarray(x).dtype.kind == "f"
        )
