"""A loss or a gradient that is not finite: which op made it so."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from microgpt.errors import AnomalyError
from microgpt.graph import debug
from microgpt.nn import Module
from microgpt.ops.indexing import host_array
from microgpt.train.run import Run

_ADVICE = (
    "the weights are those from before this step, and nothing of it was saved; a smaller learning "
    "rate or clip_norm=1.0 often helps"
)


def explain(
    run: Run, backward: Callable[[], object], batches: Sequence[Sequence[Any]], what: str
) -> NoReturn:
    """Take the forward and backward pass of a step once more, under `mg.debug()`.

    Args:
        backward: takes them, with generators as they were at the start of the step.
        batches: tensors of the batches of the step.
        what: what was not finite.

    Raises:
        AnomalyError: always, with the first op that made a NaN or an infinity.
    """
    head = f"{what} in step {run.step + 1}"
    run.optimizer.zero_grad()
    try:
        with debug(), np.errstate(all="ignore"):
            backward()
    except AnomalyError as error:
        raise AnomalyError(f"{head}: {error}\n  {_ADVICE}") from error
    finally:
        run.optimizer.zero_grad()
    bad = nonfinite(run.model)
    if bad:
        raise AnomalyError(
            f"{head}: {', '.join(bad)} {'was' if len(bad) == 1 else 'were'} not finite before it, "
            "made so by the gradients of an earlier step; log_every=1 or a clip_norm checks the "
            "gradients of every step, and names the op"
        )
    for batch in batches:
        for i, part in enumerate(batch):
            if not _finite(part):
                name = "the target" if i == len(batch) - 1 else f"input {i}"
                raise AnomalyError(f"{head}: {name} of the batch holds NaN or infinity")
    raise AnomalyError(
        f"{head}; repeated under mg.debug(), no op made a NaN or an infinity from finite numbers: "
        f"a constant of the model or of the loss is not finite, or the loss differs from call to "
        f"call\n  {_ADVICE}"
    )


def nonfinite(model: Module) -> list[str]:
    """Names of the parameters with a NaN or an infinity in them."""
    return [name for name, p in model.named_parameters() if not _finite(p)]


def _finite(x: Any) -> bool:
    values = host_array(x)
    if values.dtype.kind != "f":
        return True
    # The sum of finite numbers is nearly always finite, and quick to have.
    with np.errstate(all="ignore"):
        return math.isfinite(float(values.sum())) or bool(np.isfinite(values).all())
