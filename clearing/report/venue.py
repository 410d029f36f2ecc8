# SPDX-License-Identifier: GPL-3.0-or-later
"""The venue: what stands behind defaults, what could hit it, and how its data and margins have held so far.

Rules:
- Cover-1 and cover-2: for each scenario, at its worst leg, the loss above initial margin of the one and the two
  owners who lose most, all of an owner's accounts together, no netting between accounts. Set against what is
  prefunded: insurance fund, operator's capital, default fund.
- Concentration: shares of open interest of the largest holders, longs and shorts apart.
- Near maintenance: equity below 1.25 x maintenance margin, house accounts left out.
"""

from decimal import Decimal
from typing import Final

from clearing.core.margin import assess
from clearing.core.state import Account, State
from clearing.model import ids
from clearing.model.ids import PPM
from clearing.report.account import MODES, ratio
from clearing.report.bench import Bench, Move
from clearing.report.frozen import Frozen
from clearing.report.history import Event, Horizon, Read
from clearing.report.provenance import Figures, Provenance
from clearing.report.scenarios import SCENARIOS, Leg, Scenario, Tick, classes
from clearing.report.stress import TRANCHES, resources, shortfall, spot_ratios

_PREFUNDED: Final = (ids.TRANCHE_INSURANCE, ids.TRANCHE_OPERATOR, ids.TRANCHE_DEFAULT_FUND)
_NEAR_PPM: Final = 1_250_000
_LARGEST: Final = 5
_SHOWN: Final = 20


class ResourceRow(Figures, frozen=True, kw_only=True):
    """What a tranche of the waterfall holds now."""

    tranche: int
    name: str
    held_atoms: int


class CoverRow(Figures, frozen=True, kw_only=True):
    """A scenario's losses above initial margin. `owners`: how many have one; `uncovered_atoms`: what all of them
    would owe beyond their whole equity."""

    scenario: str
    minutes: int
    owners: int
    cover_1_atoms: int
    cover_2_atoms: int
    total_atoms: int
    uncovered_atoms: int


class ConcentrationRow(Figures, frozen=True, kw_only=True):
    """Largest holders of a market: their share of open interest. `top_*`: (account, ppm), largest first."""

    instrument: int
    symbol: str
    open_interest_lots: int
    notional_atoms: int
    long_holders: int
    short_holders: int
    top_long_ppm: tuple[tuple[int, int], ...]
    top_short_ppm: tuple[tuple[int, int], ...]


class OracleRow(Figures, frozen=True, kw_only=True):
    """An underlying's feed since its first accepted price."""

    underlying: str
    index_atoms: int
    age_us: int
    fresh: bool
    uptime_ppm: int
    longest_gap_us: int
    accepted: int


class BacktestRow(Figures, frozen=True, kw_only=True):
    """Books held over a horizon whose loss exceeded their initial margin."""

    horizon: str
    observations: int
    breaches: int
    breach_ppm: int
    unmeasured: int
    worst_excess_atoms: int
    worst_account: int


class NearRow(Figures, frozen=True, kw_only=True):
    """An account close to liquidation."""

    account: int
    mode: str
    equity_atoms: int
    margin_maintenance_atoms: int
    ratio: Decimal | None
    auction: bool


class VenueReport(Figures, frozen=True, kw_only=True):
    """All figures of the venue; see the rows. `prefunded_atoms` are the first three tranches; `gains_atoms` may be
    haircut after them. `covers` ascends by cover-2, the worst last."""

    provenance: Provenance
    accounts: int
    holdings_atoms: int
    resources: tuple[ResourceRow, ...]
    prefunded_atoms: int
    shortfall_atoms: int
    cover_1_atoms: int
    cover_2_atoms: int
    covers: tuple[CoverRow, ...]
    concentration: tuple[ConcentrationRow, ...]
    oracle: tuple[OracleRow, ...]
    refused_votes: dict[str, int]
    backtest: tuple[BacktestRow, ...]
    liquidations: dict[str, int]
    drawn_atoms: dict[str, int]
    haircut_atoms: int
    adl_count: int
    adl_atoms: int
    events: tuple[Event, ...]
    near_count: int
    near: tuple[NearRow, ...]
    auctions: tuple[int, ...]


def venue_report(found: Read) -> VenueReport:
    """The report of the whole venue."""
    state, history = found.state, found.history
    held = resources(state)
    covers = cover(state)
    near = _near(state)
    names = {ids.TRANCHE_DEFAULTER: "defaulter", **TRANCHES}
    return VenueReport(
        provenance=found.provenance,
        accounts=len(state.accounts),
        holdings_atoms=state.holdings,
        resources=tuple(ResourceRow(tranche=t, name=name, held_atoms=held[t]) for t, name in TRANCHES.items()),
        prefunded_atoms=sum(held[tranche] for tranche in _PREFUNDED),
        shortfall_atoms=shortfall(state),
        cover_1_atoms=max((row.cover_1_atoms for row in covers), default=0),
        cover_2_atoms=max((row.cover_2_atoms for row in covers), default=0),
        covers=covers,
        concentration=_concentration(state),
        oracle=_oracle(found),
        refused_votes=dict(sorted(history.refused_votes.items())),
        backtest=(_backtest("next epoch", history.next_epoch), _backtest("one day", history.next_day)),
        liquidations=history.steps,
        drawn_atoms={names[tranche]: amount for tranche, amount in sorted(history.drawn.items())},
        haircut_atoms=history.haircut_atoms,
        adl_count=history.adl_count,
        adl_atoms=history.adl_atoms,
        events=history.recent(),
        near_count=len(near),
        near=tuple(near[:_SHOWN]),
        auctions=tuple(state.auctions),
    )


# --- stress loss over initial margin -----------------------------------------------------------


def cover(state: State, scenarios: tuple[Scenario, ...] = SCENARIOS) -> tuple[CoverRow, ...]:
    """A row per scenario that moves prices or vols, worst last."""
    copy = Frozen(state).thaw()
    bench, kinds = Bench(copy), classes(copy)
    members = [account for account in copy.accounts[ids.HOUSE_ACCOUNTS :] if account.slots or account.holdings]
    start = {account.number: assess(account) for account in members}
    rows: dict[str, CoverRow] = {}
    for scenario in scenarios:
        for leg in scenario.legs:
            move = _move(copy, kinds, leg)
            if all(ratio == PPM for ratio in (*move.spot.values(), move.vol, move.forward)):
                continue
            bench.move(move)
            row = _cover_row(scenario, leg, members, start)
            worst = rows.get(scenario.name)
            if worst is None or row.cover_2_atoms > worst.cover_2_atoms:
                rows[scenario.name] = row
    return tuple(sorted(rows.values(), key=lambda row: (row.cover_2_atoms, row.scenario)))


def _move(state: State, kinds: dict[int, str], leg: Leg) -> Move:
    spot = {kind: getattr(leg, kind) for kind in dict.fromkeys(kinds.values())}
    for asset in state.assets:
        if asset.reference is not None:
            spot.setdefault(kinds[asset.reference.id], PPM)
    tick = Tick(minutes=leg.minutes, spot=spot, vol=leg.vol, forward=leg.forward, rate=leg.rate)
    return Move(spot_ratios(state, kinds, tick), leg.forward, leg.vol)


def _cover_row(
    scenario: Scenario, leg: Leg, members: list[Account], start: dict[int, tuple[int, int, int]]
) -> CoverRow:
    losses: dict[int, int] = {}
    owed = 0
    for account in members:
        before, initial, _ = start[account.number]
        now = assess(account)[0]
        excess = before - now - initial
        if excess > 0:
            owner = account.owner.number
            losses[owner] = losses.get(owner, 0) + excess
        owed += max(0, -now)
    largest = sorted(losses.values(), reverse=True)
    return CoverRow(
        scenario=scenario.name,
        minutes=leg.minutes,
        owners=len(losses),
        cover_1_atoms=sum(largest[:1]),
        cover_2_atoms=sum(largest[:2]),
        total_atoms=sum(largest),
        uncovered_atoms=owed,
    )


# --- the rest ----------------------------------------------------------------------------------


def _concentration(state: State) -> tuple[ConcentrationRow, ...]:
    rows = []
    for inst in state.instruments.values():
        if not inst.open_interest:
            continue
        sizes = [(account.number, account.slots[inst.id].size) for account in inst.holders.values()]
        longs = [(number, size) for number, size in sizes if size > 0]
        shorts = [(number, -size) for number, size in sizes if size < 0]
        rows.append(
            ConcentrationRow(
                instrument=inst.id,
                symbol=inst.spec.symbol,
                open_interest_lots=inst.open_interest,
                notional_atoms=inst.open_interest * inst.mark,
                long_holders=len(longs),
                short_holders=len(shorts),
                top_long_ppm=_shares(longs, inst.open_interest),
                top_short_ppm=_shares(shorts, inst.open_interest),
            )
        )
    return tuple(rows)


def _shares(holders: list[tuple[int, int]], whole: int) -> tuple[tuple[int, int], ...]:
    largest = sorted(holders, key=lambda item: (-item[1], item[0]))[:_LARGEST]
    return tuple((number, lots * PPM // whole) for number, lots in largest)


def _oracle(found: Read) -> tuple[OracleRow, ...]:
    state, rows = found.state, []
    for number, feed in found.history.feeds.items():
        under = state.underlyings.get(number)
        if under is None:
            continue
        rows.append(
            OracleRow(
                underlying=under.spec.symbol,
                index_atoms=under.index,
                age_us=state.time_us - under.index_time,
                fresh=under.index_time + state.params.oracle_max_age_us >= state.time_us,
                uptime_ppm=feed.uptime_ppm(state.time_us),
                longest_gap_us=max(feed.longest_us, state.time_us - feed.fresh_until_us),
                accepted=feed.accepted,
            )
        )
    return tuple(rows)


def _backtest(name: str, horizon: Horizon) -> BacktestRow:
    seen = horizon.observations
    return BacktestRow(
        horizon=name,
        observations=seen,
        breaches=horizon.breaches,
        breach_ppm=horizon.breaches * PPM // seen if seen else 0,
        unmeasured=horizon.unmeasured,
        worst_excess_atoms=horizon.worst_excess,
        worst_account=horizon.worst_account,
    )


def _near(state: State) -> list[NearRow]:
    """Closest first."""
    rows = []
    for account in state.accounts[ids.HOUSE_ACCOUNTS :]:
        now, _, maintenance = assess(account)
        if now * PPM < maintenance * _NEAR_PPM:
            rows.append(
                NearRow(
                    account=account.number,
                    mode=MODES[account.mode],
                    equity_atoms=now,
                    margin_maintenance_atoms=maintenance,
                    ratio=ratio(now, maintenance),
                    auction=account.auction is not None,
                )
            )
    return sorted(rows, key=lambda row: (row.ratio if row.ratio is not None else Decimal("-Infinity"), row.account))
