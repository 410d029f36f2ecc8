# SPDX-License-Identifier: GPL-3.0-or-later
"""What a witness decides on a submitted checkpoint (C2SP tlog-witness, `add-checkpoint`).

Rules, in this order:
- A request that is not in the standard's form is refused (400), as are checkpoints with extension lines, which no
  log of ours has.
- The log must be followed (404) and have signed the checkpoint with a key that this witness was given for it (403).
- The old size must not exceed the checkpoint's (400) and must be the size that was cosigned last, 0 before the first
  (409, with that size). Of that same size no other root is cosigned (409), and of a larger one nothing without a
  proof that it extends the old tree (422).
- The decision and the memory of it are one step under the log's lock, and the memory is on disk before the
  cosignature is returned.
- Times of cosignatures never go back, whatever the clock does: a later one says that it has seen at least as much.

A signed checkpoint of the remembered size with another root is proof that the log forked, however it came, and is
kept with the state.
"""

import base64
import binascii
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec

from clearing.model.errors import NovateError
from clearing.witness.state import Known, State
from proofs import checkpoint as notes
from proofs import cosignature
from proofs.checkpoint import Checkpoint, SignedNote
from proofs.errors import CheckpointError, ConsistencyError, ProofError
from proofs.log import root, verify_consistency

MAX_PROOF_LINES: Final = 63
# A note of ours has room for the witness's own line below the 16 KiB that readers take.
MAX_NOTE_BYTES: Final = 15_360
MAX_REQUEST_BYTES: Final = 32 + 64 * 45 + MAX_NOTE_BYTES
EMPTY_ROOT: Final = root([])


class Refusal(NovateError):
    """The checkpoint is not cosigned. `status`: of HTTP; `size`: the known one, where the standard wants it."""

    def __init__(self, status: int, code: str, message: str, size: int | None = None) -> None:
        super().__init__(code, message)
        self.status = status
        self.size = size


class Request(msgspec.Struct, frozen=True):
    """A parsed request: old size, proof (hashes), and the note as it came."""

    old: int
    proof: tuple[bytes, ...]
    note: SignedNote
    text: str


def parse_request(body: bytes) -> Request:
    """Strictly parse a request's body. Raises `Refusal` (400)."""
    try:
        head, blank, text = body.decode().partition("\n\n")
    except UnicodeDecodeError:
        raise _malformed("it is not UTF-8") from None
    first, *lines = head.split("\n")
    size = first.removeprefix("old ")
    if not blank or not first.startswith("old "):
        raise _malformed("it must begin with: old <size>, then proof lines, then an empty line, then the checkpoint")
    if not size.isascii() or not size.isdecimal() or len(size) > 19 or str(int(size)) != size or int(size) >> 63:
        raise _malformed(f"old size {size[:40]!r} is not a decimal number below 2^63")
    if len(lines) > MAX_PROOF_LINES:
        raise _malformed(f"{len(lines)} proof lines; at most {MAX_PROOF_LINES} can be needed")
    if len(text.encode()) > MAX_NOTE_BYTES:
        raise _malformed(f"the checkpoint is larger than {MAX_NOTE_BYTES} bytes")
    try:
        note = notes.parse(text)
    except CheckpointError as error:
        raise _malformed(error.message) from None
    return Request(int(size), tuple(_hash(line) for line in lines), note, text)


def _hash(line: str) -> bytes:
    try:
        raw = base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != 32 or base64.b64encode(raw).decode() != line:
        raise _malformed(f"proof line {line[:60]!r} is not a hash of 32 bytes in base64")
    return raw


def _malformed(reason: str) -> Refusal:
    return Refusal(400, "WITNESS_MALFORMED", f"the request is not one of C2SP tlog-witness: {reason}")


class Witness:
    """A witness with its key (`seed`, 32 bytes), the keys of the logs that it follows by origin, and its memory.

    `now` gives seconds UTC; `tell(event, **fields)` hears of what was cosigned and what was refused. Thread-safe.
    """

    def __init__(
        self,
        name: str,
        seed: bytes,
        logs: Mapping[str, Sequence[bytes]],
        state: State,
        now: Callable[[], float] = time.time,
        tell: Callable[..., Any] = lambda event, **fields: None,
    ) -> None:
        self.name = name
        self._seed = seed
        self._logs = {origin: tuple(keys) for origin, keys in logs.items()}
        self._state = state
        self._now = now
        self._tell = tell

    def add_checkpoint(self, body: bytes) -> str:
        """The cosignature line for a request's checkpoint, which is remembered for good when this returns.

        Raises `Refusal`, and NovateError WITNESS_DISK, WITNESS_HALTED: then nothing was cosigned.
        """
        request = parse_request(body)
        tip = request.note.checkpoint
        self._check_signature(request)
        with self._state.deciding(tip.origin) as known:
            self._check_history(request, known)
            time_s = max(int(self._now()), known.time_s if known is not None else 0)
            line = cosignature.sign(tip, self.name, self._seed, time_s)
            self._state.keep(Known(tip, time_s, self._note(request, line)))
        self._tell("cosigned", origin=tip.origin, size=tip.size, root=tip.root.hex())
        return line

    def _note(self, request: Request, line: str) -> str:
        """The submitted note with this witness's line in place of any that claims to be its."""
        text, blank, tail = request.text.partition("\n\n")
        others = [part for part in tail.splitlines(True) if not part.startswith(f"\u2014 {self.name} ")]
        return text + blank + "".join(others) + line

    def _check_signature(self, request: Request) -> None:
        origin = request.note.checkpoint.origin
        if origin not in self._logs:
            raise Refusal(404, "WITNESS_UNKNOWN_LOG", f"this witness does not follow the log {origin[:200]!r}")
        faults = []
        for key in self._logs[origin]:
            try:
                notes.verify(request.text, key, origin)
                return
            except CheckpointError as error:
                faults.append(error.message)
        raise Refusal(403, "WITNESS_UNSIGNED", f"no key known for this log signed the checkpoint: {faults[-1]}")

    def _check_history(self, request: Request, known: Known | None) -> None:
        tip = request.note.checkpoint
        last = known.checkpoint if known is not None else Checkpoint(tip.origin, 0, EMPTY_ROOT)
        if tip.size == last.size and tip.root != last.root:
            self._report("fork", request, last, self._state.keep_fork)
        if request.old > tip.size:
            raise Refusal(400, "WITNESS_OLD_SIZE", f"old size {request.old} exceeds the checkpoint's {tip.size}")
        if request.old != last.size:
            text = f"the last checkpoint that this witness cosigned has {last.size} entries, not {request.old}"
            raise Refusal(409, "WITNESS_OTHER_SIZE", text, last.size)
        if tip.size == last.size and tip.root != last.root:
            text = f"this witness has cosigned another root over the same {tip.size} entries: the log has forked"
            raise Refusal(409, "WITNESS_FORK", text, last.size)
        if request.proof and not last.size:
            raise Refusal(422, "WITNESS_UNPROVEN", "from old size 0 nothing is to be proven; send no proof lines")
        try:
            if last.size:
                verify_consistency(last.size, tip.size, request.proof, last.root, tip.root)
        except ConsistencyError as error:
            self._report("unproven", request, last, self._state.keep_unproven)
            text = f"it is not shown that these {tip.size} entries extend the {last.size} cosigned: {error.message}"
            raise Refusal(422, "WITNESS_UNPROVEN", text) from None

    def _report(
        self, event: str, request: Request, last: Checkpoint, keep: Callable[[SignedNote, str], object]
    ) -> None:
        """Keep what the log signed and is not cosigned. A disk that fails must not turn a refusal into none."""
        tip = request.note.checkpoint
        found = {"origin": tip.origin, "size": tip.size, "root": tip.root.hex()}
        found |= {"cosigned_size": last.size, "cosigned_root": last.root.hex()}
        try:
            kept = keep(request.note, request.text)
        except NovateError as error:
            self._tell(event, **found, not_kept=error.message)
            return
        if kept is not None:
            self._tell(event, **found, kept=str(kept))


def log_keys(lines: Sequence[str]) -> dict[str, tuple[bytes, ...]]:
    """Keys of logs by origin, from verifier keys or `log <verifier key> [<url>]` lines of a policy.

    Blank lines and comments (#) are skipped; several keys of one origin are all trusted (a log that changed its key).
    Raises NovateError WITNESS_LOGS.
    """
    found: dict[str, tuple[bytes, ...]] = {}
    for line in lines:
        items = line.split()
        if not items or items[0].startswith("#"):
            continue
        text = items[1] if items[0] == "log" and len(items) in (2, 3) else line
        try:
            origin, algorithm, key = notes.parse_verifier_key(text)
        except ProofError as error:
            raise NovateError("WITNESS_LOGS", f"a log is given by its verifier key; {error.message}") from None
        if algorithm != notes.ED25519:
            raise NovateError("WITNESS_LOGS", f"the key of {origin} is of type {algorithm.hex()}, not a log's (01)")
        if key not in found.get(origin, ()):
            found[origin] = (*found.get(origin, ()), key)
    return found
