"""Laws of optimizers, of gradient clipping and of learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

import microgpt as mg
from microgpt import optim
from microgpt.testing.properties.base import law
from microgpt.testing.properties.comparing import constant, holds, leaf, near, same
from microgpt.testing.strategies import Drawer

Formula = Callable[[np.ndarray, np.ndarray, dict[str, Any]], np.ndarray]
"""The next value, from the value, its gradient and what is remembered about the parameter."""


def _sgd(d: Drawer) -> tuple[dict[str, Any], Formula]:
    """Settings of SGD, and its step written out."""
    momentum = d.sampled([0.0, 0.5, 0.9])
    nesterov = bool(momentum) and d.boolean()
    dampening = 0.0 if nesterov else d.sampled([0.0, 0.3])
    lr, decay = d.sampled([0.01, 0.5]), d.sampled([0.0, 0.1])

    def step(p: np.ndarray, g: np.ndarray, memory: dict[str, Any]) -> np.ndarray:
        g = g + decay * p
        v = momentum * memory["v"] + (1 - dampening) * g if "v" in memory else g
        memory["v"] = v
        if not momentum:
            return p - lr * g
        return p - lr * (g + momentum * v if nesterov else v)

    settings = {"momentum": momentum, "dampening": dampening, "nesterov": nesterov}
    return {"lr": lr, "weight_decay": decay, **settings}, step


def _adam(d: Drawer, decoupled: bool) -> tuple[dict[str, Any], Formula]:
    """Settings of Adam or AdamW, and the step written out."""
    lr, decay = d.sampled([0.01, 0.5]), d.sampled([0.0, 0.1])
    first, second = d.sampled([0.0, 0.8, 0.9]), d.sampled([0.0, 0.9, 0.999])
    eps = d.sampled([1e-8, 1e-3])

    def step(p: np.ndarray, g: np.ndarray, memory: dict[str, Any]) -> np.ndarray:
        t = memory["t"] = memory.get("t", 0) + 1
        if decoupled:
            p = p - lr * decay * p
        else:
            g = g + decay * p
        m = memory["m"] = first * memory.get("m", 0.0) + (1 - first) * g
        v = memory["v"] = second * memory.get("v", 0.0) + (1 - second) * g**2
        return p - lr * (m / (1 - first**t)) / (np.sqrt(v / (1 - second**t)) + eps)

    return {"lr": lr, "betas": (first, second), "eps": eps, "weight_decay": decay}, step


def settings_of(d: Drawer, kind: str) -> tuple[dict[str, Any], Formula]:
    """Drawn settings for the optimizer called `kind`, and its step written out."""
    return _sgd(d) if kind == "SGD" else _adam(d, decoupled=kind == "AdamW")


@law(44)
def optimizers_follow_their_formula(d: Drawer) -> None:
    """SGD, Adam, AdamW: three steps as written out; who got no gradient stays as it was."""
    kind = d.sampled(["SGD", "Adam", "AdamW"])
    groups, formulas, wants = [], [], []
    for _ in range(d.number(1, 2)):
        settings, formula = settings_of(d, kind)
        values = [d.filled(d.shape()) for _ in range(d.number(1, 2))]
        groups.append({"params": [leaf(v) for v in values], **settings})
        wants += values
        formulas += [formula] * len(values)
    params = [p for group in groups for p in group["params"]]
    optimizer = getattr(optim, kind)(groups)
    memories: list[dict[str, Any]] = [{} for _ in params]
    for step in range(1, 4):
        for i, p in enumerate(params):
            g = None if d.number(0, 4) == 0 else d.filled(p.shape, away_from=(0.0,))
            p.grad = None if g is None else constant(g)
            if g is not None:
                wants[i] = formulas[i](wants[i], g, memories[i])
        optimizer.step()
        for i, p in enumerate(params):
            what = f"{optimizer}, parameter {i} after step {step}"
            (same if p.grad is None and not memories[i] else near)(what, p, wants[i])


# ---- clipping --------------------------------------------------------------------------------


@law(45)
def clipping_keeps_the_direction(d: Drawer) -> None:
    """clip_grad_norm_: the joint norm is limited, the direction stays, twice is like once."""
    params = [leaf(d.filled(d.shape())) for _ in range(d.number(1, 3))]
    size = d.sampled([1e-3, 1.0, 1e3])
    before = [None if d.number(0, 4) == 0 else size * d.filled(p.shape) for p in params]
    for p, g in zip(params, before, strict=True):
        p.grad = None if g is None else constant(g)
    limit = d.sampled([1e-3, 0.5, 1.0, 10.0])
    norm = math.sqrt(math.fsum(float((g**2).sum()) for g in before if g is not None))
    found = optim.clip_grad_norm_(params, limit)
    near("what clip_grad_norm_ returns, the norm before", found, norm)
    factor = min(1.0, limit / norm) if norm else 1.0
    after = [None if p.grad is None else p.grad.numpy() for p in params]
    for i, (a, b) in enumerate(zip(before, after, strict=True)):
        holds((a is None) == (b is None), f"gradient {i} clipped: {b}; required: {a}")
        if a is not None:
            what = f"gradient {i} clipped from norm {norm:.6g} to {limit}"
            (same if factor == 1.0 else near)(what, b, a * factor)
    again = optim.clip_grad_norm_(params, limit)
    near("the norm after clipping", again, min(norm, limit))
    for i, (p, b) in enumerate(zip(params, after, strict=True)):
        if b is not None:
            near(f"gradient {i} clipped a second time", p.grad, b, 1e-15, scale=limit)


@law(45, share=0.5)
def clipping_by_value_limits_each(d: Drawer) -> None:
    """clip_grad_value_: every element is limited to ±c and the others keep their bits."""
    p, g, limit = leaf(np.zeros(s := d.shape())), d.filled(s), d.sampled([0.1, 1.0, 2.5])
    for again in (False, True):
        if not again:
            p.grad = constant(g)
        optim.clip_grad_value_([p], limit)
        same(
            "gradient clipped by value", p.grad, np.where(np.abs(g) > limit, limit * np.sign(g), g)
        )


# ---- schedules -------------------------------------------------------------------------------


def schedule_of(
    d: Drawer, lr: float
) -> tuple[Callable[[optim.Optimizer], optim.Schedule], Callable[[int], float]]:
    """A drawn schedule, and the rate at step t (which counts from 0) written out."""
    kind = d.sampled(["StepLR", "LinearLR", "CosineAnnealingLR", "LambdaLR"])
    n = d.number(1, 4)
    if kind == "StepLR":
        gamma = d.sampled([0.1, 0.5])
        return lambda o: optim.StepLR(o, n, gamma), lambda t: lr * gamma ** (t // n)
    if kind == "LinearLR":
        start, end = d.sampled([0.0, 0.25, 1.0]), d.sampled([1.0, 0.5])
        return (
            lambda o: optim.LinearLR(o, start, end, n),
            lambda t: lr * (start + (end - start) * min(t, n) / n),
        )
    if kind == "LambdaLR":
        return lambda o: optim.LambdaLR(o, lambda t: 1 / (1 + t)), lambda t: lr / (1 + t)
    low = d.sampled([0.0, 0.01])
    return (
        lambda o: optim.CosineAnnealingLR(o, n, low),
        lambda t: low + (lr - low) * (1 + math.cos(math.pi * min(t, n) / n)) / 2,
    )


@law()
def schedules_set_the_rate_of_every_step(d: Drawer) -> None:
    """A schedule's rate holds from step 0 on, as written out; one after the other, and resumed."""
    lr, steps = d.sampled([0.1, 2.0]), d.number(1, 8)
    parts = [schedule_of(d, lr) for _ in range(d.number(1, 3))]
    milestones = sorted(d.number(0, 6) for _ in parts[1:])

    def made(rate: float) -> tuple[mg.Tensor, optim.Optimizer, optim.Schedule]:
        p = leaf(0.0)
        o = optim.SGD([p], lr=rate)
        if len(parts) == 1:
            return p, o, parts[0][0](o)
        return p, o, optim.SequentialLR(o, [make(o) for make, _ in parts], milestones)

    p, optimizer, schedule = made(lr)
    resume = d.number(0, steps)
    want = 0.0
    for t in range(steps):
        if t == resume:
            state = optimizer.state_dict(), schedule.state_dict()
            p, optimizer, schedule = made(lr)
            optimizer.load_state_dict(state[0])
            schedule.load_state_dict(state[1])
            want = 0.0
        place = sum(t >= m for m in milestones)
        rate = parts[place][1](t - (milestones[place - 1] if place else 0))
        near(f"rate of {type(schedule).__name__} at step {t}", schedule.get_last_lr(), [rate])
        want -= rate
        p.grad = constant(1.0)
        optimizer.step()
        schedule.step()
        near(f"sum of the steps of {type(schedule).__name__} up to step {t}", p, want)
