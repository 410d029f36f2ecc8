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
from clearing.model.ids import FEES, INSURANCE_FUND


class Ledger:
    """Cash, positions and open orders per account number; funding is booked when it applies."""

    def __init__(self) -> None:
        self.cash: dict[int, int] = defaultdict(int)
        self.positions: dict[tuple[int, int], int] = defaultdict(int)
        self.open: dict[int, int] = {}
        self._sides: dict[int, int] = {}
        self.accounts = 0
        self.deposited = 0
        self.withdrawn: dict[bytes, int] = defaultdict(int)
        self.owners: list[bytes] = []

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
                self.cash[outcome.account] += outcome.amount_atoms
                self.deposited += outcome.amount_atoms
            case o.WithdrawalAcked():
                self.cash[outcome.account] -= outcome.amount_atoms
                owner = self.owners[outcome.account]
                self.withdrawn[owner] += outcome.amount_atoms
                assert self.withdrawn[owner] == outcome.cumulative_atoms
            case o.Transferred():
                self.cash[outcome.from_account] -= outcome.amount_atoms
                self.cash[outcome.to_account] += outcome.amount_atoms
            case o.FundingApplied():
                for (account, instrument), size in self.positions.items():
                    if instrument == outcome.instrument:
                        self.cash[account] -= size * outcome.per_lot_atoms
            case o.Liquidated():
                self.cash[outcome.account] += outcome.covered_atoms - outcome.fee_atoms
                self.cash[INSURANCE_FUND] += outcome.fee_atoms - outcome.covered_atoms
            case o.PositionTransferred():
                self._leg(outcome.from_account, outcome.instrument, -outcome.size_lots, outcome.price_atoms)
                self._leg(outcome.to_account, outcome.instrument, outcome.size_lots, outcome.price_atoms)
            case o.TradeNovated():
                self._trade(outcome)
            case o.OrderPlaced():
                assert outcome.order_id not in self.open
                self.open[outcome.order_id] = outcome.size_lots
                self._sides[outcome.order_id] = outcome.side
            case o.OrderReplaced():
                assert outcome.order_id in self.open
                self.open[outcome.order_id] = outcome.open_lots
            case o.OrderCancelled():
                assert self.open.pop(outcome.order_id) == outcome.open_lots

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
        """Assert that the reducer's books say the same."""
        assert self.accounts == len(state.accounts)
        for account in state.accounts:
            accrued = sum(s.size * (s.inst.funding_index - s.funding) for s in account.slots.values())
            assert account.cash - accrued == self.cash[account.number], f"cash of account {account.number}"
            for instrument in state.instruments:
                slot = account.slots.get(instrument)
                held = slot.size if slot else 0
                assert held == self.positions[account.number, instrument]
        assert self.open == {order.order_id: order.open_lots for order in state.orders.values()}
        assert state.holdings == self.deposited - sum(self.withdrawn.values())
        for owner in state.owners.values():
            assert owner.acks[0] == self.withdrawn[owner.address]
