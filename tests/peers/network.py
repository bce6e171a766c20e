"""Adapters for the ops of neural networks: layers, attention, windows and losses."""

from __future__ import annotations

from typing import Any

import numpy as np

import microgpt as mg
from tests.peers.comparison import Adapter, Lacking


def pair(value: Any) -> tuple[int, int]:
    """A number, a tuple of one or a pair, as a pair."""
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * 2 if len(values) == 1 else values  # pyright: ignore


def padding_of(padding: Any, size: tuple[int, ...], dilation: tuple[int, ...]) -> Any:
    """PyTorch's 'valid' and 'same' as numbers."""
    if padding == "valid":
        return (0,) * len(size)
    if padding != "same":
        return padding
    reach = [d * (k - 1) for k, d in zip(size, dilation, strict=True)]
    if any(r % 2 for r in reach):
        raise Lacking("padding of unequal width on both sides")
    return tuple(r // 2 for r in reach)


def batched(x: Any, ndim: int) -> tuple[Any, bool]:
    """`x` with a dimension for the batch, and whether it had to be made."""
    return (x, False) if x.ndim == ndim else (mg.expand_dims(x, 0), True)


def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    padding = padding_of(padding, weight.shape[2:], pair(dilation))
    images, single = batched(x, 4)
    y = mg.conv2d(images, weight, bias, pair(stride), pair(padding), pair(dilation), groups)
    return mg.squeeze(y, 0) if single else y


def first(value: Any) -> int:
    return value if isinstance(value, int) else value[0]


def conv1d(
    x: Any,
    weight: Any,
    bias: Any = None,
    *,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Any:
    width = padding_of(padding, weight.shape[2:], (first(dilation),))
    rows, single = batched(x, 3)
    y = mg.conv2d(
        mg.expand_dims(rows, 2),
        mg.expand_dims(weight, 2),
        bias,
        (1, first(stride)),
        (0, first(width)),
        (1, first(dilation)),
        groups,
    )
    y = mg.squeeze(y, 2)
    return mg.squeeze(y, 0) if single else y


def plain_pool(ceil_mode: bool, **others: Any) -> None:
    """Leave out pools that are not means or maxima of whole windows."""
    if ceil_mode:
        raise Lacking("windows that reach over the edge (ceil_mode)")
    for name, (value, usual) in others.items():
        if value != usual:
            raise Lacking(f"a pool with {name}")


def avg_pool2d(
    x: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: Any = None,
) -> Any:
    plain_pool(
        ceil_mode,
        count_include_pad=(count_include_pad, True),
        divisor_override=(divisor_override, None),
    )
    return mg.avg_pool2d(
        x, pair(kernel_size), None if stride in (None, ()) else pair(stride), pair(padding)
    )


def avg_pool1d(
    x: Any,
    kernel_size: Any,
    *,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Any:
    padded = first(padding) != 0
    plain_pool(ceil_mode, count_include_pad=(count_include_pad or not padded, True))
    size = first(kernel_size)
    step = size if stride is None else first(stride)
    return mg.squeeze(
        mg.avg_pool2d(mg.expand_dims(x, 2), (1, size), (1, step), (0, first(padding))), 2
    )


def max_pool2d(
    x: Any,
    *,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    plain_pool(ceil_mode, dilation=(pair(dilation), (1, 1)), return_indices=(return_indices, False))
    images, single = batched(x, 4)
    y = mg.max_pool2d(images, pair(kernel_size), pair(stride or kernel_size), pair(padding))
    return mg.squeeze(y, 0) if single else y


def unfold(x: Any, size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    images, single = batched(x, 4)
    y = mg.unfold(images, pair(size), pair(stride), pair(padding), pair(dilation))
    return mg.squeeze(y, 0) if single else y


def in_one_axis(x: Any, shape: Any, *parameters: Any) -> list[Any]:
    """`x` and the parameters with the dimensions of `shape` joined into the last one."""
    lead = x.shape[: x.ndim - len(shape)]
    joined = mg.reshape(x, (*lead, int(np.prod(shape))))
    return [joined, *[p if p is None else mg.flatten(p) for p in parameters]]


def layer_norm(
    x: Any, shape: Any, weight: Any = None, bias: Any = None, *, eps: float = 1e-5
) -> Any:
    rows, w, b = in_one_axis(x, shape, weight, bias)
    return mg.reshape(mg.layer_norm(rows, w, b, eps), x.shape)


def rms_norm(x: Any, shape: Any, weight: Any = None, *, eps: float | None = None) -> Any:
    rows, w = in_one_axis(x, shape, weight)
    small = float(np.finfo(np.float64).eps) if eps is None else eps
    return mg.reshape(mg.rms_norm(rows, w, small), x.shape)


def embedding(table: Any, indices: Any, **options: Any) -> Any:
    # The op info of PyTorch gives the table first.
    if options:
        raise Lacking(f"an embedding with {', '.join(sorted(options))}")
    return mg.embedding(indices, table)


def attention(
    q: Any,
    k: Any,
    v: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    enable_gqa: bool = False,
) -> Any:
    if dropout_p:
        raise Lacking("dropout inside attention")
    if enable_gqa and q.shape[-3] != k.shape[-3]:
        raise Lacking("fewer heads of keys than of queries")
    n, m = q.shape[-2], k.shape[-2]
    if is_causal and n != m:
        # PyTorch counts queries from the first key, ours from the last; see CONVENTIONS.
        visible = np.tril(np.ones((n, m), dtype=bool))
        return mg.scaled_dot_product_attention(q, k, v, mask=mg.tensor(visible))
    return mg.scaled_dot_product_attention(q, k, v, mask=attn_mask, causal=is_causal)


def cross_entropy(
    logits: Any,
    target: Any,
    *,
    weight: Any = None,
    reduction: str = "mean",
    ignore_index: int = -100,
) -> Any:
    if target.dtype.kind == "f":
        raise Lacking("probabilities as targets")
    if weight is not None:
        raise Lacking("weights of classes")
    return mg.cross_entropy(logits, target, reduction, ignore_index)


def binary_cross_entropy(
    logits: Any, target: Any, *, weight: Any = None, pos_weight: Any = None, reduction: str = "mean"
) -> Any:
    if weight is not None or pos_weight is not None:
        raise Lacking("weights of elements or classes")
    return mg.binary_cross_entropy_with_logits(logits, target, reduction)


def mse_loss(prediction: Any, target: Any, *, reduction: str = "mean") -> Any:
    return mg.mse_loss(prediction, target, reduction)


NETWORK: dict[str, Adapter] = {
    "nn.functional.avg_pool1d": avg_pool1d,
    "nn.functional.avg_pool2d": avg_pool2d,
    "nn.functional.binary_cross_entropy_with_logits": binary_cross_entropy,
    "nn.functional.conv1d": conv1d,
    "nn.functional.conv2d": conv2d,
    "nn.functional.cross_entropy": cross_entropy,
    "nn.functional.embedding": embedding,
    "nn.functional.layer_norm": layer_norm,
    "nn.functional.linear": mg.linear,
    "nn.functional.max_pool2d": max_pool2d,
    "nn.functional.mse_loss": mse_loss,
    "nn.functional.rms_norm": rms_norm,
    "nn.functional.scaled_dot_product_attention": attention,
    "nn.functional.unfold": unfold,
}
