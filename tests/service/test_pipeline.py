# SPDX-License-Identifier: GPL-3.0-or-later
"""The pipeline: what is journalled, what is not, and in which order results and durability come."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.model import commands as c
from clearing.model import ids
from clearing.model.codec import decode_envelope, encode
from clearing.model.errors import REJECTIONS, NovateError, Refused
from clearing.model.outcomes import Rejected, TradeNovated
from clearing.service.pipeline import Receipt, Recent
from journal.replay import entries
from proofs.checkpoint import verify as verify_note
from proofs.log import verify_inclusion
from tests.service.world import DEPLOYMENT, SECOND, USD, World, order, owner_of, seed_of


def test_a_receipt_proves_its_entry_under_the_signed_checkpoint(market: World) -> None:
    """A receipt's entry is in the log whose root the operator signed with the commit that holds it."""
    receipts = market.ok(market.batch("alice", order()), market.batch("bob", order(ids.SELL)))
    key = market.reducer.state.operator_key[1:]
    for receipt in receipts:
        note = verify_note(receipt.checkpoint.note, key, f"novate.test/{DEPLOYMENT.hex()}/journal")
        assert note.size == receipts[-1].seq + 1
        path = market.store.inclusion(receipt.seq, note.size)
        verify_inclusion(receipt.seq, note.size, receipt.entry_hash, path, note.root)
        assert market.store.entry(receipt.seq) == receipt.entry
    assert any(isinstance(outcome, TradeNovated) for outcome in receipts[1].outcomes)


def test_the_contract_line_is_the_operators(market: World) -> None:
    """The second signature line recovers to the operator's address over the deployment's EIP-712 checkpoint."""
    from clearing.chain.wallet import checkpoint_digest, recover
    from proofs.checkpoint import parse, secp256k1_signature

    receipt = market.ok(market.batch("alice", order()))[0]
    state = market.reducer.state
    found = receipt.checkpoint
    signature = secp256k1_signature(parse(found.note), state.operator_address)
    digest = checkpoint_digest(state.deployment, found.size, found.root)
    assert signature is not None
    assert recover(digest, signature) == state.operator_address


def test_an_identical_retry_gets_the_first_receipt(market: World) -> None:
    """Same bytes again: same receipt, nothing new in the journal, also within one batch."""
    raw = market.batch("alice", order())
    first, twin = market.ok(raw, raw)
    size = market.store.head().next_seq
    (again,) = market.ok(raw)
    assert first.seq == twin.seq == again.seq
    assert market.store.head().next_seq == size


def test_a_retry_with_another_body_under_a_used_nonce_is_refused(market: World) -> None:
    """Only the identical body is a retry; another one under the nonce is NONCE_USED."""
    market.ok(market.batch("alice", order(), nonce=10**9))
    (result,) = market.process(market.batch("alice", order(coid=2), nonce=10**9))
    assert isinstance(result, Refused)
    assert result.code == "NONCE_USED"


def test_the_bounded_map_forgets_the_oldest() -> None:
    """At least `limit` receipts are remembered, never more than twice as many."""
    recent = Recent(4)
    envelopes = [c.Envelope(bytes([n]), b"key", b"") for n in range(20)]
    for number, envelope in enumerate(envelopes):
        recent.add(envelope, Receipt(number, 0, b"", []))
    known = [number for number, envelope in enumerate(envelopes) if recent.find(envelope)]
    assert known[-4:] == [16, 17, 18, 19]
    assert len(known) <= 8


def test_time_never_decreases(market: World) -> None:
    """A clock that steps back is held at the last entry's time."""
    before = market.ok(market.batch("alice", order()))[0].time_us
    (result,) = market.pipeline.process([market.batch("bob", order(ids.SELL))], before - 10 * SECOND)
    assert isinstance(result, Receipt)
    assert result.time_us == before


def _wrong_signature(world: World) -> bytes:
    envelope, _ = decode_envelope(world.batch("alice", order()))
    return encode(c.Envelope(envelope.body, envelope.key, bytes(64)))


def _replayed(world: World) -> bytes:
    world.ok(world.batch("alice", order(), nonce=10**12))
    return world.batch("alice", order(coid=9), nonce=10**12)


def _mallory(world: World) -> bytes:
    return world.batch("alice", order(), seed=seed_of("mallory"))


REFUSED: dict[str, tuple[str, Any]] = {
    "not msgpack": ("MALFORMED", lambda w: b"\xc1"),
    "empty": ("MALFORMED", lambda w: b""),
    "cut short": ("MALFORMED", lambda w: w.batch("alice", order())[:-1]),
    "trailing byte": ("MALFORMED", lambda w: w.batch("alice", order()) + b"\x00"),
    "too large": ("ENVELOPE_TOO_LARGE", lambda w: bytes(8_193)),
    "wrong signature": ("BAD_SIGNATURE", _wrong_signature),
    "someone else's key": ("UNKNOWN_KEY", _mallory),
    "replayed nonce": ("NONCE_USED", _replayed),
    "negative nonce": ("NONCE_USED", lambda w: w.batch("alice", order(), nonce=-1)),
    "nonce of 2^63": ("NONCE_USED", lambda w: w.batch("alice", order(), nonce=2**63)),
    "unknown account": ("UNKNOWN_ACCOUNT", lambda w: w.batch("alice", order(), account=999_999)),
    "negative account": ("UNKNOWN_ACCOUNT", lambda w: w.batch("alice", order(), account=-1)),
    "wrong deployment": ("WRONG_DEPLOYMENT", lambda w: w.batch("alice", order(), deployment=bytes(32))),
    "no commands": ("BATCH_SIZE", lambda w: w.batch("alice")),
    "51 commands": ("BATCH_SIZE", lambda w: w.batch("alice", *[c.CancelAll()] * 51)),
}

REJECTED: dict[str, tuple[str, Any]] = {
    "expired": ("COMMAND_EXPIRED", lambda w: w.batch("alice", order(), expiry_us=1)),
    "oversize order": ("ORDER_TOO_LARGE", lambda w: w.batch("alice", order(size=1_000_001))),
    "zero size": ("INVALID_SIZE", lambda w: w.batch("alice", order(size=0))),
    "negative size": ("INVALID_SIZE", lambda w: w.batch("alice", order(size=-1))),
    "size of 2^63": ("INVALID_SIZE", lambda w: w.batch("alice", order(size=2**63))),
    "zero price": ("INVALID_PRICE", lambda w: w.batch("alice", order(price=0))),
    "negative price": ("INVALID_PRICE", lambda w: w.batch("alice", order(price=-10_000))),
    "price of 2^63": ("INVALID_PRICE", lambda w: w.batch("alice", order(price=2**63))),
    "zero withdrawal": ("INVALID_AMOUNT", lambda w: w.batch("alice", c.Withdraw(0, 0, 0))),
    "negative withdrawal": ("INVALID_AMOUNT", lambda w: w.batch("alice", c.Withdraw(0, 0, -1))),
    "withdrawal of 2^63": ("INVALID_AMOUNT", lambda w: w.batch("alice", c.Withdraw(0, 0, 2**63))),
    "too much": ("INSUFFICIENT_BALANCE", lambda w: w.batch("alice", c.Withdraw(0, 0, 2_000_000 * USD))),
    "unknown instrument": (
        "UNKNOWN_INSTRUMENT",
        lambda w: w.batch("alice", c.PlaceOrder(77, 0, 10_000, 1, 1)),
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unauthenticated_or_malformed_input_is_never_journalled(market: World, case: str) -> None:
    """Each fault has its stable code, and neither journal nor state notice it."""
    code, make = REFUSED[case]
    raw = make(market)
    size, time_us = market.store.head(), market.reducer.state.time_us
    (result,) = market.process(raw)
    assert isinstance(result, Refused)
    assert result.code == code
    assert result.message
    assert (market.store.head(), market.reducer.state.time_us) == (size, time_us)


@pytest.mark.parametrize("case", REJECTED)
def test_authenticated_nonsense_is_journalled_with_its_reason(market: World, case: str) -> None:
    """What was validly signed is journalled as Rejected, with a documented code."""
    code, make = REJECTED[case]
    size = market.store.head().next_seq
    (receipt,) = market.ok(make(market))
    assert [o.code for o in receipt.outcomes if isinstance(o, Rejected)] == [code]
    assert code in REJECTIONS
    assert market.store.head().next_seq == size + 1


def test_a_bad_command_does_not_disturb_its_batch(market: World) -> None:
    """Refusals stand at their own index; the others of the batch are journalled in order."""
    good = [market.batch("alice", order(coid=n, size=1)) for n in range(1, 21)]
    mixed = [raw for pair in zip(good, [b"junk", *[_wrong_signature(market)] * 19], strict=True) for raw in pair]
    results = market.process(*mixed)
    assert [type(result) for result in results] == [Receipt, Refused] * 20
    seqs = [result.seq for result in results if isinstance(result, Receipt)]
    assert seqs == list(range(seqs[0], seqs[0] + 20))


@settings(max_examples=30)
@given(data=st.binary(max_size=300))
def test_arbitrary_bytes_are_refused(data: bytes) -> None:
    """No bytes make decoding raise anything but `Refused`; an envelope among them is out of reach."""
    with pytest.raises(Refused) as raised:
        decode_envelope(data)
    assert raised.value.code == "MALFORMED"


def test_a_fault_of_the_reducer_halts_and_keeps_what_came_before(market: World, monkeypatch: Any) -> None:
    """If applying a command fails inside, the state may be half changed: what came before it in the batch is
    committed, everything after it is refused until a restart, which finds exactly the committed part."""
    apply, poison = market.reducer.apply, market.batch("bob", order(ids.SELL))
    bad_body = decode_envelope(poison)[0].body

    def failing(time_us: int, envelope: c.Envelope, body: c.Body) -> Any:
        if envelope.body == bad_body:
            raise ZeroDivisionError("a bug")
        return apply(time_us, envelope, body)

    monkeypatch.setattr(market.reducer, "apply", failing)
    first, second, third = market.process(market.batch("alice", order()), poison, market.batch("alice", order(coid=5)))
    assert isinstance(first, Receipt)
    assert isinstance(second, NovateError) and isinstance(third, NovateError)
    assert second.code == third.code == "NODE_HALTED"
    assert market.store.head().next_seq == first.seq + 1
    (later,) = market.process(market.batch("alice", order(coid=6)))
    assert isinstance(later, NovateError)
    assert later.code == "NODE_HALTED"


def test_a_large_batch_is_split_into_blocks(market: World) -> None:
    """Entries past a block's limit go into several blocks under one checkpoint."""
    alice = [
        market.batch("alice", *[order(coid=50 * n + i, price=10_000 * (1 + i)) for i in range(40)]) for n in range(20)
    ]
    filler = [market.batch("bob", *[c.CancelOrder(2**62 + i) for i in range(50)]) for _ in range(900)]
    blocks = len(list(market.store.read()))
    receipts = market.ok(*alice, *filler)
    assert len({receipt.checkpoint for receipt in receipts}) == 1
    assert sum(len(receipt.entry) for receipt in receipts) > 1_000_000
    assert len(list(market.store.read())) >= blocks + 2
    journalled = [data for _, data in entries(market.store, receipts[0].seq)]
    assert journalled == [receipt.entry for receipt in receipts]


def test_low_space_refuses_before_anything_is_applied(market: World, monkeypatch: Any) -> None:
    """Below the halt threshold commands are refused unapplied, and accepted again once there is room."""
    from dataclasses import replace

    space = market.store.space()
    monkeypatch.setattr(market.store, "space", lambda: replace(space, halt=True, free_ppm=1))
    market.pipeline.committer._check_space()
    nonce = market.reducer.state.owners[owner_of("alice")].accounts[0].owner.nonces.high
    raw = market.batch("alice", order())
    (result,) = market.process(raw)
    assert isinstance(result, Refused)
    assert result.code == "DISK_FULL"
    assert market.reducer.state.owners[owner_of("alice")].nonces.high == nonce
    assert not market.reducer.state.orders
    monkeypatch.undo()
    assert isinstance(market.process(raw)[0], Receipt)
