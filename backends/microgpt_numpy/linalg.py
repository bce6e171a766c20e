"""Matrix products by the BLAS that NumPy was built with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def matmul(a: Any, b: Any) -> Any:
    if b.ndim == 2 and a.ndim > 2 and a.flags.c_contiguous:
        # One call of the BLAS on a tall matrix instead of one per matrix of the stack.
        n = a.shape[-1]
        rows = a.reshape(a.size // n, n) if n else a
        if n:
            return np.matmul(rows, b).reshape(*a.shape[:-1], b.shape[-1])
    return np.matmul(a, b)


KERNELS: dict[str, Callable[..., Any]] = {"matmul": matmul}
