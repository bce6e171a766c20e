"""The same GPT, in microgpt, in PyTorch eager and jitted by JAX: GPT-2's layout with AdamW."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import microgpt as mg

Step = Callable[[], float]


@dataclass(frozen=True)
class Size:
    """How large a model and its batches are."""

    vocabulary: int
    context: int
    width: int
    layers: int
    heads: int
    batch: int

    @property
    def tokens(self) -> int:
        """Tokens in a batch."""
        return self.batch * self.context

    @property
    def flops(self) -> int:
        """Multiplications and additions of a training step: 6 per weight and token of the
        matrices, and 12 per width and pair of positions of attention, causal or not."""
        weights = 12 * self.width**2 * self.layers + self.vocabulary * self.width
        return self.tokens * (6 * weights + 12 * self.layers * self.width * self.context)


SIZES = {
    "S0": Size(27, 16, 16, 1, 4, 1),
    "S1": Size(27, 16, 64, 4, 4, 32),
    "S2": Size(65, 64, 128, 4, 4, 12),
    "S3": Size(65, 256, 384, 6, 6, 8),
}


def tokens(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Random tokens and what follows them: the work is that of real text."""
    rng = np.random.default_rng(1)
    shape = (size.batch, size.context)
    return rng.integers(0, size.vocabulary, shape), rng.integers(0, size.vocabulary, shape)


# ---- microgpt --------------------------------------------------------------------------------


def microgpt_model(size: Size) -> mg.models.GPT:
    config = mg.models.GPTConfig(
        vocab_size=size.vocabulary,
        block_size=size.context,
        n_embd=size.width,
        n_layer=size.layers,
        n_head=size.heads,
    )
    return mg.models.GPT(config, generator=mg.generator(0))


def microgpt_step(size: Size) -> Step:
    model = microgpt_model(size)
    optimizer = mg.optim.AdamW(model.parameters(), lr=1e-3)
    ids, targets = (mg.tensor(x) for x in tokens(size))

    def step() -> float:
        loss = model.loss(ids, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


# ---- PyTorch ---------------------------------------------------------------------------------


def torch_model(size: Size) -> Any:
    import torch
    from torch import nn

    functional = nn.functional

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            c = size.width
            self.norm1, self.norm2 = nn.LayerNorm(c), nn.LayerNorm(c)
            self.project, self.gather = nn.Linear(c, 3 * c), nn.Linear(c, c)
            self.up, self.down = nn.Linear(c, 4 * c), nn.Linear(4 * c, c)

        def forward(self, x: Any, cache: list[Any] | None = None) -> Any:
            n, t, c = x.shape
            split = self.project(self.norm1(x)).view(n, t, 3, size.heads, c // size.heads)
            q, k, v = split.permute(2, 0, 3, 1, 4)
            if cache is not None:
                if cache:
                    k, v = torch.cat([cache[0], k], 2), torch.cat([cache[1], v], 2)
                cache[:] = k, v
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=t > 1)
            x = x + self.gather(mixed.transpose(1, 2).reshape(n, t, c))
            return x + self.down(functional.gelu(self.up(self.norm2(x)), approximate="tanh"))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.tokens = nn.Embedding(size.vocabulary, size.width)
            self.places = nn.Embedding(size.context, size.width)
            self.blocks = nn.ModuleList(Block() for _ in range(size.layers))
            self.norm = nn.LayerNorm(size.width)

        def forward(self, ids: Any, caches: list[list[Any]] | None = None) -> Any:
            start = caches[0][0].shape[2] if caches and caches[0] else 0
            x = self.tokens(ids) + self.places.weight[start : start + ids.shape[1]]
            for i, block in enumerate(self.blocks):
                x = block(x, None if caches is None else caches[i])
            return functional.linear(self.norm(x), self.tokens.weight)

    torch.set_num_threads(torch.get_num_threads())
    torch.manual_seed(0)
    return GPT()


def torch_step(size: Size) -> Step:
    import torch

    model = torch_model(size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    ids, targets = (torch.from_numpy(x) for x in tokens(size))

    def step() -> float:
        logits = model(ids)
        loss = torch.nn.functional.cross_entropy(
            logits.view(-1, size.vocabulary), targets.reshape(-1)
        )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


# ---- JAX -------------------------------------------------------------------------------------


def jax_step(size: Size) -> Step:
    import jax
    import jax.numpy as jnp
    import optax

    c, head = size.width, size.width // size.heads
    keys = iter(jax.random.split(jax.random.PRNGKey(0), 8 * size.layers + 2))

    def matrix(n: int, m: int) -> Any:
        return 0.02 * jax.random.normal(next(keys), (n, m))

    def dense(n: int, m: int) -> Any:
        return matrix(n, m), jnp.zeros(m)

    def unit() -> Any:
        return jnp.ones(c), jnp.zeros(c)

    def block() -> Any:
        return {
            "norm1": unit(), "project": dense(c, 3 * c), "gather": dense(c, c),
            "norm2": unit(), "up": dense(c, 4 * c), "down": dense(4 * c, c),
        }  # fmt: skip

    weights = {
        "tokens": matrix(size.vocabulary, c),
        "places": matrix(size.context, c),
        "blocks": [block() for _ in range(size.layers)],
        "norm": unit(),
    }

    def norm(x: Any, w: Any) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * w[0] + w[1]

    def affine(x: Any, w: Any) -> Any:
        return x @ w[0] + w[1]

    def loss_of(w: Any, ids: Any, targets: Any) -> Any:
        n, t = ids.shape
        x = w["tokens"][ids] + w["places"][:t]
        seen = jnp.tril(jnp.ones((t, t), bool))
        for b in w["blocks"]:
            split = affine(norm(x, b["norm1"]), b["project"]).reshape(n, t, 3, size.heads, head)
            q, k, v = split.transpose(2, 0, 3, 1, 4)
            scores = q @ k.transpose(0, 1, 3, 2) / head**0.5
            mixed = jax.nn.softmax(jnp.where(seen, scores, -jnp.inf)) @ v
            x = x + affine(mixed.transpose(0, 2, 1, 3).reshape(n, t, c), b["gather"])
            x = x + affine(jax.nn.gelu(affine(norm(x, b["norm2"]), b["up"])), b["down"])
        logits = norm(x, w["norm"]) @ w["tokens"].T
        return optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()

    optimizer = optax.adamw(1e-3)

    @jax.jit
    def update(w: Any, state: Any, ids: Any, targets: Any) -> Any:
        loss, grads = jax.value_and_grad(loss_of)(w, ids, targets)
        changes, state = optimizer.update(grads, state, w)
        return optax.apply_updates(w, changes), state, loss

    now = [weights, optimizer.init(weights)]
    ids, targets = tokens(size)

    def step() -> float:
        now[0], now[1], loss = update(*now, ids, targets)
        return float(loss)

    return step
