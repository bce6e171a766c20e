"""One OpenCL device: its queue, its memory, its kernels, and what is worth knowing about it."""

from __future__ import annotations

import os
from collections import Counter, deque
from threading import RLock
from typing import Any
from weakref import WeakSet

import numpy as np

from microgpt.errors import BackendError
from microgpt_opencl.arrays import Array
from microgpt_opencl.memory import ALIGNMENT, Memory, Pool
from microgpt_opencl.platforms import driver
from microgpt_opencl.processors import introduce, matrix_unit
from microgpt_opencl.programs import Kernel, Programs

_opened: WeakSet[Device] = WeakSet()

ONES = ((1,), (1, 1), (1, 1, 1))
"""Local sizes of work-groups of one work-item."""

TOGETHER = 32
"""Launches that are handed to a processor's driver at once: each time its threads wake up, which
costs as much as a small kernel. Other devices should begin early."""

ALONE = 256
"""The same where the process has one core: host and driver take it from each other, nothing is
gained by beginning early, and kernels do better one after the other, with warm caches."""

AHEAD = 512
"""Launches by which the host may be ahead, twice over: the driver remembers all of them."""

GEMM = ("kernel", "vectors", "blas")
"""What can compute matrix products on a processor: our kernels, on its matrix unit where it has
one, or without; or the BLAS of NumPy, which works on the same memory."""


def _errors() -> Any:
    return driver().Error


class Device:
    """A device in use. All work goes through one queue, in order, under one lock.

    Attributes:
        name: what people write to select it: platform and device number, ``"0:1"``.
        processor: the name that kernels are compiled for, if the driver's own was wrong.
        cpu: whether it is a processor of the host. Kernels are then written with vectors and
            loops; on other devices, with one small work-item per element.
        unified: whether the host sees the device's memory without copying.
        width: lanes of a vector of float32 that the device likes.
        matrix_unit: whether kernels may use AMX.
        gemm: what computes matrix products on a processor, one of `GEMM`: see `multiply_by`.
        tiles, blas: whether that is the matrix unit for large products, or NumPy's BLAS.
        activity: how often each kernel was launched, and what else was done, by name.
        moved: bytes copied from the host (``"to device"``) and back (``"to host"``).
        together: launches that are handed to the driver at once.
        siblings: expressions that could be computed in one launch: see the module of that name.
        launches, finished: kernels launched so far, and how many of them are known to be done.
        lost: why the device cannot be used any more, None as long as it can.
    """

    def __init__(self, name: str, cl_device: Any, cpu: bool | None = None) -> None:
        cl = driver()
        self.name = name
        self.cl_device = cl_device
        self.title = cl_device.name.strip()
        self.version = cl_device.version.strip()
        self.driver = cl_device.driver_version.strip()
        self.platform = cl_device.platform.version.strip()
        self.processor = introduce(cl_device)
        self.lock = RLock()
        self.cpu = bool(cl_device.type & cl.device_type.CPU) if cpu is None else cpu
        self.units = cl_device.max_compute_units
        self.capacity = cl_device.global_mem_size
        self.largest = cl_device.max_mem_alloc_size
        self.local_memory = cl_device.local_mem_size
        self.max_local = cl_device.max_work_group_size
        self.double = bool(getattr(cl_device, "double_fp_config", 0))
        self.width = _width(cl_device) if self.cpu else 1
        self.matrix_unit = self.cpu and matrix_unit(cl_device)
        self.activity: Counter[str] = Counter()
        self.moved: Counter[str] = Counter()
        self._waiting: list[tuple[Kernel, Any, Any, list[Any]]] = []
        self.siblings: dict[tuple[Any, ...], list[Any]] = {}
        self.together = (ALONE if _cores() == 1 else TOGETHER) if self.cpu else 1
        if self.title.startswith("basic"):
            self.together = 1  # PoCL's device without threads: it waits for ever at a closed gate
        self._handed = 0
        self._marks: deque[tuple[int, Any]] = deque()
        self.launches = 0
        self.finished = 0
        self.lost: str | None = None
        self._forked = False
        try:
            self.context = cl.Context([cl_device])
            self.queue = cl.CommandQueue(self.context)
        except (cl.Error, RuntimeError) as error:
            raise BackendError(
                f"device {name} ({self.title}) cannot be opened: {error}; it may be in use by "
                "another program, or its driver may need an update"
            ) from error
        self.unified = False
        self.pool = Pool(self)
        self.programs = Programs(self)
        self.kernel = self.programs.kernel
        self.unified = self.cpu and bool(cl_device.host_unified_memory) and self._coherent()
        self.multiply_by(os.environ.get("MICROGPT_OPENCL_GEMM", GEMM[0]))
        self.activity.clear()
        _opened.add(self)

    def multiply_by(self, way: str) -> None:
        """Choose what computes matrix products from now on.

        Args:
            way: one of `GEMM`. Graphics cards have their own kernel in any case.

        Raises:
            BackendError: if it is something else.
        """
        if way not in GEMM:
            raise BackendError(
                f"MICROGPT_OPENCL_GEMM must be one of {', '.join(GEMM)}; got {way!r}"
            )
        self.gemm = way
        self.blas = self.unified and way == "blas"
        self.tiles = self.matrix_unit and way == "kernel"

    def _coherent(self) -> bool:
        """Whether device and host see what the other wrote without mapping memory."""
        self.unified = True
        here, there = self.allocate(1024), self.allocate(1024)
        self.unified = False
        if here.host is None or there.host is None:
            return False
        for number in (5, 11):
            here.host[:] = number
            driver().enqueue_copy(self.queue, there.buffer, here.buffer)
            self.finish()
            if not (there.host == number).all():
                return False
        return True

    # ---- memory --------------------------------------------------------------------------

    def allocate(self, size: int) -> Memory:
        """New memory from the driver.

        Raises:
            MemoryError: if there is none.
        """
        cl = driver()
        flags = cl.mem_flags
        try:
            if self.unified:
                space = np.empty(size + ALIGNMENT, np.uint8)
                first = -space.ctypes.data % ALIGNMENT
                host = space[first : first + size]
                buffer = cl.Buffer(
                    self.context, flags.READ_WRITE | flags.USE_HOST_PTR, hostbuf=host
                )
                return Memory(self, buffer, host, size)
            return Memory(self, cl.Buffer(self.context, flags.READ_WRITE, size), None, size)
        except (cl.MemoryError, MemoryError) as error:
            raise MemoryError(str(error)) from error
        except cl.Error as error:
            raise self._failed("allocating memory", error) from error

    # ---- work ----------------------------------------------------------------------------

    def launch(
        self, kernel: Kernel, groups: tuple[int, ...], local: tuple[int, ...] | None, *args: Any
    ) -> None:
        """Run `kernel` on `groups` work-groups of `local` work-items each.

        Without `local` the driver forms the groups, and `groups` counts the work-items. Arrays
        among the arguments become two: their buffer and the place of their first element.
        """
        flat: list[Any] = []
        for a in args:
            if type(a) is Array:
                flat += (a.block.buffer, a.start)  # pyright: ignore[reportOptionalMemberAccess]
            else:
                flat.append(a)
        if local is not None and local not in ONES:
            groups = tuple([g * n for g, n in zip(groups, local, strict=True)])
        self.submit(kernel, groups, local, flat)

    def submit(
        self, kernel: Kernel, size: tuple[int, ...], local: tuple[int, ...] | None, args: list[Any]
    ) -> None:
        """Like `launch`, with the number of work-items in all, and buffers and numbers alone."""
        with self.lock:
            if self.lost is not None:
                raise self._unusable()
            self._waiting.append((kernel, size, local, args))
            self.launches += 1
            self.activity[kernel.label] += 1
            if len(self._waiting) >= self.together:
                self.flush(known=1)

    def flush(self, known: int = 0) -> None:
        """Hand to the driver what is waiting for that.

        Several launches are held back by a gate until all are there: a processor's driver would
        otherwise wake a thread up for each, which takes the core from the host in between.

        Args:
            known: how many of the last launches are still in the hands of their callers, who hear
                of a failure at once. The results of earlier ones are in use already, as if they had
                been computed, so when one of these fails the device counts as lost.
        """
        with self.lock:
            gates = [self._gate()] if len(self._waiting) > 1 else []
            waiting, self._waiting = self._waiting, []
            before, event = self._handed, None
            try:
                for kernel, size, local, args in waiting:
                    self.ask()
                    try:
                        event = kernel.call(self.queue, size, local, *args, wait_for=gates or None)
                        self._handed += 1
                    except _errors() as error:
                        self._handed += 1
                        _open(gates)  # `_again` may wait for what is behind it
                        first = None if known and len(waiting) == 1 else self._handed
                        try:
                            self._again(kernel, size, local, args, error, first)
                        except Exception as failure:
                            earlier = self._handed - before <= len(waiting) - known
                            if earlier and self.lost is None:
                                self.lost = str(failure)
                            raise
            except KeyboardInterrupt:
                self._waiting = waiting[self._handed - before :]  # the user may go on
                raise
            finally:
                _open(gates)
            if event is not None:
                self._marks.append((self._handed, event))
            if self._handed - self.finished > 2 * AHEAD:
                self._wait_for(self._handed - AHEAD)

    def _gate(self) -> Any:
        """An event that has not happened until its status is set."""
        try:
            return driver().UserEvent(self.context)
        except _errors() as error:
            raise self._failed("handing launches over", error) from error

    def look(self) -> None:
        """Find out, without waiting, what is done by now."""
        done = driver().command_execution_status.COMPLETE
        while self._marks and self._marks[0][1].command_execution_status == done:
            self.finished = self._marks.popleft()[0]

    def _wait_for(self, count: int) -> None:
        """Wait until the first `count` launches are done, or nearly."""
        last = None
        while self._marks and self._marks[0][0] <= count:
            last = self._marks.popleft()
        if last is None:
            return
        try:
            last[1].wait()
        except driver().Error as error:
            raise self._failed("waiting for the device", error) from error
        self.finished = last[0]

    def _again(
        self, kernel: Kernel, size: Any, local: Any, args: list[Any], error: Any, first: int | None
    ) -> None:
        """Try a launch once more if it was for want of memory; `first`: see `Pool.trim`."""
        failure = self._failed(f"running the kernel '{kernel.label}'", error)
        if not isinstance(failure, MemoryError):
            raise failure from error
        # Graphics drivers find room for a buffer when it is used first.
        self.pool.trim(first)
        try:
            # Waiting for the queue has made this launch count as finished already.
            kernel.call(self.queue, size, local, *args).wait()
        except _errors() as again:
            raise failure from again

    def finish(self) -> None:
        """Wait until all work is done."""
        cl = driver()
        with self.lock:
            self.ask()
            self.flush()
            try:
                self.queue.finish()
            except cl.Error as error:
                raise self._failed("waiting for the device", error) from error
            self.finished = self._handed  # not those that `flush` has in hand after a failure
            self._marks.clear()

    def count_copy(self, nbytes: int) -> None:
        """Count bytes that are copied from the host."""
        self.moved["to device"] += nbytes
        self.activity["copy to device"] += 1

    def write(self, x: Any, values: np.ndarray) -> None:
        """Copy `values`, row by row, into the memory of `x`."""
        offset = x.start * values.itemsize
        self._copy("copying to the device", x.block.buffer, values, dst_offset=offset)

    def read(self, x: Any, values: np.ndarray) -> None:
        """Copy the memory of `x`, which lies row by row, into `values`."""
        offset = x.start * values.itemsize
        self._copy("copying to the host", values, x.block.buffer, src_offset=offset)

    def _copy(self, doing: str, to: Any, source: Any, **offset: Any) -> None:
        cl = driver()
        with self.lock:
            self.ask()
            self.flush()
            try:
                cl.enqueue_copy(self.queue, to, source, is_blocking=True, **offset)
            except cl.Error as error:
                raise self._failed(doing, error) from error

    # ---- the end -------------------------------------------------------------------------

    def close(self) -> None:
        """Wait for the work in flight, whatever became of it."""
        if self.lost is not None:
            return
        try:
            self.flush()
            self.queue.finish()
        except Exception as error:  # the process ends: nobody is left to tell
            self.lost = str(error)

    def disown(self) -> None:
        """Called in a forked process, to which the device does not belong."""
        self.lock = RLock()  # a thread that is not there any more may have held the old one
        self._forked = True
        self._waiting = []
        self.lost = "the process was forked"

    def ask(self) -> None:
        """Complain if the device cannot be used any more.

        Raises:
            BackendError: if it is lost, or belongs to the process from which this was forked.
        """
        if self.lost is not None:
            raise self._unusable()

    def _unusable(self) -> BackendError:
        if self._forked:
            return BackendError(
                f"device {self.name} ({self.title}) was opened before this process was forked, and "
                "OpenCL does not survive that; start processes with "
                "multiprocessing.get_context('spawn'), or fork before the first use of the device"
            )
        return BackendError(
            f"device {self.name} ({self.title}) failed before ({self.lost}), and what was on it is "
            "lost; start the program again, from its last checkpoint if it has one"
        )

    def _failed(self, doing: str, error: Any) -> Exception:
        """The error to raise for one of OpenCL's."""
        cl = driver()
        codes = cl.status_code
        code = getattr(error, "code", None)
        if code in (
            codes.MEM_OBJECT_ALLOCATION_FAILURE, codes.OUT_OF_HOST_MEMORY,
            codes.INVALID_BUFFER_SIZE,
        ):  # fmt: skip
            return self.pool.refused()
        # -9999: how NVIDIA's driver says that a kernel wrote where it must not
        if code in (codes.DEVICE_NOT_AVAILABLE, -9999, codes.INVALID_COMMAND_QUEUE):
            self.lost = f"{doing}: {error}"
            return self._unusable()
        return BackendError(
            f"{doing} failed on device {self.name} ({self.title}): {error}; "
            "`microgpt doctor` shows whether the driver works"
        )


def _open(gates: list[Any]) -> None:
    """Let go what waits behind gates that are still closed."""
    while gates:
        gates.pop().set_status(driver().command_execution_status.COMPLETE)


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not on Windows and macOS
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _width(cl_device: Any) -> int:
    """Lanes of float32 that fill the registers, as the device says; 8 where it does not.

    Compilers that make vectors of scalar code by themselves prefer 1, but take them as well.
    """
    told = cl_device.preferred_vector_width_float, cl_device.native_vector_width_float
    return next((width for width in told if width in (4, 8, 16)), 8)


def _after_fork() -> None:
    for device in list(_opened):
        device.disown()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_after_fork)
