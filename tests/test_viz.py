"""What holds for all figures: none is left open, files are whole, wrong shapes are named."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import microgpt as mg
from microgpt import viz
from microgpt.viz.style import COLOURS, _matplotlib, limit, readable, shown
from tests.figures import pixels, probabilities, random

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")


def _flow():
    model = mg.models.MLP((9, 4, 3), generator=mg.generator(1))
    return viz.mlp_flow(model, random(3, 3), title="flow")


FIGURES = {
    "first_layer": lambda: viz.first_layer(random(6, 9), (3, 3), title="weights"),
    "conv_filters": lambda: viz.conv_filters(random(4, 2, 3, 3)),
    "feature_maps": lambda: viz.feature_maps(random(5, 4, 4), image=random(8, 8)),
    "mlp_flow": _flow,
    "attention_patterns": lambda: viz.attention_patterns(
        probabilities(2, 3, 3), ["a", "\n\t\r", " $b$"]
    ),
    "embedding_map": lambda: viz.embedding_map(
        random(9, 4), list("abcdefg$ "), groups=[1, 2, 3] * 3
    ),
    "cost_curve": lambda: viz.cost_curve({"one": np.linspace(2, 1, 700), "two": [3.0, 2.0]}),
    "training_curves": lambda: viz.training_curves([{"loss": 2.0}, {"loss": 1.0}]),
    "error_gallery": lambda: viz.error_gallery(random(3, 4, 4), [0, 1, 1], probabilities(3, 2)),
    "confusion_matrix": lambda: viz.confusion_matrix([0, 1], [0, 2], names=["a", "b", "$"]),
    "token_probabilities": lambda: viz.token_probabilities(
        probabilities(20), list("abcdefghijklmnopqr\n ")
    ),
    "shaded_text": lambda: viz.shaded_text(["to", " be", "\n", "or$"], [np.nan, 0.9, 0.1, 1e-9]),
}


# ---- all of them -----------------------------------------------------------------------------


def test_every_function_that_makes_a_figure_is_tried_here() -> None:
    graphs = {"Graph", "text_tree", "to_dot", "to_svg", "as_scalars"}
    others = {*graphs, "principal_components", "save", "styled"}
    assert set(FIGURES) == set(viz.__all__) - others


@pytest.mark.parametrize("name", FIGURES)
def test_figures_draw_themselves_and_belong_to_nobody(name, tmp_path) -> None:
    figure = FIGURES[name]()
    assert isinstance(figure, matplotlib.figure.Figure)
    image = pixels(figure)
    assert image.std() > 2, "something is to be seen"
    # Nothing is cut off: the outermost pixels are those of the background.
    for edge in (image[0], image[-1], image[:, 0], image[:, -1]):
        assert (edge == 255).all()
    path = viz.save(figure, tmp_path / "sub" / f"{name}.png", dpi=50)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_pyplot_is_neither_used_nor_changed() -> None:
    code = (
        "import sys, matplotlib, microgpt as mg\n"
        "before = matplotlib.rcParams.copy()\n"
        "figure = mg.viz.cost_curve({'a': [2.0, 1.0]})\n"
        "assert figure._repr_png_().startswith(b'\\x89PNG')\n"
        "assert matplotlib.rcParams.copy() == before\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "import matplotlib.pyplot as plt\n"
        "assert plt.get_fignums() == []\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_files_are_whole_or_untouched(tmp_path, monkeypatch) -> None:
    path = viz.save(viz.cost_curve({"a": [2.0, 1.0]}), tmp_path / "curve.svg")
    before = path.read_bytes()
    assert b"<svg" in before
    figure = viz.cost_curve({"b": [2.0, 1.0]})
    monkeypatch.setattr(figure, "savefig", lambda file, **_: file.write(b"half") and 1 / 0)
    with pytest.raises(ZeroDivisionError):
        viz.save(figure, path)
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["curve.svg"]


def test_without_matplotlib_the_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    _matplotlib.cache_clear()
    try:
        with pytest.raises(mg.errors.MissingExtraError, match=r"microgpt-autograd\[tutorials\]"):
            viz.first_layer(random(6, 9), (3, 3))
    finally:
        _matplotlib.cache_clear()


def test_tensors_arrays_and_modules_are_all_accepted() -> None:
    layer = mg.nn.Linear(9, 2)
    for weights in (layer, layer.weight, layer.weight.numpy(), layer.weight.tolist()):
        (first, _) = viz.first_layer(weights, (3, 3)).axes[0].images
        np.testing.assert_allclose(first.get_array(), layer.weight.numpy()[0].reshape(3, 3))


def test_the_colours_are_apart_in_brightness_for_those_who_see_no_hue() -> None:
    from matplotlib.colors import to_rgb

    blue, orange = (np.dot(to_rgb(c), [0.2126, 0.7152, 0.0722]) for c in COLOURS[:2])
    assert abs(blue - orange) > 0.05 and len(set(COLOURS)) == len(COLOURS)


# ---- errors ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: viz.first_layer(random(6, 9), (3, 4)), r"\(6, 9\); required:.*3·4 pixels"),
        (lambda: viz.first_layer(random(9), (3, 3)), r"\(9,\)"),
        (lambda: viz.conv_filters(random(4, 9)), r"\(4, 9\).*weight of a Conv2d"),
        (lambda: viz.feature_maps(random(2, 3, 4, 4)), r"choose one image: maps\[i\]"),
        (lambda: viz.feature_maps(random(3, 4, 4), image=random(2, 4, 4)), r"\(2, 4, 4\)"),
        (lambda: viz.error_gallery(random(2, 4, 4), [0], random(2, 2)), r"labels \(1,\)"),
        (lambda: viz.error_gallery(random(2, 16), [0, 1], random(2, 2)), r"images \(2, 16\)"),
        (lambda: viz.confusion_matrix([0, 1], [0]), r"labels \(2,\), answers \(1,\)"),
        (lambda: viz.attention_patterns([]), "no layers; required"),
        (lambda: viz.attention_patterns(random(3)), r"\(3,\); required: \(heads"),
        (lambda: viz.attention_patterns(random(2, 4, 3, 3)), r"choose one sequence"),
        (lambda: viz.attention_patterns(random(2, 3, 3), ["a"]), "1 tokens.*required: 3"),
        (lambda: viz.attention_patterns(random(2, 3, 4), ["a"] * 3), "keys of cross-attention"),
        (
            lambda: viz.attention_patterns([random(2, 3, 3), random(1, 3, 3)]),
            "same shape for all layers",
        ),
        (lambda: viz.embedding_map(random(3, 4), ["a"]), "3 vectors and 1 words"),
        (lambda: viz.embedding_map(random(1, 4), ["a"]), r"\(1, 4\)"),
        (lambda: viz.token_probabilities([0.5, 0.5], ["a"]), r"\(2,\) for 1 tokens"),
        (lambda: viz.token_probabilities(np.eye(2), ["a", "b"]), r"probabilities\[-1\]"),
        (lambda: viz.shaded_text(["a", "b"], [0.5]), r"\(1,\) for 2 tokens"),
        (lambda: viz.mlp_flow(mg.models.MLP((4, 2)), random(5)), r"\(5,\).*4 features"),
        (lambda: viz.mlp_flow(mg.models.MLP((4, 2)), random(2, 4)), r"\(2, 4\).*one input"),
        (lambda: viz.mlp_flow(mg.models.MLP((4, 2)), random(4), labels="abc"), "3 labels for 2"),
        (lambda: viz.mlp_flow(mg.models.MLP((4, 2)), random(4), shape=(3, 3)), r"\(3, 3\)"),
    ],
)
def test_wrong_shapes_are_named(call, message) -> None:
    with pytest.raises(mg.errors.ShapeError, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: viz.confusion_matrix([0, -1], [0, 0]), "from -1 to 0"),
        (lambda: viz.confusion_matrix([0, 2], [0, 0], names=["a", "b"]), "one of 2 names"),
        (lambda: viz.cost_curve({"a": []}), "'a'.*one cost per step"),
        (lambda: viz.confusion_matrix([0.0, np.nan], [0, 1]), "labels .*nan.*whole numbers"),
        (lambda: viz.confusion_matrix([0, 1], ["a", "b"]), "answers .*'a'.*whole numbers"),
        (lambda: viz.confusion_matrix([0, 10**6], [0, 1]), "1,000,001 classes; required: at most"),
        (
            lambda: viz.error_gallery(random(2, 4, 4), [0, 5], np.eye(2)),
            "labels from 0 to 5 and probabilities of 2 classes; required: labels from 0 to 1",
        ),
        (lambda: viz.token_probabilities([0.5, 0.5], "ab", chosen=2), "chosen is 2.*0 to 1"),
        (lambda: viz.cost_curve({}), "no curve; required: {name"),
        (lambda: viz.cost_curve({"a": [np.nan, np.inf]}), "none of the 2 values of 'a' is finite"),
        (lambda: viz.training_curves([]), "holds no numbers"),
        (lambda: viz.training_curves(["loss"]), "row 0 of the log is a str; required: mappings"),
        (lambda: viz.embedding_map(np.full((5, 3), np.nan), list("abcde")), "rows 0, 1, 2, 3, 4;"),
        (
            lambda: viz.embedding_map([[1.0, 2.0]] * 8 + [[np.inf, 0.0]], list("abcdefghi")),
            "1 of 9 vectors hold NaN or infinity: rows 8;",
        ),
        (lambda: viz.attention_patterns(-np.ones((1, 2, 2))), "down to -1.*softmax first"),
        (lambda: viz.shaded_text(["a"], [0.5], columns=1), "at least 2; got 1"),
        (lambda: viz.token_probabilities([2.0, -1.0], ["a", "b"]), "softmax"),
        (lambda: viz.token_probabilities([0.3, 0.3], ["a", "b"]), "the sum is 0.6"),
        (lambda: viz.shaded_text(["a"], [-2.0]), "softmax"),
        (lambda: viz.embedding_map(random(2, 2), ["a", "b"], arrows=[("a", "c")]), r"\['c'\]"),
        (lambda: viz.mlp_flow(mg.models.MLP((4, 2)), random(4), most=1), "at least 2; got 1"),
    ],
)
def test_wrong_values_are_named(call, message) -> None:
    with pytest.raises(mg.errors.InputError, match=message):
        call()


def test_a_log_of_another_kind_is_named() -> None:
    with pytest.raises(mg.errors.InputTypeError, match="got a int; required: a History"):
        viz.training_curves(5)


# ---- style -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "label"),
    [(" the", "␣the"), ("\n", "↵"), (b"\xc3\xa9", "é"), (b"\xff", "�"), ("", "∅"), (7, "7"),
     ("$x$", r"\$x\$"), ("\r\x00", r"\r\x00")],
)  # fmt: skip
def test_labels_of_tokens(token, label) -> None:
    assert shown(token) == label


def test_colour_limits_of_odd_values() -> None:
    assert limit(np.zeros(3)) == 1.0
    assert limit(np.array([np.nan, np.inf, -2.0])) == 2.0
    assert limit(np.append(np.zeros(1000), 5.0)) == 5.0, "nearly all are 0"


def test_labels_are_turned_when_they_would_touch() -> None:
    assert readable(["long label"] * 3, room=20)[2]
    assert not readable(["a"] * 3, room=20)[2]
