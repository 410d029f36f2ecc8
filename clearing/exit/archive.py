# SPDX-License-Identifier: GPL-3.0-or-later
"""Archived blobs: nodes forget a blob after some 18 days, and whoever kept it can help an exit.

Rules: an archive is believed nothing. What it gives is checked against the versioned hash, which the
contract took note of when the blob was published, by its KZG commitment; what does not fit counts as
missing, with the reason. Three kinds are understood:
- a folder: a file named by the hash (with or without 0x, and .blob, .bin, .hex or .json), or else any
  file whose content is the blob;
- a URL: `{hash}` in it is replaced, or the hash appended; the answer is the blob's bytes, its hexadecimal
  digits, or JSON with the digits in `data` or `blob`;
- a beacon node, as `beacon+http://...`: its blobs of the block's slot, for as long as it keeps them.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

from clearing.chain.blobs import BLOB_BYTES, hash_of_commitment, verified, versioned_hash
from clearing.chain.errors import ChainError
from clearing.exit.errors import ExitError

MAX_ANSWER_BYTES: Final = 8 << 20
_SUFFIXES: Final = ("", ".blob", ".bin", ".hex", ".json")

BlockTime = Callable[[], int]


class BlobSource(Protocol):
    """Where blobs may be had. `time_s` gives the time of the block that carried it, if asked for."""

    def blob(self, digest: bytes, time_s: BlockTime) -> bytes | None:
        """The blob as the archive has it, unchecked; None when it has none. Raises `ExitError` BLOBS_UNREACHABLE."""


def content(source: BlobSource | None, digest: bytes, time_s: BlockTime) -> tuple[bytes | None, str]:
    """(the bytes in the blob of this versioned hash, "") or (None, why not)."""
    if source is None:
        return None, "pass --blobs with an archive that kept it"
    raw = source.blob(digest, time_s)
    if raw is None:
        return None, "the archive does not have it"
    try:
        return verified(raw, digest), ""
    except ChainError as error:
        return None, error.message


def open_archive(place: str) -> BlobSource:
    """The archive at a folder or URL. Raises `ExitError` BLOBS_UNREACHABLE when there is none."""
    if place.startswith("beacon+"):
        return BeaconNode(place.removeprefix("beacon+"))
    if place.startswith(("http://", "https://")):
        return WebArchive(place)
    folder = Path(place)
    if not folder.is_dir():
        raise ExitError("BLOBS_UNREACHABLE", f"{place} is no folder and no http(s) URL; pass --blobs DIR or URL")
    return Folder(folder)


class Folder:
    """Files on disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[bytes, Path] | None = None

    def blob(self, digest: bytes, time_s: BlockTime) -> bytes | None:
        for prefix in ("0x", ""):
            for suffix in _SUFFIXES:
                found = _read(self._folder / f"{prefix}{digest.hex()}{suffix}")
                if found is not None:
                    return found
        if self._known is None:
            self._known = self._index()
        path = self._known.get(digest)
        return None if path is None else _read(path)

    def _index(self) -> dict[bytes, Path]:
        """Files under other names, by the commitment to their content."""
        found: dict[bytes, Path] = {}
        for path in sorted(self._folder.iterdir()):
            raw = _read(path)
            if raw is not None and len(raw) == BLOB_BYTES:
                try:
                    found[versioned_hash(raw)] = path
                except ChainError:
                    continue  # as long as a blob, and none
        return found


class WebArchive:
    """An archive over HTTP."""

    def __init__(self, url: str) -> None:
        self._url = url

    def blob(self, digest: bytes, time_s: BlockTime) -> bytes | None:
        name = "0x" + digest.hex()
        url = self._url.replace("{hash}", name) if "{hash}" in self._url else f"{self._url.rstrip('/')}/{name}"
        answer = _fetch(url)
        return None if answer is None else _unpacked(answer)


class BeaconNode:
    """A beacon node's API: `blobs` (since Fulu) or `blob_sidecars`, by the slot of the block's time."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._clock: tuple[int, int] | None = None

    def blob(self, digest: bytes, time_s: BlockTime) -> bytes | None:
        genesis_s, slot_s = self._clock = self._clock or self._read_clock()
        slot = (time_s() - genesis_s) // slot_s
        name = "0x" + digest.hex()
        for digits in self._list(f"/eth/v1/beacon/blobs/{slot}?versioned_hashes={name}"):
            raw = _hexadecimal(digits) if isinstance(digits, str) else b""
            if _names(raw, digest):  # not every node leaves out the block's other blobs
                return raw
        for row in self._list(f"/eth/v1/beacon/blob_sidecars/{slot}"):
            known = _hexadecimal(str(row.get("kzg_commitment", ""))) if isinstance(row, dict) else b""
            if known and hash_of_commitment(known) == digest:
                return _hexadecimal(str(row.get("blob", "")))
        return None

    def _read_clock(self) -> tuple[int, int]:
        """(genesis, seconds per slot)."""
        try:
            genesis = json.loads(_fetch(self._url + "/eth/v1/beacon/genesis") or b"")["data"]["genesis_time"]
            spec = json.loads(_fetch(self._url + "/eth/v1/config/spec") or b'{"data": {}}')["data"]
            clock = int(genesis), int(spec.get("SECONDS_PER_SLOT", 12))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ExitError("BLOBS_UNREACHABLE", f"{_host(self._url)} is no beacon node; check --blobs") from None
        if clock[1] <= 0:
            raise ExitError("BLOBS_UNREACHABLE", f"{_host(self._url)} names slots of {clock[1]} seconds; use another")
        return clock

    def _list(self, path: str) -> list[Any]:
        try:
            answer = json.loads(_fetch(self._url + path) or b"{}")
        except ValueError:
            return []
        rows = answer.get("data") if isinstance(answer, dict) else None
        return rows if isinstance(rows, list) else []


def _names(raw: bytes, digest: bytes) -> bool:
    try:
        return versioned_hash(raw) == digest
    except ChainError:
        return False


def _host(url: str) -> str:
    from clearing.chain.transport import shown

    return shown(url)


def _fetch(url: str) -> bytes | None:
    """The body, or None when the answer is that there is none (4xx)."""
    import httpx

    try:
        with httpx.stream("GET", url, timeout=30.0, follow_redirects=True) as response:
            if 400 <= response.status_code < 500:
                return None
            if not response.is_success:
                raise ExitError("BLOBS_UNREACHABLE", f"{_host(url)} answers HTTP {response.status_code}; try again")
            parts, size = [], 0
            for part in response.iter_bytes():
                size += len(part)
                if size > MAX_ANSWER_BYTES:
                    raise ExitError("BLOBS_UNREACHABLE", f"{_host(url)} answers with more than any blob; check --blobs")
                parts.append(part)
            return b"".join(parts)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = str(error) or type(error).__name__
        raise ExitError("BLOBS_UNREACHABLE", f"no answer from {_host(url)} ({reason}); check --blobs") from None


def _read(path: Path) -> bytes | None:
    """A file's blob; None when there is no such file, or one that cannot hold a blob."""
    try:
        if not path.is_file() or os.stat(path).st_size > MAX_ANSWER_BYTES:
            return None
        return _unpacked(path.read_bytes())
    except OSError as error:
        raise ExitError("BLOBS_UNREACHABLE", f"cannot read {path}: {error.strerror}") from None


def _unpacked(answer: bytes) -> bytes:
    """Bytes, hexadecimal digits, or JSON with such digits; what is none of these is left as it is."""
    if len(answer) == BLOB_BYTES:
        return answer
    if answer[:1] == b"{":
        try:
            fields = json.loads(answer)
        except ValueError:
            return answer
        inner = fields.get("data", fields.get("blob"))
        if isinstance(inner, dict):
            inner = inner.get("data", inner.get("blob"))
        return _hexadecimal(inner) if isinstance(inner, str) else answer
    try:
        return _hexadecimal(answer.decode("ascii")) or answer
    except UnicodeDecodeError:
        return answer


def _hexadecimal(text: str) -> bytes:
    try:
        return bytes.fromhex(text.strip().removeprefix("0x"))
    except ValueError:
        return b""
