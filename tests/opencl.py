"""What the tests of the OpenCL backend share: whether there is a device, and its devices."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from functools import cache
from typing import Any

import pytest

import microgpt as mg
from microgpt.errors import MicrogptError
from microgpt.plugins import registry


@cache
def _missing() -> str | None:
    try:
        registry.backend("opencl").asarray(0.0, None, None)
    except MicrogptError as error:
        return str(error)
    return None


def needed() -> None:
    """Skip the tests of this module where there is no OpenCL device."""
    missing = _missing()
    if missing is not None:
        pytest.skip(missing, allow_module_level=True)


def backend() -> Any:
    """The OpenCL backend."""
    return registry.backend("opencl")


@cache
def small_items() -> Any:
    """The default device, driven as if it were a graphics card: small work-items."""
    from microgpt_opencl.device import Device

    first = backend().open()
    return Device("gpu style", first.cl_device, cpu=False)


def on(device: Any, values: Any) -> Any:
    """A raw array on `device`."""
    from microgpt_opencl.transfers import from_numpy

    return from_numpy(device, values)


__all__ = ["backend", "mg", "needed", "on", "small_items"]


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, in which two threads are many."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MICROGPT_", "POCL_DEV"))}
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=kept | {"POCL_MAX_PTHREAD_COUNT": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def output(code: str, **environment: str) -> list[str]:
    done = run(code, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.splitlines()
