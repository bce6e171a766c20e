"""Programs of the OpenCL backend on disk: kept, made again when damaged, shared by processes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.resources import files as resources
from pathlib import Path

import numpy as np
import pytest
from microgpt_opencl import platforms, programs
from microgpt_opencl.device import Device
from microgpt_opencl.fusion import copied
from microgpt_opencl.transfers import from_numpy

from tests import opencl

pytest.importorskip("pyopencl", reason="pyopencl is not installed")
opencl.needed()


@pytest.fixture
def device(tmp_path, monkeypatch):
    """A device that nothing else uses, with a cache folder that is empty."""
    monkeypatch.setenv("MICROGPT_OPENCL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(programs, "keeps", lambda device, source: True)  # also PoCL's
    name, found = next(iter(platforms.found().items()))
    return Device(name, found)


SOURCE = "kernel void twice(global float *x) { x[get_global_id(0)] *= FACTOR; }"


def doubled(device, factor=2):
    """What a kernel makes of [1, 1, 1]."""
    kernel = device.programs.of_source(SOURCE, "twice", "twice", {"FACTOR": factor})
    x = copied(from_numpy(device, np.ones(3, np.float32)))
    device.submit(kernel, (3,), None, [x.block.buffer])
    return np.asarray(x).tolist()


def again(device):
    return Device(device.name, device.cl_device)


def files(device) -> list[Path]:
    folder = programs.cache_folder()
    assert folder is not None
    return sorted(folder.glob("*"))


def test_programs_are_kept(device):
    assert doubled(device) == [2, 2, 2]
    assert device.programs.built > 0
    second = again(device)
    assert doubled(second) == [2, 2, 2]
    assert (second.programs.built, second.programs.loaded) == (0, device.programs.built)
    assert {f.suffix for f in files(device)} == {".bin"}


def test_a_processor_that_was_given_a_name_shares_no_programs(device):
    """Drivers call a Zen 4 as they call a Zen 3, which cannot run what was compiled for it."""
    doubled(device)
    other = again(device)
    other.processor = "other"
    assert doubled(other) == [2, 2, 2]
    assert (other.programs.built, other.programs.loaded) == (device.programs.built, 0)
    sources = [
        {program.source for program in owner.programs._programs.values()}
        for owner in (device, other)
    ]
    assert not sources[0] & sources[1]  # by which the driver's own cache tells them apart


def test_pocl_keeps_long_programs_itself(device, monkeypatch):
    monkeypatch.undo()
    if "PoCL" not in device.platform:
        pytest.skip(f"the device is one of {device.platform}")
    assert programs.keeps(device, SOURCE)
    assert not programs.keeps(device, SOURCE + " " * programs.SHORT)


def fused(device):
    return np.asarray((from_numpy(device, np.ones(3, np.float32)) + 1.0) * 3.0).tolist()


def test_programs_of_expressions_are_kept_too(device):
    assert fused(device) == [6, 6, 6]
    second = again(device)
    assert fused(second) == [6, 6, 6] and second.programs.built == 0


@pytest.mark.parametrize(
    "damage",
    [
        lambda data, other: b"",
        lambda data, other: data[:-1],
        lambda data, other: data[: len(data) // 2],
        lambda data, other: data[:200] + bytes([data[200] ^ 1]) + data[201:],
        lambda data, other: b"something else entirely",
        lambda data, other: other,
    ],
    ids=["empty", "cut", "half", "one bit", "foreign", "another program's"],
)
def test_damaged_files_are_made_again(device, damage):
    doubled(device)
    doubled(device, factor=3)
    whole = [f.read_bytes() for f in files(device)]
    for i, file in enumerate(files(device)):
        file.write_bytes(damage(whole[i], whole[i - 1]))
    second = again(device)
    assert doubled(second) == [2, 2, 2] and doubled(second, factor=3) == [3, 3, 3]
    assert second.programs.loaded == 0
    assert doubled(third := again(device)) == [2, 2, 2]
    assert third.programs.built == 0, "the damaged files were replaced"


def test_a_file_that_the_driver_refuses_is_made_again(device):
    doubled(device)
    for file in files(device):
        programs.store(file, b"made by another driver")
    second = again(device)
    assert doubled(second) == [2, 2, 2] and second.programs.loaded == 0


def test_folders_that_cannot_be_used(device, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MICROGPT_OPENCL_CACHE", str(tmp_path / "file" / "cache"))
    assert doubled(again(device)) == [2, 2, 2]
    monkeypatch.setenv("MICROGPT_OPENCL_CACHE", "")
    assert programs.cache_folder() is None
    assert doubled(again(device)) == [2, 2, 2]


def test_a_folder_to_read_only(device, monkeypatch):
    doubled(device)

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(programs.tempfile, "mkstemp", refused)
    second = again(device)
    assert doubled(second) == [2, 2, 2] and second.programs.built == 0
    assert doubled(second, factor=5) == [5, 5, 5]


def test_a_full_disk_leaves_nothing_behind(device, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    before = files(device)
    monkeypatch.setattr(programs.os, "replace", full)
    assert doubled(device) == [2, 2, 2]
    assert files(device) == before


def test_two_processes_start_at_once(tmp_path):
    code = (
        "import microgpt as mg; x = mg.arange(1000, dtype='float32', backend='opencl'); "
        "print(mg.exp(x * 0.001 + 1)[-1].item() > 7.3)"
    )
    environment = os.environ | {"MICROGPT_OPENCL_CACHE": str(tmp_path / "new")}
    both = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    assert [p.communicate(timeout=120)[0].strip() for p in both] == [b"True", b"True"]
    assert list((tmp_path / "new").glob("*.part")) == []


def test_files_may_be_joined(device):
    kernel = device.kernel(("lanes.cl", "frame.cl"), "frame", REAL="float", WIDTH=4)
    assert kernel is device.kernel(("lanes.cl", "frame.cl"), "frame", REAL="float", WIDTH=4)


SEVERAL = """
float helper(float x) { return x; }
kernel void a(global float *x) {
    if (x) { x[0] = helper(1); }
}
WIDE kernel void norm(
    global float *x)
{
    x[0] = 2;
}
#define M 3
kernel WIDE __attribute__((reqd_work_group_size(1, 1, 1))) void norm_gradient(global float *x)
{
}
"""


@pytest.mark.parametrize(
    ("name", "there"),
    [
        ("a", ["a"]),
        ("norm", ["norm", "norm_gradient"]),
        ("norm_gradient", ["norm", "norm_gradient"]),
    ],
)
def test_only_what_is_needed_is_compiled(name, there):
    left = programs.only(SEVERAL, name)
    assert [k for k in ("a", "norm", "norm_gradient") if f"void {k}(" in left] == there
    assert "float helper" in left and "#define M 3" in left
    assert left.count("{") == left.count("}")


FOR_PROCESSORS = {"gemm_vectors.cl", "gemm_cpu.cl", "gemm_amx.cl", "recurrent_cpu.cl"}
"""There functions are not static, since the compilers of processors then call the large ones."""


def test_functions_of_kernels_for_graphics_cards_are_static():
    """In C an inline function that is not static need not be there where it is not inlined.

    Compilers of some graphics cards make use of that, and then miss it.
    """
    for path in resources("microgpt_opencl").joinpath("kernels").iterdir():
        if path.name not in FOR_PROCESSORS:
            lines = path.read_text(encoding="utf-8").splitlines()
            loose = [line for line in lines if re.match(r"\s*(WIDE )?inline\b", line)]
            assert not loose, (path.name, loose)


AREAS = r"""
    import re
    import numpy as np
    import microgpt as mg

    x = mg.tensor(np.ones(1000, "f"), backend="opencl", device="Portable")
    assert not mg.any(mg.less(x, 0.0 * x)).item()
    with open("/proc/self/smaps") as file:
        areas = re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", file.read())
    ours = [area for area in areas if area.split("\n")[0].endswith("/fused.so")]
    print(*[re.search(r"^Rss: +(\d+)", area, re.M)[1] for area in ours])
"""


def test_constants_are_in_memory_where_none_is_used(tmp_path):
    """Reading them where no comparison holds took 60 times as long: see TOUCH_CONSTANTS."""
    if not any("PoCL" in d.platform.version for d in platforms.found().values()):
        pytest.skip("only PoCL leaves programs in files")
    if not Path("/proc/self/smaps").exists():
        pytest.skip("the system does not tell what is in memory")
    places = {"POCL_CACHE_DIR": str(tmp_path), "MICROGPT_OPENCL_CACHE": ""}
    (resident,) = opencl.output(AREAS, **places)
    assert len(resident.split()) >= 3 and "0" not in resident.split()
