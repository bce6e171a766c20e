"""The cache of keys and values; transformer blocks and stacks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt import nn
from microgpt.errors import GradientError, InputError, ShapeError
from tests.attending import HEADS, MEMORY, REAL, SEEN, WIDTH, X, drawn

# ---- cache -----------------------------------------------------------------------------------


def test_a_cache_counts_crops_and_forgets() -> None:
    layer = nn.MultiHeadAttention(WIDTH, HEADS, dtype="float64", generator=mg.generator(0))
    cache = nn.KVCache()
    with mg.no_grad():
        whole = layer(X, is_causal=True).numpy()
        layer(X[:, :2], is_causal=True, cache=cache)
        assert (cache.length, cache.position) == (2, 2)
        y = layer(X[:, 2:], is_causal=True, cache=cache)
        np.testing.assert_allclose(y.numpy(), whole[:, 2:], rtol=1e-12)
        cache.crop(1)
        y = layer(X[:, 1:], is_causal=True, cache=cache)
        np.testing.assert_allclose(y.numpy(), whole[:, 1:], rtol=1e-12)
        with pytest.raises(InputError, match="3 tokens cannot be cropped to 4"):
            cache.crop(4)
        with pytest.raises(ShapeError, match="another batch or layer"):
            layer(X[:1], is_causal=True, cache=cache)
        cache.reset()
        assert cache.position == 0
        np.testing.assert_allclose(layer(X, is_causal=True, cache=cache).numpy(), whole, rtol=1e-12)


def test_a_cache_knows_padding_and_gives_patterns() -> None:
    layer = nn.MultiHeadAttention(WIDTH, HEADS, dtype="float64", generator=mg.generator(0))
    front = REAL[:2, ::-1].copy()
    with mg.no_grad():
        whole, pattern = layer(X[:2], key_padding_mask=front, is_causal=True, need_weights=True)
        cache = nn.KVCache()
        layer(X[:2, :2], key_padding_mask=front[:, :2], is_causal=True, cache=cache)
        y, seen = layer(
            X[:2, 2:], key_padding_mask=front, is_causal=True, cache=cache, need_weights=True
        )
    np.testing.assert_allclose(y.numpy(), whole.numpy()[:, 2:], rtol=1e-12)
    np.testing.assert_allclose(seen.numpy(), pattern.numpy()[:, :, 2:], rtol=1e-12)


def test_a_refused_call_leaves_the_cache_as_it_was() -> None:
    layer = nn.MultiHeadAttention(WIDTH, HEADS, dtype="float64", generator=mg.generator(0))
    cache = nn.KVCache()
    with mg.no_grad():
        layer(X, is_causal=True, cache=cache)
        with pytest.raises(ShapeError, match="the cache's keys count too"):
            layer(X, key_padding_mask=REAL, is_causal=True, cache=cache)
        with pytest.raises(InputError, match="something else than the key"):
            layer(X, X, MEMORY[:, :3] * 1.0, cache=cache)
    assert cache.length == 3


def test_a_cache_is_not_for_training() -> None:
    layer = nn.MultiHeadAttention(WIDTH, HEADS, dtype="float64", generator=mg.generator(0))
    for arguments in ((X,), (X, MEMORY)):
        with pytest.raises(GradientError, match="no_grad"):
            layer(*arguments, cache=nn.KVCache())
    layer.requires_grad_(False)
    assert layer(X, cache=nn.KVCache()).shape == X.shape


def test_cross_attention_keeps_what_it_looks_at() -> None:
    for sizes in ({}, {"kdim": WIDTH, "vdim": 3}):
        layer = nn.MultiHeadAttention(
            WIDTH, HEADS, dtype="float64", generator=mg.generator(0), **sizes
        )
        looked_at = (MEMORY, MEMORY[..., :3] * 1.0) if sizes else (MEMORY,)
        with mg.no_grad():
            whole = layer(X, *looked_at).numpy()
            cache = nn.KVCache()
            for place in range(3):
                y = layer(X[:, place : place + 1], *looked_at, cache=cache)
                np.testing.assert_allclose(y.numpy(), whole[:, place : place + 1], rtol=1e-12)
            assert cache.length == 5
            with pytest.raises(InputError, match="something else than the key"):
                layer(X, MEMORY * 2.0, *looked_at[1:], cache=cache)
            if not sizes:
                with pytest.raises(InputError, match="takes no new tokens"):
                    layer(X, cache=cache)


# ---- blocks and stacks -----------------------------------------------------------------------


def test_a_block_adds_to_what_comes_in() -> None:
    x = mg.tensor(drawn(2, 3, WIDTH))
    block = nn.TransformerBlock(WIDTH, HEADS, dtype="float64", generator=mg.generator(0))
    for layer in (block.self_attn.out_proj, block.linear2):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    np.testing.assert_array_equal(block(x).numpy(), x.numpy())


def test_blocks_show_their_patterns() -> None:
    decoder = nn.TransformerDecoder(2, WIDTH, HEADS, dtype="float64", generator=mg.generator(0))
    y, patterns = decoder(X, MEMORY, memory_key_padding_mask=SEEN, need_weights=True)
    plain = decoder(X, MEMORY, memory_key_padding_mask=SEEN)
    np.testing.assert_allclose(y.numpy(), plain.numpy(), rtol=1e-10)
    assert [p["self"].shape for p in patterns] == [(3, HEADS, 3, 3)] * 2
    for p in patterns:
        cross = p["cross"].numpy()
        np.testing.assert_allclose(cross.sum(-1), 1.0)
        assert not cross.swapaxes(1, 3)[~SEEN].any()
        assert not np.triu(p["self"].numpy(), 1).any()
    block = nn.TransformerBlock(WIDTH, HEADS, dtype="float64", generator=mg.generator(0))
    assert list(block(X, need_weights=True)[1]) == ["self"]


def test_a_decoder_with_caches_equals_the_whole() -> None:
    decoder = nn.TransformerDecoder(
        2, 8, HEADS, rotary=True, norm="rms", dtype="float64", generator=mg.generator(0)
    )
    x, memory = mg.tensor(drawn(2, 4, 8)), mg.tensor(drawn(2, 5, 8))
    with mg.no_grad():
        whole = decoder(x, memory).numpy()
        cache = decoder.make_cache()
        for i in range(4):
            y = decoder(x[:, i : i + 1], memory, cache=cache).numpy()
            np.testing.assert_allclose(y[:, 0], whole[:, i], rtol=1e-10)
        assert [c.position for c in cache] == [4, 4] and cache[0].cross.length == 5
        with pytest.raises(InputError, match="2 layers needs as many caches"):
            decoder(x, memory, cache=cache[:1])


def test_dropout_of_a_block_is_off_in_evaluation() -> None:
    options: dict[str, Any] = {"dtype": "float64", "cross_attention": True}
    block = nn.TransformerBlock(WIDTH, HEADS, dropout=0.3, generator=mg.generator(0), **options)
    plain = nn.TransformerBlock(WIDTH, HEADS, generator=mg.generator(0), **options)
    want = plain(X, MEMORY).numpy()
    assert np.abs(block(X, MEMORY).numpy() - want).max() > 0.01
    np.testing.assert_array_equal(block.eval()(X, MEMORY).numpy(), want)


def test_blocks_say_what_does_not_fit() -> None:
    with pytest.raises(InputError, match="no activation 'swish'"):
        nn.TransformerBlock(8, 2, activation="swish")
    with pytest.raises(InputError, match="'layer' or 'rms'"):
        nn.TransformerBlock(8, 2, norm="batch")
    with pytest.raises(InputError, match="at least one layer"):
        nn.TransformerEncoder(0, 8, 2)
    block = nn.TransformerBlock(8, 2, generator=mg.generator(0))
    with pytest.raises(InputError, match="cross_attention=True"):
        block(mg.zeros((1, 2, 8)), mg.zeros((1, 2, 8)))
    with pytest.raises(InputError, match=r"given none; required: block\(x, memory\)"):
        nn.TransformerBlock(8, 2, cross_attention=True)(mg.zeros((1, 2, 8)))
    with pytest.raises(ShapeError, match=r"8"):
        block(mg.zeros((1, 2, 6)))


def test_stacks_end_with_a_norm_if_their_blocks_are_pre_norm() -> None:
    assert isinstance(nn.TransformerEncoder(1, 8, 2).norm, nn.LayerNorm)
    assert isinstance(nn.TransformerEncoder(1, 8, 2, norm="rms").norm, nn.RMSNorm)
    assert nn.TransformerEncoder(1, 8, 2, norm_first=False).norm is None
    assert nn.TransformerEncoder(1, 8, 2, final_norm=False).norm is None
    assert nn.TransformerDecoder(1, 8, 2, norm_first=False, final_norm=True).norm is not None
    plain = nn.TransformerEncoder(1, 16, 4, bias=False, norm="rms", norm_affine=False)
    assert plain.num_parameters() == 12 * 16 * 16  # attention 4, the two linear maps 8
