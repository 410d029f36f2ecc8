# SPDX-License-Identifier: GPL-3.0-or-later
"""The replica: the sequencer's state, a moment later, whatever happens to either process."""

import asyncio
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from clearing.api import link as links
from clearing.api import replica as replicas
from clearing.api.entries import is_heavy
from clearing.api.replica import Applied, Replica
from clearing.core.snapshot import dump
from clearing.model import commands as c
from clearing.model.codec import encode_entry
from clearing.model.errors import NovateError
from clearing.model.outcomes import EpochClosed
from clearing.service.epochs import EpochBook
from clearing.service.layout import Layout
from clearing.service.link.ring import Ring
from clearing.service.node import Node
from clearing.service.pipeline import Receipt
from clearing.service.recover import read_genesis
from journal import JournalError
from journal import block as blocks
from tests.api.venue import (
    PATIENCE_S,
    ROOT,
    following,
    journal,
    linked,
    node_of,
    run,
    state_on_disk,
    trades,
    until,
    writing,
)
from tests.service.world import World, make_data_dir, order


def closing(world: World, epoch: int) -> bytes:
    return world.operator(c.CloseEpoch(epoch, ((1, bytes(32)),)))


def commit(node: Node, raws: list[bytes]) -> int:
    """Have a node of this process sequence envelopes, one by one; the journal's size after."""
    for raw in raws:
        node.sequencer.submit(raw).result(PATIENCE_S)
    return node.store.head().next_seq


class Epochs:
    """The replica's state at each epoch's close, by epoch, and how often it heard of each entry."""

    def __init__(self, replica: Replica) -> None:
        self.states: dict[int, bytes] = {}
        self.seqs: list[int] = []
        self._replica = replica
        replica.on_entries(self._note)

    def _note(self, applied: list[Applied]) -> None:
        self.seqs += [entry.seq for entry in applied]
        assert self._replica.seq == applied[-1].seq + 1, "the state stands after the last of the slice"
        for outcome in applied[-1].outcomes:
            if isinstance(outcome, EpochClosed):
                self.states[outcome.epoch] = dump(self._replica.state)


def snapshots_of(path: Path) -> dict[int, bytes]:
    """The sequencer's own snapshots, by epoch."""
    layout = Layout(path)
    with journal(path) as store:
        book = EpochBook(layout, read_genesis(store))
        return {number: book.payload(book.load(number)) for number in range(1, book.written() + 1)}


def test_it_is_the_sequencers_state_at_every_epoch(venue: World) -> None:
    """Two followers, one from the start and one that joins midway, hold at each epoch's close the bytes that the
    sequencer snapshots, and at the end the state that a restart recovers; every entry is heard of once, in order."""

    async def body() -> None:
        async with linked(venue.path) as link, following(venue.path) as first:
            heard, start = Epochs(first), first.seq
            await link.submit([*trades(venue, 1, 20), closing(venue, 1), *trades(venue, 100, 5)])
            async with following(venue.path) as second:
                late = Epochs(second)
                for epoch in (2, 3):
                    await link.submit([*trades(venue, 1000 * epoch, 10), closing(venue, epoch), order_of(venue, epoch)])
                size = (await link.ask("checkpoint"))["size"]
                for replica in (first, second):
                    await until(lambda replica=replica: replica.seq == size)  # type: ignore[misc]
                    assert replica.behind == 0 and not replica.stale
                    assert replica.checkpoint.size == size
                assert sorted(heard.states) == [1, 2, 3] and sorted(late.states)[-2:] == [2, 3]
                assert heard.seqs == list(range(start, size))
                assert dump(first.state) == dump(second.state)
                finals.append((dump(first.state), heard.states))

    finals: list[tuple[bytes, dict[int, bytes]]] = []
    with writing(venue.path) as writer:
        run(body())
        assert writer.stop() == 0
    ((final, states),) = finals
    assert states == snapshots_of(venue.path)
    assert final == state_on_disk(venue.path)


def order_of(world: World, coid: int) -> bytes:
    return world.batch("alice", order(coid=10_000 + coid))


def test_it_starts_from_the_newest_sound_snapshot(venue: World) -> None:
    """A restart replays the tail only; a damaged snapshot is passed over for an older one; without any, the journal
    from genesis gives the same."""

    async def from_seq() -> None:
        async with following(venue.path) as replica:
            found.append((replica.from_seq, dump(replica.state)))

    found: list[tuple[int, bytes]] = []
    with node_of(venue.path) as node:
        sizes = []
        for epoch in (1, 2):
            sizes.append(commit(node, [*trades(venue, 100 * epoch, 4), closing(venue, epoch)]))
            node.book.flush()
        commit(node, trades(venue, 500, 4))
        run(from_seq())
        folder = Layout(venue.path).snapshots
        newest = max(folder.iterdir())
        newest.write_bytes(newest.read_bytes()[:-1] + b"\x00")
        run(from_seq())
        for path in folder.iterdir():
            path.unlink()
        run(from_seq())
        assert [seq for seq, _ in found] == [sizes[1], sizes[0], 0]
        assert {state for _, state in found} == {dump(node.pipeline.reducer.state)}


@pytest.mark.slow
def test_reads_go_on_while_the_sequencer_is_gone(venue: World) -> None:
    """kill -9 of the sequencer: the replica says that it is stale and answers all the same; when a sequencer is back it
    goes on where it stood, without having been restored."""

    async def body() -> None:
        with writing(venue.path) as writer:
            async with linked(venue.path) as link, following(venue.path) as replica:
                heard, start = Epochs(replica), replica.seq
                await link.submit(trades(venue, 1, 30))
                assert await replica.wait_for(start + 59, PATIENCE_S)
                writer.kill()
                await until(lambda: replica.stale)
                assert replica.fault is not None and replica.fault.code == "SEQUENCER_UNREACHABLE"
                assert len((await replica.settled()).accounts) == len(venue.reducer.state.accounts)
                assert not await replica.wait_for(start + 60, 0.05)
                with writing(venue.path) as second:
                    await until(lambda: replica.connected)
                    assert await link.wait_connected(PATIENCE_S)
                    await link.submit([*trades(venue, 1_000, 10), closing(venue, 1)])
                    assert await replica.wait_for(start + 80, PATIENCE_S)
                    assert not replica.stale and replica.age_s < PATIENCE_S
                    assert heard.seqs == list(range(start, start + 81))
                    finals.append(dump(replica.state))
                    assert await asyncio.to_thread(second.stop) == 0

    finals: list[bytes] = []
    run(body())
    assert finals == [state_on_disk(venue.path)]


@pytest.mark.slow
def test_a_sequencer_that_stands_still_makes_reads_stale(venue: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped writer keeps its socket open: it is the missing beats that tell. They are back when it is; a request
    that was given up on meanwhile says that its outcome is unknown, and its retry gets the one receipt."""
    monkeypatch.setattr(replicas, "STALE_S", 1.8)
    raw = venue.batch("alice", order())

    async def body(process: subprocess.Popen[bytes]) -> None:
        async with linked(venue.path, timeout_s=0.2) as link, following(venue.path) as replica:
            await until(lambda: not replica.stale)
            process.send_signal(signal.SIGSTOP)
            with pytest.raises(NovateError, match="not known") as error:
                await link.submit([raw])
            assert error.value.code == "SEQUENCER_UNREACHABLE"
            await until(lambda: replica.stale)
            assert replica.connected
            process.send_signal(signal.SIGCONT)
            await until(lambda: not replica.stale)
            (again,) = await link.submit([raw])
            assert isinstance(again, Receipt)
            assert await replica.wait_for(again.seq)
            assert sum(raw in entry for block in replica.store.read() for entry in block.entries) == 1

    with writing(venue.path) as writer:
        run(body(writer.process))


@pytest.mark.slow
def test_a_lagging_follower_is_cut_and_catches_up(venue: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A follower that the ring passed by is cut, reads what it missed from the disk, and ends in the same state. The
    writer does not wait for it: everything is committed while the follower stands still."""
    monkeypatch.setattr(replicas, "MAX_PENDING_BYTES", 2_000)
    monkeypatch.setattr(links, "BUFFER_BYTES", 4_096)
    follow, codes, gate = Replica._follow, [], asyncio.Event()

    async def noted(replica: Replica) -> None:
        try:
            await follow(replica)
        except NovateError as error:
            codes.append(error.code)
            raise

    monkeypatch.setattr(Replica, "_follow", noted)

    async def body(node: Node) -> None:
        async with following(venue.path) as replica:
            await until(lambda: replica.connected)
            wake = replica._wake

            async def held() -> None:
                await wake()
                await gate.wait()

            monkeypatch.setattr(replica, "_wake", held)
            size = await asyncio.to_thread(commit, node, trades(venue, 1, 400))
            assert replica.seq < size and not codes
            gate.set()
            await until(lambda: replica.seq == size)
            assert dump(replica.state) == dump(node.pipeline.reducer.state)
            await until(lambda: replica.connected)
            size = await asyncio.to_thread(commit, node, trades(venue, 5_000, 3))
            await until(lambda: replica.seq == size)
            assert "LINK_TOO_FAR_BEHIND" in codes

    with node_of(venue.path) as node:
        latest = node.pipeline.committer.latest
        assert latest is not None and node.link is not None
        node.link._ring = ring = Ring(node.store.head(), latest, limit_bytes=5_000)
        node.store.on_append, node.pipeline.on_head = ring.add, ring.publish
        run(body(node))
        assert not node.faults.current()


@pytest.mark.slow
def test_the_ring_cuts_and_refuses_by_name(venue: World) -> None:
    """Joining: at the head, at a block in the ring; not before it, beyond the head, or with another history."""
    with node_of(venue.path) as node:
        latest = node.pipeline.committer.latest
        assert latest is not None
        start = node.store.head()
        ring = Ring(start, latest, limit_bytes=3_000)
        node.store.on_append, node.pipeline.on_head = ring.add, ring.publish
        assert ring.join(start.next_seq, start.block_hash) == 0
        assert ring.wait(0, 0.0, 1 << 20) is None
        commit(node, trades(venue, 1, 3))
        middle = node.store.head()
        news = ring.wait(0, 0.0, 1 << 20)
        assert news is not None and news.position == 6 and news.head.size == middle.next_seq
        assert [blocks.decode(raw).first_seq for raw in news.blocks] == list(range(start.next_seq, middle.next_seq))
        some = ring.wait(0, 0.0, 1)
        assert some is not None and some.position == 1
        commit(node, trades(venue, 10, 4))
        end = node.store.head()
        assert ring.join(end.next_seq, end.block_hash) == 14

        def refusal(seq: int, block_hash: bytes) -> str:
            with pytest.raises(NovateError) as error:
                ring.join(seq, block_hash)
            return error.value.code

        assert refusal(start.next_seq, start.block_hash) == "LINK_TOO_FAR_BEHIND"
        assert refusal(end.next_seq, middle.block_hash) == "LINK_JOURNAL_DIFFERS"
        assert refusal(end.next_seq - 1, bytes(32)) == "LINK_JOURNAL_DIFFERS"
        assert refusal(end.next_seq + 1, end.block_hash) == "LINK_AHEAD"
        with pytest.raises(NovateError) as error:
            ring.wait(0, 0.0, 1)
        assert error.value.code == "LINK_TOO_FAR_BEHIND"


def test_a_block_inside_is_no_place_to_join(venue: World) -> None:
    """A follower holds whole blocks; one that says it stands inside of one has another journal."""
    with node_of(venue.path) as node:
        latest = node.pipeline.committer.latest
        assert latest is not None
        start = node.store.head()
        ring = Ring(start, latest)
        node.store.on_append, node.pipeline.on_head = ring.add, ring.publish
        commit(node, trades(venue, 1, 1))
        for future in node.sequencer.submit_many(trades(venue, 5, 200)):
            future.result(PATIENCE_S)
        large = next(block for block in node.store.read(start.next_seq) if block.count > 1)
        with pytest.raises(NovateError) as error:
            ring.join(large.first_seq + 1, large.hash)
        assert error.value.code == "LINK_JOURNAL_DIFFERS"
        assert ring.join(large.first_seq, large.prev_hash) >= 2


def test_other_outcomes_are_a_divergence(venue: World) -> None:
    """An entry whose outcomes are not what our reducer gives ends the replica: reads are refused, the process is told
    (it restarts), and nothing after the entry is applied."""

    async def body() -> None:
        with node_of(venue.path):
            async with following(venue.path) as replica:
                await until(lambda: replica.connected)
                told: list[str] = []
                replica.on_divergence = told.append
                seq, block_hash = replica._received
                raw = venue.batch("alice", order())
                good = encode_entry(seq, venue.now_us + 10**6, raw, [])
                replica._take_block(blocks.build(0, seq, block_hash, [good]))
                await until(lambda: replica.divergence is not None)
                assert len(told) == 1 and f"entry {seq}" in told[0]
                assert replica.seq == seq
                with pytest.raises(NovateError) as error:
                    await replica.settled()
                assert error.value.code == "REPLICA_DIVERGED"

    run(body())


@pytest.mark.slow
def test_another_journal_is_a_divergence(venue: World, tmp_path: Path) -> None:
    """A sequencer whose journal is not the one we followed (restored from an older copy, or another venue's) ends the
    replica instead of feeding it."""
    other = tmp_path / "other"
    make_data_dir(other)

    async def body() -> None:
        with node_of(other):
            layout = Layout(venue.path)
            with journal(venue.path) as store:
                replica = Replica(store, EpochBook(layout, read_genesis(store)), Layout(other).link)
                await replica.start()
                await until(lambda: replica.divergence is not None)
                assert replica.fault is not None and replica.fault.code == "LINK_AHEAD"
                await replica.close()

    run(body())


def test_a_block_that_does_not_continue_is_refused(venue: World) -> None:
    """Blocks are taken by seq and hash, not by the order in which they come."""

    async def body() -> None:
        with node_of(venue.path):
            async with following(venue.path) as replica:
                seq, block_hash = replica._received
                for first, before in ((seq + 1, block_hash), (seq, bytes(32))):
                    with pytest.raises(JournalError):
                        replica._take_block(blocks.build(0, first, before, [b"x"]))
                assert replica._received == (seq, block_hash) and replica.behind == 0

    run(body())


def test_the_loop_turns_while_a_large_block_is_applied(venue: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices: between them the loop serves others, who see a state after a whole entry each time."""
    monkeypatch.setattr(replicas, "SLICE_S", 0.0)  # one entry a slice: the rule, without a clock in the verdict

    async def body() -> None:
        with node_of(venue.path) as node:
            async with following(venue.path) as replica:
                await until(lambda: replica.connected)
                start, seen = replica.seq, set()
                futures = node.sequencer.submit_many(trades(venue, 1, 300))
                while replica.seq < start + 600:
                    seen.add(replica.seq)
                    state = await replica.settled()
                    assert sum(account.slots[1].size for account in state.accounts if 1 in account.slots) == 0
                    await asyncio.sleep(0)
                assert len(seen) > 100, "others had their turn within blocks"
                assert all(future.done() for future in futures)

    run(body())


def test_an_epochs_close_holds_up_readers_of_the_state_only(venue: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """While an entry that touches every account is applied on its thread, the loop turns, `settled` waits, and
    receipts come; readers then see the state after it."""
    entered, go = threading.Event(), threading.Event()

    async def body() -> None:
        with node_of(venue.path) as node:
            async with following(venue.path) as replica, linked(venue.path) as link:
                await until(lambda: replica.connected)
                apply = replica._apply

                def gated(entry: Any) -> Applied:
                    if is_heavy(entry.body):
                        entered.set()
                        assert go.wait(PATIENCE_S)
                    return apply(entry)

                monkeypatch.setattr(replica, "_apply", gated)
                await link.submit([closing(venue, 1)])
                await until(entered.is_set)
                reading = asyncio.create_task(replica.settled())
                await link.submit([venue.batch("alice", order())])
                await asyncio.sleep(0.02)
                assert not reading.done()
                go.set()
                assert (await reading).epoch == 1
                await until(lambda: replica.seq == node.store.head().next_seq)
                assert dump(replica.state) == dump(node.pipeline.reducer.state)

    run(body())


def test_closing_waits_for_the_thread(venue: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that is closed while its thread applies an entry leaves a whole state behind."""
    entered, go = threading.Event(), threading.Event()

    async def body() -> None:
        with node_of(venue.path):
            async with linked(venue.path) as link, following(venue.path) as replica:
                await until(lambda: replica.connected)
                apply = replica._apply

                def gated(entry: Any) -> Applied:
                    entered.set()
                    assert go.wait(PATIENCE_S)
                    return apply(entry)

                monkeypatch.setattr(replica, "_apply", gated)
                await link.submit([closing(venue, 1)])
                await until(entered.is_set)
                closed = asyncio.create_task(replica.close())
                await asyncio.sleep(0.02)
                assert not closed.done()
                go.set()
                await closed
                assert replica.state.epoch == 1

    run(body())


@pytest.mark.slow
def test_a_killed_follower_is_not_noticed_by_the_sequencer(venue: World) -> None:
    """kill -9 of a following process under load: every command is answered, and the next one starts and agrees."""
    script = (
        "import asyncio, sys; from pathlib import Path; from tests.api.venue import following\n"
        "async def main():\n"
        "    async with following(Path(sys.argv[1])) as replica:\n"
        "        print('following', flush=True)\n"
        "        await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )

    async def body() -> None:
        async with linked(venue.path) as link:
            command = [sys.executable, "-c", script, str(venue.path)]
            follower = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
            assert follower.stdout is not None
            assert await asyncio.to_thread(follower.stdout.readline) == b"following\n"
            for first in (1, 1_000):
                await link.submit(trades(venue, first, 50))
                follower.send_signal(signal.SIGKILL)
            follower.wait(PATIENCE_S)
            follower.stdout.close()
            await link.submit(trades(venue, 2_000, 50))
            async with following(venue.path) as replica:
                assert replica.seq == (await link.ask("checkpoint"))["size"]
                finals.append(dump(replica.state))

    finals: list[bytes] = []
    with writing(venue.path) as writer:
        run(body())
        assert writer.stop() == 0
    assert finals == [state_on_disk(venue.path)]
