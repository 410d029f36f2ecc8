# SPDX-License-Identifier: GPL-3.0-or-later
"""What must hold after every entry, whatever it was. The venue itself checks money, positions and books."""

from __future__ import annotations

from typing import NamedTuple

from clearing.core import assets
from clearing.core.backstop import is_stale
from clearing.core.book import Order
from clearing.core.liquidation import is_liquidatable
from clearing.core.margin import assess, equity, fails, headroom, witness
from clearing.core.state import Account, State, Trigger
from clearing.core.sweep import Sweeper, sweep
from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.errors import REJECTIONS
from tests.core import venue as v
from tests.core.ledger import Ledger

# Entries in which nobody's headroom may go below zero but the sender's.
_TRADING = (c.PlaceOrder, c.ReplaceOrder, c.RunTriggers, c.CancelOrder, c.CancelAll)
_HOUSE = ((ids.TRANCHE_INSURANCE, ids.INSURANCE_FUND), (ids.TRANCHE_OPERATOR, ids.OPERATOR_CAPITAL))


class View(NamedTuple):
    """An account before an entry, at the time of the entry."""

    stored: tuple[object, ...]
    equity: int
    initial: int
    maintenance: int
    headroom: int
    maker_ppm: int
    sizes: dict[int, int]
    stale: bool
    claim: int


def stored(account: Account) -> tuple[object, ...]:
    """What of an account the sweep and every reader of outcomes rely on."""
    held = sorted((lane, held.amount) for lane, held in account.holdings.items())
    slots = sorted((n, slot.size, slot.funding) for n, slot in account.slots.items() if slot.size)
    return account.cash, account.pledged, account.mode, tuple(held), tuple(slots)


def view(account: Account, now_us: int) -> View:
    state = account_state(account)
    sizes = {n: slot.size for n, slot in account.slots.items() if slot.size}
    stale = state is not None and is_stale(state, account, now_us)
    return View(stored(account), *assess(account), headroom(account), account.maker_ppm, sizes, stale, equity(account))


def account_state(account: Account) -> State | None:
    for slot in account.slots.values():
        return slot.inst.venue
    for held in account.holdings.values():
        return held.asset.venue
    return None


def views(state: State, now_us: int) -> list[View]:
    """All accounts as an entry at `now_us` finds them."""
    before, state.time_us = state.time_us, now_us
    found = [view(account, now_us) for account in state.accounts]
    state.time_us = before
    return found


class Watch:
    """Reads every entry as a stranger would, and holds the state against it."""

    def __init__(self, venue: v.Venue) -> None:
        self.venue = venue
        self.ledger = Ledger()
        self.kept = Sweeper(venue.state)
        self.read = 0
        self.catch_up()

    def catch_up(self) -> None:
        for entry in self.venue.journal[self.read :]:
            out = v.decode_outcomes(entry.outcomes)
            self.ledger.read(out)
            self.kept.note(out)
        self.read = len(self.venue.journal)

    def after(self, commands: tuple[object, ...], sender: int, before: list[View], out: list[o.Outcome]) -> None:
        """Everything, for an entry of these commands. `sender`: a member's account, or -1."""
        state = self.venue.state
        self.catch_up()
        self.ledger.compare(state)
        assert all(x.code in REJECTIONS for x in out if isinstance(x, o.Rejected))
        margins = [assess(account) for account in state.accounts]
        told(state, before, out, margins)
        indexes(state)
        for account, (_, initial, maintenance) in zip(state.accounts, margins, strict=True):
            assert 0 <= maintenance <= initial, f"account {account.number}: MM {maintenance}, IM {initial}"
        swept(state, self.kept)
        if commands and all(isinstance(command, _TRADING) for command in commands):
            traded(state, sender, before, out)
        if len(commands) == 1 and isinstance(commands[0], c.PlaceOrder):
            accepted(state, state.accounts[sender], commands[0], before[sender], out)
        liquidated(state, before, out, margins)
        waterfall(state, before, out)


def told(state: State, before: list[View], out: list[o.Outcome], margins: list[tuple[int, int, int]]) -> None:
    """Whoever changed is in the outcomes, with figures that are right when the entry is over."""
    said = {x.account: x for x in out if isinstance(x, o.MarginChanged)}
    waiting = {number for _, number, _, _ in state.cuts}
    for account, was in zip(state.accounts, before, strict=False):
        now = stored(account)
        if now != was.stored and account.number != ids.FEES:  # fees are told by the trades
            assert account.number in said or account.number in waiting, f"account {account.number} changed unsaid"
    for number, row in said.items():
        got = (row.cash_atoms, row.equity_atoms, row.margin_initial_atoms, row.margin_maintenance_atoms)
        assert got == (state.accounts[number].cash, *margins[number])


def swept(state: State, kept: Sweeper) -> None:
    """All at once, from columns kept or fresh, is one by one; and every witness proves it."""
    expected = [(a.number, witness(a)[0]) for a in state.accounts if not is_liquidatable(state, a)]
    assert sweep(state) == expected
    assert kept.run() == expected
    for number, scenario in expected:
        assert fails(state.accounts[number], scenario)[0]


def indexes(state: State) -> None:
    """Redundant places agree: triggers, pairs, switches, holders, the fast path, the count of modes."""
    assert sum(a.mode == ids.PORTFOLIO for a in state.accounts) == state.portfolios
    armed = sorted((a.cancel_all_us, a.number) for a in state.accounts if a.cancel_all_us)
    assert state.cancel_alls == armed
    queued = []
    for inst in state.instruments.values():
        assert inst.above == sorted(inst.above)
        assert inst.below == sorted(inst.below, key=lambda item: (-item[0], item[1]))
        queued += [order_id for _, order_id in inst.above + inst.below] + [t.order_id for t in inst.fired]
        held = {a.number for a in state.accounts if inst.id in a.slots and a.slots[inst.id].size}
        assert held == set(inst.holders)
    assert sorted(queued) == sorted(state.triggers)
    assert sum(len(a.triggers) for a in state.accounts) == len(state.triggers)
    for account in state.accounts:
        plain = account.plain
        account.set_plain()
        assert not plain or account.plain, f"account {account.number} takes the short way"
        account.plain = plain
        waiting: dict[int, Order | Trigger] = {**account.orders, **account.triggers}
        assert len(waiting) == len(account.orders) + len(account.triggers)
        for number, half in waiting.items():
            assert not half.oco or waiting[half.oco].oco == number, "a pair knows each other"
        if account.auction is not None:
            assert any(slot.size for slot in account.slots.values()), "a book on offer has something in it"
            assert (not account.orders and not account.triggers) or all(x.reduce_only for x in waiting.values()), (
                "whose book is on offer may only reduce"
            )


def traded(state: State, sender: int, before: list[View], out: list[o.Outcome]) -> None:
    """Orders were accepted for every subset of fills: no fill takes anybody's headroom below zero."""
    takers = {x.taker_account for x in out if isinstance(x, o.TradeNovated)} | {sender}
    for account, was in zip(state.accounts, before, strict=True):
        if account.number in takers or was.headroom < 0 or account.maker_ppm > was.maker_ppm:
            continue
        if account.number == ids.FEES:
            continue
        now = headroom(account)
        assert now >= 0, f"account {account.number}: headroom {was.headroom} -> {now} by others' orders"


def accepted(state: State, account: Account, order: c.PlaceOrder, was: View, out: list[o.Outcome]) -> None:
    """What was accepted leaves initial margin for every fill, or only reduces and does not harm."""
    placed = [x for x in out if isinstance(x, o.OrderPlaced)]
    if not placed or account.maker_ppm > was.maker_ppm or headroom(account) >= 0:
        return
    if any(x.maker_account == x.taker_account for x in out if isinstance(x, o.TradeNovated)):
        return  # who trades with itself pays both fees and reduces nothing
    size = was.sizes.get(order.instrument, 0)
    lots = placed[0].size_lots
    assert lots <= (size if order.side == ids.SELL else -size), "below initial margin an order only reduces"
    now, _, maintenance = assess(account)
    assert maintenance <= was.maintenance
    assert now * was.maintenance >= was.equity * maintenance, "reducing lowered equity / maintenance"


def liquidated(state: State, before: list[View], out: list[o.Outcome], margins: list[tuple[int, int, int]]) -> None:
    """Only who fails at fresh prices is liquidated, and no step makes it worse."""
    for row in out:
        if not isinstance(row, o.Liquidated):
            continue
        was, (now, _, maintenance) = before[row.account], margins[row.account]
        assert not was.stale, "a stale oracle freezes"
        if row.step == "ADL":
            continue
        assert was.equity < was.maintenance and row.account >= ids.HOUSE_ACCOUNTS
        assert (row.equity_atoms, row.margin_maintenance_atoms) == (was.equity, was.maintenance)
        assert maintenance <= was.maintenance, f"{row.step} raised maintenance {was.maintenance} -> {maintenance}"
        if row.step == "SEIZE":  # the credit is to the asset's atom: an owner may lose the change of one
            now += sum(1 + assets.value_of(state.assets[x.asset], 1) for x in out if isinstance(x, o.CollateralSeized))
        if row.step == "SEIZE" and state.accounts[row.account].mode == ids.PORTFOLIO:
            # Haircuts are charges there, so that next to no equity the fee weighs more than they do in the ratio.
            better = now - maintenance >= was.equity - was.maintenance
        elif was.equity < 0 or not maintenance:  # there is no ratio to speak of; a fee takes no equity below zero
            better = now >= min(was.equity, 0)
        else:
            better = now * was.maintenance >= was.equity * maintenance
        assert better, f"{row.step}: {was.equity}/{was.maintenance} -> {now}/{maintenance}"
        if row.step == "BACKSTOP":
            fund = state.accounts[ids.INSURANCE_FUND]
            worth = sum(held.amount for held in fund.holdings.values())
            assert worth or equity(fund) >= 0, "the backstop takes no book that it cannot carry"


def waterfall(state: State, before: list[View], out: list[o.Outcome]) -> None:
    """No tranche is touched while the one before it holds anything; ADL comes after all of them."""
    left: dict[int, int] = {}
    for row in out:
        if isinstance(row, o.TrancheDrawn):
            assert 0 <= row.drawn_atoms <= row.asked_atoms
            for tranche, house in _HOUSE:
                held = 0 if house == row.account else max(0, before[house].claim)
                assert tranche >= row.tranche or not left.get(tranche, held), f"{row} while {tranche} holds money"
            assert not any(left[tranche] for tranche in left if ids.TRANCHE_DEFAULTER < tranche < row.tranche)
            left[row.tranche] = row.left_atoms
        elif isinstance(row, o.Deleveraged):
            assert before[row.account].equity < before[row.account].maintenance or row.account < ids.HOUSE_ACCOUNTS
            for house in (ids.INSURANCE_FUND, ids.OPERATOR_CAPITAL):
                assert before[house].claim <= 0 or house == row.account, "ADL while a tranche holds money"
