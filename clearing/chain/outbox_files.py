# SPDX-License-Identifier: GPL-3.0-or-later
"""An outbox's memory across restarts: one small JSON file per waiting transaction.

A file names the chain by its id and its first block, so that a development chain that was started anew
is another chain. It holds nothing secret: signatures are made again from the same fields. It is written
beside and renamed into place, and synced before anything is sent. One process at a time uses a folder.
"""

import json
import os
from pathlib import Path
from typing import Any, Final, NamedTuple

from clearing.chain.errors import ChainError

VERSION: Final = 1


class Saved(NamedTuple):
    """A transaction's nonce, call (to, data, value, gas, blobs), bid and the hashes of its forms."""

    nonce: int
    call: tuple[Any, ...]
    bid: tuple[int, ...]
    hashes: tuple[bytes, ...]


class Files:
    """The files of one key on one chain."""

    def __init__(self, folder: Path, chain_id: int, first_block: bytes, address: bytes) -> None:
        self._folder = folder
        self._name = f"{chain_id}-{first_block.hex()[:16]}-{address.hex()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(folder, error) from None

    def _path(self, nonce: int) -> Path:
        return self._folder / f"{self._name}-{nonce}.json"

    def save(self, item: Saved) -> None:
        """Raises `ChainError` OUTBOX_FOLDER: then nothing may be sent."""
        to, data, value, gas, blobs = item.call
        fields = {
            "version": VERSION,
            "nonce": item.nonce,
            "to": to.hex() if to is not None else None,
            "data": data.hex(),
            "value": value,
            "gas": gas,
            "blobs": [blob.hex() for blob in blobs],
            "bid": list(item.bid),
            "hashes": [tx_hash.hex() for tx_hash in item.hashes],
        }
        path = self._path(item.nonce)
        fresh = path.with_suffix(".new")
        try:
            with fresh.open("w") as file:
                json.dump(fields, file)
                file.flush()
                os.fsync(file.fileno())
            fresh.replace(path)
        except OSError as error:
            raise _unusable(self._folder, error) from None

    def forget(self, nonce: int) -> None:
        self._path(nonce).unlink(missing_ok=True)

    def load(self) -> list[Saved]:
        """Everything remembered, by nonce. Raises `ChainError` OUTBOX_FOLDER for a damaged file: what it
        was about may still be mined, so it is for people to look at."""
        found = [_parse(path) for path in sorted(self._folder.glob(f"{self._name}-*.json"))]
        return sorted(found, key=lambda item: item.nonce)


def _parse(path: Path) -> Saved:
    try:
        fields = json.loads(path.read_text())
        if fields["version"] != VERSION:
            raise ValueError(f"version {fields['version']}")
        to = bytes.fromhex(fields["to"]) if fields["to"] is not None else None
        blobs = tuple(bytes.fromhex(blob) for blob in fields["blobs"])
        call = to, bytes.fromhex(fields["data"]), int(fields["value"]), int(fields["gas"]), blobs
        bid, hashes = tuple(map(int, fields["bid"])), tuple(bytes.fromhex(text) for text in fields["hashes"])
        return Saved(int(fields["nonce"]), call, bid, hashes)
    except (OSError, ValueError, KeyError, TypeError) as error:
        text = f"{path} is damaged ({error!r}); see whether its transaction was mined, then remove it"
        raise ChainError("OUTBOX_FOLDER", text) from None


def _unusable(folder: Path, error: OSError) -> ChainError:
    return ChainError("OUTBOX_FOLDER", f"cannot keep what is sent in {folder}: {error.strerror or error}")
