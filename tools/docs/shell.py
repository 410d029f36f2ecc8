# SPDX-License-Identifier: GPL-3.0-or-later
"""One shell in which a page's commands run one after the other, as in a reader's terminal.

Rules:
- The shell keeps variables, the working directory and background jobs from one command to the next. Each command's
  output goes into a file, so that a process left in the background holds nobody up.
- Where the system allows it (Linux user namespaces), a page has a network of its own with nothing but localhost: it
  shows that it needs no other, and pages that use the same ports can run side by side. There its processes also end
  with it. Elsewhere the ports are the machine's.
- Nothing of the caller's environment beyond what is named here reaches the page.
"""

import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

_KEPT: Final = ("LANG", "PYTHONPYCACHEPREFIX", "SSL_CERT_FILE", "LD_LIBRARY_PATH", "USER", "TERM")
_APART: Final = ("unshare", "--user", "--map-root-user", "--net", "--pid", "--fork", "--kill-child", "--mount-proc")
# Brings `lo` up (SIOCGIFFLAGS, SIOCSIFFLAGS) and becomes the shell.
_LOOPBACK: Final = (
    "import fcntl, os, socket, struct, sys\n"
    "s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
    "flags = struct.unpack('16sH22x', fcntl.ioctl(s, 0x8913, struct.pack('16sH22x', b'lo', 0)))[1]\n"
    "fcntl.ioctl(s, 0x8914, struct.pack('16sH22x', b'lo', flags | 1))\n"
    "s.close()\n"
    "os.execvp(sys.argv[1], sys.argv[1:])\n"
)
_STATUS_FD: Final = 9


@dataclass(frozen=True)
class Ran:
    """What came of a command: exit status (None: it did not end in time), what it printed."""

    status: int | None
    output: Path
    home: Path

    def lines(self) -> list[str]:
        """The output by lines, an exit status other than 0 at its end. The reader's directory is called ~."""
        text = self.output.read_text(encoding="utf-8", errors="replace").rstrip("\n").replace(str(self.home), "~")
        found = [line.rstrip() for line in text.split("\n")] if text else []
        return [*found, f"[exit status {self.status}]"] if self.status else found


@cache
def can_be_apart() -> bool:
    """May this user make a network of its own? (The same steps, with `true` for a shell.)"""
    command = [*_APART, sys.executable, "-c", _LOOPBACK, "true"]
    try:
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def environment(home: Path) -> dict[str, str]:
    """What a page's commands see."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return kept | {"PATH": path, "HOME": str(home), "LC_ALL": "C.UTF-8", "TZ": "UTC", "COLUMNS": "110", "NO_COLOR": "1"}


class Shell:
    """bash in `home`, until `close`. `scratch` takes the scripts and outputs."""

    def __init__(self, home: Path, scratch: Path) -> None:
        self._home, self._scratch = home, scratch
        self._count = 0
        scratch.mkdir(parents=True, exist_ok=True)
        read_end, write_end = os.pipe()
        command = ["bash", "--noprofile", "--norc"]
        if can_be_apart():
            command = [*_APART, sys.executable, "-c", _LOOPBACK, *command]
        self._status = os.fdopen(read_end, "rb", buffering=0)
        # The shell gets the pipe under its own number; it says where that is on its first line.
        self._process = subprocess.Popen(
            command, cwd=home, env=environment(home), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, pass_fds=(write_end,), start_new_session=True,
        )  # fmt: skip
        os.close(write_end)
        self._tell(f"exec {_STATUS_FD}>&{write_end} {write_end}>&-" if write_end != _STATUS_FD else ":")

    def run(self, text: str, timeout_s: float) -> Ran:
        """Run a command to its end, or hand it over to the background if it ends with `&`."""
        self._count += 1
        script = self._scratch / f"{self._count}.sh"
        output = self._scratch / f"{self._count}.out"
        script.write_text(text + "\n", encoding="utf-8")
        output.touch()
        self._tell(f". '{script}' >'{output}' 2>&1 </dev/null {_STATUS_FD}>&-; echo $? >&{_STATUS_FD}")
        return Ran(self._answer(timeout_s), output, self._home)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def _answer(self, timeout_s: float) -> int | None:
        until = time.monotonic() + timeout_s
        got = b""
        while not got.endswith(b"\n"):
            ready, _, _ = select.select([self._status], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                return None
            piece = self._status.read(64)
            if not piece:
                return None
            got += piece
        return int(got)

    def close(self) -> None:
        """End the shell and everything that it started."""
        assert self._process.stdin is not None
        if can_be_apart():
            # The shell is the first process of its name space: with it the kernel ends all others.
            self._process.stdin.close()
            self._ended(5.0)
        for ending in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, ending)
            except ProcessLookupError:
                break
            self._ended(10.0)
        self._process.wait()
        self._process.stdin.close()
        self._status.close()

    def _ended(self, timeout_s: float) -> bool:
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        # What it started may take a moment longer.
        time.sleep(0.0 if can_be_apart() else 1.0)
        return True
