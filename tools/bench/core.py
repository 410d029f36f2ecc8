# SPDX-License-Identifier: GPL-3.0-or-later
"""The reducer: matching against a peer, growth with accounts and orders, epoch close, restore."""

from decimal import Decimal

from clearing.core import orders, snapshot
from clearing.core.reducer import Reducer
from clearing.model import codec, ids
from clearing.model import commands as c
from tools.bench import workload as w
from tools.bench.measure import Figure, at_least, at_most, median, seconds

ROUNDS = 5


def _run_core(reducer: Reducer, steps: list[w.Step]) -> None:
    """Matching with account fold, margin check and outcomes; no envelopes."""
    state = reducer.state
    for member, command in steps:
        state.out = []
        state.fills_left = 300
        account = state.accounts[w.account_number(member)]
        if type(command) is c.CancelOrder:
            orders.cancel(state, account, command)
        else:
            orders.place(state, account, command)  # type: ignore[arg-type]


def _run_peer(steps: list[w.Step]) -> None:
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


def matching() -> Figure:
    """The same stream through both; the peer neither knows accounts nor checks margin."""
    steps = w.order_stream(60_000, 200)
    ratios, rate, peer = [], [], []
    for _ in range(ROUNDS):
        reducer = w.venue(200, real_keys=False)
        ours = seconds(lambda r=reducer: _run_core(r, steps))  # type: ignore[misc]
        theirs = seconds(lambda: _run_peer(steps))
        ratios.append(theirs / ours)
        rate.append(len(steps) / ours)
        peer.append(len(steps) / theirs)
    return at_least(
        "matching with account fold / akhil4n-orderbook 0.1.1",
        "commands per second, ours / peer's",
        1.3,
        ratios,
        f"{median(rate):,.0f}/s",
        f"{median(peer):,.0f}/s",
    )


def _per_command(reducer: Reducer, raw: list[bytes]) -> float:
    decoded = [codec.decode_envelope(data) for data in raw]

    def work() -> None:
        for envelope, body in decoded:
            reducer.apply(w.NOW, envelope, body)

    return seconds(work) / len(raw)


def accounts_growth() -> Figure:
    """Cost per command with 1,000,000 accounts against 1,000: the same members trade."""
    raw = w.unsigned(w.bodies(w.order_stream(20_000, 1_000)))
    large = w.venue(1_000, real_keys=False)
    for member in range(1_000, 1_000_000):
        w.fund(large.state, member, False)
    spread = w.order_stream(20_000, 1_000)
    far = [w.Step(step.member * 1_000 % 999_983, step.command) for step in spread]
    far_raw = w.unsigned(w.bodies(far))
    ratios, small_us, large_us = [], [], []
    many = _per_command(large, far_raw)
    for _ in range(3):
        few = _per_command(w.venue(1_000, real_keys=False), raw)
        ratios.append(many / few)
        small_us.append(few * 1e6)
        large_us.append(many * 1e6)
    return at_most(
        "cost per command at 1M accounts / at 1,000",
        "microseconds per command, ratio",
        1.5,
        ratios,
        f"{median(large_us):.1f} us",
        f"{median(small_us):.1f} us",
    )


def orders_growth() -> Figure:
    """Cost per command with 1,000,000 open orders resting in the book against none."""
    stream = w.unsigned(w.bodies(w.order_stream(20_000, 1_000)))
    deep = w.venue(2_000, real_keys=False)
    state = deep.state
    number = 10**9
    for member in range(1_000, 2_000):
        account = state.accounts[w.account_number(member)]
        for level in range(1_000):
            number += 1
            side = number % 2
            price = w.MID - 100 - level if side == ids.BUY else w.MID + 100 + level
            state.out = []
            assert orders.place(state, account, c.PlaceOrder(1, side, price, 1, number, stp=0)) == ""
    ratios, none_us, deep_us = [], [], []
    full = _per_command(deep, stream)
    for _ in range(3):
        empty = _per_command(w.venue(2_000, real_keys=False), stream)
        ratios.append(full / empty)
        none_us.append(empty * 1e6)
        deep_us.append(full * 1e6)
    return at_most(
        "cost per command with 1M open orders / none",
        "microseconds per command, ratio",
        2.0,
        ratios,
        f"{median(deep_us):.1f} us",
        f"{median(none_us):.1f} us",
    )


def epoch_and_restore() -> list[Figure]:
    """Close with 10,000 dirty of 100,000 accounts; restore per account, and what verifying adds."""
    reducer = w.venue(100_000, real_keys=False)
    state = reducer.state
    state.operator_key = w.key_of(0, True)

    def close() -> c.OperatorBatch:
        batch = c.CloseEpoch(state.epoch + 1, ((1, bytes(32)),))
        return c.OperatorBatch(w.DEPLOYMENT, state.epoch + 1, (batch,))

    def run(batch: c.OperatorBatch) -> None:
        reducer.apply(w.NOW, c.Envelope(codec.encode(batch), state.operator_key, bytes(64)), batch)

    run(close())
    times = []
    for turn in range(ROUNDS):
        for member in range(turn, 100_000, 10):
            account = state.accounts[w.account_number(member)]
            account.cash -= 1
            state.accounts[ids.FEES].cash += 1
            state.dirty[account.number] = account
        times.append(seconds(lambda: run(close())))
    payload = snapshot.dump(state)
    restores = [seconds(lambda: snapshot.restore(payload)) for _ in range(ROUNDS)]
    restored = snapshot.restore(payload)
    verify = seconds(lambda: snapshot.rebuild_trees(restored))
    per_account = [value / 100_000 * 1e6 for value in restores]
    return [
        at_most(
            "epoch close, 10,000 dirty of 100,000 accounts",
            "seconds",
            1.0,
            times,
            f"{median(times):.3f} s",
            "limit 1 s",
        ),
        at_most(
            "restore per account",
            "microseconds",
            3.0,
            per_account,
            f"{median(per_account):.2f} us",
            "limit 3 us",
            f"checking it against the roots adds {verify / 100_000 * 1e6:.1f} us per account",
        ),
    ]


def figures() -> list[Figure]:
    return [matching(), accounts_growth(), orders_growth(), *epoch_and_restore()]
