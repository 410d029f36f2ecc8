# SPDX-License-Identifier: GPL-3.0-or-later
"""A venue on two chains: dollars (lane 0) and bitcoin (1) in vault 0; dollars (2), bitcoin (3) and a token without
rules (4) in vault 1. No fees; prices as in tests.core.several.

It keeps what the chains know and the reducer does not tell: every leaf of every epoch, every message; and computes from
them alone what a contract pays once it is frozen.
"""

from __future__ import annotations

from collections import defaultdict

import msgspec

from clearing.core.epoch import claim_of, house_claim, lanes_of
from clearing.core.winddown import allocate
from clearing.model import commands as c
from clearing.model import ids
from clearing.model.errors import InvariantViolation
from clearing.model.outcomes import EpochClosed, Outcome
from clearing.model.params import Asset, Params
from proofs.leaf import ExitLeaf
from tests.core import several as s
from tests.core import venue as v

COIN = s.COIN
USD_0, BTC_0, USD_1, BTC_1, PLAIN_1 = range(5)
PLACES = ((0, 0), (0, 1), (1, 0), (1, 1), (1, 2))
ASSETS = (
    Asset(USD_0, "USD", "USD"),
    Asset(BTC_0, "BTC", "BTC", COIN, 250_000, 930_000, order=2),
    Asset(BTC_1, "BTC2", "BTC", COIN, 250_000, 930_000, order=1),
)
TOKENS = ("usd token", "btc token")
OTHER_TOKENS = ("usd token/1", "btc token/1", "plain token/1")


class Chains(v.Venue):
    """See the module. `leaves[epoch][vault]` are the exit leaves as posted, `messages[vault]` the inbox."""

    def __init__(self, rules: Params | None = None) -> None:
        super().__init__(rules or s.params(assets=ASSETS), tokens=TOKENS, more_vaults=(OTHER_TOKENS,))
        self.leaves: list[list[list[ExitLeaf]]] = [[[], []]]
        self.consumed: list[list[int]] = [[0, 0]]
        self.messages: list[list[c.ConsumeInbox]] = [[], []]
        self.oracle(s.PRICES)

    def submit(self, raw: bytes, check_invariants: bool = True) -> list[Outcome]:
        out = super().submit(raw, check_invariants)
        _, body = v.admitted(raw)
        if isinstance(body, c.OperatorBatch):
            for command in body.commands:
                if isinstance(command, c.ConsumeInbox) and not v.codes(out):
                    self.messages[command.vault].append(command)
        return out

    def give(self, name: str, lane: int, atoms: int) -> list[Outcome]:
        """A deposit; the owner can sign afterwards."""
        vault, asset = PLACES[lane]
        new = v.address_of(name) not in self.state.owners
        out = self.deposit(name, atoms, asset=asset, vault=vault)
        if new and self.owner_accounts(name):
            self.register(name)
        return out

    def take(self, name: str, lane: int, atoms: int, sub: int = 0) -> list[str]:
        """A withdrawal; why it was refused."""
        vault, asset = PLACES[lane]
        return v.codes(self.do(name, c.Withdraw(vault, asset, atoms), sub=sub))

    def close_epoch(self) -> EpochClosed:
        closed = super().close_epoch()
        self.leaves.append([vault.exit_tree.leaves() for vault in self.state.vaults])
        self.consumed.append([len(messages) for messages in self.messages])
        check_anew(self)
        return closed

    # --- a vault freezes ---------------------------------------------------------------------

    def freeze(self, vault: int, epoch: int) -> list[str]:
        return v.codes(self.operator(c.FreezeVault(vault, epoch)))

    def rows(self, vault: int, epoch: int) -> list[c.EscapeLeaf]:
        """The escape header's leaves."""
        return [c.EscapeLeaf(x.index, x.owner, x.exits, x.withdraw_acks) for x in self.leaves[epoch][vault]]

    def late(self, vault: int, epoch: int) -> list[c.ConsumeInbox]:
        """The messages after the escape header."""
        return self.messages[vault][self.consumed[epoch][vault] :]

    def collect(self, vault: int, epoch: int, step: int = 3) -> list[str]:
        """Hand everything in, a few rows at a time; the codes of all refusals."""
        found: list[str] = []
        rows, late = self.rows(vault, epoch), self.late(vault, epoch)
        for at in range(0, len(rows), step):
            found += v.codes(self.operator(c.EscapeLeaves(vault, tuple(rows[at : at + step]))))
        for at in range(0, len(late), step):
            found += v.codes(self.operator(c.EscapeDeposits(vault, tuple(late[at : at + step]))))
        return found

    def paid_by_chain(self, vault: int, epoch: int) -> dict[bytes, list[int]]:
        """By owner, all that the frozen contract has paid or will: exits and counters of the escape header, and every
        deposit after it back; atoms per asset of the vault. Only deposits that were credited here."""
        lanes = len(self.genesis.vaults[vault].tokens)
        paid: dict[bytes, list[int]] = defaultdict(lambda: [0] * lanes)
        for leaf in self.leaves[epoch][vault]:
            for asset in range(lanes):
                paid[leaf.owner][asset] += leaf.exits[asset] + leaf.withdraw_acks[asset]
        for message in self.late(vault, epoch):
            if message.kind == ids.INBOX_DEPOSIT and message.owner in self.state.owners:
                paid[message.owner][message.asset] += message.amount_atoms
        return paid


def check_anew(venue: v.Venue) -> None:
    """While no debt couples the accounts, the exits that were kept leaf by leaf are those of a wind-down over all."""
    state = venue.state
    if state.coupled:
        return
    claims = [claim_of(state, account) for account in state.accounts[ids.HOUSE_ACCOUNTS :]]
    paid = allocate(claims, house_claim(state), lanes_of(state)).users
    for owner in list(state.owners.values())[1:]:
        whole = [sum(paid[account.number][lane] for account in owner.accounts) for lane in range(state.lanes)]
        if owner.exits != whole:
            raise InvariantViolation("EXITS_WRONG", f"owner {owner.number} exits with {owner.exits}, anew {whole}")


def with_threshold(genesis: c.Genesis, *attestors: bytes) -> c.Genesis:
    """The genesis with all of these attestors needed at every vault."""
    vaults = [msgspec.structs.replace(x, attestors=attestors, threshold=len(attestors)) for x in genesis.vaults]
    return msgspec.structs.replace(genesis, vaults=tuple(vaults))
