"""Log-mel spectrograms: how loud speech is in bands as the ear has them, frame by frame."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np

from microgpt.data.audio import frames
from microgpt.errors import InputError, ShapeError


def mel_filters(
    n_mels: int, n_fft: int, rate: float, low: float = 0.0, high: float | None = None
) -> np.ndarray:
    """Triangles of height 1, evenly spaced and half overlapping on the mel scale.

    Filter i rises from the centre of filter i-1 to its own, and falls to that of filter i+1.

    Args:
        n_mels: how many.
        n_fft: samples of the Fourier transform.
        rate: samples per second.
        low, high: where the first filter begins and the last ends, in Hz; by default 0 and half
            the rate.

    Returns:
        (n_mels, n_fft // 2 + 1) float64.

    Raises:
        InputError: if a number is not positive, the band is empty or beyond half the rate, or so
            many filters are asked for that some would be empty.

    Source: mel(f) = 2595 · log10(1 + f / 700), D. O'Shaughnessy, "Speech communication", 1987,
    which is the scale of HTK; not that of Slaney's toolbox, which is straight below 1 kHz.
    """
    high = rate / 2 if high is None else high
    if n_mels < 1 or n_fft < 2 or rate <= 0:
        raise InputError(
            "mel_filters needs n_mels >= 1, n_fft >= 2 and a positive rate; "
            f"got {n_mels}, {n_fft}, {rate}"
        )
    if not 0 <= low < high <= rate / 2:
        raise InputError(f"the band must lie within 0 to {rate / 2} Hz; got {low} to {high}")
    edges = _hertz(np.linspace(_mel(low), _mel(high), n_mels + 2))
    bins = np.arange(n_fft // 2 + 1) * rate / n_fft
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    filters = np.maximum(np.minimum(rising, falling), 0)
    empty = np.flatnonzero(~filters.any(axis=1))
    if len(empty):
        raise InputError(
            f"{n_mels} filters are too many for {n_fft} samples at {rate} Hz: number {empty[0]} "
            "lies between two frequencies and would be empty; ask for fewer, or a longer n_fft"
        )
    return filters


@lru_cache(maxsize=8)
def _filters(*settings: Any) -> np.ndarray:
    """The same for every recording of a set; not to be written to."""
    return mel_filters(*settings)


def log_mel(
    samples: Any,
    rate: float,
    *,
    n_mels: int = 40,
    window: float = 0.025,
    hop: float = 0.010,
    n_fft: int | None = None,
    low: float = 0.0,
    high: float | None = None,
    floor: float = 1e-10,
) -> np.ndarray:
    """The logarithm of the power in mel bands, frame by frame.

    Each frame is weighted with a Hann window; its squared Fourier transform goes through
    `mel_filters`; then comes ln(max(power, floor)).

    Args:
        samples: (n,) floats from -1 to 1; the last frame is filled up with zeros.
        rate: samples per second.
        n_mels: bands.
        window, hop: length of a frame, and from frame to frame, in seconds.
        n_fft: samples of the transform; by default the next power of two.
        low, high: the band in Hz; by default 0 to half the rate.
        floor: the least power, so that silence is no minus infinity.

    Returns:
        (frames, n_mels) float32.

    Raises:
        ShapeError: if there is more than one channel, or no sample.
        InputError: if samples are whole numbers, NaN or infinite, a length is not positive, or the
            window is longer than `n_fft`.

    Example:
        >>> import numpy as np
        >>> from microgpt import data
        >>> tone = np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000)
        >>> picture = data.log_mel(tone, 8000, n_mels=20)
        >>> picture.shape, int(picture[50].argmax())  # the band around 1000 Hz
        ((99, 20), 9)
    """
    given = np.asarray(samples)
    if given.dtype.kind != "f" and given.size:
        raise InputError(
            f"log_mel needs floats from -1 to 1; got {given.dtype}; divide whole numbers by the "
            "largest one there is, for example samples / 32768"
        )
    values = given.astype(np.float64)
    if values.ndim != 1 or not len(values):
        raise ShapeError(
            f"log_mel needs samples (n,) of one channel; got shape {values.shape}"
            + ("; take their mean over the channels first" if values.ndim == 2 else "")
        )
    if not np.isfinite(values).all():
        raise InputError("log_mel needs finite samples; got NaN or infinity among them")
    size, step = round(window * rate), round(hop * rate)
    if size < 2 or step < 1:
        raise InputError(f"window and hop are too short at {rate} Hz: {size} and {step} samples")
    points = 2 ** math.ceil(math.log2(size)) if n_fft is None else n_fft
    if points < size:
        raise InputError(f"n_fft must be at least the window of {size} samples; got {points}")
    # Periodic: the window of length size + 1 without its last value.
    weights = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    pieces = frames(values, size, step, pad=True) * weights  # (frames, size)
    power = np.abs(np.fft.rfft(pieces, points)) ** 2  # (frames, points // 2 + 1)
    bands = power @ _filters(n_mels, points, rate, low, high).T
    return np.log(np.maximum(bands, floor)).astype(np.float32)


def _mel(hertz: Any) -> Any:
    return 2595 * np.log10(1 + np.asarray(hertz) / 700)


def _hertz(mel: Any) -> Any:
    return 700 * (10 ** (np.asarray(mel) / 2595) - 1)
