# SPDX-License-Identifier: Apache-2.0
"""Whose signatures a checkpoint must have (C2SP tlog-policy): logs, witnesses, groups of k of n, one quorum.

    log <verifier key> [<url>]
    witness <name> <verifier key> [<url>]
    group <name> <k|all|any> <member>...
    quorum <name|none>

Rules, all of the standard:
- Lines end in a newline, items are separated by spaces and tabs, lines that begin with # are comments. Other
  control characters are refused. Names are opaque: no two spellings are the same name.
- A group and the quorum name what earlier lines define. A name is a member at most once, so that a witness
  counts in one way only. No key is listed twice, whatever its name. There is exactly one quorum.
- A checkpoint is good if one of the listed logs signed it (when any are listed) and the quorum cosigned it.
  Lines of unknown keys are skipped; a false line of a listed witness spoils the note.

A name in a policy is its author's word for a witness; the key has a name of its own, which signature lines bear.
"""

import re

import msgspec

from proofs import checkpoint as notes
from proofs import cosignature
from proofs.errors import CheckpointError, PolicyError, PolicyUnsatisfied

NONE = "none"
MAX_POLICY_BYTES = 262_144
_ITEMS = re.compile(r"[ \t]+")
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class PolicyLog(msgspec.Struct, frozen=True):
    """A log that is accepted: its origin, Ed25519 key (32 bytes) and URL ("" if none is given)."""

    origin: str
    public_key: bytes
    url: str = ""


class PolicyWitness(msgspec.Struct, frozen=True):
    """A witness: `name` in the policy, `key_name` on signature lines, key (32 bytes), submission prefix or ""."""

    name: str
    key_name: str
    public_key: bytes
    url: str = ""


class PolicyGroup(msgspec.Struct, frozen=True):
    """`threshold` of the `members`, which are witnesses or earlier groups."""

    name: str
    threshold: int
    members: tuple[str, ...]


class Policy(msgspec.Struct, frozen=True):
    """A parsed policy, in the order of its lines."""

    logs: tuple[PolicyLog, ...]
    witnesses: tuple[PolicyWitness, ...]
    groups: tuple[PolicyGroup, ...]
    quorum: str

    @staticmethod
    def parse(text: str) -> "Policy":
        """Read a policy file. Raises `PolicyError` with the number of the line that is wrong."""
        if len(text) > MAX_POLICY_BYTES:
            raise PolicyError(f"the policy has more than {MAX_POLICY_BYTES} characters")
        reader = _Reader()
        for number, line in enumerate(text.split("\n"), 1):
            try:
                reader.line(line)
            except (PolicyError, CheckpointError) as error:
                raise PolicyError(f"line {number}: {error.message}") from None
        if reader.quorum is None:
            raise PolicyError("there is no quorum line; end the policy with: quorum <name>, or: quorum none")
        return Policy(tuple(reader.logs), tuple(reader.witnesses), tuple(reader.groups), reader.quorum)

    def check(self, note: str) -> tuple[str, ...]:
        """Names of the listed witnesses that cosigned, in the policy's order; the quorum is among them.

        Raises `PolicyUnsatisfied` (a `PolicyError`) that says whose signature is missing, `CosignatureError` for a
        false line of a listed witness, `CheckpointError` for what is no note or not the log's.
        """
        return tuple(self.cosigned(note))

    def cosigned(self, note: str) -> dict[str, int]:
        """As `check`, with the time of each cosignature (seconds UTC)."""
        parsed = notes.parse(note)
        self._check_log(note, parsed.checkpoint.origin)
        times: dict[str, int] = {}
        for witness in self.witnesses:
            time_s = cosignature.verify(parsed, witness.key_name, witness.public_key)
            if time_s is not None:
                times[witness.name] = time_s
        good = set(times) | {NONE}
        for group in self.groups:
            if sum(member in good for member in group.members) >= group.threshold:
                good.add(group.name)
        if self.quorum not in good:
            raise PolicyUnsatisfied(self._missing(times, good))
        return times

    def _check_log(self, note: str, origin: str) -> None:
        if not self.logs:
            return
        keys = [log.public_key for log in self.logs if log.origin == origin]
        if not keys:
            known = ", ".join(sorted({log.origin for log in self.logs}))
            raise PolicyUnsatisfied(f"the checkpoint is of {origin[:200]!r}; the policy accepts: {known[:1_000]}")
        fault = CheckpointError("")
        for key in keys:
            try:
                notes.verify(note, key, origin)
                return
            except CheckpointError as error:
                fault = error
        raise PolicyUnsatisfied(f"no log of the policy signed the checkpoint: {fault.message}")

    def _missing(self, times: dict[str, int], good: set[str]) -> str:
        """Which groups lack what, outermost first."""
        groups = {group.name: group for group in self.groups}
        lacking: list[str] = []
        waiting = [self.quorum]
        while waiting:
            name = waiting.pop(0)
            group = groups.get(name)
            if group is None:
                lacking.append(f"witness {name} has not cosigned")
                continue
            absent = [member for member in group.members if member not in good]
            have = len(group.members) - len(absent)
            lacking.append(f"group {name} has {have} of {group.threshold}; missing: {', '.join(absent)}")
            waiting += [member for member in absent if member in groups]
        found = f"cosigned by {', '.join(times)}" if times else "no listed witness has cosigned"
        return f"quorum {self.quorum} is not met ({found}): {'; '.join(lacking)}"[:2_000]


class _Reader:
    """A policy as far as it was read."""

    def __init__(self) -> None:
        self.logs: list[PolicyLog] = []
        self.witnesses: list[PolicyWitness] = []
        self.groups: list[PolicyGroup] = []
        self.quorum: str | None = None
        self._names: set[str] = set()
        self._members: set[str] = set()

    def line(self, text: str) -> None:
        """Take one line. Raises `PolicyError`, `CheckpointError`."""
        bad = _FORBIDDEN.search(text)
        if bad is not None:
            reason = "lines end in a newline alone" if bad[0] == "\r" else "only tabs are allowed"
            raise PolicyError(f"control character {ord(bad[0]):#04x}; {reason}")
        items = _ITEMS.split(text.strip(" \t"))
        if not items[0] or items[0].startswith("#"):
            return
        take = {"log": self._log, "witness": self._witness, "group": self._group, "quorum": self._quorum}.get(items[0])
        if take is None:
            raise PolicyError(f"{items[0][:40]!r} begins no line of a policy; those are log, witness, group, quorum")
        take(items[1:])

    def _log(self, items: list[str]) -> None:
        if len(items) not in (1, 2):
            raise PolicyError("it should be: log <verifier key> [<url>]")
        origin, algorithm, key = notes.parse_verifier_key(items[0])
        if algorithm != notes.ED25519:
            raise PolicyError(f"the key of {origin} is of type {algorithm.hex()}, not an Ed25519 log's (01)")
        if any(key == log.public_key for log in self.logs):
            raise PolicyError(f"the key of log {origin} is listed twice")
        self.logs.append(PolicyLog(origin, key, *items[1:]))

    def _witness(self, items: list[str]) -> None:
        if len(items) not in (2, 3):
            raise PolicyError("it should be: witness <name> <verifier key> [<url>]")
        key_name, key = cosignature.parse_witness_key(items[1])
        if any(key == witness.public_key for witness in self.witnesses):
            raise PolicyError(f"the key of witness {items[0]} is listed twice")
        self._define(items[0])
        self.witnesses.append(PolicyWitness(items[0], key_name, key, *items[2:]))

    def _group(self, items: list[str]) -> None:
        if len(items) < 3:
            raise PolicyError("it should be: group <name> <k|all|any> <member>...")
        name, wanted, *members = items
        for member in members:
            self._known(member)
            if member in self._members:
                raise PolicyError(f"{member} is a member already; a name can be one only once")
            self._members.add(member)
        self._define(name)
        self.groups.append(PolicyGroup(name, _threshold(wanted, len(members)), tuple(members)))

    def _quorum(self, items: list[str]) -> None:
        if len(items) != 1:
            raise PolicyError("it should be: quorum <name>, or: quorum none")
        if self.quorum is not None:
            raise PolicyError("there is a second quorum")
        if items[0] != NONE:
            self._known(items[0])
        self.quorum = items[0]

    def _define(self, name: str) -> None:
        if name == NONE or name in self._names:
            raise PolicyError(f"the name {name} is {'reserved' if name == NONE else 'taken'}; choose another")
        self._names.add(name)

    def _known(self, name: str) -> None:
        if name not in self._names:
            raise PolicyError(f"no line before this one defines {name[:80]!r}")


def _threshold(wanted: str, members: int) -> int:
    named = {"any": 1, "all": members}.get(wanted)
    if named is not None:
        return named
    if not (wanted.isascii() and wanted.isdecimal() and len(wanted) <= 6 and 1 <= int(wanted) <= members):
        raise PolicyError(f"threshold {wanted[:40]!r} is not all, any, or a number from 1 to {members}")
    return int(wanted)
