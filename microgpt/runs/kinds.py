"""The kinds of models that can be trained by name: their settings, their data, how each is built.

A new kind is one more entry in `KINDS`, with the tables of its settings if those here do not do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from microgpt import models
from microgpt.errors import ConfigError, DataError
from microgpt.runs import examples, texts
from microgpt.runs.material import Material
from microgpt.runs.settings import Settings, nearest
from microgpt.runs.tables import (
    ClassifierModel,
    CNNModel,
    ExampleData,
    GPTModel,
    LSTMModel,
    MLPModel,
    TextData,
)
from microgpt.text import Tokenizer

# ---- building --------------------------------------------------------------------------------

Generator = np.random.Generator


def _mlp(settings: Settings, generator: Generator) -> Any:
    table, found = settings.model, settings.found
    sizes = (math.prod(found.inputs), *table.hidden, found.outputs)
    # squash=False: the outputs are logits, whatever the activation.
    return models.MLP(sizes, table.activation, squash=False, generator=generator)


def _cnn(settings: Settings, generator: Generator) -> Any:
    table, found = settings.model, settings.found
    if len(table.channels) != 2:
        raise ConfigError(f"cnn: 'channels' must be two numbers; got {list(table.channels)}")
    (height, width), (first, second) = found.inputs, table.channels
    if table.kernel > min(height, width) or table.kernel % 2 == 0:
        raise ConfigError(
            f"cnn: 'kernel' must be odd and no larger than the pictures, which are {height} x "
            f"{width}; got {table.kernel}"
        )
    return models.CNN(
        (height, width),
        found.outputs,
        channels=(first, second),
        kernel_size=table.kernel,
        activation=table.activation,
        generator=generator,
    )


def _gpt(settings: Settings, generator: Generator) -> Any:
    table, found = settings.model, settings.found
    if table.width % table.heads:
        raise ConfigError(
            "gpt: 'width' must be a multiple of 'heads', which share it evenly; got "
            f"{table.width} and {table.heads}"
        )
    config = models.GPTConfig.karpathy if table.layout == "karpathy" else models.GPTConfig
    return models.GPT(
        config(
            vocab_size=found.outputs,
            block_size=table.context,
            n_embd=table.width,
            n_layer=table.layers,
            n_head=table.heads,
            dropout=table.dropout,
            positions=table.positions,
        ),
        generator=generator,
    )


def _lstm(settings: Settings, generator: Generator) -> Any:
    table, found = settings.model, settings.found
    return models.CharLSTM(
        found.outputs,
        table.hidden,
        table.layers,
        embedding_dim=table.embedding or None,
        dropout=table.dropout,
        generator=generator,
    )


def _classifier(settings: Settings, generator: Generator) -> Any:
    table, found = settings.model, settings.found
    return models.LSTMClassifier(
        found.inputs[-1],
        found.outputs,
        table.hidden,
        table.layers,
        bidirectional=table.bidirectional,
        pooling=table.pooling,
        dropout=table.dropout,
        generator=generator,
    )


# ---- the table -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """One kind of model.

    Attributes:
        name: what it is called in commands and settings.
        line: what it is, for the help.
        data, model: tables of its settings.
        read: the data that settings ask for; a tokenizer that is there already is used again.
        build: the model that settings ask for, with weights from the generator.
        defaults: where they differ from those of the tables.
        presets: settings under one name.
        sets: the data sets it can learn from by name, with the settings that suit each.
        command: under which `microgpt train` finds it; the data decide between two of one command.
        writes: whether it continues texts.
        learns: what one of its data sets is.
    """

    name: str
    line: str
    data: type
    model: type
    read: Callable[[Settings, Tokenizer | None], Material]
    build: Callable[[Settings, Generator], Any]
    defaults: Mapping[str, Any]
    sets: Mapping[str, Mapping[str, Any]]
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    command: str = ""
    writes: bool = False
    learns: str = "a set of pictures"


KARPATHY = {
    "layout": "karpathy", "context": 16, "width": 16, "layers": 1, "heads": 4, "steps": 1000,
    "batch": 1, "optimizer": "adam", "lr": 0.01, "beta1": 0.85, "beta2": 0.99, "weight_decay": 0.0,
    "clip_norm": 0.0, "schedule": "linear", "warmup": 0.0, "final": 0.0, "eval_every": 250,
    "save_every": 250,
}  # fmt: skip
"""The setting of Andrej Karpathy's microgpt; weights and order come from our own generators."""

S2 = {
    "context": 64, "width": 128, "layers": 4, "heads": 4, "batch": 12,
    "steps": 5000, "lr": 2e-3, "warmup": 0.02, "eval_every": 500, "save_every": 500,
}  # fmt: skip
"""A GPT of 0.8 million parameters that writes like Shakespeare, after some ten minutes."""

_TEXT = {"steps": 2000, "warmup": 0.05, "lr": 3e-3, "eval_every": 500, "save_every": 500}

KINDS = {
    kind.name: kind
    for kind in (
        Kind(
            name="gpt",
            line="a transformer that continues texts",
            data=TextData,
            model=GPTModel,
            read=texts.read,
            build=_gpt,
            defaults=_TEXT,
            sets={**{name: {} for name in texts.SETS}, "shakespeare": S2},
            presets={"karpathy": KARPATHY, "s2": {"data": "shakespeare", **S2}},
            writes=True,
            learns="a text",
        ),
        Kind(
            name="mlp",
            line="layers of neurons that name what a picture shows",
            data=ExampleData,
            model=MLPModel,
            read=examples.read_flat,
            build=_mlp,
            defaults={"epochs": 40, "lr": 3e-3},
            sets={"digits": {}, "mnist": {"epochs": 5}},
        ),
        Kind(
            name="cnn",
            line="convolutions that name what a picture shows",
            data=ExampleData,
            model=CNNModel,
            read=examples.read,
            build=_cnn,
            defaults={"epochs": 40, "lr": 3e-3},
            sets={"digits": {}, "mnist": {"epochs": 5}},
        ),
        Kind(
            name="lstm",
            line="a recurrent network that continues texts",
            data=TextData,
            model=LSTMModel,
            read=texts.read,
            build=_lstm,
            defaults=_TEXT,
            sets={name: {} for name in texts.SETS},
            writes=True,
            learns="a text",
        ),
        Kind(
            name="lstm-classifier",
            line="a recurrent network that names what was said, or who said it",
            data=ExampleData,
            model=ClassifierModel,
            read=examples.read_sequences,
            build=_classifier,
            defaults={"data": "japanese-vowels", "epochs": 30, "lr": 3e-3},
            sets={"japanese-vowels": {}, "spoken-digits": {"epochs": 12}},
            command="lstm",
            learns="a set of sequences",
        ),
    )
}
"""Every kind, by name."""


def kind_named(name: str, source: str, data: str | None = None) -> Kind:
    """The kind called `name`, or the other one of its command that knows the data set `data`.

    Raises:
        ConfigError: if there is none.
    """
    if name not in KINDS:
        raise ConfigError(
            f"{source}: there is no model '{name}'{nearest(name, KINDS)}\n"
            f"(valid: {', '.join(KINDS)})"
        )
    for kind in KINDS.values():
        if kind.command == name and data in kind.sets:
            return kind
    return KINDS[name]


def require_readable(kind: Kind, data: str) -> None:
    """Refuse a data set that other models learn from.

    Raises:
        DataError: names a model that does.
    """
    if data in kind.sets or (kind.writes and Path(data).expanduser().exists()):
        return
    for other in KINDS.values():
        if data in other.sets:
            raise DataError(
                f"'{data}' is {other.learns}, and nothing for {kind.name}; what learns from it: "
                f"microgpt train {other.command or other.name} --data {data}"
            )
