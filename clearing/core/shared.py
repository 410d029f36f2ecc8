# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything outside accounts and owners as rows, and back: operator, oracle, markets, vaults, assets, counters.

The same rows are the snapshot's and what `digest` commits to in every epoch. Rows follow the
`__slots__` named here, in this order, so that a field can be added in one place. What can be rebuilt
from them (books, holders, risk arrays) is not here.
"""

import hashlib
from typing import Any

import msgspec

from clearing.core.arrays import rebuild
from clearing.core.state import ExpiryState, Forced, NonceWindow, State, Trigger
from clearing.core.vaults import EpochRoot, Escape, VaultState
from clearing.model.codec import encode
from clearing.model.commands import EscapeLeaf, PlaceTrigger, Surface
from clearing.model.params import Instrument, Params, Underlying

_INSTRUMENT = (
    "index", "mark", "last", "index_time", "ema", "ema_us", "settle", "halted", "breaker", "impact_us",
    "impact_basis", "imf", "mmf", "free_lots", "funding_index", "funding_carry", "funding_time",
    "premium_sum", "premium_count", "high", "low",
)  # fmt: skip
_UNDERLYING = (
    "index", "confidence", "index_time", "twap", "array_us", "factor_ppm", "adapt_us", "adapt_index",
)  # fmt: skip
_FORCED = ("vault", "index", "kind", "asset", "amount", "paid")
_EXPIRY = (
    "forward", "forward_confidence", "rate", "rate_confidence", "vol_confidence", "time_us", "twap_us", "window_us",
    "price",
)  # fmt: skip
_TRIGGER = (
    "instrument", "side", "trigger", "above", "price", "lots", "client_order_id", "kind", "reduce_only", "oco",
    "expiry_us",
)  # fmt: skip


def nonces(window: NonceWindow) -> tuple[int, bytes]:
    return window.high, window.bits.to_bytes((window.bits.bit_length() + 7) // 8, "big")


def window_of(row: Any) -> NonceWindow:
    return NonceWindow(row[0], int.from_bytes(row[1], "big"))


def wide(value: int) -> bytes:
    """Integers that may pass 64 bits, as 16 signed bytes."""
    return value.to_bytes(16, "big", signed=True)


def narrow(data: bytes) -> int:
    return int.from_bytes(data, "big", signed=True)


def _read(thing: object, names: tuple[str, ...]) -> list[Any]:
    return [getattr(thing, name) for name in names]


def _write(thing: object, names: tuple[str, ...], values: list[Any]) -> None:
    for name, value in zip(names, values, strict=True):
        setattr(thing, name, value)


def _publisher_rows(state: State) -> list[Any]:
    return [
        (
            p.key,
            p.head,
            p.time_us,
            [(i, *p.prices[i]) for i in sorted(p.prices)],
            [p.surfaces[key] for key in sorted(p.surfaces)],
        )
        for p in state.publishers
    ]


def _underlying_rows(state: State) -> list[Any]:
    return [
        (
            under.spec,
            _read(under, _UNDERLYING),
            wide(under.variance),
            [(e.expiry_us, _read(e, _EXPIRY), wide(e.twap_sum)) for e in under.expiries.values()],
            list(under.vols.items()),
        )
        for under in state.underlyings.values()
    ]


def _forced(fields: list[Any]) -> Forced:
    vault, index, kind, asset, amount, paid = fields
    found = Forced(vault, index, kind, asset, amount, 0)
    found.paid = list(paid)
    return found


def _trigger_row(trigger: Trigger) -> tuple[Any, ...]:
    return (trigger.order_id, trigger.account.number, _read(trigger, _TRIGGER))


def _vault_row(vault: VaultState) -> tuple[Any, ...]:
    return (
        vault.inbox_count,
        vault.inbox_hash,
        vault.frozen,
        vault.settled,
        vault.next_index,
        vault.roots,
        vault.ignored,
        _escape_row(vault.escape) if vault.escape is not None else None,
    )


def _escape_row(escape: Escape) -> tuple[Any, ...]:
    refunds = [(owner, asset, wide(amount)) for (owner, asset), amount in escape.refunds.items()]
    return (escape.leaves, escape.inbox_count, escape.inbox_hash, refunds)


def _restore_vault(vault: VaultState, row: Any) -> None:
    vault.inbox_count, vault.inbox_hash, vault.frozen, vault.settled, vault.next_index = row[:5]
    vault.roots = [EpochRoot(epoch, root, tuple(sums), *inbox) for epoch, root, sums, *inbox in row[5]]
    vault.ignored = list(row[6])
    if row[7] is not None:
        leaves, count, rolled, refunds = row[7]
        escape = Escape(vault.new_tree(), EpochRoot(0, b"", (), count, rolled))
        escape.add(tuple(msgspec.convert(leaf, EscapeLeaf) for leaf in leaves))
        escape.refunds = {(owner, asset): narrow(amount) for owner, asset, amount in refunds}
        vault.escape = escape


def rows(state: State) -> tuple[Any, ...]:
    """Everything outside accounts and owners, in a fixed order."""
    return (
        state.operator_key,
        state.operator_address,
        nonces(state.operator_nonces),
        _publisher_rows(state),
        state.params,
        state.pending,
        _underlying_rows(state),
        [(i.spec, _read(i, _INSTRUMENT), [t.order_id for t in i.fired]) for i in state.instruments.values()],
        [_trigger_row(trigger) for trigger in state.triggers.values()],
        state.cancel_alls,
        [state.time_us, state.next_order_id, state.next_rank, state.portfolios],
        [_vault_row(vault) for vault in state.vaults],
        [wide(value) for value in state.user_exits],
        [(wide(asset.held), wide(asset.deposited)) for asset in state.assets],
        list(state.auctions),
        [state.epoch, state.haircut, state.coupled, state.split],
        state.cuts,
        [(number, [_read(one, _FORCED) for one in waiting]) for number, waiting in state.forced.items()],
        [state.approvals, state.winding, state.final_epoch],
    )


def digest(state: State) -> bytes:
    """SHA-256 that commits to genesis and to `rows` (32 bytes)."""
    return hashlib.sha256(b"novate/globals/v3\n" + encode((state.genesis, rows(state)))).digest()


def restore_before(state: State, row: Any) -> None:
    """What accounts refer to: parameters, underlyings, instruments, assets. The rest follows them."""
    state.operator_key, state.operator_address = row[0], row[1]
    state.operator_nonces = window_of(row[2])
    for publisher, (key, head, time_us, prices, surfaces) in zip(state.publishers, row[3], strict=True):
        publisher.key, publisher.head, publisher.time_us = key, head, time_us
        publisher.prices = {under: (price, confidence, then) for under, price, confidence, then in prices}
        votes = [(msgspec.convert(vote, Surface), then) for vote, then in surfaces]
        publisher.surfaces = {(vote.underlying, vote.expiry_us): (vote, then) for vote, then in votes}
    state.params = msgspec.convert(row[4], Params)
    state.pending = (msgspec.convert(row[5][0], Params), row[5][1]) if row[5] is not None else None
    _restore_markets(state, row[6], row[7])
    state.time_us, state.next_order_id, state.next_rank, state.portfolios = row[10]
    for vault, fields in zip(state.vaults, row[11], strict=True):
        _restore_vault(vault, fields)
    state.user_exits = [narrow(value) for value in row[12]]
    for asset, (held, deposited) in zip(state.assets, row[13], strict=True):
        asset.held, asset.deposited = narrow(held), narrow(deposited)
    state.cancel_alls = [(then, number) for then, number in row[9]]
    state.epoch, state.haircut, state.coupled = row[15][:3]
    state.split = tuple(row[15][3])
    state.cuts = [(tranche, number, held, share) for tranche, number, held, share in row[16]]
    state.forced = {number: [_forced(fields) for fields in waiting] for number, waiting in row[17]}
    state.approvals, state.winding, state.final_epoch = list(row[18][0]), row[18][1], row[18][2]


def _restore_markets(state: State, underlyings: Any, instruments: Any) -> None:
    specs = [(msgspec.convert(spec, Underlying), *rest) for spec, *rest in underlyings]
    state.furnish([spec for spec, *_ in specs], [msgspec.convert(row[0], Instrument) for row in instruments])
    for spec, values, variance, expiries, vols in specs:
        under = state.underlyings[spec.id]
        _write(under, _UNDERLYING, values)
        under.variance = narrow(variance)
        under.vols = dict(vols)
        for expiry_us, fields, twap_sum in expiries:
            # In the order of the rows, which is not that of the instruments left when the first of an expiry is gone.
            expiry = under.expiries.pop(expiry_us, None) or ExpiryState(expiry_us)
            under.expiries[expiry_us] = expiry
            _write(expiry, _EXPIRY, fields)
            expiry.twap_sum = narrow(twap_sum)
    for inst, (_, values, _) in zip(state.instruments.values(), instruments, strict=True):
        _write(inst, _INSTRUMENT, values)
    for under in state.underlyings.values():
        rebuild(state, under)


def restore_after(state: State, row: Any) -> None:
    """What refers to accounts: triggers, the queues of fired ones, auctions."""
    fired = dict.fromkeys(order_id for _, _, ids in row[7] for order_id in ids)
    for order_id, number, fields in row[8]:
        account = state.accounts[number]
        trigger = Trigger(order_id, account, PlaceTrigger(*fields))
        state.triggers[order_id] = account.triggers[trigger.client_order_id] = trigger
        if trigger.oco in account.orders:
            account.orders[trigger.oco].oco = trigger.client_order_id
        if trigger.expiry_us:
            state.expiries.append((trigger.expiry_us, order_id))
        if order_id not in fired:
            inst = state.instruments[trigger.instrument]
            (inst.above if trigger.above else inst.below).append((trigger.trigger, order_id))
    state.expiries.sort()
    for inst, (_, _, ids) in zip(state.instruments.values(), row[7], strict=True):
        inst.fired = [state.triggers[order_id] for order_id in ids]
        inst.above.sort()
        inst.below.sort(key=lambda item: (-item[0], item[1]))
    state.auctions = {number: state.accounts[number] for number in row[14]}
