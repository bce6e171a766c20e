"""Losses as modules: prediction and target in, one number out."""

from __future__ import annotations

from typing import Any

from microgpt import ops
from microgpt.nn.module import Module


class _Loss(Module):
    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def extra_repr(self) -> str:
        return "" if self.reduction == "mean" else f"reduction='{self.reduction}'"


class MSELoss(_Loss):
    """Mean of squared differences over all elements."""

    def forward(self, prediction: Any, target: Any) -> Any:
        """Two tensors of the same shape."""
        return ops.mse_loss(prediction, target, self.reduction)


class SumSquaredError(Module):
    """Sum of squared differences of each example, averaged over examples: Σ(a-y)².

    The cost of 3Blue1Brown's chapters 2 to 4. For n outputs it is n times the `MSELoss`.

    Example:
        >>> import microgpt as mg
        >>> mg.nn.SumSquaredError()(mg.tensor([[0.5, 0.0], [0.0, 1.0]]), mg.eye(2)).item()
        0.125
    """

    def forward(self, prediction: Any, target: Any) -> Any:
        """Two tensors (examples, outputs)."""
        examples = max(prediction.shape[0], 1) if len(prediction.shape) > 1 else 1
        return ops.mse_loss(prediction, target, "sum") / float(examples)


class CrossEntropyLoss(_Loss):
    """-log softmax(logits)[target]; targets are class numbers; see `mg.cross_entropy`."""

    def __init__(self, reduction: str = "mean", ignore_index: int = -100) -> None:
        super().__init__(reduction)
        self.ignore_index = ignore_index

    def forward(self, logits: Any, target: Any) -> Any:
        """Logits (n, classes) and integer targets (n,)."""
        return ops.cross_entropy(logits, target, self.reduction, self.ignore_index)


class BCEWithLogitsLoss(_Loss):
    """Cross-entropy of independent yes/no answers, from scores before the sigmoid."""

    def forward(self, logits: Any, target: Any) -> Any:
        """Two tensors of the same shape; targets from 0 to 1."""
        return ops.binary_cross_entropy_with_logits(logits, target, self.reduction)
