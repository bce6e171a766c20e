"""Data sets, fetching and batches. No test touches the network beyond this machine."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import microgpt as mg
from microgpt import config, data
from microgpt.data import remote as fetching
from microgpt.data.mnist import read_idx
from microgpt.errors import (
    DataError,
    InputError,
    InputTypeError,
    MicrogptError,
    MissingExtraError,
    ShapeError,
)
from microgpt.tensor import Tensor

# ---- the sets --------------------------------------------------------------------------------


def test_digits_come_along() -> None:
    found = data.digits()
    assert found.x_train.shape == (1437, 8, 8) and found.x_test.shape == (360, 8, 8)
    assert found.x_train.dtype == np.float32 and found.y_train.dtype == np.int64
    assert found.x_train.min() == 0 and found.x_train.max() == 1
    assert np.bincount(np.concatenate([found.y_train, found.y_test])).tolist() == [
        178, 182, 177, 183, 181, 182, 181, 179, 174, 180,
    ]  # fmt: skip
    assert "1,437" in repr(found) and "CC BY" in repr(found)


def test_mnist_is_what_it_should_be() -> None:
    if not config.get("data"):
        pytest.skip("MICROGPT_DATA names no folder with MNIST")
    found = data.mnist()
    assert found.x_train.shape == (60_000, 28, 28) and found.x_test.shape == (10_000, 28, 28)
    assert found.x_train.min() == 0 and found.x_train.max() == 1
    assert found.y_train[:5].tolist() == [5, 0, 4, 1, 9]
    # Mean and deviation that everybody's normalisation uses.
    assert found.x_train.mean() == pytest.approx(0.1307, abs=1e-4)
    assert found.x_train.std() == pytest.approx(0.3081, abs=1e-4)


def test_resize_keeps_constants_place_and_ramps() -> None:
    flat = data.resize(np.full((2, 8, 8), 0.5, dtype=np.float32), (28, 28))
    assert flat.shape == (2, 28, 28) and flat.dtype == np.float32
    np.testing.assert_allclose(flat, 0.5)
    spot = np.zeros((8, 8))
    spot[2, 5] = 1
    large = data.resize(spot, (28, 28))
    row, column = (large * np.arange(28)[:, None]).sum(), (large * np.arange(28)).sum()
    # The centre of pixel (2, 5) of 8 lies at 2.5/8 and 5.5/8 of the picture.
    np.testing.assert_allclose((row / large.sum() + 0.5) / 28, 2.5 / 8, atol=1e-3)
    np.testing.assert_allclose((column / large.sum() + 0.5) / 28, 5.5 / 8, atol=1e-3)
    np.testing.assert_allclose(data.resize(large, (28, 28)), large)
    with pytest.raises(ShapeError, match=r"height, width"):
        data.resize(np.zeros(3), (2, 2))
    with pytest.raises(InputError, match="positive"):
        data.resize(spot, (0, 2))


# ---- IDX -------------------------------------------------------------------------------------


def idx(values: np.ndarray, code: int = 8) -> bytes:
    head = bytes([0, 0, code, values.ndim]) + np.array(values.shape, ">i4").tobytes()
    return head + values.astype(values.dtype.newbyteorder(">")).tobytes()


def test_idx_files_are_read_and_damage_is_noticed(tmp_path: Path) -> None:
    values = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    path = tmp_path / "values.gz"
    path.write_bytes(gzip.compress(idx(values)))
    assert (read_idx(path) == values).all()
    path.write_bytes(idx(np.arange(3, dtype=np.int32), 12))
    assert read_idx(path).tolist() == [0, 1, 2]
    for content, message in (
        (gzip.compress(idx(values))[:-12], "damaged"),
        (idx(values)[:-1], "cut off"),
        (b"<html>", "no IDX file"),
    ):
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_idx(path)


# ---- fetching --------------------------------------------------------------------------------

CONTENT = b"some bytes"


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers /good with the content, /wrong with another, everything else with 404."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        Handler.asked.append(self.path)
        body = {"/good": CONTENT, "/wrong": b"other bytes"}.get(self.path)
        self.send_response(200 if body else 404)
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.delenv("MICROGPT_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fetching, "cache_folder", lambda: tmp_path / "cache")
    Handler.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()


def offer(monkeypatch: pytest.MonkeyPatch, *mirrors: str) -> None:
    file = data.RemoteFile("set/file", hashlib.sha256(CONTENT).hexdigest(), mirrors, "MIT")
    monkeypatch.setitem(data.FILES, "set/file", file)


def test_mirrors_are_tried_in_order_and_the_file_is_kept(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pooch")
    offer(monkeypatch, f"{server}/missing", f"{server}/wrong", f"{server}/good", f"{server}/never")
    path = data.fetch("set/file")
    assert path.read_bytes() == CONTENT
    assert Handler.asked == ["/missing", "/wrong", "/good"]
    assert data.fetch("set/file") == path
    assert len(Handler.asked) == 3, "the second time nothing is asked"
    assert [p.name for p in path.parent.iterdir()] == ["file"], "no temporary file is left"


def test_offline_the_error_names_every_mirror_and_what_to_do(
    server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pooch")
    offer(monkeypatch, "http://127.0.0.1:9/refused", f"{server}/wrong", f"{server}/missing")
    with pytest.raises(DataError) as caught:
        data.fetch("set/file")
    text = str(caught.value)
    for part in ("refused", "another SHA-256", "404", "MICROGPT_DATA", "digits()", "cache"):
        assert part in text, text


def test_a_named_folder_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "http://127.0.0.1:9/never")
    with pytest.raises(DataError, match="set/file"):
        data.fetch("set/file", tmp_path)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "file").write_bytes(b"damaged")
    with pytest.raises(DataError, match="damaged or another"):
        data.fetch("set/file", tmp_path)
    (tmp_path / "set" / "file").write_bytes(CONTENT)
    monkeypatch.setenv("MICROGPT_DATA", str(tmp_path))
    assert data.fetch("set/file") == tmp_path / "set" / "file"


def test_without_pooch_the_extra_is_named(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    offer(monkeypatch, f"{server}/good")
    monkeypatch.undo()
    offer(monkeypatch, f"{server}/good")
    monkeypatch.delenv("MICROGPT_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(MissingExtraError, match=r"microgpt-autograd\[data\]"):
        data.fetch("set/file")


# ---- batches ---------------------------------------------------------------------------------

SIZES = st.integers(1, 40)


@given(n=SIZES, size=st.integers(1, 12), seed=st.integers(0, 99), drop=st.booleans())
def test_every_epoch_is_a_permutation(n: int, size: int, seed: int, drop: bool) -> None:
    drop = drop and size <= n
    loader = data.batches(
        np.arange(n), -np.arange(n), batch_size=size, seed=seed, drop_last=drop, tensors=False
    )
    orders = []
    for _ in range(3):
        seen = list(loader)
        assert len(seen) == len(loader)
        x = np.concatenate([a for a, _ in seen])
        assert (np.concatenate([b for _, b in seen]) == -x).all(), "arrays stay in step"
        assert len(set(x.tolist())) == len(x)
        assert len(x) == (n // size * size if drop else n)
        orders.append(x.tolist())
    if n > 20 and not drop:
        assert orders[0] != orders[1], "each epoch has an order of its own"


@given(n=SIZES, size=st.integers(1, 12), seen=st.integers(0, 60), seed=st.integers(0, 99))
def test_a_resumed_run_sees_what_the_unbroken_one_would(
    n: int, size: int, seen: int, seed: int
) -> None:
    def run(loader: data.Batches, epochs: int) -> Iterator[list[int]]:
        while loader.epoch < epochs:
            for (x,) in loader:
                yield x.tolist()

    unbroken = list(run(data.batches(np.arange(n), batch_size=size, seed=seed), 3))
    first = data.batches(np.arange(n), batch_size=size, seed=seed)
    steps = run(first, 3)
    start = [x for _, x in zip(range(seen), steps, strict=False)]
    second = data.batches(np.arange(n), batch_size=size, seed=seed + 1)
    second.load_state_dict(first.state_dict())
    assert start + list(run(second, 3)) == unbroken


def test_peeking_at_a_batch_loses_nothing() -> None:
    loader = data.batches(np.arange(4), batch_size=1, seed=0)
    next(iter(loader))
    assert len(list(loader)) == 4


def test_seed_transform_and_order() -> None:
    x = np.arange(6)
    with config.configure(seed=3):
        first = [b[0].tolist() for b in data.batches(x, batch_size=2)]
    assert first == [b[0].tolist() for b in data.batches(x, batch_size=2, seed=3)]
    doubled = data.batches(x, batch_size=4, shuffle=False, transform=lambda a: a * 2)
    assert [b.tolist() for b in doubled] == [[0, 2, 4, 6], [8, 10]]


def test_batches_are_tensors_where_and_as_configured() -> None:
    x = np.linspace(0, 1, 6)
    (whole,) = next(iter(data.batches(x, batch_size=6, shuffle=False)))
    assert isinstance(whole, Tensor) and whole.dtype == np.float32
    x[:] = 7
    assert whole.tolist()[0] == 0.0, "a later change of the array does not reach the tensor"
    with config.configure(dtype="float64"):
        batch, labels = next(iter(data.batches(x, np.arange(6), batch_size=2, seed=0)))
    assert batch.dtype == np.float64 and labels.dtype == np.int64
    (host,) = next(iter(data.batches(x, batch_size=2, tensors=False)))
    assert isinstance(host, np.ndarray)


@pytest.mark.parametrize("backend", ["numpy", "opencl"])
@pytest.mark.parametrize("kind", ["f4", ">f4", "f8", "i8", "<i4", ">i2", "u1", "?"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_tensors_of_a_batch_have_the_numbers_of_its_arrays(backend, kind, shuffle) -> None:
    _needed(backend)
    whole = np.arange(2 * 7 * 3).astype(kind).reshape(14, 3)
    arrays = whole[::2], whole[:7, 1:], np.asfortranarray(whole[7:]), np.arange(7), whole[:7, :0]
    options = {"batch_size": 3, "seed": 0, "shuffle": shuffle}
    with config.use_backend(backend):
        pairs = list(
            zip(
                data.batches(*arrays, **options),
                data.batches(*arrays, tensors=False, **options),
                strict=True,
            )
        )
    assert len(pairs) == 3
    for tensors, plain in pairs:
        for tensor, array in zip(tensors, plain, strict=True):
            assert tensor.backend == backend and tensor.dtype.kind == array.dtype.kind
            np.testing.assert_array_equal(tensor.numpy(), array)


@pytest.mark.parametrize("backend", ["numpy", "opencl"])
@pytest.mark.parametrize("kind", [">i2", ">i4", ">f4", ">f8"])
def test_data_in_the_other_order_of_bytes_become_native(backend, kind) -> None:
    """Files of MNIST, WAV and many others have it; arithmetic should not drag it along."""
    _needed(backend)
    values = np.array([1, -2, 300], kind)
    with config.use_backend(backend):
        for tensor in (mg.tensor(values), *next(iter(data.batches(values, batch_size=3, seed=0)))):
            assert tensor.dtype.isnative and sorted(tensor.tolist()) == [-2, 1, 300]


def test_batches_of_a_kind_of_ones_own() -> None:
    class Doubled(data.Batches):
        def _batch(self, order, position):
            return tuple(2 * a for a in super()._batch(order, position))

    (batch,) = next(iter(Doubled(np.arange(4), batch_size=4, seed=0)))
    assert sorted(batch.tolist()) == [0, 2, 4, 6]


@pytest.mark.parametrize("shuffle", [True, False])
def test_tensors_of_words_are_refused(shuffle) -> None:
    words = np.array(["to", "be"])
    with pytest.raises(InputTypeError, match="made of numbers; got .* type <U2; with tensors=Fal"):
        next(iter(data.batches(words, batch_size=2, shuffle=shuffle)))
    (batch,) = next(iter(data.batches(words, batch_size=2, shuffle=shuffle, tensors=False)))
    assert sorted(batch.tolist()) == ["be", "to"]


def _needed(backend: str) -> None:
    """Skip where a backend does not work."""
    try:
        mg.zeros(1).to(backend)
    except MicrogptError as error:
        pytest.skip(str(error))


def test_bad_input_to_batches() -> None:
    x = np.arange(3)
    for call, kind, message in (
        (lambda: data.batches(x, x[:2], batch_size=1), ShapeError, r"\[3, 2\]"),
        (lambda: data.batches(x, batch_size=0), InputError, ">= 1"),
        (lambda: data.batches(x[:0], batch_size=1), InputError, "at least one example"),
        (lambda: data.batches(batch_size=1), InputError, "at least one array"),
        (lambda: data.batches(x, batch_size=4, drop_last=True), InputError, "no batch"),
        (lambda: data.batches(x, batch_size=1).load_state_dict({}), InputError, "position"),
    ):
        with pytest.raises(kind, match=message):
            call()
