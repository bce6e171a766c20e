"""Functions that make tensors from nothing, with the names of the array API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from microgpt import config
from microgpt.errors import InputError
from microgpt.ops.indexing import host_array
from microgpt.tensor import Tensor, tensor

Shape = int | Sequence[int]


def _make(host: np.ndarray, dtype: Any, requires_grad: bool, backend: Any, device: Any) -> Tensor:
    chosen = dtype if dtype is not None else config.get("dtype") if host.dtype.kind == "f" else None
    return tensor(host, chosen, requires_grad, backend, device)


def full(
    shape: Shape,
    fill_value: float,
    *,
    dtype: Any = None,
    requires_grad: bool = False,
    backend: str | None = None,
    device: str | None = None,
) -> Tensor:
    """A tensor of one value everywhere.

    Example:
        >>> import microgpt as mg
        >>> mg.full((2,), 7.0)
        tensor([7., 7.])
    """
    return _make(np.full(shape, fill_value), dtype, requires_grad, backend, device)


def zeros(
    shape: Shape,
    *,
    dtype: Any = None,
    requires_grad: bool = False,
    backend: str | None = None,
    device: str | None = None,
) -> Tensor:
    """A tensor of zeros, of the configured float type unless `dtype` says otherwise."""
    return _make(np.zeros(shape), dtype, requires_grad, backend, device)


def ones(
    shape: Shape,
    *,
    dtype: Any = None,
    requires_grad: bool = False,
    backend: str | None = None,
    device: str | None = None,
) -> Tensor:
    """A tensor of ones, of the configured float type unless `dtype` says otherwise."""
    return _make(np.ones(shape), dtype, requires_grad, backend, device)


def arange(
    start: float,
    stop: float | None = None,
    step: float = 1,
    *,
    dtype: Any = None,
    backend: str | None = None,
    device: str | None = None,
) -> Tensor:
    """Numbers from `start` up to, not including, `stop`; with one argument from 0 up to it.

    Integers give int64, floats the configured float type.

    Example:
        >>> import microgpt as mg
        >>> mg.arange(1, 7, 2)
        tensor([1, 3, 5], dtype=int64)
    """
    if step == 0:
        raise InputError("arange needs a step other than 0")
    first, last = (0, start) if stop is None else (start, stop)
    return _make(np.arange(first, last, step), dtype, False, backend, device)


def linspace(
    start: float,
    stop: float,
    num: int,
    *,
    dtype: Any = None,
    backend: str | None = None,
    device: str | None = None,
) -> Tensor:
    """`num` numbers at equal distances from `start` to `stop`, both included."""
    return _make(np.linspace(start, stop, num), dtype, False, backend, device)


def eye(
    n_rows: int,
    n_cols: int | None = None,
    *,
    k: int = 0,
    dtype: Any = None,
    backend: str | None = None,
    device: str | None = None,
) -> Tensor:
    """A matrix with ones on diagonal `k` and zeros elsewhere."""
    return _make(np.eye(n_rows, n_cols, k), dtype, False, backend, device)


def full_like(x: Tensor, fill_value: float, *, dtype: Any = None) -> Tensor:
    """A tensor of one value with the shape, dtype and place of `x`."""
    return tensor(np.full(x.shape, fill_value), dtype or x.dtype, False, x.backend, x.device)


def asarray(
    obj: Any,
    *,
    dtype: Any = None,
    backend: str | None = None,
    device: str | None = None,
    copy: bool | None = None,
) -> Tensor:
    """`obj` itself if it is a fitting tensor and `copy` is not True, else a new tensor of it."""
    here = isinstance(obj, Tensor) and backend in (None, obj.backend)
    if here and not copy and device in (None, obj.device):
        return obj if dtype is None else obj.astype(dtype)
    return tensor(obj, dtype, False, backend, device)


def generator(seed: int | None = None) -> np.random.Generator:
    """A source of random numbers on the host: the same seed gives the same numbers everywhere.

    `seed` is by default the configured one; without any, every call gives other numbers.

    Example:
        >>> import microgpt as mg
        >>> int(mg.generator(0).integers(100)) == int(mg.generator(0).integers(100))
        True
    """
    return np.random.default_rng(config.resolve("seed", seed))


def randn(
    *shape: int,
    generator: np.random.Generator,
    dtype: Any = None,
    requires_grad: bool = False,
    backend: str | None = None,
    device: str | None = None,
) -> Tensor:
    """Independent numbers from the normal distribution of mean 0 and variance 1."""
    host = generator.standard_normal(shape)
    return _make(np.asarray(host), dtype, requires_grad, backend, device)


def rand(
    *shape: int,
    generator: np.random.Generator,
    dtype: Any = None,
    requires_grad: bool = False,
    backend: str | None = None,
    device: str | None = None,
) -> Tensor:
    """Independent numbers, uniform in [0, 1)."""
    return _make(np.asarray(generator.random(shape)), dtype, requires_grad, backend, device)


def nonzero(x: Tensor) -> tuple[Tensor, ...]:
    """Positions (int64) of the elements that are not 0, one tensor per dimension."""
    return tuple(tensor(i, backend=x.backend) for i in np.nonzero(host_array(x)))
