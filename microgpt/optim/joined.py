"""Small parameters side by side in one array, so that a step is a few calls instead of hundreds."""

from __future__ import annotations

import math
from operator import is_
from typing import Any, NamedTuple

from microgpt.ops.movement import concat, reshape
from microgpt.ops.table import TABLE
from microgpt.tensor import Tensor

# Kernels by array type: a step of an optimizer records nothing, and has many small arrays.
_RESHAPE, _SLICE = reshape.op.kernels, TABLE["slice"].kernels
_CONCAT = concat.op.kernels

LARGEST = 1 << 14
"""Parameters with more elements are stepped alone: for them the calls cost little."""


class Plan(NamedTuple):
    """How the parameters of a group are stepped: large ones alone, small ones together.

    `large` has pairs of a parameter and its number in the optimizer, `places` the numbers of
    `small`, and `all` the parameters in the order of the group.
    """

    large: list[tuple[Tensor, int]]
    small: list[Tensor]
    places: list[int]
    all: tuple[Tensor, ...]


class Joined:
    """Parameters that a step changes together, and what the optimizer remembers of them.

    Args:
        places: numbers of the parameters in the optimizer.
        params: of one dtype and backend.
        entries: what is remembered of each: arrays of its shape, and numbers that are the same
            for all.
    """

    def __init__(self, places: list[int], params: list[Tensor], entries: list[dict]) -> None:
        self.places = places
        self.shapes = [tuple(p.shape) for p in params]
        ends, end = [], 0
        for shape in self.shapes:
            end += math.prod(shape)
            ends.append(end)
        self.sizes = tuple([b - a for a, b in zip([0, *ends[:-1]], ends, strict=True)])
        self.keys = [((a, b, 1),) for a, b in zip([0, *ends[:-1]], ends, strict=True)]
        self.state = {
            key: self.join([entry[key] for entry in entries]) if hasattr(value, "shape") else value
            for key, value in entries[0].items()
        }
        self.values: Any = None
        self.parts: list[Any] = []

    def joined_values(self, params: list[Tensor]) -> Any:
        """The values in one array: the one of the last step, unless somebody replaced some."""
        if self.parts and all(map(is_, [p._data for p in params], self.parts)):
            return self.values
        return self.join([p._data for p in params])

    def hand_out(self, params: list[Tensor], values: Any) -> None:
        """Give every parameter its part of the new values."""
        self.values = values
        self.parts = parts = self.split(values)
        for p, part in zip(params, parts, strict=True):
            p._data = p._edge.data = part  # pyright: ignore

    def split(self, array: Any) -> list[Any]:
        """The parts of a joined array, in their shapes."""
        cut, shaped = _SLICE[type(array)], _RESHAPE[type(array)]
        parts = [cut(array, key=key) for key in self.keys]
        return [
            part if len(shape) == 1 else shaped(part, shape=shape)
            for part, shape in zip(parts, self.shapes, strict=True)
        ]

    def join(self, arrays: list[Any]) -> Any:
        """Raw arrays one after the other, flat."""
        flat = _RESHAPE[type(arrays[0])]
        rows = [
            a if len(shape) == 1 else flat(a, shape=(n,))
            for a, shape, n in zip(arrays, self.shapes, self.sizes, strict=True)
        ]
        return _CONCAT[type(arrays[0])](*rows, axis=0, sizes=self.sizes)

    def entries(self) -> list[dict[str, Any]]:
        """What is remembered, parameter by parameter."""
        apart: list[dict[str, Any]] = [{} for _ in self.places]
        for key, value in self.state.items():
            parts = self.split(value) if hasattr(value, "shape") else [value] * len(apart)
            for entry, part in zip(apart, parts, strict=True):
                entry[key] = part
        return apart


def alike(params: list[Tensor], entries: list[dict[str, Any]]) -> bool:
    """Whether parameters are of one kind, and the numbers remembered of them the same."""
    first, known = params[0]._data, entries[0]
    numbers = {k: v for k, v in known.items() if not hasattr(v, "shape")}
    return all(
        type(p._data) is type(first)
        and p._data.dtype == first.dtype
        and p.device == params[0].device
        and entry.keys() == known.keys()
        and all(entry[k] == v for k, v in numbers.items())
        for p, entry in zip(params, entries, strict=True)
    )
