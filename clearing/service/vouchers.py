# SPDX-License-Identifier: GPL-3.0-or-later
"""Countersigning vouchers: money for an owner before the epoch that carries it is final.

    vouchers/<vault>-<asset>-<owner>.voucher   canonical msgpack of the last Signed of that owner and asset

Rules:
- A voucher is paid from the operator's own float, and later claims of its owner repay it. So only what
  the journal has acknowledged and the vault has not paid yet is countersigned: the rest could not be
  recovered. An owner who claims after that and redeems then owes the difference to the float: that is
  the operator's risk, bounded by the float, its hourly cap and how long vouchers live.
- What was signed is on disk before it is handed out, under one lock, so that no two figures of an owner
  cross, whatever crashes. A lower figure than the last one is refused and told: the contract pays the
  highest, so a lower one is a misunderstanding.
- A frozen vault and a venue that is winding down countersign nothing.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from clearing.chain.abi import keccak
from clearing.chain.errors import ChainError
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet, recover, voucher_digest
from clearing.core.state import State
from clearing.model.codec import encode
from clearing.model.errors import NovateError, Refused
from clearing.service.epochs import write_durably
from clearing.service.links import Link
from clearing.service.pipeline import Pipeline
from proofs.hashing import exit_domain
from proofs.inbox import Voucher

_MAGIC: Final = keccak(b"isValidSignature(bytes32,bytes)")[:4]
_SECOND_US: Final = 1_000_000


class Signed(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """A voucher with both signatures; `expiry` in seconds UTC, amounts in atoms."""

    vault: int
    asset: int
    owner: bytes
    cumulative: int
    expiry: int
    owner_signature: bytes
    operator_signature: bytes


_decode = msgspec.msgpack.Decoder(Signed).decode


class VoucherDesk:
    """Countersigns vouchers. `wallet` gives the operator's key. Thread-safe."""

    def __init__(
        self,
        pipeline: Pipeline,
        links: Sequence[Link],
        folder: Path,
        wallet: Callable[[], Wallet],
        clock_us: Callable[[], int],
        max_seconds: int,
    ) -> None:
        self._pipeline = pipeline
        self._links = links
        self._folder = folder
        self._wallet = wallet
        self._clock_us = clock_us
        self._max_seconds = max_seconds
        self._lock = threading.Lock()

    def countersign(
        self, vault: int, asset: int, cumulative: int, expiry: int, owner: bytes, signature: bytes
    ) -> Signed:
        """The voucher with the operator's signature.

        Raises `Refused` UNKNOWN_VAULT, UNKNOWN_ASSET, UNKNOWN_OWNER, VAULT_FROZEN, WINDING_DOWN, VOUCHER_EXPIRY,
        VOUCHER_TOO_HIGH, VOUCHER_TOO_LOW, BAD_SIGNATURE, FLOAT_TOO_LOW, OUTFLOW_CAPPED; `NovateError` NO_CHAIN,
        DISK_FULL; `ChainError`.
        """
        acked = self._acked(vault, asset, owner)
        self._check_expiry(expiry)
        link = self._links[vault]
        client = link.require()
        domain = exit_domain(link.spec.chain_id, link.spec.address)
        digest = voucher_digest(
            link.spec.chain_id, link.spec.address, Voucher(domain, owner, asset, cumulative, expiry)
        )
        if not _signed_by(client, owner, digest, signature):
            raise Refused("BAD_SIGNATURE", f"the voucher is not signed by 0x{owner.hex()}; sign it with that wallet")
        self._check_chain(client, acked, owner, asset, cumulative)
        with self._lock:
            last = self._last(vault, asset, owner)
            if last is not None and (cumulative, expiry) < (last.cumulative, last.expiry):
                message = f"{last.cumulative} atoms until {last.expiry} were signed before; ask for that or more"
                raise Refused("VOUCHER_TOO_LOW", message)
            operator_signature = self._wallet().sign_digest(digest)
            found = Signed(vault, asset, owner, cumulative, expiry, signature, operator_signature)
            write_durably(self._path(vault, asset, owner), encode(found))
        return found

    def countersigned(
        self, vault: int, asset: int, cumulative: int, expiry: int, owner: bytes, signature: bytes
    ) -> dict[str, Any]:
        """`countersign`, as JSON; `cumulative` is a decimal string."""
        found = self.countersign(vault, asset, cumulative, expiry, owner, signature)
        spec = self._links[vault].spec
        return {
            "vault": found.vault,
            "domain": "0x" + exit_domain(spec.chain_id, spec.address).hex(),
            "owner": "0x" + found.owner.hex(),
            "asset": found.asset,
            "cumulative": str(found.cumulative),
            "expiry": found.expiry,
            "owner_signature": "0x" + found.owner_signature.hex(),
            "operator_signature": "0x" + found.operator_signature.hex(),
        }

    # --- what the journal says ---

    def _acked(self, vault: int, asset: int, owner: bytes) -> int:
        """Atoms of the owner's acknowledged withdrawals in that lane."""
        if not 0 <= vault < len(self._links):
            raise Refused("UNKNOWN_VAULT", f"there is no vault {vault}; the deployment has {len(self._links)}")
        with self._pipeline.lock:
            state = self._pipeline.reducer.state
            lane = state.lane_of(vault, asset)
            if lane is None:
                raise Refused("UNKNOWN_ASSET", f"vault {vault} has no asset {asset}; GET /v1/status lists them")
            _require_open(state, vault)
            found = state.owners.get(owner)
            if found is None:
                raise Refused("UNKNOWN_OWNER", f"0x{owner.hex()} has no account; deposit into the vault first")
            if owner == state.genesis.treasury:
                raise Refused("HOUSE_LOCKED", "the house is paid through its leaf alone; claim what is final")
            return int(found.acks[lane])

    def _check_expiry(self, expiry: int) -> None:
        now_s = self._clock_us() // _SECOND_US
        if not now_s < expiry <= now_s + self._max_seconds:
            message = f"expiry {expiry} must be after {now_s} and at most {self._max_seconds} seconds later"
            raise Refused("VOUCHER_EXPIRY", message)

    # --- what the chain says ---

    def _check_chain(self, client: VaultClient, acked: int, owner: bytes, asset: int, cumulative: int) -> None:
        if client.frozen():
            raise Refused("VAULT_FROZEN", "the vault is frozen and redeems no vouchers; leave it with: novate exit")
        total, repaid = client.advanced_of(owner, asset)
        # What the vault will still pay on acknowledged withdrawals, less what vouchers advanced of it.
        most = min(acked, acked - client.claimed_of(owner, asset) + repaid)
        if not total < cumulative <= most:
            message = f"{cumulative} atoms: {total} were paid already, and at most {max(total, most)} are acknowledged"
            raise Refused("VOUCHER_TOO_HIGH" if cumulative > most else "VOUCHER_TOO_LOW", message)
        amount = cumulative - total
        held = client.float_of(asset)
        if amount > held:
            message = f"the float holds {held} atoms, not {amount}; claim when the epoch is final instead"
            raise Refused("FLOAT_TOO_LOW", message)
        cap = client.float_cap(asset)
        if amount > cap:
            message = f"vouchers pay at most {cap} atoms an hour, not {amount}; ask for less, or claim later"
            raise Refused("OUTFLOW_CAPPED", message)

    # --- what was signed before ---

    def _path(self, vault: int, asset: int, owner: bytes) -> Path:
        return self._folder / f"{vault}-{asset}-{owner.hex()}.voucher"

    def _last(self, vault: int, asset: int, owner: bytes) -> Signed | None:
        path = self._path(vault, asset, owner)
        try:
            return _decode(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, ValueError) as error:
            raise NovateError("VOUCHER_FILE_DAMAGED", f"{path}: {error}; restore it from a backup") from None


def _require_open(state: State, vault: int) -> None:
    if state.vaults[vault].frozen is not None:
        raise Refused("VAULT_FROZEN", f"vault {vault} is frozen and redeems no vouchers; leave it with: novate exit")
    if state.winding:
        raise Refused("WINDING_DOWN", "the venue is winding down; claim when its last epoch is final")


def _signed_by(client: VaultClient, owner: bytes, digest: bytes, signature: bytes) -> bool:
    """An account's signature, or a contract wallet's by ERC-1271."""
    if recover(digest, signature) == owner:
        return True
    if not client.rpc.code(owner):
        return False
    padded = signature + bytes(-len(signature) % 32)
    words = digest + (64).to_bytes(32, "big") + len(signature).to_bytes(32, "big")
    try:
        return client.rpc.call(owner, _MAGIC + words + padded)[:32] == _MAGIC.ljust(32, b"\0")
    except ChainError as error:
        if error.code != "TX_REVERTED":
            raise
        return False
