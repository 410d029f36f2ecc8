# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk that forgets what was not synced, and a process that dies between any two of its system calls.

Rules: the code under test runs as it is, on real files. What is added is bookkeeping at `os.fsync` and `os.link`: which
names and contents a file system has promised to keep. `lose_power` then takes away any part of the rest. Directories
above the watched one are made for good.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


class Killed(BaseException):
    """The process ends here: nothing may be caught or tidied up."""


class Disk:
    """Watches one directory of small files. `die_after` system calls from now the process is killed (None: never)."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self._folder = folder
        self._names: dict[str, int] = {}
        self._contents: dict[int, bytes] = {}
        self.die_after: int | None = None
        patch.setattr(os, "fsync", self._fsync)
        for name in ("link", "unlink"):
            patch.setattr(os, name, self._counted(getattr(os, name)))

    def _tick(self) -> None:
        if self.die_after is not None:
            self.die_after -= 1
            if self.die_after < 0:
                raise Killed

    def _counted(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **choices: Any) -> Any:
            self._tick()
            done = real(*arguments, **choices)
            self._tick()
            return done

        return call

    def _fsync(self, descriptor: int) -> None:
        self._tick()
        found = os.fstat(descriptor)
        if self._folder.exists() and found.st_ino == self._folder.stat().st_ino:
            self._names = {path.name: path.stat().st_ino for path in self._folder.iterdir()}
        else:
            self._contents[found.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()
        self._tick()

    def lose_power(self, keeps: Callable[[], int]) -> None:
        """Unsynced names vanish or stay, unsynced contents are cut; `keeps` decides (0: all is lost that may be)."""
        held = {path.name: path for path in self._folder.iterdir()}
        for path in held.values():
            content, synced = path.read_bytes(), self._contents.get(path.stat().st_ino, b"")
            if content != synced:
                path.write_bytes(content[: max(len(synced), keeps() % (len(content) + 1))])
        for name, path in held.items():
            if name not in self._names and not keeps():
                path.unlink()
        self._names = {path.name: path.stat().st_ino for path in self._folder.iterdir()}
