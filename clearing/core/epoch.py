# SPDX-License-Identifier: GPL-3.0-or-later
"""Epoch close: exits from the wind-down, both trees brought up to date, the commitment.

Only what changed is rehashed: accounts that were touched, and those that hold positions, since
marks move. Invariants are checked before anything is committed.
"""

import hashlib

from clearing.core.invariants import check
from clearing.core.leaves import state_leaf_hash
from clearing.core.margin import equity
from clearing.core.snapshot import globals_digest
from clearing.core.state import Account, Owner, State
from clearing.core.winddown import Claim, allocate
from clearing.model import ids
from clearing.model.codec import encode
from clearing.model.commands import CloseEpoch
from clearing.model.outcomes import EpochClosed
from clearing.model.params import params_hash
from proofs.diff import DiffRow, diff_hash, encode_chunks
from proofs.leaf import ExitLeaf


def close(state: State, command: CloseEpoch) -> str:
    """Close epoch `command.epoch`, which must be the next."""
    if command.epoch != state.epoch + 1:
        return "EPOCH_OUT_OF_ORDER"
    if len(command.l1_blocks) != 1 or len(command.l1_blocks[0][1]) != 32 or command.l1_blocks[0][0] < 0:
        return "INVALID_FIELD"
    check(state)
    state.epoch = command.epoch
    dirty = _accounts_to_renew(state)
    shortfall = _pay_out(state, dirty)
    hash_of_params = params_hash(state.params, state.genesis.instruments)
    _commit_accounts(state, dirty, hash_of_params)
    marks = [(inst.id, inst.mark) for inst in state.instruments.values()]
    l1_number, l1_hash = command.l1_blocks[0]
    state.out.append(
        EpochClosed(
            epoch=state.epoch,
            state_root=state.state_tree.root,
            exit_root=state.exit_tree.root,
            exit_sums=tuple(state.exit_tree.sums),
            inbox_count=state.inbox_count,
            inbox_hash=state.inbox_hash,
            marks_hash=hashlib.sha256(b"novate/marks/v1\n" + encode(marks)).digest(),
            params_hash=hash_of_params,
            diff_hash=diff_hash([hashlib.sha256(chunk).digest() for chunk in state.diff_chunks]),
            globals_hash=globals_digest(state),
            l1_number=l1_number,
            l1_hash=l1_hash,
            shortfall_atoms=shortfall,
        )
    )
    return ""


def _accounts_to_renew(state: State) -> list[Account]:
    """Touched accounts, holders of positions, the house, and all accounts of their owners' leaves."""
    for inst in state.instruments.values():
        for number, account in inst.holders.items():
            state.dirty[number] = account
    for account in state.accounts[: ids.HOUSE_ACCOUNTS]:
        state.dirty[account.number] = account
    return [state.dirty[number] for number in sorted(state.dirty)]


def _pay_out(state: State, dirty: list[Account]) -> int:
    """Recompute and commit exits; returns the users' total deficit U in atoms."""
    house_claim = sum(equity(account) for account in state.accounts[: ids.HOUSE_ACCOUNTS])
    # Debtors stay dirty from epoch to epoch, so the dirty accounts hold every deficit there is.
    owed = sum(max(0, -equity(account)) for account in dirty if account.number >= ids.HOUSE_ACCOUNTS)
    haircut = owed > house_claim
    if haircut or state.haircut:
        owners = [owner for owner in state.owners.values() if owner.leaf_index]
    else:
        found = {a.owner.leaf_index: a.owner for a in dirty if a.number >= ids.HOUSE_ACCOUNTS}
        owners = [found[index] for index in sorted(found)]
    state.haircut = haircut
    claims = [_claim(account) for owner in owners for account in owner.accounts]
    if haircut:
        paid = allocate(claims, house_claim, state.holdings).users
    else:
        paid = {c.account: max(0, c.claim) for c in claims}
    _commit_exits(state, owners, paid)
    for claim in claims:
        state.accounts[claim.account].basis = claim.claim
    return owed


def _claim(account: Account) -> Claim:
    claim = equity(account)
    return Claim(account.number, claim, max(0, min(claim, claim - account.basis)))


def _commit_exits(state: State, owners: list[Owner], paid: dict[int, int]) -> None:
    """Write changed exit leaves into the tree and the diff; the house gets what remains of V."""
    leaves: list[ExitLeaf] = []
    rows: list[DiffRow] = []
    house = state.owners[state.genesis.treasury]
    for owner in owners:
        owed = sum(paid[account.number] for account in owner.accounts)
        state.user_exits += owed - owner.exits[0]
        _commit_exit(state, owner, owed, leaves, rows)
    house_rows: list[DiffRow] = []
    _commit_exit(state, house, state.holdings - state.user_exits, leaves, house_rows)
    state.exit_tree.update(leaves)
    state.diff_chunks = encode_chunks(state.epoch, state.lanes, house_rows + rows)


def _commit_exit(state: State, owner: Owner, owed: int, leaves: list[ExitLeaf], rows: list[DiffRow]) -> None:
    exits, acks = (owed,) + (0,) * (state.lanes - 1), tuple(owner.acks)
    if owner.posted == (exits, acks):
        return
    first = not owner.posted
    owner.posted = (exits, acks)
    owner.exits = list(exits)
    leaves.append(ExitLeaf(index=owner.leaf_index, owner=owner.address, exits=exits, withdraw_acks=acks))
    rows.append(DiffRow(owner.leaf_index, owner.address if first else None, exits, acks))


def _commit_accounts(state: State, dirty: list[Account], hash_of_params: bytes) -> None:
    leaves = []
    for account in dirty:
        account.leaf_epoch = state.epoch
        leaves.append((account.number, state_leaf_hash(state, account, hash_of_params)))
    state.state_tree.update(leaves)
    state.dirty = {account.number: account for account in dirty if account.cash < 0 and equity(account) < 0}
