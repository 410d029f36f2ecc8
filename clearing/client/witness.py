# SPDX-License-Identifier: GPL-3.0-or-later
"""Collecting cosignatures for a checkpoint from witnesses (C2SP tlog-witness, the client's side).

Rules:
- All witnesses are asked at once; each has a deadline. One that does not answer, or refuses, is reported and holds
  nobody up: whether enough have cosigned is for a policy to say.
- A witness that knows another size (409) is asked again with a proof from there.
- Only a line of the witness's own key that verifies over this checkpoint is taken, in place of an older one. What
  else it answers is ignored.
- A refusal that says that the log has forked, or was set back, has a code of its own: somebody must look at it.
"""

import asyncio
import base64
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import httpx
import msgspec

from clearing.model.errors import NovateError
from proofs import checkpoint as notes
from proofs import cosignature
from proofs.checkpoint import SignedNote, key_id
from proofs.errors import ProofError
from proofs.policy import Policy

# Proof of consistency from a size to a larger one of the log, as hashes.
Proof = Callable[[int, int], Sequence[bytes]]

FORK: Final = "WITNESS_FORK"
AHEAD: Final = "WITNESS_AHEAD"
UNPROVEN: Final = "WITNESS_UNPROVEN"
# These say something of the log, not of the witness or of the way to it.
GRAVE: Final = frozenset({FORK, AHEAD, UNPROVEN})

_REFUSED: Final = {
    403: ("WITNESS_UNSIGNED", "the note is not signed by a key that it has for this log; give it the log's key"),
    404: ("WITNESS_UNKNOWN_LOG", "it does not follow this log, or the URL is not its submission prefix"),
    422: (UNPROVEN, "the checkpoint does not extend the one that it has cosigned: it was shown another history"),
}
_ANSWER_BYTES: Final = 16_384
_ROUNDS: Final = 4


@dataclass(frozen=True, slots=True)
class WitnessAt:
    """A witness as it is asked: a name for messages, the name and key (32 bytes) of its lines, submission prefix."""

    name: str
    key_name: str
    public_key: bytes
    url: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What came of asking one: the time of its cosignature (seconds UTC), or `code` and `reason`."""

    name: str
    url: str
    time_s: int | None
    code: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Collected:
    """The note with the lines that were got, and what came of each witness."""

    note: str
    asked: tuple[Asked, ...]

    @property
    def missing(self) -> tuple[Asked, ...]:
        return tuple(one for one in self.asked if one.time_s is None)


def witness_at(verifier_key: str, url: str, name: str = "") -> WitnessAt:
    """A witness by its verifier key and submission prefix. Raises NovateError WITNESS_KEY, WITNESS_URL."""
    try:
        key_name, key = cosignature.parse_witness_key(verifier_key)
    except ProofError as error:
        raise NovateError("WITNESS_KEY", f"a witness is given by its verifier key and URL; {error.message}") from None
    return _at(name or key_name, key_name, key, url)


def _at(name: str, key_name: str, key: bytes, url: str) -> WitnessAt:
    try:
        good = httpx.URL(url).scheme in ("http", "https") and bool(httpx.URL(url).host)
    except httpx.InvalidURL:
        good = False
    if not good:
        raise NovateError("WITNESS_URL", f"{url[:200]!r} is no http(s) URL of witness {name}")
    return WitnessAt(name, key_name, key, url.rstrip("/"))


def witnesses_of(policy: Policy) -> tuple[WitnessAt, ...]:
    """The witnesses of a policy that have a URL. Raises NovateError WITNESS_URL."""
    return tuple(_at(one.name, one.key_name, one.public_key, one.url) for one in policy.witnesses if one.url)


def collect(
    note: str,
    witnesses: Sequence[WitnessAt],
    proof: Proof,
    previous: int = 0,
    *,
    timeout_s: float = 10.0,
    fresh_s: float = 600.0,
    now: Callable[[], float] = time.time,
) -> Collected:
    """Ask every witness to cosign `note`.

    `proof(old, new)` gives consistency proofs of the log; `previous` is the size that the witnesses have probably
    cosigned last. `timeout_s` bounds the whole of one witness. A line that is on the note already and is younger
    than `fresh_s` seconds is left as it is. Raises CheckpointError for what is no note, and whatever `proof` raises.
    """
    parsed = notes.parse(note)

    async def ask(witness: WitnessAt) -> tuple[str, Asked]:
        had = _had(parsed, witness)
        if had is not None and 0 <= now() - had < fresh_s:
            return "", Asked(witness.name, witness.url, had)
        asking = _Asking(note, parsed, witness, proof)
        try:
            async with asyncio.timeout(timeout_s):
                line, time_s = await asking.run(previous, timeout_s)
        except TimeoutError:
            late = asking.fault("WITNESS_UNREACHABLE", f"no answer within {timeout_s:g} seconds; try again later")
            return "", Asked(witness.name, witness.url, None, late.code, late.message)
        except NovateError as error:
            return "", Asked(witness.name, witness.url, None, error.code, error.message)
        return line, Asked(witness.name, witness.url, time_s)

    async def ask_all() -> list[tuple[str, Asked]]:
        return await asyncio.gather(*(ask(witness) for witness in witnesses))

    found = asyncio.run(ask_all()) if witnesses else []
    for witness, (line, _) in zip(witnesses, found, strict=True):
        if line:
            note = _with_line(note, witness, line)
    notes.parse(note)
    return Collected(note, tuple(asked for _, asked in found))


def _had(note: SignedNote, witness: WitnessAt) -> int | None:
    try:
        return cosignature.verify(note, witness.key_name, witness.public_key)
    except ProofError:
        return None


def _identity(witness: WitnessAt) -> bytes:
    return key_id(witness.key_name, cosignature.COSIGNATURE, witness.public_key)


def _with_line(note: str, witness: WitnessAt, line: str) -> str:
    """The note with this line of the witness and no other of its key."""
    text, blank, tail = note.partition("\n\n")
    mine = witness.key_name, _identity(witness)
    lines = zip(notes.parse(note).signatures, tail.splitlines(True), strict=True)
    return text + blank + "".join(part for (name, found, _), part in lines if (name, found) != mine) + line


class _Asking:
    """One witness being asked about one note."""

    def __init__(self, note: str, parsed: SignedNote, witness: WitnessAt, proof: Proof) -> None:
        self._note, self._parsed, self._witness = note, parsed, witness
        self._proof = proof

    async def run(self, previous: int, timeout_s: float) -> tuple[str, int]:
        """Its line and the time in it. Raises NovateError."""
        size = self._parsed.checkpoint.size
        old = previous if 0 <= previous <= size else 0
        headers = {"user-agent": "novate", "content-type": "text/plain; charset=utf-8"}
        async with httpx.AsyncClient(headers=headers, timeout=timeout_s, follow_redirects=False) as http:
            for _ in range(_ROUNDS):
                status, answer = await self._post(http, old)
                if status == 200:
                    return self._line(answer)
                if status != 409:
                    raise self._refused(status, answer)
                old = self._other_size(old, size, _size(answer))
        raise self.fault("WITNESS_BUSY", "it goes on to other sizes while it is asked; does another publisher run?")

    def _other_size(self, old: int, size: int, known: int | None) -> int:
        """The size to prove growth from, after a 409 to `old`."""
        if old == size and known in (None, size):
            # The size is the one that it knows, so what differs is the root.
            raise self.fault(FORK, f"it has cosigned another root over the same {size} entries: the log has forked")
        if known is None or known == old:
            raise self.fault("WITNESS_ANSWER", "it answers 409 without another size that it knows")
        if known > size:
            raise self.fault(
                AHEAD,
                f"it has cosigned {known} entries and this note is of {size}: was an older copy of the journal "
                "restored, or is another history shown to others?",
            )
        return known

    async def _post(self, http: httpx.AsyncClient, old: int) -> tuple[int, bytes]:
        proof = self._proof(old, self._parsed.checkpoint.size)
        lines = [f"old {old}", *(base64.b64encode(item).decode() for item in proof), "", self._note]
        content = "\n".join(lines).encode()
        parts, total = [], 0
        try:
            async with http.stream("POST", f"{self._witness.url}/add-checkpoint", content=content) as response:
                async for part in response.aiter_bytes():
                    total += len(part)
                    if total > _ANSWER_BYTES:
                        raise self.fault("WITNESS_ANSWER", f"it answers with more than {_ANSWER_BYTES} bytes")
                    parts.append(part)
                return response.status_code, b"".join(parts)
        except (httpx.HTTPError, httpx.StreamError, httpx.InvalidURL, OSError, UnicodeError) as error:
            # A host name that no resolver takes is a UnicodeError.
            reason = str(error) or type(error).__name__
            raise self.fault("WITNESS_UNREACHABLE", f"no answer ({reason}); try again later") from None

    def _line(self, answer: bytes) -> tuple[str, int]:
        body = self._parsed.checkpoint.body().decode()
        try:
            found = notes.parse(f"{body}\n{answer.decode()}")
            time_s = cosignature.verify(found, self._witness.key_name, self._witness.public_key)
        except (ProofError, UnicodeDecodeError) as error:
            raise self.fault("WITNESS_ANSWER", f"its answer is no cosignature of this checkpoint: {error}") from None
        if time_s is None:
            raise self.fault("WITNESS_OTHER_KEY", "it signs with another key than it is known by; check the key")
        mine = self._witness.key_name, _identity(self._witness), time_s.to_bytes(8, "big")
        payload = next(part for name, known, part in found.signatures if (name, known, part[:8]) == mine)
        return notes.signature_line(mine[0], mine[1], payload), time_s

    def _refused(self, status: int, answer: bytes) -> NovateError:
        code, reason = _REFUSED.get(status, ("WITNESS_ANSWER", f"it answers HTTP {status}"))
        try:
            said = msgspec.json.decode(answer)["message"]
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError):
            said = ""
        told = f" ({said[:300]})" if isinstance(said, str) and said.isprintable() and said else ""
        return self.fault(code, f"{reason}{told}")

    def fault(self, code: str, reason: str) -> NovateError:
        return NovateError(code, f"witness {self._witness.name} at {self._witness.url}: {reason}")


def _size(answer: bytes) -> int | None:
    """The size in the body of a 409."""
    text = answer.removesuffix(b"\n").decode("ascii", "replace")
    if not text.isascii() or not text.isdecimal() or len(text) > 19:
        return None
    return int(text)
