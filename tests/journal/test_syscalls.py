# SPDX-License-Identifier: GPL-3.0-or-later
"""A writer killed at each system call of creating, opening and three commits (strace -e inject)."""

import os
import random
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from journal import replay
from journal.errors import JOURNAL_NOT_FOUND, JournalError
from journal.store import Store

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "journal" / "scripted_writer.py"
FIRST = [b"before %d" % i for i in range(100)]
# Reading system calls change nothing: being killed at one is being killed at the next writing one.
WRITING = re.compile(
    r"pwrite|write|writev|pwritev|fsync|fdatasync|msync|fallocate|ftruncate|rename|unlink|mkdir|openat|open$|mmap"
    r"|munmap|flock|fcntl|close|creat|link"
)
FAST_CASES = 8


def traced(*strace: str | Path, task: str, path: Path) -> "subprocess.CompletedProcess[str]":
    command = ["strace", "-f", *strace, sys.executable, SCRIPT, task, path]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, check=False, text=True, timeout=60)


def require_strace(tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed")
    tried = subprocess.run(["strace", "-o", tmp_path / "probe", "true"], capture_output=True, check=False)
    if tried.returncode:
        pytest.skip(f"strace may not trace here: {tried.stderr.decode().strip()}")


def base(path: Path) -> Path:
    with Store.create(path, reserve_bytes=8192, grow_bytes=8192) as store:
        store.append(FIRST, store.head())
    return path


def calls(log: Path) -> list[tuple[str, int]]:
    """(name, how many-th call of that name in the process) of each call between the marks."""
    seen: Counter[str] = Counter()
    found: list[tuple[str, int]] = []
    marks = 0
    for line in log.read_text().splitlines():
        match = re.match(r"(?:\d+ +)?([a-z0-9_]+)\(", line)
        if match is None:
            continue
        name = match[1]
        seen[name] += 1
        if name == "getpgid":
            marks += 1
        elif marks == 1:
            found.append((name, seen[name]))
    assert marks == 2, "the script did not run to its end"
    return found


def cases(tmp_path: Path, task: str, sample: random.Random | None) -> list[tuple[str, int]]:
    """Which calls to kill at: all in the slow suite, else a seeded choice with every kind of write in it."""
    target = tmp_path / "counted"
    if task == "write":
        base(target)
    traced("-o", tmp_path / "warm-up", task=task, path=copied(target, tmp_path / "warm"))
    log = tmp_path / "log"
    done = traced("-o", log, task=task, path=target)
    assert done.returncode == 0, done.stderr
    every = calls(log)
    assert {"fdatasync", "pwrite64"} & {name for name, _ in every}
    if sample is None:
        return every
    writing = [case for case in every if WRITING.match(case[0])]
    print(f"{len(every)} calls, {len(writing)} of them writing")
    return sample.sample(writing, min(FAST_CASES, len(writing)))


def copied(source: Path, target: Path) -> Path:
    if source.exists():
        shutil.copytree(source, target)
    return target


def killed_at(name: str, when: int, task: str, path: Path, tmp_path: Path) -> "subprocess.CompletedProcess[str]":
    inject = ["-e", f"trace={name}", "-e", f"inject={name}:signal=SIGKILL:when={when}"]
    return traced("-o", tmp_path / "discarded", *inject, task=task, path=path)


def check_write(path: Path, acknowledged: list[str]) -> None:
    """Nothing acknowledged lost, whole blocks only, head = tree size, and the next start is clean."""
    with Store.open(path, reserve_bytes=8192, grow_bytes=8192) as store:
        head, written = store.head(), list(store.read())
        assert written[0].entries == FIRST
        commits = written[1:]
        assert len(acknowledged) <= len(commits) <= min(3, len(acknowledged) + 1)
        for number, block in enumerate(commits):
            assert block.entries == [b"%d:%d" % (number, i) for i in range(200)]
            if number < len(acknowledged):
                assert acknowledged[number].split() == [str(block.next_seq), block.hash.hex()]
        assert head.tree_size == head.next_seq == 100 + 200 * len(commits)
        store.append([b"after"], head)
        assert store.entry(head.next_seq) == b"after"
        assert len(store.inclusion(0)) > 5


def run_write(tmp_path: Path, sample: random.Random | None) -> None:
    require_strace(tmp_path)
    clean, killed = base(tmp_path / "base"), 0
    wanted = cases(tmp_path, "write", sample)
    for name, when in wanted:
        path = copied(clean, tmp_path / "case")
        done = killed_at(name, when, "write", path, tmp_path)
        killed += done.returncode != 0
        try:
            check_write(path, done.stdout.splitlines())
        except (AssertionError, JournalError) as error:
            raise AssertionError(f"killed at {name} number {when}: {error}") from error
        shutil.rmtree(path)
    print(f"{killed} of {len(wanted)} writers were killed")
    assert killed > len(wanted) * 0.8, "the calls are not counted the same from run to run"


def run_create(tmp_path: Path) -> None:
    require_strace(tmp_path)
    wanted, killed = cases(tmp_path, "create", None), 0
    for name, when in wanted:
        directory = tmp_path / "case"
        directory.mkdir()
        path = directory / "journal"
        done = killed_at(name, when, "create", path, tmp_path)
        killed += done.returncode != 0
        if path.exists():
            with Store.open(path) as store:
                assert store.append([b"a"], store.head()).next_seq == 1, (name, when)
        else:
            assert "created" not in done.stdout, (name, when)
            with pytest.raises(JournalError, match=JOURNAL_NOT_FOUND):
                Store.open(path)
            with Store.create(path, reserve_bytes=8192, grow_bytes=8192) as store:
                store.append([b"a"], store.head())
                assert list(replay.entries(store)) == [(0, b"a")]
        assert os.listdir(directory) == ["journal"], (name, when)
        shutil.rmtree(directory)
    assert killed > len(wanted) * 0.8, "the calls are not counted the same from run to run"


def test_nothing_is_acknowledged_before_it_is_synced(tmp_path: Path) -> None:
    """In each commit: pages are written, then fdatasync, then the meta page through a descriptor that
    writes synchronously, and only then the acknowledgement. (No kill can show this: the kernel keeps
    what a dead process wrote; a power cut does not.)"""
    require_strace(tmp_path)
    log, path = tmp_path / "log", base(tmp_path / "j")
    done = traced(
        "-y", "-o", log, "-e", "trace=openat,pwrite64,pwritev,writev,fdatasync,write", task="write", path=path
    )
    assert done.returncode == 0, done.stderr
    text = log.read_text()
    synchronous = set(re.findall(r'data\.mdb", O_WRONLY\|O_DSYNC[^)]*\) = (\d+)', text))
    assert synchronous, "the meta page has no synchronous descriptor"
    commits = re.split(r"\d+ +write\(1<", text)[:-1]
    assert len(commits) == 3
    for commit in commits:
        calls = re.findall(r"(pwrite64|pwritev|writev|fdatasync)\((\d+)<[^>]*data\.mdb>", commit)
        order = ["meta" if fd in synchronous else name for name, fd in calls]
        assert order[-2:] == ["fdatasync", "meta"] and order[0] in ("pwritev", "writev", "pwrite64"), order


@pytest.mark.slow
def test_killed_at_system_calls_of_open_and_commit(tmp_path: Path, rng: random.Random) -> None:
    """A sample of the calls of opening and of three commits; the slow suite has them all."""
    run_write(tmp_path, rng)


@pytest.mark.slow
def test_killed_at_every_system_call_of_open_and_commit(tmp_path: Path) -> None:
    """Every system call of opening and of three commits."""
    run_write(tmp_path, None)


@pytest.mark.slow
def test_killed_at_every_system_call_of_create(tmp_path: Path) -> None:
    """Every system call of creating: afterwards there is a whole journal or none, and no litter."""
    run_create(tmp_path)
