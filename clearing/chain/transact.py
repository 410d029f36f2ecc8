# SPDX-License-Identifier: GPL-3.0-or-later
"""Sending transactions: estimate, sign, submit, wait, and say why when the contract refuses.

Rules: `outbox` keeps what is on its way and sees to it that nothing is paid twice; `fees` says what is
paid and where it stops. This module estimates gas (with a margin, since the state may move in between),
waits, and turns refusals into errors that name the contract's own.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from clearing.chain.abi import Interface
from clearing.chain.errors import ChainError
from clearing.chain.fees import PPM, SendPolicy, Urgency
from clearing.chain.outbox import Call, Outbox, Waiting
from clearing.chain.rpc import Receipt, Rpc, hexed
from clearing.chain.wallet import Wallet

FIRST_PAUSE_S: Final = 0.02
LONGEST_PAUSE_S: Final = 2.0
BLOB_CALL_GAS: Final = 60_000
GAS_PER_BLOB_NOTE: Final = 40_000
_PASSING: Final = ("RPC_UNREACHABLE", "RPC_ERROR", "RPC_DISAGREE")
HINTS: dict[str, str] = {
    "ERC20InsufficientBalance": "the wallet holds less of the token than the amount",
    "ERC20InsufficientAllowance": "approve the vault for the amount first",
    "VaultFrozen": "the vault is frozen for good; leave with: novate exit",
    "DeadlineNotPassed": "the operator is not overdue before that time (seconds UTC)",
    "HeaderNotFinal": "wait until the header's challenge window is over",
    "FirstDepositTooSmall": "raise the first deposit to the minimum",
    "StaleHeader": "another header was posted meanwhile; build on the last one",
    "DiffNotPublished": "publish this chunk first",
    "L1BlockMismatch": "name a block of this chain before the one that posts",
    "InvalidOperatorSignature": "sign the header's hash with the operator's key of this vault",
    "TooFewAttestations": "collect more attestors' signatures of this header",
    "InvalidAttestation": "signatures go in ascending order of the attestors' addresses, each once",
    "JournalInconsistent": "prove that the journal extends the last posted header's",
    "BondTooLow": "raise the operator's bond first",
    "WrongBond": "send exactly the bond that the vault asks for",
    "NotAttestor": "only an attestor of this vault can do this",
    "WindowOver": "the header is final; it can no longer be vetoed",
    "VetoStanding": "second the veto that stands",
    "VoucherExpired": "ask the operator for a new voucher",
    "FloatTooLow": "claim when the epoch is final instead",
    "OutflowCapped": "try again in the next hour, or claim when the epoch is final",
    "HouseRequest": "the house's money leaves by governance only",
}


def explained(error: ChainError, interfaces: Sequence[Interface]) -> ChainError:
    """`error` with the contract's own error named, when it is a revert."""
    if error.code != "TX_REVERTED":
        return error
    for known in interfaces:
        name = known.error_name(error.data)
        if name:
            hint = HINTS.get(name, "")
            text = known.explain(error.data) + (f": {hint}" if hint else "")
            return ChainError("TX_REVERTED", f"the contract refused with {text}", name, error.data)
    text = interfaces[0].explain(error.data) if interfaces else "no reason given"
    return ChainError("TX_REVERTED", f"the contract refused: {text}", "", error.data)


class Sender:
    """A wallet on a chain. Receipts are waited for up to `timeout_s` seconds.

    Several senders of one connection and key share one outbox, so their nonces never clash. `folder`
    keeps what is on its way across restarts (see `outbox`).
    """

    def __init__(
        self,
        rpc: Rpc,
        wallet: Wallet,
        interfaces: Sequence[Interface] = (),
        timeout_s: float = 180.0,
        policy: SendPolicy | None = None,
        folder: Path | None = None,
    ) -> None:
        self.rpc, self.wallet = rpc, wallet
        self.policy = policy or SendPolicy()
        self._interfaces, self._timeout_s, self._folder = interfaces, timeout_s, folder

    @property
    def outbox(self) -> Outbox:
        return Outbox.of(self.rpc, self.wallet, self._folder, self.policy)

    def send(
        self,
        to: bytes | None,
        data: bytes,
        value: int = 0,
        gas: int = 0,
        urgency: Urgency = 0.0,
        blobs: tuple[bytes, ...] = (),
    ) -> Receipt:
        """Send and wait; `to` None creates a contract, gas 0 asks for an estimate.

        Raises `ChainError` TX_REVERTED (with `reason`), TX_REFUSED, TX_TIMEOUT, FEE_TOO_HIGH, RPC_*.
        After TX_TIMEOUT, or FEE_TOO_HIGH with a hash, or RPC_UNREACHABLE with a hash, the transaction may
        still be mined; the same call sent again goes on with it.
        """
        return self.wait(self.submit(to, data, value, gas, urgency, blobs))

    def submit(
        self,
        to: bytes | None,
        data: bytes,
        value: int = 0,
        gas: int = 0,
        urgency: Urgency = 0.0,
        blobs: tuple[bytes, ...] = (),
    ) -> Waiting:
        """Send without waiting, so that several can be on their way; then `wait` for each.

        Gas is estimated on the newest block: what depends on a transaction that still waits needs `gas`.
        """
        try:
            return self.outbox.add(
                Call(to, data, value, gas or self._gas(to, data, value, blobs), blobs), self.policy, urgency
            )
        except ChainError as error:
            raise explained(error, self._interfaces) from None

    def wait(self, item: Waiting) -> Receipt:
        """The receipt of a submitted transaction, which is looked after meanwhile. Raises as `send`."""
        box, deadline, pause_s = self.outbox, time.monotonic() + self._timeout_s, FIRST_PAUSE_S
        fault: ChainError | None = None
        try:
            while not item.done:
                try:
                    box.tend()
                    fault = None
                except ChainError as error:
                    if error.code not in _PASSING:
                        raise
                    fault = error  # the node may come back before the time is over
                if not item.done and time.monotonic() > deadline and box.release(item):
                    raise self._late(item, fault)
                if not item.done:
                    time.sleep(pause_s)
                    pause_s = min(pause_s * 1.5, LONGEST_PAUSE_S)
        finally:
            box.release(item)
        if item.receipt is None:
            assert item.fault is not None, "done means one or the other"
            raise explained(item.fault, self._interfaces)
        if not item.receipt.ok:
            self._refuse(item.receipt, item.call)
        return item.receipt

    def settle(self) -> list[Waiting]:
        """Look once after what earlier calls or an earlier process left behind.

        What still waits comes back, and what was mined while nobody waited for it: the same call sent again
        is answered with its receipt, unless `outbox.forget` drops it before. Raises `ChainError` RPC_*.
        """
        box = self.outbox
        box.tend()
        return [*box.waiting.values(), *box.unclaimed]

    def _gas(self, to: bytes | None, data: bytes, value: int, blobs: tuple[bytes, ...]) -> int:
        if blobs:
            # Nodes differ in how (and whether) an estimate may carry blobs; what is not used is not paid.
            return BLOB_CALL_GAS + GAS_PER_BLOB_NOTE * len(blobs)
        estimate = self.rpc.estimate_gas(self.wallet.address, to, data, value)
        return estimate + estimate * self.policy.gas_margin_ppm // PPM

    def _late(self, item: Waiting, fault: ChainError | None) -> ChainError:
        what = f"{hexed(item.hashes[-1])} (nonce {item.nonce}) is not mined after {self._timeout_s:g} s"
        reason = fault or item.blocked
        if reason is None:
            return ChainError("TX_TIMEOUT", f"{what}; run again later, which goes on with it")
        return ChainError(reason.code, f"{what}: {reason.message}")

    def _refuse(self, receipt: Receipt, call: Call) -> None:
        """Find out why a mined transaction failed, by running it again on that block's state."""
        if call.to is not None and not call.blobs:
            try:
                self.rpc.call(call.to, call.data, self.wallet.address, receipt.block_number, call.value)
            except ChainError as error:
                if error.code == "TX_REVERTED":
                    raise explained(error, self._interfaces) from None
        text = f"{hexed(receipt.tx_hash)} was mined and reverted; it may have run out of gas"
        raise ChainError("TX_REVERTED", text)
