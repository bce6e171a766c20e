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
from itertools import count
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from microgpt.durable import alive, make, sync, write
from microgpt.errors import CheckpointError, InputError, missing_extra
from microgpt.nn import Module

FORMAT = 3
_PREFIX = "checkpoint-"
_ARRAYS = ("model.safetensors", "state.safetensors")


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
    arrays = {name: _contiguous(t.numpy()) for name, t in module.state_dict().items()}
    content = _safetensors().save(arrays, metadata={"format": "microgpt"})
    make(target.parent)
    temporary = target.with_name(f".{target.name}.{os.getpid()}-{next(_NUMBERS)}.part")
    try:
        write(temporary, content)
        os.replace(temporary, target)
        sync(target.parent)
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
    return _parsed(path.read_bytes(), path)


def _parsed(content: bytes, path: Path) -> dict[str, np.ndarray]:
    try:
        return _safetensors().load(content)
    except Exception as error:  # whatever the reader makes of a damaged file
        if isinstance(error, ImportError):
            raise
        raise CheckpointError(f"{path} is damaged or no safetensors file: {error}") from error


# ---- checkpoints -----------------------------------------------------------------------------


def save(
    folder: str | Path, step: int, module: Module, state: dict[str, Any], keep: int = 2
) -> Path:
    """Write a checkpoint of `module` and of `state` (nested dicts, lists, numbers, arrays).

    Generators that modules hold (dropout) are saved too. When the new one is in place, older
    checkpoints beyond the last `keep` are removed; `keep=1` removes all others.

    Returns:
        The folder of the checkpoint.

    Raises:
        CheckpointError: if it cannot be written (disk full); the ones before are untouched.
    """
    if keep < 1:
        raise InputError(f"a run keeps at least one checkpoint; got keep={keep}")
    arrays: dict[str, np.ndarray] = {}
    document: dict[str, Any] = {
        "format": FORMAT,
        "step": step,
        "generators": {name: g.bit_generator.state for name, g in _generators(module).items()},
        "state": _packed(state, arrays),
    }
    weights = {name: _contiguous(t.numpy()) for name, t in module.state_dict().items()}
    contents = {
        name: _safetensors().save(part)
        for name, part in zip(_ARRAYS, (weights, arrays), strict=True)
    }
    document["checksums"] = {name: crc32(content) for name, content in contents.items()}
    text = json.dumps(document, default=_number)
    contents["state.json"] = f'{text[:-1]}, "checksum": {crc32(text.encode())}}}'.encode()
    run = Path(folder)
    final = run / f"{_PREFIX}{step:08d}"
    temporary = run / f".{final.name}.{os.getpid()}-{next(_NUMBERS)}.part"
    try:
        make(run)
        _clean(run)
        temporary.mkdir()
        for name, content in contents.items():
            write(temporary / name, content)
        sync(temporary)
        _put(temporary, final)
    except OSError as error:
        raise CheckpointError(
            f"{final} cannot be written: {error}; the checkpoints before it are untouched: make "
            "room, or mend what is wrong, and go on from there"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    others = [place for place in checkpoints(run) if place != final]
    for stale in others[: max(len(others) + 1 - keep, 0)]:
        _remove(stale)
    return final


_NUMBERS = count()


def _contiguous(values: np.ndarray) -> np.ndarray:
    """In C order. (np.ascontiguousarray would give arrays without axes one.)"""
    return np.asarray(values, order="C")


def _put(temporary: Path, final: Path) -> None:
    """Give a complete checkpoint its name; one of the same step goes out of the way first.

    If the process dies between the two renames, the old one is found under its hidden name.
    """
    old = final.with_name(f".{final.name}.old")
    if final.exists():
        os.rename(final, old)
    os.rename(temporary, final)
    sync(final.parent)
    if old.exists():
        _remove(old)


def _remove(place: Path) -> None:
    """Delete a checkpoint; it loses its name first, so that no half of it can be mistaken."""
    gone = place.with_name(f".{place.name.lstrip('.')}.{os.getpid()}-{next(_NUMBERS)}.part")
    try:
        os.rename(place, gone)
    except OSError:
        return  # somebody else was faster, or has it open
    shutil.rmtree(gone, ignore_errors=True)


def _clean(run: Path) -> None:
    """Tidy up after processes that died while they wrote or removed a checkpoint."""
    for old in run.glob(f".{_PREFIX}*.old"):
        final = run / old.name[1:].removesuffix(".old")
        if final.exists():
            _remove(old)
        else:
            os.rename(old, final)
    for part in run.glob(f".{_PREFIX}*.part"):
        writer = part.name.removesuffix(".part").rpartition(".")[2].partition("-")[0]
        if not (writer.isdigit() and alive(int(writer))):
            shutil.rmtree(part, ignore_errors=True)


def checkpoints(folder: str | Path) -> list[Path]:
    """The checkpoints in a run folder, oldest first.

    One that was being replaced when the process died is there under its hidden name.
    """
    run = Path(folder)
    found = {place.name: place for place in run.glob(f"{_PREFIX}*") if place.is_dir()}
    for old in run.glob(f".{_PREFIX}*.old"):
        found.setdefault(old.name[1:].removesuffix(".old"), old)
    return [place for _, place in sorted(found.items(), key=_step)]


def _step(item: tuple[str, Path]) -> tuple[int, str]:
    """The step in a checkpoint's name; more than eight digits sort rightly too."""
    digits = item[0].removeprefix(_PREFIX)
    return int(digits) if digits.isdigit() else -1, digits


def load(folder: str | Path, module: Module) -> dict[str, Any] | None:
    """Set `module` from the newest checkpoint of a run folder; None if there is none.

    Returns:
        What was given to `save` as `state`, with ``step`` added.

    Raises:
        CheckpointError: if the checkpoint is damaged or belongs to a different model. Nothing
            older is taken silently; the message names the checkpoint before it.
    """
    found = checkpoints(folder)
    if not found:
        return None
    place = found[-1]
    try:
        document, weights, arrays = _read(place)
    except (OSError, ValueError, CheckpointError) as error:
        before = f"go on from {found[-2].name}" if len(found) > 1 else "begin anew: it is the only"
        raise CheckpointError(
            f"{place} cannot be read: {error}; remove the folder {place.name} to {before}"
        ) from error
    generators = _generators(module)
    if generators.keys() != document["generators"].keys():
        raise CheckpointError(
            f"{place} has generators for {sorted(document['generators'])}; the model has them in "
            f"{sorted(generators)}"
        )
    module.load_state_dict(weights)
    for name, generator in generators.items():
        generator.bit_generator.state = document["generators"][name]
    return {**_unpacked(document["state"], arrays), "step": document["step"]}


def _read(place: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Document, weights and arrays of a checkpoint whose checksums are right."""
    document = json.loads((place / "state.json").read_text(encoding="utf-8"))
    found = document.get("format") if isinstance(document, dict) else type(document).__name__
    if found != FORMAT:
        raise CheckpointError(f"it has format {found}, and this version reads {FORMAT}")
    # What Python's json has read it writes as it was: numbers to their last digit, keys in order.
    if document.pop("checksum", None) != crc32(json.dumps(document).encode()):
        raise CheckpointError("state.json is damaged: its checksum is another")
    arrays = []
    for name in _ARRAYS:
        content = (place / name).read_bytes()
        if crc32(content) != document["checksums"][name]:
            raise CheckpointError(f"{name} is damaged: its checksum is another")
        arrays.append(_parsed(content, place / name))
    return document, arrays[0], arrays[1]


def _generators(module: Module) -> dict[str, np.random.Generator]:
    return {
        f"{prefix}.{key}" if prefix else key: value
        for prefix, part in module.named_modules()
        for key, value in vars(part).items()
        if isinstance(value, np.random.Generator)
    }


def generators(module: Module) -> list[np.random.Generator]:
    """The generators that the parts of `module` hold, each once."""
    return list({id(g): g for g in _generators(module).values()}.values())


def _packed(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """`value` with every array moved to `arrays` and a reference in its place."""
    if isinstance(value, np.ndarray):
        name = f"array{len(arrays)}"
        arrays[name] = _contiguous(value)
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
