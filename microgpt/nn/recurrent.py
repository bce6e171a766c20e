"""Recurrent layers over whole sequences: RNN and LSTM."""

from __future__ import annotations

from typing import Any

import numpy as np

from microgpt import ops
from microgpt.errors import InputError, ShapeError
from microgpt.nn.cells import Recurrent, known
from microgpt.ops.elementwise import numpy_dtype
from microgpt.ops.network import like
from microgpt.ops.recurrent import checked_lengths


class _Layers(Recurrent):
    """Layers one upon the other, in one direction or in both."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool | str,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        generator: np.random.Generator | None,
        place: tuple[Any, str | None, str | None],
    ) -> None:
        super().__init__(input_size, hidden_size, bias, generator, place)
        if num_layers < 1 or not 0 <= dropout < 1:
            raise InputError(
                f"{type(self).__name__} needs num_layers >= 1 and dropout in [0, 1); got "
                f"{num_layers} and {dropout}"
            )
        self.num_layers, self.batch_first = num_layers, batch_first
        self.dropout, self.bidirectional = dropout, bidirectional
        self._endings = ("", "_reverse") if bidirectional else ("",)
        for layer in range(num_layers):
            width = hidden_size * len(self._endings) if layer else input_size
            for ending in self._endings:
                self._make(width, f"_l{layer}{ending}")

    def forward(
        self, x: Any, state: Any = None, lengths: Any = None, *, vectors: Any = None
    ) -> tuple[Any, Any]:
        """(t, n, input_size) → (t, n, directions·hidden_size), and the state after the last step.

        Args:
            x: with `batch_first` (n, t, input_size); or one sequence, (t, input_size). Or whole
                numbers from 0 to input_size - 1 without the last dimension, which stand for
                one-hot vectors; this is faster.
            state: (num_layers·directions, n, hidden_size), without n for one sequence; an LSTM
                has a tuple of two, (h, c). By default zeros.
            lengths: (n,) whole numbers from 1 to t: how many steps of each sequence are real.
                What stands behind them is not looked at: there the output is 0, the state is that
                after the last real step, and the reverse direction starts at that step.
            vectors: a table (v, input_size); then the whole numbers in x stand for its rows, as in
                nn.Embedding, but each row is multiplied with the weights only once.
        """
        whole = numpy_dtype(x.dtype).kind in "iu"
        steps, n, single = self._sizes(x, lengths, whole, vectors)
        if whole and vectors is None:
            vectors = like(self.parameters()[0], np.eye(self.input_size))
        count = self.num_layers * len(self._endings)
        shape = (count, self.hidden_size) if single else (count, n, self.hidden_size)
        states = self._given(state, shape, vectors if whole else x, self._read(x, steps, n))
        if single:
            x, *states = (ops.expand_dims(a, 1) for a in (x, *states))
        elif self.batch_first:
            x = ops.swapaxes(x, 0, 1)
        running = None
        if lengths is not None:
            lengths = checked_lengths(self._title(), lengths, steps, n)
            running = (np.arange(steps)[:, None] < lengths)[:, :, None]
            if not whole:
                x = ops.where(running, x, 0.0)
        lasts: list[list[Any]] = []
        for layer in range(self.num_layers):
            if layer:
                x = ops.dropout(x, self.dropout, self.training, generator=self.generator)
            outputs = []
            for ending in self._endings:
                own, reverse = [part[len(lasts)] for part in states], ending == "_reverse"
                found, last = self._steps(
                    x, own, f"_l{layer}{ending}", lengths, reverse, None if layer else vectors
                )
                outputs.append(found)
                lasts.append(last)
            x = outputs[0] if len(outputs) == 1 else ops.concat(outputs, axis=-1)
        if running is not None:
            x = ops.where(running, x, 0.0)
        after = [ops.stack(parts) for parts in zip(*lasts, strict=True)]
        if single:
            x, *after = (a[:, 0] for a in (x, *after))
        elif self.batch_first:
            x = ops.swapaxes(x, 0, 1)
        return x, tuple(after) if self._memory else after[0]

    def _sizes(self, x: Any, lengths: Any, whole: bool, vectors: Any) -> tuple[int, int, bool]:
        """Numbers of steps and of sequences, and whether there is one without that dimension."""
        shape, title = tuple(x.shape), self._title()
        if vectors is not None and (not whole or vectors.shape[1:] != (self.input_size,)):
            raise ShapeError(
                f"{title} was given x of {x.dtype} and vectors of shape {tuple(vectors.shape)}; "
                f"required: whole numbers and (v, {self.input_size})"
            )
        outer = shape if whole else shape[:-1]
        single = len(outer) == 1
        if len(outer) not in (1, 2) or (not whole and shape[-1] != self.input_size):
            order = "(n, t" if self.batch_first else "(t, n"
            hint = ""
            if len(shape) == 3 and self.input_size in shape:
                place = shape.index(self.input_size)
                hint = f"; move the features to the last dimension: mg.moveaxis(x, {place}, -1)"
            elif len(shape) == 2:
                hint = "; ids and class numbers must be whole numbers: x.astype('int64')"
            raise ShapeError(
                f"{title} was given shape {shape}; required: {order}, {self.input_size}), or "
                f"(t, {self.input_size}) for one sequence{hint}"
            )
        if single and lengths is not None:
            raise ShapeError(
                f"{title} was given one sequence {shape} with lengths=; cut it instead: x[:length]"
            )
        steps, n = (outer[0], 1) if single else outer[:: -1 if self.batch_first else 1]
        if steps < 1:
            raise ShapeError(f"{title} was given {shape}, no steps; {self._read(x, steps, n)}")
        return steps, n, single

    def _read(self, x: Any, steps: int, n: int) -> str:
        return (
            f"{tuple(x.shape)} read as {steps} steps of {n} sequences (batch_first="
            f"{self.batch_first}; if it is the other way round, make the layer with batch_first="
            f"{not self.batch_first})"
        )

    def extra_repr(self) -> str:
        """The sizes, and what is not by default."""
        given = {"num_layers": (self.num_layers, 1), "batch_first": (self.batch_first, False)}
        given |= {"dropout": (self.dropout, 0), "bidirectional": (self.bidirectional, False)}
        others = [f", {name}={v}" for name, (v, usual) in given.items() if v != usual]
        return super().extra_repr() + "".join(others)


class RNN(_Layers):
    """Simple recurrent layers: hₜ = tanh(W_ih·xₜ + b_ih + W_hh·hₜ₋₁ + b_hh).

    Args:
        input_size: length of the vectors that come in.
        hidden_size: number of units, the length of the state.
        num_layers: how many layers, each reading the states of the one below.
        nonlinearity: 'tanh' or 'relu'.
        bias: True (two per unit, as in PyTorch), 'single' (one) or False.
        batch_first: x is (n, t, …) instead of (t, n, …); the state is not changed by it.
        dropout: probability with which states between two layers are set to 0 in training.
        bidirectional: a second set of weights reads from the end; its states are put beside the
            others.
        generator: source of the initial values and of dropout; by default one made from the
            configured seed.
        dtype, backend, device: by default the configured ones.

    Shapes: see `forward`. Weights are weight_ih_l0 (hidden_size, input_size), weight_hh_l0
    (hidden_size, hidden_size) and so on, as in PyTorch, whose state can be loaded.

    Example:
        >>> import microgpt as mg
        >>> layer = mg.nn.RNN(4, 3, batch_first=True)
        >>> output, state = layer(mg.ones((2, 5, 4)))
        >>> output.shape, state.shape
        ((2, 5, 3), (1, 2, 3))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool | str = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        generator: np.random.Generator | None = None,
        dtype: Any = None,
        backend: str | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            generator, (dtype, backend, device),
        )  # fmt: skip
        self.nonlinearity = known(nonlinearity)


class LSTM(_Layers):
    """Layers of long short-term memory: gates decide what is kept, written and shown.

    (i, f, g, o) = W_ih·xₜ + b_ih + W_hh·hₜ₋₁ + b_hh; cₜ = σ(f)·cₜ₋₁ + σ(i)·tanh(g);
    hₜ = σ(o)·tanh(cₜ). With bias='single' a layer has 4·(n·h + h² + h) parameters.

    Args: as for `RNN`, without nonlinearity.

    Shapes: see `forward`. weight_ih_l0 is (4·hidden_size, input_size), weight_hh_l0
    (4·hidden_size, hidden_size), as in PyTorch, whose state can be loaded.

    Source: Hochreiter and Schmidhuber, Neural Computation 9 (1997); Gers, Schmidhuber and
    Cummins, Neural Computation 12 (2000).

    Example:
        >>> import microgpt as mg
        >>> mg.nn.LSTM(65, 128, bias="single")
        LSTM(65, 128, bias='single')  99,328 parameters
        >>> layer = mg.nn.LSTM(4, 3, batch_first=True)
        >>> output, (h, c) = layer(mg.ones((2, 5, 4)), lengths=[5, 3])
        >>> output.shape, h.shape, c.shape
        ((2, 5, 3), (1, 2, 3), (1, 2, 3))
        >>> output[1, 3:].tolist()
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """

    _memory = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool | str = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        generator: np.random.Generator | None = None,
        dtype: Any = None,
        backend: str | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            generator, (dtype, backend, device),
        )  # fmt: skip
