"""Sampling and writing: distributions, determinism, caches, cropping, streams and errors."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import microgpt as mg
from microgpt.errors import AnomalyError, InputError, InputTypeError, ShapeError
from microgpt.models import GPTConfig, Sampler
from microgpt.models.generation import generate, tokens
from tests.test_models_gpt import VARIANTS, made

LOGITS = [-0.8, -5.0, 0.5, 1.5, 3.4, -2.3, 2.5]
"""Of the video about the transformer (3Blue1Brown, chapter 5)."""

CONFIG = GPTConfig(vocab_size=11, block_size=8, n_embd=12, n_layer=2, n_head=3)


def p_of(logits: Any = LOGITS, **settings: Any) -> np.ndarray:
    return Sampler(**settings).probabilities(logits)


# ---- distributions ---------------------------------------------------------------------------


def test_the_numbers_of_the_video() -> None:
    plain = np.sort(p_of())[::-1]
    np.testing.assert_allclose(plain[:3], [0.6136, 0.2495, 0.0918], atol=5e-5)
    for t, top in ((0.2, 0.9889), (2, 0.4075), (5, 0.2489), (10, 0.1944)):
        assert p_of(temperature=t).max() == pytest.approx(top, abs=5e-5)
    np.testing.assert_allclose(p_of(temperature=math.inf), np.full(7, 1 / 7), rtol=1e-12)
    assert p_of(temperature=0).tolist() == [0, 0, 0, 0, 1, 0, 0]
    entropies = [
        -(p * np.log(p)).sum() for p in (p_of(temperature=t) for t in (0.2, 0.5, 1, 2, 5, 10, 1e6))
    ]
    assert all(a < b for a, b in pairwise(entropies))


rows = st.lists(st.floats(-20, 20), min_size=1, max_size=12)


@given(rows, st.floats(0.05, 20), st.integers(1, 14), st.floats(0.01, 1))
@settings(max_examples=150, deadline=None)
def test_what_may_be_drawn(logits: list[float], t: float, k: int, p: float) -> None:
    plain = p_of(logits)
    assert plain.sum() == pytest.approx(1, rel=1e-12)
    # p^(1/T), made to add up to 1, is the softmax of the logits over T.
    powers = plain ** (1 / t)
    np.testing.assert_allclose(
        p_of(logits, temperature=t), powers / powers.sum(), rtol=1e-9, atol=1e-300
    )

    order = sorted(range(len(logits)), key=lambda i: (-plain[i], i))
    kept = order[:k]
    want = np.where(np.isin(range(len(logits)), kept), plain, 0)
    np.testing.assert_allclose(p_of(logits, top_k=k), want / want.sum(), rtol=1e-9)

    nucleus = p_of(logits, top_p=p)
    chosen = [i for i in order if nucleus[i] > 0]
    assert chosen == order[: len(chosen)]
    np.testing.assert_allclose(nucleus[chosen], plain[chosen] / plain[chosen].sum(), rtol=1e-9)
    assert plain[chosen].sum() >= p - 1e-9 and plain[chosen[:-1]].sum() < p + 1e-9

    assert p_of(logits, temperature=0).argmax() == max(
        range(len(logits)), key=lambda i: (logits[i], -i)
    )


def test_ties_impossible_tokens_and_batches() -> None:
    assert p_of([2.0, 2.0, 1.0], temperature=0).tolist() == [1, 0, 0]
    assert p_of([2.0, 2.0, 1.0], top_k=1).tolist() == [1, 0, 0]
    assert p_of([0.0, -math.inf, 0.0], temperature=math.inf).tolist() == [0.5, 0, 0.5]
    both = p_of([LOGITS, LOGITS[::-1]], temperature=0.7, top_k=3, top_p=0.9)
    np.testing.assert_allclose(both[0], both[1][::-1], rtol=1e-12)
    np.testing.assert_allclose(p_of(mg.tensor(LOGITS, dtype="float64")), p_of(), rtol=1e-12)
    assert p_of(np.float32([1e4, -1e4])).tolist() == [1, 0]


def test_draws_follow_the_distribution() -> None:
    sampler = Sampler(temperature=1.3, top_k=5, seed=0)
    n = 40_000
    ids, p = sampler(np.tile(LOGITS, (n, 1)))
    want = p_of(temperature=1.3, top_k=5)
    found = np.bincount(ids, minlength=7) / n
    assert (found[want == 0] == 0).all()
    # Five standard deviations; the seed is fixed.
    np.testing.assert_array_less(abs(found - want), 5 * np.sqrt(want * (1 - want) / n) + 1e-12)
    np.testing.assert_allclose(p, want[ids], rtol=1e-12)


# ---- a GPT writes ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("prompt", [[1], [1, 2, 3], [0, 1, 2, 3, 4, 3, 2]])
def test_with_a_cache_it_writes_the_same_text(name: str, prompt: list[int]) -> None:
    """Also past the block, and from a prompt that is longer than it."""
    model = made(VARIANTS[name])
    for more in ({"temperature": 0}, {"temperature": 0.8, "seed": 3}):
        quick, p = model.generate(prompt, 9, **more, return_probabilities=True)
        slow, q = model.generate(prompt, 9, use_cache=False, **more, return_probabilities=True)
        assert quick == slow and len(quick) == 9
        np.testing.assert_allclose(p, q, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", VARIANTS)
def test_it_writes_what_full_passes_would(name: str) -> None:
    model = made(VARIANTS[name])
    text, found = [3], model.generate([3], 8, temperature=0)
    for _ in range(8):
        text.append(int(model(np.array([text[-4:]])).numpy()[0, -1].argmax()))
    assert found == text[1:]


def test_logits_of_the_quick_path() -> None:
    from microgpt.models.decoding import Reader

    for name, config in VARIANTS.items():
        model = made(config)
        ids = np.random.default_rng(0).integers(0, 5, (3, 7))
        quick, slow = Reader(model), Reader(model, use_cache=False)
        cuts = (2, 3, 4, 5, 6) if name != "karpathy" else (1, 2, 4, 6)
        for part in np.split(ids, cuts, axis=1):
            a, b = quick(part), slow(part)
            assert a.shape == (3, 5)
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-10, err_msg=name)


def test_dropped_text_does_not_matter() -> None:
    model = made(CONFIG)
    a, b = [1, 2, 3] * 4, [9, 9, 9, 9] + ([1, 2, 3] * 4)[4:]
    assert a[-8:] == b[-8:]
    assert model.generate(a, 6, seed=0) == model.generate(b, 6, seed=0)
    assert model.generate(a[-8:], 6, seed=0) == model.generate(b, 6, seed=0)


def test_a_seed_decides_the_text_and_temperature_zero_needs_none() -> None:
    model = made(CONFIG, scale=0.3)
    once = model.generate([1], 30, seed=1)
    assert once == model.generate([1], 30, seed=1)
    assert once != model.generate([1], 30, seed=2)
    assert once == model.generate([1], 30, generator=mg.generator(1))
    sure = model.generate([1], 30, temperature=0, seed=1)
    assert (
        sure == model.generate([1], 30, temperature=0, seed=2) == model.generate([1], 30, top_k=1)
    )
    with mg.configure(seed=1):
        assert model.generate([1], 30) == once


def test_batches_and_streams() -> None:
    model = made(CONFIG, scale=0.3)
    batch = model.generate([[1, 2], [3, 4], [5, 6]], 5, temperature=0)
    assert batch == [model.generate(p, 5, temperature=0) for p in ([1, 2], [3, 4], [5, 6])]
    drawn, p = model.generate(np.array([[1, 2], [1, 2]]), 12, seed=0, return_probabilities=True)
    assert drawn[0] != drawn[1] and np.shape(drawn) == np.shape(p) == (2, 12)
    whole, chances = model.generate([1, 2], 12, seed=5, return_probabilities=True)
    assert list(model.generate([1, 2], 12, seed=5, stream=True)) == whole
    pairs = model.generate([1, 2], 12, seed=5, stream=True, return_probabilities=True)
    assert list(pairs) == list(zip(whole, chances, strict=True))
    rows = model.generate([[1, 2], [3, 4], [5, 6]], 5, temperature=0, stream=True)
    assert [list(column) for column in zip(*rows, strict=True)] == batch
    # Token by token: nothing is computed ahead.
    first = iter(model.generate([1, 2], 10**9, seed=5, stream=True))
    assert [next(first) for _ in range(3)] == whole[:3]
    assert model.generate([1], 0) == [] and model.generate([[1], [2]], 0) == [[], []]


def test_probabilities_are_those_of_the_full_pass() -> None:
    model = made(CONFIG)
    text, chances = model.generate([1, 2], 5, seed=0, temperature=0.7, top_k=4,
                                   return_probabilities=True)  # fmt: skip
    for place, (token, p) in enumerate(zip(text, chances, strict=True)):
        logits = model(np.array([[1, 2, *text[:place]]])).numpy()[0, -1]
        assert p == pytest.approx(p_of(logits, temperature=0.7, top_k=4)[token], rel=1e-9)


def test_a_token_that_ends_the_text() -> None:
    model = made(CONFIG, scale=0.3)
    whole = model.generate([1], 40, seed=4)
    stop = whole[7]
    end = whole.index(stop)
    assert model.generate([1], 40, seed=4, stop=stop) == whole[:end]
    assert list(model.generate([1], 40, seed=4, stop=stop, stream=True)) == whole[:end]
    prompts = [[1], [2], [3]]
    ended = model.generate(prompts, 40, seed=4, stop=stop)
    for text, free in zip(ended, model.generate(prompts, 40, seed=4), strict=True):
        assert stop not in text
        assert text == free[: free.index(stop) if stop in free else len(free)]
    assert len({len(text) for text in ended}) > 1


def test_dropout_is_off_and_training_goes_on() -> None:
    model = made(GPTConfig(11, 8, 12, 2, 3, dropout=0.5))
    assert model.generate([1], 10, temperature=0) == made(CONFIG).generate([1], 10, temperature=0)
    assert model.training and all(block.training for block in model.h)
    model.eval()
    model.generate([1], 3)
    assert not model.training


def test_changed_weights_are_used_by_the_next_text() -> None:
    model = made(CONFIG)
    before = model.generate([1], 6, temperature=0)
    model.wte.weight.data = -model.wte.weight.numpy()
    assert model.generate([1], 6, temperature=0) != before
    assert model.generate([1], 6, temperature=0) == model.generate(
        [1], 6, temperature=0, use_cache=False
    )


# ---- texts -----------------------------------------------------------------------------------


class Bytes:
    """The smallest tokenizer whose tokens can end within a character."""

    def encode(self, text: str) -> list[int]:
        return list(text.encode())

    def decode(self, ids: list[int]) -> str:
        return bytes(ids).decode(errors="replace")


class Parrot:
    """A reader that recites a text, whatever it is given."""

    def __init__(self, text: str, vocabulary: int = 256) -> None:
        self.ids, self.place, self.vocabulary = list(text.encode()), -1, vocabulary
        self.given: list[Any] = []

    def __call__(self, new: np.ndarray) -> np.ndarray:
        self.given.append(new.tolist())
        self.place += 1
        return np.eye(self.vocabulary)[[self.ids[self.place]] * len(new)] * 50


def test_any_model_can_write() -> None:
    """The reader is given the prompt and then each token that was drawn."""
    reader = Parrot("abc")
    assert generate(reader, [7, 8], 3, Sampler(0)) == list(b"abc")
    assert reader.given == [[[7, 8]], [[97]], [[98]]]
    steps = list(tokens(Parrot("ab"), np.array([[1], [2]]), 2, Sampler(0)))
    assert steps == [([97, 97], [1.0, 1.0]), ([98, 98], [1.0, 1.0])]


@given(st.text(max_size=12))
@settings(max_examples=50, deadline=None)
def test_pieces_of_text_are_whole_characters(text: str) -> None:
    n = len(text.encode())
    written = generate(Parrot(text), "x", n, Sampler(0), tokenizer=Bytes())
    pieces = list(generate(Parrot(text), "x", n, Sampler(0), tokenizer=Bytes(), stream=True))
    assert written == text == "".join(pieces) and len(pieces) == n
    assert [piece for piece in pieces if piece] == list(text)


def test_a_text_cut_within_a_character() -> None:
    more = dict(tokenizer=Bytes(), stream=True)
    assert list(generate(Parrot("aé"), "x", 2, Sampler(0), **more)) == ["a", "", "\ufffd"]
    whole = generate(Parrot("aé"), "x", 2, Sampler(0), tokenizer=Bytes())
    assert whole == "a\ufffd"
    pairs = list(generate(Parrot("aé"), "x", 3, Sampler(0), return_probabilities=True, **more))
    assert [piece for piece, _ in pairs] == ["a", "", "é"] and all(p == 1.0 for _, p in pairs)


def test_a_gpt_continues_text() -> None:
    model = made(GPTConfig(256, 16, 12, 2, 3), scale=0.3)
    text, p = model.generate("hé", 20, seed=0, tokenizer=Bytes(), return_probabilities=True)
    ids = model.generate(list("hé".encode()), 20, seed=0)
    assert text == bytes(ids).decode(errors="replace") and len(p) == 20


# ---- errors ----------------------------------------------------------------------------------


def test_errors() -> None:
    model = made(CONFIG)
    for more, match in (
        ({"temperature": -1}, "temperature.*-1"),
        ({"temperature": math.nan}, "temperature.*nan"),
        ({"top_k": 0}, "top_k.*0"),
        ({"top_p": 0.0}, "top_p.*0"),
        ({"top_p": 1.5}, "top_p.*1.5"),
        ({"max_tokens": -1}, "max_tokens.*-1"),
        ({"overflow": "wrap"}, "'crop' or 'refuse'.*'wrap'"),
    ):
        with pytest.raises(InputError, match=match):
            model.generate([1], **more)
    with pytest.raises(InputError, match="tokenizer="):
        model.generate("text", 3)
    for empty in ([], [[]], np.zeros((0, 3), int)):
        with pytest.raises(InputError, match="at least one token"):
            model.generate(empty, 3)
    with pytest.raises(InputTypeError, match="whole numbers; got float64"):
        model.generate([0.5], 3)
    with pytest.raises(ShapeError, match="as long as each other"):
        model.generate([[1], [2, 3]], 3)
    with pytest.raises(ShapeError, match=r"\(1, 1, 1\)"):
        model.generate([[[1]]], 3)
    with pytest.raises(ShapeError, match="0 to 10"):
        model.generate([11], 3)


def test_refusing_what_does_not_fit() -> None:
    model = made(CONFIG)
    fits = model.generate([1, 2, 3], 6, seed=0, overflow="refuse")
    assert fits == model.generate([1, 2, 3], 6, seed=0)
    with pytest.raises(InputError, match=r"3 tokens and 7 more.*read, 9.*has 8"):
        model.generate([1, 2, 3], 7, overflow="refuse")
    with pytest.raises(InputError, match="9 tokens"):  # before the stream begins
        model.generate(list(range(9)), 1, overflow="refuse", stream=True)


def test_logits_without_a_likeliest_token_are_refused() -> None:
    """Text was written from NaN."""
    for bad in ([math.nan, 1.0], [math.inf, 1.0], [-math.inf, -math.inf]):
        for t in (0.0, 1.0, math.inf):
            for rows in ([bad], [[1.0, 2.0], bad]):
                with pytest.raises(AnomalyError, match="no token can be drawn"):
                    Sampler(t)(np.array(rows))
    model = made(CONFIG)
    model.ln_f.weight.data = np.full(12, np.nan)
    for use_cache in (True, False):
        with pytest.raises(AnomalyError, match="NaN"):
            model.generate([1, 2], 3, use_cache=use_cache)


@pytest.mark.filterwarnings("error")
def test_temperatures_near_zero_take_the_likeliest() -> None:
    assert p_of([1.0, 2.0, 3.0], temperature=1e-320).tolist() == [0, 0, 1]
    assert p_of([-1e30, 2.0, 2.0], temperature=1e-300).tolist() == [0, 0.5, 0.5]


def test_top_k_is_any_whole_number_but_no_truth_value() -> None:
    assert Sampler(top_k=np.int64(2)).top_k == 2  # type: ignore[arg-type]
    for bad in (True, 2.0, "2"):
        with pytest.raises(InputError, match="top_k must be a whole number"):
            Sampler(top_k=bad)  # type: ignore[arg-type]


@pytest.mark.parametrize("use_cache", [True, False])
def test_parts_keep_the_modes_they_had(use_cache: bool) -> None:
    model = made(replace(CONFIG, dropout=0.5))
    quiet = model.h[0].dropout.eval()
    want = model.generate([1, 2], 5, seed=0, use_cache=use_cache)
    assert model.training and not quiet.training
    assert all(m.training for _, m in model.named_modules() if m is not quiet)
    model.eval()
    loud = model.h[1].dropout.train()  # writing is without dropout nevertheless
    assert model.generate([1, 2], 5, seed=0, use_cache=use_cache) == want
    assert loud.training and not model.training
