# SPDX-License-Identifier: GPL-3.0-or-later
"""Mirroring over HTTP: everything is checked, a fork is caught and kept, an interruption costs nothing."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clearing.client.tlog import LogFetch
from clearing.model.errors import NovateError
from journal import JournalError
from journal.folder import STATE, Folder, State, directory
from journal.mirror import ENTRIES_ABSENT, ENTRIES_PRIVATE, Evidence, Mirror, Mirrored, check_evidence
from journal.published import Fetch, PublishedLog, unsigned
from journal.tiles import publish
from proofs import sealed
from proofs.errors import CheckpointError, ProofError
from proofs.tiles import encode_bundle, parse_path
from tests.tlog.logs import CHECK, LOG_KEY, Journal, code_of, entry, files, refused, serving


def turn(fetch: Fetch, target: Path, **named: Any) -> Mirrored:
    """One turn in a process of its own, so to say."""
    with Folder(target) as folder:
        return Mirror(fetch, folder, named.pop("check", CHECK), **named).turn()


def published(path: Path, size: int, **named: Any) -> Journal:
    """A journal and its log in `path`/log."""
    journal = Journal(path / "j", size, **named)
    publish(journal.store, path / "log", journal.note())
    return journal


def read(folder: Path, private_key: bytes | None = None) -> list[bytes]:
    found = PublishedLog(directory(folder), CHECK, private_key)
    found.checkpoint()
    return list(found.entries())


# --- following ---


def test_a_mirror_over_http_is_the_log_and_can_be_mirrored(tmp_path: Path) -> None:
    """The same layout and bytes, at first and as the log grows; what is there is not fetched again."""
    journal = published(tmp_path, 600)
    with serving(tmp_path / "log") as served, LogFetch(served.url) as fetch:
        progress: list[tuple[int, int]] = []
        done = turn(fetch, tmp_path / "m", on_progress=lambda *seen: progress.append(seen))
        assert (done.size, done.previous, done.form, done.entries, done.unchecked) == (600, 0, "open", 600, ())
        assert progress == [(256, 600), (512, 600), (600, 600)]
        assert files(tmp_path / "m") == files(tmp_path / "log")
        assert turn(fetch, tmp_path / "m").files == 0
        journal.grow(1_300)
        publish(journal.store, tmp_path / "log", journal.note())
        served.asked.clear()
        done = turn(fetch, tmp_path / "m")
        assert (done.size, done.previous, done.entries) == (1_300, 600, 1_300 - 512)
        assert not {"/tile/0/001", "/tile/entries/001"} & set(served.asked)
    assert files(tmp_path / "m") == files(tmp_path / "log")
    turn(directory(tmp_path / "m"), tmp_path / "mm")
    assert read(tmp_path / "mm") == [entry(number) for number in range(1_300)]


def test_an_empty_log_is_mirrored_and_then_grows(tmp_path: Path) -> None:
    """From nothing to something, in both forms."""
    for form, key in (("open", None), ("private", LOG_KEY)):
        journal, target = Journal(tmp_path / f"j{form}"), tmp_path / form
        publish(journal.store, target, journal.note(), key)
        assert turn(directory(target), tmp_path / f"m{form}", private_key=key).size == 0
        journal.grow(10)
        publish(journal.store, target, journal.note(), key)
        assert turn(directory(target), tmp_path / f"m{form}", private_key=key).form == form
        assert len(read(tmp_path / f"m{form}", key)) == 10


def test_a_note_with_new_signatures_of_the_same_checkpoint_is_taken_over(tmp_path: Path) -> None:
    """Cosignatures come later than the checkpoint they belong to."""
    journal = published(tmp_path, 10)
    turn(directory(tmp_path / "log"), tmp_path / "m")
    note = journal.note() + "— witness.example " + "A" * 100 + "\n"
    (tmp_path / "log" / "checkpoint").write_text(note)
    turn(directory(tmp_path / "log"), tmp_path / "m")
    assert (tmp_path / "m" / "checkpoint").read_text() == note


# --- what does not hold ---


def test_nothing_that_was_changed_on_the_way_is_kept(tmp_path: Path) -> None:
    """Each file of the log, with one bit flipped, cut, or missing: refused by name, and the mirror is as before."""
    journal = published(tmp_path, 300)
    turn(directory(tmp_path / "log"), tmp_path / "m")
    journal.grow(600)
    publish(journal.store, tmp_path / "log", journal.note())
    good, before = files(tmp_path / "log"), files(tmp_path / "m")
    fresh = set(good) - set(before) | {"checkpoint"}
    assert len(fresh) == 6
    for name in sorted(fresh):
        data = good[name]
        for broken in (data[:40] + bytes([data[40] ^ 1]) + data[41:], data[:-1], None):
            target = tmp_path / "try"
            shutil.copytree(tmp_path / "m", target)

            def fetch(path: str, name: str = name, broken: bytes | None = broken) -> bytes:
                if path != name:
                    return good[path] if path in good else missing(path)
                return missing(path) if broken is None else broken

            with pytest.raises((JournalError, CheckpointError)) as caught:
                turn(fetch, target)
            assert code_of(caught.value) in {"LOG_INVALID", "LOG_INCOMPLETE", "CHECKPOINT_INVALID"}
            after = files(target)
            assert after["checkpoint"] == before["checkpoint"] and len(read(target)) == 300
            assert all(after[path] == good[path] for path in set(after) - {"checkpoint"} if path in good)
            turn(directory(tmp_path / "log"), target)
            assert read(target) == [entry(number) for number in range(600)]
            shutil.rmtree(target)


def missing(path: str) -> bytes:
    raise FileNotFoundError(path)


def test_a_note_that_the_key_did_not_sign_is_refused(tmp_path: Path) -> None:
    """Whoever serves the log cannot speak for it."""
    journal = published(tmp_path, 10)
    (tmp_path / "log" / "checkpoint").write_text(journal.note(seed=bytes(32)))
    with pytest.raises(CheckpointError):
        turn(directory(tmp_path / "log"), tmp_path / "m")
    assert "checkpoint" not in files(tmp_path / "m")


def test_another_log_is_refused(tmp_path: Path) -> None:
    """A mirror keeps to its origin."""
    journal = published(tmp_path, 10)
    turn(directory(tmp_path / "log"), tmp_path / "m")
    publish(journal.store, tmp_path / "log2", journal.note(origin="other.example/journal"))
    refused("LOG_FOREIGN", turn, directory(tmp_path / "log2"), tmp_path / "m", check=unsigned)


# --- forks ---


def fork(tmp_path: Path, ours: int, theirs: int, at: int = 299) -> tuple[Path, Path]:
    """Two histories under one key, equal up to entry `at`: the mirror of the first, and where the second lies."""
    published(tmp_path, ours)
    turn(directory(tmp_path / "log"), tmp_path / "m")
    other = tmp_path / "other"
    other.mkdir()
    published(other, theirs, fork_at=at)
    return tmp_path / "m", other / "log"


@pytest.mark.parametrize(
    "ours, theirs, at", [(300, 300, 299), (300, 301, 299), (300, 900, 0), (900, 300, 299), (257, 70, 3)]
)
def test_a_fork_is_caught_and_proven(tmp_path: Path, ours: int, theirs: int, at: int) -> None:
    """Of the same size, a longer one, a shorter one. Both notes are kept, and the evidence convinces who has only
    the operator's key; the mirror stays with what it had."""
    mirror, other = fork(tmp_path, ours, theirs, at)
    before = files(mirror)
    error = refused("LOG_FORKED", turn, directory(other), mirror)
    after = files(mirror)
    (kept,) = set(after) - set(before)
    assert kept.startswith("evidence/fork-") and kept in error.message
    assert {name: after[name] for name in before} == before
    notes = {before["checkpoint"].decode(), (other / "checkpoint").read_text()}
    found = msgspec.json.decode(after[kept], type=Evidence)
    assert set(found.notes) == notes
    earlier, later = check_evidence(after[kept], CHECK)
    assert {earlier.size, later.size} == {ours, theirs} and earlier.size <= later.size
    refused("LOG_FORKED", turn, directory(other), mirror)


def test_evidence_that_shows_no_fork_is_refused(tmp_path: Path) -> None:
    """Nobody is accused by a file that was made up: not by two notes of one history, nor by a changed field."""
    mirror, other = fork(tmp_path, 300, 301)
    refused("LOG_FORKED", turn, directory(other), mirror)
    (data,) = [content for name, content in files(mirror).items() if name.startswith("evidence/")]
    good = msgspec.json.decode(data, type=Evidence)
    journal = Journal(tmp_path / "again", 301)
    honest = PublishedLog(directory(mirror), CHECK)
    honest.checkpoint()
    same = (journal.note(300), journal.note(301))
    path = tuple(item.hex() for item in journal.store.consistency(300, 301))
    made_up = [
        msgspec.structs.replace(good, notes=same),
        Evidence(same, 300, journal.store.root(300).hex(), path),
        msgspec.structs.replace(good, size=299),
        msgspec.structs.replace(good, root="00" * 32),
        msgspec.structs.replace(good, consistency=good.consistency[:-1]),
        msgspec.structs.replace(good, notes=good.notes[::-1]),
        msgspec.structs.replace(good, notes=(good.notes[0], journal.note(301, seed=bytes(32)))),
        msgspec.structs.replace(good, root="zz"),
    ]
    for evidence in made_up:
        with pytest.raises(ProofError):
            check_evidence(msgspec.json.encode(evidence), CHECK)
    with pytest.raises(ProofError):
        check_evidence(b"{}", CHECK)


def test_a_follower_that_keeps_running_catches_a_fork_too(tmp_path: Path) -> None:
    """What it remembers of the old tree must not vouch for the new one."""
    published(tmp_path, 700)
    served = tmp_path / "log"
    other = tmp_path / "other"
    other.mkdir()
    published(other, 900, fork_at=3)
    with Folder(tmp_path / "m") as folder:
        mirror = Mirror(directory(served), folder, CHECK)
        assert mirror.turn().size == 700
        shutil.rmtree(served)
        shutil.copytree(other / "log", served)
        refused("LOG_FORKED", mirror.turn)
    assert len(read(tmp_path / "m")) == 700


def test_an_older_view_of_the_same_history_is_no_fork(tmp_path: Path) -> None:
    """A cache that lags is behind, and says so; nothing is lost."""
    journal = published(tmp_path, 300)
    turn(directory(tmp_path / "log"), tmp_path / "m")
    publish(journal.store, tmp_path / "old", journal.note(200))
    refused("LOG_BEHIND", turn, directory(tmp_path / "old"), tmp_path / "m")
    assert len(read(tmp_path / "m")) == 300 and not list((tmp_path / "m").glob("evidence/*"))


# --- interruptions ---


class Stop(Exception):
    """The process ends here."""


def stopping(good: dict[str, bytes], after: int) -> Callable[[str], bytes]:
    left = [after]

    def fetch(path: str) -> bytes:
        if not left[0]:
            raise Stop
        left[0] -= 1
        return good[path] if path in good else missing(path)

    return fetch


def test_an_interrupted_mirror_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At any fetch; what is on disk for good is not fetched again; the end is the same."""
    monkeypatch.setattr("journal.mirror._REMEMBER_BUNDLES", 1)
    published(tmp_path, 1_100)
    good, stopped = files(tmp_path / "log"), 0
    for after in range(0, 20, 2):
        target = tmp_path / f"m{after}"
        done = False
        try:
            turn(stopping(good, after), target, workers=0)
            done = True
        except Stop:
            assert "checkpoint" not in files(target)
        kept = msgspec.json.decode((target / STATE).read_bytes(), type=State) if (target / STATE).exists() else State()
        asked: list[str] = []

        def counted(path: str, asked: list[str] = asked) -> bytes:
            asked.append(path)
            return good[path] if path in good else missing(path)

        assert turn(counted, target, workers=0).size == 1_100
        bundles = {parse_path(path)[1].n for path in asked if "entries" in path} - {0}  # 0 is asked for the form
        assert bundles == (set() if done else set(range(max(1, kept.bundles), 5)))
        stopped += not done
        assert files(target) == good
    assert 5 <= stopped < 10


def test_files_of_an_interrupted_run_that_were_damaged_are_written_again(tmp_path: Path) -> None:
    """What lies beyond the checkpoint may be half of a file, after a loss of power."""
    journal = published(tmp_path, 300)
    turn(directory(tmp_path / "log"), tmp_path / "m")
    journal.grow(800)
    publish(journal.store, tmp_path / "log", journal.note())
    good = files(tmp_path / "log")
    with pytest.raises(Stop):
        turn(stopping(good, 8), tmp_path / "m", workers=0)
    for name, data in files(tmp_path / "m").items():
        if ".p/" not in name and name not in ("checkpoint", "tile/0/000", "tile/entries/000"):
            (tmp_path / "m" / name).write_bytes(data[: len(data) // 2])
    assert len(read(tmp_path / "m")) == 300
    turn(directory(tmp_path / "log"), tmp_path / "m")
    assert read(tmp_path / "m") == [entry(number) for number in range(800)]


def test_the_note_of_an_interrupted_run_counts_as_seen(tmp_path: Path) -> None:
    """An operator cannot take back what a mirror began to fetch."""
    published(tmp_path, 600)
    with pytest.raises(Stop):
        turn(stopping(files(tmp_path / "log"), 5), tmp_path / "m", workers=0)
    other = tmp_path / "other"
    other.mkdir()
    journal = published(other, 700, fork_at=500)
    refused("LOG_FORKED", turn, directory(other / "log"), tmp_path / "m")
    publish(journal.store, tmp_path / "short", journal.note(400))
    refused("LOG_BEHIND", turn, directory(tmp_path / "short"), tmp_path / "m")


# --- forms ---


def test_a_private_log_without_its_key_gives_tiles_and_says_so(tmp_path: Path) -> None:
    """Growth and forks are still caught; nothing of the entries is claimed, nor fetched; with the key, all is."""
    journal, source = Journal(tmp_path / "j", 300), tmp_path / "log"
    publish(journal.store, source, journal.note(), LOG_KEY)
    done = turn(directory(source), tmp_path / "tiles")
    assert (done.form, done.entries, done.unchecked) == ("no entries", 0, (ENTRIES_PRIVATE,))
    assert not [name for name in files(tmp_path / "tiles") if "entries" in name]
    done = turn(directory(source), tmp_path / "all", private_key=LOG_KEY)
    assert (done.form, done.entries, done.unchecked) == ("private", 300, ())
    assert files(tmp_path / "all") == files(source)
    refused("LOG_KEY", turn, directory(source), tmp_path / "wrong", private_key=bytes(32))
    refused("LOG_FORM", turn, directory(source), tmp_path / "tiles", private_key=LOG_KEY)
    refused("LOG_FORM", turn, directory(source), tmp_path / "all")
    journal.grow(500)
    publish(journal.store, source, journal.note(), LOG_KEY)
    assert turn(directory(source), tmp_path / "tiles").size == 500
    assert turn(directory(source), tmp_path / "all", private_key=LOG_KEY).size == 500
    other = Journal(tmp_path / "o", 600, fork_at=450)
    publish(other.store, tmp_path / "forked", other.note(), LOG_KEY)
    refused("LOG_FORKED", turn, directory(tmp_path / "forked"), tmp_path / "tiles")


def test_tiles_alone_are_mirrored_only_when_asked_for(tmp_path: Path) -> None:
    """A log that withholds its entries does not pass for a whole one."""
    published(tmp_path, 300)
    shutil.rmtree(tmp_path / "log" / "tile" / "entries")
    refused("LOG_INCOMPLETE", turn, directory(tmp_path / "log"), tmp_path / "m")
    done = turn(directory(tmp_path / "log"), tmp_path / "m", tiles_only=True)
    assert (done.form, done.unchecked) == ("no entries", (ENTRIES_ABSENT,))


def test_a_sealed_bundle_that_holds_other_entries_is_refused(tmp_path: Path) -> None:
    """The key shows who wrote it, the leaf hashes what it must be."""
    journal, source = Journal(tmp_path / "j", 300), tmp_path / "log"
    publish(journal.store, source, journal.note(), LOG_KEY)
    lie = encode_bundle([entry(number) if number != 7 else b"another fill" for number in range(256)])
    (source / "private/entries/000").write_bytes(sealed.seal(LOG_KEY, 0, lie))
    assert "entry 7 " in str(refused("LOG_INVALID", turn, directory(source), tmp_path / "m", private_key=LOG_KEY))


def test_partial_files_that_were_deleted_since_are_taken_from_the_full_ones(tmp_path: Path) -> None:
    """Between the note and its tiles the log may have grown and swept: the mirror ends with what it asked for."""
    for form, key in (("open", None), ("private", LOG_KEY)):
        journal, source = Journal(tmp_path / f"j{form}", 300), tmp_path / form
        publish(journal.store, source, journal.note(), key)
        want, old = files(source), journal.note()
        journal.grow(520)
        publish(journal.store, source, journal.note(), key)
        for name in [name for name in files(source) if "/001.p/" in name]:
            (source / name).unlink()

        def fetch(path: str, old: str = old, source: Path = source) -> bytes:
            return old.encode() if path == "checkpoint" else directory(source)(path)

        assert turn(fetch, tmp_path / f"m{form}", private_key=key).size == 300
        assert files(tmp_path / f"m{form}") == want


# --- HTTP ---


def test_faults_on_the_way_are_tried_again_and_then_named(tmp_path: Path) -> None:
    """Overload and broken gateways pass; what stays is LOG_UNREACHABLE; what is missing is missing at once."""
    published(tmp_path, 10)
    pauses: list[float] = []
    with serving(tmp_path / "log") as served, LogFetch(served.url + "/", attempts=4, sleep=pauses.append) as fetch:
        served.faults["/checkpoint"] = [503, 429, 500]
        assert fetch("checkpoint") == (tmp_path / "log" / "checkpoint").read_bytes()
        assert len(pauses) == 3 and pauses[0] <= 0.2 and pauses[2] <= 0.8
        served.faults["/checkpoint"] = [503] * 4
        with pytest.raises(NovateError) as caught:
            fetch("checkpoint")
        assert caught.value.code == "LOG_UNREACHABLE" and "503" in caught.value.message
        for status in (404, 403, 410):
            served.faults["/checkpoint"] = [status]
            with pytest.raises(FileNotFoundError):
                fetch("checkpoint")
        served.faults["/checkpoint"] = [400]
        with pytest.raises(NovateError) as caught:
            fetch("checkpoint")
        assert caught.value.code == "LOG_ANSWER"
        (tmp_path / "log" / "checkpoint").write_bytes(b"x" * 20_000)
        with pytest.raises(NovateError) as caught:
            fetch("checkpoint")
        assert caught.value.code == "LOG_ANSWER" and "16384" in caught.value.message
    with LogFetch(served.url, attempts=2, sleep=pauses.append) as fetch, pytest.raises(NovateError) as caught:
        fetch("checkpoint")
    assert caught.value.code == "LOG_UNREACHABLE"
    for wrong in ("ftp://x", "/tmp", "http://[::1"):
        with pytest.raises(NovateError) as caught:
            LogFetch(wrong)("checkpoint")
        assert caught.value.code == "LOG_URL"
