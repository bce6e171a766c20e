"""The activations of an MLP, layer by layer."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from microgpt.errors import InputTypeError, ShapeError
from microgpt.graph import no_grad
from microgpt.models.mlp import MLP
from microgpt.nn import Flatten, Linear, Module, Sequential
from microgpt.tensor import tensor
from microgpt.viz.style import array


class Column(NamedTuple):
    """One layer: its activations, and the weights that lead to it."""

    values: np.ndarray  # (neurons,)
    weights: np.ndarray | None  # (neurons, neurons before); None for the input


def flow(model: Any, x: Any) -> tuple[list[Column], bool]:
    """The input and the activations after every layer; whether the last are a softmax.

    Raises:
        InputTypeError: if the model is no MLP and no Sequential of Linear layers and activations.
        ShapeError: if `x` is not one input.
    """
    steps = _steps(model)
    weight = steps[0][0].weight
    values = array(x)
    if values.size != weight.shape[1]:
        raise ShapeError(
            f"mlp_flow: an input of shape {values.shape}; required: one input of "
            f"{weight.shape[1]} features"
        )
    columns = [Column(values.reshape(-1), None)]
    # What is not finite is seen in the picture.
    with no_grad(), np.errstate(invalid="ignore", over="ignore"):
        row = values.reshape(1, -1)
        now = tensor(row, weight.dtype, backend=weight.backend, device=weight.device)
        for layer, after in steps:
            now = layer(now)
            for module in after:
                now = module(now)
            columns.append(Column(now.numpy()[0], layer.weight.numpy()))
    if steps[-1][1]:
        return columns, False
    logits = columns[-1].values.astype(float)
    with np.errstate(invalid="ignore"):
        powers = np.exp(logits - logits.max())
    columns[-1] = columns[-1]._replace(values=powers / powers.sum())
    return columns, True


def _steps(model: Any) -> list[tuple[Any, list[Module]]]:
    """Each Linear with the modules that follow it."""
    if isinstance(model, MLP):
        last = len(model.layers) - 1
        return [
            (layer, [model.activation] if depth < last or model.squash else [])
            for depth, layer in enumerate(model.layers)
        ]
    if not isinstance(model, Sequential):
        raise InputTypeError(
            f"mlp_flow draws models.MLP and Sequential; got a {type(model).__name__}"
        )
    steps: list[tuple[Any, list[Module]]] = []
    for module in model:
        if isinstance(module, Linear):
            steps.append((module, []))
        elif steps:
            steps[-1][1].append(module)
        elif not isinstance(module, Flatten):  # the input is made one row anyway
            raise InputTypeError(
                f"mlp_flow: the model begins with a {type(module).__name__}; required: Linear "
                "layers (after a Flatten) and activations"
            )
    if not steps:
        raise InputTypeError("mlp_flow: the model has no Linear layer")
    return steps
