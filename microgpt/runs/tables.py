"""The tables of settings: what there is to choose, with defaults and one line of help each.

The name of a setting is unique among the tables of a kind, so that ``width`` in ``[model]`` of a
TOML file and ``--width`` on the command line are the same thing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def setting(
    default: Any,
    help: str,
    *,
    choices: tuple[str, ...] = (),
    least: float | None = None,
    most: float | None = None,
    alone: str = "",
) -> Any:
    """A field of a table: its default, one line for the help, and what is allowed.

    On the command line it may stand without a value if `alone` says which one is meant then.
    """
    allowed = {"choices": choices, "least": least, "most": most}
    return field(default=default, metadata={"help": help, **allowed, "alone": alone})


# ---- the tables that all kinds share ---------------------------------------------------------


@dataclass(frozen=True)
class Optimizer:
    """How the weights are changed."""

    optimizer: str = setting("adamw", "rule of the steps", choices=("adamw", "adam", "sgd"))
    lr: float = setting(1e-3, "learning rate at its highest", least=0)
    beta1: float = setting(0.9, "memory of the mean gradient; momentum of sgd", least=0, most=1)
    beta2: float = setting(0.99, "memory of the squared gradient", least=0, most=1)
    weight_decay: float = setting(0.01, "pull of every weight towards 0", least=0)
    clip_norm: float = setting(1.0, "limit of the norm of all gradients; 0: none", least=0)


@dataclass(frozen=True)
class Schedule:
    """How the learning rate goes up and down."""

    schedule: str = setting(
        "cosine", "course of the learning rate", choices=("cosine", "linear", "constant")
    )
    warmup: float = setting(0.0, "share of the steps in which the rate rises", least=0, most=0.9)
    final: float = setting(0.1, "share of the rate that is left at the end", least=0, most=1)


@dataclass(frozen=True)
class Training:
    """How long, on how much at a time, and what is kept."""

    steps: int = setting(0, "steps of the optimizer; 0: as many as the epochs have", least=0)
    epochs: int = setting(0, "passes over the data; 0: as many as the steps need", least=0)
    batch: int = setting(32, "examples per step", least=1)
    accumulate: int = setting(1, "batches whose gradients are added up for one step", least=1)
    eval_every: int = setting(0, "steps between two validations; 0: after epochs only", least=0)
    save_every: int = setting(0, "steps between two checkpoints; 0: after epochs only", least=0)
    keep: int = setting(2, "checkpoints that are kept, besides the best", least=1)
    patience: int = setting(0, "validations without progress before it stops; 0: no end", least=0)
    tensorboard: bool = setting(False, "write the log for TensorBoard too (extra: tensorboard)")


@dataclass(frozen=True)
class Compute:
    """Where, in which float type, and from which random numbers."""

    backend: str = setting("numpy", "who computes (`microgpt backends` lists them)")
    device: str = setting("", "its device; empty: its own choice")
    dtype: str = setting("float32", "float type", choices=("float32", "float64"))
    seed: int = setting(0, "where weights, order of the data and dropout come from", least=0)


@dataclass(frozen=True)
class Found:
    """What the data turned out to be: written by the run, compared when it is repeated."""

    sha256: str = setting("", "of the text")
    inputs: tuple[int, ...] = setting((), "shape of one example", least=1)
    outputs: int = setting(0, "symbols of the text, or classes", least=0)
    classes: tuple[str, ...] = setting((), "their names")
    resumed_at: tuple[int, ...] = setting(
        (), "steps after which the run got another length, and its learning rate another course"
    )


# ---- tables: data ----------------------------------------------------------------------------


@dataclass(frozen=True)
class ExampleData:
    """Labelled examples, which come with a part to be tested on."""

    data: str = setting("digits", "name of a data set")
    limit: int = setting(0, "examples to learn from; 0: all", least=0)
    held_out: float = setting(
        0.1, "share of them kept back to validate on; the test set is another", least=0, most=0.9
    )


@dataclass(frozen=True)
class TextData:
    """A text, or a list of short ones."""

    data: str = setting("names", "a text file, or the name of a data set")
    documents: str = setting(
        "auto",
        "each line is a text of its own, or the whole is one",
        choices=("auto", "lines", "whole"),
        alone="lines",
    )
    tokenizer: str = setting("char", "what a token is", choices=("char", "byte", "bpe"))
    vocab: int = setting(512, "tokens of a bpe tokenizer", least=257)
    held_out: float = setting(0.1, "share of the text to validate on", least=0, most=0.9)


# ---- tables: models --------------------------------------------------------------------------

_ACTIVATIONS = ("relu", "sigmoid", "tanh", "gelu", "silu")


def _dropout() -> Any:
    return setting(0.0, "share of the activations left out in training", least=0, most=0.99)


@dataclass(frozen=True)
class MLPModel:
    """Layers of neurons."""

    hidden: tuple[int, ...] = setting((100,), "neurons of each layer between", least=1)
    activation: str = setting("relu", "of these neurons", choices=_ACTIVATIONS)


@dataclass(frozen=True)
class CNNModel:
    """Two convolutions, two pools, a linear layer."""

    channels: tuple[int, ...] = setting((8, 16), "filters of both convolutions", least=1)
    kernel: int = setting(3, "height and width of a filter, odd", least=1)
    activation: str = setting("relu", "of the filters", choices=_ACTIVATIONS)


@dataclass(frozen=True)
class GPTModel:
    """A transformer that predicts the next token; see `mg.models.GPTConfig`."""

    context: int = setting(32, "tokens that it sees at a time", least=1)
    width: int = setting(64, "numbers per token", least=1)
    layers: int = setting(4, "blocks of attention and MLP", least=1)
    heads: int = setting(4, "attention heads; width is a multiple of them", least=1)
    dropout: float = _dropout()
    layout: str = setting(
        "gpt2",
        "layer norm, biases, GELU and tied embeddings, or Karpathy's RMSNorm, no biases and ReLU",
        choices=("gpt2", "karpathy"),
    )
    positions: str = setting(
        "learned",
        "how it knows the order",
        choices=("learned", "sinusoidal", "rotary", "none"),
    )


@dataclass(frozen=True)
class LSTMModel:
    """A recurrent network that predicts the next token."""

    context: int = setting(64, "tokens per training example", least=1)
    embedding: int = setting(0, "numbers per token; 0: as many as tokens, one-hot", least=0)
    hidden: int = setting(128, "cells of each layer", least=1)
    layers: int = setting(1, "layers, one upon the other", least=1)
    dropout: float = _dropout()


@dataclass(frozen=True)
class ClassifierModel:
    """A recurrent network that reads a sequence and names its class."""

    hidden: int = setting(64, "cells of each layer and direction", least=1)
    layers: int = setting(1, "layers, one upon the other", least=1)
    bidirectional: bool = setting(True, "whether it also reads backwards")
    pooling: str = setting("mean", "the states that count", choices=("mean", "last"))
    dropout: float = _dropout()
