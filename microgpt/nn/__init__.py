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
from microgpt.nn.attention import MultiHeadAttention
from microgpt.nn.cache import KVCache
from microgpt.nn.cells import LSTMCell, RNNCell, detach_state
from microgpt.nn.container import ModuleList, Sequential
from microgpt.nn.conv import AvgPool2d, Conv2d, MaxPool2d
from microgpt.nn.embedding import Embedding
from microgpt.nn.linear import Dropout, Flatten, Linear
from microgpt.nn.losses import BCEWithLogitsLoss, CrossEntropyLoss, MSELoss, SumSquaredError
from microgpt.nn.module import Module, Parameter
from microgpt.nn.norm import BatchNorm1d, BatchNorm2d, LayerNorm, RMSNorm
from microgpt.nn.positions import LearnedPositions, RotaryEmbedding, SinusoidalPositions
from microgpt.nn.recurrent import LSTM, RNN
from microgpt.nn.transformer import TransformerBlock, TransformerDecoder, TransformerEncoder

__all__ = [
    "GELU",
    "LSTM",
    "RNN",
    "AvgPool2d",
    "BCEWithLogitsLoss",
    "BatchNorm1d",
    "BatchNorm2d",
    "Conv2d",
    "CrossEntropyLoss",
    "Dropout",
    "Embedding",
    "Flatten",
    "KVCache",
    "LSTMCell",
    "LayerNorm",
    "LearnedPositions",
    "Linear",
    "LogSoftmax",
    "MSELoss",
    "MaxPool2d",
    "Module",
    "ModuleList",
    "MultiHeadAttention",
    "Parameter",
    "RMSNorm",
    "RNNCell",
    "ReLU",
    "RotaryEmbedding",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "SinusoidalPositions",
    "Softmax",
    "SumSquaredError",
    "Tanh",
    "TransformerBlock",
    "TransformerDecoder",
    "TransformerEncoder",
    "activation",
    "detach_state",
    "init",
]
