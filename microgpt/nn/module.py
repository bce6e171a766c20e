"""Module: parameters with names, and the computation that uses them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import numpy as np

from microgpt import config
from microgpt.errors import CheckpointError, GradientError, InputTypeError, MicrogptError
from microgpt.tensor import Tensor, tensor


def Parameter(data: Any, dtype: Any = None) -> Tensor:  # noqa: N802 (PyTorch's name)
    """A leaf tensor that requires a gradient: what a module trains."""
    return tensor(data, dtype=dtype, requires_grad=True)


def parameter(values: Any, dtype: Any, backend: str | None, device: str | None) -> Tensor:
    """A leaf that a layer trains, of the configured float type unless `dtype` says otherwise."""
    return tensor(values, dtype or config.get("dtype"), True, backend, device)


class Module:
    """Base class of layers and models: define `forward`, set parameters as attributes.

    A tensor with ``requires_grad`` that is set as an attribute becomes a parameter and stays one
    when it is frozen later; a module that is set as an attribute becomes a part. Tensors without
    gradient that belong to the state (running means…) are set by `register_buffer`.

    Example:
        >>> import microgpt as mg
        >>> class Scale(mg.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.factor = mg.nn.Parameter([2.0])
        ...     def forward(self, x):
        ...         return self.factor * x
        >>> Scale()
        Scale()  1 parameter
    """

    training: bool

    def __init__(self) -> None:
        self._parameters: dict[str, Tensor] = {}
        self._buffers: dict[str, Tensor] = {}
        self._modules: dict[str, Module] = {}
        self.training = True

    # ---- attributes --------------------------------------------------------------------------

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, (Tensor, Module)) and "_parameters" not in self.__dict__:
            raise InputTypeError(
                f"{type(self).__name__}: call super().__init__() before setting '{name}'"
            )
        if "_parameters" in self.__dict__ and not name.startswith("_"):
            known = self._parameters.pop(name, None)
            self._modules.pop(name, None)
            if isinstance(value, Tensor):
                if value.requires_grad and not value.is_leaf:
                    raise GradientError(
                        f"{type(self).__name__}.{name} is the result of an op and cannot be a "
                        "parameter; required: a leaf (nn.Parameter(x), or x.detach() for a "
                        "constant)"
                    )
                if name in self._buffers:
                    self._buffers[name] = value
                elif value.requires_grad or known is not None:
                    self._parameters[name] = value
            elif isinstance(value, Module):
                self._modules[name] = value
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        for table in (self._parameters, self._buffers, self._modules):
            table.pop(name, None)
        object.__delattr__(self, name)

    def register_buffer(self, name: str, value: Tensor) -> None:
        """Make `value` part of the state under `name`, without training it."""
        self._buffers[name] = value
        setattr(self, name, value)

    # ---- calling -----------------------------------------------------------------------------

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The computation; every module defines its own."""
        raise InputTypeError(f"{type(self).__name__} defines no forward()")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self.forward(*args, **kwargs)
        except MicrogptError as error:
            self._sign(error)
            raise

    def _sign(self, error: MicrogptError) -> None:
        """Put the module in front of an error's message, if no part of it has done so.

        Errors of ops know their inputs only, and in a network many ops have the same name.
        """
        known, name = vars(error), type(self).__name__
        if "module" not in known:
            known["module"] = name
            text = error.message
            if not text.startswith(name):
                settings = self.extra_repr()
                title = f"{name}({settings})" if settings else name
                error.args = (f"{title}: {text}", *error.args[1:])

    # ---- walking -----------------------------------------------------------------------------

    def named_modules(self, prefix: str = "") -> Iterator[tuple[str, Module]]:
        """This module and all its parts, each once, with dotted names."""
        seen: set[int] = set()
        stack: list[tuple[str, Module]] = [(prefix, self)]
        while stack:
            name, module = stack.pop()
            if id(module) in seen:
                continue
            seen.add(id(module))
            yield name, module
            for key, part in reversed(module._modules.items()):
                stack.append((f"{name}.{key}" if name else key, part))

    def _named(self, table: str, again: bool) -> Iterator[tuple[str, Tensor]]:
        seen: set[int] = set()
        for prefix, module in self.named_modules():
            for key, value in getattr(module, table).items():
                if again or id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{prefix}.{key}" if prefix else key), value

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Names and parameters; one that is shared appears once."""
        return self._named("_parameters", again=False)

    def parameters(self) -> list[Tensor]:
        """All parameters, each once."""
        return [p for _, p in self.named_parameters()]

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Names and buffers."""
        return self._named("_buffers", again=False)

    def num_parameters(self, trainable: bool = False) -> int:
        """How many numbers the parameters have; with `trainable` without the frozen ones."""
        return sum(p.size for p in self.parameters() if p.requires_grad or not trainable)

    # ---- modes -------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> Self:
        """Switch this module and its parts to training (dropout on), or off it."""
        for _, module in self.named_modules():
            object.__setattr__(module, "training", mode)
        return self

    def eval(self) -> Self:
        """Switch this module and its parts to evaluation."""
        return self.train(False)

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Evaluation for a block of code; then each part has the mode back that it had.

        Example:
            >>> import microgpt as mg
            >>> layer = mg.nn.Dropout(0.5)
            >>> with layer.evaluating():
            ...     layer(mg.ones(2))
            tensor([1., 1.])
            >>> layer.training
            True
        """
        modes = [(module, module.training) for _, module in self.named_modules()]
        self.eval()
        try:
            yield
        finally:
            for module, training in modes:
                object.__setattr__(module, "training", training)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for p in self.parameters():
            p.grad = None

    def requires_grad_(self, value: bool = True) -> Self:
        """Freeze (False) or unfreeze all parameters."""
        for p in self.parameters():
            p.requires_grad = value
        return self

    def to(
        self, *, dtype: Any = None, backend: str | None = None, device: str | None = None
    ) -> Self:
        """Move or convert all parameters and buffers, in place. Make optimizers afterwards."""
        moved: dict[int, Tensor] = {}
        for _, module in self.named_modules():
            for table in (module._parameters, module._buffers):
                for name, old in list(table.items()):
                    if id(old) not in moved:
                        # Counters (of batch norm) stay whole numbers.
                        wanted = dtype if old.dtype.kind == "f" else None
                        new = old.detach().to(backend=backend, device=device, dtype=wanted)
                        moved[id(old)] = tensor(new, requires_grad=old.requires_grad)
                    table[name] = moved[id(old)]
                    object.__setattr__(module, name, moved[id(old)])
        return self

    # ---- state -------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Tensor]:
        """All parameters and buffers by dotted name, as constants."""
        named = (*self._named("_parameters", again=True), *self._named("_buffers", again=True))
        return {name: value.detach() for name, value in named}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Set parameters and buffers from `state`, tensors or arrays by dotted name.

        Args:
            strict: every name must be there, and no other.

        Raises:
            CheckpointError: naming what is missing, unexpected, or of another shape; then nothing
                has been changed.
        """
        own = dict((*self._named("_parameters", again=True), *self._named("_buffers", again=True)))
        problems = []
        if strict:
            missing, extra = own.keys() - state.keys(), state.keys() - own.keys()
            problems += [f"missing: {name} {own[name].shape}" for name in sorted(missing)]
            problems += [f"unexpected: {name}" for name in sorted(extra)]
        shared = [name for name in own if name in state]
        for name in shared:
            have = tuple(
                np.shape(state[name]) if not isinstance(state[name], Tensor) else state[name].shape
            )
            if have != own[name].shape:
                problems.append(f"{name}: shape {have} in the state, {own[name].shape} here")
        if problems:
            raise CheckpointError(
                f"the state does not fit {type(self).__name__}:\n  " + "\n  ".join(problems) + "\n"
                "required: the state of a model built with the same arguments"
                + (" (strict=False loads what fits by name)" if strict else "")
            ).about("state-does-not-fit")
        for name in shared:
            own[name].data = state[name]

    # ---- text --------------------------------------------------------------------------------

    def extra_repr(self) -> str:
        """What stands in the parentheses of `repr`."""
        return ""

    def __repr__(self) -> str:
        count = self.num_parameters()
        plural = "parameter" if count == 1 else "parameters"
        head = f"{type(self).__name__}({self.extra_repr()})"
        if not self._modules:
            return f"{head}  {count:,} {plural}" if count else head
        lines = [f"{head}  {count:,} {plural}"]
        for name, part in self._modules.items():
            text = repr(part).replace("\n", "\n  ")
            lines.append(f"  {name}: {text}")
        return "\n".join(lines)
