"""Batches for the next token: windows of a text and rows of documents."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microgpt import config, data
from microgpt.errors import InputError, ShapeError
from microgpt.tensor import Tensor

ORDERS = st.sampled_from(["random", "consecutive", "streams"])


@st.composite
def windows(draw: st.DrawFn) -> dict[str, Any]:
    block, size, order = draw(st.integers(1, 6)), draw(st.integers(1, 4)), draw(ORDERS)
    n = draw(st.integers(block * size + 1, 90))
    steps = draw(st.none() | st.integers(1, 7)) if order == "random" else None
    ids = np.random.default_rng(n).permutation(n)  # each token once: it tells where it stands
    return {"ids": ids, "block_size": block, "batch_size": size, "order": order, "steps": steps}


@given(given_=windows(), seed=st.integers(0, 99))
def test_targets_are_the_next_tokens(given_: dict[str, Any], seed: int) -> None:
    batches = data.token_batches(**given_, seed=seed, tensors=False)
    ids, block, size = given_["ids"], given_["block_size"], given_["batch_size"]
    where = np.argsort(ids)
    seen = list(batches)
    assert len(seen) == len(batches) and sum(len(x) for x, _ in seen) == batches.examples
    for i, (x, y) in enumerate(seen):
        assert x.dtype == y.dtype == np.int64 and x.shape == y.shape and x.shape[1] == block
        assert len(x) == size or (given_["order"] == "consecutive" and i == len(seen) - 1)
        places = where[x]
        assert (np.diff(places, axis=1) == 1).all() and (where[y] == places + 1).all()
    starts = [where[x[:, 0]] for x, _ in seen]
    if given_["order"] == "consecutive":
        assert np.concatenate(starts).tolist() == list(range(0, len(ids) - block, block))
    elif given_["order"] == "streams":
        assert all((b - a == block).all() for a, b in pairwise(starts))
        assert len(seen) == (len(ids) - 1) // size // block
    elif given_["steps"] is None:
        assert len(seen) * size * block >= len(ids) - 1 > (len(seen) - 1) * size * block
    else:
        assert len(seen) == given_["steps"]


@given(given_=windows(), seen=st.integers(0, 30), seed=st.integers(0, 99))
def test_a_resumed_run_sees_what_the_unbroken_one_would(
    given_: dict[str, Any], seen: int, seed: int
) -> None:
    def run(batches: data.TokenBatches) -> Iterator[list[Any]]:
        while batches.epoch < 2:
            for x, y in batches:
                yield [x.tolist(), y.tolist()]

    def made(seed: int) -> data.TokenBatches:
        return data.token_batches(**given_, seed=seed)

    unbroken = list(run(made(seed)))
    first = made(seed)
    start = [x for _, x in zip(range(seen), run(first), strict=False)]
    second = made(seed + 1)
    second.load_state_dict(first.state_dict())
    assert start + list(run(second)) == unbroken


def test_every_window_can_come() -> None:
    batches = data.token_batches(np.arange(6), 3, 50, seed=0, steps=4, tensors=False)
    epochs = [np.concatenate([x[:, 0] for x, _ in batches]).tolist() for _ in range(2)]
    assert set(epochs[0]) == {0, 1, 2}, "the last target is the last token"
    assert epochs[0] != epochs[1], "each epoch has windows of its own"
    again = data.token_batches(np.arange(6), 3, 50, seed=0, steps=4, tensors=False)
    assert np.concatenate([x[:, 0] for x, _ in again]).tolist() == epochs[0]


def test_batches_are_tensors_on_request_and_transformed() -> None:
    ids = np.arange(20, dtype=np.uint16)
    x, y = next(iter(data.token_batches(ids, 4, 2, order="consecutive")))
    assert isinstance(x, Tensor) and x.dtype == np.int64 and y.tolist()[1] == [5, 6, 7, 8]
    ids[:] = 0
    assert x.tolist()[0] == [0, 1, 2, 3], "a later change of the array does not reach the tensor"
    sums = data.token_batches([1, 2, 3, 4], 1, 3, order="streams", transform=lambda x, y: y - x)
    assert [s.tolist() for s in sums] == [[[1], [1], [1]]]
    with config.configure(seed=5):
        first = [x.tolist() for x, _ in data.token_batches(np.arange(50), 4, 2)]
    assert first == [x.tolist() for x, _ in data.token_batches(np.arange(50), 4, 2, seed=5)]


def test_bad_input_to_token_batches() -> None:
    ids = np.arange(9)
    for call, kind, message in (
        (lambda: data.token_batches(ids.reshape(3, 3), 2, 1), ShapeError, r"\(n,\); got \(3, 3\)"),
        (lambda: data.token_batches("text", 2, 1), InputError, "whole numbers; got str; encode"),
        (lambda: data.token_batches(ids / 2, 2, 1), InputError, "whole numbers.*tokenizer"),
        (lambda: data.token_batches(ids, 9, 1), InputError, "at least 10 tokens; got 9"),
        (lambda: data.token_batches(ids, 4, 3, order="streams"), InputError, "3 streams.*13"),
        (lambda: data.token_batches(ids, 0, 1), InputError, "block_size"),
        (lambda: data.token_batches(ids, 2, 0), InputError, "batch_size"),
        (lambda: data.token_batches(ids, 2, 1, steps=0), InputError, "steps"),
        (lambda: data.token_batches(ids, 2, 1, steps=2, order="streams"), InputError, "steps"),
        (lambda: data.token_batches(ids, 2, 1, order="any"), InputError, "'any'"),  # type: ignore[arg-type]
        (lambda: data.token_batches(ids, 2, 1).load_state_dict({}), InputError, "TokenBatches"),
    ):
        with pytest.raises(kind, match=message):
            call()


# ---- documents -------------------------------------------------------------------------------


@given(
    documents=st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=9),
    size=st.integers(1, 4),
    block=st.none() | st.integers(1, 8),
    seed=st.integers(0, 99),
)
def test_each_document_is_one_row(
    documents: list[list[int]], size: int, block: int | None, seed: int
) -> None:
    batches = data.document_batches(
        documents, size, bos=10, eos=11, block_size=block, pad=12, seed=seed, tensors=False
    )
    found = []
    for x, y in batches:
        assert x.dtype == y.dtype == np.int64 and x.shape == y.shape
        assert (y != -100).any(axis=0).all(), "rows are as long as the longest document"
        for inputs, targets in zip(x.tolist(), y.tolist(), strict=True):
            n = sum(t != -100 for t in targets)
            assert inputs[n:] == [12] * (len(inputs) - n) and set(targets[n:]) <= {-100}
            assert inputs[0] == 10 and inputs[1:n] == targets[: n - 1]
            found.append(targets[:n])
    cut = None if block is None else block
    assert sorted(found) == sorted([*d, 11][:cut] for d in documents)


def test_documents_in_order_and_without_marks() -> None:
    batches = data.document_batches([[1, 2, 3], [4, 5]], 1, shuffle=False, tensors=False)
    assert [(x.tolist(), y.tolist()) for x, y in batches] == [
        ([[1, 2]], [[2, 3]]),
        ([[4]], [[5]]),
    ]
    (x, _) = next(iter(data.document_batches([[1, 2]], 1)))
    assert isinstance(x, Tensor)
    for call, message in (
        (lambda: data.document_batches([[1, 2], [1]], 1), "document 1 has 1 of at least 2 tokens"),
        (lambda: data.document_batches(["ann"], 1), "whole numbers; got str; encode"),
        (lambda: data.document_batches([[1.5, 2.0]], 1), "whole numbers; got an array of float64"),
        (lambda: data.document_batches([], 1), "at least one example"),
        (lambda: data.document_batches([[1, 2]], 1, block_size=0), "block_size"),
    ):
        with pytest.raises(InputError, match=message):
            call()


# ---- parts -----------------------------------------------------------------------------------


@given(n=st.integers(2, 60), val=st.floats(0.01, 0.99), seed=st.none() | st.integers(0, 99))
def test_parts_are_disjoint_and_complete(n: int, val: float, seed: int | None) -> None:
    items = list(range(n))
    train, held = data.split(items, val, seed=seed)
    assert sorted(train + held) == items and train and held
    assert train == sorted(train) and held == sorted(held)
    assert abs(len(held) - n * val) <= 1 + (n * val < 1 or n * val > n - 1)
    again = data.split(np.arange(n), val, seed=seed)
    assert [part.tolist() for part in again] == [train, held]
    if seed is None:
        assert train + held == items


def test_bad_input_to_split() -> None:
    assert data.split(("a", "b", "c"), 0.4) == (("a", "b"), ("c",))
    for call, message in (
        (lambda: data.split([1], 0.5), "two items.*got 1 items"),
        (lambda: data.split([1, 2], 1.0), "between 0 and 1"),
        (lambda: data.split("text", 0.5, seed=0), "no characters"),
    ):
        with pytest.raises(InputError, match=message):
            call()


# ---- sequences of different lengths ------------------------------------------------------------


def test_padding_keeps_what_is_there() -> None:
    x, lengths = data.pad([np.ones((2, 3), np.float32), np.full((4, 3), 2, np.float32)], value=-1)
    assert x.shape == (2, 4, 3) and x.dtype == np.float32 and lengths.tolist() == [2, 4]
    assert x[0, :, 0].tolist() == [1, 1, -1, -1]
    x, lengths = data.pad([[1, 2, 3], []], 2)
    assert x.tolist() == [[1, 2], [0, 0]] and lengths.tolist() == [2, 0]
    with pytest.raises(ShapeError, match="length only"):
        data.pad([np.ones((2, 3)), np.ones((2, 4))])
    with pytest.raises(InputError, match="at least one"):
        data.pad([])


# ---- numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [True, np.True_, 2.5, 2.0, "2", 0, -1, None])
def test_lengths_are_whole_numbers(wrong: Any) -> None:
    ids, images = np.arange(9), np.zeros((1, 4, 4))
    message = "must be a whole number >= 1; got"
    for name, call in (
        ("block_size", lambda: data.token_batches(ids, wrong, 1)),
        ("batch_size", lambda: data.token_batches(ids, 2, wrong)),
        ("batch_size", lambda: data.batches(ids, batch_size=wrong)),
        ("size", lambda: data.patchify(images, wrong)),
        ("size", lambda: data.unpatchify(images, wrong)),
    ):
        with pytest.raises(InputError, match=f"^{name} {message}"):
            call()
    if wrong is not None:
        with pytest.raises(InputError, match=f"steps {message}"):
            data.token_batches(ids, 2, 1, steps=wrong)
        with pytest.raises(InputError, match=f"block_size {message}"):
            data.document_batches([[1, 2]], 1, block_size=wrong)


def test_lengths_may_be_numbers_of_numpy() -> None:
    two = np.int64(2)
    batches = data.token_batches(np.arange(9), two, two, steps=np.uint8(3))  # type: ignore[arg-type]
    assert [x.shape for x, _ in batches] == [(2, 2)] * 3
    batches = data.document_batches([[1, 2, 3, 4]], two, block_size=two)  # type: ignore[arg-type]
    assert [x.shape for x, _ in batches] == [(1, 2)]
    assert data.patchify(np.zeros((1, 4, 4)), two).shape == (1, 4, 4)  # type: ignore[arg-type]
