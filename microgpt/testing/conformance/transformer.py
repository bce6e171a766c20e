"""A training step of a small transformer, and decoding with cached keys and values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

import microgpt as mg
from microgpt.backend import Backend
from microgpt.testing.conformance.reference import NAME as REFERENCE

VOCABULARY, WIDTH, HEADS, LENGTH = 11, 16, 2, 7

Weights = dict[str, Any]


def checks(backend: Backend) -> Iterator[tuple[str, Callable[[], None]]]:
    """Tier 8."""
    yield "training step", partial(_training_step, backend)
    yield "decoding", partial(_decoding, backend)


def _weights(backend: str, dtype: str) -> Weights:
    rng = np.random.default_rng(7)
    shapes = {
        "tokens": (VOCABULARY, WIDTH), "places": (LENGTH, WIDTH),
        "qkv": (3 * WIDTH, WIDTH), "out": (WIDTH, WIDTH),
        "up": (4 * WIDTH, WIDTH), "down": (WIDTH, 4 * WIDTH),
        "norm1": (WIDTH,), "norm2": (WIDTH,), "norm3": (WIDTH,),
    }  # fmt: skip
    made = {}
    for name, shape in shapes.items():
        values = rng.normal(1.0 if name.startswith("norm") else 0.0, 0.3, shape)
        rounded = values.astype("float32").astype(dtype)
        made[name] = mg.tensor(rounded, requires_grad=True, backend=backend)
    return made


def _split(x: Any) -> Any:
    """(batch, length, width) → (batch, heads, length, width of a head)."""
    batch, length, _ = x.shape
    parts = x.reshape(batch, length, HEADS, WIDTH // HEADS)
    return mg.permute_dims(parts, (0, 2, 1, 3))


def _logits(w: Weights, ids: Any, cache: list[Any] | None = None) -> Any:
    """One block before the unembedding; with a cache, `ids` are the tokens that are new."""
    start = 0 if not cache else cache[0].shape[2]
    length = ids.shape[1]
    x = mg.embedding(ids, w["tokens"]) + w["places"][start : start + length]
    h = mg.layer_norm(x, w["norm1"], None)
    q, k, v = (_split(part) for part in mg.split(mg.linear(h, w["qkv"]), 3, axis=-1))
    if cache is not None:
        if cache:
            k, v = mg.concat([cache[0], k], axis=2), mg.concat([cache[1], v], axis=2)
        cache[:] = [k, v]
    # A single new token may look at everything before it.
    heads = mg.scaled_dot_product_attention(q, k, v, causal=length > 1)
    joined = mg.permute_dims(heads, (0, 2, 1, 3)).reshape(*x.shape)
    x = x + mg.linear(joined, w["out"])
    x = x + mg.linear(mg.gelu(mg.linear(mg.layer_norm(x, w["norm2"], None), w["up"])), w["down"])
    return mg.linear(mg.rms_norm(x, w["norm3"]), w["tokens"])


def _step(backend: str, dtype: str) -> tuple[float, dict[str, np.ndarray]]:
    """Loss, and the weights after one step of gradient descent."""
    ids = np.random.default_rng(3).integers(0, VOCABULARY, (2, LENGTH + 1))
    with mg.use_backend(backend):
        w = _weights(backend, dtype)
        logits = _logits(w, mg.tensor(ids[:, :-1]))
        loss = mg.cross_entropy(
            logits.reshape(-1, VOCABULARY), mg.tensor(ids[:, 1:].reshape(-1))
        )  # fmt: skip
        loss.backward()
        after = {name: (x - x.grad * 0.1).numpy() for name, x in w.items()}
    return float(loss.item()), after


def _training_step(backend: Backend) -> None:
    want, exact = _step(REFERENCE, "float64")
    loss, found = _step(backend.name, "float32")
    assert abs(loss - want) < 1e-5 * abs(want), f"loss {loss}; required: {want}"
    for name, values in exact.items():
        scale = float(np.abs(values).max())
        away = float(np.abs(found[name] - values).max())
        assert away < 1e-5 * scale, (
            f"after one step the weights '{name}' are off by {away:.2g}; required: below "
            f"{1e-5 * scale:.1g}"
        )


def _decoding(backend: Backend) -> None:
    ids = np.random.default_rng(5).integers(0, VOCABULARY, (1, LENGTH))
    with mg.use_backend(backend.name), mg.no_grad():
        w = _weights(backend.name, "float32")
        whole = _logits(w, mg.tensor(ids)).numpy()
        cache: list[Any] = []
        for i in range(LENGTH):
            new = _logits(w, mg.tensor(ids[:, i : i + 1]), cache).numpy()
            away = float(np.abs(new[:, 0] - whole[:, i]).max())
            assert away < 1e-4, (
                f"with cached keys and values the logits of token {i} differ by {away:.2g} from "
                "those of the whole text; required: below 1e-4"
            )
