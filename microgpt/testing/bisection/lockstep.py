"""Two backends as one: every op runs on both, is compared, and goes on with equal values.

An array of this backend is a pair of arrays, one of each. Whatever is done with it, a kernel, the
kernel of a gradient or an operator, is done with both parts. Where the results differ by no more
than rounding, the second is replaced by the first. So no op inherits a difference from an earlier
one, and what is found wrong is wrong with the op at hand.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn

import numpy as np

from microgpt.backend import Backend
from microgpt.errors import BackendError
from microgpt.graph import TensorBase
from microgpt.hooks import OpEvent, hookimpl
from microgpt.ops.table import TABLE, Op
from microgpt.plugins import registry, rule_running
from microgpt.testing.bisection.agreement import Gap, gap_between
from microgpt.testing.bisection.op_call import Call, gradients, plain, run_op

OPERATORS = {
    "add": ("+", operator.add), "subtract": ("-", operator.sub), "multiply": ("*", operator.mul),
    "divide": ("/", operator.truediv), "pow": ("**", operator.pow),
    "less": ("<", operator.lt), "less_equal": ("<=", operator.le),
    "greater": (">", operator.gt), "greater_equal": (">=", operator.ge),
    "equal": ("==", operator.eq), "not_equal": ("!=", operator.ne),
}  # fmt: skip
"""The operators that gradient rules and optimizers apply to arrays, by the op they stand for."""


class Parted(BaseException):
    """Ends the run at the first difference. No program catches it by accident."""


class Pair:
    """An array of each backend, with the same values."""

    __array_ufunc__ = None  # NumPy's numbers leave operators to us
    __slots__ = ("__weakref__", "dtype", "ndim", "parts", "shape", "size")
    lockstep: Lockstep  # of the subclass that each lockstep makes for itself

    def __init__(self, parts: tuple[Any, Any], dtype: np.dtype) -> None:
        self.parts = parts
        self.dtype = dtype
        self.shape = tuple(parts[0].shape)
        self.ndim = len(self.shape)
        self.size = int(np.prod(self.shape))

    def __neg__(self) -> Any:
        return self.lockstep.apply("negative", operator.neg, (self,))

    def __deepcopy__(self, memo: Any) -> Pair:
        return self  # nobody changes it


def _operator(name: str, function: Callable[..., Any], swapped: bool = False) -> Any:
    def apply(self: Pair, other: Any) -> Any:
        inputs = (other, self) if swapped else (self, other)
        return self.lockstep.apply(name, function, inputs)

    return apply


for _name, (_, _function) in OPERATORS.items():
    _short = _function.__name__.strip("_")
    setattr(Pair, f"__{_short}__", _operator(_name, _function))
    if _name in ("add", "subtract", "multiply", "divide", "pow"):
        setattr(Pair, f"__r{_short}__", _operator(_name, _function, swapped=True))
Pair.__hash__ = object.__hash__  # defining == took it away


class Lockstep(Backend):
    """The backend, and the plugin that brings it; `gap` is the difference that ended the run.

    Args:
        first, second: names of backends, each with the device to use (None: its own choice).
        rtol: see `microgpt.testing.bisect`.
        opened: names of kernels not to use: the fused op runs as its body, or its gradient as the
            op's rule, and the ops in there are compared one by one.
    """

    def __init__(
        self,
        first: tuple[str, str | None],
        second: tuple[str, str | None],
        rtol: float | None,
        opened: Sequence[str] = (),
    ) -> None:
        self.sides = [registry.backend(name) for name, _ in (first, second)]
        self.places = [device for _, device in (first, second)]
        self.name = f"{first[0]}+{second[0]}"
        self.array_type = type("Pair", (Pair,), {"lockstep": self, "__slots__": ()})
        self.array_types = (self.array_type,)
        self.dtypes = tuple([d for d in self.sides[0].dtypes if d in self.sides[1].dtypes])
        self.rtol = rtol
        self.opened = opened
        self.count = 0
        self.gap: Gap | None = None

    # ---- what a backend has ----------------------------------------------------------------

    def devices(self) -> Sequence[str]:
        """One, which stands for the devices of both."""
        return ("both",)

    def asarray(self, data: Any, dtype: np.dtype | None, device: str | None) -> Any:
        host = np.array(data, dtype=dtype, order="C")
        parts = [
            side.asarray(host, None, place)
            for side, place in zip(self.sides, self.places, strict=True)
        ]
        return self.array_type(tuple(parts), self.sides[0].dtype(parts[0]))

    def to_numpy(self, array: Any) -> np.ndarray:
        return self.sides[0].to_numpy(array.parts[0])

    def dtype(self, array: Any) -> np.dtype:
        return array.dtype

    # ---- the hooks of a plugin -------------------------------------------------------------

    @hookimpl
    def microgpt_backend_names(self) -> list[str]:
        """Its own name."""
        return [self.name]

    @hookimpl
    def microgpt_backend(self, name: str) -> Backend | None:
        """Itself."""
        return self if name == self.name else None

    @hookimpl
    def microgpt_op(self, event: OpEvent) -> None:
        """Nothing; but while somebody listens, kernels know in which gradient rule they run."""

    @hookimpl(tryfirst=True)
    def microgpt_kernel(self, backend: str, op: str) -> Any:
        """A kernel that runs both, if one of the two has it; the other runs the op's body."""
        if backend != self.name or op in self.opened or not any(self._has(op)):
            return None
        if op in TABLE:
            return partial(self._forward, TABLE[op])
        for end, run in (("_vjp", self._gradient), ("_saving", self._saving)):
            row = TABLE.get(op.removesuffix(end))
            if op.endswith(end) and row is not None and row.body is not None:
                return partial(run, row)
        return None

    def _has(self, op: str) -> list[bool]:
        return [registry.kernel(side.name, op) is not None for side in self.sides]

    # ---- running both ----------------------------------------------------------------------

    def apply(self, name: str, function: Callable[..., Any], inputs: tuple[Any, ...]) -> Any:
        """An operator of the arrays."""
        sign = OPERATORS[name][0] if name in OPERATORS else "-x"
        call = Call(TABLE[name], inputs, {}, "forward", rule_running.get(), operator=sign)
        return self._both(call, lambda xs, _: [function(*xs)])[0]

    def _forward(self, op: Op, *inputs: Any, **params: Any) -> Any:
        call = Call(op, inputs, params, "forward", rule_running.get())
        return self._both(call, lambda xs, params: [run_op(op, xs, params)])[0]

    def _saving(self, op: Op, *inputs: Any, **params: Any) -> tuple[Any, Any]:
        saved: list[Any] = []

        def compute(xs: tuple[Any, ...], params: dict[str, Any]) -> list[Any]:
            array = next(x for x in xs if hasattr(x, "shape"))
            kernel: Any = None if op.saving is None else op.saving[type(array)]
            out, kept = kernel(*xs, **params) if kernel else [run_op(op, xs, params)] * 2
            saved.append(kept)
            return [out]

        call = Call(op, inputs, params, "forward", rule_running.get())
        return self._both(call, compute)[0], _Saved(saved)

    def _gradient(
        self, op: Op, g: Any, y: Any, *inputs: Any, needs: tuple[bool, ...], **params: Any
    ) -> list[Any]:
        # What a kernel saved belongs to it; but then all inputs were kept as well.
        out = None if isinstance(y, _Saved) else y
        call = Call(op, (g, out, *inputs), params, "backward", None, needs=needs)
        kept = iter(y.parts if isinstance(y, _Saved | Pair) else (y, y))

        def compute(xs: tuple[Any, ...], params: dict[str, Any]) -> list[Any]:
            return gradients(op, xs[0], next(kept), xs[2:], needs, params)

        return self._both(call, compute)

    def _both(
        self, call: Call, compute: Callable[[tuple[Any, ...], dict[str, Any]], list[Any]]
    ) -> list[Any]:
        """The results of `compute` on each backend, as pairs with equal values."""
        self.count += 1
        if call.op.body is not None and not call.operator:
            names = zip(self.sides, self._has(call.kernel()), strict=True)
            call.body = next((side.name for side, has in names if not has), "")
        call.hosts = tuple([self._copy(x) for x in call.inputs])
        call.host_params = {k: plain(v, self._copy) for k, v in call.params.items()}
        self._check_inputs(call, "was changed since it was computed")
        made, hosts, errors = [], [], []
        for i, side in enumerate(self.sides):
            xs = tuple([_part(x, i) for x in call.inputs])
            params = {k: plain(v, partial(_part, i=i)) for k, v in call.params.items()}
            try:
                out = compute(xs, params)
                hosts.append([None if y is None else np.array(side.to_numpy(y)) for y in out])
            except Exception as error:
                errors.append((i, error))
                out = []
            made.append(out)
        if errors:
            self._fail(call, errors)
        self._check_inputs(call, "was changed by it")
        results: list[Any] = []
        for k, (x, y) in enumerate(zip(*hosts, strict=True)):
            if call.needs and not call.needs[k]:
                results.append(None)
                continue
            gap = gap_between(call, k, x, y, [s.ulps for s in self.sides], self.rtol)
            if gap is not None:
                self._part(gap)
            results.append(None if x is None else self._joined(made[0][k], made[1][k], x, y))
        return results

    def _joined(self, a: Any, b: Any, x: np.ndarray, y: np.ndarray) -> Any:
        """Both results as a pair; the second gets the values of the first."""
        second = self.sides[1]
        if x.tobytes() != y.tobytes():
            b = second.asarray(x, y.dtype, second.device(b))
        return self.array_type((a, b), self.sides[0].dtype(a))

    def _copy(self, x: Any) -> Any:
        return np.array(self.to_numpy(x)) if isinstance(x, Pair) else x

    def _check_inputs(self, call: Call, what: str) -> None:
        """Find kernels that write into arrays of others."""
        for k, (x, host) in enumerate(zip(call.inputs, call.hosts, strict=True)):
            if not isinstance(x, Pair):
                continue
            for side, part in zip(self.sides, x.parts, strict=True):
                now = side.to_numpy(part)
                if not np.array_equal(now, host, equal_nan=host.dtype.kind == "f"):
                    which = f"input {k + 1}"
                    if call.needs:
                        which = ("the output's gradient", "the output", f"input {k - 1}")[min(k, 2)]
                    self._part(Gap(call, f"{which} {what} on '{side.name}'", None))

    def _part(self, gap: Gap) -> NoReturn:
        self.gap = self.gap or gap
        raise Parted

    def _fail(self, call: Call, errors: list[tuple[int, Exception]]) -> NoReturn:
        place, error = errors[0]
        if len(errors) == 2:
            raise error  # the function's own mistake
        name, other = self.sides[place].name, self.sides[1 - place].name
        shapes = ", ".join(str(x.shape) for x in call.hosts if hasattr(x, "shape"))
        raise BackendError(
            f"backend '{name}' fails at op {self.count}, {call.title()}, of {shapes}, where "
            f"'{other}' computes a result; it says: {type(error).__name__}: {error}"
        ) from error


class _Saved:
    """What each backend's kernel saved for the gradient."""

    def __init__(self, parts: list[Any]) -> None:
        self.parts = parts


def _part(x: Any, i: int) -> Any:
    return x.parts[i] if isinstance(x, Pair) else x


def is_pair(x: Any) -> bool:
    """Whether `x` is a tensor of some lockstep."""
    return isinstance(x, TensorBase) and isinstance(x._data, Pair)
