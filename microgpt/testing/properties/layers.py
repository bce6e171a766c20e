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


def _batch_norm(d: Drawer, kind: Any) -> Any:
    """In evaluation: in training, a row is normalised by the others, see the next law."""
    layer = kind(WIDTH, d.sampled([1e-5, 0.1]), affine=d.boolean(), dtype="float64")
    layer.running_mean = constant(d.filled((WIDTH,)))
    layer.running_var = constant(np.exp(d.filled((WIDTH,), -1, 1)))
    return layer.eval()


def _conv2d(d: Drawer) -> Any:
    groups, stride = d.sampled([1, WIDTH]), d.number(1, 2)
    padding = d.sampled([0, 1, "valid"] + ["same"] * (stride == 1))
    window = (d.number(1, 3), d.number(1, 2))
    return nn.Conv2d(
        WIDTH, 2 * WIDTH, window, stride, padding, d.number(1, 2), groups, d.boolean(),
        generator=d.rng(), dtype="float64",
    )  # fmt: skip


def _cnn(d: Drawer) -> Any:
    made = models.CNN((5, 6), 3, WIDTH, (2, 3), generator=d.rng())
    return made.to(dtype="float64")


def _pool(d: Drawer, kind: Any) -> Any:
    return kind(d.sampled([2, 3, (2, 3)]), d.sampled([None, 1, (2, 1)]), d.sampled([0, 1]))


def _mlp(d: Drawer) -> Any:
    sizes = (WIDTH, *[d.number(1, 4) for _ in range(d.number(1, 3))])
    activation = d.sampled(["sigmoid", "relu", "tanh", "gelu", "silu"])
    made = models.MLP(sizes, activation, generator=d.rng())
    return made.to(dtype="float64")


WIDTH = 3
"""Length of the rows, or number of channels, that the modules below are given."""

_MADE: dict[str, Callable[[Drawer], Any]] = {
    "Linear": lambda d: nn.Linear(WIDTH, WIDTH, d.boolean(), generator=d.rng(), dtype="float64"),
    "Dropout": lambda d: nn.Dropout(0.5, generator=d.rng()).eval(),
    "GELU": lambda d: nn.GELU(d.sampled(["none", "tanh"])),
    "Sequential": _sequential,
    "LayerNorm": lambda d: nn.LayerNorm(WIDTH, 1e-5, d.boolean(), d.boolean(), dtype="float64"),
    "RMSNorm": lambda d: nn.RMSNorm(WIDTH, d.sampled([None, 0.1]), d.boolean(), dtype="float64"),
    "BatchNorm1d": lambda d: _batch_norm(d, nn.BatchNorm1d),
    "BatchNorm2d": lambda d: _batch_norm(d, nn.BatchNorm2d),
    "Conv2d": _conv2d,
    "AvgPool2d": lambda d: _pool(d, nn.AvgPool2d),
    "MaxPool2d": lambda d: _pool(d, nn.MaxPool2d),
    "Embedding": lambda d: nn.Embedding(
        WIDTH, 2, d.sampled([None, 0]), generator=d.rng(), dtype="float64"
    ),
    "MLP": _mlp,
    "CNN": _cnn,
}
"""How modules are made that have settings worth drawing; the others are made without."""

_MODELS = ("MLP", "CNN")


def _some_rows(d: Drawer, n: int) -> np.ndarray:
    return d.filled((n, *[d.number(1, 3) for _ in range(d.number(0, 1))], WIDTH))


def _some_images(d: Drawer, n: int) -> np.ndarray:
    return d.filled((n, WIDTH, 5, 6))


def _some_signals(d: Drawer, n: int) -> np.ndarray:
    return d.filled((n, WIDTH, *[d.number(1, 3) for _ in range(d.number(0, 1))]))


_INPUTS: dict[str, Callable[[Drawer, int], np.ndarray]] = {
    **dict.fromkeys(("Conv2d", "AvgPool2d", "MaxPool2d", "BatchNorm2d", "CNN"), _some_images),
    "BatchNorm1d": _some_signals,
    "Embedding": lambda d, n: d.rng().integers(0, WIDTH, (n, d.number(1, 3))),
}
"""A batch of n for modules that take no rows of `WIDTH`; integers have no gradient."""


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
    """Every layer and model: a row's output is that of the row alone, whatever else is there."""
    n = d.number(1, 4)
    i = d.number(0, n - 1)
    for name in (*_layers(), *_MODELS):
        module, values = _module(d, name), _INPUTS.get(name, _some_rows)(d, n)
        floats = values.dtype.kind == "f"
        x = leaf(values) if floats else mg.tensor(values)
        y = module(x)
        what = f"{name}, row {i} of {n}"
        near(f"{what}, compared with the row alone", y[i], module(x[i : i + 1])[0], 1e-13)
        if floats:
            (dx,) = gradients(y[i], [x], np.linspace(1, 2, y[i].size).reshape(y[i].shape))
            zero(f"{what}, gradient on the other rows", np.delete(dx, i, 0))


# ---- batch normalisation ---------------------------------------------------------------------


@law()
def batch_norm_statistics(d: Drawer) -> None:
    """Batch-norm in training: mean 0, variance v/(v+ε); in evaluation by the running ones."""
    kind, places = d.sampled([(nn.BatchNorm1d, 0), (nn.BatchNorm1d, 1), (nn.BatchNorm2d, 2)])
    channels, eps = d.number(1, 3), d.sampled([1e-12, 1e-5, 1e-2, 1.0])
    momentum = d.sampled([0.1, 0.0, 1.0, None])
    layer = kind(channels, eps, momentum, affine=False, dtype="float64")
    axes, spread = (0, *range(2, 2 + places)), (channels, *[1] * places)
    mean, var = np.zeros(channels), np.ones(channels)
    for batch in range(1, d.number(1, 3) + 1):
        shape = (d.number(2, 4), channels, *[d.number(1, 3) for _ in range(places)])
        values, g = d.filled(shape, away_from=(0.0,)), d.filled(shape)
        x = leaf(values)
        y = layer(x)
        m, v = values.mean(axes), values.var(axes)
        near("means of normalised channels", y.numpy().mean(axes), np.zeros(channels))
        near("variances of normalised channels", y.numpy().var(axes), v / (v + eps))
        (dx,) = gradients(y, [x], g)
        near(
            "sums of the gradients of a batch norm over a channel",
            dx.sum(axes), np.zeros(channels), scale=max(1.0, float(np.abs(dx).max())),
        )  # fmt: skip
        n = x.size // channels
        share = 1 / batch if momentum is None else momentum
        mean, var = mean + share * (m - mean), var + share * (v * n / (n - 1) - var)
        near(f"running mean after {batch} batches", layer.running_mean, mean)
        near(f"running variance after {batch} batches", layer.running_var, var)
    want = (values - mean.reshape(spread)) / np.sqrt(var + eps).reshape(spread)
    near("batch norm in evaluation", layer.eval()(x), want)
    near("running mean after an evaluation", layer.running_mean, mean)
