# SPDX-License-Identifier: GPL-3.0-or-later
"""`novate journal publish` and `novate journal mirror`: what they print, exit with, and leave behind."""

import contextlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from clearing.cli.main import main
from clearing.cli.stage import Operator
from clearing.client.http import ApiClient
from clearing.model.codec import decode_entry
from clearing.service.layout import Layout
from clearing.service.node import Node
from journal.folder import directory
from journal.published import PublishedLog, unsigned
from proofs.checkpoint import parse, sign
from tests.service.world import World, make_data_dir
from tests.tlog.logs import KEY, Journal, entry, files, serving

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments: object) -> Result:
    """The command in this process; no traceback, whatever happens."""
    result = CliRunner().invoke(main, ["journal", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.output
    return result


def ok(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def failed(status: int, code: str, *arguments: object) -> str:
    """One line on stderr, with the code."""
    result = run(*arguments)
    assert result.exit_code == status, result.output
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith(f"novate: {code}: "), result.stderr
    return last


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """An operator's directory with a real genesis and real entries, after its operator has run."""
    path = tmp_path / "data"
    make_data_dir(path)
    world = World(path)
    world.open()
    world.close()
    Node(path, port=0, log=Quiet()).close()
    return path


class Quiet:
    """A log that nobody reads."""

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


def test_an_operator_leaves_the_note_that_is_published(data: Path, tmp_path: Path) -> None:
    """From its directory alone; the key comes from the log's own genesis."""
    note = Layout(data).checkpoint.read_text()
    size = parse(note).checkpoint.size
    done = ok("publish", tmp_path / "log", "--data", data)
    assert (done["size"], done["previous"], done["form"]) == (size, 0, "open") and size > 3
    assert (tmp_path / "log" / "checkpoint").read_text() == note
    again = run("publish", tmp_path / "log", "--data", data)
    assert again.stdout.startswith(f"published {size} entries (nothing new, open) of novate.test/")
    with serving(tmp_path / "log") as served:
        result = run("mirror", served.url, tmp_path / "m", "--json")
        done = json.loads(result.stdout)
        assert result.exit_code == 0 and (done["size"], done["entries_checked"], done["unchecked"]) == (size, size, [])
        key = result.stderr.split("from its genesis: ")[1].split()[0]
        assert key.startswith(parse(note).checkpoint.origin + "+")
        assert ok("mirror", served.url, tmp_path / "m2", "--key", key)["size"] == size
        for _ in range(2):  # the second time the mirror itself shows no genesis
            done = ok("mirror", served.url + "/", tmp_path / "m3", "--tiles-only")
            assert done["entries_checked"] == 0 and [line[:8] for line in done["unchecked"]] == ["entries:"]
    assert files(tmp_path / "m") == files(tmp_path / "log") == files(tmp_path / "m2")
    stranger = sign(parse(note).checkpoint, bytes(32))
    (tmp_path / "log" / "checkpoint").write_text(stranger)
    failed(3, "CHECKPOINT_INVALID", "mirror", tmp_path / "log", tmp_path / "m4")
    failed(3, "CHECKPOINT_INVALID", "mirror", tmp_path / "log", tmp_path / "m4", "--key", key)


def test_a_note_served_by_the_operator_does_as_well(tmp_path: Path) -> None:
    """--note takes a URL, as of /v1/checkpoint, or a file; what is no note, or not there, is said."""
    journal = Journal(tmp_path / "j", 300)
    (tmp_path / "v1").mkdir()
    (tmp_path / "v1" / "checkpoint").write_text(journal.note())
    source = ("publish", tmp_path / "log", "--journal", tmp_path / "j")
    journal.store.close()
    with serving(tmp_path) as served:
        assert ok(*source, "--note", f"{served.url}/v1/checkpoint")["size"] == 300
        failed(4, "NOTE_NOT_FOUND", *source, "--note", f"{served.url}/v1/nothing")
    assert ok(*source, "--note", tmp_path / "v1" / "checkpoint")["files"] == 0
    failed(4, "NOTE_NOT_FOUND", *source, "--note", tmp_path / "nothing")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    failed(3, "CHECKPOINT_INVALID", *source, "--note", tmp_path / "bytes")
    for wrong in ((), ("--data", tmp_path, "--note", "x"), ("--every", "0")):
        assert run(*source, *wrong).exit_code == 2
    failed(1, "JOURNAL_NOT_FOUND", "publish", tmp_path / "log", "--journal", tmp_path / "v1", "--note", "x")


def test_a_rollback_and_a_fork_are_refused_with_codes(tmp_path: Path) -> None:
    """By the publisher before anyone sees them, by the mirror with both notes kept."""
    journal, other = Journal(tmp_path / "j", 300), Journal(tmp_path / "o", 310, fork_at=299)
    for name, note in (("n300", journal.note()), ("n200", journal.note(200)), ("fork", other.note())):
        (tmp_path / name).write_text(note)
    journal.store.close()
    other.store.close()
    log, mine = tmp_path / "log", ("--journal", tmp_path / "j")
    ok("publish", log, *mine, "--note", tmp_path / "n300")
    failed(1, "LOG_AHEAD", "publish", log, *mine, "--note", tmp_path / "n200")
    failed(5, "LOG_FORKED", "publish", log, "--journal", tmp_path / "o", "--note", tmp_path / "fork")
    failed(1, "NOTE_MISMATCH", "publish", log, *mine, "--note", tmp_path / "fork")

    ok("mirror", log, tmp_path / "m", "--key", KEY)
    ok("publish", tmp_path / "log2", "--journal", tmp_path / "o", "--note", tmp_path / "fork")
    told = failed(5, "LOG_FORKED", "mirror", tmp_path / "log2", tmp_path / "m", "--key", KEY)
    (kept,) = (tmp_path / "m" / "evidence").iterdir()
    assert str(kept) in told and (tmp_path / "n300").read_text() in json.loads(kept.read_text())["notes"]
    ok("publish", tmp_path / "old", *mine, "--note", tmp_path / "n200")
    failed(4, "LOG_BEHIND", "mirror", tmp_path / "old", tmp_path / "m", "--key", KEY)
    with serving(tmp_path / "nowhere") as served:
        failed(4, "LOG_INCOMPLETE", "mirror", served.url, tmp_path / "m5", "--key", KEY)
    failed(1, "LOG_URL", "mirror", "ftp://example", tmp_path / "m5")
    failed(3, "CHECKPOINT_INVALID", "mirror", log, tmp_path / "m5", "--key", "nonsense")
    path = log / "tile/0/000"
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    failed(3, "LOG_INVALID", "mirror", log, tmp_path / "m6", "--key", KEY)


def test_a_log_without_genesis_needs_a_key(tmp_path: Path) -> None:
    """A mirror does not invent whom to believe."""
    journal = Journal(tmp_path / "j", 30)
    (tmp_path / "note").write_text(journal.note())
    journal.store.close()
    ok("publish", tmp_path / "log", "--journal", tmp_path / "j", "--note", tmp_path / "note")
    failed(4, "NO_GENESIS", "mirror", tmp_path / "log", tmp_path / "m")
    assert not (tmp_path / "m" / "checkpoint").exists()


def test_the_private_form_by_command_line(data: Path, tmp_path: Path) -> None:
    """The key is made once, kept at 0600, and never made for a log that has one; a mirror without it says what it
    did not check."""
    log, key = tmp_path / "log", tmp_path / "log.key"
    made = run("publish", log, "--data", data, "--private", key)
    assert made.exit_code == 0 and f"made {key}" in made.stderr and key.stat().st_mode & 0o777 == 0o600
    assert ok("publish", log, "--data", data, "--private", key)["form"] == "private"
    failed(1, "LOG_FORM", "publish", log, "--data", data)
    failed(1, "KEY_FILE_MISSING", "publish", log, "--data", data, "--private", tmp_path / "lost.key")
    assert not (tmp_path / "lost.key").exists()
    with serving(log) as served:
        whole = ok("mirror", served.url, tmp_path / "all", "--private", key)
        assert whole["form"] == "private" and whole["unchecked"] == []
        blind = run("mirror", served.url, tmp_path / "tiles")
        assert blind.exit_code == 0 and blind.stdout.count("NOT CHECKED: ") == 2
        assert "signature: no key was given" in blind.stdout and "entries: this log is private" in blind.stdout
    failed(1, "LOG_KEY", "mirror", log, tmp_path / "x", "--private", wrong_key(tmp_path))


def wrong_key(folder: Path) -> Path:
    path = folder / "wrong.key"
    path.write_text("11" * 32)
    path.chmod(0o600)
    return path


def test_help_says_what_each_form_shows() -> None:
    """A reader must not have to guess what a published log lets them check."""
    for command in ("publish", "mirror"):
        text = run(command, "--help").output
        assert "Open" in text and "Private" in text and "Exit codes" in text, command
    assert "no replay, no balances, no solvency" in " ".join(run("publish", "--help").output.split())


@pytest.mark.slow
def test_publishing_beside_a_running_operator(tmp_path: Path) -> None:
    """The operator is a process of its own; what it acknowledges is published soon, without asking it."""
    path = tmp_path / "data"
    make_data_dir(path)
    config = path / "config.toml"
    config.write_text(config.read_text().replace("tick_seconds = 3600", "tick_seconds = 0.1"))
    assert "tick_seconds = 0.1" in config.read_text()
    world = World(path)
    world.open()
    world.now_us = time.time_ns() // 1_000
    prices = [world.price(50_000_000_000 + step) for step in range(5)]
    world.close()
    operator = Operator(path, tmp_path, 0)
    log = tmp_path / "log"
    try:
        with ApiClient(operator.url()) as client, process("publish", str(log), "--data", str(path), "--every", "0.1"):
            for price in prices:
                seq = int(client.submit(price)["seq"])
                wait_for(log / "checkpoint", seq + 1)
    finally:
        operator.kill()
    found = PublishedLog(directory(log), unsigned)
    assert found.checkpoint().size == seq + 1
    assert [decode_entry(data).envelope for data in found.entries(seq - 4)] == prices
    assert run("mirror", log, tmp_path / "m").exit_code == 0


@pytest.mark.slow
def test_publisher_and_mirror_follow_a_growing_journal(tmp_path: Path) -> None:
    """Both as processes, over HTTP, while entries arrive; SIGINT ends them with one line; the copy is the log."""
    journal = Journal(tmp_path / "j", 10)
    note, log, copy = tmp_path / "note", tmp_path / "log", tmp_path / "copy"
    note.write_text(journal.note())

    publish = ["publish", str(log), "--journal", str(tmp_path / "j"), "--note", str(note), "--every", "0.1"]
    with serving(log) as served, process(*publish) as publisher:
        wait_for(log / "checkpoint", 10)
        with process("mirror", served.url, str(copy), "--key", KEY, "--every", "0.1") as mirror:
            for size in (255, 256, 2_000, 2_001, 9_000):
                journal.grow(size)
                fresh = tmp_path / "fresh"
                fresh.write_text(journal.note())
                fresh.replace(note)
                wait_for(copy / "checkpoint", size)
            mirror.send_signal(signal.SIGINT)
            _, told = mirror.communicate(timeout=30)
            assert mirror.returncode == 1 and "novate: INTERRUPTED" in told and "Traceback" not in told
        publisher.send_signal(signal.SIGINT)
        publisher.communicate(timeout=30)
    found = PublishedLog(directory(copy), unsigned)
    found.checkpoint()
    assert list(found.entries()) == [entry(number) for number in range(9_000)]


@contextlib.contextmanager
def process(*arguments: str) -> "Iterator[subprocess.Popen[str]]":
    command = [sys.executable, "-m", "clearing.cli", "journal", *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


def wait_for(checkpoint: Path, size: int) -> None:
    for _ in range(600):
        with contextlib.suppress(FileNotFoundError):
            if parse(checkpoint.read_text()).checkpoint.size == size:
                return
        time.sleep(0.05)
    raise AssertionError(f"{checkpoint} did not reach {size}")
