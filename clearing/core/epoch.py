# SPDX-License-Identifier: GPL-3.0-or-later
"""Epoch close: parameters whose time has come, exits from the wind-down, both trees brought up to date, the
commitment.

Only what changed is rehashed: accounts that were touched, and those that hold positions or collateral, since
prices move; all of them when the parameters changed, which are in every leaf. Invariants are checked before
anything is committed.

Every live vault has its own tree, diff and header fields. The settlement asset is owed from each vault in proportion
to what lies there: while that proportion stays, an account's payouts depend on nothing but itself; when it moves, all
are computed anew. A frozen vault must be settled before an epoch closes, and has no part in it afterwards.
"""

import hashlib
from math import gcd

from clearing.core import assets, vaults
from clearing.core.governance import enact
from clearing.core.invariants import check, check_sums
from clearing.core.leaves import state_leaf_hash
from clearing.core.margin import assess, equity
from clearing.core.shared import digest
from clearing.core.state import Account, Owner, State
from clearing.core.vaults import VaultState
from clearing.core.winddown import Claim, Lane, allocate
from clearing.model import ids
from clearing.model.codec import encode
from clearing.model.commands import CloseEpoch
from clearing.model.outcomes import EpochClosed, VaultEpoch
from clearing.model.params import params_hash
from proofs.diff import DiffRow, diff_hash, encode_chunks
from proofs.leaf import ExitLeaf


def close(state: State, command: CloseEpoch) -> str:
    """Close epoch `command.epoch`, which must be the next."""
    if command.epoch != state.epoch + 1:
        return "EPOCH_OUT_OF_ORDER"
    if vaults.unsettled(state):
        return "ESCAPE_UNSETTLED"
    if not _blocks_fit(state, command.l1_blocks):
        return "INVALID_FIELD"
    enact(state)
    check(state)
    state.epoch = command.epoch
    hash_of_params = params_hash(state.params, state.specs())
    dirty = _accounts_to_renew(state, hash_of_params)
    shortfall = _pay_out(state, dirty)
    check_sums(state)
    failing = _commit_accounts(state, dirty, hash_of_params)
    marks = [(inst.id, inst.mark) for inst in state.instruments.values()]
    indexes = [(under.id, under.index) for under in state.underlyings.values()]
    state.out.append(
        EpochClosed(
            epoch=state.epoch,
            state_root=state.state_tree.root,
            marks_hash=hashlib.sha256(b"novate/marks/v2\n" + encode((marks, indexes))).digest(),
            params_hash=hash_of_params,
            globals_hash=digest(state),
            shortfall_atoms=shortfall,
            scenarios_hash=_scenarios_hash(state),
            failing_accounts=failing,
            vaults=tuple(_vault_epoch(vault, command.l1_blocks[vault.number]) for vault in state.vaults),
        )
    )
    return ""


def _blocks_fit(state: State, blocks: tuple[tuple[int, bytes], ...]) -> bool:
    """A block for every vault; (0, zero) for a frozen one."""
    if len(blocks) != len(state.vaults) or any(len(found) != 32 or number < 0 for number, found in blocks):
        return False
    none = (0, bytes(32))
    return all(vault.live or blocks[vault.number] == none for vault in state.vaults)


def _vault_epoch(vault: VaultState, block: tuple[int, bytes]) -> VaultEpoch:
    return VaultEpoch(
        exit_root=vault.exit_tree.root,
        exit_sums=vault.exit_tree.sums,
        inbox_count=vault.inbox_count,
        inbox_hash=vault.inbox_hash,
        diff_hash=diff_hash([hashlib.sha256(chunk).digest() for chunk in vault.diff_chunks]),
        l1_number=block[0],
        l1_hash=block[1],
        live=vault.live,
    )


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
    house = house_claim(state)
    # Debtors stay dirty from epoch to epoch, so the dirty accounts hold every debt there is.
    owed = sum(max(0, -equity(account)) for account in dirty if account.number >= ids.HOUSE_ACCOUNTS)
    # While the house could pay all debts, nobody's exit depends on another account.
    coupled = owed > house.claim
    split = _split(state)
    if coupled or state.coupled or split != state.split:
        owners = [owner for owner in state.owners.values() if owner.number]
    else:
        found = {a.owner.number: a.owner for a in dirty if a.number >= ids.HOUSE_ACCOUNTS}
        owners = [found[number] for number in sorted(found)]
    state.coupled, state.split = coupled, split
    claims = [claim_of(state, account) for owner in owners for account in owner.accounts]
    lanes = lanes_of(state)
    payouts = allocate(claims, house, lanes)
    state.haircut = payouts.cut
    _commit_exits(state, owners, payouts.users, lanes)
    for claim in claims:
        state.accounts[claim.account].basis = claim.claim
    return payouts.shortfall


def _split(state: State) -> tuple[int, ...]:
    """How the settlement asset lies over the vaults: parts without a common factor."""
    parts = [state.assets[lane].held for lane in state.cash_lanes]
    common = gcd(*parts) or 1
    return tuple(part // common for part in parts)


def lanes_of(state: State) -> list[Lane]:
    """All lanes as the wind-down sees them. (Nothing is left in those of a settled vault.)"""
    return [
        Lane(asset.held, settlement=True, above=1)
        if asset.settlement
        else Lane(asset.held, False, asset.spec.order, *assets.rate(asset))
        for asset in state.assets
    ]


def claim_of(state: State, account: Account) -> Claim:
    """A member's account as the wind-down sees it."""
    claim = equity(account)
    gain = max(0, min(claim, claim - account.basis))
    return Claim(account.number, claim, gain, account.pledged, _collateral(state, [account]))


def house_claim(state: State) -> Claim:
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
    """Write changed exit leaves into trees and diffs; the house gets what remains of every lane."""
    house = state.owners[state.genesis.treasury]
    every = range(state.lanes)
    for owner in owners:
        owed = [sum(paid[account.number][lane] for account in owner.accounts) for lane in every]
        for lane in every:
            state.user_exits[lane] += owed[lane] - owner.exits[lane]
        owner.exits = owed
    house.exits = [lane.holdings - spent for lane, spent in zip(lanes, state.user_exits, strict=True)]
    for vault in state.vaults:
        vault.diff_chunks = []
        if vault.live:
            _commit_vault(vault, [house, *owners], state.epoch)


def _commit_vault(vault: VaultState, owners: list[Owner], epoch: int) -> None:
    """The changed leaves of one vault, with a new one for whoever is owed something there for the first time."""
    number, first, after = vault.number, vault.first_lane, vault.first_lane + vault.lanes
    leaves: list[ExitLeaf] = []
    rows: list[DiffRow] = []
    for owner in owners:
        exits, acks = tuple(owner.exits[first:after]), tuple(owner.acks[first:after])
        before = owner.posted[number]
        if before == (exits, acks) or (before is None and owner.number and not any(exits) and not any(acks)):
            continue
        owner.posted[number] = exits, acks
        index = vault.leaf_of(owner)
        leaves.append(ExitLeaf(index=index, owner=owner.address, exits=exits, withdraw_acks=acks))
        rows.append(DiffRow(index, owner.address if before is None else None, exits, acks))
    rows.sort(key=lambda row: row.index)
    vault.exit_tree.update(leaves)
    vault.diff_chunks = encode_chunks(epoch, vault.lanes, rows)
    vault.remember(epoch)


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
