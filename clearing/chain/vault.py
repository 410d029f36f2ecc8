# SPDX-License-Identifier: GPL-3.0-or-later
"""The vault's client: typed reads (`reads`), log scans (`scans`), and one sender per contract function.

Rules: reads need no key and import nothing slow; what signs is loaded when something is sent. Amounts
are atoms of the asset, addresses 20 bytes, hashes 32 bytes, contract times seconds, ether wei.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clearing.chain.errors import ChainError
from clearing.chain.fees import SendPolicy, Urgency
from clearing.chain.rpc import Receipt, Rpc
from clearing.chain.scans import VaultScans
from clearing.chain.structs import (
    Advance,
    BlobEvent,
    Challenge,
    ChallengeEvent,
    Checkpoint,
    Claim,
    Disagreement,
    EpochEvent,
    FalseSum,
    FaultEvent,
    InboxEvent,
    Tip,
    VetoEvent,
    VetoState,
    refund_arguments,
)
from clearing.chain.transact import Sender, explained
from clearing.chain.wallet import Wallet
from proofs.inbox import InboxMessage, Voucher

__all__ = [
    "Advance",
    "BlobEvent",
    "Challenge",
    "ChallengeEvent",
    "Checkpoint",
    "Claim",
    "Disagreement",
    "EpochEvent",
    "FalseSum",
    "FaultEvent",
    "InboxEvent",
    "Tip",
    "VaultClient",
    "VetoEvent",
    "VetoState",
    "refund_arguments",
]


class VaultClient(VaultScans):
    """One vault behind one endpoint or a pool of them. With a `wallet` it can also send.

    `policy` says how long to wait and what to pay; `folder`, when given, keeps what was sent and not yet
    mined, so that a restarted process goes on with it instead of paying twice (one process per folder).
    Every method raises `ChainError`; reads TX_REVERTED, RPC_*; sends what `Sender.send` raises.
    """

    def __init__(
        self,
        rpc: Rpc,
        address: bytes,
        wallet: Wallet | None = None,
        timeout_s: float = 180.0,
        policy: SendPolicy | None = None,
        folder: Path | None = None,
    ) -> None:
        super().__init__(rpc, address)
        self._wallet, self._timeout_s = wallet, timeout_s
        self._policy, self._folder = policy or SendPolicy(), folder
        self._urgency: Urgency = 0.0

    @property
    def wallet(self) -> Wallet:
        if self._wallet is None:
            raise ChainError("KEY_FILE", "this needs a key that pays the fee; pass a key file")
        return self._wallet

    def urgent(self, urgency: Urgency) -> "VaultClient":
        """This client, whose transactions pay for being in a hurry: 0 to 1, or a function that says so."""
        hurried = copy.copy(self)
        hurried._urgency = urgency
        return hurried

    def sender(self) -> Sender:
        return Sender(self.rpc, self.wallet, self._known, self._timeout_s, self._policy, self._folder)

    def send(self, name: str, *values: Any, value_wei: int = 0) -> Receipt:
        """Call any function of the contract in a transaction. Raises as `Sender.send`."""
        return self.sender().send(self.address, self.abi.call(name, *values), value_wei, urgency=self._urgency)

    def estimate(self, name: str, *values: Any, value_wei: int = 0) -> int:
        """Gas of a call by the wallet, or by the zero address without one; names its revert."""
        payer = self._wallet.address if self._wallet is not None else bytes(20)
        try:
            return self.rpc.estimate_gas(payer, self.address, self.abi.call(name, *values), value_wei)
        except ChainError as error:
            raise explained(error, self._known) from None

    # -- tokens in

    def _token(self, asset: int) -> bytes:
        tokens = self.tokens()
        if not 0 <= asset < len(tokens):
            raise ChainError("INVALID_ARGUMENT", f"the vault has assets 0 to {len(tokens) - 1}, not {asset}")
        return tokens[asset]

    def allowance(self, asset: int) -> int:
        data = self._token_abi.call("allowance", self.wallet.address, self.address)
        return int(self._token_abi.result("allowance", self.rpc.call(self._token(asset), data)))

    def approve(self, asset: int, amount: int) -> None:
        """Approve exactly the amount, unless at least as much is approved."""
        if self.allowance(asset) < amount:
            call = self._token_abi.call("approve", self.address, amount)
            self.sender().send(self._token(asset), call, urgency=self._urgency)

    def deposit(self, asset: int, amount: int, owner: bytes) -> Receipt:
        """Deposit from the wallet for `owner`, approving exactly the amount when needed."""
        self.approve(asset, amount)
        return self.send("deposit", asset, amount, owner)

    def fund_float(self, asset: int, amount: int) -> Receipt:
        """Add the wallet's tokens to the float that vouchers are paid from."""
        self.approve(asset, amount)
        return self.send("fundFloat", asset, amount)

    # -- requests of owners

    def force_withdrawal(self, asset: int, amount: int, sub: int = 0) -> Receipt:
        """Ask for the wallet owner's money past the operator; amount 0 means all that is free."""
        return self.send("forceWithdrawal", asset, amount, sub)

    def force_exit(self, sub: int = 0) -> Receipt:
        """Ask that a sub-account of the wallet's be closed and paid out, past the operator."""
        return self.send("forceExit", sub)

    def claim(self, claim: Claim) -> Receipt:
        return self.send("claim", *claim.arguments())

    def redeem_voucher(self, voucher: Voucher, owner_signature: bytes, operator_signature: bytes) -> Receipt:
        """Have a voucher paid to its owner; both signatures over `wallet.voucher_digest`."""
        fields = voucher.domain, voucher.owner, voucher.asset, voucher.cumulative, voucher.expiry
        return self.send("redeemVoucher", fields, owner_signature, operator_signature)

    def withdraw_credit(self, asset: int, owner: bytes) -> Receipt:
        return self.send("withdrawCredit", asset, owner)

    def withdraw_eth(self, receiver: bytes) -> Receipt:
        """Pay out the ether credited to an address, whoever submits."""
        return self.send("withdrawEth", receiver)

    # -- the operator

    def publish_diff(self, chunk: bytes) -> Receipt:
        return self.send("publishDiff", chunk)

    def publish_blobs(self, blobs: Sequence[bytes]) -> Receipt:
        """Publish whole blobs (`blobs.encode` makes them) in one type-3 transaction, at most six."""
        call = self.abi.call("publishBlobs")
        return self.sender().send(self.address, call, urgency=self._urgency, blobs=tuple(blobs))

    def post_epoch(
        self,
        header: bytes,
        chunk_hashes: Sequence[bytes],
        consistency: Sequence[bytes],
        signature: bytes,
        attestations: Sequence[bytes],
    ) -> Receipt:
        """Append a header. `consistency` is the RFC 9162 proof from the last posted journal (empty for the
        first, or equal sizes); `attestations` are 65-byte signatures in ascending order of the signers."""
        lists = list(chunk_hashes), list(consistency)
        return self.send("postEpoch", header, *lists, signature, list(attestations))

    def rotate_operator(self, operator: bytes) -> Receipt:
        return self.send("rotateOperator", operator)

    def name_signer(self, signer: bytes) -> Receipt:
        """Name a key whose checkpoints bind the operator (needed when the operator is a contract)."""
        return self.send("nameSigner", signer)

    def withdraw_float(self, asset: int, amount: int) -> Receipt:
        return self.send("withdrawFloat", asset, amount)

    def post_bond(self, wei: int) -> Receipt:
        return self.send("postBond", value_wei=wei)

    def withdraw_bond(self) -> Receipt:
        """Free the operator's bond, a deadline after a freeze without a fault."""
        return self.send("withdrawBond")

    def send_governance(self, action: bytes) -> Receipt:
        """Tell the clearinghouse what the governor (the wallet) approved, by its hash."""
        return self.send("sendGovernance", action)

    def answer_receipt(self, challenge_id: int, header: bytes, path: Sequence[bytes]) -> Receipt:
        """Show that a posted header's journal holds a challenged entry."""
        return self.send("answerReceipt", challenge_id, header, list(path))

    # -- watchers

    def veto(self, epoch: int, header_hash: bytes, evidence: bytes, bond_wei: int | None = None) -> Receipt:
        """Object to a posted header inside its window; the bond is what the vault asks for by default."""
        bond = self.veto_bond_wei() if bond_wei is None else bond_wei
        return self.send("veto", epoch, header_hash, evidence, value_wei=bond)

    def second(self, epoch: int, header_hash: bytes) -> Receipt:
        return self.send("second", epoch, header_hash)

    def settle_veto(self, epoch: int) -> Receipt:
        return self.send("settleVeto", epoch)

    def prove_equivocation(
        self, a: Checkpoint, signature_a: bytes, b: Checkpoint, signature_b: bytes, d: Disagreement
    ) -> Receipt:
        """Two signed checkpoints that cannot be of one journal (`d` is ignored for equal sizes)."""
        return self.send("proveEquivocation", a, signature_a, b, signature_b, d)

    def prove_header_conflict(self, header: bytes, c: Checkpoint, signature: bytes, d: Disagreement) -> Receipt:
        """A header posted here whose journal disagrees with a signed checkpoint."""
        return self.send("proveHeaderConflict", header, c, signature, d)

    def prove_double_header(self, header_a: bytes, signature_a: bytes, header_b: bytes, signature_b: bytes) -> Receipt:
        """Two different headers that the operator signed to post at one epoch of this vault."""
        return self.send("proveDoubleHeader", header_a, signature_a, header_b, signature_b)

    def prove_false_sum(self, header: bytes, proof: FalseSum) -> Receipt:
        """A node of a posted exit tree that claims other sums than its children have."""
        return self.send("proveFalseSum", header, proof)

    def challenge_receipt(
        self,
        c: Checkpoint,
        signature: bytes,
        index: int,
        leaf: bytes,
        path: Sequence[bytes],
        bond_wei: int | None = None,
    ) -> Receipt:
        """Ask the operator to show an entry that a signed checkpoint holds; `challenge_in` gives its number."""
        bond = self.veto_bond_wei() if bond_wei is None else bond_wei
        return self.send("challengeReceipt", c, signature, index, leaf, list(path), value_wei=bond)

    def prove_unanswered(self, challenge_id: int) -> Receipt:
        return self.send("proveUnanswered", challenge_id)

    # -- the end

    def freeze(self) -> Receipt:
        return self.send("freeze")

    def escape(self, claim: Claim) -> Receipt:
        return self.send("escape", *claim.arguments())

    def refund(self, message: InboxMessage) -> Receipt:
        return self.send("refund", *refund_arguments(message))
