"""Which tiles a matrix product uses on a graphics card: measured once, then kept on disk.

What is best depends on the card and on how tall, wide and deep the product is. For each class of
shapes (sizes rounded up to powers of two) all candidates are run on matrices of that size, and the
choice goes into a file next to the built programs. Whoever wants to measure again deletes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from microgpt_opencl.arrays import empty
from microgpt_opencl.programs import Kernel, cache_folder

if TYPE_CHECKING:
    from microgpt_opencl.device import Device


class Tile(NamedTuple):
    """What a work-group computes, m × n numbers in steps of k, and a work-item of it."""

    m: int
    n: int
    k: int
    work_m: int
    work_n: int

    @property
    def items(self) -> int:
        """Work-items of a group."""
        return (self.m // self.work_m) * (self.n // self.work_n)


CANDIDATES = tuple([Tile(*numbers) for numbers in (
    (64, 64, 16, 4, 4),  # the first is used where nothing was measured
    (128, 128, 16, 8, 8), (128, 128, 8, 8, 8), (128, 64, 16, 8, 4), (64, 128, 16, 4, 8),
    (64, 64, 16, 8, 8), (64, 64, 32, 4, 4), (32, 32, 32, 2, 2),
    (32, 64, 16, 4, 4), (32, 128, 16, 4, 4), (128, 32, 16, 4, 4),
    (16, 64, 32, 2, 4), (64, 16, 32, 4, 2), (8, 64, 32, 1, 4), (64, 8, 32, 4, 1),
)])  # fmt: skip

SMALL = 1 << 20
"""Multiplications below which measuring does not pay: the first that fits is used."""


def fits(tile: Tile, size: int, device: Device) -> bool:
    """Whether a device has the local memory and the work-items for `tile`."""
    local = tile.k * (tile.m + tile.n + 8) * size
    return (
        tile.items <= device.max_local
        and local <= device.local_memory
        and tile.m * tile.k % tile.items == 0
        and tile.n * tile.k % tile.items == 0
    )


def kernel(device: Device, real: str, tile: Tile) -> Kernel:
    """The product with these tiles."""
    return device.kernel(
        "gemm_gpu.cl", "gemm", REAL=real, TILE_M=tile.m, TILE_N=tile.n, TILE_K=tile.k,
        WORK_M=tile.work_m, WORK_N=tile.work_n,
    )  # fmt: skip


def tile(device: Device, real: str, m: int, n: int, k: int, batches: int) -> Tile:
    """The best tile for products of about this shape."""
    shape = tuple([1 << (max(x, 1) - 1).bit_length() for x in (m, n, k, batches)])
    key = f"{real} {'x'.join(map(str, shape))}"
    choices = device.programs.tiles
    if choices is None:
        choices = device.programs.tiles = _read(device)
    if key not in choices:
        with device.lock:
            size = 4 if real in ("float", "int") else 8
            possible = [t for t in CANDIDATES if fits(t, size, device)]
            if m * n * k * batches < SMALL or real not in ("float", "double"):
                choices[key] = possible[0]
            else:
                choices[key] = min(possible, key=lambda t: _seconds(device, real, t, m, n, k))
                _write(device, choices)
    return choices[key]


def _seconds(device: Device, real: str, t: Tile, m: int, n: int, k: int) -> float:
    """How long one product takes, the best of a few."""
    from microgpt_opencl.linalg import long4

    dtype = np.dtype("float32" if real == "float" else "float64")
    a, b, y = (empty(device, shape, dtype) for shape in ((m, k), (k, n), (m, n)))
    made = kernel(device, real, t)
    none = (0, 0)
    args: tuple[Any, ...] = (
        a, long4(k, 1, *none), b, long4(n, 1, *none), y, long4(n, 1, *none), y, m, n, k, 1, 0,
    )  # fmt: skip
    groups, local = (-(-n // t.n), -(-m // t.m), 1), (t.n // t.work_n, t.m // t.work_m, 1)
    best = float("inf")
    for _ in range(4):
        device.finish()
        start = perf_counter()
        device.launch(made, groups, local, *args)
        device.finish()
        best = min(best, perf_counter() - start)
    return best


# ---- on disk ---------------------------------------------------------------------------------


def _path(device: Device) -> Path | None:
    folder = cache_folder()
    if folder is None:
        return None
    what = "\0".join([device.title, device.version, device.driver, repr(CANDIDATES)])
    return folder / f"tiles-{hashlib.sha256(what.encode()).hexdigest()[:16]}.json"


def _read(device: Device) -> dict[str, Tile]:
    path = _path(device)
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {
            key: Tile(*numbers) for key, numbers in found.items() if Tile(*numbers) in CANDIDATES
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # missing or damaged: measured again


def _write(device: Device, choices: dict[str, Tile]) -> None:
    path = _path(device)
    if path is None:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump({**_read(device), **choices}, file, indent=1)
        os.replace(temporary, path)
    except OSError:
        pass  # measured again in the next process
