"""What PoCL does not know about the processor on which it runs.

**Its name.** PoCL asks LLVM for the processor's name, and chooses a library of functions by its
instructions. The LLVM in a PoCL of 2022, which pip installs, answers "generic" where it has never
heard of a processor (AMD's Zen 5), a word that its own compiler then refuses, so that no kernel
builds (https://github.com/pocl/pocl/issues/1049). Zen 4 it takes for Zen 3, which has no AVX-512:
the compiler ends the process as soon as it meets a function of the library that uses it. No setting
of PoCL changes the name. It lies in PoCL's record of the device, behind the name of the system;
there we write the name of the most able processor that LLVM does know and whose instructions this
one has.

**Its matrix unit.** Intel's AMX (2023) multiplies tiles, which `gemm_amx.cl` makes use of. Linux
has to be asked for it: the registers are large, and each thread needs room where they are saved.
"""

from __future__ import annotations

import ctypes
import re
from functools import cache
from pathlib import Path
from typing import Any

UNKNOWN = b"generic"
"""What LLVM calls a processor it does not know."""

MISTAKEN = b"znver3"
"""What it calls AMD's Zen 4 as well, whose vectors are wider."""

AVX_512 = b"skylake-avx512"

KNOWN = {
    AVX_512: "avx512f avx512bw avx512cd avx512dq avx512vl",
    b"haswell": "avx2 fma bmi1 bmi2 f16c movbe abm",
    b"x86-64": "sse2",
}
"""Processors, and what programs use that the next one lacks, as Linux calls it; the best is first.
For each, PoCL has a library of functions, and must find itself in the one that it chooses."""

_REACH = 2048
"""Bytes of a device's record that are searched; the names begin at byte 544 in PoCL 3.0."""


def introduce(cl_device: Any) -> str | None:
    """Give a device of PoCL the name of a processor that its compiler knows, if its own is wrong.

    Returns:
        The name that its kernels are compiled for, or None where there is nothing to mend or the
        place is not found.
    """
    found = re.search(r"PoCL.*-(x86_64-.+)-(\w+)$", cl_device.version.strip())
    if found is None or not _wrong(found[2].encode()):
        return None
    place = name_of(cl_device, found[1].encode())
    if place is None:
        return None
    word = ctypes.c_void_p.from_address(place)
    told = ctypes.string_at(word.value or 0)
    if _wrong(told):
        told = stand_in()
        word.value = _copied(told)  # what was there leaks: a few bytes, once per device
    return told.decode()


def _wrong(name: bytes) -> bool:
    """Whether that cannot be the name of this processor."""
    return name == UNKNOWN or (name == MISTAKEN and stand_in() == AVX_512)


def stand_in(flags: frozenset[str] | None = None) -> bytes:
    """The best processor of `KNOWN` whose instructions are among `flags`, by default ours."""
    flags = _flags() if flags is None else flags
    needed: list[set[str]] = [set(text.split()) for text in KNOWN.values()]
    for number, name in enumerate(KNOWN):
        if set().union(*needed[number:]) <= flags:
            return name
    return b"x86-64"


def name_of(cl_device: Any, system: bytes) -> int | None:
    """The address of the pointer to the processor's name in PoCL's record of the device.

    It follows the pointer to the name of the system. Nothing is read that this process may not
    read: a PoCL whose record looks different is left as it is.
    """
    try:
        readable = _readable()
    except OSError:  # not Linux
        return None
    first = cl_device.int_ptr
    for address in range(first, first + _REACH, 8):
        if _text(address, readable) == system and _text(address + 8, readable):
            return address + 8
    return None


def _text(address: int, readable: list[tuple[int, int]]) -> bytes:
    """The printable text that the pointer at `address` leads to, empty if it leads nowhere."""
    if not _within(address, 8, readable):
        return b""
    target = ctypes.c_uint64.from_address(address).value
    if not _within(target, 64, readable):
        return b""
    text = ctypes.string_at(target, 64).split(b"\0")[0]
    return text if re.fullmatch(rb"[\w.-]+", text) else b""


def _within(address: int, size: int, readable: list[tuple[int, int]]) -> bool:
    return any(first <= address and address + size <= end for first, end in readable)


def _readable() -> list[tuple[int, int]]:
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        area, rights = line.split()[:2]
        if rights.startswith("r") and "[v" not in line:  # not the kernel's own pages
            first, end = area.split("-")
            found.append((int(first, 16), int(end, 16)))
    return found


def _copied(text: bytes) -> int:
    """The address of a copy that C has allocated, since PoCL frees it together with the device."""
    copy = ctypes.CDLL(None).strdup
    copy.restype = ctypes.c_void_p
    return copy(text)


ARCH_PRCTL, REQUEST, TILE_DATA = 158, 0x1023, 18
"""Numbers of Linux on x86-64: a system call, what it is to do (ARCH_REQ_XCOMP_PERM), for what."""


def matrix_unit(cl_device: Any) -> bool:
    """Whether kernels on a device may use AMX: those of PoCL, on a processor that has it."""
    pocl = "PoCL" in cl_device.platform.version
    return pocl and cl_device.preferred_vector_width_float == 16 and _tiles_allowed()


@cache
def _tiles_allowed() -> bool:
    """Whether this processor has AMX and Linux lets us use it, which it is asked for.

    It lets all threads of the process, unless one has a stack for signals without the room.
    """
    if not {"amx_tile", "amx_bf16", "avx512bw", "avx512vl"} <= _flags():
        return False
    return ctypes.CDLL(None).syscall(ARCH_PRCTL, REQUEST, TILE_DATA) == 0


@cache
def _flags() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        return frozenset()
    found = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return frozenset(found.group(1).split() if found else ())
