"""What the tests of the OpenCL backend share: whether there is a device, and its devices."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from functools import cache
from typing import Any

import pytest

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


def spare() -> Any:
    """A device that nothing else uses, which a test may break."""
    from microgpt_opencl import platforms
    from microgpt_opencl.device import Device

    name, found = next(iter(platforms.found().items()))
    return Device(name, found)


def failing(code: int) -> Any:
    """A function that fails as the driver would."""
    import pyopencl as cl

    class Simulated(cl.RuntimeError):
        def __str__(self) -> str:
            return f"simulated failure {code}"

    Simulated.code = code  # pyright: ignore[reportAttributeAccessIssue]

    def call(*_: Any, **__: Any) -> None:
        raise Simulated

    return call


def failing_once(kernel: Any, number: int, fail: Any) -> list[int]:
    """Let call `number` of a kernel be one of `fail`; the list grows with every call."""
    call, calls = kernel.call, []

    def counted(*args: Any, **gate: Any) -> Any:
        calls.append(len(calls) + 1)
        return (fail if len(calls) == number else call)(*args, **gate)

    kernel.call = counted
    return calls


def on(device: Any, values: Any) -> Any:
    """A raw array on `device`."""
    from microgpt_opencl.transfers import from_numpy

    return from_numpy(device, values)


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
