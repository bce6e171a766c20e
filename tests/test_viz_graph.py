"""Graphs as SVG and text: all there, nothing on top of anything else, at any size."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import microgpt as mg
from microgpt import Scalar
from microgpt.viz import Graph, text_tree, to_dot, to_svg
from microgpt.viz.layout import BEND, arrange
from microgpt.viz.svg import shortened, text_width
from tests.svg import NS, Picture, check_picture, points


def example() -> tuple[Scalar, dict[str, Scalar]]:
    """a·b + c, its tanh, a reused value, constants on both sides."""
    a, b, c = Scalar(2.0), Scalar(-3.0), Scalar(10.0)
    d = a * b + c
    out = (d / 10.0).tanh() + a**2 - 1.0 / (b + a * a)
    out.backward()
    return out, {"a": a, "b": b, "c": c, "d": d, "out": out}


def network() -> tuple[mg.Tensor, mg.nn.Module, dict[str, mg.Tensor]]:
    model = mg.models.MLP((4, 3, 2), "relu", generator=mg.generator(1))
    x, y = mg.ones((5, 4)), mg.tensor([0, 1, 0, 1, 1])
    loss = mg.cross_entropy(model(x), y)
    return loss, model, {"x": x, "y": y, "loss": loss}


# ---- what is shown ---------------------------------------------------------------------------


def test_scalars_show_symbols_names_values_and_gradients() -> None:
    out, names = example()
    picture = Picture(to_svg(out, names=names))
    assert sorted(picture.titles) == sorted(
        ["a", "b", "c", "×", "d = +", "÷ 10", "tanh", "x ^ 2", "+", "×", "+", "1 ÷ x", "out = −"]
    )
    (a,) = [n for n in picture.nodes if picture.texts(n)[0] == "a"]
    assert picture.texts(a)[1:] == ["value 2", f"grad {names['a'].grad:.4g}".replace("-", "−")]
    assert "inverse" not in picture.tooltip("tanh") and "tanh" in picture.tooltip("tanh")


def test_edges_are_those_of_the_graph_and_end_at_their_boxes() -> None:
    out, names = example()
    graph = Graph(out, names=names)
    titles = [node.title for node in graph.nodes]
    edges = [(titles[i], titles[j]) for i, j in graph.edges]
    assert edges.count(("a", "×")) == 3, "a·b, and both inputs of a·a"
    assert ("d = +", "÷ 10") in edges and ("÷ 10", "tanh") in edges and ("c", "d = +") in edges
    picture = Picture(graph.svg)
    assert len(picture.edges) == len(graph.edges) == 16
    boxes = [picture.box(node) for node in picture.nodes]
    for edge, (i, j) in zip(picture.edges, graph.edges, strict=True):
        *_, last = path = points(edge)
        assert path[0] == pytest.approx((boxes[i][2], (boxes[i][1] + boxes[i][3]) / 2), abs=0.2)
        assert last[0] == pytest.approx(boxes[j][0], abs=0.2)
        assert boxes[j][1] < last[1] < boxes[j][3]
        assert edge.find(f"{NS}title").text.startswith(f"#{i} → #{j}")


def test_parameters_go_by_their_dotted_names_and_constants_are_there() -> None:
    loss, model, names = network()
    loss.backward(retain_graph=True)
    picture = Picture(to_svg(loss, params=model, names=names))
    assert set(picture.titles) == {
        "layers.0.weight", "layers.0.bias", "layers.1.weight", "layers.1.bias",
        "x", "y", "linear", "ReLU", "loss = cross_entropy",
    }  # fmt: skip
    grad = np.linalg.norm(model.layers[0].weight.grad.numpy())
    (weight,) = [n for n in picture.nodes if picture.texts(n)[0] == "layers.0.weight"]
    assert picture.texts(weight)[1:] == ["(3, 4)", f"|grad| {grad:.4g}"]
    assert "mean" in picture.tooltip("layers.0.weight")
    kinds = {picture.texts(n)[0]: n.get("class") for n in picture.nodes}
    assert kinds["x"] == "node constant" and kinds["layers.0.bias"] == "node leaf"


def test_a_graph_that_a_backward_pass_used_up_can_still_be_drawn() -> None:
    loss, model, names = network()
    loss.backward()
    picture = Picture(to_svg(loss, params=model, names=names))
    assert "layers.0.weight" in picture.titles and "loss = cross_entropy" in picture.titles
    assert "freed" in picture.tooltip("ReLU")


def test_values_that_a_rule_keeps_are_shown_and_gradients_on_request() -> None:
    a, b = (mg.tensor(v, dtype="float64", requires_grad=True) for v in (3.0, 4.0))
    product = (a * b).retain_grad()
    result = product.tanh() + product * 0.5
    result.backward(retain_graph=True)
    picture = Picture(to_svg(result, names={"a": a, "b": b, "ab": product}))
    found = {picture.texts(n)[0]: picture.texts(n)[1:] for n in picture.nodes}
    assert found["a"][0] == "value 3" and found["ab = ×"] == ["value 12", "grad 0.5"]
    assert found["tanh"] == ["value 1"] and "× 0.5" in found
    unnamed = Picture(to_svg(result))
    assert ["×", "grad 0.5"] in [unnamed.texts(n) for n in unnamed.nodes]


def test_reused_constants_are_one_node() -> None:
    x = mg.tensor([[1.0, 2.0]])
    w = mg.tensor([[1.0], [2.0]], requires_grad=True)
    y = ((x @ w) + (x @ w)).sum()
    assert [n.title for n in Graph(y, names={"x": x, "w": w}).nodes].count("x") == 1


@pytest.mark.parametrize("value", [Scalar(1.5), mg.tensor(1.5), mg.tensor(1.5, requires_grad=True)])
def test_a_single_value_is_a_graph_of_one_node(value) -> None:
    graph = Graph(value)
    picture = Picture(graph.svg)
    assert (len(picture.nodes), len(picture.edges), graph.size) == (1, 0, 1)
    assert "value 1.5" in picture.texts(picture.nodes[0])
    assert str(graph).startswith("#0 ")


def test_text_is_escaped_and_fits_its_box() -> None:
    a, b = Scalar(1.0), Scalar(2.0)
    long = "transformer.blocks.11.attention.projection.weight"
    picture = Picture(to_svg(a * b - 1e-9, names={"<a> & 'b'": a, long: b}))
    assert "<a> & 'b'" in picture.titles
    assert shortened(long) in picture.titles and long in picture.tooltip(shortened(long))
    for node in picture.nodes:
        x0, _, x1, y1 = picture.box(node)
        for k, text in enumerate(node.iter(f"{NS}text")):
            assert text_width(text.text, bold=not k) <= x1 - x0
            assert float(text.get("y")) < y1


def test_text_width_is_not_below_that_of_a_wide_font() -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    for text in (
        "layers.0.weight", "value −0.0001234", "scaled_dot_product_attention", "(32, 784)", "MMMM",
        "illicit", "ReLU", "x ^ 2", "|grad| 0.3305", "grad −9.003e−07", "… 17,899 more",
    ):  # fmt: skip
        for bold in (False, True):
            font = FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
            real = TextPath((0, 0), text, size=12, prop=font).get_extents().width
            assert real <= text_width(text, bold=bold) + 8, text  # the box is 20 wider


# ---- layout ----------------------------------------------------------------------------------


@st.composite
def graphs(draw) -> list[tuple[int, ...]]:
    """Inputs of each node; all lead to the last one."""
    count = draw(st.integers(1, 25))
    inputs = [
        tuple(draw(st.lists(st.integers(0, i - 1), max_size=3))) if i else () for i in range(count)
    ]
    used = {j for sources in inputs for j in sources}
    return [*inputs, tuple(i for i in range(count) if i not in used)]


@given(inputs=graphs(), down=st.booleans())
def test_boxes_never_overlap_and_edges_never_pass_through_them(inputs, down) -> None:
    sizes = [(40 + 13 * (i % 4), 30 + 16 * (i % 3)) for i in range(len(inputs))]
    plan = arrange(inputs, sizes, down)
    for (x, y, w, h), (u, v, s, t) in combinations(plan.boxes, 2):
        assert x + w <= u or u + s <= x or y + h <= v or v + t <= y
    for (_, _, w, h), (need_w, need_h) in zip(plan.boxes, sizes, strict=True):
        assert w >= need_w and h >= need_h
    assert [(s, t) for s, t, _ in plan.edges] == [
        (j, i) for i, sources in enumerate(inputs) for j in sources
    ]
    for route in plan.routes:
        for k, (a, b) in enumerate(pairwise(route)):
            along, across = (1, 0) if down else (0, 1)
            assert b[along] >= a[along], "edges never go back"
            if k % 2:  # through a column: level, and clear of all boxes
                assert a[across] == b[across]
                for box in plan.boxes:
                    low, high = box[across], box[across] + box[across + 2]
                    start, end = box[along], box[along] + box[along + 2]
                    if start < b[along] and end > a[along]:
                        assert not low - BEND / 4 < a[across] < high + BEND / 4


def test_edges_that_need_not_cross_do_not() -> None:
    # Two chains whose nodes alternate in the list.
    inputs = [(), (), (0,), (1,), (2,), (3,), (4, 5)]
    plan = arrange(inputs, [(40, 30)] * 7)
    tops = [plan.boxes[i][1] for i in range(6)]
    assert (tops[0] < tops[1]) == (tops[2] < tops[3]) == (tops[4] < tops[5])
    # A complete swap: x0 feeds b1, x1 feeds b0.
    plan = arrange([(), (), (), (1, 2), (0,), (3, 4)], [(40, 30)] * 6)
    y = [box[1] for box in plan.boxes]
    assert (max(y[1], y[2]) < y[0]) == (y[3] < y[4])


@pytest.mark.parametrize("direction", ["right", "down"])
def test_whole_pictures_are_tidy(direction) -> None:
    out, names = example()
    check_picture(Picture(to_svg(out, names=names, direction=direction)))
    loss, model, names = network()
    check_picture(Picture(to_svg(loss, params=model, names=names, direction=direction)))


def test_long_graphs_go_down_the_page() -> None:
    y = Scalar(1.0)
    for _ in range(30):
        y = y.tanh()
    tall, wide = Picture(to_svg(y)), Picture(to_svg(y, direction="right"))
    assert tall.height > tall.width and wide.width > wide.height
    check_picture(tall)


# ---- size ------------------------------------------------------------------------------------


def wide_graph(leaves: int = 6000) -> Scalar:
    weights = [Scalar(0.5) for _ in range(leaves)]
    terms = [w * 2.0 for w in weights]
    while len(terms) > 1:
        terms = [a + b for a, b in zip(terms[::2], terms[1::2], strict=False)] + (
            [terms[-1]] if len(terms) % 2 else []
        )
    return terms[0]


def test_large_graphs_are_cut_to_what_is_nearest_and_say_so() -> None:
    y = wide_graph()
    graph = Graph(y)
    picture = Picture(graph.svg)
    assert graph.size == 17_999 and graph.cut
    assert len(picture.nodes) == 101 and picture.titles[0] == "… 17,899 more"
    assert "100 of 17,999 nodes" in graph.svg and "17,899 more" in graph.svg
    assert "6,000 leaf" in picture.tooltip("… 17,899 more")
    assert len(picture.edges) == len(graph.edges) == len(set(graph.edges))
    # Every node that is drawn leads to the result, by way of nodes that are drawn.
    uses = {i for i, _ in graph.edges}
    assert uses == set(range(len(graph.nodes) - 1))
    check_picture(picture)


def test_chains_of_20_000_are_drawn_without_recursion() -> None:
    x = mg.tensor([0.5], requires_grad=True)
    y, s = x, Scalar(0.5)
    for _ in range(20_000):
        y, s = y + 1.0, s * 0.5
    graph = Graph(y, max_nodes=None)
    assert graph.size == len(graph.nodes) == 20_001 and len(graph.edges) == 20_000
    assert graph.svg.count('class="node') == 20_001
    assert graph.svg.count('class="edge') == 20_000
    assert len(graph.text().splitlines()) == 201
    for root in (y, s):
        assert Graph(root).svg.count('class="node') == 101
    assert len(text_tree(s).splitlines()) == 201


def test_a_dense_graph_of_many_columns_keeps_its_edges() -> None:
    """A chain whose nodes all feed a sum: too many bends, so edges go straight."""
    y = Scalar(1.0)
    total = Scalar(0.0)
    for _ in range(200):
        y = y * 0.9
        total = y + total
    graph = Graph(total + y, max_nodes=None)
    assert len(Picture(graph.svg).edges) == len(graph.edges)


# ---- text and files --------------------------------------------------------------------------


def test_the_text_tree_is_no_wider_than_asked() -> None:
    out, names = example()
    graph = Graph(out, names=names)
    for width in (20, 40, 80):
        lines = graph.text(width=width).splitlines()
        assert max(map(len, lines)) <= width
    whole = graph.text(width=200)
    assert whole.splitlines()[0].startswith("#12 out = −  value ")
    assert "#0 a  (above)" in whole and "└─" in whole and "│" in whole
    assert whole == text_tree(out, names=names, width=200)


def test_a_long_text_says_what_is_missing() -> None:
    out, _ = example()
    lines = text_tree(out, max_lines=3, width=80).splitlines()
    assert len(lines) == 4 and lines[-1] == "… 10 more nodes (max_lines=3)"


def test_graphviz_text_has_every_node_and_edge() -> None:
    out, _ = example()
    dot = to_dot(out, names={'say "hi"\\': out})
    assert dot.count("label=") == 13 and dot.count("->") == 16
    assert '\\"hi\\"\\\\' in dot


def test_notebooks_get_svg_and_print_the_text() -> None:
    out, _ = example()
    graph = Graph(out)
    assert graph._repr_svg_() == graph.svg == to_svg(out)
    assert repr(graph) == "Graph(13 nodes, 16 edges)"
    assert str(graph) == graph.text()
    assert repr(Graph(wide_graph(), max_nodes=5)).startswith("Graph(5 of 17,999 nodes")


def test_saving_writes_the_whole_file_or_none(tmp_path, monkeypatch) -> None:
    out, _ = example()
    graph = Graph(out)
    path = graph.save(tmp_path / "new" / "graph.svg")
    assert ET.parse(path).getroot().tag == f"{NS}svg"
    assert graph.save(tmp_path / "graph.txt").read_text().startswith("#12 ")
    assert graph.save(str(tmp_path / "graph.dot")).read_text() == graph.dot()
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        Graph(Scalar(1.0)).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == ["graph.svg"]
    with pytest.raises(mg.errors.InputError, match=r"'\.png'"):
        graph.save(tmp_path / "graph.png")


# ---- errors ----------------------------------------------------------------------------------


def test_wrong_arguments_say_what_is_required() -> None:
    out, names = example()
    with pytest.raises(mg.errors.InputTypeError, match="a tensor or a scalar; got list"):
        Graph([1.0])
    with pytest.raises(mg.errors.InputTypeError, match="params is the module.*got dict"):
        Graph(out, params=names)  # type: ignore
    with pytest.raises(mg.errors.InputError, match="'a' stands for a float"):
        Graph(out, names={"a": 1.0})
    with pytest.raises(mg.errors.InputError, match="max_nodes must be at least 1.*got 0"):
        Graph(out, max_nodes=0)
    with pytest.raises(mg.errors.InputError, match="direction.*'up'"):
        Graph(out, direction="up")


def test_names_may_hold_characters_that_xml_forbids() -> None:
    a = Scalar(2.0)
    picture = Picture(to_svg(a * 3.0, names={"a\x00<&\x1b": a}))
    assert r"a\x00<&\x1b" in picture.titles
