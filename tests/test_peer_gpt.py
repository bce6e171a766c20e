"""GPT against the same model written with PyTorch: loss and the gradients of all weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from microgpt.models import GPTConfig
from tests.test_models_gpt import made

torch = pytest.importorskip("torch", reason="PyTorch is not installed")

CONFIGS = {
    "gpt2": GPTConfig(27, 16, 24, 3, 4),
    "karpathy": GPTConfig.karpathy(n_layer=2),
    "rms": GPTConfig(27, 16, 24, 2, 4, norm="rms", tied=False, activation="silu", bias=False),
    "bare": GPTConfig(27, 16, 24, 2, 4, norm_affine=False, activation="gelu", hidden=7),
}


def peer_logits(config: GPTConfig, w: dict[str, Any], ids: Any) -> Any:
    """The forward pass in PyTorch's words; `w` are the weights by name."""
    f = torch.nn.functional

    def norm(x: Any, name: str) -> Any:
        weight, bias = w.get(f"{name}.weight"), w.get(f"{name}.bias")
        if config.norm == "rms":
            return f.rms_norm(x, x.shape[-1:], weight, config.norm_eps)
        return f.layer_norm(x, x.shape[-1:], weight, bias, config.norm_eps)

    def linear(x: Any, name: str) -> Any:
        return f.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))

    act = {
        "gelu_tanh": lambda x: f.gelu(x, approximate="tanh"),
        "gelu": f.gelu, "relu": f.relu, "silu": f.silu,
    }[config.activation]  # fmt: skip
    n, t = ids.shape
    x = w["wte.weight"][ids] + w["wpe.weight"][:t]
    if config.norm_embeddings:
        x = norm(x, "ln_e")
    for layer in range(config.n_layer):
        h = f"h.{layer}"
        parts = linear(norm(x, f"{h}.ln_1"), f"{h}.attn.c_attn").chunk(3, dim=-1)
        q, k, v = (p.view(n, t, config.n_head, -1).transpose(1, 2) for p in parts)
        y = f.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + linear(y.transpose(1, 2).reshape(n, t, -1), f"{h}.attn.c_proj")
        x = x + linear(act(linear(norm(x, f"{h}.ln_2"), f"{h}.mlp.c_fc")), f"{h}.mlp.c_proj")
    if config.norm_final:
        x = norm(x, "ln_f")
    return f.linear(x, w["wte.weight" if config.tied else "lm_head.weight"])


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("length", [16, 5])
def test_loss_and_all_gradients(name: str, length: int) -> None:
    config = CONFIGS[name]
    model = made(config, scale=0.3)
    rng = np.random.default_rng(0)
    ids, targets = rng.integers(0, 27, (2, 3, length))
    weights = {
        key: torch.tensor(p.numpy(), requires_grad=True) for key, p in model.named_parameters()
    }
    want = peer_logits(config, weights, torch.tensor(ids))
    loss = torch.nn.functional.cross_entropy(want.flatten(0, 1), torch.tensor(targets).flatten())
    loss.backward()

    np.testing.assert_allclose(model(ids).numpy(), want.detach().numpy(), rtol=0, atol=1e-10)
    ours = model.loss(ids, targets)
    ours.backward()
    assert ours.item() == pytest.approx(loss.item(), rel=1e-12)
    for key, p in model.named_parameters():
        assert p.grad is not None, key
        np.testing.assert_allclose(
            p.grad.numpy(), weights[key].grad.numpy(), rtol=0, atol=1e-10, err_msg=key
        )
