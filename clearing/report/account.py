# SPDX-License-Identifier: GPL-3.0-or-later
"""One account: what it is worth, what it must hold, where the risk lies and how far liquidation is.

Rules:
- Margin figures are `core.margin`'s own. Greeks are the kernel's, times lots; sums by underlying and expiry.
- The scenario vector is that of the underlying's preset. Under standard margin it binds nobody and is shown as
  what portfolio margin would see (`binding` says which).
- How far liquidation is, `clearing.report.whatif` says.
"""

from decimal import Decimal

from clearing.core import assets, liquidation
from clearing.core.margin import MarginDetail, headroom, margin_detail
from clearing.core.modes import is_scanned
from clearing.core.risk import kernel
from clearing.core.risk.array import Column, RiskArray, build
from clearing.core.risk.market import Market
from clearing.core.risk.portfolio import PortfolioMargin, portfolio_margin
from clearing.core.state import Account, Slot, State, UnderlyingState
from clearing.model import ids
from clearing.model.errors import NovateError
from clearing.model.ids import PPM, UNIT
from clearing.model.presets import SKEW_ABS, SKEW_LINEAR, VOL_DOWN, VOL_SAME, VOL_UP, Preset
from clearing.report.bench import has_vols
from clearing.report.history import Read
from clearing.report.provenance import Figures, Provenance, decimal_of, from_unit, hexed
from clearing.report.whatif import DistanceRow, distances

MODES = ("standard", "portfolio")
_VOLS = {VOL_SAME: "same", VOL_UP: "up", VOL_DOWN: "down", SKEW_LINEAR: "skew", SKEW_ABS: "wings"}


class PositionRow(Figures, frozen=True, kw_only=True):
    """`profit_atoms`: against the entry cost; `funding_atoms`: owed (negative) or due since the last change."""

    instrument: int
    symbol: str
    underlying: str
    expiry_us: int
    size_lots: int
    mark_atoms: int
    value_atoms: int
    profit_atoms: int
    funding_atoms: int


class ScenarioRow(Figures, frozen=True, kw_only=True):
    """One scenario: move of spot, direction of vol, damping, and the P&L of the account's book in it."""

    scenario: int
    spot: Decimal
    vol: str
    damp: Decimal
    pnl_atoms: int


class ScanRow(Figures, frozen=True, kw_only=True):
    """A book in one underlying under its preset. `worst_scenario` -2 is the basis; loss = the largest of 0,
    -basis and -P&L over the scenarios. `journaled`: the array is the reducer's own, and not made for this report."""

    underlying: str
    preset: str
    binding: bool
    journaled: bool
    array_hash: str
    loss_atoms: int
    worst_scenario: int
    basis_atoms: int
    concentration: Decimal
    margin_initial_atoms: int
    margin_maintenance_atoms: int
    scenarios: tuple[ScenarioRow, ...]


class RequirementRow(Figures, frozen=True, kw_only=True):
    """A part of margin: a linear contract, an expiry's options, a scan, or collateral."""

    what: str
    margin_initial_atoms: int
    margin_maintenance_atoms: int


class GreekRow(Figures, frozen=True, kw_only=True):
    """Sums over positions. Delta: lots of the forward (perpetuals: of spot); gamma: lots of delta per 1 % move;
    vega: atoms per vol point; theta: atoms per day; rho: atoms per 1 % of rate. `expiry_us` 0: perpetuals;
    -1: the underlying's total."""

    underlying: str
    expiry_us: int
    delta_lots: Decimal
    gamma_lots: Decimal
    vega_atoms: int
    theta_atoms: int
    rho_atoms: int


class CollateralRow(Figures, frozen=True, kw_only=True):
    """An asset: atoms of it, settlement atoms per unit, its counted value, and what of it counts for margin."""

    lane: int
    asset: str
    amount_atoms: int
    price_atoms: int
    value_atoms: int
    haircut_ppm: int
    maintenance_atoms: int
    initial_atoms: int
    fresh: bool


class AccountReport(Figures, frozen=True, kw_only=True):
    """All figures of an account; see the rows. `ratio`: equity / maintenance, None without a requirement.
    `open_orders_atoms`: initial margin and losses that open orders may add; headroom = equity - initial - that.
    `status`: HEALTHY, BELOW_INITIAL (may only reduce), LIQUIDATABLE, FROZEN (prices too old), AUCTION."""

    provenance: Provenance
    account: int
    owner: str
    sub: int
    mode: str
    status: str
    equity_atoms: int
    margin_initial_atoms: int
    margin_maintenance_atoms: int
    ratio: Decimal | None
    claim_atoms: int
    cash_atoms: int
    pledged_atoms: int
    collateral_atoms: int
    headroom_atoms: int
    open_orders: int
    open_orders_atoms: int
    triggers: int
    wait_us: int
    auction_start_us: int
    requirements: tuple[RequirementRow, ...]
    positions: tuple[PositionRow, ...]
    scans: tuple[ScanRow, ...]
    greeks: tuple[GreekRow, ...]
    unpriced: tuple[str, ...]
    collateral: tuple[CollateralRow, ...]
    distances: tuple[DistanceRow, ...]


def account_of(state: State, number: int) -> Account:
    """Raises `NovateError` UNKNOWN_ACCOUNT."""
    if not 0 <= number < len(state.accounts):
        raise NovateError("UNKNOWN_ACCOUNT", f"no account {number}; the highest is {len(state.accounts) - 1}")
    return state.accounts[number]


def account_report(found: Read, number: int) -> AccountReport:
    """The report of account `number`. Raises `NovateError` UNKNOWN_ACCOUNT."""
    state = found.state
    account = account_of(state, number)
    detail = margin_detail(account)
    free = headroom(account)
    greeks, unpriced = greek_rows(account)
    auction = account.auction
    return AccountReport(
        provenance=found.provenance,
        account=number,
        owner=hexed(account.owner.address),
        sub=account.sub,
        mode=MODES[account.mode],
        status=_status(state, account, detail),
        equity_atoms=detail.equity,
        margin_initial_atoms=detail.initial,
        margin_maintenance_atoms=detail.maintenance,
        ratio=ratio(detail.equity, detail.maintenance),
        claim_atoms=detail.claim,
        cash_atoms=account.cash,
        pledged_atoms=detail.pledged,
        collateral_atoms=detail.collateral_full,
        headroom_atoms=free,
        open_orders=len(account.orders),
        open_orders_atoms=detail.equity - detail.initial - free,
        triggers=len(account.triggers),
        wait_us=account.wait_us,
        auction_start_us=auction.start_us if auction is not None else 0,
        requirements=_requirements(detail),
        positions=tuple(_position(slot) for slot in account.slots.values() if slot.size),
        scans=_scans(state, account, detail),
        greeks=greeks,
        unpriced=unpriced,
        collateral=_collateral(state, account),
        distances=distances(state, number),
    )


def ratio(now: int, maintenance: int) -> Decimal | None:
    """Equity / maintenance to six decimals, rounded down."""
    return decimal_of(now * PPM // maintenance, PPM) if maintenance else None


def _status(state: State, account: Account, detail: MarginDetail) -> str:
    if account.auction is not None:
        return "AUCTION"
    code = liquidation.is_liquidatable(state, account)
    if code in ("", "ORACLE_STALE"):
        return "FROZEN" if code else "LIQUIDATABLE"
    return "BELOW_INITIAL" if detail.equity < detail.initial else "HEALTHY"


def _requirements(detail: MarginDetail) -> tuple[RequirementRow, ...]:
    parts = [(row.inst.spec.symbol, row.initial, row.maintenance) for row in detail.linear]
    parts += [
        (f"{row.under.spec.symbol} options {row.expiry_us}", row.initial, row.maintenance) for row in detail.expiries
    ]
    parts += [(f"{row.under.spec.symbol} scan", row.initial, row.maintenance) for row in detail.scans]
    if detail.charge_initial or detail.charge_maintenance:
        parts.append(("collateral", detail.charge_initial, detail.charge_maintenance))
    return tuple(
        RequirementRow(what=what, margin_initial_atoms=initial, margin_maintenance_atoms=maintenance)
        for what, initial, maintenance in parts
    )


def _position(slot: Slot) -> PositionRow:
    inst = slot.inst
    return PositionRow(
        instrument=inst.id,
        symbol=inst.spec.symbol,
        underlying=inst.under.spec.symbol,
        expiry_us=inst.spec.expiry_us,
        size_lots=slot.size,
        mark_atoms=inst.mark,
        value_atoms=slot.size * inst.mark,
        profit_atoms=slot.size * inst.mark - slot.entry_cost,
        funding_atoms=slot.size * (slot.funding - inst.funding_index),
    )


# --- scans -------------------------------------------------------------------------------------


def _scans(state: State, account: Account, detail: MarginDetail) -> tuple[ScanRow, ...]:
    """The scans that bind, and for what no scan binds the scan that would."""
    rows = []
    bound = {}
    for row in detail.scans:
        assert row.under.array is not None, "a scan has an array"
        bound[row.under.id] = row
        preset = state.params.presets[row.under.spec.preset]
        rows.append(_scan_row(row.under, preset, row.margin, row.under.array, (True, True)))
    for under, positions in _books(account).items():
        if under.id not in bound and under.index:
            found = _would_be(state, under, positions)
            if found is not None:
                preset = state.params.presets[under.spec.preset]
                rows.append(_scan_row(under, preset, found[1], found[0], (False, found[0] is under.array)))
    return tuple(rows)


def _books(account: Account) -> dict[UnderlyingState, list[Slot]]:
    books: dict[UnderlyingState, list[Slot]] = {}
    for slot in account.slots.values():
        if slot.size:
            books.setdefault(slot.inst.under, []).append(slot)
    return books


def _would_be(state: State, under: UnderlyingState, slots: list[Slot]) -> tuple[RiskArray, PortfolioMargin] | None:
    """Array and margin of a book that is not scanned; None if its options have no vols yet."""
    preset = state.params.presets[under.spec.preset]
    market = under.market or Market(under.spec.symbol, under.index, time_us=under.index_time)
    array = under.array
    if array is None or not all(is_scanned(slot.inst) for slot in slots):
        instruments = [slot.inst for slot in slots]
        if any(i.kind == ids.OPTION and not has_vols(market, i.spec.expiry_us) for i in instruments):
            return None
        array = build(
            preset,
            market,
            [Column(i.id, i.kind, i.spec.expiry_us, i.spec.strike_atoms, i.spec.is_call, i.mark) for i in instruments],
        )
    positions = [(slot.inst.id, slot.size) for slot in slots]
    margin = portfolio_margin(
        preset, array, market, positions, (), assets.stable_price(state), under.spec.depth_lots, ()
    )
    return array, margin


def _scan_row(
    under: UnderlyingState, preset: Preset, margin: PortfolioMargin, array: RiskArray, flags: tuple[bool, bool]
) -> ScanRow:
    return ScanRow(
        underlying=under.spec.symbol,
        preset=preset.name,
        binding=flags[0],
        journaled=flags[1],
        array_hash=hexed(array.digest),
        loss_atoms=margin.loss,
        worst_scenario=margin.scenario,
        basis_atoms=margin.basis,
        concentration=from_unit(margin.concentration),
        margin_initial_atoms=margin.initial,
        margin_maintenance_atoms=margin.maintenance,
        scenarios=tuple(
            ScenarioRow(
                scenario=at, spot=from_unit(move.spot), vol=_VOLS[move.vol], damp=from_unit(move.damp), pnl_atoms=pnl
            )
            for at, (move, pnl) in enumerate(zip(preset.scenarios, margin.pnl, strict=True))
        ),
    )


# --- Greeks ------------------------------------------------------------------------------------

_Sums = list[int]
_FINE = 10_000
_MAX_KERNEL_PRICE = 1 << 50


def position_greeks(slot: Slot) -> tuple[int, int, int, int, int] | None:
    """(delta, gamma in 1e-12 lots; vega, theta, rho in atoms) of a position; None if nothing prices it.

    Linear contracts have delta alone: of a future the part that its settlement window has not fixed.
    """
    inst, size, market = slot.inst, slot.size, slot.inst.under.market
    spec = inst.spec
    if inst.settle or (inst.expiry is not None and inst.expiry.price):
        return 0, 0, 0, 0, 0
    if inst.kind == ids.PERPETUAL:
        return size * UNIT, 0, 0, 0, 0
    if inst.kind == ids.FUTURE:
        variable = market.split(inst.mark, spec.expiry_us)[1] if market is not None else inst.mark
        return (size * UNIT * variable // inst.mark if inst.mark else size * UNIT), 0, 0, 0, 0
    if market is None or not has_vols(market, spec.expiry_us):
        return None
    known = market.expiries[spec.expiry_us]
    vol, tau = known.vol_at(spec.strike_atoms), market.tau_us(spec.expiry_us)
    # Prices in finer units than atoms, so that many lots do not sum up the rounding of one.
    fine = max(1, min(_FINE, _MAX_KERNEL_PRICE // max(known.forward, spec.strike_atoms)))
    lot = kernel.greeks(known.forward * fine, spec.strike_atoms * fine, vol, tau, spec.is_call, known.rate)
    money = [(2 * size * figure + fine) // (2 * fine) for figure in (lot.vega, lot.theta, lot.rho)]
    return size * lot.delta, size * lot.gamma, money[0], money[1], money[2]


def greek_rows(account: Account) -> tuple[tuple[GreekRow, ...], tuple[str, ...]]:
    """Greeks by underlying and expiry with a total each (expiry -1), and symbols that nothing prices yet."""
    sums: dict[tuple[str, int], _Sums] = {}
    unpriced = []
    for slot in account.slots.values():
        if not slot.size:
            continue
        found, symbol = position_greeks(slot), slot.inst.under.spec.symbol
        if found is None:
            unpriced.append(slot.inst.spec.symbol)
            continue
        for expiry_us in (slot.inst.spec.expiry_us, -1):
            total = sums.setdefault((symbol, expiry_us), [0] * 5)
            for at, figure in enumerate(found):
                total[at] += figure
    rows = [
        GreekRow(
            underlying=symbol,
            expiry_us=expiry_us,
            delta_lots=from_unit(total[0]),
            gamma_lots=from_unit(total[1]),
            vega_atoms=total[2],
            theta_atoms=total[3],
            rho_atoms=total[4],
        )
        for (symbol, expiry_us), total in sorted(sums.items(), key=lambda item: (item[0][0], item[0][1] % 2**63))
    ]
    return tuple(rows), tuple(unpriced)


# --- collateral --------------------------------------------------------------------------------


def _collateral(state: State, account: Account) -> tuple[CollateralRow, ...]:
    """The settlement asset's balance first, then the other assets by lane."""
    cash = account.cash
    rows = [_collateral_row(state, 0, cash, cash, (0, PPM), True)]
    lines = [line for _, line in assets.lines(account)]
    for lane, line in zip(sorted(account.holdings), lines, strict=True):
        held = account.holdings[lane]
        fresh = assets.fresh(held.asset, state.time_us)
        weights = (held.asset.spec.maintenance_haircut_ppm, held.asset.spec.initial_weight_ppm if fresh else 0)
        rows.append(_collateral_row(state, lane, held.amount, line.value_atoms, weights, fresh))
    return tuple(rows)


def _collateral_row(
    state: State, lane: int, amount: int, value: int, weights: tuple[int, int], fresh: bool
) -> CollateralRow:
    asset = state.assets[lane]
    above, below = assets.rate(asset)
    kept = value * (PPM - weights[0]) // PPM
    return CollateralRow(
        lane=lane,
        asset=asset.spec.symbol or f"lane {lane}",
        amount_atoms=amount,
        price_atoms=asset.spec.unit_atoms * above // below,
        value_atoms=value,
        haircut_ppm=weights[0],
        maintenance_atoms=kept,
        initial_atoms=kept * weights[1] // PPM,
        fresh=fresh,
    )
