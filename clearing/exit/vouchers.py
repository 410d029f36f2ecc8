# SPDX-License-Identifier: GPL-3.0-or-later
"""Vouchers on the owner's side: money before the epoch that carries it is final.

Operator and owner sign how much was promised in all; the contract pays what that adds to earlier vouchers, out
of the operator's float, and takes it back from later claims or the escape of the owner. So the highest figure
wins, and a voucher only moves money earlier: it is never more than the owner has coming.

Rules: a file holds one voucher of one owner and asset with both signatures, mode 0600, since whoever has it can
have it paid (to the owner). A lower figure never replaces a higher one. Everything is checked against the
chain before a fee is spent. Nothing here asks the operator.
"""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from clearing.chain.abi import keccak
from clearing.chain.errors import ChainError
from clearing.chain.rpc import hexed
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import Wallet, recover, voucher_digest
from clearing.exit.assets import Asset
from clearing.exit.errors import ExitError
from clearing.exit.outlook import duration, moment
from clearing.exit.rebuild import require_vault
from proofs.inbox import Voucher

FORMAT: Final = "novate-voucher/1"
MAX_FILE_BYTES: Final = 64 << 10
_ERC1271: Final = keccak(b"isValidSignature(bytes32,bytes)")[:4]


@dataclass(frozen=True, slots=True)
class SignedVoucher:
    """A voucher and its signatures; `operator_signature` is empty until the operator countersigned."""

    chain_id: int
    vault: bytes
    voucher: Voucher
    owner_signature: bytes
    operator_signature: bytes = b""

    @property
    def digest(self) -> bytes:
        """What both sign."""
        return voucher_digest(self.chain_id, self.vault, self.voucher)

    @property
    def about(self) -> tuple[int, bytes, bytes, int]:
        """What figures of it are cumulative over: chain, vault, owner, asset."""
        return self.chain_id, self.vault, self.voucher.owner, self.voucher.asset


@dataclass(frozen=True, slots=True)
class Standing:
    """How an owner stands with vouchers in one asset, in atoms: `total` was advanced, `repaid` of it came back;
    the float holds `float_atoms` and pays at most `cap` per hour."""

    total: int
    repaid: int
    float_atoms: int
    cap: int
    frozen: bool
    chain_time_s: int

    @property
    def outstanding(self) -> int:
        """What later claims and the escape will repay."""
        return self.total - self.repaid

    def redeemable(self, signed: SignedVoucher | None) -> int:
        """What the voucher would pay now, as far as the float goes."""
        if signed is None or self.frozen or self.expired(signed):
            return 0
        return max(0, min(signed.voucher.cumulative - self.total, self.float_atoms))

    def expired(self, signed: SignedVoucher) -> bool:
        """Whether the contract refuses it for its age."""
        return signed.voucher.expiry < self.chain_time_s


def read_standing(vault: VaultClient, owner: bytes, asset: int) -> Standing:
    """Raises `ChainError`."""
    advance = vault.advanced_of(owner, asset)
    limits = vault.float_of(asset), vault.float_cap(asset)
    return Standing(advance.total, advance.repaid, *limits, vault.frozen(), vault.rpc.time_s())


def draft(vault: VaultClient, wallet: Wallet, asset: int, amount: int, valid_s: int) -> SignedVoucher:
    """A voucher for `amount` atoms more than was advanced so far, signed by its owner.

    Raises `ExitError` WRONG_DOMAIN, VAULT_FROZEN, `ChainError`.
    """
    domain = require_vault(vault)
    standing = read_standing(vault, wallet.address, asset)
    if standing.frozen:
        raise _frozen()
    voucher = Voucher(domain, wallet.address, asset, standing.total + amount, standing.chain_time_s + valid_s)
    made = SignedVoucher(vault.rpc.chain_id(), vault.address, voucher, b"")
    return replace(made, owner_signature=wallet.sign_digest(made.digest))


def require_higher(signed: SignedVoucher, last: SignedVoucher | None) -> None:
    """Raises `ExitError` VOUCHER_OTHER, VOUCHER_LOWER when `signed` must not take the place of `last`."""
    if last is None:
        return
    if last.about != signed.about:
        raise ExitError("VOUCHER_OTHER", "the file holds a voucher of another vault, owner or asset; choose another -o")
    if signed.voucher.cumulative < last.voucher.cumulative:
        text = f"you hold a voucher for {last.voucher.cumulative} atoms in all, and this one is for"
        more = last.voucher.cumulative - signed.voucher.cumulative
        text = f"{text} {signed.voucher.cumulative}: ask for at least {more} atoms more, or redeem the one you hold"
        raise ExitError("VOUCHER_LOWER", text)


def countersigned(vault: VaultClient, drafted: SignedVoucher, answer: dict[str, Any]) -> SignedVoucher:
    """The voucher with the operator's signature out of its answer, once that signs what was asked for.

    Raises `ExitError` VOUCHER_SIGNATURE, `ChainError`.
    """
    try:
        signature = bytes.fromhex(str(answer["operator_signature"]).removeprefix("0x"))
    except (KeyError, ValueError):
        raise ExitError("VOUCHER_SIGNATURE", "the operator's answer holds no signature; ask again") from None
    signed = replace(drafted, operator_signature=signature)
    require_signed(vault, signed)
    return signed


def require_signed(vault: VaultClient, signed: SignedVoucher) -> None:
    """Raises `ExitError` VOUCHER_OTHER, VOUCHER_SIGNATURE unless both parties signed for this vault."""
    domain = require_vault(vault)
    place = vault.rpc.chain_id(), vault.address, domain
    if (signed.chain_id, signed.vault, signed.voucher.domain) != place:
        text = f"the voucher is for vault {hexed(signed.vault)} of chain {signed.chain_id}; change --rpc and --vault"
        raise ExitError("VOUCHER_OTHER", text)
    for party, address, signature in (
        ("its owner", signed.voucher.owner, signed.owner_signature),
        ("the vault's operator", vault.operator(), signed.operator_signature),
    ):
        if not _signed_by(vault, address, signed.digest, signature):
            raise ExitError("VOUCHER_SIGNATURE", f"the voucher is not signed by {party}; ask for a new one")


def require_payable(vault: VaultClient, signed: SignedVoucher) -> Standing:
    """How the owner stands, once the contract would pay the voucher now.

    Raises `ExitError` VOUCHER_*, VAULT_FROZEN, FLOAT_TOO_LOW, OUTFLOW_CAPPED, `ChainError`.
    """
    require_signed(vault, signed)
    standing = read_standing(vault, signed.voucher.owner, signed.voucher.asset)
    amount = signed.voucher.cumulative - standing.total
    if standing.frozen:
        raise _frozen()
    if standing.expired(signed):
        text = f"the voucher expired at {moment(signed.voucher.expiry)}; ask for a new one: novate voucher request"
        raise ExitError("VOUCHER_EXPIRED", text)
    if amount <= 0:
        text = f"vouchers paid {standing.total} atoms in all already, and this one is for {signed.voucher.cumulative}"
        raise ExitError("VOUCHER_LOWER", f"{text}: the highest wins, so there is nothing left to pay")
    if amount > standing.float_atoms:
        text = f"the operator's float holds {standing.float_atoms} atoms and the voucher asks for {amount}"
        raise ExitError("FLOAT_TOO_LOW", f"{text}; try again later, or claim when the epoch is final: novate claim")
    if amount > standing.cap:
        text = f"vouchers pay at most {standing.cap} atoms an hour and this one asks for {amount}"
        raise ExitError("OUTFLOW_CAPPED", f"{text}; ask for one over less, or claim when the epoch is final")
    return standing


def lines(signed: SignedVoucher | None, standing: Standing, asset: Asset) -> list[str]:
    """How things stand, for people."""
    found = [f"advanced {asset.text(standing.total)}, of which {asset.text(standing.repaid)} were repaid"]
    if standing.outstanding:
        found.append(f"  {asset.text(standing.outstanding)} will be taken from the next claims or the escape")
    if signed is not None:
        left = signed.voucher.expiry - standing.chain_time_s
        until = f"expires in {duration(left)}" if left >= 0 else f"expired at {moment(signed.voucher.expiry)}"
        found.append(f"voucher for {asset.text(signed.voucher.cumulative)} in all, {until}")
        found.append(f"  redeemable now: {asset.text(standing.redeemable(signed))}")
    if standing.frozen:
        found.append("  the vault is frozen: vouchers are no longer paid; leave with: novate exit")
    return found


def load(path: Path) -> SignedVoucher:
    """A voucher file. Raises `ExitError` VOUCHER_MALFORMED, `OSError`."""
    with path.open("rb") as file:
        raw = file.read(MAX_FILE_BYTES + 1)
    try:
        fields = json.loads(raw) if len(raw) <= MAX_FILE_BYTES else None
        if not isinstance(fields, dict) or fields.get("format") != FORMAT:
            raise ValueError("another format")
        numbers = {name: int(fields[name]) for name in ("chain_id", "asset", "cumulative", "expiry")}
        names = ("vault", "domain", "owner", "owner_signature", "operator_signature")
        data = {name: bytes.fromhex(str(fields[name]).removeprefix("0x")) for name in names}
        parts = numbers["asset"], numbers["cumulative"], numbers["expiry"]
        voucher = Voucher(data["domain"], data["owner"], *parts)
        voucher.encode()
        if len(data["vault"]) != 20:
            raise ValueError("no vault")
    except Exception as error:  # noqa: BLE001 - whatever does not read is no voucher
        raise ExitError("VOUCHER_MALFORMED", f"{path} is no voucher ({error}); ask for one again") from None
    signatures = data["owner_signature"], data["operator_signature"]
    return SignedVoucher(numbers["chain_id"], data["vault"], voucher, *signatures)


def load_last(path: Path) -> SignedVoucher | None:
    """The voucher in a file, or None when there is no such file. Raises as `load`."""
    return load(path) if path.exists() else None


def save(path: Path, signed: SignedVoucher) -> None:
    """Write a voucher, mode 0600, in the place of an earlier one of the same owner and asset.

    Raises `ExitError` VOUCHER_OTHER, VOUCHER_LOWER, VOUCHER_MALFORMED, `OSError`.
    """
    require_higher(signed, load_last(path))
    fields = {"format": FORMAT, "chain_id": signed.chain_id, "vault": hexed(signed.vault)}
    voucher = signed.voucher
    fields |= {"domain": hexed(voucher.domain), "owner": hexed(voucher.owner), "asset": voucher.asset}
    fields |= {"cumulative": str(voucher.cumulative), "expiry": voucher.expiry}
    fields |= {"owner_signature": hexed(signed.owner_signature)}
    fields |= {"operator_signature": hexed(signed.operator_signature)}
    partial = path.with_name(path.name + ".partial")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(fields, file, indent=2)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def _frozen() -> ExitError:
    return ExitError("VAULT_FROZEN", "the vault is frozen and pays no vouchers; leave with everything: novate exit")


def _signed_by(vault: VaultClient, address: bytes, digest: bytes, signature: bytes) -> bool:
    """An account's signature, or a contract wallet's by ERC-1271."""
    if recover(digest, signature) == address:
        return True
    if not signature or not vault.rpc.code(address):
        return False
    words = digest + (64).to_bytes(32, "big") + len(signature).to_bytes(32, "big")
    call = _ERC1271 + words + signature + bytes(-len(signature) % 32)
    try:
        return vault.rpc.call(address, call)[:32] == _ERC1271.ljust(32, b"\0")
    except ChainError as error:
        if error.code != "TX_REVERTED":
            raise
        return False
