"""Weights of GPT-2 in the naming of the Hugging Face library transformers: read and written.

Our names are theirs. Two things differ: their linear layers inside blocks keep the weight as
(in, out), ours as (out, in); and their names may begin with ``transformer.``. Files are
safetensors, which hold numbers and nothing that could run; pickled files (.bin, .pt) are not read.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from microgpt.errors import CheckpointError, InputError, missing_extra
from microgpt.models.gpt_config import GPTConfig

_PREFIX = "transformer."
_TRANSPOSED = re.compile(r"h\.\d+\.(attn\.c_attn|attn\.c_proj|mlp\.c_fc|mlp\.c_proj)\.weight")
_LAYER = re.compile(r"h\.(\d+)\.")
_MASK = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")
"""Constants that old files carry along: the causal mask."""

_ACTIVATIONS = {"gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "gelu": "gelu",
                "relu": "relu", "silu": "silu", "swish": "silu", "tanh": "tanh"}  # fmt: skip
_UNLIKE = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False,
           "add_cross_attention": False}  # fmt: skip
"""Options of transformers' GPT-2 that change what is computed, with the values that ours has."""

_METADATA = "microgpt.config"
_KINDS = {"F16", "F32", "F64", "BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64"}
_LONG = {"BF16": "bfloat16"}


def read(
    path: str | Path, config: GPTConfig | None = None, n_head: int | None = None
) -> tuple[GPTConfig, dict[str, np.ndarray]]:
    """The settings and the weights, by our names, of a GPT-2 file.

    Args:
        path: the safetensors file, or the folder with ``model.safetensors``.
        config: the settings; by default those that the file itself or the ``config.json`` beside it
            says, or what the shapes of the weights say, with `n_head`, which no shape shows.

    Raises:
        CheckpointError: if the file is missing or damaged, is no GPT-2, or has options that this
            GPT does not.
    """
    file = Path(path)
    file = file / "model.safetensors" if file.is_dir() else file
    arrays, metadata = _load(file)
    found = {}
    for name, values in arrays.items():
        short = name.removeprefix(_PREFIX)
        if not _MASK.fullmatch(short):
            found[short] = values.T if _TRANSPOSED.fullmatch(short) else values
    if not {"wte.weight", "wpe.weight"} <= found.keys():
        raise CheckpointError(
            f"{file} is no GPT-2 in the naming of transformers: required: wte.weight and "
            f"wpe.weight among others; got {', '.join(sorted(arrays)[:5]) or 'nothing'}, …"
        )
    if config is None:
        config = _settings(file, found, metadata, n_head)
    elif n_head not in (None, config.n_head):
        raise InputError(f"config says n_head = {config.n_head}, the argument {n_head}; give one")
    head = found.get("lm_head.weight")
    if head is not None and config.tied:
        # Some programs write the shared matrix twice.
        if head.shape != found["wte.weight"].shape or (head != found["wte.weight"]).any():
            raise CheckpointError(
                f"{file} has an lm_head.weight that is not wte.weight, but the settings say that "
                "they are tied; required: tied=False"
            )
        del found["lm_head.weight"]
    return config, found


def write(config: GPTConfig, state: Mapping[str, Any], path: str | Path) -> Path:
    """Write the weights of a GPT with GPT-2's layout so that `read` and transformers understand.

    Raises:
        InputError: if the layout is another.
    """
    plain = dict(norm="layer", norm_affine=True, norm_embeddings=False, norm_final=True,
                 bias=True, positions="learned")  # fmt: skip
    for name, want in plain.items():
        if getattr(config, name) != want:
            raise InputError(
                f"only GPT-2's layout has names in transformers: required: {name}={want!r}; got "
                f"{getattr(config, name)!r}; to save any model use mg.checkpoints.save_weights"
            )
    arrays = {}
    for name, t in state.items():
        values = t.numpy()
        values = values.T if _TRANSPOSED.fullmatch(name) else values
        arrays[name if name.startswith("lm_head") else _PREFIX + name] = np.ascontiguousarray(
            values
        )
    settings = {"format": "pt", _METADATA: json.dumps(asdict(config))}
    content = _safetensors().numpy.save(arrays, metadata=settings)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise missing_extra("safetensors", "train", "reading and writing weights") from None
    return safetensors


def _load(file: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    parts = file.with_name(file.name + ".index.json")
    if not file.is_file() and parts.is_file():
        raise CheckpointError(
            f"the weights in {file.parent} are spread over several files, as {parts.name} says; "
            "required: one file (transformers writes it with save_pretrained(…, "
            "max_shard_size='100GB'))"
        )
    if not file.is_file():
        raise CheckpointError(f"there is no weights file {file}; nothing is downloaded here")
    library = _safetensors()
    try:
        with library.safe_open(file, framework="numpy") as opened:
            names = list(opened.keys())
            kinds = {name: opened.get_slice(name).get_dtype() for name in names}
            strange = {name: kind for name, kind in kinds.items() if kind not in _KINDS}
            if strange:
                name, kind = next(iter(strange.items()))
                raise CheckpointError(
                    f"{file}: {name} is of the type {_LONG.get(kind, kind)}, which NumPy does not "
                    "have; required: float32, float16 or float64 (in transformers: "
                    "model.float().save_pretrained(…))"
                )
            return {name: opened.get_tensor(name) for name in names}, opened.metadata() or {}
    except CheckpointError:
        raise
    except Exception as error:  # whatever the reader makes of a damaged file
        raise CheckpointError(
            f"{file} is damaged or no safetensors file: {error} (pickled files must be converted "
            "with transformers: save_pretrained)"
        ) from error


def _settings(
    file: Path, found: dict[str, np.ndarray], metadata: dict[str, str], n_head: int | None
) -> GPTConfig:
    beside = file.with_name("config.json")
    said: dict[str, Any] = {}
    if _METADATA in metadata:
        return GPTConfig.from_dict(json.loads(metadata[_METADATA]))
    if beside.is_file():
        try:
            said = json.loads(beside.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CheckpointError(f"{beside} is no JSON: {error}") from error
        if not isinstance(said, dict):
            raise CheckpointError(
                f"{beside} holds a {type(said).__name__}; required: the settings, as a JSON object"
            )
    for name, want in _UNLIKE.items():
        if said.get(name, want) != want:
            raise CheckpointError(
                f"{beside}: {name} is {said[name]}; this GPT computes as with {want} only"
            )
    activation = said.get("activation_function", "gelu_new")
    if activation not in _ACTIVATIONS:
        raise CheckpointError(
            f"{beside}: there is no activation '{activation}' here; there are "
            f"{', '.join(_ACTIVATIONS)}"
        )
    heads = said.get("n_head") if n_head is None else n_head
    if heads is None:
        raise CheckpointError(
            f"the number of heads stands in no weight of {file}, and there is no config.json "
            "beside it; required: n_head=, 12 for the smallest GPT-2"
        )
    for name in ("wte.weight", "wpe.weight", "h.0.mlp.c_fc.weight"):
        if name in found and found[name].ndim != 2:
            raise CheckpointError(
                f"{file}: {name} has shape {found[name].shape}; required: a matrix"
            )
    vocabulary, width = found["wte.weight"].shape
    # Other names, and numbers that are left out, are complained of when the weights are loaded.
    layers = {int(match[1]) for match in map(_LAYER.match, found) if match}
    inner = found.get("h.0.mlp.c_fc.weight")
    head = found.get("lm_head.weight")
    return GPTConfig(
        vocab_size=vocabulary,
        block_size=len(found["wpe.weight"]),
        n_embd=width,
        n_layer=max(len(layers), 1),
        n_head=heads,
        hidden=None if inner is None or len(inner) == 4 * width else len(inner),
        norm_eps=said.get("layer_norm_epsilon", 1e-5),
        activation=_ACTIVATIONS[activation],
        tied=head is None or np.array_equal(head, found["wte.weight"]),
    )
