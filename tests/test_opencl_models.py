"""Models train on OpenCL as they do on NumPy: same losses, same parameters after a few steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import microgpt as mg
from tests import opencl

opencl.needed()

STEPS = 3


def _images(rng: Any) -> tuple[Any, Any]:
    return rng.standard_normal((6, 1, 12, 12)).astype("float32"), rng.integers(0, 10, 6)


def mlp(activation: str) -> Callable[[], float]:
    rng = np.random.default_rng(0)
    model = mg.models.MLP((20, 9, 5), activation, squash=False, generator=mg.generator(0))
    x, y = rng.standard_normal((7, 20)).astype("float32"), rng.integers(0, 5, 7)
    return trained(model, lambda: mg.cross_entropy(model(mg.tensor(x)), mg.tensor(y)))


def cnn() -> Callable[[], float]:
    x, y = _images(np.random.default_rng(0))
    model = mg.models.CNN(12, channels=(3, 5), generator=mg.generator(0))
    return trained(model, lambda: mg.cross_entropy(model(mg.tensor(x)), mg.tensor(y)))


def char_lstm(**options: Any) -> Callable[[], float]:
    ids = np.random.default_rng(0).integers(0, 13, (4, 10))
    model = mg.models.CharLSTM(13, hidden_size=17, generator=mg.generator(0), **options)

    def loss() -> Any:
        logits, _ = model(mg.tensor(ids[:, :-1]))
        return mg.cross_entropy(logits.reshape(-1, 13), mg.tensor(ids[:, 1:].reshape(-1)))

    return trained(model, loss)


def lstm_classifier() -> Callable[[], float]:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((5, 8, 6)).astype("float32"), rng.integers(0, 3, 5)
    model = mg.models.LSTMClassifier(
        6, 3, hidden_size=10, bidirectional=True, generator=mg.generator(0)
    )
    lengths = [8, 3, 5, 1, 8]
    return trained(model, lambda: mg.cross_entropy(model(mg.tensor(x), lengths), mg.tensor(y)))


def gpt(**options: Any) -> Callable[[], float]:
    ids = np.random.default_rng(0).integers(0, 23, (3, 17))
    config = mg.models.GPTConfig(
        vocab_size=23, block_size=16, n_embd=24, n_layer=2, n_head=3, **options
    )
    model = mg.models.GPT(config, generator=mg.generator(0))
    return trained(model, lambda: model.loss(mg.tensor(ids[:, :-1]), mg.tensor(ids[:, 1:])))


def seq2seq() -> Callable[[], float]:
    rng = np.random.default_rng(0)
    source, target = rng.integers(2, 19, (4, 7)), rng.integers(2, 17, (4, 6))
    source[0, 4:] = target[1, 3:] = 0  # padding
    model = mg.models.Seq2Seq(19, 17, width=16, heads=2, layers=1, generator=mg.generator(0))
    return trained(model, lambda: model.loss(mg.tensor(source), mg.tensor(target)))


def skip_gram() -> Callable[[], float]:
    rng = np.random.default_rng(0)
    centre, context, negatives = (rng.integers(0, 19, shape) for shape in (8, 8, (8, 3)))
    model = mg.models.SkipGram(19, 10, generator=mg.generator(0))
    return trained(
        model, lambda: model(mg.tensor(centre), mg.tensor(context), mg.tensor(negatives))
    )


def trained(model: Any, loss_of: Callable[[], Any]) -> Callable[[], float]:
    """A training step, with the model as an attribute."""
    # Adam would divide gradients that are 0 but for rounding by their own size.
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1, momentum=0.5)

    def step() -> float:
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    step.model = model  # pyright: ignore[reportFunctionMemberAccess]
    return step


MODELS: dict[str, Callable[[], Callable[[], float]]] = {
    "MLP, sigmoid": lambda: mlp("sigmoid"),
    "MLP, relu": lambda: mlp("relu"),
    "CNN": cnn,
    "CharLSTM": char_lstm,
    "CharLSTM, two layers": lambda: char_lstm(num_layers=2, embedding_dim=7),
    "LSTMClassifier": lstm_classifier,
    "GPT": gpt,
    "Seq2Seq": seq2seq,
    "SkipGram": skip_gram,
}


@pytest.mark.parametrize("name", MODELS)
def test_training_is_that_of_numpy(name: str) -> None:
    found = {}
    for backend in ("numpy", "opencl"):
        with mg.use_backend(backend):
            step = MODELS[name]()
            losses = [step() for _ in range(STEPS)]
            state = step.model.state_dict()  # pyright: ignore[reportFunctionMemberAccess]
            found[backend] = losses, {k: np.asarray(v) for k, v in state.items()}
    (want, before), (have, after) = found["numpy"], found["opencl"]
    np.testing.assert_allclose(have, want, rtol=2e-5)
    assert losses[0] > losses[-1]
    for key, values in before.items():
        np.testing.assert_allclose(after[key], values, rtol=1e-3, atol=1e-5, err_msg=key)


def test_adamw_is_that_of_numpy() -> None:
    losses = {}
    for backend in ("numpy", "opencl"):
        with mg.use_backend(backend):
            model = gpt().model  # pyright: ignore[reportFunctionMemberAccess]
            ids = mg.tensor(np.random.default_rng(1).integers(0, 23, (3, 17)))
            optimizer = mg.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1)
            losses[backend] = []
            for _ in range(8):
                loss = model.loss(ids[:, :-1], ids[:, 1:])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses[backend].append(loss.item())
    np.testing.assert_allclose(losses["opencl"], losses["numpy"], rtol=1e-4)


def test_a_step_does_not_wait_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Token ids that came from the host are looked at there, while the device computes."""
    device = opencl.backend().open()
    if not device.unified:
        pytest.skip("the device has memory of its own")
    with mg.use_backend("opencl"):
        model = gpt().model  # pyright: ignore[reportFunctionMemberAccess]
        ids, targets = (
            mg.tensor(np.random.default_rng(i).integers(0, 23, (3, 16))) for i in (1, 2)
        )
        model.loss(ids, targets).backward()
        waits: list[str] = []
        finish = type(device).finish
        monkeypatch.setattr(type(device), "finish", lambda self: (waits.append(""), finish(self)))
        loss = model.loss(ids, targets)
        loss.backward()
        assert not waits
        loss.item()
        assert waits


def test_generation_with_a_cache_gives_the_same_text() -> None:
    texts = []
    for backend in ("numpy", "opencl"):
        with mg.use_backend(backend):
            config = mg.models.GPTConfig(
                vocab_size=23, block_size=16, n_embd=24, n_layer=2, n_head=3
            )
            model = mg.models.GPT(config, generator=mg.generator(0))
            texts.append(np.asarray(model.generate([1, 2, 3], 9, temperature=0.0)).tolist())
    assert texts[0] == texts[1]
