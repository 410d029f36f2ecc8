# SPDX-License-Identifier: GPL-3.0-or-later
"""What a governance message approves: the hash of a command."""

import hashlib

import msgspec

from clearing.model.codec import encode
from clearing.model.commands import ProposeParams, ReleaseHouse


def action_hash(command: ProposeParams | ReleaseHouse) -> bytes:
    """32 bytes that the governor sends into the inbox: SHA-256("novate/action/v1" | canonical msgpack).

    When a parameter set takes force is not part of it: the notice period runs from the proposal.
    """
    if isinstance(command, ProposeParams):
        command = msgspec.structs.replace(command, effective_us=0)
    return hashlib.sha256(b"novate/action/v1" + encode(command)).digest()
