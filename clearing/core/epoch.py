# SPDX-License-Identifier: GPL-3.0-or-later
"""Epoch close: parameters whose time has come, exits from the wind-down, both trees brought up to date, the
commitment.

Only what changed is rehashed: accounts that were touched, and those that hold positions or collateral, since
prices move; all of them when the parameters changed, which are in every leaf. Invariants are checked before
anything is committed.
"""

import hashlib

from clearing.core import assets
from clearing.core.governance import enact
from clearing.core.invariants import check
from clearing.core.leaves import state_leaf_hash
from clearing.core.margin import assess, equity
from clearing.core.shared import digest
from clearing.core.state import Account, Owner, State
from clearing.core.winddown import Claim, Lane, allocate
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
    enact(state)
    check(state)
    state.epoch = command.epoch
    hash_of_params = params_hash(state.params, state.specs())
    dirty = _accounts_to_renew(state, hash_of_params)
    shortfall = _pay_out(state, dirty)
    failing = _commit_accounts(state, dirty, hash_of_params)
    marks = [(inst.id, inst.mark) for inst in state.instruments.values()]
    indexes = [(under.id, under.index) for under in state.underlyings.values()]
    l1_number, l1_hash = command.l1_blocks[0]
    state.out.append(
        EpochClosed(
            epoch=state.epoch,
            state_root=state.state_tree.root,
            exit_root=state.exit_tree.root,
            exit_sums=tuple(state.exit_tree.sums),
            inbox_count=state.inbox_count,
            inbox_hash=state.inbox_hash,
            marks_hash=hashlib.sha256(b"novate/marks/v2\n" + encode((marks, indexes))).digest(),
            params_hash=hash_of_params,
            diff_hash=diff_hash([hashlib.sha256(chunk).digest() for chunk in state.diff_chunks]),
            globals_hash=digest(state),
            l1_number=l1_number,
            l1_hash=l1_hash,
            shortfall_atoms=shortfall,
            scenarios_hash=_scenarios_hash(state),
            failing_accounts=failing,
        )
    )
    return ""


def _accounts_to_renew(state: State, hash_of_params: bytes) -> list[Account]:
    """Touched accounts, holders of positions and collateral, the house; everyone under new parameters."""
    if hash_of_params != state.committed:
        state.committed = hash_of_params
        return list(state.accounts)
    for inst in state.instruments.values():
        state.dirty.update(inst.holders)
    for asset in state.assets:
        state.dirty.update(asset.holders)
    for account in state.accounts[: ids.HOUSE_ACCOUNTS]:
        state.dirty[account.number] = account
    return [state.dirty[number] for number in sorted(state.dirty)]


def _pay_out(state: State, dirty: list[Account]) -> int:
    """Recompute and commit exits; returns what members' collateral does not cover of their debts, atoms."""
    house = _house(state)
    # Debtors stay dirty from epoch to epoch, so the dirty accounts hold every debt there is.
    owed = sum(max(0, -equity(account)) for account in dirty if account.number >= ids.HOUSE_ACCOUNTS)
    # While the house could pay all debts, nobody's exit depends on another account.
    coupled = owed > house.claim
    if coupled or state.coupled:
        owners = [owner for owner in state.owners.values() if owner.leaf_index]
    else:
        found = {a.owner.leaf_index: a.owner for a in dirty if a.number >= ids.HOUSE_ACCOUNTS}
        owners = [found[index] for index in sorted(found)]
    state.coupled = coupled
    claims = [_claim(state, account) for owner in owners for account in owner.accounts]
    lanes = _lanes(state)
    payouts = allocate(claims, house, lanes)
    state.haircut = payouts.cut
    _commit_exits(state, owners, payouts.users, lanes)
    for claim in claims:
        state.accounts[claim.account].basis = claim.claim
    return payouts.shortfall


def _lanes(state: State) -> list[Lane]:
    """The vault's assets as the wind-down sees them; the settlement asset is the first."""
    others = (Lane(a.held, False, a.spec.order, *assets.rate(a)) for a in state.assets[1:])
    return [Lane(state.holdings, settlement=True, above=1), *others]


def _claim(state: State, account: Account) -> Claim:
    claim = equity(account)
    gain = max(0, min(claim, claim - account.basis))
    return Claim(account.number, claim, gain, account.pledged, _collateral(state, [account]))


def _house(state: State) -> Claim:
    """The house's accounts as one claim."""
    house = state.accounts[: ids.HOUSE_ACCOUNTS]
    return Claim(ids.FEES, sum(equity(account) for account in house), 0, 0, _collateral(state, house))


def _collateral(state: State, accounts: list[Account]) -> tuple[int, ...]:
    """Atoms per lane; empty for accounts without collateral."""
    if not any(account.holdings for account in accounts):
        return ()
    amounts = [0] * state.lanes
    for account in accounts:
        for lane, held in account.holdings.items():
            amounts[lane] += held.amount
    return tuple(amounts)


def _commit_exits(state: State, owners: list[Owner], paid: dict[int, tuple[int, ...]], lanes: list[Lane]) -> None:
    """Write changed exit leaves into the tree and the diff; the house gets what remains of every lane."""
    leaves: list[ExitLeaf] = []
    rows: list[DiffRow] = []
    house = state.owners[state.genesis.treasury]
    every = range(state.lanes)
    for owner in owners:
        owed = tuple(sum(paid[account.number][lane] for account in owner.accounts) for lane in every)
        for lane in every:
            state.user_exits[lane] += owed[lane] - owner.exits[lane]
        _commit_exit(owner, owed, leaves, rows)
    house_rows: list[DiffRow] = []
    rest = tuple(lane.holdings - spent for lane, spent in zip(lanes, state.user_exits, strict=True))
    _commit_exit(house, rest, leaves, house_rows)
    state.exit_tree.update(leaves)
    state.diff_chunks = encode_chunks(state.epoch, state.lanes, house_rows + rows)


def _commit_exit(owner: Owner, exits: tuple[int, ...], leaves: list[ExitLeaf], rows: list[DiffRow]) -> None:
    acks = tuple(owner.acks)
    if owner.posted == (exits, acks):
        return
    first = not owner.posted
    owner.posted = (exits, acks)
    owner.exits = list(exits)
    leaves.append(ExitLeaf(index=owner.leaf_index, owner=owner.address, exits=exits, withdraw_acks=acks))
    rows.append(DiffRow(owner.leaf_index, owner.address if first else None, exits, acks))


def _scenarios_hash(state: State) -> bytes:
    """Commits to the presets and to every risk array in force (32 bytes; docs/protocol.md)."""
    arrays = [(u.id, u.array_us, u.array.digest) for u in state.underlyings.values() if u.array is not None]
    return hashlib.sha256(b"novate/scenarios/v1\n" + encode((state.params.presets, arrays))).digest()


def _commit_accounts(state: State, dirty: list[Account], hash_of_params: bytes) -> int:
    """Renew state leaves; returns how many members' accounts fail maintenance, so that skipping one shows."""
    leaves = []
    failing = 0
    for account in dirty:
        account.leaf_epoch = state.epoch
        margins = assess(account)
        failing += account.number >= ids.HOUSE_ACCOUNTS and margins[0] < margins[2]
        leaves.append((account.number, state_leaf_hash(state, account, hash_of_params, margins)))
    state.state_tree.update(leaves)
    state.dirty = {account.number: account for account in dirty if account.cash < 0 and equity(account) < 0}
    return failing
