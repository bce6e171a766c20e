"""The networks with a memory: CharLSTM and LSTMClassifier."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt import models, nn
from microgpt.errors import InputError, ShapeError

RNG = np.random.default_rng(0)


def language(**settings: Any) -> models.CharLSTM:
    return models.CharLSTM(5, 8, **settings, generator=mg.generator(0)).to(dtype="float64")


def classifier(**settings: Any) -> models.LSTMClassifier:
    model = models.LSTMClassifier(3, 4, 6, **settings, generator=mg.generator(0))
    return model.to(dtype="float64")


# ---- CharLSTM --------------------------------------------------------------------------------


def test_the_parameters_of_the_language_model_are_those_of_the_formula() -> None:
    v, h = 65, 128
    model = models.CharLSTM(v, h)
    assert model.num_parameters() == 4 * (v * h + h * h + h) + h * v + v
    for other in (model, language(num_layers=2, embedding_dim=3, bias=False), classifier()):
        counted = sum(weights + biases for _, weights, biases in other.count())
        assert counted == other.num_parameters()
    deep = models.CharLSTM(v, h, 2, embedding_dim=16)
    assert [name for name, _, _ in deep.count()] == [
        "embedding 65→16",
        "layer 1: inputs 16→4·128",
        "layer 1: states 128→4·128",
        "layer 2: inputs 128→4·128",
        "layer 2: states 128→4·128",
        "logits 128→65",
    ]


@pytest.mark.parametrize("settings", [{}, {"num_layers": 2, "embedding_dim": 3}])
def test_a_text_in_pieces_gives_the_logits_of_the_whole(settings: dict[str, Any]) -> None:
    model, ids = language(**settings), RNG.integers(0, 5, (2, 7))
    whole, last = model(mg.tensor(ids))
    state, pieces = None, []
    for piece in np.split(ids, [1, 4], axis=1):
        logits, state = model(mg.tensor(piece), state)
        pieces.append(logits)
    np.testing.assert_allclose(mg.concat(pieces, axis=1).numpy(), whole.numpy(), atol=1e-14)
    for a, b in zip(state, last, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), atol=1e-14)


def test_one_hot_vectors_are_columns_of_the_weights() -> None:
    """Token k adds column k of weight_ih to the gates."""
    model = language()
    w = model.lstm
    sums = w.weight_ih_l0.numpy()[:, 3] + w.bias_ih_l0.numpy()
    i, _, g, o = np.split(sums, 4)
    c = np.tanh(g) / (1 + np.exp(-i))
    h = np.tanh(c) / (1 + np.exp(-o))
    _, (found, _) = model(mg.tensor([[3]]))
    np.testing.assert_allclose(found.numpy()[0, 0], h, rtol=1e-12)


def test_the_loss_is_that_of_the_next_tokens() -> None:
    model, ids = language(), RNG.integers(0, 5, (2, 6))
    logits = model(mg.tensor(ids[:, :-1]))[0].numpy()
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    picked = np.take_along_axis(chances, ids[:, 1:, None], -1)
    assert model.loss(mg.tensor(ids)).item() == pytest.approx(-np.log(picked).mean(), rel=1e-12)
    targets = ids[:, 1:].copy()
    targets[:, ::2] = -100
    some = model.loss(mg.tensor(ids[:, :-1]), mg.tensor(targets)).item()
    assert some == pytest.approx(-np.log(picked[:, 1::2]).mean(), rel=1e-12)


def test_every_parameter_of_the_models_is_trained() -> None:
    model = language(num_layers=2, embedding_dim=3)
    model.loss(mg.tensor(RNG.integers(0, 5, (3, 6)))).backward()
    other = classifier(bidirectional=True)
    x, labels = mg.tensor(RNG.standard_normal((3, 5, 3))), mg.tensor([0, 1, 2])
    mg.cross_entropy(other(x, lengths=[5, 2, 4]), labels).backward()
    for p in (*model.parameters(), *other.parameters()):
        assert p.grad is not None and p.grad.numpy().any()


def test_writing_carries_the_state_and_equals_reading_everything_again() -> None:
    model, prompt = language(), [1, 4, 2]
    written = model.generate(prompt, 12, temperature=0)
    text = list(prompt)
    for token in written:
        logits, _ = model(mg.tensor([text]))
        assert int(logits.numpy()[0, -1].argmax()) == token
        text.append(token)
    assert len(written) == 12
    streamed = list(model.generate(prompt, 12, temperature=0, stream=True))
    assert streamed == written


def test_writing_is_repeatable_and_leaves_the_model_as_it_was() -> None:
    model = language(dropout=0.5, num_layers=2)
    a, b = (model.generate([0], 20, seed=3) for _ in range(2))
    assert a == b and model.training and all(p.grad is None for p in model.parameters())
    tokens, chances = model.generate([0], 6, seed=3, return_probabilities=True)
    assert tokens == a[:6] and all(0 < p <= 1 for p in chances)
    both = model.generate([[0, 1], [2, 3]], 5, seed=0)
    assert [len(text) for text in both] == [5, 5]
    model.lstm.eval()
    assert model.generate([0], 20, seed=3) == a
    assert model.training and model.dropout.training and not model.lstm.training
    with pytest.raises(InputError, match="max_tokens"):
        model.generate([0], -1)


def test_texts_go_through_a_tokenizer() -> None:
    class Letters:
        def encode(self, text: str) -> list[int]:
            return ["abcde".index(letter) for letter in text]

        def decode(self, ids: list[int]) -> str:
            return "".join("abcde"[i] for i in ids)

    text = language().generate("bead", 10, seed=1, tokenizer=Letters())
    assert len(text) == 10 and set(text) <= set("abcde")


def test_it_learns_what_only_a_memory_can_know() -> None:
    """The token after the separator repeats the one before the last separator."""
    rng = np.random.default_rng(0)
    model = models.CharLSTM(3, 16, generator=mg.generator(0))
    optimizer = mg.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        first = rng.integers(0, 2, (32, 1))
        ids = np.concatenate([first, np.full((32, 4), 2), first], axis=1)
        loss = model.loss(
            mg.tensor(ids[:, :-1]), mg.tensor(np.where([0, 0, 0, 0, 1], ids[:, 1:], -100))
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    assert model.generate([1, 2, 2, 2, 2], 1, temperature=0) == [1]
    assert model.generate([0, 2, 2, 2, 2], 1, temperature=0) == [0]


def test_messages_of_the_language_model() -> None:
    model = language()
    with pytest.raises(ShapeError, match=r"\(4,\).*ids\[None\]"):
        model(mg.tensor([0, 1, 2, 3]))
    with pytest.raises(ShapeError, match=r"^LSTM\(.*from 0 to 4"):
        model(mg.tensor([[5]]))
    with pytest.raises(InputError, match="one token"):
        models.CharLSTM(0)


# ---- LSTMClassifier --------------------------------------------------------------------------


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_padding_does_not_change_the_classes(pooling: str, bidirectional: bool) -> None:
    model = classifier(pooling=pooling, bidirectional=bidirectional, num_layers=2)
    x = RNG.standard_normal((2, 6, 3))
    x[1, 4:] = np.nan
    together = model(mg.tensor(x), lengths=[6, 4]).numpy()
    np.testing.assert_allclose(together[0], model(mg.tensor(x[:1])).numpy()[0], atol=1e-14)
    np.testing.assert_allclose(together[1], model(mg.tensor(x[1:, :4])).numpy()[0], atol=1e-14)


def test_what_is_pooled() -> None:
    x = mg.tensor(RNG.standard_normal((2, 5, 3)))
    for pooling in ("mean", "last"):
        model = classifier(pooling=pooling, bidirectional=True)
        states = model.lstm(x)[0].numpy()
        want = states.mean(axis=1)
        if (
            pooling == "last"
        ):  # where the readings end: forwards at the right, backwards at the left
            want = np.concatenate([states[:, -1, :6], states[:, 0, 6:]], axis=1)
        head = model.head
        want = want @ head.weight.numpy().T + head.bias.numpy()  # type: ignore[union-attr]
        np.testing.assert_allclose(model(x).numpy(), want, rtol=1e-12)


def test_messages_of_the_classifier() -> None:
    with pytest.raises(ShapeError, match=r"\(5, 3\).*x\[None\]"):
        classifier()(mg.zeros((5, 3), dtype="float64"))
    with pytest.raises(ShapeError, match="from 1 to 5"):
        classifier()(mg.zeros((2, 5, 3), dtype="float64"), lengths=[5, 6])
    with pytest.raises(InputError, match="'max'"):
        models.LSTMClassifier(3, 4, pooling="max")


def test_the_classifier_trains_with_lengths_in_the_batch() -> None:
    """Does the sequence rise or fall? Behind its end stands noise."""
    rng = np.random.default_rng(0)
    n, t = 96, 8
    lengths, labels = rng.integers(3, t + 1, n), rng.integers(0, 2, n)
    x = np.arange(t) * np.where(labels, 0.2, -0.2)[:, None] + rng.normal(0, 0.05, (n, t))
    x = np.where(np.arange(t) < lengths[:, None], x, rng.normal(0, 3, (n, t)))[:, :, None]
    model = models.LSTMClassifier(1, 2, 8, pooling="last", generator=mg.generator(0))
    optimizer = mg.optim.Adam(model.parameters(), lr=0.03)
    frames = mg.tensor(x.astype(np.float32))
    for _ in range(60):
        loss = mg.cross_entropy(model(frames, mg.tensor(lengths)), mg.tensor(labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert mg.train.accuracy(model(frames, lengths), labels) > 0.97
    assert isinstance(model.lstm, nn.LSTM)
