# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the golden journal of these rules: `python -m tools.golden` (about a second).

Rules:
- Deterministic: keys derive from names, choices from a SHA-256 counter. Two runs give the same bytes.
- It shows every command, every outcome and every reason that this journal can show; `coverage` says
  which, and tests/golden checks that nothing falls out of it.
- A released golden journal is never written again: new rules get a new file.

Format of journal-rules-3.bin: per entry a 2-byte big-endian length, then the entry bytes as
journalled. roots-rules-3.json: entry count, RFC 9162 root, and per epoch what was committed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

from clearing.core.reducer import RULES_VERSION
from clearing.core.snapshot import dump
from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.codec import decode_any_envelope, decode_entry, encode_entry
from clearing.model.params import FeeTier, Params
from clearing.model.signature import public_key_of, sign
from proofs import log
from tests.core import venue as v

FOLDER = Path(__file__).parent.parent / "tests" / "golden"
JOURNAL = FOLDER / "journal-rules-3.bin"
ROOTS = FOLDER / "roots-rules-3.json"
NAMES = ("ann", "bob", "cat", "dan", "eve")
BTC, ETH = v.BTC, v.ETH
MARKS = {BTC: 50 * v.USD, ETH: 20 * v.USD}


class Dice:
    """Numbers from a counter through SHA-256: the same on every machine and version."""

    def __init__(self, seed: str) -> None:
        self._seed = seed
        self._count = 0

    def below(self, limit: int) -> int:
        self._count += 1
        digest = hashlib.sha256(f"{self._seed}/{self._count}".encode()).digest()
        return int.from_bytes(digest[:8], "big") % limit


def build() -> v.Venue:
    """The whole story, as a venue whose journal is the golden one."""
    params = Params(
        fee_tiers=(FeeTier(0, 200, 500), FeeTier(20_000 * v.USD, -50, 350)),
        oracle_quorum=2,
        max_fills_per_entry=4,
        max_open_orders=24,
        max_levels=12,
        max_sub_accounts=3,
        max_keys=2,
    )
    venue = v.Venue(params, publishers=3, more_vaults=(("usd token/1", "btc token/1"),))
    open_for_business(venue)
    every_order(venue)
    for round_number in range(6):
        venue.advance(8 * v.HOUR)
        prices(venue, BTC, round_number - 2)
        random_trading(venue, Dice(f"golden/{round_number}"), 30)
        venue.operator(c.FundingTick())
        venue.close_epoch()
    refusals(venue)
    keys(venue)
    freeze(venue)
    crash(venue)
    rotations(venue)
    venue.close_epoch()
    forced(venue)
    ending(venue)
    return venue


def prices(venue: v.Venue, instrument: int, step: int) -> None:
    """All publishers, a little apart; each market's price `step` percent from its first."""
    for market, mark in MARKS.items():
        move = step if market == instrument else 0
        for publisher in range(3):
            venue.oracle({market: mark * (100 + move) // 100 + (publisher - 1) * 10_000}, publisher)


def open_for_business(venue: v.Venue) -> None:
    for position, name in enumerate(NAMES):
        venue.fund(name, (5_000 + 7_777 * position) * v.USD)
    venue.deposit("treasury", 3_000 * v.USD)
    venue.operator(c.HouseTransfer(ids.OPERATOR_CAPITAL, ids.INSURANCE_FUND, 100 * v.USD))
    venue.deposit("ann", 5, asset=3)
    venue.deposit("ann", 0, kind=9)
    venue.deposit("bob", 2**60)
    for name in ("bob", "cat"):
        venue.deposit(name, 4_000 * v.USD, vault=1)
    venue.deposit("cat", 5, asset=1, vault=1)
    venue.buy("ann", MARKS[BTC], 1)
    prices(venue, BTC, 0)
    venue.do("eve", c.Transfer(1, 1_000 * v.USD), c.Transfer(2, v.USD))
    venue.close_epoch()


def every_order(venue: v.Venue) -> None:
    """Each kind, time in force, flag and self-trade mode once, with what it leads to."""
    at, order = MARKS[BTC], venue.order
    venue.do("ann", *[order(ids.SELL, at + i * 10_000, 5) for i in range(6)])
    venue.do("bob", order(ids.BUY, at + 20_000, 12), order(ids.BUY, at - 10_000, 5, post_only=True))
    venue.do("bob", order(ids.BUY, at + 30_000, 2, post_only=True), order(ids.BUY, at + 90_000, 99, tif=ids.FOK))
    venue.do("cat", order(ids.BUY, at + 30_000, 4, tif=ids.FOK), order(ids.BUY, at, 3, tif=ids.IOC))
    venue.do("cat", order(ids.BUY, at + 50_000, 9, kind=ids.MARKET))
    venue.do("ann", *[order(ids.SELL, at + 10_000, 1) for _ in range(6)])
    venue.do("cat", order(ids.BUY, at + 10_000, 6))
    venue.do("cat", order(ids.SELL, at + 100_000, 4, reduce_only=True, client_id=500))
    venue.do("cat", order(ids.BUY, at, 1, reduce_only=True))
    for stp in (ids.STP_CANCEL_TAKER, ids.STP_CANCEL_MAKER, ids.STP_CANCEL_BOTH, ids.STP_NONE):
        venue.do("dan", order(ids.BUY, at - 30_000, 2), order(ids.SELL, at - 30_000, 7, stp=stp, tif=ids.IOC))
    expiry = venue.now_us + v.SECOND
    venue.do("eve", *[order(ids.SELL, at + 200_000, 2, tif=ids.GTT, expiry_us=expiry) for _ in range(2)])
    venue.do("eve", order(ids.BUY, at - 200_000, 5, client_id=600), c.ReplaceOrder(600, at - 200_000, 3))
    venue.do("eve", c.ReplaceOrder(600, at - 190_000, 4), c.ReplaceOrder(600, at - 190_000, 9))
    venue.advance(v.SECOND)
    venue.operator(c.ExpireOrders())
    venue.do("cat", order(ids.SELL, at - 10_000, 20, tif=ids.IOC))
    venue.do("ann", order(ids.BUY, at, 60))
    venue.do("cat", order(ids.SELL, at, 60, tif=ids.IOC))
    venue.do("ann", c.CancelAll(BTC))
    venue.do("bob", c.CancelAll())
    venue.do("eve", c.CancelOrder(600), c.CancelOrder(600))
    venue.do("dan", order(ids.BUY, at + 100_000, 5, stp=ids.STP_NONE))


def random_trading(venue: v.Venue, dice: Dice, count: int) -> None:
    """Orders around the mark, cancels, replaces, money, now and then a price."""
    for _ in range(count):
        name = NAMES[dice.below(len(NAMES))]
        market = BTC if dice.below(3) else ETH
        mark = venue.state.instruments[market].mark
        price = mark * (980 + dice.below(41)) // 1_000
        price -= price % 10_000
        order = venue.order(
            dice.below(2), price, 1 + dice.below(60), market,
            tif=(ids.GTC, ids.GTC, ids.GTC, ids.IOC, ids.FOK)[dice.below(5)],
            reduce_only=dice.below(6) == 0, stp=dice.below(4),
        )  # fmt: skip
        venue.advance(dice.below(500_000))
        choice = dice.below(12)
        open_ids = list(venue.account(name).orders)
        if choice == 0 and open_ids:
            venue.do(name, c.CancelOrder(open_ids[dice.below(len(open_ids))]))
        elif choice == 1 and open_ids:
            chosen = open_ids[dice.below(len(open_ids))]
            venue.do(name, c.ReplaceOrder(chosen, price, 1 + dice.below(30)), order)
        elif choice == 2:
            venue.do(name, c.Withdraw(dice.below(2), 0, (1 + dice.below(900)) * v.USD // 7))
        elif choice == 3:
            venue.do(name, c.Transfer(1, (1 + dice.below(500)) * v.USD // 3))
        elif choice == 4:
            venue.deposit(name, (1 + dice.below(500)) * v.USD // 9, vault=dice.below(2))
        elif choice == 5:
            prices(venue, market, dice.below(9) - 4)
        else:
            venue.do(name, order)


def refusals(venue: v.Venue) -> None:
    """Every reason that has not come up by itself."""
    at, order = MARKS[BTC], venue.order
    prices(venue, BTC, 0)
    bad: list[c.MemberCommand] = [
        order(ids.BUY, at, 0), order(ids.BUY, at, 2_000_000), order(ids.BUY, at + 1, 1), order(2, at, 1),
        order(ids.BUY, at, 1, 9), order(ids.BUY, at, 1, expiry_us=5), order(ids.BUY, at, 900_000),
        c.CancelAll(9), c.Withdraw(2, 0, 1), c.Withdraw(0, 0, 0), c.Withdraw(0, 0, 2**62), c.Transfer(0, 1),
        c.Transfer(70_000, 1), c.Transfer(7, 1), c.Transfer(8, 1), c.Transfer(9, 1),
    ]  # fmt: skip
    venue.do("dan", *bad)
    venue.do("dan", c.CancelAll(), expiry_us=venue.now_us - 1)
    venue.do("dan", *[order(ids.BUY, at - 1_000_000 - i * 10_000, 1) for i in range(14)])
    venue.do("dan", *[order(ids.BUY, at - 1_000_000, 1) for _ in range(13)])
    venue.do("dan", c.CancelAll(), order(ids.BUY, at - 990_000, 1, client_id=900))
    venue.do("dan", order(ids.BUY, at - 990_000, 1, client_id=900), order(ids.BUY, at, 1, reduce_only=True))
    odd: list[c.OperatorCommand] = [
        c.ConsumeInbox(0, 99, 1, bytes(20), 0, 1, 1, bytes(32)),
        c.ConsumeInbox(0, venue.state.vaults[0].inbox_count, 1, b"", 0, 1, 1, bytes(32)),
        c.HouseTransfer(1, 2, 1), c.RotatePublisher(9, venue.genesis.operator_key), c.RotateOperator(b"", b""),
    ]  # fmt: skip
    venue.operator(*odd)
    venue.operator(c.FundingTick())
    venue.operator(c.Liquidate(3))
    venue.operator(c.Liquidate(99))
    venue.operator(c.CloseEpoch(3, ((1, bytes(32)),) * 2))
    venue.operator(c.CloseEpoch(venue.state.epoch + 1, ()))
    venue.oracle({BTC: 0, ETH: -1, 9: 5})
    venue.oracle({BTC: at * 2, ETH: ids.MAX_PRICE_ATOMS + 1})
    venue.oracle({BTC: at}, time_us=venue.now_us + v.HOUR)
    venue.oracle({BTC: at}, prev_hash=bytes(32))
    venue.advance(v.DAY)
    venue.oracle({BTC: at}, time_us=venue.now_us - v.HOUR)
    venue.buy("ann", at, 1)


def keys(venue: v.Venue) -> None:
    venue.register("cat", ids.SCOPE_TRADE, venue.now_us + v.HOUR, "desk")
    venue.register("cat", label="third")
    venue.register("cat", scope=99, label="desk")
    venue.register("cat", expiry_us=1, label="desk")
    venue.register("cat", key=v.session_key("ann"))
    venue.do("cat", c.Withdraw(0, 0, 1), label="desk")
    venue.revoke("cat", "desk")
    venue.revoke("cat", "desk")
    venue.register("treasury")
    fees = venue.state.accounts[ids.FEES].cash
    withdraw = c.Withdraw(0, 0, max(1, fees // 2))
    for account in range(ids.HOUSE_ACCOUNTS):
        venue.submit(venue.batch("treasury", [withdraw], account))


def freeze(venue: v.Venue) -> None:
    """The second vault freezes and falls back to the last epoch, with a deposit and a withdrawal after it."""
    venue.close_epoch()
    epoch, leaves = venue.state.epoch, venue.state.vaults[1].exit_tree.leaves()
    late = c.ConsumeInbox(1, venue.state.vaults[1].inbox_count, 1, v.address_of("bob"), 0, 9 * v.USD, 1, bytes(32))
    venue.operator(late)
    venue.fund("pat", 50_000 * v.USD)
    venue.do("pat", c.Withdraw(1, 0, v.USD), c.Withdraw(1, 0, 40_000 * v.USD))
    venue.operator(c.SettleEscape(1))
    venue.operator(c.FreezeVault(1, epoch))
    venue.do("pat", c.Withdraw(1, 0, v.USD), c.Withdraw(0, 0, v.USD))
    venue.operator(c.SettleEscape(1))
    rows = [c.EscapeLeaf(leaf.index, leaf.owner, leaf.exits, leaf.withdraw_acks) for leaf in leaves]
    for part in (rows[:3], rows[3:]):
        venue.operator(c.EscapeLeaves(1, tuple(part)))
    venue.operator(c.EscapeDeposits(1, (late,)))
    venue.operator(c.SettleEscape(1))
    venue.close_epoch()


def crash(venue: v.Venue) -> None:
    """A shock liquidates: with orders, against the book, into the fund, past it, and a haircut."""
    venue.fund("max", 2_000 * v.USD)
    venue.fund("whale", 90_000 * v.USD)
    prices(venue, BTC, 0)
    for name in NAMES:
        venue.do(name, c.CancelAll())
    at = MARKS[BTC]
    venue.do("whale", venue.order(ids.BUY, at, 750))
    venue.do("max", venue.order(ids.SELL, at, 750), venue.order(ids.SELL, at * 3, 1))
    prices(venue, BTC, 5)
    venue.do("whale", venue.order(ids.SELL, at * 106 // 100, 20), venue.order(ids.SELL, at * 2, 5))
    venue.operator(c.Liquidate(venue.account("max").number))
    venue.close_epoch()
    venue.do("whale", c.CancelAll())
    venue.fund("kim", 2_500 * v.USD)
    at = venue.state.instruments[BTC].mark // 10_000 * 10_000
    venue.do("whale", venue.order(ids.BUY, at, 700))
    venue.do("kim", venue.order(ids.SELL, at, 700))
    for step in (30, 60):
        prices(venue, BTC, step)
    for name in ("kim", *NAMES):
        venue.operator(c.Liquidate(venue.account(name).number))
    venue.close_epoch()
    venue.do("whale", c.Withdraw(0, 0, 50 * v.USD))
    venue.close_epoch()


def rotations(venue: v.Venue) -> None:
    seed = v.seed_of("publisher/2/next")
    venue.operator(c.RotatePublisher(2, public_key_of(seed)))
    venue.publisher_seeds[2] = seed
    prices(venue, ETH, 1)
    seed = v.seed_of("operator/next")
    venue.operator(c.RotateOperator(public_key_of(seed), v.address_of("operator/next")))
    venue.operator_seed = seed
    tick = c.OperatorBatch(venue.deployment, venue.nonce("operator"), (c.FundingTick(),))
    venue.submit(sign(tick, seed))


def forced(venue: v.Venue) -> None:
    """Through the chain: a withdrawal, then everything, out of positions and all; and what nobody approved."""
    venue.fund("sue", 4_000 * v.USD)
    prices(venue, BTC, 60)
    at = venue.state.instruments[BTC].mark // 10_000 * 10_000
    venue.do("sue", venue.order(ids.BUY, at, 5), venue.order(ids.BUY, at - 10_000, 2))
    venue.do("whale", venue.order(ids.SELL, at, 5))
    venue.operator(c.RunForced(venue.account("sue").number))
    venue.deposit("sue", v.USD, kind=ids.INBOX_FORCED_WITHDRAWAL)
    venue.deposit("sue", 0, kind=ids.INBOX_FORCED_EXIT)
    venue.do("sue", venue.order(ids.BUY, at, 5))
    while venue.account("sue").number in venue.state.forced:
        venue.operator(c.RunForced(venue.account("sue").number))
    venue.operator(c.ReleaseHouse(ids.FEES, 0, 0, 1))
    venue.close_epoch()


def ending(venue: v.Venue) -> None:
    """The venue winds down: one closing price, then everyone is paid what the last epoch would pay."""
    venue.operator(c.RunWindDown())
    venue.operator(c.StartWindDown("the story ends"))
    venue.operator(c.StartWindDown("twice"))
    while not venue.state.wound:
        venue.operator(c.RunWindDown())
    venue.close_epoch()


# --- files -----------------------------------------------------------------------------------------


def entries_of(venue: v.Venue) -> list[bytes]:
    """Entry bytes as a sequencer would journal them."""
    found = []
    for seq, entry in enumerate(venue.journal):
        outcomes = v.decode_outcomes(entry.outcomes)
        found.append(encode_entry(seq, entry.time_us, entry.raw, outcomes))
    return found


def pack(entries: list[bytes]) -> bytes:
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def unpack(data: bytes) -> list[bytes]:
    entries, at = [], 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 2], "big")
        entries.append(data[at + 2 : at + 2 + length])
        at += 2 + length
    return entries


def coverage(entries: list[bytes]) -> dict[str, list[str]]:
    """Which commands, outcomes, rejection codes and cancel reasons occur."""
    seen: dict[str, dict[str, None]] = {"commands": {}, "outcomes": {}, "codes": {}, "reasons": {}}
    for data in entries:
        entry = decode_entry(data)
        _, body = decode_any_envelope(entry.envelope)
        found: tuple[object, ...] = getattr(body, "commands", (getattr(body, "action", body),))
        seen["commands"].update((type(command).__name__, None) for command in found)
        for outcome in entry.outcomes:
            seen["outcomes"][type(outcome).__name__] = None
            if isinstance(outcome, o.Rejected | o.InboxIgnored):
                seen["codes"][outcome.code] = None
            if isinstance(outcome, o.OrderCancelled):
                seen["reasons"][outcome.reason] = None
    return {kind: sorted(names) for kind, names in seen.items()}


def shown(part: o.VaultEpoch) -> dict[str, Any]:
    """One vault's part of an epoch as plain values."""
    fields = {n: getattr(part, n) for n in part.__struct_fields__}
    values = {n: x.hex() if isinstance(x, bytes) else x for n, x in fields.items()}
    return values | {"exit_sums": list(part.exit_sums)}


def roots_of(venue: v.Venue, entries: list[bytes]) -> dict[str, Any]:
    """What a replay must arrive at. Hashes in hex."""
    leaves = [log.leaf_hash(entry) for entry in entries]
    epochs = []
    for seq, data in enumerate(entries):
        for outcome in decode_entry(data).outcomes:
            if isinstance(outcome, o.EpochClosed):
                fields = {n: getattr(outcome, n) for n in outcome.__struct_fields__}
                values = {n: x.hex() if isinstance(x, bytes) else x for n, x in fields.items()}
                values["vaults"] = [shown(part) for part in outcome.vaults]
                epochs.append({"seq": seq, "journal_root": log.root(leaves[: seq + 1]).hex(), **values})
    return {
        "rules_version": RULES_VERSION,
        "entries": len(entries),
        "journal_root": log.root(leaves).hex(),
        "state_sha256": hashlib.sha256(dump(venue.state)).hexdigest(),
        "coverage": coverage(entries),
        "epochs": epochs,
    }


def render(roots: dict[str, Any]) -> str:
    return json.dumps(roots, indent=1) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder to write to")
    folder = parser.parse_args().out
    venue = build()
    entries = entries_of(venue)
    data = pack(entries)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / JOURNAL.name).write_bytes(data)
    (folder / ROOTS.name).write_text(render(roots_of(venue, entries)))
    print(f"{len(entries)} entries, {len(data)} bytes, {venue.state.epoch} epochs in {folder}")


if __name__ == "__main__":
    main()
