"""Laws of what networks are made of: softmax, cross-entropy, normalisation."""

from __future__ import annotations

import numpy as np

import microgpt as mg
from microgpt.errors import ShapeError
from microgpt.testing.properties.base import law
from microgpt.testing.properties.comparing import (
    constant,
    gradients,
    leaf,
    near,
    refused,
)
from microgpt.testing.strategies import Drawer, Shape


def _along(d: Drawer) -> tuple[Shape, int, Shape]:
    """A shape without zeros, one of its axes, and the shape with that axis of length 1."""
    shape = d.shape(1, 3, 1)
    axis = d.axis(len(shape))
    one = list(shape)
    one[axis] = 1
    return shape, axis, tuple(one)


# ---- softmax and cross-entropy ---------------------------------------------------------------


@law(29)
def softmax_is_a_distribution(d: Drawer) -> None:
    """Softmax: rows add up to 1, a number added to a row changes nothing, gradients sum to 0."""
    shape, axis, one = _along(d)
    temperature = d.sampled([1.0, 0.5, 3.0])
    x, g = leaf(d.filled(shape, -8, 8)), d.filled(shape)
    y = mg.softmax(x, axis, temperature)
    near("sums of the rows of a softmax", mg.sum(y, axis=axis, keepdims=True), np.ones(one))
    shifted = mg.softmax(x + constant(d.filled(one, -1000, 1000)), axis, temperature)
    near("softmax of shifted rows", shifted, y)
    (dx,) = gradients(y, [x], g)
    near("sums of the gradients of a softmax", dx.sum(axis, keepdims=True), np.zeros(one))
    p = y.numpy()
    near(
        "gradient of a softmax, p·(g - Σ g·p) / T",
        dx,
        p * (g - (g * p).sum(axis, keepdims=True)) / temperature,
    )


@law(30)
def log_softmax_is_the_logarithm(d: Drawer) -> None:
    """log_softmax equals the logarithm of softmax, and so do the gradients."""
    shape, axis, _ = _along(d)
    x, g = leaf(d.filled(shape, -8, 8)), d.filled(shape)
    direct, composed = mg.log_softmax(x, axis), mg.log(mg.softmax(x, axis))
    near("log_softmax, compared with log(softmax)", direct, composed)
    (want,) = gradients(composed, [x], g)
    near("gradient of log_softmax", gradients(direct, [x], g)[0], want)


def _classified(d: Drawer, classes: int) -> tuple[Shape, np.ndarray, np.ndarray, int]:
    """A shape of logits, targets, which of them count, and the number that marks the others."""
    places = (d.shape(1, 3, 1)) if d.boolean() else ()
    rng = d.rng()
    ignore = d.sampled([-100, -1, classes, classes - 1])
    target = rng.integers(0, classes, places)
    share = d.sampled([0.0, 0.5, 1.0])
    ignored = rng.random(places) < share
    if share == 1.0 and places and d.boolean():
        ignored.reshape(-1)[0] = False
    target = np.where(ignored, ignore, target)
    shape = (places[0], classes, *places[1:]) if places else (classes,)
    return shape, target, target != ignore, ignore


@law(31)
def cross_entropy_gradient(d: Drawer) -> None:
    """Cross-entropy: -log p of the target, gradient (p - one_hot) / N if N targets count."""
    classes = d.number(1, 5)
    shape, target, counts, ignore = _classified(d, classes)
    reduction = d.sampled(["mean", "sum", "none"])
    axis = 1 if len(shape) > 1 else 0
    x = leaf(d.filled(shape, -6, 6))
    loss = mg.cross_entropy(x, mg.tensor(target), reduction, ignore)
    values = np.exp(x.numpy() - x.numpy().max(axis, keepdims=True))
    p = values / values.sum(axis, keepdims=True)
    safe = np.where(counts, target, 0)
    onehot = np.moveaxis(np.eye(classes)[safe], -1, axis)
    losses = -np.log((p * onehot).sum(axis)) * counts
    g = d.filled(losses.shape) if reduction == "none" else d.filled(())
    each = {"mean": g / max(int(counts.sum()), 1), "sum": g, "none": g}[reduction] * counts
    want = {"mean": losses.sum() / max(int(counts.sum()), 1), "sum": losses.sum(), "none": losses}
    near(f"cross_entropy, reduction '{reduction}'", loss, want[reduction])
    (dx,) = gradients(loss, [x], g)
    near(
        f"gradient of cross_entropy, reduction '{reduction}', {int(counts.sum())} targets of "
        f"{counts.size} count",
        dx,
        (p - onehot) * np.expand_dims(each, axis),
    )


@law(share=0.5)
def what_is_no_class_is_refused(d: Drawer) -> None:
    """A target that is no class is refused, by every reduction."""
    n, classes = d.number(1, 5), d.number(1, 5)
    target = d.rng().integers(0, classes, n)
    target[d.number(0, n - 1)] = d.sampled([classes, classes + 7, -1, -classes - 1])
    x, reduction = leaf(d.filled((n, classes))), d.sampled(["mean", "sum", "none"])
    refused(
        f"cross_entropy of {classes} classes with the targets {target.tolist()}",
        lambda: mg.cross_entropy(x, mg.tensor(target), reduction),
        ShapeError,
    )


# ---- normalisation ---------------------------------------------------------------------------

_EPS = (1e-12, 1e-5, 1e-2, 1.0)


def _rows(d: Drawer) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Rows without zeros, a cotangent, and a weight or None."""
    shape = (*d.shape(0, 2, 1), d.number(1, 9))
    x = d.filled(shape, away_from=(0.0,))
    return x, d.filled(shape), d.filled(shape[-1:]) if d.boolean() else None


@law(32)
def layer_norm_statistics(d: Drawer) -> None:
    """Layer-norm: mean 0, variance v/(v+ε), blind to shifts; Σdx = 0, and Σdx·x̂ → 0 as ε → 0."""
    values, g, weight = _rows(d)
    eps = d.sampled(_EPS)
    bias = d.filled(values.shape[-1:]) if d.boolean() else None
    x = leaf(values)
    plain = mg.layer_norm(x, eps=eps)
    v = values.var(-1, keepdims=True)
    near("means of normalised rows", plain.numpy().mean(-1), np.zeros(values.shape[:-1]))
    near("variances of normalised rows", plain.numpy().var(-1, keepdims=True), v / (v + eps))
    shift = d.filled((*values.shape[:-1], 1), -10, 10)
    # A shift of 10 costs digits, which a division by a small deviation makes visible.
    blur = 1e-14 / float(np.sqrt(v + eps).min())
    near(
        "layer_norm of shifted rows",
        mg.layer_norm(x + constant(shift), eps=eps),
        plain,
        scale=max(1.0, blur / 1e-10),
    )
    w, b = (None if p is None else constant(p) for p in (weight, bias))
    y = mg.layer_norm(x, w, b, eps)
    want = plain.numpy() * (1.0 if weight is None else weight) + (0.0 if bias is None else bias)
    near("layer_norm with weight and bias", y, want)
    (dx,) = gradients(y, [x], g)
    size = float(np.abs(dx).max())
    near(
        "sums of the gradients of a layer_norm",
        dx.sum(-1),
        np.zeros(values.shape[:-1]),
        scale=max(1, size),
    )
    _along_the_row("layer_norm", dx, plain.numpy(), g if weight is None else g * weight, v, eps)


def _along_the_row(
    name: str, dx: np.ndarray, normal: np.ndarray, g: np.ndarray, power: np.ndarray, eps: float
) -> None:
    """Σdx·x̂ = Σg·x̂·ε / (power + ε)^1.5: what the scale of a row still matters because of ε."""
    want = ((g * normal).sum(-1, keepdims=True) * eps / (power + eps) ** 1.5)[..., 0]
    scale = max(1.0, float(np.abs(dx * normal).max()))
    near(f"{name} with ε={eps}: Σdx·x̂", (dx * normal).sum(-1), want, scale=scale)


@law(33)
def rms_norm_is_blind_to_scale(d: Drawer) -> None:
    """RMS-norm: x times a factor changes nothing (with ε times its square); Σdx·x → 0 with ε."""
    values, g, weight = _rows(d)
    eps = d.sampled((0.0, *_EPS))
    factor = d.sampled([0.01, 0.3, 2.0, 100.0, -5.0])
    w = None if weight is None else constant(weight)
    x = leaf(values)
    y = mg.rms_norm(x, w, eps)
    scaled = mg.rms_norm(x * factor, w, eps * factor**2)
    near(f"rms_norm of x·{factor}", scaled, y.numpy() * np.sign(factor))
    plain = mg.rms_norm(x, None, eps)
    power = (values**2).mean(-1, keepdims=True)
    near(
        "mean squares of rows", (plain.numpy() ** 2).mean(-1, keepdims=True), power / (power + eps)
    )
    near("rms_norm with weight", y, plain.numpy() * (1.0 if weight is None else weight))
    (dx,) = gradients(y, [x], g)
    _along_the_row("rms_norm", dx, plain.numpy(), g if weight is None else g * weight, power, eps)
