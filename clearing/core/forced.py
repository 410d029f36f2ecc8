# SPDX-License-Identifier: GPL-3.0-or-later
"""Forced requests and governance messages of the vaults' inboxes: what the operator cannot pass over.

Rules:
- A request waits in `State.forced`, first come, first served per account, until RunForced has done it in bounded steps.
  While one waits, the account places no orders. One that names the house, nobody's account, or an unknown asset
  is ignored, visibly.
- Orders and triggers go first, at any price. Everything else waits for prices that are fresh for all that the account
  holds, for an auction or liquidation of the account to end, and for a frozen vault to be settled.
- A forced withdrawal is acknowledged as far as the amount is free; what is not free is not owed later.
- A forced exit closes each position, largest notional first: against the book within liquidation_band_ppm of the mark;
  then to the insurance fund at the worse of mark and index (options: at the mark), as long as the fund keeps
  maintenance margin; then against the best ranked counterparties (ADL) at that same price. So whoever pushed the mark
  gains nothing from it. Then collateral pays debts, and everything that is free is acknowledged: settlement atoms
  from the vault of the request as far as they lie there, then from the other live vaults; collateral where it lies.
  Debts and pledges stay.
- ForcedDone says what was paid. A governance message is an approval (clearing.core.governance).
"""

from clearing.core import adl, backstop, borrowing, collateral, governance, vaults, whatif
from clearing.core.book import Order
from clearing.core.fees import roll_day
from clearing.core.liquidation import is_liquidatable
from clearing.core.margin import assess, equity, headroom
from clearing.core.matching import match
from clearing.core.orders import cancel_some, has_expired
from clearing.core.positions import fold
from clearing.core.state import Account, Forced, Slot, State
from clearing.model import ids
from clearing.model.commands import ConsumeInbox, RunForced
from clearing.model.outcomes import Deleveraged, ForcedDone, ForcedRequested, OrderCancelled, OrderPlaced
from clearing.model.outcomes import PositionTransferred as Moved

MAX_WAITING = 16
# What one entry holds beside a few lines of its own.
MAX_CANCELLED = 300
MAX_FILLS = 200
MAX_COUNTERPARTIES = 200


# --- in ----------------------------------------------------------------------------------------


def receive(state: State, command: ConsumeInbox) -> str:
    """Take a message of kind 2, 3 or 4; a code when it does nothing."""
    if command.kind == ids.INBOX_GOVERNANCE:
        return governance.approve(state, command)
    if command.owner == state.genesis.treasury:
        return "HOUSE_LOCKED"
    sub = int.from_bytes(command.data, "big")
    owner = state.owners.get(command.owner)
    account = next((a for a in owner.accounts if a.sub == sub), None) if owner is not None else None
    if account is None:
        return "UNKNOWN_ACCOUNT"
    if state.lane_of(command.vault, command.asset) is None:
        return "UNKNOWN_ASSET"
    waiting = state.forced.setdefault(account.number, [])
    if len(waiting) >= MAX_WAITING:
        return "EXIT_FORCED"
    waiting.append(Forced(command.vault, command.index, command.kind, command.asset, command.amount_atoms, state.lanes))
    row = (account.number, command.vault, command.index, command.kind, command.asset, command.amount_atoms)
    state.out.append(ForcedRequested(*row))
    return ""


# --- step by step ------------------------------------------------------------------------------


def is_ready(state: State, account: Account, now_us: int) -> bool:
    """Would a step be taken now?"""
    if account.orders or account.triggers:
        return True
    if vaults.unsettled(state) or account.auction is not None or is_liquidatable(state, account) == "":
        return False
    if backstop.is_stale(state, account, now_us):
        return False
    if state.forced[account.number][0].kind == ids.INBOX_FORCED_WITHDRAWAL:
        return True
    held = backstop.positions(account)
    return not held or any(_closable(state, slot) for slot in held)


def due(state: State, now_us: int) -> RunForced | None:
    """The next step that can be taken, of the account whose number is lowest."""
    for number in sorted(state.forced):
        if is_ready(state, state.accounts[number], now_us):
            return RunForced(number)
    return None


def run(state: State, command: RunForced) -> str:
    """One step: cancel, close, or pay."""
    waiting = state.forced.get(command.account)
    if not waiting:
        return "NOTHING_FORCED"
    account, request = state.accounts[command.account], waiting[0]
    if not is_ready(state, account, state.time_us):
        return "NOTHING_FORCED"
    state.touched[account.number] = account
    if account.orders or account.triggers:
        cancel_some(state, account, 0, "FORCED", MAX_CANCELLED)
    elif request.kind == ids.INBOX_FORCED_WITHDRAWAL:
        _pay(state, account, request, _lane(state, request), request.amount)
        _done(state, account, request)
    elif backstop.has_positions(account):
        _close(state, account)
    else:
        if account.holdings and equity(account) < 0:
            collateral.seize(state, account, -equity(account))
        for lane in _in_order(state, request):
            _pay(state, account, request, lane, 0)
        _done(state, account, request)
    return ""


def _done(state: State, account: Account, request: Forced) -> None:
    waiting = state.forced[account.number]
    del waiting[0]
    if not waiting:
        del state.forced[account.number]
    state.out.append(ForcedDone(account.number, request.vault, request.index, tuple(request.paid)))


# --- close -------------------------------------------------------------------------------------


def _closable(state: State, slot: Slot) -> bool:
    """An expired position is settled by its expiry."""
    return bool(slot.inst.mark) and not slot.inst.settle and not has_expired(slot.inst, state.time_us)


def _close(state: State, account: Account) -> None:
    """Close as many positions as the entry has room for."""
    state.fills_left = min(state.fills_left, MAX_FILLS)
    day = state.time_us // ids.DAY_US
    if account.day != day:
        roll_day(state, account, day)
    left = MAX_COUNTERPARTIES
    ranked = sorted(backstop.positions(account), key=lambda slot: (-abs(slot.size) * slot.inst.mark, slot.inst.id))
    for slot in ranked:
        if not _closable(state, slot):
            continue
        if state.fills_left <= 0 or left <= 0:
            return
        _sell(state, account, slot)
        if not slot.size or state.fills_left <= 0:
            continue
        _hand_over(state, account, slot)
        left -= _deleverage(state, account, slot, left)


def worse_price(slot: Slot) -> int:
    """Of mark and index, the one that is worse for who holds the position (atoms per lot); an option has its mark."""
    inst = slot.inst
    if inst.kind == ids.OPTION or not inst.index:
        return inst.mark
    return min(inst.mark, inst.index) if slot.size > 0 else max(inst.mark, inst.index)


def _sell(state: State, account: Account, slot: Slot) -> None:
    """Against the book within the band, unless the market is halted."""
    inst, lots = slot.inst, abs(slot.size)
    if inst.halted:
        return
    side = ids.SELL if slot.size > 0 else ids.BUY
    band = inst.mark * state.params.liquidation_band_ppm // ids.PPM
    limit = max(1, inst.mark - band if side == ids.SELL else inst.mark + band)
    opposite = inst.book.sides[1 - side]
    if not opposite.keys or opposite.keys[-1] < (limit if side == ids.SELL else -limit):
        return
    order = Order(state.next_order_id, account, slot, side, limit, lots)
    order.stp, order.reduce_only = ids.STP_CANCEL_MAKER, True
    state.next_order_id += 1
    state.out.append(OrderPlaced(order.order_id, account.number, 0, inst.id, side, limit, lots))
    reason = match(state, order)
    if order.open_lots:
        state.out.append(OrderCancelled(order.order_id, order.open_lots, reason or "FORCED"))


def _hand_over(state: State, account: Account, slot: Slot) -> None:
    """To the insurance fund, as many lots as leave it above maintenance margin."""
    fund, inst, price = state.accounts[ids.INSURANCE_FUND], slot.inst, worse_price(slot)
    sign = 1 if slot.size > 0 else -1

    def bears(lots: int) -> bool:
        now, _, maintenance = whatif.after(fund, [(inst, sign * lots, price)], 0, assess)
        return now >= maintenance

    low, high = 0, abs(slot.size)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if bears(middle) else (low, middle - 1)
    if low:
        backstop.move_lots(state, account, fund, slot, sign * low, price)
        state.out.append(Moved(account.number, fund.number, inst.id, sign * low, price))


def _deleverage(state: State, account: Account, slot: Slot, most: int) -> int:
    """Against the best ranked of those who hold the other side; returns how many."""
    inst, price, count = slot.inst, worse_price(slot), 0
    if not slot.size:
        return 0
    for rank, ranked in enumerate(adl.ranking(state, account, inst.id, most)):
        if not slot.size:
            break
        lots = min(abs(slot.size), abs(ranked.slot.size))
        signed = -lots if ranked.slot.size > 0 else lots
        fold(ranked.account, ranked.slot, signed, price, 0)
        fold(account, slot, -signed, price, 0)
        state.touched[ranked.account.number] = ranked.account
        row = (account.number, ranked.account.number, inst.id, -signed, price, rank)
        state.out.append(Deleveraged(*row, ranked.profit, ranked.notional, ranked.equity))
        count += 1
    return count


# --- pay ---------------------------------------------------------------------------------------


def _lane(state: State, request: Forced) -> int:
    lane = state.lane_of(request.vault, request.asset)
    assert lane is not None, "checked when the request came in"
    return lane


def _in_order(state: State, request: Forced) -> list[int]:
    """Live lanes: the settlement asset of the request's vault, of the others, then collateral."""
    live = [vault for vault in state.vaults if vault.live]
    live.sort(key=lambda vault: (vault.number != request.vault, vault.number))
    lanes = [lane for vault in live for lane in vault.every_lane]
    return sorted(lanes, key=lambda lane: not state.assets[lane].settlement)


def _pay(state: State, account: Account, request: Forced, lane: int, asked: int) -> None:
    """Acknowledge what is free in a lane, at most `asked` (0: all of it)."""
    before = account.owner.acks[lane]
    free = _free(state, account, lane)
    amount = min(asked or free, free)
    if amount and not collateral.closed(state, lane):
        collateral.withdraw_from(state, account, lane, amount)
    request.paid[lane] += account.owner.acks[lane] - before


def _free(state: State, account: Account, lane: int) -> int:
    """Atoms that may leave through this lane now: never on credit, and never what is pledged."""
    asset = state.assets[lane]
    if asset.settlement:
        owed = borrowing.accrued(state, account)
        own = min(headroom(account), equity(account) - account.pledged) - owed
        return max(0, min(own, asset.held, state.holdings, ids.MAX_AMOUNT_ATOMS))
    held = account.holdings.get(lane)
    low, high = 0, min(held.amount, ids.MAX_AMOUNT_ATOMS) if held is not None else 0
    while low < high:
        middle = (low + high + 1) // 2
        fits = not collateral.refusal(state, account, lane, middle, leaves=True)
        low, high = (middle, high) if fits else (low, middle - 1)
    return low
