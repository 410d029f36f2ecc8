# SPDX-License-Identifier: GPL-3.0-or-later
"""What is submitted, and what comes back for it."""

from typing import Any

import msgspec

from clearing.api.messages.common import Hex


class EnvelopeBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A signed envelope: canonical msgpack [body, key, signature]."""

    envelope: Hex


class EnvelopesBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    envelopes: list[Hex]


class Head(msgspec.Struct, frozen=True):
    """A signed head of the journal: entries, root, and the signed note (C2SP tlog-checkpoint)."""

    size: int
    root: Hex
    note: str


class Rejection(msgspec.Struct, frozen=True):
    """Command `index` of the envelope was refused; nothing of it happened."""

    type: str
    index: int
    code: str


class Receipt(msgspec.Struct, frozen=True, omit_defaults=True):
    """The entry is on disk and in the log. `outcomes` hold what happened, each with its `type`. With `proof=1`: the
    entry's bytes and its inclusion proof to the checkpoint."""

    seq: int
    time_us: int
    entry_hash: Hex
    rejected: list[Rejection]
    outcomes: list[dict[str, Any]]
    checkpoint: Head
    entry: Hex | None = None
    proof: list[Hex] | None = None


class Failure(msgspec.Struct, frozen=True):
    """An envelope that was not taken. It is not in the journal."""

    code: str
    message: str


class Results(msgspec.Struct, frozen=True):
    """Per envelope a receipt or a failure."""

    results: list[dict[str, Any]]
