# SPDX-License-Identifier: GPL-3.0-or-later
"""Sending transactions: estimate, sign, submit, wait, and say why when the contract refuses.

Rules: the nonce is the node's own pending count, so several processes may share a key; a clash is
retried with a fresh nonce. A transaction whose answer was lost is looked up by its hash before
anything is sent again, so nothing is paid twice. Gas gets a tenth on top of the estimate, since
the state may move in between.
"""

from collections.abc import Sequence
from typing import Any, Final

from clearing.chain.abi import Interface
from clearing.chain.errors import ChainError
from clearing.chain.rpc import Receipt, Rpc, hexed
from clearing.chain.wallet import Wallet

NONCE_TRIES: Final = 5
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
    """A wallet on a chain. Receipts are waited for up to `timeout_s` seconds."""

    def __init__(
        self, rpc: Rpc, wallet: Wallet, interfaces: Sequence[Interface] = (), timeout_s: float = 180.0
    ) -> None:
        self.rpc, self.wallet = rpc, wallet
        self._interfaces, self._timeout_s = interfaces, timeout_s

    def send(self, to: bytes | None, data: bytes, value: int = 0, gas: int = 0) -> Receipt:
        """Send and wait; `to` None creates a contract, gas 0 asks for an estimate.

        Raises `ChainError` TX_REVERTED (with `reason`), TX_REFUSED, TX_TIMEOUT, RPC_UNREACHABLE.
        """
        try:
            if not gas:
                estimate = self.rpc.estimate_gas(self.wallet.address, to, data, value)
                gas = estimate + estimate // 10
            receipt = self.rpc.wait_receipt(self._submit(to, data, value, gas), self._timeout_s)
            if not receipt.ok:
                self._refuse(receipt, to, data)
        except ChainError as error:
            raise explained(error, self._interfaces) from None
        return receipt

    def _submit(self, to: bytes | None, data: bytes, value: int, gas: int) -> bytes:
        fees = self.rpc.fees()
        fields: dict[str, Any] = {
            "type": 2,
            "chainId": self.rpc.chain_id(),
            "maxFeePerGas": fees.max_fee_wei,
            "maxPriorityFeePerGas": fees.max_priority_wei,
            "gas": gas,
            "value": value,
            "data": data,
        }
        if to is not None:
            fields["to"] = to
        for left in reversed(range(NONCE_TRIES)):
            fields["nonce"] = self.rpc.nonce(self.wallet.address)
            raw, tx_hash = self.wallet.sign_transaction(fields)
            try:
                self.rpc.send_raw(raw)
                return tx_hash
            except ChainError as error:
                text = error.message.lower()
                if error.code != "TX_REFUSED":
                    raise
                known = "already known" in text or "already imported" in text
                if known or self.rpc.receipt(tx_hash) is not None:
                    return tx_hash
                if left and ("nonce" in text or "underpriced" in text):
                    continue
                raise
        raise AssertionError("unreachable: the last try returns or raises")

    def _refuse(self, receipt: Receipt, to: bytes | None, data: bytes) -> None:
        """Find out why a mined transaction failed, by running it again on that block's state."""
        if to is not None:
            try:
                self.rpc.call(to, data, self.wallet.address, receipt.block_number)
            except ChainError as error:
                if error.code == "TX_REVERTED":
                    raise
        text = f"{hexed(receipt.tx_hash)} was mined and reverted; it may have run out of gas"
        raise ChainError("TX_REVERTED", text)
