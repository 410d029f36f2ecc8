# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups of a live journal, and the way back: never to a second history.

Every refusal is tried against a restoration that would succeed but for the one thing that is wrong.
"""

import shutil
import stat
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
from nacl import pwhash

from clearing.audit.replay import replay
from clearing.chain.errors import ChainError
from clearing.model.codec import decode_entry
from clearing.model.errors import NovateError
from clearing.service import config as configuration
from clearing.service.config import Config
from clearing.service.node import Node
from clearing.service.ops.backup import MANIFEST, back_up, read_manifest, verify
from clearing.service.ops.restore import Evidence, Restore, Restored, evidence_of_journal, evidence_of_note
from clearing.service.ops.sealed import read_passphrase, seal, unseal
from journal import Store
from journal.copying import copy_journal
from journal.fsck import fsck
from journal.replay import entries
from proofs import checkpoint as notes
from tests.service.chains import Deployed, refusal, trade
from tests.service.world import MAP_BYTES, World, order

PASSPHRASE = b"five random words are better"
CONFIG = Config(journal_map_bytes=MAP_BYTES)


def code(work: object, *arguments: object, **named: object) -> str:
    """The code of the refusal; "" if there was none."""
    try:
        work(*arguments, **named)  # type: ignore[operator]
    except NovateError as error:
        return error.code
    return ""


def blocks_of(path: Path, seq: int) -> Iterator[bytes]:
    with Store.open(path, read_only=True) as store:
        for block in store.read(seq):
            yield block.raw


def grow(world: World, count: int = 3) -> None:
    """Some more entries, each in a commit of its own."""
    for _ in range(count):
        world.ok(world.batch("alice", order(coid=world.nonces)))


def twin(path: Path, target: Path) -> Path:
    """The journal as it is on disk now: LMDB opens a path once per process, so the old disk is read from a copy."""
    shutil.copytree(path / "journal", target)
    return target


# --- while a writer is at work ---


@pytest.mark.slow
def test_a_backup_of_a_busy_journal_is_one_commit_of_it(market: World, tmp_path: Path) -> None:
    """Copied from another process, as the command does, while a thread commits: whole by fsck, and byte for byte a
    prefix of the journal."""
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            grow(market, 1)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        sizes = [in_another_process(market.path, tmp_path / f"copy-{number}") for number in range(2)]
    finally:
        stop.set()
        thread.join()
    assert 0 < sizes[0] < sizes[1] < market.store.head().next_seq, "it grew meanwhile"
    whole = [data for _, data in entries(market.store)]
    for number, size in enumerate(sizes):
        folder = tmp_path / f"copy-{number}"
        assert verify(folder).size == size
        assert [data for _, data in _entries(folder / "journal")] == whole[:size]


def _entries(path: Path) -> list[tuple[int, bytes]]:
    with Store.open(path, read_only=True) as store:
        return list(entries(store))


def in_another_process(data_dir: Path, target: Path, *more: str) -> int:
    """`novate operator backup`; the size of the journal in it."""
    from tests.cli.venue import checked, command_line

    done = checked(command_line("operator", "backup", str(data_dir), str(target), "--json", *more), True)
    assert done.status == 0, done.err
    return int(done.data["size"])


def test_the_copy_knows_where_it_ends(market: World, tmp_path: Path) -> None:
    """Its witness is its own head's, so a copy that lost its end is not taken for whole."""
    market.close()
    head = copy_journal(market.path / "journal", tmp_path / "copy")
    report = fsck(tmp_path / "copy")
    assert report.ok and report.warnings == () and report.entries == head.next_seq
    market.__post_init__()


def test_nothing_is_overwritten_and_a_failure_leaves_nothing(market: World, tmp_path: Path) -> None:
    """Neither an existing directory nor a half-made backup."""
    market.close()
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "mine").write_text("x")
    assert code(back_up, market.path, taken, 1) == "BACKUP_EXISTS"
    assert [path.name for path in taken.iterdir()] == ["mine"]
    damaged = market.path / "journal" / "data.mdb"
    raw = bytearray(damaged.read_bytes())
    place = raw.rindex(decode_entry(_entries(market.path / "journal")[-1][1]).envelope[:40])
    raw[place] ^= 1
    damaged.write_bytes(raw)
    assert code(back_up, market.path, tmp_path / "bad", 1) == "JOURNAL_CORRUPT"
    assert not (tmp_path / "bad").exists() and not (tmp_path / ".bad.making").exists()
    raw[place] ^= 1
    damaged.write_bytes(raw)
    market.__post_init__()


def test_a_backup_that_does_not_fit_is_refused_before_it_is_written(
    market: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    market.close()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=4_096))
    with pytest.raises(NovateError) as caught:
        back_up(market.path, tmp_path / "big", 1)
    assert caught.value.code == "BACKUP_NO_SPACE" and not (tmp_path / "big").exists()
    market.__post_init__()


# --- keys ---


@pytest.mark.slow
def test_keys_are_left_out_or_encrypted(market: World, tmp_path: Path) -> None:
    """No file of a backup holds a byte of a secret; with the passphrase they come back as they were."""
    market.close()
    secrets = [path.read_bytes().strip() for path in (market.path / "keys").iterdir()]
    assert len(secrets) == 3
    back_up(market.path, tmp_path / "plain", 1)
    back_up(market.path, tmp_path / "sealed", 1, PASSPHRASE)
    for folder in (tmp_path / "plain", tmp_path / "sealed"):
        for path in folder.rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                assert stat.S_IMODE(path.stat().st_mode) & 0o022 == 0
                assert not any(s in content or bytes.fromhex(s.decode()) in content for s in secrets), path
    assert read_manifest(tmp_path / "plain").sealed_keys is False
    restored = Restore(tmp_path / "sealed", tmp_path / "new").run(CONFIG, [], None, PASSPHRASE, True)
    assert restored.keys
    for path in (market.path / "keys").iterdir():
        back = tmp_path / "new" / "keys" / path.name
        assert back.read_bytes() == path.read_bytes() and stat.S_IMODE(back.stat().st_mode) == 0o600
    wrong = Restore(tmp_path / "sealed", tmp_path / "other")
    assert code(wrong.run, CONFIG, [], None, b"another passphrase", True) == "SEAL_NOT_OPENED"
    assert not (tmp_path / "other").exists()
    market.__post_init__()


def test_a_seal_opens_with_its_passphrase_only_and_not_when_it_was_altered() -> None:
    cheap = pwhash.argon2id.OPSLIMIT_MIN, pwhash.argon2id.MEMLIMIT_MIN
    sealed = seal({"a": b"1", "b": b"2"}, PASSPHRASE, *cheap)
    assert unseal(sealed, PASSPHRASE) == {"a": b"1", "b": b"2"}
    altered = sealed[:-1] + bytes([sealed[-1] ^ 1])
    for data, word in ((sealed, b"wrong"), (altered, PASSPHRASE), (b"", PASSPHRASE), (sealed[:40], PASSPHRASE)):
        assert code(unseal, data, word) == "SEAL_NOT_OPENED"
    assert code(unseal, seal({"../up": b"1"}, PASSPHRASE, *cheap), PASSPHRASE) == "SEAL_NOT_OPENED"


def test_a_passphrase_is_private_and_long_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOVATE_PASSPHRASE", raising=False)
    file = tmp_path / "pass"
    file.write_bytes(PASSPHRASE + b"\n")
    file.chmod(0o644)
    assert code(read_passphrase, file) == "PASSPHRASE_UNSAFE"
    file.chmod(0o600)
    assert read_passphrase(file) == PASSPHRASE
    assert read_passphrase(None) is None
    monkeypatch.setenv("NOVATE_PASSPHRASE", "short")
    assert code(read_passphrase, None) == "PASSPHRASE_WEAK"


# --- the way back ---


@pytest.fixture
def backup(market: World, tmp_path: Path) -> Path:
    """A backup, after which the journal went on by three commits."""
    market.close()
    back_up(market.path, tmp_path / "backup", 1)
    market.__post_init__()
    grow(market)
    return tmp_path / "backup"


def run(
    backup: Path, target: Path, *evidence: Evidence, blocks: Path | None = None, nothing_since: bool = False
) -> Restored:
    source = None if blocks is None else lambda seq: blocks_of(blocks, seq)
    return Restore(backup, target).run(CONFIG, evidence, source, None, nothing_since)


def signed_now(world: World) -> Evidence:
    """The newest checkpoint, as a member got it with a receipt."""
    return evidence_of_note(world.ok(world.batch("bob", order(coid=world.nonces)))[0].checkpoint.note, "a receipt")


def test_a_node_does_not_start_on_a_backup(backup: Path) -> None:
    """Whoever copies it into place by hand is stopped before anything is signed."""
    assert refusal(Node, backup) == "IS_A_BACKUP"


def test_a_copy_that_someone_is_ahead_of_is_not_restored(market: World, backup: Path, tmp_path: Path) -> None:
    """A checkpoint in a member's hands is enough; nothing is left behind, and the message says what is missing."""
    seen = signed_now(market)
    size = read_manifest(backup).size
    with pytest.raises(NovateError) as caught:
        run(backup, tmp_path / "new", seen)
    assert caught.value.code == "RESTORE_BEHIND"
    assert f"entries {size} to {seen.size - 1}" in caught.value.message and "--from" in caught.value.message
    assert code(run, backup, tmp_path / "new", seen, nothing_since=True) == "RESTORE_BEHIND"
    assert not (tmp_path / "new").exists() and not (tmp_path / ".new.restoring").exists()


def test_what_is_missing_is_brought_in_and_the_journal_goes_on(market: World, backup: Path, tmp_path: Path) -> None:
    """From the old disk: the same bytes as if nothing had happened, and the restored venue extends them."""
    seen = signed_now(market)
    old = twin(market.path, tmp_path / "old")
    restored = run(backup, tmp_path / "new", seen, evidence_of_journal(old), blocks=old)
    head = market.store.head()
    assert (restored.size, restored.root) == (head.next_seq, head.tree_root)
    assert restored.filled == head.next_seq - read_manifest(backup).size > 0
    shutil.copytree(market.path / "keys", tmp_path / "new" / "keys")
    again = World(tmp_path / "new", market.now_us)
    try:
        assert again.store.head() == head
        grow(again, 1)
        assert again.store.consistency(head.next_seq) and replay(entries(again.store)).ok
    finally:
        again.close()


def test_blocks_that_nobody_signed_are_not_taken(market: World, backup: Path, tmp_path: Path) -> None:
    """A mirror may not lead past the newest evidence."""
    seen = signed_now(market)
    grow(market)
    old = twin(market.path, tmp_path / "old")
    assert run(backup, tmp_path / "new", seen, blocks=old).size == seen.size < market.store.head().next_seq


def test_another_history_is_told_from_an_old_one(market: World, backup: Path, tmp_path: Path) -> None:
    """Evidence of the same size with another root: signed by the operator's own key, so somebody forked."""
    genesis, head = market.reducer.state.genesis, read_manifest(backup).size
    origin = notes.origin_of(genesis.origin, genesis.deployment)
    forged = notes.sign(notes.Checkpoint(origin, head, b"\x01" * 32), market.operator_seed)
    assert code(run, backup, tmp_path / "new", evidence_of_note(forged, "x")) == "RESTORE_FORKED"
    true = notes.sign(notes.Checkpoint(origin, head, market.store.root(head)), market.operator_seed)
    assert run(backup, tmp_path / "new", evidence_of_note(true, "x")).size == head


def test_a_checkpoint_of_somebody_else_is_no_evidence(market: World, backup: Path, tmp_path: Path) -> None:
    """Otherwise anyone could keep a venue down with an invented one."""
    genesis, size = market.reducer.state.genesis, read_manifest(backup).size
    origin = notes.origin_of(genesis.origin, genesis.deployment)
    stranger = notes.sign(notes.Checkpoint(origin, size + 9, bytes(32)), b"\x07" * 32)
    other = notes.sign(notes.Checkpoint("else/where/journal", size + 9, bytes(32)), market.operator_seed)
    for text in (stranger, other):
        assert code(run, backup, tmp_path / "new", evidence_of_note(text, "x")) == "CHECKPOINT_FOREIGN"
    assert code(evidence_of_note, "not a note", "x") == "CHECKPOINT_MALFORMED"


def test_without_evidence_the_operator_must_state_it(backup: Path, tmp_path: Path) -> None:
    """No file can say that nothing was signed since."""
    with pytest.raises(NovateError) as caught:
        run(backup, tmp_path / "new")
    assert caught.value.code == "RESTORE_UNPROVEN" and "--nothing-since" in caught.value.message
    assert run(backup, tmp_path / "new", nothing_since=True).filled == 0


def test_a_directory_in_use_is_not_restored_into(market: World, backup: Path, tmp_path: Path) -> None:
    """But keys may lie there: they are restored from elsewhere."""
    assert code(run, backup, market.path, nothing_since=True) == "DATA_DIR_NOT_EMPTY"
    shutil.copytree(market.path / "keys", tmp_path / "new" / "keys")
    assert run(backup, tmp_path / "new", nothing_since=True).size
    assert (tmp_path / "new" / "keys" / "operator.ed25519").exists()


def _flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0x40
    path.write_bytes(raw)


@pytest.mark.parametrize("name", ["config.toml", "journal/data.mdb", "journal/witness"])
def test_a_damaged_backup_is_not_restored(backup: Path, tmp_path: Path, name: str) -> None:
    """One bit of any file."""
    _flip(backup / name)
    assert code(run, backup, tmp_path / "new", nothing_since=True) == "BACKUP_DAMAGED"
    assert not (tmp_path / "new").exists()


def test_a_manifest_that_points_elsewhere_is_refused(backup: Path, tmp_path: Path) -> None:
    """Or is none at all."""
    text = (backup / MANIFEST).read_text()
    (backup / MANIFEST).write_text(text.replace('"config.toml"', '"../config.toml"'))
    assert code(run, backup, tmp_path / "new", nothing_since=True) == "BACKUP_DAMAGED"
    (backup / MANIFEST).write_text("{")
    assert code(run, backup, tmp_path / "new", nothing_since=True) == "BACKUP_DAMAGED"
    (backup / MANIFEST).unlink()
    assert code(run, backup, tmp_path / "new", nothing_since=True) == "BACKUP_NOT_FOUND"


# --- what a chain knows ---


def chained(deployed: Deployed) -> Config:
    config = configuration.load(deployed.path)
    return configuration.override(config, {"rpc_urls": (deployed.rpc.url,), "confirmations": 0})


def post(node: Node, count: int = 1) -> None:
    for _ in range(count):
        node.poster.turn()


@pytest.mark.slow
def test_a_posted_header_ahead_of_the_backup_stops_it(deployed: Deployed, tmp_path: Path) -> None:
    """Even if the operator states that nothing was signed: the chain says otherwise. With the missing blocks the same
    backup is restored, and posting goes on from the next epoch."""
    deployed.deposit("alice", 10**9)
    deployed.deposit("bob", 10**9)
    node = deployed.node()
    node.intakes[0].turn()
    trade(node)
    post(node)
    node.close()
    back_up(deployed.path, tmp_path / "backup", 1)
    node = deployed.node()
    post(node)
    node.close()
    config, restore = chained(deployed), Restore(tmp_path / "backup", tmp_path / "new")
    assert code(restore.run, config, [], None, None, True) == "RESTORE_BEHIND"
    old = deployed.path / "journal"
    shutil.copytree(deployed.path / "keys", tmp_path / "new" / "keys")
    found = restore.run(config, [evidence_of_journal(old)], lambda seq: _listed(old, seq))
    assert found.epoch == 2 and {row.source for row in found.evidence} == {str(old), "vault 0, epoch 2"}
    again = Deployed(tmp_path / "new", deployed.places).node()
    try:
        post(again)
        assert deployed.vault.epoch_count() == 3
    finally:
        again.close()


def _listed(path: Path, seq: int) -> Iterable[bytes]:
    return list(blocks_of(path, seq))


@pytest.mark.slow
def test_a_chain_that_does_not_answer_is_not_taken_for_agreement(deployed: Deployed, tmp_path: Path) -> None:
    back_up(deployed.path, tmp_path / "backup", 1)
    dead = configuration.override(configuration.load(deployed.path), {"rpc_urls": ("http://127.0.0.1:9",)})
    with pytest.raises(ChainError, match="RPC_UNREACHABLE"):
        Restore(tmp_path / "backup", tmp_path / "new").run(dead, [], None, None, True)
    assert not (tmp_path / "new").exists()
