# SPDX-License-Identifier: GPL-3.0-or-later
"""Restarts: a recovered state is the live state, whatever lies between the two."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clearing.core.snapshot import dump
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.codec import decode_any_envelope, decode_entry, encode_entry
from clearing.model.errors import NovateError
from clearing.service.epochs import EpochBook
from clearing.service.layout import Layout
from clearing.service.pipeline import Receipt, Recent
from clearing.service.recover import open_store, recover, warm
from clearing.service.setup import Deployment, init_data_dir
from journal.replay import entries
from tests.service.world import (
    DEPLOYMENT,
    INSTRUMENTS,
    MAP_BYTES,
    START_US,
    TREASURY,
    World,
    make_data_dir,
    order,
)

ROOT = Path(__file__).resolve().parents[2]


def trade(world: World, first: int, count: int) -> None:
    """Resting and crossing orders, withdrawals and transfers, in `count` batches."""
    for n in range(first, first + count):
        world.ok(
            world.batch("alice", order(coid=n, size=3), c.Withdraw(0, 0, 5)),
            world.batch("bob", order(ids.SELL, size=2, coid=n), c.Transfer(1, 7)),
        )


def close_epoch(world: World) -> None:
    """Close the next epoch and write its records."""
    world.ok(world.operator(c.CloseEpoch(world.reducer.state.epoch + 1, ((1, bytes(32)),))))
    world.book.flush()


def reopened(world: World) -> World:
    world.close()
    return World(world.path)


def test_replay_from_genesis_is_the_live_state(market: World) -> None:
    """Without any snapshot the journal alone gives the same bytes of state."""
    trade(market, 1, 5)
    live = dump(market.reducer.state)
    again = reopened(market)
    assert again.from_seq == 0
    assert dump(again.reducer.state) == live
    again.close()


def test_snapshot_and_tail_are_the_live_state(market: World) -> None:
    """A restart starts at the newest epoch's snapshot and ends in the live state; roots continue alike."""
    trade(market, 1, 4)
    close_epoch(market)
    trade(market, 100, 3)
    close_epoch(market)
    trade(market, 200, 3)
    live = dump(market.reducer.state)
    again = reopened(market)
    assert again.from_seq > 0
    assert dump(again.reducer.state) == live
    assert again.reducer.state.vaults[0].exit_tree.root == market.reducer.state.vaults[0].exit_tree.root
    assert again.reducer.state.state_tree.root == market.reducer.state.state_tree.root
    again.close()


def test_an_epoch_closed_within_a_batch_is_captured_as_it_was(market: World) -> None:
    """Commands after CloseEpoch in one batch do not reach its snapshot, which ends its block."""
    close = market.operator(c.CloseEpoch(1, ((1, bytes(32)),)))
    receipts = market.ok(market.batch("alice", order()), close, market.batch("bob", order(ids.SELL)))
    live = dump(market.reducer.state)
    (record,) = market.book.flush()
    assert record.snapshot_seq == receipts[1].seq + 1
    again = reopened(market)
    assert again.from_seq == record.snapshot_seq
    assert dump(again.reducer.state) == live
    again.close()


def test_lost_and_damaged_caches_are_made_again(market: World) -> None:
    """Records and snapshots are caches: lost or damaged ones are made again, byte for byte."""
    for first in (1, 100, 200):
        trade(market, first, 2)
        close_epoch(market)
    layout, live = Layout(market.path), dump(market.reducer.state)
    records = {path: path.read_bytes() for path in sorted(layout.epochs.iterdir())}
    newest = max(layout.snapshots.iterdir())
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(bytes(content))
    (layout.epochs / "0000000002.epoch").unlink()
    again = reopened(market)
    assert dump(again.reducer.state) == live
    assert {path: path.read_bytes() for path in sorted(layout.epochs.iterdir())} == records
    again.close()


def test_a_journal_that_this_build_does_not_reproduce_is_not_started(market: World, tmp_path: Path) -> None:
    """A tail whose outcomes differ stops the start with the entry's number."""
    trade(market, 1, 1)
    data = [entry for _, entry in entries(market.store)]
    market.close()
    victim = len(data) - 1
    entry = decode_entry(data[victim])
    data[victim] = encode_entry(entry.seq, entry.time_us, entry.envelope, entry.outcomes[:-1])
    forged = tmp_path / "forged"
    forged.mkdir()
    from journal import Store

    with Store.create(forged / "journal", map_bytes=MAP_BYTES) as store:
        store.append(data, store.head())
        with pytest.raises(NovateError, match=f"entry {victim}") as raised:
            recover(store, Layout(forged))
    assert raised.value.code == "REPLAY_DIVERGED"


def test_a_retry_across_a_restart_gets_the_first_receipt(market: World) -> None:
    """A client that lost the answer in a crash repeats its bytes and learns its seq."""
    raw = market.batch("alice", order())
    (first,) = market.ok(raw)
    again = reopened(market)
    recent = Recent(100)
    receipts = warm(recent, again.store)
    found = recent.find(decode_any_envelope(raw)[0])
    assert found is not None
    assert (found.seq, found.entry) == (first.seq, first.entry)
    assert receipts[-1].seq == again.store.head().next_seq - 1
    again.close()


def test_init_never_overwrites(world: World) -> None:
    """A directory that holds a deployment is refused, and its keys stay what they were."""
    keys = {path: path.read_bytes() for path in Layout(world.path).keys.iterdir()}
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}
    chosen = Deployment(
        DEPLOYMENT, "novate.test", (c.Vault(1, bytes(20), (bytes(20),)),), bytes(20), TREASURY, INSTRUMENTS
    )
    with pytest.raises(NovateError) as raised:
        init_data_dir(world.path, chosen, START_US)
    assert raised.value.code == "DATA_DIR_NOT_EMPTY"
    assert {path: path.read_bytes() for path in Layout(world.path).keys.iterdir()} == keys


def test_book_survives_a_damaged_record(market: World) -> None:
    """A damaged record is a named error, and ends the run of whole records."""
    close_epoch(market)
    close_epoch(market)
    path = Layout(market.path).epochs / "0000000002.epoch"
    path.write_bytes(path.read_bytes()[:-5])
    book = EpochBook(Layout(market.path), market.reducer.state.genesis)
    assert book.last_whole() == 1
    with pytest.raises(NovateError) as raised:
        book.load(2)
    assert raised.value.code == "EPOCH_RECORD_DAMAGED"


WRITER = """
import sys
from pathlib import Path
import clearing.model.commands as c
from clearing.service.pipeline import Receipt
from tests.service.world import World, order
world = World(Path(sys.argv[1]))
n = 0
while True:
    n += 1
    raws = [world.batch("alice", order(coid=n * 10 + i, price=10_000)) for i in range(5)]
    for result in world.process(*raws):
        assert isinstance(result, Receipt)
        print(result.seq, result.entry_hash.hex(), flush=True)
    if n % 20 == 0:
        world.process(world.batch("alice", c.CancelAll()))
"""

FULL = """
import os, resource, sys
from pathlib import Path
from clearing.model import commands as c
from clearing.service.layout import Layout
from clearing.service.pipeline import Receipt
from tests.service.world import World
world = World(Path(sys.argv[1]))
data = Layout(world.path).journal / "data.mdb"
resource.setrlimit(resource.RLIMIT_FSIZE, (data.stat().st_size + 65_536,) * 2)
for n in range(40):
    batch = [world.batch("alice", *[c.CancelOrder(2**62 + i) for i in range(50)]) for _ in range(300)]
    for result in world.process(*batch):
        if isinstance(result, Receipt):
            print(result.seq, result.entry_hash.hex(), flush=True)
        else:
            print("refused", result.code, flush=True)
            again = world.process(world.batch("alice", c.CancelAll()))[0]
            print("then", again.code, flush=True)
            sys.exit(0)
sys.exit("the disk never filled")
"""


def _child(script: str, path: Path) -> "subprocess.Popen[str]":
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", script, str(path)],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def _acknowledged(output: str) -> dict[int, str]:
    found = {}
    for line in output.splitlines():
        first, _, second = line.partition(" ")
        if first.isdigit() and len(second) == 64:
            found[int(first)] = second
    return found


def _assert_kept(path: Path, acknowledged: dict[int, str]) -> None:
    """Everything acknowledged is in the journal, and a restart reproduces the journal."""
    assert acknowledged
    again = World(path)
    for seq, digest in acknowledged.items():
        assert again.store.leaf(seq).hex() == digest
    assert again.store.head().next_seq == again.store.head().tree_size
    assert isinstance(again.process(again.batch("alice", c.CancelAll()))[0], Receipt)
    again.close()


def test_a_killed_process_loses_nothing_it_acknowledged(market: World) -> None:
    """kill -9 under load: every acknowledged entry is there, and the next start is clean."""
    market.close()
    child = _child(WRITER, market.path)
    assert child.stdout is not None
    lines = [child.stdout.readline() for _ in range(60)]
    time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    rest, _ = child.communicate(timeout=20)
    _assert_kept(market.path, _acknowledged("".join(lines) + rest))


@pytest.mark.slow
def test_a_full_disk_refuses_and_loses_nothing(market: World) -> None:
    """When the file cannot grow even after the reserve, commands are refused with DISK_FULL, the process
    stays refusing, and a restart with room continues from what was acknowledged."""
    market.close()
    child = _child(FULL, market.path)
    output, _ = child.communicate(timeout=60)
    assert child.returncode == 0
    assert "refused DISK_FULL" in output
    assert "then DISK_FULL" in output
    layout = Layout(market.path)
    open_store(layout, MAP_BYTES).close()
    _assert_kept(market.path, _acknowledged(output))


def test_directories_are_made_private(tmp_path: Path) -> None:
    """Keys are readable by their owner only; a key file that others can read is refused."""
    path = tmp_path / "venue"
    make_data_dir(path)
    key = Layout(path).keys / "operator.ed25519"
    key.chmod(0o644)
    with pytest.raises(NovateError) as raised:
        World(path)
    assert raised.value.code == "KEY_FILE_UNSAFE"
