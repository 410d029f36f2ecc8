# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry an exit out, for one owner or for everyone.

Rules: nothing is remembered between runs; a run plans from the chain, sends what is left, and plans
again after a freeze, because the freeze fixes the escape header. A step that somebody else did
meanwhile counts as done. One owner's failure does not stop the others. Losing the endpoint stops
the run at once, and running again goes on where it ended. What was paid is what the receipts' events
say, and not what was planned.

Everyone is served owner by owner, so that memory does not grow with them, and with several transactions
on their way at once: steps of different owners do not depend on each other.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from clearing.chain.errors import ChainError
from clearing.chain.outbox import Waiting
from clearing.chain.rpc import Receipt, hexed
from clearing.chain.transact import Sender
from clearing.chain.vault import VaultClient
from clearing.exit.archive import BlobSource
from clearing.exit.errors import ExitError
from clearing.exit.plan import Deposits, Kind, Proofs, Step, VaultState, plan, read_vault
from clearing.exit.rebuild import rebuild

# Nodes keep at least so many transactions of one sender.
IN_FLIGHT: Final = 16

# What the contract says when a step was done already, by an earlier run or by somebody else.
_DONE_BY_OTHERS: Final = {
    Kind.FREEZE: "VaultFrozen",
    Kind.ESCAPE: "AlreadyEscaped",
    Kind.REFUND: "AlreadyRefunded",
    Kind.CLAIM: "NothingToClaim",
    Kind.WITHDRAW_CREDIT: "NoCredit",
}
_PAYMENTS: Final = ("Claimed", "Escaped", "Refunded", "CreditWithdrawn")


@dataclass(frozen=True, slots=True)
class Event:
    """Progress: `state` is start, done, skipped (others did it) or failed; `gas` used when done.

    `number` of `total` counts steps, and owners when everyone is served.
    """

    number: int
    total: int
    step: Step
    state: str
    gas: int = 0
    tx_hash: bytes = b""
    message: str = ""


@dataclass
class Report:
    """What a run did. `paid` are the atoms per asset that owners received; `credited` those whose token refused
    the transfer, which wait as credit; `repaid` those that went back to the float that had advanced them."""

    paid: list[int]
    credited: list[int]
    repaid: list[int]
    done: list[Event] = field(default_factory=list)
    skipped: list[Event] = field(default_factory=list)
    failed: list[Event] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether every step that was planned is done."""
        return not self.failed

    @property
    def gas_used(self) -> int:
        return sum(event.gas for event in self.done)


Listener = Callable[[Event], None]
Source = Callable[[], Proofs | None]


def run(
    vault: VaultClient,
    owner: bytes,
    listener: Listener | None = None,
    source: Source | None = None,
    deposits: Deposits | None = None,
    may_freeze: bool = True,
) -> Report:
    """Do everything that `owner` can have now. The vault's client must carry a wallet for the fees.

    `source` gives the usable epoch's proofs (by default they are rebuilt), again after a freeze; `deposits`
    saves the scan of the inbox. Raises what `source` raises, `ExitError` NO_FEE_MONEY, `ChainError` RPC_*,
    KEY_FILE, TX_REFUSED, FEE_TOO_HIGH or TX_TIMEOUT; a step that the contract refuses is in `Report.failed`.
    """
    return _Run(vault, listener, source, deposits, may_freeze, 1).carry_out(lambda *_: [owner])


def exit_all(
    vault: VaultClient,
    listener: Listener | None = None,
    source: Source | None = None,
    deposits: Deposits | None = None,
    in_flight: int = IN_FLIGHT,
) -> Report:
    """Do everything that anyone can have now: all leaves and all unconsumed deposits. Arguments and errors as
    of `run`; `in_flight` transactions wait to be mined at once."""

    def everyone(proofs: Proofs | None, state: VaultState) -> list[bytes]:
        leaves = list(proofs.owners()) if proofs is not None else []
        return list(dict.fromkeys([*leaves, *state.deposits]))

    return _Run(vault, listener, source, deposits, True, in_flight).carry_out(everyone)


def with_archive(vault: VaultClient, blobs: BlobSource | None) -> Source:
    """The source that rebuilds from the chain and this archive of blobs."""
    return lambda: rebuild(vault, blobs=blobs)


class _Run:
    def __init__(
        self,
        vault: VaultClient,
        listener: Listener | None,
        source: Source | None,
        deposits: Deposits | None,
        may_freeze: bool,
        in_flight: int,
    ) -> None:
        _ = vault.wallet  # fails here, and not after a scan, when there is no key
        self._vault, self._sender = vault, vault.sender()
        self._tell = listener or (lambda _: None)
        self._source = source or (lambda: rebuild(vault))
        self._deposits, self._may_freeze, self._in_flight = deposits, may_freeze, in_flight
        lanes = len(vault.tokens())
        self._report = Report([0] * lanes, [0] * lanes, [0] * lanes)
        self._waiting: deque[tuple[Event, Waiting]] = deque()

    def carry_out(self, owners_of: Callable[[Proofs | None, VaultState], Iterable[bytes]]) -> Report:
        proofs = self._source()
        state = read_vault(self._vault, proofs, self._deposits)
        if state.overdue and self._may_freeze and self._freeze(proofs, state, owners_of(proofs, state)):
            if self._report.failed:
                return self._report
            if proofs is None or proofs.epoch != self._vault.escape_epoch():
                proofs = self._source()
            state = read_vault(self._vault, proofs, self._deposits)
        owners = list(owners_of(proofs, state))
        for number, owner in enumerate(owners, 1):
            steps = plan(self._vault, proofs, owner, state, self._may_freeze and state.frozen)
            for count, step in enumerate(steps, 1):
                self._start(step, *((number, len(owners)) if len(owners) > 1 else (count, len(steps))))
        self._finish(0)
        return self._report

    def _freeze(self, proofs: Proofs | None, state: VaultState, owners: Iterable[bytes]) -> bool:
        """Freeze when any of the owners gains from it; whether the vault is frozen, or should be, now."""
        for owner in owners:
            steps = plan(self._vault, proofs, owner, state)
            if steps and steps[0].kind is Kind.FREEZE:
                self._start(steps[0], 1, len(steps))
                self._finish(0)
                return True
        return False

    def _start(self, step: Step, number: int, total: int) -> None:
        event = Event(number, total, step, "start")
        self._tell(event)
        self._finish(self._in_flight - 1)
        data = self._vault.abi.call(step.function, *step.arguments)
        try:
            item = self._sender.submit(self._vault.address, data)
        except ChainError as error:
            self._refused(event, error)
        else:
            self._waiting.append((event, item))
            self._finish(self._in_flight - 1)

    def _finish(self, most: int) -> None:
        """Wait for the oldest transactions until at most so many are on their way."""
        while len(self._waiting) > most:
            event, item = self._waiting.popleft()
            try:
                receipt = self._sender.wait(item)
            except ChainError as error:
                self._refused(event, error)
            else:
                done = Event(event.number, event.total, event.step, "done", receipt.gas_used, receipt.tx_hash)
                self._report.done.append(done)
                self._book(receipt)
                self._tell(done)

    def _refused(self, event: Event, error: ChainError) -> None:
        if error.code != "TX_REVERTED":
            raise _explained(self._vault, self._sender, error) from None
        by_others = error.reason == _DONE_BY_OTHERS[event.step.kind]
        state, into = ("skipped", self._report.skipped) if by_others else ("failed", self._report.failed)
        told = Event(event.number, event.total, event.step, state, message=error.message)
        into.append(told)
        self._tell(told)

    def _book(self, receipt: Receipt) -> None:
        """Add up what the vault's events say was paid."""
        names = {self._vault.abi.events[name].topic: name for name in (*_PAYMENTS, "AdvanceRepaid", "Credited")}
        for log in receipt.logs:
            name = names.get(log.topics[0]) if log.topics and log.address == self._vault.address else None
            if name is None:
                continue
            fields = self._vault.abi.log(name, log.topics, log.data)
            asset, amount = fields["asset"], fields["amount"]
            self._report.paid[asset] += amount if name in _PAYMENTS else -amount
            if name == "AdvanceRepaid":
                self._report.repaid[asset] += amount
            elif name == "Credited":
                self._report.credited[asset] += amount


def _explained(vault: VaultClient, sender: Sender, error: ChainError) -> Exception:
    """`error`, or what it means when fees are the trouble."""
    if error.code == "FEE_TOO_HIGH":
        text = f"{error.message.partition(';')[0]}; wait, or pass a higher --max-fee, and run the same command"
        return ChainError("FEE_TOO_HIGH", text)
    if error.code not in ("TX_REFUSED", "RPC_ERROR"):
        return error
    try:
        held = vault.rpc.balance(sender.wallet.address)
    except ChainError:
        return error
    if held:
        return error
    who = hexed(sender.wallet.address)
    text = f"{who} holds no ether on chain {vault.rpc.chain_id()}; send it some for the fees and run again"
    return ExitError("NO_FEE_MONEY", text)
