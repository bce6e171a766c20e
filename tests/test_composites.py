"""Public functions that are made of ops, and what ops' public faces do before the kernel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import microgpt as mg
from microgpt.testing import gradcheck
from microgpt.testing.strategies import Drawer

Drawn = tuple[list[np.ndarray], dict[str, Any]]


def moved(d: Drawer) -> Drawn:
    x = d.array(min_ndim=1)
    return [x], {"source": d.axis(x.ndim), "destination": d.axis(x.ndim)}


def swapped(d: Drawer) -> Drawn:
    x = d.array(min_ndim=1)
    return [x], {"axis1": d.axis(x.ndim), "axis2": d.axis(x.ndim)}


def squeezed(d: Drawer) -> Drawn:
    shape = tuple([1 if d.boolean() else n for n in d.shape(0, 3)])
    ones = [i - len(shape) * d.number(0, 1) for i, n in enumerate(shape) if n == 1]
    axis = d.sampled([None, tuple(ones), *ones])
    return [d.filled(shape)], ({} if axis is None and d.boolean() else {"axis": axis})


def expanded(d: Drawer) -> Drawn:
    x = d.array()
    both = d.sampled([0, -1, (0, 2), (-1, 0)]) if x.ndim else d.sampled([0, -1, (0, 1)])
    return [x], d.optional(axis=both)


def flattened(d: Drawer) -> Drawn:
    x = d.array()
    if not x.ndim:
        return [x], {}
    first = d.number(0, x.ndim - 1)
    last = d.number(first, x.ndim - 1)
    return [x], d.optional(start_dim=first, end_dim=last - x.ndim * d.number(0, 1)) | (
        {"start_dim": first} if first else {}
    )


def flat(x: np.ndarray, start_dim: int = 0, end_dim: int = -1) -> np.ndarray:
    if not x.ndim:
        return x.reshape(1)
    end = end_dim % x.ndim
    return x.reshape(*x.shape[:start_dim], -1 if x.size else int(
        np.prod(x.shape[start_dim : end + 1])), *x.shape[end + 1 :])  # fmt: skip


def tiled(d: Drawer) -> Drawn:
    times = d.sampled([2, (2,), (1, 3), (2, 1, 2), (0, 2)])
    return [d.array()], {"repetitions": times}


def repeated(d: Drawer) -> Drawn:
    x = d.array()
    axis = {"axis": d.axis(x.ndim)} if x.ndim and d.boolean() else d.optional(axis=None)
    return [x], {"repeats": d.number(0, 3), **axis}


def vectors(d: Drawer) -> Drawn:
    return [d.filled((d.side(),)), d.filled((d.side(),))], {}


def sorted_rows(d: Drawer) -> Drawn:
    x = d.distinct(min_ndim=1)
    return [x], d.optional(axis=d.axis(x.ndim), descending=d.boolean())


def in_order(x: np.ndarray, axis: int = -1, descending: bool = False) -> np.ndarray:
    y = np.sort(x, axis=axis)
    return np.flip(y, axis) if descending else y


def squared(d: Drawer) -> Drawn:
    return list(d.equal_shapes(2)), {"reduction": d.sampled(["sum", "none"])}


def reduced(x: np.ndarray, reduction: str) -> np.ndarray:
    return x.sum() if reduction == "sum" else x


# Name, our function, the same with NumPy, what is drawn.
COMPOSITES: dict[str, tuple[Callable[..., Any], Callable[..., Any], Callable[[Drawer], Drawn]]] = {
    "moveaxis": (mg.moveaxis, np.moveaxis, moved),
    "swapaxes": (mg.swapaxes, np.swapaxes, swapped),
    "matrix_transpose": (
        mg.matrix_transpose, lambda x: np.swapaxes(x, -1, -2), lambda d: ([d.array(min_ndim=2)], {})
    ),
    "squeeze": (mg.squeeze, np.squeeze, squeezed),
    "expand_dims": (mg.expand_dims, lambda x, axis=0: np.expand_dims(x, axis), expanded),
    "flatten": (mg.flatten, flat, flattened),
    "tile": (mg.tile, lambda x, repetitions: np.tile(x, repetitions), tiled),
    "repeat": (mg.repeat, np.repeat, repeated),
    "outer": (mg.outer, np.outer, vectors),
    "sort": (mg.sort, in_order, sorted_rows),
    "mse_loss": (mg.mse_loss, lambda a, b, reduction: reduced((a - b) ** 2, reduction), squared),
    "binary_cross_entropy_with_logits": (
        lambda x, t, reduction: mg.binary_cross_entropy_with_logits(
            x, mg.sigmoid(t), reduction=reduction
        ),
        lambda x, t, reduction: reduced(
            np.logaddexp(0, x) - x / (1 + np.exp(-t)), reduction
        ),
        squared,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPOSITES)
@given(data=st.data())
def test_composites_are_numpys(name: str, data: st.DataObject) -> None:
    function, same, draw = COMPOSITES[name]
    arrays, params = draw(Drawer(data.draw))
    want = same(*arrays, **params)
    found = function(*[mg.tensor(x) for x in arrays], **params)
    assert found.shape == np.shape(want)
    np.testing.assert_allclose(found.numpy(), want, rtol=1e-12, atol=1e-13)
    gradcheck(function, *arrays, kwargs=params, shrink=False)


@given(data=st.data())
def test_concat_of_flattened_arrays(data: st.DataObject) -> None:
    d = Drawer(data.draw)
    a, b = d.array(), d.array()
    found = mg.concat([mg.tensor(a), mg.tensor(b)], axis=None)
    np.testing.assert_array_equal(found.numpy(), np.concatenate([a, b], axis=None))
    once: Any = (mg.tensor(x) for x in (a, b))
    np.testing.assert_array_equal(mg.concat(once, axis=None).numpy(), found.numpy())
    gradcheck(lambda a, b: mg.concat([a, b], axis=None), a, b, shrink=False)


@given(data=st.data())
def test_topk_is_the_front_of_the_sorted_rows(data: st.DataObject) -> None:
    d = Drawer(data.draw)
    x = d.distinct(min_ndim=1)
    given_axis = d.optional(axis=d.axis(x.ndim))
    axis = given_axis.get("axis", -1)
    k, largest = d.number(0, x.shape[axis]), d.boolean()
    values, places = mg.topk(mg.tensor(x), k, largest=largest, **given_axis)
    order = np.argsort(-x if largest else x, axis=axis)
    want = np.take(order, np.arange(k), axis=axis)
    np.testing.assert_array_equal(places.numpy(), want)
    np.testing.assert_array_equal(values.numpy(), np.take_along_axis(x, want, axis))
    gradcheck(lambda x: mg.topk(x, k, largest=largest, **given_axis)[0], x, shrink=False)


VECTORS = [((2, 3), (3,)), ((3,), (3, 2)), ((3,), (3,)), ((2, 4, 3), (3,)), ((3,), (2, 3, 4)),
           ((0,), (0,))]  # fmt: skip


@pytest.mark.parametrize("shapes", VECTORS)
def test_matmul_of_vectors(shapes: Any) -> None:
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=s) for s in shapes)
    np.testing.assert_allclose(mg.matmul(mg.tensor(a), mg.tensor(b)).numpy(), a @ b, atol=1e-13)
    gradcheck(mg.matmul, a, b, order=2)


def test_gradients_of_means_and_variances_of_nothing() -> None:
    x = mg.zeros((0, 2), requires_grad=True)
    with np.errstate(all="ignore"):
        mg.mean(x, axis=0).sum().backward()
        mg.var(x, axis=0).sum().backward()
        assert x.grad is not None and x.grad.shape == (0, 2)
        one = mg.tensor([3.0], requires_grad=True)
        mg.var(one, correction=1).backward()
    assert one.grad is not None and one.grad.shape == (1,)


def test_integers_made_of_floats_have_no_gradient() -> None:
    x = mg.tensor([1.7, -1.7], requires_grad=True)
    y = mg.astype(x, "int32")
    assert not y.requires_grad and y.tolist() == [1, -1]
    for kind in ("float64", np.float64, float, np.dtype("float64")):
        y = mg.astype(x, kind)
        assert y.requires_grad and y.dtype == np.float64
