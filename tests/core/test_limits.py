# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers at their limits end in a named refusal or rejection, never in an overflow."""

from __future__ import annotations

import msgspec
import pytest

from clearing.core import collateral
from clearing.core.reducer import Reducer
from clearing.core.snapshot import dump
from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.bounds import validate
from clearing.model.codec import decode_envelope, encode
from clearing.model.errors import NovateError, Refused
from clearing.model.params import FeeTier, Instrument, OracleRules, Params
from clearing.model.signature import public_key_of, sign
from tests.core import venue as v


def market(params: Params | None = None) -> v.Venue:
    venue = v.Venue(params)
    for name in ("ann", "bob"):
        venue.fund(name, 10_000 * v.USD)
    venue.oracle({v.BTC: 50 * v.USD, v.ETH: 20 * v.USD})
    return venue


# --- deposits, accounts, prices ------------------------------------------------------------------


def test_deposits_beyond_what_64_bit_fields_can_carry_are_ignored_visibly() -> None:
    venue = market()
    room = ids.MAX_HOLDINGS_ATOMS - venue.state.holdings
    for amount in (room + 1, 2**63 - 1, 2**63, 2**64 - 1):
        out = venue.deposit("ann", amount)
        assert [x.code for x in out if isinstance(x, o.InboxIgnored)] == ["INVALID_AMOUNT"]
    assert isinstance(venue.deposit("ann", room)[0], o.Deposited)
    venue.close_epoch()


def test_a_price_that_would_overflow_open_interest_is_rejected() -> None:
    """An oracle gone mad cannot stop the venue: every update is answered, epochs still close."""
    venue = market(Params(oracle=OracleRules(twap_band=2**53)))
    venue.sell("ann", 50 * v.USD, 1_000)
    venue.buy("bob", 50 * v.USD, 1_000)
    price, accepted = 50 * v.USD, 0
    for _ in range(120):
        price = min(price * 149 // 100, ids.MAX_PRICE_ATOMS)
        out = venue.oracle({v.BTC: price})
        accepted += isinstance(out[0], o.PriceAccepted)
        if isinstance(out[0], o.Rejected):
            break
    assert out == [o.Rejected(0, "INVALID_PRICE")]
    assert accepted > 30
    venue.close_epoch()
    venue.liquidate("ann")
    closed = venue.close_epoch()
    assert closed.shortfall_atoms > 0


def test_full_trees_take_no_more_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The trees' sizes are scaled down here; the rule is the same."""
    venue = market()
    monkeypatch.setattr(collateral, "MAX_ACCOUNTS", len(venue.state.accounts) + 1)
    assert not v.codes(venue.do("ann", c.Transfer(1, 1)))
    assert v.codes(venue.do("ann", c.Transfer(2, 1))) == ["TOO_MANY_ACCOUNTS"]
    assert venue.deposit("new", 1) == [o.InboxIgnored(0, 2, "TOO_MANY_ACCOUNTS")]
    assert isinstance(venue.deposit("bob", 1)[0], o.Deposited)
    monkeypatch.setattr(collateral, "MAX_ACCOUNTS", 2**24)
    monkeypatch.setattr(collateral, "MAX_OWNERS", len(venue.state.owners))
    assert venue.deposit("new", 1) == [o.InboxIgnored(0, 4, "TOO_MANY_ACCOUNTS")]


@pytest.mark.parametrize("number", [0, -1, -(2**63), 2**53, 2**63 - 1, 2**63, 2**64 - 1])
def test_every_field_of_every_member_command_takes_any_number(number: int) -> None:
    """Answered with a documented code, or accepted where any number has a meaning."""
    venue = market()
    good: tuple[c.MemberCommand, ...] = (
        venue.order(ids.BUY, 50 * v.USD, 1, tif=ids.GTT, expiry_us=venue.now_us + 9),
        c.CancelOrder(1, 0),
        c.CancelAll(0),
        c.ReplaceOrder(1, 50 * v.USD, 1),
        c.Withdraw(0, 0, 1),
        c.Transfer(1, 1),
    )
    for command in good:
        for name in command.__struct_fields__:
            if not isinstance(getattr(command, name), bool):
                venue.do("ann", msgspec.structs.replace(command, **{name: number}))
    venue.close_epoch()
    assert dump(v.replay(venue.journal).state) == dump(venue.state)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (c.PlaceOrder(1, 0, 50 * v.USD, 0, 1), "INVALID_SIZE"),
        (c.PlaceOrder(1, 0, 50 * v.USD, -5, 1), "INVALID_SIZE"),
        (c.PlaceOrder(1, 0, 50 * v.USD, 2**63, 1), "INVALID_SIZE"),
        (c.PlaceOrder(1, 0, 50 * v.USD, 1_000_001, 1), "ORDER_TOO_LARGE"),
        (c.PlaceOrder(1, 0, 0, 1, 1), "INVALID_PRICE"),
        (c.PlaceOrder(1, 0, -50 * v.USD, 1, 1), "INVALID_PRICE"),
        (c.PlaceOrder(1, 0, 50 * v.USD + 1, 1, 1), "INVALID_PRICE"),
        (c.PlaceOrder(1, 0, 2**63, 1, 1), "INVALID_PRICE"),
        (c.PlaceOrder(3, 0, 50 * v.USD, 1, 1), "UNKNOWN_INSTRUMENT"),
        (c.PlaceOrder(1, 2, 50 * v.USD, 1, 1), "INVALID_FIELD"),
        (c.PlaceOrder(1, 0, 50 * v.USD, 1, 0), "INVALID_FIELD"),
        (c.PlaceOrder(1, 0, 50 * v.USD, 1, 1, 1, 3), "INVALID_FIELD"),
        (c.PlaceOrder(1, 0, 50 * v.USD, 1, 1, 0, 3, expiry_us=v.START_US), "INVALID_EXPIRY"),
        (c.PlaceOrder(1, 0, 50 * v.USD, 1, 1, expiry_us=2**62), "INVALID_EXPIRY"),
        (c.Withdraw(0, 0, 0), "INVALID_AMOUNT"),
        (c.Withdraw(0, 0, -1), "INVALID_AMOUNT"),
        (c.Withdraw(0, 0, 2**63), "INVALID_AMOUNT"),
        (c.Withdraw(1, 0, 1), "UNKNOWN_ASSET"),
        (c.Withdraw(0, 1, 1), "UNKNOWN_ASSET"),
        (c.Transfer(0, 1), "SAME_ACCOUNT"),
        (c.Transfer(65_536, 1), "UNKNOWN_ACCOUNT"),
        (c.Transfer(1, 10_001 * v.USD), "INSUFFICIENT_BALANCE"),
        (c.ReplaceOrder(7, 50 * v.USD, 1), "UNKNOWN_ORDER"),
        (c.CancelAll(9), "UNKNOWN_INSTRUMENT"),
    ],
)
def test_a_bad_number_has_its_own_code(command: c.MemberCommand, code: str) -> None:
    venue = market()
    before = venue.account("ann").cash
    assert v.codes(venue.do("ann", command)) == [code]
    assert venue.account("ann").cash == before and not venue.state.orders


# --- what is not admitted --------------------------------------------------------------------------


def test_what_is_not_authenticated_never_reaches_the_journal() -> None:
    """Each with its code, and not a byte of the state changed."""
    venue = market()
    ann, bob = venue.account("ann").number, venue.account("bob").number
    order = [venue.order(ids.BUY, 50 * v.USD, 1)]
    used = venue.batch("ann", order, ann, nonce=77)
    venue.submit(used)
    other = c.MemberBatch(bytes(32), ann, 900, v.FOREVER, tuple(order))
    operator = c.OperatorBatch(venue.deployment, 1, (c.FundingTick(),))
    cases = {
        "NONCE_USED": used,
        "UNKNOWN_KEY": venue.batch("bob", order, ann),
        "UNKNOWN_ACCOUNT": venue.batch("ann", order, 99),
        "WRONG_DEPLOYMENT": sign(other, v.seed_of("ann/session")),
        "BATCH_SIZE": venue.batch("ann", order * 51, ann),
    }
    for code, raw in cases.items():
        assert v.refusal(venue, raw) == code
    assert v.refusal(venue, venue.batch("ann", [], ann)) == "BATCH_SIZE"
    assert v.refusal(venue, venue.batch("ann", order, bob)) == "UNKNOWN_KEY"
    assert v.refusal(venue, venue.batch("ann", order, -1)) == "UNKNOWN_ACCOUNT"
    assert v.refusal(venue, venue.batch("ann", order, ann, nonce=0)) == "NONCE_USED"
    assert v.refusal(venue, venue.batch("ann", order, ann, nonce=2**63)) == "NONCE_USED"
    assert v.refusal(venue, sign(operator, venue.operator_seed)) == "NONCE_USED"
    assert v.refusal(venue, sign(operator, v.seed_of("ann/session"))) == "UNKNOWN_KEY"
    assert v.refusal(venue, sign(venue.genesis, venue.operator_seed)) == "GENESIS_TWICE"
    two = c.OperatorBatch(venue.deployment, 10**6, (c.FundingTick(), c.FundingTick()))
    assert v.refusal(venue, sign(two, venue.operator_seed)) == "BATCH_SIZE"


def test_every_changed_byte_of_an_envelope_is_refused() -> None:
    """A bit in any byte: malformed or badly signed, always `Refused`, never anything else."""
    venue = market()
    raw = venue.batch("ann", [venue.order(ids.BUY, 50 * v.USD, 1)], venue.account("ann").number)
    seen = []
    for position in range(len(raw)):
        broken = bytearray(raw)
        broken[position] ^= 1 << position % 8
        with pytest.raises(Refused) as caught:
            v.admitted(bytes(broken))
        seen.append(caught.value.code)
    assert sorted(set(seen)) == ["BAD_SIGNATURE", "MALFORMED", "UNSUPPORTED_KEY"]


def test_other_encodings_of_the_same_value_are_malformed() -> None:
    """Longer integers, str for bin, floats for ints, trailing bytes: one value has one encoding."""
    venue = market()
    body = encode(c.MemberBatch(venue.deployment, 4, 1, 9, (c.CancelAll(0),)))
    head, tail = body[:-2], body[-1:]
    assert body[-2:] == b"\x02\x00"
    variants = {
        "two-byte zero": head + b"\x02\xcc\x00",
        "float zero": head + b"\x02\xcb" + bytes(8),
        "missing default": body[:-3] + b"\x91\x02",
        "trailing": body + b"\x00",
        "nil": head + b"\x02\xc0",
        "unknown tag": head + b"\x63" + tail,
        "unknown field": body[:-3] + b"\x93\x02\x00\x00",
        "empty": b"",
    }
    key, seed = v.session_key("ann"), v.seed_of("ann/session")
    signature = decode_envelope(sign(c.OperatorBatch(bytes(32), 1, ()), seed))[0].signature
    for what, variant in variants.items():
        with pytest.raises(Refused) as caught:
            decode_envelope(encode(c.Envelope(variant, key, signature)))
        assert caught.value.code == "MALFORMED", what
    text = encode([body, key, signature]).replace(b"\xc4\x21" + key, b"\xd9\x21" + key)
    for raw in (text, b"\xdc\x00\x03" + encode([body, key, signature])[1:], b"\xc1", b"\x90" * 3_000):
        with pytest.raises(Refused):
            decode_envelope(raw)
    with pytest.raises(Refused) as caught:
        decode_envelope(bytes(ids.MAX_ENVELOPE_BYTES + 1))
    assert caught.value.code == "ENVELOPE_TOO_LARGE"


# --- genesis, time, parameters ---------------------------------------------------------------------


def test_time_never_goes_back_not_even_behind_genesis() -> None:
    venue = v.Venue()
    venue.now_us -= 1
    with pytest.raises(NovateError) as caught:
        venue.operator(c.FundingTick())
    assert caught.value.code == "TIME_WENT_BACK"


def test_a_state_opens_only_with_the_genesis_it_was_made_for() -> None:
    mine, other = v.genesis(), v.genesis(Params(oracle_quorum=2))
    raw = sign(other, v.seed_of("operator"))
    envelope, body = v.admitted(raw)
    with pytest.raises(Refused) as caught:
        Reducer(mine).apply(v.START_US, envelope, body)
    assert caught.value.code == "WRONG_DEPLOYMENT"


def test_no_genesis_no_reducer() -> None:
    with pytest.raises(NovateError) as caught:
        Reducer()
    assert caught.value.code == "NO_GENESIS"


@pytest.mark.parametrize(
    "params",
    [
        Params(fee_tiers=()),
        Params(fee_tiers=(FeeTier(1, 0, 0),)),
        Params(fee_tiers=(FeeTier(0, 0, 1), FeeTier(0, 0, 1))),
        Params(fee_tiers=(FeeTier(0, -2, 1),)),
        Params(fee_tiers=(FeeTier(0, -5, 9), FeeTier(10, -1, 3))),
        Params(oracle_quorum=0),
        Params(funding_interval_us=0),
        Params(liquidation_band_ppm=1_000_000),
        Params(max_fills_per_entry=301),
        Params(max_open_orders=1_001),
    ],
)
def test_parameters_outside_their_bounds_are_refused(params: Params) -> None:
    with pytest.raises(NovateError) as caught:
        validate(params, v.INSTRUMENTS)
    assert caught.value.code == "INVALID_PARAMS"


@pytest.mark.parametrize("number", [0, -1, 2**32])
def test_instrument_ids_fit_their_field(number: int) -> None:
    with pytest.raises(NovateError):
        validate(Params(), (Instrument(number, "X", "X", 1, 1, 2, 1),))


# --- keys and oracle -------------------------------------------------------------------------------


def test_the_limit_of_live_keys_also_holds_for_keys_that_come_back() -> None:
    """Register, revoke, register another, bring the first one back: still at most `max_keys` live."""
    venue = v.Venue(Params(max_keys=2))
    venue.fund("ann", 1)
    venue.register("ann", label="b")
    assert v.codes(venue.register("ann", label="c")) == ["KEY_LIMIT"]
    venue.revoke("ann", label="b")
    assert not v.codes(venue.register("ann", label="c"))
    assert v.codes(venue.register("ann", label="b")) == ["KEY_LIMIT"]
    assert not v.codes(venue.register("ann", label="c", scope=1)), "a live key may be renewed"


def test_a_revoked_key_that_returns_cannot_replay_its_past() -> None:
    venue = market()
    raw = venue.batch("ann", [c.CancelAll()], venue.account("ann").number)
    venue.submit(raw)
    venue.revoke("ann")
    assert v.refusal(venue, raw) == "UNKNOWN_KEY"
    venue.register("ann")
    assert v.refusal(venue, raw) == "NONCE_USED"


def test_nobody_registers_the_key_of_another() -> None:
    venue = market()
    assert v.codes(venue.register("bob", key=v.session_key("ann"))) == ["INVALID_KEY"]
    assert v.codes(venue.register("bob", key=b"\x02" + bytes(20))) == ["INVALID_KEY"]


def test_a_refused_oracle_update_is_not_journalled_again() -> None:
    """Too old, or with a broken chain: seen once, visibly, and then a replay."""
    venue = market()
    old = c.OracleUpdate(venue.deployment, 0, venue.publisher_heads[0], venue.now_us + 5, (c.Price(1, v.USD, 1),))
    venue.advance(v.HOUR)
    raw = sign(old, venue.publisher_seeds[0])
    assert v.codes(venue.submit(raw)) == ["ORACLE_TOO_OLD"]
    broken = c.OracleUpdate(venue.deployment, 0, bytes(32), venue.now_us - 1, (c.Price(1, v.USD, 1),))
    second = sign(broken, venue.publisher_seeds[0])
    assert v.codes(venue.submit(second)) == ["ORACLE_CHAIN_BROKEN"]
    assert v.refusal(venue, raw) == "ORACLE_REPLAYED"
    assert v.refusal(venue, second) == "ORACLE_REPLAYED"


def test_a_far_future_update_does_not_lock_its_publisher_out() -> None:
    venue = market()
    out = venue.oracle({v.BTC: 50 * v.USD}, time_us=v.FOREVER)
    assert v.codes(out) == ["ORACLE_FUTURE"]
    assert isinstance(venue.oracle({v.BTC: 50 * v.USD})[0], o.PriceAccepted)


def test_a_gain_whose_payer_is_insolvent_cannot_be_withdrawn() -> None:
    """Bob's paper gain exceeds all holdings: what the vault does not hold is never acknowledged."""
    venue = v.Venue()
    venue.fund("ann", 300 * v.USD)
    venue.fund("bob", 300 * v.USD)
    venue.oracle({v.BTC: 50 * v.USD})
    venue.sell("ann", 50 * v.USD, 100)
    venue.buy("bob", 50 * v.USD, 100)
    venue.oracle({v.BTC: 74 * v.USD})
    out = venue.do("bob", c.Withdraw(0, 0, 2_000 * v.USD))
    assert v.codes(out) == ["INSUFFICIENT_BALANCE"]
    assert venue.state.holdings == 600 * v.USD


def test_operator_key_rotation_takes_the_old_key_out() -> None:
    venue = market()
    new = v.seed_of("operator/2")
    venue.operator(c.RotateOperator(public_key_of(new), v.address_of("operator/2")))
    tick = c.OperatorBatch(venue.deployment, 900, (c.FundingTick(),))
    assert v.refusal(venue, sign(tick, venue.operator_seed)) == "UNKNOWN_KEY"
    assert v.codes(venue.submit(sign(tick, new))) == ["FUNDING_NOT_DUE"]
    assert venue.state.operator_address == v.address_of("operator/2")
