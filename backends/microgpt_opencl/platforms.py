"""Which devices there are, what they are called, and which one a name means."""

from __future__ import annotations

import ctypes
import os
import warnings
from functools import cache
from pathlib import Path
from typing import Any

from microgpt.errors import BackendError, missing_extra

_PIP = (
    "pip install 'microgpt-autograd[opencl]' brings PoCL, which computes on the processor (Linux)"
)


@cache
def driver() -> Any:
    """The module pyopencl.

    Raises:
        MissingExtraError: if it is not installed.
        BackendError: if it cannot be imported.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it talks about its own compiler cache
            import pyopencl
    except ModuleNotFoundError as error:
        if error.name != "pyopencl":
            raise
        raise missing_extra("pyopencl", "opencl", "backend 'opencl'") from error
    except (ImportError, OSError) as error:
        raise BackendError(
            f"backend 'opencl' needs pyopencl, which cannot be imported: {error}; install it "
            "again: pip install --force-reinstall pyopencl"
        ) from error
    return pyopencl


def found() -> dict[str, Any]:
    """All devices by name, ``"platform:device"``; graphics cards first, then processors.

    Raises:
        BackendError: if there is none.
    """
    cl = driver()
    why = ""
    try:
        platforms = cl.get_platforms()
    except cl.Error as error:  # the loader calls it an error if there is no driver
        platforms, why = [], f": {error}"
    if not platforms:
        raise BackendError(f"backend 'opencl' found no OpenCL driver{why}; {_mend()}")
    devices, broken = {}, []
    for p, platform in enumerate(platforms):
        try:
            for d, device in enumerate(platform.get_devices()):
                devices[f"{p}:{d}"] = device
        except (cl.Error, RuntimeError) as error:  # a platform without devices, or broken
            broken.append(f"{platform.name.strip()}: {error}")
    if not devices:
        why = "; ".join(broken) or "the drivers have none"
        raise BackendError(f"backend 'opencl' found no device ({why}); {_mend()}")
    cpu = cl.device_type.CPU
    return dict(sorted(devices.items(), key=lambda item: bool(item[1].type & cpu)))


def _mend() -> str:
    """What to do where nothing was found."""
    told = broken_drivers()
    chosen = os.environ.get("OCL_ICD_VENDORS")
    if chosen is not None:
        told.append(
            f"OCL_ICD_VENDORS={chosen} says where the drivers are; unset it, so that all installed "
            "ones are found"
        )
    return "; ".join([*told, f"install the driver of your graphics card, or: {_PIP}"])


def broken_drivers() -> list[str]:
    """What is wrong with the drivers that the loader is told to load and cannot.

    A driver is named by a file ``….icd`` that holds the name of a library. The loader passes over
    those that it cannot load without a word.
    """
    chosen = Path(os.environ.get("OCL_ICD_VENDORS") or "/etc/OpenCL/vendors")
    found = []
    for file in sorted(chosen.glob("*.icd")) if chosen.is_dir() else [chosen]:
        if file.suffix != ".icd":
            continue
        try:
            library = file.read_text(errors="replace").strip()
            ctypes.CDLL(library)
        except OSError as error:
            found.append(
                f"the driver that {file} names cannot be loaded ({error}); install it again, or "
                "remove that file"
            )
    return found


def selected(devices: dict[str, Any], wanted: str) -> str:
    """The name of the device that `wanted` means: a name, an index, or a part of a title.

    Raises:
        BackendError: if it means none.
    """
    if wanted in devices:
        return wanted
    names = list(devices)
    if wanted.isdecimal():
        if int(wanted) < len(names):
            return names[int(wanted)]
    else:
        for name, device in devices.items():
            if wanted.lower() in described(device).lower():
                return name
    there = "; ".join(f'"{name}" ({described(device)})' for name, device in devices.items())
    raise BackendError(
        f"no OpenCL device matches {wanted!r}; required: an index from 0 to {len(names) - 1}, "
        f"platform:device, or a part of a name (gpu, cpu, …); there are: {there}"
    )


def described(device: Any) -> str:
    """Vendor, platform, title and kind of a device: what its name may be a part of."""
    cl = driver()
    kinds = [k for k in ("CPU", "GPU", "ACCELERATOR") if device.type & getattr(cl.device_type, k)]
    platform = device.platform.name.strip()
    short = " PoCL" if "Portable Computing Language" in platform else ""
    return f"{device.name.strip()}, {'/'.join(kinds)}, {platform}{short}"
