"""Normalisation: of every row (LayerNorm, RMSNorm) or of every channel over a batch (BatchNorm)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from microgpt import autograd, config, ops
from microgpt.errors import InputError, ShapeError
from microgpt.nn.module import Module, parameter
from microgpt.nn.shapes import axis_hint, image_hint
from microgpt.ops import elementwise as el
from microgpt.ops.replay import again
from microgpt.tensor import tensor


def _trailing(name: str, shape: int | Sequence[int]) -> tuple[int, ...]:
    sides = (shape,) if isinstance(shape, int) else tuple(shape)
    if not sides or not all(isinstance(n, int) and n > 0 for n in sides):
        raise InputError(
            f"{name}: normalized_shape must be a length or several, each at least 1; got {shape!r}"
        )
    return sides


class _RowNorm(Module):
    """What LayerNorm and RMSNorm share: the last dimensions of x, taken together as rows."""

    normalized_shape: tuple[int, ...]

    def _check(self, x: Any) -> None:
        want = self.normalized_shape
        shape = tuple(x.shape)
        if shape[-len(want) :] != want:
            dims = f"dimension {want[0]}" if len(want) == 1 else f"dimensions {want}"
            hint = axis_hint(shape, want[0]) if len(want) == 1 else ""
            raise ShapeError(
                f"{type(self).__name__}({self.extra_repr()}) was given shape {shape}; required: "
                f"last {dims}{hint}"
            )

    def _rows(self, x: Any) -> Any:
        """`x` with the normalised dimensions joined into one."""
        if x is None or len(self.normalized_shape) == 1:
            return x
        lead = tuple(x.shape)[: len(x.shape) - len(self.normalized_shape)]
        return ops.reshape(x, (*lead, math.prod(self.normalized_shape)))

    def extra_repr(self) -> str:
        """The sizes."""
        sides = self.normalized_shape
        return str(sides[0] if len(sides) == 1 else sides)


class LayerNorm(_RowNorm):
    """(x - mean) / √(var + ε) · weight + bias, over the last dimensions of x.

    Args:
        normalized_shape: length of the last dimension, or lengths of the last few, which are
            normalised together.
        eps: ε, added to the variance.
        elementwise_affine: whether there are a weight (ones at first) and a bias (zeros).
        bias: whether there is a bias, if there is a weight.
        dtype, backend, device: by default the configured ones.

    Shapes: x (…, *normalized_shape), and so is the result; weight and bias normalized_shape.

    Source: Ba, Kiros and Hinton, arXiv:1607.06450.

    Example:
        >>> import microgpt as mg
        >>> mg.nn.LayerNorm(2, eps=0.0)(mg.tensor([[1.0, 3.0]]))
        tensor([[-1.,  1.]], op=layer_norm)
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float = 1e-5,
        elementwise_affine: bool = True,
        bias: bool = True,
        *,
        dtype: Any = None,
        backend: str | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = _trailing("LayerNorm", normalized_shape)
        self.eps = eps
        self.weight = self.bias = None
        if elementwise_affine:
            sides = self.normalized_shape
            self.weight = parameter(np.ones(sides), dtype, backend, device)
            if bias:
                self.bias = parameter(np.zeros(sides), dtype, backend, device)

    def forward(self, x: Any) -> Any:
        """The same shape."""
        self._check(x)
        if len(self.normalized_shape) == 1:
            return ops.layer_norm(x, self.weight, self.bias, self.eps)
        rows, weight, bias = (self._rows(a) for a in (x, self.weight, self.bias))
        return ops.reshape(ops.layer_norm(rows, weight, bias, self.eps), tuple(x.shape))


class RMSNorm(_RowNorm):
    """x / √(mean x² + ε) · weight, over the last dimensions of x.

    Args:
        normalized_shape: length of the last dimension, or lengths of the last few, which are
            normalised together.
        eps: ε, added to the mean square; by default the float type's distance of 1 to the next
            number, as in PyTorch.
        elementwise_affine: whether there is a weight (ones at first).
        dtype, backend, device: by default the configured ones.

    Shapes: x (…, *normalized_shape), and so is the result; weight normalized_shape.

    Source: Zhang and Sennrich, arXiv:1910.07467.

    Example:
        >>> import microgpt as mg
        >>> mg.nn.RMSNorm(2, elementwise_affine=False)(mg.tensor([[3.0, -3.0]]))
        tensor([[ 1., -1.]])
    """

    def __init__(
        self,
        normalized_shape: int | Sequence[int],
        eps: float | None = None,
        elementwise_affine: bool = True,
        *,
        dtype: Any = None,
        backend: str | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__()
        self.normalized_shape = _trailing("RMSNorm", normalized_shape)
        self.eps = eps
        self.weight = None
        if elementwise_affine:
            self.weight = parameter(np.ones(self.normalized_shape), dtype, backend, device)

    def forward(self, x: Any) -> Any:
        """The same shape."""
        self._check(x)
        eps = self.eps
        if eps is None:
            dtype = el.numpy_dtype(x.dtype if self.weight is None else self.weight.dtype)
            if dtype.kind != "f":  # whole numbers become floats of the configured type
                dtype = np.dtype(config.get("dtype"))
            eps = float(np.finfo(dtype).eps)
        if len(self.normalized_shape) == 1:
            return ops.rms_norm(x, self.weight, eps)
        return ops.reshape(ops.rms_norm(self._rows(x), self._rows(self.weight), eps), x.shape)


class _BatchNorm(Module):
    """What BatchNorm1d and BatchNorm2d share: all but how many dimensions x has."""

    _ndims: tuple[int, ...]
    _wanted: str
    running_mean: Any
    running_var: Any
    num_batches_tracked: Any

    def __init__(
        self,
        num_features: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        dtype: Any = None,
        backend: str | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if num_features < 1:
            raise InputError(f"{name} needs at least one feature; got {num_features}")
        if momentum is not None and not 0 <= momentum <= 1:
            raise InputError(
                f"{name}: momentum is the share of the newest batch, from 0 to 1, or None for the "
                f"mean of all batches; got {momentum}"
            )
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.track_running_stats = track_running_stats
        self.weight = self.bias = None
        zeros, ones = np.zeros(num_features), np.ones(num_features)
        if affine:
            self.weight = parameter(ones, dtype, backend, device)
            self.bias = parameter(zeros, dtype, backend, device)
        if track_running_stats:
            for buffer, values in (("running_mean", zeros), ("running_var", ones)):
                made = parameter(values, dtype, backend, device).detach()
                self.register_buffer(buffer, made)
            counted = tensor(np.int64(0), backend=backend, device=device)
            self.register_buffer("num_batches_tracked", counted)

    def forward(self, x: Any) -> Any:
        """The same shape."""
        self._check(x)
        axes = (0, *range(2, len(x.shape)))
        spread = (self.num_features, *[1] * (len(x.shape) - 2))
        mean = None
        if self.training or not self.track_running_stats:
            mean = ops.mean(x, axis=axes, keepdims=True)
            centred = x - mean
            variance = ops.mean(ops.square(centred), axis=axes, keepdims=True)
        else:
            centred = x - ops.reshape(self.running_mean, spread)
            variance = ops.reshape(self.running_var, spread)
        y = centred / ops.sqrt(variance + self.eps)
        if self.weight is not None:
            y = y * ops.reshape(self.weight, spread) + ops.reshape(self.bias, spread)
        # At the end: a batch that was refused leaves no trace.
        if self.training and self.track_running_stats and not again():
            self._track(mean, variance, math.prod(x.shape) // self.num_features)
        return y

    def _track(self, mean: Any, variance: Any, n: int) -> None:
        """Move the running statistics towards those of a batch with `n` values per channel."""
        with autograd.no_grad():
            count = self.num_batches_tracked + 1
            share = self.momentum
            if share is None:
                share = 1 / count.item()
            flat = (self.num_features,)
            unbiased = ops.reshape(variance, flat) * (n / (n - 1))
            running_mean = (1 - share) * self.running_mean + share * ops.reshape(mean, flat)
            self.running_var = (1 - share) * self.running_var + share * unbiased
            self.running_mean, self.num_batches_tracked = running_mean, count

    def _check(self, x: Any) -> None:
        shape = tuple(x.shape)
        if len(shape) not in self._ndims or shape[1] != self.num_features:
            raise ShapeError(
                f"{type(self).__name__}({self.num_features}) was given shape {shape}; required: "
                f"{self._wanted.format(self.num_features)}{self._hint(shape)}"
            )
        batch = self.training or not self.track_running_stats
        if batch and math.prod(shape) <= self.num_features:
            raise ShapeError(
                f"{type(self).__name__}({self.num_features}) was given shape {shape}: fewer "
                "than two values per channel have no variance; required in training: a larger "
                "batch (or .eval(), which uses the running statistics)"
            )

    def _hint(self, shape: tuple[int, ...]) -> str:
        return ""

    def extra_repr(self) -> str:
        """The number of channels."""
        return str(self.num_features)


class BatchNorm1d(_BatchNorm):
    """(x - mean) / √(var + ε) · weight + bias of every channel, over the batch.

    In training, mean and variance of each channel are those of the batch; they also move the
    running ones, which are used in evaluation: running ← (1 - momentum)·running + momentum·batch,
    with the unbiased variance, as in PyTorch.

    Args:
        num_features: c, the number of channels.
        eps: ε, added to the variance.
        momentum: share of the newest batch in the running statistics; None gives every batch so
            far the same share.
        affine: whether there are a weight (ones at first) and a bias (zeros).
        track_running_stats: whether there are running statistics; without, every batch is
            normalised by its own, in evaluation too.
        dtype, backend, device: by default the configured ones.

    Shapes: x (n, c) or (n, c, length), and so is the result; everything else (c,).

    Raises:
        ShapeError: also in training, if a batch has one value per channel.

    Source: Ioffe and Szegedy, arXiv:1502.03167.

    Example:
        >>> import microgpt as mg
        >>> layer = mg.nn.BatchNorm1d(1, eps=0.0)
        >>> layer(mg.tensor([[1.0], [3.0]])).tolist(), layer.running_mean.tolist()
        ([[-1.0], [1.0]], [0.20000000298023224])
    """

    _ndims = (2, 3)
    _wanted = "(n, {0}) or (n, {0}, length)"

    def _hint(self, shape: tuple[int, ...]) -> str:
        if shape == (self.num_features,):
            return "; a single row: x[None] puts the batch in front"
        if len(shape) == 3 and shape[-1] == self.num_features:
            return "; channels stand last here: mg.permute_dims(x, (0, 2, 1)) puts them second"
        if len(shape) == 4:
            return "; for images there is nn.BatchNorm2d"
        return ""


class BatchNorm2d(_BatchNorm):
    """`BatchNorm1d` for images (n, c, height, width): the same arguments.

    Example:
        >>> import microgpt as mg
        >>> layer = mg.nn.BatchNorm2d(3)
        >>> layer(mg.ones((2, 3, 4, 4))).shape, sorted(layer.state_dict())
        ((2, 3, 4, 4), ['bias', 'num_batches_tracked', 'running_mean', 'running_var', 'weight'])
    """

    _ndims = (4,)
    _wanted = "(n, {0}, height, width)"

    def _hint(self, shape: tuple[int, ...]) -> str:
        return image_hint(shape, self.num_features)
