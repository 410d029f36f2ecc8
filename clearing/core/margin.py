# SPDX-License-Identifier: GPL-3.0-or-later
"""Risk: what an account is worth and what it must hold. The rest of the core only asks these questions.

- `equity` is the settlement claim: cash and positions at mark. What counts for margin is `assess`: the claim,
  collateral as its mode counts it, less what is pledged to the default fund.
- Requirements round up, so that splitting never profits. Linear contracts, standard margin: margin_initial =
  sum of ceil(lots x mark x IMF), with the larger of |position + bids| and |position - asks| as lots; IMF grows
  with size (`modes.linear_imf`), and mark by mark with volatility and open interest (`inst.imf`).
- `Account.plain` accounts (standard margin, linear contracts, cash) take the short way through this file; all
  others go by `modes`, which charges fees in the subset that pays them. Where both apply they give the same
  margins (but for a future whose settlement price is final: here it is charged until it is paid out).
- An order is accepted if initial margin holds for every subset of fills of all open orders and itself, fees
  included. Below initial margin only what reduces a position is: maintenance must not rise and equity /
  maintenance must not fall.
- Money may leave and risk may grow only at data not older than `oracle_max_age_us`: other modules see to that
  for what is traded; under portfolio margin `headroom` sees to it for everything that the account holds.
"""

from typing import NamedTuple

from clearing.core import assets, modes
from clearing.core.modes import Ask, ExpiryRow, LinearRow, ScanRow, linear_imf
from clearing.core.state import Account, InstrumentState, Slot
from clearing.model import ids
from clearing.model.ids import BUY, PPM, SELL, UNIT


def equity(account: Account) -> int:
    """Cash plus positions at mark, less unsettled funding; atoms, may be negative."""
    total = account.cash
    for slot in account.slots.values():
        inst = slot.inst
        total += slot.size * (inst.mark - inst.funding_index + slot.funding)
    return total


def assess(account: Account) -> tuple[int, int, int]:
    """(equity, margin_initial, margin_maintenance) of the positions held, in atoms.

    Equity counts collateral after haircut as the mode has it, and not what is pledged.
    """
    if not account.plain:
        rows = modes.parts(account, modes.held(account))
        return equity(account) + modes.counted(account), rows.initial, rows.maintenance
    total = account.cash
    initial = maintenance = 0
    for slot in account.slots.values():
        size = slot.size
        if size:
            inst = slot.inst
            total += size * (inst.mark - inst.funding_index + slot.funding)
            lots = size if size > 0 else -size
            notional = lots * inst.mark
            initial -= -notional * (inst.imf if lots <= inst.free_lots else linear_imf(inst, lots)) // PPM
            maintenance -= -notional * inst.mmf // PPM
    return total, initial, maintenance


def order_loss(side: int, price: int, lots: int, mark: int) -> int:
    """Loss at mark if the order fills: a bid above the mark or an ask below it; atoms >= 0."""
    edge = price - mark if side == BUY else mark - price
    return edge * lots if edge > 0 else 0


def open_loss(account: Account, slot: Slot) -> int:
    """Worst fill subset of the slot's orders, cached per mark; atoms >= 0."""
    mark = slot.inst.mark
    if slot.loss_mark != mark:
        slot.loss_atoms = sum(
            order_loss(order.side, order.price, order.open_lots, mark)
            for order in account.orders.values()
            if order.slot is slot
        )
        slot.loss_mark = mark
    return slot.loss_atoms


def add_open(slot: Slot, side: int, price: int, lots: int) -> None:
    """Count `lots` more (or, negative, fewer) open at `price` in the slot's sums."""
    if side == BUY:
        slot.buy_lots += lots
        slot.buy_cost += lots * price
        edge = price - slot.loss_mark
    else:
        slot.sell_lots += lots
        slot.sell_cost += lots * price
        edge = slot.loss_mark - price
    if edge > 0 and slot.loss_mark:
        slot.loss_atoms += edge * lots


def headroom(account: Account, added: Slot | None = None, add_bids: int = 0, add_asks: int = 0) -> int:
    """Equity less initial margin, fees and losses of the worst fill subset; atoms.

    Orders may be accepted and money may leave while this is >= 0. With `added`, that many more
    lots are taken as open in this slot at mark (their own loss and fee are the caller's to count).
    """
    if not account.plain:
        more = []
        if added is not None:
            pairs = ((BUY, add_bids), (SELL, add_asks))
            more = [Ask(added.inst, side, added.inst.mark, lots) for side, lots in pairs if lots]
        return _free(account, more)
    total = account.cash
    cost = 0
    for slot in account.slots.values():
        inst = slot.inst
        size = slot.size
        bids = slot.buy_lots
        asks = slot.sell_lots
        mark = inst.mark
        if size:
            total += size * (mark - inst.funding_index + slot.funding)
        if bids or asks:
            cost += slot.buy_cost + slot.sell_cost
            total -= slot.loss_atoms if slot.loss_mark == mark else open_loss(account, slot)
        if slot is added:
            bids += add_bids
            asks += add_asks
        long, short = size + bids, asks - size
        worst = long if long > short else short
        if worst:
            imf = inst.imf if worst <= inst.free_lots else linear_imf(inst, worst)
            total += -worst * mark * imf // PPM
    if cost and account.maker_ppm > 0:  # each order's fee rounds up on its own, by less than an atom
        total += -cost * account.maker_ppm // PPM - len(account.orders)
    return total


def _free(account: Account, more: list[Ask]) -> int:
    """`headroom` of an account that is not plain, with `more` orders than it has (their fees in their prices)."""
    total = equity(account) + modes.counted(account) - _worst_initial(account, more)
    if account.mode == ids.PORTFOLIO and total >= 0 and _is_stale(account, more):
        return -1
    return total


def _worst_initial(account: Account, more: list[Ask]) -> int:
    """Initial margin, loss against the mark and fees of the worst fill subset; atoms."""
    orders = [_with_fee(ask, account.maker_ppm) for ask in modes.open_orders(account)]
    return modes.parts(account, modes.held(account), orders + more).initial


def _with_fee(ask: Ask, fee_ppm: int) -> Ask:
    """The order as if its fee (rounded up by lot) were in its price; a rebate does not count."""
    fee = -(-ask.price * max(fee_ppm, 0) // PPM)
    return ask._replace(price=ask.price + fee if ask.side == BUY else ask.price - fee)


def _is_stale(account: Account, more: list[Ask]) -> bool:
    """Is the price of anything held, offered or asked for too old for taking risk?"""
    exposed = [slot.inst for slot in account.slots.values() if slot.size or slot.buy_lots or slot.sell_lots]
    exposed.extend(ask.inst for ask in more)
    return any(_is_old(inst) for inst in exposed)


def _is_old(inst: InstrumentState) -> bool:
    """Index, or forward and vols of its expiry. (A future goes by the index until somebody votes on its expiry.)"""
    oldest = inst.venue.time_us - inst.venue.params.oracle_max_age_us
    expiry = inst.expiry
    if inst.index_time < oldest:
        return True
    return expiry is not None and expiry.time_us < oldest and (expiry.time_us > 0 or inst.kind == ids.OPTION)


def _dearest_ppm(account: Account) -> int:
    """An order may pay as taker, and as maker for what rests of it."""
    maker, taker = account.maker_ppm, account.taker_ppm
    return maker if maker > taker else taker


def order_fits(account: Account, slot: Slot, side: int, price: int, lots: int) -> bool:
    """Would initial margin hold for every fill subset with this order added?

    An account below initial margin may still reduce: maintenance must not rise and
    equity / maintenance must not fall (by cross-multiplication).
    """
    inst = slot.inst
    if not account.plain or inst.kind == ids.OPTION:
        ask = _with_fee(Ask(inst, side, price, lots), _dearest_ppm(account))
        return _free(account, [ask]) >= 0 or _improves(account, slot, side, price, lots)
    mark, size = inst.mark, slot.size
    long, short = slot.buy_lots + size, slot.sell_lots - size
    if side == BUY:
        long += lots
        edge = price - mark
    else:
        short += lots
        edge = mark - price
    loss = edge * lots if edge > 0 else 0
    dearest = account.taker_ppm if account.taker_ppm > account.maker_ppm else account.maker_ppm
    if slot.loss_mark == mark and len(account.slots) == 1:
        # The account's only slot, and mostly there is plenty: a bound from below settles that without a
        # division. Three requirements round up by less than an atom each, and no order pays above `dearest`.
        total = account.cash - slot.loss_atoms - loss - len(account.orders) - 3
        if size:
            total += size * (mark - inst.funding_index + slot.funding)
        fees = (slot.buy_cost + slot.sell_cost + price * lots) * dearest
        worst = long if long > short else short
        imf = inst.imf if worst <= inst.free_lots else linear_imf(inst, worst)
        if total * PPM >= worst * mark * imf + fees:
            return True
    bids, asks = (lots, 0) if side == BUY else (0, lots)
    free = headroom(account, slot, bids, asks) - loss
    if free + (-price * lots * dearest // PPM) >= 0:
        return True
    return _improves(account, slot, side, price, lots)


def _improves(account: Account, slot: Slot, side: int, price: int, lots: int) -> bool:
    """Does the order only reduce, so that no fill of it raises maintenance or lowers equity / maintenance?"""
    if side == SELL:
        closing, held = slot.sell_lots + lots, slot.size
    else:
        closing, held = slot.buy_lots + lots, -slot.size
    if held <= 0 or closing > held:
        return False
    inst = slot.inst
    now, _, maintenance = assess(account)
    after = now - order_loss(side, price, lots, inst.mark) + (-price * lots * _dearest_ppm(account) // PPM)
    if account.plain:
        released = -(-held * inst.mark * inst.mmf // PPM) + (-(held - lots) * inst.mark * inst.mmf // PPM)
        return after * maintenance >= now * (maintenance - released)
    # Elsewhere positions lean on each other: the order must not make the worst subset of all open orders worse.
    # (Where that holds initial margin, there is nothing to allow here, but for stale data.)
    if now < 0:
        return False
    ask = _with_fee(Ask(inst, side, price, lots), _dearest_ppm(account))
    if _worst_initial(account, [ask]) > _worst_initial(account, []):
        return False
    left = _maintenance_after(account, slot, -lots if side == SELL else lots)
    return left <= maintenance and after * maintenance >= now * left


def _maintenance_after(account: Account, slot: Slot, lots: int) -> int:
    """A bound of maintenance margin along the way to `lots` more in the slot, from above at its end.

    It is convex in the fill, and so is then the ratio's excess: what holds at both ends holds between. The
    smaller of two convex rules is not, so an expiry keeps the rule that decides it now. (The concentration
    multiplier of portfolio margin is not either; it only counts beyond the depth limit.)
    """
    held = modes.held(account)
    moved = [(inst, size + lots if inst is slot.inst else size) for inst, size in held]
    after = modes.parts(account, moved)
    total = after.maintenance
    rules = {(row.under.id, row.expiry_us): row.margin for row in modes.parts(account, held).expiries}
    for row in after.expiries:
        before = rules[row.under.id, row.expiry_us]
        kept = row.margin.isolated_maintenance if before.is_isolated else row.margin.loss_maintenance
        total += kept - row.maintenance
    return total


# --- witnesses ---------------------------------------------------------------------------------


def _required_at(row: ScanRow, loss: int, mm_factor: int) -> int:
    """Maintenance of an underlying if this scenario's loss were the worst; atoms, rounded up."""
    margin = row.margin
    worst = max(loss, 0) * mm_factor * margin.concentration
    return -(-worst // (UNIT * UNIT)) + margin.charges.maintenance


def _subject(account: Account) -> tuple[ScanRow | None, int, int]:
    """(the scan with the largest maintenance, first by underlying id; equity left for it; its MM factor)."""
    rows = modes.parts(account, modes.held(account))
    now = equity(account) + modes.counted(account)
    row = max(rows.scans, key=lambda row: (row.maintenance, -row.under.id), default=None)
    if row is None:
        return None, now - rows.maintenance, 0
    params = next(slot.inst.venue.params for slot in account.slots.values() if slot.size)
    return row, now - (rows.maintenance - row.maintenance), params.presets[row.under.spec.preset].mm_factor


def witness(account: Account) -> tuple[int, int]:
    """(scenario, P&L in it) that proves that equity is below maintenance margin; (NO_SCENARIO, 0) if it is not,
    and for accounts without any scan (standard margin), whose `assess` is the proof.

    What it proves: take the underlying with the largest maintenance (the lowest id among equals) and leave all
    others at their own worst. If this scenario alone were scanned there, maintenance would still be above
    equity. It is the first such scenario, or ids.BASIS if only the basis is. Atoms; losses are negative.
    """
    if account.mode != ids.PORTFOLIO:
        return ids.NO_SCENARIO, 0
    row, spare, factor = _subject(account)
    if row is None:
        return ids.NO_SCENARIO, 0
    for scenario, pnl in enumerate(row.margin.pnl):
        if spare < _required_at(row, -pnl, factor):
            return scenario, pnl
    if spare < _required_at(row, -row.margin.basis, factor):
        return ids.BASIS, row.margin.basis
    return ids.NO_SCENARIO, 0


def fails(account: Account, scenario: int) -> tuple[bool, int]:
    """(does `scenario` prove that equity is below maintenance, P&L in it): see `witness`.

    Any scenario that proves it will do, not only the first. An account without a scan has NO_SCENARIO as its
    witness, one with a scan never.
    """
    if account.mode != ids.PORTFOLIO:
        now, _, maintenance = assess(account)
        return scenario == ids.NO_SCENARIO and now < maintenance, 0
    row, spare, factor = _subject(account)
    if row is None:
        return scenario == ids.NO_SCENARIO and spare < 0, 0
    if scenario == ids.BASIS:
        pnl = row.margin.basis
    elif 0 <= scenario < len(row.margin.pnl):
        pnl = row.margin.pnl[scenario]
    else:
        return False, 0
    return spare < _required_at(row, -pnl, factor), pnl


# --- reports -----------------------------------------------------------------------------------


class MarginDetail(NamedTuple):
    """Everything behind `assess`, without open orders; atoms. `claim` + what counts of collateral (whole under
    portfolio margin, after haircut under standard) - `pledged` = `equity`.

    Rows sum to initial and maintenance together with `charge_*`: what collateral needs beside the scans.
    `collateral_*`: its value whole, after maintenance haircut, and after the initial weight too.
    """

    mode: int
    equity: int
    initial: int
    maintenance: int
    claim: int
    collateral_full: int
    collateral_maintenance: int
    collateral_initial: int
    pledged: int
    charge_initial: int
    charge_maintenance: int
    linear: tuple[LinearRow, ...]
    expiries: tuple[ExpiryRow, ...]
    scans: tuple[ScanRow, ...]


def margin_detail(account: Account) -> MarginDetail:
    """What the account is worth and must hold, by contract, expiry and underlying."""
    rows = modes.parts(account, modes.held(account))
    claim = equity(account)
    values = assets.collateral(account) if account.holdings else (0, 0, 0)
    return MarginDetail(
        account.mode,
        claim + modes.counted(account),
        rows.initial,
        rows.maintenance,
        claim,
        *values,
        account.pledged,
        rows.collateral_initial,
        rows.collateral_maintenance,
        rows.linear,
        rows.expiries,
        rows.scans,
    )
