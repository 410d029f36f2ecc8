# SPDX-License-Identifier: GPL-3.0-or-later
"""The store against a model in memory, and its refusals."""

import os
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journal import block as blocks
from journal import errors, replay, tree
from journal.errors import JournalError
from journal.fsck import Checker
from journal.head import Head
from journal.store import Store
from tests.journal import forked
from tests.journal.reference import Reference, leaf

ROOT = Path(__file__).resolve().parents[2]


def fresh(path: Path) -> Store:
    return Store.create(path, grow_bytes=65_536, reserve_bytes=4096)


def reopened(path: Path) -> Store:
    return Store.open(path, grow_bytes=65_536, reserve_bytes=4096)


def refused(code: str, action: object, *arguments: object, **named: object) -> JournalError:
    with pytest.raises(JournalError) as caught:
        action(*arguments, **named)  # type: ignore[operator]
    assert caught.value.code == code, caught.value
    return caught.value


def compare(store: Store, model: list[bytes], cuts: list[int], rng: random.Random) -> None:
    """Everything the store answers, against the list of entries and the seqs at which blocks end."""
    reference, size = Reference([leaf(entry) for entry in model]), len(model)
    head = store.head()
    assert (head.next_seq, head.tree_size, head.tree_root) == (size, size, reference.root(size))
    assert list(replay.entries(store)) == list(enumerate(model))
    assert [block.next_seq for block in store.read()] == cuts
    start = rng.randint(0, size)
    assert list(replay.entries(store, start)) == list(enumerate(model))[start:]
    for _ in range(10 if size else 0):
        index, later = rng.randrange(size), rng.randint(1, size)
        assert store.entry(index) == model[index]
        assert store.leaf(index) == leaf(model[index])
        assert store.root(later) == reference.root(later)
        within, prior = rng.randrange(later), rng.randint(1, later)
        assert store.inclusion(within, later) == reference.path(within, later)
        assert store.consistency(prior, later) == reference.proof(prior, later)


actions = st.one_of(
    st.lists(st.binary(max_size=80), min_size=1, max_size=30),
    st.integers(100, 700).map(lambda count: [b"%d" % i for i in range(count)]),
    st.sampled_from(["reopen"]),
)


@settings(max_examples=40, deadline=None)
@given(st.lists(actions, max_size=8), st.integers(0, 2**32))
def test_store_equals_a_list(checker: Checker, steps: list[list[bytes] | str], seed: int) -> None:
    """Random appends and reopenings: entries, blocks, roots and proofs are those of a plain list, a
    second handle for reading sees the same, and fsck finds nothing."""
    rng = random.Random(seed)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "journal"
        store, model, cuts = fresh(path), list[bytes](), list[int]()
        for step in steps:
            if isinstance(step, str):
                before = store.head()
                store.close()
                store = reopened(path)
                assert store.head() == before
            else:
                assert store.append(step, store.head()) == store.head()
                model += step
                cuts.append(len(model))
        compare(store, model, cuts, rng)
        head = store.head()
        store.close()
        with Store.open(path, read_only=True) as reader:
            compare(reader, model, cuts, rng)
        report = checker.check(path)
        assert (report.ok, report.warnings, report.entries) == (True, (), len(model)), report
        assert (report.blocks, report.root) == (len(cuts), head.tree_root.hex())


def test_the_head_is_compared_before_an_append(tmp_path: Path) -> None:
    """An append that expects any head but the current one is refused and changes nothing."""
    with fresh(tmp_path / "j") as store:
        empty = store.head()
        first = store.append([b"a"], empty, term=2)
        for stale in (empty, Head(2, 1, bytes(32), 1, first.tree_root), Head()):
            error = refused(errors.HEAD_MISMATCH, store.append, [b"b"], stale)
            assert error.seq == 1
        refused(errors.TERM_TOO_LOW, store.append, [b"b"], first, 1)
        refused(errors.BLOCK_EMPTY, store.append, [], first)
        refused(errors.ENTRY_TOO_LARGE, store.append, [bytes(65_536)], first)
        refused(errors.BLOCK_TOO_LARGE, store.append, [bytes(60_000)] * 17, first)
        refused(errors.OUT_OF_RANGE, store.entry, 1)
        refused(errors.OUT_OF_RANGE, store.entry, -1)
        refused(errors.OUT_OF_RANGE, store.inclusion, 1)
        refused(errors.OUT_OF_RANGE, store.inclusion, 0, 2)
        refused(errors.OUT_OF_RANGE, store.consistency, 2)
        refused(errors.OUT_OF_RANGE, store.root, 2)
        refused(errors.OUT_OF_RANGE, store.read, 2)
        assert store.head() == first
        assert store.append([b"b"], first).term == 2
        assert [entry for _, entry in replay.entries(store)] == [b"a", b"b"]


def test_a_replica_takes_only_the_next_block(tmp_path: Path) -> None:
    """Blocks copied from another journal give the same bytes and root; damaged or misplaced ones are
    refused by name."""
    with fresh(tmp_path / "a") as source, fresh(tmp_path / "b") as copy:
        for count in (3, 400, 1):
            source.append([b"%d" % i for i in range(count)], source.head())
        copied = list(source.read())
        bad = bytearray(copied[0].raw)
        bad[40] ^= 1
        refused(errors.BLOCK_HASH_MISMATCH, copy.append_block, bytes(bad), copy.head())
        refused(errors.HEAD_MISMATCH, copy.append_block, copied[1], copy.head())
        for block in copied:
            copy.append_block(block.raw, copy.head())
        assert copy.head() == source.head()
        assert [block.raw for block in copy.read()] == [block.raw for block in copied]


def test_a_second_writer_is_refused_at_the_door(tmp_path: Path) -> None:
    """While one writer has the journal open, no other handle or process can open it for writing."""
    path = tmp_path / "j"
    with fresh(path) as store:
        store.append([b"a"], store.head())
        refused(errors.JOURNAL_LOCKED, Store.open, path)
        refused(errors.JOURNAL_LOCKED, Store.open, path, True)

        head = store.head()

        def other(send: forked.Send) -> None:
            send(refused(errors.JOURNAL_LOCKED, store.append, [b"b"], head).code)
            send(refused(errors.JOURNAL_LOCKED, store.entry, 0).code)

        assert forked.run(other) == (0, [errors.JOURNAL_LOCKED] * 2)
        script = "import sys; from journal.store import Store; Store.open(sys.argv[1])"
        done = subprocess.run([sys.executable, "-c", script, path], cwd=ROOT, capture_output=True, check=False)
        assert errors.JOURNAL_LOCKED.encode() in done.stderr
        store.append([b"c"], store.head())
    with Store.open(path) as again:
        assert [entry for _, entry in replay.entries(again)] == [b"a", b"c"]


def test_a_second_writer_past_the_lock_never_interleaves(tmp_path: Path) -> None:
    """With the lock file deleted by hand, two writers are open; the one whose head went stale is refused."""
    path = tmp_path / "j"
    fresh(path).close()

    def rival(send: forked.Send) -> None:
        with Store.open(path) as store:
            for i in range(20):
                store.append([b"rival %d" % i], store.head())
        send("done")

    def first(send: forked.Send) -> None:
        store = Store.open(path)
        store.append([b"first"], store.head())
        (path / "writer.lock").unlink()
        assert forked_elsewhere(path)
        send(refused(errors.HEAD_MISMATCH, store.append, [b"stale"], store.head()).code)
        send(refused(errors.HEAD_MISMATCH, store.append, [b"stale"], store.head()).code)

    assert forked.run(first) == (0, [errors.HEAD_MISMATCH] * 2)
    assert forked.run(rival) == (0, ["done"])
    with Store.open(path, read_only=True) as store:
        expected = [b"first", b"elsewhere", *(b"rival %d" % i for i in range(20))]
        assert [entry for _, entry in replay.entries(store)] == expected


def forked_elsewhere(path: Path) -> bool:
    """Append one entry from a process that shares nothing with this one."""
    script = (
        "import sys; from journal.store import Store; "
        "store = Store.open(sys.argv[1]); store.append([b'elsewhere'], store.head())"
    )
    return subprocess.run([sys.executable, "-c", script, path], cwd=ROOT, check=False).returncode == 0


def test_a_reader_follows_the_writer(tmp_path: Path) -> None:
    """A reader in another process sees each commit, proves against it, and can write nothing."""
    path = tmp_path / "j"
    fresh(path).close()
    ready, go = os.pipe(), os.pipe()

    def reader(send: forked.Send) -> None:
        with Store.open(path, read_only=True) as store:
            send(store.head().next_seq)
            os.write(ready[1], b"r")
            os.read(go[0], 1)
            send([entry for _, entry in replay.entries(store)])
            send(store.inclusion(299) == Reference([leaf(b"%d" % i) for i in range(300)]).path(299, 300))
            send(refused(errors.JOURNAL_READ_ONLY, store.append, [b"x"], store.head()).code)

    writer = os.fork()
    if writer == 0:  # the writer: waits for the reader, appends, lets it go on
        os.read(ready[0], 1)
        with reopened(path) as store:
            for start in range(0, 300, 100):
                store.append([b"%d" % i for i in range(start, start + 100)], store.head())
        os.write(go[1], b"g")
        os._exit(0)
    status, sent = forked.run(reader)
    os.waitpid(writer, 0)
    for end in (*ready, *go):
        os.close(end)
    assert (status, sent) == (0, [0, [b"%d" % i for i in range(300)], True, errors.JOURNAL_READ_ONLY])


def test_creation_is_all_or_nothing(tmp_path: Path) -> None:
    """An existing journal is never replaced; an empty directory is used; leftovers of a kill are cleaned."""
    path = tmp_path / "j"
    refused(errors.JOURNAL_NOT_FOUND, Store.open, path)
    path.mkdir()
    leftover = tmp_path / ".j.creating"
    leftover.mkdir()
    (leftover / "data.mdb").write_bytes(b"half")
    with fresh(path) as store:
        store.append([b"a"], store.head())
        refused(errors.JOURNAL_EXISTS, Store.create, path)
    assert sorted(os.listdir(tmp_path)) == ["j"]
    with Store.open(path) as store:
        assert store.head().next_seq == 1
    refused(errors.JOURNAL_CLOSED, store.head)
    (tmp_path / "file").write_bytes(b"")
    refused(errors.JOURNAL_EXISTS, Store.create, tmp_path / "file")
    refused(errors.JOURNAL_NOT_FOUND, Store.open, tmp_path / "file")


def test_a_lost_tail_is_noticed(tmp_path: Path, checker: Checker) -> None:
    """An older copy of the data file, sound in itself, is refused at opening and reported by fsck,
    whether the writer was killed or closed; with a rewritten history too."""
    path = tmp_path / "j"
    with fresh(path) as store:
        store.append([b"a"], store.head())
    older = (path / "data.mdb").read_bytes()
    with reopened(path) as store:
        store.append([b"b"], store.head())
    newest = (path / "data.mdb").read_bytes()
    (path / "data.mdb").write_bytes(older)
    refused(errors.JOURNAL_CORRUPT, Store.open, path)
    report = checker.check(path)
    assert (report.ok, report.first_bad_seq) == (False, 1), report
    (path / "data.mdb").write_bytes(newest)
    assert checker.check(path).ok
    witness = (path / "witness").read_bytes()
    (path / "witness").unlink()
    (path / "data.mdb").write_bytes(older)
    with reopened(path) as store:
        store.append([b"another b"], store.head())
    (path / "witness").write_bytes(witness)
    refused(errors.JOURNAL_CORRUPT, Store.open, path)
    assert not checker.check(path).ok


def test_a_foreign_format_is_refused(tmp_path: Path) -> None:
    """A journal of another format version is named as such and left alone."""
    import lmdb

    path = tmp_path / "j"
    fresh(path).close()
    with lmdb.open(str(path), lib_version=0, max_dbs=3) as env, env.begin(write=True) as txn:
        txn.put(b"format", b"novate-journal/9", db=env.open_db(b"meta", txn=txn))
    refused(errors.JOURNAL_FORMAT, Store.open, path)
    (path / "data.mdb").write_bytes(b"")
    refused(errors.JOURNAL_CORRUPT, Store.open, path)
    assert (path / "data.mdb").read_bytes() == b""


@pytest.mark.slow
def test_replay_memory_is_flat(tmp_path: Path) -> None:
    """Reading 40 MB of entries holds no more than a few blocks at a time."""
    path = tmp_path / "j"
    with Store.create(path, reserve_bytes=0) as store:
        for _ in range(45):
            store.append([os.urandom(900) for _ in range(1000)], store.head())

    def reader(send: forked.Send) -> None:
        import tracemalloc

        with Store.open(path, read_only=True) as store:
            tracemalloc.start()
            total = sum(len(entry) for _, entry in replay.entries(store))
            send([total, tracemalloc.get_traced_memory()[1]])

    status, sent = forked.run(reader)
    (total, peak) = msgspec.convert(sent[0], tuple[int, int])
    assert status == 0 and total == 45 * 1000 * 900
    assert peak < 8_000_000


def test_a_failed_sync_ends_the_writer(tmp_path: Path) -> None:
    """When fdatasync fails, the append is a fatal error, later ones are refused although the disk is
    well again, and what was acknowledged before is there at the next start."""
    if subprocess.run(["which", "strace"], capture_output=True, check=False).returncode:
        pytest.skip("strace is not installed")
    path = tmp_path / "j"
    with fresh(path) as store:
        store.append([b"kept"], store.head())
    script = """
import sys
from journal.errors import FatalJournalError
from journal.store import Store
store = Store.open(sys.argv[1])
for _ in range(3):
    try:
        store.append([b"x"], store.head())
    except FatalJournalError as error:
        print(error.code, flush=True)
"""
    inject = ["-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=1"]
    done = subprocess.run(
        ["strace", "-f", "-o", "/dev/null", *inject, sys.executable, "-c", script, path],
        cwd=ROOT, capture_output=True, check=False, text=True,
    )  # fmt: skip
    if "ptrace" in done.stderr.lower():
        pytest.skip(f"strace may not trace here: {done.stderr.strip()}")
    assert done.stdout.split() == [errors.COMMIT_FAILED] * 3, done
    with reopened(path) as store:
        # The failed commit may or may not have reached the disk; nothing after it has.
        assert [entry for _, entry in replay.entries(store)] in ([b"kept"], [b"kept", b"x"])
        store.append([b"y"], store.head())


@pytest.mark.slow
def test_entry_by_search_in_many_blocks(tmp_path: Path, rng: random.Random) -> None:
    """entry(seq) finds its block among thousands of uneven ones, first and last of each included."""
    path = tmp_path / "j"
    with fresh(path) as store:
        seq, edges = 0, []
        for _ in range(1500):
            count = rng.choice((1, 1, 2, 7))
            store.append([b"%d" % (seq + i) for i in range(count)], store.head())
            edges += [seq, seq + count - 1]
            seq += count
        for wanted in rng.sample(edges, 300):
            assert store.entry(wanted) == b"%d" % wanted
        assert store.root(seq // 2) == Reference([leaf(b"%d" % i) for i in range(seq // 2)]).root(seq // 2)
        with pytest.raises(JournalError, match=errors.HEAD_MISMATCH):
            store.append_block(blocks.build(0, seq + 1, store.head().block_hash, [b"gap"]), store.head())
        assert tree.leaf_hashes([b"0"])[0] == store.leaf(0)


def test_a_killed_writer_frees_the_lock(tmp_path: Path) -> None:
    """The kernel drops a dead writer's lock: the next start needs no clean-up by hand."""
    path = tmp_path / "j"
    fresh(path).close()

    def writer(send: forked.Send) -> None:
        store = reopened(path)
        send(store.append([b"a"], store.head()).next_seq)
        os.kill(os.getpid(), signal.SIGKILL)

    assert forked.run(writer) == (-signal.SIGKILL, [1])
    with reopened(path) as store:
        assert store.append([b"b"], store.head()).next_seq == 2
