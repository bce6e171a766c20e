"""Mistakes in ops and layers, each under the law of networks that must catch it."""

from __future__ import annotations

from typing import Any

import numpy as np
from microgpt_numpy import KERNELS

import microgpt as mg
from microgpt import autograd, nn
from microgpt.ops import TABLE, attention, network
from microgpt.testing.conformance import transformer
from microgpt.testing.museum.planting import both, by_definition
from tests.planting import Plant, changed, instead, kernels

# ---- ops -------------------------------------------------------------------------------------


def mean_of_all(x: Any, target: Any, **params: Any) -> Any:
    """The mean of a cross-entropy over all targets, with those that are to be ignored."""
    count = max(int((target != params["ignore_index"]).sum()), 1)
    return KERNELS["cross_entropy"](x, target, **params) * (count / max(len(target), 1))


def unshifted(x: Any, *, axis: int) -> Any:
    with np.errstate(all="ignore"):
        y = np.exp(x)
        return y / y.sum(axis, keepdims=True)


def two_percent(x: Any, *, axis: int) -> Any:
    y = KERNELS["softmax"](x, axis=axis)
    y.reshape(-1)[-1] *= 1.02
    return y


def half_percent(g: Any, saved: Any, x: Any, target: Any, **params: Any) -> Any:
    right, _ = KERNELS["cross_entropy_vjp"](g, None, x, target, **params)
    return right * 1.005, None


def count_all(g: Any, saved: Any, x: Any, target: Any, **params: Any) -> Any:
    right, _ = KERNELS["cross_entropy_vjp"](g, None, x, target, **params)
    count = max(int((target != params["ignore_index"]).sum()), 1)
    return right * (count / max(len(target), 1)), None


def clamped(x: Any, target: Any, *, ignore_index: int) -> Any:
    kept = np.where(target == ignore_index, target, np.clip(target, 0, x.shape[1] - 1))
    return KERNELS["cross_entropy"](x, kept, ignore_index=ignore_index)


def eps_outside(x: Any, weight: Any, bias: Any, *, eps: float) -> Any:
    centred = x - x.mean(-1, keepdims=True)
    y = centred / (np.sqrt((centred**2).mean(-1, keepdims=True)) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def uncentred(x: Any, weight: Any, bias: Any, *, eps: float) -> Any:
    y = x / np.sqrt(x.var(-1, keepdims=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def without_dots(g: Any, y: Any, x: Any, weight: Any, bias: Any, *, needs: Any, eps: float) -> Any:
    _, *others = KERNELS["layer_norm_vjp"](g, None, x, weight, bias, needs=needs, eps=eps)
    g = g if weight is None else g * weight
    return (g - g.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + eps), *others


def rms_of_centred(x: Any, weight: Any, eps: float = 1e-5) -> Any:
    y = (x - mg.mean(x, axis=-1, keepdims=True)) / mg.sqrt(
        mg.var(x, axis=-1, keepdims=True) + eps + 1e-30
    )
    return y if weight is None else y * weight


def rms_detached(x: Any, weight: Any, eps: float = 1e-5) -> Any:
    y = x / mg.ops.detach(mg.sqrt(mg.mean(x * x, axis=-1, keepdims=True) + eps))
    return y if weight is None else y * weight


def mask_after_softmax(q: Any, k: Any, v: Any, mask: Any, causal: bool, scale: float) -> Any:
    weights = mg.softmax(mg.matmul(q, mg.matrix_transpose(k)) * scale)
    if causal:
        weights = mg.tril(weights, k=k.shape[-2] - q.shape[-2])
    if mask is not None and mask.dtype.kind == "b":
        weights = mg.where(mask, weights, 0.0)
    return mg.matmul(weights, v)


right_dropout = mg.dropout


def unscaled(x: Any, p: float, training: bool = True, *, generator: Any) -> Any:
    y = right_dropout(x, p, training, generator=generator)
    return y * (1 - p) if training else y


def keeps_p(x: Any, p: float, training: bool = True, *, generator: Any) -> Any:
    if not training or p == 0:
        return x
    return x * ((generator.random(x.shape) < p) / (1 - p))


def always(x: Any, p: float, training: bool = True, *, generator: Any) -> Any:
    return right_dropout(x, p, True, generator=generator)


def drawn_again(x: Any, p: float, training: bool = True, *, generator: Any) -> Any:
    forward = right_dropout(x, p, generator=generator)
    backward = right_dropout(x, p, generator=generator)
    return backward + mg.ops.detach(forward - backward)


def leaks(kind: Any) -> Plant:
    """A layer whose rows see a bit of the other rows of the batch."""
    right = kind.forward
    return instead(
        kind,
        "forward",
        lambda self, x: right(self, x + 1e-3 * mg.mean(x, axis=0, keepdims=True)),
    )


def leaks_backward(kind: Any) -> Plant:
    """A layer that gives other rows a gradient, though its output does not depend on them."""
    right = kind.forward

    def forward(self: Any, x: Any) -> Any:
        other = 1e-6 * mg.sum(x, axis=0, keepdims=True)
        return right(self, x + other - mg.ops.detach(other))

    return instead(kind, "forward", forward)


def defined(op: str, plant: Plant) -> Plant:
    """A mistake in the definition of a fused op, with no kernel in its place."""
    return both(by_definition(op), plant)


def in_scores(old: str, new: str) -> Plant:
    """A mistake in the scores of attention."""
    return defined("scaled_dot_product_attention", changed(attention, "_scores", old, new))


PLANTED: dict[str, dict[str, Plant]] = {
    "softmax_is_a_distribution": {
        "not shifted by the maximum": kernels(softmax=unshifted),
        "one element 2 % too large": kernels(softmax=two_percent),
        "gradient of 0": kernels(softmax_vjp=lambda g, y, x, *, needs, axis: (g * 0,)),
        "gradient as if elementwise": kernels(
            softmax_vjp=lambda g, y, x, *, needs, axis: (g * y * (1 - y),)
        ),
        "temperature ignored": instead(mg, "softmax", lambda x, axis, _=1.0: x.softmax(axis)),
    },
    "log_softmax_is_the_logarithm": {
        "clipped": kernels(
            log_softmax=lambda x, *, axis: np.maximum(KERNELS["log_softmax"](x, axis=axis), -5)
        ),
        "gradient without p": kernels(
            log_softmax_vjp=lambda g, y, x, *, needs, axis: (g - g.mean(axis, keepdims=True),)
        ),
    },
    "cross_entropy_gradient": {
        "mean over the ignored too": kernels(cross_entropy=mean_of_all),
        "gradient by the number of all": kernels(cross_entropy_vjp=count_all),
        "gradient 0.5 % too large": kernels(cross_entropy_vjp=half_percent),
        "the ignored count in a sum": changed(
            mg, "cross_entropy", "counted.reshape(-1, 1)", "np.ones((host.size, 1))"
        ),
    },
    "what_is_no_class_is_refused": {
        "clamped by the kernel of the mean": kernels(cross_entropy=clamped),
        "not looked at by the sum": instead(network, "_check_classes", lambda *_: None),
    },
    "layer_norm_statistics": {
        "ε outside of the root": kernels(layer_norm=eps_outside),
        "mean left in": kernels(layer_norm=uncentred),
        "gradient without its x̂ term": kernels(layer_norm_vjp=without_dots),
    },
    "rms_norm_is_blind_to_scale": {
        "mean taken out": defined(
            "rms_norm", instead(TABLE["rms_norm"], "body", rms_of_centred)
        ),
        "gradient past the root": defined(
            "rms_norm", instead(TABLE["rms_norm"], "body", rms_detached)
        ),
    },
    "dropout_keeps_the_mean": {
        "not scaled up": instead(mg.ops, "dropout", unscaled),
        "keeps p instead of 1 - p": instead(mg.ops, "dropout", keeps_p),
        "in evaluation too": instead(mg.ops, "dropout", always),
    },
    "dropout_goes_back_through_its_mask": {
        "mask drawn again": instead(mg, "dropout", drawn_again)
    },
    "no_row_no_embedding": {
        "index clamped": kernels(take=lambda x, i, *, axis: np.take(x, i, axis, mode="clip")),
        "index wrapped": kernels(take=lambda x, i, *, axis: np.take(x, i, axis, mode="wrap")),
    },
    "tied_weights_get_both_gradients": {
        "the second use overwrites": changed(
            autograd, "propagate", "gradients[parent] = before + grad", "gradients[parent] = grad"
        ),
        "the first use stays": changed(
            autograd, "propagate", "gradients[parent] = before + grad", "pass"
        ),
        "one parameter for each use": changed(nn.Module, "_named", "again or", "True or"),
    },
    "rows_of_a_batch_are_independent": {
        **{
            f"{name} sees the batch": leaks(getattr(nn, name))
            for name in (
                "AvgPool2d", "BatchNorm1d", "BatchNorm2d", "Conv2d", "GELU", "LayerNorm", "Linear",
                "LogSoftmax", "MaxPool2d", "RMSNorm", "ReLU", "SiLU", "Sigmoid", "Softmax",
            )
        },
        "MLP sees the batch": leaks(mg.models.MLP),
        "CNN sees the batch": leaks(mg.models.CNN),
        "Conv2d, gradient only": leaks_backward(nn.Conv2d),
        "BatchNorm2d, by the batch in evaluation": changed(
            nn.BatchNorm2d, "forward", "self.training or", "True or"
        ),
        "Linear, gradient only": leaks_backward(nn.Linear),
        "Flatten joins the batch": changed(nn.Flatten, "forward", "self.start_dim", "0"),
        "Dropout in evaluation": instead(mg.ops, "dropout", always),
    },
    "batch_norm_statistics": {
        "unbiased variance": changed(
            nn.BatchNorm1d, "forward", "ops.square(centred), axis=axes, keepdims=True)",
            "ops.square(centred), axis=axes, keepdims=True) * 1.1",
        ),
        "ε outside of the root": changed(
            nn.BatchNorm2d, "forward", "ops.sqrt(variance + self.eps)",
            "(ops.sqrt(variance) + self.eps)",
        ),
        "gradient past the mean": changed(
            nn.BatchNorm2d, "forward", "x - mean", "x - ops.detach(mean)"
        ),
        "images by themselves in the variance": changed(
            nn.BatchNorm2d, "forward", "ops.mean(ops.square(centred), axis=axes, keepdims=True)",
            "ops.mean(ops.square(centred - ops.mean(centred, axis=axes[1:], keepdims=True)), "
            "axis=axes, keepdims=True)",
        ),
        "biased running variance": changed(nn.BatchNorm1d, "_track", "* (n / (n - 1))", "* 1.0"),
        "momentum the wrong way round": changed(
            nn.BatchNorm1d, "_track", "share = self.momentum", "share = 1 - (self.momentum or 0)"
        ),
        "batches not counted": changed(
            nn.BatchNorm1d, "_track", "self.num_batches_tracked + 1",
            "self.num_batches_tracked * 0 + 1",
        ),
        "tracked in evaluation": changed(
            nn.BatchNorm2d, "forward",
            "variance = ops.reshape(self.running_var, spread)",
            "variance = ops.reshape(self.running_var, spread); self._track(ops.mean(x, axis=axes), "
            "variance, 2)",
        ),
        "evaluation by the batch": changed(
            nn.BatchNorm1d, "forward", "self.training or", "True or"
        ),
    },
    "attention_does_not_see_the_future": {
        "mask one too far": in_scores("m - n", "m - n + 1"),
        "mask one too near": in_scores("m - n", "max(m - n - 1, -n + 1)"),
        "mask from the start": in_scores("m - n", "0"),
        "the hidden shine through": in_scores(
            "el.where(_constant(seen, scores), scores, -math.inf)",
            "el.where(_constant(seen, scores), scores, -50.0)",
        ),
        "no mask": in_scores("if causal", "if False"),
    },
    "attention_is_a_mean": {
        "mask after the softmax": defined(
            "scaled_dot_product_attention",
            instead(TABLE["scaled_dot_product_attention"], "body", mask_after_softmax),
        ),
        "softmax over the queries": defined(
            "scaled_dot_product_attention",
            instead(attention, "softmax", lambda x, axis: mg.softmax(x, axis=-2)),
        ),
    },
    "attention_has_no_order": {
        "always causal": in_scores("if causal", "if True"),
        "scores know the place": in_scores(
            "* scale", "* scale + 0.01 * np.arange(k.shape[-2])"
        ),
    },
    "padding_is_not_seen": {
        "mask ignored": in_scores("if mask is not None", "if False"),
        "the hidden shine through": in_scores(
            "el.where(mask, scores, -math.inf)", "el.where(mask, scores, -20.0)"
        ),
        "mask of numbers weakened": in_scores(
            "scores + mask", "scores + el.maximum(mask, -20.0)"
        ),
        "mask the wrong way round": in_scores(
            "el.where(mask, scores, -math.inf)",
            "el.where(mask, -math.inf, scores)",
        ),
    },
    "decoding_equals_the_whole": {
        "places start again": changed(
            transformer, "_logits", "[start : start + length]", "[:length]"
        ),
        "place + 1": changed(
            transformer, "_logits", "[start : start + length]",
            "[mg.tensor([min(i + (start > 0), LENGTH - 1) for i in range(start, start + length)])]",
        ),
        "new keys before the old": changed(
            transformer, "_logits", "[cache[0], k]", "[k, cache[0]]"
        ),
        "values not cached": changed(
            transformer, "_logits", "[cache[1], v]", "[cache[1] * 0.0, v]"
        ),
        "mask from the start": in_scores("m - n", "0"),
    },
    "a_transformer_keeps_apart": {
        "mask one too far": in_scores("m - n", "m - n + 1"),
        "no mask": in_scores("if causal", "if False"),
        "normalised over the batch": changed(
            transformer, "_logits", 'mg.layer_norm(x, w["norm1"], None)',
            'mg.layer_norm(x - mg.mean(x, axis=0), w["norm1"], None)',
        ),
    },
}  # fmt: skip
