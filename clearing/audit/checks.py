# SPDX-License-Identifier: GPL-3.0-or-later
"""What of an entry can be checked without any state: who signed it, and its leaf hash. On this thread, on several, or
in other processes.

Rules:
- A check names an entry by its place in what was submitted, and says why it fails; whatever hostile bytes break is a
  finding. An entry that does not decode has no signature to check: whoever applies it says so.
- The result does not depend on where it was computed.
- Processes are started afresh ("spawn"): a fork of a process with threads is not safe.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from hashlib import sha256
from multiprocessing import get_context
from typing import Final, Protocol

import msgspec

from clearing.model.codec import decode_any_envelope
from clearing.model.signature import verify

Found = tuple[list[bytes], list[tuple[int, str]]]
Checked = Callable[[], Found]
_LEAST_PART: Final = 64


class _Head(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    """An entry, of which only the envelope is looked at."""

    seq: int
    time_us: int
    envelope: bytes
    outcomes: msgspec.Raw


_head = msgspec.msgpack.Decoder(_Head).decode


def check(entries: Sequence[bytes], signatures: bool) -> Found:
    """The leaf hash of each entry, and (place, reason) of each whose signature does not hold."""
    leaves = [sha256(b"\x00" + data).digest() for data in entries]
    bad: list[tuple[int, str]] = []
    for at, data in enumerate(entries if signatures else ()):
        try:
            envelope, body = decode_any_envelope(_head(data).envelope)
        except Exception:  # noqa: BLE001 - no entry, and told as such by whoever applies it
            continue
        try:
            verify(envelope, body)
        except Exception as error:  # noqa: BLE001 - hostile bytes are a finding, whatever they break
            bad.append((at, str(error)))
    return leaves, bad


class Checker(Protocol):
    """Checks entries, ahead of whoever applies them."""

    def submit(self, entries: list[bytes]) -> list[Checked]:
        """Begin; each result is for the entries that follow those of the result before it."""
        ...

    def close(self) -> None: ...


class Inline:
    """Here and now."""

    def __init__(self, signatures: bool) -> None:
        self._signatures = signatures

    def submit(self, entries: list[bytes]) -> list[Checked]:
        found = check(entries, self._signatures)
        return [lambda: found]

    def close(self) -> None:
        return


class _Pooled:
    def __init__(self, pool: Executor, parts: int, signatures: bool) -> None:
        self._pool, self._parts, self._signatures = pool, parts, signatures

    def submit(self, entries: list[bytes]) -> list[Checked]:
        step = max(_LEAST_PART, -(-len(entries) // self._parts))
        parts = [entries[at : at + step] for at in range(0, len(entries), step)]
        return [self._pool.submit(check, part, self._signatures).result for part in parts]

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


class Threads(_Pooled):
    """Over threads: libsodium works outside the interpreter's lock. Starts at once; the rest of the work shares one
    core."""

    def __init__(self, threads: int) -> None:
        super().__init__(ThreadPoolExecutor(threads), threads, True)


class Processes(_Pooled):
    """Over `jobs` processes, which take half a second to start: for long journals and more cores."""

    def __init__(self, jobs: int, signatures: bool = True) -> None:
        super().__init__(ProcessPoolExecutor(jobs, mp_context=get_context("spawn")), jobs, signatures)
