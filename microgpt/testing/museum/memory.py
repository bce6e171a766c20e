"""Wrong memory: arrays that are read, kept, changed or given back in the wrong way."""

from __future__ import annotations

from typing import Any

import numpy as np

import microgpt as mg
from microgpt import ops
from microgpt.graph import TensorBase
from microgpt.ops import network
from microgpt.ops.calls import record
from microgpt.ops.table import Op
from microgpt.testing.museum import demos
from microgpt.testing.museum.base import Bug, Check, gradcheck
from microgpt.testing.museum.planting import functions, kernels


def as_in_memory(x: Any) -> Any:
    """What a kernel reads that takes the start of the buffer and ignores the strides."""
    owner = x.base if isinstance(getattr(x, "base", None), np.ndarray) else x
    if not isinstance(x, np.ndarray) or not x.size or owner.dtype != x.dtype:
        return x
    flat = owner.ravel(order="K")
    return np.resize(flat, x.shape)


def _exp_of_buffer(right: Any) -> Any:
    return lambda x: right(as_in_memory(x))


def _matmul_of_buffers(right: Any) -> Any:
    return lambda a, b: right(as_in_memory(a), as_in_memory(b))


def _over_the_output(right: Any) -> Any:
    def vjp(g: Any, y: Any, x: Any, *, needs: Any, axis: int) -> tuple[Any]:
        total = (g * y).sum(axis=axis, keepdims=True)
        y *= g - total  # y is not needed any more, or is it
        return (y.copy(),)

    return vjp


def _over_the_cotangent(right: Any) -> Any:
    def vjp(g: Any, y: Any, x: Any, *, needs: Any, axis: int) -> tuple[Any]:
        g -= np.exp(y) * g.sum(axis=axis, keepdims=True)
        return (g.copy(),)

    return vjp


def _starting_with_the_first(right: Any) -> Any:
    def cumulative_sum(x: Any, *, axis: int) -> Any:
        rows = np.moveaxis(x, axis, 0)
        sums = [rows[0]]  # there is no first one in an empty array
        for row in rows[1:]:
            sums.append(sums[-1] + row)
        return np.stack(sums, axis)

    return cumulative_sum


def _by_address(right: Any) -> Any:
    known: dict[Any, Any] = {}

    def exp(x: Any) -> Any:
        if not isinstance(x, np.ndarray):
            return right(x)
        key = x.ctypes.data, x.shape, x.strides, x.dtype
        if key not in known:
            known[key] = right(x)
        return known[key].copy()

    return exp


def _again(g: Any, y: Any, x: Any, *, p: float, generator: Any) -> list[Any]:
    keep = (generator.random(tuple(x.shape), dtype=np.float32) >= p) / np.float32(1 - p)
    return [g * network.like(g, keep)]


_DROPOUT = Op(
    "dropout", doc="dropout with another mask in the backward pass", arity=1, rules=_again,
    reads=None, broadcasts=False, elementwise=False, floats=True, domain=None,
)  # fmt: skip

right_dropout = ops.dropout


def _resampled(x: Any, p: float = 0.5, training: bool = True, *, generator: Any = None) -> Any:
    y = right_dropout(x, p, training, generator=generator)
    if not isinstance(x, TensorBase) or x._edge is None or y is x:
        return y
    settings = {"p": p, "generator": generator}
    return record(_DROPOUT, (x._data,), (x._edge,), y._data, settings, type(x), y._data)


def _letters_in_order() -> Any:
    x = mg.tensor(np.arange(6.0).reshape(2, 3))
    return mg.log(mg.exp(x.T)).reshape(-1)


def _product_of_transposed() -> Any:
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    return (x.T @ mg.eye(2)).reshape(-1)


def _softmax_afterwards() -> Any:
    x = mg.tensor([0.0, 1.0], requires_grad=True)
    y = mg.softmax(x)
    (y * mg.tensor([1.0, 0.0])).sum().backward()
    return y.detach()


def _cotangent_afterwards() -> Any:
    x = mg.tensor([0.0, 1.0], requires_grad=True)
    g = mg.tensor([1.0, 0.0])
    mg.log_softmax(x).backward(g)
    return g


def _sums_of_nothing() -> Any:
    return str(mg.cumulative_sum(mg.zeros((0, 3)), axis=0).shape)


def _two_exponentials() -> Any:
    buffer = mg.tensor([0.0, 0.0])
    first = mg.exp(buffer).tolist()
    buffer._data[...] = 1.0  # what a pool of buffers does
    return [first, mg.exp(buffer).tolist()]


def _dropped() -> Any:
    x = mg.tensor(np.ones(8), requires_grad=True)
    y = mg.dropout(x, 0.5, generator=mg.generator(0))
    y.sum().backward()
    return [y.detach(), x.grad]


BUGS = (
    Bug(
        33,
        "a kernel that takes every array for a contiguous one",
        wrong="for i in range(n): y[i] = exp(memory[i])",
        right="… memory[offset + row * stride0 + column * stride1]",
        story=(
            "An array is a piece of memory and a rule for reading it. A transposed matrix is the "
            "same memory with another rule. A kernel that goes through the memory from the start "
            "gives right numbers in the wrong order, of the right shape and dtype. Fresh arrays "
            "are contiguous, so every small test passes; transposes, slices and reversed arrays, "
            "which are views, come up inside models."
        ),
        blind=(
            "Tests that make their inputs with rand() only ever see contiguous ones, and the "
            "gradient of exp is computed from its own wrong output. gradcheck runs every function "
            "again with inputs in other layouts: LAYOUT."
        ),
        plant=kernels(exp=_exp_of_buffer),
        killers=(gradcheck("exp", "LAYOUT"),),
        missed_by=(Check("adjoint", "exp"),),
        show=demos.value("log(exp(x.T)) for x = ((0, 1, 2), (3, 4, 5))", _letters_in_order),
    ),
    Bug(
        34,
        "a matrix product that ignores strides",
        wrong="gemm(a.pointer, b.pointer, row length = columns)",
        right="gemm with the strides of a and b, or with copies of them",
        story=(
            "Libraries for matrix products want to know how long a row is in memory, and whether "
            "the matrix is transposed. If they are told what holds for a fresh array, they "
            "multiply by another matrix. The product's own gradient needs transposed matrices, "
            "so it is always wrong, while forward passes look fine. With square matrices not even "
            "a size gives it away."
        ),
        blind=(
            "Forward tests with fresh arrays pass. gradcheck sees it already in the gradient, and "
            "with the layouts for certain: LAYOUT or VALUE."
        ),
        plant=kernels(matmul=_matmul_of_buffers),
        killers=(gradcheck("matmul", "LAYOUT", "VALUE"),),
        missed_by=(Check("no_hidden_state", "matmul"),),
        show=demos.value("x.T times the identity, for x = ((1, 2), (3, 4))",
                         _product_of_transposed),
    ),
    Bug(
        35,
        "the backward pass scribbles on what was saved",
        wrong="y *= g - total",
        right="grad = y * (g - total)",
        story=(
            "The rule of softmax has its output y at hand, does not need it afterwards, and saves "
            "an allocation by computing in it. But y is not the rule's. It is the tensor that the "
            "user holds, it may be the input of the next op, which has kept it too, and a second "
            "pass over the graph needs it again. The first gradient is perfectly right."
        ),
        blind=(
            "Everything that looks at one gradient only. gradcheck keeps copies of inputs, output "
            "and cotangent and compares afterwards (MUTATED); it also goes back a second time."
        ),
        plant=kernels(softmax_vjp=_over_the_output),
        killers=(gradcheck("softmax", "MUTATED"),),
        missed_by=(Check("adjoint", "softmax"), Check("gradcheck_twice", "softmax")),
        show=demos.value("the probabilities softmax(0, 1), after backward()", _softmax_afterwards),
    ),
    Bug(
        36,
        "the gradient from above is overwritten",
        wrong="g -= exp(y) * sum(g)",
        right="grad = g - exp(y) * sum(g)",
        story=(
            "g came in, the gradient goes out, the shape is the same: computing in place is "
            "tempting. But an addition passes one g to both of its inputs, so another branch of "
            "the graph is about to read it. What that branch gets depends on which of the two was "
            "visited first."
        ),
        blind=(
            "A chain of ops never looks at g again. gradcheck compares the cotangent with a copy: "
            "MUTATED."
        ),
        plant=kernels(log_softmax_vjp=_over_the_cotangent),
        killers=(gradcheck("log_softmax", "MUTATED"),),
        missed_by=(Check("adjoint", "log_softmax"), Check("fused_equals_body", "log_softmax")),
        show=demos.value("the gradient (1, 0) that was passed to backward, afterwards",
                         _cotangent_afterwards),
    ),
    Bug(
        37,
        "empty arrays crash",
        wrong="sums = [rows[0]]",
        right="sums = [zeros]",
        story=(
            "A running sum starts with the first element. An empty selection has none: the batch "
            "in which no example had the rare class, the last shard of a data set, the mask that "
            "hides everything. It happens once in a million steps, at night, and the program "
            "stops."
        ),
        blind=(
            "Nobody writes a test with an array of no elements by hand. Sides of length 0 are "
            "drawn like all others, and shrinking leads to them; the check ends with the kernel's "
            "own error."
        ),
        plant=kernels(cumulative_sum=_starting_with_the_first),
        killers=(gradcheck("cumulative_sum", "ShapeError"),),
        show=demos.value("the running sum of an array (0, 3)", _sums_of_nothing),
    ),
    Bug(
        38,
        "a cache that goes by the address",
        wrong="if address in cache: return cache[address]",
        right="compute",
        story=(
            "Results are kept so that the same input is not computed twice, and the input is "
            "recognised by where it lies in memory. Memory is used again. As soon as an array is "
            "freed, another one of the same size gets its place, and the answer is for the one "
            "before. A buffer that is filled anew for every batch gives the first batch's result "
            "for ever."
        ),
        blind=(
            "One call is right, and so are many calls while all arrays are alive. `fresh_result` "
            "changes the numbers in a buffer and asks again."
        ),
        plant=kernels(exp=_by_address),
        killers=(Check("fresh_result", "exp"),),
        show=demos.value("exp of a buffer of zeros, and of the same buffer filled with ones",
                         _two_exponentials),
    ),
    Bug(
        39,
        "dropout draws its mask again for the backward pass",
        wrong="mask = random() >= p   (in the backward pass)",
        right="the mask that was drawn in the forward pass",
        story=(
            "Dropout sets random elements to 0. The gradient has to be 0 for the same ones. If "
            "the backward pass draws a mask of its own, with the same probability, then the mean "
            "is right, and so is every statistic of one of the passes; what is wrong is only that "
            "they do not belong together. Elements that took part are not corrected, and others "
            "are corrected for what they did not do."
        ),
        blind=(
            "Tests of the share of zeros and of the mean pass. The law is: gradient times x equals "
            "g times output, element by element."
        ),
        plant=functions((mg, "dropout", _resampled), (ops, "dropout", _resampled)),
        killers=(Check("dropout_goes_back_through_its_mask"),),
        missed_by=(Check("dropout_keeps_the_mean"),),
        show=demos.value("dropout of eight ones, and the gradient of its sum", _dropped),
    ),
)  # fmt: skip
