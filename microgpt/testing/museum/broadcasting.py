"""Wrong shapes: broadcasting, and moving dimensions about, undone the wrong way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import microgpt as mg
from microgpt import autograd
from microgpt.graph import Node
from microgpt.ops import matmul, mean, permute_dims, reshape, sum
from microgpt.ops.movement import broadcast_to
from microgpt.ops.table import Op
from microgpt.testing.museum import demos
from microgpt.testing.museum.base import Bug, Check, gradcheck, oracle
from microgpt.testing.museum.engine import engine
from microgpt.testing.museum.planting import both, functions, rules

SHEAR = np.array([[1.0, 2.0], [0.0, 1.0]])
right_unbroadcast = autograd.unbroadcast
right_fit = autograd._fit


def _leading_only(grad: Any, shape: tuple[int, ...]) -> Any:
    extra = len(grad.shape) - len(shape)
    return sum(grad, axis=tuple(range(extra))) if extra > 0 else grad


def _mean_of_copies(grad: Any, shape: tuple[int, ...]) -> Any:
    grad = _leading_only(grad, shape)
    axes = tuple([i for i, n in enumerate(shape) if n == 1 and grad.shape[i] > 1])
    return mean(grad, axis=axes, keepdims=True) if axes else right_unbroadcast(grad, shape)


def _one_element(grad: Any, shape: tuple[int, ...]) -> Any:
    grad = right_unbroadcast(grad, shape)
    return reshape(grad, (1,)) if shape == () else grad


def _first_only(op: Op, parents: Sequence[Node | None], grads: Sequence[Any]) -> Any:
    pairs = []
    for i, (parent, grad) in enumerate(zip(parents, grads, strict=True)):
        if parent is not None and grad is not None:
            if i == 0 and grad.shape != parent.shape:
                grad = right_fit(op, grad, parent)
            pairs.append((parent, grad))
    return pairs


BUGS = (
    Bug(
        9,
        "only the leading dimensions are summed",
        wrong="grad.sum(axis=range(grad.ndim - x.ndim))",
        right="… and the dimensions of length 1 that were stretched",
        story=(
            "A bias of shape (3,) added to a batch (n, 3) gets a gradient (n, 3), which has to be "
            "summed over the batch. That is done. But broadcasting also stretches dimensions of "
            "length 1: a column (n, 1) added to (n, 3). Its gradient stays (n, 3), and the next "
            "step of the optimizer quietly turns the column into a matrix. From then on the model "
            "is another one, with more parameters."
        ),
        blind=(
            "An inner product of gradient and direction does not see it: the product broadcasts "
            "as well and gives the right number. So gradcheck looks at the shape before it "
            "multiplies anything: SHAPE."
        ),
        plant=functions((autograd, "unbroadcast", _leading_only)),
        killers=(gradcheck("multiply", "SHAPE"), Check("broadcast_equals_tile", "multiply")),
        missed_by=(Check("same_input_twice", "multiply"),),
        show=demos.gradient_shape(
            "a column (2, 1) that was added to a matrix (2, 3)",
            lambda x: x + mg.ones((2, 3), dtype="float64"), (2, 1),
        ),
        seen_in="minitorch/Module-2#14",
    ),
    Bug(
        10,
        "stretched dimensions averaged",
        wrong="grad.mean(axis, keepdims=True)",
        right="grad.sum(axis, keepdims=True)",
        story=(
            "A value that was copied n times gets n gradients back, and it seems fair to average "
            "them. But each copy changes the output by itself: moving the value moves all of "
            "them, and the effects add up. The shape is right, the sign is right, and with n = 1 "
            "the value is too. Everything that is shared along a dimension learns n times too "
            "slowly."
        ),
        blind=(
            "A check of shapes is content, and so is a check whose arrays have equal shapes. With "
            "drawn shapes that broadcast gradcheck says VALUE, and `broadcast_equals_tile` "
            "compares with copies made by hand."
        ),
        plant=functions((autograd, "unbroadcast", _mean_of_copies)),
        killers=(gradcheck("multiply", "VALUE"), Check("broadcast_equals_tile", "multiply")),
        missed_by=(Check("same_input_twice", "multiply"), Check("adjoint", "multiply")),
        show=demos.gradient("the gradient of a column (2, 1) times a row of four ones",
                            lambda x: x * mg.ones((2, 4), dtype="float64"), [[1.0], [2.0]]),
    ),
    Bug(
        11,
        "only the first argument is brought back to its shape",
        wrong="if i == 0 and grad.shape != x.shape: …",
        right="if grad.shape != x.shape: …",
        story=(
            "x + bias, x * mask, x - mean: the large array comes first by habit, or the code was "
            "written for `small + large` and tested with that. The gradient of the second argument "
            "keeps the shape of the result. A bias then gets one gradient per example."
        ),
        blind=(
            "Commutative ops hide it: one tries a + b and not b + a. The domain of every op with "
            "broadcasting draws which argument is the small one: SHAPE."
        ),
        plant=both(engine(), functions((autograd, "_fitted", _first_only))),
        killers=(gradcheck("add", "SHAPE"), gradcheck("multiply", "SHAPE")),
        missed_by=(Check("same_input_twice", "add"),),
        show=demos.gradient_shape("a bias (3,) added to a batch (2, 3)",
                                  lambda x: mg.ones((2, 3), dtype="float64") + x, (3,)),
    ),
    Bug(
        12,
        "a number becomes an array of one",
        wrong="np.atleast_1d(total)",
        right="total, of shape ()",
        story=(
            "The sum over everything gives a number, and some line on the way makes an array of "
            "shape (1,) of it, to be on the safe side. The value is right. A temperature or a "
            "learned scale of shape () becomes one of shape (1,) after the first step, its "
            "checkpoint no longer fits the model, and code that asks for ndim == 0 takes another "
            "branch. The cause is by then many steps away."
        ),
        blind=(
            "(1,) and () compare as equal under broadcasting, so a comparison of values passes. "
            "SHAPE is checked first, and shapes without dimensions are drawn like all others."
        ),
        plant=functions((autograd, "unbroadcast", _one_element)),
        killers=(gradcheck("multiply", "SHAPE"),),
        missed_by=(Check("same_input_twice", "multiply"),),
        show=demos.gradient_shape("a scale of shape () times a vector (3,)",
                                  lambda x: x * mg.ones(3, dtype="float64"), ()),
    ),
    Bug(
        13,
        "dimensions moved back by the same order",
        wrong="permute_dims(g, axes)",
        right="permute_dims(g, inverse of axes)",
        story=(
            "To undo a permutation of dimensions one has to apply its inverse. For an exchange of "
            "two, a plain transposition, that is the same permutation, so every test with a "
            "matrix passes. (batch, length, heads, width) → (batch, heads, length, width) is an "
            "exchange as well. The first order of three, such as (1, 2, 0), sends the gradient "
            "somewhere else; if the sides are equal, without an error."
        ),
        blind=(
            "Matrices are blind, and so are cubes for the shape. Orders of three dimensions with "
            "different sides are drawn: SHAPE, and with equal sides VALUE."
        ),
        plant=rules(permute_dims=lambda own: (lambda g, y, x, axes: permute_dims(g, axes),)),
        killers=(gradcheck("permute_dims", "SHAPE", "VALUE"),),
        missed_by=(Check("adjoint", "permute_dims"),),
        show=demos.gradient("the gradient of a cube (2, 2, 2) of zeros moved by (1, 2, 0)",
                            lambda x: mg.permute_dims(x, (1, 2, 0)),
                            [[[0.0, 0], [0, 0]], [[0, 0], [0, 0]]]),
    ),
    Bug(
        14,
        "a matrix product without its transposes",
        wrong="g @ b, a @ g",
        right="g @ b.T, a.T @ g",
        story=(
            "In one dimension d(ab)/da is b, so why not g @ b. With square matrices everything "
            "fits and numbers come out. A network whose layers all have the same width trains on "
            "a gradient that has little to do with its loss; the first layer of another width "
            "stops with an error that speaks of shapes. Then transposes get added until the error "
            "is gone, which is the right idea for the wrong reason."
        ),
        blind=(
            "The check of shapes is blind on square matrices, and symmetric ones hide the values "
            "too. Sides are drawn one by one; where they happen to be equal the VALUE is wrong, "
            "elsewhere the product itself refuses."
        ),
        plant=rules(matmul=lambda own: (
            lambda g, y, a, b: matmul(g, b), lambda g, y, a, b: matmul(a, g))),
        killers=(gradcheck("matmul", "VALUE", "ValueError"),),
        missed_by=(oracle("matmul"),),
        show=demos.descent("gradient descent on |X·A - A|² for A = ((1, 2), (0, 1)), X from 0",
                           lambda x: ((x @ SHEAR - SHEAR) ** 2).sum(),
                           [[0.0, 0.0], [0.0, 0.0]], 0.03),
    ),
    Bug(
        15,
        "a sum's gradient stretched without its axis",
        wrong="broadcast_to(g, x.shape)",
        right="broadcast_to(g with the summed axis put back, x.shape)",
        story=(
            "The sum of a matrix (n, m) along axis 1 has shape (n,); its gradient must become a "
            "column before it is stretched over the matrix. Left as it is, broadcasting lines it "
            "up from the right and stretches it as a row. With n ≠ m there is an error, with "
            "n = m the gradient is transposed. Along axis 0 everything is right."
        ),
        blind=(
            "A sum over everything or over axis 0 is right. On square matrices the shape is, too. "
            "gradcheck says SHAPE for the others, and VALUE, with the pattern 'transpose of "
            "numeric', for squares."
        ),
        plant=rules(sum=lambda own: (
            lambda g, y, x, axis, keepdims: broadcast_to(g, tuple(x.shape)),)),
        killers=(gradcheck("sum", "SHAPE", "VALUE", examples=200),),
        missed_by=(oracle("sum"),),
        show=demos.gradient("the gradient of a matrix (2, 2) summed along axis 1",
                            lambda x: mg.sum(x, axis=1), [[1.0, 2.0], [3.0, 4.0]]),
    ),
)  # fmt: skip
