"""From kernel source to kernels: small templates, built once per device and kept on disk.

A template is OpenCL C in which names in capitals are filled in by ``-D NAME=value``. Of the kernels
in a file, a program has only those that are needed together.

What a device makes of a source is kept in a file named after a hash of everything it depends on,
and begins with a checksum of its contents and of that name. A file that is damaged, cut off or
somebody else's is made again, and two processes that write the same one do each other no harm: it
is written under another name and put into place. A folder that cannot be written to is read all the
same. (PoCL does all that itself, see `keeps`.)
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
import warnings
from contextlib import suppress
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from microgpt.errors import BackendError
from microgpt_opencl.platforms import driver

if TYPE_CHECKING:
    from microgpt_opencl.device import Device

MAGIC = b"microgpt-opencl-2\n"

OPTIONS = "-w -cl-std=CL1.2"
"""Of every build. Without -w PoCL counts the warnings on the user's terminal. OpenCL C 1.2 is what
all devices have, and PoCL compiles it faster than what it would take by itself."""

SCALARS = {
    "char": np.int8, "uchar": np.uint8, "short": np.int16, "ushort": np.uint16, "int": np.int32,
    "uint": np.uint32, "long": np.int64, "ulong": np.uint64, "float": np.float32,
    "double": np.float64,
}  # fmt: skip


def cache_folder() -> Path | None:
    """Where built programs are kept; None if MICROGPT_OPENCL_CACHE is set to nothing."""
    chosen = os.environ.get("MICROGPT_OPENCL_CACHE")
    try:
        if chosen is not None:
            return Path(chosen).expanduser() if chosen else None
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # a user without a home
        return None
    return Path(base) / "microgpt" / "opencl"


def read(file: str | tuple[str, ...]) -> str:
    """The text of a template in the folder kernels, or of several, one after the other."""
    folder = files("microgpt_opencl").joinpath("kernels")
    names = (file,) if isinstance(file, str) else file
    return "\n".join([folder.joinpath(name).read_text(encoding="utf-8") for name in names])


PARTNERS = (
    ("norm", "norm_gradient"), ("softmax", "softmax_gradient"),
    ("cross_entropy", "cross_entropy_gradient"), ("take", "index_add"), ("unfold", "fold"),
    ("lstm_forward", "lstm_backward"), ("lstm_cell", "lstm_cell_gradient"),
    ("rnn_forward", "rnn_backward"), ("rnn_cell", "rnn_cell_gradient"),
)  # fmt: skip
"""Kernels that programs use together, so that they are best compiled together."""


def only(source: str, name: str) -> str:
    """`source` without the kernels that are neither `name` nor its partners.

    Compilers take their time, for kernels that nobody calls as well.
    """
    wanted = next((group for group in PARTNERS if name in group), (name,))
    parts, end = [], 0
    for found in re.finditer(r"^(?:WIDE )?kernel\b[^;{]*?\bvoid (\w+)\(", source, re.MULTILINE):
        if found[1] not in wanted:
            parts.append(source[end : found.start()])
            end = source.index("\n}", found.start()) + 2
    return "".join([*parts, source[end:]])


SHORT = 3000
"""Characters of a source that compiles twice in no time: that of an elementwise expression."""


def keeps(device: Device, source: str) -> bool:
    """Whether the program of a source is kept on disk here.

    PoCL keeps what it compiled itself. Asked for a binary it compiles everything once more, for
    launches of any size, which takes as long as the rest. For short programs that is worth it:
    from a binary they are loaded ten times as fast.
    """
    return "PoCL" not in device.platform or len(source) < SHORT


def argument_types(source: str, name: str, defines: dict[str, Any]) -> list[Any]:
    """For each parameter of kernel `name` its NumPy type, None for pointers."""
    found = re.search(rf"\bvoid\s+{name}\s*\(([^)]*)\)", source)
    if found is None:
        raise BackendError(f"there is no kernel '{name}' in the source that should have it")
    types = []
    for parameter in re.sub(r"//.*", "", found[1]).split(","):
        if "*" in parameter:
            types.append(None)
            continue
        words = [w for w in parameter.split() if w not in ("const", "private")]
        types.append(_scalar(str(defines.get(words[0], words[0]))))
    return types


def _scalar(name: str) -> Any:
    """The NumPy type of a parameter that is no pointer."""
    if name in ("long4", "int16"):
        return getattr(driver().cltypes, name)
    return SCALARS[name]


class Kernel:
    """A kernel that is ready to run, with the name under which its work is counted."""

    __slots__ = ("call", "label")

    def __init__(self, kernel: Any, types: list[Any], label: str) -> None:
        kernel.set_scalar_arg_dtypes(types)
        self.call = kernel
        self.label = label

    def counted_as(self, label: str) -> Kernel:
        """The same kernel, under another name."""
        other = object.__new__(Kernel)
        other.call, other.label = self.call, label
        return other


class Programs:
    """The kernels of one device."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.built = 0
        """Programs that had to be compiled."""
        self.loaded = 0
        """Programs that came from the disk."""
        self._programs: dict[tuple[str, str], Any] = {}
        self._kernels: dict[Any, Kernel] = {}
        self.fused: dict[Any, Kernel] = {}
        """Kernels of elementwise expressions, by what they compute and how."""
        self.recipes: dict[Any, Any] = {}
        """How to launch them on arrays of these shapes: see `fusion`."""
        self.tiles: dict[str, Any] | None = None
        """Tiles of matrix products by class of shapes, once they were needed: see `tuning`."""

    def kernel(self, file: str | tuple[str, ...], name: str, **defines: Any) -> Kernel:
        """The kernel `name` of a template, with its capitals filled in.

        Several files are joined: helpers first, in front of the kernels that call them.
        """
        key = (file, name, *defines.items())
        found = self._kernels.get(key)
        if found is None:
            with self.device.lock:
                found = self._kernels.get(key)  # another thread may have been quicker
                if found is None:
                    found = self.of_source(only(read(file), name), name, name, defines)
                    self._kernels[key] = found
        return found

    def of_source(
        self, source: str, name: str, label: str, defines: dict[str, Any] | None = None
    ) -> Kernel:
        """The kernel `name` of a source, which is built unless that was done before."""
        defines = defines or {}
        options = " ".join([OPTIONS, *[f"-D {k}={v}" for k, v in sorted(defines.items())]])
        with self.device.lock:
            program = self._programs.get((source, options))
            if program is None:
                program = self._programs[source, options] = self._program(source, options, label)
            cl = driver()
            types = argument_types(source, name, defines)
            return Kernel(cl.Kernel(program, name), types, label)

    def _program(self, source: str, options: str, label: str) -> Any:
        cl = driver()
        device = self.device
        # Neither cache, ours and the driver's, knows what name we gave the processor.
        mark = f"/* for {device.processor} */\n" if device.processor else ""
        full = mark + read("prelude.cl") + source
        path = self._path(full, options) if keeps(device, source) else None
        binary = load(path)
        if binary is not None:
            try:
                program: Any = cl.Program(device.context, [device.cl_device], [binary])
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    program.build(options)
                self.loaded += 1
                return program
            except (cl.Error, RuntimeError):
                pass  # made by another driver, or damaged in a way that the checksum cannot tell
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # compilers like to talk
                program: Any = cl.Program(device.context, full)
                program.build(options, cache_dir=False)  # we have a cache of our own
        except (cl.Error, RuntimeError) as error:
            log = "\n".join(str(error).strip().splitlines()[:30])
            mend = "a newer driver, or another device (`microgpt doctor` lists them), may help"
            if "unknown target CPU" in log:
                mend = "this driver is older than the processor: install a newer one"
            raise BackendError(
                f"the kernel '{label}' does not build on device {device.name} ({device.title}, "
                f"driver {device.driver}), with the options '{options}'; {mend}. It said:\n{log}"
            ) from error
        self.built += 1
        if path is not None:
            store(path, program.get_info(cl.program_info.BINARIES)[0])
        return program

    def _path(self, source: str, options: str) -> Path | None:
        folder = cache_folder()
        if folder is None:
            return None
        device = self.device
        what = "\0".join(
            [source, options, device.title, device.version, device.driver, device.platform]
        )
        return folder / f"{hashlib.sha256(what.encode()).hexdigest()[:40]}.bin"


def _checksum(path: Path, binary: bytes) -> bytes:
    return hashlib.sha256(path.stem.encode() + binary).digest()


def load(path: Path | None) -> bytes | None:
    """The contents of a cache file, or None if there is none or its checksum is wrong."""
    if path is None:
        return None
    try:
        data = path.read_bytes()
    except OSError:
        return None
    head = len(MAGIC) + 32
    binary = data[head:]
    whole = data[:head] == MAGIC + _checksum(path, binary)
    return binary if whole else None


def store(path: Path, binary: bytes) -> None:
    """Write a cache file; where that is impossible, programs are built in every process."""
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(MAGIC + _checksum(path, binary) + binary)
        os.replace(temporary, path)
    except OSError:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)
