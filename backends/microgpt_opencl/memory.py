"""Memory of a device, taken once and used again: asking the driver for it is slow.

Blocks go back to the pool when the last array that lies in them is gone. They may be given out
again at once, because the queue of a device does its work in order: what was handed to it before
is done before what comes later.

A request gets the smallest idle block that is large enough (best fit), if that is at most half as
large again. Otherwise the driver is asked, and idle blocks, the largest first, are given back until
no more than a tenth above the most that was ever in use is held. In the training of a GPT with 11
million parameters this holds 14 % more than its arrays have bytes, and from the fourth step on asks
the driver once a step; with exact sizes and no reserve it is a hundred times.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from microgpt.errors import OutOfMemoryError

if TYPE_CHECKING:
    from microgpt_opencl.device import Device

PADDING = 256
"""Bytes behind the elements of a block, so that a vector may be read and written past the end."""

ALIGNMENT = 128
STEPS = 32
"""Capacities between one power of two and the next: at most a 32nd of a block is unused."""

LARGER = 1.5
"""How many times larger than the right capacity an idle block may be, to do as well."""

RESERVE = 1 << 24
"""Bytes, beyond the most that was in use, that may lie idle in any case; else a tenth of that."""


@lru_cache(maxsize=4096)
def capacity(nbytes: int) -> int:
    """The size of the block that serves a request of `nbytes`."""
    wanted = nbytes + PADDING
    if wanted <= 1024:
        return 1024
    step = max(1 << (wanted - 1).bit_length() - 1, STEPS) // STEPS
    return -(-wanted // step) * step


WAITING = 1 << 22
"""Bytes of one size that may be waiting for work in flight when the host needs some to write."""


class Memory:
    """A piece of device memory, and the same bytes as the host sees them where it can.

    Attributes:
        device: the device that it is of.
        home: the idle memory of its size, where it goes when nobody uses it any more.
        seen: launches that there had been on the device when it went there: once they are done,
            nothing in flight uses it.
    """

    __slots__ = ("buffer", "device", "home", "host", "seen", "size")

    def __init__(self, device: Device, buffer: Any, host: np.ndarray | None, size: int) -> None:
        self.device = device
        self.buffer = buffer
        self.host = host
        self.size = size
        self.seen = 0
        self.home: list[Memory] = []


class Block:
    """Memory in use. When the last reference to it goes, the memory returns to its pool.

    Attributes:
        from_host: whether the host wrote it, and no kernel since: the host may read it at once.
    """

    __slots__ = ("buffer", "from_host", "memory")

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.buffer = memory.buffer
        self.from_host = False

    def __del__(self) -> None:
        # This may run in any thread and in the middle of anything: appending is all it may do.
        memory = self.memory
        memory.seen = memory.device.launches
        memory.home.append(memory)


def last(idle: list[Memory]) -> Memory | None:
    """Take the last block of a list. Another thread may take one at any time, see `empty`."""
    try:
        return idle.pop()
    except IndexError:
        return None


Form = tuple[tuple[int, ...], int, list[Memory]]
"""Of arrays of one shape and type: their strides, their bytes, the idle blocks of that size."""


class Pool:
    """The memory that this process holds on one device."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.held = 0
        """Bytes taken from the device."""
        self.peak = 0
        """The most that was held at once."""
        self.most_used = 0
        """The most that was in use at once, as far as known: whenever there was not enough idle."""
        self.allocations = 0
        """How often the device was asked for memory."""
        self._idle: dict[int, list[Memory]] = {}
        """By size. A list stays when it is empty: memory in use and `forms` refer to it."""
        self.forms: dict[tuple[tuple[int, ...], np.dtype], Form] = {}

    def take(self, nbytes: int) -> Block:
        """A block with room for `nbytes`; call it while holding the device's lock.

        Raises:
            OutOfMemoryError: if the device has no more.
        """
        size = capacity(nbytes)
        idle = self._idle.get(size) or self._fitting(size)
        # The last that came back: it may still be in the processor's cache.
        return Block((last(idle) if idle else None) or self._new(size))

    def idle_of(self, nbytes: int) -> list[Memory]:
        """The idle blocks of the size that serves a request of `nbytes`, now and later."""
        return self._idle.setdefault(capacity(nbytes), [])

    def take_quiet(self, nbytes: int) -> Block:
        """Like `take`, a block that no work in flight uses: the host may write it at once.

        As long as that is little memory, it is another block rather than waiting for the device.
        """
        size = capacity(nbytes)
        idle = self._idle.setdefault(size, [])
        if not any(memory.seen <= self.device.finished for memory in idle):
            self.device.look()
        done = self.device.finished
        for i, memory in enumerate(idle):
            if memory.seen <= done:
                return Block(idle.pop(i))
        if size * (len(idle) + 1) <= WAITING:
            return Block(self._new(size))
        self.device.finish()
        return self.take(nbytes)

    def _fitting(self, size: int) -> list[Memory] | None:
        """The idle blocks of the smallest size that does for `size`."""
        most = size * LARGER
        found = min([n for n, idle in self._idle.items() if idle and size < n <= most], default=0)
        return self._idle[found] if found else None

    @property
    def idle(self) -> int:
        """Bytes held that nobody uses at the moment."""
        with self.device.lock:
            return sum([size * len(idle) for size, idle in self._idle.items()])

    @property
    def used(self) -> int:
        """Bytes in use."""
        return self.held - self.idle

    def _new(self, size: int) -> Memory:
        self.most_used = max(self.most_used, self.used + size)
        reserve = max(self.most_used // 10, RESERVE)
        self._release(self.held + size - (self.most_used + reserve))
        if size > self._room():
            self._release(size - self._room())
            if size > self._room():
                raise self.refused(size)
        try:
            memory = self.device.allocate(size)
        except MemoryError:
            self.trim()
            try:
                memory = self.device.allocate(size)
            except MemoryError as error:
                raise self.refused(size) from error
        memory.home = self._idle.setdefault(size, [])
        self.held += size
        self.peak = max(self.peak, self.held)
        self.allocations += 1
        return memory

    def _room(self) -> int:
        """Bytes that a new block may have."""
        return min(self.device.largest, self.device.capacity - self.held)

    def refused(self, size: int | None = None) -> OutOfMemoryError:
        """The error for a request of `size` bytes, or of the driver itself."""
        device = self.device
        asked = "memory to work with" if size is None else f"an array of {_mb(size)}"
        left = max(device.capacity - self.held, 0)
        return OutOfMemoryError(
            f"device {device.name} ({device.title}) has no room for {asked}: this process holds "
            f"{_mb(self.held)} ({_mb(self.used)} in use) of its {_mb(device.capacity)}, so that at "
            f"most {_mb(left)} are available, and one array may have {_mb(device.largest)}; use "
            "smaller batches, or drop tensors and graphs that are not needed any more"
        )

    def trim(self, before: int | None = None) -> None:
        """Give all idle memory back to the device.

        Args:
            before: the number of a launch: it and later ones are not with the driver yet, so what
                they may use is kept. None if there is no such launch.
        """
        with self.device.lock:
            self._release(self.idle, before)

    def _release(self, nbytes: int, before: int | None = None) -> None:
        """Give at least `nbytes` of the idle memory back, as far as there is so much."""
        if nbytes <= 0 or not any(self._idle.values()):
            return
        self.device.finish()  # work in flight may still use it
        for size in sorted(self._idle, reverse=True):
            idle, kept = self._idle[size], []
            while nbytes > 0 and (memory := last(idle)) is not None:
                if before is not None and memory.seen >= before:
                    kept.append(memory)
                    continue
                memory.buffer.release()
                self.held -= size
                nbytes -= size
            idle += kept[::-1]


def _mb(count: int) -> str:
    return f"{count / 1e6:,.0f} MB" if count >= 1e7 else f"{count / 1e6:.1f} MB"
