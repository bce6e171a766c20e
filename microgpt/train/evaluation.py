"""Loss and metrics on data that is not trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from microgpt.errors import InputError, ShapeError
from microgpt.graph import no_grad
from microgpt.nn import Module
from microgpt.ops.indexing import host_array
from microgpt.train.batches import counted, home, ignored_target, tensors

Metrics = Mapping[str, Callable[[Any, Any], float]]


def accuracy(
    outputs: Any, targets: Any, ignore_index: int = -100, *, axis: int | None = None
) -> float:
    """Share of the targets for which the largest output is at the right place.

    Args:
        outputs: (…, classes), or (n, classes, d1, …) as `mg.cross_entropy` takes them.
        targets: class numbers, of the shape of `outputs` without the classes.
        ignore_index: targets of this value do not count; NaN if none counts.
        axis: where the classes are, -1 or 1; by default where the shape of `targets` has them.

    Raises:
        ShapeError: if the shapes do not fit, or fit both ways, as (2, 3, 3) and (2, 3) do.

    Example:
        >>> import microgpt as mg
        >>> mg.train.accuracy(mg.eye(2), mg.tensor([0, 0]))
        0.5
    """
    scores, right = host_array(outputs), host_array(targets)
    shape = scores.shape
    fits = []
    if shape and shape[:-1] == right.shape:
        fits.append(-1)
    if len(shape) > 2 and shape[:1] + shape[2:] == right.shape:
        fits.append(1)
    if axis is not None:
        fits = [i for i in fits if axis in (i, i % len(shape))]
    if len(fits) == 2:
        raise ShapeError(
            f"accuracy: outputs of shape {shape} may have their classes in two places; required: "
            "axis=-1, (…, classes), or axis=1, (n, classes, d1, …)"
        )
    if not fits:
        raise ShapeError(
            f"accuracy: outputs of shape {shape} need class numbers of shape {shape[:-1]}"
            + (f", or {shape[:1] + shape[2:]} with the classes second" if len(shape) > 2 else "")
            + ("" if axis is None else f", and classes at axis={axis}")
            + f"; got {right.shape} (of one-hot rows: mg.argmax(targets, axis=-1))"
        )
    counts = right != ignore_index
    number = np.count_nonzero(counts)
    found = scores.argmax(axis=fits[0]) == right
    return float(np.count_nonzero(found & counts) / number) if number else float("nan")


def evaluate(
    model: Module, loss: Callable[..., Any], batches: Iterable[Any], metrics: Metrics | None = None
) -> dict[str, float]:
    """Loss and metrics over all batches, in evaluation mode, without training.

    Every batch weighs as much as the number of targets that its loss is the mean of: integer
    targets without those that are ignored (`loss.ignore_index`, or that of a functools.partial;
    -100 otherwise), or its rows if targets are floats. So the result is that of one batch of all
    examples.

    Raises:
        InputError: if there are no batches, or no target that counts.

    Example:
        >>> import numpy as np
        >>> import microgpt as mg
        >>> model, x = mg.nn.Linear(2, 2), np.zeros((4, 2), np.float32)
        >>> batches = mg.data.batches(x, np.zeros(4, int), batch_size=2)
        >>> sorted(mg.train.evaluate(model, mg.cross_entropy, batches))
        ['loss']
    """
    return measure(model, loss, batches, metrics, lambda: None)


def measure(
    model: Module,
    loss: Callable[..., Any],
    batches: Iterable[Any],
    metrics: Metrics | None,
    pause: Callable[[], object],
) -> dict[str, float]:
    """`evaluate`; `pause` is called before every batch and may raise."""
    totals: dict[str, float] = {}
    count = seen = 0
    place, ignored = home(model), ignored_target(loss)
    with model.evaluating(), no_grad():
        for batch in batches:
            pause()
            seen += 1
            *inputs, target = tensors(batch, place)
            size, _ = counted(target, ignored)
            if not size:
                continue  # the mean of nothing, which may be NaN, has no weight
            outputs = model(*inputs)
            values = {"loss": loss(outputs, target).item()}
            values |= {name: f(outputs, target) for name, f in (metrics or {}).items()}
            count += size
            for name, value in values.items():
                totals[name] = totals.get(name, 0.0) + value * size
    if not seen:
        raise InputError("evaluate got no batches (a generator that was used up?)")
    if not count:
        raise InputError(f"evaluate got no target that counts: all of them are {ignored}")
    return {name: total / count for name, total in totals.items()}
