# SPDX-License-Identifier: GPL-3.0-or-later
"""A frozen vault: what it pays out by itself is debited here, before anything else is paid from the others.

Rules:
- A vault that froze pays, for good and without us, what its escape header says: to each owner exit + withdraw_ack of
  that header in all, and back to their senders the deposits that came after it. Withdrawals acknowledged after the
  escape header are void there. The reducer does not see the chain: whether the vault froze, and at which epoch, the
  operator says and every watcher checks.
- The header's leaves and the deposits are collected in bounded steps and believed only as a whole: the leaves when they
  give the root and sums that the epoch committed to, the messages when they roll from that epoch's hash to the hash of
  all that was consumed. Otherwise SettleEscape is refused; a command without leaves or without messages throws away
  what was collected of its kind, to start again.
- Each owner is then debited, per asset of the vault, exit + withdraw_ack of the header - withdraw_ack now + deposits
  refunded: void withdrawals come back by that. Over all owners this is what the vault held, to the atom; the vault is
  empty afterwards.
- The settlement asset is taken from the owner's accounts as far as their claims are positive, in the order of opening,
  and the rest from the first one, whose deficit then is handled like any other. (One account must not keep what
  another was paid out for.) Of the house, fees go first and the insurance fund last.
- Collateral is taken where the owner has it. What they no longer have (it was seized or lost) they pay at the index
  price, rounded up; what they hold beyond it will not be paid by the vault, and is credited at that price, rounded
  down. The difference is the insurance fund's. Without a price an asset is worth nothing here.
- One entry debits everyone, so it says sums only: no MarginChanged, no InterestCharged (interest since the last charge
  is waived for those who are debited). Who owes how much follows from the leaves in the journal.

An envelope of 8,192 bytes holds LEAVES_PER_COMMAND leaves or DEPOSITS_PER_COMMAND messages, whatever they say, so that
no batch needs another limit: 10,000 owners of a vault with four assets take some 130 entries.
"""

from collections.abc import Iterator

from clearing.core import assets, inbox
from clearing.core.borrowing import renew
from clearing.core.collateral import hold
from clearing.core.margin import equity
from clearing.core.state import Account, Owner, State
from clearing.core.vaults import EpochRoot, Escape, VaultState
from clearing.model import ids
from clearing.model.commands import EscapeDeposits, EscapeLeaf, EscapeLeaves, FreezeVault, SettleEscape
from clearing.model.errors import InvariantViolation
from clearing.model.outcomes import EscapeSettled, VaultFrozen
from proofs.errors import ProofError

# What surely fits; how many more do is for the sender to count.
LEAVES_PER_COMMAND = 78
DEPOSITS_PER_COMMAND = 89
# Who of the house pays first: fees stand for nobody's losses, the insurance fund for everybody's.
_HOUSE_ORDER = (ids.FEES, ids.OPERATOR_CAPITAL, ids.INSURANCE_FUND)


# --- freeze and collect ------------------------------------------------------------------------


def freeze(state: State, command: FreezeVault) -> str:
    """Nothing goes in or out through this vault any more."""
    if not 0 <= command.vault < len(state.vaults):
        return "UNKNOWN_ASSET"
    vault = state.vaults[command.vault]
    if not vault.live:
        return "VAULT_FROZEN"
    root = vault.root_of(command.epoch)
    if root is None:
        return "EPOCH_OUT_OF_ORDER"
    vault.frozen = command.epoch
    vault.escape = Escape(vault.new_tree(), root)
    state.out.append(VaultFrozen(vault.number, command.epoch))
    return ""


def _open(state: State, number: int) -> tuple[VaultState, Escape, EpochRoot] | str:
    """The vault whose escape is being collected with its escape header's roots, or why there is none."""
    if not 0 <= number < len(state.vaults):
        return "UNKNOWN_ASSET"
    vault = state.vaults[number]
    root = vault.root_of(vault.frozen) if vault.frozen is not None else None
    if vault.escape is None or root is None:
        return "VAULT_FROZEN" if vault.settled else "NOT_FROZEN"
    return vault, vault.escape, root


def take_leaves(state: State, command: EscapeLeaves) -> str:
    """The next leaves of the escape header, all of them or none."""
    found = _open(state, command.vault)
    if isinstance(found, str):
        return found
    vault, escape, _ = found
    if not command.leaves:
        escape.tree, escape.leaves = vault.new_tree(), []
        return ""
    after = vault.escape_next
    for leaf in command.leaves:
        owner = state.owners.get(leaf.owner)
        if leaf.index < after or owner is None or owner.leaves[vault.number] != leaf.index:
            return "ESCAPE_MISMATCH"
        after = leaf.index + 1
    try:
        escape.add(command.leaves)
    except ProofError:
        return "INVALID_FIELD"
    return ""


def take_deposits(state: State, command: EscapeDeposits) -> str:
    """The next messages after the escape header, all of them or none."""
    found = _open(state, command.vault)
    if isinstance(found, str):
        return found
    vault, escape, root = found
    messages = command.messages
    if not messages:
        escape.inbox_count, escape.inbox_hash, escape.refunds = root.inbox_count, root.inbox_hash, {}
        return ""
    if not all(inbox.well_formed(message) for message in messages):
        return "INVALID_FIELD"
    if escape.inbox_count + len(messages) > vault.inbox_count:
        return "ESCAPE_MISMATCH"
    if any(m.vault != vault.number or m.index != escape.inbox_count + at for at, m in enumerate(messages)):
        return "INBOX_OUT_OF_ORDER"
    for message in messages:
        escape.inbox_hash = inbox.roll(escape.inbox_hash, message)
        escape.inbox_count += 1
        # What nobody was credited, nobody is debited.
        if message.kind == ids.INBOX_DEPOSIT and message.index not in vault.ignored:
            key = message.owner, message.asset
            escape.refunds[key] = escape.refunds.get(key, 0) + message.amount_atoms
    return ""


# --- settle ------------------------------------------------------------------------------------


def settle(state: State, command: SettleEscape) -> str:
    """Debit everything that the frozen vault pays out, and close its books."""
    found = _open(state, command.vault)
    if isinstance(found, str):
        return found
    vault, escape, root = found
    if not _complete(vault, escape, root):
        return "ESCAPE_MISMATCH"
    held = tuple(asset.held for asset in vault.assets(state))
    debts = dict(_debts(state, vault, escape))
    _check_total(vault, debts, held)
    for number, amounts in debts.items():
        owner = state.owners[number]
        for account in owner.accounts:
            account.interest_us = 0
        for lane, amount in zip(vault.every_lane, amounts, strict=True):
            if state.assets[lane].settlement:
                _charge(state, owner, amount)
    for lane in vault.every_lane:
        if not state.assets[lane].settlement:
            _take_collateral(state, lane, {n: amounts[lane - vault.first_lane] for n, amounts in debts.items()})
    _empty(state, vault)
    for address in debts:
        for account in state.owners[address].accounts:
            renew(state, account)
    state.out.append(EscapeSettled(vault.number, root.epoch, len(debts), held))
    return ""


def _complete(vault: VaultState, escape: Escape, root: EpochRoot) -> bool:
    tree = (escape.tree.root, escape.tree.sums)
    consumed = (escape.inbox_count, escape.inbox_hash)
    return tree == (root.exit_root, root.exit_sums) and consumed == (vault.inbox_count, vault.inbox_hash)


def _debts(state: State, vault: VaultState, escape: Escape) -> Iterator[tuple[bytes, tuple[int, ...]]]:
    """By owner: what the vault pays beyond what was taken out of their accounts already, per asset; may be negative.
    Only owners for whom there is something to do: a debt, or collateral in a lane of this vault."""
    leaves: dict[bytes, EscapeLeaf] = {leaf.owner: leaf for leaf in escape.leaves}
    lanes = vault.every_lane
    for address, owner in state.owners.items():
        leaf = leaves.get(address)
        amounts = []
        for at, lane in enumerate(lanes):
            paid = leaf.exits[at] + leaf.acks[at] if leaf is not None else 0
            amounts.append(paid + escape.refunds.get((address, at), 0) - owner.acks[lane])
        if any(amounts) or any(lane in account.holdings for account in owner.accounts for lane in lanes):
            yield address, tuple(amounts)


def _check_total(vault: VaultState, debts: dict[bytes, tuple[int, ...]], held: tuple[int, ...]) -> None:
    """What is debited over all owners is what lies in the vault."""
    total = tuple(sum(amounts[at] for amounts in debts.values()) for at in range(vault.lanes))
    if total != held:
        raise InvariantViolation(
            "MONEY_NOT_CONSERVED",
            f"vault {vault.number} holds {held} atoms, its escape debits {total}; stop and replay",
        )


def _in_order(state: State, owner: Owner) -> list[Account]:
    """The accounts as they are charged; the last resort is the first of a member and the fund of the house."""
    if not owner.number:
        return [state.accounts[number] for number in _HOUSE_ORDER]
    return owner.accounts


def _charge(state: State, owner: Owner, amount: int) -> None:
    """Take settlement atoms from an owner's accounts, or (negative) give them."""
    accounts = _in_order(state, owner)
    last = accounts[0] if owner.number else accounts[-1]
    left = amount
    for account in accounts:
        taken = min(left, max(0, equity(account)))
        if taken > 0:
            _pay(state, account, -taken)
            left -= taken
    if left:
        _pay(state, last, -left)


def _pay(state: State, account: Account, amount: int) -> None:
    """Cash with its basis: neither a gain nor a loss. The leaf is renewed by the next epoch."""
    account.cash += amount
    account.basis += amount
    state.dirty[account.number] = account


def _take_collateral(state: State, lane: int, debts: dict[bytes, int]) -> None:
    """Clear a collateral lane: every holding of it goes, and cash makes good for what differs from the debts."""
    asset = state.assets[lane]
    above, below = assets.rate(asset)
    balance = 0
    for address, debt in debts.items():
        owner, left = state.owners[address], debt
        for account in owner.accounts:
            held = account.holdings.get(lane)
            if held is None:
                continue
            amount = held.amount
            hold(state, account, lane, -amount)
            del state.touched[account.number]  # no outcome of its own, see the module
            state.dirty[account.number] = account
            kept = min(amount, max(0, left))
            left -= kept
            credit = (amount - kept) * above // below
            _pay(state, account, credit)
            balance -= credit
        value = -(-left * above // below)
        _charge(state, owner, value)
        balance += value
    _pay(state, state.accounts[ids.INSURANCE_FUND], balance)


def _empty(state: State, vault: VaultState) -> None:
    """Close the vault's books: it owes nothing here any more, and what it pays is no concern of ours."""
    for owner in state.owners.values():
        owner.leaves[vault.number] = -1
        owner.posted[vault.number] = None
        for lane in vault.every_lane:
            owner.exits[lane] = owner.acks[lane] = 0
    for lane in vault.every_lane:
        asset = state.assets[lane]
        asset.held = asset.deposited = state.user_exits[lane] = 0
    vault.exit_tree = vault.new_tree()
    vault.diff_chunks = []
    vault.roots, vault.ignored, vault.escape = [], [], None
    vault.settled = True
