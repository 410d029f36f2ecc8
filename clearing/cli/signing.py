# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands signed with the operator's live key, for the command line."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clearing.client.http import ApiClient
    from clearing.model.commands import OperatorCommand


def submit_as_operator(directory: Path, client: "ApiClient", command: "OperatorCommand") -> dict[str, Any]:
    """Sign with the key that genesis or the last rotation named; the receipt, rejected or not.

    Raises `NovateError` (the key is not in DATA/keys), `ApiError`.
    """
    from clearing.model.commands import OperatorBatch
    from clearing.model.signature import sign
    from clearing.service.layout import KeyRing, Layout

    status = client.status()
    live = bytes.fromhex(str(status["operator_key"])[2:])
    key = KeyRing(Layout(directory).keys).ed25519(live)
    body = OperatorBatch(bytes.fromhex(str(status["deployment"])[2:]), time.time_ns() // 1_000, (command,))
    return client.submit(sign(body, key.seed))
