"""Weights and training state on disk: never pickled, never half written.

A run folder holds one folder per checkpoint, ``checkpoint-00001200`` after step 1,200, with
``model.safetensors`` (weights), ``state.safetensors`` (arrays of the optimizer and the history) and
``state.json`` (numbers, generators, positions). It is written under a temporary name and renamed
when it is complete, so whatever has the final name can be read, even if the process was killed.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from microgpt.errors import CheckpointError, missing_extra
from microgpt.nn import Module

FORMAT = 1
_PREFIX = "checkpoint-"


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError:
        raise missing_extra("safetensors", "train", "saving and loading weights") from None
    return safetensors.numpy


# ---- weights ---------------------------------------------------------------------------------


def save_weights(module: Module, path: str | Path) -> Path:
    """Write the parameters and buffers of `module` as a safetensors file.

    The file appears under its name when it is complete.

    Raises:
        MissingExtraError: if safetensors is not installed (extra: train).
    """
    target = Path(path)
    arrays = {name: np.ascontiguousarray(t.numpy()) for name, t in module.state_dict().items()}
    content = _safetensors().save(arrays, metadata={"format": "microgpt"})
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        _write(temporary, content)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def load_weights(module: Module, path: str | Path, strict: bool = True) -> None:
    """Set the parameters and buffers of `module` from a safetensors file.

    Raises:
        CheckpointError: if the file is missing, damaged, or does not fit the module.
    """
    module.load_state_dict(_arrays(Path(path)), strict=strict)


def _arrays(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise CheckpointError(f"there is no weights file {path}")
    try:
        return _safetensors().load(path.read_bytes())
    except Exception as error:  # whatever the reader makes of a damaged file
        if isinstance(error, ImportError):
            raise
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}") from error


def _write(path: Path, content: bytes) -> None:
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


# ---- checkpoints -----------------------------------------------------------------------------


def save(
    folder: str | Path, step: int, module: Module, state: dict[str, Any], keep: int = 2
) -> Path:
    """Write a checkpoint of `module` and of `state` (nested dicts, lists, numbers, arrays).

    Generators that modules hold (dropout) are saved too. Older checkpoints beyond the last `keep`
    are removed after the new one is in place.

    Returns:
        The folder of the checkpoint.
    """
    run = Path(folder)
    run.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, np.ndarray] = {}
    document = {
        "format": FORMAT,
        "step": step,
        "generators": {name: g.bit_generator.state for name, g in _generators(module).items()},
        "state": _packed(state, arrays),
    }
    final = run / f"{_PREFIX}{step:08d}"
    temporary = run / f".{final.name}.{os.getpid()}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        weights = {n: np.ascontiguousarray(t.numpy()) for n, t in module.state_dict().items()}
        _write(temporary / "model.safetensors", _safetensors().save(weights))
        _write(temporary / "state.safetensors", _safetensors().save(arrays))
        text = json.dumps(document, indent=1, default=_number)
        _write(temporary / "state.json", text.encode())
        if final.exists():  # the same step again: move the old one out of the way first
            old = run / f".{final.name}.old"
            shutil.rmtree(old, ignore_errors=True)
            os.rename(final, old)
            os.rename(temporary, final)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(temporary, final)
        _sync(run)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for stale in checkpoints(run)[:-keep]:
        shutil.rmtree(stale, ignore_errors=True)
    return final


def _sync(folder: Path) -> None:
    """Make a rename durable, where folders can be synchronised."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def checkpoints(folder: str | Path) -> list[Path]:
    """The checkpoints in a run folder, oldest first.

    One that was being replaced when the process died is taken back.
    """
    run = Path(folder)
    for old in run.glob(f".{_PREFIX}*.old"):
        final = run / old.name[1:].removesuffix(".old")
        if not final.exists():
            os.rename(old, final)
    return sorted(p for p in run.glob(f"{_PREFIX}*") if p.is_dir())


def load(folder: str | Path, module: Module) -> dict[str, Any] | None:
    """Set `module` from the newest checkpoint of a run folder; None if there is none.

    Returns:
        What was given to `save` as `state`, with ``step`` added.

    Raises:
        CheckpointError: if the checkpoint is damaged or belongs to a different model.
    """
    found = checkpoints(folder)
    if not found:
        return None
    place = found[-1]
    try:
        document = json.loads((place / "state.json").read_text())
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{place / 'state.json'} cannot be read: {error}; remove the folder {place.name} to go "
            "on from the checkpoint before it"
        ) from error
    if document.get("format") != FORMAT:
        raise CheckpointError(
            f"{place} has format {document.get('format')}; this version reads {FORMAT}"
        )
    arrays = _arrays(place / "state.safetensors")
    load_weights(module, place / "model.safetensors")
    generators = _generators(module)
    if generators.keys() != document["generators"].keys():
        raise CheckpointError(
            f"{place} has generators for {sorted(document['generators'])}; the model has them in "
            f"{sorted(generators)}"
        )
    for name, generator in generators.items():
        generator.bit_generator.state = document["generators"][name]
    return {**_unpacked(document["state"], arrays), "step": document["step"]}


def _generators(module: Module) -> dict[str, np.random.Generator]:
    return {
        f"{prefix}.{key}" if prefix else key: value
        for prefix, part in module.named_modules()
        for key, value in vars(part).items()
        if isinstance(value, np.random.Generator)
    }


def _packed(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """`value` with every array moved to `arrays` and a reference in its place."""
    if isinstance(value, np.ndarray):
        name = f"array{len(arrays)}"
        arrays[name] = np.ascontiguousarray(value)
        return {"array": name}
    if isinstance(value, dict):
        return {"dict": {str(k): _packed(v, arrays) for k, v in value.items()}}
    if isinstance(value, (list, tuple)):
        return [_packed(v, arrays) for v in value]
    return value


def _unpacked(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, dict):
        if "array" in value:
            return arrays[value["array"]]
        return {k: _unpacked(v, arrays) for k, v in value["dict"].items()}
    return [_unpacked(v, arrays) for v in value] if isinstance(value, list) else value


def _number(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise CheckpointError(
        f"a checkpoint holds numbers, texts, arrays, lists and dicts; got {type(value).__name__}"
    )
