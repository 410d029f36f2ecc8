# SPDX-License-Identifier: GPL-3.0-or-later
"""Damage to the data file: whatever changes what a reader would return is reported, and the process
that reports survives.

The oracle is a reader that verifies nothing (raw_reader.py): if what it returns differs in any byte from
what it returned before the damage, or if it dies, fsck must not call the journal whole.
"""

import random
import select
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import lmdb
import msgspec
import pytest

from journal import fsck
from journal.errors import JournalError
from journal.fsck import Checker
from journal.store import Store

ROOT = Path(__file__).resolve().parents[2]
PAGE = 4096


class Journal:
    """A small closed journal and the bytes of its data file, cut to the pages in use."""

    def __init__(self, path: Path, rng: random.Random) -> None:
        self.path = path
        with Store.create(path, grow_bytes=PAGE, reserve_bytes=0) as store:
            for number in range(40):
                store.append([rng.randbytes(rng.randint(20, 300)) for _ in range(1 + number % 30)], store.head())
            self.head = store.head()
        with lmdb.open(str(path), lib_version=0, readonly=True, lock=False, max_dbs=3) as env:
            used = (env.info()["last_pgno"] + 1) * PAGE
            names = [env.open_db(name, create=False) for name in (b"blocks", b"tiles", b"meta")]
            with env.begin() as txn:
                self.keys = [[key.hex() for key in txn.cursor(db=db).iternext(keys=True, values=False)] for db in names]
        self.data = (path / "data.mdb").read_bytes()[:used]
        self.write(self.data)

    def write(self, data: bytes) -> None:
        with (self.path / "data.mdb").open("r+b") as file:
            file.write(data)
            file.truncate(len(data))


class Raw:
    """The unverified reader's child process, started again when damage kills it."""

    def __init__(self, journal: Journal) -> None:
        request = [str(journal.path), journal.head.next_seq, journal.keys]
        self._line = msgspec.json.encode(request) + b"\n"
        self._child: subprocess.Popen[bytes] | None = None

    def read(self) -> str:
        """The digest of all a reader returns, or how the reading failed."""
        if self._child is None:
            command = [sys.executable, "-m", "tests.journal.raw_reader"]
            self._child = subprocess.Popen(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        assert self._child.stdin is not None and self._child.stdout is not None
        self._child.stdin.write(self._line)
        self._child.stdin.flush()
        if select.select([self._child.stdout], [], [], 20.0)[0]:
            answer = self._child.stdout.readline().decode().strip()
        else:
            answer = "stalled"
        if answer in ("", "stalled"):
            self.close()
        return answer or "died"

    def close(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.communicate()
            self._child = None


def damaged(data: bytes, rng: random.Random) -> tuple[str, bytes]:
    """One change to the file: a byte, one or more zeroed pages, or a truncation."""
    kind = rng.choice(("byte", "byte", "byte", "meta byte", "zeroed", "truncated"))
    changed = bytearray(data)
    if kind == "truncated":
        length = rng.choice((rng.randrange(len(data)), rng.randrange(len(data) // PAGE) * PAGE))
        return f"truncated to {length}", data[:length]
    if kind == "zeroed":
        page = rng.randrange(len(data) // PAGE)
        end = min(len(data), (page + rng.choice((1, 1, 3))) * PAGE)
        changed[page * PAGE : end] = bytes(end - page * PAGE)
        return f"zeroed {page * PAGE} to {end}", bytes(changed)
    # The two meta pages keep their fields in the first 160 bytes.
    at = rng.choice((0, PAGE)) + rng.randrange(160) if kind == "meta byte" else rng.randrange(len(data))
    changed[at] ^= rng.randint(1, 255)
    return f"byte {at} changed to {changed[at]}", bytes(changed)


def run_cases(journal: Journal, checker: Checker, rng: random.Random, count: int) -> Counter[str]:
    """Damage, read, check, `count` times; returns how the cases fell out."""
    raw, outcomes = Raw(journal), Counter[str]()
    pristine = raw.read()
    assert len(pristine) == 64, pristine
    assert checker.check(journal.path).ok
    try:
        for _ in range(count):
            what, data = damaged(journal.data, rng)
            journal.write(data)
            answer = raw.read()
            report = checker.check(journal.path)
            if answer != pristine:
                assert not report.ok, f"{what}: not reported, though a reader gets {answer}"
                kind = answer if answer in ("died", "stalled") else answer.split()[0][:5]
                outcomes["reader failed" if kind in ("died", "stalled", "error") else "other bytes"] += 1
            else:
                outcomes["reported, readers unharmed" if not report.ok else "harmless"] += 1
            outcomes["killed the child"] += any(p.code == fsck.CHECK_CRASHED for p in report.problems)
    finally:
        raw.close()
        journal.write(journal.data)
    assert checker.check(journal.path).ok, "the undamaged file must pass again"
    return outcomes


@pytest.mark.slow
@pytest.mark.parametrize("count", [100, pytest.param(5_000, marks=pytest.mark.slow)])
def test_damage_is_reported(tmp_path: Path, checker: Checker, rng: random.Random, count: int) -> None:
    """Random changed bytes, zeroed pages and truncations: each one that changes a returned byte is
    reported, and the checker outlives them all."""
    outcomes = run_cases(Journal(tmp_path / "j", rng), checker, rng, count)
    print(dict(outcomes))
    assert outcomes["other bytes"] > count // 10
    assert outcomes["reader failed"] > count // 50


def test_every_byte_of_the_meta_pages(tmp_path: Path, checker: Checker, rng: random.Random) -> None:
    """A damaged meta page makes the database fall back one commit, silently: every bit of the fields in
    both meta pages is tried, and a lost commit is always reported."""
    journal = Journal(tmp_path / "j", rng)
    raw = Raw(journal)
    pristine = raw.read()
    try:
        for page in (0, PAGE):
            for at in range(page, page + 160):
                changed = bytearray(journal.data)
                changed[at] ^= 1 << rng.randrange(8)
                journal.write(bytes(changed))
                if raw.read() != pristine:
                    assert not checker.check(journal.path).ok, at
    finally:
        raw.close()


def test_the_first_bad_entry_is_named(tmp_path: Path, checker: Checker, rng: random.Random) -> None:
    """A changed byte inside a block is reported with the seq of that block, and what precedes it counts
    as verified."""
    journal = Journal(tmp_path / "j", rng)
    with Store.open(journal.path, read_only=True) as store:
        for block in list(store.read())[::7]:
            # Pages that are no longer in use may hold older copies of a block: change them all.
            tail = bytearray(block.raw[-60:])
            tail[rng.randrange(60)] ^= rng.randint(1, 255)
            journal.write(journal.data.replace(block.raw[-60:], bytes(tail)))
            report = checker.check(journal.path)
            assert (report.ok, report.first_bad_seq, report.entries) == (
                False,
                block.first_seq,
                block.first_seq,
            )
            with pytest.raises(JournalError, match="JOURNAL_CORRUPT") as caught:
                list(store.read())
            assert caught.value.seq == block.first_seq
            journal.write(journal.data)


def test_a_damaged_tile_gives_no_proof(tmp_path: Path, rng: random.Random, checker: Checker) -> None:
    """Proofs and roots from a changed tile are refused, not served."""
    journal = Journal(tmp_path / "j", rng)
    with Store.open(journal.path, read_only=True) as store:
        size = journal.head.tree_size
        leaf = store.leaf(100)
        changed = journal.data.replace(leaf, bytes(32))
        assert changed != journal.data
        journal.write(changed)
        for refused in (
            lambda: store.inclusion(100),
            lambda: store.inclusion(101),
            lambda: store.inclusion(7, 200),
            lambda: store.consistency(120, size),
            lambda: store.consistency(101, 150),
            lambda: store.entry(100),
        ):
            with pytest.raises(JournalError, match="JOURNAL_CORRUPT"):
                refused()
    assert not checker.check(journal.path).ok


@pytest.mark.slow
def test_fsck_as_a_command(tmp_path: Path, rng: random.Random) -> None:
    """`python -m journal.fsck PATH`: 0 whole, 1 damaged, 2 nothing to read; text and JSON, no traceback."""
    journal = Journal(tmp_path / "j", rng)

    def command(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "journal.fsck", *arguments],
            cwd=ROOT,
            capture_output=True,
            check=False,
            text=True,
        )

    done = command(journal.path)
    assert done.returncode == 0 and "whole" in done.stdout and journal.head.tree_root.hex() in done.stdout
    journal.write(journal.data[: len(journal.data) // 2])
    done = command("--json", journal.path)
    report = msgspec.json.decode(done.stdout)
    assert done.returncode == 1 and report["ok"] is False and report["problems"][0]["code"] == "JOURNAL_CORRUPT"
    for arguments in ((tmp_path / "none",), (), (tmp_path, tmp_path)):
        done = command(*arguments)
        assert (done.returncode, done.stdout) == (2, "") and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "number, code",
    [pytest.param(signal.SIGSTOP, fsck.CHECK_STALLED, marks=pytest.mark.slow), (signal.SIGSEGV, fsck.CHECK_CRASHED)],
)
def test_a_check_whose_child_fails_is_a_report(
    tmp_path: Path, rng: random.Random, number: signal.Signals, code: str
) -> None:
    """A child that makes no progress, or was killed while nobody looked, gives a report and not a hang or
    an exception; the next check has a new child."""
    journal = Journal(tmp_path / "j", rng)
    with Checker(stall_s=3.0) as checker:
        assert checker.check(journal.path).ok
        assert checker._child is not None
        checker._child.send_signal(number)
        assert [problem.code for problem in checker.check(journal.path).problems] == [code]
        assert checker.check(journal.path).ok
