"""`bisect`: runs a function in lockstep on two backends, and puts into words what is found."""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from microgpt import config
from microgpt.autograd import gradients_of
from microgpt.errors import BackendError, InputError
from microgpt.graph import TensorBase
from microgpt.ops import calls
from microgpt.ops.table import by_name
from microgpt.plugins import plugged, registry, rule_running
from microgpt.tensor import Tensor, tensor
from microgpt.testing.bisection.agreement import Gap
from microgpt.testing.bisection.definition import Definition
from microgpt.testing.bisection.lockstep import OPERATORS, Lockstep, Parted, is_pair
from microgpt.testing.bisection.op_call import Call, gradients
from microgpt.testing.bisection.repeating import inputs_again, written
from microgpt.testing.bisection.report import Bisection


def bisect(
    function: Callable[..., Any] | str,
    first: str,
    second: str,
    *args: Any,
    seed: int | None = None,
    rtol: float | None = None,
    params: Mapping[str, Any] | None = None,
) -> Bisection:
    """Run `function` on two backends at once and find the first op at which they part.

    It runs once, on tensors that live on both backends. Each kernel, gradient kernel and operator
    of arrays gets equal values on both; then the results are compared, and the run goes on with
    those of `first`. So nothing adds up, nothing is kept, and a training may be as long as you
    have time for: it takes a few times as long as on both backends together. Where only one
    backend has a fused kernel, it is compared with the op's body on the other.

    Allowed is what rounding explains, by the bounds of the conformance kit for each kind of op:
    none for moving and picking, units in the last place for elementwise ops, rounding of the terms
    for sums. What it cannot see: a backend that defers work has to do each op at once here.

    Args:
        function: anything that computes with tensors: a training step, with backward passes and
            optimizers. It has to make its tensors itself, without naming a backend, or get them
            as arguments. Or the name of one op in the op table; of the gradient of a fused one
            (``"softmax_vjp"``: args are the output's gradient, the output, or None to compute it,
            and the inputs); of an operator (``"*"``).
        first, second: the backends, as ``"numpy"`` or with a device, ``"opencl:1"``.
        args: NumPy arrays become tensors; tensors, and copies of modules, are moved. Others are
            passed on.
        seed: the setting `seed` while it runs; by default the one in effect.
        rtol: allow this share of the largest element of each result instead.
        params: further arguments of the op, where `function` is a name.

    Returns:
        What was found; a difference is no error.

    Raises:
        BackendError: if there is no such backend, or an op fails on one of the two.
        InputError: if the function runs no op on them.

    Example:
        >>> import numpy as np
        >>> import microgpt as mg
        >>> print(mg.testing.bisect(lambda x: mg.tanh(x).sum(), "numpy", "numpy", np.ones(3)))
        <lambda>: numpy and numpy agree in all 2 op calls
    """
    if isinstance(function, str):
        name, run = function, _by_name(function, params or {})
    elif params is not None:
        raise InputError("bisect: params= belongs to an op given by its name; use a lambda instead")
    else:
        name, run = getattr(function, "__name__", type(function).__name__), function
    parts = [repr(name) if isinstance(function, str) else name, repr(first), repr(second)]
    parts += ["…"] * bool(args) + [f"seed={seed}"] * (seed is not None)
    parts += [f"rtol={rtol}"] * (rtol is not None)
    again = f"mg.testing.bisect({', '.join(parts)})"
    return find(run, name, first, second, args, seed, rtol, again)


def find(
    function: Callable[..., Any], name: str, first: str, second: str, args: tuple[Any, ...],
    seed: int | None, rtol: float | None, again: str,
) -> Bisection:  # fmt: skip
    """What `bisect` does; `again` is the line of code that does all of it once more."""
    lockstep = watch(function, first, second, args, seed, rtol)
    found = Bisection(name, first, second, lockstep.count)
    if lockstep.gap is not None:
        _describe(found, lockstep.gap, rtol, again)
    return found


def watch(
    function: Callable[..., Any], first: str, second: str, args: tuple[Any, ...],
    seed: int | None, rtol: float | None, opened: Sequence[str] = (),
) -> Lockstep:  # fmt: skip
    """Run `function` in lockstep, up to the first difference."""
    places = []
    for text in (first, second):
        name, _, device = text.partition(":")
        registry.backend(name)
        places.append((name, device or config.place(name)[1]))
    lockstep = Lockstep(places[0], places[1], rtol, opened)
    settings: dict[str, Any] = {"backend": lockstep.name, "device": "both"}
    if seed is not None:
        settings["seed"] = seed
    with plugged(Definition()), plugged(lockstep), config.configure(**settings):
        registry.backend(Definition.name)
        given = [_moved(x) for x in args]
        try:
            function(*given)
        except Parted:
            pass
        except Exception as error:
            if isinstance(error, BackendError) and f"'{lockstep.name}'" in str(error):
                error.add_note("to bisect, hand over tensors and modules from outside as arguments")
            error.add_note(f"while {first} and {second} ran together, after {lockstep.count:,} ops")
            if lockstep.gap is None:
                raise
    if not lockstep.count:
        raise InputError(
            f"bisect needs a function that runs ops on the backends it is told to compare, {first} "
            f"and {second}; got one that runs none there; make its tensors inside of it, without "
            "backend= or use_backend(), or hand them over as arguments"
        )
    return lockstep


def _moved(x: Any) -> Any:
    """An argument on the backend of the settings in effect."""
    if isinstance(x, (TensorBase, np.ndarray)):
        backend, device = config.place()
        return tensor(x, None, getattr(x, "requires_grad", False), backend, device)
    if hasattr(x, "named_parameters"):
        backend, device = config.place()
        return copy.deepcopy(x).to(backend=backend, device=device)
    return x


def _by_name(name: str, params: Mapping[str, Any]) -> Callable[..., Any]:
    """A function that runs the op `name`, the gradient of it, or an operator of arrays."""
    for sign, function in (*OPERATORS.values(), ("-x", operator.neg)):
        if name == sign:
            return lambda *xs: function(*[x._data if is_pair(x) else x for x in xs])
    op = by_name(name.removesuffix("_vjp"))

    def forward(*inputs: Any) -> Any:
        return calls.run(op, inputs, {k: _moved(v) for k, v in params.items()})

    def gradient(g: Tensor, y: Tensor | None, *inputs: Any) -> Any:
        needs = [is_pair(x) and x.dtype.kind == "f" for x in inputs]
        if y is None:
            moved = [
                tensor(x, requires_grad=n) if is_pair(x) else x
                for x, n in zip(inputs, needs, strict=True)
            ]
            wanted = [x for x, n in zip(moved, needs, strict=True) if n]
            return gradients_of([forward(*moved)], wanted, [g])
        token = rule_running.set(op.name)
        try:
            raws = [x._data if is_pair(x) else x for x in (g, y, *inputs)]
            settings = {k: _moved(v) for k, v in params.items()}
            return gradients(op, raws[0], raws[1], raws[2:], needs, settings)
        finally:
            rule_running.reset(token)

    return gradient if name.endswith("_vjp") else forward


def _describe(found: Bisection, gap: Gap, rtol: float | None, otherwise: str) -> None:
    """Put a difference into `found`, with a line that repeats it.

    The line runs the op alone if it parts there too; else it is `otherwise`, which runs everything.
    """

    def alone(inputs: Sequence[Any], *opened: str) -> Gap | None:
        run = _by_name(name, params)
        return watch(run, found.first, found.second, tuple(inputs), None, rtol, opened).gap

    call = gap.call
    name, inputs, params = call.kernel(), _inputs(call), call.host_params
    if call.body:
        # One backend ran several ops here. Which of them? Now the other one runs them, too.
        rule = call.needs and call.op.rules is not None
        ends = ("_vjp",) if rule else ("", "_saving", "_vjp")
        part = alone(inputs, *[call.op.name + end for end in ends])
        if part is not None:
            found.inside, gap, call = call.op.name, part, part.call
            name, inputs, params = call.kernel(), _inputs(call), call.host_params
    found.agree, found.gap = False, gap
    found.op, found.within, found.operator = call.op.name, call.within, call.operator
    found.phase = "backward" if call.within else call.phase
    found.inputs, found.params = inputs, params
    found.difference, found.allowed, found.values = gap.difference, gap.allowed, gap.values

    def parts(inputs: Sequence[Any]) -> bool:
        again = alone(inputs)
        return again is not None and again.call.kernel() == name

    found.alone, found.repeat = parts(inputs), otherwise
    values, codes = inputs_again(inputs)
    settings = {k: written(v) for k, v in params.items()}
    if found.alone and None not in (*codes, *settings.values()) and parts(values):
        if settings:
            codes.append("params={" + ", ".join(f"{k!r}: {v}" for k, v in settings.items()) + "}")
        if rtol is not None:
            codes.append(f"rtol={rtol}")
        given = ", ".join([repr(name), repr(found.first), repr(found.second), *map(str, codes)])
        found.repeat = f"mg.testing.bisect({given})"


def _inputs(call: Call) -> tuple[Any, ...]:
    """NumPy arrays, numbers and None. What no gradient rule reads was not kept: zeros for it."""
    dtype = next(x.dtype for x in call.hosts if isinstance(x, np.ndarray))
    kept = [hasattr(x, "dtype") or not hasattr(x, "shape") for x in call.hosts]
    return tuple(
        [x if k else np.zeros(x.shape, dtype) for x, k in zip(call.hosts, kept, strict=True)]
    )
