"""PoCL on a processor that it does not know, or takes for another: made by what it calls those."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from microgpt_opencl import processors

from tests.opencl import needed, output, run

cl = pytest.importorskip("pyopencl", reason="pyopencl is not installed")
needed()

BASE = "sse2 avx2 fma bmi1 bmi2 f16c movbe abm"
WIDE = "avx512f avx512bw avx512cd avx512dq avx512vl"


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (f"{BASE} {WIDE} avx_vnni", b"skylake-avx512"),
        (f"{BASE} {WIDE}".replace("avx512vl", ""), b"haswell"),
        (f"{WIDE} sse2", b"x86-64"),
        (BASE, b"haswell"),
        (BASE.replace("fma", ""), b"x86-64"),
        ("", b"x86-64"),
    ],
)
def test_the_stand_in_has_no_instruction_that_the_processor_lacks(flags, name):
    assert processors.stand_in(frozenset(flags.split())) == name


def _asked(monkeypatch, flags: str, answer: int) -> tuple[bool, list[tuple[int, ...]]]:
    """Whether there is a matrix unit on such a processor, and what Linux was asked."""
    calls: list[tuple[int, ...]] = []
    library = SimpleNamespace(syscall=lambda *numbers: calls.append(numbers) or answer)
    monkeypatch.setattr(processors, "_flags", lambda: frozenset(flags.split()))
    monkeypatch.setattr(processors.ctypes, "CDLL", lambda name: library)
    processors._tiles_allowed.cache_clear()
    pocl = SimpleNamespace(
        platform=SimpleNamespace(version="OpenCL 3.0 PoCL 3.0"), preferred_vector_width_float=16
    )
    try:
        return processors.matrix_unit(pocl), calls
    finally:
        processors._tiles_allowed.cache_clear()


def test_linux_is_asked_for_the_matrix_unit(monkeypatch):
    amx = f"{BASE} {WIDE} amx_tile amx_bf16"
    assert _asked(monkeypatch, amx, 0) == (True, [(158, 0x1023, 18)])
    assert _asked(monkeypatch, amx, -1) == (False, [(158, 0x1023, 18)])
    assert _asked(monkeypatch, f"{BASE} {WIDE} amx_tile", 0) == (False, [])
    assert _asked(monkeypatch, "amx_tile amx_bf16", 0) == (False, [])


@pytest.mark.parametrize(("version", "width"), [("Intel(R) OpenCL", 16), ("PoCL 3.0", 8)])
def test_other_drivers_and_narrow_vectors_have_no_matrix_unit(monkeypatch, version, width):
    monkeypatch.setattr(processors, "_tiles_allowed", lambda: True)
    platform = SimpleNamespace(version=version)
    device = SimpleNamespace(platform=platform, preferred_vector_width_float=width)
    assert not processors.matrix_unit(device)


UNKNOWN = """
    import ctypes, re
    from types import SimpleNamespace
    import pyopencl as cl
    from microgpt_opencl import device as opencl, platforms, processors

    found = platforms.found().items()
    name, device = next((n, d) for n, d in found if "PoCL 3.0" in d.platform.version)
    system = re.search(r"(x86_64-[a-z]+-linux-gnu)-", device.version)[1]
    place = processors.name_of(device, system.encode())
    ctypes.c_void_p.from_address(place).value = processors._copied(b"NAME")
    version = f"PoCL HSTR: pthread-{system}-NAME"
    unknown = SimpleNamespace(version=version, int_ptr=device.int_ptr)
    opencl.introduce = lambda device: processors.introduce(unknown) if MENDED else None
    import microgpt as mg
    try:
        x = mg.tensor([1.0, 2.0, 3.0], requires_grad=True, backend="opencl", device=name)
        mg.sum(mg.log(x) * x).backward()
        print([round(float(g), 2) for g in x.grad.numpy()])
        print(x._data.device.processor, processors.introduce(unknown))
    except mg.errors.BackendError as error:
        print(str(error).splitlines()[0])
"""

on_pocl_3 = pytest.mark.skipif(
    not any("PoCL 3.0" in p.version and "LLVM 14" in p.version for p in cl.get_platforms()),
    reason="PoCL 3.0 is not installed: others know more processors",
)


needs_avx_512 = pytest.mark.skipif(
    processors.stand_in() != processors.AVX_512, reason="this processor has no AVX-512"
)


def _script(name: str, mended: bool) -> str:
    return UNKNOWN.replace("NAME", name).replace("MENDED", str(mended))


@on_pocl_3
@pytest.mark.parametrize("name", ["generic", pytest.param("znver3", marks=needs_avx_512)])
def test_kernels_build_for_a_processor_that_the_driver_does_not_know(name, tmp_path):
    places = {"POCL_CACHE_DIR": str(tmp_path), "MICROGPT_OPENCL_CACHE": ""}
    gradients, known = output(_script(name, True), **places)
    assert gradients == "[1.0, 1.69, 2.1]"  # log x + 1
    assert known == " ".join([processors.stand_in().decode()] * 2)


@on_pocl_3
def test_without_the_mend_the_error_says_what_to_install(tmp_path):
    places = {"POCL_CACHE_DIR": str(tmp_path), "MICROGPT_OPENCL_CACHE": ""}
    (message,) = run(_script("generic", False), **places).stdout.splitlines()
    assert re.search(r"kernel '[^']+' does not build on device \d:\d \(", message)
    assert "this driver is older than the processor: install a newer one" in message


def test_only_a_processor_with_a_wrong_name_is_given_another(monkeypatch):
    """A record that does not exist is not looked at."""
    monkeypatch.setattr(processors, "_flags", lambda: frozenset(BASE.split()))  # a Zen 3
    for version in (
        "OpenCL 3.0 PoCL HSTR: pthread-x86_64-unknown-linux-gnu-znver3",
        "OpenCL 3.0 PoCL HSTR: pthread-aarch64-unknown-linux-gnu-generic",
        "OpenCL 3.0 CUDA-generic",
    ):
        assert processors.introduce(SimpleNamespace(version=version, int_ptr=0)) is None


def test_a_record_that_looks_different_is_left_alone():
    record = (processors.ctypes.c_uint64 * (processors._REACH // 8))()
    record[3] = 12345  # leads nowhere
    device = SimpleNamespace(int_ptr=processors.ctypes.addressof(record))
    before = bytes(record)
    assert processors.name_of(device, b"x86_64-unknown-linux-gnu") is None
    assert bytes(record) == before
