"""Every row of the op table: the forward pass against independent formulas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

import microgpt as mg
from microgpt import Scalar
from microgpt.ops import TABLE, Op
from microgpt.testing import Case
from microgpt.testing.strategies import cases

OWN = [op for op in TABLE.values() if op.function.__module__.startswith("microgpt.")]
ELEMENTWISE = [
    op
    for op in OWN
    if (op.elementwise or op.name in ("where", "clip", "gelu", "silu"))
    and op.name not in ("ones_like", "zeros_like")
]


@pytest.mark.parametrize("op", ELEMENTWISE, ids=lambda op: op.name)
@given(data=st.data())
def test_scalars_numbers_and_tensors_agree(op: Op, data: st.DataObject) -> None:
    case: Case = data.draw(cases(op))
    values = [
        x.reshape(-1)[0].item() if isinstance(x, np.ndarray) else x
        for x in case.inputs
        if np.size(x)
    ]
    if len(values) < len(case.inputs):
        return
    tensors = [mg.tensor(v, "float64" if isinstance(v, float) else None) for v in values]
    want = op.function(*tensors, **case.params).item()
    for inputs in (values, [Scalar(v) if isinstance(v, float) else v for v in values]):
        y = op.function(*inputs, **case.params)
        found = y.data if isinstance(y, Scalar) else y
        assert float(found) == pytest.approx(float(want), rel=1e-14, abs=1e-15)


@pytest.mark.parametrize(
    ("function", "want"),
    [
        (mg.sigmoid, special.expit),
        (mg.softplus, lambda x: np.logaddexp(0, x)),
        (mg.erf, special.erf),
        (mg.silu, lambda x: x * special.expit(x)),
        (mg.gelu, lambda x: x * special.ndtr(x)),
        (lambda x: mg.gelu(x, approximate="tanh"), None),
    ],
)
def test_float32_accuracy_over_the_whole_range(function: Any, want: Any) -> None:
    x = np.concatenate([np.linspace(-20, 20, 4001), [-1e4, -100.0, 0.0, 1e-6, 100.0, 1e4]])
    x32 = x.astype(np.float32)
    exact = (want or (lambda v: function(mg.tensor(v)).numpy()))(x32.astype(np.float64))
    found = function(mg.tensor(x32)).numpy().astype(np.float64)
    # Of the size of the result, or of the input's own rounding carried through.
    scale = np.spacing(np.abs(exact).astype(np.float32)).astype(np.float64)
    carried = np.abs(np.gradient(exact, x32.astype(np.float64) + np.arange(len(x)) * 1e-12))
    bound = 8 * scale + 4 * carried * np.spacing(np.abs(x32)) + 1e-37
    usual = np.abs(x) <= 20
    loose = 1e-6 if want is None or function in (mg.gelu,) else 0.0
    assert (np.abs(found - exact) <= bound + loose)[usual].all()
    assert np.isfinite(found).all()


def test_zero_d_and_empty_tensors() -> None:
    x = mg.tensor(3.0, requires_grad=True)
    (x * x + mg.exp(x)).backward()
    assert x.grad is not None and x.grad.shape == () and x.ndim == 0
    empty = mg.zeros((0, 3), requires_grad=True)
    y = mg.softmax(mg.relu(empty) @ mg.ones((3, 2)))
    y.sum().backward()
    assert y.shape == (0, 2) and empty.grad is not None and empty.grad.shape == (0, 3)
    with pytest.raises(mg.errors.ShapeError, match="no elements"):
        mg.max(empty, axis=0)
    with pytest.raises(TypeError):
        len(mg.zeros(()).tolist())


@given(data=st.data())
def test_indexing_is_numpys(data: st.DataObject) -> None:
    x = np.arange(60.0).reshape(3, 4, 5)
    index = st.one_of(
        st.integers(-3, 2),
        st.slices(3),
        st.none(),
        st.just(Ellipsis),
        st.lists(st.integers(-3, 2), min_size=1, max_size=3).map(np.array),
    )
    key = tuple(data.draw(st.lists(index, min_size=0, max_size=3)))
    arrays = [k for k in key if isinstance(k, np.ndarray)]
    if sum(k is Ellipsis for k in key) > 1 or len({a.shape for a in arrays} - {(1,)}) > 1:
        return
    if arrays and any(isinstance(k, int) for k in key):
        return  # NumPy moves the dimensions of mixed ints and arrays in a way of its own
    want = x[key]
    t = mg.tensor(x, requires_grad=True)
    found = t[key]
    assert found.shape == want.shape
    np.testing.assert_array_equal(found.numpy(), want)
    found.sum().backward()
    count = np.zeros_like(x)
    np.add.at(count, key, 1.0)
    np.testing.assert_array_equal(t.grad.numpy(), count)  # type: ignore[union-attr]


def test_masks_and_index_tensors() -> None:
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert x[x > 1.5].tolist() == [2.0, 3.0, 4.0]
    assert x[mg.tensor([1, 0])].tolist() == [[3.0, 4.0], [1.0, 2.0]]
    assert x[mg.tensor(1)].tolist() == [3.0, 4.0]
    assert [row.tolist() for row in x] == [[1.0, 2.0], [3.0, 4.0]]
    for key, kind, words in (
        (2, mg.errors.ShapeError, "-2 to 1"),
        ((0, 0, 0), mg.errors.ShapeError, "3 indices"),
        ([5], mg.errors.ShapeError, "length 2"),
        ([0.5], mg.errors.DTypeError, "integer"),
        ("a", mg.errors.InputTypeError, "str"),
    ):
        with pytest.raises(kind, match=words):
            x[key]


@pytest.mark.parametrize(
    "text",
    ["ij,jk->ik", "ij,kj", "bij,bjk->bik", "ii->i", "ii", "ij->ji", "i,j->ij", "ij,ij->",
     "...ij->...ji", "...i,i->...", "ijk,k,j->i", "ij->", "bhid,bhjd->bhij",
     "iij->j", "i,i,i->i", "...,...->..."],
)  # fmt: skip
def test_einsum_is_numpys(text: str) -> None:
    rng = np.random.default_rng(0)
    sizes = dict(zip("bhijkd", (2, 3, 4, 5, 2, 3), strict=True)) | {"i": 4, "j": 5}
    operands = []
    for names in text.split("->")[0].split(","):
        shape = [sizes[c] for c in names.replace("...", "")]
        operands.append(rng.standard_normal([2, 3] * ("..." in names) + shape))
    found = mg.einsum(text, *[mg.tensor(x) for x in operands])
    np.testing.assert_allclose(found.numpy(), np.einsum(text, *operands), atol=1e-12)
    report = mg.testing.gradcheck(lambda *xs: mg.einsum(text, *xs), *operands)
    assert report.ok


def test_shape_errors_name_the_shapes_and_the_mend() -> None:
    a, b = mg.ones((2, 3)), mg.ones((3, 2))
    for call, words in (
        (lambda: a + b, r"x\.T, would fit.*\(2, 3\), \(3, 2\)"),
        (lambda: a @ a, r"b\.mT, would fit"),
        (lambda: mg.concat([a, b]), r"\(2, 3\), \(3, 2\)"),
        (lambda: a.reshape(4), r"4 elements.*6"),
        (lambda: a.sum(axis=2), r"axis 2.*-2 to 1"),
        (lambda: mg.linear(a, a.T), r"weight \(m, n\)"),
        (lambda: mg.cross_entropy(a, mg.tensor([0, 1, 2])), r"targets of shape \(2,\)"),
        (lambda: mg.cross_entropy(a, mg.tensor([0, 3])), "from 0 to 2"),
        (lambda: mg.conv2d(a, a), "n, channels"),
        (lambda: mg.mse_loss(a, mg.ones((2, 1))), "broadcast"),
    ):
        with pytest.raises(mg.errors.ShapeError, match=f"(?s){words}"):
            call()


def test_sorting_and_topk() -> None:
    x = mg.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 4.0]], requires_grad=True)
    assert mg.sort(x).tolist() == [[1.0, 2.0, 3.0], [0.0, 4.0, 5.0]]
    values, places = mg.topk(x, 2)
    assert values.tolist() == [[3.0, 2.0], [5.0, 4.0]] and places.tolist() == [[0, 2], [1, 2]]
    values.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]]


def test_stack_split_tile_repeat_outer_match_numpy() -> None:
    x = np.arange(6.0).reshape(2, 3)
    t = mg.tensor(x)
    np.testing.assert_array_equal(mg.stack([t, t * 2], axis=1).numpy(), np.stack([x, x * 2], 1))
    for part, want in zip(mg.split(t, 3, axis=1), np.split(x, 3, 1), strict=True):
        np.testing.assert_array_equal(part.numpy(), want)
    np.testing.assert_array_equal(mg.tile(t, (2, 1, 2)).numpy(), np.tile(x, (2, 1, 2)))
    np.testing.assert_array_equal(mg.repeat(t, 2, axis=0).numpy(), np.repeat(x, 2, 0))
    np.testing.assert_array_equal(mg.outer(t[0], t[1]).numpy(), np.outer(x[0], x[1]))
    np.testing.assert_array_equal(mg.one_hot(mg.tensor([1, 0])).numpy(), np.eye(2)[[1, 0]])


def test_creation_follows_the_array_api() -> None:
    assert mg.arange(3).dtype == np.int64 and mg.arange(3.0).dtype == np.float32
    assert mg.eye(2, 3, k=1).tolist() == [[0, 1, 0], [0, 0, 1]]
    assert mg.full((2,), 3).tolist() == [3, 3] and mg.linspace(0, 1, 3).tolist() == [0, 0.5, 1]
    with mg.configure(dtype="float64"):
        assert mg.zeros(1).dtype == mg.tensor(1.5).dtype == np.float64
    x = mg.tensor(np.ones(2))
    assert mg.asarray(x) is x and x.to("float32").dtype == np.float32
    assert x.backend == "numpy" and x.device == "cpu" and len(x) == 2
    for bad in ([[1, 2], [3]], "abc", object()):
        with pytest.raises((mg.errors.InputError, mg.errors.InputTypeError)):
            mg.tensor(bad)
    with pytest.raises(mg.errors.DTypeError, match="no dtype"):
        mg.ones(1).to("float33")
    with pytest.raises(mg.errors.BackendError, match="there is no backend 'nope'"):
        mg.tensor(1.0, backend="nope")


def test_a_normalised_shape_in_the_place_of_the_weight_is_refused() -> None:
    with pytest.raises(mg.errors.ShapeError, match=r"must have shape \(3,\).*got 3, which is no"):
        mg.layer_norm(mg.ones((2, 3)), 3)


def test_broadcasting_to_many_elements() -> None:
    # Beyond some size the NumPy kernel returns a view that repeats its elements.
    x = mg.tensor(np.arange(300.0), requires_grad=True)
    y = mg.broadcast_to(x, (300, 300))
    np.testing.assert_array_equal(y.numpy(), np.broadcast_to(np.arange(300.0), (300, 300)))
    weights = np.random.default_rng(0).normal(size=(300, 300))
    (mg.exp(y * 0.01) * weights).sum().backward()
    want = 0.01 * np.exp(np.arange(300.0) * 0.01) * weights.sum(0)
    np.testing.assert_allclose(x.grad.numpy(), want, rtol=1e-10)  # type: ignore[union-attr]


def test_kernels_are_given_shapes_without_blanks() -> None:
    given_shapes = []

    class Watch:
        @mg.hookimpl(tryfirst=True)
        def microgpt_kernel(self, backend: str, op: str) -> Any:
            if (backend, op) != ("numpy", "reshape"):
                return None

            def reshape(x: Any, *, shape: Any) -> Any:
                given_shapes.append(shape)
                return np.reshape(x, shape)

            return reshape

    with mg.plugged(Watch()):
        for shape in ((-1,), (3, -1), (-1, 2, 2), (12,)):
            mg.reshape(mg.zeros((3, 4)), shape)
        mg.reshape(mg.zeros((0, 4)), (-1, 4))
    assert given_shapes == [(12,), (3, 4), (3, 2, 2), (12,), (0, 4)]


def test_a_variance_without_degrees_of_freedom_is_nan() -> None:
    x = mg.tensor([[1.0, 2.0]])
    with np.errstate(all="ignore"):
        for found in (mg.var(x, axis=0, correction=1), mg.var(x, correction=2.0, keepdims=True)):
            assert np.isnan(found.numpy()).all()
        assert np.isnan(mg.var(mg.zeros((0, 3)), axis=0).numpy()).tolist() == [True] * 3
    assert mg.var(x, axis=1, correction=1).tolist() == [0.5]


def test_a_row_that_is_masked_out_whole_has_no_logsumexp_and_no_gradient() -> None:
    x = mg.tensor([[-np.inf, -np.inf], [0.0, 1.0]], requires_grad=True)
    y = mg.logsumexp(x, axis=1)  # a warning would fail the test
    assert y.tolist()[0] == -np.inf and y.tolist()[1] == pytest.approx(1.3132617)
    y[1:].sum().backward()
    assert x.grad is not None and x.grad.tolist()[0] == [0.0, 0.0]
    assert mg.logsumexp(mg.zeros((0, 2)), axis=0).tolist() == [-np.inf, -np.inf]
    assert mg.logsumexp(mg.zeros((2, 0)), axis=1, keepdims=True).shape == (2, 1)
    z = mg.tensor([-np.inf, -np.inf], requires_grad=True)
    mg.logsumexp(z).backward()
    assert z.grad is not None and z.grad.tolist() == [0.0, 0.0]
