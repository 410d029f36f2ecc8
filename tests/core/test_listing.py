# SPDX-License-Identifier: GPL-3.0-or-later
"""Listing and delisting by command: what is refused, and that nothing remembers what is gone."""

from __future__ import annotations

import msgspec
import pytest

from clearing.core import listing
from clearing.core.reducer import Reducer
from clearing.core.snapshot import dump, load
from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.params import Instrument, Params, Underlying
from tests.core import venue as v

NEW = Instrument(7, "BTC-PERP-MINI", "BTC", 1_000, 1_000, 100_000, 50_000)
DUE = v.START_US + 30 * v.DAY
CALL = v.option(8, 50 * v.USD, DUE, True)
PUT = v.option(9, 50 * v.USD, DUE, False)


def open_venue() -> v.Venue:
    venue = v.Venue(Params(underlyings=(Underlying(1, "BTC"), Underlying(2, "ETH"), Underlying(3, "SOL"))))
    for name in ("ann", "bob"):
        venue.fund(name, 10**12)
    price(venue)
    return venue


def price(venue: v.Venue) -> list[o.Outcome]:
    venue.advance(v.SECOND)
    return venue.oracle({v.BTC: 50 * v.USD, v.ETH: 20 * v.USD})


def trade(venue: v.Venue, instrument: int, lots: int = 1) -> list[o.Outcome]:
    at = 50 * v.USD
    return venue.sell("ann", at, lots, instrument) + venue.buy("bob", at, lots, instrument)


def test_a_listed_market_trades_from_its_first_price_on() -> None:
    """The parameter hash of an epoch covers the live instruments."""
    venue = open_venue()
    before = venue.close_epoch().params_hash
    out = venue.operator(c.ListInstrument(NEW))
    assert out[0] == o.InstrumentListed(NEW)
    assert v.codes(trade(venue, 7)) == ["NO_MARK_PRICE", "NO_MARK_PRICE"]
    price(venue)
    assert not v.codes(trade(venue, 7))
    assert venue.state.instruments[7].open_interest == 1
    assert venue.close_epoch().params_hash != before


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"id": v.BTC}, "INSTRUMENT_EXISTS"),
        ({"symbol": "ETH-PERP"}, "INSTRUMENT_EXISTS"),
        ({"underlying": "DOGE"}, "INVALID_INSTRUMENT"),
        ({"underlying": ""}, "INVALID_INSTRUMENT"),
        ({"id": 0}, "INVALID_INSTRUMENT"),
        ({"id": 2**32}, "INVALID_INSTRUMENT"),
        ({"symbol": ""}, "INVALID_INSTRUMENT"),
        ({"symbol": "x" * 65}, "INVALID_INSTRUMENT"),
        ({"tick_atoms": 0}, "INVALID_INSTRUMENT"),
        ({"mmf_ppm": 100_001}, "INVALID_INSTRUMENT"),
        ({"kind": 3}, "INVALID_INSTRUMENT"),
        ({"kind": ids.FUTURE}, "INVALID_INSTRUMENT"),
        ({"expiry_us": DUE}, "INVALID_INSTRUMENT"),
        ({"strike_atoms": 5}, "INVALID_INSTRUMENT"),
        ({"kind": ids.OPTION, "expiry_us": DUE}, "INVALID_INSTRUMENT"),
        ({"kind": ids.FUTURE, "expiry_us": v.START_US}, "INVALID_INSTRUMENT"),
        ({"kind": ids.FUTURE, "expiry_us": DUE}, ""),
        ({"underlying": "SOL"}, ""),
    ],
)
def test_instruments_are_checked(change: dict[str, int | str], code: str) -> None:
    venue = open_venue()
    before = list(venue.state.instruments)
    found = v.codes(venue.operator(c.ListInstrument(msgspec.structs.replace(NEW, **change))))
    assert found == ([code] if code else [])
    assert len(venue.state.instruments) == len(before) + (not code)


def test_there_is_a_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    venue = open_venue()
    monkeypatch.setattr(listing, "MAX_INSTRUMENTS", 3)
    assert not v.codes(venue.operator(c.ListInstrument(NEW)))
    other = msgspec.structs.replace(NEW, id=70, symbol="ONE-TOO-MANY")
    assert v.codes(venue.operator(c.ListInstrument(other))) == ["INVALID_INSTRUMENT"]


def test_a_market_in_use_stays() -> None:
    """A position, an order, a trigger: each alone keeps it; without any of them it goes, and empty slots too."""
    venue = open_venue()
    venue.operator(c.ListInstrument(NEW))
    price(venue)
    assert v.codes(venue.operator(c.DelistInstrument(99))) == ["UNKNOWN_INSTRUMENT"]
    venue.do("ann", venue.order(ids.BUY, 40 * v.USD, 1, 7, client_id=41))
    assert v.codes(venue.operator(c.DelistInstrument(7))) == ["INSTRUMENT_IN_USE"]
    venue.do("ann", c.CancelOrder(41), c.PlaceTrigger(7, ids.BUY, 60 * v.USD, True, 60 * v.USD, 1, 42))
    assert v.codes(venue.operator(c.DelistInstrument(7))) == ["INSTRUMENT_IN_USE"]
    venue.do("ann", c.CancelOrder(42))
    trade(venue, 7)
    assert v.codes(venue.operator(c.DelistInstrument(7))) == ["INSTRUMENT_IN_USE"]
    venue.sell("bob", 50 * v.USD, 1, 7)
    venue.buy("ann", 50 * v.USD, 1, 7)
    assert 7 in venue.account("ann").slots
    out = venue.operator(c.DelistInstrument(7))
    assert out[0] == o.InstrumentDelisted(7)
    assert all(7 not in account.slots for account in venue.state.accounts)
    assert all(inst.id != 7 for inst in venue.state.symbols["BTC"].instruments)
    assert v.codes(venue.buy("ann", 50 * v.USD, 1, 7)) == ["UNKNOWN_INSTRUMENT"]
    venue.close_epoch()


def test_an_expiry_lives_as_long_as_its_last_instrument() -> None:
    """A call and a put share forward and surface; when both are gone, publishers' votes on it are too."""
    venue = open_venue()
    venue.operator(c.ListInstrument(CALL), c.ListInstrument(PUT))
    under = venue.state.symbols["BTC"]
    assert [i.id for i in under.expiries[DUE].instruments] == [8, 9]
    venue.advance(v.SECOND)
    vote = v.surface(1, DUE, 51 * v.USD, (50 * v.USD,), (0.8,))
    assert not v.codes(venue.oracle({v.BTC: 50 * v.USD, v.ETH: 20 * v.USD}, surfaces=(vote,)))
    venue.operator(c.DelistInstrument(8))
    assert [i.id for i in under.expiries[DUE].instruments] == [9] and venue.state.publishers[0].surfaces
    venue.operator(c.DelistInstrument(9))
    assert not under.expiries and not under.vols and not venue.state.publishers[0].surfaces
    venue.close_epoch()


def test_listed_markets_survive_a_snapshot() -> None:
    """Listing order, halts and last prices are what they were, and what follows is the same."""
    venue = open_venue()
    venue.operator(c.ListInstrument(NEW), c.ListInstrument(CALL))
    price(venue)
    trade(venue, 7)
    venue.operator(c.HaltMarket(7, True, "test of halts"))
    venue.close_epoch()
    length, payload, closed = venue.snapshots[-1]
    price(venue)
    assert v.codes(trade(venue, 7)) == ["MARKET_HALTED"] * 2
    venue.operator(c.HaltMarket(7, False, "over"), c.DelistInstrument(8))
    trade(venue, 7)
    venue.close_epoch()
    restored = load(payload, closed)
    assert list(restored.instruments) == [v.BTC, v.ETH, 7, 8]
    assert restored.instruments[7].halted == "test of halts" and restored.instruments[7].last == 50 * v.USD
    tail = v.replay(venue.journal[length:], Reducer(state=restored))
    assert dump(tail.state) == dump(venue.state)
