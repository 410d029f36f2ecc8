# SPDX-License-Identifier: GPL-3.0-or-later
"""How a process is told to stop.

An Event of `threading` may not be set in a signal's handler: the thread that it interrupts may hold the Event's own
lock. Nor does a handler suffice by itself: it runs in the main thread, and a signal that the kernel gives to another
thread does not wake the main one from a system call. So the signal's number goes through a pipe that the main thread
reads, written by the C handler, whichever thread it runs in.
"""

import contextlib
import os
import select
import signal
import time
from typing import Final, Protocol

STOPPING: Final = (signal.SIGTERM, signal.SIGINT)


class Stop(Protocol):
    """What a loop asks between its turns: a `Doorbell`, or an Event."""

    def is_set(self) -> bool: ...

    def wait(self, timeout: float | None = None) -> bool: ...


class Doorbell:
    """Rung once, by a signal or any thread; it stays rung. `close` it where it was made."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)  # as set_wakeup_fd wants it: when the pipe is full, there is enough to read
        self._rung = False
        self._listens = False

    def answer_signals(self, *numbers: signal.Signals) -> None:
        """Be rung by `numbers`, which are SIGTERM and SIGINT unless given. In the main thread only."""
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._listens = True
        for number in numbers or STOPPING:
            signal.signal(number, lambda *_: self.ring())

    def ring(self) -> None:
        self._rung = True
        with contextlib.suppress(OSError):  # full, or closed: a signal that comes after the end
            os.write(self._write, b"!")

    def is_set(self) -> bool:
        return self._rung

    def wait(self, timeout: float | None = None) -> bool:
        """Until it is rung, or for `timeout` seconds; whether it was. Other signals' handlers run meanwhile."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self._rung:
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            if select.select([self._read], [], [], left)[0]:
                os.read(self._read, 1 << 10)  # and the handler runs, before the next look
        return self._rung

    def close(self) -> None:
        if self._listens:
            signal.set_wakeup_fd(-1)
        for end in (self._read, self._write):
            os.close(end)
        self._read = self._write = -1  # the numbers may be another file's now
