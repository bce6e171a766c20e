"""GPT: gradients, causality, counting, settings and errors."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import microgpt as mg
from microgpt.errors import InputError, ShapeError
from microgpt.models import GPT, GPTConfig
from tests.calling import call_with

RNG = np.random.default_rng(0)
TINY = dict(vocab_size=5, block_size=4, n_embd=4, n_layer=1, n_head=2)


def made(config: GPTConfig, seed: int = 0, scale: float = 1.0) -> GPT:
    """In float64, with weights large enough for every part to matter."""
    with mg.configure(dtype="float64"):
        model = GPT(config, generator=mg.generator(seed))
    rng = np.random.default_rng(seed)
    for p in model.parameters():
        p.data = p.numpy() + scale * rng.standard_normal(p.shape)
    return model


def tokens(config: GPTConfig, n: int, t: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, config.vocab_size, (n, t))


# ---- gradients -------------------------------------------------------------------------------

VARIANTS = {
    "gpt2": GPTConfig(**TINY),
    "karpathy": GPTConfig.karpathy(
        **{k: v for k, v in TINY.items() if k != "vocab_size"}, vocab_size=5
    ),
    "rotary": GPTConfig(**TINY, positions="rotary", tied=False, activation="silu"),
    "sinusoidal": GPTConfig(**TINY, positions="sinusoidal", norm="rms", norm_embeddings=True),
}


@pytest.mark.parametrize("name", VARIANTS)
def test_every_parameter_receives_the_gradient_that_differences_give(name: str) -> None:
    config = replace(VARIANTS[name], vocab_size=3, block_size=3, hidden=4)
    # As constructed: small weights, norms of 1, biases of 0; the loss is scaled up for them.
    model = made(config, scale=0.0)
    ids, targets = tokens(config, 2, 3), tokens(config, 2, 3, seed=1)
    named = list(model.named_parameters())
    model.loss(ids, targets).backward()
    for key, p in named:
        assert p.grad is not None and abs(p.grad.numpy()).max() > 0, key

    def loss(*values: Any) -> Any:
        state = dict(zip([key for key, _ in named], values, strict=True))
        return call_with(Loss(model, targets), {f"model.{k}": v for k, v in state.items()}, ids)

    # The ops are checked for the rest; here it is the network's own gradient that is in question.
    codes = ("SHAPE", "NONFINITE", "VALUE")
    mg.testing.gradcheck(loss, *[p.numpy() for _, p in named], checks=codes)


class Loss(mg.nn.Module):
    def __init__(self, model: GPT, targets: np.ndarray) -> None:
        super().__init__()
        self.model, self.targets = model, targets

    def forward(self, ids: Any) -> Any:
        return self.model.loss(ids, self.targets)


def test_the_loss_of_a_text_is_that_of_its_shifted_copies() -> None:
    model = made(VARIANTS["gpt2"])
    text = tokens(model.config, 3, 5)
    whole = model.loss(text).item()
    assert whole == model.loss(text[:, :-1], text[:, 1:]).item()
    logits = model(text[:, :-1]).numpy()
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    picked = np.take_along_axis(chances, text[:, 1:, None], -1)
    assert whole == pytest.approx(-np.log(picked).mean(), rel=1e-12)
    # What does not count does not count.
    ignored = text[:, 1:].copy()
    ignored[:, 1:] = -100
    assert model.loss(text[:, :-1], ignored).item() == pytest.approx(
        -np.log(picked[:, 0]).mean(), rel=1e-12
    )


def test_the_same_network_on_scalars() -> None:
    """Three steps of Karpathy's setting, number by number and in tensors."""
    from benchmarks import names

    texts, weights = names.prepared(("abcdefghijklmnopqrstuvwxyz", "anna", "bo"))
    assert sum(len(row) for rows in weights.values() for row in rows) == 4_192
    ones = names.on_scalars(texts, weights, 3)
    for dtype, rtol in (("float64", 1e-12), ("float32", 1e-5)):
        found = names.on_tensors(texts, weights, 3, "numpy", dtype)
        np.testing.assert_allclose(found, ones, rtol=rtol)
    assert len(set(ones)) == 3


# ---- what sees what --------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
def test_later_tokens_change_nothing_before(name: str) -> None:
    model = made(VARIANTS[name])
    a = tokens(model.config, 2, 4)
    b = a.copy()
    b[:, 2:] = (b[:, 2:] + 1) % 5
    before, after = model(a).numpy(), model(b).numpy()
    np.testing.assert_array_equal(before[:, :2], after[:, :2])
    assert (abs(before[:, 2:] - after[:, 2:]).max(-1) > 1e-6).all()


@pytest.mark.parametrize("name", VARIANTS)
def test_one_pass_over_a_text_is_as_many_as_it_has_tokens(name: str) -> None:
    """Every position predicts what the text up to there would predict alone."""
    model = made(VARIANTS[name])
    ids = tokens(model.config, 2, 4)
    whole = model(ids).numpy()
    for t in range(1, 5):
        alone = model(ids[:, :t]).numpy()[:, -1]
        np.testing.assert_allclose(alone, whole[:, t - 1], rtol=0, atol=1e-10)
        last = model(ids[:, :t], last_only=True).numpy()
        np.testing.assert_allclose(last[:, 0], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", VARIANTS)
def test_reading_with_a_cache_piece_by_piece_is_reading_at_once(name: str) -> None:
    model = made(VARIANTS[name])
    ids = tokens(model.config, 3, 4)
    whole, patterns = model(ids, return_patterns=True)
    for cuts in ((1, 2, 3), (2,), (3,), (1,)):
        cache = model.cache()
        parts = [model(part, cache=cache).numpy() for part in np.split(ids, cuts, axis=1)]
        np.testing.assert_allclose(np.concatenate(parts, 1), whole.numpy(), rtol=0, atol=1e-10)
        assert cache.length == 4
    cache = model.cache()
    model(ids[:, :3], cache=cache)
    _, late = model(ids[:, 3:], cache=cache, return_patterns=True)
    np.testing.assert_allclose(late[0].numpy(), patterns[0].numpy()[:, :, 3:], rtol=0, atol=1e-12)
    with pytest.raises(ShapeError, match="5 tokens.*block_size = 4"):
        model(ids[:, :1], cache=cache)


def test_words_at_other_places_mean_something_else_only_with_positions() -> None:
    """Without positions a text is a bag of words, as far as the last token can tell."""
    ids = np.array([[1, 2, 3, 0], [3, 1, 2, 0]])
    for positions, differ in (("learned", True), ("rotary", True), ("none", False)):
        model = made(GPTConfig(**TINY, positions=positions))
        last = model(ids).numpy()[:, -1]
        assert (abs(last[0] - last[1]).max() > 1e-6) == differ


def test_patterns_and_hidden_vectors() -> None:
    config = GPTConfig(**{**TINY, "n_layer": 2})
    model = made(config)
    ids = tokens(config, 3, 4)
    logits, patterns, hidden = model(ids, return_patterns=True, return_hidden=True)
    np.testing.assert_allclose(logits.numpy(), model(ids).numpy(), rtol=0, atol=1e-12)
    assert [p.shape for p in patterns] == [(3, 2, 4, 4)] * 2
    for p in patterns:
        np.testing.assert_allclose(p.numpy().sum(-1), 1, atol=1e-12)
        assert (np.triu(p.numpy(), 1) == 0).all() and (np.tril(p.numpy()) > 0).sum() == 3 * 2 * 10
    assert [h.shape for h in hidden] == [(3, 4, 4)] * 3
    end = mg.linear(model.ln_f(hidden[-1]), model.wte.weight)
    np.testing.assert_allclose(end.numpy(), logits.numpy(), atol=1e-12)
    start = model.wte.weight.numpy()[ids] + model.wpe.weight.numpy()
    np.testing.assert_allclose(hidden[0].numpy(), start, atol=1e-12)
    _, only = model(ids, return_hidden=True)
    assert len(only) == 3


# ---- numbers ---------------------------------------------------------------------------------


def test_the_published_counts() -> None:
    video = GPT.count(GPTConfig.gpt3(), everything=False)
    assert (video.total, video.matrices) == (175_181_291_520, 27_938)
    assert {row.kind: row.weights for row in video} == {
        "Embedding": 617_558_016,
        "Key": 14_495_514_624,
        "Query": 14_495_514_624,
        "Value↓": 14_495_514_624,
        "Value↑": 14_495_514_624,
        "Up": 57_982_058_496,
        "Down": 57_982_058_496,
        "Unembedding": 617_558_016,
    }
    assert GPT.count(GPTConfig.gpt2()).total == 124_439_808
    assert GPT.count(GPTConfig.gpt3()).total == 174_604_259_328
    assert GPT.count(GPTConfig.karpathy()).total == 4_192
    assert GPT(GPTConfig.karpathy()).num_parameters() == 4_192
    assert GPT.count(GPTConfig(65, 64, 128, 4, 4)).total == 809_856
    with pytest.raises(InputError, match="Positions.*Key"):
        GPT.count(GPTConfig.gpt2())["Keys"]


@st.composite
def configs(draw: Any) -> GPTConfig:
    heads = draw(st.integers(1, 3))
    return GPTConfig(
        vocab_size=draw(st.integers(1, 9)),
        block_size=draw(st.integers(1, 5)),
        n_embd=2 * heads * draw(st.integers(1, 3)),
        n_layer=draw(st.integers(1, 3)),
        n_head=heads,
        hidden=draw(st.none() | st.integers(1, 9)),
        norm=draw(st.sampled_from(["layer", "rms"])),
        norm_affine=draw(st.booleans()),
        norm_embeddings=draw(st.booleans()),
        norm_final=draw(st.booleans()),
        bias=draw(st.booleans()),
        activation=draw(st.sampled_from(["gelu_tanh", "gelu", "relu", "silu"])),
        tied=draw(st.booleans()),
        positions=draw(st.sampled_from(["learned", "sinusoidal", "rotary", "none"])),
    )


@given(configs())
@settings(max_examples=60, deadline=None)
def test_counting_is_what_building_gives(config: GPTConfig) -> None:
    model = GPT(config, generator=mg.generator(0))
    table = model.count()
    assert table.total == model.num_parameters() == GPT.count(config).total
    arrays = len(model.parameters())
    # Keys, queries and values of all heads of a layer are stored as one matrix.
    packed = 3 * config.n_layer * config.n_head - config.n_layer
    assert table.matrices == arrays + packed
    assert model(np.zeros((1, 1), int)).shape == (1, 1, config.vocab_size)
    assert GPTConfig.from_dict(asdict(config)) == config


def test_initial_weights() -> None:
    model = GPT(GPTConfig(500, 64, 128, 4, 4), generator=mg.generator(0))
    state = {k: v.numpy() for k, v in model.state_dict().items()}
    assert state["wte.weight"].std() == pytest.approx(0.02, rel=0.02)
    assert state["wpe.weight"].std() == pytest.approx(0.02, rel=0.05)
    assert state["h.0.attn.c_attn.weight"].std() == pytest.approx(0.02, rel=0.02)
    assert state["h.3.attn.c_proj.weight"].std() == pytest.approx(0.02 / 8**0.5, rel=0.03)
    assert state["h.3.mlp.c_proj.weight"].std() == pytest.approx(0.02 / 8**0.5, rel=0.03)
    assert not state["h.0.attn.c_attn.bias"].any() and (state["ln_f.weight"] == 1).all()
    again = GPT(GPTConfig(500, 64, 128, 4, 4), generator=mg.generator(0)).state_dict()
    assert all((again[k].numpy() == v).all() for k, v in state.items())
    small = GPT(GPTConfig.karpathy(), generator=mg.generator(0))
    assert all(p.numpy().std() == pytest.approx(0.08, rel=0.15) for p in small.parameters())


def test_dropout_is_drawn_in_training_only() -> None:
    config = GPTConfig(**TINY, dropout=0.5)
    model = made(config)
    ids = tokens(config, 2, 4)
    assert abs(model(ids).numpy() - model(ids).numpy()).max() > 1e-6
    model.eval()
    plain = made(GPTConfig(**TINY))
    np.testing.assert_array_equal(model(ids).numpy(), plain(ids).numpy())


@pytest.mark.parametrize("name", VARIANTS)
def test_the_same_on_an_array_library(name: str) -> None:
    strict = pytest.importorskip("array_api_strict", reason="array-api-strict is not installed")
    backend = mg.array_api.ArrayAPIBackend(strict)
    ids = tokens(VARIANTS[name], 2, 4)

    def run(place: str) -> list[Any]:
        with mg.use_backend(place):
            model = made(VARIANTS[name])
            loss = model.loss(ids)
            loss.backward()
            assert loss.backend == place
            cache = model.cache()
            with mg.no_grad():
                parts = [model(ids[:, :2], cache=cache), model(ids[:, 2:], cache=cache)]
            _, chances = model.generate(ids[:, :1], 6, seed=0, return_probabilities=True)
            grads = [p.grad.numpy() for p in model.parameters()]  # type: ignore[union-attr]
            return [loss.numpy(), *(p.numpy() for p in parts), np.array(chances), *grads]

    with mg.plugged(backend.plugin()):
        for a, b in zip(run("numpy"), run(backend.name), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


# ---- errors ----------------------------------------------------------------------------------


def test_settings_out_of_range() -> None:
    for changes, match in (
        ({"n_embd": 5}, "multiple of n_head.*5 and 2"),
        ({"n_layer": 0}, "n_layer.*1 or more.*0"),
        ({"vocab_size": 2.5}, "vocab_size.*2.5"),
        ({"hidden": 0}, "hidden"),
        ({"activation": "step"}, "gelu_tanh.*'step'"),
        ({"norm": "batch"}, "layer, rms.*'batch'"),
        ({"positions": "absolute"}, "learned.*'absolute'"),
        ({"dropout": 1.0}, "dropout"),
        ({"n_embd": 6, "positions": "rotary"}, "even.*6 / 2"),
        ({"n_embd": 3, "n_head": 1, "positions": "sinusoidal"}, "even"),
    ):
        with pytest.raises(InputError, match=match):
            GPTConfig(**{**TINY, **changes})
    with pytest.raises(InputError, match="no setting n_heads; there are.*n_head"):
        GPTConfig.from_dict({**TINY, "n_heads": 3})


def test_wrong_tokens() -> None:
    model = made(VARIANTS["gpt2"])
    with pytest.raises(ShapeError, match=r"\(4,\).*\(n, t\).*ids\[None\]"):
        model(np.zeros(4, int))
    with pytest.raises(ShapeError, match=r"given 5 tokens.*block_size = 4.*ids\[:, -4:\]"):
        model(np.zeros((1, 5), int))
    with pytest.raises(ShapeError, match=r"\(2, 0\).*1 or more"):
        model(np.zeros((2, 0), int))
    assert model.loss([[1, 2, 3]]).item() == model.loss([[1, 2]], [[2, 3]]).item()
    for bad in (5, -1):
        with pytest.raises(ShapeError, match="0 to 4"):
            model(np.array([[0, bad]]))
