"""Attention and its masks; embedding and positions; gradients of everything built on them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt import nn
from microgpt.errors import DTypeError, GradientError, InputError, ShapeError
from tests.attending import HEADS, MEMORY, REAL, SEEN, WIDTH, X, drawn
from tests.calling import replaced

# ---- gradients -------------------------------------------------------------------------------

IDS = np.array([[1, 0, 3], [3, 3, 2]])

LAYERS: dict[str, tuple[Any, Any]] = {
    "Embedding": (lambda g: nn.Embedding(4, 3, generator=g), lambda f: f(mg.tensor(IDS))),
    "LearnedPositions": (
        lambda g: nn.LearnedPositions(5, WIDTH, generator=g), lambda f: f(mg.tensor(X), offset=1),
    ),
    "attention": (lambda g: nn.MultiHeadAttention(WIDTH, HEADS, generator=g), lambda f: f(X)),
    "attention without bias, causal": (
        lambda g: nn.MultiHeadAttention(WIDTH, HEADS, bias=False, generator=g),
        lambda f: f(X, is_causal=True),
    ),
    "attention, padded": (
        lambda g: nn.MultiHeadAttention(WIDTH, HEADS, generator=g),
        lambda f: f(X, key_padding_mask=REAL, is_causal=True),
    ),
    "attention with rotary positions": (
        lambda g: nn.MultiHeadAttention(WIDTH, HEADS, rotary=True, generator=g),
        lambda f: f(X, is_causal=True),
    ),
    "attention to keys and values of other sizes": (
        lambda g: nn.MultiHeadAttention(WIDTH, HEADS, kdim=2, vdim=3, generator=g),
        lambda f: f(X, mg.tensor(drawn(3, 5, 2)), mg.tensor(drawn(3, 5, 3))),
    ),
    "attention, pattern": (
        lambda g: nn.MultiHeadAttention(WIDTH, HEADS, generator=g),
        lambda f: mg.concat([y.reshape(-1) for y in f(X, MEMORY, need_weights=True)]),
    ),
    "block": (lambda g: nn.TransformerBlock(WIDTH, HEADS, 3, generator=g), lambda f: f(X)),
    "post-norm block": (
        lambda g: nn.TransformerBlock(WIDTH, HEADS, 3, norm_first=False, is_causal=True,
                                      activation="gelu_tanh", generator=g),
        lambda f: f(X),
    ),
    "block with RMS norms and no biases": (
        lambda g: nn.TransformerBlock(WIDTH, HEADS, 3, norm="rms", bias=False, activation="silu",
                                      generator=g),
        lambda f: f(X),
    ),
    "block with a memory": (
        lambda g: nn.TransformerBlock(WIDTH, HEADS, 3, cross_attention=True, generator=g),
        lambda f: f(X, MEMORY, memory_key_padding_mask=SEEN),
    ),
    "encoder": (lambda g: nn.TransformerEncoder(2, WIDTH, HEADS, 3, generator=g), lambda f: f(X)),
    "decoder": (
        lambda g: nn.TransformerDecoder(1, WIDTH, HEADS, 3, norm_first=False, generator=g),
        lambda f: f(X, MEMORY),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_every_parameter_receives_the_gradient_that_differences_give(name: str) -> None:
    with mg.configure(dtype="float64"):
        make, call = LAYERS[name]
        layer = make(mg.generator(0))
        (call(layer) ** 2).sum().backward()
        named = list(layer.named_parameters())
        assert named and all(p.grad is not None and p.grad.shape == p.shape for _, p in named)

        def loss(*values: Any) -> Any:
            with replaced(layer, dict(zip([n for n, _ in named], values, strict=True))):
                return (call(layer) ** 2).sum()

        values = [p.numpy() for _, p in named]
        if "block" not in name and "coder" not in name:
            mg.testing.gradcheck(loss, *values, checks=("SHAPE", "DTYPE", "NONFINITE", "VALUE"))
            return
        # Many parameters: each is moved in three random directions instead of number by number.
        for place, (key, p) in enumerate(named):
            for seed in range(3):
                way, h = drawn(*p.shape, seed=seed), 1e-3

                def moved(by: float, place: int = place, way: Any = way) -> float:
                    other = [v + by * way if i == place else v for i, v in enumerate(values)]
                    return loss(*[mg.tensor(v) for v in other]).item()

                slope = 8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))
                found = float((p.grad.numpy() * way).sum())  # type: ignore[union-attr]
                assert found == pytest.approx(slope / (12 * h), rel=1e-7, abs=1e-8), key


@pytest.mark.parametrize("need_weights", [False, True])
def test_inputs_receive_the_gradient_that_differences_give(need_weights: bool) -> None:
    with mg.configure(dtype="float64"):
        attention = nn.MultiHeadAttention(WIDTH, HEADS, kdim=3, vdim=2, generator=mg.generator(0))
        rotary = nn.RotaryEmbedding(WIDTH)

        def output(q: Any, k: Any, v: Any) -> Any:
            y = attention(rotary(q, 3), k, v, need_weights=need_weights, key_padding_mask=SEEN)
            return y[0] if need_weights else y

        mg.testing.gradcheck(output, drawn(3, 2, WIDTH), drawn(3, 5, 3), drawn(3, 5, 2))


# ---- embedding and positions -----------------------------------------------------------------


@pytest.mark.parametrize("ids", [[[0, 4]], [-1], [7]])
def test_ids_out_of_range_name_the_layer(ids: list[Any]) -> None:
    layer = nn.Embedding(4, 3, generator=mg.generator(0))
    with pytest.raises(ShapeError, match=r"Embedding\(4, 3\).*required: 0 to 3.*vocabulary"):
        layer(mg.tensor(ids))


def test_the_padding_row_starts_as_zeros_and_is_not_trained() -> None:
    layer = nn.Embedding(4, 3, -1, generator=mg.generator(0))
    assert layer.padding_idx == 3 and not layer.weight.numpy()[3].any()
    y = layer(mg.tensor(IDS))
    y.sum().backward()
    want = np.array([1, 1, 1, 0])[:, None] * np.ones(3)
    np.testing.assert_array_equal(layer.weight.grad.numpy(), want)  # type: ignore[union-attr]
    with pytest.raises(InputError, match="padding_idx"):
        nn.Embedding(4, 3, 4)
    with pytest.raises(InputError, match="at least one"):
        nn.Embedding(0, 3)
    with pytest.raises(DTypeError, match="integer"):
        layer(mg.tensor([0.0]))


def test_sinusoids_are_those_of_the_paper() -> None:
    with mg.configure(dtype="float64"):
        layer = nn.SinusoidalPositions(6)
        y = layer(mg.zeros((1, 4, 6)), offset=20).numpy()[0]
    for place in range(4):
        for i in range(3):
            angle = (20 + place) / 10000 ** (2 * i / 6)
            assert y[place, 2 * i] == pytest.approx(math.sin(angle), abs=1e-12)
            assert y[place, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-12)
    assert not layer.state_dict()


def test_rotary_positions_are_complex_rotations() -> None:
    x = drawn(2, 5, 6)
    with mg.configure(dtype="float64"):
        y = nn.RotaryEmbedding(6, base=100.0)(mg.tensor(x), offset=3).numpy()
    plane = x[..., :3] + 1j * x[..., 3:]
    angles = (3 + np.arange(5))[:, None] / 100 ** (np.arange(3) * 2 / 6)
    want = plane * np.exp(1j * angles)
    np.testing.assert_allclose(y, np.concatenate([want.real, want.imag], -1), rtol=1e-12)


def test_positions_say_what_does_not_fit() -> None:
    learned = nn.LearnedPositions(4, 6, generator=mg.generator(0))
    with pytest.raises(ShapeError, match=r"positions 0 to 3; got 3 tokens from position 2"):
        learned(mg.zeros((1, 3, 6)), offset=2)
    with pytest.raises(ShapeError, match=r"LearnedPositions\(4, 6\).*\(1, 3, 5\).*6"):
        learned(mg.zeros((1, 3, 5)))
    with pytest.raises(InputError, match="even dim"):
        nn.RotaryEmbedding(5)
    with pytest.raises(InputError, match="from 0; got offset -1"):
        nn.RotaryEmbedding(4)(mg.zeros((2, 4)), offset=-1)


# ---- attention -------------------------------------------------------------------------------


def test_the_pattern_is_that_of_the_formula_and_makes_the_output() -> None:
    with mg.configure(dtype="float64"):
        layer = nn.MultiHeadAttention(WIDTH, HEADS, generator=mg.generator(0))
        y, pattern = layer(X, MEMORY, need_weights=True)
        w = {name: p.numpy() for name, p in layer.named_parameters()}
        q, k, v = (
            (x.numpy() @ part.T).reshape(3, -1, HEADS, WIDTH // HEADS).swapaxes(1, 2)
            for x, part in zip((X, MEMORY, MEMORY), np.split(w["in_proj_weight"], 3), strict=True)
        )
        scores = np.exp(q @ k.swapaxes(2, 3) / math.sqrt(WIDTH // HEADS))
        want = scores / scores.sum(-1, keepdims=True)
        np.testing.assert_allclose(pattern.numpy(), want, rtol=1e-12)
        joined = (want @ v).swapaxes(1, 2).reshape(3, -1, WIDTH)
        np.testing.assert_allclose(y.numpy(), joined @ w["out_proj.weight"].T, rtol=1e-10)
        np.testing.assert_allclose(layer(X, MEMORY).numpy(), y.numpy(), rtol=1e-10)


def test_cross_attention_takes_its_values_from_the_keys_side() -> None:
    layer = nn.MultiHeadAttention(WIDTH, HEADS, dtype="float64", generator=mg.generator(0))
    y = layer(X, MEMORY).numpy()
    np.testing.assert_allclose(layer(X, MEMORY, MEMORY).numpy(), y, rtol=1e-12)
    assert np.abs(layer(X, MEMORY, MEMORY * 2.0).numpy() - 2 * y).max() < 1e-12
    assert np.abs(layer(X * 3.0, MEMORY * 0.0).numpy()).max() == 0
    with pytest.raises(ShapeError, match="as many values as keys"):
        layer(X, MEMORY, X)
    np.testing.assert_allclose(layer(X, X, X).numpy(), layer(X).numpy(), rtol=1e-12)


def test_masks_of_both_kinds_and_causality_agree() -> None:
    layer = nn.MultiHeadAttention(WIDTH, HEADS, dtype="float64", generator=mg.generator(0))
    past = np.tril(np.ones((3, 3), bool))
    want = layer(X, is_causal=True).numpy()
    for mask in (past, mg.tensor(past), past.tolist(), np.where(past, 0.0, -np.inf)):
        np.testing.assert_allclose(layer(X, mask=mask).numpy(), want, rtol=1e-12)
    one = np.zeros((3, HEADS, 3, 3), bool)
    one[..., 1] = True
    _, pattern = layer(X, mask=one, need_weights=True)
    np.testing.assert_array_equal(pattern.numpy(), one.astype(float))


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("numbers", [False, True])
def test_a_query_without_keys_gets_zeros_and_spoils_nothing(
    need_weights: bool, numbers: bool
) -> None:
    layer = nn.MultiHeadAttention(WIDTH, HEADS, dtype="float64", generator=mg.generator(0))
    x = mg.tensor(X, requires_grad=True)
    mask = np.where(np.eye(3, dtype=bool), 0.0, -np.inf) if numbers else None
    y = layer(x, key_padding_mask=REAL, is_causal=True, mask=mask, need_weights=need_weights)
    if need_weights:
        y, pattern = y
        assert not pattern.numpy()[2].any() and np.isfinite(pattern.numpy()).all()
    assert not y.numpy()[2].any() and y.numpy()[:2].any()
    (y * y + y).sum().backward()
    for p in (x, *layer.parameters()):
        assert np.isfinite(p.grad.numpy()).all()  # type: ignore[union-attr]
    assert not x.grad.numpy()[2].any() and x.grad.numpy()[0].any()  # type: ignore[union-attr]


def test_more_queries_than_keys_under_causality() -> None:
    layer = nn.MultiHeadAttention(WIDTH, HEADS, dtype="float64", generator=mg.generator(0))
    _, pattern = layer(MEMORY, X, is_causal=True, need_weights=True)
    seen = pattern.numpy() > 0
    np.testing.assert_array_equal(
        seen, np.broadcast_to(np.tril(np.ones((5, 3), bool), -2), seen.shape)
    )


def test_dropout_thins_patterns_out_in_training_only() -> None:
    layer = nn.MultiHeadAttention(WIDTH, HEADS, 0.5, dtype="float64", generator=mg.generator(0))
    plain = nn.MultiHeadAttention(WIDTH, HEADS, dtype="float64", generator=mg.generator(0))
    want = plain(X).numpy()
    assert np.abs(layer(X).numpy() - want).max() > 0.01
    many = np.mean([layer(X).numpy() for _ in range(800)], axis=0)
    assert np.abs(many - want).max() < 0.15 * np.abs(want).max()
    np.testing.assert_array_equal(layer.eval()(X).numpy(), want)


def test_attention_says_what_does_not_fit() -> None:
    layer = nn.MultiHeadAttention(8, 2, generator=mg.generator(0))
    x = mg.zeros((2, 5, 8))
    name = r"MultiHeadAttention\(8, 2\)"
    for call, error, message in (
        (lambda: layer(mg.zeros((5, 8))), ShapeError, rf"{name}.*\(5, 8\).*; a single"),
        (lambda: layer(mg.zeros((2, 8, 5))), ShapeError, rf"{name}.*\(2, 8, 5\).*moveaxis\(x, 1"),
        (lambda: layer(x, mg.zeros((2, 3, 6))), ShapeError, rf"{name} was given a key of shape"),
        (lambda: layer(x, mg.zeros((3, 3, 8))), ShapeError, "one batch size"),
        (lambda: layer(x, mask=np.ones((2, 5, 5), bool)), ShapeError, r"per text: mask\[:, N"),
        (lambda: layer(x, mask=np.ones((5, 5), int)), DTypeError, "may be seen"),
        (lambda: layer(x, mask=mg.zeros((5, 5), requires_grad=True)), GradientError, "detach"),
        (lambda: layer(x, key_padding_mask=np.ones((5, 2), bool)), ShapeError, r"\(2, 5\), \(b"),
        (lambda: layer(x, key_padding_mask=np.ones((2, 5))), DTypeError, "True where there is a t"),
        (lambda: nn.MultiHeadAttention(8, 3), InputError, "evenly among its heads"),
        (lambda: nn.MultiHeadAttention(6, 2, rotary=True), InputError, "even dim"),
        (lambda: nn.MultiHeadAttention(8, 2, rotary=nn.RotaryEmbedding(2)), InputError, "head, 4"),
        (lambda: nn.MultiHeadAttention(8, 2, rotary=True)(x, x * 1.0), InputError, "for self"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            call()


# ---- backends --------------------------------------------------------------------------------


def test_layers_compute_the_same_on_an_array_library() -> None:
    strict = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    backend = mg.array_api.ArrayAPIBackend(strict)

    def run(name: str) -> list[np.ndarray]:
        with mg.use_backend(name), mg.configure(dtype="float64"):
            ids = mg.tensor(IDS)
            embedding = nn.Embedding(4, 8, 0, generator=mg.generator(0))
            layer = nn.TransformerDecoder(1, 8, 2, dropout=0.2, rotary=True,
                                          generator=mg.generator(1))  # fmt: skip
            x = nn.SinusoidalPositions(8)(embedding(ids))
            y, patterns = layer(
                x, x * 0.5, key_padding_mask=REAL[1:], mask=np.zeros((3, 3)), need_weights=True
            )
            (y * y).sum().backward()
            with mg.no_grad():
                cache = layer.eval().make_cache()
                new = [layer(x[:, i : i + 1], x, cache=cache) for i in range(3)]
            assert y.backend == name
            found = [y, patterns[0]["self"], patterns[0]["cross"], *new]
            found += [p.grad for p in (*embedding.parameters(), *layer.parameters())]
            return [t.numpy() for t in found]

    with mg.plugged(backend.plugin()):
        for a, b in zip(run("numpy"), run(backend.name), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
