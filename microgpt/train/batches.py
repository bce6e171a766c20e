"""The parts of a batch as tensors, and how much each batch counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from microgpt.autograd import attach
from microgpt.errors import InputTypeError
from microgpt.nn import Module
from microgpt.ops.indexing import host_array
from microgpt.plugins import registry
from microgpt.tensor import Tensor


def home(module: Module) -> Tensor | None:
    """A parameter, to see where the model lives and in which float type."""
    return next(iter(module.parameters()), None)


def tensors(batch: Any, like: Tensor | None) -> list[Any]:
    """The parts of a batch as tensors where the model lives, floats in its type."""
    if not isinstance(batch, (tuple, list)) or len(batch) < 2:
        raise InputTypeError(
            f"a batch is a tuple (inputs…, target); got {type(batch).__name__}"
            + (f" of {len(batch)}" if isinstance(batch, (tuple, list)) else "")
        )
    parts = list(batch)
    for i, part in enumerate(parts):
        if not isinstance(part, Tensor):
            parts[i] = _tensor(part, like)
    return parts


def _tensor(part: Any, like: Tensor | None) -> Tensor:
    if like is None:
        backend, device, wanted = registry.backend(), None, None
    else:
        backend = registry.backend_of(like._data)
        device, wanted = backend.device(like._data), backend.dtype(like._data)
    host = np.asarray(part)
    return attach(Tensor, backend.asarray(host, wanted if host.dtype.kind == "f" else None, device))


# ---- weights -----------------------------------------------------------------------------------


def ignored_target(loss: Callable[..., Any]) -> int:
    """The target that `loss` leaves out: its `ignore_index`, or -100 if it names none."""
    keywords = getattr(loss, "keywords", None)  # of a functools.partial
    if isinstance(keywords, dict) and "ignore_index" in keywords:
        return keywords["ignore_index"]
    return getattr(loss, "ignore_index", -100)


def counted(target: Any, ignored: int) -> tuple[int, int]:
    """How many targets the loss of a batch is the mean of, and how many examples or tokens it has.

    Integers are class numbers, each of which counts unless it is `ignored`; of other targets
    every row (example) counts.
    """
    host = host_array(target)
    rows = host.shape[0] if host.ndim else 1
    if host.dtype.kind in "iu":
        return int(np.count_nonzero(host != ignored)), host.size if host.ndim > 1 else rows
    return rows, rows


def unit(target: Any) -> str:
    """What a batch is counted in, for rates: tokens if every example has several class numbers."""
    host = host_array(target)
    return "tokens" if host.dtype.kind in "iu" and host.ndim > 1 else "examples"
