"""Sound on the host, in NumPy: WAV files, frames, and log-mel pictures of speech."""

from __future__ import annotations

import io
import wave
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from microgpt.errors import DataError, InputError, ShapeError

# ---- WAV files -------------------------------------------------------------------------------


def read_wav(file: str | Path | BinaryIO) -> tuple[np.ndarray, int]:
    """Samples and rate of a WAV file.

    Args:
        file: a path, or a file open for reading bytes; PCM of 8, 16, 24 or 32 bits.

    Returns:
        Samples as float32 in -1 (inclusive) to 1 (exclusive), (n,) if there is one channel,
        otherwise (n, channels); and the number of samples per second.

    Raises:
        DataError: if it cannot be read, is no WAV file, cut off, or not PCM.

    Example:
        >>> import io
        >>> import numpy as np
        >>> from microgpt import data
        >>> file = io.BytesIO()
        >>> data.write_wav(file, np.array([0.0, 0.5, -0.5]), 8000)
        >>> _ = file.seek(0)
        >>> data.read_wav(file)
        (array([ 0. ,  0.5, -0.5], dtype=float32), 8000)
    """
    name = getattr(file, "name", "the WAV file") if hasattr(file, "read") else str(file)
    try:
        # `wave` leaves a file open that it opened itself and could not read.
        content = file if hasattr(file, "read") else io.BytesIO(Path(file).read_bytes())  # type: ignore[arg-type]
        with wave.open(content, "rb") as reader:  # type: ignore[call-overload]
            channels, width, rate, count = reader.getparams()[:4]
            raw = reader.readframes(count)
    except FileNotFoundError:
        raise DataError(f"there is no file {name}") from None
    except IsADirectoryError:
        raise DataError(f"{name} is a folder; required: a WAV file") from None
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error}") from None
    except (wave.Error, EOFError) as error:
        raise DataError(
            f"{name} cannot be read: {str(error) or 'it is cut off'}; required: a WAV file of "
            "whole numbers (PCM); convert it, for example: ffmpeg -i FILE -c:a pcm_s16le OUT.wav"
        ) from None
    if width not in (1, 2, 3, 4) or channels < 1:
        raise DataError(f"{name} has {8 * width} bits; required: 8, 16, 24 or 32")
    if len(raw) != count * channels * width:
        raise DataError(
            f"{name} is cut off: {len(raw)} bytes of sound; required: {count * channels * width}"
        )
    samples = _from_pcm(raw, width)
    return (samples if channels == 1 else samples.reshape(-1, channels)), rate


def write_wav(file: str | Path | BinaryIO, samples: Any, rate: int, *, bits: int = 16) -> None:
    """Write samples to a WAV file (PCM).

    Args:
        file: a path, or a file open for writing bytes.
        samples: (n,) or (n, channels), floats from -1 to 1.
        rate: samples per second.
        bits: per sample: 8, 16, 24 or 32.

    Raises:
        ShapeError: if the samples have another number of dimensions.
        InputError: if a sample is louder than 1 or no number, or bits or rate do not exist.
    """
    values = np.asarray(samples)
    if values.ndim not in (1, 2) or (values.ndim == 2 and not 1 <= values.shape[1] <= 65_535):
        raise ShapeError(f"write_wav needs samples (n,) or (n, channels); got {values.shape}")
    if values.dtype.kind != "f":
        raise InputError(
            f"write_wav needs floats from -1 to 1; got {values.dtype}; divide whole numbers by the "
            "largest one there is, for example samples / 32768"
        )
    if bits not in (8, 16, 24, 32):
        raise InputError(f"write_wav writes 8, 16, 24 or 32 bits; got {bits}")
    if rate < 1:
        raise InputError(f"the rate must be at least 1 sample per second; got {rate}")
    if values.size and not np.abs(values).max() <= 1:
        raise InputError(
            f"samples must be from -1 to 1; got {np.abs(values).max():.4g}; divide them by their "
            "largest absolute value"
        )
    raw = _to_pcm(values, bits // 8)
    target = file if hasattr(file, "write") else str(file)
    with wave.open(target, "wb") as writer:  # type: ignore[call-overload]
        writer.setnchannels(1 if values.ndim == 1 else values.shape[1])
        writer.setsampwidth(bits // 8)
        writer.setframerate(int(rate))
        writer.writeframes(raw)


def _from_pcm(raw: bytes, width: int) -> np.ndarray:
    if width == 1:  # the only one without sign
        return (np.frombuffer(raw, np.uint8).astype(np.float32) - 128) / np.float32(128)
    padded = np.zeros((len(raw) // width, 4), np.uint8)
    # Little-endian; the sound in the upper bytes, so that the sign is where it belongs.
    padded[:, 4 - width :] = np.frombuffer(raw, np.uint8).reshape(-1, width)
    return (padded.view("<i4")[:, 0] / 2**31).astype(np.float32)


def _to_pcm(values: np.ndarray, width: int) -> bytes:
    scale = 2 ** (8 * width - 1)
    whole = np.clip(np.rint(values.astype(np.float64) * scale), -scale, scale - 1)
    if width == 1:
        return (whole + 128).astype(np.uint8).tobytes()
    raw = np.ascontiguousarray(whole.astype("<i4")).view(np.uint8).reshape(-1, 4)
    return raw[:, :width].tobytes()


# ---- frames ----------------------------------------------------------------------------------


def frames(samples: Any, length: int, hop: int | None = None, *, pad: bool = False) -> np.ndarray:
    """Pieces of a signal, overlapping if `hop` is smaller than `length`.

    Args:
        samples: (n, …).
        length: samples per frame.
        hop: samples from the beginning of one frame to that of the next; by default `length`.
        pad: fill up with zeros, so that every sample is in a frame; by default the samples that
            do not fill a frame are left out.

    Returns:
        (number of frames, length, …), a copy.

    Raises:
        InputError: if a length is not positive.

    Example:
        >>> import numpy as np
        >>> from microgpt import data
        >>> data.frames(np.arange(5), 3, 2)
        array([[0, 1, 2],
               [2, 3, 4]])
    """
    values = np.asarray(samples)
    step = _step(length, hop)
    if values.ndim < 1:
        raise ShapeError("frames needs samples (n, …); got a single number")
    n = len(values)
    count = -(-max(n - length, 0) // step) + 1 if pad and n else max(n - length + step, 0) // step
    missing = max((count - 1) * step + length - n, 0) if pad else 0
    if missing:
        values = np.concatenate([values, np.zeros((missing, *values.shape[1:]), values.dtype)])
    return values[np.arange(count)[:, None] * step + np.arange(length)]


def unframe(pieces: Any, hop: int | None = None, *, length: int | None = None) -> np.ndarray:
    """The signal that `frames` cut up: overlap-add, each sample the mean of the frames it is in.

    Args:
        pieces: (number of frames, samples per frame, …).
        hop: as in `frames`; it must not leave gaps.
        length: of the result, to take off what `frames` filled up; by default all of it.

    Raises:
        InputError: if `hop` is larger than a frame, or `length` than there are samples.

    Example:
        >>> import numpy as np
        >>> from microgpt import data
        >>> data.unframe(data.frames(np.arange(5.0), 3, 2, pad=True), 2, length=5)
        array([0., 1., 2., 3., 4.])
    """
    values = np.asarray(pieces)
    if values.ndim < 2:
        raise ShapeError(f"unframe needs (frames, samples, …); got shape {values.shape}")
    count, size = values.shape[:2]
    step = _step(size, hop)
    total = (count - 1) * step + size if count else 0
    if step > size or (length is not None and not 0 <= length <= total):
        raise InputError(
            f"{count} frames of {size} samples, {step} apart, make {total} samples; required: no "
            f"gaps between frames, and no longer a result; got hop={step}, length={length}"
        )
    if step == size:
        return values.reshape(total, *values.shape[2:])[:length]
    kind = values.dtype if values.dtype.kind == "f" else np.float64
    out = np.zeros((total, *values.shape[2:]), kind)
    weight = np.zeros(total, kind)
    for i, piece in enumerate(values):
        out[i * step : i * step + size] += piece
        weight[i * step : i * step + size] += 1
    return (out / weight.reshape(-1, *[1] * (values.ndim - 2)))[:length]


def _step(length: int, hop: int | None) -> int:
    """From frame to frame: `hop`, or a whole frame."""
    step = length if hop is None else hop
    if length < 1 or step < 1:
        raise InputError(f"frames need a positive length and hop; got {length}, {step}")
    return step
