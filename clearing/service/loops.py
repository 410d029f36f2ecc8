# SPDX-License-Identifier: GPL-3.0-or-later
"""Background parts of the operator: a thread that calls something now and then, and what went wrong last.

Rules: a part that fails is called again; its fault is logged when it changes and when it is over. Only a fault that
no later attempt can mend ends it, and then people must look.
"""

import threading
import time
from collections.abc import Callable
from typing import Any, Final

_HOPELESS: Final = ("FREEZE_DIVERGED", "INBOX_DIVERGED", "POST_DIVERGED", "VAULT_FROZEN", "WRONG_CHAIN", "WRONG_VAULT")


class Faults:
    """The last fault per part; a fault is logged when it changes and when it is over."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._last: dict[str, str] = {}
        self._lock = threading.Lock()

    def report(self, part: str, error: BaseException) -> None:
        code = getattr(error, "code", type(error).__name__)
        with self._lock:
            changed = self._last.get(part) != code
            self._last[part] = code
        if changed:
            self._log.error("fault", part=part, code=code, message=str(error))

    def clear(self, part: str) -> None:
        with self._lock:
            over = self._last.pop(part, None)
        if over is not None:
            self._log.info("fault over", part=part, code=over)

    def current(self) -> dict[str, str]:
        with self._lock:
            return dict(self._last)


class Loop:
    """Calls `turn` every `seconds` (0: never) and `poked` soon after `poke`, on a thread of its own."""

    def __init__(
        self,
        name: str,
        seconds: float,
        turn: Callable[[], object],
        faults: Faults,
        poked: Callable[[], object] | None = None,
    ) -> None:
        self._name, self._seconds, self._turn, self._poked, self._faults = name, seconds, turn, poked, faults
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def poke(self) -> None:
        """Have `poked` called soon; any thread may."""
        self._wake.set()

    def stop(self, timeout_s: float = 10.0) -> None:
        self._stopped = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        due = time.monotonic() + self._seconds
        while True:
            poked = self._wake.wait(max(0.0, due - time.monotonic()) if self._seconds else None)
            self._wake.clear()
            if self._stopped:
                return
            work = self._poked if poked else self._turn
            if not poked:
                due = time.monotonic() + self._seconds
            if work is not None and not self._attempt(work):
                return

    def _attempt(self, work: Callable[[], object]) -> bool:
        """Do it; False when no later attempt could help."""
        try:
            work()
            self._faults.clear(self._name)
        except Exception as error:  # noqa: BLE001 - reported, and tried again
            self._faults.report(self._name, error)
            return getattr(error, "code", "") not in _HOPELESS
        return True
