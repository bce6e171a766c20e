"""The op table: each differentiable operation is declared once, here described by an `Op`.

From that one row come the function that users call, the scalar engine, gradients of any order,
the gradient checks, the backend conformance kit and the reference table. Rows are declared
with `primitive` and `fused` of `microgpt.ops.declare`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from microgpt.errors import InputError, PluginError
from microgpt.plugin_manager import lock
from microgpt.plugins import KernelCache, registry

Rule = Callable[..., Any]
Kinks = dict[float, float] | Callable[[dict[str, Any]], dict[float, float]] | str | None

ACCURACIES = ("exact", "ulp", "reduction", "composite")

TABLE: dict[str, Op] = {}
"""Every op by name, in the order of declaration."""


class Op:
    """One row of the op table.

    Attributes:
        name: the name under which backends supply kernels.
        doc: one line: the formula.
        arity: how many inputs are arrays (the first ones); None for any number.
        rules: one gradient rule per input, ``rule(g, y, *inputs, **params)`` → gradient of that
            input, written with ops; an entry may be None (no gradient flows there). Or a single
            function that returns the gradients of all inputs. None: nondifferentiable, or fused
            without a rule of its own (then the body is differentiated).
        reads: for each rule the values it reads, as letters: a, b, c… for the inputs, y for the
            output. Values no rule reads are not kept; in their place the rule gets an object
            that only has their `shape`.
        broadcasts: whether inputs broadcast against each other; their gradients are then summed
            back to the inputs' shapes by the engine.
        elementwise: whether the output's shape is that of the inputs, broadcast, and there are no
            parameters; such calls and their gradients take a shorter way.
        floats: whether integers are converted to the default float type first.
        domain: draws inputs on which the op may be tested (see `microgpt.testing`).
        body: for fused ops, the definition in terms of other ops.
        nondifferentiable: why there is no gradient, or "".
        kinks: where the gradient is a convention: points with the slope declared there, a
            function of the parameters that gives them, or "share" (equal inputs share the
            gradient). Tests check the convention.
        jumps: whether the value jumps at these points, so that no numeric slope exists there.
        accuracy: how far kernels may be from the exact result: "exact", "ulp" (units in the last
            place, which a backend may declare), "reduction" (rounding of the terms of a sum) or
            "composite" (what rounding of inputs and steps explains); by default "ulp" for
            elementwise ops and "composite" for others.
    """

    def __init__(
        self,
        name: str,
        *,
        doc: str,
        arity: int | None,
        rules: tuple[Rule | None, ...] | Rule | None,
        reads: tuple[str, ...] | str | None,
        broadcasts: bool,
        elementwise: bool,
        floats: bool,
        domain: Callable[[Any], Any] | None,
        body: Callable[..., Any] | None = None,
        compute: Callable[..., Any] | None = None,
        nondifferentiable: str = "",
        index_inputs: tuple[int, ...] = (),
        kinks: Kinks = None,
        jumps: bool = False,
        accuracy: str = "",
    ) -> None:
        self.name = name
        self.doc = doc
        self.arity = arity
        self.rules = self.own_rules = rules
        self.broadcasts = broadcasts
        self.elementwise = elementwise
        self.floats = floats
        self.domain = domain
        self.body = body
        self.compute = compute
        self.nondifferentiable = nondifferentiable
        self.index_inputs = index_inputs
        self.kinks = kinks
        self.jumps = jumps
        self.accuracy = accuracy or ("ulp" if elementwise else "composite")
        if self.accuracy not in ACCURACIES:
            raise PluginError(
                f"op '{name}' has the accuracy {accuracy!r}; required: one of "
                f"{', '.join(ACCURACIES)}"
            )
        self.reads = self.own_reads = self._checked_reads(reads)
        self.kernels = KernelCache(name, compute)
        self.fast = FusedCache(name) if body else None
        self.fast_rules = FusedCache(name + "_vjp") if body else None
        self.fast_recorded = RecordedCache(self) if body else None
        self.saving = SavingCache(name) if body and rules is None else None
        self._own_caches = self.fast_rules, self.saving
        # How nodes are laid out and their rules called: 1 and 2 for ops of so many inputs whose
        # gradients may need summing to the inputs' shapes and nothing else, 3 for any other tuple
        # of rules, 0 for a joint rule or none.
        self.kind = self._kind()
        self._keeps: dict[tuple[bool, ...], tuple[bool, ...]] = {}
        self.function: Callable[..., Any] = _missing_function
        self.use_in_call: Callable[[], None] | None = None
        """Tells the calling function, which keeps what it reads of the rules, that they changed."""

    def _kind(self) -> int:
        if not isinstance(self.rules, tuple):
            return 0
        short = (self.elementwise or self.broadcasts) and self.arity in (1, 2)
        return self.arity if short and self.arity is not None else 3

    def use_rules(self, given: tuple[Rule | None, ...] | Rule | None) -> None:
        """Take gradient rules that a plugin gives, or the op's own again for None."""
        if isinstance(given, tuple) and self.arity is not None and len(given) != self.arity:
            raise PluginError(
                f"a plugin gives {len(given)} gradient rules for the op '{self.name}'; required: "
                f"{self.arity}, one per input (None where no gradient flows)"
            )
        self.rules = self.own_rules if given is None else given
        self.reads = self.own_reads if given is None else None  # foreign rules may read anything
        self.fast_rules, self.saving = self._own_caches if given is None else (None, None)
        self.kind = self._kind()
        self._keeps.clear()
        if self.use_in_call is not None:
            self.use_in_call()

    def _checked_reads(self, reads: tuple[str, ...] | str | None) -> tuple[str, ...] | None:
        if isinstance(reads, str):
            reads = (reads,)
        if reads is not None and isinstance(self.rules, tuple) and len(reads) != len(self.rules):
            raise PluginError(
                f"op '{self.name}' has {len(self.rules)} gradient rules but {len(reads)} entries "
                "in `reads`; give one string of letters (a, b, … for inputs, y for the output) "
                "per rule"
            )
        return reads

    def keeps(self, needs: tuple[bool, ...]) -> tuple[bool, ...]:
        """Which of (inputs…, output) the rules of the inputs in `needs` read."""
        found = self._keeps.get(needs)
        if found is None:
            count = len(needs)
            if self.reads is None:
                letters = "y" + "".join(chr(97 + i) for i in range(count))
            elif isinstance(self.rules, tuple) and self.arity is not None:
                letters = "".join(r for r, need in zip(self.reads, needs, strict=True) if need)
            else:
                letters = self.reads[0]
            found = (*(chr(97 + i) in letters for i in range(count)), "y" in letters)
            self._keeps[needs] = found
        return found

    def __repr__(self) -> str:
        return f"<op {self.name}: {self.doc}>"

    def __reduce__(self) -> Any:
        return by_name, (self.name,)


class FusedCache(KernelCache):
    """Like `KernelCache`, but a backend without the kernel is a None, not an error."""

    __slots__ = ()

    def __missing__(self, array_type: type) -> Any:
        with lock:
            if registry.kernel(registry.backend_of_type(array_type).name, self.op) is None:
                self[array_type] = None  # pyright: ignore[reportArgumentType]
                return None
            return super().__missing__(array_type)


class RecordedCache(FusedCache):
    """The kernels of a fused op that may be used when a gradient is wanted: it must have one."""

    __slots__ = ("row",)

    def __init__(self, row: Op) -> None:
        super().__init__(row.name)
        self.row = row

    def __missing__(self, array_type: type) -> Any:
        with lock:
            row: Any = self.row  # `fast` and `fast_rules` are optional in general, not here
            differentiable = row.rules is not None or row.fast_rules[array_type] is not None
            kernel: Any = row.fast[array_type] if differentiable else None
            return self.setdefault(array_type, kernel)


class SavingCache(FusedCache):
    """Kernels that return the output together with what the gradient kernel needs.

    One is used only if the same plugin serves the op and its gradient too: a plugin that replaces
    one of the three is not to be bypassed, nor given what another one saved.
    """

    __slots__ = ()

    def __init__(self, op: str) -> None:
        super().__init__(op + "_saving")

    def __missing__(self, array_type: type) -> Any:
        with lock:
            backend = registry.backend_of_type(array_type).name
            op = self.op.removesuffix("_saving")
            servers = {registry.server_of(backend, op + end) for end in ("", "_saving", "_vjp")}
            if len(servers) == 1 and None not in servers:
                return super().__missing__(array_type)
            nothing: Any = None
            return self.setdefault(array_type, nothing)


def _missing_function(*_: Any, **__: Any) -> Any:
    raise PluginError("this op was made without a function; declare it with primitive or fused")


def by_name(name: str) -> Op:
    """The op called `name`.

    Raises:
        InputError: if there is none.
    """
    try:
        return TABLE[name]
    except KeyError:
        raise InputError(
            f"there is no op '{name}'; `microgpt ops` lists the {len(TABLE)} there are"
        ) from None


def add(op: Op, origin: str) -> None:
    """Put a row into the table; a module may replace its own (a cell that is run again)."""
    known = TABLE.get(op.name)
    if known is not None and known.function.__module__ != origin:
        raise PluginError(
            f"an op called '{op.name}' exists already (from {known.function.__module__}); "
            "give the new one another name"
        )
    given = registry.rules(op.name)
    if given is not None:
        op.use_rules(given)
    TABLE[op.name] = op


def _use_given_rules() -> None:
    for op in TABLE.values():
        op.use_rules(registry.rules(op.name))


registry.rules_changed.append(_use_given_rules)
