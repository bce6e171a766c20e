"""GPT-2 as the transformers library writes and computes it, and files that are no GPT-2."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import microgpt as mg
from microgpt.errors import CheckpointError, InputError
from microgpt.models import GPT, GPTConfig
from tests.test_models_gpt import made

safetensors_numpy = pytest.importorskip("safetensors.numpy", reason="safetensors is not installed")

CONFIG = GPTConfig(vocab_size=17, block_size=12, n_embd=8, n_layer=2, n_head=2)


@pytest.fixture
def theirs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return pytest.importorskip("transformers", reason="transformers is not installed")


def random_gpt2(transformers: Any, **changes: Any) -> Any:
    import torch

    torch.manual_seed(0)
    settings = dict(vocab_size=61, n_positions=16, n_embd=32, n_layer=2, n_head=2,
                    bos_token_id=0, eos_token_id=0, attn_implementation="eager")  # fmt: skip
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**{**settings, **changes})).eval()
    with torch.no_grad():
        for p in model.parameters():  # biases and norms, too, are not what they start as
            p.add_(torch.randn_like(p) * 0.2)
    return model


@pytest.mark.parametrize(
    "changes", [{}, {"n_inner": 40, "activation_function": "relu", "layer_norm_epsilon": 1e-3}]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_weights_that_transformers_wrote(
    theirs: Any, tmp_path: Path, dtype: str, changes: dict[str, Any]
) -> None:
    import torch

    peer = random_gpt2(theirs, **changes).to(getattr(torch, dtype))
    peer.save_pretrained(tmp_path)
    ours = GPT.from_safetensors(tmp_path, dtype=dtype)
    assert ours.config.n_head == 2 and ours.config.tied and ours.config.block_size == 16
    assert ours.num_parameters() == sum(p.numel() for p in peer.parameters())
    ids = np.random.default_rng(0).integers(0, 61, (3, 16))
    with torch.no_grad():
        want = peer(torch.tensor(ids)).logits.numpy()
    atol = 1e-4 if dtype == "float32" else 1e-10
    np.testing.assert_allclose(ours(ids).numpy(), want, rtol=0, atol=atol)

    prompt = ids[0, :5].tolist()
    text = peer.generate(
        torch.tensor([prompt]), max_new_tokens=11, do_sample=False, eos_token_id=None,
        pad_token_id=0, attention_mask=torch.ones(1, 5, dtype=torch.long),
    )[0, 5:].tolist()  # fmt: skip
    assert ours.generate(prompt, 11, temperature=0) == text


def test_weights_that_transformers_reads(theirs: Any, tmp_path: Path) -> None:
    import torch

    peer = random_gpt2(theirs)
    peer.config.save_pretrained(tmp_path)
    ours = made(GPTConfig(61, 16, 32, 2, 2), scale=0.2)
    ours.to_safetensors(tmp_path / "model.safetensors")
    loaded = theirs.GPT2LMHeadModel.from_pretrained(tmp_path, torch_dtype=torch.float64).eval()
    ids = np.random.default_rng(0).integers(0, 61, (2, 9))
    with torch.no_grad():
        want = loaded(torch.tensor(ids)).logits.numpy()
    np.testing.assert_allclose(ours(ids).numpy(), want, rtol=0, atol=1e-10)


@pytest.mark.parametrize("tied", [True, False])
def test_there_and_back(tmp_path: Path, tied: bool) -> None:
    config = GPTConfig(17, 12, 8, 2, 2, hidden=9, activation="relu", norm_eps=1e-4, tied=tied)
    model = made(config)
    path = model.to_safetensors(tmp_path / "new" / "gpt.safetensors")
    assert [file.name for file in path.parent.iterdir()] == ["gpt.safetensors"]
    again = GPT.from_safetensors(path, dtype="float64")
    assert again.config == config
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, values in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name].numpy(), values.numpy())


# ---- by hand ---------------------------------------------------------------------------------


def arrays_of(model: GPT) -> dict[str, np.ndarray]:
    """In the naming of the files, written down here once more."""
    arrays = {}
    for name, t in model.state_dict().items():
        inside = name.startswith("h.") and "ln" not in name and name.endswith("weight")
        arrays[name] = np.ascontiguousarray(t.numpy().T if inside else t.numpy())
    return arrays


def saved(folder: Path, arrays: dict[str, np.ndarray]) -> Path:
    path = folder / "model.safetensors"
    path.write_bytes(safetensors_numpy.save(arrays))
    return path


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_names_with_and_without_prefix_masks_and_a_copied_head(tmp_path: Path, prefix: str) -> None:
    model = made(CONFIG)
    arrays = arrays_of(model)
    extra = {"h.0.attn.bias": np.ones((1, 1, 12, 12)), "h.1.attn.masked_bias": np.float64([-1e4])}
    named = {prefix + name: values for name, values in (arrays | extra).items()}
    named["lm_head.weight"] = arrays["wte.weight"]
    path = saved(tmp_path, named)
    ids = np.array([[3, 1, 4, 1, 5]])
    for again in (
        GPT.from_safetensors(path, n_head=2, dtype="float64"),
        GPT.from_safetensors(tmp_path, CONFIG, dtype="float64"),
    ):
        assert again.config == CONFIG
        np.testing.assert_allclose(again(ids).numpy(), model(ids).numpy(), atol=1e-12)
    half = GPT.from_safetensors(
        saved(tmp_path, {k: v.astype("float16") for k, v in arrays.items()}), n_head=2
    )
    assert half.wte.weight.dtype == np.float32


def test_an_output_layer_of_its_own(tmp_path: Path) -> None:
    arrays = arrays_of(made(CONFIG))
    path = saved(tmp_path, arrays | {"lm_head.weight": arrays["wte.weight"] + 1})
    assert not GPT.from_safetensors(path, n_head=2).config.tied
    with pytest.raises(CheckpointError, match="lm_head.weight.*tied=False"):
        GPT.from_safetensors(path, CONFIG)


def test_files_that_do_not_fit(tmp_path: Path) -> None:
    model = made(CONFIG)
    arrays = arrays_of(model)
    with pytest.raises(CheckpointError, match="no weights file.*nothing is downloaded"):
        GPT.from_safetensors(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"\x80\x04pickle")
    with pytest.raises(CheckpointError, match="damaged.*save_pretrained"):
        GPT.from_safetensors(tmp_path)
    path = saved(tmp_path, arrays)
    with pytest.raises(CheckpointError, match="n_head="):
        GPT.from_safetensors(path)
    with pytest.raises(InputError, match="multiple of n_head"):
        GPT.from_safetensors(path, n_head=3)
    with pytest.raises(InputError, match="n_head = 2.*4"):
        GPT.from_safetensors(path, CONFIG, n_head=4)
    saved(tmp_path, {"a": np.zeros(2), "b": np.zeros(2)})
    with pytest.raises(CheckpointError, match="wte.weight.*got a, b"):
        GPT.from_safetensors(path, n_head=2)

    less = {name: values for name, values in arrays.items() if name != "h.1.mlp.c_fc.bias"}
    saved(tmp_path, {**less, "h.0.attn.rank": np.zeros(3), "ln_f.bias": np.zeros(9)})
    with pytest.raises(CheckpointError) as error:
        GPT.from_safetensors(path, n_head=2)
    for line in (r"missing: h.1.mlp.c_fc.bias (32,)", "unexpected: h.0.attn.rank",
                 "ln_f.bias: shape (9,) in the state, (8,) here"):  # fmt: skip
        assert line in str(error.value)


def test_odd_files(tmp_path: Path) -> None:
    arrays = arrays_of(made(CONFIG))
    for changes, match in (
        ({"wte.weight": np.zeros(8)}, r"wte.weight has shape \(8,\)"),
        ({"h.0.mlp.c_fc.weight": np.zeros(8)}, r"c_fc.weight has shape \(8,\)"),
        ({"h.x.y": np.zeros(1)}, "unexpected: h.x.y"),
        ({"h.999999999.y": np.zeros(1)}, "unexpected: h.999999999.y"),
    ):
        path = saved(tmp_path, {**arrays, **changes})
        with pytest.raises(CheckpointError, match=match):
            GPT.from_safetensors(path, n_head=2)
    saved(tmp_path, arrays)
    for text in ("[]", "3", "null"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(CheckpointError, match="config.json holds a .*JSON object"):
            GPT.from_safetensors(path)


def test_weights_in_bfloat16_and_in_several_files(tmp_path: Path) -> None:
    header = json.dumps({"wte.weight": {"dtype": "BF16", "shape": [1, 2], "data_offsets": [0, 4]}})
    whole = len(header).to_bytes(8, "little") + header.encode() + bytes(4)
    file = tmp_path / "model.safetensors"
    file.write_bytes(whole)
    with pytest.raises(CheckpointError, match=r"wte.weight is of the type bfloat16.*float\(\)"):
        GPT.from_safetensors(file, n_head=2)
    file.unlink()
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    with pytest.raises(CheckpointError, match="several files.*model.safetensors.index.json"):
        GPT.from_safetensors(tmp_path)


def test_settings_that_this_gpt_does_not_have(tmp_path: Path) -> None:
    path = saved(tmp_path, arrays_of(made(CONFIG)))
    for settings, match in (
        ({"n_head": 2, "scale_attn_by_inverse_layer_idx": True}, "scale_attn_by.*with False"),
        ({"n_head": 2, "activation_function": "mish"}, "mish.*gelu_new"),
        ({"activation_function": "gelu_new"}, "n_head="),
    ):
        (tmp_path / "config.json").write_text(json.dumps(settings))
        with pytest.raises(CheckpointError, match=match):
            GPT.from_safetensors(path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="no JSON"):
        GPT.from_safetensors(path)
    small = GPT(GPTConfig.karpathy(), generator=mg.generator(0))
    with pytest.raises(InputError, match="norm='layer'.*'rms'.*save_weights"):
        small.to_safetensors(tmp_path / "small.safetensors")
