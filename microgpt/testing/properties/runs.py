"""Laws of runs: one that was saved goes on, and one with the same seed is the same."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np

import microgpt as mg
from microgpt import checkpoints, data, models, nn, optim, train
from microgpt.testing.properties.base import law
from microgpt.testing.properties.comparing import constant, holds, same
from microgpt.testing.properties.optimizers import settings_of
from microgpt.testing.properties.training import classified
from microgpt.testing.strategies import Drawer


class _Training:
    """A small network in training: a model with dropout, an optimizer, a schedule."""

    def __init__(self, seed: int, sizes: tuple[int, int, int], kind: str, settings: Any) -> None:
        source = mg.generator(seed)
        self.model = nn.Sequential(
            nn.Linear(sizes[0], sizes[1], generator=source, dtype="float64"),
            nn.Dropout(0.5, generator=source),
            nn.Linear(sizes[1], sizes[2], generator=source, dtype="float64"),
        )
        self.optimizer = getattr(optim, kind)(self.model.parameters(), **settings)
        self.schedule = optim.LinearLR(self.optimizer, 0.25, 1.0, 3)

    def step(self, x: mg.Tensor, target: mg.Tensor) -> float:
        loss = mg.cross_entropy(self.model(x), target)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return loss.item()

    def numbers(self) -> dict[str, Any]:
        """Everything that the run consists of."""
        found: dict[str, Any] = {**self.model.state_dict()}
        for i, entry in enumerate(self.optimizer.state):
            found |= {f"'{key}' of parameter {i}": np.asarray(v) for key, v in entry.items()}
        return {**found, "rate": np.array(self.schedule.get_last_lr())}


@law(46, share=0.3)  # writing to disk takes its time
def saved_and_loaded_goes_on(d: Drawer) -> None:
    """Saved, loaded into other objects and trained on: the same bits as without the detour."""
    x, target, classes = classified(d)
    batch = constant(x), mg.tensor(target)
    kind = d.sampled(["SGD", "Adam", "AdamW"])
    settings, _ = settings_of(d, kind)
    sizes = (x.shape[1], d.number(1, 4), classes)
    seed, before = d.number(0, 2**16), d.number(0, 2)
    one = _Training(seed, sizes, kind, settings)
    two = _Training(seed + 1, sizes, kind, {**settings, "lr": 0.3, "weight_decay": 0.05})
    for _ in range(before):
        one.step(*batch)
    for _ in range(d.number(0, 1)):
        two.step(*batch)  # what is loaded replaces whatever was there
    state = {"optimizer": one.optimizer.state_dict(), "schedule": one.schedule.state_dict()}
    with tempfile.TemporaryDirectory() as folder:
        checkpoints.save(folder, before, one.model, state)
        loaded = checkpoints.load(folder, two.model) or {}
    holds(loaded.get("step") == before, f"step {loaded.get('step')} loaded; required: {before}")
    two.optimizer.load_state_dict(loaded["optimizer"])
    two.schedule.load_state_dict(loaded["schedule"])
    for step in range(3):
        what = f"{kind} resumed after step {before}, {step} steps later"
        wanted, found = one.numbers(), two.numbers()
        holds(
            wanted.keys() == found.keys(),
            f"{what}: the run consists of {', '.join(found)}; required: {', '.join(wanted)}",
        )
        for name in wanted:
            same(f"{what}: {name}", found[name], wanted[name])
        same("the loss of a resumed run", np.array(two.step(*batch)), np.array(one.step(*batch)))


@law(47)
def the_same_seed_gives_the_same_bits(d: Drawer) -> None:
    """Weights, masks and the order of batches follow from the seed; another one gives others."""
    x, target, classes = classified(d)
    seed, size = d.number(0, 2**16), d.number(1, 4)
    configured = d.boolean()

    def run(seed: int) -> list[np.ndarray]:
        with mg.configure(seed=seed, dtype="float64"):
            source = None if configured else mg.generator(seed)
            model = nn.Sequential(
                models.MLP((x.shape[1], 3, classes), "tanh", generator=source),
                nn.Dropout(0.5, generator=source),
            )
            first = [p.numpy() for p in model.parameters()]
            optimizer = optim.SGD(model.parameters(), lr=0.1)
            batches = data.batches(x, target, batch_size=size, seed=None if configured else seed)
            history = train.fit(
                model, mg.cross_entropy, optimizer, batches, epochs=2, progress=False
            )
            orders = [i.numpy() for (i,) in data.batches(np.arange(40), batch_size=40, seed=seed)]
            mask = model[1](mg.ones(60)).numpy()
        return [
            *first,
            *orders,
            mask,
            np.array(history.losses),
            *[p.numpy() for p in model.parameters()],
        ]

    one, two, other = run(seed), run(seed), run(seed + 1)
    for i, (a, b) in enumerate(zip(one, two, strict=True)):
        same(f"part {i} of two runs with the seed {seed}", a, b)
    for what, i in (("weights", 0), ("order", 4), ("mask", 5)):
        holds(
            not np.array_equal(one[i], other[i]),
            f"the seeds {seed} and {seed + 1} give the same {what}; required: others",
        )
    holds(
        sorted(one[4].tolist()) == list(range(40)),
        f"an epoch showed the examples {one[4].tolist()}; required: each of 40 once",
    )
