# SPDX-License-Identifier: GPL-3.0-or-later
"""State as bytes at an epoch's close, and back. A restored state is verified against the epoch's
roots before use: every leaf is rebuilt from what was restored, none is taken on trust.

Valid only directly after an accepted CloseEpoch: then what is committed is what the accounts hold.
"""

from typing import Any

import msgspec

from clearing.core.book import Order
from clearing.core.fees import set_tier
from clearing.core.leaves import state_leaf_hash
from clearing.core.margin import equity
from clearing.core.shared import digest, narrow, nonces, restore_after, restore_before, rows, wide
from clearing.core.state import Account, Auction, Holding, NonceWindow, Owner, SessionKey, Slot, State
from clearing.model import ids
from clearing.model.codec import encode
from clearing.model.commands import Genesis
from clearing.model.errors import NovateError
from clearing.model.outcomes import EpochClosed
from clearing.model.params import params_hash
from proofs.errors import ProofError
from proofs.hashing import state_domain
from proofs.hashtree import StateTree
from proofs.leaf import ExitLeaf

# The payload's rows, as `_owner_row` and the other row functions lay them out. Tuples of known shape decode and free
# faster than lists of anything, and a payload of another shape is refused as a whole.
_Window = tuple[int, bytes]
_Key = tuple[bytes, int, int, bool, _Window]
_OwnerRow = tuple[bytes, _Window, bytes, list[_Key], list[int], list[int], list[int]]
_Volume = tuple[int, int]
_SlotRow = tuple[int, int, bytes, int]
_Extra = tuple[int, int, int, int, int, int, tuple[int, bytes, bytes] | None, list[tuple[int, int]]]
_AccountRow = tuple[int, int, bytes, bytes, int, int, list[_Volume], int, list[_SlotRow], _Extra | None]
_OrderRow = tuple[int, int, int, int, int, int, int, bool, bool, int, int, int, bytes, bytes]
_Payload = tuple[Genesis, list[Any], list[_OwnerRow], list[_AccountRow], list[_OrderRow]]
_decode = msgspec.msgpack.Decoder(_Payload).decode


def new_trees(state: State) -> None:
    """Empty trees of the deployment."""
    for vault in state.vaults:
        vault.exit_tree = vault.new_tree()
    state.state_tree = StateTree(state_domain(state.deployment))


def _owner_row(owner: Owner) -> tuple[Any, ...]:
    keys = [(key.key, key.scope, key.expiry_us, key.revoked, nonces(key.nonces)) for key in owner.keys.values()]
    return (
        owner.address,
        nonces(owner.nonces),
        owner.secret,
        keys,
        owner.exits,
        owner.acks,
        owner.leaves,
    )


def _account_row(account: Account) -> tuple[Any, ...]:
    slots = [(s.inst.id, s.size, wide(s.entry_cost), s.funding) for s in account.slots.values()]
    return (
        account.owner.number,
        account.sub,
        wide(account.cash),
        wide(account.basis),
        account.day,
        account.volume_today,
        account.volumes,
        account.leaf_epoch,
        slots,
        _extra_row(account),
    )


def _extra_row(account: Account) -> _Extra | None:
    """What most accounts do not have; None when all of it is as in a new account."""
    auction = account.auction
    row = (
        account.mode,
        account.pledged,
        account.pledge_us,
        account.wait_us,
        account.interest_us,
        account.cancel_all_us,
        (auction.start_us, wide(auction.value), wide(auction.maintenance)) if auction is not None else None,
        [(lane, account.holdings[lane].amount) for lane in sorted(account.holdings)],
    )
    return row if any(row) else None


def _restore_extra(state: State, account: Account, row: _Extra) -> None:
    account.mode, account.pledged, account.pledge_us, account.wait_us = row[:4]
    account.interest_us, account.cancel_all_us = row[4:6]
    if row[6] is not None:
        account.auction = Auction(row[6][0], narrow(row[6][1]), narrow(row[6][2]))
    account.holdings = {lane: Holding(state.assets[lane], amount) for lane, amount in row[7]}
    for lane in account.holdings:
        state.assets[lane].holders[account.number] = account


def _order_row(order: Order) -> tuple[Any, ...]:
    return (
        order.order_id,
        order.account.number,
        order.slot.inst.id,
        order.side,
        order.price,
        order.open_lots,
        order.client_order_id,
        order.post_only,
        order.reduce_only,
        order.stp,
        order.expiry_us,
        order.rank,
        wide(order.fee_acc),
        wide(order.fee_paid),
    )


def dump(state: State) -> bytes:
    """Snapshot payload: msgpack of genesis, globals, owners, accounts, orders."""
    orders = [_order_row(order) for account in state.accounts for order in account.orders.values()]
    return encode(
        (
            state.genesis,
            rows(state),
            [_owner_row(owner) for owner in state.owners.values()],
            [_account_row(account) for account in state.accounts],
            orders,
        )
    )


def _restore_owners(state: State, rows: list[_OwnerRow]) -> list[Owner]:
    owners: list[Owner] = []
    by_address, by_key, from_bytes = state.owners, state.keys, int.from_bytes
    ranges = [(vault.first_lane, vault.first_lane + vault.lanes) for vault in state.vaults]
    for address, (high, bits), secret, keys, exits, acks, leaves in rows:
        window = NonceWindow(high, from_bytes(bits, "big"))
        posted = [
            (tuple(exits[first:after]), tuple(acks[first:after])) if leaf >= 0 else None
            for leaf, (first, after) in zip(leaves, ranges, strict=True)
        ]
        if not len(exits) == len(acks) == state.lanes:
            raise ValueError("an owner has an exit and a counter per lane")
        owner = Owner(address, len(owners), exits, acks, leaves, posted, secret, window)
        for key, scope, expiry_us, revoked, (high, bits) in keys:
            window = NonceWindow(high, from_bytes(bits, "big"))
            record = SessionKey(key, owner, scope, expiry_us, revoked, window)
            owner.keys[key] = by_key[key] = record
        by_address[address] = owner
        owners.append(owner)
    return owners


def _restore_accounts(state: State, rows: list[_AccountRow], owners: list[Owner]) -> None:
    accounts, instruments, from_bytes = (
        state.accounts,
        state.instruments,
        int.from_bytes,
    )
    maker, taker = state.params.fee_tiers[0].maker_ppm, state.params.fee_tiers[0].taker_ppm
    for (
        owner_number,
        sub,
        cash,
        basis,
        day,
        today,
        volumes,
        leaf_epoch,
        slots,
        extra,
    ) in rows:
        owner = owners[owner_number]
        number = len(accounts)
        account = Account(
            number,
            owner,
            sub,
            maker,
            taker,
            from_bytes(cash, "big", signed=True),
            from_bytes(basis, "big", signed=True),
        )
        account.leaf_epoch = leaf_epoch
        if day or today:
            account.day, account.volume_today = day, today
        if volumes:
            account.volumes = volumes
            set_tier(account, state.params)
        for instrument, size, cost, funding in slots:
            inst = instruments[instrument]
            slot = Slot(inst)
            slot.size, slot.entry_cost, slot.funding = size, narrow(cost), funding
            account.slots[instrument] = slot
            if size:
                inst.holders[number] = account
                if size > 0:
                    inst.open_interest += size
            if inst.kind == ids.OPTION:
                account.plain = False
        if extra is not None:
            _restore_extra(state, account, extra)
            account.set_plain()
        accounts.append(account)
        owner.accounts.append(account)


def _restore_orders(state: State, rows: list[_OrderRow]) -> None:
    restored = []
    # By rank, whatever the payload's order: both the queues and the accounts' own lists follow it.
    for row in sorted(rows, key=lambda row: row[11]):
        account = state.accounts[row[1]]
        slot = account.slots[row[2]]
        order = Order(row[0], account, slot, row[3], row[4], row[5])
        order.client_order_id, order.post_only, order.reduce_only, order.stp = row[6:10]
        order.expiry_us, order.rank = row[10], row[11]
        order.fee_acc, order.fee_paid = narrow(row[12]), narrow(row[13])
        account.orders[order.client_order_id] = order
        if order.side == ids.BUY:
            slot.buy_lots += order.open_lots
            slot.buy_cost += order.open_lots * order.price
        else:
            slot.sell_lots += order.open_lots
            slot.sell_cost += order.open_lots * order.price
        restored.append(order)
    for order in restored:
        order.slot.inst.book.sides[order.side].add(order)
        state.orders[order.order_id] = order
    state.expiries = sorted((o.expiry_us, o.order_id) for o in restored if o.expiry_us)


def restore(payload: bytes) -> State:
    """Rebuild a state, unverified. Raises `NovateError` SNAPSHOT_MALFORMED."""
    try:
        genesis, shared, owners, accounts, orders = _decode(payload)
        state = State(genesis)
        new_trees(state)
        restore_before(state, shared)
        _restore_accounts(state, accounts, _restore_owners(state, owners))
        _restore_orders(state, orders)
        restore_after(state, shared)
    except (
        msgspec.MsgspecError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        UnicodeDecodeError,
        ProofError,
    ) as error:
        raise NovateError(
            "SNAPSHOT_MALFORMED",
            f"the snapshot cannot be read ({error}); delete it and replay from genesis",
        ) from None
    state.dirty = {a.number: a for a in state.accounts if a.cash < 0 and equity(a) < 0}
    state.committed = params_hash(state.params, state.specs())
    return state


def rebuild_trees(state: State) -> None:
    """Fill all trees from the accounts and owners as they are."""
    new_trees(state)
    for vault in state.vaults:
        owners = [owner for owner in state.owners.values() if owner.posted[vault.number]]
        vault.exit_tree.update(_leaf(owner, vault.number) for owner in owners)
    hash_of_params = params_hash(state.params, state.specs())
    state.state_tree.update(
        (account.number, state_leaf_hash(state, account, hash_of_params)) for account in state.accounts
    )


def _leaf(owner: Owner, vault: int) -> ExitLeaf:
    exits, acks = owner.posted[vault] or ((), ())
    return ExitLeaf(index=owner.leaves[vault], owner=owner.address, exits=exits, withdraw_acks=acks)


def load(payload: bytes, commitment: EpochClosed) -> State:
    """Restore and verify against an epoch's outcome. Raises `NovateError` SNAPSHOT_MISMATCH."""
    state = restore(payload)
    try:
        rebuild_trees(state)
    except ProofError as error:
        raise NovateError("SNAPSHOT_MALFORMED", f"no tree holds its leaves ({error}); delete it and replay") from None
    mine = [(vault.exit_tree.root, vault.exit_tree.sums) for vault in state.vaults]
    theirs = [(vault.exit_root, vault.exit_sums) for vault in commitment.vaults]
    checks = (
        ("state root", state.state_tree.root == commitment.state_root),
        ("exit root or sums", mine == theirs),
        ("globals hash", digest(state) == commitment.globals_hash),
    )
    for name, fine in checks:
        if not fine:
            raise NovateError(
                "SNAPSHOT_MISMATCH",
                f"{name} differs from epoch {commitment.epoch}; delete it and replay",
            )
    return state
