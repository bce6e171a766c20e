"""Values, functions and whole checks as code that can be pasted."""

from __future__ import annotations

import inspect
import re
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import microgpt
from microgpt.scalar import Scalar
from microgpt.tensor import Tensor

if TYPE_CHECKING:
    from microgpt.testing.checking import Settings
    from microgpt.testing.subject import Subject

LONG = 64
"""Arrays with more elements have only a name in the line that repeats a check."""


def input_texts(subject: Subject) -> list[str]:
    """Shape, type and memory layout of each input."""
    texts = []
    for i, x in enumerate(subject.inputs):
        name = _input_name(subject, i)
        if isinstance(x, (np.ndarray, Tensor)):
            order = ""
            if isinstance(x, np.ndarray) and not x.flags.c_contiguous:
                order = " F" if x.flags.f_contiguous else f" strides {x.strides}"
            backend = f" on {x.backend}" if isinstance(x, Tensor) and x.backend != "numpy" else ""
            texts.append(f"{name}: {tuple(x.shape)} {x.dtype}{order}{backend}")
        else:
            texts.append(f"{name}: {literal(x)}")
    return texts


def _input_name(subject: Subject, i: int) -> str:
    return subject.argument_names[i] if subject.argument_names else f"input_{i}"


def function_text(function: Any) -> str:
    """How to name a function in a line of code."""
    if isinstance(function, partial):
        filled = [literal(x) for x in function.args]
        filled += [f"{k}={literal(v)}" for k, v in function.keywords.items()]
        return f"functools.partial({', '.join([function_text(function.func), *filled])})"
    op = getattr(function, "op", None)
    name = getattr(function, "__name__", None)
    if op is not None and str(getattr(function, "__module__", "")).startswith("microgpt."):
        public = getattr(microgpt, op.name, None) is function
        return f"mg.{op.name}" if public else f"mg.ops.by_name({op.name!r}).function"
    if name is not None and getattr(microgpt, name, None) is function:
        return f"mg.{name}"
    if inspect.ismethod(function):
        return f"{instance_text(function.__self__)}.{name}"
    if name is None:
        return instance_text(function)
    return name if name.isidentifier() else "function"


def instance_text(value: Any) -> str:
    """A name for an object of a class."""
    return type(value).__name__.lower() if not inspect.isclass(value) else value.__name__


def function_place(function: Any) -> str:
    """Where a function that is named only \"function\" in the line is defined."""
    code = getattr(function, "__code__", None)
    if code is None or function_text(function) != "function":
        return ""
    return f"function is the lambda in {code.co_filename}, line {code.co_firstlineno}"


def literal(x: Any) -> str:
    """A value as code that makes it again."""
    if isinstance(x, Tensor):
        backend = "" if x.backend == "numpy" else f", backend={x.backend!r}"
        return f"mg.tensor({literal(x.numpy())}{backend})"
    if isinstance(x, Scalar):
        return f"mg.Scalar({literal(x.data)})"
    if isinstance(x, float):
        return _finite(repr(float(x)))
    if isinstance(x, np.generic):
        return _finite(repr(x.item()))
    if isinstance(x, (list, tuple)) and type(x) in (list, tuple):
        inside = ", ".join(map(literal, x))
        return f"[{inside}]" if isinstance(x, list) else f"({inside}{',' * (len(x) == 1)})"
    if not isinstance(x, np.ndarray):
        return repr(x)
    return _array(x)


def _array(x: np.ndarray) -> str:
    """An array, in the memory layout that it has where that is a usual one."""
    if 0 in x.shape:
        return f"np.empty({x.shape}, dtype='{x.dtype}')"
    plain = f"np.array({_finite(repr(x.tolist()))}, dtype='{x.dtype}')"
    if x.flags.c_contiguous:
        return plain
    if any(s == 0 and n > 1 for n, s in zip(x.shape, x.strides, strict=True)):
        places = zip(x.shape, x.strides, strict=True)
        one = x[tuple([slice(0, 1) if s == 0 and n > 1 else slice(None) for n, s in places])]
        return f"np.broadcast_to({_array(np.ascontiguousarray(one))}, {x.shape})"
    order = tuple(np.argsort([-abs(s) for s in x.strides], kind="stable").tolist())
    if x.transpose(order).flags.c_contiguous:
        back = tuple(np.argsort(order).tolist())
        return f"{_array(np.ascontiguousarray(x.transpose(order)))}.transpose({back})"
    if x.strides[0] < 0:
        return f"np.array({_finite(repr(x[::-1].tolist()))}, dtype='{x.dtype}')[::-1]"
    return f"np.repeat({plain}, 2, axis=-1)[..., ::2]"


def _finite(text: str) -> str:
    """Infinities and nan as NumPy's names."""
    return re.sub(r"\b(inf|nan)\b", r"np.\1", text)


def kwargs_text(kwargs: dict[str, Any]) -> str:
    """Code for further arguments."""
    return "{" + ", ".join(f"{k!r}: {literal(v)}" for k, v in kwargs.items()) + "}"


def options(subject: Subject, settings: Settings) -> list[str]:
    """The arguments of the check that are not the usual ones."""
    from microgpt.testing.checking import Settings
    from microgpt.testing.gradcheck import CODES

    usual = Settings(checks=CODES)
    parts = []
    if tuple(subject.wrt) != tuple(range(len(subject.inputs))):
        parts.append(f"wrt={list(subject.wrt)}")
    if subject.kwargs:
        parts.append(f"kwargs={kwargs_text(subject.kwargs)}")
    for name in ("order", "checks", "n_proj", "seed", "rtol", "atol"):
        if getattr(settings, name) != getattr(usual, name):
            parts.append(f"{name}={literal(getattr(settings, name))}")
    if subject.backend is not None:
        parts.append(f"backend={subject.backend!r}")
    return parts


def repeat_line(subject: Subject, settings: Settings) -> str:
    """One line of code that repeats the check, and where to find what it only names."""
    parts, notes = [function_text(subject.function)], []
    for i, x in enumerate(subject.inputs):
        if isinstance(x, (np.ndarray, Tensor)) and np.prod(x.shape) > LONG:
            parts.append(_input_name(subject, i))
            notes.append(f"{parts[-1]} is your input {i}, which is too long to be written here")
        else:
            parts.append(literal(x))
    line = f"mg.testing.gradcheck({', '.join([*parts, *options(subject, settings)])})"
    place = function_place(subject.function)
    notes = [*([place] if place else []), *notes]
    if len(notes) > bool(place):
        notes.append("mg.testing.write_report(error.report, folder) writes it all down")
    return line + "".join(f"\n    ({note})" for note in notes)
