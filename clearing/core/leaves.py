# SPDX-License-Identifier: GPL-3.0-or-later
"""State leaves: the fixed-width commitment to one account. Fields big-endian, no signs: a signed
number is a pair (positive, negative) of which one is zero."""

import hashlib
from struct import Struct

from clearing.core.margin import assess
from clearing.core.state import Account, State

_CASH = Struct(">QQQQIQQ")
_POSITION = Struct(">IQQQQQQ")
_ORDER = Struct(">QQIBQQQQBBB")
_FEES = Struct(">QQI")
_VOLUME = Struct(">QQ")
_KEY = Struct(">33sBQBQ")
_EXTRA = Struct(">BQQQQQQQQQQBI")
_HOLDING = Struct(">BQ")
_TRIGGER = Struct(">QQIBQBQQBBQQ")
_LEAF = Struct(">BB32s20sIH32sQQQQQ32s32s")
_ZERO = bytes(32)
_VERSION = 1


def _pair(value: int) -> tuple[int, int]:
    return (value, 0) if value >= 0 else (0, -value)


def salt(secret: bytes, account: int, epoch: int) -> bytes:
    """Salt of a leaf (32 bytes): a PRF of the owner's registered secret, new at every renewal."""
    preimage = b"novate/salt/v1" + secret + account.to_bytes(4, "big") + epoch.to_bytes(8, "big")
    return hashlib.sha256(preimage).digest()


def _orders_digest(account: Account) -> bytes:
    rows = [
        _ORDER.pack(
            order.order_id,
            order.client_order_id,
            order.slot.inst.id,
            order.side,
            order.price,
            order.open_lots,
            order.rank,
            order.expiry_us,
            order.post_only,
            order.reduce_only,
            order.stp,
        )
        + order.fee_acc.to_bytes(16, "big", signed=True)
        + order.fee_paid.to_bytes(16, "big", signed=True)
        for order in sorted(account.orders.values(), key=lambda order: order.order_id)
    ]
    return hashlib.sha256(b"".join(rows)).digest()


def _owner_part(account: Account) -> list[bytes]:
    """What belongs to the owner is committed with the owner's first account."""
    owner = account.owner
    parts = [
        owner.secret,
        owner.nonces.high.to_bytes(8, "big"),
        owner.nonces.bits.to_bytes(128, "big"),
    ]
    for key in sorted(owner.keys):
        record = owner.keys[key]
        parts.append(
            _KEY.pack(
                record.key,
                record.scope,
                record.expiry_us,
                record.revoked,
                record.nonces.high,
            )
        )
        parts.append(record.nonces.bits.to_bytes(128, "big"))
    return parts


def _extra_part(account: Account) -> bytes:
    """Margin mode, default fund, liquidation, dead man's switch, collateral and triggers."""
    auction = account.auction
    value, maintenance = (auction.value, auction.maintenance) if auction is not None else (0, 0)
    parts = [
        _EXTRA.pack(
            account.mode,
            account.pledged,
            account.pledge_us,
            account.wait_us,
            account.interest_us,
            account.cancel_all_us,
            auction.start_us if auction is not None else 0,
            *_pair(value),
            *_pair(maintenance),
            len(account.holdings),
            len(account.triggers),
        )
    ]
    parts.extend(_HOLDING.pack(lane, account.holdings[lane].amount) for lane in sorted(account.holdings))
    parts.extend(
        _TRIGGER.pack(
            t.order_id, t.client_order_id, t.instrument, t.side, t.trigger, t.above, t.price, t.lots, t.kind,
            t.reduce_only, t.oco, t.expiry_us,
        )
        for t in sorted(account.triggers.values(), key=lambda trigger: trigger.order_id)
    )  # fmt: skip
    return b"".join(parts)


def details(account: Account, params_hash: bytes) -> bytes:
    """SHA-256 over balances, positions by instrument, order digest, what `_extra_part` names, volumes,
    keys, parameters."""
    slots = [account.slots[key] for key in sorted(account.slots)]
    parts = [
        _CASH.pack(
            *_pair(account.cash),
            *_pair(account.basis),
            account.day,
            account.volume_today,
            len(slots),
        )
    ]
    for slot in slots:
        row = (
            slot.inst.id,
            *_pair(slot.size),
            *_pair(slot.entry_cost),
            *_pair(slot.funding),
        )
        parts.append(_POSITION.pack(*row))
    if account.orders:
        parts.append(_orders_digest(account))
    parts.append(_extra_part(account))
    parts.extend(_VOLUME.pack(day, volume) for day, volume in account.volumes)
    if account.owner.accounts[0] is account:
        parts.extend(_owner_part(account))
    parts.append(params_hash)
    return hashlib.sha256(b"".join(parts)).digest()


def state_leaf(
    account: Account, domain: bytes, params_hash: bytes, margins: tuple[int, int, int] | None = None
) -> bytes:
    """Preimage of the account's state leaf (docs/protocol.md), salted for its `leaf_epoch`.

    `margins`: what `assess` says, for callers that have asked already.
    """
    equity, initial, maintenance = margins or assess(account)
    positive, deficit = _pair(equity)
    owner = account.owner
    return _LEAF.pack(
        0,
        _VERSION,
        domain,
        owner.address,
        account.number,
        account.sub,
        salt(owner.secret, account.number, account.leaf_epoch),
        positive,
        deficit,
        initial,
        maintenance,
        0,
        details(account, params_hash),
        _ZERO,
    )


def state_leaf_hash(
    state: State, account: Account, params_hash: bytes, margins: tuple[int, int, int] | None = None
) -> bytes:
    """Leaf hash of an account in the state tree."""
    return hashlib.sha256(state_leaf(account, state.state_tree.domain, params_hash, margins)).digest()
