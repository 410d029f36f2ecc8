# SPDX-License-Identifier: GPL-3.0-or-later
"""The load generator's arithmetic: what it says it sent, saw and measured is so. Nothing here depends on a clock."""

import socket
import threading
from array import array
from contextlib import closing
from pathlib import Path

import pytest
from websockets.frames import Frame as Known
from websockets.frames import Opcode

from clearing.model import commands as c
from clearing.model import signature
from clearing.model.codec import decode_any_envelope
from tools.bench import workload as w
from tools.bench.link import make_venue
from tools.bench.load.figures import agree, measure, sample
from tools.bench.load.orders import MOST_OPEN, Flow, interleaved
from tools.bench.load.venue import RAISED, Fleet, Size, asks, journalled, operating
from tools.bench.load.wire import CLOSE, PING, TEXT, Parser, Sleeper, WireError, masked
from tools.bench.load.worker import Done

OPENED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n"


def from_server(payload: bytes, opcode: Opcode = Opcode.TEXT) -> bytes:
    """A frame by another implementation."""
    return Known(opcode, payload).serialize(mask=False)


# --- the orders ---


def test_the_same_orders_come_again_and_signatures_hold() -> None:
    """Both sides get the same bytes; parts follow one another without a nonce or a client order id used twice."""
    flow, again = Flow(3, 4), Flow(3, 4)
    lists = flow.take(30)
    assert [len(one) for one in lists] == [30] * 3
    assert lists == again.take(30) and flow.take(5) == again.take(5)
    nonces: set[int] = set()
    ids_: list[int] = []
    for member, raws in enumerate(lists):
        before = 0
        for raw in raws:
            envelope, body = decode_any_envelope(raw)
            signature.verify(envelope, body)
            assert isinstance(body, c.MemberBatch) and len(body.commands) == 4
            assert body.account == w.account_number(member) and body.nonce > before
            before = body.nonce
            nonces.add(body.nonce)
            ids_ += [one.client_order_id for one in body.commands if isinstance(one, c.PlaceOrder)]
    assert len(nonces) == 90 and len(set(ids_)) == len(ids_)


def test_a_third_cancels_and_a_third_of_orders_is_priced_across() -> None:
    """The mix that the report names; and nobody has more orders open than an account may."""
    commands = []
    opened: dict[int, set[int]] = {0: set(), 1: set()}
    for member, raws in enumerate(Flow(2, 1).take(1_500)):
        for raw in raws:
            body = decode_any_envelope(raw)[1]
            assert isinstance(body, c.MemberBatch)
            (command,) = body.commands
            commands.append(command)
            if isinstance(command, c.PlaceOrder):
                opened[member].add(command.client_order_id)
            else:
                assert isinstance(command, c.CancelOrder)
                opened[member].remove(command.client_order_id)  # its own, and once
            assert len(opened[member]) <= MOST_OPEN
    orders = [one for one in commands if isinstance(one, c.PlaceOrder)]
    across = [one for one in orders if (one.price_atoms > w.MID) == (one.side == 0) and one.price_atoms != w.MID]
    assert 0.25 < len(across) / len(orders) < 0.42
    assert 0.28 < 1 - len(orders) / len(commands) < 0.60


def test_interleaved_keeps_each_members_order() -> None:
    assert interleaved([[b"a1", b"a2"], [b"b1", b"b2"]]) == [b"a1", b"b1", b"a2", b"b2"]


# --- the wire ---


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_frames_are_those_of_the_protocol(size: int) -> None:
    """What we frame another implementation reads, masked; and what it frames we read, at every form of the length."""
    payload = bytes(index % 251 for index in range(size))

    def read(data: bytes) -> Known:
        at = 0

        def exactly(count: int):  # type: ignore[no-untyped-def]
            nonlocal at
            at += count
            yield from ()
            return data[at - count : at]

        reading = Known.parse(exactly, mask=True)
        try:
            next(reading)
        except StopIteration as end:
            assert at == len(data)
            found: Known = end.value
            return found
        raise AssertionError("not whole")

    assert read(masked(payload)).data == payload
    assert Parser().feed(OPENED + from_server(payload))[1:] == [(TEXT, payload)]


def test_frames_come_in_whatever_parts() -> None:
    """Byte by byte, and all at once."""
    data = OPENED + from_server(b"one") + from_server(b"x" * 300) + from_server(b"", Opcode.PING)
    expected = [(0, b""), (TEXT, b"one"), (TEXT, b"x" * 300), (PING, b"")]
    assert Parser().feed(data) == expected
    parser = Parser()
    assert [frame for index in range(len(data)) for frame in parser.feed(data[index : index + 1])] == expected


@pytest.mark.parametrize(
    "bad",
    [b"HTTP/1.1 503 no\r\n\r\n", OPENED + masked(b"x"), OPENED + b"\x01\x01x"],
    ids=["not switched", "masked", "in parts"],
)
def test_what_a_server_may_not_send_ends_the_run(bad: bytes) -> None:
    with pytest.raises(WireError):
        Parser().feed(bad)


@pytest.mark.parametrize(
    ("last", "code"), [(from_server((1013).to_bytes(2, "big") + b"SLOW_CONSUMER", Opcode.CLOSE), 1013), (b"", None)]
)
def test_the_sleeper_tells_how_it_was_ended(last: bytes, code: int | None) -> None:
    """The code of the closing frame behind all that it did not read; none when the socket was merely cut."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            peer, _ = listener.accept()
            with peer:
                data = b""
                while b"\r\n\r\n" not in data or len(data.split(b"\r\n\r\n", 1)[1]) < len(masked(b"ask")):
                    data += peer.recv(4_096)
                peer.sendall(OPENED + from_server(b"x" * 50_000) + last)

        thread = threading.Thread(target=serve)
        thread.start()
        sleeper = Sleeper("127.0.0.1", listener.getsockname()[1], [b"ask"])
        assert sleeper.wake() == code
        thread.join()
    assert CLOSE == Opcode.CLOSE


def test_a_reader_asks_for_every_channel() -> None:
    """Once each, and for so many accounts."""
    found = b"".join(asks(2)).decode()
    for channel in ("book", "trades", "ticker", "mark", "funding", "instruments", "epochs", "checkpoint", "status"):
        assert found.count(f'"{channel}"') == 1
    assert found.count('"channel": "account"') == 2


# --- the sums ---


def done(first: float, last: float, seqs: list[int], latencies: list[float]) -> Done:
    return Done(first, last, array("q", seqs), array("d", latencies), array("d"), 0)


def test_a_rate_is_from_the_first_send_to_the_last_receipt_of_all() -> None:
    """Not a sum of the processes' own rates, which would count a common pause once for each."""
    found = sample([done(10.0, 12.0, [1, 2], [0.3, 0.1]), done(11.0, 14.0, [3, 4], [0.2, 0.4])], 5)
    assert found.rate == 4 * 5 / 4.0
    assert found.latencies == [0.1, 0.2, 0.3, 0.4]
    assert (found.ms(0), found.ms(50), found.ms(99)) == (100.0, 300.0, 400.0)


@pytest.mark.parametrize(
    ("told", "kept", "says"),
    [
        ([1, 2], [1, 2, 3], "1 entries without"),
        ([1, 2, 3], [1, 2], "1 of no entry"),
        ([1, 1, 2], [1, 2], "1 told twice"),
        ([1, 3], [1, 2], "1 of no entry"),
    ],
)
def test_receipts_and_entries_must_be_the_same(told: list[int], kept: list[int], says: str) -> None:
    agree([2, 1], [1, 2])
    with pytest.raises(WireError, match=says):
        agree(told, kept)


# --- the whole ---


@pytest.mark.slow
@pytest.mark.parametrize("per_batch", [1, 20])
def test_a_run_has_a_receipt_for_every_entry(per_batch: int, tmp_path: Path) -> None:
    """Real processes and a real journal: as many receipts as entries (or `measure` raises), as many as were to be
    sent; percentiles in order; what was rejected was a cancel that came after its order's end."""
    size = Size(workers=2, connections=7, idle=15, window=2, accounts=3)
    (found,) = measure(tmp_path, size, per_batch, 140, 1)
    warm, each = 5 * 7, 20 * 7
    parts = [(found.full, each), (found.half, each)]
    if per_batch == 1:
        assert found.slow is not None
        parts += [(found.slow.asleep, each * 2), (found.slow.awake, each * 2)]
    assert len(found.journal.seqs) == warm + sum(count for _, count in parts)
    for part, count in parts:
        assert len(part.latencies) == count and part.latencies == sorted(part.latencies)
        assert 0 < part.ms(50) <= part.ms(99) <= part.latencies[-1] * 1e3
        assert part.rate > 0
    assert len(found.half.late) == each and not found.full.late
    assert found.direct > 0 and found.commit > 0
    journal = found.journal
    assert 0 < journal.taken < journal.placed
    assert set(journal.rejected) == {"UNKNOWN_ORDER"}
    # Every command has left one trace: cancels of the venue's own there are none.
    assert journal.placed + journal.cancelled + journal.rejected.total() == per_batch * len(journal.seqs)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_refusal_ends_the_run(tmp_path: Path) -> None:
    """An envelope that the venue refuses is no receipt: the run ends with its code instead of with a rate."""
    make_venue(tmp_path / "venue", 2, RAISED)
    lists = Flow(2, 1).take(3)
    lists[1][2] = lists[1][2][:-1] + bytes([lists[1][2][-1] ^ 1])  # a signature that does not hold
    with (
        operating(tmp_path / "venue") as port,
        closing(Fleet(port, Size(1, 2, 1))) as fleet,
        pytest.raises(WireError, match="BAD_SIGNATURE"),
    ):
        fleet.run(lists)
    assert len(journalled(tmp_path / "venue", 0).seqs) == 5
