# SPDX-License-Identifier: GPL-3.0-or-later
"""What one key has sent to one chain and is not mined yet, and what is done until it is.

Rules:
- A transaction is kept (and written to the folder, if there is one) before it is handed to a node, and
  until a receipt is seen. Whatever happens in between, its call is never signed under a second nonce
  while the first could still be mined: so nothing is paid twice.
- Every nonce has one call. Its forms differ in price only, so at most one is mined; it is found by the
  hash of any of them.
- The node's pending count is the nonce to begin with, so several processes may share a key; what we keep
  ourselves counts too, since a node forgets its pool when it restarts.
- A transaction that no node knows is sent again, byte for byte. One that is known and not mined is
  replaced by a dearer form, never above the policy's ceiling; only the lowest nonce is, as the others
  wait for it.
- A nonce that somebody else used up frees the call for a fresh one: at once when no node ever took ours,
  else after `lost_after_s`, for behind one URL there may be several nodes, of which one knows the
  count and another does not yet know our receipt.
- A missing nonce below ours (a reorganisation took it) is filled by a payment of nothing to ourselves.
- A call whose waiter gave up is an orphan: it goes on, and the same call sent again adopts it, also when
  it was mined meanwhile. So whoever did not hear that a payment went through may ask for it again.

Thread-safe by one lock. Times are seconds of the monotonic clock.
"""

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from clearing.chain import outbox_files
from clearing.chain.errors import ChainError
from clearing.chain.fees import Bid, SendPolicy, Urgency, current, opening, quote, raised
from clearing.chain.rpc import Receipt, Rpc
from clearing.chain.wallet import Wallet

NONCE_TRIES: Final = 8
PLAIN_GAS: Final = 21_000
_KNOWN_WORDS: Final = ("already known", "already imported", "known transaction")
_PRICE_WORDS: Final = ("underpriced", "replacement", "base fee", "fee too low", "tip")
_CREATE: Final = threading.Lock()


class Call(NamedTuple):
    """What a transaction does; `to` None creates a contract. Gas is its limit, value wei."""

    to: bytes | None
    data: bytes
    value: int
    gas: int
    blobs: tuple[bytes, ...] = ()

    def same(self, other: "Call") -> bool:
        """Whether both do the same thing, whatever their gas limits."""
        return self._replace(gas=0) == other._replace(gas=0)


@dataclass(slots=True, eq=False)
class Waiting:
    """A transaction on its way. It ends with a `receipt` or a `fault`; `blocked` is why it stays as it is."""

    call: Call
    nonce: int
    bid: Bid
    policy: SendPolicy
    urgency: Urgency = 0.0
    hashes: list[bytes] = field(default_factory=list)
    accepted: bool = False
    orphaned: bool = False
    since_s: float = 0.0
    since_block: int = 0
    checked_s: float = 0.0
    used_up_s: float = 0.0
    filler: bool = False
    tries: int = 0
    receipt: Receipt | None = None
    fault: ChainError | None = None
    blocked: ChainError | None = None

    @property
    def done(self) -> bool:
        return self.receipt is not None or self.fault is not None


class Outbox:
    """The waiting transactions of one key on one chain; `Outbox.of` gives the one of a connection."""

    def __init__(self, rpc: Rpc, wallet: Wallet) -> None:
        self.rpc, self.wallet = rpc, wallet
        self.lock = threading.RLock()
        self.waiting: dict[int, Waiting] = {}
        self.unclaimed: list[Waiting] = []  # orphans that were mined, until the same call asks for them
        self._files: outbox_files.Files | None = None

    @classmethod
    def of(cls, rpc: Rpc, wallet: Wallet, folder: Path | None = None, policy: SendPolicy | None = None) -> "Outbox":
        """The outbox of this connection and key; with a folder, including what it remembers."""
        with _CREATE:
            box: Outbox = rpc.outboxes.setdefault(wallet.address, cls(rpc, wallet))
        if folder is not None:
            box._open(folder, policy or SendPolicy())
        return box

    def _open(self, folder: Path, policy: SendPolicy) -> None:
        with self.lock:
            if self._files is not None:
                return
            self._files = outbox_files.Files(folder, self.rpc.chain_id(), self.rpc.block(0).hash, self.wallet.address)
            for saved in self._files.load():
                call, bid = Call(*saved.call), Bid(*saved.bid)
                old = Waiting(call, saved.nonce, bid, policy, hashes=list(saved.hashes), accepted=True, orphaned=True)
                self.waiting.setdefault(saved.nonce, old)

    @property
    def pending(self) -> int:
        """How many transactions are on their way; any thread may ask."""
        return len(self.waiting)

    # -- in

    def add(self, call: Call, policy: SendPolicy, urgency: Urgency) -> Waiting:
        """Sign and send a call, or adopt an orphan that is the same.

        Raises `ChainError` FEE_TOO_HIGH, TX_REFUSED, TX_REVERTED, RPC_*: then nothing was sent.
        """
        with self.lock:
            old = self._adopt(call)
            if old is not None:
                old.orphaned, old.policy, old.urgency = False, policy, urgency
                return old
            bid = opening(quote(self.rpc, bool(call.blobs)), policy, current(urgency))
            block = self.rpc.block_number()
            new = Waiting(call, self._free_nonce(), bid, policy, urgency)
            self._begin(new, block)
            if new.fault is not None:
                raise new.fault
            return new

    def _adopt(self, call: Call) -> Waiting | None:
        for old in self.unclaimed:
            if old.call.same(call):
                self.forget(old)
                old.orphaned = False
                if self._settle(old):  # asked again: a reorganisation may have undone it
                    return old
                if old.nonce not in self.waiting:
                    old.receipt = None
                    self.waiting[old.nonce] = old
                    return old
        return next((old for old in self.waiting.values() if old.orphaned and old.call.same(call)), None)

    def release(self, item: Waiting) -> bool:
        """Its waiter gives up: True when it is an orphan from now on, False when it is over after all."""
        with self.lock:
            item.orphaned = not item.done
            return item.orphaned

    def forget(self, item: Waiting) -> None:
        """Drop a mined orphan: whoever sent it knows, and the same call from now on is a new one."""
        with self.lock:
            self.unclaimed = [other for other in self.unclaimed if other is not item]
            if self._files is not None and item.nonce not in self.waiting:
                self._files.forget(item.nonce)

    def _begin(self, new: Waiting, block: int) -> None:
        new.since_s = new.checked_s = time.monotonic()
        new.since_block = block
        self.waiting[new.nonce] = new
        try:
            self._sign(new)
            self._submit(new)
        except BaseException:
            if not new.accepted:
                self._remove(new)
            raise

    def _free_nonce(self) -> int:
        nonce = self.rpc.nonce(self.wallet.address)
        while nonce in self.waiting:
            nonce += 1
        return nonce

    def _raws(self, item: Waiting) -> tuple[list[bytes], bytes]:
        call, bid = item.call, item.bid
        fields: dict[str, Any] = {
            "type": 2,
            "chainId": self.rpc.chain_id(),
            "nonce": item.nonce,
            "maxFeePerGas": bid.max_fee_wei,
            "maxPriorityFeePerGas": bid.tip_wei,
            "gas": call.gas,
            "value": call.value,
            "data": call.data,
        }
        if call.to is not None:
            fields["to"] = call.to
        if call.blobs:
            return self.wallet.sign_blob_transaction(fields | {"maxFeePerBlobGas": bid.blob_wei}, call.blobs)
        raw, tx_hash = self.wallet.sign_transaction(fields)
        return [raw], tx_hash

    def _sign(self, item: Waiting) -> None:
        """Put the form of the current bid on record. Signatures are deterministic, so it can be made again."""
        item.hashes.append(self._raws(item)[1])
        if self._files is not None:
            self._files.save(outbox_files.Saved(item.nonce, tuple(item.call), tuple(item.bid), tuple(item.hashes)))

    def _remove(self, item: Waiting, keep: bool = False) -> None:
        """Off the list of what waits; `keep` leaves the file, for a restarted process to find."""
        if self.waiting.get(item.nonce) is item:
            del self.waiting[item.nonce]
            if self._files is not None and not keep:
                self._files.forget(item.nonce)

    # -- handing to the node

    def _submit(self, item: Waiting) -> None:
        refusal: ChainError | None = None
        for raw in self._raws(item)[0]:
            try:
                self.rpc.send_raw(raw)
                item.accepted = True
                return
            except ChainError as error:
                if error.code == "RPC_UNREACHABLE" or any(word in error.message.lower() for word in _KNOWN_WORDS):
                    item.accepted = True  # perhaps: an answer that was lost says nothing
                    return
                # Of a blob's two forms the node takes one; the refusal of substance is about price or nonce.
                if refusal is None or _about(error, "nonce", "fund", *_PRICE_WORDS):
                    refusal = error
        assert refusal is not None, "a transaction has at least one form"
        self._judge(item, refusal)

    def _judge(self, item: Waiting, refusal: ChainError) -> None:
        address = self.wallet.address
        if _about(refusal, "nonce"):
            # Once a node took it, it may be the very one that used the nonce up: `_check` finds out.
            if not item.accepted and self.rpc.nonce(address, "latest") > item.nonce:
                self._reassign(item, refusal)
        elif _about(refusal, *_PRICE_WORDS):
            if item.accepted:
                return  # an earlier form waits; the next replacement starts from this bid
            if self.rpc.nonce(address) > item.nonce:
                self._reassign(item, refusal)
            else:
                self._raise_bid(item, refusal)
        elif item.accepted:
            item.blocked = refusal
        else:
            self._fail(item, refusal)

    def _reassign(self, item: Waiting, refusal: ChainError) -> None:
        """Somebody else's transaction has this nonce, so ours can no longer be mined under it."""
        if self._exhausted(item, refusal):
            return
        self._remove(item)
        item.nonce, item.hashes, item.accepted, item.used_up_s = self._free_nonce(), [], False, 0.0
        self.waiting[item.nonce] = item
        self._sign(item)
        self._submit(item)

    def _raise_bid(self, item: Waiting, refusal: ChainError) -> None:
        """The node's own minimum is above what it quoted."""
        if not self._exhausted(item, refusal):
            asked = quote(self.rpc, bool(item.call.blobs))
            item.bid = raised(item.bid, asked, item.policy, current(item.urgency))
            self._sign(item)
            self._submit(item)

    def _exhausted(self, item: Waiting, refusal: ChainError) -> bool:
        item.tries += 1
        if item.tries > NONCE_TRIES:
            self._fail(item, refusal)
        return item.tries > NONCE_TRIES

    def _fail(self, item: Waiting, refusal: ChainError) -> None:
        item.fault = refusal
        self._remove(item)

    # -- until it is mined

    def tend(self) -> None:
        """Look after everything that waits, lowest nonce first. Raises `ChainError` RPC_*."""
        with self.lock:
            block = self.rpc.block_number() if self.waiting else 0
            lowest = True
            for nonce in sorted(self.waiting):
                item = self.waiting.get(nonce)
                if item is None or self._settle(item):
                    continue
                self._check(item, lowest)
                if not lowest or not item.since_s:
                    item.since_s, item.since_block = time.monotonic(), block  # its time counts from when it is next
                elif not item.done and self._overdue(item, block):
                    self._replace(item, block)
                lowest = False

    def _settle(self, item: Waiting) -> bool:
        for tx_hash in reversed(item.hashes):
            receipt = self.rpc.receipt(tx_hash)
            if receipt is not None:
                item.receipt = receipt
                kept = item.orphaned and not item.filler
                if kept and item not in self.unclaimed:
                    self.unclaimed.append(item)
                self._remove(item, keep=kept)
                return True
        return False

    def _check(self, item: Waiting, lowest: bool) -> None:
        """Every now and then: was the nonce used up, or the transaction forgotten?"""
        now = time.monotonic()
        if now - item.checked_s < item.policy.resend_after_s:
            return
        item.checked_s = now
        mined = self.rpc.nonce(self.wallet.address, "latest")
        if mined > item.nonce:
            item.used_up_s = item.used_up_s or now
            if not self._settle(item) and now - item.used_up_s >= item.policy.lost_after_s:
                self._reassign(item, ChainError("TX_REFUSED", f"nonce {item.nonce} was used by somebody else"))
            return
        item.used_up_s = 0.0
        if self.rpc.transaction(item.hashes[-1]) is None:
            self._submit(item)
        elif lowest and mined < item.nonce:
            self._fill(item, mined)

    def _fill(self, item: Waiting, mined: int) -> None:
        nonce = self.rpc.nonce(self.wallet.address)
        if nonce != mined or nonce in self.waiting or nonce >= item.nonce:
            return  # what is missing waits in the pool: another process sent it
        bid = opening(quote(self.rpc, False), item.policy, current(item.urgency))
        nothing = Call(self.wallet.address, b"", 0, PLAIN_GAS)
        filler = Waiting(nothing, nonce, bid, item.policy, item.urgency, orphaned=True, filler=True)
        self._begin(filler, self.rpc.block_number())

    def _overdue(self, item: Waiting, block: int) -> bool:
        waited = time.monotonic() - item.since_s >= item.policy.replace_after_s
        return waited or block - item.since_block >= item.policy.replace_after_blocks

    def _replace(self, item: Waiting, block: int) -> None:
        item.since_s, item.since_block = time.monotonic(), block
        try:
            asked = quote(self.rpc, bool(item.call.blobs))
            item.bid = raised(item.bid, asked, item.policy, current(item.urgency))
        except ChainError as error:
            if error.code != "FEE_TOO_HIGH":
                raise
            item.blocked = error
            return
        item.blocked = None
        self._sign(item)
        self._submit(item)


def _about(error: ChainError, *words: str) -> bool:
    text = error.message.lower()
    return any(word in text for word in words)
