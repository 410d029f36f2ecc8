# SPDX-License-Identifier: GPL-3.0-or-later
"""Why an attestor objects, as a file whose hash goes into the veto.

Rules: canonical JSON (sorted keys, no spaces, one final newline), so that the SHA-256 in the veto's event names
exactly one file; written once under that hash. It holds both headers and where to look, and nothing secret.
"""

import json
import os
from pathlib import Path
from typing import Any, Final

from clearing.model.errors import NovateError
from proofs.hashing import sha256

FORMAT: Final = "novate-evidence/1"
# Far more than ours have; what is nested deeper than the C stack is high would end the process.
_MOST_BRACKETS: Final = 1_000
# Why a posted header is objected to.
REASONS: Final = {
    "HEADER_DIFFERS": "the header is not the one that the journal gives",
    "NOT_IN_JOURNAL": "no entry up to the header's journal size closes this epoch",
    "JOURNAL_DIVERGED": "an entry that the header covers does not reproduce",
    "DATA_WITHHELD": "the journal that the header covers was not served in time",
}


def encode(reason: str, vault: int, epoch: int, **details: Any) -> bytes:
    """The file's bytes. `reason` is a key of REASONS; details are strings, numbers, lists or None."""
    content = {"format": FORMAT, "reason": reason, "meaning": REASONS[reason], "vault": vault, "epoch": epoch} | details
    return (json.dumps(content, sort_keys=True, separators=(",", ":")) + "\n").encode()


def save(folder: Path, content: bytes) -> bytes:
    """Write evidence into `folder`/evidence under its hash; the hash. Raises `NovateError` DISK_FULL."""
    digest = sha256(content)
    path = folder / "evidence" / f"{digest.hex()}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_bytes() != content:  # torn by a crash
            temporary = path.with_suffix(".tmp")
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
    except OSError as error:
        raise NovateError("DISK_FULL", f"{path} was not written: {error.strerror}") from None
    return digest


def load(path: Path) -> tuple[bytes, dict[str, Any]]:
    """(hash, content) of an evidence file. Raises `NovateError` EVIDENCE_INVALID."""
    try:
        content = path.read_bytes()
        if content.count(b"[") + content.count(b"{") > _MOST_BRACKETS:
            raise ValueError("it is nested too deeply")
        found = json.loads(content)
        again = (json.dumps(found, sort_keys=True, separators=(",", ":")) + "\n").encode()
    except (OSError, ValueError, RecursionError) as error:
        raise NovateError("EVIDENCE_INVALID", f"{path} cannot be read as evidence: {error}") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT or again != content:
        raise NovateError("EVIDENCE_INVALID", f"{path} is not evidence in its one canonical form")
    return sha256(content), found
