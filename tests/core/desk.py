# SPDX-License-Identifier: GPL-3.0-or-later
"""Accounts and prices set by hand, without journal or signatures: for properties of margin alone.

Two underlyings: X (perpetual 1, future 2, options 10.. at two expiries) and Y (perpetual 3). Prices are
small, so that a hypothesis example can be read. Risk arrays are built as the oracle would build them.
"""

from __future__ import annotations

from clearing.core.book import Order
from clearing.core.margin import add_open
from clearing.core.positions import slot_of
from clearing.core.risk.addons import free_lots
from clearing.core.risk.array import Column, build
from clearing.core.risk.market import Expiry, Market
from clearing.core.state import Account, Holding, InstrumentState, Owner, State, UnderlyingState
from clearing.model import ids
from clearing.model.commands import Genesis, Vault
from clearing.model.ids import DAY_US, UNIT
from clearing.model.params import Asset, FeeTier, Instrument, Params, Underlying

START_US = 1_700_000_000_000_000
NEAR = START_US + 10 * DAY_US
FAR = START_US + 90 * DAY_US
STRIKES = (900, 1_000, 1_150)
PERP_X, FUTURE_X, PERP_Y = 1, 2, 3
TIER = FeeTier(0, 200, 500)


def instruments() -> tuple[Instrument, ...]:
    """X's options: id 10 + 6 x expiry + 2 x strike + is_put."""
    found = [
        Instrument(PERP_X, "X-PERP", "X", 1, 10**6, 50_000, 30_000),
        Instrument(FUTURE_X, "X-FUT", "X", 1, 10**6, 50_000, 30_000, ids.FUTURE, NEAR),
        Instrument(PERP_Y, "Y-PERP", "Y", 1, 10**6, 123_456, 70_001),
    ]
    for e, expiry_us in enumerate((NEAR, FAR)):
        for k, strike in enumerate(STRIKES):
            for put in (0, 1):
                number = 10 + 6 * e + 2 * k + put
                name = f"X-{e}-{strike}-{'P' if put else 'C'}"
                found.append(
                    Instrument(number, name, "X", 1, 10**6, 50_000, 30_000, ids.OPTION, expiry_us, strike, not put)
                )
    return tuple(found)


OPTIONS = tuple(spec.id for spec in instruments() if spec.kind == ids.OPTION)


def params(preset: int = 0, tier: FeeTier = TIER, depth: int = 0, size_factor: int = 0) -> Params:
    """X and Y with a preset; lane 1 is an asset that moves with X, lane 2 one that Y prices."""
    assets = (
        Asset(0, "USD", ""),
        Asset(1, "X", "X", 1, 200_000, 937_500, risk_cancelling=True),
        Asset(2, "Y", "Y", 1, 250_000, 930_000),
    )
    unders = (
        Underlying(1, "X", 1, preset, depth, size_factor=size_factor),
        Underlying(2, "Y", 1, preset, depth, size_factor=size_factor),
    )
    return Params(fee_tiers=(tier,), underlyings=unders, assets=assets)


def state_of(chosen: Params, spots: tuple[int, int] = (1_003, 777), vol_ppm: int = 600_000) -> State:
    """A state with these markets, priced."""
    vault = Vault(1, bytes(20), (bytes(20), bytes(20), bytes(20)))
    state = State(
        Genesis(2, bytes(32), "desk.test", bytes(33), bytes(20), bytes(20), (vault,), (), instruments(), chosen)
    )
    state.time_us = START_US
    price(state, spots, vol_ppm)
    return state


def price(state: State, spots: tuple[int, int], vol_ppm: int = 600_000) -> None:
    """Index, marks and arrays at these spots; the forward is half a percent above spot."""
    for under, spot in zip(state.underlyings.values(), spots, strict=True):
        under.index, under.index_time = spot, state.time_us
        vol = vol_ppm * (UNIT // ids.PPM)
        expiries = {}
        for expiry in under.expiries.values():
            expiry.forward = spot + spot // 200
            expiry.time_us = state.time_us
            expiries[expiry.expiry_us] = Expiry(expiry.expiry_us, expiry.forward, strikes=(1_000,), vols=(vol,))
        under.market = Market(under.spec.symbol, spot, time_us=state.time_us, expiries=expiries)
        for inst in under.instruments:
            inst.index, inst.index_time = spot, state.time_us
            inst.mark = _mark(under.market, inst)
            inst.free_lots = free_lots(inst.imf, under.spec.size_factor)
        rebuild(state, under)


def _mark(market: Market, inst: InstrumentState) -> int:
    spec = inst.spec
    if spec.kind == ids.PERPETUAL:
        return market.spot
    if spec.kind == ids.FUTURE:
        return market.expiries[spec.expiry_us].forward
    return max(1, market.option_value(spec.expiry_us, spec.strike_atoms, spec.is_call))


def rebuild(state: State, under: UnderlyingState) -> None:
    """The risk array from the marks as they are."""
    assert under.market is not None
    columns = [
        Column(i.id, i.kind, i.spec.expiry_us, i.spec.strike_atoms, i.spec.is_call, i.mark) for i in under.instruments
    ]
    under.array = build(state.params.presets[under.spec.preset], under.market, columns)
    under.array_us = state.time_us


def open_account(state: State, cash: int, mode: int = ids.STANDARD) -> Account:
    """The next account; the first three are the house's."""
    tier = state.params.fee_tiers[0]
    number = len(state.accounts)
    owner = Owner(number.to_bytes(20, "big"), number, [0] * state.lanes, [0] * state.lanes, [-1], [None])
    account = Account(number, owner, 0, tier.maker_ppm, tier.taker_ppm, cash)
    account.mode = mode
    account.set_plain()
    state.accounts.append(account)
    return account


def house(state: State) -> State:
    """The same state with its house accounts, which come first."""
    while len(state.accounts) < ids.HOUSE_ACCOUNTS:
        open_account(state, 0)
    return state


def hold(state: State, account: Account, instrument: int, lots: int) -> None:
    """Give a position at mark: claim does not change."""
    slot = slot_of(state, account, instrument)
    slot.size += lots
    account.cash -= lots * slot.inst.mark
    if slot.size:
        slot.inst.holders[account.number] = account
    account.set_plain()


def give(state: State, account: Account, lane: int, amount: int) -> None:
    """Give collateral."""
    asset = state.assets[lane]
    account.holdings[lane] = Holding(asset, amount)
    asset.held += amount
    account.set_plain()


def rest(state: State, account: Account, instrument: int, side: int, limit: int, lots: int) -> Order:
    """An open order of the account (in its own lists, not in the book)."""
    slot = slot_of(state, account, instrument)
    number = state.next_order_id
    state.next_order_id += 1
    order = Order(number, account, slot, side, limit, lots, number)
    account.orders[number] = order
    add_open(slot, side, limit, lots)
    account.set_plain()
    return order


def withdraw(account: Account, order: Order) -> None:
    """Take an order of `rest` out again."""
    add_open(order.slot, order.side, order.price, -order.open_lots)
    del account.orders[order.client_order_id]


def copy_filled(state: State, account: Account, fills: list[tuple[Order, int]]) -> Account:
    """An account like this one, without open orders, after these fills and their maker fees."""
    tier = state.params.fee_tiers[0]
    twin = Account(account.number, account.owner, 0, tier.maker_ppm, tier.taker_ppm, account.cash)
    twin.mode, twin.pledged, twin.holdings = account.mode, account.pledged, account.holdings
    for instrument, slot in account.slots.items():
        other = slot_of(state, twin, instrument)
        other.size, other.funding = slot.size, slot.funding
    for order, lots in fills:
        signed = lots if order.side == ids.BUY else -lots
        slot_of(state, twin, order.slot.inst.id).size += signed
        twin.cash -= signed * order.price - -lots * order.price * tier.maker_ppm // ids.PPM
    twin.set_plain()
    return twin
