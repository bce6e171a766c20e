"""microgpt: a property-tested autograd kernel with plugin backends.

>>> import microgpt as mg
>>> x = mg.tensor([1.0, 2.0, 3.0], requires_grad=True)
>>> mg.sum(x * x).backward()
>>> x.grad
tensor([2., 4., 6.])

Submodules (`mg.nn`, `mg.optim`, `mg.data`, …) are loaded when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from microgpt import errors as errors
from microgpt.config import use_backend
from microgpt.creation import (
    arange,
    asarray,
    eye,
    full,
    full_like,
    generator,
    linspace,
    nonzero,
    ones,
    rand,
    randn,
    zeros,
)
from microgpt.graph import configure, debug, enable_grad, no_grad
from microgpt.hooks import hookimpl
from microgpt.ops import (
    abs,
    add,
    add_scaled,
    all,
    any,
    argmax,
    argmin,
    argsort,
    astype,
    avg_pool2d,
    binary_cross_entropy_with_logits,
    broadcast_shapes,
    broadcast_to,
    cached_attention,
    ceil,
    clip,
    concat,
    conv2d,
    cos,
    cross_entropy,
    cumulative_sum,
    divide,
    dropout,
    einsum,
    embedding,
    equal,
    erf,
    exp,
    expand_dims,
    expm1,
    flatten,
    flip,
    floor,
    fold,
    fused,
    gather,
    gelu,
    greater,
    greater_equal,
    isfinite,
    isnan,
    layer_norm,
    less,
    less_equal,
    linear,
    log,
    log1p,
    log_softmax,
    logical_and,
    logical_not,
    logical_or,
    logsumexp,
    matmul,
    matrix_transpose,
    max,
    max_pool2d,
    maximum,
    mean,
    min,
    minimum,
    moveaxis,
    mse_loss,
    multiply,
    negative,
    not_equal,
    one_hot,
    ones_like,
    outer,
    pad,
    permute_dims,
    pow,
    primitive,
    prod,
    relu,
    repeat,
    reshape,
    rms_norm,
    round,
    scaled_dot_product_attention,
    scatter_add,
    self_attention,
    sigmoid,
    sign,
    silu,
    sin,
    softmax,
    softplus,
    sort,
    split,
    sqrt,
    square,
    squeeze,
    stack,
    subtract,
    sum,
    swapaxes,
    take,
    tan,
    tanh,
    tile,
    topk,
    tril,
    triu,
    unfold,
    var,
    where,
    zeros_like,
)
from microgpt.plugins import plugged
from microgpt.recompute import checkpoint
from microgpt.scalar import Scalar
from microgpt.tensor import Tensor, tensor
from microgpt.transforms import (
    grad,
    hessian,
    hvp,
    jacobian,
    jvp,
    value_and_grad,
    vjp,
)

if TYPE_CHECKING:
    from microgpt import array_api as array_api
    from microgpt import autograd as autograd
    from microgpt import backend as backend
    from microgpt import checkpoints as checkpoints
    from microgpt import cli as cli
    from microgpt import config as config
    from microgpt import data as data
    from microgpt import hooks as hooks
    from microgpt import models as models
    from microgpt import nn as nn
    from microgpt import ops as ops
    from microgpt import optim as optim
    from microgpt import plugins as plugins
    from microgpt import runs as runs
    from microgpt import testing as testing
    from microgpt import text as text
    from microgpt import tracing as tracing
    from microgpt import train as train
    from microgpt import viz as viz

__version__ = "0.1.0"

_SUBMODULES = (
    "array_api",
    "autograd",
    "backend",
    "checkpoints",
    "cli",
    "config",
    "data",
    "hooks",
    "models",
    "nn",
    "optim",
    "ops",
    "plugins",
    "runs",
    "testing",
    "text",
    "tracing",
    "train",
    "viz",
)


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f"microgpt.{name}")
    raise AttributeError(f"module 'microgpt' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES})


__all__ = [
    "Scalar",
    "Tensor",
    "abs",
    "add",
    "add_scaled",
    "all",
    "any",
    "arange",
    "argmax",
    "argmin",
    "argsort",
    "asarray",
    "astype",
    "avg_pool2d",
    "binary_cross_entropy_with_logits",
    "broadcast_shapes",
    "broadcast_to",
    "cached_attention",
    "ceil",
    "checkpoint",
    "clip",
    "concat",
    "configure",
    "conv2d",
    "cos",
    "cross_entropy",
    "cumulative_sum",
    "debug",
    "divide",
    "dropout",
    "einsum",
    "embedding",
    "enable_grad",
    "equal",
    "erf",
    "errors",
    "exp",
    "expand_dims",
    "expm1",
    "eye",
    "flatten",
    "flip",
    "floor",
    "fold",
    "full",
    "full_like",
    "fused",
    "gather",
    "gelu",
    "generator",
    "grad",
    "greater",
    "greater_equal",
    "hessian",
    "hookimpl",
    "hvp",
    "isfinite",
    "isnan",
    "jacobian",
    "jvp",
    "layer_norm",
    "less",
    "less_equal",
    "linear",
    "linspace",
    "log",
    "log1p",
    "log_softmax",
    "logical_and",
    "logical_not",
    "logical_or",
    "logsumexp",
    "matmul",
    "matrix_transpose",
    "max",
    "max_pool2d",
    "maximum",
    "mean",
    "min",
    "minimum",
    "moveaxis",
    "mse_loss",
    "multiply",
    "negative",
    "no_grad",
    "nonzero",
    "not_equal",
    "one_hot",
    "ones",
    "ones_like",
    "outer",
    "pad",
    "permute_dims",
    "plugged",
    "pow",
    "primitive",
    "prod",
    "rand",
    "randn",
    "relu",
    "repeat",
    "reshape",
    "rms_norm",
    "round",
    "scaled_dot_product_attention",
    "self_attention",
    "scatter_add",
    "sigmoid",
    "sign",
    "silu",
    "sin",
    "softmax",
    "softplus",
    "sort",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "stack",
    "subtract",
    "sum",
    "swapaxes",
    "take",
    "tan",
    "tanh",
    "tensor",
    "tile",
    "topk",
    "tril",
    "triu",
    "unfold",
    "use_backend",
    "value_and_grad",
    "var",
    "vjp",
    "where",
    "zeros",
    "zeros_like",
]
