"""From settings to what `train.fit` needs: data, model, optimizer, learning rates."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

from microgpt import config, optim
from microgpt.creation import generator
from microgpt.nn import Module
from microgpt.runs.kinds import KINDS, require_readable
from microgpt.runs.material import Material, named_as_settings, require_same
from microgpt.runs.settings import Settings
from microgpt.text import Tokenizer


@dataclass(frozen=True)
class Parts:
    """Everything that `train.fit` needs, made from `settings`, which are complete now.

    Attributes:
        done: steps that the run has taken already, if it goes on.
    """

    settings: Settings
    material: Material
    model: Module
    optimizer: optim.Optimizer
    schedule: optim.Schedule
    done: int = 0


def place(settings: Settings) -> AbstractContextManager[Any]:
    """A block in which tensors are made where, and in the float type, that the settings say."""
    compute = settings.compute
    device = {"device": compute.device} if compute.device else {}
    return config.configure(
        backend=compute.backend, dtype=compute.dtype, seed=compute.seed, **device
    )


def build(settings: Settings, tokenizer: Tokenizer | None = None) -> Parts:
    """Read the data and make the rest; to be called inside `place(settings)`.

    Args:
        tokenizer: one that is there already, from the run that goes on.

    Raises:
        DataError: if the data are not to be had, or not those that the settings have found before.
    """
    material = read(settings, tokenizer)
    settings = material.settings
    model = make_model(settings)
    optimizer = make_optimizer(settings, model)
    return Parts(settings, material, model, optimizer, make_schedule(settings, material, optimizer))


def read(settings: Settings, tokenizer: Tokenizer | None = None) -> Material:
    """The data, with the settings as they are when the data are known."""
    kind = KINDS[settings.kind]
    require_readable(kind, settings.data.data)
    with named_as_settings():
        material = kind.read(settings, tokenizer)
    require_same(settings, material.found)
    found = replace(material.found, resumed_at=settings.found.resumed_at)
    return replace(material, settings=replace(material.settings, found=found))


def make_model(settings: Settings) -> Module:
    """The model, with the initial weights of the seed."""
    return KINDS[settings.kind].build(settings, generator(settings.compute.seed))


def make_optimizer(settings: Settings, model: Module) -> optim.Optimizer:
    """The optimizer; biases, norms and other vectors do not decay."""
    table = settings.optimizer
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups: list[Any] = [{"params": matrices, "weight_decay": table.weight_decay}]
    if vectors:
        groups.append({"params": vectors, "weight_decay": 0.0})
    if table.optimizer == "sgd":
        return optim.SGD(groups, lr=table.lr, momentum=table.beta1)
    rule = optim.AdamW if table.optimizer == "adamw" else optim.Adam
    return rule(groups, lr=table.lr, betas=(table.beta1, table.beta2))


def total_steps(settings: Settings, material: Material) -> int:
    """How many steps the optimizer will make."""
    table = settings.training
    return table.steps or table.epochs * math.ceil(len(material.train) / table.accumulate)


def make_schedule(
    settings: Settings, material: Material, optimizer: optim.Optimizer
) -> optim.Schedule:
    """The learning rate of each step: a rise during `warmup`, then down to `final`."""
    table = settings.schedule
    total = total_steps(settings, material)
    rise = warmup_steps(settings, material)

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / (rise + 1)
        gone = min(1.0, (step - rise) / max(1, total - rise))
        left = {"constant": 1.0, "linear": 1 - gone, "cosine": (1 + math.cos(math.pi * gone)) / 2}
        final = 1.0 if table.schedule == "constant" else table.final
        return final + (1 - final) * left[table.schedule]

    return optim.LambdaLR(optimizer, factor)


def warmup_steps(settings: Settings, material: Material) -> int:
    """In how many steps the learning rate rises."""
    return round(settings.schedule.warmup * total_steps(settings, material))
