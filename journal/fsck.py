# SPDX-License-Identifier: GPL-3.0-or-later
"""fsck: is this journal whole? `python -m journal.fsck PATH` prints the answer.

Rules:
- The reading runs in a child process. LMDB maps the file: a damaged page can end the reader with
  SIGSEGV, SIGBUS or abort, or send it round in circles. That is a finding here, not a crash.
- The journal is not changed, and no writer can start while it is examined.
- Exit codes: 0 whole, 1 damaged, 2 usage or nothing to read.
"""

import contextlib
import mmap
import os
import selectors
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import msgspec

from journal import errors
from journal.errors import JournalError
from journal.layout import DATA

DEFAULT_STALL_S: Final = 120.0
CHECK_CRASHED: Final = "CHECK_CRASHED"
CHECK_STALLED: Final = "CHECK_STALLED"
_PAGE_CHECK_BYTES_PER_S: Final = 4e6
_BEAT: Final = struct.Struct("=QQ")  # how often told, seq


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding. `seq` is the entry from which on the journal is not to be believed, where known."""

    code: str
    reason: str
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The result of a check: `entries` and `blocks` verified, `root` (hex) of the tree over them."""

    path: str
    entries: int = 0
    blocks: int = 0
    root: str = ""
    problems: tuple[Problem, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    @property
    def first_bad_seq(self) -> int | None:
        """The lowest seq that a problem names."""
        return min((found.seq for found in self.problems if found.seq is not None), default=None)

    def lines(self) -> Iterable[str]:
        """The report for people."""
        yield f"{self.path}: {'whole' if self.ok else 'DAMAGED'}"
        yield f"  verified: {self.entries} entries in {self.blocks} blocks, root {self.root or '-'}"
        for problem in self.problems:
            where = "" if problem.seq is None else f" (from seq {problem.seq})"
            yield f"  {problem.code}{where}: {problem.reason}"
        for warning in self.warnings:
            yield f"  note: {warning}"


def fsck(path: str | os.PathLike[str], stall_s: float = DEFAULT_STALL_S) -> Report:
    """Check the journal at `path`. Damage is in the report, whatever it does to the reading process.

    Raises JournalError: JOURNAL_NOT_FOUND, JOURNAL_UNREADABLE.
    """
    with Checker(stall_s) as checker:
        return checker.check(path)


class Checker:
    """A child process that examines one journal after another, and is replaced when one kills it."""

    def __init__(self, stall_s: float = DEFAULT_STALL_S) -> None:
        """`stall_s`: seconds without progress after which the child is taken to be going in circles."""
        self._stall_s = stall_s
        self._child: subprocess.Popen[bytes] | None = None
        self._beat_file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._beat_file.write(bytes(_BEAT.size))
        self._beat_file.flush()
        self._beat = mmap.mmap(self._beat_file.fileno(), _BEAT.size)

    def check(self, path: str | os.PathLike[str]) -> Report:
        """Examine one journal; see `fsck`."""
        name = os.fspath(Path(path).absolute())
        self._beat[:] = bytes(_BEAT.size)
        child = self._child or self._start()
        assert child.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died since; _answer sees that
            child.stdin.write(msgspec.json.encode(name) + b"\n")
            child.stdin.flush()
        line, stalled = self._answer(child, self._stall_s + _page_check_s(Path(name)))
        if not line:
            return self._death(name, child, stalled)
        report = msgspec.json.decode(line, type=Report)
        for problem in report.problems:
            if problem.code in (errors.JOURNAL_NOT_FOUND, errors.JOURNAL_UNREADABLE):
                raise JournalError(problem.code, problem.reason)
        return report

    def _start(self) -> "subprocess.Popen[bytes]":
        root = os.fspath(Path(__file__).resolve().parent.parent)
        inherited = os.environ.get("PYTHONPATH")
        self._child = subprocess.Popen(
            [sys.executable, "-m", "journal.fsck", "--serve", str(self._beat_file.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=(self._beat_file.fileno(),),
            env={**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{inherited}" if inherited else root},
        )
        return self._child

    def _answer(self, child: "subprocess.Popen[bytes]", stall_s: float) -> tuple[bytes, bool]:
        """The child's line, or nothing and whether that is because it made no progress."""
        assert child.stdout is not None
        last, since = bytes(self._beat[:]), time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            while not selector.select(timeout=min(1.0, stall_s / 4)):
                now = bytes(self._beat[:])
                if now != last:
                    last, since = now, time.monotonic()
                elif time.monotonic() - since > stall_s:
                    return b"", True
            line = child.stdout.readline()
        return (line, False) if line.endswith(b"\n") else (b"", False)

    def _death(self, name: str, child: "subprocess.Popen[bytes]", stalled: bool) -> Report:
        told, seq = _BEAT.unpack(self._beat[:])
        self._stop(child)
        if stalled:
            code, reason = CHECK_STALLED, f"reading made no progress for {self._stall_s:g} s"
        elif child.returncode < 0:
            code, reason = CHECK_CRASHED, f"reading ended with {signal.Signals(-child.returncode).name}"
        else:
            code, reason = CHECK_CRASHED, f"reading ended with exit code {child.returncode}"
        where = seq if told else None
        return Report(name, entries=seq, problems=(Problem(code, f"{reason}: a page is damaged", where),))

    def _stop(self, child: "subprocess.Popen[bytes]") -> None:
        self._child = None
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            child.wait(timeout=1.0)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()

    def close(self) -> None:
        """End the child. Safe to call twice."""
        if self._child is not None:
            self._stop(self._child)
        if not self._beat_file.closed:
            self._beat.close()
            self._beat_file.close()

    def __enter__(self) -> "Checker":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _page_check_s(path: Path) -> float:
    """Time allowed for the page structure, which is read before the first sign of progress."""
    try:
        return (path / DATA).stat().st_size / _PAGE_CHECK_BYTES_PER_S
    except OSError:
        return 0.0


def _serve(beat_fd: int) -> None:
    """The child: one JSON path per line in, one JSON report per line out."""
    import resource

    from journal.examine import examine

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    beat = mmap.mmap(beat_fd, _BEAT.size)
    told = 0

    def progress(seq: int) -> None:
        nonlocal told
        told += 1
        _BEAT.pack_into(beat, 0, told, seq)

    for line in sys.stdin.buffer:
        path = msgspec.json.decode(line, type=str)
        found = examine(Path(path), progress)
        problems = tuple(Problem(*problem) for problem in found.problems)
        report = Report(path, found.entries, found.blocks, found.root.hex(), problems, tuple(found.warnings))
        sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
        sys.stdout.buffer.flush()


def main(arguments: list[str]) -> int:
    """`python -m journal.fsck [--json] PATH`; returns the exit code."""
    if len(arguments) == 2 and arguments[0] == "--serve":
        _serve(int(arguments[1]))
        return 0
    as_json = "--json" in arguments
    paths = [argument for argument in arguments if argument != "--json"]
    if len(paths) != 1:
        sys.stderr.write("usage: python -m journal.fsck [--json] PATH\n")
        return 2
    try:
        report = fsck(paths[0])
    except JournalError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    if as_json:
        sys.stdout.write(msgspec.json.encode({"ok": report.ok, **msgspec.to_builtins(report)}).decode() + "\n")
    else:
        sys.stdout.write("\n".join(report.lines()) + "\n")
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
