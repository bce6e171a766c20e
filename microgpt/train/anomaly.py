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
from microgpt.train.settings import Settings

_KEPT = "the weights are those from before this step, and nothing of it was saved; a smaller "

_NAMED = 3
"""How many parameters a message names."""


def explain(
    run: Run,
    backward: Callable[[], object],
    batches: Sequence[Sequence[Any]],
    what: str,
    settings: Settings,
) -> NoReturn:
    """Take the forward and backward pass of a step once more, under `mg.debug()`.

    Args:
        backward: takes them, with generators as they were at the start of the step.
        batches: tensors of the batches of the step.
        what: what was not finite.
        settings: those of `fit`, so that nothing is advised that is so already.

    Raises:
        AnomalyError: always, with the first op that made a NaN or an infinity.
    """
    head = f"{what} in step {run.step + 1}"
    advice = _KEPT + (
        "learning rate or clip_norm=1.0 often helps"
        if settings.clip_norm is None
        else f"learning rate than {run.optimizer.param_groups[0]['lr']:.3g} often helps"
    )
    run.optimizer.zero_grad()
    try:
        with debug(), np.errstate(all="ignore"):
            backward()
    except AnomalyError as error:
        raise AnomalyError(f"{head}: {error}\n  {advice}") from error
    finally:
        run.optimizer.zero_grad()
    bad = nonfinite(run.model)
    if bad:
        raise AnomalyError(
            f"{head}: {listed(bad)} {'was' if len(bad) == 1 else 'were'} not finite before it, "
            f"made so by an earlier step; {where_from(settings)}"
        )
    for batch in batches:
        for i, part in enumerate(batch):
            if not _finite(part):
                name = "the target" if i == len(batch) - 1 else f"input {i}"
                raise AnomalyError(f"{head}: {name} of the batch holds NaN or infinity")
    raise AnomalyError(
        f"{head}; repeated under mg.debug(), no op made a NaN or an infinity from finite numbers: "
        f"a constant of the model or of the loss is not finite, or the loss differs from call to "
        f"call\n  {advice}"
    )


def nonfinite(model: Module) -> list[str]:
    """Names of the parameters with a NaN or an infinity in them."""
    return [name for name, p in model.named_parameters() if not _finite(p)]


def listed(names: Sequence[str]) -> str:
    """The first names, and how many there are besides."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" … and {more} more" if more > 0 else "")


def where_from(settings: Settings) -> str:
    """What is known, or to be done, about parameters that are not finite."""
    if settings.clip_norm is not None or settings.log_every == 1:
        return "the gradients were finite, so the step was too long: take a smaller learning rate"
    return (
        "log_every=1 or a clip_norm checks the gradients of every step, and names the op that made "
        "the first NaN or infinity"
    )


def _finite(x: Any) -> bool:
    values = host_array(x)
    if values.dtype.kind != "f":
        return True
    # The sum of finite numbers is nearly always finite, and quick to have.
    with np.errstate(all="ignore"):
        return math.isfinite(float(values.sum())) or bool(np.isfinite(values).all())
