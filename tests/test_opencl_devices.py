"""OpenCL devices: how they are called and chosen, several at once, threads, what ran on them."""

from __future__ import annotations

import textwrap
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from microgpt_opencl import platforms

import microgpt as mg
from microgpt.cli import backends as listing
from microgpt.cli import opencl as doctor
from microgpt.errors import BackendError, DTypeError
from microgpt.plugins import registry
from tests.opencl import needed, output

cl = pytest.importorskip("pyopencl", reason="pyopencl is not installed")
needed()
opencl = registry.backend("opencl")


POCL = any("Portable" in p.name for p in cl.get_platforms())
needs_pocl = pytest.mark.skipif(not POCL, reason="PoCL is not installed")


# ---- names -----------------------------------------------------------------------------------


def fake(title, kind, platform="Some Platform"):
    belongs = SimpleNamespace(name=platform)
    return SimpleNamespace(name=title, type=kind, platform=belongs, version="OpenCL 3.0")


DEVICES = {
    "0:0": fake("GeForce RTX", cl.device_type.GPU, "NVIDIA CUDA"),
    "1:0": fake("Arc", cl.device_type.GPU),
    "2:1": fake("pthread-Xeon", cl.device_type.CPU, "Portable Computing Language"),
}


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("1:0", "1:0"), ("0", "0:0"), ("2", "2:1"), ("NVIDIA", "0:0"), ("nvidia", "0:0"),
        ("pocl", "2:1"), ("cpu", "2:1"), ("gpu", "0:0"), ("arc", "1:0"),
    ],
)  # fmt: skip
def test_what_a_name_means(wanted, name):
    assert platforms.selected(DEVICES, wanted) == name


@pytest.mark.parametrize("wanted", ["3", "AMD", "0:7", "-1"])
def test_a_name_that_means_nothing_lists_what_there_is(wanted):
    with pytest.raises(BackendError, match=r'"2:1" \(pthread-Xeon, CPU, Portable') as caught:
        platforms.selected(DEVICES, wanted)
    assert repr(wanted) in str(caught.value) and "from 0 to 2" in str(caught.value)


def test_graphics_cards_come_before_processors(monkeypatch):
    platform = SimpleNamespace(name="x", get_devices=lambda: [DEVICES["2:1"], DEVICES["1:0"]])
    monkeypatch.setattr(cl, "get_platforms", lambda: [platform])
    assert list(platforms.found()) == ["0:1", "0:0"]


def test_the_device_of_calls_blocks_and_the_environment(monkeypatch):
    name = opencl.devices()[0]
    for wanted in ("0", name, platforms.found()[name].name.strip()):
        assert mg.ones(2, backend="opencl", device=wanted).device == name
        with mg.use_backend("opencl", device=wanted):
            assert mg.zeros(3).device == name
        monkeypatch.setenv("MICROGPT_DEVICE", wanted)
        monkeypatch.setenv("MICROGPT_BACKEND", "opencl")
        assert mg.zeros(3).device == name
        monkeypatch.undo()
    with pytest.raises(BackendError, match="no OpenCL device matches 'Nonesuch'"):
        mg.ones(2, backend="opencl", device="Nonesuch")


def test_doctor_says_what_to_write_for_each_device():
    rows = [text for title, text in doctor.rows() if title == "device"]
    assert len(rows) == len(opencl.devices())
    for name in opencl.devices():
        assert sum(text.endswith(f'device = "{name}"') for text in rows) == 1


# ---- nothing there ---------------------------------------------------------------------------

MAKE = """
import microgpt as mg
try:
    mg.ones(2, backend="opencl")
except Exception as error:
    print(type(error).__name__)
    print(error)
"""


def test_without_pyopencl():
    kind, text, more = output(
        "import sys\nsys.modules['pyopencl'] = None\n" + textwrap.dedent(MAKE)
    )
    assert kind == "MissingExtraError"
    assert "pip install 'microgpt-autograd[opencl]'" in text
    assert "microgpt explain missing-extra" in more


def test_with_a_driver_that_does_not_exist(tmp_path):
    icd = tmp_path / "broken.icd"
    icd.write_text("libnonesuch.so\n")
    lines = output(MAKE, OCL_ICD_VENDORS=str(icd))
    if not lines:
        pytest.skip("this OpenCL loader takes no notice of OCL_ICD_VENDORS")
    assert lines[0] == "BackendError"
    assert f"driver that {icd} names cannot be loaded (libnonesuch.so" in lines[1]
    assert f"OCL_ICD_VENDORS={icd}" in lines[1] and "unset it" in lines[1]
    assert "pip install 'microgpt-autograd[opencl]'" in lines[1]


def test_a_driver_that_does_not_exist_beside_one_that_does(tmp_path, monkeypatch):
    monkeypatch.setenv("OCL_ICD_VENDORS", str(tmp_path))
    assert not any("broken" in title for title in opencl.versions())
    (tmp_path / "broken.icd").write_text("libnonesuch.so")
    assert "libnonesuch.so" in opencl.versions()["broken driver 1"]


def test_no_driver_and_no_device(monkeypatch):
    monkeypatch.setattr(cl, "get_platforms", list)
    with pytest.raises(BackendError, match="found no OpenCL driver; .*brings PoCL"):
        platforms.found()

    def fails():
        raise cl.LogicError("clGetDeviceIDs", cl.status_code.DEVICE_NOT_FOUND, "")

    empty = SimpleNamespace(name="Empty Platform ", get_devices=fails)
    monkeypatch.setattr(cl, "get_platforms", lambda: [empty])
    with pytest.raises(BackendError, match="found no device .Empty Platform: .*brings PoCL"):
        platforms.found()


def test_without_float64(monkeypatch):
    x = mg.ones(3, backend="opencl")
    device = x._data.device
    monkeypatch.setattr(device, "double", False)
    with pytest.raises(DTypeError, match="has no float64; .*use float32, or another device"):
        x.astype("float64")
    with pytest.raises(DTypeError, match="got float64; convert it with astype"):
        mg.tensor([1.0], dtype="float64", backend="opencl")
    assert (x * 2.5).tolist() == [2.5] * 3


# ---- several devices -------------------------------------------------------------------------

BOTH = """
import microgpt as mg
x = mg.tensor([1.0, 2.0], backend="opencl", requires_grad=True)
y = x.to("opencl:1")
print(x.device, y.device, (y * y).device, (y * y).tolist())
z = mg.tensor([3.0, 4.0], backend="opencl", device="1")
mg.exp(y * z).backward(mg.ones_like(z))
print(x.grad.device, [round(g, 2) for g in x.grad.tolist()])
try:
    x + z
except mg.errors.BackendError as error:
    print(error)
print(z.to("opencl:0").device, z.to("numpy").device, z.to("opencl:1").device)
places = "opencl", "opencl:1", "opencl:0:1", "opencl:pthread", "opencl:0"
print([z.to(place) is z for place in places], z.to(device=1) is z)
with mg.use_backend("opencl", device="0:1"):
    print(mg.zeros(3).device)
print(mg.zeros(3, backend="opencl", device="pocl").device)
"""


@needs_pocl
def test_two_devices_in_one_process():
    lines = output(BOTH, POCL_DEVICES="pthread basic")
    assert lines[0] == "0:0 0:1 0:1 [1.0, 4.0]"
    assert lines[1] == "0:0 [60.26, 11923.83]"  # z·exp(x·z)
    assert "devices 0:0 and 0:1; required: one; move one of them: x.to('opencl:" in lines[2]
    assert lines[3] == "0:0 cpu 0:1"
    assert lines[4] == "[True, True, True, True, False] True"  # it is there already
    assert lines[5:] == ["0:1", "0:0"]


@needs_pocl
@pytest.mark.parametrize("wanted", ["1", "0:1"])
def test_the_device_in_the_environment(wanted):
    code = "import microgpt as mg; print(mg.ones(2).device, (mg.ones(2) + 1).tolist())"
    lines = output(
        code, POCL_DEVICES="pthread basic", MICROGPT_BACKEND="opencl", MICROGPT_DEVICE=wanted
    )
    assert lines == ["0:1 [2.0, 2.0]"]


ALONE = """
import numpy as np, microgpt as mg
a = mg.ones((5, 5))
x = a @ a @ a
print(mg.sum(x).item(), mg.sum(x * x - x).item())
"""


@needs_pocl
def test_the_device_without_threads_does_not_wait_for_ever():
    """PoCL's "basic" stopped as soon as several launches were handed over together."""
    lines = output(ALONE, POCL_DEVICES="basic", MICROGPT_BACKEND="opencl")
    assert lines == ["625.0 15000.0"]


# ---- threads ---------------------------------------------------------------------------------


def test_eight_threads_with_tensors_of_their_own_and_shared_ones():
    shared = mg.tensor(np.linspace(0, 1, 3000, dtype=np.float32), backend="opencl")
    waiting = mg.exp(shared * 2.0) + 1.0  # an expression that all want computed
    found: dict[int, list[np.ndarray]] = {}
    failures: list[BaseException] = []
    start = threading.Barrier(8)

    def work(number: int) -> None:
        try:
            start.wait()
            own = mg.full((3000,), float(number), backend="opencl", requires_grad=True)
            for _ in range(10):
                y = (own * waiting + shared) * own
                g = mg.grad(lambda x: mg.sum(x * waiting * x))(own)
                found.setdefault(number, []).append(y.numpy() + g.numpy())
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    x = np.linspace(0, 1, 3000, dtype=np.float32)
    w = np.exp(x * 2) + 1
    for n in range(8):
        expected = (n * w + x) * n + 2 * n * w
        for y in found[n]:
            np.testing.assert_allclose(y, expected, rtol=1e-5)


# ---- what ran --------------------------------------------------------------------------------


def test_the_profiler_shows_the_kernels_of_each_op():
    x = mg.tensor(np.ones((5, 7), np.float32), backend="opencl")
    with mg.tracing.profile() as p:
        y = mg.exp(x * 2.0)
        assert p.kernels() == {}, "deferred"
        z = mg.concat([y, y], axis=0)
        z.numpy()
    assert p.kernels("concat")["multiply+exp"] == 1
    assert p.kernels("multiply") == p.kernels("exp") == {}
    assert "    1× multiply+exp" in p.table()
    with mg.tracing.profile() as p:
        mg.exp(mg.ones(2, backend="numpy"))
    assert p.kernels() == {} and "×" not in p.table()


def test_rows_of_a_batch_are_copied_once():
    device = opencl.open()
    device.moved.clear()
    before = device.activity["copy to device"]
    rows = opencl.take_rows(np.arange(12, dtype="f").reshape(6, 2), np.array([4, 0]), None)
    assert device.moved == {"to device": 16} and device.activity["copy to device"] == before + 1
    assert np.asarray(rows).tolist() == [[8.0, 9.0], [0.0, 1.0]]
    with pytest.raises(DTypeError, match="got complex64; convert it"):
        opencl.take_rows(np.ones(3, np.complex64), np.array([0]), None)


def test_copies_are_counted():
    device = mg.ones(1, backend="opencl")._data.device
    device.moved.clear()
    before = opencl.served()
    x = mg.tensor(np.ones((5, 7), np.float32), backend="opencl")
    assert device.moved == {"to device": 140}
    (x + 1).numpy()
    assert device.moved == {"to device": 140, "to host": 140}
    after = opencl.served()
    for kind in ("copy to device", "copy to host"):
        assert after[kind] == before.get(kind, 0) + 1


def test_how_each_op_is_computed(capsys):
    assert opencl.how("exp") == "fused expression"
    assert opencl.how("reshape") == "view"
    assert "reduction.cl" in opencl.how("sum")
    assert "host BLAS" in opencl.how("matmul") and ".cl" in opencl.how("matmul")
    assert opencl.how("nonesuch") == "" == registry.backend("numpy").how("exp")
    listing.show_backends(every_op=True)
    out = capsys.readouterr().out.partition("How 'opencl' computes what")[2]
    assert ["exp", "fused", "expression"] in [line.split() for line in out.splitlines()]
    listing.show_op("softmax")
    assert "softmax.cl" in capsys.readouterr().out
