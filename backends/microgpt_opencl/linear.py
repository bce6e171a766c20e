"""x·Wᵀ + bias and its gradients: products of `linalg`, found with less ado, and in one launch."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any, Literal

from microgpt_opencl import reduction
from microgpt_opencl.arrays import Array, empty, view
from microgpt_opencl.elementwise import add, fill
from microgpt_opencl.fusion import contiguous, realised
from microgpt_opencl.linalg import (
    FEW,
    GRADIENTS,
    Plan,
    ceil,
    cpu_kernel,
    launch,
    long4,
    plan_of,
    product,
    sizes,
    tall,
)
from microgpt_opencl.movement import reshape


def _rows(x: Array) -> Array:
    """(…, n) as (rows, n)."""
    x = realised(x)
    if x.ndim == 2:
        return x
    n = x.shape[-1]
    if x.ndim > 2 and (flat := tall(x, x.shape[-2])) is not None:
        return flat
    x = contiguous(x)
    return view(x, (prod(x.shape[:-1]), n), (n, 1), x.start)


def _transposed(x: Array) -> Array:
    x = realised(x)
    return view(x, x.shape[::-1], x.strides[::-1], x.start)


def linear(x: Array, weight: Array, bias: Array | None) -> Array:
    x, weight = realised(x), realised(weight)
    device = x.device
    recipes = device.programs.recipes
    key = (
        "linear", device.gemm, x.dtype.char, weight.dtype.char, x.shape, x.strides, weight.shape,
        weight.strides,
    )  # fmt: skip
    plan = recipes.get(key)
    if plan is None:
        plan = recipes[key] = _linear_plan(x, weight)
    if plan is not False:
        y = empty(device, (*x.shape[:-1], weight.shape[0]), x.dtype)
        launch(plan, x, weight, y, bias, 0)
        return y
    y = product(_rows(x), _transposed(weight), bias=None if bias is None else realised(bias))
    if not x.shape[-1] and bias is not None:  # the product of nothing
        y = add(fill(y, 0), bias)
    return y if x.ndim == 2 else reshape(y, shape=(*x.shape[:-1], weight.shape[0]))


def _linear_plan(x: Array, weight: Array) -> Plan | Literal[False]:
    """The plan of x·Wᵀ as one product of a kernel of ours; False if it takes something else."""
    device, dtype, (n, k) = x.device, x.dtype, weight.shape
    m = prod(x.shape[:-1])
    flat = x if x.ndim == 2 else tall(x, x.shape[-2]) if x.ndim > 2 else None
    few = device.unified and m <= FEW
    if flat is None or dtype is not weight.dtype or dtype.kind != "f" or not m * n * k:
        return False
    if k != x.shape[-1] or few or device.blas or not device.cpu:
        return False
    return plan_of(flat, _transposed(weight), view(flat, (m, n), (n, 1), 0), (), m, n, k)


def linear_vjp(g: Array, y: Any, x: Array, weight: Array, bias: Any, *, needs: Any) -> tuple:
    for_x, for_weight, for_bias = needs
    rows = _rows(g)
    if for_weight and for_bias and _one_launch(rows, x, weight):
        return _all_gradients(rows, _rows(x), realised(weight), x.shape, for_x)
    to_x = to_weight = to_bias = None
    if for_x:
        to_x = product(rows, realised(weight))
        if x.ndim != 2:
            to_x = reshape(to_x, shape=x.shape)
    if for_weight:
        to_weight = product(_transposed(rows), _rows(x))
    if for_bias:
        to_bias = reduction.column_sums(rows)
    return to_x, to_weight, to_bias


def _one_launch(g: Array, x: Array, weight: Array) -> bool:
    """Whether one kernel computes all gradients: on processors, unless their BLAS does better."""
    return (
        g.device.cpu
        and g.dtype.kind == "f"
        and g.dtype is x.dtype is weight.dtype
        and g.strides[1] == 1
        and g.shape[0] > FEW
        and min(weight.shape) > 0
        and not g.device.blas
    )


def _all_gradients(
    g: Array, x: Array, weight: Array, shape: tuple[int, ...], for_x: bool
) -> tuple[Array | None, Array, Array]:
    device, dtype, (m, n), k = g.device, g.dtype, g.shape, x.shape[1]
    to_weight, to_bias = empty(device, (n, k), dtype), empty(device, (n,), dtype)
    to_x = empty(device, shape, dtype) if for_x else None
    recipes = device.programs.recipes
    key = ("linear_vjp", device.gemm, dtype.char, m, n, k, for_x, g.strides, weight.strides)
    plan = recipes.get(key)
    if plan is None:
        x_share, w_share = ceil(m, device.units), ceil(ceil(k, device.units), 64) * 64
        x_tasks, w_tasks = ceil(m, x_share) if for_x else 0, ceil(k, w_share)
        kernel, flag = cpu_kernel(device, dtype.char, "linear_vjp", m, n, k)
        numbers = sizes(m, k, n, 1, GRADIENTS + flag, 0, 0, x_tasks, x_share, w_tasks, w_share)
        packed = long4(*g.strides, 0, 0), long4(*weight.strides, 0, 0), long4(k, 1, 0, 0)
        plan = recipes[key] = kernel, (x_tasks + w_tasks + 1,), packed, numbers
    kernel, size, (of_g, of_weight, of_x), numbers = plan
    args = [
        g.block.buffer, g.start, of_g, weight.block.buffer, weight.start, of_weight,  # pyright: ignore
        None if to_x is None else to_x.block.buffer, 0, of_x, None, 0, numbers,  # pyright: ignore
        x.block.buffer, x.start, *x.strides,  # pyright: ignore
        to_weight.block.buffer, to_bias.block.buffer,  # pyright: ignore
    ]  # fmt: skip
    device.submit(kernel, size, (1,), args)
    return to_x, to_weight, to_bias


KERNELS: dict[str, Callable[..., Any]] = {"linear": linear, "linear_vjp": linear_vjp}
