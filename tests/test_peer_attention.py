"""Attention, transformer blocks and embedding against PyTorch: outputs, patterns, all gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt import nn

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

BATCH, QUERIES, KEYS, WIDTH, HEADS = 3, 4, 5, 8, 2
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


@pytest.fixture(autouse=True)
def in_float64() -> Iterator[None]:
    with mg.configure(dtype="float64"):
        yield


def drawn(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def filled(theirs: Any, seed: int = 1) -> dict[str, np.ndarray]:
    """New numbers for all parameters of a PyTorch module, and a state for ours."""
    rng = np.random.default_rng(seed)
    state = {}
    with torch.no_grad():
        for name, p in theirs.named_parameters():
            values = rng.normal(1.0 if "norm" in name else 0.0, 0.4, tuple(p.shape))
            p.copy_(torch.from_numpy(values))
            state[name] = values
    return state


def inputs(*arrays: np.ndarray) -> tuple[list[mg.Tensor], list[Any]]:
    """The same leaves on both sides."""
    ours = [mg.tensor(a, requires_grad=True) for a in arrays]
    return ours, [torch.tensor(a, requires_grad=True) for a in arrays]


def compare(
    ours: nn.Module, theirs: Any, y: mg.Tensor, want: Any, leaves: tuple[list[mg.Tensor], list[Any]]
) -> None:
    """Outputs, and the gradients of all inputs and all parameters."""
    np.testing.assert_allclose(y.numpy(), want.detach().numpy(), **CLOSE)
    g = drawn(*y.shape, seed=9)
    y.backward(mg.tensor(g))
    want.backward(torch.from_numpy(g))
    for mine, other in zip(*leaves, strict=True):
        np.testing.assert_allclose(mine.grad.numpy(), other.grad.numpy(), **CLOSE)  # type: ignore[union-attr]
    named = dict(theirs.named_parameters())
    assert named.keys() == dict(ours.named_parameters()).keys()
    for name, p in ours.named_parameters():
        np.testing.assert_allclose(
            p.grad.numpy(), named[name].grad.numpy(), **CLOSE, err_msg=name  # type: ignore[union-attr]
        )  # fmt: skip


def attentions(**options: Any) -> tuple[nn.MultiHeadAttention, Any]:
    theirs = torch.nn.MultiheadAttention(
        WIDTH, HEADS, batch_first=True, dtype=torch.float64, **options
    )
    ours = nn.MultiHeadAttention(WIDTH, HEADS, generator=mg.generator(0), **options)
    ours.load_state_dict(filled(theirs))
    return ours, theirs


PADDED = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0], [1, 0, 0, 0, 0]], bool)
FUTURE = np.triu(np.ones((QUERIES, QUERIES), bool), 1)


@pytest.mark.parametrize("weights", [False, True], ids=["fused", "pattern"])
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "plain"])
@pytest.mark.parametrize("kind", ["plain", "causal", "padded", "both", "mask", "numbers"])
def test_self_attention(kind: str, bias: bool, weights: bool) -> None:
    ours, theirs = attentions(bias=bias)
    leaves = inputs(drawn(BATCH, QUERIES, WIDTH))
    x, other = leaves[0][0], leaves[1][0]
    real = PADDED[:, :QUERIES]
    mine: dict[str, Any] = {}
    their: dict[str, Any] = {}
    if kind in ("causal", "both"):
        mine["is_causal"], their["attn_mask"] = True, torch.from_numpy(FUTURE)
    if kind in ("padded", "both"):
        mine["key_padding_mask"], their["key_padding_mask"] = real, torch.from_numpy(~real)
    if kind == "mask":
        seen = np.random.default_rng(3).random((BATCH, HEADS, QUERIES, QUERIES)) < 0.5
        seen |= np.eye(QUERIES, dtype=bool)
        mine["mask"] = mg.tensor(seen)
        their["attn_mask"] = torch.from_numpy(~seen.reshape(-1, QUERIES, QUERIES))
    if kind == "numbers":
        added = drawn(QUERIES, QUERIES)
        mine["mask"], their["attn_mask"] = added, torch.from_numpy(added)
    y = ours(x, need_weights=weights, **mine)
    want, pattern = theirs(other, other, other, average_attn_weights=False, **their)
    if weights:
        np.testing.assert_allclose(y[1].numpy(), pattern.detach().numpy(), **CLOSE)
        y = y[0]
    compare(ours, theirs, y, want, leaves)


@pytest.mark.parametrize("sizes", [{}, {"kdim": 3, "vdim": 6}], ids=["packed", "kdim+vdim"])
@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
def test_cross_attention(sizes: dict[str, int], padded: bool) -> None:
    ours, theirs = attentions(**sizes)
    leaves = inputs(
        drawn(BATCH, QUERIES, WIDTH),
        drawn(BATCH, KEYS, sizes.get("kdim", WIDTH)),
        drawn(BATCH, KEYS, sizes.get("vdim", WIDTH), seed=1),
    )
    mine = {"key_padding_mask": PADDED} if padded else {}
    their = {"key_padding_mask": torch.from_numpy(~PADDED)} if padded else {}
    y = ours(*leaves[0], **mine)
    want, _ = theirs(*leaves[1], **their)
    compare(ours, theirs, y, want, leaves)


@pytest.mark.parametrize("pre", [True, False], ids=["pre-norm", "post-norm"])
@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_layer(pre: bool, activation: str) -> None:
    theirs = torch.nn.TransformerEncoderLayer(
        WIDTH, HEADS, 12, dropout=0.0, activation=activation, batch_first=True, norm_first=pre,
        dtype=torch.float64,
    )  # fmt: skip
    ours = nn.TransformerBlock(
        WIDTH, HEADS, 12, norm_first=pre, activation=activation, generator=mg.generator(0)
    )
    ours.load_state_dict(filled(theirs))
    leaves = inputs(drawn(BATCH, KEYS, WIDTH))
    y = ours(leaves[0][0], key_padding_mask=PADDED)
    want = theirs(leaves[1][0], src_key_padding_mask=torch.from_numpy(~PADDED))
    compare(ours, theirs, y, want, leaves)


@pytest.mark.parametrize("pre", [True, False], ids=["pre-norm", "post-norm"])
def test_decoder_layer(pre: bool) -> None:
    theirs = torch.nn.TransformerDecoderLayer(
        WIDTH, HEADS, 12, dropout=0.0, activation="gelu", batch_first=True, norm_first=pre,
        dtype=torch.float64,
    )  # fmt: skip
    ours = nn.TransformerBlock(
        WIDTH, HEADS, 12, norm_first=pre, is_causal=True, cross_attention=True,
        generator=mg.generator(0),
    )  # fmt: skip
    ours.load_state_dict(filled(theirs))
    leaves = inputs(drawn(BATCH, QUERIES, WIDTH), drawn(BATCH, KEYS, WIDTH))
    y = ours(*leaves[0], memory_key_padding_mask=PADDED)
    want = theirs(
        *leaves[1], tgt_mask=torch.from_numpy(FUTURE),
        memory_key_padding_mask=torch.from_numpy(~PADDED),
    )  # fmt: skip
    compare(ours, theirs, y, want, leaves)


def test_stacks_load_the_states_of_theirs() -> None:
    encoder = torch.nn.TransformerEncoder(
        torch.nn.TransformerEncoderLayer(WIDTH, HEADS, 12, 0.0, "gelu", batch_first=True,
                                         norm_first=True, dtype=torch.float64),
        2, torch.nn.LayerNorm(WIDTH, dtype=torch.float64), enable_nested_tensor=False,
    )  # fmt: skip
    ours = nn.TransformerEncoder(2, WIDTH, HEADS, 12, generator=mg.generator(0))
    ours.load_state_dict(filled(encoder))
    leaves = inputs(drawn(BATCH, KEYS, WIDTH))
    compare(ours, encoder, ours(leaves[0][0]), encoder(leaves[1][0]), leaves)

    decoder = torch.nn.TransformerDecoder(
        torch.nn.TransformerDecoderLayer(WIDTH, HEADS, 12, 0.0, "gelu", batch_first=True,
                                         norm_first=False, dtype=torch.float64),
        2,
    )  # fmt: skip
    mine = nn.TransformerDecoder(2, WIDTH, HEADS, 12, norm_first=False, generator=mg.generator(0))
    mine.load_state_dict(filled(decoder))
    leaves = inputs(drawn(BATCH, QUERIES, WIDTH), drawn(BATCH, KEYS, WIDTH))
    want = decoder(*leaves[1], tgt_mask=torch.from_numpy(FUTURE))
    compare(mine, decoder, mine(*leaves[0]), want, leaves)


@pytest.mark.parametrize("padding", [None, 2, -1])
def test_embedding(padding: int | None) -> None:
    theirs = torch.nn.Embedding(6, 3, padding_idx=padding, dtype=torch.float64)
    ours = nn.Embedding(6, 3, padding, generator=mg.generator(0))
    ours.load_state_dict(filled(theirs))
    ids = np.array([[1, 2, 2, 5], [0, 5, 2, 1]])
    compare(ours, theirs, ours(mg.tensor(ids)), theirs(torch.from_numpy(ids)), ([], []))
    rows = ours.weight.grad.numpy()  # type: ignore[union-attr]
    assert (padding is None) or not rows[padding].any()


def test_initial_values_have_the_spread_of_theirs() -> None:
    ours = nn.MultiHeadAttention(64, 4, generator=mg.generator(0))
    theirs = torch.nn.MultiheadAttention(64, 4)
    state = {k: v.detach().numpy() for k, v in theirs.state_dict().items()}
    for name, p in ours.named_parameters():
        mine, other = p.numpy(), state[name]
        np.testing.assert_allclose(np.abs(mine).max(), np.abs(other).max(), rtol=0.01)
        np.testing.assert_allclose(mine.std(), other.std(), rtol=0.05)
    assert abs(nn.Embedding(500, 64, generator=mg.generator(0)).weight.numpy().std() - 1) < 0.01
