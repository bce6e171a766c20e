"""PyTorch's own sample inputs, run through microgpt and through PyTorch and compared.

PyTorch keeps for each of its ops a list of sample inputs, with which it tests itself. They were
chosen by others and for other code: shapes, axes and keyword arguments that nobody here thought of.
An adapter says how the arguments of a sample are written in a call of ours; the values and all
gradients of both calls are then compared in float64.
"""

from __future__ import annotations

import warnings
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import microgpt as mg
from microgpt.hooks import OpEvent
from microgpt.testing.subject import in_layout
from tests.peers.differences import described, differences

Adapter = Callable[..., Any]

LAYOUTS = ("F", "reversed", "step")
"""Each sample is run in memory as PyTorch has it, and in one of these, by turns."""


class Lacking(Exception):
    """Raised by an adapter for a sample that uses what microgpt does not have; says what."""


@dataclass
class Outcome:
    """What came of the samples of one op."""

    used: int = 0
    lacking: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    strided: int = 0
    """Used samples with an input that PyTorch itself made non-contiguous."""
    ops: set[str] = field(default_factory=set)
    """Names of the kernels of ours that ran, forward or inside a gradient rule."""

    @property
    def samples(self) -> int:
        return self.used + self.lacking.total()


def load() -> dict[str, list[Any]]:
    """PyTorch's op infos by name, or name:variant.

    Raises:
        ImportError: without PyTorch, or without what its list of samples imports.
    """
    with quiet():
        from torch.testing._internal.common_methods_invocations import op_db

    infos: dict[str, list[Any]] = {}
    for info in op_db:
        variant = info.variant_test_name
        infos.setdefault(f"{info.name}:{variant}" if variant else info.name, []).append(info)
    return infos


@contextmanager
def quiet() -> Iterator[None]:
    """Warnings of other people's code are no failure of ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def one_thread() -> Iterator[None]:
    """Samples are so small that PyTorch's threads would mostly wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def examine(key: str, adapter: Adapter, infos: dict[str, list[Any]]) -> Outcome:
    """Run all samples of the op `key` and compare."""
    outcome = Outcome()
    with one_thread(), mg.plugged(Listener(outcome.ops)):
        for info in infos[key]:
            for number, sample in enumerate(_samples(info)):
                try:
                    wrong = _examine(f"{key}[{number}]", adapter, info, sample, number, outcome)
                except Lacking as lack:
                    outcome.lacking[str(lack)] += 1
                    continue
                outcome.used += 1
                outcome.wrong += wrong
    return outcome


def _samples(info: Any) -> list[Any]:
    """In float64, or in int64 where the op takes no floats; the same ones every time."""
    import torch

    double = torch.float64
    dtype = double if double in info.supported_dtypes("cpu") else torch.int64
    differentiable = info.supports_autograd and dtype in info.supported_backward_dtypes("cpu")
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(0)
        return list(info.sample_inputs("cpu", dtype, requires_grad=differentiable))


def _examine(
    name: str, adapter: Adapter, info: Any, sample: Any, number: int, outcome: Outcome
) -> list[str]:
    """The differences found with one sample."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    arguments, kwargs = [sample.input, *sample.args], sample.kwargs
    theirs: Theirs | None = None
    wrong = []
    for layout in (None, LAYOUTS[number % len(LAYOUTS)]):
        ours = Ours(arguments, kwargs, layout)
        ours.forward(adapter)
        if theirs is None:
            theirs = Theirs(info, arguments, kwargs, rng)
            outcome.strided += theirs.strided
        ours.backward(theirs.cotangents)
        place = f"{name} {described(sample)}{f' in layout {layout}' if layout else ''}"
        wrong += [f"{place}: {text}" for text in differences(ours, theirs)]
    return wrong


class Listener:
    """Notes the names of the ops that run."""

    def __init__(self, names: set[str]) -> None:
        self.names = names

    @mg.hookimpl
    def microgpt_op(self, event: OpEvent) -> None:
        self.names.add(event.op)


class Theirs:
    """PyTorch's results for one sample, with random signed output gradients."""

    def __init__(
        self, info: Any, arguments: list[Any], kwargs: dict[str, Any], rng: np.random.Generator
    ) -> None:
        import torch

        leaves = tensors_in([arguments, kwargs], torch.Tensor)
        wanted = [x for x in leaves if x.requires_grad]
        self.strided = any(not x.is_contiguous() for x in leaves)
        with quiet():
            outputs = tensors_in(info.op(*arguments, **kwargs), torch.Tensor)
            self.values = [y.detach().numpy() for y in outputs]
            self.differentiable = [y.requires_grad for y in outputs]
            self.cotangents = [rng.standard_normal(tuple(y.shape)) for y in outputs]
            pairs = [
                (y, torch.from_numpy(np.asarray(c)))
                for y, c in zip(outputs, self.cotangents, strict=True)
                if y.requires_grad
            ]
            self.gradients: list[Any] = [None] * len(wanted)
            if pairs and wanted:
                found = torch.autograd.grad(
                    [y for y, _ in pairs], wanted, [c for _, c in pairs], allow_unused=True
                )
                self.gradients = [None if g is None else g.numpy() for g in found]
        found = [x for x in [*self.values, *self.gradients] if x is not None]
        self.infinite = not all(np.all(np.isfinite(x)) for x in found)


class Ours:
    """Our results for the same sample."""

    def __init__(self, arguments: list[Any], kwargs: dict[str, Any], layout: str | None) -> None:
        self.layout = layout
        self.leaves: dict[int, Any] = {}
        self.arguments = [self._translated(x) for x in arguments]
        self.kwargs = {name: self._translated(x) for name, x in kwargs.items()}
        self.outputs: list[Any] = []
        self.gradients: list[Any] = []
        self.warned: list[str] = []

    def _translated(self, x: Any) -> Any:
        """PyTorch's tensors as ours, one for one, with their strides; its types by name."""
        import torch

        if isinstance(x, torch.Tensor):
            if id(x) not in self.leaves:
                self.leaves[id(x)] = laid_out(x.detach().numpy(), self.layout, x.requires_grad)
            return self.leaves[id(x)]
        if isinstance(x, torch.dtype):
            return str(x).removeprefix("torch.")
        if isinstance(x, list):
            return [self._translated(part) for part in x]
        if isinstance(x, tuple):
            return tuple(self._translated(part) for part in x)
        return x

    def forward(self, adapter: Adapter) -> None:
        with self._heard():
            self.outputs = tensors_in(adapter(*self.arguments, **self.kwargs), mg.Tensor)

    def backward(self, cotangents: list[np.ndarray]) -> None:
        """From all results, with the output gradients that PyTorch was given."""
        with self._heard():
            for y, c in zip(self.outputs, cotangents, strict=False):
                if y.requires_grad and y.shape == c.shape:
                    y.backward(laid_out(np.asarray(c), self.layout, False), retain_graph=True)
        self.gradients = [x.grad for x in self.leaves.values() if x.requires_grad]

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """Collect warnings; NumPy's are right where results are infinite or NaN, and only there."""
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            yield
        self.warned += [str(w.message) for w in heard]


def laid_out(host: np.ndarray, layout: str | None, requires_grad: bool) -> Any:
    """A tensor of `host` in the memory layout wanted; `mg.tensor` alone would copy it compactly."""
    made = mg.tensor(host, requires_grad=requires_grad)
    # Whole numbers are left as they are: `step` fills the gaps with NaN.
    made._data = in_layout(host, layout if host.dtype.kind == "f" else None, None)
    if requires_grad:
        made._edge.data = made._data
    return made


def tensors_in(tree: Any, kind: type) -> list[Any]:
    """The tensors in nested lists, tuples and dictionaries, from left to right, each once."""
    if isinstance(tree, kind):
        return [tree]
    if isinstance(tree, dict):
        tree = list(tree.values())
    found: list[Any] = []
    if isinstance(tree, (list, tuple)):
        for part in tree:
            found += [x for x in tensors_in(part, kind) if all(x is not y for y in found)]
    return found
