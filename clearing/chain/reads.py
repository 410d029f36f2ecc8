# SPDX-License-Identifier: GPL-3.0-or-later
"""The vault's views, typed. No key, nothing slow to import.

Every method raises `ChainError`: TX_REVERTED, NO_CODE, RPC_*. Times are seconds UTC, amounts atoms of
the asset, ether amounts wei; `epoch` counts from 1 and zero means none.
"""

from typing import Any, cast

from clearing.chain.abi import Interface, interface
from clearing.chain.errors import ChainError
from clearing.chain.rpc import Rpc, hexed
from clearing.chain.structs import Advance, Challenge, Tip, VetoState
from clearing.chain.transact import explained


class VaultReads:
    """One vault behind one endpoint (or a pool of them)."""

    def __init__(self, rpc: Rpc, address: bytes) -> None:
        self.rpc, self.address = rpc, address
        self.abi: Interface = interface("Vault")
        self._token_abi: Interface = interface("TestToken")
        # Whose errors a call can end with: the vault's, its library's, the token's.
        self._known = [self.abi, interface("Evidence"), self._token_abi]
        self._tokens: list[bytes] | None = None

    def require_code(self) -> None:
        """Raises `ChainError` NO_CODE when there is no contract at the address."""
        if not self.rpc.code(self.address):
            text = f"no contract at {hexed(self.address)} on {self.rpc.url}; check the address and --rpc"
            raise ChainError("NO_CODE", text)

    def read(self, name: str, *values: Any) -> Any:
        """A view's value. Raises `ChainError` NO_CODE when nothing answers at the address."""
        try:
            data = self.rpc.call(self.address, self.abi.call(name, *values))
        except ChainError as error:
            raise explained(error, self._known) from None
        if not data:
            self.require_code()
        return self.abi.result(name, data)

    def _number(self, name: str, *values: Any) -> int:
        return int(self.read(name, *values))

    def _bytes(self, name: str, *values: Any) -> bytes:
        return bytes(self.read(name, *values))

    # -- what was fixed at deployment

    def domain(self) -> bytes:
        """The exit tree's domain, which binds chain and vault."""
        return self._bytes("domain")

    def deployment_id(self) -> bytes:
        return self._bytes("deploymentId")

    def treasury(self) -> bytes:
        return self._bytes("treasury")

    def governor(self) -> bytes:
        """Who alone sends governance messages; zero when nobody can."""
        return self._bytes("governor")

    def attestors(self) -> list[bytes]:
        """Addresses, ascending."""
        return cast("list[bytes]", self.read("attestors"))

    def threshold(self) -> int:
        """Attestations that a header needs."""
        return self._number("threshold")

    def veto_quorum(self) -> int:
        """Attestors who void a header together."""
        return self._number("vetoQuorum")

    def attestors_hash(self) -> bytes:
        return self._bytes("attestorsHash")

    def tokens(self) -> list[bytes]:
        if self._tokens is None:
            self._tokens = cast("list[bytes]", self.read("tokens"))
        return self._tokens

    def deadline_s(self) -> int:
        return self._number("deadlineSeconds")

    def challenge_window_s(self) -> int:
        return self._number("challengeWindowSeconds")

    def seconding_s(self) -> int:
        """For how long one attestor's veto holds a header."""
        return self._number("secondingSeconds")

    def veto_bond_wei(self) -> int:
        return self._number("vetoBondWei")

    def required_bond_wei(self) -> int:
        return self._number("requiredBondWei")

    def first_block(self) -> int:
        """The block of the deployment: no log of this vault is older."""
        return self.rpc.first_block_at(self._number("deployedAt"))

    # -- epochs

    def operator(self) -> bytes:
        return self._bytes("operator")

    def is_signer(self, address: bytes) -> bool:
        """Whether this key's checkpoints bind the operator."""
        return bool(self.read("isSigner", address))

    def epoch_count(self) -> int:
        return self._number("epochCount")

    def tip(self) -> Tip:
        """The last posted header, as far as the next one must follow it."""
        return Tip(*self.read("tip"))

    def header_hash(self, epoch: int) -> bytes:
        return self._bytes("headerHash", epoch)

    def header_block(self, epoch: int) -> int:
        """The block of an epoch's event; zero if there is no such epoch."""
        return self._number("headerBlock", epoch)

    def header_time_s(self, epoch: int) -> int:
        return self._number("headerTime", epoch)

    def finalised_epoch(self) -> int:
        """The last epoch whose challenge window is over and that no veto holds; zero if there is none."""
        return self._number("finalisedEpoch")

    def final_at(self, epoch: int) -> int:
        """From when this header is final as things stand; zero when it is not posted."""
        return self._number("finalAt", epoch)

    def veto_of(self, epoch: int) -> VetoState:
        return VetoState(*self.read("vetoOf", epoch))

    def diff_block(self, digest: bytes) -> int:
        """The block in which a chunk or blob was published; zero if it was not."""
        return self._number("diffBlock", digest)

    # -- inbox

    def inbox_count(self) -> int:
        return self._number("inboxCount")

    def inbox_hash(self, count: int) -> bytes:
        """The rolling hash after the first `count` messages."""
        return self._bytes("inboxHash", count)

    def inbox_time_s(self, index: int) -> int:
        return self._number("inboxTime", index)

    def consumed_count(self) -> int:
        """Inbox messages that the last posted header consumed."""
        return self._number("consumedCount")

    # -- money

    def holdings(self, asset: int) -> int:
        return self._number("holdings", asset)

    def claimed_of(self, owner: bytes, asset: int) -> int:
        return self._number("claimedOf", owner, asset)

    def credit(self, owner: bytes, asset: int) -> int:
        return self._number("credit", owner, asset)

    def float_of(self, asset: int) -> int:
        """What vouchers can still be paid from."""
        return self._number("floatOf", asset)

    def float_cap(self, asset: int) -> int:
        """What vouchers may pay per hour."""
        return self._number("floatCap", asset)

    def advanced_of(self, owner: bytes, asset: int) -> Advance:
        return Advance(*self.read("advancedOf", owner, asset))

    def operator_bond(self) -> int:
        """Wei that answer for the operator's faults."""
        return self._number("operatorBond")

    def eth_credit(self, receiver: bytes) -> int:
        """Wei that `withdraw_eth` pays to this address."""
        return self._number("ethCredit", receiver)

    def token_balance(self, asset: int, owner: bytes) -> int:
        """What `owner` holds of the vault's asset, by the token itself."""
        data = self._token_abi.call("balanceOf", owner)
        return int(self._token_abi.result("balanceOf", self.rpc.call(self.tokens()[asset], data)))

    # -- the end

    def frozen(self) -> bool:
        return bool(self.read("frozen"))

    def frozen_at_s(self) -> int:
        """The time of the freeze; zero while live."""
        return self._number("frozenAt")

    def freeze_reason(self) -> int:
        """FREEZE_NONE, FREEZE_DEADLINE, FREEZE_VETO or FREEZE_FAULT."""
        return self._number("freezeReason")

    def freeze_at_s(self) -> int:
        """The time from which anyone may freeze."""
        return self._number("freezeAt")

    def escape_epoch(self) -> int:
        return self._number("escapeEpoch")

    def escape_header(self) -> bytes:
        return self._bytes("escapeHeader")

    def escape_inbox_count(self) -> int:
        """Messages that the escape header consumed; later deposits are refunded."""
        return self._number("escapeInboxCount")

    def escaped(self, owner: bytes) -> bool:
        return bool(self.read("escaped", owner))

    def refunded(self, index: int) -> bool:
        return bool(self.read("refunded", index))

    def fault_proven(self) -> bool:
        """Whether a fault of the operator was proven, before or after the freeze."""
        return bool(self.read("faultProven"))

    def challenge_of(self, challenge_id: int) -> Challenge:
        return Challenge(*self.read("challengeOf", challenge_id))
