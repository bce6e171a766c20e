"""Optimizers, learning-rate schedules and gradient clipping, as in PyTorch."""

from microgpt.optim.adam import Adam, AdamW
from microgpt.optim.base import Optimizer
from microgpt.optim.clip import clip_grad_norm_, clip_grad_value_
from microgpt.optim.schedule import (
    CosineAnnealingLR,
    LambdaLR,
    LinearDecay,
    LinearLR,
    Schedule,
    SequentialLR,
    StepLR,
    WarmupCosine,
)
from microgpt.optim.sgd import SGD

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "CosineAnnealingLR",
    "LambdaLR",
    "LinearDecay",
    "LinearLR",
    "Optimizer",
    "Schedule",
    "SequentialLR",
    "StepLR",
    "WarmupCosine",
    "clip_grad_norm_",
    "clip_grad_value_",
]
