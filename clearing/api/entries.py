# SPDX-License-Identifier: GPL-3.0-or-later
"""Entries as the replica takes them: decoded up to what was signed, their outcomes left as bytes to compare with."""

from typing import Final, NamedTuple

import msgspec

from clearing.model import commands as c
from clearing.model.codec import decode_any_envelope
from clearing.model.errors import NovateError, Refused

DIVERGED: Final = "REPLICA_DIVERGED"
# May touch every account: never on the event loop.
_HEAVY: Final = frozenset(
    (
        c.CloseEpoch, c.SettleExpiry, c.FundingTick, c.ChargeInterest, c.ProposeParams, c.ResolveDeficit, c.Deleverage,
        c.FreezeVault, c.EscapeLeaves, c.EscapeDeposits, c.SettleEscape, c.RunForced, c.StartWindDown, c.RunWindDown,
    )
)  # fmt: skip


class _Skim(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    """An entry with its outcomes left as bytes: ours are compared with the whole."""

    seq: int
    time_us: int
    envelope: bytes
    outcomes: msgspec.Raw


class Entry(NamedTuple):
    """An entry's bytes, its envelope as signed and decoded, and the body in that."""

    data: bytes
    time_us: int
    raw: bytes
    envelope: c.Envelope
    body: c.Body


_skim = msgspec.msgpack.Decoder(_Skim).decode


def read(seq: int, data: bytes) -> Entry:
    """Decode an entry up to its body. Raises `NovateError` REPLICA_DIVERGED."""
    try:
        skim = _skim(data)
        envelope, body = decode_any_envelope(skim.envelope)
    except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError, Refused) as error:
        raise NovateError(DIVERGED, f"entry {seq} cannot be read ({error})") from None
    return Entry(data, skim.time_us, skim.envelope, envelope, body)


def is_heavy(body: c.Body) -> bool:
    """Whether an entry's command may touch every account."""
    return type(body) is c.OperatorBatch and type(body.commands[0]) in _HEAVY
