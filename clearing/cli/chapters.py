# SPDX-License-Identifier: GPL-3.0-or-later
"""Chapters of the demo: bots that trade, and an options market maker on portfolio margin, its risk and its end."""

import time
from typing import TYPE_CHECKING, Any

from clearing.cli.desk import Desk, offer, quote, take
from clearing.cli.output import usd
from clearing.cli.stage import Member, StageError, must, novate, wait_for
from clearing.client.http import ApiClient
from clearing.client.session import Session
from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.codec import decode_entry
from clearing.model.signature import sign
from journal.block import decode as decode_block

if TYPE_CHECKING:
    from clearing.cli.story import Story

LOTS = 800
_FIGURES = (
    ("equity", "equity_atoms"),
    ("initial", "margin_initial_atoms"),
    ("maintenance", "margin_maintenance_atoms"),
)
BLOCK = 3_000


def let_bots_trade(story: "Story", maker: Member, taker: Member) -> None:
    """A market maker and a taker, as any member could run them."""
    n = story.tell_
    made, taken = story.market.meet(maker, taker, story.folder)
    for member in (maker, taker):
        # Above the nonces of the bot that had the key meanwhile.
        member.session = Session.open(story.api, member.account, member.seed)
    n.say(
        f"{maker.name}'s bot makes a market over the stream: {made['orders']:,} quotes, {made['batches']:,} signatures"
    )
    n.say(f"{taker.name}'s bot takes: {taken['orders']:,} orders, {taken['fills']:,} fills")
    left = made["open_orders"] + taken["open_orders"]
    opposite = int(made["position_lots"]) == -int(taken["position_lots"])
    how = f"{taken['fills']:,} fills, opposite positions, {left} orders open at their end"
    n.prove("bots trade over the stream", taken["fills"] > 0 and opposite and left == 0, how)


def open_desk(story: "Story", seed: bytes) -> None:
    """List options, move the market maker to portfolio margin, let it quote and trade."""
    n, maker = story.tell_, story.members[2]
    n.chapter("An options desk on portfolio margin")
    assert maker.session is not None
    maker.session.submit(c.CancelAll())
    desk = Desk(story.market.price)
    listings = tuple(c.ListInstrument(spec) for spec in desk.instruments())
    deployment = bytes.fromhex(str(story.api.status()["deployment"])[2:])
    receipt = story.api.submit(sign(c.OperatorBatch(deployment, time.time_ns() // 1_000, listings), seed))
    if receipt["rejected"]:
        raise StageError(f"options could not be listed: {receipt['rejected']}")
    story.market.desk = desk
    story.market.publish()
    mode = maker.session.submit(c.SetMarginMode(ids.PORTFOLIO))
    if mode["rejected"]:
        raise StageError(f"portfolio margin was refused: {mode['rejected']}")
    quotes = quote(story.api, maker, desk, LOTS)
    n.say(f"{len(listings)} options listed, their surface signed by the publisher; {maker.name} sends {quotes} quotes")
    for index, side in ((4, ids.BUY), (6, ids.BUY), (5, ids.SELL)):
        story.market.publish()  # a fill needs a price of the last seconds
        take(story.api, story.members[0], desk, index, side, LOTS)
    story.market.publish()
    offer(story.api, maker, desk, 4, BLOCK)
    take(story.api, story.members[0], desk, 4, ids.BUY, BLOCK)
    story.market.publish()


def show_risk(story: "Story") -> None:
    """The market maker's Greeks and the venue's stress, each computed from the journal by a process of its own."""
    n, maker = story.tell_, story.members[2]
    page = story.folder / "risk.html"
    where = ("--api", story.api.url)
    report = must(novate("risk", "account", str(maker.account), *where, "--html", str(page), "--json"), "risk").data
    told = story.api.account(maker.account)
    _tell_account(story, report)
    names = ("equity_atoms", "margin_initial_atoms", "margin_maintenance_atoms")
    same = all(int(report[name]) == int(told[name]) for name in names)
    n.prove(
        "risk is recomputed from the journal", same, f"equity and margins as the operator says; charts in {page.name}"
    )
    run = must(novate("stress", "run", "up-50", *where, "--json"), "stress run").data["runs"][0]
    drawn = ", ".join(
        f"{row['name']} {usd(int(row['drawn_atoms']))}" for row in run["tranches"] if int(row["drawn_atoms"])
    )
    n.say(f"stress {run['title']}: {len(run['liquidated'])} liquidated, drawn: {drawn or 'nothing'}")
    n.prove("the stress run conserves money", bool(run["conserved"]), f"checked after each of {run['checks']} steps")


def _tell_account(story: "Story", report: dict[str, Any]) -> None:
    n, scan = story.tell_, report["scans"][0]
    worst = scan["scenarios"][int(scan["worst_scenario"])] if int(scan["worst_scenario"]) >= 0 else None
    figures = (f"{name} {usd(int(report[key]))}" for name, key in _FIGURES)
    n.say(f"{story.members[2].name}: " + ", ".join(figures))
    for row in report["greeks"]:
        expiry_us = int(row["expiry_us"])
        what = f"{row['underlying']} {'in all' if expiry_us < 0 else 'options' if expiry_us else 'perpetual'}"
        n.say(
            f"  {what:<14} delta {float(row['delta_lots']):+10.1f} lots, gamma {float(row['gamma_lots']):+8.1f}, "
            f"vega {usd(int(row['vega_atoms'])):>14}, theta {usd(int(row['theta_atoms'])):>12}"
        )
    if worst is not None:
        n.say(
            f"  worst of {len(scan['scenarios'])} scenarios: spot {float(worst['spot']):+.0%}, vol {worst['vol']}: "
            f"P&L {usd(int(worst['pnl_atoms']))}; array {scan['array_hash'][:18]}…"
        )


def fail_desk(story: "Story") -> None:
    """Price and vol jump; the desk fails maintenance in one scenario, and that scenario is the proof."""
    n, maker, buyer = story.tell_, story.members[2], story.members[0]
    n.chapter("The desk fails, and the proof is one scenario")
    size = int(story.api.status()["size"])
    assert story.market.desk is not None
    story.market.desk.vol_shift_ppm = 300_000
    for _ in range(14):
        if _liquidations(story.api, size, maker.account):
            break
        story.market.move(40_000)
    wait_for(lambda: _liquidations(story.api, size, maker.account), "the liquidation of the desk", 20)
    step = _liquidations(story.api, size, maker.account)[0]
    n.say(f"{step.step}: equity {usd(step.equity_atoms)}, maintenance {usd(step.margin_maintenance_atoms)}")
    n.say(f"witness: scenario {step.scenario}, P&L {usd(step.scenario_pnl_atoms)}")
    proven = step.scenario != ids.NO_SCENARIO and step.equity_atoms < step.margin_maintenance_atoms
    n.prove("the liquidation names its witness", proven, "anyone can recompute that one scenario from the journal")
    _auction(story, maker, buyer)


def _auction(story: "Story", maker: Member, buyer: Member) -> None:
    n = story.tell_
    if not any(int(row["account"]) == maker.account for row in story.api.auctions()):
        return
    assert buyer.session is not None
    bid = buyer.session.submit(c.BidAuction(maker.account, ids.PPM, 200_000_000_000))
    if bid["rejected"]:
        raise StageError(f"the bid was refused: {bid['rejected']}")
    sold = next(outcome for outcome in bid["outcomes"] if outcome["type"] == "AuctionFilled")
    paid = usd(abs(int(sold["paid_atoms"])))
    how = "for" if int(sold["paid_atoms"]) >= 0 else "and is paid"
    share = int(sold["share_ppm"]) / 10_000
    n.prove("the book found a taker in the auction", True, f"{buyer.name} takes {share:.0f} % {how} {paid}")


def _liquidations(api: ApiClient, since: int, account: int) -> list[o.Liquidated]:
    """Steps against an account from entry `since` on, from the journal's own bytes."""
    found = []
    for raw in api.blocks(since):
        for data in decode_block(raw).entries:
            entry = decode_entry(data)
            if entry.seq >= since:
                found += [x for x in entry.outcomes if isinstance(x, o.Liquidated) and x.account == account]
    return found
