# SPDX-License-Identifier: GPL-3.0-or-later
"""How the risk engine's costs grow with options, instruments, positions and accounts.

Every figure is the cost per thing at the largest size over that at the middle one, where what a call costs by itself
no longer hides it: what is linear stays near one, what is quadratic does not. `Figure.points` has all sizes, for
the plot.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

from clearing.core.risk import kernel
from clearing.core.risk.array import build
from clearing.core.sweep import sweep
from clearing.model import ids
from tools.bench import liquidations, risk
from tools.bench import options as o
from tools.bench.measure import Figure, Plan, at_most, median, percentile, seconds

INSTRUMENTS = (50, 100, 200, 500, 1_000)
POSITIONS = (1, 2, 4, 8, 16, 32, 64)
ACCOUNTS = (100, 1_000, 10_000, 100_000, 1_000_000)


def sizes(plan: Plan, full: Sequence[int]) -> list[int]:
    """Those that the plan allows, two at least."""
    return [size for at, size in enumerate(full) if at < 2 or size <= full[-1] // plan.part]


def _row(name: str, axis: str, goal: float, cost: dict[int, list[float]], per_thing: bool = True) -> Figure:
    """From seconds by size and round. Not `per_thing`: the cost itself must not grow."""
    ordered = sorted(cost)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[-1]
    scale = low / high if per_thing else 1.0
    ratios = [large / small * scale for large, small in zip(cost[high], cost[low], strict=True)]
    each = [median(cost[size]) / (size if per_thing else 1) for size in (high, low)]
    shown = (f"{each[0] * 1e6:,.2f} us", f"{each[1] * 1e6:,.2f} us")
    points = [(float(size), median(found)) for size, found in cost.items()]
    remark = ", ".join(f"{size:,.0f}: {spent * 1e6:,.0f} us" for size, spent in points)
    title = f"{name}, at {high:,} / at {low:,} {axis}"
    return replace(at_most(title, "microseconds", goal, ratios, *shown, remark), label=name, axis=axis, points=points)


def _timed(plan: Plan, works: dict[int, Callable[[], object]], turns: int) -> dict[int, list[float]]:
    """Seconds of one call by size, all sizes by turns in every round."""
    cost: dict[int, list[float]] = {size: [] for size in works}
    for work in works.values():
        work()
    for _ in range(plan.rounds):
        for size, work in works.items():
            cost[size].append(risk.repeated(work, turns))
    return cost


def growth(plan: Plan) -> list[Figure]:
    """Every row of the plot."""
    return [*_by_instruments(plan), *_by_positions(plan), *_by_accounts(plan)]


def _by_instruments(plan: Plan) -> list[Figure]:
    chosen = INSTRUMENTS if plan.part <= 10 else INSTRUMENTS[:2]
    desks = {size: o.Desk(size) for size in chosen}
    turns = 20 if plan.part <= 10 else 2
    greeks: dict[int, Callable[[], object]] = {}
    arrays: dict[int, Callable[[], object]] = {}
    checks: dict[int, Callable[[], object]] = {}
    votes: dict[int, Callable[[], object]] = {}
    for size, desk in desks.items():
        array, market = risk.priced(desk)
        grid, preset = risk.grid(desk), desk.state.params.presets[0]
        account = risk.book(desk, ids.PORTFOLIO)
        clock = itertools.count(desk.state.time_us + 1)
        greeks[size] = lambda g=grid: kernel.greeks_array(*g)  # type: ignore[misc]
        arrays[size] = lambda p=preset, m=market, a=array: build(p, m, a.columns)  # type: ignore[misc]
        checks[size] = lambda a=account: risk.checked(a)  # type: ignore[misc]
        votes[size] = lambda d=desk, c=clock: _vote(d, next(c))  # type: ignore[misc]
    found = [
        _row("price and Greeks", "instruments", 1.5, _timed(plan, greeks, turns)),
        _row("risk array", "instruments", 1.5, _timed(plan, arrays, turns)),
        _row("order check, 20 positions", "instruments", 1.5, _timed(plan, checks, 5 * turns), per_thing=False),
    ]
    return [*found, _row("vote to marks and array", "instruments", 1.5, _timed(plan, votes, turns))]


def _vote(desk: o.Desk, time_us: int) -> None:
    desk.apply(desk.publisher.update(time_us), time_us)


def _by_positions(plan: Plan) -> list[Figure]:
    desk = o.Desk(o.listed(plan))
    chosen = POSITIONS if plan.part <= 10 else POSITIONS[:2]
    rows = []
    for name, mode in (("portfolio", ids.PORTFOLIO), ("standard", ids.STANDARD)):
        books = {size: risk.book(desk, mode, size) for size in chosen}
        works = {size: (lambda a=account: risk.checked(a)) for size, account in books.items()}
        cost = _timed(plan, works, plan.size(100, 2))  # type: ignore[arg-type]
        rows.append(_row(f"order check, {name}", "positions and orders", 1.5, cost))
    return rows


def _by_accounts(plan: Plan) -> list[Figure]:
    rows = []
    desk, cost = o.Desk(1), {}
    for size in sizes(plan, ACCOUNTS):
        risk.plain_crowd(desk, size - (len(desk.state.accounts) - ids.HOUSE_ACCOUNTS - 1))
        cost[size] = [seconds(lambda: sweep(desk.state)) for _ in range(plan.rounds)]
    rows.append(_row("sweep, plain accounts", "accounts", 1.5, cost))
    desk, cost = o.Desk(o.listed(plan)), {}
    for size in sizes(plan, ACCOUNTS[:4]):
        while len(desk.state.accounts) - ids.HOUSE_ACCOUNTS - 1 < size:
            desk.trader(ids.PORTFOLIO)
        cost[size] = [seconds(lambda d=desk: sweep(d.state)) for _ in range(plan.rounds)]  # type: ignore[misc]
    rows.append(_row("sweep, portfolios of 20", "accounts", 1.5, cost))
    return [*rows, _latency(plan)]


def _latency(plan: Plan) -> Figure:
    cost: dict[int, list[float]] = {}
    for size in sizes(plan, ACCOUNTS[:4]):
        with liquidations.venue(plan.folder, size, o.listed(plan)) as live:
            live.fall(10)
            cost[size] = [percentile(live.fall(10), 50) for _ in range(plan.rounds)]
    return _row("signed price to liquidation, p50", "accounts", 1.5, cost)
