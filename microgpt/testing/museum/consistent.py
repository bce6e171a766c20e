"""Wrong functions with the right gradient of the wrong function."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import microgpt as mg
from microgpt.ops import attention, matmul, matrix_transpose, mean, reshape, sum
from microgpt.ops import elementwise as el
from microgpt.ops.activation import softmax
from microgpt.ops.table import TABLE
from microgpt.testing.museum import demos
from microgpt.testing.museum.base import Bug, Check, gradcheck, oracle
from microgpt.testing.museum.planting import both, by_definition, functions, kernels, rules

right_scores = attention._scores


def _one_ahead(q: Any, k: Any, mask: Any, causal: bool, scale: float) -> Any:
    scores = right_scores(q, k, mask, False, scale)
    if causal:
        n, m = q.shape[-2], k.shape[-2]
        seen = np.tril(np.ones((n, m), dtype=bool), m - n + 1)
        scores = el.where(seen, scores, -math.inf)
    return scores


def _masked_afterwards(
    q: Any, k: Any, v: Any, mask: Any = None, causal: bool = False, scale: float = 1.0
) -> Any:
    weights = softmax(matmul(q, matrix_transpose(k)) * scale, axis=-1)
    if causal:
        n, m = q.shape[-2], k.shape[-2]
        weights = el.where(np.tril(np.ones((n, m), dtype=bool), m - n), weights, 0.0)
    if mask is not None and el.numpy_dtype(mask.dtype).kind == "b":
        weights = el.where(mask, weights, 0.0)
    return matmul(weights, v)


def _eps_outside(right: Any) -> Any:
    def layer_norm(x: Any, weight: Any, bias: Any, *, eps: float) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        y = centred / (np.sqrt((centred * centred).mean(-1, keepdims=True)) + x.dtype.type(eps))
        y = y if weight is None else y * weight
        return y if bias is None else y + bias

    return layer_norm


def _eps_outside_rule(own: Any) -> Any:
    """The right gradient of that."""

    def rule(g: Any, y: Any, x: Any, weight: Any, bias: Any, *, eps: float) -> list[Any]:
        rows = tuple(range(len(g.shape) - 1))
        centred = x - mean(x, axis=-1, keepdims=True)
        deviation = el.sqrt(mean(centred * centred, axis=-1, keepdims=True))
        scale = 1.0 / (deviation + eps)
        inner = g if weight is None else g * weight
        dots = mean(inner * centred, axis=-1, keepdims=True)
        to_x = scale * (inner - mean(inner, axis=-1, keepdims=True))
        to_x = to_x - centred * dots * scale * scale / deviation
        to_weight = None if weight is None else sum(g * centred * scale, axis=rows)
        return [to_x, to_weight, None if bias is None else sum(g, axis=rows)]

    return rule


def _gelu(x: Any, approximate: str = "none") -> Any:
    if approximate == "none":
        return x * (el.erf(x * math.sqrt(0.5)) + 1.0) * 0.5
    return x * el.sigmoid((x + x * x * x * 0.44715) * (2 * math.sqrt(2 / math.pi)))


def _sums_of_weights() -> Any:
    q = mg.zeros((3, 2))
    return reshape(mg.scaled_dot_product_attention(q, q, mg.ones((3, 1)), causal=True), (3,))


BUGS = (
    Bug(
        42,
        "the causal mask is off by one",
        wrong="tril(ones, 1)",
        right="tril(ones)",
        story=(
            "A language model learns to guess the next token and must not see it. With the mask "
            "shifted by one, every token sees its successor, which is the answer. The loss falls "
            "to nearly 0, faster than anyone has seen before. The validation loss falls as well, "
            "because the answer is there too. The joy lasts until the model is asked to write, "
            "when there is no successor to look at."
        ),
        blind=(
            "The gradient is the right one of the wrong function: no comparison with finite "
            "differences can object. The independent formula of the forward pass can, and the law "
            "that earlier outputs have a gradient of exactly 0 on later tokens."
        ),
        plant=both(
            by_definition("scaled_dot_product_attention"),
            functions((attention, "_scores", _one_ahead)),
        ),
        killers=(oracle("scaled_dot_product_attention"),
                 Check("attention_does_not_see_the_future")),
        missed_by=(gradcheck("scaled_dot_product_attention"), Check("attention_is_a_mean")),
        show=demos.next_letter("one head of attention learns to guess the next of four letters "
                               "in random order (the best loss that is possible: log 4 = 1.386)"),
    ),
    Bug(
        43,
        "masked after the softmax",
        wrong="where(mask, softmax(scores), 0)",
        right="softmax(where(mask, scores, -inf))",
        story=(
            "What must not be seen gets the weight 0, in either order. But the softmax has shared "
            "out its 1 among all keys, hidden ones included, and what the hidden ones got is now "
            "missing: the weights add up to less than 1. The first token of a text of a thousand "
            "keeps a thousandth of its value. And how much is missing tells something about the "
            "hidden keys, so the future leaks after all."
        ),
        blind=(
            "Gradients are consistent, zeros are where they belong. If all values are the same "
            "row, attention must return this row: `attention_is_a_mean`. And the oracle."
        ),
        plant=both(
            by_definition("scaled_dot_product_attention"),
            functions((TABLE["scaled_dot_product_attention"], "body", _masked_afterwards)),
        ),
        killers=(oracle("scaled_dot_product_attention"), Check("attention_is_a_mean")),
        missed_by=(gradcheck("scaled_dot_product_attention"), Check("attention_has_no_order")),
        show=demos.value("sums of the weights of three tokens", _sums_of_weights),
    ),
    Bug(
        44,
        "layer norm's ε outside of the root",
        wrong="centred / (sqrt(var) + eps)",
        right="centred / sqrt(var + eps)",
        story=(
            "Both keep the divisor away from 0, and one is as easily written as the other. For "
            "rows with an ordinary variance they agree to five digits. They differ for rows that "
            "are nearly constant, and a model trained with one and run with the other is slightly "
            "another model. The root of a variance of 0 also has no finite slope."
        ),
        blind=(
            "The gradient belongs to what is computed, so gradcheck is content. The oracle "
            "compares with the formula of the paper, also for a large ε, where the two are far "
            "apart; and the variance of the result has to be v/(v + ε)."
        ),
        plant=both(kernels(layer_norm=_eps_outside), rules(layer_norm=_eps_outside_rule)),
        killers=(oracle("layer_norm"), Check("layer_norm_statistics")),
        missed_by=(gradcheck("layer_norm"),),
        show=demos.value("layer_norm of (0.001, 0.003, 0.005)",
                         lambda: mg.layer_norm(mg.tensor([0.001, 0.003, 0.005]))),
    ),
    Bug(
        45,
        "a digit is missing in GELU's constant",
        wrong="x + 0.44715 * x**3",
        right="x + 0.044715 * x**3",
        story=(
            "0.044715 was fitted so that the curve follows the normal distribution. One zero "
            "less, and there is another smooth curve with all the right properties: it goes "
            "through 0, is flat on the left and the diagonal on the right. A network trained with "
            "it works just as well. Only weights of a published model do not fit any more, and "
            "nobody knows why the text is a little odd."
        ),
        blind=(
            "Shape, smoothness, gradient, training: all is well. Only somebody who computes the "
            "function independently, from the definition, can know: the forward oracle."
        ),
        plant=both(by_definition("gelu"), functions((TABLE["gelu"], "body", _gelu))),
        killers=(oracle("gelu"),),
        missed_by=(gradcheck("gelu"), Check("fused_equals_body", "gelu")),
        show=demos.value("gelu at -1, 1 and 2 (tanh form)",
                         lambda: mg.gelu(mg.tensor([-1.0, 1.0, 2.0]), approximate="tanh")),
    ),
)  # fmt: skip
