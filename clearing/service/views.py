# SPDX-License-Identifier: GPL-3.0-or-later
"""State, receipts and records as JSON values.

Rules: bytes are 0x-hexadecimal; integers past 2^53 are decimal strings, since JavaScript would round
them; structs carry their type's name. Functions that read the state expect its lock to be held.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from clearing.core import assets, borrowing
from clearing.core import auction as auctions
from clearing.core.book import Order
from clearing.core.margin import assess, headroom
from clearing.core.state import Account, AssetState, InstrumentState, Owner, State, Trigger
from clearing.core.vaults import VaultState
from clearing.model import ids
from clearing.model.codec import encode
from clearing.model.outcomes import Rejected
from clearing.model.params import params_hash
from clearing.service.epochs import EpochRecord
from clearing.service.pipeline import Receipt

_SAFE = 2**53


def plain(value: Any) -> Any:
    """A value for JSON, by the rules above."""
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return value
    if isinstance(value, int):
        return value if -_SAFE <= value <= _SAFE else str(value)
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if isinstance(value, msgspec.Struct):
        fields = {name: plain(getattr(value, name)) for name in value.__struct_fields__}
        return {"type": type(value).__name__} | fields
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return [plain(item) for item in value]


def receipt(found: Receipt) -> dict[str, Any]:
    """What a submitter gets back. The inclusion proof is a request of its own: GET /v1/receipts/{seq}."""
    checkpoint = found.checkpoint
    return {
        "seq": found.seq,
        "time_us": found.time_us,
        "entry_hash": plain(found.entry_hash),
        "rejected": [plain(outcome) for outcome in found.outcomes if isinstance(outcome, Rejected)],
        "outcomes": plain(found.outcomes),
        "checkpoint": {"size": checkpoint.size, "root": plain(checkpoint.root), "note": checkpoint.note},
    }


def _order(order: Order) -> dict[str, Any]:
    return {
        "order_id": order.order_id,
        "client_order_id": plain(order.client_order_id),
        "instrument": order.slot.inst.id,
        "side": "buy" if order.side == ids.BUY else "sell",
        "price_atoms": order.price,
        "open_lots": order.open_lots,
        "expiry_us": plain(order.expiry_us),
    }


def _trigger(trigger: Trigger) -> dict[str, Any]:
    return {
        "order_id": trigger.order_id,
        "client_order_id": plain(trigger.client_order_id),
        "instrument": trigger.instrument,
        "side": "buy" if trigger.side == ids.BUY else "sell",
        "kind": "market" if trigger.kind == ids.MARKET else "limit",
        "when": "or above" if trigger.above else "or below",
        "trigger_atoms": trigger.trigger,
        "price_atoms": trigger.price,
        "size_lots": trigger.lots,
        "oco": plain(trigger.oco),
    }


def auction(found: Account) -> dict[str, Any]:
    """A book on offer: its marked value at the start (atoms), and now: its positions, and what a bid for all of it
    would pay (atoms; negative: be paid), which falls with time."""
    assert found.auction is not None
    held = [slot for slot in found.slots.values() if slot.size]
    venue = held[0].inst.venue if held else None
    pay = auctions.quote(venue, found, ids.PPM, venue.time_us).pay if venue is not None else 0
    positions = [{"instrument": s.inst.id, "symbol": s.inst.spec.symbol, "size_lots": s.size} for s in held]
    return {
        "account": found.number,
        "start_us": plain(found.auction.start_us),
        "value_atoms": plain(found.auction.value),
        "pay_atoms": plain(pay),
        "positions": positions,
    }


def params(state: State) -> dict[str, Any]:
    """The governed parameters; `raw` is the msgpack of [params, instruments], whose hash is committed."""
    pending = state.pending
    return {
        "version": state.params.version,
        "params_hash": plain(params_hash(state.params, state.specs())),
        "raw": plain(encode((state.params, state.specs()))),
        "pending": {"version": pending[0].version, "effective_us": plain(pending[1])} if pending else None,
    }


def _place(found: AssetState) -> dict[str, int]:
    first = found.venue.vaults[found.vault].first_lane
    return {"lane": found.lane, "vault": found.vault, "asset": found.lane - first}


def asset(found: AssetState) -> dict[str, Any]:
    """A lane: an asset of a vault; `price_atoms` are settlement atoms per unit at the index, 0 without a price."""
    spec = found.spec
    return _place(found) | {
        "symbol": spec.symbol,
        "unit_atoms": plain(spec.unit_atoms),
        "held_atoms": plain(found.held),
        "cap_atoms": plain(spec.cap_atoms),
        "price_atoms": plain(assets.value_of(found, spec.unit_atoms)),
        "maintenance_haircut_ppm": spec.maintenance_haircut_ppm,
        "initial_weight_ppm": spec.initial_weight_ppm,
        "fresh": found.settlement or assets.fresh(found, found.venue.time_us),
    }


def account(found: Account) -> dict[str, Any]:
    """Balances, margin, positions and open orders."""
    equity, initial, maintenance = assess(found)
    positions = [
        {"instrument": slot.inst.id, "symbol": slot.inst.spec.symbol, "size_lots": slot.size}
        | {"entry_cost_atoms": plain(slot.entry_cost), "mark_atoms": slot.inst.mark}
        for slot in found.slots.values()
        if slot.size
    ]
    return {
        "account": found.number,
        "owner": plain(found.owner.address),
        "sub": found.sub,
        "cash_atoms": plain(found.cash),
        "equity_atoms": plain(equity),
        "margin_initial_atoms": plain(initial),
        "margin_maintenance_atoms": plain(maintenance),
        "free_atoms": plain(headroom(found)),
        "maker_ppm": found.maker_ppm,
        "taker_ppm": found.taker_ppm,
        "mode": "portfolio" if found.mode == ids.PORTFOLIO else "standard",
        "pledged_atoms": plain(found.pledged),
        "pledge_us": plain(found.pledge_us),
        "debt_atoms": plain(borrowing.debt(found)),
        "auction": found.auction is not None,
        "holdings": [
            _place(held.asset)
            | {"symbol": held.asset.spec.symbol, "amount_atoms": plain(held.amount)}
            | {"value_atoms": plain(assets.value_of(held.asset, held.amount))}
            for lane, held in found.holdings.items()
        ],
        "positions": positions,
        "triggers": [_trigger(trigger) for trigger in found.triggers.values()],
        "orders": [_order(order) for order in found.orders.values()],
    }


def owner(found: Owner) -> dict[str, Any]:
    """Accounts, session keys, and the exits of the last closed epoch, by lane; `leaves`: per vault the index of the
    exit leaf, null where nothing was owed yet."""
    keys = [
        {"key": plain(key.key), "scope": key.scope, "expiry_us": plain(key.expiry_us), "revoked": key.revoked}
        | {"nonce": plain(key.nonces.high)}
        for key in found.keys.values()
    ]
    return {
        "owner": plain(found.address),
        "leaf_index": found.leaves[0],
        "leaves": [index if index >= 0 else None for index in found.leaves],
        "accounts": [{"account": a.number, "sub": a.sub} for a in found.accounts],
        "keys": keys,
        "nonce": plain(found.nonces.high),
        "exits_atoms": plain(found.exits),
        "withdraw_acks_atoms": plain(found.acks),
    }


def instrument(inst: InstrumentState) -> dict[str, Any]:
    """Specification and prices."""
    prices = {
        "index_atoms": inst.index,
        "mark_atoms": inst.mark,
        "index_time_us": plain(inst.index_time),
        "last_atoms": inst.last,
        "halted": inst.halted,
        "breaker": inst.breaker,
        "funding_atoms_per_lot": plain(inst.funding_index),
        "open_interest_lots": inst.open_interest,
        "best_bid_atoms": inst.book.best(ids.BUY),
        "best_ask_atoms": inst.book.best(ids.SELL),
    }
    fields = {name: plain(getattr(inst.spec, name)) for name in inst.spec.__struct_fields__}
    return fields | prices


def _levels(inst: InstrumentState, side: int, depth: int) -> list[dict[str, int]]:
    found = []
    levels = inst.book.sides[side]
    for key in reversed(levels.keys[-depth:]):
        lots = count = 0
        order = levels.levels[key].head
        while order is not None:
            lots, count, order = lots + order.open_lots, count + 1, order.next
        found.append({"price_atoms": abs(key), "size_lots": lots, "orders": count})
    return found


def book(inst: InstrumentState, depth: int) -> dict[str, Any]:
    """The best `depth` levels of both sides."""
    return {
        "instrument": inst.id,
        "bids": _levels(inst, ids.BUY, depth),
        "asks": _levels(inst, ids.SELL, depth),
    }


def vault(found: VaultState) -> dict[str, Any]:
    """A vault of genesis as the journal knows it. `frozen`: the escape epoch once it is frozen."""
    return {
        "vault": found.number,
        "chain_id": found.spec.chain_id,
        "address": plain(found.spec.address),
        "inbox_count": found.inbox_count,
        "frozen": found.frozen,
        "escape_settled": found.settled,
    }


def header(record: EpochRecord, vault: int, posted: bool) -> dict[str, Any]:
    """A vault's header of a closed epoch, and the chunks that it commits to."""
    part = record.part(vault)
    return {
        "vault": vault,
        "header": plain(part.header),
        "header_hash": plain(part.header_hash),
        "chunk_hashes": plain(part.chunk_hashes),
        "posted": posted,
    }


def epoch(record: EpochRecord, posted: Sequence[int]) -> dict[str, Any]:
    """A closed epoch: commitment, and per live vault header bytes and chunk hashes. `posted`: the last epoch that
    each vault holds."""
    headers = [header(record, number, record.epoch <= posted[number]) for number in record.live()]
    return {
        "epoch": record.epoch,
        "posted": all(row["posted"] for row in headers),
        "journal_size": record.snapshot_seq,
        "journal_root": plain(record.journal_root),
        "headers": headers,
        "outcome": plain(record.outcome),
    }


def status(state: State) -> dict[str, Any]:
    """The venue's counters."""
    return {
        "deployment": plain(state.deployment),
        "origin": state.genesis.origin,
        "operator_key": plain(state.operator_key),
        "operator_address": plain(state.operator_address),
        "publishers": [{"key": plain(p.key), "head": plain(p.head), "time_us": p.time_us} for p in state.publishers],
        "time_us": plain(state.time_us),
        "accounts": len(state.accounts),
        "open_orders": len(state.orders),
        "open_interest_lots": plain(sum(inst.open_interest for inst in state.instruments.values())),
        "epoch": state.epoch,
        "inbox_count": sum(vault.inbox_count for vault in state.vaults),
        "vaults": [vault(found) for found in state.vaults],
        "holdings_atoms": plain(state.holdings),
        "assets": [asset(found) for found in state.assets],
        "haircut": plain(state.haircut),
    }
