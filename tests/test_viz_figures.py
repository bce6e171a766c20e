"""What each figure shows is what was given."""

from __future__ import annotations

import json

import numpy as np
import pytest

import microgpt as mg
from microgpt import viz
from tests.figures import pixels, probabilities, random, texts

pytest.importorskip("matplotlib", reason="matplotlib is not installed")


# ---- layers ----------------------------------------------------------------------------------


def test_weights_are_shown_unchanged_on_one_symmetric_scale() -> None:
    weights = random(6, 12)
    ax = viz.first_layer(weights, (3, 4)).axes[0]
    assert len(ax.images) == 6 and texts(ax) == list("012345")
    for row, image in zip(weights, ax.images, strict=True):
        np.testing.assert_array_equal(image.get_array(), row.reshape(3, 4))
        low, high = image.get_clim()
        assert -low == high == np.percentile(np.abs(weights), 99)
        assert image.get_cmap().name == "RdBu"  # positive is the blue end


def test_filters_of_several_channels_are_rows() -> None:
    filters = random(4, 2, 3, 3)
    ax = viz.conv_filters(filters).axes[0]
    assert len(ax.images) == 8 and texts(ax)[:3] == ["0, 0", "0, 1", "1, 0"]
    np.testing.assert_array_equal(ax.images[5].get_array(), filters[2, 1])
    lefts = [image.get_extent()[0] for image in ax.images]
    assert lefts[0::2] == [0.0] * 4 and len(set(lefts[1::2])) == 1


def test_of_many_filters_some_are_shown_and_the_title_says_so() -> None:
    figure = viz.conv_filters(random(100, 1, 3, 3), most=9)
    assert len(figure.axes[0].images) == 9 and figure.get_suptitle() == "filters (9 of 100)"
    figure = viz.conv_filters(random(32, 16, 3, 3), most=64, title="conv2")
    assert figure.get_suptitle() == "conv2 (64 of 512)"


def test_the_filters_of_a_layer() -> None:
    conv = mg.nn.Conv2d(1, 3, 5)
    ax = viz.conv_filters(conv).axes[0]
    np.testing.assert_array_equal(ax.images[2].get_array(), conv.weight.numpy()[2, 0])


def test_feature_maps_beside_their_image() -> None:
    maps, image = random(5, 4, 4), random(8, 8)
    ax = viz.feature_maps(mg.tensor(maps[None]), image=image[None]).axes[0]
    assert texts(ax) == ["image", "0", "1", "2", "3", "4"]
    np.testing.assert_array_equal(ax.images[0].get_array(), image)
    np.testing.assert_array_equal(ax.images[5].get_array(), maps[4])
    # The image fills the same frame, although it has more pixels.
    (left, right, *_), (start, end, *_) = (image.get_extent() for image in ax.images[:2])
    assert right - left == pytest.approx(end - start)


# ---- answers ---------------------------------------------------------------------------------


def test_the_worst_errors_come_first() -> None:
    images = random(4, 2, 2)
    outputs = [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.95, 0.05]]
    ax = viz.error_gallery(images, [0, 1, 0, 1], outputs, count=4).axes[0]
    assert texts(ax) == ["1 → 0  (0.95)", "1 → 0  (0.80)", "0 → 1  (0.60)"]
    for place, image in zip((3, 1, 2), ax.images, strict=True):
        np.testing.assert_array_equal(image.get_array(), images[place])
    assert texts(viz.error_gallery(images[:1], [0], outputs[:1]).axes[0]) == ["no errors"]


def test_rows_of_the_confusion_matrix_are_labels() -> None:
    labels, answers = [0, 0, 0, 1, 2, 2], [0, 1, 1, 1, 2, 0]
    ax = viz.confusion_matrix(labels, answers, names=["ant", "bee", "cat"]).axes[0]
    np.testing.assert_allclose(ax.images[0].get_array()[0], [1 / 3, 2 / 3, 0])
    placed = {(t.get_position()[1], t.get_position()[0]): t.get_text() for t in ax.texts}
    assert placed == {(0, 0): "1", (0, 1): "2", (1, 1): "1", (2, 0): "1", (2, 2): "1"}
    assert [t.get_text() for t in ax.get_yticklabels()] == ["ant", "bee", "cat"]
    assert ax.get_ylabel() == "label" and ax.get_title() == "3 of 6 right (50.0%)"
    by_outputs = viz.confusion_matrix(labels, np.eye(3)[answers]).axes[0]
    np.testing.assert_array_equal(by_outputs.images[0].get_array(), ax.images[0].get_array())


# ---- attention -------------------------------------------------------------------------------


def test_queries_are_rows_and_labels_stand_at_the_edge() -> None:
    patterns = probabilities(2, 2, 3)
    figure = viz.attention_patterns(patterns, ["I", " am"], keys=["ich", "bin", "da"])
    ax = figure.axes[0]
    for head, image in zip(patterns, ax.images, strict=True):
        np.testing.assert_array_equal(image.get_array(), head)
        assert image.get_clim() == (0, patterns.max())
    assert texts(ax) == ["head 0", "head 1", "I", "␣am", *["ich", "bin", "da"] * 2]
    queries = [t.get_position() for t in ax.texts[2:4]]
    assert [y for _, y in queries] == [0.5, 1.5] and all(x < 0 for x, _ in queries)
    keys = [t.get_position() for t in ax.texts[4:7]]
    assert [x for x, _ in keys] == [0.5, 1.5, 2.5] and all(y > 2 for _, y in keys)
    assert "query" in figure.get_supylabel() and "key" in figure.get_supxlabel()


def test_layers_are_rows_of_heads() -> None:
    layers = [mg.tensor(probabilities(1, 3, 4, 4)), probabilities(3, 4, 4)]
    ax = viz.attention_patterns(layers, list("abcd")).axes[0]
    assert len(ax.images) == 6
    tops = [image.get_extent()[3] for image in ax.images]
    assert tops[:3] == [0.0] * 3 and len(set(tops[3:])) == 1 and tops[3] > 4
    assert texts(ax)[:6] == [f"layer {i}, head {j}" for i in range(2) for j in range(3)]


def test_patterns_of_a_real_layer() -> None:
    layer = mg.nn.MultiHeadAttention(8, 2, generator=mg.generator(1))
    x = mg.tensor(random(1, 4, 8).astype(np.float32))
    _, pattern = layer(x, is_causal=True, need_weights=True)
    first, _ = viz.attention_patterns(pattern, list("abcd")).axes[0].images
    assert np.triu(first.get_array(), 1).max() == 0
    np.testing.assert_allclose(first.get_array().sum(axis=1), 1, rtol=1e-5)


def test_of_very_many_tokens_every_other_is_labelled() -> None:
    ax = viz.attention_patterns(probabilities(1, 200, 200), ["t"] * 200).axes[0]
    count = texts(ax).count("t")
    assert 40 < count < 400 and all(t.get_fontsize() >= 5.5 for t in ax.texts)


# ---- embeddings ------------------------------------------------------------------------------


def test_principal_components_keep_distances_and_order_variance() -> None:
    points = random(30, 5) * [5, 3, 1, 0.1, 0.1]
    places, share = viz.principal_components(points, 5)
    distances = lambda p: np.linalg.norm(p[:, None] - p[None], axis=-1)
    np.testing.assert_allclose(distances(places), distances(points), atol=1e-12)
    assert share.sum() == pytest.approx(1) and (np.diff(share) <= 0).all()
    np.testing.assert_allclose(places.var(axis=0) / points.var(axis=0).sum(), share)
    same = viz.principal_components(points[::-1], 5)[0]
    np.testing.assert_allclose(same[::-1], places, atol=1e-10)


def test_every_word_has_a_point_a_label_and_the_colour_of_its_group() -> None:
    words = ["man", "woman", "one", "two"]
    vectors = random(4, 6)
    figure = viz.embedding_map(
        vectors, words, groups=["p", "p", "n", "n"], arrows=[("man", "woman")]
    )
    ax = figure.axes[0]
    places, share = viz.principal_components(vectors)
    labels = {t.get_text(): t.xy for t in ax.texts}
    for word, place in zip(words, places, strict=True):
        np.testing.assert_allclose(labels[word], place)
    np.testing.assert_allclose(ax.collections[0].get_offsets(), places[:2])
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["p", "n"]
    assert f"{share[0]:.0%}" in ax.get_xlabel() and f"{share[1]:.0%}" in ax.get_ylabel()


def test_labels_that_can_keep_apart_do() -> None:
    angle = np.linspace(0, 2 * np.pi, 13)[:-1]
    circle = np.stack([3 * np.cos(angle), 2 * np.sin(angle)], axis=1)
    figure = viz.embedding_map(circle, [f"word{i}" for i in range(12)])
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure).draw()
    boxes = [t.get_window_extent() for t in figure.axes[0].texts]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])


# ---- curves ----------------------------------------------------------------------------------


def test_cost_curves_are_running_means_over_the_raw_values() -> None:
    costs = np.linspace(4.0, 1.0, 400)
    ax = viz.cost_curve({"a": costs, "b": costs / 2}, window=50, steps_per_epoch=100).axes[0]
    raw, mean = ax.lines[:2]
    np.testing.assert_allclose(raw.get_ydata(), costs)
    np.testing.assert_allclose(mean.get_ydata()[0], costs[:50].mean())
    assert mean.get_xdata()[0] == pytest.approx(25.5 / 100)
    assert ax.get_xlabel() == "epoch" and ax.get_yscale() == "log"
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b"]


def rows() -> list[dict[str, float | None]]:
    steps = [
        {"step": i, "epoch": 1, "loss": 3.0 / i, "lr": 0.1, "grad_norm": 1.0 + i, "seconds": i / 9,
         "tokens_per_second": 1e4}
        for i in range(1, 9)
    ]  # fmt: skip
    return [*steps, {"step": 8, "epoch": 1, "val_loss": 0.5, "val_accuracy": 0.9, "seconds": 1.0}]


def curves(figure) -> dict[str, list[tuple[float, float]]]:
    return {
        f"{ax.get_ylabel()}{i}": list(zip(line.get_xdata(), line.get_ydata(), strict=True))
        for ax in figure.axes
        for i, line in enumerate(ax.lines)
    }


def test_the_log_of_a_run_is_read_from_its_file(tmp_path) -> None:
    text = "\n".join(json.dumps(row) for row in rows()) + '\n{"step": 9, "lo'
    (tmp_path / "log.jsonl").write_text(text)
    wanted = {
        "loss0": [(i, 3.0 / i) for i in range(1, 9)],
        "loss1": [(8, 0.5)],
        "validation accuracy0": [(8, 0.9)],
        "gradient norm0": [(i, 1.0 + i) for i in range(1, 9)],
        "learning rate0": [(i, 0.1) for i in range(1, 9)],
    }
    for log in (tmp_path / "log.jsonl", tmp_path, str(tmp_path), rows()):
        figure = viz.training_curves(log)
        assert curves(figure) == wanted
        assert figure.axes[-1].get_xlabel() == "step"
        legend = figure.axes[0].get_legend().get_texts()
        assert [t.get_text() for t in legend] == ["training", "validation"]


def test_a_damaged_log_is_named_with_its_line(tmp_path) -> None:
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 2}\nnonsense\n{"step": 2}\n')
    with pytest.raises(mg.errors.InputError, match=r"log\.jsonl, line 2.*'nonsense'"):
        viz.training_curves(tmp_path)


def test_what_is_not_finite_does_not_stop_a_picture() -> None:
    bad = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": None}, {"step": 3, "loss": float("nan")}]
    assert curves(viz.training_curves(bad))["loss0"][0] == (1, 2.0)
    pixels(viz.training_curves(bad))


def test_the_history_of_a_training_that_was_run_here(tmp_path) -> None:
    x = random(40, 3).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    model = mg.nn.Linear(3, 2, generator=mg.generator(1))
    batches = mg.data.batches(x, y, batch_size=10, seed=1)
    history = mg.train.fit(
        model, mg.nn.CrossEntropyLoss(), mg.optim.SGD(model.parameters(), lr=0.1), batches,
        epochs=3, val=batches, progress=False,
    )  # fmt: skip
    drawn = curves(viz.training_curves(history))
    assert drawn["loss0"] == list(zip(range(1, 13), history.losses, strict=True))
    assert [step for step, _ in drawn["loss1"]] == [4, 8, 12]
    assert drawn["loss1"][-1][1] == history.epochs[-1]["val_loss"]


# ---- networks --------------------------------------------------------------------------------


def test_neurons_show_the_activations_of_the_model() -> None:
    model = mg.models.MLP((4, 3, 2), "sigmoid", generator=mg.generator(1))
    x = np.array([0.1, 0.9, 0.5, 0.3], dtype=np.float32)
    ax = viz.mlp_flow(model, x, labels=["no", "yes"]).axes[0]
    hidden = mg.sigmoid(model.layers[0](mg.tensor(x[None])))
    outputs = model(mg.tensor(x[None])).numpy()[0]
    values = [*hidden.numpy()[0], *outputs]
    assert texts(ax)[3:8] == [f"{v:.2f}"[1:] for v in values]
    bold = [t.get_text() for t in ax.texts if t.get_fontweight() == "bold"]
    assert bold == [["no", "yes"][int(outputs.argmax())]]
    circles = [c for c in ax.collections if type(c).__name__ == "PatchCollection"]
    assert [len(c.get_paths()) for c in circles] == [4, 3, 2]
    np.testing.assert_allclose(circles[2].get_facecolor()[:, 0], 1 - 0.92 * outputs, atol=1e-6)


def test_lines_are_weights_blue_for_positive() -> None:
    model = mg.nn.Sequential(mg.nn.Linear(2, 1))
    model[0].weight.data = np.array([[2.0, -1.0]], dtype=np.float32)
    ax = viz.mlp_flow(model, [1.0, 1.0]).axes[0]
    (lines,) = [c for c in ax.collections if type(c).__name__ == "LineCollection"]
    weak, strong = lines.get_colors()  # in the order of their strength
    assert strong[2] > strong[0] and weak[0] > weak[2]
    assert lines.get_linewidths()[1] > lines.get_linewidths()[0]


def test_large_layers_show_their_most_active_neurons() -> None:
    model = mg.models.MLP((100, 40, 10), "relu", generator=mg.generator(1))
    x = np.zeros((10, 10), dtype=np.float32)
    x[5, 2:6] = 1.0
    figure = viz.mlp_flow(model, x, most=8)
    ax = figure.axes[0]
    assert texts(ax)[:3] == ["8 of 100 inputs", "8 of 40 neurons", "8 of 10 outputs"]
    np.testing.assert_array_equal(ax.images[0].get_array(), x)
    hidden = np.maximum(model.layers[0](mg.tensor(x.reshape(1, -1))).numpy()[0], 0)
    kept = np.sort(np.argsort(-hidden)[:8])
    assert texts(ax)[3:11] == [
        f"{v:.2f}".replace("0.", ".", 1) if v < 0.995 else f"{v:.2f}" for v in hidden[kept]
    ]


def test_logits_are_shown_as_their_softmax() -> None:
    model = mg.nn.Sequential(mg.nn.Flatten(), mg.nn.Linear(4, 3), mg.nn.ReLU(), mg.nn.Linear(3, 2))
    x = random(2, 2).astype(np.float32)
    ax = viz.mlp_flow(model, x).axes[0]
    p = mg.softmax(model(mg.tensor(x[None]))).numpy()[0]
    assert texts(ax)[-5:-1] == [*[f"{v:.2f}"[1:] for v in p], "0", "1"]


def test_other_models_are_refused_by_name() -> None:
    with pytest.raises(mg.errors.InputTypeError, match="got a Linear"):
        viz.mlp_flow(mg.nn.Linear(2, 2), [1.0, 1.0])
    with pytest.raises(mg.errors.InputTypeError, match="begins with a ReLU"):
        viz.mlp_flow(mg.nn.Sequential(mg.nn.ReLU(), mg.nn.Linear(2, 2)), [1.0, 1.0])
    with pytest.raises(mg.errors.InputTypeError, match="no Linear layer"):
        viz.mlp_flow(mg.nn.Sequential(mg.nn.Flatten()), [1.0, 1.0])


# ---- text ------------------------------------------------------------------------------------


def test_bars_are_the_largest_probabilities_and_the_rest() -> None:
    p = [0.05, 0.5, 0.25, 0.2]
    ax = viz.token_probabilities(p, ["a", "b", "\n", " c"], top=2).axes[0]
    assert [bar.get_width() for bar in ax.patches] == pytest.approx([0.5, 0.25, 0.25])
    assert [t.get_text() for t in ax.get_yticklabels()] == ["b", "↵", "2 others"]
    assert [t.strip() for t in texts(ax)] == ["50.0%", "25.0%", "25.0%"]
    chosen = viz.token_probabilities(p, ["a", "b", "c", "d"], top=2, chosen=0).axes[0]
    assert [t.get_text() for t in chosen.get_yticklabels()] == ["b", "a", "2 others"]
    assert chosen.patches[1].get_facecolor() != chosen.patches[0].get_facecolor()
    assert len(viz.token_probabilities(p, list("abcd")).axes[0].patches) == 4, "no rest"


def test_unlikely_tokens_are_darker() -> None:
    figure = viz.shaded_text(["to", " be", " or\nnot", " to"], [0.99, 0.5, 0.001, 0.1], columns=8)
    ax = figure.axes[0]
    drawn = [(t.get_text(), t.get_position(), t.get_color()) for t in ax.texts]
    assert drawn == [
        ("to be", (0, 0), "#222222"), (" or", (5, 0), "white"),
        ("not", (0, 1), "white"), (" to", (3, 1), "#222222"),
    ]  # fmt: skip
    (boxes,) = ax.collections
    corners = [
        (*path.vertices.min(axis=0), path.vertices[:, 0].max()) for path in boxes.get_paths()
    ]
    expected = [(0, 0, 2), (2, 0, 5), (5, 0, 8), (0, 1, 3), (3, 1, 6)]
    assert corners == [(x, line - 0.42, end) for x, line, end in expected]
    brightness = boxes.get_facecolors()[:, :3].sum(axis=1)
    assert brightness[0] > brightness[1] > brightness[4] > brightness[2] == brightness[3]


def test_long_tokens_are_broken_at_the_line_length() -> None:
    ax = viz.shaded_text(["abcdefgh", "ij"], [0.5, 0.5], columns=3).axes[0]
    assert texts(ax) == ["abc", "def", "gh", "ij"]
    assert max(len(t) for t in texts(ax)) == 3
