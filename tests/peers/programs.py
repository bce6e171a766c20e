"""Random programs of scalar arithmetic, written once and run with any class of scalars."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


def relu(x: Any) -> Any:
    """By the method that scalars have; of a plain number too, with which programs are made."""
    return max(x, 0.0) if isinstance(x, float) else x.relu()


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "div": operator.truediv,
    "pow": operator.pow,
    "neg": operator.neg,
    "relu": relu,
}

Operand = int | float
"""The number of an earlier node, or a number that takes part as it is."""


@dataclass(frozen=True)
class Step:
    """One operation."""

    name: str
    operands: tuple[Operand, ...]

    def run(self, nodes: list[Any]) -> Any:
        values = [nodes[x] if isinstance(x, int) else x for x in self.operands]
        return OPERATIONS[self.name](*values)


@dataclass(frozen=True)
class Program:
    """Inputs, and steps that each make one more node out of earlier ones, used again and again."""

    inputs: tuple[float, ...]
    steps: tuple[Step, ...]

    def run(self, scalar: Callable[[float], Any]) -> list[Any]:
        """All nodes: inputs, steps, and last the sum of those that no step has used."""
        nodes = [scalar(x) for x in self.inputs]
        for step in self.steps:
            nodes.append(step.run(nodes))
        used = {x for step in self.steps for x in step.operands if isinstance(x, int)}
        loose = [node for i, node in enumerate(nodes) if i not in used]
        nodes.append(sum(loose[1:], loose[0] + 0.0))
        return nodes

    def __str__(self) -> str:
        lines = [f"n{i} = {x!r}" for i, x in enumerate(self.inputs)]
        for i, step in enumerate(self.steps, len(self.inputs)):
            names = ", ".join(f"n{x}" if isinstance(x, int) else repr(x) for x in step.operands)
            lines.append(f"n{i} = {step.name}({names})")
        return "\n".join(lines)


def program(seed: int, inputs: int = 4, steps: int = 30) -> Program:
    """A program drawn from `seed`, whose values stay moderate and away from poles and kinks."""
    rng = np.random.default_rng(seed)
    given = tuple(float(x) for x in np.round(rng.uniform(-2, 2, inputs), 3))
    values = list(given)
    made: list[Step] = []
    while len(made) < steps:
        step = _step(rng, len(values))
        if not _sound(step, values):
            continue
        value = step.run(values)
        if 1e-3 < abs(value) < 30 or (value == 0 and step.name == "relu"):
            made.append(step)
            values.append(value)
    return Program(given, tuple(made))


def _step(rng: np.random.Generator, count: int) -> Step:
    name = str(rng.choice(list(OPERATIONS)))
    # Late nodes are drawn more often, so that programs become deep; inputs still come back.
    first, second = (int(count - 1 - int(rng.triangular(0, 0, 1) * count)) for _ in range(2))
    number = float(np.round(rng.uniform(-3, 3), 2))
    if name in ("neg", "relu"):
        return Step(name, (first,))
    if name == "pow":
        return Step(name, (first, float(rng.choice([-2.0, -1.0, 0.5, 2.0, 3.0]))))
    forms: list[tuple[Operand, ...]] = [(first, second), (first, second), (first, number)]
    forms.append((number, first))
    return Step(name, forms[rng.integers(len(forms))])


def _sound(step: Step, values: list[float]) -> bool:
    """Whether the step is far from where its value or slope is infinite, complex or undecided."""
    at = [values[x] if isinstance(x, int) else x for x in step.operands]
    if step.name == "div":
        return abs(at[1]) > 0.2
    if step.name == "pow":
        return at[0] > 0.2 if at[1] == 0.5 else abs(at[0]) > 0.2
    return step.name != "relu" or abs(at[0]) > 1e-2
