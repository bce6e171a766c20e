"""Mistakes of layers, losses and models."""

from __future__ import annotations

from typing import Any

import numpy as np

import microgpt as mg
from microgpt import transforms
from microgpt.graph import Node
from microgpt.nn import attention
from microgpt.nn.cache import KVCache
from microgpt.testing.museum import demos
from microgpt.testing.museum.base import Bug, Check, gradcheck, oracle
from microgpt.testing.museum.engine import Gradients, add_up, engine
from microgpt.testing.museum.planting import functions, kernels

right_gradients_of = transforms.gradients_of


def _without_the_last(outputs: Any, inputs: Any, cotangents: Any, **settings: Any) -> Any:
    if len(outputs) > 1:
        outputs, cotangents = outputs[:-1], cotangents[:-1]
    return right_gradients_of(outputs, inputs, cotangents, **settings)


def _per_row(right: Any) -> Any:
    """The mean over all rows, whether they count or not: loss and gradient are scaled alike."""

    def share(target: Any, ignore_index: int) -> float:
        return float(np.mean(np.asarray(target) != ignore_index)) if len(target) else 1.0

    def cross_entropy(x: Any, target: Any, *, ignore_index: int) -> Any:
        return right(x, target, ignore_index=ignore_index) * x.dtype.type(
            share(target, ignore_index)
        )

    return cross_entropy


def _per_row_vjp(right: Any) -> Any:
    def vjp(g: Any, y: Any, x: Any, target: Any, *, needs: Any, ignore_index: int) -> Any:
        share = float(np.mean(np.asarray(target) != ignore_index)) if len(target) else 1.0
        grad, none = right(g, y, x, target, needs=needs, ignore_index=ignore_index)
        return grad * x.dtype.type(share), none

    return vjp


def _last_use_of_leaves(gradients: Gradients, node: Node, grad: Any) -> None:
    if node.op is None:
        gradients[node] = grad
    else:
        add_up(gradients, node, grad)


def _clamped(right: Any) -> Any:
    return lambda x, indices, *, axis: np.take(x, indices, axis=axis, mode="clip")


def _directional() -> Any:
    _, slope = mg.jvp(lambda a, b: a * b, (mg.tensor(2.0), mg.tensor(5.0)),
                      (mg.tensor(1.0), mg.tensor(1.0)))  # fmt: skip
    return slope


def _half_ignored() -> Any:
    logits = mg.tensor([[0.0, 1.0], [0.0, 1.0], [5.0, 5.0], [5.0, 5.0]])
    return mg.cross_entropy(logits, mg.tensor([0, 0, -100, -100]))


def _queries_backwards(rotary: Any, q: Any, k: Any, offset: int) -> Any:
    # A plane turned the other way is the plane mirrored, turned and mirrored.
    mirror = mg.tensor(np.repeat([1.0, -1.0], rotary.dim // 2), dtype=q.dtype)
    return rotary(q * mirror, offset) * mirror, rotary(k, offset)


def _two_apart() -> Any:
    rotary, x = mg.nn.RotaryEmbedding(4), mg.ones((100, 4))
    q, k = attention.turned(rotary, x, x, 0)
    return [(q[place] * k[place - 2]).sum().item() for place in (2, 3, 4, 9, 99)]


def _places() -> Any:
    table = mg.nn.LearnedPositions(8, 2)
    table.weight.data = np.arange(8.0)[:, None] * np.ones(2)
    layer, cache = mg.nn.MultiHeadAttention(2, 1), mg.nn.KVCache()
    found = []
    with mg.no_grad():
        for _ in range(4):
            x = table(mg.zeros((1, 1, 2)), offset=cache.position)
            found.append(x[0, 0, 0].item())
            layer(x, is_causal=True, cache=cache)
    return mg.tensor(found)


def _row_seven() -> str:
    try:
        return demos.text_of(mg.embedding(mg.tensor([7]), mg.eye(3)))
    except mg.errors.MicrogptError as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]


BUGS = (
    Bug(
        46,
        "a directional derivative without its last term",
        wrong="sum of J_i · v_i over the inputs but the last",
        right="sum of J_i · v_i over all inputs",
        story=(
            "The derivative of f(a, b) when both move is what a contributes plus what b does. In "
            "forward mode each input brings a term, and a loop that ends one too early, or an "
            "`elif` for an `if`, loses one of them. With a single input there is nothing to lose, "
            "and single inputs are what one tries. The number that comes out is a derivative, too: "
            "the one for the case that the last input stands still."
        ),
        blind=(
            "Gradients in reverse mode are right. The two modes are transposes of each other: "
            "`adjoint` draws v and u and compares ⟨u, Jv⟩ with ⟨Jᵀu, v⟩, over all inputs together."
        ),
        plant=functions((transforms, "gradients_of", _without_the_last)),
        killers=(Check("adjoint", "multiply"),),
        missed_by=(gradcheck("multiply"),),
        show=demos.value("the derivative of a·b at (2, 5) in the direction (1, 1)", _directional),
    ),
    Bug(
        47,
        "rotary positions turn the wrong way",
        wrong="(x1 cos + x2 sin, x2 cos - x1 sin) for queries only",
        right="the same rotation for queries and keys",
        story=(
            "Rotary embeddings turn queries and keys by an angle that grows with their position; "
            "in the product of the two only the difference of positions is left. The rotation has "
            "two terms with different signs, and they are easily exchanged; if that happens for "
            "both, nothing is lost. If it happens for one of them, in a fast kernel for queries "
            "say, the sum of the positions is left instead of the difference. The model still "
            "learns, a little, from what stands where."
        ),
        blind=(
            "Norms are kept, gradients are right, the rotation itself is, and decoding with a "
            "cache has the same mistake. The law is that scores depend on i - j alone: "
            "`rotary_attention_sees_distances` puts hidden tokens in front of a text."
        ),
        plant=functions((attention, "turned", _queries_backwards)),
        killers=(Check("rotary_attention_sees_distances"),),
        missed_by=(
            Check("rotary_keeps_norms_and_distances"), Check("cached_attention_equals_the_whole"),
        ),
        show=demos.value("scores of a query and the same key, always 2 places apart, at places 2, "
                         "3, 4, 9 and 99", _two_apart),
    ),
    Bug(
        48,
        "with a cache, positions are one too large",
        wrong="position = len(cache) + 1",
        right="position = len(cache)",
        story=(
            "When a model writes, keys and values of earlier tokens are kept, and only the new "
            "token is computed. Its position is the number of tokens before it, counted from 0; "
            "len(cache) + 1 is the number of tokens with it, which is easily confused. Then every "
            "token is written as if it stood one further on than it did in training. The text is a "
            "little worse than the loss had promised, and nothing looks broken."
        ),
        blind=(
            "Training does not use the cache, so all losses are right. The law is that decoding "
            "token by token equals the forward pass over the whole text. With rotary positions it "
            "does all the same, since they know distances only and all places are one too large: "
            "`cached_blocks_equal_the_whole` draws all kinds of positions."
        ),
        plant=functions((KVCache, "position", property(lambda cache: cache.length + 1))),
        killers=(Check("cached_blocks_equal_the_whole"),),
        missed_by=(
            Check("cached_attention_equals_the_whole"), Check("rotary_attention_sees_distances"),
        ),
        show=demos.value("places of four tokens that are written one by one", _places),
    ),
    Bug(
        54,
        "targets that do not count are counted",
        wrong="sum of losses / number of targets",
        right="sum of losses / number of targets that count",
        story=(
            "Padding and prompts get the target -100: they do not count. Their losses are set to "
            "0, and then the mean is taken over all, them included. A batch with much padding has "
            "a small loss and a small gradient; a batch of full sentences has a large one. The "
            "learning rate depends on how long the sentences happen to be."
        ),
        blind=(
            "The gradient is the right one of this loss, so gradcheck is content, and without "
            "ignored targets the loss is right. The formula (p - onehot)/N with N the targets "
            "that count is compared in `cross_entropy_gradient`; the oracle has it too."
        ),
        plant=kernels(cross_entropy=_per_row, cross_entropy_vjp=_per_row_vjp),
        killers=(oracle("cross_entropy"), Check("cross_entropy_gradient", examples=200)),
        missed_by=(gradcheck("cross_entropy"),),
        show=demos.value("the loss of two targets with -log p = 1.3133 and two that do not count",
                         _half_ignored),
    ),
    Bug(
        55,
        "a shared weight gets the gradient of one use",
        wrong="leaf.grad = g   (once per backward pass)",
        right="leaf.grad = sum of the gradients of all uses",
        story=(
            "Inner values are added up as they should be; only for the leaves somebody has put an "
            "assignment, as each parameter belongs to one layer. Language models often use the "
            "table of token vectors twice, to read and to write. It learns from one of the two "
            "uses, the one that is visited last, and the other has no say. The model still "
            "learns, a little worse, and tying the weights gets the blame."
        ),
        blind=(
            "Parameters used once, which is nearly all, are right. "
            "`tied_weights_get_both_gradients` compares with two separate weights, and "
            "`sum_of_paths` uses leaves several times."
        ),
        plant=engine(add=_last_use_of_leaves),
        killers=(Check("tied_weights_get_both_gradients"),),
        missed_by=(gradcheck("linear"),),
        show=demos.bigrams("a model whose table serves as input and output learns to guess the "
                           "next letter", demos.tied),
        seen_in="a relative: karpathy/micrograd#2",
    ),
    Bug(
        60,
        "an index beyond the table gets the last row",
        wrong='take(table, ids, mode="clip")',
        right="take(table, ids), which complains",
        story=(
            "Graphics cards do not check indices, and clamping is what some libraries do instead "
            "of reading foreign memory. A token that is not in the vocabulary, because the "
            "tokenizer is of another version or a separator was added late, becomes the last "
            "token in silence. Training goes on, with a word that means two things. The error "
            "that would have said so in the first minute is what was saved."
        ),
        blind=(
            "All valid indices are right, so no check with valid ones sees it. "
            "`no_row_no_embedding` asks with invalid ones and wants an error; negative ones, "
            "which count from the end, are wrong as well."
        ),
        plant=kernels(take=_clamped),
        killers=(Check("no_row_no_embedding"), gradcheck("take", "VALUE"), oracle("take")),
        show=demos.value("the embedding of token 7 in a table of 3", _row_seven),
    ),
)  # fmt: skip
