"""Wrong use of what comes from above: the gradient of the output."""

from __future__ import annotations

from typing import Any

import numpy as np

import microgpt as mg
from microgpt.ops import clip, matmul, matrix_transpose, ones_like
from microgpt.testing.museum import demos
from microgpt.testing.museum.base import Bug, Check, gradcheck, oracle
from microgpt.testing.museum.planting import kernels, rules


def _zeros(right: Any) -> Any:
    return lambda g, y, x, *, needs, axis: (np.zeros_like(y),)


def _without_normal(right: Any) -> Any:
    def vjp(g: Any, y: Any, x: Any, weight: Any, bias: Any, *, needs: Any, eps: float) -> Any:
        _, to_weight, to_bias = right(g, y, x, weight, bias, needs=needs, eps=eps)
        inner = g if weight is None else g * weight
        scale = 1 / np.sqrt(x.var(-1, keepdims=True) + eps)
        to_x = scale * (inner - inner.mean(-1, keepdims=True))  # … - normal · mean(inner · normal)
        return (to_x if needs[0] else None), to_weight, to_bias

    return vjp


def _ignoring(own: Any) -> Any:
    return (
        lambda g, y, a, b: matmul(ones_like(g), matrix_transpose(b)),
        lambda g, y, a, b: matmul(matrix_transpose(a), ones_like(g)),
    )


BUGS = (
    Bug(
        21,
        "a softmax whose gradient is 0",
        wrong="return zeros_like(y)",
        right="return y * (g - sum(g * y))",
        story=(
            "A rule that was left for later and returns zeros, or an op that is not connected to "
            "the graph. It passes the check that is made most often: add the outputs up and "
            "differentiate. The outputs of a softmax add up to 1 whatever goes in, so the gradient "
            "of their sum *is* 0, and zeros are the right answer to a question without content. "
            "In a model, everything in front of the softmax stops learning. The relative in "
            "TinyTorch was a Tanh after which the gradient was None."
        ),
        blind=(
            "All checks that go back from a plain sum of the outputs are blind to it, in principle "
            "and with any tolerance. gradcheck draws a cotangent of random size and sign: VALUE, "
            "pattern 'analytic is 0'."
        ),
        plant=kernels(softmax_vjp=_zeros),
        killers=(gradcheck("softmax", "VALUE"), Check("fused_equals_body", "softmax")),
        missed_by=(oracle("softmax"), Check("extremes", "softmax")),
        show=demos.bigrams(
            "a model that mixes its letters by a softmax learns to guess the next one",
            lambda x, table: mg.softmax(x) @ table.T * 8.0),
        seen_in="a relative: harvard-edge/cs249r_book#1341",
    ),
    Bug(
        22,
        "layer norm forgets that its divisor moves",
        wrong="(g - mean(g)) / σ",
        right="(g - mean(g) - x̂ · mean(g · x̂)) / σ",
        story=(
            "Layer normalisation subtracts the mean and divides by the standard deviation. Both "
            "depend on all elements of the row, so the gradient has three terms. The third, for "
            "the deviation, is the one that goes missing: it is the hardest to derive, and for a "
            "cotangent of ones it is 0. Without it the gradient has a part along x̂ which pushes "
            "the weights to grow, although scaling them changes nothing. TinyTorch had a relative: "
            "its layer norm did not learn at all, and the test set the flag that was missing."
        ),
        blind=(
            "Like all normalisers it is invisible to a sum of the outputs. The random cotangent "
            "of gradcheck sees it (VALUE), and the law that Σ dx·x̂ vanishes as ε → 0 does."
        ),
        plant=kernels(layer_norm_vjp=_without_normal),
        killers=(gradcheck("layer_norm", "VALUE"), Check("fused_equals_body", "layer_norm")),
        missed_by=(oracle("layer_norm"), Check("extremes", "layer_norm")),
        show=demos.digits("a network with a normalised hidden layer learns digits",
                          lambda x: mg.relu(mg.layer_norm(x)), lr=0.5),
        seen_in="a relative: harvard-edge/cs249r_book#1504",
    ),
    Bug(
        23,
        "the gradient from above is ignored",
        wrong="ones @ b.T",
        right="g @ b.T",
        story=(
            "Written for the last op before the loss, where g is 1, and tested there. Somewhere in "
            "the middle of a network g carries everything that the loss has to say: which class "
            "was right, how much is lacking. Without it every example pulls in the same "
            "direction."
        ),
        blind=(
            "Checks with a cotangent of ones cannot tell g from 1. gradcheck asks with a cotangent "
            "of 0, for which every gradient must be exactly 0: ZEROCOT."
        ),
        plant=rules(matmul=_ignoring),
        killers=(gradcheck("matmul", "ZEROCOT", "VALUE"), Check("adjoint", "matmul")),
        missed_by=(oracle("matmul"),),
        show=demos.bigrams("a model learns to guess the next letter", demos.tied),
    ),
    Bug(
        24,
        "the gradient is clipped on its way",
        wrong="clip(g, -5, 5) * y * (1 - y)",
        right="g * y * (1 - y)",
        story=(
            "Against exploding gradients somebody has limited g inside the rule instead of "
            "clipping all gradients together, after the backward pass. As long as gradients are "
            "below 5 nothing happens. Beyond, the direction changes, because some elements are "
            "cut and others not, and a loss that is a sum instead of a mean trains differently, "
            "for no visible reason. What comes out is no gradient any more: twice the loss does "
            "not have twice the slope."
        ),
        blind=(
            "Finite differences with a cotangent of ordinary size agree. A gradient is linear in "
            "what comes from above; gradcheck multiplies that by 1024 and looks whether the "
            "gradient follows: LINEARITY."
        ),
        plant=rules(sigmoid=lambda own: (lambda g, y, x: clip(g, -5.0, 5.0) * y * (1 - y),)),
        killers=(gradcheck("sigmoid", "LINEARITY"),),
        missed_by=(Check("adjoint", "sigmoid"), Check("gradcheck_twice", "sigmoid")),
        show=demos.gradient("the gradient of 100·σ(x) at 0 and 1 (times 1, -2)",
                            lambda x: 100.0 * mg.sigmoid(x), [0.0, 1.0]),
    ),
)  # fmt: skip
