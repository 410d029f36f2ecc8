# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate witness run` as a process of its own."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]


class Process:
    """A witness over `folder`: its key lies in `key`, its memory in `memory`. `url` once `start` returns."""

    def __init__(self, folder: Path, name: str, *logs: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.memory = folder, folder / "memory"
        self._arguments = ["--name", name, "--key", str(folder / "key"), "--state", str(self.memory)]
        self._logs = [part for log in logs for part in ("--log", log)]
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""
        self.key = self._run("--vkey")

    def _run(self, *more: str) -> str:
        done = subprocess.run(self._command(*more), cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def _command(self, *more: str) -> list[str]:
        return [sys.executable, "-m", "clearing.cli", "witness", "run", *self._arguments, *more]

    def start(self) -> "Process":
        port_file = self.folder / "port"
        port_file.unlink(missing_ok=True)
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(*self._logs, "--port", "0", "--port-file", str(port_file)), cwd=ROOT, stderr=log
            )
        for _ in range(2_400):
            if port_file.exists():
                self.url = f"http://127.0.0.1:{port_file.read_text().strip()}"
                return self
            assert self._process.poll() is None, self.log()
            time.sleep(0.025)
        raise AssertionError("the witness did not start")

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it and wait; its exit status."""
        assert self._process is not None
        process, self._process = self._process, None
        os.kill(process.pid, number)
        return process.wait(60)

    def __enter__(self) -> "Process":
        return self if self._process is not None else self.start()

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.stop(signal.SIGKILL)
