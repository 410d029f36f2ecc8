# SPDX-License-Identifier: GPL-3.0-or-later
"""A process beside the sequencer's that is kept running: the public interface.

Rules:
- The sequencer's process is the run: when it dies, by whatever signal, the other hears of it through a socket pair
  whose end closes, and leaves at once. When the other dies, it is started again, with a warning in the log: at once
  the first time, later and later (up to `MOST_DELAY_S`) while it keeps dying young.
- The public socket is bound here and handed down, so that a port that is taken is an error of the run, and
  connections that come while the other restarts wait in its queue instead of being refused.
- One that never became ready in `START_ATTEMPTS` attempts ends the run: nobody could use it.
- `stop` asks the other to finish what it serves, while the sequencer still answers, and only then insists.
"""

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from clearing.model.errors import NovateError

START_ATTEMPTS: Final = 5
FIRST_DELAY_S: Final = 0.1
MOST_DELAY_S: Final = 10.0
# Who lived this long died of something new.
_OLD_S: Final = 30.0
READY: Final = b"r"


class Supervisor:
    """Keeps `command` running, with `--listen-fd` and `--lifeline-fd` appended and `environment` besides ours.

    `on_ready` is called each time it serves, `on_failure` once when it never will, with NovateError API_FAILED; both on
    the supervising thread, and neither may fail.
    """

    def __init__(
        self,
        command: Sequence[str],
        listener: socket.socket,
        log: Any,
        on_ready: Callable[[], None],
        on_failure: Callable[[NovateError], None],
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._command = list(command)
        self._listener = listener
        self._log = log
        self._on_ready = on_ready
        self._on_failure = on_failure
        self._environment = dict(environment or {})
        self._stopping = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self.starts = 0
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    @property
    def pid(self) -> int | None:
        """The process that runs now."""
        child = self._child
        return child.pid if child is not None and child.returncode is None else None

    def start(self) -> None:
        self._thread.start()

    def stop(self, timeout_s: float = 20.0) -> None:
        """Have it finish, wait for that, and kill what does not. Idempotent; closes the public socket."""
        self._stopping.set()
        self._listener.close()
        with self._lock:
            child = self._child
            if child is not None and child.poll() is None:
                child.send_signal(signal.SIGTERM)
        if child is not None:
            try:
                child.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self._log.error("killing", process="api", pid=child.pid, after_seconds=timeout_s)
                child.kill()
                child.wait()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(5.0)

    # --- the supervising thread ---

    def _run(self) -> None:
        delay, ever, failures = 0.0, False, 0
        while not self._stopping.wait(delay):
            started = time.monotonic()
            status, ready = self._once()
            if self._stopping.is_set():
                return
            ever, failures = ever or ready, failures + 1
            if not ever and failures >= START_ATTEMPTS:
                message = f"the public interface ended {failures} times before it served (last with status {status})"
                self._on_failure(NovateError("API_FAILED", f"{message}; the log above says why"))
                return
            young = time.monotonic() - started < _OLD_S
            delay = min(MOST_DELAY_S, 2 * delay) if young and delay else FIRST_DELAY_S
            self._log.warning("restarting", process="api", status=status, was_ready=ready, in_seconds=round(delay, 2))

    def _once(self) -> tuple[int | str, bool]:
        """One life of it: its exit status (negative: the signal), or why it did not start; whether it served."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                try:
                    child = self._spawn(theirs)
                except OSError as error:
                    return f"not started: {error.strerror}", False
            ready = child is not None and self._wait_ready(ours)
            return child.wait() if child is not None else 0, ready

    def _spawn(self, lifeline: socket.socket) -> "subprocess.Popen[bytes] | None":
        """Start it; None when we are stopping."""
        with self._lock:
            if self._stopping.is_set():
                return None
            self.starts += 1
            fds = (self._listener.fileno(), lifeline.fileno())
            command = [*self._command, "--listen-fd", str(fds[0]), "--lifeline-fd", str(fds[1])]
            environment = os.environ | self._environment
            self._child = subprocess.Popen(command, pass_fds=fds, stdin=subprocess.DEVNULL, env=environment)
            return self._child

    def _wait_ready(self, lifeline: socket.socket) -> bool:
        """Whether it said that it serves, before it ended."""
        with contextlib.suppress(OSError):
            if lifeline.recv(1) == READY:
                self._on_ready()
                return True
        return False
