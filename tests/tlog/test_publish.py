# SPDX-License-Identifier: GPL-3.0-or-later
"""Publishing: incremental, atomic, resumable; and what is refused."""

import base64
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from journal import JournalError, Store, replay
from journal.folder import Folder, directory
from journal.published import PublishedLog, signed_by, unsigned
from journal.tiles import Published, publish
from proofs import log, sealed
from proofs.checkpoint import ED25519, Checkpoint, parse, sign, verifier_key, verify
from proofs.errors import CheckpointError, TileError
from proofs.tiles import Tile, decode_bundle, parse_path, tiles
from tests.tlog.logs import CHECK, KEY, LOG_KEY, ORIGIN, PUBLIC, SEED, Journal, code_of, entry, files, refused

ROOT = Path(__file__).resolve().parents[2]


def read(folder: Path, private_key: bytes | None = None) -> list[bytes]:
    """What a reader who trusts the key alone makes of a folder."""
    found = PublishedLog(directory(folder), CHECK, private_key)
    found.checkpoint()
    return list(found.entries())


def test_a_directory_holds_exactly_what_the_specification_says(tmp_path: Path) -> None:
    """Every tile and bundle of the size, at its path, with the bytes of the definition, and a verifiable note."""
    journal = Journal(tmp_path / "j", 600)
    done = publish(journal.store, tmp_path / "log", journal.note())
    leaves = [log.leaf_hash(entry(number)) for number in range(600)]
    found = files(tmp_path / "log")
    names = {tile.path for tile in tiles(600)} | {t.bundle_path() for t in tiles(600) if t.level == 0}
    assert set(found) == names | {"checkpoint"}
    assert found["tile/0/001"] == b"".join(leaves[256:512]) and found["tile/0/002.p/88"] == b"".join(leaves[512:])
    assert found["tile/1/000.p/2"] == log.root(leaves[:256]) + log.root(leaves[256:512])
    assert decode_bundle(found["tile/entries/002.p/88"], 88) == [entry(number) for number in range(512, 600)]
    tip = verify(found["checkpoint"].decode(), PUBLIC, ORIGIN)
    assert (tip.size, tip.root) == (600, log.root(leaves))
    assert done == Published(ORIGIN, 600, tip.root, 0, "open", len(found) - 1, 0)
    assert read(tmp_path / "log") == [entry(number) for number in range(600)]


def test_step_by_step_gives_the_same_bytes_as_at_once(tmp_path: Path, rng: random.Random) -> None:
    """Whatever the steps; partial tiles of the steps between stay; nothing that is there is written again."""
    journal = Journal(tmp_path / "j")
    sizes = sorted({0, 1, 255, 256, 257, 512, 1_000, *(rng.randint(1, 1_000) for _ in range(6))})
    for size in sizes:
        journal.grow(size)
        before = files(tmp_path / "steps")
        publish(journal.store, tmp_path / "steps", journal.note())
        after = files(tmp_path / "steps")
        changed = {name for name, data in before.items() if after.get(name) != data}
        assert changed <= {"checkpoint"}
        assert publish(journal.store, tmp_path / "steps", journal.note()).files == 0
    publish(journal.store, tmp_path / "once", journal.note())
    steps, once = files(tmp_path / "steps"), files(tmp_path / "once")
    assert all(steps[name] == data for name, data in once.items())
    between = {(parse_path(name)[1], name) for name in set(steps) - set(once)}
    assert between and all(not tile.full for tile, _ in between)


def test_an_older_note_of_a_longer_journal_is_published_as_far_as_it_goes(tmp_path: Path) -> None:
    """The journal runs ahead of the note while the operator works."""
    journal = Journal(tmp_path / "j", 700)
    publish(journal.store, tmp_path / "a", journal.note(300))
    assert read(tmp_path / "a") == [entry(number) for number in range(300)]
    publish(journal.store, tmp_path / "a", journal.note(699))
    assert len(read(tmp_path / "a")) == 699


def test_an_empty_journal_is_a_log_of_no_entries(tmp_path: Path) -> None:
    """A checkpoint and nothing else."""
    journal = Journal(tmp_path / "j")
    publish(journal.store, tmp_path / "log", journal.note())
    assert set(files(tmp_path / "log")) == {"checkpoint"} and read(tmp_path / "log") == []


class Stop(Exception):
    """A kill, as far as the files are concerned."""


def test_a_reader_finds_a_whole_log_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after every file of a step, from whatever size to whatever size, entries and all."""
    journal = Journal(tmp_path / "j", 250)
    target, seen = tmp_path / "log", []
    publish(journal.store, target, journal.note())
    put = Folder.put

    def watched(self: Folder, name: str, data: bytes) -> None:
        put(self, name, data)
        seen.append(len(read(target)))

    monkeypatch.setattr(Folder, "put", watched)
    journal.grow(515)
    publish(journal.store, target, journal.note())
    assert set(seen) == {250} and len(seen) == 7 and len(read(target)) == 515


@pytest.mark.parametrize("private", [None, LOG_KEY], ids=["open", "private"])
def test_a_run_that_was_killed_anywhere_is_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, private: bytes | None
) -> None:
    """After any number of files: readers see the old log, and the next run ends in the same bytes."""
    journal = Journal(tmp_path / "j", 300)
    publish(journal.store, tmp_path / "before", journal.note(), private)
    journal.grow(530)
    shutil.copytree(tmp_path / "before", tmp_path / "want")
    publish(journal.store, tmp_path / "want", journal.note(), private)
    put = Folder.put
    for after in range(7):
        target, left = tmp_path / f"killed{after}", [after]
        shutil.copytree(tmp_path / "before", target)

        def dying(self: Folder, name: str, data: bytes, left: list[int] = left) -> None:
            if not left[0]:
                (self.path / name).parent.mkdir(parents=True, exist_ok=True)
                (self.path / name).write_bytes(data[: len(data) // 2])  # as a loss of power may leave it
                raise Stop
            left[0] -= 1
            put(self, name, data)

        with monkeypatch.context() as patched:
            patched.setattr(Folder, "put", dying)
            try:
                publish(journal.store, target, journal.note(), private)
                died = False
            except Stop:
                died = True
        assert died == (after < 5)
        if died:
            assert len(read(target, private)) == 300
        publish(journal.store, target, journal.note(), private)
        assert files(target) == files(tmp_path / "want")


def test_what_is_not_an_extension_is_refused(tmp_path: Path) -> None:
    """Another journal's note, another log's directory, a longer one, another history, a stranger's files: each
    under its code, and the directory stays as it was."""
    journal, other = Journal(tmp_path / "j", 300), Journal(tmp_path / "o", 300, fork_at=299)
    target = tmp_path / "log"
    publish(journal.store, target, journal.note())
    before = files(target)
    refused("NOTE_MISMATCH", publish, journal.store, target, other.note())
    longer = sign(Checkpoint(ORIGIN, 301, bytes(32)), SEED)
    refused("NOTE_MISMATCH", publish, journal.store, target, longer)
    refused("LOG_FOREIGN", publish, journal.store, target, journal.note(origin="other.example/journal"))
    refused("LOG_AHEAD", publish, journal.store, target, journal.note(299))
    refused("LOG_FORKED", publish, other.store, target, other.note())
    other.grow(400)
    refused("LOG_FORKED", publish, other.store, target, other.note())
    refused("LOG_FORM", publish, journal.store, target, journal.note(), LOG_KEY)
    with pytest.raises(CheckpointError):
        publish(journal.store, target, "no note")
    with Folder(target):
        refused("LOG_LOCKED", publish, journal.store, target, journal.note())
    assert files(target) == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("years of work")
    refused("LOG_FOREIGN", publish, journal.store, tmp_path / "full", journal.note())
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        publish(journal.store, tmp_path / "file", journal.note())


def test_a_journal_that_was_restored_from_an_old_copy_is_not_published(tmp_path: Path) -> None:
    """The directory remembers more than the journal: the operator must not sign the past anew."""
    journal, restored = Journal(tmp_path / "j", 300), Journal(tmp_path / "r", 200)
    publish(journal.store, tmp_path / "log", journal.note())
    assert "shrinks" in str(refused("LOG_AHEAD", publish, restored.store, tmp_path / "log", restored.note()))
    assert "older" in str(refused("NOTE_MISMATCH", publish, restored.store, tmp_path / "log", journal.note()))


@pytest.mark.parametrize("name", ["checkpoint", "tile/0/001.p/44", "tile/1/000.p/1"])
def test_a_damaged_directory_is_not_extended(tmp_path: Path, name: str) -> None:
    """The right edge that a new tree would be built on is checked first."""
    journal = Journal(tmp_path / "j", 300)
    publish(journal.store, tmp_path / "log", journal.note())
    path = tmp_path / "log" / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(bytes(data) if name != "checkpoint" else b"\xff")
    journal.grow(301)
    refused("LOG_INVALID", publish, journal.store, tmp_path / "log", journal.note())


def test_a_damaged_journal_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries that do not hash to the signed root stop short of the checkpoint."""
    journal = Journal(tmp_path / "j", 300)
    publish(journal.store, tmp_path / "log", journal.note(256))

    def changed(store: Store, first: int) -> Iterator[tuple[int, bytes]]:
        return ((seq, data + b"?" * (seq == 280)) for seq, data in replay.entries(store, first))

    monkeypatch.setattr("journal.tiles.stored", changed)
    refused("JOURNAL_CORRUPT", publish, journal.store, tmp_path / "log", journal.note())
    assert len(read(tmp_path / "log")) == 256


def test_old_partial_tiles_go_when_the_full_one_was_there_for_long(tmp_path: Path) -> None:
    """Not before, not those of tiles that are not full, and never what the newest checkpoint needs."""
    journal, target, at = Journal(tmp_path / "j"), tmp_path / "log", 1_000.0

    def step(size: int, later: float) -> Published:
        nonlocal at
        at += later
        journal.grow(size)
        return publish(journal.store, target, journal.note(), keep_partials_s=60.0, now=lambda: at)

    step(100, 0)
    step(200, 10)
    assert step(300, 10).deleted == 0
    assert step(310, 59).deleted == 0
    assert "tile/0/000.p/100" in files(target) and "tile/entries/000.p/200" in files(target)
    assert step(320, 2).deleted == 4
    assert not [name for name in files(target) if "/000.p" in name and "tile/1" not in name]
    assert {"tile/0/001.p/44", "tile/0/001.p/54", "tile/0/001.p/64"} <= set(files(target))
    assert step(330, 1_000).deleted == 0
    step(600, 10)
    assert step(600, 60).deleted == 8
    assert [name for name in files(target) if "/entries/" in name and ".p/" in name] == ["tile/entries/002.p/88"]
    assert read(target) == [entry(number) for number in range(600)]


def test_cosignatures_are_collected_when_everything_else_is_there(tmp_path: Path) -> None:
    """The callback sees the previous size; readers see no checkpoint before it returns; what it may not do is
    change the checkpoint; it may add a signature to one that is out already."""
    journal, target = Journal(tmp_path / "j", 300), tmp_path / "log"
    publish(journal.store, target, journal.note(100))
    line = parse(sign(parse(journal.note()).checkpoint, bytes(range(32))))
    extra = "— witness.example " + base64.b64encode(b"1234" + line.signatures[0][2]).decode() + "\n"

    def cosign(note: str, previous: int) -> str:
        assert (previous, len(read(target)), (target / "tile/entries/001.p/44").exists()) == (100, 100, True)
        return note + extra

    publish(journal.store, target, journal.note(), cosign=cosign)
    assert (target / "checkpoint").read_text() == journal.note() + extra
    publish(journal.store, target, journal.note())
    assert (target / "checkpoint").read_text().endswith(extra)
    publish(journal.store, target, journal.note(), cosign=lambda note, previous: note + extra)
    assert (target / "checkpoint").read_text() == journal.note() + 2 * extra
    journal.grow(301)
    refused("NOTE_MISMATCH", publish, journal.store, target, journal.note(), cosign=lambda *_: journal.note(300))


# --- the private form ---


def test_the_private_form_shows_tiles_and_hides_entries(tmp_path: Path) -> None:
    """Everyone checks tiles and single disclosed entries; only the key opens bundles; no entry is in clear."""
    journal, target = Journal(tmp_path / "j", 300), tmp_path / "log"
    publish(journal.store, target, journal.note(100), LOG_KEY)
    publish(journal.store, target, journal.note(), LOG_KEY)
    found = files(target)
    assert not [name for name in found if name.startswith("tile/entries")]
    assert {"private/entries/000", "private/entries/000.p/100", "private/entries/001.p/44"} <= set(found)
    marker = entry(7)
    assert len(marker) > 90 and not [name for name, data in found.items() if marker in data]
    assert read(target, LOG_KEY) == [entry(number) for number in range(300)]
    outsider = PublishedLog(directory(target), CHECK)
    tip = outsider.checkpoint()
    assert outsider.form == "private" and not outsider.readable
    refused("LOG_FORM", list, outsider.entries())
    tree = outsider.tree()
    log.verify_inclusion(7, 300, log.leaf_hash(marker), tree.inclusion(7), tip.root)
    log.verify_consistency(100, 300, tree.consistency(100), tree.root(100), tip.root)
    opened = sealed.unseal_with(sealed.bundle_key(LOG_KEY, 0), found["private/entries/000"])
    assert decode_bundle(opened, 256)[7] == marker
    stranger = PublishedLog(directory(target), CHECK, bytes(32))
    stranger.checkpoint()
    refused("LOG_KEY", list, stranger.entries())


def test_a_private_log_keeps_its_form_and_its_key(tmp_path: Path) -> None:
    """A mixture would be a log that nobody can read, or one that tells what it should not."""
    journal, target = Journal(tmp_path / "j", 300), tmp_path / "log"
    publish(journal.store, target, journal.note(200), LOG_KEY)
    refused("LOG_FORM", publish, journal.store, target, journal.note())
    refused("LOG_KEY", publish, journal.store, target, journal.note(), bytes(32))
    assert publish(journal.store, target, journal.note(), LOG_KEY).form == "private"


# --- reading ---


def test_a_reader_is_told_what_does_not_hold(tmp_path: Path) -> None:
    """Any single file of a log, changed, cut, or lost, is noticed by who reads all; and so are foreign signatures."""
    journal, target = Journal(tmp_path / "j", 600), tmp_path / "log"
    publish(journal.store, target, journal.note())
    good = files(target)
    for name, data in good.items():
        middle = len(data) // 2
        for broken in (data[:middle] + bytes([data[middle] ^ 4]) + data[middle + 1 :], data[:-1], data + b"\0", None):
            path = target / name
            if broken is None:
                path.unlink()
            else:
                path.write_bytes(broken)
            with pytest.raises((JournalError, CheckpointError)) as caught:
                read(target)
            code = code_of(caught.value)
            assert code in {"LOG_INVALID", "CHECKPOINT_INVALID", "LOG_INCOMPLETE"}
            assert (code == "LOG_INCOMPLETE") == (broken is None)
            path.write_bytes(data)
    assert len(read(target)) == 600
    strange = verifier_key(ORIGIN, ED25519, bytes(32))
    with pytest.raises(CheckpointError):
        PublishedLog(directory(target), signed_by(strange)).checkpoint()
    assert PublishedLog(directory(target), signed_by(strange, KEY)).checkpoint().size == 600
    for nothing in ((), ("no key",)):
        with pytest.raises(CheckpointError):
            signed_by(*nothing)


def test_any_range_of_entries_is_read_with_or_without_workers(tmp_path: Path, rng: random.Random) -> None:
    """The same entries, and the same refusals."""
    journal, target = Journal(tmp_path / "j", 1_100), tmp_path / "log"
    publish(journal.store, target, journal.note())
    found = PublishedLog(directory(target), unsigned, workers=3)
    for _ in range(12):
        first, stop = sorted((rng.randint(0, 1_100), rng.randint(0, 1_100)))
        assert list(found.entries(first, stop)) == [entry(number) for number in range(first, stop)]
    assert found.bundle(4, 10) == [entry(number) for number in range(1_024, 1_034)]
    assert found.tile(0, 4, 2) == b"".join(log.leaf_hash(entry(number)) for number in (1_024, 1_025))
    for call in (found.tile, found.bundle):
        arguments: Any = (0, 4, 77) if call == found.tile else (4, 77)
        refused("OUT_OF_RANGE", call, *arguments)
    refused("OUT_OF_RANGE", lambda: list(found.entries(5, 1_101)))
    refused("LOG_INVALID", found.tile, 0, 5)
    started = found.entries(0, 1_100)  # a reader who stops early leaves no thread behind
    assert next(started) == entry(0)
    started.close()  # type: ignore[attr-defined]


def test_the_full_tile_stands_in_for_a_partial_one_that_was_deleted(tmp_path: Path) -> None:
    """A reader who still holds the older checkpoint reads on."""
    journal, target = Journal(tmp_path / "j", 300), tmp_path / "log"
    publish(journal.store, target, journal.note())
    old = journal.note()
    journal.grow(600)
    publish(journal.store, target, journal.note())
    for room in ("tile/0/001.p", "tile/entries/001.p"):
        shutil.rmtree(target / room)
    found = PublishedLog(directory(target), CHECK)
    assert found.at(old).size == 300 and list(found.entries()) == [entry(number) for number in range(300)]


def test_hostile_paths_leave_no_folder(tmp_path: Path) -> None:
    """A tile has no number below zero, and a path says nothing but a tile."""
    with pytest.raises(TileError):
        Tile(0, -1).path  # noqa: B018
    with pytest.raises(FileNotFoundError):
        directory(tmp_path)("tile/0/000")


# --- for real ---

WRITER = """
import sys
from pathlib import Path
from journal import Store
from journal.tiles import publish
with Store.open(sys.argv[1], read_only=True) as store:
    print("ready", flush=True)
    publish(store, sys.argv[2], Path(sys.argv[3]).read_text())
"""


@pytest.mark.slow
def test_kill_9_at_random_moments_beside_a_writer(tmp_path: Path, rng: random.Random) -> None:
    """A process that publishes is killed again and again while the journal grows under it."""
    journal, target, note = Journal(tmp_path / "j", 2_000), tmp_path / "log", tmp_path / "note"
    killed, longest_s = 0, 0.25
    for _ in range(40):
        journal.grow(journal.store.head().next_seq + rng.randint(1, 6_000))
        note.write_text(journal.note())
        command = [sys.executable, "-c", WRITER, str(tmp_path / "j"), str(target), str(note)]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env=os.environ) as process:
            assert process.stdout is not None and process.stdout.readline() == b"ready\n"
            writer = threading.Thread(target=journal.grow, args=(journal.store.head().next_seq + 10,))
            writer.start()
            time.sleep(rng.uniform(0.0, longest_s))
            process.send_signal(signal.SIGKILL)
            hit = process.wait() == -signal.SIGKILL
        writer.join()
        killed += hit
        longest_s *= 1.2 if hit else 0.5  # machines differ: most kills should meet a process that still publishes
        if (target / "checkpoint").exists():
            found = read(target)
            assert found == [entry(number) for number in range(len(found))]
        if killed == 8:
            break
    assert killed == 8
    publish(journal.store, target, journal.note())
    assert len(read(target)) == journal.store.head().tree_size
