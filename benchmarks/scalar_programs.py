"""Programs on scalars, written once for any class with the interface of micrograd's Value."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from typing import Any

Vector = list[Any]
Matrix = list[Vector]


def moons(count: int, rng: random.Random) -> tuple[list[tuple[float, float]], list[int]]:
    """Two interleaved half circles with noise, and the labels -1 and 1."""
    points, labels = [], []
    for i in range(count):
        angle = math.pi * (i // 2) / (count // 2 - 1)
        x, y = math.cos(angle), math.sin(angle)
        if i % 2:
            x, y = 1 - x, 0.5 - y
        points.append((x + rng.gauss(0, 0.1), y + rng.gauss(0, 0.1)))
        labels.append(2 * (i % 2) - 1)
    return points, labels


def moons_step(value: Callable[[float], Any]) -> Callable[[], float]:
    """One step of the moons demo: 2-16-16-1, 100 points, hinge loss, weight decay."""
    rng = random.Random(1)
    points, labels = moons(100, rng)
    sizes = (2, 16, 16, 1)
    layers = [
        [([value(rng.uniform(-1, 1)) for _ in range(n)], value(0.0)) for _ in range(m)]
        for n, m in itertools.pairwise(sizes)
    ]
    parameters = [p for layer in layers for weights, bias in layer for p in (*weights, bias)]

    def network(x: Vector) -> Any:
        for depth, layer in enumerate(layers):
            x = [sum((w * a for w, a in zip(ws, x, strict=True)), b) for ws, b in layer]
            if depth < len(layers) - 1:
                x = [a.relu() for a in x]
        return x[0]

    def step() -> float:
        scores = [network([value(x), value(y)]) for x, y in points]
        losses = [(1 + -label * s).relu() for label, s in zip(labels, scores, strict=True)]
        loss = sum(losses) * (1.0 / len(losses)) + 1e-4 * sum(p * p for p in parameters)
        for p in parameters:
            p.grad = 0.0
        loss.backward()
        for p in parameters:
            p.data = p.data - 0.1 * p.grad
        return loss.data

    return step


WIDTH, HEADS, CONTEXT = 16, 4, 16
NAMES = ("emma", "olivia", "charlotte", "sebastian", "alexandria", "christopher")


def gpt_step(value: Callable[[float], Any]) -> Callable[[], float]:
    """One training step of a GPT: width 16, 4 heads, 1 layer, context 16, on one name."""
    rng = random.Random(2)
    symbols = ["."] + [chr(97 + i) for i in range(26)]
    vocabulary = len(symbols)

    def matrix(rows: int, columns: int, scale: float = 0.08) -> Matrix:
        return [[value(rng.gauss(0, scale)) for _ in range(columns)] for _ in range(rows)]

    tokens, places = matrix(vocabulary, WIDTH), matrix(CONTEXT, WIDTH)
    query, key, read, write = (matrix(WIDTH, WIDTH) for _ in range(4))
    up, down = matrix(4 * WIDTH, WIDTH), matrix(WIDTH, 4 * WIDTH)
    weights = (tokens, places, query, key, read, write, up, down)
    parameters = [p for m in weights for row in m for p in row]
    size = WIDTH // HEADS

    def apply(m: Matrix, x: Vector) -> Vector:
        return [sum(w * a for w, a in zip(row, x, strict=True)) for row in m]

    def normal(x: Vector) -> Vector:
        scale = (sum(a * a for a in x) * (1 / len(x)) + 1e-5) ** -0.5
        return [a * scale for a in x]

    def softmax(x: Vector) -> Vector:
        top = max(a.data for a in x)
        e = [(a - top).exp() for a in x]
        total = sum(e)
        return [a / total for a in e]

    def token(place: int, symbol: int, keys: list[Vector], values: list[Vector]) -> Vector:
        x = [a + b for a, b in zip(tokens[symbol], places[place], strict=True)]
        h = normal(x)
        q = apply(query, h)
        keys.append(apply(key, h))
        values.append(apply(read, h))
        mixed: Vector = []
        for head in range(HEADS):
            part = slice(head * size, (head + 1) * size)
            scores = [
                sum(a * b for a, b in zip(q[part], k[part], strict=True)) * size**-0.5 for k in keys
            ]
            pattern = softmax(scores)
            for i in range(head * size, (head + 1) * size):
                mixed.append(sum(p * v[i] for p, v in zip(pattern, values, strict=True)))
        x = [a + b for a, b in zip(x, apply(write, mixed), strict=True)]
        hidden = [a.relu() for a in apply(up, normal(x))]
        x = [a + b for a, b in zip(x, apply(down, hidden), strict=True)]
        return apply(tokens, normal(x))

    def step() -> float:
        name = NAMES[2]
        text = [0, *[symbols.index(c) for c in name], 0]
        keys: list[Vector] = []
        values: list[Vector] = []
        losses = []
        for place, (now, following) in enumerate(itertools.pairwise(text)):
            probabilities = softmax(token(place, now, keys, values))
            losses.append(-probabilities[following].log())
        loss = sum(losses) * (1 / len(losses))
        for p in parameters:
            p.grad = 0.0
        loss.backward()
        for p in parameters:
            p.data = p.data - 0.01 * p.grad
        return loss.data

    return step
