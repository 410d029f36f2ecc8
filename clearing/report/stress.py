# SPDX-License-Identifier: GPL-3.0-or-later
"""Stress runs: what a scenario does to the venue, tranche by tranche, and how far prices may go.

Rules:
- A run takes the scenario's path on a copy (`clearing.report.rig`), lets liquidations, auctions and the waterfall
  go as far as they go at every step, and then half an hour on at the last prices.
- A tranche is exhausted when more was asked of it than it held: the one after it came to bear, or something was
  left over.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from clearing.core import assets, waterfall
from clearing.core.collateral import uncovered
from clearing.core.liquidation import is_liquidatable
from clearing.core.margin import assess, equity, headroom
from clearing.core.state import State
from clearing.model import ids
from clearing.model import outcomes as o
from clearing.model.ids import PPM
from clearing.report.bench import Bench, Move
from clearing.report.frozen import Frozen
from clearing.report.history import Read
from clearing.report.provenance import Figures, Provenance
from clearing.report.rig import Rig
from clearing.report.scenarios import (
    DEFAULT,
    FUNDING,
    HALT,
    LANE,
    SILENT,
    Scenario,
    Tick,
    classes,
    path,
)

TRANCHES: Final = {
    ids.TRANCHE_INSURANCE: "insurance fund",
    ids.TRANCHE_OPERATOR: "operator's capital",
    ids.TRANCHE_DEFAULT_FUND: "default fund",
    ids.TRANCHE_GAINS: "gains haircut",
}
_MINUTE_US: Final = 60_000_000
_TAIL_STEPS: Final = 60
_TAIL_US: Final = 30_000_000


class TrancheRow(Figures, frozen=True, kw_only=True):
    """`before_atoms`/`after_atoms`: what it held at the start and holds at the end; `drawn_atoms` paid for others'
    deficits. The insurance fund also gains and loses by the books that it took over: that is the rest."""

    tranche: int
    name: str
    before_atoms: int
    drawn_atoms: int
    after_atoms: int
    exhausted: bool


class CascadeRow(Figures, frozen=True, kw_only=True):
    """After an update (the first row: before all); sums since the start. `index_ppm`: of the reference underlying,
    against its start."""

    minutes: float
    index_ppm: int
    failing: int
    frozen: int
    liquidated: int
    closed_atoms: int
    insurance_atoms: int
    drawn_atoms: int
    adl_atoms: int
    shortfall_atoms: int


class StressReport(Figures, frozen=True, kw_only=True):
    """A run. `steps`: what the ladder did, by step; `deficit_atoms` = what the tranches of others paid + what ADL
    bore (`adl_loss_atoms`: lots x distance of the price from the mark) + `shortfall_atoms`, which nobody bears yet.
    `members_atoms`: what all members together gained (negative: lost) against the house.
    `reference`: the underlying whose index `cascade` shows. `checks`: entries after which money was whole.
    """

    provenance: Provenance
    scenario: str
    title: str
    source: str
    reference: str
    minutes: float
    updates: int
    refused_votes: dict[str, int]
    liquidated: tuple[int, ...]
    steps: dict[str, int]
    closed_atoms: int
    fees_atoms: int
    deficit_atoms: int
    tranches: tuple[TrancheRow, ...]
    depth: int
    adl_count: int
    adl_atoms: int
    adl_loss_atoms: int
    shortfall_atoms: int
    members_atoms: int
    failing: tuple[int, ...]
    frozen: tuple[int, ...]
    auctions: tuple[int, ...]
    checks: int
    conserved: bool
    cascade: tuple[CascadeRow, ...]


class _Tally:
    """What the outcomes of a run add up to."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.liquidated: dict[int, None] = {}
        self.steps: dict[str, int] = {}
        self.drawn = dict.fromkeys(TRANCHES, 0)
        self.closed = self.fees = self.adl_count = self.adl_atoms = self.adl_loss = 0
        self.depth = ids.TRANCHE_DEFAULTER

    def note(self, out: list[o.Outcome]) -> None:
        for outcome in out:
            if isinstance(outcome, o.Liquidated):
                self.liquidated[outcome.account] = None
                self.steps[outcome.step] = self.steps.get(outcome.step, 0) + 1
                self.closed += outcome.closed_atoms
                self.fees += outcome.fee_atoms
            elif isinstance(outcome, o.TrancheDrawn):
                if outcome.tranche in self.drawn:
                    self.drawn[outcome.tranche] += outcome.drawn_atoms
                    self._reached(outcome.tranche + (outcome.drawn_atoms < outcome.asked_atoms))
            elif isinstance(outcome, o.Deleveraged):
                mark = self._state.instruments[outcome.instrument].mark
                self.adl_count += 1
                self.adl_atoms += abs(outcome.size_lots) * outcome.price_atoms
                self.adl_loss += abs(outcome.size_lots * (outcome.price_atoms - mark))
                self._reached(ids.TRANCHE_ADL)

    def _reached(self, tranche: int) -> None:
        self.depth = max(self.depth, tranche)


def resources(state: State) -> dict[int, int]:
    """What each tranche holds for a deficit that comes now; atoms."""
    fund = state.accounts[ids.INSURANCE_FUND]
    return {
        ids.TRANCHE_INSURANCE: max(0, equity(fund)),
        ids.TRANCHE_OPERATOR: max(0, equity(state.accounts[ids.OPERATOR_CAPITAL])),
        ids.TRANCHE_DEFAULT_FUND: sum(amount for _, amount in waterfall.pledgers(state, fund)),
        ids.TRANCHE_GAINS: sum(amount for _, amount in waterfall.gainers(state, fund)),
    }


def shortfall(state: State) -> int:
    """What accounts owe and neither their collateral nor any tranche has paid; atoms."""
    return sum(uncovered(account) for account in state.accounts)


def members_claim(state: State) -> int:
    """Sum of the members' settlement claims."""
    return sum(equity(account) for account in state.accounts[ids.HOUSE_ACCOUNTS :])


def reference_of(state: State) -> int:
    """The underlying with the largest open interest at mark, the lowest id among equals; 0 if none is priced."""
    best, most = 0, -1
    for number in sorted(state.underlyings):
        under = state.underlyings[number]
        notional = sum(inst.open_interest * under.index for inst in under.instruments)
        if under.index and notional > most:
            best, most = number, notional
    return best


def run(found: Read, scenario: Scenario) -> StressReport:
    """Run one scenario on a copy of the state."""
    return run_on(Frozen(found.state).thaw(), scenario, found.provenance)


def run_on(state: State, scenario: Scenario, stamp: Provenance) -> StressReport:
    """The same on a state that may be changed; `stamp` says where it comes from."""
    tally = _Tally(state)
    rig = Rig(state, tally.note)
    rig.withdraw_makers()
    _prepare(rig, scenario)
    before, members, holdings = resources(state), members_claim(state), state.holdings
    reference = reference_of(state)
    cascade, failing = _drive(rig, tally, scenario, reference)
    after, left = resources(state), shortfall(state)
    rows = [
        TrancheRow(
            tranche=tranche,
            name=name,
            before_atoms=before[tranche],
            drawn_atoms=tally.drawn[tranche],
            after_atoms=after[tranche],
            exhausted=tally.depth > tranche,
        )
        for tranche, name in TRANCHES.items()
    ]
    return StressReport(
        provenance=stamp,
        scenario=scenario.name,
        title=scenario.title,
        source=scenario.source,
        reference=state.underlyings[reference].spec.symbol if reference else "",
        minutes=cascade[-1].minutes,
        updates=len(cascade) - 1,
        refused_votes=dict(sorted(rig.refused.items())),
        liquidated=tuple(sorted(tally.liquidated)),
        steps=tally.steps,
        closed_atoms=tally.closed,
        fees_atoms=tally.fees,
        deficit_atoms=sum(tally.drawn.values()) + tally.adl_loss + left,
        tranches=tuple(rows),
        depth=tally.depth,
        adl_count=tally.adl_count,
        adl_atoms=tally.adl_atoms,
        adl_loss_atoms=tally.adl_loss,
        shortfall_atoms=left,
        members_atoms=members_claim(state) - members,
        failing=failing,
        frozen=_frozen(state),
        auctions=tuple(state.auctions),
        checks=rig.checks,
        conserved=state.holdings == holdings,
        cascade=cascade,
    )


def _drive(
    rig: Rig, tally: _Tally, scenario: Scenario, reference: int
) -> tuple[tuple[CascadeRow, ...], tuple[int, ...]]:
    """Take the path to its end: (the cascade, who still fails then)."""
    state = rig.state
    started = state.underlyings[reference].index if reference else 0
    kinds, start_us, ticks = classes(state), rig.now_us, path(scenario)
    cascade = [_cascade_row(state, tally, 0, 0, 0)]
    failing: list[int] = []
    for minutes, tick in _course(ticks, cascade):
        rig.now_us = max(rig.now_us, start_us + round(minutes * _MINUTE_US))
        if minutes > ticks[-1].minutes:
            rig.silent.clear()
        if scenario.hold == FUNDING:
            _press_funding(state)
        rig.vote(spot_ratios(state, kinds, tick), tick.vol, tick.forward, tick.rate)
        failing = rig.settle()
        index = state.underlyings[reference].index * PPM // started - PPM if started else 0
        cascade.append(_cascade_row(state, tally, minutes, index, len(failing)))
    return tuple(cascade), tuple(failing)


def _course(ticks: list[Tick], cascade: list[CascadeRow]) -> Iterator[tuple[float, Tick]]:
    """The path, and then the last prices every half minute until nobody fails any more."""
    for tick in ticks:
        yield tick.minutes, tick
    last = ticks[-1]
    for step in range(1, _TAIL_STEPS + 1):
        if step > 1 and not cascade[-1].failing + cascade[-1].frozen:
            return
        yield last.minutes + step * _TAIL_US / _MINUTE_US, last


def spot_ratios(state: State, kinds: dict[int, str], tick: Tick) -> dict[int, int]:
    """Ratio of every underlying's price: its class's, for a synthetic asset on top of its reference's."""
    ratios = {number: tick.spot[kind] for number, kind in kinds.items()}
    # Once each, however many vaults hold it.
    followed = {a.under.id: a.reference.id for a in state.assets if a.under is not None and a.reference is not None}
    for number, reference in followed.items():
        ratios[number] = ratios[number] * tick.spot[kinds[reference]] // PPM
    return ratios


def _cascade_row(state: State, tally: _Tally, minutes: float, index: int, failing: int) -> CascadeRow:
    return CascadeRow(
        minutes=minutes,
        index_ppm=index,
        failing=failing,
        frozen=len(_frozen(state)),
        liquidated=len(tally.liquidated),
        closed_atoms=tally.closed,
        insurance_atoms=equity(state.accounts[ids.INSURANCE_FUND]),
        drawn_atoms=sum(tally.drawn.values()),
        adl_atoms=tally.adl_atoms,
        shortfall_atoms=shortfall(state),
    )


def _frozen(state: State) -> tuple[int, ...]:
    """Accounts that fail maintenance and are not liquidated, since their prices are too old."""
    members = state.accounts[ids.HOUSE_ACCOUNTS :]
    return tuple(account.number for account in members if is_liquidatable(state, account) == "ORACLE_STALE")


# --- what scenarios do beside prices -----------------------------------------------------------


def _prepare(rig: Rig, scenario: Scenario) -> None:
    state = rig.state
    if scenario.hold == SILENT:
        rig.silent = set(range(0, len(state.publishers), 2))
    elif scenario.hold == LANE:
        _void_collateral(state)
    elif scenario.hold == DEFAULT:
        for number in most_exposed(state):
            _withdraw_all(state, number)
    else:
        assert scenario.hold in ("", FUNDING, HALT), "scenarios say one of the known words"


def _void_collateral(state: State) -> None:
    """The collateral asset that counts for most over all accounts is worth nothing from here on."""
    kinds = [asset for asset in state.assets if not asset.settlement]
    asset = max(kinds, key=lambda asset: (assets.value_of(asset, asset.held), -asset.lane), default=None)
    if asset is not None:
        # Without a price and without a claim to count, it holds up no liquidation either.
        asset.under = None
        asset.spec = msgspec.structs.replace(asset.spec, maintenance_haircut_ppm=PPM)


def most_exposed(state: State, count: int = 2, move_ppm: int = -300_000) -> list[int]:
    """Accounts whose loss in a move of all prices exceeds their initial margin by most (only those whose does)."""
    bench = Bench(state)
    members = state.accounts[ids.HOUSE_ACCOUNTS :]
    start = {account.number: assess(account) for account in members}
    bench.move(Move(dict.fromkeys(bench.underlyings, PPM + move_ppm)))
    excess = {a.number: start[a.number][0] - assess(a)[0] - start[a.number][1] for a in members}
    bench.reset()
    ranked = sorted(excess, key=lambda number: (-excess[number], number))
    return [number for number in ranked[:count] if excess[number] > 0]


def _withdraw_all(state: State, number: int) -> None:
    """Take out of the vaults all that the account may, as withdrawals would."""
    account = state.accounts[number]
    free = max(0, min(headroom(account), equity(account) - account.pledged))
    account.cash -= free
    left = free
    for lane in state.cash_lanes:
        taken = min(left, state.assets[lane].held)
        state.assets[lane].held -= taken
        state.assets[lane].deposited -= taken
        left -= taken
    state.dirty[number] = account


def _press_funding(state: State) -> None:
    """Premium samples that ask for more than the cap allows."""
    for inst in state.instruments.values():
        if inst.kind == ids.PERPETUAL:
            inst.premium_count = max(1, inst.premium_count)
            inst.premium_sum = inst.premium_count * PPM
