"""What an op call does with inputs that are not simply tensors of one kind, and with failures."""

from __future__ import annotations

from typing import Any

import numpy as np

from microgpt import config
from microgpt.errors import (
    AnomalyError,
    BackendError,
    DTypeError,
    InputTypeError,
    MicrogptError,
    ShapeError,
)
from microgpt.graph import TensorBase, caller_line, debugging
from microgpt.ops import table
from microgpt.ops.table import Op
from microgpt.plugins import registry

NUMBERS = (bool, int, float)
_FLOATING = "f"


def array_type(raws: tuple[Any, ...]) -> type:
    """The class by which kernels are found: that of the first input that is no plain number."""
    for x in raws:
        if x is not None and type(x) not in NUMBERS:
            return type(x)
    if not raws or raws[0] is None:
        raise InputTypeError("an op needs at least one input; got none")
    return type(raws[0])


def fused_kernel(op: Op, raws: tuple[Any, ...], record: bool) -> Any:
    """The backend's kernel for a fused op, if it can be used; None means: run the body."""
    cache = op.fast_recorded if record else op.fast
    return cache[array_type(raws)]  # pyright: ignore[reportOptionalSubscript]


def unwrap(op: Op, args: tuple[Any, ...], first: TensorBase) -> tuple[tuple, tuple]:
    """Raw arrays and graph edges of the inputs, converted to one backend and one float type."""
    raws: list[Any] = []
    edges: list[Any] = []
    kind = type(first._data)
    dtype = first._data.dtype
    # As long as everything is like the first tensor, there is nothing to convert.
    alike = first._edge is not None or not op.floats or getattr(dtype, "kind", "") == _FLOATING
    for i, a in enumerate(args):
        if isinstance(a, TensorBase):
            raw = a._data
            raws.append(raw)
            edges.append(a._edge)
            if type(raw) is not kind or (raw.dtype is not dtype and i not in op.index_inputs):
                alike = False
            continue
        edges.append(None)
        if a is None:
            raws.append(None)
            continue
        raws.append(_raw(op, i, a, first))
        alike = False
    return (tuple(raws) if alike else matched(op, tuple(raws))), tuple(edges)


def _raw(op: Op, i: int, a: Any, first: TensorBase) -> Any:
    """An input that is no tensor, as a number or as an array that goes with `first`."""
    if type(a) in NUMBERS or type(a) is type(first._data):
        if isinstance(a, np.ndarray):  # somebody may change it before the backward pass
            return a.copy()
        return a
    if isinstance(a, (float, int)):  # np.float64 is a float: as weak as Python's
        return a.item() if isinstance(a, np.generic) else a
    if isinstance(a, (np.ndarray, np.generic)) or (
        isinstance(a, (list, tuple)) and i in op.index_inputs
    ):
        backend = registry.backend_of(first._data)
        return backend.asarray(np.asarray(a), None, backend.device(first._data))
    raise InputTypeError(
        f"{op.name} takes tensors, numbers and NumPy arrays; got a {type(a).__name__} as "
        f"argument {i + 1}; make a tensor of it with mg.tensor(…)"
    )


def matched(op: Op, raws: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs, with integers converted to the float type of the others.

    Raises:
        BackendError: if they live on two backends.
        DTypeError: if they have two float types.
    """
    owner = None
    floats: set[np.dtype] = set()
    weak_float = False
    others = False
    for i, x in enumerate(raws):
        if x is None:
            continue
        if type(x) in NUMBERS:
            weak_float |= type(x) is float and i not in op.index_inputs
            continue
        backend = registry.backend_of(x)
        owner = owner or backend
        if backend is not owner:
            raise BackendError(
                f"{op.name} was given tensors of the backends '{owner.name}' and "
                f"'{backend.name}'; move one of them: x.to('{owner.name}')"
            ).about("two-backends")
        if i not in op.index_inputs:
            dtype = backend.dtype(x)
            if dtype.kind == _FLOATING:
                floats.add(dtype)
            else:
                others = True
    if len(floats) > 1:
        names = " and ".join(sorted(str(d) for d in floats))
        raise DTypeError(
            f"{op.name} was given tensors of two float types, {names}; required: one; convert "
            f"with x.astype('{sorted(map(str, floats))[0]}'), or make them with "
            "dtype= in the first place"
        ).about("two-float-types")
    if others and owner is not None and (floats or weak_float or op.floats):
        dtype = floats.pop() if floats else np.dtype(config.get("dtype"))
        raws = tuple(
            [
                x
                if x is None
                or type(x) in NUMBERS
                or i in op.index_inputs
                or owner.dtype(x).kind == _FLOATING
                else cast(x, dtype)
                for i, x in enumerate(raws)
            ]
        )
    return raws


def constant_input(op: Op, x: Any) -> Any:
    """`x`, the input of an op without a graph, as a float if the op is one of real numbers."""
    return matched(op, (x,))[0] if op.floats else x


def cast(x: Any, dtype: np.dtype) -> Any:
    """The raw array `x` with another data type."""
    return table.TABLE["astype"].kernels[type(x)](x, dtype=dtype)


# ---- failures --------------------------------------------------------------------------------


def explain(op: Op, error: Exception, raws: tuple[Any, ...], params: dict[str, Any]) -> Exception:
    """The error to raise when a kernel failed: names the op and what it was given."""
    if isinstance(error, (MicrogptError, MemoryError)):
        return error
    shapes = [tuple(x.shape) if hasattr(x, "shape") else repr(x) for x in raws]
    given = ", ".join(str(s) for s in shapes)
    if params:
        given += "; " + ", ".join(f"{k}={v!r}" for k, v in params.items() if not callable(v))
    mend = _mend(op, [s for s in shapes if isinstance(s, tuple)])
    text = f"{op.name}: {mend or error}; got {given}"
    if isinstance(error, TypeError):
        return InputTypeError(text)
    # Some libraries raise RuntimeError for shapes that do not fit, as they do for other failures.
    fits = isinstance(error, (ValueError, IndexError)) or (mend and type(error) is RuntimeError)
    if not fits:
        return error
    found = ShapeError(text)
    if mend:
        found.about("matmul-shapes" if op.name == "matmul" else "broadcasting")
    return found


def _mend(op: Op, shapes: list[tuple[int, ...]]) -> str:
    if op.elementwise and len(shapes) == 2:
        a, b = shapes
        for back, (m, n) in enumerate(zip(reversed(a), reversed(b), strict=False), 1):
            if m != n and 1 not in (m, n):
                text = (
                    f"shapes do not broadcast: counted from the right, dimension {back} is {m} in "
                    f"the first and {n} in the second; required: equal, or 1 in one of them"
                )
                if a == b[::-1]:
                    text += " (one of them transposed, x.T, would fit)"
                elif a[:1] == b[:1]:
                    text += " (if the first dimensions belong together, add one: x[:, None])"
                return text
    if op.name == "matmul" and len(shapes) == 2:
        a, b = (list(s) for s in shapes)
        inner = b[len(b) - 2] if len(b) > 1 else b[0]
        if a[-1] != inner:
            text = (
                f"the last dimension of the first ({a[-1]}) must equal the "
                f"{'second to last' if len(b) > 1 else 'only'} one of the second ({inner})"
            )
            if len(b) > 1 and a[-1] == b[-1]:
                text += " (the second transposed, b.mT, would fit)"
            return text
        return "the leading dimensions (all but the last two) must broadcast"
    return ""


def check_finite(op: Op, raws: tuple[Any, ...], out: Any, phase: str = "") -> None:
    """In debug mode: complain about the first NaN or infinity made from finite inputs.

    Raises:
        AnomalyError: naming the op and the user's line.
    """
    if not debugging() or _finite(out):
        return
    if all(_finite(x) for x in raws):
        values = registry.backend_of(out).to_numpy(out)
        bad = values[~np.isfinite(values)].flat[0]
        kind = "NaN" if np.isnan(bad) else f"infinity ({bad})"
        shapes = ", ".join(str(getattr(x, "shape", x)) for x in raws)
        raise AnomalyError(
            f"{op.name}{phase} made the first {kind} from finite inputs\n"
            f"  at {caller_line()}\n  inputs {shapes}; {int((~np.isfinite(values)).sum())} of "
            f"{values.size} values of the output are not finite"
        ).about("first-nan")


def _finite(x: Any) -> bool:
    if x is None or type(x) in (int, bool):
        return True
    values = np.asarray(x if type(x) is float else registry.backend_of(x).to_numpy(x))
    return values.dtype.kind != _FLOATING or bool(np.isfinite(values).all())
