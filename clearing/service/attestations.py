# SPDX-License-Identifier: GPL-3.0-or-later
"""Attestors' signatures over our headers, until enough of them are there to post.

    attestations/<epoch, 10 digits>.signed   canonical msgpack of a list of Attestation

Rules:
- Only a signature of an attestor that genesis names, over the very header that we hold, is kept; it is
  on disk before its sender hears so. Handing the same one in again changes nothing.
- A header takes `threshold` signatures, of the lowest addresses that have signed: any set of that
  size is as good, and this one is the same each time.
"""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from clearing.chain.wallet import attestation_digest, recover
from clearing.model.codec import encode
from clearing.model.commands import Genesis
from clearing.model.errors import NovateError, Refused
from clearing.service.epochs import EpochBook, write_durably

_SUFFIX: Final = ".signed"


class Attestation(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """One attestor's 65-byte signature over a vault's header."""

    vault: int
    header_hash: bytes
    attestor: bytes
    signature: bytes


_decode = msgspec.msgpack.Decoder(tuple[Attestation, ...]).decode


class AttestationBook:
    """Signatures by epoch. Thread-safe; `on_added` hears the vault's number after a new one is on disk."""

    def __init__(
        self, folder: Path, genesis: Genesis, book: EpochBook, on_added: Callable[[int], None] | None = None
    ) -> None:
        self._folder = folder
        self._genesis = genesis
        self._book = book
        self._on_added = on_added
        self._lock = threading.Lock()
        self._known: tuple[int, tuple[Attestation, ...]] = (0, ())

    def add(self, vault: int, epoch: int, header_hash: bytes, signature: bytes) -> bytes:
        """Take a signature; the attestor's address.

        Raises `Refused` UNKNOWN_EPOCH, UNKNOWN_VAULT, NO_HEADER, HEADER_DIFFERS, NOT_ATTESTOR; `NovateError` DISK_FULL.
        """
        part = self._book.load(epoch).part(vault)
        if part.header_hash != header_hash:
            message = f"our header of epoch {epoch} for vault {vault} is 0x{part.header_hash.hex()}; replay again"
            raise Refused("HEADER_DIFFERS", message)
        spec = self._genesis.vaults[vault]
        attestor = recover(attestation_digest(spec.chain_id, spec.address, header_hash), signature)
        if attestor not in spec.attestors:
            name = "0x" + attestor.hex() if attestor else "nobody"
            raise Refused("NOT_ATTESTOR", f"the signature is by {name}, who is no attestor of vault {vault}")
        with self._lock:
            known = self._load(epoch)
            if any((a.vault, a.attestor) == (vault, attestor) for a in known):
                return attestor
            found = sorted(
                (*known, Attestation(vault, header_hash, attestor, signature)), key=lambda a: (a.vault, a.attestor)
            )
            write_durably(self._path(epoch), encode(found))
            self._known = epoch, tuple(found)
        if self._on_added is not None:
            self._on_added(vault)
        return attestor

    def of(self, vault: int, epoch: int) -> list[Attestation]:
        """A vault's signatures over its header of an epoch, ascending by address."""
        header_hash = self._book.load(epoch).part(vault).header_hash
        with self._lock:
            return [a for a in self._load(epoch) if a.vault == vault and a.header_hash == header_hash]

    def enough(self, vault: int, epoch: int) -> list[bytes] | None:
        """The signatures to post with, ascending by signer; None while there are too few."""
        threshold = self._genesis.vaults[vault].threshold
        if not threshold:
            return []
        found = self.of(vault, epoch)
        return [a.signature for a in found[:threshold]] if len(found) >= threshold else None

    def view(self, vault: int, epoch: int) -> dict[str, Any]:
        """Who has signed and who has not, as JSON."""
        spec = self._genesis.vaults[vault]
        found = self.of(vault, epoch)
        signed = {a.attestor for a in found}
        return {
            "vault": vault,
            "epoch": epoch,
            "header_hash": "0x" + self._book.load(epoch).part(vault).header_hash.hex(),
            "threshold": spec.threshold,
            "signed": [{"attestor": "0x" + a.attestor.hex(), "signature": "0x" + a.signature.hex()} for a in found],
            "missing": ["0x" + address.hex() for address in spec.attestors if address not in signed],
        }

    def _path(self, epoch: int) -> Path:
        return self._folder / f"{epoch:010d}{_SUFFIX}"

    def _load(self, epoch: int) -> tuple[Attestation, ...]:
        if self._known[0] == epoch:
            return self._known[1]
        path = self._path(epoch)
        try:
            found = _decode(path.read_bytes())
        except FileNotFoundError:
            found = ()
        except (OSError, msgspec.MsgspecError, ValueError) as error:
            message = f"{path}: {error}; delete it, attestors hand their signatures in again"
            raise NovateError("ATTESTATIONS_DAMAGED", message) from None
        self._known = epoch, found
        return found
