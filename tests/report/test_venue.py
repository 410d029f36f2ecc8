# SPDX-License-Identifier: GPL-3.0-or-later
"""The venue's figures: resources, cover, concentration, oracle uptime, backtest and the log of defaults."""

from __future__ import annotations

from functools import cache

from hypothesis import given, settings
from hypothesis import strategies as st

from clearing.core import adl, waterfall
from clearing.core.snapshot import dump
from clearing.core.sweep import sweep
from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.ids import PPM
from clearing.report.history import Feed, Read, read
from clearing.report.venue import VenueReport, venue_report
from tests.core import venue as v
from tests.report.scene import CAPITAL, FUND, PLEDGE, Scene, build, found, scene


@cache
def report() -> VenueReport:
    return venue_report(found())


def run_down(venue: Scene) -> None:
    """Submit all that is due at these prices, as the operator does."""
    for _ in range(100):
        state, now = venue.state, venue.now_us
        due: list[c.OperatorCommand | None] = [adl.due(state, now), waterfall.due(state, now)]
        ready = [n for n in sweep(state) if state.accounts[n[0]].wait_us <= now]
        due += [c.Liquidate(*ready[0])] if ready else []
        commands = [command for command in due if command is not None]
        if not commands:
            return
        venue.operator(commands[0])
    raise AssertionError("what is due never ends")


@cache
def crashed() -> tuple[Scene, Read]:
    """Bitcoin falls by a third between two epochs: ann is gone, and the fund's book loses on."""
    venue = build()
    for btc in (45, 40, 33, 28):
        venue.advance(v.MINUTE)
        venue.votes(btc=btc * v.USD)
        run_down(venue)
    venue.close_epoch()
    return venue, read(enumerate(venue.data()))


def test_resources_are_what_the_tranches_hold() -> None:
    """Insurance fund, operator's capital and pledges, and their sum."""
    held = {row.name: row.held_atoms for row in report().resources}
    assert held["insurance fund"] == FUND
    assert held["operator's capital"] == CAPITAL
    assert held["default fund"] == PLEDGE
    assert report().prefunded_atoms == FUND + CAPITAL + PLEDGE
    assert report().shortfall_atoms == 0


def test_cover_is_the_loss_of_one_and_two_owners_above_initial_margin() -> None:
    """Down 30 %: ann, long 1,000 lots at 49, loses that much less her initial margin; two lose no less than one."""
    rows = {row.scenario: row for row in report().covers}
    ann = 1_000 * 49 * v.USD
    assert rows["down-30"].cover_1_atoms == ann * 30 // 100 - ann * 5 // 100
    for row in rows.values():
        assert 0 <= row.cover_1_atoms <= row.cover_2_atoms <= min(2 * row.cover_1_atoms, row.total_atoms)
        assert (row.owners > 0) == (row.total_atoms > 0)
    assert report().cover_1_atoms == max(row.cover_1_atoms for row in rows.values())
    assert report().cover_2_atoms == max(row.cover_2_atoms for row in rows.values())
    assert rows["down-50"].total_atoms > rows["down-30"].total_atoms
    assert "funding-72h" not in rows


def test_concentration_shares_are_of_open_interest() -> None:
    """Longs are 1,150 lots: ann 1,000 and pam 150; bob is the only short."""
    perp = next(row for row in report().concentration if row.symbol == "BTC-PERP")
    number = {who: scene().account(who).number for who in ("ann", "pam", "bob")}
    assert perp.open_interest_lots == 1_150
    assert perp.top_long_ppm == ((number["ann"], 1_000 * PPM // 1_150), (number["pam"], 150 * PPM // 1_150))
    assert perp.top_short_ppm == ((number["bob"], PPM),)
    assert perp.notional_atoms == 1_150 * 49 * v.USD


@settings(max_examples=80)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=12), st.integers(0, 60))
def test_oracle_uptime_is_the_share_of_fresh_moments(votes: list[tuple[int, int]], rest: int) -> None:
    """Against a count of every single moment: fresh is a moment not more than 10 after the newest vote's own time."""
    age, now = 10, 0
    feed = Feed(0)
    fresh = set(range(age))
    feed.vote(0, 0, age)
    for gap, late in votes:
        now += gap
        feed.vote(now, max(0, now - late), age)
        fresh.update(range(now, max(0, now - late) + age))
    end = now + rest
    seen = len([moment for moment in fresh if moment < end])
    assert feed.uptime_ppm(end) == (seen * PPM // end if end else PPM)


def test_oracle_rows_of_the_scene() -> None:
    """A vote every six hours or day is fresh for a minute each: that is its uptime."""
    rows = {row.underlying: row for row in report().oracle}
    assert set(rows) == {"BTC", "ETH", "STETH", "USD"}
    assert rows["BTC"].index_atoms == 49 * v.USD and rows["BTC"].fresh
    assert 0 < rows["BTC"].uptime_ppm < PPM // 100
    assert v.DAY - 2 * v.MINUTE < rows["BTC"].longest_gap_us < v.DAY
    assert report().refused_votes == {}


def test_backtest_counts_books_whose_loss_exceeds_their_initial_margin() -> None:
    """Quiet epochs have none. After the crash, ann's book of the epoch before lost 21 of 49 a lot, far above 5 %;
    the books of bob, cat and pam did not lose more than their margin."""
    quiet = {row.horizon: row for row in report().backtest}
    assert quiet["next epoch"].observations == 5 * 4 and quiet["next epoch"].breaches == 0
    assert quiet["one day"].observations > 0 and quiet["one day"].breaches == 0
    venue, after = crashed()
    rows = {row.horizon: row for row in venue_report(after).backtest}
    ann = venue.account("ann").number
    assert rows["next epoch"].observations == 6 * 4
    assert rows["next epoch"].worst_account == ann
    assert rows["next epoch"].worst_excess_atoms == 1_000 * 21 * v.USD - 1_000 * 49 * v.USD // 20
    assert rows["next epoch"].breaches in (1, 2)


def test_defaults_are_told_as_the_journal_has_them() -> None:
    """Counts and sums are those of the outcomes, counted again; and the report leaves the state alone."""
    venue, after = crashed()
    before = dump(after.state)
    told = venue_report(after)
    assert dump(after.state) == before == dump(venue.state)
    outcomes = [out for entry in venue.journal for out in v.decode_outcomes(entry.outcomes)]
    steps: dict[str, int] = {}
    for out in outcomes:
        if isinstance(out, o.Liquidated):
            steps[out.step] = steps.get(out.step, 0) + 1
    assert told.liquidations == steps and sum(steps.values()) > 0
    drawn = sum(out.drawn_atoms for out in outcomes if isinstance(out, o.TrancheDrawn))
    assert sum(told.drawn_atoms.values()) == drawn > 0
    assert told.haircut_atoms == sum(out.taken_atoms for out in outcomes if isinstance(out, o.GainHaircut))
    adls = [out for out in outcomes if isinstance(out, o.Deleveraged)]
    assert (told.adl_count, told.adl_atoms) == (len(adls), sum(abs(a.size_lots) * a.price_atoms for a in adls))
    assert told.events and all(0 <= event.seq < len(venue.journal) for event in told.events)


def test_near_maintenance_lists_the_closest_first() -> None:
    """At a mark of 46 USD ann's equity is above maintenance, but by less than a quarter."""
    venue = build()
    venue.advance(v.MINUTE)
    venue.votes(btc=45_650_000)
    told = venue_report(read(enumerate(venue.data())))
    assert [row.account for row in told.near] == [venue.account("ann").number]
    (row,) = told.near
    assert row.ratio is not None and 1 < row.ratio < 1.25
    assert report().near == ()


def test_house_accounts_are_not_members() -> None:
    """No house account appears among owners at risk, however large its book."""
    _, after = crashed()
    told = venue_report(after)
    assert all(row.account >= ids.HOUSE_ACCOUNTS for row in told.near)
