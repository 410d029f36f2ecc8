# SPDX-License-Identifier: GPL-3.0-or-later
"""What an entry's outcomes say of one account's money, line by line.

Rules:
- One line per outcome that moves the account's cash, collateral, acknowledged withdrawals or position; the sign is the
  account's. A fill is two lines: the trade at its price, and its fee.
- Trading at a price moves cash against the position: buying lowers cash by price x lots, and the position is worth the
  mark. So cash alone is no balance while positions are open.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from clearing.core.state import State
from clearing.model import ids
from clearing.model import outcomes as o

DEPOSIT: Final = "DEPOSIT"
WITHDRAWAL: Final = "WITHDRAWAL"
TRANSFER: Final = "TRANSFER"
TRADE: Final = "TRADE"
FEE: Final = "FEE"
FUNDING: Final = "FUNDING"
LIQUIDATION: Final = "LIQUIDATION"
SETTLEMENT: Final = "SETTLEMENT"
DEFAULT: Final = "DEFAULT"
SHARED_LOSS: Final = "SHARED LOSS"
COLLATERAL: Final = "COLLATERAL"
INTEREST: Final = "INTEREST"
KINDS: Final = (
    DEPOSIT, WITHDRAWAL, TRANSFER, TRADE, FEE, FUNDING, LIQUIDATION, SETTLEMENT, DEFAULT, SHARED_LOSS, COLLATERAL,
    INTEREST,
)  # fmt: skip


class Line(NamedTuple):
    """`cash`: atoms of the settlement asset; `holdings`, `acks`: (lane, change) in the asset's atoms. `with_funding`:
    the amount includes what funding of `instrument` was settled with it."""

    kind: str
    text: str
    cash: int
    holdings: tuple[tuple[int, int], ...] = ()
    acks: tuple[tuple[int, int], ...] = ()
    instrument: int = 0
    with_funding: bool = False


def lines_of(state: State, account: int, sides: dict[int, int]) -> list[Line]:
    """The lines of the entry that was just applied (its outcomes are still in `state.out`). `sides`: the side of each
    order of the account, kept from entry to entry."""
    found: list[Line] = []
    for outcome in state.out:
        teller = _TELLERS.get(type(outcome))
        if teller is not None:
            found.extend(teller(state, account, outcome, sides))
    return found


def _name(state: State, instrument: int) -> str:
    inst = state.instruments.get(instrument)
    return inst.spec.symbol if inst is not None else f"instrument {instrument}"


def _moved(state: State, lane: int, amount: int) -> tuple[int, tuple[tuple[int, int], ...]]:
    """(cash, holdings) of an amount in a lane."""
    return (amount, ()) if state.assets[lane].settlement else (0, ((lane, amount),))


def _lane(state: State, vault: int, asset: int) -> int:
    return state.vaults[vault].first_lane + asset


def _placed(state: State, me: int, out: Any, sides: dict[int, int]) -> Iterator[Line]:
    if out.account == me:
        sides[out.order_id] = out.side
    return iter(())


def _deposited(state: State, me: int, out: o.Deposited, sides: dict[int, int]) -> Iterator[Line]:
    if out.account == me:
        cash, held = _moved(state, _lane(state, out.vault, out.asset), out.amount_atoms)
        text = f"deposit into vault {out.vault}, message {out.inbox_index}, asset {out.asset}"
        yield Line(DEPOSIT, text, cash, held)


def _acked(state: State, me: int, out: o.WithdrawalAcked, sides: dict[int, int]) -> Iterator[Line]:
    if out.account == me:
        lane = _lane(state, out.vault, out.asset)
        cash, held = _moved(state, lane, -out.amount_atoms)
        text = f"withdrawal acknowledged from vault {out.vault}, asset {out.asset}"
        yield Line(WITHDRAWAL, text, cash, held, ((lane, out.amount_atoms),))


def _transferred(state: State, me: int, out: o.Transferred, sides: dict[int, int]) -> Iterator[Line]:
    if me == out.from_account:
        yield Line(TRANSFER, f"transfer to account {out.to_account}", -out.amount_atoms)
    if me == out.to_account:
        yield Line(TRANSFER, f"transfer from account {out.from_account}", out.amount_atoms)


def _asset_moved(state: State, me: int, out: o.AssetTransferred, sides: dict[int, int]) -> Iterator[Line]:
    if me == out.from_account:
        yield Line(TRANSFER, f"transfer to account {out.to_account}", 0, ((out.asset, -out.amount_atoms),))
    if me == out.to_account:
        yield Line(TRANSFER, f"transfer from account {out.from_account}", 0, ((out.asset, out.amount_atoms),))


def _traded(state: State, me: int, out: o.TradeNovated, sides: dict[int, int]) -> Iterator[Line]:
    symbol = _name(state, out.instrument)
    rows = (
        (out.maker_account, out.maker_order_id, out.maker_fee_atoms, "maker"),
        (out.taker_account, out.taker_order_id, out.taker_fee_atoms, "taker"),
    )
    for account, order, fee, role in rows:
        if account == me:
            lots = out.size_lots if sides[order] == ids.BUY else -out.size_lots
            verb = "bought" if lots > 0 else "sold"
            text = f"{verb} {abs(lots):,} lots {symbol} at {out.price_atoms:,} atoms"
            yield Line(TRADE, text, -lots * out.price_atoms, instrument=out.instrument)
            if fee:
                yield Line(FEE, f"{role} fee of that trade", -fee)
    if me == ids.FEES:
        total = out.maker_fee_atoms + out.taker_fee_atoms
        if total:
            yield Line(FEE, f"fees of accounts {out.maker_account} and {out.taker_account}", total)


def _handed(state: State, me: int, out: o.PositionTransferred, sides: dict[int, int]) -> Iterator[Line]:
    symbol = _name(state, out.instrument)
    for account, lots, other in (
        (out.from_account, -out.size_lots, out.to_account),
        (out.to_account, out.size_lots, out.from_account),
    ):
        if account == me:
            text = f"{lots:+,} lots {symbol} at the mark of {out.price_atoms:,} atoms, with account {other}"
            yield Line(LIQUIDATION, text, -lots * out.price_atoms, instrument=out.instrument)


def _liquidated(state: State, me: int, out: o.Liquidated, sides: dict[int, int]) -> Iterator[Line]:
    if out.fee_atoms and me == out.account:
        yield Line(LIQUIDATION, f"fee of liquidation step {out.step}", -out.fee_atoms)
    if out.fee_atoms and me == ids.INSURANCE_FUND:
        yield Line(LIQUIDATION, f"fee of account {out.account}, step {out.step}", out.fee_atoms)


def _sold_off(state: State, me: int, out: o.AuctionFilled, sides: dict[int, int]) -> Iterator[Line]:
    for account, sign, other in ((out.account, -1, out.bidder), (out.bidder, 1, out.account)):
        if account == me:
            yield Line(LIQUIDATION, f"auction discount, with account {other}", sign * out.discount_atoms)


def _deleveraged(state: State, me: int, out: o.Deleveraged, sides: dict[int, int]) -> Iterator[Line]:
    symbol = _name(state, out.instrument)
    for account, lots, role in (
        (out.account, out.size_lots, f"against account {out.counterparty}"),
        (out.counterparty, -out.size_lots, f"rank {out.rank}, against account {out.account}"),
    ):
        if account == me:
            text = f"deleveraged {lots:+,} lots {symbol} at {out.price_atoms:,} atoms, {role}"
            yield Line(LIQUIDATION, text, -lots * out.price_atoms, instrument=out.instrument)


def _expired(state: State, me: int, out: o.PositionSettled, sides: dict[int, int]) -> Iterator[Line]:
    if out.account == me:
        text = f"{out.size_lots:+,} lots {_name(state, out.instrument)} settled at expiry"
        yield Line(SETTLEMENT, text, out.paid_atoms, instrument=out.instrument, with_funding=True)


def _closed(state: State, me: int, out: o.PositionClosed, sides: dict[int, int]) -> Iterator[Line]:
    if out.account == me:
        text = f"{out.size_lots:+,} lots {_name(state, out.instrument)} closed at {out.price_atoms:,} in the wind-down"
        yield Line(SETTLEMENT, text, out.size_lots * out.price_atoms, instrument=out.instrument)


def _drawn(state: State, me: int, out: o.TrancheDrawn, sides: dict[int, int]) -> Iterator[Line]:
    if not out.drawn_atoms or out.tranche == ids.TRANCHE_DEFAULTER:
        return  # the defaulter's own collateral has lines of its own
    if me == out.account:
        yield Line(DEFAULT, f"deficit paid by tranche {out.tranche} of the waterfall", out.drawn_atoms)
    payers = {ids.TRANCHE_INSURANCE: ids.INSURANCE_FUND, ids.TRANCHE_OPERATOR: ids.OPERATOR_CAPITAL}
    if payers.get(out.tranche) == me:
        yield Line(DEFAULT, f"paid for the deficit of account {out.account}", -out.drawn_atoms)


def _pledge_drawn(state: State, me: int, out: o.PledgeDrawn, sides: dict[int, int]) -> Iterator[Line]:
    if out.account == me:
        yield Line(SHARED_LOSS, "pledge to the default fund drawn for another's default", -out.drawn_atoms)


def _haircut(state: State, me: int, out: o.GainHaircut, sides: dict[int, int]) -> Iterator[Line]:
    if out.account == me:
        text = f"share of a default, of a gain of {out.gain_atoms:,} atoms since the last epoch"
        yield Line(SHARED_LOSS, text, -out.taken_atoms)


def _seized(state: State, me: int, out: o.CollateralSeized, sides: dict[int, int]) -> Iterator[Line]:
    text = f"{out.amount_atoms:,} atoms of lane {out.asset} against a debt"
    if me == out.account:
        yield Line(COLLATERAL, text, out.credit_atoms, ((out.asset, -out.amount_atoms),))
    if me == ids.INSURANCE_FUND:
        yield Line(COLLATERAL, f"{text} of account {out.account}", -out.credit_atoms, ((out.asset, out.amount_atoms),))


def _charged(state: State, me: int, out: o.InterestCharged, sides: dict[int, int]) -> Iterator[Line]:
    if out.interest_atoms and me == out.account:
        yield Line(INTEREST, f"interest on a debt of {out.debt_atoms:,} atoms", -out.interest_atoms)
    if out.interest_atoms and me == ids.INSURANCE_FUND:
        yield Line(INTEREST, f"interest of account {out.account}", out.interest_atoms)


_Teller = Callable[[State, int, Any, dict[int, int]], Iterator[Line]]
_TELLERS: dict[type, _Teller] = {
    o.OrderPlaced: _placed,
    o.TriggerPlaced: _placed,
    o.Deposited: _deposited,
    o.WithdrawalAcked: _acked,
    o.Transferred: _transferred,
    o.AssetTransferred: _asset_moved,
    o.TradeNovated: _traded,
    o.PositionTransferred: _handed,
    o.Liquidated: _liquidated,
    o.AuctionFilled: _sold_off,
    o.Deleveraged: _deleveraged,
    o.PositionSettled: _expired,
    o.PositionClosed: _closed,
    o.TrancheDrawn: _drawn,
    o.PledgeDrawn: _pledge_drawn,
    o.GainHaircut: _haircut,
    o.CollateralSeized: _seized,
    o.InterestCharged: _charged,
}
