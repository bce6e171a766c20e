"""Two plugins that listen to the operations that run: a profiler and a graph recorder.

Both implement the hook `microgpt_op` and are registered for a block of code. Outside such blocks
nothing listens, and the ops call the backends' kernels directly.

>>> import microgpt as mg
>>> x = mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
>>> with mg.tracing.profile() as p:
...     mg.sum(x @ x).backward()
>>> sorted((row.op, row.forward_calls, row.backward_calls) for row in p.rows())
[('matmul', 1, 1), ('ones_like', 1, 0), ('sum', 1, 1)]

A plugin of your own that listens is a class with one method::

    class Counter:
        count = 0

        @mg.hookimpl
        def microgpt_op(self, event):
            self.count += event.within is None

    with mg.plugged(Counter()) as counter:
        ...

With ``create_graph=True`` the rules' ops are told of one by one, as part of the forward pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from threading import Lock, get_ident
from time import perf_counter
from typing import Any, NamedTuple
from weakref import ref

from microgpt.hooks import OpEvent, hookimpl
from microgpt.plugins import plugged, registry


def size_in_bytes(x: Any) -> int:
    """How much memory the elements of `x` take: an array, a number, or several of them."""
    if isinstance(x, (tuple, list)):
        return sum(size_in_bytes(part) for part in x)
    if isinstance(x, (float, int)):
        return 8  # as an element of an array
    if not hasattr(x, "shape"):
        return 0
    return prod(x.shape) * registry.backend_of(x).dtype(x).itemsize


# ---- profiler --------------------------------------------------------------------------------


class Row(NamedTuple):
    """What one op cost on one backend; `bytes` is the size of all its inputs and outputs."""

    op: str
    backend: str
    forward_calls: int
    forward_seconds: float
    backward_calls: int
    backward_seconds: float
    bytes: int

    @property
    def seconds(self) -> float:
        """Time in both directions."""
        return self.forward_seconds + self.backward_seconds


class Profiler:
    """Adds up time and bytes per op, forward and backward; see `profile`.

    Kernels that run inside a gradient rule belong to the rule's time and are not counted again.
    Backends that work in the background are waited for after each op, which may slow them down.
    Where a backend tells which kernels it ran, they are counted for the op at whose end they have
    been run: an expression that waited until then for somebody who needs it, too.
    """

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str], list[Any]] = {}
        self._own: dict[int, float] = {}  # thread → our own time within its running rule
        self._kernels: dict[tuple[str, str], Counter[str]] = {}
        self._before = {
            name: Counter(registry.backend(name).served())
            for name in registry.backend_names()
            if registry.maker_of(name) is not None  # those that have run anything
        }
        self._lock = Lock()
        self.wall_seconds = 0.0
        """Time that the block took as a whole, the profiler's own included."""

    @hookimpl
    def microgpt_op(self, event: OpEvent) -> None:
        """Count one operation."""
        start = perf_counter()
        registry.backend(event.backend).synchronize()
        waited = perf_counter() - start
        thread = get_ident()
        if event.within is not None:
            spent = perf_counter() - start - waited
            self._own[thread] = self._own.get(thread, 0.0) + spent
            return
        back = event.phase == "backward"
        seconds = event.seconds + waited - (self._own.pop(thread, 0.0) if back else 0.0)
        moved = size_in_bytes(event.inputs) + size_in_bytes(event.output)
        with self._lock:
            served = registry.backend(event.backend).served()
            if served:
                before = self._before.get(event.backend, Counter())
                self._before[event.backend] = Counter(served)
                key = (event.op, event.backend)
                self._kernels.setdefault(key, Counter()).update(Counter(served) - before)
            row = self._rows.setdefault((event.op, event.backend), [0, 0.0, 0, 0.0, 0])
            row[2 * back] += 1
            row[2 * back + 1] += max(seconds, 0.0)
            row[4] += moved

    def rows(self) -> list[Row]:
        """What was counted, the most expensive op first."""
        with self._lock:
            found = [Row(*key, *values) for key, values in self._rows.items()]
        return sorted(found, key=lambda row: row.seconds, reverse=True)

    def kernels(self, op: str | None = None) -> dict[str, int]:
        """How often each kernel ran for `op`, by default for all ops; the most frequent first.

        Empty for backends that do not tell (`microgpt.backend.Backend.served`).
        """
        total: Counter[str] = Counter()
        with self._lock:
            for (name, _), found in self._kernels.items():
                if op in (None, name):
                    total.update(found)
        return dict(total.most_common())

    @property
    def seconds(self) -> float:
        """Time in all kernels and gradient rules."""
        return sum(row.seconds for row in self.rows())

    def table(self, limit: int | None = None) -> str:
        """The rows as text, at most `limit` of them."""
        rows, total = self.rows(), self.seconds
        shown = rows[:limit]
        lines = [
            f"{'op':<24}{'backend':<9}{'forward':>17}{'backward':>19}{'share':>9}{'bytes':>11}",
            f"{'':<33}{'calls':>6}{'ms':>11}{'calls':>8}{'ms':>11}",
        ]
        for row in shown:
            share = row.seconds / total if total else 0.0
            lines.append(
                f"{row.op:<24}{row.backend:<9}{row.forward_calls:>6}"
                f"{row.forward_seconds * 1e3:>11.3f}{row.backward_calls:>8}"
                f"{row.backward_seconds * 1e3:>11.3f}{share:>8.1%}{_readable(row.bytes):>12}"
            )
            ran = self._kernels.get((row.op, row.backend), {})
            lines += [f"    {count}× {kernel}" for kernel, count in Counter(ran).most_common()]
        if len(shown) < len(rows):
            rest = total - sum(row.seconds for row in shown)
            lines.append(f"… {len(rows) - len(shown)} more ops, {rest * 1e3:.3f} ms")
        lines.append(f"kernels and gradient rules {total * 1e3:.3f} ms")
        if self.wall_seconds:
            lines[-1] += f" of {self.wall_seconds * 1e3:.3f} ms in the block"
        return "\n".join(lines)

    __str__ = table


def _readable(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000 or unit == "GB":
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


@contextmanager
def profile() -> Iterator[Profiler]:
    """Measure time and bytes per op inside the block, in all threads of the process.

    Example:
        >>> import microgpt as mg
        >>> x = mg.ones((4, 4), requires_grad=True)
        >>> with mg.tracing.profile() as p:
        ...     mg.sum(mg.exp(x)).backward()
        >>> sorted(row.op for row in p.rows() if row.backward_calls)
        ['exp', 'sum']
        >>> print(p.table().splitlines()[0])
        op                      backend            forward           backward    share      bytes
    """
    with plugged(Profiler()) as profiler:
        start = perf_counter()
        try:
            yield profiler
        finally:
            profiler.wall_seconds += perf_counter() - start


# ---- graph recorder --------------------------------------------------------------------------


class Record(NamedTuple):
    """One operation that ran.

    `sources` says for each input in which record (by its `number`) it was made, or None if it was
    there before. For a backward record the first input is the gradient of the op's output, the
    others are the values that were kept for the rule, and the outputs are the inputs' gradients.
    """

    number: int
    op: str
    phase: str
    backend: str
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    dtype: str
    sources: tuple[int | None, ...]
    seconds: float
    within: str | None


class GraphRecorder:
    """Keeps the ops that ran, in order, with shapes; see `record`. The arrays are not kept."""

    def __init__(self, kernels: bool = False) -> None:
        self.kernels = kernels
        self.records: list[Record] = []
        self._made: dict[int, tuple[Any, int]] = {}  # id of an array → how to get at it, record
        self._lock = Lock()

    @hookimpl
    def microgpt_op(self, event: OpEvent) -> None:
        """Record one operation."""
        if event.within is not None and not self.kernels:
            return
        outputs = event.output if isinstance(event.output, tuple) else (event.output,)
        first = next((x for x in outputs if hasattr(x, "dtype")), None)
        dtype = "" if first is None else str(registry.backend_of(first).dtype(first))
        with self._lock:
            number = len(self.records)
            shapes = tuple([_shape(x) for x in event.inputs]), tuple([_shape(x) for x in outputs])
            sources = tuple([self._source(x) for x in event.inputs])
            where = (number, event.op, event.phase, event.backend)
            kind = dtype or type(event.output).__name__
            self.records.append(Record(*where, *shapes, kind, sources, event.seconds, event.within))
            for x in outputs:
                if hasattr(x, "shape"):
                    self._made[id(x)] = (_handle(x), number)

    def _source(self, x: Any) -> int | None:
        get, number = self._made.get(id(x), (None, None))
        return number if get is not None and get() is x else None  # else the id was used again

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __getitem__(self, number: int) -> Record:
        return self.records[number]

    def table(self) -> str:
        """The records as text: inputs → outputs; #n behind an input made by record n, - for what
        was not kept, ← behind gradient rules."""
        lines = [f"{'#':>4}  {'op':<24}inputs → outputs"]
        for r in self.records:
            name = ("  " if r.within else "") + r.op + (" ←" if r.phase == "backward" else "")
            inputs = [
                _short(shape) + ("" if source is None else f" #{source}")
                for shape, source in zip(r.inputs, r.sources, strict=True)
            ]
            outputs = [_short(shape) for shape in r.outputs]
            lines.append(
                f"{r.number:>4}  {name:<24}{', '.join(inputs)} → {', '.join(outputs)} {r.dtype}"
            )
        return "\n".join(lines)

    __str__ = table


def _shape(x: Any) -> Any:
    """The shape of an array, a number itself, None for what was not kept."""
    if isinstance(x, (bool, int, float)):
        return x
    shape = getattr(x, "shape", None)
    return None if shape is None else tuple(shape)


def _short(shape: Any) -> str:
    if isinstance(shape, tuple):
        return "×".join(map(str, shape)) or "()"
    return "-" if shape is None else f"{shape:.4g}"


def _handle(x: Any) -> Any:
    try:
        return ref(x)
    except TypeError:  # NumPy scalars cannot be referred to weakly, and are small enough to keep
        return lambda: x


@contextmanager
def record(kernels: bool = False) -> Iterator[GraphRecorder]:
    """Record the ops that run inside the block, in all threads of the process.

    Args:
        kernels: whether to record the kernels inside gradient rules too, one by one.

    Example:
        >>> import microgpt as mg
        >>> x, w = mg.ones((2, 3)), mg.ones((3, 4))
        >>> with mg.tracing.record() as graph:
        ...     y = mg.relu(x @ w)
        >>> graph[1].op, graph[1].inputs, graph[1].outputs, graph[1].sources
        ('relu', ((2, 4),), ((2, 4),), (0,))
        >>> print(graph.table())
           #  op                      inputs → outputs
           0  matmul                  2×3, 3×4 → 2×4 float32
           1  relu                    2×4 #0 → 2×4 float32
    """
    with plugged(GraphRecorder(kernels)) as recorder:
        yield recorder
