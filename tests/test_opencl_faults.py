"""What goes wrong on OpenCL devices: kernels that do not build, no memory, a device that is gone;
odd inputs; and that a process ends, or is forked, without harm."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import numpy as np
import pytest
from microgpt_opencl import arrays, memory, transfers
from microgpt_opencl.fusion import copied

import microgpt as mg
from microgpt.errors import BackendError, OutOfMemoryError, ShapeError
from tests.opencl import failing, failing_once, needed, spare

cl = pytest.importorskip("pyopencl", reason="pyopencl is not installed")
needed()


@pytest.fixture
def device():
    return spare()


def array(device, values):
    return transfers.from_numpy(device, np.asarray(values))


# ---- kernels ---------------------------------------------------------------------------------


def test_a_kernel_that_does_not_build(device):
    with pytest.raises(BackendError) as caught:
        device.programs.of_source("kernel void bad() { nonesuch; }", "bad", "bad kernel", {"N": 3})
    text = str(caught.value)
    assert "the kernel 'bad kernel' does not build on device" in text
    assert device.title in text and device.driver in text and "-D N=3" in text
    assert "microgpt doctor" in text and "nonesuch" in text, "the compiler's words are there"
    assert np.asarray(array(device, [1.0, 2.0]) * 2.0).tolist() == [2, 4], "the device works on"


def test_a_kernel_that_is_not_in_its_file(device):
    with pytest.raises(BackendError, match="no kernel 'nonesuch'"):
        device.kernel("frame.cl", "nonesuch")


NEXT = "kernel void next_number(global int *x, ulong start) { x[start + 1] = x[start] + 1; }"


def test_a_kernel_that_cannot_run(device):
    device.together = 1
    kernel = device.programs.of_source(NEXT, "next_number", "next_number")
    x = array(device, np.zeros(4, np.int32))
    with pytest.raises(BackendError, match="running the kernel 'next_number' failed on device"):
        device.launch(kernel, (1,), (device.max_local * 1024,), x)
    assert np.asarray(x + x).tolist() == [0] * 4


# ---- memory ----------------------------------------------------------------------------------


def test_out_of_memory_says_how_much_and_the_process_goes_on(device):
    x = array(device, np.ones(1000, np.float32))
    device.capacity = device.pool.held + 1_000_000
    with pytest.raises(OutOfMemoryError) as caught:
        np.asarray(arrays.empty(device, (1_000_000,), np.dtype(np.float32)))
    text = str(caught.value)
    assert "no room for an array of 4." in text, "asked for"
    assert "holds 0.0 MB (0.0 MB in use)" in text, "held"
    assert "at most 1.0 MB are available" in text, "available"
    assert "smaller batches" in text
    assert isinstance(caught.value, MemoryError)
    y = array(device, np.ones(100_000, np.float32))
    assert np.asarray(y * 2.0).sum() == 200_000 and np.asarray(x + 1.0).sum() == 2000


def test_a_request_above_what_one_array_may_have(device, monkeypatch):
    x = array(device, np.ones(4, np.float32))
    most = device.largest
    with pytest.raises(OutOfMemoryError, match="one array may have"):
        device.pool.take(most + 1)
    # Were the device wrong about itself, the driver's refusal would say the same.
    monkeypatch.setattr(device, "largest", 4 * most)
    monkeypatch.setattr(device, "capacity", 8 * most)
    with pytest.raises(OutOfMemoryError, match="no room for an array of .* one array may have"):
        device.pool.take(2 * most)
    assert np.asarray(x * 2.0).tolist() == [2.0] * 4


def test_idle_memory_is_used_before_refusing(device):
    device.capacity = device.pool.held + 3_000_000
    for size in (500_000, 600_000, 700_000):  # each in place of the one before
        x = arrays.empty(device, (size,), np.dtype(np.float32))
        assert device.pool.used >= size * 4
        del x
    assert device.pool.held <= 3_000_000


def test_a_driver_without_memory(device, monkeypatch):
    refusals = []

    def refuse(size):
        refusals.append(size)
        raise MemoryError("the driver has none")

    kept = device.allocate
    monkeypatch.setattr(device, "allocate", refuse)
    with pytest.raises(OutOfMemoryError, match="no room for an array"):
        arrays.empty(device, (5_000_000,), np.dtype(np.float32))
    assert len(refusals) == 2, "once more after giving idle memory back"
    monkeypatch.setattr(device, "allocate", kept)
    assert arrays.empty(device, (5_000_000,), np.dtype(np.float32)).size == 5_000_000


def test_a_driver_that_finds_no_room_when_a_kernel_starts(device):
    device.together = 1
    kernel = device.programs.of_source(NEXT, "next_number", "next_number")
    x = array(device, np.array([3, 0], np.int32))
    tries = failing_once(kernel, 1, failing(cl.status_code.MEM_OBJECT_ALLOCATION_FAILURE))
    device.launch(kernel, (1,), (1,), x)
    assert np.asarray(x).tolist() == [3, 4] and len(tries) == 2
    kernel.call = failing(cl.status_code.MEM_OBJECT_ALLOCATION_FAILURE)
    with pytest.raises(OutOfMemoryError, match="no room for memory to work with"):
        device.launch(kernel, (1,), (1,), x)
    assert np.asarray(x).tolist() == [3, 4]


def test_memory_goes_back_with_its_tensors():
    x = mg.ones((1000, 1000), backend="opencl")
    y = (x + 1)[::2]
    y.numpy()
    pool = x._data.device.pool
    used = pool.used
    del x
    gc.collect()
    assert y.numpy().sum() == 1_000_000
    del y
    gc.collect()
    assert pool.used <= used - 4_000_000


@pytest.mark.parametrize("nbytes", [0, 1, 1000, 4096, 10**6, 10**6 + 1, 2**20, 3 * 10**8])
def test_blocks_are_little_larger_than_asked_for(nbytes):
    size = memory.capacity(nbytes)
    assert size >= nbytes + memory.PADDING
    assert size <= max((nbytes + memory.PADDING) * 33 / 32, 1024)
    assert memory.capacity(size - memory.PADDING) == size


def test_memory_is_flat_while_training():
    with mg.configure(backend="opencl", seed=1):
        net = mg.nn.Sequential(mg.nn.Linear(16, 32), mg.nn.Tanh(), mg.nn.Linear(32, 4))
        adam = mg.optim.Adam(net.parameters(), lr=1e-2)
        x = mg.tensor(np.random.default_rng(0).normal(size=(24, 16)).astype(np.float32))
        t = mg.tensor(np.arange(24) % 4)
        pool = x._data.device.pool
        held, allocations = [], []
        for step in range(1000):
            loss = mg.cross_entropy(net(x), t)
            adam.zero_grad()
            loss.backward()
            adam.step()
            if step % 100 == 99:
                held.append((pool.held, _resident()))
                allocations.append(pool.allocations)
    assert loss.item() < 0.05
    assert allocations[1:] == allocations[:1] * 9, "all memory is used again"
    assert held[-1][0] == held[1][0]
    assert held[-1][1] - held[1][1] < 2_000_000


def _resident() -> int:
    """Bytes of memory that the process has, where the system tells."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, AttributeError):
        return 0


# ---- a device that is gone -------------------------------------------------------------------


def test_a_device_that_is_lost_while_a_kernel_starts(device):
    x = array(device, [1.0, 2.0])
    np.asarray(x * 3.0)
    kernel = next(iter(device.programs.fused.values()))
    kernel.call = failing(cl.status_code.DEVICE_NOT_AVAILABLE)
    for _ in range(2):  # it stays lost
        with pytest.raises(BackendError, match="is lost; start the program again, from its last"):
            np.asarray(x * 3.0)
    with pytest.raises(BackendError, match=r"failed before \(running the kernel 'multiply'"):
        array(device, [1.0])
    device.close()


@pytest.mark.parametrize("code", ["DEVICE_NOT_AVAILABLE", "INVALID_COMMAND_QUEUE"])
def test_a_device_that_is_lost_while_it_works(device, monkeypatch, code):
    x = copied(array(device, [1.0, 2.0]))
    device.flush()

    class Queue:
        finish = staticmethod(failing(getattr(cl.status_code, code)))

    monkeypatch.setattr(device, "queue", Queue())
    with pytest.raises(BackendError, match="what was on it is lost"):
        np.asarray(x)
    assert device.lost is not None and "waiting for the device" in device.lost


def test_an_error_of_the_driver_that_is_no_loss(device, monkeypatch):
    x = copied(array(device, [1.0, 2.0]))
    device.flush()
    with monkeypatch.context() as patch:
        patch.setattr(device, "queue", type("Queue", (), {"finish": staticmethod(failing(-5))})())
        with pytest.raises(BackendError, match="waiting for the device failed .*microgpt doctor"):
            np.asarray(x)
    assert np.asarray(x).tolist() == [1, 2]


def test_copies_that_fail(device, monkeypatch):
    x = array(device, np.ones(3, np.float32))
    values = np.empty(3, np.float32)
    device.write(x, np.full(3, 7, np.float32))
    device.read(x, values)
    assert values.tolist() == [7, 7, 7]
    monkeypatch.setattr(cl, "enqueue_copy", failing(cl.status_code.DEVICE_NOT_AVAILABLE))
    with pytest.raises(BackendError, match="copying to the host"):
        device.read(x, values)
    with pytest.raises(BackendError, match="failed before"):
        device.write(x, values)


# ---- odd inputs ------------------------------------------------------------------------------

SIZES = (0, 1, 63, 64, 65, 255, 256, 257)


def both(function, *inputs):
    """Results of `function` on both backends."""
    given = [[mg.tensor(x, backend=b) for x in inputs] for b in ("opencl", "numpy")]
    return [function(*xs).numpy() for xs in given]


@pytest.mark.parametrize("n", SIZES)
def test_sizes_around_those_of_vectors_and_groups(n):
    x = np.random.default_rng(n).normal(size=(3, n)).astype(np.float32)
    y = x[:, :1] if n else x
    for function in (
        lambda x, y: mg.exp(x) * y + 1,
        lambda x, y: (x - y)[:, ::-1] * 2,
        lambda x, y: mg.sum(x * y, axis=1),
        lambda x, y: x.T + 1,
        lambda x, y: x.T @ x,
    ):
        found, expected = both(function, x, y)
        assert found.shape == expected.shape and found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_nan_and_infinity():
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0] * 11, np.float32)
    functions = (mg.exp, mg.tanh, mg.sign, mg.relu, mg.isnan, mg.abs, mg.sum, mg.max, mg.softmax)
    for function in (*functions, lambda x: mg.maximum(x, 0.5), lambda x: x == x):
        found, expected = both(function, x)
        np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (0, 3), (2, 0, 4)])
def test_nothing(shape):
    x = mg.ones(shape, backend="opencl", requires_grad=True)
    y = mg.exp(x * 2) + x.sum(axis=0, keepdims=True)
    assert y.shape == shape and y.numpy().size == 0
    mg.sum(y).backward()
    assert x.grad is not None and x.grad.shape == shape and x.grad.numpy().size == 0
    assert mg.sum(x).item() == 0.0


@pytest.mark.parametrize("shape", [(2**31,), (2**16, 2**15), (2**20, 2**20)])
def test_more_elements_than_kernels_can_count(shape):
    x = mg.ones((1,) * len(shape), backend="opencl")
    with pytest.raises(ShapeError, match="2³¹ - 1 elements; got shape .* or use backend 'numpy'"):
        mg.broadcast_to(x, shape)
    with pytest.raises(ShapeError, match="2³¹ - 1 elements"):
        mg.ones((2**16, 1), backend="opencl") + mg.ones((1, 2**15), backend="opencl")
    assert (x + 1).item() == 2.0


LAYOUTS = (
    lambda x: x,
    lambda x: x.T,
    lambda x: x[::2, ::-1],
    lambda x: x[1:, 3:7],
    lambda x: mg.broadcast_to(x[:, :1], x.shape),
    lambda x: mg.broadcast_to(x[:1].reshape(1, -1, 1), (4, x.shape[1], 3)),
    lambda x: mg.flip(x.T, axis=0)[:, 2:],
)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_inputs_that_are_views_and_gradients_through_them(layout):
    x = np.random.default_rng(1).normal(size=(9, 17)).astype(np.float32)
    found = []
    for backend in ("opencl", "numpy"):
        leaf = mg.tensor(x, backend=backend, requires_grad=True)
        y = layout(leaf)
        z = mg.exp(y) * y - mg.sum(y * y)
        z.backward(mg.flip(mg.ones_like(z) * 0.5, axis=0))  # not contiguous either
        assert leaf.grad is not None
        found.append((z.numpy(), leaf.grad.numpy()))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


# ---- the end of the process ------------------------------------------------------------------


def run(code):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_interpreter_ends_with_work_in_flight():
    done = run(
        "import microgpt as mg\n"
        "x = mg.ones((1000, 1000), backend='opencl', requires_grad=True)\n"
        "for _ in range(20):\n"
        "    y = mg.exp(mg.sin(x + 1) * x)\n"
        "    z = mg.sum(y * y)\n"
        "z.backward()\n"
        "keep = [x, y, z, mg.exp(y)]\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_interpreter_ends_by_an_error_with_work_in_flight():
    done = run(
        "import sys, microgpt as mg\n"
        "x = mg.ones((1000, 1000), backend='opencl')\n"
        "y = mg.concat([mg.exp(x), x], axis=0)\n"
        "sys.exit(3)\n"
    )
    assert (done.returncode, done.stderr) == (3, "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_says_so():
    done = run(
        "import os, sys, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "import microgpt as mg\n"
        "x = mg.ones((100, 100), backend='opencl')\n"
        "y = mg.exp(x)\n"
        "(x + 1).numpy()\n"
        "y + 1\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    for use in (y.numpy, lambda: mg.zeros(3, backend='opencl').numpy()):\n"
        "        try:\n"
        "            use()\n"
        "        except mg.errors.BackendError as error:\n"
        "            print('child:', error, flush=True)\n"
        "    sys.exit(7)\n"
        "code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])\n"
        "print('parent:', code, y.numpy().shape)\n"
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    for line in lines[:2]:
        assert "opened before this process was forked" in line and "'spawn'" in line
    assert lines[2] == "parent: 7 (100, 100)"
