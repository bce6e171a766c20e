"""Ctrl-C and SIGTERM as a flag that is looked at between steps."""

from __future__ import annotations

import signal
import threading
from typing import Any

from microgpt.train.run import StopTraining


class Interrupts:
    """For a block: the first SIGINT or SIGTERM is remembered instead of ending the process.

    A SIGINT that comes after that raises KeyboardInterrupt at once. Signals that the process
    ignores (SIGINT of a job in the background) stay ignored. Outside the main thread, where
    Python sets no handlers, nothing is caught.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        """The number of the signal that came first."""
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                before = signal.getsignal(number)
                # None: a handler that is not Python's, which could not be put back.
                if before not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _handle(self, number: int, frame: Any) -> None:
        if self.received is None:
            self.received = number
        elif number == signal.SIGINT:
            raise KeyboardInterrupt

    def pause(self) -> None:
        """Raise `StopTraining` if a signal has come."""
        if self.received is not None:
            raise StopTraining
