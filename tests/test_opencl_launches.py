"""Launches that wait to be handed to the driver together, and what goes wrong while they are."""

from __future__ import annotations

import numpy as np
import pytest
from microgpt_opencl import elementwise, fusion
from microgpt_opencl.device import ALONE, TOGETHER

from microgpt.errors import BackendError, OutOfMemoryError
from tests.opencl import failing, failing_once, needed, on, output, spare

cl = pytest.importorskip("pyopencl", reason="pyopencl is not installed")
needed()


@pytest.fixture
def device():
    return spare()


def tripling(device):
    """An array, and the kernel of `x * 3.0`."""
    x = on(device, np.array([1.0, 2.0]))
    np.asarray(x * 3.0)
    return x, next(iter(device.programs.fused.values()))


def four_times(x):
    """x · 3⁴, in four launches that wait."""
    for _ in range(4):
        x = fusion.realised(x * 3.0)
    return x


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_a_launch_that_fails_when_its_results_are_in_use_leaves_nothing_to_go_on_with(device):
    x, kernel = tripling(device)
    kernel.call = failing(cl.status_code.INVALID_KERNEL_ARGS)
    assert device.together > 1
    y = fusion.realised(x * 3.0)  # handed to the driver later, together with others
    with pytest.raises(BackendError, match="running the kernel 'multiply' failed on device"):
        np.asarray(y)
    for use in (lambda: np.asarray(y), lambda: np.asarray(x), lambda: on(device, np.ones(1))):
        with pytest.raises(BackendError, match="running the kernel 'multiply' failed .* is lost"):
            use()


@pytest.mark.parametrize(("cores", "together"), [(1, ALONE), (2, TOGETHER), (64, TOGETHER)])
def test_a_process_with_one_core_hands_over_more_at_once(monkeypatch, cores, together):
    monkeypatch.setattr("microgpt_opencl.device._cores", lambda: cores)
    device = spare()
    x, kernel = tripling(device)
    calls = failing_once(kernel, -1, None)
    for _ in range(together - 1):
        x = fusion.realised(x * 3.0)
    assert not calls
    fusion.realised(x * 3.0)
    assert len(calls) == together


@pytest.mark.parametrize("after", [False, True])
def test_an_interrupt_while_launches_are_handed_over_loses_none(device, after):
    """Ctrl-C in a notebook: what was computed so far is there, and what was not is done later."""
    x, kernel = tripling(device)
    calls = failing_once(kernel, 2, interrupt)
    y = four_times(x)
    with pytest.raises(KeyboardInterrupt):
        device.flush() if after else np.asarray(y)
    assert np.asarray(y).tolist() == [81.0, 162.0]
    assert len(calls) == 5, "one was tried twice"


def test_launches_that_could_not_be_handed_over_are_not_lost(device, monkeypatch):
    y = four_times(on(device, np.array([1.0, 2.0])))
    with monkeypatch.context() as patch:
        patch.setattr(cl, "UserEvent", failing(cl.status_code.OUT_OF_HOST_MEMORY))
        with pytest.raises(OutOfMemoryError, match="no room for memory to work with"):
            np.asarray(y)
    assert np.asarray(y).tolist() == [81.0, 162.0]


def test_launches_that_fail_together_do_not_hold_the_device_up(device):
    """A launch that runs out of memory in the middle of others: those before it are let go."""
    x, kernel = tripling(device)
    calls = failing_once(kernel, 2, failing(cl.status_code.MEM_OBJECT_ALLOCATION_FAILURE))
    y = four_times(x)
    assert np.asarray(y).tolist() == [81.0, 162.0]
    assert len(calls) == 5


def test_a_launch_that_is_tried_again_is_done_before_its_memory_is_given_to_the_host(device):
    def slow(x):  # large arguments are reduced one by one
        return fusion.realised(elementwise.KERNELS["sin"](x * 1e5))

    values = np.full(400_000, 1e6, "float32")
    want = np.asarray(slow(on(device, values)))
    (kernel,) = [k for k in device.programs.fused.values() if "sin" in k.label]
    one, x = on(device, np.ones(1, "float32")), on(device, values)
    device.finish()
    failing_once(kernel, 1, failing(cl.status_code.MEM_OBJECT_ALLOCATION_FAILURE))
    first, y = fusion.realised(one + 1.0), slow(x)
    del x
    device.flush()
    zeros = on(device, np.zeros_like(values))
    np.testing.assert_array_equal(np.asarray(y), want)
    assert np.asarray(first) == 2 and not np.asarray(zeros).any()


ALONE_AND_FREED = """
import numpy as np, pyopencl as cl
from microgpt_opencl import elementwise, fusion
from tests.opencl import failing, failing_once, on, spare
device = spare()
np.asarray(on(device, np.array([1.0, 2.0])) * 3.0)
(kernel,) = device.programs.fused.values()
device.finish()
y = fusion.realised(on(device, np.array([1.0, 2.0])) * 3.0)  # the factor is free, and still needed
failing_once(kernel, 1, failing(cl.status_code.MEM_OBJECT_ALLOCATION_FAILURE))
print(np.asarray(y))
"""


def test_a_launch_that_waits_alone_keeps_the_memory_that_it_needs():
    assert output(ALONE_AND_FREED) == ["[3. 6.]"]
