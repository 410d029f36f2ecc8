# SPDX-License-Identifier: GPL-3.0-or-later
"""Outcomes in words, as the cell `so` has them.

- `rests N` comes at the end, for every order that arrived and is in the book.
- A vote that leaves what it votes on as the last one in the same sentence did is not said again.
- Where the venue acts, orders are named: nobody else would know whose they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clearing.model import ids
from clearing.model import outcomes as o
from tests.scenario.language import duration, percent, usd

if TYPE_CHECKING:
    from tests.scenario.stage import Stage

TRANCHES = ("own means", "insurance", "capital", "default fund", "gains", "adl")
MODES = ("standard", "portfolio")
_VOTES = (o.PriceAccepted, o.SurfaceAccepted)


def said(stage: Stage, outcomes: list[o.Outcome], by_venue: bool) -> list[str]:
    """What happened, in order."""
    found: list[str] = []
    votes: list[str] = []
    arrived: list[int] = []
    for outcome in outcomes:
        _take_note(stage, outcome)
        if isinstance(outcome, o.OrderPlaced | o.OrderReplaced):
            arrived.append(outcome.order_id)
        phrase = _money(stage, outcome) or _trading(stage, outcome, by_venue)
        phrase = phrase or _risk(stage, outcome) or _rest(stage, outcome)
        if isinstance(outcome, _VOTES):
            if phrase in votes:
                continue
            votes.append(phrase)
        if phrase:
            found.append(phrase)
    for order_id in arrived:
        order = stage.venue.state.orders.get(order_id)
        if order is not None:
            found.append(f"{stage.label(order_id)} rests {order.open_lots}" if by_venue else f"rests {order.open_lots}")
    return found


def _take_note(stage: Stage, outcome: o.Outcome) -> None:
    if isinstance(outcome, o.OrderPlaced | o.TriggerPlaced):
        labels = {number: label for label, number in stage.labels.items()}
        stage.orders[outcome.order_id] = labels.get(outcome.client_order_id, "close-out")


def _money(stage: Stage, outcome: o.Outcome) -> str:
    match outcome:
        case o.Deposited():
            return f"deposited {_amount(stage, outcome.asset, outcome.amount_atoms)}"
        case o.InboxIgnored():
            return f"ignored {outcome.code}"
        case o.WithdrawalAcked():
            acked = _amount(stage, outcome.asset, outcome.amount_atoms)
            return f"acked {acked} of {usd(outcome.cumulative_atoms)}"
        case o.Transferred():
            return f"moved {usd(outcome.amount_atoms)}"
        case o.AssetTransferred():
            return f"moved {_amount(stage, outcome.asset, outcome.amount_atoms)}"
        case o.InterestCharged():
            return f"{stage.name_of(outcome.account)} pays {usd(outcome.interest_atoms)} on {usd(outcome.debt_atoms)}"
        case o.CollateralSeized():
            return f"{_amount(stage, outcome.asset, outcome.amount_atoms)} seized for {usd(outcome.credit_atoms)}"
        case o.DefaultFundPledged():
            return f"pledged {usd(outcome.amount_atoms)}, {usd(outcome.pledged_atoms)} in all"
        case o.FundingApplied():
            name, per_lot = stage.symbol(outcome.instrument), usd(outcome.per_lot_atoms)
            return f"{name} longs pay {per_lot} a lot at {outcome.rate_ppm} ppm"
    return ""


def _amount(stage: Stage, lane: int, atoms: int) -> str:
    return f"{usd(atoms)} {stage.setting.assets[lane].symbol}" if lane else usd(atoms)


def _trading(stage: Stage, outcome: o.Outcome, by_venue: bool) -> str:
    match outcome:
        case o.TradeNovated():
            taker = stage.label(outcome.taker_order_id)
            who = f"{taker} " if by_venue and taker != "close-out" else ""
            maker = stage.label(outcome.maker_order_id)
            return f"{who}trades {outcome.size_lots} at {usd(outcome.price_atoms)} with {maker}"
        case o.OrderCancelled():
            return f"{stage.label(outcome.order_id)} cancelled {outcome.open_lots} {outcome.reason}"
        case o.OrderReplaced():
            return "priority kept" if outcome.kept_priority else "priority lost"
        case o.TriggerPlaced():
            return f"waits for {usd(outcome.trigger_atoms)}"
        case o.TriggerFired():
            return f"{stage.label(outcome.order_id)} fires at {usd(outcome.mark_atoms)}"
        case o.CancelAllScheduled():
            return "disarmed" if not outcome.at_us else f"armed for {duration(outcome.at_us - stage.venue.now_us)}"
        case o.PriceAccepted():
            return f"index {usd(outcome.index_atoms)}"
        case o.SurfaceAccepted():
            return f"forward {usd(outcome.forward_atoms)}"
        case o.BreakerChanged():
            return f"{stage.symbol(outcome.instrument)} {outcome.kind} at {usd(outcome.mark_atoms)}"
    return ""


def _risk(stage: Stage, outcome: o.Outcome) -> str:
    match outcome:
        case o.Liquidated():
            witness = ""
            if outcome.scenario != ids.NO_SCENARIO:
                witness = f" proven by {outcome.scenario} losing {usd(-outcome.scenario_pnl_atoms)}"
            left = outcome.wait_us - stage.venue.now_us
            wait = f" wait {duration(left)}" if left > 0 else ""
            return f"{outcome.step} closed {usd(outcome.closed_atoms)} fee {usd(outcome.fee_atoms)}{witness}{wait}"
        case o.PositionTransferred():
            where = f"{stage.symbol(outcome.instrument)} at {usd(outcome.price_atoms)}"
            return f"{stage.name_of(outcome.to_account)} takes {outcome.size_lots} {where}"
        case o.AuctionStarted():
            return f"on offer, worth {usd(outcome.value_atoms)}"
        case o.AuctionFilled():
            share = percent(outcome.share_ppm, ids.PPM)
            return f"{share} sold for {usd(outcome.paid_atoms)}, {usd(outcome.discount_atoms)} off"
        case o.AuctionEnded():
            return f"auction ends {outcome.reason}"
        case o.TrancheDrawn():
            asked, kept = usd(outcome.asked_atoms), usd(outcome.left_atoms)
            return f"{TRANCHES[outcome.tranche]} pays {usd(outcome.drawn_atoms)} of {asked} keeps {kept}"
        case o.PledgeDrawn():
            name, kept = stage.name_of(outcome.account), usd(outcome.pledged_atoms)
            return f"{name} pledge pays {usd(outcome.drawn_atoms)} keeps {kept}"
        case o.GainHaircut():
            return f"{stage.name_of(outcome.account)} gain {usd(outcome.gain_atoms)} pays {usd(outcome.taken_atoms)}"
        case o.Deleveraged():
            name, price = stage.name_of(outcome.counterparty), usd(outcome.price_atoms)
            return f"adl {outcome.rank} {name} {outcome.size_lots} at {price}"
    return ""


def _rest(stage: Stage, outcome: o.Outcome) -> str:
    match outcome:
        case o.Rejected():
            return f"refused {outcome.code}"
        case o.EpochClosed():
            failing = f" failing {outcome.failing_accounts}" if outcome.failing_accounts else ""
            return f"epoch {outcome.epoch} shortfall {usd(outcome.shortfall_atoms)}{failing}"
        case o.ExpiryPriced():
            return f"settlement price {usd(outcome.price_atoms)}"
        case o.PositionSettled():
            name, market = stage.name_of(outcome.account), stage.symbol(outcome.instrument)
            return f"{name} gets {usd(outcome.paid_atoms)} for {outcome.size_lots} {market}"
        case o.MarginModeSet():
            return f"{MODES[outcome.mode]} margin"
        case o.MarginAdapted():
            under = next(u.symbol for u in stage.setting.underlyings.values() if u.id == outcome.underlying)
            return f"{under} margin at {percent(outcome.factor_ppm, ids.PPM)}"
        case o.ParamsProposed():
            return f"parameters {outcome.version} in {duration(outcome.effective_us - stage.venue.now_us)}"
        case o.ParamsChanged():
            return f"parameters {outcome.version}"
        case o.InstrumentListed():
            return f"listed {outcome.instrument.symbol}"
        case o.InstrumentDelisted():
            return f"delisted {stage.symbol(outcome.instrument)}"
        case o.KeyRegistered():
            return "registered"
        case o.KeyRevoked():
            return "revoked"
        case o.OperatorRotated() | o.PublisherRotated():
            return "rotated"
    return ""
