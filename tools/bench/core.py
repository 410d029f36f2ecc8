# SPDX-License-Identifier: GPL-3.0-or-later
"""The reducer: matching against a peer, growth with accounts and orders, epoch close, restore."""

from decimal import Decimal

from clearing.core import orders, snapshot
from clearing.core.reducer import Reducer
from clearing.model import codec, ids
from clearing.model import commands as c
from tools.bench import workload as w
from tools.bench.measure import Figure, Plan, at_least, at_most, median, quotients, seconds

FULL_MILLION = 1_000_000


def _run_core(reducer: Reducer, steps: list[w.Step]) -> None:
    """Matching with account fold, margin check and outcomes; no envelopes."""
    state = reducer.state
    place, cancel, accounts = orders.place, orders.cancel, state.accounts
    for member, command in steps:
        state.out = []
        state.fills_left = 300
        account = accounts[ids.HOUSE_ACCOUNTS + member]
        if type(command) is c.CancelOrder:
            cancel(state, account, command)
        else:
            place(state, account, command)  # type: ignore[arg-type]


def _run_peer(steps: list[w.Step]) -> int:
    """The peer makes its order objects on its clock, as we do on ours. Returns the number of fills."""
    import orderbook

    book = orderbook.OrderBook()
    known: dict[int, str] = {}
    sides = (orderbook.OrderSide.BID, orderbook.OrderSide.ASK)
    for _, command in steps:
        if type(command) is c.CancelOrder:
            book.cancel_order(known[command.client_order_id])
        elif type(command) is c.PlaceOrder:
            order = orderbook.Order(sides[command.side], Decimal(command.price_atoms), command.size_lots)
            known[command.client_order_id] = order.order_id
            book.add_limit_order(order)
    return len(book.trade_log)


def _warm(steps: list[w.Step]) -> None:
    """Both sides once, and the check that they do the same work: as many fills."""
    reducer = w.venue(200, real_keys=False)
    fills = 0
    state = reducer.state
    for member, command in steps:
        state.out, state.fills_left = [], 300
        account = state.accounts[w.account_number(member)]
        if isinstance(command, c.CancelOrder):
            orders.cancel(state, account, command)
        else:
            orders.place(state, account, command)
        fills += sum(type(outcome).__name__ == "TradeNovated" for outcome in state.out)
    peer = _run_peer(steps)
    assert peer == fills > 0, f"the peer made {peer} fills, we made {fills}: not the same stream"


def matching(plan: Plan) -> list[Figure]:
    """The same stream through both; the peer neither knows accounts nor checks margin."""
    steps = w.order_stream(plan.size(60_000), 200)
    _warm(steps)
    ours, theirs = [], []
    for _ in range(plan.rounds):
        reducer = w.venue(200, real_keys=False)
        ours.append(seconds(lambda r=reducer: _run_core(r, steps)))  # type: ignore[misc]
        theirs.append(seconds(lambda: _run_peer(steps)))
    name = "matching with account fold / akhil4n-orderbook 0.1.1"
    rates = (f"{len(steps) / median(ours):,.0f}/s", f"{len(steps) / median(theirs):,.0f}/s")
    return [at_least(name, "commands per second", 1.3, quotients(theirs, ours), *rates)]


def _per_command(reducer: Reducer, raw: list[bytes]) -> float:
    decoded = [codec.decode_envelope(data) for data in raw]
    apply = reducer.apply

    def work() -> None:
        for envelope, body in decoded:
            apply(w.NOW, envelope, body)

    return seconds(work) / len(raw)


def _growth(plan: Plan, name: str, goal: float, grown: Reducer, spread: int, plain: Reducer) -> Figure:
    """The same stream through both, in slices by turns; `spread` moves members apart on the grown one."""
    each = plan.size(10_000)
    steps = w.order_stream(each * (plan.rounds + 1), 1_000)
    near = w.unsigned(w.bodies(steps))
    far = w.unsigned(w.bodies([w.Step(step.member * spread, step.command) for step in steps]))
    large, small = [], []
    for turn in range(plan.rounds + 1):
        part = slice(turn * each, (turn + 1) * each)
        large.append(_per_command(grown, far[part]))
        small.append(_per_command(plain, near[part]))
    large, small = large[1:], small[1:]  # the first turn warmed both
    micros = (f"{median(large) * 1e6:.1f} us", f"{median(small) * 1e6:.1f} us")
    return at_most(name, "microseconds per command", goal, quotients(large, small), *micros)


def accounts_growth(plan: Plan) -> list[Figure]:
    """Cost per command with 1,000,000 accounts against 1,000: as many members trade, spread over all."""
    members = plan.size(FULL_MILLION, 2_000)
    name = "cost per command at 1M accounts / at 1,000"
    grown = w.venue(members, real_keys=False)
    return [_growth(plan, name, 1.5, grown, members // 1_000, w.venue(1_000, real_keys=False))]


def orders_growth(plan: Plan) -> list[Figure]:
    """Cost per command with 1,000,000 open orders resting in the book against none."""
    deep = w.venue(2_000, real_keys=False)
    state = deep.state
    number = 10**9
    for member in range(1_000, 2_000):
        account = state.accounts[w.account_number(member)]
        for level in range(plan.size(FULL_MILLION, 1_000) // 1_000):
            number += 1
            side = number % 2
            price = w.MID - 100 - level if side == ids.BUY else w.MID + 100 + level
            state.out = []
            assert orders.place(state, account, c.PlaceOrder(1, side, price, 1, number, stp=0)) == ""
    name = "cost per command with 1M open orders / none"
    return [_growth(plan, name, 2.0, deep, 1, w.venue(2_000, real_keys=False))]


def epoch_close(plan: Plan) -> list[Figure]:
    """Close with 10,000 dirty of 100,000 accounts."""
    members = plan.size(100_000)
    reducer = w.venue(members, real_keys=False)
    state = reducer.state
    state.operator_key = w.key_of(0, True)

    def close() -> None:
        body = c.OperatorBatch(w.DEPLOYMENT, state.epoch + 1, (c.CloseEpoch(state.epoch + 1, ((1, bytes(32)),)),))
        reducer.apply(w.NOW, c.Envelope(codec.encode(body), state.operator_key, bytes(64)), body)

    close()
    times = []
    for turn in range(plan.rounds):
        for member in range(turn, members, 10):
            account = state.accounts[w.account_number(member)]
            account.cash -= 1
            state.accounts[ids.FEES].cash += 1
            state.dirty[account.number] = account
        times.append(seconds(close))
    name = "epoch close, 10,000 dirty of 100,000 accounts"
    return [at_most(name, "seconds", 1.0, times, f"{median(times):.3f} s", "limit 1 s")]


def restore(plan: Plan) -> list[Figure]:
    """A snapshot's way back, per account; and what checking it against the roots adds."""
    members = plan.size(100_000)
    payload = snapshot.dump(w.venue(members, real_keys=False).state)
    times = [seconds(lambda: snapshot.restore(payload)) / members * 1e6 for _ in range(plan.rounds)]
    restored = snapshot.restore(payload)
    verify = seconds(lambda: snapshot.rebuild_trees(restored)) / members * 1e6
    remark = f"checking every leaf and both roots adds {verify:.1f} us per account"
    return [at_most("restore per account", "microseconds", 3.0, times, f"{median(times):.2f} us", "limit 3 us", remark)]
