"""Tensors taken apart into scalars: the same value, the same gradients, by the other engine."""

from __future__ import annotations

import numpy as np
import pytest

import microgpt as mg
from microgpt import Scalar
from microgpt.viz import Graph, as_scalars


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape)


def named_elements(named: dict[str, mg.Tensor]) -> dict[str, float]:
    """Name of every element → its gradient by the tensor engine."""
    found = {}
    for name, leaf in named.items():
        for place, value in np.ndenumerate(leaf.grad.numpy()):
            found[f"{name}[{', '.join(map(str, place))}]" if place else name] = value
    return found


def check_same(root: mg.Tensor, **leaves: mg.Tensor) -> None:
    out, named = as_scalars(root, names=leaves)
    assert out.data == pytest.approx(root.item(), rel=1e-12)
    out.backward()
    root.backward()
    wanted = named_elements(leaves)
    assert named.keys() == wanted.keys()
    for name, grad in wanted.items():
        assert named[name].grad == pytest.approx(grad, rel=1e-10, abs=1e-12), name


def leaf(*shape: int, seed: int = 1) -> mg.Tensor:
    values = np.random.default_rng(seed).uniform(0.5, 1.5, shape)
    return mg.tensor(values, requires_grad=True)


@pytest.mark.parametrize("activation", ["sigmoid", "relu", "tanh", "gelu", "silu"])
@pytest.mark.parametrize("loss", ["cross-entropy", "squares"])
def test_both_engines_agree_on_a_network(activation, loss) -> None:
    model = mg.models.MLP((4, 3, 2), activation, generator=mg.generator(1)).to(dtype="float64")
    y = model(mg.tensor(random(3, 4)))
    root = mg.cross_entropy(y, mg.tensor([0, 1, 1])) if loss == "cross-entropy" else (y**2).mean()
    check_same(root, **dict(model.named_parameters()))


def test_both_engines_agree_on_attention_and_norms() -> None:
    attention = mg.nn.MultiHeadAttention(4, 2, generator=mg.generator(1)).to(dtype="float64")
    norm = mg.nn.LayerNorm(4).to(dtype="float64")
    x = mg.tensor(random(1, 3, 4), requires_grad=True)
    y = norm(attention(x, x, x))
    parameters = {**dict(attention.named_parameters()), "gain": norm.weight, "shift": norm.bias}
    check_same((y * mg.tensor(random(1, 3, 4), requires_grad=True)).sum(), x=x, **parameters)


@pytest.mark.parametrize(
    "compute",
    [
        lambda a, b: mg.sum(a * b + a),
        lambda a, b: mg.sum((a @ b.T) ** 2),
        lambda a, b: mg.sum(mg.softmax(a, axis=0) * b),
        lambda a, b: mg.sum(mg.logsumexp(a * b, axis=1)),
        lambda a, b: mg.max(a - b),
        lambda a, b: mg.sum(mg.concat([a, b], axis=1)[:, 1:3] / 2.0),
        lambda a, b: mg.sum(mg.mean(a, axis=0, keepdims=True) * b),
        lambda a, b: mg.sum(mg.reshape(a, (3, 2)) @ b),
        lambda a, b: mg.sum(mg.maximum(a, b) * mg.exp(-a)),
        lambda a, b: mg.sum(mg.take(a, mg.tensor([1, 0, 1]), axis=0)) * mg.sum(b),
    ],
)
def test_both_engines_agree_on_ops(compute) -> None:
    a, b = leaf(2, 3), leaf(2, 3, seed=2)
    check_same(compute(a, b), a=a, b=b)


def test_a_result_of_several_numbers_is_an_array_of_scalars() -> None:
    a = leaf(2, 3)
    out, named = as_scalars(a * 2.0, names={"a": a})
    assert out.shape == (2, 3) and all(isinstance(x, Scalar) for x in out.flat)
    assert [n.title for n in Graph(out[1, 2], names=named).nodes] == ["a[1, 2]", "× 2"]


def test_parameters_go_by_their_names() -> None:
    model = mg.models.MLP((2, 1), generator=mg.generator(1))
    out, named = as_scalars(model(mg.ones((1, 2))).sum(), params=model)
    assert set(named) == {"layers.0.weight[0, 0]", "layers.0.weight[0, 1]", "layers.0.bias[0]"}
    assert "layers.0.weight[0, 1]" in Graph(out, names=named).svg


def test_what_cannot_be_taken_apart_says_why() -> None:
    a = leaf(2)
    with pytest.raises(mg.errors.InputTypeError, match="got Scalar"):
        as_scalars(Scalar(1.0))
    with pytest.raises(mg.errors.GradientError, match="constant"):
        as_scalars(mg.ones(2))
    with pytest.raises(mg.errors.InputError, match="6,000 elements; required: at most 2,000"):
        as_scalars(leaf(3000) * 2.0)
    with pytest.raises(mg.errors.InputError, match="input 2 of the op 'add' is a constant"):
        as_scalars(a + mg.ones(2, dtype="float64"))
    with pytest.raises(mg.errors.InputError, match="'cumulative_sum' is not written"):
        as_scalars(mg.cumulative_sum(a, axis=0))
    attention = mg.nn.MultiHeadAttention(4, 2, generator=mg.generator(1)).to(dtype="float64")
    x = mg.tensor(random(1, 3, 4), requires_grad=True)
    with pytest.raises(mg.errors.InputError, match="'self_attention' is not written"):
        as_scalars(attention(x, x, x, is_causal=True))
    weight = leaf(2, 2)
    with pytest.raises(mg.errors.InputError, match="another result than the tensors"):
        as_scalars(mg.linear(leaf(1, 2), weight, mg.ones(2, dtype="float64")))  # the bias is lost
