"""Labelled examples for runs: pictures and sequences, by the name of the data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from microgpt import data, ops
from microgpt.errors import DataError
from microgpt.runs.material import Material
from microgpt.runs.settings import Settings, nearest
from microgpt.runs.tables import Found
from microgpt.runs.words import count as counted
from microgpt.train import accuracy

Arrays = tuple[np.ndarray, ...]

_EVALUATION_BATCH = 256
_BANDS, _WINDOW, _HOP = 20, 0.032, 0.016
"""Of recordings: bands of the log-mel frames, seconds of a frame and from frame to frame."""


def spoken_digits() -> data.Sequences:
    """The spoken digits as sequences of log-mel frames of 20 bands, 16 ms from one to the next."""
    found = data.spoken_digits()
    frames = [
        data.log_mel(x, found.rate, n_mels=_BANDS, window=_WINDOW, hop=_HOP) for x in found.samples
    ]
    chosen = {which: np.flatnonzero(found.test == which) for which in (False, True)}
    return data.Sequences(
        name=found.name,
        x_train=tuple([frames[i] for i in chosen[False]]),
        y_train=found.labels[chosen[False]],
        x_test=tuple([frames[i] for i in chosen[True]]),
        y_test=found.labels[chosen[True]],
        classes=found.classes,
        source=found.source,
        licence=found.licence,
    )


IMAGES: dict[str, Callable[[], data.Dataset]] = {"digits": data.digits, "mnist": data.mnist}
SEQUENCES: dict[str, Callable[[], data.Sequences]] = {
    "japanese-vowels": data.japanese_vowels,
    "spoken-digits": spoken_digits,
}
"""Data sets by name, and what reads them."""


def read(settings: Settings, tokenizer: Any = None) -> Material:
    """The pictures that the settings name."""
    found: data.Dataset = _set(settings, IMAGES)
    return _material(settings, found, (found.x_train,), (found.x_test,))


def read_flat(settings: Settings, tokenizer: Any = None) -> Material:
    """The pictures that the settings name, each as one row of numbers."""
    found: data.Dataset = _set(settings, IMAGES)
    rows = [x.reshape(len(x), -1) for x in (found.x_train, found.x_test)]
    return _material(settings, found, (rows[0],), (rows[1],))


def read_sequences(settings: Settings, tokenizer: Any = None) -> Material:
    """The sequences that the settings name, with their lengths.

    Their numbers are shifted and scaled to mean 0 and variance 1, as measured on all that are not
    to test on.
    """
    found: data.Sequences = _set(settings, SEQUENCES)
    every = np.concatenate(found.x_train)
    mean, deviation = every.mean(axis=0), every.std(axis=0) + 1e-6
    train, test = [
        data.pad([(x - mean) / deviation for x in part]) for part in (found.x_train, found.x_test)
    ]
    return _material(settings, found, train, test, _shortened)


def _shortened(x: np.ndarray, lengths: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
    """A batch without the steps that are behind the end of all its sequences."""
    return x[:, : lengths.max()], lengths, y


def _set(settings: Settings, sets: Mapping[str, Callable[[], Any]]) -> Any:
    name = settings.data.data
    if name not in sets:
        raise DataError(
            f"{settings.kind} learns from one of {', '.join(sets)}; got '{name}'"
            f"{nearest(name, sets)}"
        )
    return sets[name]()


def _material(
    settings: Settings,
    found: data.Dataset | data.Sequences,
    train: Arrays,
    test: Arrays,
    transform: Callable[..., Any] | None = None,
) -> Material:
    """Batches of the arrays `train` and `test`, which stand for the examples of `found`."""
    table, seed = settings.data, settings.compute.seed
    count = min(table.limit or len(found.y_train), len(found.y_train))
    learnt, kept = _split(count, table.held_out, seed)

    def batches(arrays: Arrays, labels: np.ndarray, **how: Any) -> Any:
        # As NumPy arrays; `fit` puts them where the model is.
        return data.batches(*arrays, labels, transform=transform, tensors=False, **how)

    def in_order(arrays: Arrays, labels: np.ndarray) -> Any:
        return batches(arrays, labels, batch_size=_EVALUATION_BATCH, shuffle=False)

    shape = tuple([int(n) for n in found.x_train[0].shape])
    if transform is not None:
        shape = shape[1:]  # the first is the length, which differs
    numbers = " x ".join(map(str, shape))
    return Material(
        title=(
            f"{found.name}: {counted(len(learnt), 'example')} to learn from, {len(kept):,} to "
            f"validate on, "
            f"{len(found.y_test):,} to test on, of {numbers} numbers"
            f"{'' if transform is None else ' per step'}, in {len(found.classes)} classes"
        ),
        origin=f"{found.source} ({found.licence})",
        train=batches(
            tuple([a[learnt] for a in train]),
            found.y_train[learnt],
            batch_size=settings.training.batch,
            seed=seed,
        ),
        held_out=in_order(tuple([a[kept] for a in train]), found.y_train[kept])
        if len(kept)
        else None,
        test=in_order(test, found.y_test),
        found=Found(inputs=shape, outputs=len(found.classes), classes=tuple(found.classes)),
        settings=settings,
        loss=ops.cross_entropy,
        metrics={"accuracy": accuracy},
    )


def _split(count: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the examples to learn from, and of a share of them drawn to validate on."""
    order = np.random.default_rng(seed).permutation(count)
    kept = round(count * share)
    return np.sort(order[kept:]), np.sort(order[:kept])
