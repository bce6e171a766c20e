"""Calling a layer with other tensors in the place of its parameters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from microgpt import nn


@contextmanager
def replaced(layer: nn.Module, values: Mapping[str, Any]) -> Iterator[None]:
    """Inside this block `values`, by dotted names, are in the place of the layer's parameters."""
    before = []
    for name, value in values.items():
        *path, last = name.split(".")
        part: Any = layer
        for step in path:
            part = part[int(step)] if step.isdigit() else getattr(part, step)
        before.append((part, last, getattr(part, last)))
        object.__setattr__(part, last, value)
    try:
        yield
    finally:
        for part, last, value in before:
            object.__setattr__(part, last, value)


def call_with(layer: nn.Module, values: Mapping[str, Any], *inputs: Any) -> Any:
    """The layer's output with `values` in the place of its parameters."""
    with replaced(layer, values):
        return layer(*inputs)
