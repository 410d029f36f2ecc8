# SPDX-License-Identifier: GPL-3.0-or-later
"""Journal, epochs, attestations and vouchers as they are sent."""

from typing import Any

import msgspec

from clearing.api.messages.commands import Head
from clearing.api.messages.common import Amount, Hex


class ProvenEntry(msgspec.Struct, frozen=True):
    """An entry, and its inclusion proof to the newest signed head."""

    seq: int
    entry: Hex
    entry_hash: Hex
    proof: list[Hex]
    checkpoint: Head


class Entry(msgspec.Struct, frozen=True):
    """An entry's bytes, and what they hold."""

    seq: int
    time_us: int
    envelope: Hex
    outcomes: list[dict[str, Any]]
    entry: Hex


class EpochRow(msgspec.Struct, frozen=True):
    epoch: int
    header_hashes: dict[str, Hex]
    posted: bool


class Epochs(msgspec.Struct, frozen=True):
    """`last` closed, `posted` on every live vault; `epochs` oldest first."""

    last: int
    posted: int
    epochs: list[EpochRow]


class HeaderRow(msgspec.Struct, frozen=True):
    vault: int
    header: Hex
    header_hash: Hex
    chunk_hashes: list[Hex]
    posted: bool


class Epoch(msgspec.Struct, frozen=True):
    epoch: int
    posted: bool
    journal_size: int
    journal_root: Hex
    headers: list[HeaderRow]
    outcome: dict[str, Any]


class Headers(msgspec.Struct, frozen=True):
    epoch: int
    headers: list[HeaderRow]


class Attestations(msgspec.Struct, frozen=True):
    """Per live vault: the threshold, who has signed the header, and who has not."""

    epoch: int
    vaults: list[dict[str, Any]]


class Attested(msgspec.Struct, frozen=True):
    """Who signed, and who has signed by now."""

    attestor: Hex
    vault: int
    epoch: int
    header_hash: Hex
    threshold: int
    signed: list[dict[str, Any]]
    missing: list[Hex]


class AttestationBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    vault: int
    epoch: int
    header_hash: Hex
    signature: Hex


class VoucherBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`cumulative`: atoms; `expiry`: seconds UTC; `signature`: the owner's."""

    vault: int
    asset: int
    cumulative: int | Amount
    expiry: int
    owner: Hex
    signature: Hex


class Voucher(msgspec.Struct, frozen=True):
    """A voucher with both signatures. `domain`: of the vault's exits."""

    vault: int
    domain: Hex
    owner: Hex
    asset: int
    cumulative: Amount
    expiry: int
    owner_signature: Hex
    operator_signature: Hex
