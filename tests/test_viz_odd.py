"""Pictures of odd things: what is not finite, long labels, foreign characters, a great many."""

from __future__ import annotations

import warnings
from itertools import pairwise

import numpy as np
import pytest

import microgpt as mg
from microgpt import viz
from microgpt.viz import embeddings
from microgpt.viz.montage import MANY, WIDEST
from microgpt.viz.style import LONGEST, ODD, cells, fallback, noted, shown
from tests.figures import pixels, probabilities, random, texts

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")

YELLOW = np.array([0xF0, 0xE4, 0x42])


def yellow(figure) -> int:
    """How many pixels are yellow."""
    return int((pixels(figure) == YELLOW).all(axis=-1).sum())


# ---- not finite --------------------------------------------------------------------------------


def circles(figure) -> list[np.ndarray]:
    """Colours of the neurons, layer by layer; without the hatching."""
    from matplotlib.collections import PatchCollection

    found = [c for c in figure.axes[0].collections if isinstance(c, PatchCollection)]
    return [c.get_facecolor() for c in found if c.get_hatch() is None]


def test_neurons_that_are_not_finite_are_marked() -> None:
    model = mg.models.MLP((4, 3, 2), generator=mg.generator(1))
    figure = viz.mlp_flow(model, np.full(4, np.nan, dtype=np.float32), labels="ab")
    odd = matplotlib.colors.to_rgba(ODD)
    assert all((layer == odd).all() for layer in circles(figure))
    assert texts(figure.axes[0]).count("NaN") == 5  # inputs have no numbers
    assert "yellow circle, dotted line: NaN or infinite" in texts(figure.axes[0])
    assert not any(t.get_fontweight() == "bold" for t in figure.axes[0].texts), "no answer"
    assert yellow(figure) > 100
    one = viz.mlp_flow(model, np.array([0.5, np.inf, 0.1, 0.2], dtype=np.float32))
    assert [(c == odd).all() for c in circles(one)[0]] == [False, True, False, False]
    whole = viz.mlp_flow(model, np.ones(4, dtype=np.float32))
    assert yellow(whole) == 0 and not any("NaN" in t for t in texts(whole.axes[0]))


def test_infinite_logits_and_weights_are_drawn() -> None:
    model = mg.nn.Sequential(mg.nn.Linear(2, 2))
    model[0].weight.data = np.array([[np.inf, 1.0], [1.0, np.nan]], dtype=np.float32)
    figure = viz.mlp_flow(model, [1.0, 1.0])
    (lines,) = [c for c in figure.axes[0].collections if type(c).__name__ == "LineCollection"]
    dotted = [pattern is not None for _, pattern in lines.get_linestyle()]
    assert dotted == [False, False, True, True], "those on top"
    pixels(figure)


def test_the_neurons_that_are_not_finite_are_shown_first() -> None:
    model = mg.nn.Sequential(mg.nn.Linear(40, 2))
    x = np.ones(40, dtype=np.float32)
    x[7] = np.nan
    odd = matplotlib.colors.to_rgba(ODD)
    inputs = circles(viz.mlp_flow(model, x, most=4))[0]
    assert len(inputs) == 4 and (inputs == odd).all(axis=1).sum() == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_attention_that_is_not_finite_leaves_the_scale_alone(bad) -> None:
    patterns = probabilities(2, 3, 3)
    whole = viz.attention_patterns(patterns)
    assert whole.get_suptitle() == "" and yellow(whole) == 0
    patterns[0, 1, 2] = bad
    figure = viz.attention_patterns(patterns, title="heads")
    image = figure.axes[0].images[0]
    assert image.get_clim() == (0, patterns[np.isfinite(patterns)].max())
    assert figure.get_suptitle() == "heads\nyellow: NaN or infinite" and yellow(figure) > 50
    nothing = viz.attention_patterns(np.full((1, 2, 2), bad))
    assert nothing.axes[0].images[0].get_clim() == (0, 1) and yellow(nothing) > 50


def test_weights_that_are_not_finite_are_yellow() -> None:
    weights = random(3, 4)
    weights[1, 2] = np.nan
    assert yellow(viz.first_layer(weights, (2, 2))) > 50
    assert yellow(viz.first_layer(np.vstack([weights] * MANY), (2, 2))) > 50, "of many, too"
    assert noted("a", np.ones(2)) == "a" and noted("", np.array([np.inf])).startswith("yellow")


def test_costs_that_are_not_finite_are_left_out_of_means_and_limits() -> None:
    figure = viz.cost_curve({"a": [1, 2, np.inf, 3] * 100}, window=4)
    ax = figure.axes[0]
    np.testing.assert_allclose(ax.lines[1].get_ydata(), 2.0)
    low, high = ax.get_ylim()
    assert 0 < low < 1 and 3 < high < 10
    assert ax.get_legend().get_texts()[0].get_text() == "a (100 of 400 not finite)"
    gap = np.concatenate([np.ones(100), np.full(50, np.nan), np.ones(100)])
    mean = viz.cost_curve({"a": gap}, window=10).axes[0].lines[1].get_ydata()
    assert np.isnan(mean).sum() == 41, "windows with nothing in them"
    pixels(figure)


def test_a_single_cost_is_a_point_and_steps_are_whole() -> None:
    figure = viz.cost_curve({"a": [2.0]})
    ax = figure.axes[0]
    assert ax.lines[0].get_marker() == "o"
    pixels(figure)
    assert [t for t in ax.get_xticks() if 0.5 < t < 1.5] == [1.0]
    many = viz.cost_curve({"a": np.linspace(2, 1, 900)}).axes[0]
    assert {line.get_marker().lower() for line in many.lines} == {"none"}


def test_the_axis_of_costs_has_numbers_within_a_decade() -> None:
    figure = viz.cost_curve({"a": np.linspace(3.0, 1.2, 200)})
    pixels(figure)
    ax = figure.axes[0]
    low, high = ax.get_ylim()
    ticks = [*ax.get_yticks(), *ax.get_yticks(minor=True)]
    assert sum(low < t < high for t in ticks) >= 2


def test_a_log_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(mg.errors.InputError, match=r"no file .*log\.jsonl; required: the folder"):
        viz.training_curves(tmp_path)
    with pytest.raises(mg.errors.InputError, match="no file .*nowhere; required"):
        viz.training_curves(tmp_path / "nowhere")
    (tmp_path / "log.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(mg.errors.InputError, match="is no text"):
        viz.training_curves(tmp_path)


# ---- labels ------------------------------------------------------------------------------------

LONG = ["x" * 200, "\n", "<|endoftext|>", " the"]
SHORT = ["x" * 19 + "…", "↵", "<|endoftext|>", "␣the"]


def test_labels_are_short_everywhere() -> None:
    assert [shown(t) for t in LONG] == SHORT
    assert texts(viz.attention_patterns(probabilities(1, 4, 4), LONG).axes[0])[1:] == SHORT * 2
    assert sorted(texts(viz.embedding_map(random(4, 3), LONG).axes[0])) == sorted(SHORT)
    bars = viz.token_probabilities([0.4, 0.3, 0.2, 0.1], LONG).axes[0]
    assert [t.get_text() for t in bars.get_yticklabels()] == SHORT
    names = [*SHORT[:3], " the"]  # names are no tokens: their spaces stay
    matrix = viz.confusion_matrix([0, 1, 2, 3], [0, 1, 2, 3], names=LONG).axes[0]
    assert [t.get_text() for t in matrix.get_xticklabels()] == names
    flow = viz.mlp_flow(mg.models.MLP((2, 4)), [1.0, 1.0], labels=LONG).axes[0]
    assert texts(flow)[-4:] == names
    groups = viz.embedding_map(random(2, 3), "ab", groups=LONG[:2]).axes[0].get_legend()
    assert [t.get_text() for t in groups.get_texts()] == SHORT[:2]


@pytest.mark.parametrize(
    ("text", "places"),
    [("cat", 3), ("日本語", 6), ("e\u0301", 1), ("ｗ", 2), ("…", 1), ("é", 1), ("", 0)],
)
def test_places_that_a_text_takes(text, places) -> None:
    assert cells(text) == places


def test_wide_characters_count_twice_in_a_label() -> None:
    assert shown("猫" * 10) == "猫" * 10 and shown("猫" * 11) == "猫" * 9 + "…"
    assert cells(shown("a猫" * 50)) in (LONGEST - 1, LONGEST)
    assert shown("$" * 30).count(r"\$") == LONGEST - 1, "escapes are not seen"


def test_names_need_not_fit_beside_the_matrix() -> None:
    figure = viz.confusion_matrix([0, 1, 1], [0, 1, 0], names=["x" * 80, "a rather long name"])
    image = pixels(figure)
    for edge in (image[0], image[-1], image[:, 0], image[:, -1]):
        assert (edge == 255).all()
    ax = figure.axes[0]
    assert ax.get_window_extent().width > 0.4 * figure.dpi, "room for the matrix itself"


# ---- characters --------------------------------------------------------------------------------


def test_the_fonts_that_are_there_are_used_in_the_order_of_the_list() -> None:
    assert fallback(["IPAGothic", "Other", "Noto Sans CJK SC"]) == ["Noto Sans CJK SC", "IPAGothic"]
    assert fallback(["DejaVu Sans"]) == []


def test_of_characters_without_a_font_there_is_one_clear_note() -> None:
    # No font has characters of the private use area.
    figure = viz.token_probabilities([0.5, 0.5], ["\U000f1234", "\U000f1235"])
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == [
        r"\U000f1234",
        r"\U000f1235",
    ]
    figure.suptitle("\U000f1234\U000f1235")
    with pytest.warns(UserWarning, match="no installed font has the characters") as caught:
        pixels(figure)
    assert len(caught) == 1 and "Noto Sans CJK" in str(caught[0].message)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels(figure)  # once is enough


def test_other_warnings_of_a_drawing_are_passed_on() -> None:
    figure = viz.cost_curve({"a": [2.0, 1.0]})
    figure.axes[0].draw = lambda renderer: warnings.warn("something else", stacklevel=1)
    with pytest.warns(UserWarning, match="something else"):
        pixels(figure)


# ---- shaded text -------------------------------------------------------------------------------


def boxes(ax) -> list[tuple[float, float, float]]:
    """Line, start and end of every shading."""
    (found,) = ax.collections
    corners = [path.vertices for path in found.get_paths()]
    return [(round(c[0, 1] + 0.42), c[:, 0].min(), c[:, 0].max()) for c in corners]


@pytest.mark.parametrize("dpi", [60, 80, 110, 150])
def test_texts_are_as_wide_as_their_shading(dpi) -> None:
    tokens = ["x" * 500, "<b>&", "W" * 30, "i" * 30, "é" * 40]
    figure = viz.shaded_text(tokens, [0.1, 0.5, 0.01, 0.2, 0.9])
    figure.set_dpi(dpi)
    pixels(figure)
    ax = figure.axes[0]
    character = ax.bbox.width / 72
    for text in ax.texts:
        width = text.get_window_extent().width
        assert abs(width - len(text.get_text()) * character) < character, text.get_text()
        assert width <= ax.bbox.width + character


def test_shadings_neither_overlap_nor_leave_the_line() -> None:
    tokens = [
        "日本語",
        " and ",
        "W" * 100,
        "é",
        "e\u0301",
        "\xa0\r",
        b"\xff",
        "\t",
        "",
        "\n\n",
        "猫" * 30,
    ]
    ax = viz.shaded_text(tokens, np.linspace(0.1, 0.9, len(tokens)), columns=21).axes[0]
    found = boxes(ax)
    for (line, _, end), (after, start, _) in pairwise(found):
        assert after > line or start == end, "one after the other"
    assert all(0 <= start < end <= 21 for _, start, end in found)
    assert found[0] == (0, 0, 6), "wide characters take two places"
    assert "e\u0301" in "".join(texts(ax))


# ---- very many ---------------------------------------------------------------------------------


def test_large_confusion_matrices_have_a_scale_instead_of_numbers() -> None:
    labels = np.arange(3100) % 31
    figure = viz.confusion_matrix(labels, labels)
    assert texts(figure.axes[0]) == [] and len(figure.axes) == 2
    assert figure.axes[1].get_ylabel() == "share of the label"
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), np.eye(31))
    smaller = viz.confusion_matrix(labels[:30], labels[:30])
    assert texts(smaller.axes[0]) == ["1"] * 30 and len(smaller.axes) == 1


def test_labels_of_a_hundred_classes_do_not_touch() -> None:
    labels = np.arange(1000) % 100
    figure = viz.confusion_matrix(labels, labels)
    pixels(figure)
    for ticks in (figure.axes[0].get_xticklabels(), figure.axes[0].get_yticklabels()):
        edges = [t.get_window_extent() for t in ticks]
        assert len(edges) > 20 and not any(a.overlaps(b) for a, b in pairwise(edges))


def test_many_images_are_a_single_one_of_the_same_colours() -> None:
    weights = random(MANY + 1, 6)
    ax = viz.first_layer(weights, (2, 3)).axes[0]
    (image,) = ax.images
    few = viz.first_layer(weights[:6], (2, 3)).axes[0]
    drawn = image.get_array()
    end = np.percentile(np.abs(weights), 99)
    expected = few.images[5].get_cmap()((weights[5].reshape(2, 3) + end) / (2 * end), bytes=True)
    places = [t.get_position()[0] - 1.5 for t in ax.texts]
    left = int(places[5])
    np.testing.assert_array_equal(drawn[0:2, left : left + 3], expected)
    assert len(texts(ax)) == MANY + 1 and (drawn[..., 3] == 0).any(), "nothing between them"


def test_pictures_of_many_heads_have_labels_at_the_border_and_a_size_for_a_screen() -> None:
    layers = [probabilities(12, 8, 8) for _ in range(12)]
    figure = viz.attention_patterns(layers, list("abcdefgh"))
    ax = figure.axes[0]
    assert len(ax.images) == 1 and figure.get_size_inches()[0] < WIDEST + 3
    assert texts(ax).count("a") == 24, "a row of labels below, a column beside"
    assert "layer 11, head 11" in texts(ax)


def test_of_very_many_words_those_without_room_have_no_label(monkeypatch) -> None:
    monkeypatch.setattr(embeddings, "MANY_WORDS", 30)
    figure = viz.embedding_map(np.zeros((40, 2)) + random(40, 2) / 100, ["word"] * 40)
    wide = viz.embedding_map(np.eye(40)[:, :2] + random(40, 2) / 1e4, ["longword"] * 40)
    for picture, word in ((figure, "word"), (wide, "longword")):
        written = texts(picture.axes[0]).count(word)
        left_out = [t for t in texts(picture.axes[0]) if t.endswith("no room for a label")]
        assert written + sum(int(t.split()[0]) for t in left_out) == 40
    assert left_out, "all at one place"
    assert texts(viz.embedding_map(np.eye(30), ["w"] * 30).axes[0]).count("w") == 30


def test_labels_keep_off_the_arrows() -> None:
    places = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 2.0], [3.0, 2.0], [-3.0, -4.0]])
    figure = viz.embedding_map(places, list("abcde"), arrows=[("a", "b"), ("c", "d")])
    pixels(figure)
    ax = figure.axes[0]
    drawn = {t.get_text(): t for t in ax.texts}
    for start, end in (("a", "b"), ("c", "d")):
        ends = ax.transData.transform([drawn[start].xy, drawn[end].xy])
        way = ends[0] + (ends[1] - ends[0]) * np.linspace(0, 1, 50)[:, None]
        for word in "abcde":
            assert not any(drawn[word].get_window_extent().contains(*point) for point in way)


def test_groups_beyond_the_colours_have_other_marks() -> None:
    ax = viz.embedding_map(random(8, 3), list("abcdefgh"), groups=list(range(8))).axes[0]
    first, *_, last = ax.collections
    assert (first.get_facecolor() == last.get_facecolor()).all()
    assert not np.array_equal(first.get_paths()[0].vertices, last.get_paths()[0].vertices)


def test_the_token_that_was_chosen_is_known_without_its_colour() -> None:
    ax = viz.token_probabilities([0.5, 0.3, 0.2], list("abc"), chosen=1).axes[0]
    assert [t for t in texts(ax) if "chosen" in t] == [" 30.0%  chosen"]


def test_thirty_curves_can_be_told_apart() -> None:
    figure = viz.cost_curve({f"run {i}": [2.0 + i, 1.0 + i] for i in range(28)})
    pixels(figure)
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(looks) == 28
    box = figure.axes[0].get_legend().get_window_extent()
    assert figure.bbox.x0 < box.x0 and box.x1 < figure.bbox.x1 and box.height < figure.bbox.height


def test_long_titles_are_wrapped() -> None:
    words = "a title that is a good deal longer than the picture under it is wide"
    for figure in (
        viz.confusion_matrix([0], [0], title=words),
        viz.first_layer(np.ones((1, 4)), (2, 2), title=words),
    ):
        image = pixels(figure)
        assert (image[:, 0] == 255).all() and (image[:, -1] == 255).all()


def test_classes_may_come_as_whole_floats() -> None:
    ax = viz.confusion_matrix(np.array([0.0, 1.0]), np.array([0.0, 0.0])).axes[0]
    assert texts(ax) == ["1", "1"] and ax.get_title() == "1 of 2 right (50.0%)"
