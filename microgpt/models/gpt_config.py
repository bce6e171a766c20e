"""The settings of a GPT, and how many parameters it has with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from microgpt.errors import InputError

ACTIVATIONS = ("gelu_tanh", "gelu", "relu", "silu", "tanh", "sigmoid")
NORMS = ("layer", "rms")
POSITIONS = ("learned", "sinusoidal", "rotary", "none")


@dataclass(frozen=True)
class GPTConfig:
    """Everything that decides the shape of a GPT; the defaults are GPT-2's layout.

    Args:
        vocab_size: V, how many tokens there are.
        block_size: T, the longest context in tokens.
        n_embd: C, the length of the vectors.
        n_layer: how many blocks.
        n_head: how many attention heads; C is a multiple of it.
        hidden: neurons in the middle of each MLP; by default 4·C.
        norm: 'layer' (mean and variance) or 'rms' (root mean square only).
        norm_affine: whether norms have learned weights (and with `bias` biases).
        norm_eps: what norms add to the variance or mean square.
        norm_embeddings: whether there is a norm right after the embeddings.
        norm_final: whether there is one before the output.
        bias: whether linear layers and layer norms have biases (the output layer never has).
        activation: of the MLPs: gelu_tanh, gelu, relu, silu, tanh or sigmoid.
        tied: whether the output layer is the token embedding, used the other way round.
        positions: 'learned' (a table), 'sinusoidal' (fixed waves), 'rotary' (keys and queries are
            turned by an angle) or 'none'.
        dropout: of embeddings, attention patterns and what blocks add, in training.
        init_std: deviation of the initial weights.
        init_scaled: whether layers that write to the residual stream start smaller by √(2·n_layer),
            as in GPT-2.

    Raises:
        InputError: if a setting is out of range.

    Example:
        >>> import microgpt as mg
        >>> mg.models.GPTConfig.karpathy().n_embd
        16
    """

    vocab_size: int
    block_size: int
    n_embd: int
    n_layer: int
    n_head: int
    hidden: int | None = None
    norm: str = "layer"
    norm_affine: bool = True
    norm_eps: float = 1e-5
    norm_embeddings: bool = False
    norm_final: bool = True
    bias: bool = True
    activation: str = "gelu_tanh"
    tied: bool = True
    positions: str = "learned"
    dropout: float = 0.0
    init_std: float = 0.02
    init_scaled: bool = True

    def __post_init__(self) -> None:
        for name in ("vocab_size", "block_size", "n_embd", "n_layer", "n_head", "hidden"):
            value = getattr(self, name)
            if name == "hidden" and value is None:
                continue
            if not isinstance(value, int) or value < 1:
                raise InputError(
                    f"GPTConfig: {name} must be a whole number, 1 or more; got {value!r}"
                )
        if self.n_embd % self.n_head:
            raise InputError(
                f"GPTConfig: n_embd must be a multiple of n_head, so that heads share it evenly; "
                f"got {self.n_embd} and {self.n_head}"
            )
        if self.positions == "rotary" and self.n_embd // self.n_head % 2:
            raise InputError(
                "GPTConfig: rotary positions turn pairs of numbers, so n_embd / n_head must be "
                f"even; got {self.n_embd} / {self.n_head}"
            )
        if self.positions == "sinusoidal" and self.n_embd % 2:
            raise InputError(
                f"GPTConfig: sinusoidal positions need an even n_embd; got {self.n_embd}"
            )
        for name, choices in (
            ("norm", NORMS), ("activation", ACTIVATIONS), ("positions", POSITIONS),
        ):  # fmt: skip
            if getattr(self, name) not in choices:
                raise InputError(
                    f"GPTConfig: {name} must be one of {', '.join(choices)}; got "
                    f"{getattr(self, name)!r}"
                )
        if not 0 <= self.dropout < 1:
            raise InputError(f"GPTConfig: dropout must be in [0, 1); got {self.dropout}")

    @property
    def width(self) -> int:
        """Neurons in the middle of each MLP."""
        return 4 * self.n_embd if self.hidden is None else self.hidden

    @classmethod
    def gpt2(cls, **changes: Any) -> GPTConfig:
        """GPT-2, the smallest of the four: 124,439,808 parameters.

        Source: Radford et al., Language Models are Unsupervised Multitask Learners, 2019.
        """
        sizes = dict(vocab_size=50_257, block_size=1024, n_embd=768, n_layer=12, n_head=12)
        return cls(**{**sizes, **changes})

    @classmethod
    def gpt3(cls, **changes: Any) -> GPTConfig:
        """GPT-3, the largest: 174,604,259,328 parameters. Source: Brown et al., arXiv:2005.14165.

        Its sizes; the sparse attention of every other layer changes no parameter and is left out.
        """
        sizes = dict(vocab_size=50_257, block_size=2048, n_embd=12_288, n_layer=96, n_head=96)
        return cls(**{**sizes, **changes})

    @classmethod
    def karpathy(cls, vocab_size: int = 27, **changes: Any) -> GPTConfig:
        """The options of Andrej Karpathy's microgpt: 4,192 parameters for 27 symbols.

        RMSNorm without weights, also right after the embeddings and not before the output; no
        biases; ReLU; an output layer of its own; initial weights of deviation 0.08.
        """
        options: dict[str, Any] = dict(
            block_size=16, n_embd=16, n_layer=1, n_head=4, norm="rms", norm_affine=False,
            norm_embeddings=True, norm_final=False, bias=False, activation="relu", tied=False,
            init_std=0.08, init_scaled=False,
        )  # fmt: skip
        return cls(**{"vocab_size": vocab_size, **options, **changes})

    @classmethod
    def from_dict(cls, settings: dict[str, Any]) -> GPTConfig:
        """The settings that `dataclasses.asdict` has written.

        Raises:
            InputError: naming settings that do not exist.
        """
        unknown = settings.keys() - {f.name for f in fields(cls)}
        if unknown:
            raise InputError(
                f"GPTConfig has no setting {', '.join(sorted(unknown))}; there are "
                f"{', '.join(f.name for f in fields(cls))}"
            )
        return cls(**settings)


@dataclass(frozen=True)
class Row:
    """One kind of parameters: what it is called, its formula, how many numbers, how many arrays."""

    kind: str
    formula: str
    weights: int
    matrices: int


@dataclass(frozen=True)
class ParameterTable:
    """The parameters of a GPT by kind; printed, a table."""

    rows: tuple[Row, ...]

    @property
    def total(self) -> int:
        """All numbers together."""
        return sum(row.weights for row in self.rows)

    @property
    def matrices(self) -> int:
        """All arrays together."""
        return sum(row.matrices for row in self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, kind: str) -> Row:
        for row in self.rows:
            if row.kind == kind:
                return row
        raise InputError(
            f"there is no kind '{kind}' here; there are {', '.join(r.kind for r in self.rows)}"
        )

    def __str__(self) -> str:
        cells = [("kind", "formula", "weights", "matrices")]
        cells += [(r.kind, r.formula, f"{r.weights:,}", f"{r.matrices:,}") for r in self.rows]
        cells += [("total", "", f"{self.total:,}", f"{self.matrices:,}")]
        widths = [max(len(row[i]) for row in cells) for i in range(4)]
        return "\n".join(
            f"{kind:<{widths[0]}}  {formula:<{widths[1]}}  {w:>{widths[2]}}  {m:>{widths[3]}}"
            for kind, formula, w, m in cells
        )


def count(config: GPTConfig, everything: bool = True) -> ParameterTable:
    """The parameters of a GPT by kind, computed from its settings; nothing is allocated.

    Args:
        config: the settings.
        everything: False counts as 3Blue1Brown's chapter 5 does: weight matrices only, without
            positions, biases and norms, and the unembedding even if it is tied.

    In each head the value matrix is a product of two: Value↓ (C → C/heads) and Value↑ (back). The
    Value↑ of all heads of a layer are stored as one matrix, the output projection.

    Example:
        >>> print(count(GPTConfig.gpt3(), everything=False))
        kind         formula                           weights  matrices
        Embedding    C·V                           617,558,016         1
        Key          C/heads·C · heads·layers   14,495,514,624     9,216
        Query        C/heads·C · heads·layers   14,495,514,624     9,216
        Value↓       C/heads·C · heads·layers   14,495,514,624     9,216
        Value↑       C·C/heads · heads·layers   14,495,514,624        96
        Up           hidden·C · layers          57,982,058,496        96
        Down         C·hidden · layers          57,982,058,496        96
        Unembedding  V·C                           617,558,016         1
        total                                  175,181,291,520    27,938
    """
    v, c, layers, heads, n = (
        config.vocab_size, config.n_embd, config.n_layer, config.n_head, config.width,
    )  # fmt: skip
    per_head = heads * layers * (c // heads) * c
    rows = [
        Row("Embedding", "C·V", c * v, 1),
        Row("Key", "C/heads·C · heads·layers", per_head, heads * layers),
        Row("Query", "C/heads·C · heads·layers", per_head, heads * layers),
        Row("Value↓", "C/heads·C · heads·layers", per_head, heads * layers),
        Row("Value↑", "C·C/heads · heads·layers", per_head, layers),
        Row("Up", "hidden·C · layers", n * c * layers, layers),
        Row("Down", "C·hidden · layers", c * n * layers, layers),
    ]
    if not (everything and config.tied):
        rows.append(Row("Unembedding", "V·C", v * c, 1))
    if everything and config.positions == "learned":
        rows.insert(1, Row("Positions", "C·T", c * config.block_size, 1))
    if everything and config.bias:
        # Packed as they are stored: query, key and value together, output, up, down.
        rows.append(Row("Biases", "(5·C + hidden) · layers", (5 * c + n) * layers, 4 * layers))
    norms = 2 * layers + config.norm_embeddings + config.norm_final
    if everything and config.norm_affine and norms:
        each = 2 if config.norm == "layer" and config.bias else 1
        formula = f"{each}·C · {norms}"
        rows.append(Row("Norms", formula, each * c * norms, each * norms))
    return ParameterTable(tuple(rows))
