"""What `microgpt doctor` says about OpenCL: platforms, devices, and their names for `device`."""

from __future__ import annotations

import warnings
from typing import Any

from microgpt.cli.packages import pip

EXTRA = "opencl"


def rows() -> list[tuple[str, str]]:
    """Platforms and devices, or what is missing and the command that mends it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains about its own compiler cache
        try:
            import pyopencl as cl  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            missing = isinstance(error, ModuleNotFoundError) and error.name == "pyopencl"
            why = "is not installed" if missing else f"cannot be imported ({error})"
            return [("pyopencl", f"{why}: {pip(EXTRA)}")]
        except Exception as error:
            return [("pyopencl", f"cannot be imported ({type(error).__name__}: {error})")]
        lines = [("pyopencl", str(getattr(cl, "VERSION_TEXT", "installed")))]
        try:
            platforms = cl.get_platforms()
        except Exception as error:  # the loader calls it an error if there is no driver
            return [*lines, ("platforms", f"none ({error}). {_no_driver()}")]
        if not platforms:
            return [*lines, ("platforms", f"none. {_no_driver()}")]
        names = _names()
        for p, platform in enumerate(platforms):
            lines.append(("platform", f"{platform.name.strip()}, {platform.version.strip()}"))
            lines += [
                ("device", _device(cl, device, f"{p}:{d}", names))
                for d, device in enumerate(_devices(platform))
            ]
    if not names:
        lines.append(
            ("", "the backend 'opencl' is not there, so these devices cannot be used from microgpt")
        )
    return lines


def _no_driver() -> str:
    return (
        "Install the driver of your graphics card, or PoCL, which computes on the CPU: "
        f"{pip(EXTRA)} brings it on Linux, the package manager of the system elsewhere"
    )


def _devices(platform: Any) -> list[Any]:
    try:
        return platform.get_devices()
    except Exception:  # a platform without devices is an error in OpenCL
        return []


def _names() -> list[str]:
    """What the backend calls the devices, in the order of platforms and devices."""
    from microgpt.plugins import registry

    try:
        return [str(name) for name in registry.backend(EXTRA).devices()]
    except Exception:  # reported among the backends
        return []


def _device(cl: Any, device: Any, number: str, names: list[str]) -> str:
    kinds = [k for k in ("CPU", "GPU", "ACCELERATOR") if device.type & getattr(cl.device_type, k)]
    double = "cl_khr_fp64" in device.extensions.split() or bool(
        getattr(device, "double_fp_config", 0)
    )
    memory = device.global_mem_size / 2**30
    text = (
        f"{device.name.strip()}, {' '.join(kinds)}, {device.max_compute_units} compute units, "
        f"{memory:.1f} GiB, float64: {'yes' if double else 'no, use dtype float32'}"
    )
    known = [name for name in names if name == number or name in text]
    return f'{text}; device = "{known[0]}"' if known else text
