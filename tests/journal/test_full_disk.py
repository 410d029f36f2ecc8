# SPDX-License-Identifier: GPL-3.0-or-later
"""A full disk or map refuses appends with a clear error, loses nothing, and is over when space appears."""

import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from journal import errors, replay
from journal.errors import JournalError
from journal.fsck import Checker
from journal.head import Head
from journal.store import Store
from tests.journal import forked

BATCH = [bytes(500)] * 20


def fill(store: Store, code: str) -> int:
    """Append until refused with `code`; the refusal changed nothing. Returns the acknowledged entries."""
    while True:
        head = store.head()
        try:
            store.append(BATCH, head)
        except JournalError as error:
            if error.code != code:
                raise
            assert store.head() == head
            assert sum(1 for _ in replay.entries(store)) == head.next_seq
            return head.next_seq


def numbered(store: Store, count: int) -> Head:
    for _ in range(count):
        head = store.head()
        store.append([b"%d" % (head.next_seq + i) for i in range(40)], head)
    return store.head()


def test_a_file_size_limit_refuses_and_releases(tmp_path: Path, checker: Checker) -> None:
    """RLIMIT_FSIZE, set before the journal is opened and while it is open: appends are refused with
    DISK_FULL until the limit is raised, then go on in the same process; all is there afterwards."""
    path = tmp_path / "j"
    Store.create(path, grow_bytes=65_536, reserve_bytes=0).close()

    def limit(soft: int) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, resource.RLIM_INFINITY))

    def writer(send: forked.Send) -> None:
        limit(1_000_000)
        with Store.open(path, grow_bytes=65_536, reserve_bytes=0) as store:
            send(fill(store, errors.DISK_FULL))
            send(fill(store, errors.DISK_FULL))
            limit(3_000_000)
            numbered(store, 3)
            limit(500_000)
            send(fill(store, errors.DISK_FULL))
            limit(resource.RLIM_INFINITY)
            send(numbered(store, 3).next_seq)

    status, sent = forked.run(writer)
    assert status == 0 and len(sent) == 4
    first, again, third, end = sent
    assert first == again != 0
    assert isinstance(first, int) and third == first + 120 and end == first + 240
    report = checker.check(path)
    assert report.ok and report.entries == end, report


def test_creating_under_a_limit_leaves_nothing(tmp_path: Path) -> None:
    """A journal that does not fit is not created: DISK_FULL, no half of it, and later it works."""

    def creator(send: forked.Send) -> None:
        for size in (0, 100, 5_000, 10_000, 100_000):
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
            try:
                Store.create(tmp_path / "j")
            except JournalError as error:
                send([size, error.code, os.listdir(tmp_path)])

    status, sent = forked.run(creator)
    assert status == 0
    assert sent == [[size, errors.DISK_FULL, []] for size in (0, 100, 5_000, 10_000, 100_000)]
    with Store.create(tmp_path / "j") as store:
        numbered(store, 1)


@pytest.mark.parametrize(
    ("size_gib", "free_mib", "halts"),
    [(10, 513, False), (10, 511, True), (40, 2049, False), (40, 2047, True), (4000, 2049, False), (4000, 2047, True)],
)
def test_orders_halt_at_a_twentieth_of_a_small_disk_and_at_2_gib_of_a_large_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size_gib: int, free_mib: int, halts: bool
) -> None:
    """ADR 16: what must still fit does not grow with the disk."""
    with Store.create(tmp_path / "j", grow_bytes=4096, reserve_bytes=0) as store:
        shown = list(os.statvfs(tmp_path))
        shown[1], shown[2], shown[4] = 4096, size_gib << 18, free_mib << 8  # block size, all, left
        monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(shown))
        assert store.space().halt is halts


def test_a_full_map_refuses_and_a_larger_one_goes_on(tmp_path: Path, checker: Checker) -> None:
    """The map's size is a limit like the disk's: JOURNAL_FULL, nothing lost, reopened larger it goes on."""
    path = tmp_path / "j"
    with Store.create(path, map_bytes=1 << 20, grow_bytes=65_536, reserve_bytes=0) as store:
        full = fill(store, errors.JOURNAL_FULL)
        assert store.space().halt and store.space().free_ppm < 50_000
    with Store.open(path, map_bytes=1 << 22, reserve_bytes=0) as store:
        assert not store.space().halt
        assert numbered(store, 3).next_seq == full + 120
    assert checker.check(path).entries == full + 120


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a small file system needs root")
    mount = tmp_path / "small"
    mount.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "none", mount], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.decode().strip()}")
    try:
        yield mount
    finally:
        subprocess.run(["umount", mount], check=True)


def test_a_full_file_system(small_disk: Path, checker: Checker) -> None:
    """A full disk: orders are told to halt before, appends are refused with DISK_FULL, the reserve lets
    the same store go on, and when space appears everything does, the reserve included."""
    path = small_disk / "j"
    with Store.create(path, grow_bytes=65_536) as store:
        before = store.space()
        assert before.reserve_ready and not before.halt
        numbered(store, 2)
        filler = small_disk / "filler"
        with filler.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, 1 << 20)
        full = fill(store, errors.DISK_FULL)
        assert store.space().halt
        head = store.head()
        for number in range(20):  # what must go on: it gets the reserve
            head = store.append([b"withdrawal %d" % number], head, use_reserve=True)
        assert not store.space().reserve_ready
        last = fill(store, errors.DISK_FULL)
        assert last > full
        with pytest.raises(JournalError, match=errors.DISK_FULL):
            store.append([b"too late"] * 5000, store.head(), use_reserve=True)
        report = checker.check(path)
        assert report.ok and report.entries == last, report
        filler.unlink()
        after = numbered(store, 2)
    with Store.open(path, reserve_bytes=4096) as store:
        assert store.head() == after
        assert store.space().reserve_ready
    assert checker.check(path).entries == last + 80


def test_a_snapshot_of_the_disk_at_each_refusal_is_whole(small_disk: Path, tmp_path: Path, checker: Checker) -> None:
    """Every byte size of the remaining space, in steps: the copy taken after the refusal is whole."""
    copy = tmp_path / "copy"
    for spare in (0, 4096, 40_000, 200_000, 400_000):
        path, filler = small_disk / "j", small_disk / "filler"
        with Store.create(path, grow_bytes=4096, reserve_bytes=0) as store:
            head = numbered(store, 5)
            disk = os.statvfs(small_disk)
            with filler.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, max(1, disk.f_bavail * disk.f_frsize - spare))
            full = fill(store, errors.DISK_FULL)
            assert full >= head.next_seq
            shutil.copytree(path, copy)
        report = checker.check(copy)
        assert report.ok and report.entries == full, report
        for left in (copy, path):
            shutil.rmtree(left)
        filler.unlink()
