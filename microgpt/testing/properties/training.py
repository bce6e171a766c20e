"""Laws of training: recomputation, shards, accumulation, and steps that forget the last one."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

import microgpt as mg
from microgpt import data, models, nn, optim, train
from microgpt.testing.conformance import transformer
from microgpt.testing.properties.attention import weights
from microgpt.testing.properties.base import law
from microgpt.testing.properties.comparing import constant, gradients, holds, leaf, near, same
from microgpt.testing.properties.optimizers import schedule_of, settings_of
from microgpt.testing.strategies import Drawer

# ---- computing again -------------------------------------------------------------------------


def _blocks(d: Drawer, width: int, rows: int) -> tuple[list[mg.Tensor], list[Callable[..., Any]]]:
    """Weights, and residual blocks that use them from outside, some with random masks."""
    depth, kind = d.number(1, 3), d.sampled(["plain", "mask", "own generator"])
    weights = [leaf(d.filled((width, width))) for _ in range(1 if d.boolean() else depth)]
    rng, seed = d.rng(), d.number(0, 2**16)
    masks = [constant((rng.random((rows, width)) < 0.5) / 0.5) for _ in range(depth)]

    def block(i: int) -> Callable[[mg.Tensor], mg.Tensor]:
        def run(x: mg.Tensor) -> mg.Tensor:
            h = mg.tanh(mg.linear(x, weights[i % len(weights)]))
            if kind == "mask":
                h = h * masks[i]
            elif kind == "own generator":
                h = mg.dropout(h, 0.5, generator=mg.generator(seed + i))
            return x + h

        return run

    return weights, [block(i) for i in range(depth)]


@law(41)
def checkpoint_changes_nothing(d: Drawer) -> None:
    """mg.checkpoint: the same bits forward and the same gradients, masks drawn outside included."""
    rows, width = d.number(1, 4), d.number(1, 4)
    weights, blocks = _blocks(d, width, rows)
    again = [d.boolean() for _ in blocks]
    nested = d.boolean()
    leaves = [leaf(d.filled((rows, width))), *weights]

    def plain(x: mg.Tensor) -> mg.Tensor:
        for block in blocks:
            x = block(x)
        return x

    def chain(x: mg.Tensor) -> mg.Tensor:
        for block, checkpointed in zip(blocks, again, strict=True):
            x = mg.checkpoint(block, x) if checkpointed else block(x)
        return x

    def computed_again(x: mg.Tensor) -> mg.Tensor:
        return mg.checkpoint(chain, x) if nested else chain(x)

    want, found = plain(leaves[0]), computed_again(leaves[0])
    same("output of a checkpoint", found, want)
    g = d.filled((rows, width))
    pairs = zip(gradients(found, leaves, g), gradients(want, leaves, g), strict=True)
    for i, (a, b) in enumerate(pairs):
        near(f"gradient {i} through a checkpoint", a, b)
    if d.boolean():

        def slope(function: Callable[..., Any]) -> Any:
            inner = mg.grad(lambda x: (function(x) * constant(g)).sum())
            return mg.grad(lambda x: (inner(x) ** 2).sum())(leaves[0])

        near("second derivative through a checkpoint", slope(computed_again), slope(plain))


# ---- parts of a batch ------------------------------------------------------------------------


def _cuts(d: Drawer, n: int) -> list[slice]:
    """`n` examples in uneven parts."""
    places = sorted({0, n, *[d.number(0, n) for _ in range(d.number(0, 3))]})
    return [slice(a, b) for a, b in pairwise(places)]


def classified(d: Drawer) -> tuple[np.ndarray, np.ndarray, int]:
    """Rows, their classes, and the number of classes."""
    n, classes = d.number(1, 8), d.number(1, 4)
    return d.filled((n, d.number(1, 4))), d.rng().integers(0, classes, n), classes


@law(42)
def uneven_shards_equal_the_batch(d: Drawer) -> None:
    """Losses and gradients of shards, weighted by targets that count, are those of the batch."""
    x, target, classes = classified(d)
    target = np.where(d.rng().random(len(x)) < d.sampled([0.0, 0.5, 0.9]), -100, target)
    w = [leaf(d.filled((classes, x.shape[1]))), leaf(d.filled((classes,)))]
    reduction = d.sampled(["mean", "sum"])

    def part(rows: slice) -> tuple[float, np.ndarray, list[np.ndarray]]:
        logits = mg.linear(constant(x[rows]), *w)
        loss = mg.cross_entropy(logits, mg.tensor(target[rows]), reduction)
        count = float((target[rows] != -100).sum()) if reduction == "mean" else 1.0
        return count, loss.numpy(), gradients(loss, w)

    cuts = _cuts(d, len(x))
    shards = [part(rows) for rows in cuts]
    _, loss, grads = part(slice(None))
    total = max(sum(count for count, *_ in shards), 1.0) if reduction == "mean" else 1.0
    what = f"cross_entropy ({reduction}) in shards of {[c.stop - c.start for c in cuts]}"
    near(what, sum(count * value for count, value, _ in shards) / total, loss)
    for i, want in enumerate(grads):
        near(f"{what}, gradient {i}", sum(c * g[i] for c, _, g in shards) / total, want)


@law(42, share=0.5)
def evaluation_weighs_uneven_batches(d: Drawer) -> None:
    """train.evaluate over batches of any sizes gives the loss and accuracy of all that count."""
    x, target, classes = classified(d)
    ignored = d.rng().random(len(x)) < d.sampled([0.0, 0.5])
    ignored[d.number(0, len(x) - 1)] = False  # one counts at least
    target = np.where(ignored, -100, target)
    model = nn.Linear(x.shape[1], classes, generator=d.rng(), dtype="float64")
    batches = [(x[rows], target[rows]) for rows in _cuts(d, len(x))]
    found = train.evaluate(model, mg.cross_entropy, batches, {"accuracy": train.accuracy})
    logits = model(constant(x))
    what = f"of batches of {[len(t) for _, t in batches]}"
    near(f"loss {what}", found["loss"], mg.cross_entropy(logits, mg.tensor(target)))
    right = (logits.numpy().argmax(1) == target)[~ignored]
    near(f"accuracy {what}", found["accuracy"], right.mean())


@law(43)
def accumulation_equals_one_batch(d: Drawer) -> None:
    """Backward passes over parts of a batch add up to that of the batch, and so does the step."""
    x, target, classes = classified(d)
    kind = d.sampled(["SGD", "Adam", "AdamW"])
    settings, _ = settings_of(d, kind)
    seed = d.number(0, 2**16)

    def stepped(cuts: list[slice]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        model = nn.Linear(x.shape[1], classes, generator=mg.generator(seed), dtype="float64")
        optimizer = getattr(optim, kind)(
            model.parameters(), **{**settings, "eps": 1e-3} if kind != "SGD" else settings
        )
        for rows in cuts:
            loss = mg.cross_entropy(model(constant(x[rows])), mg.tensor(target[rows]), "sum")
            (loss / float(len(x))).backward()
        grads = [p.grad.numpy() for p in model.parameters()]  # pyright: ignore
        optimizer.step()
        return grads, [p.numpy() for p in model.parameters()]

    cuts = _cuts(d, len(x))
    what = f"over parts of {[c.stop - c.start for c in cuts]}"
    (grads, after), (want, want_after) = stepped(cuts), stepped([slice(None)])
    for i in range(len(want)):
        near(f"gradient {i} accumulated {what}", grads[i], want[i])
        near(f"parameter {i} after a step {what}", after[i], want_after[i], 1e-9)


# ---- steps -----------------------------------------------------------------------------------


@law(48)
def no_grad_computes_the_same(d: Drawer) -> None:
    """Without recording, and with frozen weights, the results have the same bits."""
    w = weights(d)
    ids = d.rng().integers(0, transformer.VOCABULARY, (d.number(1, 2), d.number(2, 7)))
    reduction = d.sampled(["mean", "sum"])

    def computed() -> list[mg.Tensor]:
        logits = transformer._logits(w, mg.tensor(ids[:, :-1]))
        flat = logits.reshape(-1, transformer.VOCABULARY)
        target = mg.tensor(ids[:, 1:].reshape(-1))
        kept = mg.dropout(logits, 0.5, generator=mg.generator(0))
        return [logits, kept, mg.cross_entropy(flat, target, reduction)]

    recorded = computed()
    with mg.no_grad():
        silent = computed()
        with mg.enable_grad():
            back = computed()
    for x in w.values():
        x.requires_grad = False
    frozen = computed()
    ways = {"under no_grad": silent, "under enable_grad": back, "with frozen weights": frozen}
    for way, results in ways.items():
        for name, a, b in zip(("logits", "dropout", "loss"), results, recorded, strict=True):
            same(f"{name} {way}", a, b)
            holds(
                a.requires_grad == (results is back),
                f"{name} {way}: requires_grad is {a.requires_grad}; required: {results is back}",
            )


@law()
def zero_grad_forgets(d: Drawer) -> None:
    """After zero_grad of a model or an optimizer, a backward pass leaves what a first one would."""
    x, target, classes = classified(d)
    model = models.MLP((x.shape[1], 3, classes), generator=d.rng()).to(dtype="float64")
    params = model.parameters()
    forget = d.sampled([model.zero_grad, optim.SGD(params).zero_grad])

    def backward() -> list[np.ndarray]:
        mg.cross_entropy(model(constant(x)), mg.tensor(target)).backward()
        return [p.grad.numpy() for p in params]  # pyright: ignore[reportOptionalMemberAccess]

    first = backward()
    forget()
    for i, (a, b) in enumerate(zip(backward(), first, strict=True)):
        same(f"gradient {i} after zero_grad", a, b)
    for i, (a, b) in enumerate(zip(backward(), first, strict=True)):
        near(f"gradient {i} of two passes without zero_grad", a, 2 * b)


@law()
def fit_takes_the_steps_written_out(d: Drawer) -> None:
    """train.fit: every step sees its batch's gradient alone, clipped, at the scheduled rate."""
    n, width, outputs = d.number(1, 6), d.number(1, 3), d.number(1, 2)
    x, y = d.filled((n, width)), d.filled((n, outputs))
    lr = d.sampled([0.05, 0.2])
    schedule, rate = schedule_of(d, lr) if d.boolean() else (None, lambda t: lr)
    limit, together = d.sampled([None, 0.3]), d.sampled([1, 1, 2, 3])
    settings = {"batch_size": d.number(1, 4), "seed": d.number(0, 99), "shuffle": d.boolean()}
    batches, copies = (data.batches(x, y, tensors=False, **settings) for _ in range(2))
    model = nn.Linear(width, outputs, generator=d.rng(), dtype="float64")
    w, b = model.weight.numpy(), model.bias.numpy()  # pyright: ignore
    if d.boolean():  # something is left from before
        model(constant(x)).sum().backward()
    optimizer = optim.SGD(model.parameters(), lr=lr)
    history = train.fit(
        model, mg.mse_loss, optimizer, batches, epochs=2, progress=False, clip_norm=limit,
        accumulate=together, schedule=None if schedule is None else schedule(optimizer),
    )  # fmt: skip
    groups: list[list[Any]] = []
    for _ in range(2):
        parts = list(copies)
        groups += [parts[i : i + together] for i in range(0, len(parts), together)]
    for t, group in enumerate(groups):
        xs, ys = (np.concatenate(part) for part in zip(*group, strict=True))
        away = xs @ w.T + b - ys
        near(f"loss of step {t} of fit", history.losses[t], (away**2).mean())
        to_w, to_b = 2 * away.T @ xs / away.size, 2 * away.sum(0) / away.size
        norm = math.sqrt((to_w**2).sum() + (to_b**2).sum())
        factor = 1.0 if limit is None or norm <= limit else limit / norm
        w, b = w - rate(t) * factor * to_w, b - rate(t) * factor * to_b
    near("weights after fit", model.weight, w)
    near("biases after fit", model.bias, b)
