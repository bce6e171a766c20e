"""The encoder–decoder transformer, and the English and French that it learns from."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import microgpt as mg
from microgpt import data
from microgpt.data import french
from microgpt.data.translation import END, PAD, START, Words, alignment, exact_match, joined
from microgpt.errors import InputError, ShapeError
from microgpt.models import Seq2Seq

RNG = np.random.default_rng(0)
SOURCE = np.array([[3, 4, 5, 6], [6, 3, PAD, PAD], [5, PAD, PAD, PAD]])
TARGET = np.array([[START, 4, 5, 6, END], [START, 3, END, PAD, PAD], [START, 6, 3, END, PAD]])


def small(**options: float) -> Seq2Seq:
    return Seq2Seq(7, 8, 8, 2, 2, generator=mg.generator(0), **options)  # type: ignore[arg-type]


# ---- the model -------------------------------------------------------------------------------


def test_every_parameter_learns() -> None:
    model = small()
    model.loss(mg.tensor(SOURCE), mg.tensor(TARGET)).backward()
    for name, p in model.named_parameters():
        assert p.grad is not None and np.any(p.grad.numpy() != 0), name


def test_padding_of_source_and_target_changes_nothing() -> None:
    with mg.configure(dtype="float64"):
        model = small()
        whole = model(mg.tensor(SOURCE), mg.tensor(TARGET)).numpy()
        alone = model(mg.tensor(SOURCE[1:2, :2]), mg.tensor(TARGET[1:2, :3])).numpy()
        np.testing.assert_allclose(whole[1:2, :3], alone, atol=1e-12)
        losses = [
            model.loss(mg.tensor(SOURCE[i : i + 1, :s]), mg.tensor(TARGET[i : i + 1, :t])).item()
            for i, (s, t) in enumerate(((4, 5), (2, 3), (1, 4)))
        ]
        counts = np.array([4, 2, 3])
        both = model.loss(mg.tensor(SOURCE), mg.tensor(TARGET)).item()
        assert both == pytest.approx((losses * counts).sum() / counts.sum(), rel=1e-10)


def test_a_target_token_sees_those_before_it_and_all_of_the_source() -> None:
    with mg.configure(dtype="float64"):
        model = small()
        y = model(mg.tensor(SOURCE), mg.tensor(TARGET)).numpy()
        later, front = TARGET.copy(), SOURCE.copy()
        later[0, 2] = 7
        z = model(mg.tensor(SOURCE), mg.tensor(later)).numpy()
        np.testing.assert_allclose(z[0, :2], y[0, :2], atol=1e-12)
        assert np.all(np.abs(z[0, 2:] - y[0, 2:]).max(-1) > 1e-6)
        front[0, 3] = 3
        z = model(mg.tensor(front), mg.tensor(TARGET)).numpy()
        assert np.all(np.abs(z[0] - y[0]).max(-1) > 1e-9)
        np.testing.assert_allclose(z[1:], y[1:], atol=1e-12)


def test_patterns_of_cross_attention_come_on_request() -> None:
    model = small()
    logits, patterns = model(mg.tensor(SOURCE), mg.tensor(TARGET), need_weights=True)
    assert logits.shape == (3, 5, 8) and len(patterns) == 2
    for layer in patterns:
        cross = layer["cross"].numpy()
        assert cross.shape == (3, 2, 5, 4) and layer["self"].shape == (3, 2, 5, 5)
        np.testing.assert_allclose(cross.sum(-1), 1, rtol=1e-5)
        assert not cross.transpose(0, 3, 1, 2)[SOURCE == PAD].any()


def test_translating_with_caches_is_taking_the_likeliest_token_again_and_again() -> None:
    with mg.configure(dtype="float64"):
        model = small(dropout=0.3)
        found = model.translate(mg.tensor(SOURCE), max_length=6)
        assert model.training and model.decoder.layers[0].training
        model.eval()
        for row, text in zip(SOURCE, found, strict=True):
            ids = [START]
            for _ in range(6):
                logits = model(mg.tensor(row[None]), mg.tensor([ids])).numpy()[0, -1]
                ids.append(int(logits.argmax()))
                if ids[-1] == END:
                    ids.pop()
                    break
            assert text == ids[1:]
        with pytest.raises(InputError, match="max_length 0"):
            model.translate(mg.tensor(SOURCE), max_length=0)


def test_ids_of_another_vocabulary_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"Embedding\(7, 8\).*required: 0 to 6"):
        small()(mg.tensor([[7]]), mg.tensor([[START]]))


def test_shapes_that_do_not_fit_are_those_of_the_model() -> None:
    model = small()
    source, target = mg.tensor(SOURCE), mg.tensor(TARGET)
    with pytest.raises(ShapeError, match=r"^Seq2Seq was given source ids .*\(4,\).*ids\[None\]"):
        model(source[0], target)
    with pytest.raises(ShapeError, match=r"^Seq2Seq was given target ids .*\(5,\)"):
        model(source, target[0])
    with pytest.raises(ShapeError, match=r"^Seq2Seq was given sources .*\(3, 4\).*\(2, 5\)"):
        model(source, target[:2])
    with pytest.raises(ShapeError, match=r"^Seq2Seq was given source ids .*\(2, 0\)"):
        model(source[:2, :0], target[:2])
    with pytest.raises(ShapeError, match="^Seq2Seq was given source ids"):
        model.translate(source[0])


def test_translating_gives_every_part_its_mode_back() -> None:
    model = small(dropout=0.5)
    model.encoder.eval()
    modes = [m.training for _, m in model.named_modules()]
    assert model.translate(mg.tensor(SOURCE), 5) == model.translate(mg.tensor(SOURCE), 5)
    assert [m.training for _, m in model.named_modules()] == modes and len(set(modes)) == 2


def test_it_learns_to_turn_a_sequence_round() -> None:
    rng = np.random.default_rng(1)
    model = Seq2Seq(8, 8, 16, 2, 1, generator=mg.generator(1))
    optimizer = mg.optim.AdamW(model.parameters(), lr=1e-2)

    def drawn(n: int) -> tuple[np.ndarray, np.ndarray]:
        source, target = np.zeros((n, 4), np.int64), np.zeros((n, 6), np.int64)
        for s, t in zip(source, target, strict=True):
            length = rng.integers(1, 5)
            s[:length] = rng.integers(3, 8, length)
            t[: length + 2] = [START, *s[:length][::-1], END]
        return source, target

    for _ in range(120):
        source, target = drawn(32)
        loss = model.loss(mg.tensor(source), mg.tensor(target))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    source, target = drawn(100)
    want = [[i for i in row if i > END] for row in target.tolist()]
    assert exact_match(model.translate(mg.tensor(source)), want) > 0.5  # by chance: 1 in 100


# ---- the language ----------------------------------------------------------------------------


def test_numbers_are_those_of_french() -> None:
    def said(n: int, feminine: bool = False) -> str:
        return joined([word for word, _ in french.french_number(n, feminine)])

    for n, want in {
        1: "un", 16: "seize", 17: "dix-sept", 20: "vingt", 21: "vingt et un", 22: "vingt-deux",
        61: "soixante et un", 69: "soixante-neuf", 70: "soixante-dix", 71: "soixante et onze",
        72: "soixante-douze", 77: "soixante-dix-sept", 80: "quatre-vingts",
        81: "quatre-vingt-un", 90: "quatre-vingt-dix", 91: "quatre-vingt-onze",
        97: "quatre-vingt-dix-sept", 99: "quatre-vingt-dix-neuf",
    }.items():  # fmt: skip
        assert said(n) == want
    assert said(31, True) == "trente et une" and said(81, True) == "quatre-vingt-une"
    assert len({said(n) for n in range(1, 100)}) == 99
    assert len({joined(french.english_number(n)) for n in range(1, 100)}) == 99


@pytest.fixture(scope="module")
def drawn() -> list[french.Sentence]:
    rng = np.random.default_rng(3)
    return [french.sentence(rng) for _ in range(12_000)]


@pytest.mark.parametrize(
    ("english", "want"),
    [
        ("she does not buy them", "elle ne les achète pas"),
        ("I like you", "je t'aime"),
        ("I do not hear him", "je ne l'entends pas"),
        ("does not buy a", "n'achète pas d"),
        ("old tree", "vieil arbre"),
        ("old car", "vieille voiture"),
        ("white houses", "maisons blanches"),
        ("my picture", "mon image"),
        ("my letter", "ma lettre"),
        ("new picture", "nouvelle image"),
        ("the tree", "l'arbre"),
        ("on the first of May", "le premier mai"),
        ("at one o'clock", "à une heure"),
        ("next Monday", "lundi prochain"),
    ],
)
def test_sentences_are_right(english: str, want: str, drawn: list[french.Sentence]) -> None:
    texts = [(f" {joined(s.english)} ", f" {joined(s.french)} ") for s in drawn]
    found = [theirs for ours, theirs in texts if f" {english} " in ours]
    assert found, "12,000 sentences have it"
    assert all(want in text for text in found), found


def test_french_words_stand_for_english_ones(drawn: list[french.Sentence]) -> None:
    pairs: dict[str, set[str]] = {}
    for s in drawn[:4000]:
        assert len(s.french) == len(s.sources)
        for word, place in zip(s.french, s.sources, strict=True):
            if place is not None:
                pairs.setdefault(word, set()).add(s.english[place])
        adjective = [(i, p) for i, p in enumerate(s.sources) if s.french[i].startswith("roug")]
        for i, place in adjective:
            assert s.sources[i - 1] == place + 1, "an adjective stands behind its noun"
    assert pairs["rouge"] == {"red"} and pairs["pas"] == {"not"} and pairs["mai"] == {"May"}
    assert pairs["-sept"] == {"-seven", "-seventh", "seventeen", "seventeenth"}


def test_the_vocabulary_is_that_of_the_sentences(drawn: list[french.Sentence]) -> None:
    known = french.vocabulary()
    for i in range(2):
        assert known[i] == {word for s in drawn for word in s[i]}


def test_the_same_seed_gives_the_same_sentences_and_the_test_is_new() -> None:
    first, again = data.translation(300, 50, seed=1), data.translation(300, 50, seed=1)
    assert first.train == again.train and first.test == again.test
    assert first.train != data.translation(300, 50, seed=2).train
    english = [s.english for s in (*first.train, *first.test)]
    assert len(set(english)) == 350
    assert [len(first.train), len(first.test)] == [300, 50]
    with pytest.raises(InputError, match="got 0, 5"):
        data.translation(0, 5)


def test_arrays_have_starts_ends_and_padding() -> None:
    sentences = data.translation(40, 10)
    source, target = sentences.arrays(sentences.test)
    for s, row, written in zip(sentences.test, source, target, strict=True):
        assert sentences.english.decode(row) == list(s.english)
        assert written[0] == START and sentences.french.decode(written) == list(s.french)
        assert written[len(s.french) + 1] == END and not written[len(s.french) + 2 :].any()
    assert all(a < b for a, b in pairwise(sentences.french.words[3:]))
    with pytest.raises(InputError, match=r"does not have bicycle.*data\.translation"):
        sentences.english.encode(["the", "bicycle"])
    assert Words(["b", "a", "a"]).words[3:] == ["a", "b"]


def test_scores() -> None:
    assert exact_match([[1, 2], [3]], [[1, 2], [4]]) == 0.5
    with pytest.raises(InputError, match="got 1 and 2"):
        exact_match([[1]], [[1], [2]])
    pair = french.Sentence(("seventy", "-one"), ("soixante", "et", "onze"), (0, None, 1))
    assert alignment(np.array([[[1.0, 0.0], [1.0, 0.0], [0.2, 0.8]]]), [pair]) == 1.0
    assert alignment(np.array([[[0.0, 1.0], [1.0, 0.0], [0.2, 0.8]]]), [pair]) == 0.5
