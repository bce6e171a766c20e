"""Layers, losses and initialisers, with the names and argument orders of PyTorch."""

from microgpt.nn import init as init
from microgpt.nn.activation import (
    GELU,
    LogSoftmax,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Tanh,
    activation,
)
from microgpt.nn.container import ModuleList, Sequential
from microgpt.nn.linear import Dropout, Flatten, Linear
from microgpt.nn.losses import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss, SumSquaredError
from microgpt.nn.module import Module, Parameter

__all__ = [
    "GELU",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "Dropout",
    "Flatten",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "Module",
    "ModuleList",
    "Parameter",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "SumSquaredError",
    "Tanh",
    "activation",
    "init",
]
