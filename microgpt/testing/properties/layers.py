"""Laws of layers: dropout, embedding, shared weights, and rows that do not see each other."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

import microgpt as mg
from microgpt import models, nn
from microgpt.errors import ShapeError
from microgpt.testing.properties.base import law
from microgpt.testing.properties.comparing import (
    constant,
    gradients,
    holds,
    leaf,
    near,
    refused,
    same,
    zero,
)
from microgpt.testing.strategies import Drawer

# ---- dropout and embedding -------------------------------------------------------------------


@law()
def dropout_keeps_the_mean(d: Drawer) -> None:
    """Dropout: zeros and x/(1-p), as many as p says, so the mean stays; nothing in evaluation."""
    p, seed = d.sampled([0.0, 0.1, 0.5, 0.9]), d.number(0, 2**16)
    layer = nn.Dropout(p, generator=mg.generator(seed))
    n = 4096
    y = layer(constant(np.ones(n))).numpy()
    kept = y != 0
    near("what dropout kept of ones", y[kept], np.full(int(kept.sum()), 1 / (1 - p)), 1e-15)
    away, bound = abs(float(kept.mean()) - (1 - p)), 6 * np.sqrt(p * (1 - p) / n)
    holds(
        away <= bound,
        f"dropout with p={p} kept {int(kept.sum())} of {n}; required: {n * (1 - p):.0f} ± "
        f"{bound * n:.0f}, six standard deviations",
    )
    x = constant(d.array())
    same("dropout in evaluation", layer.eval()(x), x)


@law(9)
def dropout_goes_back_through_its_mask(d: Drawer) -> None:
    """Dropout: the backward pass uses the mask of the forward pass."""
    shape = d.shape()
    x, g = leaf(d.filled(shape, away_from=(0.0,))), d.filled(shape)
    p, seed = d.sampled([0.1, 0.5, 0.9]), d.number(0, 2**16)
    y = mg.dropout(x, p, generator=mg.generator(seed))
    (dx,) = gradients(y, [x], g)
    near("gradient of dropout times x, compared with g·y", dx * x.numpy(), g * y.numpy())


@law()
def no_row_no_embedding(d: Drawer) -> None:
    """An index that is no row of the table is refused, never taken for the nearest one."""
    rows, shape = d.number(1, 5), d.shape(0, 3, 1)
    table = leaf(d.filled((rows, d.number(1, 4))))
    index = np.asarray(d.rng().integers(-rows, rows, shape))
    same("embedding", mg.embedding(mg.tensor(index), table), table.numpy()[index])
    bad = index.copy()
    bad.reshape(-1)[d.number(0, bad.size - 1)] = d.sampled(
        [rows, rows + 1, 10 * rows, -rows - 1, -9 * rows]
    )
    refused(
        f"embedding of {bad.tolist()} in a table of {rows} rows",
        lambda: mg.embedding(mg.tensor(bad), table),
        ShapeError,
    )


@law(40)
def tied_weights_get_both_gradients(d: Drawer) -> None:
    """A weight used twice gets the sum of the gradients of both uses, and is one parameter."""
    rows, width = d.number(1, 5), d.number(1, 4)
    ids = mg.tensor(d.rng().integers(0, rows, d.shape(1, 2, 1)))
    values = d.filled((rows, width))
    tied = [leaf(values)]
    apart = [leaf(values), leaf(values)]

    def scores(table: mg.Tensor, out: mg.Tensor) -> mg.Tensor:
        return mg.linear(mg.tanh(mg.embedding(ids, table)), out)

    together = scores(tied[0], tied[0])
    g = d.filled(together.shape)
    first, second = gradients(scores(*apart), apart, g)
    near("gradient of a tied weight", gradients(together, tied, g)[0], first + second)
    model = nn.Sequential(nn.Linear(width, rows, bias=False), nn.Linear(width, rows, bias=False))
    model[0].weight = model[1].weight = tied[0]
    holds(
        [id(p) for p in model.parameters()] == [id(tied[0])],
        f"two layers with one weight have {len(model.parameters())} parameters; required: 1",
    )


# ---- rows of a batch -------------------------------------------------------------------------


def _sequential(d: Drawer) -> Any:
    parts = [_module(d, d.sampled(["Linear", "ReLU", "Tanh", "LogSoftmax"])) for _ in range(2)]
    return nn.Sequential(*parts)


def _mlp(d: Drawer) -> Any:
    sizes = (WIDTH, *[d.number(1, 4) for _ in range(d.number(1, 3))])
    activation = d.sampled(["sigmoid", "relu", "tanh", "gelu", "silu"])
    made = models.MLP(sizes, activation, generator=d.rng())
    return made.to(dtype="float64")


WIDTH = 3
"""Length of the rows that the modules below are given."""

_MADE: dict[str, Callable[[Drawer], Any]] = {
    "Linear": lambda d: nn.Linear(WIDTH, WIDTH, d.boolean(), generator=d.rng(), dtype="float64"),
    "Dropout": lambda d: nn.Dropout(0.5, generator=d.rng()).eval(),
    "GELU": lambda d: nn.GELU(d.sampled(["none", "tanh"])),
    "Sequential": _sequential,
    "MLP": _mlp,
}
"""How modules are made that have settings worth drawing; the others are made without."""


def _layers() -> list[str]:
    """The modules of `nn` that turn one tensor into one."""
    found = []
    for name in nn.__all__:
        kind = getattr(nn, name)
        if isinstance(kind, type) and issubclass(kind, nn.Module):
            arguments = list(inspect.signature(kind.forward).parameters)
            if len(arguments) == 2 and "args" not in arguments:
                found.append(name)
    return found


def _module(d: Drawer, name: str) -> Any:
    return _MADE[name](d) if name in _MADE else getattr(nn, name)()


@law(39, share=0.5)
def rows_of_a_batch_are_independent(d: Drawer) -> None:
    """Every layer and the MLP: a row's output is that of the row alone, whatever else is there."""
    shape = (d.number(1, 4), *[d.number(1, 3) for _ in range(d.number(0, 1))], WIDTH)
    values = d.filled(shape)
    i = d.number(0, shape[0] - 1)
    for name in (*_layers(), "MLP"):
        module, x = _module(d, name), leaf(values)
        y = module(x)
        what = f"{name}, row {i} of {shape[0]}"
        near(f"{what}, compared with the row alone", y[i], module(x[i : i + 1])[0], 1e-13)
        (dx,) = gradients(y[i], [x], np.linspace(1, 2, y[i].size).reshape(y[i].shape))
        zero(f"{what}, gradient on the other rows", np.delete(dx, i, 0))
