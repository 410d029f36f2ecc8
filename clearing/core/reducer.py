# SPDX-License-Identifier: GPL-3.0-or-later
"""The fold: one authenticated envelope in, its outcomes out.

Order of an entry:
1. admission, which changes nothing and raises `Refused`: deployment, live key, fresh nonce. What
   fails it never reaches the journal.
2. the nonce is used, and from here on every refusal is a journalled `Rejected`.
3. commands in the order of the envelope; one that is rejected does not stop the others.
4. a MarginChanged for every account whose margin changed, in the order of first touch.

Signatures are checked before (clearing.model.signature), since that needs no state.
"""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Any

from clearing.core import (
    accounts,
    adl,
    auction,
    borrowing,
    closing,
    collateral,
    epoch,
    escape,
    expiry,
    forced,
    funding,
    governance,
    inbox,
    liquidation,
    listing,
    oracle,
    orders,
    triggers,
    waterfall,
)
from clearing.core.accounts import open_account, owner_of
from clearing.core.margin import assess
from clearing.core.risk import kernel_check
from clearing.core.snapshot import new_trees
from clearing.core.state import Account, SessionKey, State
from clearing.model import commands as c
from clearing.model import ids, params
from clearing.model.bounds import validate
from clearing.model.codec import body_hash
from clearing.model.errors import NovateError, Refused
from clearing.model.ids import HOUSE_ACCOUNTS, MAX_COMMANDS_PER_BATCH
from clearing.model.outcomes import (
    GenesisApplied,
    MarginChanged,
    OperatorRotated,
    Outcome,
    PublisherRotated,
    Rejected,
)

RULES_VERSION = 3
# Once per process: the machine does not change under it.
_require_kernel = cache(kernel_check.require)
# Their outcomes can fill an entry, which holds 65,535 bytes.
_STANDS_ALONE = (
    c.CloseEpoch,
    c.Liquidate,
    c.ExpireOrders,
    c.FundingTick,
    c.SettleExpiry,
    c.RunTriggers,
    c.ResolveDeficit,
    c.Deleverage,
    c.ChargeInterest,
    c.ProposeParams,
    c.ProposeLiquidation,
    c.BidAuction,
    c.SetMarginMode,
    c.EscapeLeaves,
    c.EscapeDeposits,
    c.SettleEscape,
    c.RunForced,
    c.RunWindDown,
)
# What goes on in a wind-down.
_ENDS = (
    c.CloseEpoch,
    c.RotateOperator,
    c.StartWindDown,
    c.RunWindDown,
    c.FreezeVault,
    c.EscapeLeaves,
    c.EscapeDeposits,
    c.SettleEscape,
)
# Per command: the scope a session key needs, and who handles it.
_MEMBER_HANDLERS: dict[type, tuple[int, Callable[[State, Account, Any], str]]] = {
    c.PlaceOrder: (ids.SCOPE_TRADE, orders.place),
    c.CancelOrder: (ids.SCOPE_TRADE, orders.cancel),
    c.CancelAll: (ids.SCOPE_TRADE, orders.cancel_all),
    c.ReplaceOrder: (ids.SCOPE_TRADE, orders.replace),
    c.Withdraw: (ids.SCOPE_WITHDRAW, collateral.withdraw),
    c.Transfer: (ids.SCOPE_TRANSFER, collateral.transfer),
    c.PlaceTrigger: (ids.SCOPE_TRADE, triggers.place),
    c.SetMarginMode: (ids.SCOPE_TRADE, accounts.set_margin_mode),
    c.ProposeLiquidation: (ids.SCOPE_TRADE, liquidation.propose),
    c.BidAuction: (ids.SCOPE_TRADE, auction.bid),
    c.PledgeDefaultFund: (ids.SCOPE_TRANSFER, waterfall.pledge),
    c.ScheduleCancelAll: (ids.SCOPE_TRADE, orders.schedule_cancel_all),
}
# What every operator command does; each returns "" or the code of its refusal.
_OPERATOR_HANDLERS: dict[type, Callable[[State, Any], str]] = {
    c.ConsumeInbox: inbox.consume,
    c.FundingTick: funding.tick,
    c.ExpireOrders: orders.expire,
    c.Liquidate: liquidation.liquidate,
    c.CloseEpoch: epoch.close,
    c.HouseTransfer: collateral.house_transfer,
    c.ListInstrument: listing.list_instrument,
    c.DelistInstrument: listing.delist_instrument,
    c.HaltMarket: listing.halt,
    c.SettleExpiry: expiry.settle,
    c.RunTriggers: triggers.run,
    c.ResolveDeficit: waterfall.resolve,
    c.Deleverage: adl.deleverage,
    c.ProposeParams: governance.propose,
    c.ChargeInterest: borrowing.charge,
    c.FreezeVault: escape.freeze,
    c.EscapeLeaves: escape.take_leaves,
    c.EscapeDeposits: escape.take_deposits,
    c.SettleEscape: escape.settle,
    c.RunForced: forced.run,
    c.StartWindDown: closing.start,
    c.RunWindDown: closing.run,
    c.ReleaseHouse: governance.release,
}


def _dead_key(key: SessionKey | None, account: Account) -> Refused:
    """Why a key that is not live for this account is not."""
    if key is None or key.owner is not account.owner or key.revoked:
        return Refused(
            "UNKNOWN_KEY",
            "the key is not registered for this account's owner, or was revoked",
        )
    return Refused(
        "KEY_EXPIRED",
        "the session key has expired; register a new one with the wallet",
    )


class Reducer:
    """Holds the `state` and applies envelopes to it. Deterministic: same input, same bytes."""

    def __init__(self, genesis: c.Genesis | None = None, state: State | None = None) -> None:
        """Raises `NovateError` KERNEL_BITS_DIFFER on a machine that computes other option prices."""
        _require_kernel()
        if state is None:
            if genesis is None:
                raise NovateError("NO_GENESIS", "the first entry of a journal is its genesis")
            state = _from_genesis(genesis)
        self.state = state

    def apply(self, time_us: int, envelope: c.Envelope, body: c.Body) -> list[Outcome]:
        """Fold one envelope whose signature is valid. Returns its outcomes, in order.

        Raises `Refused` (nothing changed) when it is not admitted, `NovateError` TIME_WENT_BACK.
        """
        state = self.state
        if time_us < state.time_us:
            raise NovateError(
                "TIME_WENT_BACK",
                f"{time_us} is before {state.time_us}; entry times never decrease",
            )
        if isinstance(body, c.Genesis):
            return self._genesis(time_us, envelope, body)
        if body.deployment != state.deployment:
            raise Refused(
                "WRONG_DEPLOYMENT",
                "signed for another deployment id; check which venue this is",
            )
        state.out = []
        state.fills_left = state.params.max_fills_per_entry
        if isinstance(body, c.MemberBatch):
            self._member(time_us, envelope, body)
        elif isinstance(body, c.OracleUpdate):
            self._oracle(time_us, envelope, body)
        elif isinstance(body, c.OwnerAction):
            self._owner(time_us, envelope, body)
        else:
            self._operator(time_us, envelope, body)
        return self._settle()

    def _genesis(self, time_us: int, envelope: c.Envelope, body: c.Genesis) -> list[Outcome]:
        state = self.state
        if state.accounts:
            raise Refused("GENESIS_TWICE", "genesis is entry 0 and never comes again")
        if envelope.key != body.operator_key:
            raise Refused("UNKNOWN_KEY", "genesis is signed by the operator key it names")
        if body != state.genesis:
            raise Refused("WRONG_DEPLOYMENT", "not the genesis that this state was opened with")
        state.out = []
        state.time_us = time_us
        owner = owner_of(state, body.treasury)
        for sub in range(ids.HOUSE_ACCOUNTS):
            open_account(state, owner, sub)
        state.out.append(GenesisApplied(body.deployment, params.params_hash(body.params, body.instruments)))
        return state.out

    def _settle(self) -> list[Outcome]:
        """Say what became of every touched account; hand the outcomes out."""
        state = self.state
        if state.touched:
            for account in state.touched.values():
                state.out.append(MarginChanged(account.number, account.cash, *assess(account)))
            state.dirty.update(state.touched)
            state.touched = {}
        return state.out

    # --- members ---

    def _member(self, time_us: int, envelope: c.Envelope, body: c.MemberBatch) -> None:
        state = self.state
        accounts, number, nonce, commands = state.accounts, body.account, body.nonce, body.commands
        if not 0 <= number < len(accounts):
            raise Refused(
                "UNKNOWN_ACCOUNT",
                f"no account {number}; deposit first, then use its number",
            )
        account = accounts[number]
        key = state.keys.get(envelope.key)
        if key is None or key.owner is not account.owner or key.revoked or key.expiry_us <= time_us:
            raise _dead_key(key, account)
        nonces = key.nonces
        if nonce < 0 or not nonces.is_fresh(nonce):
            raise Refused(
                "NONCE_USED",
                f"nonce {nonce} is used or too old; use one above {nonces.high}",
            )
        if not 1 <= len(commands) <= MAX_COMMANDS_PER_BATCH:
            raise Refused(
                "BATCH_SIZE",
                f"a batch holds 1 to {MAX_COMMANDS_PER_BATCH} commands",
            )
        if len(commands) > 1 and any(type(command) in _STANDS_ALONE for command in commands):
            raise Refused("BATCH_SIZE", "a liquidation, a bid and a change of margin mode stand alone in their batch")
        nonces.use(nonce)
        state.time_us = time_us
        state.dirty[number] = account
        if account.sub:  # the key's nonces are committed with the owner's first account
            first = account.owner.accounts[0]
            state.dirty[first.number] = first
        if body.expiry_us < time_us:
            state.out.append(Rejected(0, "COMMAND_EXPIRED"))
            return
        if state.winding:
            state.out.append(Rejected(0, "WINDING_DOWN"))
            return
        scope = key.scope
        if number < HOUSE_ACCOUNTS:  # tranches are locked; fees may only be withdrawn
            scope &= ids.SCOPE_WITHDRAW if number == ids.FEES else 0
        handlers = _MEMBER_HANDLERS
        for index, command in enumerate(commands):
            needed, handler = handlers[type(command)]
            code = handler(state, account, command) if scope & needed else "OUT_OF_SCOPE"
            if code:
                state.out.append(Rejected(index, code))

    # --- publishers, owners, operator ---

    def _oracle(self, time_us: int, envelope: c.Envelope, body: c.OracleUpdate) -> None:
        state = self.state
        if not 0 <= body.publisher < len(state.publishers) or state.publishers[body.publisher].key != envelope.key:
            raise Refused(
                "UNKNOWN_PUBLISHER",
                f"publisher {body.publisher} does not sign with this key",
            )
        publisher = state.publishers[body.publisher]
        digest = body_hash(envelope.body)
        if body.time_us <= publisher.time_us or digest == publisher.head:
            raise Refused(
                "ORACLE_REPLAYED",
                "not newer than the publisher's last update; sign a later time",
            )
        if len(body.prices) > 250 or len(body.surfaces) > 100:  # each may come with a risk array's hashes
            raise Refused("BATCH_SIZE", "an update holds at most 250 prices and 100 surfaces")
        if state.winding:  # positions close at the marks of its start
            raise Refused("WINDING_DOWN", "the venue is winding down; it takes no more prices")
        state.time_us = time_us
        oracle.update(state, body, digest)

    def _owner(self, time_us: int, envelope: c.Envelope, body: c.OwnerAction) -> None:
        state = self.state
        action = body.action
        owner = state.owners.get(action.owner)
        if owner is None or envelope.key[1:] != action.owner:
            raise Refused(
                "UNKNOWN_ACCOUNT",
                "this wallet has no account; deposit into the vault first",
            )
        if action.nonce < 0 or not owner.nonces.is_fresh(action.nonce):
            raise Refused(
                "NONCE_USED",
                f"nonce {action.nonce} is used or too old; use one above {owner.nonces.high}",
            )
        owner.nonces.use(action.nonce)
        state.time_us = time_us
        for account in owner.accounts:  # the salt's secret is in every leaf of the owner
            state.dirty[account.number] = account
        if isinstance(action, c.RegisterKey):
            code = accounts.register(state, owner, action)
        else:
            code = accounts.revoke(state, owner, action)
        if code:
            state.out.append(Rejected(0, code))

    def _operator(self, time_us: int, envelope: c.Envelope, body: c.OperatorBatch) -> None:
        state = self.state
        if envelope.key != state.operator_key:
            raise Refused("UNKNOWN_KEY", "not the operator's current key")
        if body.nonce < 0 or not state.operator_nonces.is_fresh(body.nonce):
            raise Refused(
                "NONCE_USED",
                f"nonce {body.nonce} is used; use one above {state.operator_nonces.high}",
            )
        alone = any(isinstance(command, _STANDS_ALONE) for command in body.commands)
        if not 1 <= len(body.commands) <= (1 if alone else ids.MAX_COMMANDS_PER_BATCH):
            raise Refused(
                "BATCH_SIZE",
                "an operator batch holds 1 to 50 commands; liquidations and ticks stand alone",
            )
        state.operator_nonces.use(body.nonce)
        state.time_us = time_us
        for index, command in enumerate(body.commands):
            code = self._operator_command(command)
            if code:
                state.out.append(Rejected(index, code))

    def _operator_command(self, command: c.OperatorCommand) -> str:
        if self.state.winding and not self._goes_on(command):
            return "WINDING_DOWN"
        if isinstance(command, c.RotateOperator | c.RotatePublisher):
            return self._rotate(command)
        return _OPERATOR_HANDLERS[type(command)](self.state, command)

    def _goes_on(self, command: c.OperatorCommand) -> bool:
        """May this still be done in a wind-down? Deposits come in until everything is paid out."""
        if isinstance(command, c.ConsumeInbox):
            return not self.state.wound
        return isinstance(command, _ENDS)

    def _rotate(self, command: c.RotateOperator | c.RotatePublisher) -> str:
        """The old key signed this; from the next entry on the new one signs."""
        state = self.state
        if len(command.new_key) != 33 or command.new_key[0] != ids.KEY_ED25519:
            return "INVALID_KEY"
        if isinstance(command, c.RotateOperator):
            if len(command.new_address) != 20:
                return "INVALID_KEY"
            state.operator_key, state.operator_address = (
                command.new_key,
                command.new_address,
            )
            state.out.append(OperatorRotated(command.new_key, command.new_address))
            return ""
        if not 0 <= command.publisher < len(state.publishers):
            return "UNKNOWN_PUBLISHER"
        state.publishers[command.publisher].key = command.new_key
        state.out.append(PublisherRotated(command.publisher, command.new_key))
        return ""


def _from_genesis(genesis: c.Genesis) -> State:
    """An empty state. Raises `NovateError` INVALID_GENESIS or INVALID_PARAMS."""
    if genesis.rules_version != RULES_VERSION:
        raise NovateError(
            "INVALID_GENESIS",
            f"rules version {genesis.rules_version}; this build has {RULES_VERSION}",
        )
    if len(genesis.deployment) != 32 or len(genesis.treasury) != 20 or len(genesis.operator_key) != 33:
        raise NovateError("INVALID_GENESIS", "deployment has 32 bytes, treasury 20, operator_key 33")
    _check_vaults(genesis.vaults)
    validate(genesis.params, genesis.instruments, tuple(len(vault.tokens) for vault in genesis.vaults))
    state = State(genesis)
    new_trees(state)
    return state


def _check_vaults(vaults: tuple[c.Vault, ...]) -> None:
    """Raises `NovateError` INVALID_GENESIS."""
    places = dict.fromkeys((vault.chain_id, vault.address) for vault in vaults)
    wrong = ""
    if not 1 <= len(vaults) <= ids.MAX_VAULTS or len(places) != len(vaults):
        wrong = f"there are 1 to {ids.MAX_VAULTS} vaults, each at a place of its own"
    for vault in vaults:
        signers = vault.attestors
        if not 1 <= len(vault.tokens) <= ids.MAX_LANES:
            wrong = f"a vault has 1 to {ids.MAX_LANES} assets, the first for settlement"
        elif vault.chain_id < 0 or any(len(address) != 20 for address in (vault.address, *signers)):
            wrong = "addresses have 20 bytes, chain ids are not negative"
        elif vault.governor and len(vault.governor) != 20:
            wrong = "a governor has 20 bytes, or none for nobody"
        elif len(signers) > 255 or any(a >= b for a, b in pairwise(signers)):
            wrong = "attestors ascend, at most 255 of them"
        elif not bool(signers) <= vault.threshold <= len(signers):
            wrong = "the threshold is 1 to the number of attestors, 0 without any"
    if wrong:
        raise NovateError("INVALID_GENESIS", wrong)
