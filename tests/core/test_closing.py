# SPDX-License-Identifier: GPL-3.0-or-later
"""The wind-down: everything closes at one price per market, and everyone is paid to the atom by ordinary claims."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core import closing
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.errors import Refused
from clearing.model.outcomes import PositionClosed, WindDownDone
from tests.core import several as s
from tests.core import venue as v
from tests.core.chains import BTC_0, BTC_1, COIN, USD_0
from tests.core.test_forced import reload, traded


def wind_down(venue: v.Venue, most: int = 50) -> list[object]:
    """Every step to the end."""
    found: list[object] = []
    for _ in range(most):
        step = closing.due(venue.state, venue.state.time_us)
        if step is None:
            return found
        found += venue.operator(step)
    raise AssertionError("the wind-down does not end")


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_wind_down_pays_out_exactly_what_is_held(seed: int) -> None:
    """Per lane, what is acknowledged in the course of it is what lay there; what everyone gets is their exit of that
    moment, as an epoch closed just before had computed it. Snapshots between steps change nothing."""
    rng = random.Random(seed)
    venue = traded(seed)
    venue.give("ann", BTC_0, COIN // 3)
    venue.give("bob", BTC_1, COIN // 7)
    venue.close_epoch()
    exits = {address: list(owner.exits) for address, owner in venue.state.owners.items()}
    acks = {address: list(owner.acks) for address, owner in venue.state.owners.items()}
    held = [asset.held for asset in venue.state.assets]
    venue.operator(c.StartWindDown("the end"))
    found: list[object] = []
    while (step := closing.due(venue.state, venue.state.time_us)) is not None:
        found += venue.operator(step)
        if rng.random() < 0.5 and not venue.state.wound:
            reload(venue)
    (result,) = (outcome for outcome in found if isinstance(outcome, WindDownDone))
    assert list(result.paid_atoms) == held
    for address, owner in venue.state.owners.items():
        assert [now - then for now, then in zip(owner.acks, acks[address], strict=True)] == exits[address]
    assert all(not account.cash and not account.holdings for account in venue.state.accounts)
    closed = venue.close_epoch()
    assert closed.epoch == venue.state.final_epoch
    assert all(not any(owner.exits) for owner in venue.state.owners.values())


def test_positions_close_at_one_price_per_market() -> None:
    """Closings of a market sum to zero lots, all at its mark of the start."""
    venue = traded(11)
    marks = {number: inst.mark for number, inst in venue.state.instruments.items()}
    venue.operator(c.StartWindDown("the end"))
    rows = [outcome for outcome in wind_down(venue) if isinstance(outcome, PositionClosed)]
    assert rows and all(row.price_atoms == marks[row.instrument] for row in rows)
    for number in marks:
        assert sum(row.size_lots for row in rows if row.instrument == number) == 0


def test_nothing_else_goes_on() -> None:
    """No order, no withdrawal, no price, no second start; deposits until it pays, epochs at any time."""
    venue = traded(5)
    assert v.codes(venue.operator(c.RunWindDown())) == ["NOT_WINDING_DOWN"]
    assert v.codes(venue.operator(c.StartWindDown(""))) == ["INVALID_FIELD"]
    venue.operator(c.StartWindDown("the end"))
    assert v.codes(venue.operator(c.StartWindDown("again"))) == ["WINDING_DOWN"]
    assert v.codes(venue.do("ann", c.Withdraw(0, 0, 1))) == ["WINDING_DOWN"]
    assert v.codes(venue.operator(c.FundingTick())) == ["WINDING_DOWN"]
    with pytest.raises(Refused, match="WINDING_DOWN"):
        venue.oracle(s.PRICES)
    venue.give("eve", USD_0, 77 * v.USD)
    wind_down(venue)
    # Split over two vaults and rounded down in each; the odd atom is the house's.
    assert 0 <= 77 * v.USD - sum(venue.state.owners[v.address_of("eve")].acks) <= 1
    index = venue.state.vaults[0].inbox_count
    late = c.ConsumeInbox(0, index, ids.INBOX_DEPOSIT, v.address_of("eve"), 0, 5, 1, bytes(32))
    assert v.codes(venue.operator(late)) == ["WINDING_DOWN"]
    venue.close_epoch()
    venue.close_epoch()


def test_auctions_and_forced_exits_end_with_it() -> None:
    """Whoever waits for an exit is paid with everyone else."""
    from tests.core.test_forced import EXIT, force

    venue = traded(9)
    force(venue, "ann", EXIT)
    venue.operator(c.StartWindDown("the end"))
    wind_down(venue)
    assert not venue.state.forced and not venue.state.auctions
    assert not any(slot.size for account in venue.state.accounts for slot in account.slots.values())
