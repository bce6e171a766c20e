"""Ops that reduce along axes, and cumulative sums."""

from __future__ import annotations

import builtins
import math
from typing import Any

import numpy as np

from microgpt.errors import InputTypeError, ShapeError
from microgpt.ops import elementwise as el
from microgpt.ops import movement as mv
from microgpt.ops.declare import face, primitive

Axis = int | tuple[int, ...] | None


def normal_axes(name: str, axis: Axis, ndim: int) -> tuple[int, ...]:
    """`axis` as a tuple of numbers from 0 to ndim-1; None means all.

    Raises:
        ShapeError: if an axis does not exist or is named twice.
    """
    if axis is None:
        return tuple(range(ndim))
    axes = axis if isinstance(axis, tuple) else (axis,)
    found = []
    for a in axes:
        if not isinstance(a, (int, np.integer)):
            raise InputTypeError(f"{name}: axis must be an int or a tuple of ints; got {axis!r}")
        if ndim == 0:
            raise ShapeError(f"{name}: axis {a} of an array without dimensions; required: None")
        if not -ndim <= a < ndim:
            raise ShapeError(
                f"{name}: axis {a} does not exist in an array of {ndim} dimensions; required: "
                f"{-ndim} to {ndim - 1}"
            )
        found.append(int(a) % ndim)
    if len(set(found)) != len(found):
        raise ShapeError(f"{name}: axis {axis} names a dimension twice")
    return tuple(found)


def one_axis(name: str, axis: int, ndim: int) -> int:
    """`axis` as a number from 0 to ndim-1."""
    return normal_axes(name, (axis,), ndim)[0]


def count(shape: tuple[int, ...], axes: tuple[int, ...]) -> int:
    """How many elements a reduction of `shape` over `axes` puts together."""
    n = 1
    for a in axes:
        n *= shape[a]
    return n


def spread(g: Any, x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    """`g`, the gradient of a reduction of `x`, broadcast to the shape of `x`."""
    if not keepdims and axis and len(axis) < len(x.shape):
        g = mv.reshape(g, tuple([1 if i in axis else n for i, n in enumerate(x.shape)]))
    return mv.broadcast_to(g, tuple(x.shape))


def _kept(y: Any, x: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    """`y` with the reduced dimensions as ones, to compare it with `x`."""
    if keepdims:
        return y
    return mv.reshape(y, tuple([1 if i in axis else n for i, n in enumerate(x.shape)]))


def _ndim(name: str, x: Any) -> int:
    shape = getattr(x, "shape", None)
    if shape is None:
        raise InputTypeError(f"{name} takes a tensor or array; got a {type(x).__name__}")
    return builtins.len(shape)


_sum = primitive(
    "sum",
    vjp=(lambda g, y, x, axis, keepdims: spread(g, x, axis, keepdims),),
    reads=("",),
    doc="Σ x along axis",
    accuracy="reduction",
    domain=lambda d: d.reduction(d.array()),
)


@face(_sum)
def sum(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Sum of elements along `axis` (None: all of them). The sum of no elements is 0.

    Example:
        >>> import microgpt as mg
        >>> mg.sum(mg.tensor([[1.0, 2.0], [3.0, 4.0]]), axis=0)
        tensor([4., 6.])
    """
    return _sum(x, axis=normal_axes("sum", axis, _ndim("sum", x)), keepdims=keepdims)


_mean = primitive(
    "mean",
    vjp=(
        lambda g, y, x, axis, keepdims: (
            spread(g, x, axis, keepdims) * (1.0 / builtins.max(count(x.shape, axis), 1))
        ),
    ),
    reads=("",),
    floats=True,
    doc="Σ x / n along axis",
    accuracy="reduction",
    domain=lambda d: d.reduction(d.array(min_side=1)),
)


@face(_mean)
def mean(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Arithmetic mean along `axis` (None: of all elements). The mean of no elements is NaN.

    Example:
        >>> import microgpt as mg
        >>> mg.mean(mg.tensor([1.0, 2.0, 6.0])).item()
        3.0
    """
    return _mean(x, axis=normal_axes("mean", axis, _ndim("mean", x)), keepdims=keepdims)


def _var_rule(g: Any, y: Any, x: Any, axis: Any, correction: float, keepdims: bool) -> Any:
    n = count(x.shape, axis) - correction
    n = n if n > 0 else math.nan  # as the value is then
    centred = x - _mean(x, axis=axis, keepdims=True)
    return spread(g, x, axis, keepdims) * centred * (2.0 / n)


_var = primitive(
    "var",
    vjp=(_var_rule,),
    reads=("a",),
    floats=True,
    doc="Σ (x - mean)² / (n - correction) along axis",
    domain=lambda d: d.reduction(
        d.array(min_side=2), **d.optional(correction=d.sampled([0.0, 0.5, -1.0]))
    ),
)


@face(_var)
def var(x: Any, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Any:
    """Variance along `axis`; `correction=1` divides by n - 1 (the unbiased estimate).

    Example:
        >>> import microgpt as mg
        >>> mg.var(mg.tensor([1.0, 2.0, 3.0, 4.0])).item()
        1.25
    """
    axes = normal_axes("var", axis, _ndim("var", x))
    return _var(x, axis=axes, correction=float(correction), keepdims=keepdims)


def _extreme_rule(g: Any, y: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    # Equal extremes share the gradient, so that the shares add up to 1.
    hits = el.astype(el.equal(x, _kept(y, x, axis, keepdims)), g.dtype)
    share = hits / _sum(hits, axis=axis, keepdims=True)
    return spread(g, x, axis, keepdims) * share


_max = primitive(
    "max",
    vjp=(_extreme_rule,),
    reads=("ay",),
    doc="largest element along axis; equal ones share the gradient",
    kinks="share",
    accuracy="exact",
    domain=lambda d: d.reduction(d.distinct()),
)
_min = primitive(
    "min",
    vjp=(_extreme_rule,),
    reads=("ay",),
    doc="smallest element along axis; equal ones share the gradient",
    kinks="share",
    accuracy="exact",
    domain=lambda d: d.reduction(d.distinct()),
)


def _extreme(name: str, op: Any, x: Any, axis: Axis, keepdims: bool) -> Any:
    axes = normal_axes(name, axis, _ndim(name, x))
    if count(x.shape, axes) == 0:
        raise ShapeError(
            f"{name} of no elements is undefined; got shape {tuple(x.shape)} along axis {axis}"
        )
    return op(x, axis=axes, keepdims=keepdims)


@face(_max)
def max(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Largest element along `axis`. Where k elements are equally large, each gets 1/k of the
    gradient.

    Raises:
        ShapeError: if there are no elements to choose from.

    Example:
        >>> import microgpt as mg
        >>> mg.max(mg.tensor([[1.0, 5.0], [3.0, 4.0]]), axis=1)
        tensor([5., 4.])
    """
    return _extreme("max", _max, x, axis, keepdims)


@face(_min)
def min(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Smallest element along `axis`; see `max`.

    Example:
        >>> import microgpt as mg
        >>> mg.min(mg.tensor([[1.0, 5.0], [3.0, 4.0]]), axis=0)
        tensor([1., 4.])
    """
    return _extreme("min", _min, x, axis, keepdims)


def _prod_rule(g: Any, y: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    """g · (product of all the others), right for zeros: prefix products times suffix products."""
    shape = tuple(x.shape)
    rest = tuple([i for i in range(builtins.len(shape)) if i not in axis])
    moved = mv.permute_dims(x, rest + axis)
    kept = tuple([shape[i] for i in rest])
    n = count(shape, axis)
    rows = mv.reshape(moved, (*kept, n))
    others = _products_of_others(rows, n)
    back = mv.reshape(others, (*kept, *[shape[i] for i in axis]))
    inverse = tuple([(rest + axis).index(i) for i in range(builtins.len(shape))])
    return spread(g, x, axis, keepdims) * mv.permute_dims(back, inverse)


def _products_of_others(rows: Any, n: int) -> Any:
    """For each element of the last axis the product of all the others, in log₂(n) steps.

    With windows of 1, 2, 4… elements: the product of the others in a window of 2w is the product
    of the others in its half of w, times the whole other half. Padding with ones changes nothing.
    """
    kept = tuple(rows.shape[:-1])
    size = 1
    while size < n:
        size *= 2
    if size > n:
        ones = el.ones_like(
            mv.broadcast_to(
                _sum(rows * 0, axis=(-1 % rows.ndim,), keepdims=True), (*kept, size - n)
            )
        )
        rows = mv.concat([rows, ones], axis=-1)
    others = rows * 0 + 1.0
    products = rows
    width = 1
    while width < size:
        pairs = mv.reshape(products, (*kept, size // (2 * width), 2))
        swapped = mv.flip(pairs, axis=-1)
        factor = mv.reshape(swapped, (*kept, size // width, 1))
        others = mv.reshape(
            mv.reshape(others, (*kept, size // width, width)) * factor, (*kept, size)
        )
        left = mv.slice_axis(pairs, -1, 0, 1)
        right = mv.slice_axis(pairs, -1, 1, 2)
        products = mv.reshape(left * right, (*kept, size // (2 * width)))
        width *= 2
    return mv.slice_axis(others, -1, 0, n) if size > n else others


_prod = primitive(
    "prod",
    vjp=(_prod_rule,),
    reads=("a",),
    doc="Π x along axis; the gradient is right for zeros too",
    domain=lambda d: d.reduction(d.array(low=-2, high=2)),
)


@face(_prod)
def prod(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Product of elements along `axis`. The product of no elements is 1.

    Example:
        >>> import microgpt as mg
        >>> x = mg.tensor([0.0, 2.0, 3.0], requires_grad=True)
        >>> mg.prod(x).backward()
        >>> x.grad
        tensor([6., 0., 0.])
    """
    return _prod(x, axis=normal_axes("prod", axis, _ndim("prod", x)), keepdims=keepdims)


def _logsumexp_rule(g: Any, y: Any, x: Any, axis: Any, keepdims: bool) -> Any:
    # x - y is NaN where both are -∞ (all of a row masked out): its softmax counts as 0 there.
    top = _kept(y, x, axis, keepdims)
    safe = el.where(el.equal(top, -math.inf), 0.0, top)
    return spread(g, x, axis, keepdims) * el.exp(x - safe)


_logsumexp = primitive(
    "logsumexp",
    vjp=(_logsumexp_rule,),
    reads=("ay",),
    floats=True,
    doc="log Σ eˣ along axis, without overflow",
    domain=lambda d: d.reduction(d.array(min_side=1)),
)


@face(_logsumexp)
def logsumexp(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """log Σ exp(x) along `axis`, computed with the maximum taken out.

    Example:
        >>> import microgpt as mg
        >>> mg.logsumexp(mg.tensor([10000.0, 10000.0])).item()
        10000.693359375
    """
    axes = normal_axes("logsumexp", axis, _ndim("logsumexp", x))
    return _logsumexp(x, axis=axes, keepdims=keepdims)


_cumulative_sum = primitive(
    "cumulative_sum",
    vjp=(
        lambda g, y, x, axis: mv.flip(_cumulative_sum(mv.flip(g, axis=axis), axis=axis), axis=axis),
    ),
    reads=("",),
    doc="running sum along axis",
    accuracy="reduction",
    domain=lambda d: d.along(d.array(min_ndim=1)),
)


@face(_cumulative_sum)
def cumulative_sum(x: Any, axis: int = -1) -> Any:
    """Running sum along `axis`: element i is the sum of elements 0 to i.

    Example:
        >>> import microgpt as mg
        >>> mg.cumulative_sum(mg.tensor([1.0, 2.0, 3.0]))
        tensor([1., 3., 6.])
    """
    ndim = _ndim("cumulative_sum", x)
    return _cumulative_sum(x, axis=one_axis("cumulative_sum", axis, ndim))


def _arg(name: str, doc: str) -> Any:
    return primitive(
        name,
        nondifferentiable="a position",
        arity=1,
        doc=doc,
        accuracy="exact",
        domain=lambda d: d.position(d.distinct(min_side=1)),
    )


_argmax = _arg("argmax", "position of the largest element along axis (the first of equal ones)")
_argmin = _arg("argmin", "position of the smallest element along axis (the first of equal ones)")


def _position(name: str, op: Any, x: Any, axis: int | None, keepdims: bool) -> Any:
    ndim = _ndim(name, x)
    shape = tuple(x.shape)
    if axis is None:
        x, place = mv.reshape(x, (-1,)), 0
    else:
        place = one_axis(name, axis, ndim)
    if x.shape[place] == 0:
        raise ShapeError(f"{name} of no elements is undefined; got shape {shape}, axis {axis}")
    y = op(x, axis=place)
    if keepdims:
        kept = [1 if axis is None or i == place else n for i, n in enumerate(shape)]
        return mv.reshape(y, tuple(kept))
    return y


@face(_argmax)
def argmax(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """Positions (int64) of the largest elements along `axis`; the first one where several tie.

    Example:
        >>> import microgpt as mg
        >>> mg.argmax(mg.tensor([[1.0, 5.0], [4.0, 3.0]]), axis=1)
        tensor([1, 0], dtype=int64)
    """
    return _position("argmax", _argmax, x, axis, keepdims)


@face(_argmin)
def argmin(x: Any, axis: int | None = None, keepdims: bool = False) -> Any:
    """Positions (int64) of the smallest elements along `axis`; see `argmax`."""
    return _position("argmin", _argmin, x, axis, keepdims)


def _truth(name: str, doc: str) -> Any:
    return primitive(
        name,
        nondifferentiable="true or false",
        arity=1,
        doc=doc,
        accuracy="exact",
        domain=lambda d: d.reduction(d.array()),
    )


_any = _truth("any", "whether any element along axis is not 0")
_all = _truth("all", "whether all elements along axis are not 0")


@face(_any)
def any(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Whether any element along `axis` is true (not 0)."""
    return _any(x, axis=normal_axes("any", axis, _ndim("any", x)), keepdims=keepdims)


@face(_all)
def all(x: Any, axis: Axis = None, keepdims: bool = False) -> Any:
    """Whether all elements along `axis` are true (not 0)."""
    return _all(x, axis=normal_axes("all", axis, _ndim("all", x)), keepdims=keepdims)
