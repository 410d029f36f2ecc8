# SPDX-License-Identifier: GPL-3.0-or-later
"""A second set of books, kept from outcomes alone: what a reader of the journal believes.

It shares no code with the reducer. If it agrees with the state after every entry, then outcomes
tell the whole story: no money, position or order changes without saying so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from clearing.core.state import State
from clearing.model import outcomes as o
from clearing.model.ids import (
    FEES,
    INSURANCE_FUND,
    OPERATOR_CAPITAL,
    TRANCHE_DEFAULT_FUND,
    TRANCHE_DEFAULTER,
    TRANCHE_INSURANCE,
    TRANCHE_OPERATOR,
)


class Ledger:
    """Cash, collateral, positions, orders and triggers by number; funding is booked when it applies."""

    def __init__(self) -> None:
        self.cash: dict[int, int] = defaultdict(int)
        self.positions: dict[tuple[int, int], int] = defaultdict(int)
        self.open: dict[int, int] = {}
        self._sides: dict[int, int] = {}
        self.accounts = 0
        self.deposited: dict[int, int] = defaultdict(int)
        self.withdrawn: dict[tuple[bytes, int], int] = defaultdict(int)
        self.owners: list[bytes] = []
        self.assets: dict[tuple[int, int], int] = defaultdict(int)
        self.pledged: dict[int, int] = defaultdict(int)
        self.triggers: dict[int, int] = {}
        self.modes: dict[int, int] = defaultdict(int)
        self.switches: dict[int, int] = {}
        self.auctions: list[int] = []

    def read(self, outcomes: Iterable[o.Outcome]) -> None:
        """Book the outcomes of one entry."""
        for outcome in outcomes:
            self._book(outcome)

    def _book(self, outcome: o.Outcome) -> None:
        match outcome:
            case o.AccountOpened():
                assert outcome.account == self.accounts
                self.accounts += 1
                self.owners.append(outcome.owner)
            case o.Deposited():
                self._add(outcome.account, outcome.asset, outcome.amount_atoms)
                self.deposited[outcome.asset] += outcome.amount_atoms
            case o.WithdrawalAcked():
                self._add(outcome.account, outcome.asset, -outcome.amount_atoms)
                claim = self.owners[outcome.account], outcome.asset
                self.withdrawn[claim] += outcome.amount_atoms
                assert self.withdrawn[claim] == outcome.cumulative_atoms
            case o.AssetTransferred():
                self._add(outcome.from_account, outcome.asset, -outcome.amount_atoms)
                self._add(outcome.to_account, outcome.asset, outcome.amount_atoms)
            case o.InterestCharged():
                self._pay(outcome.account, INSURANCE_FUND, outcome.interest_atoms)
            case o.PositionSettled():
                self.positions[outcome.account, outcome.instrument] -= outcome.size_lots
                self.cash[outcome.account] += outcome.paid_atoms
            case o.DefaultFundPledged():
                self.pledged[outcome.account] += outcome.amount_atoms
                assert self.pledged[outcome.account] == outcome.pledged_atoms
            case o.MarginModeSet():
                self.modes[outcome.account] = outcome.mode
            case o.CancelAllScheduled():
                self.switches[outcome.account] = outcome.at_us
            case o.AuctionStarted():
                self.auctions.append(outcome.account)
            case o.AuctionEnded():
                self.auctions.remove(outcome.account)
            case o.Transferred():
                self.cash[outcome.from_account] -= outcome.amount_atoms
                self.cash[outcome.to_account] += outcome.amount_atoms
            case o.FundingApplied():
                for (account, instrument), size in self.positions.items():
                    if instrument == outcome.instrument:
                        self.cash[account] -= size * outcome.per_lot_atoms
            case o.Liquidated():
                self.cash[outcome.account] -= outcome.fee_atoms
                self.cash[INSURANCE_FUND] += outcome.fee_atoms
            case o.AuctionFilled():
                self._pay(outcome.account, outcome.bidder, outcome.discount_atoms)
            case o.TrancheDrawn():
                self._draw(outcome)
            case o.PledgeDrawn():
                self.cash[outcome.account] -= outcome.drawn_atoms
                self.pledged[outcome.account] -= outcome.drawn_atoms
            case o.GainHaircut():
                self.cash[outcome.account] -= outcome.taken_atoms
            case o.CollateralSeized():
                self.cash[outcome.account] += outcome.credit_atoms
                self.cash[INSURANCE_FUND] -= outcome.credit_atoms
                self._add(outcome.account, outcome.asset, -outcome.amount_atoms)
                self._add(INSURANCE_FUND, outcome.asset, outcome.amount_atoms)
            case o.Deleveraged():
                self._leg(outcome.counterparty, outcome.instrument, -outcome.size_lots, outcome.price_atoms)
                self._leg(outcome.account, outcome.instrument, outcome.size_lots, outcome.price_atoms)
            case o.PositionTransferred():
                self._leg(outcome.from_account, outcome.instrument, -outcome.size_lots, outcome.price_atoms)
                self._leg(outcome.to_account, outcome.instrument, outcome.size_lots, outcome.price_atoms)
            case o.TradeNovated():
                self._trade(outcome)
            case _:
                self._book_order(outcome)

    def _book_order(self, outcome: o.Outcome) -> None:
        match outcome:
            case o.TriggerPlaced():
                assert outcome.order_id not in self.open
                self.triggers[outcome.order_id] = outcome.size_lots
            case o.TriggerFired():
                assert outcome.order_id in self.triggers
            case o.OrderPlaced():
                assert outcome.order_id not in self.open
                self.triggers.pop(outcome.order_id, None)
                self.open[outcome.order_id] = outcome.size_lots
                self._sides[outcome.order_id] = outcome.side
            case o.OrderReplaced():
                assert outcome.order_id in self.open
                self.open[outcome.order_id] = outcome.open_lots
            case o.OrderCancelled():
                waiting = self.triggers if outcome.order_id in self.triggers else self.open
                assert waiting.pop(outcome.order_id) == outcome.open_lots

    def _draw(self, drawn: o.TrancheDrawn) -> None:
        """A tranche of others pays the debtor; what members lose to it are outcomes of their own."""
        if drawn.tranche == TRANCHE_DEFAULTER:
            return
        self.cash[drawn.account] += drawn.drawn_atoms
        house = {TRANCHE_INSURANCE: INSURANCE_FUND, TRANCHE_OPERATOR: OPERATOR_CAPITAL}.get(drawn.tranche)
        if house is not None:
            self.cash[house] -= drawn.drawn_atoms

    def _add(self, account: int, lane: int, atoms: int) -> None:
        if lane:
            self.assets[account, lane] += atoms
        else:
            self.cash[account] += atoms

    def _pay(self, payer: int, payee: int, atoms: int) -> None:
        self.cash[payer] -= atoms
        self.cash[payee] += atoms

    def _leg(self, account: int, instrument: int, lots: int, price: int) -> None:
        self.positions[account, instrument] += lots
        self.cash[account] -= lots * price

    def _trade(self, trade: o.TradeNovated) -> None:
        maker_sells = self._sides[trade.maker_order_id]
        assert self._sides[trade.taker_order_id] != maker_sells
        lots = -trade.size_lots if maker_sells else trade.size_lots
        self._leg(trade.maker_account, trade.instrument, lots, trade.price_atoms)
        self._leg(trade.taker_account, trade.instrument, -lots, trade.price_atoms)
        self.cash[trade.maker_account] -= trade.maker_fee_atoms
        self.cash[trade.taker_account] -= trade.taker_fee_atoms
        self.cash[FEES] += trade.maker_fee_atoms + trade.taker_fee_atoms
        for order_id in (trade.maker_order_id, trade.taker_order_id):
            self.open[order_id] -= trade.size_lots
            assert self.open[order_id] >= 0
            if not self.open[order_id]:
                del self.open[order_id]

    def compare(self, state: State) -> None:
        """Assert that the reducer's books say the same. (`cuts`: paid already, and told by a later entry.)"""
        assert self.accounts == len(state.accounts)
        untold: dict[int, int] = defaultdict(int)
        unpledged: dict[int, int] = defaultdict(int)
        for tranche, number, _, share in state.cuts:
            untold[number] += share
            unpledged[number] += share if tranche == TRANCHE_DEFAULT_FUND else 0
        for account in state.accounts:
            number = account.number
            accrued = sum(s.size * (s.inst.funding_index - s.funding) for s in account.slots.values())
            assert account.cash - accrued + untold[number] == self.cash[number], f"cash of account {number}"
            assert account.pledged + unpledged[number] == self.pledged[number], f"pledge of account {number}"
            assert account.mode == self.modes[number]
            assert account.cancel_all_us == self.switches.get(number, 0)
            for instrument in state.instruments:
                slot = account.slots.get(instrument)
                held = slot.size if slot else 0
                assert held == self.positions[number, instrument]
            for lane in range(1, state.lanes):
                holding = account.holdings.get(lane)
                assert (holding.amount if holding else 0) == self.assets[number, lane]
        assert self.open == {order.order_id: order.open_lots for order in state.orders.values()}
        assert self.triggers == {trigger.order_id: trigger.lots for trigger in state.triggers.values()}
        assert self.auctions == list(state.auctions)
        kept = [asset.held for asset in state.assets]
        for lane in range(state.lanes):
            gone = sum(atoms for (_, other), atoms in self.withdrawn.items() if other == lane)
            assert kept[lane] == self.deposited[lane] - gone, f"holdings of lane {lane}"
            for owner in state.owners.values():
                assert owner.acks[lane] == self.withdrawn[owner.address, lane]
