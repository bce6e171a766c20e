"""Adapters for reductions, sums along axes, ordering and linear algebra."""

from __future__ import annotations

from functools import reduce
from typing import Any

import numpy as np

import microgpt as mg
from tests.peers.comparison import Adapter, Lacking
from tests.peers.elementwise import float64_only


def axes(x: Any, dim: Any) -> Any:
    """`dim` as our axis.

    PyTorch reads an empty tuple as all dimensions, and lets 0 and -1 name a dimension of a
    0-d array; ours follow the array API, where both mean what they say.
    """
    if dim is None or dim == () or x.ndim == 0:
        return None
    return tuple(dim) if isinstance(dim, (tuple, list)) else dim


def reduction(op: Adapter) -> Adapter:
    """An adapter for `op`, of x, axis and keepdims."""

    def adapted(x: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
        float64_only(dtype)
        return op(x, axes(x, dim), keepdims=keepdim)

    return adapted


def with_positions(value: Adapter, position: Adapter) -> Adapter:
    """Largest or smallest element along one axis, and where it is."""

    def adapted(x: Any, dim: Any, keepdim: bool = False) -> Any:
        axis = axes(x, dim)
        return value(x, axis, keepdims=keepdim), position(x, axis, keepdims=keepdim)

    return adapted


def spread(root: bool = False, average: bool = False) -> Adapter:
    """Variance or its root, alone or with the mean."""

    def adapted(x: Any, dim: Any = None, unbiased: Any = None, **options: Any) -> Any:
        keepdims = options.pop("keepdim", False)
        correction = options.pop("correction", None)
        if isinstance(dim, bool):
            dim, unbiased = None, dim
        if unbiased is not None:
            correction = int(unbiased)
        if options:
            raise TypeError(f"arguments the adapter does not know: {options}")
        axis = axes(x, dim)
        found = mg.var(x, axis, 1.0 if correction is None else correction, keepdims)
        found = mg.sqrt(found) if root else found
        return (found, mg.mean(x, axis, keepdims)) if average else found

    return adapted


def cumsum(x: Any, dim: int, *, dtype: Any = None) -> Any:
    float64_only(dtype)
    return x * 1.0 if x.ndim == 0 else mg.cumulative_sum(x, dim)


def softmax(op: Adapter, sign: float = 1.0) -> Adapter:
    """softmax and its relatives; a 0-d array counts as one of one element."""

    def adapted(x: Any, dim: int, *, dtype: Any = None) -> Any:
        float64_only(dtype)
        if x.ndim == 0:
            return mg.reshape(op(mg.reshape(sign * x, (1,)), 0), ())
        return op(sign * x, dim)

    return adapted


def trace(x: Any) -> Any:
    return mg.sum(x * mg.eye(*x.shape, dtype="float64"))


def distinct(x: Any) -> bool:
    """Whether no two elements of `x` are equal, so that there is only one order."""
    host = x.numpy()
    return np.unique(host).size == host.size


def order(x: Any, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Any:
    """Axis and direction of a sort; both results agree only if the order is certain."""
    if x.ndim == 0:
        raise Lacking("an axis of a 0-d array")
    if not (stable or distinct(x)):
        raise Lacking("equal elements in the order of an unstable sort")
    return dim, descending


def argsort(x: Any, *args: Any, **kwargs: Any) -> Any:
    return mg.argsort(x, *order(x, *args, **kwargs))


def sort(x: Any, *args: Any, **kwargs: Any) -> Any:
    found = order(x, *args, **kwargs)
    return mg.sort(x, *found), mg.argsort(x, *found)


def msort(x: Any) -> Any:
    return mg.sort(x, order(x, 0)[0])


def topk(x: Any, k: int, dim: int = -1, largest: bool = True, ordered: bool = True) -> Any:
    order(x, dim)
    return mg.topk(x, k, dim, largest)


# ---- linear algebra --------------------------------------------------------------------------


def einsum(operands: Any, subscripts: str) -> Any:
    return mg.einsum(subscripts, *operands)


def plus_product(product: Adapter) -> Adapter:
    """β·x + α·(a times b)."""

    def adapted(x: Any, a: Any, b: Any, *, alpha: float = 1, beta: float = 1) -> Any:
        return beta * x + alpha * product(a, b)

    return adapted


def inner(a: Any, b: Any) -> Any:
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    return mg.einsum("...i,...i->...", a, b) if a.ndim == 1 else mg.einsum("ai,bi->ab", a, b)


def vecdot(a: Any, b: Any, *, dim: int = -1) -> Any:
    return mg.sum(a * b, dim)


def tensordot(a: Any, b: Any, *, dims: Any) -> Any:
    if isinstance(dims, int):
        dims = (list(range(a.ndim - dims, a.ndim)), list(range(dims)))
    left = [chr(ord("a") + i) for i in range(a.ndim)]
    right = [chr(ord("p") + i) for i in range(b.ndim)]
    for i, j in zip(*dims, strict=True):
        if a.shape[i] != b.shape[j]:
            raise Lacking("a dimension of 1 that contracts with a longer one")
        right[j] = left[i]
    kept = [c for c in left + right if (c in left) != (c in right)]
    return mg.einsum(f"{''.join(left)},{''.join(right)}->{''.join(kept)}", a, b)


REDUCING: dict[str, Adapter] = {
    "all": reduction(mg.all),
    "amax": reduction(mg.max),
    "amin": reduction(mg.min),
    "any": reduction(mg.any),
    "argmax": reduction(mg.argmax),
    "argmin": reduction(mg.argmin),
    "argsort": argsort,
    "cumsum": cumsum,
    "log_softmax": softmax(mg.log_softmax),
    "log_softmax:with_dtype": softmax(mg.log_softmax),
    "logsumexp": reduction(mg.logsumexp),
    "max:reduction_no_dim": mg.max,
    "max:reduction_with_dim": with_positions(mg.max, mg.argmax),
    "mean": reduction(mg.mean),
    "min:reduction_no_dim": mg.min,
    "min:reduction_with_dim": with_positions(mg.min, mg.argmin),
    "msort": msort,
    "nn.functional.softmin": softmax(mg.softmax, -1.0),
    "prod": reduction(mg.prod),
    "softmax": softmax(mg.softmax),
    "softmax:with_dtype": softmax(mg.softmax),
    "sort": sort,
    "std": spread(root=True),
    "std:unbiased": spread(root=True),
    "std_mean": spread(root=True, average=True),
    "sum": reduction(mg.sum),
    "topk": topk,
    "trace": trace,
    "var": spread(),
    "var:unbiased": spread(),
    "var_mean": spread(average=True),
    # Linear algebra.
    "__rmatmul__": lambda a, b: b @ a,
    "addbmm": plus_product(lambda a, b: mg.sum(a @ b, 0)),
    "addmm": plus_product(mg.matmul),
    "addmm:decomposed": plus_product(mg.matmul),
    "addmv": plus_product(mg.matmul),
    "addr": plus_product(mg.outer),
    "baddbmm": plus_product(mg.matmul),
    "bmm": mg.matmul,
    "dot": mg.matmul,
    "einsum": einsum,
    "inner": inner,
    "linalg.multi_dot": lambda matrices: reduce(mg.matmul, matrices),
    "linalg.vecdot": vecdot,
    "matmul": mg.matmul,
    "mm": mg.matmul,
    "mv": mg.matmul,
    "outer": mg.outer,
    "tensordot": tensordot,
}
