# SPDX-License-Identifier: GPL-3.0-or-later
"""Proofs of everyone in files, so that a third party can serve owners who cannot rebuild the tree.

A file is JSON, laid out in lines so that it is written and read without holding it:

    {"head": {...},
    "owners": {
    "0x<owner>": {...},
    ...
    },
    "sha256": "<of every byte before this line>"}

head: format, chain_id, vault, deployment, epoch, header (its bytes), header_hash, tokens, inbox_count (at the
time of writing) and `part`: which owners the file holds ("all", or the first byte of their addresses).
An owner's row: index, exits, withdraw_acks, siblings and sums (20 hashes from the bottom up, and their sums
level by level, lane by lane) when there is a leaf, and deposits [index, asset, amount, time, data] that the
header did not consume. Amounts are decimal strings; owners ascend.

A folder holds one such file for each first byte that occurs, and index.json, which has `files` instead of
`owners`: {"<part>": {"file", "owners", "sha256" (of the whole file)}}.

Rules: nothing here is secret or believed; `proof_file` checks what it reads against the chain. A file appears
under its name when it is complete.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from clearing.chain.rpc import hexed
from clearing.chain.vault import Claim, VaultClient
from clearing.exit.errors import ExitError
from clearing.exit.plan import VaultState
from clearing.exit.rebuild import Rebuilt
from proofs.inbox import InboxMessage

FORMAT: Final = "novate-exit/1"
INDEX: Final = "index.json"
ALL: Final = "all"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: the place, the SHA-256 of the file (of a folder: of its index), owners, files and bytes."""

    place: Path
    sha256: bytes
    owners: int
    files: int
    size: int


def head_of(vault: VaultClient, rebuilt: Rebuilt | None) -> dict[str, Any]:
    """What every file says of the vault and the header."""
    return {
        "format": FORMAT,
        "chain_id": vault.rpc.chain_id(),
        "vault": hexed(vault.address),
        "deployment": hexed(vault.deployment_id()),
        "epoch": rebuilt.epoch if rebuilt is not None else 0,
        "header": hexed(rebuilt.header_bytes) if rebuilt is not None else "",
        "header_hash": hexed(rebuilt.header.hash()) if rebuilt is not None else "",
        "tokens": [hexed(token) for token in vault.tokens()],
        "inbox_count": vault.inbox_count(),
    }


def write_file(vault: VaultClient, rebuilt: Rebuilt | None, state: VaultState, path: Path) -> Exported:
    """Everyone's proofs in one file. Raises `OSError`, `ChainError`."""
    head = head_of(vault, rebuilt)
    partial = path.with_name(path.name + ".partial")
    writer = _Writer(partial, head | {"part": ALL}, "owners")
    try:
        for owner, row in _rows(rebuilt, state):
            writer.add(owner, row)
        digest = writer.close()
        os.replace(partial, path)
    except BaseException:
        writer.abandon()
        partial.unlink(missing_ok=True)
        raise
    return Exported(path, digest, writer.count, 1, writer.size)


def write_folder(vault: VaultClient, rebuilt: Rebuilt | None, state: VaultState, folder: Path) -> Exported:
    """Everyone's proofs in a new folder. Raises `ExitError` EXPORT_EXISTS, `OSError`, `ChainError`."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExitError("EXPORT_EXISTS", f"{folder} exists already and is not empty; choose a new folder")
    head = head_of(vault, rebuilt)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        files = dict(_write_parts(partial, head, _rows(rebuilt, state)))
        index = _Writer(partial / INDEX, head, "files")
        for part, told in files.items():
            index.add(part, told)
        digest = index.close()
        size = index.size + sum(path.stat().st_size for path in partial.iterdir() if path.name != INDEX)
        if folder.exists():
            folder.rmdir()
        os.replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Exported(folder, digest, sum(told["owners"] for told in files.values()), len(files) + 1, size)


def _write_parts(
    folder: Path, head: dict[str, Any], rows: Iterator[tuple[bytes, dict[str, Any]]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """One file for each first byte; what the index says of it."""
    writer: _Writer | None = None
    part = ""

    def told(done: _Writer) -> tuple[str, dict[str, Any]]:
        return part, {"file": f"{part}.json", "owners": done.count, "sha256": done.close().hex()}

    try:
        for owner, row in rows:
            if owner[:1].hex() != part or writer is None:
                if writer is not None:
                    yield told(writer)
                part = owner[:1].hex()
                writer = _Writer(folder / f"{part}.json", head | {"part": part}, "owners")
            writer.add(owner, row)
        if writer is not None:
            yield told(writer)
    finally:
        if writer is not None:
            writer.abandon()


def _rows(rebuilt: Rebuilt | None, state: VaultState) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Owners in ascending order, each with a row."""
    known = rebuilt.indexes if rebuilt is not None else {}
    for owner in sorted({*known, *state.deposits}):
        claim = rebuilt.claim_of(owner) if rebuilt is not None else None
        yield owner, _row(claim, state.deposits.get(owner, ()))


def _row(claim: Claim | None, deposits: tuple[InboxMessage, ...]) -> dict[str, Any]:
    row: dict[str, Any] = {}
    if claim is not None:
        row = {
            "index": claim.index,
            "exits": [str(value) for value in claim.exits],
            "withdraw_acks": [str(value) for value in claim.withdraw_acks],
            "siblings": [hexed(value) for value in claim.siblings],
            "sums": [str(value) for value in claim.sibling_sums],
        }
    if deposits:
        row["deposits"] = [[m.index, m.asset, str(m.amount), m.l1_time, hexed(m.data)] for m in deposits]
    return row


class _Writer:
    """One file: hashed as it is written."""

    def __init__(self, path: Path, head: dict[str, Any], table: str) -> None:
        self.count = self.size = 0
        self._whole, self._inner = hashlib.sha256(), hashlib.sha256()
        self._file: IO[bytes] = path.open("wb")
        self._write(b'{"head": ' + _line(head) + b',\n"' + table.encode() + b'": {')

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._whole.update(data)
        self._inner.update(data)
        self.size += len(data)

    def add(self, key: bytes | str, row: dict[str, Any]) -> None:
        name = key if isinstance(key, str) else hexed(key)
        self._write((b",\n" if self.count else b"\n") + f'"{name}": '.encode() + _line(row))
        self.count += 1

    def close(self) -> bytes:
        """End the file; its SHA-256."""
        self._write(b"\n},\n")
        self._write(b'"sha256": "' + self._inner.hexdigest().encode() + b'"}\n')
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return self._whole.digest()

    def abandon(self) -> None:
        """Let go of the file, whatever its state."""
        self._file.close()


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
