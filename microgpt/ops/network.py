"""Fused ops of neural networks: linear maps, embedding, dropout and losses."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from microgpt.errors import DTypeError, InputError, ShapeError
from microgpt.graph import TensorBase
from microgpt.ops import elementwise as el
from microgpt.ops import movement as mv
from microgpt.ops import reduction as rd
from microgpt.ops.activation import log_softmax
from microgpt.ops.declare import face, fused
from microgpt.ops.indexing import gather, host_array, integers, take
from microgpt.ops.linalg import matmul
from microgpt.ops.replay import note
from microgpt.plugins import registry


def _linear_rule(g: Any, y: Any, x: Any, weight: Any, bias: Any) -> tuple[Any, Any, Any]:
    rows = mv.reshape(g, (math.prod(g.shape[:-1]), g.shape[-1]))
    inputs = mv.reshape(x, (rows.shape[0], x.shape[-1]))
    return matmul(g, weight), matmul(mv.matrix_transpose(rows), inputs), rd.sum(rows, axis=0)


@fused(vjp=_linear_rule, reads="ab", arity=3, domain=lambda d: d.linear(), accuracy="reduction")
def _linear(x: Any, weight: Any, bias: Any) -> Any:
    """x · weightᵀ + bias"""
    y = matmul(x, mv.matrix_transpose(weight))
    return y if bias is None else y + bias


linear_unchecked = _linear
"""The op itself, for a layer that has compared the shapes with its own."""


@face(_linear)
def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """`x @ weight.T + bias`: shapes (…, n), (m, n), (m,) → (…, m), as in PyTorch.

    Raises:
        ShapeError: if the last dimension of x is not n.

    Example:
        >>> import microgpt as mg
        >>> mg.linear(mg.ones((2, 3)), mg.ones((4, 3))).shape
        (2, 4)
    """
    if len(weight.shape) != 2 or not x.shape or x.shape[-1] != weight.shape[1]:
        raise ShapeError(
            f"linear: x of shape {tuple(x.shape)} and weight of shape {tuple(weight.shape)}; "
            "required: x (…, n) and weight (m, n)"
        )
    if bias is not None and tuple(bias.shape) != (weight.shape[0],):
        raise ShapeError(
            f"linear: bias of shape {tuple(bias.shape)}; required: ({weight.shape[0]},), one "
            "number per row of the weight"
        )
    return _linear(x, weight, bias)


def embedding(indices: Any, weight: Any) -> Any:
    """Row `indices[…]` of the table `weight`: (…,) integers, (v, n) → (…, n).

    Raises:
        ShapeError: if an index is not a row of the table.

    Example:
        >>> import microgpt as mg
        >>> mg.embedding(mg.tensor([2, 0]), mg.eye(3))
        tensor([[0., 0., 1.],
                [1., 0., 0.]])
    """
    if len(weight.shape) != 2:
        raise ShapeError(f"embedding: the table must be (v, n); got {tuple(weight.shape)}")
    return take(weight, indices, axis=0)


def dropout(
    x: Any,
    p: float = 0.5,
    training: bool = True,
    *,
    generator: np.random.Generator | None = None,
) -> Any:
    """Each element set to 0 with probability `p`, the others divided by 1 - p.

    The mask is drawn on the host from `generator`, so it is the same on every backend. Outside
    training nothing happens. Source: Srivastava et al., JMLR 15 (2014).

    Raises:
        InputError: if p is not in [0, 1), or if there is no generator in training.
        DTypeError: if `x` holds no floats.

    Example:
        >>> import microgpt as mg
        >>> y = mg.dropout(mg.ones(4), p=0.5, generator=mg.generator(0))
        >>> sorted(set(y.tolist())) == [0.0, 2.0]
        True
    """
    if not 0 <= p < 1:
        raise InputError(f"dropout: p must be in [0, 1); got {p}")
    if not training or p == 0:
        return x
    if generator is None:
        raise InputError(
            "dropout in training draws random numbers and needs generator=; got None; pass "
            "mg.generator(seed), or use nn.Dropout, which has its own"
        )
    dtype = el.numpy_dtype(x.dtype)
    if dtype.kind != "f":
        raise DTypeError(f"dropout needs floats; got {dtype}; convert with x.astype('float32')")
    note(generator)
    keep = generator.random(tuple(x.shape), dtype=np.float32) >= p
    mask = np.multiply(keep, 1 / (1 - p), dtype=dtype)
    return el.multiply(x, like(x, mask))


def like(x: Any, values: np.ndarray) -> Any:
    """NumPy `values` as a constant of the dtype, backend and device of `x`."""
    if not isinstance(x, TensorBase):
        backend = registry.backend_of(x)
        return backend.asarray(values, backend.dtype(x), None)
    backend = registry.backend_of(x._data)
    result = x.__new__(type(x))
    result._data = backend.asarray(values, backend.dtype(x._data), backend.device(x._data))
    result._edge = None
    return result


# ---- losses ----------------------------------------------------------------------------------


def _reduced(name: str, losses: Any, reduction: str) -> Any:
    if reduction == "mean":
        return rd.mean(losses)
    if reduction == "sum":
        return rd.sum(losses)
    if reduction == "none":
        return losses
    raise InputError(f"{name}: reduction must be 'mean', 'sum' or 'none'; got {reduction!r}")


def _same_shape(name: str, a: Any, b: Any) -> None:
    if tuple(a.shape) != tuple(b.shape):
        raise ShapeError(
            f"{name}: prediction of shape {tuple(a.shape)} and target of shape {tuple(b.shape)}; "
            "required: equal shapes (a missing or extra dimension of length 1 would broadcast "
            "and give a wrong loss: reshape one of them)"
        )


def mse_loss(prediction: Any, target: Any, reduction: str = "mean") -> Any:
    """Squared differences; their mean, their sum, or each ('none').

    Example:
        >>> import microgpt as mg
        >>> mg.mse_loss(mg.tensor([1.0, 2.0]), mg.tensor([1.0, 4.0])).item()
        2.0
    """
    _same_shape("mse_loss", prediction, target)
    return _reduced("mse_loss", el.square(prediction - target), reduction)


def binary_cross_entropy_with_logits(logits: Any, target: Any, reduction: str = "mean") -> Any:
    """-(t·log σ(x) + (1-t)·log(1-σ(x))), computed as softplus(x) - t·x.

    Args:
        logits: scores before the sigmoid, any shape.
        target: probabilities from 0 to 1, same shape.

    Example:
        >>> import microgpt as mg
        >>> x = mg.tensor([10000.0, -10000.0])
        >>> mg.binary_cross_entropy_with_logits(x, mg.tensor([1.0, 0.0])).item()
        0.0
    """
    name = "binary_cross_entropy_with_logits"
    _same_shape(name, logits, target)
    return _reduced(name, el.softplus(logits) - logits * target, reduction)


@fused(index_inputs=(1,), domain=lambda d: d.classified())
def _cross_entropy(logits: Any, target: Any, ignore_index: int = -100) -> Any:
    """mean over rows of -log softmax(logits)[target]"""
    rows = host_array(target) != ignore_index
    safe = like_index(target, np.where(rows, host_array(target), 0))
    picked = gather(log_softmax(logits, axis=-1), safe, axis=-1)
    weights = like(logits, rows.reshape(-1, 1) / np.float64(max(int(rows.sum()), 1)))
    return -rd.sum(picked * weights)


def like_index(target: Any, values: np.ndarray) -> Any:
    """Integer `values` as a column, where `target` lives."""
    return integers("cross_entropy", values.reshape(-1, 1), target)


@face(_cross_entropy)
def cross_entropy(
    logits: Any, target: Any, reduction: str = "mean", ignore_index: int = -100
) -> Any:
    """-log of the probability that softmax(logits) gives to the right class.

    Args:
        logits: (classes,), (n, classes) or, as in PyTorch, (n, classes, d1, …).
        target: integer class numbers, of the shape of `logits` without the classes.
        reduction: 'mean' over the targets that count (0 if none does), 'sum', or 'none' (one loss
            per target).
        ignore_index: targets of this value do not count.

    Raises:
        ShapeError: if the shapes do not fit or a target is no class.
        DTypeError: if targets are not integers.

    Example:
        >>> import microgpt as mg
        >>> mg.cross_entropy(mg.tensor([[0.0, 10000.0]]), mg.tensor([1])).item()
        0.0
    """
    shape = tuple(logits.shape)
    want = shape[:1] + shape[2:] if len(shape) > 1 else ()
    got = tuple(getattr(target, "shape", np.shape(target)))
    if not shape or got != want:
        hint = ""
        if len(shape) > 2 and got == shape[:-1]:
            hint = (
                f"; classes stand last here: logits.reshape((-1, {shape[-1]})) and "
                "target.reshape(-1) make rows of them"
            )
        raise ShapeError(
            f"cross_entropy: logits of shape {shape} need integer targets of shape {want}; got "
            f"{got}{hint}"
        )
    classes = shape[1] if len(shape) > 1 else shape[0]
    try:
        index = integers("cross_entropy", target, logits)
    except DTypeError as error:
        raise DTypeError(
            f"{error}; for targets that are probabilities, sum -p·log_softmax"
        ) from None
    if len(shape) > 2:
        logits = mv.moveaxis(logits, 1, -1)
    rows = mv.reshape(logits, (-1, classes)) if len(shape) != 2 else logits
    flat = index if len(want) == 1 else mv.reshape(index, (-1,))
    if reduction == "mean":
        return _cross_entropy(rows, flat, ignore_index=ignore_index)
    host = host_array(flat)
    counted = host != ignore_index
    _check_classes(host[counted], classes)
    picked = gather(log_softmax(rows, axis=-1), like_index(flat, np.where(counted, host, 0)), -1)
    losses = mv.reshape(-(picked * like(picked, counted.reshape(-1, 1))), want)
    return _reduced("cross_entropy", losses, reduction)


def _check_classes(targets: np.ndarray, classes: int) -> None:
    if targets.size and (targets.min() < 0 or targets.max() >= classes):
        raise ShapeError(
            f"cross_entropy: targets must be from 0 to {classes - 1}; got {targets.min()} to "
            f"{targets.max()}"
        ).about("class-out-of-range")
