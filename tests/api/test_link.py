# SPDX-License-Identifier: GPL-3.0-or-later
"""The link: what it answers is durable, what breaks is said, and nobody on it can hurt another."""

import asyncio
import os
import random
import socket
import stat
import threading
import time
from pathlib import Path

import pytest

from clearing.api.link import Link
from clearing.model import commands as c
from clearing.model.codec import decode_entry
from clearing.model.errors import NovateError, Refused
from clearing.service.layout import Layout
from clearing.service.link import commands, server
from clearing.service.link import frames as f
from clearing.service.link.unix import listen
from clearing.service.pipeline import Receipt
from clearing.service.recover import open_store
from journal.replay import entries
from proofs import checkpoint as notes
from tests.api.venue import PATIENCE_S, Raw, linked, make_venue, node_of, run, trades, until, writing
from tests.service.world import MAP_BYTES, World, order, seed_of


def receipts(results: list[Receipt | NovateError]) -> list[Receipt]:
    """All of them; a refusal fails the test."""
    found = [result for result in results if isinstance(result, Receipt)]
    assert len(found) == len(results), [result for result in results if not isinstance(result, Receipt)]
    return found


def journal_of(path: Path) -> dict[int, bytes]:
    """Every entry on disk, by seq."""
    with open_store(Layout(path), MAP_BYTES, read_only=True) as store:
        return dict(entries(store))


def test_a_receipt_is_of_what_the_journal_holds(venue: World) -> None:
    """Receipts come in order, after the commit, with entries as the journal has them, under a head that the operator
    signed and that covers them; what is refused among them keeps its place, its code and its family."""
    raws = trades(venue, 1, 20)
    forged = venue.batch("alice", order(coid=900), seed=seed_of("nobody"))

    async def body() -> None:
        async with linked(venue.path) as link:
            results = await link.submit([*raws[:10], forged, *raws[10:], b"\xc1"])
            bad, malformed = results.pop(10), results.pop(-1)
            assert isinstance(bad, Refused) and bad.code == "UNKNOWN_KEY"
            assert isinstance(malformed, Refused) and malformed.code == "MALFORMED"
            found, held = receipts(results), journal_of(venue.path)
            first = found[0].seq
            assert [receipt.seq for receipt in found] == list(range(first, first + len(raws)))
            origin = notes.origin_of(venue.reducer.state.genesis.origin, venue.reducer.state.deployment)
            for receipt in found:
                assert held[receipt.seq] == receipt.entry
                head = notes.verify(receipt.checkpoint.note, venue.reducer.state.operator_key[1:], origin)
                assert receipt.seq < head.size and head.root == receipt.checkpoint.root

    with writing(venue.path):
        run(body())


def test_a_retry_gets_the_first_receipt(venue: World) -> None:
    """The same signed bytes, sent again over this or another connection, are carried out once."""
    (raw,) = [venue.batch("alice", order())]

    async def body() -> None:
        async with linked(venue.path) as link, linked(venue.path) as other:
            (first,), (again,) = receipts(await link.submit([raw])), receipts(await other.submit([raw]))
            assert again.entry == first.entry
        assert sum(raw in entry for entry in journal_of(venue.path).values()) == 1

    with writing(venue.path):
        run(body())


def test_requests_overlap_and_are_answered_to_who_asked(venue: World) -> None:
    """Many requests at once over one connection: each gets the results of its own envelopes."""
    raws = trades(venue, 1, 60)

    async def body() -> None:
        async with linked(venue.path) as link:
            parts = [raws[at : at + 3] for at in range(0, len(raws), 3)]
            answers = await asyncio.gather(*map(link.submit, parts), link.ask("checkpoint"))
            for part, results in zip(parts, answers, strict=False):
                assert all(raw in receipt.entry for raw, receipt in zip(part, receipts(results), strict=True))

    with writing(venue.path):
        run(body())


def test_questions_are_answered_or_refused_by_name(venue: World) -> None:
    """An answer is the writer's, an error has the writer's code, and nothing that is asked ends the connection."""

    async def refused(link: Link, code: str, *question: object) -> None:
        with pytest.raises(NovateError) as error:
            await link.ask(*question)  # type: ignore[arg-type]
        assert error.value.code == code, error.value
        assert isinstance(error.value, Refused)

    async def body() -> None:
        async with linked(venue.path) as link:
            status, head = await link.ask("status"), await link.ask("checkpoint")
            assert status["halted"] is None and status["waiting"] == 0 and status["posted"] == [0]
            # The venue may have entries of its own in between: time passes there, too.
            assert 6 <= status["size"] <= head["size"] <= len(journal_of(venue.path))
            await refused(link, "NOT_POSTED", "bundle", bytes(20), 0)
            await refused(link, "UNKNOWN_VAULT", "bundle", bytes(20), 7)
            await refused(link, "BAD_PARAMETER", "bundle", "no bytes", 0)
            await refused(link, "BAD_PARAMETER", "bundle", bytes(20))
            await refused(link, "BAD_PARAMETER", "shutdown")
            await refused(link, "BAD_PARAMETER", "report", {str(n): n for n in range(100)})
            await refused(link, "BAD_PARAMETER", "report", [[[[{"a": "b"}]]]])
            assert await link.ask("report", {"connections": 3}) is None
            assert link.connected

    with writing(venue.path):
        run(body())


def test_without_a_sequencer_nothing_is_sent_and_it_says_so(venue: World) -> None:
    """SEQUENCER_UNREACHABLE tells that nothing was sent; the same bytes are taken once a sequencer is there."""
    raw = venue.batch("alice", order())

    async def later() -> None:
        async with linked(venue.path) as link:
            receipts(await link.submit([raw]))

    async def alone() -> None:
        link = Link(Layout(venue.path).link)
        await link.start()
        assert not await link.wait_connected(0.05)
        for attempt in (link.submit([raw]), link.ask("status")):
            with pytest.raises(NovateError, match="nothing was sent") as error:
                await attempt
            assert error.value.code == "SEQUENCER_UNREACHABLE"
        await link.close()

    run(alone())
    with writing(venue.path):
        run(later())


def test_a_killed_sequencer_loses_nothing_that_was_acknowledged(venue: World) -> None:
    """kill -9 under load: who waits hears that the outcome is unknown, the link comes back by itself, every receipt
    stands in the journal, and sending everything again places nothing twice."""
    raws = trades(venue, 1, 400)
    acknowledged: dict[bytes, Receipt] = {}
    unknown: list[str] = []

    async def send(link: Link, part: list[bytes]) -> None:
        try:
            for raw, result in zip(part, await link.submit(part), strict=True):
                if isinstance(result, Receipt):
                    acknowledged[raw] = result
                else:
                    assert result.code == "NODE_HALTED"
        except NovateError as error:
            unknown.append(error.code)

    async def kill_under_load() -> None:
        with writing(venue.path) as first:
            async with linked(venue.path) as link:
                parts = [raws[at : at + 4] for at in range(0, len(raws), 4)]
                sending = [asyncio.create_task(send(link, part)) for part in parts]
                await until(lambda: len(acknowledged) >= 8)
                first.process.kill()
                await asyncio.gather(*sending)
                first.kill()
                await until(lambda: not link.connected)
                with writing(venue.path):
                    assert await link.wait_connected(PATIENCE_S)
                    for part in parts:
                        for raw, receipt in zip(part, receipts(await link.submit(part)), strict=True):
                            if raw in acknowledged:
                                assert receipt.entry == acknowledged[raw].entry

    run(kill_under_load())
    assert set(unknown) <= {"SEQUENCER_UNREACHABLE"}
    held = list(journal_of(venue.path).items())
    for raw, receipt in acknowledged.items():
        assert (receipt.seq, receipt.entry) in held
        assert raw in receipt.entry
    text = b"".join(entry for _, entry in held)
    assert all(text.count(raw) == 1 for raw in raws)


def test_too_much_at_once_is_refused_before_it_is_sent(venue: World) -> None:
    """Counts and bytes have limits on this side; nothing of what is past them reaches the sequencer."""

    async def body() -> None:
        async with linked(venue.path, max_waiting_bytes=10_000) as link:
            for refused, code in (
                ([], "BAD_PARAMETER"),
                ([b"x"] * 1_001, "BAD_PARAMETER"),
                ([bytes(11_000)], "OVERLOADED"),
            ):
                with pytest.raises(Refused) as error:
                    await link.submit(refused)
                assert error.value.code == code
            raw = venue.batch("alice", order())
            assert len(receipts(await link.submit([raw]))) == 1
            # Beside entries of the venue's own: time passes there, too.
            envelopes = [decode_entry(entry).envelope for entry in journal_of(venue.path).values()]
            assert envelopes.count(raw) == 1
            assert b"x" not in envelopes and bytes(11_000) not in envelopes

    with writing(venue.path):
        run(body())


HELLO = f.Hello(f.VERSION, f.COMMANDS)
HOSTILE = {
    "length zero": bytes(4),
    "length past the limit": b"\xff\xff\xff\xff",
    "a long hello": (2_000).to_bytes(4, "big") + bytes(2_000),
    "no msgpack": b"\x00\x00\x00\x01\xc1",
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a question first": f.encode(f.Ask(1, "status", [])),
    "a submission first": f.encode(f.Submit(1, [b"x"])),
    "a server's message": f.encode(f.Beat(1)),
    "another version": f.encode(f.Hello(99, f.COMMANDS)),
    "another role": f.encode(f.Hello(f.VERSION, "writer")),
    "two hellos": f.encode(HELLO) + f.encode(HELLO),
    "an empty submission": f.encode(HELLO) + f.encode(f.Submit(1, [])),
    "a large submission": f.encode(HELLO) + f.encode(f.Submit(1, [b""] * 1_001)),
    "a wrong id": f.encode(HELLO) + b"\x00\x00\x00\x05\x93\x01\xa1x\x90",
    "deep": f.encode(HELLO) + (5_003).to_bytes(4, "big") + b"\x94\x02\x01" + b"\x91" * 5_000,
    "cut short": f.encode(HELLO) + b"\x00\x00\x10\x00abc",
    "a follower from nowhere": f.encode(f.Hello(f.VERSION, f.FOLLOW, 1, bytes(32))),
    "a follower below zero": f.encode(f.Hello(f.VERSION, f.FOLLOW, -1, bytes(32))),
    "a follower's hash": f.encode(f.Hello(f.VERSION, f.FOLLOW, 7, b"short")),
}


@pytest.mark.slow
def test_hostile_bytes_end_their_own_connection_only(venue: World, rng: random.Random) -> None:
    """Whatever a connection says, it is answered with a reason or closed, another one goes on, and nothing of it
    reaches the journal."""
    with node_of(venue.path) as node, Raw(venue.path) as bystander:
        bystander.send(HELLO)
        assert isinstance(bystander.receive(), f.Welcome)
        noise = {f"noise {n}": rng.randbytes(rng.randrange(1, 400)) for n in range(100)}
        flipped = {}
        for n in range(100):
            data = bytearray(f.encode(HELLO) + f.encode(f.Submit(1, [b"abc"])))
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            flipped[f"flip {n}"] = bytes(data)
        size = node.store.head().next_seq
        for name, content in (HOSTILE | noise | flipped).items():
            with Raw(venue.path) as raw:
                raw.sock.sendall(content)
                raw.sock.shutdown(socket.SHUT_WR)
                last: f.ToClient | None = None
                while (message := raw.receive()) is not None:
                    last = message
                if name in HOSTILE:
                    assert isinstance(last, f.Farewell), name
                    assert last.code and last.message
        bystander.send(f.Ask(5, "status", []))
        answer = bystander.receive()
        assert isinstance(answer, f.Answer) and answer.id == 5 and not answer.code
        assert node.store.head().next_seq == size
        assert node.faults.current() == {}
        link = node.link
        assert link is not None
        run(until(lambda: link.connections == 1))


@pytest.mark.slow
def test_who_does_not_read_is_cut_and_others_are_not(venue: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unread answers are bounded per connection: past the bound it is cut, while another one is served."""
    monkeypatch.setattr(commands, "MAX_UNREAD_BYTES", 20_000)
    with node_of(venue.path) as node, Raw(venue.path) as deaf, Raw(venue.path) as other:
        for raw in (deaf, other):
            raw.send(HELLO)
        with pytest.raises((BrokenPipeError, ConnectionResetError)):  # it is cut while it still sends
            deaf.send(*(f.Ask(number, "checkpoint", []) for number in range(100_000)))
        other.send(HELLO_ASK)
        assert isinstance(other.receive(), f.Welcome)
        assert isinstance(other.receive(), f.Answer)
        assert node.link is not None
        for _ in range(500):
            if node.link.connections == 1:
                break
            time.sleep(0.01)
        assert node.link.connections == 1


HELLO_ASK = f.Ask(1, "status", [])


def test_connections_are_bounded(venue: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """One connection too many is told so; one that ends makes room."""
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 2)
    with node_of(venue.path) as node:
        assert node.link is not None
        with Raw(venue.path) as first, Raw(venue.path) as second, Raw(venue.path) as third:
            answer = third.receive()
            assert isinstance(answer, f.Farewell) and answer.code == "OVERLOADED"
            for raw in (first, second):
                raw.send(HELLO)
                assert isinstance(raw.receive(), f.Welcome)
        for _ in range(500):
            if not node.link.connections:
                break
            time.sleep(0.01)
        with Raw(venue.path) as fourth:
            fourth.send(HELLO)
            assert isinstance(fourth.receive(), f.Welcome)


def test_a_clean_stop_answers_what_it_took(venue: World) -> None:
    """SIGTERM: every envelope that the sequencer took is committed and answered before the connection ends."""
    raws = trades(venue, 1, 100)
    answers: list[f.ToClient] = []
    with writing(venue.path) as writer, Raw(venue.path) as raw:

        def read() -> None:
            while (message := raw.receive()) is not None:
                answers.append(message)

        reader = threading.Thread(target=read)
        reader.start()
        raw.send(HELLO, *(f.Submit(number, [data]) for number, data in enumerate(raws)))
        while len(answers) < 5:
            time.sleep(0.001)
        assert writer.stop() == 0
        reader.join(PATIENCE_S)
    done = [
        row.seq for found in answers if isinstance(found, f.Results) for row in found.results if isinstance(row, f.Done)
    ]
    entries_of = journal_of(venue.path)
    assert sorted(done) == [seq for seq, entry in entries_of.items() if any(raw in entry for raw in raws)]


@pytest.mark.slow
def test_the_socket_is_this_users_alone(venue: World) -> None:
    """Mode 0600 while it runs, gone afterwards; one that a killed process left there is replaced."""
    path = Layout(venue.path).link
    with writing(venue.path) as writer:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        writer.kill()
        assert path.exists()
    with writing(venue.path) as writer:
        assert writer.stop() == 0
    assert not path.exists()


def test_what_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    """A file in the socket's place stays, and the error says what to do."""
    path = tmp_path / "link.sock"
    path.write_text("precious")
    with pytest.raises(NovateError, match="remove it") as error:
        listen(path)
    assert error.value.code == "LINK_UNAVAILABLE"
    assert path.read_text() == "precious"


def test_a_deep_directory_has_a_link_too(tmp_path: Path) -> None:
    """A path longer than a socket's address may be works all the same, at both ends."""
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    world = make_venue(deep / "venue")
    assert len(os.fsencode(Layout(world.path).link)) > 107

    async def body() -> None:
        async with linked(world.path) as link:
            assert len(receipts(await link.submit([world.batch("alice", order())]))) == 1

    with writing(world.path):
        run(body())


def test_a_command_of_the_operator_goes_the_same_way(venue: World) -> None:
    """The link knows no roles: an operator's batch is one more envelope."""

    async def body() -> None:
        async with linked(venue.path) as link:
            (receipt,) = receipts(await link.submit([venue.operator(c.CloseEpoch(1, ((1, bytes(32)),)))]))
            assert type(receipt.outcomes[0]).__name__ == "EpochClosed"

    with writing(venue.path):
        run(body())
