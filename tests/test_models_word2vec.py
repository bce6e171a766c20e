"""word2vec on sentences whose structure is known."""

from __future__ import annotations

from itertools import permutations, product
from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt.errors import InputError, ShapeError
from microgpt.models import SkipGram, skip_gram_batches
from tests.calling import call_with

PEOPLE = {
    "king": "royal male old", "queen": "royal female old", "prince": "royal male young",
    "princess": "royal female young", "man": "common male old", "woman": "common female old",
    "boy": "common male young", "girl": "common female young",
}  # fmt: skip
COMPANY = {
    "royal": "crown throne palace", "common": "work house street", "male": "he his beard",
    "female": "she her dress", "old": "wise grey slow", "young": "small play school",
}  # fmt: skip
WORDS = [*PEOPLE, *(word for words in COMPANY.values() for word in words.split())]


def sentences(n: int, seed: int) -> list[list[int]]:
    """A person among words that fit rank, sex and age, in any order."""
    rng = np.random.default_rng(seed)
    texts = []
    for _ in range(n):
        person = rng.choice(list(PEOPLE))
        company = [rng.choice(COMPANY[trait].split()) for trait in PEOPLE[person].split()]
        text = [WORDS.index(word) for word in (person, *company)]
        texts.append([text[i] for i in rng.permutation(4)])
    return texts


@pytest.fixture(scope="module")
def trained() -> SkipGram:
    model = SkipGram(WORDS, 12, generator=mg.generator(0))
    optimizer = mg.optim.Adam(model.parameters(), lr=0.02)
    source = mg.generator(1)
    texts = sentences(1200, 0)
    for _ in range(4):
        for batch in skip_gram_batches(
            texts, len(WORDS), window=3, batch_size=128, generator=source
        ):
            loss = model(*batch)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def test_one_difference_leads_from_each_person_to_the_next(trained: SkipGram) -> None:
    """King is to queen as man is to woman, and so on: every such question among the eight."""
    traits = {person: words.split() for person, words in PEOPLE.items()}
    people = {tuple(words): person for person, words in traits.items()}
    right = asked = 0
    for a, b, c in permutations(PEOPLE, 3):
        changed = [i for i in range(3) if traits[a][i] != traits[b][i]]
        fits = all(traits[c][i] == traits[a][i] for i in changed)
        if not fits or len(changed) == 3:
            continue
        wanted = [traits[b][i] if i in changed else traits[c][i] for i in range(3)]
        asked += 1
        right += trained.analogy(a, b, c, k=1)[0][0] == people[tuple(wanted)]
    assert asked == 96  # 8·3·3 with one trait changed, 8·3·1 with two
    # A guess among the words that were not named would be right once in 23 times.
    assert right >= 90, right
    assert trained.analogy("man", "king", "woman", k=1)[0][0] == "queen"


def test_words_for_the_same_trait_are_neighbours(trained: SkipGram) -> None:
    for words in COMPANY.values():
        group = set(words.split())
        for word in group:
            assert {near for near, _ in trained.nearest(word, k=2)} == group - {word}


def test_cosines(trained: SkipGram) -> None:
    near = trained.nearest("king", k=100)
    assert len(near) == len(WORDS) - 1 and "king" not in dict(near)
    assert [c for _, c in near] == sorted((c for _, c in near), reverse=True)
    word, cosine = near[0]
    assert cosine == pytest.approx(trained.vector("king") @ trained.vector(word), rel=1e-5)
    assert np.linalg.norm(trained.vector(0)) == pytest.approx(1, rel=1e-5)
    np.testing.assert_array_equal(trained.vector("king"), trained.vector(0))


def test_loss_and_gradients() -> None:
    with mg.configure(dtype="float64"):
        model = SkipGram(6, 3, generator=mg.generator(0))
    rng = np.random.default_rng(0)
    for p in model.parameters():
        p.data = rng.standard_normal(p.shape)
    centre, context = np.array([0, 3, 3]), np.array([1, 3, 5])
    negatives = np.array([[1, 2], [0, 0], [4, 5]])
    v, u = (p.numpy() for p in model.parameters())
    want = 0.0
    for c, o, drawn in zip(centre, context, negatives, strict=True):
        want += np.log1p(np.exp(-u[o] @ v[c]))
        want += sum(np.log1p(np.exp(u[n] @ v[c])) for n in drawn)
    assert model(centre, context, negatives).item() == pytest.approx(want / 3, rel=1e-12)

    def loss(*values: Any) -> Any:
        state = dict(zip(["model.centre.weight", "model.context.weight"], values, strict=True))
        return call_with(Batch(model, context, negatives), state, centre)

    mg.testing.gradcheck(loss, v, u)


class Batch(mg.nn.Module):
    def __init__(self, model: SkipGram, context: Any, negatives: Any) -> None:
        super().__init__()
        self.model, self.rest = model, (context, negatives)

    def forward(self, centre: Any) -> Any:
        return self.model(centre, *self.rest)


def test_batches_are_the_pairs_within_the_window() -> None:
    texts = [[0, 1, 2, 3], [4], [], [5, 6]]
    near = {(a, b) for a, b in product(range(4), repeat=2) if 0 < abs(a - b) <= 1} | {
        (5, 6),
        (6, 5),
    }
    far = {(a, b) for a, b in product(range(4), repeat=2) if 0 < abs(a - b) <= 2} | near
    counts: dict[tuple[int, int], int] = {}
    for seed in range(40):
        batches = list(skip_gram_batches(texts, 7, window=2, negatives=3, batch_size=4,
                                         generator=mg.generator(seed)))  # fmt: skip
        assert [len(c) for c, _, _ in batches[:-1]] == [4] * (len(batches) - 1)
        pairs = [p for c, o, _ in batches for p in zip(c.tolist(), o.tolist(), strict=True)]
        assert near <= set(pairs) <= far and len(set(pairs)) == len(pairs)
        for pair in pairs:
            counts[pair] = counts.get(pair, 0) + 1
        assert all(n.shape == (len(c), 3) for c, _, n in batches)
    # A distance of 2 is reached by every second window.
    assert set(counts) == far
    assert all(counts[p] == 40 for p in near) and all(8 < counts[p] < 32 for p in far - near)
    assert list(skip_gram_batches([[1], []], 2)) == []


def test_negatives_follow_the_frequencies() -> None:
    texts = [[0] * 16 + [1], [2, 2]]
    drawn = np.concatenate(
        [n.ravel() for _, _, n in skip_gram_batches(texts, 4, negatives=200, window=5,
                                                    generator=mg.generator(0))]
    )  # fmt: skip
    found = np.bincount(drawn, minlength=4) / len(drawn)
    want = np.array([16, 1, 2, 0]) ** 0.75
    want /= want.sum()
    np.testing.assert_allclose(found, want, atol=5 * np.sqrt(0.25 / len(drawn)))
    assert found[3] == 0


def test_errors() -> None:
    model = SkipGram(["a", "b"], 3)
    with pytest.raises(InputError, match="no word 'c'"):
        model.nearest("c")
    with pytest.raises(InputError, match="no word 2"):
        model.vector(2)
    with pytest.raises(InputError, match="twice"):
        SkipGram(["a", "a"])
    with pytest.raises(ShapeError, match=r"\(2,\), \(1,\), \(2, 1\)"):
        model([0, 1], [1], [[0], [0]])
    with pytest.raises(ShapeError, match="0 to 1"):
        model([2], [1], [[0]])
    with pytest.raises(InputError, match="window.*got 0, 5, 256"):
        next(skip_gram_batches([[0, 1]], 2, window=0))
    for word in (7, -1):
        with pytest.raises(InputError, match=f"from 0 to 2; got .*{word}"):
            next(skip_gram_batches([[0, 1], [0, word]], 3))
    with pytest.raises(ShapeError, match=r"\[text\]"):
        next(skip_gram_batches([0, 1], 3))  # type: ignore[list-item]
