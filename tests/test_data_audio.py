"""WAV files, frames, log-mel pictures and image patches, against SciPy and plain loops."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import signal
from scipy.io import wavfile

from microgpt import data
from microgpt.errors import DataError, InputError, ShapeError

BITS = st.sampled_from([8, 16, 24, 32])


def noise(n: int, *more: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (n, *more))


# ---- WAV files -------------------------------------------------------------------------------


@given(
    bits=BITS,
    n=st.integers(0, 20),
    channels=st.sampled_from([0, 1, 2, 3]),
    rate=st.integers(1, 96_000),
)
def test_sound_comes_back(bits: int, n: int, channels: int, rate: int) -> None:
    samples = noise(n, *[channels] * (channels > 0))
    file = io.BytesIO()
    data.write_wav(file, samples, rate, bits=bits)
    file.seek(0)
    found, found_rate = data.read_wav(file)
    assert found_rate == rate and found.dtype == np.float32
    assert found.shape == (samples if channels != 1 else samples[:, 0]).shape
    step = 2.0 ** (1 - bits)
    # Half a step of rounding; +1 does not exist and becomes the largest value; float32.
    limit = np.minimum(samples, 1 - step).reshape(found.shape)
    np.testing.assert_allclose(found, limit, atol=step / 2 + 2**-24, rtol=0)


@given(bits=BITS, whole=st.lists(st.integers(-128, 127), max_size=9))
def test_values_that_exist_come_back_exactly(bits: int, whole: list[int]) -> None:
    samples = np.array(whole, dtype=np.float32) / 128
    file = io.BytesIO()
    data.write_wav(file, samples, 8000, bits=bits)
    file.seek(0)
    assert data.read_wav(file)[0].tolist() == samples.tolist()


@pytest.mark.parametrize("bits", [8, 16, 24, 32])
@pytest.mark.parametrize("channels", [1, 2])
def test_scipy_reads_and_writes_the_same(bits: int, channels: int, tmp_path: Path) -> None:
    samples = noise(50, channels) if channels > 1 else noise(50)
    samples.reshape(-1)[:2] = -1, 1
    data.write_wav(tmp_path / "ours.wav", samples, 16_000, bits=bits)
    rate, theirs = wavfile.read(tmp_path / "ours.wav")
    whole, zero = theirs.astype(np.int64), 128 if bits == 8 else 0
    scale = 2.0 ** (31 if bits == 24 else bits - 1)  # SciPy has 24 bits in the upper part of 32
    ours, _ = data.read_wav(str(tmp_path / "ours.wav"))
    assert rate == 16_000
    np.testing.assert_array_equal(ours, ((whole - zero) / scale).astype(np.float32))
    if bits != 24:
        wavfile.write(tmp_path / "theirs.wav", 16_000, theirs)
        np.testing.assert_array_equal(data.read_wav(tmp_path / "theirs.wav")[0], ours)


def test_bad_sound_is_refused_in_words(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    data.write_wav(path, noise(100), 8000)
    whole = path.read_bytes()
    for content, message in (
        (whole[:-1], "cut off: 199 bytes of sound; required: 200"),
        (whole[:10], "cannot be read"),
        (b"", "cut off"),
        (b"<html>" * 20, "PCM"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            data.read_wav(path)
    wavfile.write(path, 8000, noise(9).astype(np.float32))
    with pytest.raises(DataError, match="a.wav cannot be read.*PCM.*ffmpeg"):
        data.read_wav(path)
    with pytest.raises(DataError, match="no file"):
        data.read_wav(tmp_path / "missing.wav")
    samples = noise(9)
    for call, kind, text in (
        (lambda: data.write_wav(path, samples * 3, 8000), InputError, "from -1 to 1; got"),
        (lambda: data.write_wav(path, samples * np.nan, 8000), InputError, "got nan"),
        (lambda: data.write_wav(path, [1, 2], 8000), InputError, "floats.*int64.*32768"),
        (lambda: data.write_wav(path, samples, 8000, bits=12), InputError, "got 12"),
        (lambda: data.write_wav(path, samples, 0), InputError, "rate"),
        (lambda: data.write_wav(path, samples.reshape(1, 3, 3), 8000), ShapeError, "channels"),
    ):
        with pytest.raises(kind, match=text):
            call()


# ---- frames ----------------------------------------------------------------------------------


@given(
    n=st.integers(0, 40), length=st.integers(1, 9), hop=st.integers(1, 12), pad=st.booleans(),
    channels=st.sampled_from([(), (2,)]),
)  # fmt: skip
def test_frames_are_slices(
    n: int, length: int, hop: int, pad: bool, channels: tuple[int, ...]
) -> None:
    samples = noise(n, *channels)
    found = data.frames(samples, length, hop, pad=pad)
    starts = list(range(0, max(n - length, 0) + 1, hop)) if n >= length else []
    if pad and n:
        starts = [0]
        while starts[-1] + length < n:
            starts.append(starts[-1] + hop)
    filled = np.concatenate([samples, np.zeros((length + hop, *channels))])
    assert found.shape == (len(starts), length, *channels)
    for piece, start in zip(found, starts, strict=True):
        np.testing.assert_array_equal(piece, filled[start : start + length])


@given(n=st.integers(0, 60), length=st.integers(1, 9), hop=st.integers(1, 9))
def test_overlap_add_gives_the_signal_back(n: int, length: int, hop: int) -> None:
    hop = min(hop, length)
    samples = noise(n)
    pieces = data.frames(samples, length, hop, pad=True)
    again = data.unframe(pieces, hop, length=n)
    np.testing.assert_allclose(again, samples, rtol=1e-15)
    chunks = data.frames(np.arange(n), length, pad=True)
    whole = data.unframe(chunks, length=n)
    assert whole.dtype == chunks.dtype and whole.tolist() == list(range(n)), "exactly"


def test_bad_input_to_frames() -> None:
    for call, kind, message in (
        (lambda: data.frames(noise(9), 0), InputError, "positive"),
        (lambda: data.frames(noise(9), 2, -1), InputError, "positive"),
        (lambda: data.frames(1.0, 2), ShapeError, "single number"),
        (lambda: data.unframe(noise(4, 3), 4), InputError, "gaps.*hop=4"),
        (lambda: data.unframe(noise(4, 3), 2, length=10), InputError, "make 9 samples.*length=10"),
        (lambda: data.unframe(noise(4)), ShapeError, "frames, samples"),
    ):
        with pytest.raises(kind, match=message):
            call()


# ---- log-mel ---------------------------------------------------------------------------------


def triangles(n_mels: int, n_fft: int, rate: float, low: float, high: float) -> np.ndarray:
    """The filters by interpolation, with the scale in its natural-logarithm form."""
    mel = lambda f: 1127.0104803 * np.log(1 + f / 700)
    edges = 700 * (np.exp(np.linspace(mel(low), mel(high), n_mels + 2) / 1127.0104803) - 1)
    bins = np.linspace(0, rate / 2, n_fft // 2 + 1)
    return np.array([np.interp(bins, edges[i : i + 3], [0, 1, 0]) for i in range(n_mels)])


@given(
    rate=st.sampled_from([8000, 11_025, 16_000]), n=st.integers(600, 2000),
    n_mels=st.integers(1, 24), n_fft=st.sampled_from([None, 512, 640]), seed=st.integers(0, 99),
)  # fmt: skip
def test_log_mel_is_that_of_scipys_spectrogram(
    rate: int, n: int, n_mels: int, n_fft: int | None, seed: int
) -> None:
    samples = noise(n, seed=seed)
    low, high = 50.0, rate / 2 - 100
    found = data.log_mel(samples, rate, n_mels=n_mels, n_fft=n_fft, low=low, high=high)
    size, hop = round(0.025 * rate), round(0.010 * rate)
    points = n_fft or (256 if rate == 8000 else 512)
    window = signal.get_window("hann", size)
    frames = -(-(n - size) // hop) + 1
    filled = np.pad(samples, (0, (frames - 1) * hop + size - n))
    _, _, magnitude = signal.spectrogram(
        filled, rate, window, noverlap=size - hop, nfft=points, detrend=False,
        scaling="spectrum", mode="magnitude",
    )  # fmt: skip
    power = (magnitude * window.sum()) ** 2  # SciPy divides by the sum of the window
    expected = np.log(triangles(n_mels, points, rate, low, high) @ power).T
    assert found.shape == (frames, n_mels) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_the_scale_is_the_one_named() -> None:
    filters = data.mel_filters(3, 2**14, 16_000, 0, 1000)
    # 1000 Hz are 1000 mel (999.99); the middle filter peaks at 500 mel, 390.9 Hz.
    assert filters.argmax(axis=1)[1] * 16_000 / 2**14 == pytest.approx(390.9, abs=1)
    assert filters.max() == pytest.approx(1, abs=0.01) and filters.min() == 0
    inside = filters[:, 200:800]
    assert (np.count_nonzero(inside, axis=0) <= 2).all(), "only neighbours overlap"


def test_silence_and_short_sounds_have_a_picture() -> None:
    quiet = data.log_mel(np.zeros(50), 8000, n_mels=10, floor=1e-6)
    assert quiet.shape == (1, 10)
    np.testing.assert_allclose(quiet, np.log(1e-6), rtol=1e-6)
    assert data.log_mel(np.ones(1, np.float32), 8000, n_mels=10).shape == (1, 10)


def test_bad_input_to_log_mel() -> None:
    sound = noise(900)
    mel: Any = data.log_mel
    for call, kind, message in (
        (lambda: mel(noise(9, 2), 8000), ShapeError, "mean over the channels"),
        (lambda: mel(sound[:0], 8000), ShapeError, r"\(n,\)"),
        (lambda: mel(sound, 8000, n_fft=100), InputError, "window of 200 samples; got 100"),
        (lambda: mel(sound, 8000, window=1e-5), InputError, "too short at 8000 Hz"),
        (lambda: mel(sound, 8000, n_mels=200), InputError, "200 filters are too many.*empty"),
        (lambda: mel(sound, 8000, high=9000), InputError, "within 0 to 4000"),
        (lambda: mel(sound, 8000, n_mels=0), InputError, "n_mels >= 1"),
    ):
        with pytest.raises(kind, match=message):
            call()


# ---- patches ---------------------------------------------------------------------------------


@given(
    n=st.integers(0, 3), rows=st.integers(1, 4), columns=st.integers(1, 4), size=st.integers(1, 4),
    channels=st.sampled_from([(), (1,), (3,)]), kind=st.sampled_from(["f4", "f8", "u1"]),
)  # fmt: skip
def test_patches_come_back_exactly(
    n: int, rows: int, columns: int, size: int, channels: tuple[int, ...], kind: str
) -> None:
    shape = (rows * size, columns * size, *channels)
    images = (noise(n, *shape) * 100).astype(kind)
    patches = data.patchify(images, size)
    depth = channels[0] if channels else 1
    assert patches.shape == (n, rows * columns, size * size * depth) and patches.dtype == kind
    again = data.unpatchify(patches, size, shape)
    assert again.dtype == kind and again.shape == images.shape and (again == images).all()
    for i in range(n):
        for r in range(rows):
            for c in range(columns):
                cut = images[i, r * size : (r + 1) * size, c * size : (c + 1) * size]
                assert (patches[i, r * columns + c] == cut.reshape(-1)).all()
    if rows == columns and channels != (1,):
        assert (data.unpatchify(patches, size) == images).all()


def test_bad_input_to_patches() -> None:
    images = noise(2, 6, 9)
    patches = data.patchify(images, 3)
    for call, kind, message in (
        (lambda: data.patchify(images[0], 3), ShapeError, r"\(6, 9\)"),
        (lambda: data.patchify(images, 2), ShapeError, "2 x 2 do not fill images of 6 x 9.*3"),
        (lambda: data.patchify(images, 0), InputError, "size must be a whole number >= 1"),
        (lambda: data.unpatchify(patches, 3), InputError, "6 patches make no square"),
        (lambda: data.unpatchify(patches, 2), ShapeError, r"2·2·channels"),
        (lambda: data.unpatchify(patches, 3, (9, 9)), ShapeError, r"no image of shape \(9, 9\)"),
        (lambda: data.unpatchify(patches, 3, (54,)), ShapeError, "height, width"),
        (lambda: data.unpatchify(patches[0], 3), ShapeError, "n, patches"),
    ):
        with pytest.raises(kind, match=message):
            call()


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a folder; required: a WAV file"):
        data.read_wav(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        data.read_wav(str(tmp_path / ("x" * 5000)))


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.ones(800, np.int16), r"floats from -1 to 1; got int16; divide .*samples / 32768"),
        (np.array([0.0, np.nan] * 400), "finite samples; got NaN or infinity"),
        (np.array([0.0, np.inf] * 400), "finite samples; got NaN or infinity"),
    ],
)
def test_samples_that_are_no_sound(samples: np.ndarray, words: str) -> None:
    with pytest.raises(InputError, match=words):
        data.log_mel(samples, 8000)
