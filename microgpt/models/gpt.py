"""GPT: predicts the next token from the tokens before it.

Shapes: n texts of t tokens each, V tokens in the vocabulary, C numbers per token, H heads of
d = C/H numbers each.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from microgpt import nn, ops
from microgpt.creation import generator as make_generator
from microgpt.errors import InputError, ShapeError
from microgpt.models import generation, gpt2_weights
from microgpt.models.decoding import Cache, Past, Reader
from microgpt.models.gpt_config import GPTConfig, ParameterTable, count
from microgpt.nn import init
from microgpt.ops.network import linear_unchecked


class Attention(nn.Module):
    """Causal self-attention: every token collects from itself and the tokens before it."""

    def __init__(self, config: GPTConfig, **place: Any) -> None:
        super().__init__()
        c = config.n_embd
        self.heads = config.n_head
        self.c_attn = nn.Linear(c, 3 * c, config.bias, **place)
        self.c_proj = nn.Linear(c, c, config.bias, **place)
        self.dropout = nn.Dropout(config.dropout, generator=place["generator"])
        rotary = config.positions == "rotary"
        self.rotary: Any = nn.RotaryEmbedding(c // self.heads) if rotary else None

    def forward(self, x: Any, past: Past | None = None, patterns: list[Any] | None = None) -> Any:
        """(n, t, C) → (n, t, C)."""
        c = x.shape[-1]
        qkv = self.c_attn(x)  # (n, t, 3·C): what each token asks for, offers, and says
        if self.rotary is not None:
            qkv = self._turned(qkv, 0 if past is None else past.length)
        dropping = self.training and self.dropout.p > 0
        if past is None and patterns is None and not dropping:
            return self.c_proj(ops.self_attention(qkv, self.heads, causal=True))
        q, kv = qkv[..., :c], qkv[..., c:]
        if past is not None:
            kv = past.extended(kv)  # (n, all, 2·C)
        if patterns is None and not dropping:
            return self.c_proj(ops.cached_attention(q, kv, self.heads))
        # The same, written out: here the pattern itself is wanted.
        q, k, v = (self._split(rows) for rows in (q, kv[..., :c], kv[..., c:]))
        t, seen = q.shape[2], k.shape[2]
        scores = q @ k.mT / math.sqrt(c // self.heads)  # (n, H, t, seen)
        mask = np.tril(np.ones((t, seen), dtype=bool), seen - t)
        pattern = ops.softmax(ops.where(mask, scores, -math.inf))
        if patterns is not None:
            patterns.append(pattern)
        y = ops.permute_dims(self.dropout(pattern) @ v, (0, 2, 1, 3))  # (n, t, H, d)
        return self.c_proj(ops.reshape(y, x.shape))

    def _split(self, rows: Any) -> Any:
        """(n, t, C) → (n, H, t, d)."""
        n, t, c = rows.shape
        split = ops.reshape(rows, (n, t, self.heads, c // self.heads))
        return ops.permute_dims(split, (0, 2, 1, 3))

    def _turned(self, qkv: Any, start: int) -> Any:
        """Queries and keys turned as their positions say, `start` being the first."""
        c = qkv.shape[-1] // 3
        parts = [qkv[..., :c], qkv[..., c : 2 * c]]
        turned = [self.rotary(self._split(rows), start) for rows in parts]  # (n, H, t, d)
        joined = [ops.reshape(ops.permute_dims(x, (0, 2, 1, 3)), parts[0].shape) for x in turned]
        return ops.concat([*joined, qkv[..., 2 * c :]], axis=2)


class FeedForward(nn.Module):
    """Two layers on every token by itself: up to `hidden` numbers, and back down."""

    def __init__(self, config: GPTConfig, **place: Any) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, config.width, config.bias, **place)
        self.c_proj = nn.Linear(config.width, config.n_embd, config.bias, **place)
        name = config.activation
        self.act = nn.GELU("tanh") if name == "gelu_tanh" else nn.activation(name)

    def forward(self, x: Any) -> Any:
        """(n, t, C) → (n, t, C)."""
        return self.c_proj(self.act(self.c_fc(x)))


class Block(nn.Module):
    """Attention, then an MLP; each reads normalised vectors and adds to the vectors themselves."""

    def __init__(self, config: GPTConfig, **place: Any) -> None:
        super().__init__()
        self.ln_1 = _norm(config, **place)
        self.attn = Attention(config, **place)
        self.ln_2 = _norm(config, **place)
        self.mlp = FeedForward(config, **place)
        self.dropout = nn.Dropout(config.dropout, generator=place["generator"])

    def forward(self, x: Any, past: Past | None = None, patterns: list[Any] | None = None) -> Any:
        """(n, t, C) → (n, t, C)."""
        x = x + self.dropout(self.attn(self.ln_1(x), past, patterns))
        return x + self.dropout(self.mlp(self.ln_2(x)))


def _norm(config: GPTConfig, *, generator: Any, **place: Any) -> nn.Module:
    c, eps, affine = config.n_embd, config.norm_eps, config.norm_affine
    if config.norm == "rms":
        return nn.RMSNorm(c, eps, affine, **place)
    return nn.LayerNorm(c, eps, affine, config.bias, **place)


class GPT(nn.Module):
    """A decoder-only transformer.

    Args:
        config: sizes and options; see `GPTConfig`, and its presets gpt2, gpt3 and karpathy.
        generator: source of the initial weights and of dropout; by default one made from the
            configured seed.
        dtype, backend, device: by default the configured ones.

    Shapes: tokens (n, t), with t up to config.block_size, → logits (n, t, V).

    Source: Radford et al., Language Models are Unsupervised Multitask Learners, 2019.

    Example:
        >>> import microgpt as mg
        >>> model = mg.models.GPT(mg.models.GPTConfig.karpathy())
        >>> model.num_parameters()
        4192
        >>> model(mg.tensor([[0, 1, 2]])).shape
        (1, 3, 27)
    """

    def __init__(
        self,
        config: GPTConfig,
        *,
        generator: np.random.Generator | None = None,
        dtype: Any = None,
        backend: str | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__()
        source = make_generator() if generator is None else generator
        place: dict[str, Any] = dict(generator=source, dtype=dtype, backend=backend, device=device)
        self.config = config
        v, c = config.vocab_size, config.n_embd
        self.wte = nn.Embedding(v, c, **place)
        self.wpe: Any = None
        if config.positions == "learned":
            self.wpe = nn.LearnedPositions(config.block_size, c, **place)
        elif config.positions == "sinusoidal":
            self.wpe = nn.SinusoidalPositions(c)
        self.dropout = nn.Dropout(config.dropout, generator=source)
        self.ln_e = _norm(config, **place) if config.norm_embeddings else None
        self.h = nn.ModuleList(Block(config, **place) for _ in range(config.n_layer))
        self.ln_f = _norm(config, **place) if config.norm_final else None
        self.lm_head = None if config.tied else nn.Linear(c, v, bias=False, **place)
        self._initialise(source)

    def _initialise(self, source: np.random.Generator) -> None:
        """Matrices from the normal distribution, biases 0, norms as they are."""
        small = self.config.init_std / math.sqrt(2 * self.config.n_layer)
        for name, p in self.named_parameters():
            if name.endswith(".bias"):
                init.zeros_(p)
            elif p.ndim == 2:
                scaled = self.config.init_scaled and name.endswith("c_proj.weight")
                init.normal_(p, 0.0, small if scaled else self.config.init_std, generator=source)

    # ---- computing ---------------------------------------------------------------------------

    def forward(
        self,
        ids: Any,
        *,
        cache: Cache | None = None,
        return_patterns: bool = False,
        return_hidden: bool = False,
        last_only: bool = False,
    ) -> Any:
        """The logits of the token after each of `ids`.

        Args:
            ids: tokens (n, t), integers.
            cache: what was read before `ids`, from `cache()`; it is extended. Then `ids` are
                the tokens that follow.
            return_patterns: also return the attention patterns, a list with (n, H, t, t) of each
                layer: how much token i (second to last) takes from token j (last).
            return_hidden: also return the vectors after the embeddings and after each block, a list
                of n_layer + 1 times (n, t, C).
            last_only: logits of the last token only, (n, 1, V).

        Returns:
            Logits (n, t, V); with patterns or hidden vectors a tuple (logits, patterns, hidden), of
            what was asked for.

        Raises:
            ShapeError: if `ids` are not (n, t), longer than the block, or no tokens.
        """
        x = self._embedded(ids, 0 if cache is None else cache.length)
        patterns: list[Any] | None = [] if return_patterns else None
        hidden = [x]
        for place, block in enumerate(self.h):
            x = block(x, None if cache is None else cache.layers[place], patterns)
            if return_hidden:
                hidden.append(x)
        if last_only:
            x = x[:, -1:]
        if self.ln_f is not None:
            x = self.ln_f(x)
        table = self.wte if self.lm_head is None else self.lm_head
        logits = linear_unchecked(x, table.weight, None)
        if not (return_patterns or return_hidden):
            return logits
        return (logits, *([patterns] if return_patterns else []), *([hidden] * return_hidden))

    def _embedded(self, ids: Any, start: int) -> Any:
        """(n, t) tokens, of which `start` have gone before, → (n, t, C)."""
        ids = ids if hasattr(ids, "shape") else np.asarray(ids)
        if len(ids.shape) != 2 or not ids.shape[1]:
            raise ShapeError(
                f"GPT was given tokens of shape {tuple(ids.shape)}; required: (n, t), n texts of t "
                "tokens, 1 or more" + ("; a single text: ids[None]" * (len(ids.shape) == 1))
            )
        stop = start + ids.shape[1]
        size = self.config.block_size
        if stop > size:
            raise ShapeError(
                f"GPT was given {stop} tokens; required: at most block_size = {size} (keep the "
                f"last ones: ids[:, -{size}:])"
            ).about("too-many-tokens")
        x = self.wte(ids)
        if self.wpe is not None:
            x = self.wpe(x, start)
        if self.ln_e is not None:
            x = self.ln_e(x)
        return self.dropout(x)

    def loss(self, ids: Any, targets: Any = None) -> Any:
        """Mean cross-entropy of the next tokens.

        Args:
            ids: tokens (n, t).
            targets: the tokens that follow each of `ids`, (n, t); those of value -100 do not count.
                By default `ids` without its first column, which is predicted from `ids` without
                its last.
        """
        if targets is None:
            ids = ids if hasattr(ids, "shape") else np.asarray(ids)
            ids, targets = ids[:, :-1], ids[:, 1:]
        targets = targets if hasattr(targets, "shape") else np.asarray(targets)
        logits = ops.reshape(self(ids), (-1, self.config.vocab_size))
        return ops.cross_entropy(logits, targets.reshape(-1))

    def cache(self) -> Cache:
        """An empty memory for `forward(ids, cache=…)`."""
        return Cache(self.config.n_layer)

    # ---- writing -----------------------------------------------------------------------------

    def generate(
        self,
        prompt: Any,
        max_tokens: int = 100,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int | None = None,
        stream: bool = False,
        use_cache: bool = True,
        overflow: str = "crop",
        *,
        stop: int | None = None,
        tokenizer: Any = None,
        return_probabilities: bool = False,
        generator: np.random.Generator | None = None,
    ) -> Any:
        """What follows `prompt`, drawn token by token; dropout is off.

        Args:
            prompt: tokens (t,), a batch (n, t) of texts of equal length, or a text.
            max_tokens: how many tokens are written at most.
            temperature, top_k, top_p, seed, generator: how they are drawn; see `Sampler`.
            stream: give an iterator that yields tokens, or pieces of text, as they come; of a
                batch, lists (None for a text that has ended).
            use_cache: keep keys and values instead of computing them anew for every token.
            overflow: what happens when prompt and continuation get longer than the block. 'crop':
                only the last block_size tokens are read; all their positions change with every
                token, so each one costs a full pass, with or without cache. 'refuse': an error
                before anything is written.
            stop: a token that ends the text and is not part of it.
            tokenizer: has encode(text) → tokens and decode(tokens) → text, for texts.
            return_probabilities: also give the probability with which each token was drawn.

        Returns:
            The continuation, without the prompt and in its form: a list of tokens, a list of such
            lists, or a text; with probabilities a pair of it and a list of numbers. With `stream`
            an iterator over tokens, or over pairs of a token and its probability.

        Raises:
            InputError: if the prompt is empty, a setting is out of range, or with
                overflow='refuse' the text would not fit.

        Example:
            >>> import microgpt as mg
            >>> model = mg.models.GPT(mg.models.GPTConfig.karpathy(), generator=mg.generator(0))
            >>> len(model.generate([26], 5, seed=0))
            5
        """
        if overflow not in ("crop", "refuse"):
            raise InputError(f"generate: overflow must be 'crop' or 'refuse'; got {overflow!r}")
        ids = generation.encoded(prompt, tokenizer)
        size, read = self.config.block_size, ids.shape[-1] + max_tokens - 1
        if overflow == "refuse" and read > size:
            raise InputError(
                f"generate: {ids.shape[-1]} tokens and {max_tokens} more do not fit: all but the "
                f"last are read, {read}, and the block has {size}; give fewer, or overflow='crop'"
            )
        return generation.generate(
            Reader(self, use_cache),
            prompt if isinstance(prompt, str) else ids,
            max_tokens,
            generation.Sampler(temperature, top_k, top_p, seed, generator=generator),
            stop=stop,
            tokenizer=tokenizer,
            stream=stream,
            return_probabilities=return_probabilities,
        )

    # ---- files -------------------------------------------------------------------------------

    @classmethod
    def from_safetensors(
        cls,
        path: str | Path,
        config: GPTConfig | None = None,
        *,
        n_head: int | None = None,
        **place: Any,
    ) -> GPT:
        """A GPT with the weights of a GPT-2 file in the naming of Hugging Face's transformers.

        Args:
            path, config, n_head: see `gpt2_weights.read`. Nothing is downloaded.
            place: generator, dtype, backend, device, as for `GPT`.

        Raises:
            CheckpointError: if the file is missing or damaged, or naming what is missing,
                unexpected, or of another shape.
            MissingExtraError: if safetensors is not installed (extra: train).
        """
        config, state = gpt2_weights.read(path, config, n_head)
        model = cls(config, **place)
        model.load_state_dict(state)
        return model

    def to_safetensors(self, path: str | Path) -> Path:
        """Write the weights in that naming, with the settings; `from_safetensors` reads them.

        Raises:
            InputError: if the layout is not GPT-2's.
        """
        return gpt2_weights.write(self.config, self.state_dict(), path)

    # ---- counting ----------------------------------------------------------------------------

    def count(self: GPT | GPTConfig, everything: bool = True) -> ParameterTable:
        """The parameters by kind: of a model, or of settings alone with ``GPT.count(config)``.

        Args:
            everything: False counts as 3Blue1Brown's chapter 5 does; see `gpt_config.count`.

        Example:
            >>> import microgpt as mg
            >>> mg.models.GPT.count(mg.models.GPTConfig.gpt2()).total
            124439808
        """
        return count(self if isinstance(self, GPTConfig) else self.config, everything)

    def extra_repr(self) -> str:
        """The settings that decide the size."""
        c = self.config
        return (
            f"vocab_size={c.vocab_size}, block_size={c.block_size}, n_embd={c.n_embd}, "
            f"n_layer={c.n_layer}, n_head={c.n_head}"
        )
