# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks entries of a published log with sigstore's verifier for its own log, Rekor; nothing of ours is imported.

    .tools/sigstore/bin/python tools/tlog_sigstore/check.py < CASES.json

Stdin is {"key": hex of the Ed25519 key, "key_id": hex of the note's key id, "cases": [{"accept", "index",
"size", "entry", "root", "path", "note"}]}, bytes in hex. A case is put into the form of a Rekor entry: the
body is the journal's entry. sigstore then checks its inclusion path, the signature of the note, and that both
name the same root. It does not compare the size with the note's, and it has no consistency proofs.
The first case that is accepted or refused against what it says ends this with status 1.
"""

import base64
import json
import sys
from typing import Any

from pydantic import ValidationError
from sigstore._internal.merkle import verify_merkle_inclusion  # type: ignore[import-not-found]
from sigstore._internal.rekor.checkpoint import verify_checkpoint  # type: ignore[import-not-found]
from sigstore._internal.trust import Keyring, RekorKeyring  # type: ignore[import-not-found]
from sigstore.errors import VerificationError  # type: ignore[import-not-found]
from sigstore.models import TransparencyLogEntry  # type: ignore[import-not-found]
from sigstore_models.common import v1 as common  # type: ignore[import-not-found]
from sigstore_models.rekor import v1 as rekor  # type: ignore[import-not-found]

# SubjectPublicKeyInfo of Ed25519 (RFC 8410), up to the key itself.
_ED25519_INFO = bytes.fromhex("302a300506032b6570032100")


def _text(data: str) -> bytes:
    return base64.b64encode(bytes.fromhex(data))


def entry_of(case: dict[str, Any], key_id: str) -> Any:
    """The case as a Rekor entry."""
    proof = rekor.InclusionProof(
        log_index=str(case["index"]),
        root_hash=_text(case["root"]),
        tree_size=str(case["size"]),
        hashes=[_text(item) for item in case["path"]],
        checkpoint=rekor.Checkpoint(envelope=case["note"]),
    )
    return TransparencyLogEntry(
        rekor.TransparencyLogEntry(
            log_index=str(case["index"]),
            log_id=common.LogId(key_id=_text(key_id)),
            kind_version=rekor.KindVersion(kind="novate", version="1"),
            inclusion_proof=proof,
            canonicalized_body=_text(case["entry"]),
        )
    )


def main() -> None:
    """Check all cases of stdin."""
    given = json.load(sys.stdin)
    info = base64.b64encode(_ED25519_INFO + bytes.fromhex(given["key"]))
    known = common.PublicKey(raw_bytes=info, key_details=common.PublicKeyDetails.PKIX_ED25519)
    ring = RekorKeyring(Keyring([known]))
    for number, case in enumerate(given["cases"]):
        why = ""
        try:
            entry = entry_of(case, given["key_id"])
            verify_merkle_inclusion(entry)
            verify_checkpoint(ring, entry)
        except (VerificationError, ValidationError) as error:
            why = f"{type(error).__name__}: {error}"
        if (not why) != case["accept"]:
            sys.exit(f"case {number}: accept={case['accept']}, but: {why or 'accepted'}")
    print(f"ok {len(given['cases'])} cases")


if __name__ == "__main__":
    main()
