# SPDX-License-Identifier: GPL-3.0-or-later
"""What may happen at the venue of the risk machine. Every step draws from its own generator, so that a run is the list
of its steps' numbers, and a failing run can be made shorter by leaving steps out."""

from __future__ import annotations

import random
from collections.abc import Callable

import msgspec

from clearing.core.liquidation import is_liquidatable
from clearing.core.margin import headroom, witness
from clearing.core.snapshot import dump
from clearing.core.state import Account, InstrumentState
from clearing.model import commands as c
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.errors import Refused
from clearing.model.params import Params
from clearing.service.ticker import due, liquidations
from tests.core import several as s
from tests.core import venue as v
from tests.core.machine_checks import Watch, views
from tests.core.machine_world import FAR, NAMES, NEAR, SYMBOLS, TICKS, World, numbers, rules

MAX_ROUNDS = 400


class Watched(World):
    """A world whose every entry is checked. `counts`: how often each outcome was seen."""

    def __init__(self, seed: str) -> None:
        self.watch: Watch | None = None
        self.counts: dict[str, int] = {}
        super().__init__(random.Random(seed))
        self.watch = Watch(self)

    def submit(self, raw: bytes, check_invariants: bool = True) -> list[o.Outcome]:
        """As ever, with all checks; an envelope that is refused changes nothing."""
        if self.watch is None:
            return super().submit(raw, check_invariants)
        _, body = v.admitted(raw)
        before = views(self.state, self.now_us)
        bytes_before = dump(self.state) if len(self.journal) % 16 == 0 else b""
        try:
            out = super().submit(raw, check_invariants)
        except Refused:
            assert not bytes_before or dump(self.state) == bytes_before
            return []
        commands = body.commands if isinstance(body, c.MemberBatch | c.OperatorBatch) else ()
        sender = body.account if isinstance(body, c.MemberBatch) else -1
        self.watch.after(commands, sender, before, out)
        for x in out:
            name = f"{type(x).__name__}.{x.step}" if isinstance(x, o.Liquidated) else type(x).__name__
            name = f"Rejected.{x.code}" if isinstance(x, o.Rejected) else name
            name = f"{name}.{x.tranche}" if isinstance(x, o.TrancheDrawn) else name
            self.counts[name] = self.counts.get(name, 0) + 1
        return out


def send(world: Watched, account: Account, *commands: c.MemberCommand) -> list[o.Outcome]:
    """A batch of whoever owns the account."""
    name = next(name for name in NAMES if v.address_of(name) == account.owner.address)
    return world.submit(world.batch(name, commands, account.number))


def somebody(world: Watched, rng: random.Random) -> Account:
    return world.state.accounts[rng.choice(numbers(world.state))]


def market(world: Watched, rng: random.Random) -> InstrumentState | None:
    """Perpetuals as often as all others together."""
    found = list(world.state.instruments.values())
    perpetuals = [inst for inst in found if inst.kind == ids.PERPETUAL]
    dated = [inst for inst in found if inst.kind != ids.PERPETUAL and inst.expiry and not inst.expiry.price]
    chosen = perpetuals if rng.random() < 0.4 or not dated else dated
    return rng.choice(chosen) if chosen else None


def grid(inst: InstrumentState, price: float) -> int:
    return max(1, round(price / inst.tick)) * inst.tick


def lots_for(world: Watched, account: Account, inst: InstrumentState, share: float) -> int:
    """So many that they take about this share of the account's headroom."""
    free = max(0, headroom(account))
    if inst.kind == ids.OPTION:
        each = max(1, (inst.under.index * 13) // 100)
    else:
        each = max(1, inst.mark * inst.imf // ids.PPM)
    return max(1, min(inst.max_lots, int(free * share) // each))


def freshen(world: Watched, rng: random.Random, inst: InstrumentState) -> None:
    if not world.is_fresh(inst.id) and rng.random() < 0.9:
        world.everybody_votes(rng, 2)


# --- prices and time ---------------------------------------------------------------------------


def drift(world: Watched, rng: random.Random) -> None:
    world.advance(rng.randrange(1, 20 * v.SECOND))
    for under in TICKS:
        world.move(rng, under, 0.99, 1.01)
    world.truth[s.STETH] = max(2, world.truth[v.ETH] * rng.choice((100, 110, 110, 111)) // 100)
    world.everybody_votes(rng, rng.choice((2, 3)))


def jump(world: Watched, rng: random.Random) -> None:
    """A move that breaks somebody, and what the clock makes of it."""
    world.advance(rng.randrange(1, 30 * v.SECOND))
    low, high = rng.choice(((0.93, 1.07), (0.8, 1.25), (0.55, 1.8)))
    world.move(rng, rng.choice((v.BTC, v.BTC, v.ETH)), low, high)
    world.vol = max(0.1, min(4.0, world.vol * rng.uniform(0.6, 1.7)))
    world.everybody_votes(rng)
    if rng.random() < 0.7:
        clock(world, rng)


def squeeze(world: Watched, rng: random.Random) -> None:
    """The price goes against somebody, little by little, until the ladder's first rung is reached."""
    account = somebody(world, rng)
    held = [slot for slot in account.slots.values() if slot.size and slot.inst.mark]
    if not held:
        return
    slot = max(held, key=lambda slot: (abs(slot.size) * slot.inst.under.index, slot.inst.id))
    up = slot.size < 0
    if slot.inst.kind == ids.OPTION and not slot.inst.spec.is_call:
        up = not up
    for _ in range(12):
        world.advance(rng.randrange(1, 5 * v.SECOND))
        step = rng.choice((0.01, 0.03))
        world.move(rng, slot.inst.under.id, 1 + step if up else 1 - step, 1 + step if up else 1 - step)
        world.everybody_votes(rng)
        if not is_liquidatable(world.state, account):
            break
    if rng.random() < 0.3:
        world.advance(90 * v.SECOND)  # too late: nobody is touched until prices come again
    for _ in range(rng.randrange(1, 4)):
        clock(world, rng)
        bid(world, rng)
        world.advance(rng.randrange(40 * v.SECOND))
        world.everybody_votes(rng, 2)


def lie(world: Watched, rng: random.Random) -> None:
    """One publisher alone, wrong, late or with a broken chain."""
    publisher = rng.randrange(3)
    kind = rng.randrange(4)
    if kind == 0:
        world.vote(rng, publisher, rng.choice((0.1, 0.6, 1.5, 8.0)))
    elif kind == 1:
        world.oracle(world.truth, publisher, prev_hash=bytes([7]) * 32)
    elif kind == 2:
        last = world.state.publishers[publisher].time_us
        world.oracle(world.truth, publisher, time_us=max(last + 1, world.now_us - rng.randrange(100 * v.SECOND)))
    else:
        price = rng.choice((0, 1, 2**53, 2**63))
        world.now_us = max(world.now_us, world.state.publishers[publisher].time_us + 1)
        world.oracle({rng.choice((1, 2, 3, 4, 9)): price}, publisher, rng.choice((0, 1, 10**9)))


def depeg(world: Watched, rng: random.Random) -> None:
    world.truth[s.USD_FEED] = rng.choice((v.USD, v.USD, 995_000, 960_000, 800_000, 1_020_000))
    world.truth[s.STETH] = max(2, world.truth[v.ETH] * rng.choice((50, 100, 110, 150)) // 100)
    world.everybody_votes(rng)


def silence(world: Watched, rng: random.Random) -> None:
    world.advance(rng.choice((6, 61, 120, 900, 3_700)) * v.SECOND)


def leap(world: Watched, rng: random.Random) -> None:
    """To the next expiry, voting through its window or not."""
    ahead = sorted(e for under in world.state.underlyings.values() for e in under.expiries if e > world.now_us)
    if not ahead:
        world.advance(rng.choice((v.HOUR, v.DAY)))
        world.everybody_votes(rng)
        return
    for before in rng.choice(((11 * v.MINUTE, 5 * v.MINUTE), (1,), (v.HOUR, 9 * v.MINUTE, v.SECOND))):
        if ahead[0] - before > world.now_us:
            world.now_us = ahead[0] - before
            world.everybody_votes(rng, 2)
    if rng.random() < 0.8:
        world.now_us = max(world.now_us, ahead[0] + rng.randrange(3 * v.SECOND))
        world.everybody_votes(rng)
        clock(world, rng)


def clock(world: Watched, rng: random.Random) -> None:
    """What the operator's clock does: everything that is due, until nothing is. What is due is never refused."""
    for _ in range(MAX_ROUNDS):
        commands = due(world.state, world.now_us)
        if not commands:
            found = world.watch.kept.run() if world.watch else []
            commands = liquidations(world.state, world.now_us, found)
        if not commands:
            return
        out = world.operator(commands[0])
        assert not v.codes(out), f"{commands[0]} was due and is refused: {v.codes(out)}"
    raise AssertionError(f"what is due never ends: {commands[0]}")


def epoch(world: Watched, rng: random.Random) -> None:
    world.close_epoch()


# --- orders ------------------------------------------------------------------------------------


def trade(world: Watched, rng: random.Random) -> None:
    """A rests an order near the mark, B takes it, as large as they can bear."""
    inst = market(world, rng)
    if inst is None or not inst.mark:
        return
    freshen(world, rng, inst)
    a, b = rng.sample(numbers(world.state), 2)
    maker, taker = world.state.accounts[a], world.state.accounts[b]
    share = rng.choice((0.05, 0.3, 0.6, 0.95))
    lots = min(lots_for(world, maker, inst, share), lots_for(world, taker, inst, share))
    side = rng.choice((ids.BUY, ids.SELL))
    price = grid(inst, inst.mark * rng.uniform(0.99, 1.01))
    send(world, maker, world.order(side, price, lots, inst.id))
    send(world, taker, world.order(1 - side, price, lots, inst.id, stp=rng.randrange(4)))


def order(world: Watched, rng: random.Random) -> None:
    """Any order of anybody, in order or not."""
    inst, account = market(world, rng), somebody(world, rng)
    if inst is None or not inst.mark:
        return
    freshen(world, rng, inst)
    price = grid(inst, inst.mark * rng.choice((0.5, 0.9, 0.97, 0.995, 1.0, 1.005, 1.03, 1.1, 2.0)))
    lots = lots_for(world, account, inst, rng.choice((0.01, 0.2, 0.5, 1.0, 1.3)))
    side = rng.choice((ids.BUY, ids.SELL))
    slot = account.slots.get(inst.id)
    if slot is not None and slot.size and rng.random() < 0.5:
        side = ids.SELL if slot.size > 0 else ids.BUY
        lots = rng.choice((abs(slot.size), max(1, abs(slot.size) // 3), lots))
    kind = rng.choice((ids.LIMIT, ids.LIMIT, ids.MARKET))
    tif = rng.choice((ids.GTC, ids.GTC, ids.IOC, ids.FOK, ids.GTT))
    expiry = world.now_us + rng.randrange(1, 120 * v.SECOND) if tif == ids.GTT else 0
    rest = (kind, tif, rng.random() < 0.1, rng.random() < 0.3, rng.randrange(4), expiry)
    send(world, account, world.order(side, price, min(lots, inst.max_lots), inst.id, *rest))


def ladder_of_quotes(world: Watched, rng: random.Random) -> None:
    """One member makes a market: several orders each side in one batch."""
    inst, account = market(world, rng), somebody(world, rng)
    if inst is None or not inst.mark:
        return
    freshen(world, rng, inst)
    lots = lots_for(world, account, inst, 0.05)
    quotes = []
    for step in range(1, rng.randrange(2, 5)):
        for side, sign in ((ids.BUY, -1), (ids.SELL, 1)):
            price = grid(inst, inst.mark * (1 + sign * 0.004 * step))
            quotes.append(world.order(side, price, rng.randrange(1, lots + 1), inst.id))
    send(world, account, *quotes)


def some_order(account: Account, rng: random.Random) -> int:
    waiting = [*account.orders, *account.triggers]
    return rng.choice(waiting) if waiting else rng.randrange(1, 5)


def replace(world: Watched, rng: random.Random) -> None:
    account = somebody(world, rng)
    found = account.orders.get(some_order(account, rng))
    if found is None:
        return
    inst = found.slot.inst
    freshen(world, rng, inst)
    price = rng.choice((found.price, grid(inst, found.price * rng.uniform(0.97, 1.03))))
    lots = max(1, int(found.open_lots * rng.choice((0.5, 1.0, 1.5, 4.0))))
    send(world, account, c.ReplaceOrder(found.client_order_id, price, lots))


def cancel(world: Watched, rng: random.Random) -> None:
    account = somebody(world, rng)
    if rng.random() < 0.3:
        send(world, account, c.CancelAll(rng.choice((0, 0, 1, 5))))
    else:
        send(world, account, c.CancelOrder(some_order(account, rng)))


def trigger(world: Watched, rng: random.Random) -> None:
    """A stop or take-profit, perhaps half of a pair."""
    inst, account = market(world, rng), somebody(world, rng)
    if inst is None or not inst.mark:
        return
    freshen(world, rng, inst)
    above = rng.random() < 0.5
    at = grid(inst, inst.mark * (1 + (1 if above else -1) * rng.choice((0.001, 0.005, 0.02, 0.2))))
    price = grid(inst, at * rng.choice((0.8, 0.99, 1.01, 1.2)))
    slot = account.slots.get(inst.id)
    lots = abs(slot.size) if slot is not None and slot.size else lots_for(world, account, inst, 0.1)
    oco = some_order(account, rng) if rng.random() < 0.4 else 0
    kind, reduce_only = rng.choice((ids.LIMIT, ids.MARKET)), rng.random() < 0.5
    expiry = rng.choice((0, 0, world.now_us + rng.randrange(1, v.HOUR)))
    side = rng.choice((ids.BUY, ids.SELL))
    row = (side, at, above, price, min(max(1, lots), inst.max_lots), world.client_id(), kind, reduce_only, oco, expiry)
    send(world, account, c.PlaceTrigger(inst.id, *row))


def switch(world: Watched, rng: random.Random) -> None:
    at = rng.choice((0, world.now_us, world.now_us + rng.randrange(1, 5 * v.MINUTE)))
    send(world, somebody(world, rng), c.ScheduleCancelAll(at))


def batch(world: Watched, rng: random.Random) -> None:
    """Several commands at once, most of them sensible."""
    account = somebody(world, rng)
    inst = market(world, rng)
    if inst is None or not inst.mark:
        return
    lots = lots_for(world, account, inst, 0.3)
    commands: list[c.MemberCommand] = [
        world.order(rng.randrange(2), grid(inst, inst.mark * rng.uniform(0.98, 1.02)), lots, inst.id),
        c.Withdraw(0, rng.randrange(5), rng.randrange(10**9)),
        c.CancelAll(0),
        c.Transfer(rng.randrange(4), rng.randrange(10**9), rng.randrange(4)),
        world.order(rng.randrange(2), grid(inst, inst.mark * rng.uniform(0.98, 1.02)), lots, inst.id),
        c.PledgeDefaultFund(rng.randrange(-(10**9), 10**9)),
    ]
    send(world, account, *rng.sample(commands, rng.randrange(2, len(commands))))


# --- money -------------------------------------------------------------------------------------


def deposit(world: Watched, rng: random.Random) -> None:
    lane = rng.choice((0, 0, 0, 1, 2, 3, 4))
    amount = rng.choice((1, rng.randrange(1, 5_000 * v.USD) if not lane else rng.randrange(1, s.COIN)))
    world.deposit(rng.choice((*NAMES, "treasury")), amount, asset=lane)


def _amount(world: Watched, rng: random.Random, account: Account, lane: int) -> int:
    """About what could leave, to the atom sometimes."""
    if lane:
        held = account.holdings.get(lane)
        most = held.amount if held else 1
    else:
        most = max(1, headroom(account))
    return max(1, rng.choice((most, most + 1, most // 2, most // 10, rng.randrange(1, most + 1))))


def withdraw(world: Watched, rng: random.Random) -> None:
    account, lane = somebody(world, rng), rng.choice((0, 0, 1, 2, 3))
    out = send(world, account, c.Withdraw(0, lane, _amount(world, rng, account, lane)))
    if not v.codes(out) and any(isinstance(x, o.WithdrawalAcked) for x in out):
        assert headroom(account) >= 0, "money left that margin needs"


def transfer(world: Watched, rng: random.Random) -> None:
    account, lane = somebody(world, rng), rng.choice((0, 0, 1, 2, 3))
    out = send(world, account, c.Transfer(rng.randrange(4), _amount(world, rng, account, lane), lane))
    assert v.codes(out) or headroom(account) >= 0


def mode(world: Watched, rng: random.Random) -> None:
    account = somebody(world, rng)
    out = send(world, account, c.SetMarginMode(1 - account.mode))
    assert v.codes(out) or headroom(account) >= 0 or not (account.slots or account.holdings)


def pledge(world: Watched, rng: random.Random) -> None:
    account = somebody(world, rng)
    amount = -account.pledged if account.pledged and rng.random() < 0.5 else max(1, headroom(account) // 3)
    send(world, account, c.PledgeDefaultFund(amount))


def house(world: Watched, rng: random.Random) -> None:
    world.operator(c.HouseTransfer(rng.randrange(3), rng.randrange(3), rng.choice((1, 10**6, 10**9))))


# --- defaults ----------------------------------------------------------------------------------


def bid(world: Watched, rng: random.Random) -> None:
    if not world.state.auctions:
        return
    number = rng.choice(list(world.state.auctions))
    if rng.random() < 0.5:
        world.advance(rng.randrange(3 * v.MINUTE))
        world.everybody_votes(rng, 2)
    share = rng.choice((ids.PPM, ids.PPM, 500_000, 100_000, 1))
    rich = max(world.state.accounts[ids.HOUSE_ACCOUNTS :], key=lambda account: (headroom(account), account.number))
    bidder = rich if rng.random() < 0.6 else somebody(world, rng)
    send(world, bidder, c.BidAuction(number, share, rng.choice((10**12, 0, -1))))


def keeper(world: Watched, rng: random.Random) -> None:
    """A member asks for a step, with the right witness, or with any for anybody."""
    found = [a for a in world.state.accounts if not is_liquidatable(world.state, a)]
    if found and rng.random() < 0.8:
        target = rng.choice(found)
        scenario = witness(target)[0]
    else:
        target, scenario = rng.choice(world.state.accounts), rng.choice((-2, -1, 0, 3, 34, 99))
    send(world, somebody(world, rng), c.ProposeLiquidation(target.number, scenario))


def operator(world: Watched, rng: random.Random) -> None:
    """Commands that may be out of place."""
    account = rng.randrange(-1, len(world.state.accounts) + 1)
    instrument = rng.randrange(world.next_instrument + 1)
    commands = (
        c.ResolveDeficit(account),
        c.Deleverage(account, instrument),
        c.SettleExpiry(instrument),
        c.DelistInstrument(instrument),
        c.Liquidate(account, rng.choice((-2, -1, 0, 5))),
        c.FundingTick(),
        c.ChargeInterest(),
        c.ExpireOrders(),
        c.RunTriggers(),
        c.HaltMarket(instrument, rng.random() < 0.4, rng.choice(("maintenance", ""))),
    )
    world.operator(rng.choice(commands))


# --- governance --------------------------------------------------------------------------------


def listing(world: Watched, rng: random.Random) -> None:
    under = rng.choice((v.BTC, v.ETH))
    index = max(1, world.state.underlyings[under].index)
    strike = max(1, round(index * rng.choice((0.9, 1.0, 1.2))))
    expiry = rng.choice((NEAR, FAR, world.now_us + v.HOUR, world.now_us + 3 * v.DAY))
    number = world.next_instrument
    if rng.random() < 0.3:
        spec = v.future(number, expiry, SYMBOLS[under], TICKS[under])
    else:
        spec = v.option(number, strike, expiry, rng.random() < 0.5, SYMBOLS[under], TICKS[under] // 10)
    spec = msgspec.structs.replace(spec, symbol=f"{spec.symbol}-{number}")
    out = world.operator(c.ListInstrument(spec))
    if not v.codes(out):
        world.next_instrument += 1


def resume(world: Watched, rng: random.Random) -> None:
    for number, inst in list(world.state.instruments.items()):
        if inst.halted:
            world.operator(c.HaltMarket(number, False, "resumed"))


def propose(world: Watched, rng: random.Random) -> None:
    """New rules: any set, or the present one with a change."""
    state = world.state
    new: Params = rules(rng, state.params.version + 1)
    if rng.random() < 0.3:
        new = msgspec.structs.replace(state.params, version=state.params.version + 1, max_fills_per_entry=300)
    early = rng.random() < 0.1
    world.operator(c.ProposeParams(new, world.now_us + (0 if early else state.params.notice_us)))


STEPS: tuple[tuple[Callable[[Watched, random.Random], None], int], ...] = (
    (drift, 14), (jump, 4), (squeeze, 5), (lie, 2), (depeg, 1), (silence, 2), (leap, 1), (clock, 8), (epoch, 4),
    (trade, 26), (order, 14), (ladder_of_quotes, 5), (replace, 4), (cancel, 3), (trigger, 6), (switch, 1), (batch, 3),
    (deposit, 2), (withdraw, 5), (transfer, 5), (mode, 4), (pledge, 3), (house, 1),
    (bid, 5), (keeper, 3), (operator, 4), (listing, 2), (resume, 1), (propose, 1),
)  # fmt: skip
