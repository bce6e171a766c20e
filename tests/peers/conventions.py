"""Where a result is a convention: what ours is, what PyTorch's is, and why they differ if they do.

PyTorch's sample inputs are random, so that next to none of them lies on a kink, on a tie or at an
edge. These cases do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import microgpt as mg
from microgpt.errors import MicrogptError, ShapeError

INF, NAN = float("inf"), float("nan")


@dataclass(frozen=True)
class Convention:
    """One point, two libraries.

    Attributes:
        at: where.
        ours: our call, of a tensor.
        theirs: PyTorch's call, of the module and a tensor.
        value, gradient: our value there, and the gradient of the sum of values; None: any.
        their_value, their_gradient: PyTorch's, where they are others.
        error: what ours raises instead.
        documented: the function of ours whose documentation must say so, and the words.
        why: the reason for the difference, if there is one.
    """

    at: Any
    ours: Callable[[Any], Any]
    theirs: Callable[[Any, Any], Any]
    value: Any = None
    gradient: Any = None
    their_value: Any = None
    their_gradient: Any = None
    error: type[MicrogptError] | None = None
    documented: tuple[Any, str] | None = None
    why: str = ""


def constant(values: Any) -> Any:
    return mg.tensor(np.asarray(values, dtype=np.float64))


def double(torch: Any, values: Any) -> Any:
    return torch.tensor(values, dtype=torch.float64)


def attend_behind(x: Any) -> Any:
    """Two queries that look at three keys and values, one by one."""
    return mg.scaled_dot_product_attention(x[:2] * 0, x * 0, x, causal=True)


def attend_ahead(torch: Any, x: Any) -> Any:
    attention = torch.nn.functional.scaled_dot_product_attention
    return attention(x[None, :2] * 0, x[None] * 0, x[None], is_causal=True)[0]


ALIKE: dict[str, Convention] = {
    "relu at 0": Convention(
        at=[0.0, -0.0],
        ours=mg.relu,
        theirs=lambda torch, x: torch.relu(x),
        value=[0.0, 0.0],
        gradient=[0.0, 0.0],
        documented=(mg.relu, "the gradient at 0 is 0"),
    ),
    "abs at 0": Convention(
        at=[0.0],
        ours=mg.abs,
        theirs=lambda torch, x: torch.abs(x),
        gradient=[0.0],
        documented=(mg.abs, "the gradient at 0 is 0"),
    ),
    "sign at 0": Convention(
        at=[0.0], ours=mg.sign, theirs=lambda torch, x: torch.sign(x), value=[0.0], gradient=[0.0]
    ),
    "maximum of equals": Convention(
        at=[2.0],
        ours=lambda x: mg.maximum(x, constant([2.0])),
        theirs=lambda torch, x: torch.maximum(x, double(torch, [2.0])),
        gradient=[0.5],
        documented=(mg.maximum, "equal ones share the gradient"),
    ),
    "minimum of equals": Convention(
        at=[2.0],
        ours=lambda x: mg.minimum(x, constant([2.0])),
        theirs=lambda torch, x: torch.minimum(x, double(torch, [2.0])),
        gradient=[0.5],
        documented=(mg.minimum, "equal ones share the gradient"),
    ),
    "max of all, with ties": Convention(
        at=[2.0, 2.0, 1.0],
        ours=mg.max,
        theirs=lambda torch, x: torch.max(x),
        gradient=[0.5, 0.5, 0.0],
        documented=(mg.max, "each gets 1/k"),
    ),
    "max along an axis, with ties": Convention(
        at=[[2.0, 2.0, 1.0]],
        ours=lambda x: mg.max(x, axis=1),
        theirs=lambda torch, x: torch.amax(x, 1),
        gradient=[[0.5, 0.5, 0.0]],
        documented=(mg.max, "each gets 1/k"),
    ),
    "clip on the limits": Convention(
        at=[-1.0, 1.0, 2.0],
        ours=lambda x: mg.clip(x, -1, 1),
        theirs=lambda torch, x: torch.clamp(x, -1, 1),
        gradient=[1.0, 1.0, 0.0],
        documented=(mg.ops.TABLE["clip"], "1 inside and on the limits"),
    ),
    "round half to even": Convention(
        at=[0.5, 1.5, -2.5],
        ours=mg.round,
        theirs=lambda torch, x: torch.round(x),
        value=[0.0, 2.0, -2.0],
        gradient=[0.0, 0.0, 0.0],
        documented=(mg.round, "ties to even; the gradient is 0"),
    ),
    "0 to the power 0": Convention(
        at=[0.0], ours=lambda x: x**0, theirs=lambda torch, x: x**0, value=[1.0], gradient=[0.0]
    ),
    "0 to a tensor of powers": Convention(
        at=[0.0, 1.0],
        ours=lambda x: constant([0.0, 0.0]) ** x,
        theirs=lambda torch, x: double(torch, [0.0, 0.0]) ** x,
        value=[1.0, 0.0],
        gradient=[0.0, 0.0],
    ),
    "square root of 0": Convention(
        at=[0.0], ours=mg.sqrt, theirs=lambda torch, x: torch.sqrt(x), value=[0.0], gradient=[INF]
    ),
    "product with one 0": Convention(
        at=[0.0, 3.0, 2.0],
        ours=mg.prod,
        theirs=lambda torch, x: torch.prod(x),
        gradient=[6.0, 0.0, 0.0],
    ),
    "product with two 0s": Convention(
        at=[0.0, 0.0, 2.0],
        ours=mg.prod,
        theirs=lambda torch, x: torch.prod(x),
        gradient=[0.0, 0.0, 0.0],
    ),
    "equal elements keep their order": Convention(
        at=[1.0, 1.0, 0.0],
        ours=lambda x: mg.sort(x, descending=True)[0],
        theirs=lambda torch, x: torch.sort(x, stable=True, descending=True).values[0],
        gradient=[1.0, 0.0, 0.0],
        documented=(mg.argsort, "equal elements keep their order"),
    ),
    "softmax of a row masked out": Convention(
        at=[-INF, -INF],
        ours=mg.softmax,
        theirs=lambda torch, x: torch.softmax(x, 0),
        value=[NAN, NAN],
    ),
    "mean of nothing": Convention(
        at=[],
        ours=mg.mean,
        theirs=lambda torch, x: torch.mean(x),
        value=NAN,
        documented=(mg.mean, "The mean of no elements is NaN"),
    ),
}

DIFFERENT: dict[str, Convention] = {
    "max along one axis, with ties": Convention(
        at=[[2.0, 2.0, 1.0]],
        ours=lambda x: mg.max(x, axis=1),
        theirs=lambda torch, x: torch.max(x, 1).values,
        gradient=[[0.5, 0.5, 0.0]],
        their_gradient=[[1.0, 0.0, 0.0]],
        documented=(mg.max, "each gets 1/k"),
        why="PyTorch's max with dim follows the one position it returns; ours has one rule for all",
    ),
    "max pooling with ties": Convention(
        at=[[[[1.0, 1.0], [1.0, 1.0]]]],
        ours=lambda x: mg.max_pool2d(x, 2),
        theirs=lambda torch, x: torch.nn.functional.max_pool2d(x, 2),
        gradient=[[[[0.25, 0.25], [0.25, 0.25]]]],
        their_gradient=[[[[1.0, 0.0], [0.0, 0.0]]]],
        why="PyTorch keeps the first position; ours shares, as every maximum of the op table",
    ),
    "maximum with an equal number": Convention(
        at=[2.0],
        ours=lambda x: mg.maximum(x, 2.0),
        theirs=lambda torch, x: torch.clamp_min(x, 2.0),
        gradient=[0.5],
        their_gradient=[1.0],
        documented=(mg.maximum, "equal ones share the gradient"),
        why="PyTorch has no maximum with a number; its clamp counts the limit as inside",
    ),
    "hardtanh on the limits": Convention(
        at=[-1.0, 1.0],
        ours=lambda x: mg.clip(x, -1, 1),
        theirs=lambda torch, x: torch.nn.functional.hardtanh(x),
        gradient=[1.0, 1.0],
        their_gradient=[0.0, 0.0],
        documented=(mg.ops.TABLE["clip"], "1 inside and on the limits"),
        why="PyTorch's clamp and hardtanh disagree; ours goes with clamp",
    ),
    "softplus beyond 20": Convention(
        at=[25.0],
        ours=lambda x: mg.softplus(x) - x,
        theirs=lambda torch, x: torch.nn.functional.softplus(x) - x,
        value=[float(np.log1p(np.exp(-25.0)))],
        their_value=[0.0],
        why="PyTorch goes over to x at 20; ours is exact to the last places",
    ),
    "variance by default": Convention(
        at=[3.0, 4.0],
        ours=mg.var,
        theirs=lambda torch, x: torch.var(x),
        value=0.25,
        their_value=0.5,
        why="the array API divides by n unless told otherwise; PyTorch by n - 1",
    ),
    "the empty tuple of axes": Convention(
        at=[1.0, 2.0],
        ours=lambda x: mg.sum(x, ()),
        theirs=lambda torch, x: torch.sum(x, ()),
        value=[1.0, 2.0],
        their_value=3.0,
        why="no axis is no axis, as in NumPy and the array API; PyTorch reads all",
    ),
    "an axis of a 0-d array": Convention(
        at=1.0,
        ours=lambda x: mg.sum(x, 0),
        theirs=lambda torch, x: torch.sum(x, 0),
        their_value=1.0,
        error=ShapeError,
        why="a 0-d array has no axis 0, as in NumPy and the array API",
    ),
    "squeezing a long dimension": Convention(
        at=[[1.0, 2.0]],
        ours=lambda x: mg.squeeze(x, 1),
        theirs=lambda torch, x: torch.squeeze(x, 1),
        their_value=[[1.0, 2.0]],
        error=ShapeError,
        documented=(mg.squeeze, "must have length 1"),
        why="the array API demands an error; PyTorch passes over it",
    ),
    "losses of unequal shapes": Convention(
        at=[[1.0], [2.0]],
        ours=lambda x: mg.mse_loss(x, constant([1.0, 2.0])),
        theirs=lambda torch, x: torch.nn.functional.mse_loss(x, double(torch, [1.0, 2.0])),
        their_value=0.5,
        error=ShapeError,
        why="broadcasting (n, 1) with (n,) is a classic mistake; PyTorch only warns",
    ),
    "no target that counts": Convention(
        at=[[1.0, 2.0]],
        ours=lambda x: mg.cross_entropy(x, mg.tensor([-100])),
        theirs=lambda torch, x: torch.nn.functional.cross_entropy(x, torch.tensor([-100])),
        value=0.0,
        gradient=[[0.0, 0.0]],
        their_value=NAN,
        why="a batch of padding alone adds nothing to the loss; PyTorch's 0/0 spoils the sum",
    ),
    "causal attention with more keys than queries": Convention(
        at=[[1.0], [2.0], [3.0]],
        ours=attend_behind,
        theirs=attend_ahead,
        value=[[1.5], [2.0]],
        their_value=[[1.0], [1.5]],
        documented=(mg.scaled_dot_product_attention, "counted from the end when n ≠ m"),
        why="the last query belongs to the last key, as decoding with a cache needs it",
    ),
    "logsumexp of a row masked out": Convention(
        at=[-INF, -INF],
        ours=mg.logsumexp,
        theirs=lambda torch, x: torch.logsumexp(x, 0),
        value=-INF,
        gradient=[0.0, 0.0],
        their_gradient=[NAN, NAN],
        why="nothing that was masked out has an influence, so that its gradient is 0",
    ),
}

CONVENTIONS: dict[str, Convention] = {**ALIKE, **DIFFERENT}
