"""One step of recurrent networks, and what all recurrent layers share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from microgpt import ops
from microgpt.creation import generator as make_generator
from microgpt.errors import InputError, ShapeError
from microgpt.nn import init
from microgpt.nn.module import Module, parameter
from microgpt.ops.network import like, linear_unchecked
from microgpt.ops.recurrent import checked_ids


def detach_state(state: Any) -> Any:
    """The state of a recurrent layer as a constant: its values go on, gradients stop here.

    For truncated backpropagation: a long text is read in pieces, each of which starts from the
    state in which the one before ended, and gradients go back to the start of the piece.

    Args:
        state: a tensor, a tuple of tensors, or None.

    Source: Williams and Peng, Neural Computation 2 (1990).

    Example:
        >>> import microgpt as mg
        >>> layer = mg.nn.LSTM(2, 3, generator=mg.generator(0))
        >>> state = None
        >>> for piece in mg.ones((3, 5, 1, 2)):
        ...     output, state = layer(piece, mg.nn.detach_state(state))
        ...     (output**2).mean().backward()
        >>> layer.weight_hh_l0.grad.shape
        (12, 3)
    """
    if state is None:
        return None
    if isinstance(state, (tuple, list)):
        return tuple(part.detach() for part in state)
    return state.detach()


class Recurrent(Module):
    """What layers and cells share: weights drawn uniformly from ±1/√hidden_size, and states."""

    _memory = False
    """Whether there is a memory c beside the state h, and four gates."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool | str,
        generator: np.random.Generator | None,
        place: tuple[Any, str | None, str | None],
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if input_size < 1 or hidden_size < 1:
            raise InputError(
                f"{name} needs at least one feature in and one hidden unit; got {input_size}, "
                f"{hidden_size}"
            )
        if bias not in (True, False, "single"):
            raise InputError(f"{name}: bias must be True, False or 'single'; got {bias!r}")
        self.input_size, self.hidden_size = input_size, hidden_size
        self.bias = bias if bias == "single" else bool(bias)
        self.nonlinearity = "tanh"
        self.generator = make_generator() if generator is None else generator
        self._place = place

    def _make(self, inputs: int, ending: str = "") -> None:
        """The parameters of one layer in one direction, with PyTorch's names in its order."""
        rows, bound = self.hidden_size * (4 if self._memory else 1), 1 / math.sqrt(self.hidden_size)
        shapes: dict[str, tuple[int, ...]] = {
            "weight_ih": (rows, inputs),
            "weight_hh": (rows, self.hidden_size),
        }
        if self.bias:
            shapes["bias_ih"] = (rows,)
        if self.bias is True:
            shapes["bias_hh"] = (rows,)
        dtype, backend, device = self._place
        for name, shape in shapes.items():
            values = init.uniform(shape, -bound, bound, generator=self.generator)
            made = parameter(values, dtype, backend, device)
            setattr(self, name + ending, made)

    def _steps(
        self,
        x: Any,
        states: Sequence[Any],
        ending: str = "",
        lengths: Any = None,
        reverse: bool = False,
        vectors: Any = None,
    ) -> tuple[Any, list[Any]]:
        """The states of all steps of x (t, n, inputs): (t, n, hidden), and what is carried on.

        With `vectors` (v, inputs), x (t, n) holds numbers of its rows.
        """
        bias = getattr(self, "bias_ih" + ending) if self.bias else None
        if self.bias is True:
            bias = bias + getattr(self, "bias_hh" + ending)
        inputs, ids = (x, None) if vectors is None else (vectors, x)
        sums = linear_unchecked(inputs, getattr(self, "weight_ih" + ending), bias)
        weight = getattr(self, "weight_hh" + ending)
        steps = x.shape[0]
        last = 0 if reverse else steps - 1
        if self._memory:
            y = ops.lstm_layer(sums, weight, *states, lengths, reverse, ids)
            return y[:steps], [y[last], y[steps]]
        if ids is not None:
            sums = ops.take(sums, checked_ids(self._title(), sums, ids), axis=0)
        y = ops.rnn_layer(sums, weight, *states, lengths, reverse, self.nonlinearity)
        return y, [y[last]]

    def _given(self, state: Any, shape: tuple[int, ...], x: Any, read: str) -> list[Any]:
        """The tensors of a state, after a look at their shapes; zeros if there is none."""
        count = 2 if self._memory else 1
        if state is None:
            return [like(x, np.zeros(shape))] * count
        parts = list(state) if isinstance(state, (tuple, list)) else [state]
        found = [tuple(part.shape) for part in parts]
        if found != [shape] * count:
            raise ShapeError(
                f"{self._title()} was given a state of shape {' and '.join(map(str, found))}; "
                f"required: {'a tuple (h, c) of two tensors ' if self._memory else ''}{shape}, "
                f"for x of shape {read}"
            )
        return parts

    def _title(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    def extra_repr(self) -> str:
        """The sizes, and what is not by default."""
        kind = "" if self.nonlinearity == "tanh" else f", nonlinearity='{self.nonlinearity}'"
        bias = "" if self.bias is True else f", bias={self.bias!r}"
        return f"{self.input_size}, {self.hidden_size}{kind}{bias}"


def known(nonlinearity: str) -> str:
    """The nonlinearity, if there is one of this name."""
    if nonlinearity not in ("tanh", "relu"):
        raise InputError(f"RNN: nonlinearity must be 'tanh' or 'relu'; got {nonlinearity!r}")
    return nonlinearity


class _Cell(Recurrent):
    """One step, for loops of one's own."""

    def forward(self, x: Any, state: Any = None) -> Any:
        """(n, input_size) or (input_size,), and a state of shape (n, hidden_size) → the next."""
        shape = tuple(x.shape)
        if len(shape) not in (1, 2) or shape[-1] != self.input_size:
            raise ShapeError(
                f"{self._title()} was given shape {shape}; required: (n, {self.input_size}), one "
                "step (whole sequences go through "
                f"nn.{type(self).__name__.removesuffix('Cell')})"
            )
        single = len(shape) == 1
        states = self._given(state, (*shape[:-1], self.hidden_size), x, f"{shape}, one step")
        if single:
            x, *states = (ops.expand_dims(a, 0) for a in (x, *states))
        _, after = self._steps(ops.expand_dims(x, 0), states)
        if single:
            after = [part[0] for part in after]
        return tuple(after) if self._memory else after[0]


class RNNCell(_Cell):
    """One step of an `RNN`: (x, h) → h.

    Args: input_size, hidden_size, bias and nonlinearity as for `RNN`.

    Example:
        >>> import microgpt as mg
        >>> cell = mg.nn.RNNCell(4, 3)
        >>> h = cell(mg.ones((2, 4)))
        >>> cell(mg.ones((2, 4)), h).shape
        (2, 3)
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool | str = True,
        nonlinearity: str = "tanh",
        *,
        generator: np.random.Generator | None = None,
        dtype: Any = None,
        backend: str | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, generator, (dtype, backend, device))
        self.nonlinearity = known(nonlinearity)
        self._make(input_size)


class LSTMCell(_Cell):
    """One step of an `LSTM`: (x, (h, c)) → (h, c).

    Args: input_size, hidden_size and bias as for `RNN`.

    Example:
        >>> import microgpt as mg
        >>> cell = mg.nn.LSTMCell(4, 3)
        >>> h, c = cell(mg.ones((2, 4)))
        >>> h, c = cell(mg.ones((2, 4)), (h, c))
        >>> h.shape, c.shape
        ((2, 3), (2, 3))
    """

    _memory = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool | str = True,
        *,
        generator: np.random.Generator | None = None,
        dtype: Any = None,
        backend: str | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, generator, (dtype, backend, device))
        self._make(input_size)
