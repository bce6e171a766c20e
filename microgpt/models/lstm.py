"""Networks with a memory: a language model that reads letter by letter, and a classifier."""

from __future__ import annotations

from typing import Any

import numpy as np

from microgpt import autograd, nn, ops
from microgpt.creation import generator as make_generator
from microgpt.errors import InputError, ShapeError
from microgpt.models import generation
from microgpt.ops.indexing import integers
from microgpt.ops.network import like
from microgpt.ops.recurrent import checked_lengths


class CharLSTM(nn.Module):
    """Reads a text token by token and says at each place what may come next.

    What it has read it knows from its state only, which can be carried on from piece to piece of
    a text of any length. With the default values there is one bias per gate and unit, and tokens
    are one-hot vectors: 4·(V·h + h² + h) parameters for the LSTM and h·V + V for the logits.

    Args:
        vocab_size: V, how many tokens there are.
        hidden_size: h, number of units of each layer.
        num_layers: how many layers there are.
        embedding_dim: length of learned vectors in the place of the one-hot ones.
        dropout: of the states between layers and before the logits, in training.
        bias: 'single', one bias per gate and unit; True, two, as in PyTorch; or False.
        generator: source of the initial weights and of dropout; by default one made from the
            configured seed.

    Shapes: tokens (n, t) → logits (n, t, V) and the state, (h, c) of (num_layers, n, h) each.

    Example:
        >>> import microgpt as mg
        >>> model = mg.models.CharLSTM(65, 128)
        >>> logits, state = model(mg.tensor([[0, 1, 2]]))
        >>> logits.shape, model.num_parameters()
        ((1, 3, 65), 107713)
        >>> logits, state = model(mg.tensor([[3]]), state)
    """

    def __init__(
        self,
        vocab_size: int,
        hidden_size: int = 128,
        num_layers: int = 1,
        embedding_dim: int | None = None,
        dropout: float = 0.0,
        bias: bool | str = "single",
        *,
        generator: np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        if vocab_size < 1:
            raise InputError(f"CharLSTM needs one token or more; got {vocab_size}")
        source = make_generator() if generator is None else generator
        self.vocab_size = vocab_size
        self.embedding = None
        if embedding_dim is not None:
            self.embedding = nn.Embedding(vocab_size, embedding_dim, generator=source)
        inputs = vocab_size if embedding_dim is None else embedding_dim
        self.lstm = nn.LSTM(
            inputs, hidden_size, num_layers, bias, dropout=dropout, generator=source
        )
        self.dropout = nn.Dropout(dropout, generator=source)
        self.head = nn.Linear(hidden_size, vocab_size, generator=source)

    def forward(self, ids: Any, state: Any = None) -> tuple[Any, Any]:
        """Tokens, and the state in which the text before them ended, to logits and state."""
        ids = integers("CharLSTM", ids, self.head.weight)
        if len(ids.shape) != 2:
            raise ShapeError(
                f"CharLSTM was given tokens of shape {tuple(ids.shape)}; required: (n, t), n texts "
                "of t tokens" + ("; a single text: ids[None]" if len(ids.shape) == 1 else "")
            )
        ids = ops.swapaxes(ids, 0, 1)  # (t, n): step after step
        # What each token adds to the gates is computed once for all places where it stands.
        vectors = None if self.embedding is None else self.embedding.weight
        x, state = self.lstm(ids, state, vectors=vectors)  # (t, n, h)
        logits = self.head(self.dropout(x))  # (t, n, V)
        return ops.swapaxes(logits, 0, 1), state

    def loss(self, ids: Any, targets: Any = None) -> Any:
        """Mean cross-entropy of the next tokens, from a state of zeros.

        Args:
            ids: tokens (n, t).
            targets: the tokens that follow each of `ids`, (n, t); those of value -100 do not count.
                By default `ids` without its first column, which is predicted from `ids` without
                its last.
        """
        if targets is None:
            ids, targets = ids[:, :-1], ids[:, 1:]
        logits, _ = self(ids)
        return ops.cross_entropy(logits.reshape((-1, self.vocab_size)), targets.reshape(-1))

    def generate(
        self,
        prompt: Any,
        max_tokens: int = 100,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stream: bool = False,
        *,
        stop: int | None = None,
        tokenizer: Any = None,
        return_probabilities: bool = False,
        generator: np.random.Generator | None = None,
    ) -> Any:
        """What follows `prompt`, drawn token by token; each costs one step, however long the text.

        Args:
            prompt: tokens (t,), a batch (n, t) of texts of equal length, or a text.
            max_tokens: how many tokens are written at most.
            temperature, top_k, top_p, seed, generator: how they are drawn; see `Sampler`.
            stream: give an iterator that yields tokens, or pieces of text, as they come.
            stop: a token that ends the text and is not part of it.
            tokenizer: has encode(text) → tokens and decode(tokens) → text; for prompts that are
                texts.
            return_probabilities: also give the probability with which each token was drawn.

        Returns:
            The continuation, without the prompt and in its form; see `GPT.generate`.

        Example:
            >>> import microgpt as mg
            >>> model = mg.models.CharLSTM(5, 8, generator=mg.generator(0))
            >>> len(model.generate([0], 12, seed=0))
            12
        """
        return generation.generate(
            _Reader(self),
            prompt,
            max_tokens,
            generation.Sampler(temperature, top_k, top_p, seed, generator=generator),
            stop=stop,
            tokenizer=tokenizer,
            stream=stream,
            return_probabilities=return_probabilities,
        )

    def count(self) -> list[tuple[str, int, int]]:
        """Name, number of weights and number of biases of every part.

        Example:
            >>> import microgpt as mg
            >>> for row in mg.models.CharLSTM(65, 128).count():
            ...     print(row)
            ('layer 1: inputs 65→4·128', 33280, 512)
            ('layer 1: states 128→4·128', 65536, 0)
            ('logits 128→65', 8320, 65)
        """
        rows = _counted(self.lstm)
        if self.embedding is not None:
            table = self.embedding.weight
            rows.insert(0, (f"embedding {table.shape[0]}→{table.shape[1]}", table.size, 0))
        return [*rows, _counted_head("logits", self.head)]

    def extra_repr(self) -> str:
        """The vocabulary."""
        return f"vocab_size={self.vocab_size}"


class _Reader:
    """Reads texts on with a CharLSTM: tokens (n, t) in, logits (n, V) of what follows out."""

    def __init__(self, model: CharLSTM) -> None:
        self.model = model
        self.state: Any = None

    def __call__(self, new: np.ndarray) -> np.ndarray:
        with self.model.evaluating(), autograd.no_grad():
            logits, self.state = self.model(new, self.state)
        return logits.numpy()[:, -1]


class LSTMClassifier(nn.Module):
    """Reads a sequence of vectors to its end and says which class it belongs to.

    Args:
        features: length of the vectors.
        classes: number of outputs, the logits of a softmax.
        hidden_size: number of units of each layer and direction.
        num_layers: how many layers there are.
        bidirectional: whether sequences are read from both ends.
        pooling: what the classes are read from: 'mean', the mean of the states of all steps, or
            'last', the states in which the readings end.
        dropout: of the states between layers and before the classes, in training.
        bias: 'single', one bias per gate and unit; True, two, as in PyTorch; or False.
        generator: source of the initial weights and of dropout; by default one made from the
            configured seed.

    Shapes: frames (n, t, features) and lengths (n,), how many frames of each are real, by default
    all → (n, classes).

    Example:
        >>> import microgpt as mg
        >>> model = mg.models.LSTMClassifier(12, 9, hidden_size=16)
        >>> model(mg.zeros((2, 30, 12)), lengths=[30, 17]).shape
        (2, 9)
    """

    def __init__(
        self,
        features: int,
        classes: int,
        hidden_size: int = 64,
        num_layers: int = 1,
        bidirectional: bool = False,
        pooling: str = "mean",
        dropout: float = 0.0,
        bias: bool | str = "single",
        *,
        generator: np.random.Generator | None = None,
    ) -> None:
        super().__init__()
        if pooling not in ("mean", "last"):
            raise InputError(f"LSTMClassifier: pooling must be 'mean' or 'last'; got {pooling!r}")
        source = make_generator() if generator is None else generator
        self.pooling = pooling
        self.lstm = nn.LSTM(
            features, hidden_size, num_layers, bias, batch_first=True, dropout=dropout,
            bidirectional=bidirectional, generator=source,
        )  # fmt: skip
        self.dropout = nn.Dropout(dropout, generator=source)
        width = hidden_size * (2 if bidirectional else 1)
        self.head = nn.Linear(width, classes, generator=source)

    def forward(self, frames: Any, lengths: Any = None) -> Any:
        """Sequences to logits."""
        if len(frames.shape) != 3:
            raise ShapeError(
                f"LSTMClassifier was given shape {tuple(frames.shape)}; required: (n, t, "
                f"{self.lstm.input_size})"
                + ("; a single sequence: x[None]" if len(frames.shape) == 2 else "")
            )
        if lengths is not None:
            n, steps, _ = frames.shape
            lengths = checked_lengths("LSTMClassifier", lengths, steps, n)
        x, (h, _) = self.lstm(frames, lengths=lengths)  # (n, t, width)
        if self.pooling == "last":
            found = ops.concat([h[-2], h[-1]], axis=-1) if self.lstm.bidirectional else h[-1]
        elif lengths is None:
            found = ops.mean(x, axis=1)
        else:  # x is 0 behind the end
            found = ops.sum(x, axis=1) / like(x, lengths[:, None])
        return self.head(self.dropout(found))  # (n, width) → (n, classes)

    def count(self) -> list[tuple[str, int, int]]:
        """Name, number of weights and number of biases of every part.

        Example:
            >>> import microgpt as mg
            >>> mg.models.LSTMClassifier(12, 9, hidden_size=16).count()
            [('layer 1: inputs 12→4·16', 768, 64), ('layer 1: states 16→4·16', 1024, 0), \
('classes 16→9', 144, 9)]
        """
        return [*_counted(self.lstm), _counted_head("classes", self.head)]


def _counted(lstm: nn.LSTM) -> list[tuple[str, int, int]]:
    """Weights and biases of the inputs and the states of each layer and direction."""
    size, rows = lstm.hidden_size, []
    parts = dict(lstm.named_parameters())
    for name, weight in parts.items():
        if name.startswith("weight_"):
            kind, _, place = name.removeprefix("weight_").partition("_l")
            layer, _, direction = place.partition("_")
            title = f"layer {int(layer) + 1}{' ' * bool(direction)}{direction}: "
            title += f"{'inputs' if kind == 'ih' else 'states'} {weight.shape[1]}→4·{size}"
            bias = parts.get(name.replace("weight", "bias"))
            rows.append((title, weight.size, 0 if bias is None else bias.size))
    return rows


def _counted_head(name: str, head: nn.Linear) -> tuple[str, int, int]:
    return f"{name} {head.in_features}→{head.out_features}", head.weight.size, head.out_features
