"""What a learner sees of a bug: a few kinds of small experiments that the rooms share.

Each is run twice, without the bug and with it. None takes more than a second or two, and each
draws its random numbers from a fixed seed, so that the bug is the only difference.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import microgpt as mg
from microgpt.testing.museum.base import Demo

TEXT = "anna otto emma nora tom ron mona amon martha marta rat tram norma roman moor "
"""What the small language models read."""


def value(what: str, compute: Callable[[], Any]) -> Demo:
    """A number, or an array of a few."""
    return Demo(what, lambda: text_of(compute()))


def text_of(x: Any) -> str:
    """Numbers with four digits, arrays in brackets."""
    if isinstance(x, str):
        return x
    if isinstance(x, (list, tuple)):
        return "  ".join(text_of(part) for part in x)
    if x is None:
        return "None"
    host = x.numpy() if isinstance(x, mg.Tensor) else np.asarray(x)
    return np.array2string(host, precision=4, suppress_small=True, separator=", ")


def gradient(what: str, function: Callable[..., Any], *points: Any) -> Demo:
    """The gradients of a function of tensors, whose output is summed with weights 1, -2, 3, …"""

    def compute() -> Any:
        inputs = [mg.tensor(np.asarray(p, "float64"), requires_grad=True) for p in points]
        with np.errstate(all="ignore"):
            y = function(*inputs)
            signs = np.cos(np.pi * np.arange(y.size)) * np.arange(1, y.size + 1)
            y.backward(mg.tensor(signs.reshape(y.shape), "float64"))
        return [x.grad for x in inputs]

    return value(what, compute)


def gradient_shape(what: str, function: Callable[[Any], Any], shape: tuple[int, ...]) -> Demo:
    """The shape of the gradient of a tensor of ones."""

    def compute() -> str:
        x = mg.ones(shape, dtype="float64", requires_grad=True)
        function(x).sum().backward()
        return str(tuple(x.grad.shape))  # pyright: ignore[reportOptionalMemberAccess]

    return value("the shape of the gradient of " + what, compute)


def descent(
    what: str, loss: Callable[[Any], Any], start: Any, lr: float = 0.1, steps: int = 40
) -> Demo:
    """The losses of gradient descent on a function of one tensor."""

    def train() -> list[float]:
        x = mg.tensor(np.asarray(start, "float64"), requires_grad=True)
        losses = []
        for _ in range(steps):
            y = loss(x)
            losses.append(float(y.item()))
            y.backward()
            x.data, x.grad = x.numpy() - lr * x.grad.numpy(), None  # pyright: ignore[reportOptionalMemberAccess]
        return losses

    return Demo(what, train)


def training(loss: Callable[[], Any], optimizer: Any, steps: int) -> list[float]:
    """The losses of `steps` steps of an optimizer."""
    losses = []
    for _ in range(steps):
        y = loss()
        losses.append(float(y.item()))
        optimizer.zero_grad()
        y.backward()
        optimizer.step()
    return losses


def crescents(n: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Two interleaving crescents: points (n, 2) and which one each belongs to (n,)."""
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, np.pi, n)
    second = np.arange(n) % 2
    x = np.where(second, 1 - np.cos(angle), np.cos(angle))
    y = np.where(second, 0.5 - np.sin(angle), np.sin(angle))
    points = np.stack([x, y], 1) + rng.normal(0, 0.1, (n, 2))
    return points.astype("float32"), second.astype(np.int64)


def moons(
    what: str,
    activation: Callable[[Any], Any],
    steps: int = 80,
    hidden: int = 16,
) -> Demo:
    """Training of a network with one hidden layer to tell two crescents apart."""

    def train() -> list[float]:
        points, classes = crescents()
        x, t = mg.tensor(points), mg.tensor(classes)
        source = mg.generator(1)
        first = mg.nn.Linear(2, hidden, generator=source)
        last = mg.nn.Linear(hidden, 2, generator=source)
        model = mg.nn.Sequential(first, last)
        optimizer = mg.optim.Adam(model.parameters(), lr=0.05)

        def loss() -> Any:
            return mg.cross_entropy(last(activation(first(x))), t)

        return training(loss, optimizer, steps)

    return Demo(what, train)


def digits(
    what: str,
    hidden: Callable[[Any], Any],
    *,
    steps: int = 40,
    examples: int = 300,
    lr: float = 0.3,
) -> Demo:
    """Training on handwritten digits, with one hidden layer that `hidden` is applied to."""

    def train() -> list[float]:
        data = mg.data.digits().head(examples, 1)
        x, t = mg.tensor(data.x_train.reshape(examples, 64)), mg.tensor(data.y_train)
        source = mg.generator(2)
        model = mg.nn.Sequential(
            mg.nn.Linear(64, 24, generator=source), mg.nn.Linear(24, 10, generator=source)
        )
        optimizer = mg.optim.SGD(model.parameters(), lr=lr)

        def loss() -> Any:
            return mg.cross_entropy(model[1](hidden(model[0](x))), t)

        return training(loss, optimizer, steps)

    return Demo(what, train)


def bigrams(
    what: str, head: Callable[[Any, Any], Any], *, steps: int = 60, lr: float = 0.1
) -> Demo:
    """Training of a model that guesses the next letter from the one before.

    `head` gets the letters' vectors (n, 8) and the table of all letters (v, 8), and returns the
    logits (n, v).
    """

    def train() -> list[float]:
        letters = sorted(set(TEXT))
        ids = np.array([letters.index(c) for c in TEXT])
        table = mg.tensor(mg.generator(3).normal(0, 0.5, (len(letters), 8)), "float32", True)
        mix = mg.tensor(mg.generator(4).normal(0, 0.5, (8, 8)), "float32", True)
        optimizer = mg.optim.Adam([table, mix], lr=lr)

        def loss() -> Any:
            vectors = mg.embedding(mg.tensor(ids[:-1]), table) @ mix
            return mg.cross_entropy(head(vectors, table), mg.tensor(ids[1:]))

        return training(loss, optimizer, steps)

    return Demo(what, train)


def tied(vectors: Any, table: Any) -> Any:
    """Logits by comparison with the same table that the letters' vectors come from."""
    return vectors @ table.T


def next_letter(what: str, *, steps: int = 120) -> Demo:
    """Training of one head of causal attention on letters in random order, new ones every step."""

    def train() -> list[float]:
        source = mg.generator(5)
        batch, length, letters, width = 16, 12, 4, 16

        def made(*shape: int) -> Any:
            return mg.tensor(source.normal(0, 0.4, shape), "float32", True)

        table, places, head = made(letters, width), made(length, width), made(letters, width)
        queries, keys, values = (made(width, width) for _ in range(3))
        weights = [table, places, head, queries, keys, values]

        def loss() -> Any:
            ids = source.integers(0, letters, (batch, length + 1))
            x = mg.embedding(mg.tensor(ids[:, :-1]), table) + places
            y = x + mg.scaled_dot_product_attention(
                mg.linear(x, queries), mg.linear(x, keys), mg.linear(x, values), causal=True
            )
            logits = mg.linear(y, head).reshape(-1, letters)
            return mg.cross_entropy(logits, mg.tensor(ids[:, 1:].reshape(-1)))

        return training(loss, mg.optim.Adam(weights, lr=0.03), steps)

    return Demo(what, train)


def minimising(what: str, loss: Callable[[Any], Any], start: Any, steps: int = 40) -> Demo:
    """The losses of an optimizer, plain gradient descent, on a function of one tensor."""

    def train() -> list[float]:
        x = mg.tensor(np.asarray(start, "float64"), requires_grad=True)
        return training(lambda: loss(x), mg.optim.SGD([x], lr=0.1), steps)

    return Demo(what, train)
