"""A GPT learns names twice, on scalars and on tensors, and the two losses are the same.

The setting is that of Andrej Karpathy's microgpt: 4,192 parameters, 1,000 steps of one name each,
Adam with a rate that falls to 0. Both engines start with the same weights, drawn by Python's
generator, and see the same names in the same order. ``BENCHMARK_STEPS`` in the environment changes
the number of steps that are taken (the rate falls as if there were 1,000).
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

import microgpt as mg
from benchmarks.contest import choose, ways
from benchmarks.measure import Options, Row, Table, note
from microgpt import Scalar
from microgpt.models import GPT, GPTConfig
from microgpt.plugins import registry

TITLE = "names: the same GPT on scalars and on tensors, 4,192 parameters, a name per step"
HEAD = ("engine", "dtype", "steps", "seconds", "ms/step", "first loss", "last loss", "difference")

STEPS, RATE, BETAS, EPS = 1000, 0.01, (0.85, 0.99), 1e-8
WIDTH, HEADS, BLOCK = 16, 4, 16
FIRST = 30
"""Steps of an untimed run of each backend, in which its kernels are compiled: see `startup`."""

Matrix = list[list[Any]]
Engine = Callable[[int], list[float]]
"""From a number of steps to their losses."""


def measure(options: Options) -> Table:
    """One run per engine; the last column is the largest difference of a loss from the scalars'."""
    steps = int(os.environ.get("BENCHMARK_STEPS", 30 if options.fast else STEPS))
    texts, weights = prepared(names())
    engines: dict[tuple[str, str], Engine] = {}
    for backend in dict.fromkeys(("numpy", options.backend)):
        for way, variables in ways(backend).items():
            for dtype in ("float64", "float32"):
                if dtype in [str(d) for d in registry.backend(backend).dtypes]:
                    engines[way, dtype] = partial(
                        _on_tensors, texts, weights, backend, dtype, variables
                    )
    for train in engines.values():
        train(min(steps, FIRST))
    scalar: Engine = partial(on_scalars, texts, weights)
    rows: list[Row] = []
    exact: list[float] = []
    for (engine, dtype), train in {("scalar", "float64"): scalar, **engines}.items():
        start = perf_counter()
        losses = train(steps)
        seconds = perf_counter() - start
        exact = exact or losses
        difference = max(abs(a - b) for a, b in zip(losses, exact, strict=True))
        rows.append(
            (
                engine,
                dtype,
                str(steps),
                f"{seconds:.2f}",
                f"{seconds / steps * 1e3:.2f}",
                f"{losses[0]:.4f}",
                f"{losses[-1]:.4f}",
                f"{difference:.1e}",
            )
        )
    return Table(HEAD, rows)


def names() -> tuple[str, ...]:
    """The names of makemore, as microgpt reads them."""
    try:
        return mg.data.names(full=True).documents
    except (mg.errors.DataError, mg.errors.MissingExtraError):
        note("names.txt is not there: the names that come along; the work is the same")
        return mg.data.names().documents


def prepared(documents: tuple[str, ...]) -> tuple[list[list[int]], dict[str, Matrix]]:
    """Names as tokens in the order of training, and the initial weights."""
    rng = random.Random(42)
    shuffled = list(documents)
    rng.shuffle(shuffled)
    symbols = sorted(set("".join(shuffled)))
    end = len(symbols)
    texts = [[end, *map(symbols.index, name), end] for name in shuffled[:STEPS]]
    shapes = {"wte": (end + 1, WIDTH), "wpe": (BLOCK, WIDTH), "lm_head": (end + 1, WIDTH)}
    shapes |= dict.fromkeys(("query", "key", "value", "output"), (WIDTH, WIDTH))
    shapes |= {"up": (4 * WIDTH, WIDTH), "down": (WIDTH, 4 * WIDTH)}
    weights = {
        name: [[rng.gauss(0, 0.08) for _ in range(n)] for _ in range(m)]
        for name, (m, n) in shapes.items()
    }
    return texts, weights


def rates(steps: int) -> Iterator[tuple[int, float]]:
    """Number and rate of each step."""
    return ((step, RATE * (1 - step / STEPS)) for step in range(steps))


# ---- on tensors ------------------------------------------------------------------------------


def _on_tensors(
    texts: list[list[int]],
    weights: dict[str, Matrix],
    backend: str,
    dtype: str,
    variables: Mapping[str, str],
    steps: int,
) -> list[float]:
    choose(backend, variables)
    return on_tensors(texts, weights, steps, backend, dtype)


def on_tensors(
    texts: list[list[int]], weights: dict[str, Matrix], steps: int, backend: str, dtype: str
) -> list[float]:
    """The losses of the steps."""
    model = GPT(GPTConfig.karpathy(), backend=backend, dtype=dtype)
    w = {name: np.array(rows) for name, rows in weights.items()}
    model.load_state_dict(
        {
            "wte.weight": w["wte"],
            "wpe.weight": w["wpe"],
            "lm_head.weight": w["lm_head"],
            "h.0.attn.c_attn.weight": np.concatenate([w["query"], w["key"], w["value"]]),
            "h.0.attn.c_proj.weight": w["output"],
            "h.0.mlp.c_fc.weight": w["up"],
            "h.0.mlp.c_proj.weight": w["down"],
        }
    )
    optimizer = mg.optim.Adam(model.parameters(), lr=RATE, betas=BETAS, eps=EPS)
    losses = []
    for step, rate in rates(steps):
        loss = model.loss(np.array([texts[step][: BLOCK + 1]]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        losses.append(loss.item())
    return losses


# ---- on scalars ------------------------------------------------------------------------------


def on_scalars(texts: list[list[int]], weights: dict[str, Matrix], steps: int) -> list[float]:
    """The losses of the steps; every number of the network is an object of its own."""
    w = {name: [[Scalar(x) for x in row] for row in rows] for name, rows in weights.items()}
    parameters = [p for rows in w.values() for row in rows for p in row]
    means, squares = [0.0] * len(parameters), [0.0] * len(parameters)
    first, second = BETAS
    losses = []
    for step, rate in rates(steps):
        loss = _loss(w, texts[step][: BLOCK + 1])
        for p in parameters:
            p.grad = 0.0
        loss.backward()
        for i, p in enumerate(parameters):
            means[i] = first * means[i] + (1 - first) * p.grad
            squares[i] = second * squares[i] + (1 - second) * p.grad**2
            mean = means[i] / (1 - first ** (step + 1))
            square = squares[i] / (1 - second ** (step + 1))
            p.data -= rate * mean / (square**0.5 + EPS)
        losses.append(loss.data)
    return losses


def _apply(matrix: Matrix, x: list[Any]) -> list[Any]:
    return [sum(w * a for w, a in zip(row, x, strict=True)) for row in matrix]


def _normal(x: list[Any]) -> list[Any]:
    scale = (sum(a * a for a in x) / len(x) + 1e-5) ** -0.5
    return [a * scale for a in x]


def _softmax(x: list[Any]) -> list[Any]:
    top = max(a.data for a in x)
    e = [(a - top).exp() for a in x]
    total = sum(e)
    return [a / total for a in e]


def _loss(w: dict[str, Matrix], text: list[int]) -> Any:
    keys: Matrix = []
    values: Matrix = []
    total = 0.0
    for place, (now, following) in enumerate(itertools.pairwise(text)):
        x = [a + b for a, b in zip(w["wte"][now], w["wpe"][place], strict=True)]
        x = _normal(x)
        h = _normal(x)
        query = _apply(w["query"], h)
        keys.append(_apply(w["key"], h))
        values.append(_apply(w["value"], h))
        mixed: list[Any] = []
        size = WIDTH // HEADS
        for start in range(0, WIDTH, size):
            part = slice(start, start + size)
            pattern = _softmax(
                [
                    sum(a * b for a, b in zip(query[part], k[part], strict=True)) / size**0.5
                    for k in keys
                ]
            )
            mixed += [
                sum(p * v[i] for p, v in zip(pattern, values, strict=True))
                for i in range(start, start + size)
            ]
        x = [a + b for a, b in zip(x, _apply(w["output"], mixed), strict=True)]
        hidden = [a.relu() for a in _apply(w["up"], _normal(x))]
        x = [a + b for a, b in zip(x, _apply(w["down"], hidden), strict=True)]
        total = total - _softmax(_apply(w["lm_head"], x))[following].log()
    return total / (len(text) - 1)
