# SPDX-License-Identifier: GPL-3.0-or-later
"""Exits from somebody's file of proofs (see `export`), one RPC endpoint, and no scan of logs.

Rules: the file is checked before anything in it is used. Its checksum finds damage; whoever forged the file
with a checksum that fits is found out by the chain: the contract holds the header's hash, the header the
tree's root, and the inbox's rolling hashes every deposit. What a file leaves out it cannot be asked for; a
deposit that was left out, or made later, is found by `novate exit` without a file.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final

from clearing.chain.rpc import hexed
from clearing.chain.vault import Claim, VaultClient
from clearing.exit.errors import ExitError
from clearing.exit.export import FORMAT, INDEX
from clearing.exit.plan import Deposits
from clearing.exit.rebuild import require_vault, usable_epoch
from proofs.errors import ProofError
from proofs.hashing import sha256
from proofs.header import Header
from proofs.inbox import DEPOSIT, InboxMessage
from proofs.leaf import ExitLeaf
from proofs.sumtree import DEPTH, SumProof, verify_exit

MAX_LINE_BYTES: Final = 1 << 20
_LAST: Final = b'"sha256": "'
Place = tuple[Path, int, int]  # a row: file, offset, bytes


class ProofFile:
    """A file or folder of proofs, verified against `vault`. Memory: some bytes per owner.

    Open it with `open_proofs`. `epoch` is 0 when no header was usable: then there are only deposits.
    """

    def __init__(self, vault: VaultClient, head: Mapping[str, Any], places: Mapping[bytes, Place]) -> None:
        self._vault, self._places = vault, places
        self._domain = require_vault(vault)
        self.epoch, self.inbox_count = _head_number(head, "epoch"), _head_number(head, "inbox_count")
        self._header_bytes = _data(head.get("header"))
        _require_same_vault(vault, head)
        self._header = self._checked_header() if self.epoch else None

    @property
    def header(self) -> Header:
        """The header that the claims are proven against. Only when `epoch` is not 0."""
        assert self._header is not None, "asked for only when there is one"
        return self._header

    def owners(self) -> Iterator[bytes]:
        """Everyone in the file."""
        return iter(self._places)

    def claim_of(self, owner: bytes) -> Claim | None:
        """The owner's claim; None when the file has no leaf. Raises `ExitError` EXPORT_FALSE, EXPORT_MALFORMED."""
        row = self._row(owner)
        if "index" not in row or self._header is None:
            return None
        lanes = len(self._header.exit_sums)
        try:
            leaf = ExitLeaf(int(row["index"]), owner, _numbers(row["exits"]), _numbers(row["withdraw_acks"]))
            siblings, sums = tuple(_data(value) for value in row["siblings"]), _numbers(row["sums"])
        except (KeyError, TypeError, ValueError):
            raise _malformed(f"the row of {hexed(owner)} is not one of ours") from None
        if len(siblings) != DEPTH or len(sums) != DEPTH * lanes:
            raise _false(f"the proof of {hexed(owner)} does not have {DEPTH} siblings of {lanes} lanes")
        levels = tuple(sums[at : at + lanes] for at in range(0, len(sums), lanes))
        try:
            proof = SumProof(siblings, levels)
            verify_exit(leaf, proof, self._header.exit_root, self._header.exit_sums, self._domain)
        except ProofError as error:
            raise _false(f"the proof of {hexed(owner)} does not hold ({error.message})") from None
        return Claim(self._header_bytes, leaf.index, owner, leaf.exits, leaf.withdraw_acks, siblings, sums)

    def deposits_of(self, owner: bytes) -> tuple[InboxMessage, ...]:
        """Deposits that the header did not consume, each as the contract knows it.

        Raises `ExitError` EXPORT_FALSE, EXPORT_MALFORMED, `ChainError`.
        """
        first = self._header.inbox_count if self._header is not None else 0
        found = []
        for item in self._row(owner).get("deposits", []):
            try:
                index, asset, amount, l1_time, data = item
                message = InboxMessage(DEPOSIT, int(index), owner, int(asset), int(amount), int(l1_time), _data(data))
                held = self._vault.inbox_count()
                inside = first <= message.index < held
                before = self._vault.inbox_hash(message.index) if inside else b""
                true = inside and message.roll(before) == self._vault.inbox_hash(message.index + 1)
            except (TypeError, ValueError, ProofError):
                raise _malformed(f"a deposit of {hexed(owner)} is not one of ours") from None
            if not true:
                raise _false(f"the chain knows no deposit {message.index} of {hexed(owner)} like the one in it")
            found.append(message)
        return tuple(found)

    def deposits(self, owner: bytes | None = None) -> Deposits:
        """Deposits by owner: of one, or of everyone."""
        owners = self.owners() if owner is None else iter([owner])
        found = ((one, self.deposits_of(one)) for one in owners)
        return {one: messages for one, messages in found if messages}

    def require_usable(self) -> "ProofFile":
        """This file. Raises `ExitError` EXPORT_STALE unless its epoch is the one that pays now."""
        usable = usable_epoch(self._vault)
        if usable != self.epoch:
            text = f"the file is of epoch {self.epoch} and epoch {usable} pays now; get a file of that epoch"
            raise ExitError("EXPORT_STALE", f"{text}, or leave without one: novate exit")
        return self

    def _row(self, owner: bytes) -> dict[str, Any]:
        place = self._places.get(owner)
        if place is None:
            raise ExitError("NOT_IN_EXPORT", f"the file holds nothing of {hexed(owner)}; leave without it: novate exit")
        path, offset, size = place
        with path.open("rb") as file:
            file.seek(offset)
            return _object(file.read(size))

    def _checked_header(self) -> Header:
        """The header, once the contract holds its hash."""
        if sha256(self._header_bytes) != self._vault.header_hash(self.epoch):
            raise _false(f"its header is not the one that was posted for epoch {self.epoch}")
        return Header.decode(self._header_bytes)


def open_proofs(vault: VaultClient, path: Path, owner: bytes | None = None) -> ProofFile:
    """The proofs at `path` (file or folder); with `owner`, only the file that may hold that owner's is read.

    Raises `ExitError` EXPORT_*, NOT_IN_EXPORT, WRONG_DOMAIN, `ChainError`, `OSError`.
    """
    if not path.is_dir():
        head, places, _ = _scan(path, "owners")
    else:
        head, places = _scan_folder(path, owner)
    found = ProofFile(vault, head, places)
    if owner is not None and owner not in places:
        raise ExitError("NOT_IN_EXPORT", f"{path} holds nothing of {hexed(owner)}; leave without it: novate exit")
    return found


def _scan_folder(folder: Path, owner: bytes | None) -> tuple[dict[str, Any], dict[bytes, Place]]:
    head, _, files = _scan(folder / INDEX, "files")
    wanted = sorted(files) if owner is None else [owner[:1].hex()]
    places: dict[bytes, Place] = {}
    for part in wanted:
        told = files.get(part)
        if told is None:
            continue
        name = str(told.get("file"))
        if Path(name).name != name:
            raise _malformed(f"{folder / INDEX} names a file outside its folder")
        inner, rows, _ = _scan(folder / name, "owners", str(told.get("sha256")))
        if inner != head | {"part": part}:
            raise ExitError("EXPORT_DAMAGED", f"{folder / name} does not belong to {folder / INDEX}; get both again")
        places |= rows
    return head, places


def _scan(path: Path, table: str, digest: str = "") -> tuple[dict[str, Any], dict[bytes, Place], dict[str, Any]]:
    """Head, the places of an `owners` table, and the rows of a `files` table, once the checksum is right."""
    inner, whole = hashlib.sha256(), hashlib.sha256()
    places: dict[bytes, Place] = {}
    rows: dict[str, Any] = {}
    with path.open("rb") as file:
        first = _next(file, path)
        if not first.startswith(b'{"head": {"format":"' + FORMAT.encode() + b'"'):
            raise _malformed(f"{path} is no file of proofs ({FORMAT})")
        opening = _next(file, path)
        for line in (first, opening):
            inner.update(line)
            whole.update(line)
        while not (line := _next(file, path)).startswith(_LAST):
            inner.update(line)
            whole.update(line)
            if line != b"},\n":
                _note(line, file.tell() - len(line), path, table, places, rows)
        whole.update(line)
        ended = not file.read(1)
    right = line == _LAST + inner.hexdigest().encode() + b'"}\n' and opening == f'"{table}": {{\n'.encode()
    if not right or not ended or (digest and whole.hexdigest() != digest):
        raise ExitError("EXPORT_DAMAGED", f"{path} is not as it was written (its SHA-256 differs); get it again")
    return _object(first[len(b'{"head": ') :].rstrip(b",\n")), places, rows


def _next(file: IO[bytes], path: Path) -> bytes:
    line = file.readline(MAX_LINE_BYTES)
    if not line.endswith(b"\n"):
        raise ExitError("EXPORT_DAMAGED", f"{path} ends early; get it again")
    return line


def _note(line: bytes, offset: int, path: Path, table: str, places: dict[bytes, Place], rows: dict[str, Any]) -> None:
    """Remember one row: `"name": {...},`."""
    name, separator, row = line.partition(b'": ')
    body = row.rstrip(b",\n")
    try:
        key = name[1:].decode("ascii")
        if table == "files":
            rows[key] = _object(body)
        else:
            places[bytes.fromhex(key.removeprefix("0x"))] = path, offset + len(name) + len(separator), len(body)
    except ValueError:
        raise ExitError("EXPORT_DAMAGED", f"{path} has a row that is not one of ours; get it again") from None


def _require_same_vault(vault: VaultClient, head: Mapping[str, Any]) -> None:
    place = _head_number(head, "chain_id"), str(head.get("vault"))
    mine = vault.rpc.chain_id(), hexed(vault.address)
    if place != mine:
        text = f"the file is for vault {place[1]} of chain {place[0]}, not for {mine[1]} of chain {mine[0]}"
        raise ExitError("EXPORT_OTHER_VAULT", f"{text}; change --rpc and --vault")


def _object(text: bytes) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise _malformed("a row is no JSON object")
    return found


def _head_number(head: Mapping[str, Any], name: str) -> int:
    value = head.get(name)
    if not isinstance(value, int) or value < 0:
        raise _malformed(f"its head names no {name}")
    return value


def _numbers(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in values)


def _data(value: Any) -> bytes:
    try:
        return bytes.fromhex(str(value).removeprefix("0x"))
    except ValueError:
        raise _malformed("there are no hexadecimal digits where they belong") from None


def _malformed(text: str) -> ExitError:
    return ExitError("EXPORT_MALFORMED", f"not a usable file of proofs: {text}; get it again")


def _false(text: str) -> ExitError:
    return ExitError("EXPORT_FALSE", f"the file lies: {text}; get one from somebody else, or run: novate exit")
