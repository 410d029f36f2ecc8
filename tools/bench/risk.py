# SPDX-License-Identifier: GPL-3.0-or-later
"""The risk engine: Greeks and risk arrays against QuantLib, order checks against a signature, the sweep.

QuantLib is asked in its fastest public way, is handed standard deviations and discounts ready-made, and is
checked to give the same numbers before anything is timed.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from clearing.core.margin import order_fits
from clearing.core.risk import kernel
from clearing.core.risk.array import RiskArray, build
from clearing.core.risk.market import Market
from clearing.core.state import Account
from clearing.core.sweep import Sweeper, sweep
from clearing.model import ids
from clearing.model.presets import VOL_DOWN, VOL_UP
from tools.bench import options as o
from tools.bench import workload as w
from tools.bench.measure import Figure, Plan, at_least, at_most, median, quotients, seconds
from tools.bench.node import decoded, verify_all

# 22 ms for 10,000 accounts, which a design study of the sparse product took.
SWEEP_US = 2.2


class _Grid(NamedTuple):
    """Options as the kernel takes them: int64 arrays, atoms per lot, 1e-12 and microseconds."""

    forward: kernel.Ints
    strike: kernel.Ints
    vol: kernel.Ints
    tau_us: kernel.Ints
    is_call: Any
    rate: kernel.Ints


def repeated(work: Callable[[], object], turns: int) -> float:
    """Seconds of one call, of `turns` in a row after a first one that does not count."""
    work()

    def run() -> None:
        for _ in range(turns):
            work()

    return seconds(run) / turns


def priced(desk: o.Desk) -> tuple[RiskArray, Market]:
    """The array and the market that the desk's last vote gave."""
    under = desk.state.underlyings[o.UNDER]
    assert under.array is not None and under.market is not None, "options are listed and priced"
    return under.array, under.market


def grid(desk: o.Desk) -> _Grid:
    """The venue's options with the vols and rates of their expiries."""
    array, market = priced(desk)
    held = [column for column in array.columns if column.kind == ids.OPTION]
    data = [market.expiries[column.expiry_us] for column in held]
    vols = [known.vol_at(column.strike) for known, column in zip(data, held, strict=True)]
    return _Grid(
        np.array([known.forward for known in data]),
        np.array([column.strike for column in held]),
        np.array(vols),
        np.array([market.tau_us(column.expiry_us) for column in held]),
        np.array([column.is_call for column in held]),
        np.array([known.rate for known in data]),
    )


class _Peer:
    """QuantLib over the same options, everything that Python can prepare prepared: payoffs, standard deviations
    and discounts cost it nothing."""

    def __init__(self, grid: _Grid) -> None:
        import QuantLib  # type: ignore[import-untyped]  # a peer, installed by `make bench`

        self._calculator = QuantLib.BlackCalculator
        self._formula = QuantLib.blackFormula
        kinds = (QuantLib.Option.Put, QuantLib.Option.Call)
        self.options = []
        self.prices = []
        for row in zip(*(part.tolist() for part in grid), strict=True):
            forward, strike, vol, tau_us, is_call, rate = row
            years = tau_us / kernel.YEAR_US
            stdev, discount = vol / ids.UNIT * math.sqrt(years), math.exp(-rate / ids.UNIT * years)
            payoff = QuantLib.PlainVanillaPayoff(kinds[is_call], float(strike))
            self.options.append((payoff, float(forward), stdev, discount, years))
            self.prices.append((kinds[is_call], float(strike), float(forward), stdev, discount))

    def greeks(self) -> list[tuple[float, ...]]:
        """Value, delta, gamma, vega, theta and rho at a fixed forward (which is -years x value: no call)."""
        calculator = self._calculator
        found: list[tuple[float, ...]] = []
        for payoff, forward, stdev, discount, years in self.options:
            black = calculator(payoff, forward, stdev, discount)
            value = black.value()
            delta, gamma = black.deltaForward(), black.gammaForward()
            found.append((value, delta, gamma, black.vega(years), black.theta(forward, years), -years * value))
        return found

    def values(self) -> list[float]:
        """Prices alone, by the function that makes no object."""
        formula = self._formula
        return [formula(*row) for row in self.prices]


def _same(grid: _Grid, peer: _Peer) -> None:
    """Both sides give the same numbers: in the kernel's units, to an atom and to 1e-8 of the largest."""
    ours = kernel.greeks_array(*grid)
    forward = grid.forward.astype(np.float64)
    scale = (1.0, ids.UNIT, forward / 100 * ids.UNIT, 0.01, 1 / 365, 0.01)
    for name, mine, theirs, unit in zip(ours._fields, ours, np.array(peer.greeks()).T, scale, strict=True):
        gap = np.abs(mine - theirs * unit).max()
        assert gap <= 1 + 1e-8 * np.abs(mine).max(), f"{name} differs by {gap}: not the same work"


def _same_values(grid: _Grid, peer: _Peer) -> None:
    discount = np.exp(-grid.rate / ids.UNIT * (grid.tau_us / kernel.YEAR_US))
    gap = np.abs(kernel.values(*grid[:5]) * discount - np.array(peer.values())).max()
    assert gap <= 1, f"prices differ by {gap} atoms: not the same work"


def greeks(plan: Plan) -> list[Figure]:
    """Price, delta, gamma, vega, theta and rho of the options of a venue with 945 instruments, after one vote."""
    chosen = grid(o.Desk(o.listed(plan)))
    peer = _Peer(chosen)
    _same(chosen, peer)
    turns, count = 20 if plan.part <= 10 else 2, len(chosen.strike)
    ours, theirs, prices, others = [], [], [], []
    for _ in range(plan.rounds):
        ours.append(repeated(lambda: kernel.greeks_array(*chosen), turns) / count)
        theirs.append(seconds(peer.greeks) / count)
        prices.append(repeated(lambda: kernel.values(*chosen[:5]), turns) / count)
        others.append(seconds(peer.values) / count)
    remark = f"prices alone: {median(prices) * 1e9:.0f} ns, its blackFormula {median(others) * 1e9:.0f} ns an option"
    name = f"price and five Greeks of {count} options / QuantLib BlackCalculator"
    rates = (f"{1 / median(ours):,.0f}/s", f"{1 / median(theirs):,.0f}/s")
    return [at_least(name, "options per second", 20.0, quotients(theirs, ours), *rates, remark)]


def _shocked(desk: o.Desk) -> _Grid:
    """Every option in every scenario, the vol shock taken plainly: what the peer has to price."""
    array, _ = priced(desk)
    plain, preset = grid(desk), desk.state.params.presets[0]
    assert array.preset_name == preset.name
    spots = np.array([move.spot * ids.PPM // ids.UNIT for move in preset.scenarios])
    factor = {VOL_UP: 130, VOL_DOWN: 80}
    vols = np.array([factor.get(move.vol, 100) for move in preset.scenarios])
    forward = np.maximum(1, plain.forward[:, None] * (ids.PPM + spots) // ids.PPM)
    wide = [
        np.broadcast_to(part[:, None], forward.shape)
        for part in (plain.strike, plain.tau_us, plain.is_call, plain.rate)
    ]
    strike, tau_us, is_call, rate = (part.ravel() for part in wide)
    return _Grid(forward.ravel(), strike, (plain.vol[:, None] * vols // 100).ravel(), tau_us, is_call, rate)


def risk_array(plan: Plan) -> list[Figure]:
    """The whole array (shocks, values, discount, damping, less the mark, as integers) against bare prices."""
    desk = o.Desk(o.listed(plan))
    array, market = priced(desk)
    preset, columns = desk.state.params.presets[0], array.columns
    again = build(preset, market, columns)
    assert again.digest == array.digest, "the array that the reducer built"
    shocked = _shocked(desk)
    peer = _Peer(shocked)
    _same_values(shocked, peer)
    ours, theirs = [], []
    turns = 20 if plan.part <= 10 else 2
    for _ in range(plan.rounds):
        ours.append(repeated(lambda: build(preset, market, columns), turns))
        theirs.append(seconds(peer.values))
    hashed = [seconds(lambda: build(preset, market, columns).digest) for _ in range(plan.rounds)]
    shape = f"{len(columns)} x {array.width}"
    name = f"risk array {shape} / QuantLib blackFormula on its options"
    remark = f"with its SHA-256: {median(hashed) * 1e3:.2f} ms"
    millis = (f"{median(ours) * 1e3:.2f} ms", f"{median(theirs) * 1e3:.2f} ms")
    return [at_least(name, "arrays per second", 1.5, quotients(theirs, ours), *millis, remark)]


def checked(account: Account) -> bool:
    """One order check, as for every order that arrives."""
    slot = next(iter(account.slots.values()))
    return order_fits(account, slot, ids.BUY, slot.inst.mark, 1)


def book(desk: o.Desk, mode: int, positions: int = o.HELD) -> Account:
    """A rich account with options in its mode, and an open order in every market that it holds."""
    account = desk.trader(mode, positions)
    desk.rest(account, list(account.slots))
    return account


def _linear_book(desk: o.Desk) -> Account:
    """The same with perpetuals: a plain account."""
    account = desk.open(o.RICH)
    for instrument in range(1, o.HELD + 1):
        desk.hold(account, instrument, desk.rng.randrange(1, 20))
    desk.rest(account, list(account.slots))
    assert account.plain
    return account


def order_check(plan: Plan) -> list[Figure]:
    """Does an order fit, with 20 positions and 20 open orders, against the check of the order's signature."""
    desk = o.Desk(o.listed(plan), perpetuals=o.HELD)
    signed = decoded(w.signed(w.bodies(w.order_stream(plan.size(500, 10), 5))))
    kinds = (
        ("portfolio margin, options", book(desk, ids.PORTFOLIO), 5.0),
        ("standard margin, options", book(desk, ids.STANDARD), 5.0),
        ("standard margin, perpetuals", _linear_book(desk), 0.5),
    )
    turns, bare = plan.size(500, 10), []
    ours: dict[str, list[float]] = {name: [] for name, _, _ in kinds}
    for _ in range(plan.rounds):
        bare.append(seconds(lambda: verify_all(signed)) / len(signed))
        for name, account, _ in kinds:
            assert checked(account), "a rich account's order fits"
            ours[name].append(repeated(lambda a=account: checked(a), turns))  # type: ignore[misc]
    figures = []
    for name, _, goal in kinds:
        title = f"order check, 20 positions and 20 orders, {name} / a signature"
        micros = (f"{median(ours[name]) * 1e6:.1f} us", f"{median(bare) * 1e6:.1f} us")
        figures.append(at_most(title, "microseconds", goal, quotients(ours[name], bare), *micros))
    return figures


def plain_crowd(desk: o.Desk, members: int) -> None:
    """More plain accounts, ten lots each; one in a thousand is below maintenance (3 %)."""
    worth = 10 * desk.state.instruments[1].mark
    for at in range(members):
        account = desk.linear(10, worth)
        desk.set_equity(account, worth // 50 if at % 1_000 == 999 else worth // 5)


def sweeps(plan: Plan) -> list[Figure]:
    """Who is liquidatable: 10,000 portfolios of 20 options, then plain accounts by the million."""
    return [*_portfolios(plan), *_million(plan)]


def _portfolios(plan: Plan) -> list[Figure]:
    members = plan.size(10_000)
    desk = o.Desk(o.listed(plan))
    for _ in range(members):
        desk.trader(ids.PORTFOLIO)
    kept = Sweeper(desk.state)
    assert kept.run() == [], "rich accounts"
    fresh = [seconds(lambda: sweep(desk.state)) for _ in range(plan.rounds)]
    times = [seconds(kept.run) / members * 1e6 for _ in range(plan.rounds)]
    name = f"sweep of {members:,} portfolios x 20 options x 35, per account"
    total = median(times) * members / 1e3
    remark = f"{total:.1f} ms in all; columns collected afresh: {median(fresh) * 1e3:.1f} ms"
    ratios = [spent / SWEEP_US for spent in times]
    shown = (f"{median(times):.2f} us", f"limit {SWEEP_US} us")
    return [at_most(name, "microseconds / limit", 1.0, ratios, *shown, remark)]


def _million(plan: Plan) -> list[Figure]:
    few, many = plan.size(10_000), plan.size(1_000_000, 1_000)
    small, large = o.Desk(1), o.Desk(1)
    plain_crowd(small, few)
    plain_crowd(large, many)
    kept_small, kept_large = Sweeper(small.state), Sweeper(large.state)
    assert len(kept_small.run()) == few // 1_000, "one in a thousand fails"
    assert len(kept_large.run()) == many // 1_000, "one in a thousand fails"
    fresh_few, fresh_many, kept_few, kept_many = [], [], [], []
    for _ in range(plan.rounds):
        fresh_few.append(seconds(lambda: sweep(small.state)) / few)
        fresh_many.append(seconds(lambda: sweep(large.state)) / many)
        kept_few.append(repeated(kept_small.run, 10) / few)
        kept_many.append(seconds(kept_large.run) / many)
    name = f"sweep per account at {many:,} plain accounts / at {few:,}"
    return [
        _sweep_row(f"{name}, columns kept", kept_many, many, kept_few, few),
        _sweep_row(f"{name}, columns afresh", fresh_many, many, fresh_few, few),
    ]


def _sweep_row(name: str, large: list[float], many: int, small: list[float], few: int) -> Figure:
    remark = f"{median(large) * many * 1e3:.1f} ms and {median(small) * few * 1e3:.2f} ms in all"
    shown = (f"{median(large) * 1e6:.3f} us", f"{median(small) * 1e6:.3f} us")
    return at_most(name, "microseconds", 1.5, quotients(large, small), *shown, remark)
