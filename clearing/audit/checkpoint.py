# SPDX-License-Identifier: GPL-3.0-or-later
"""The signed note over the journal against the replay: its root, its origin, who signed it, and who witnessed it.

Rules:
- The note's root must be the replayed one at the note's size, and its signature that of the key which was the
  operator's there. A note of more entries than were read says nothing yet.
- A policy (C2SP tlog-policy) says whose cosignatures an auditor asks for. Without one nobody witnessed anything, and
  the result says so.
"""

from dataclasses import dataclass

from clearing.audit.findings import Finding
from clearing.audit.replay import ReplayReport
from clearing.model.commands import Genesis
from clearing.model.errors import NovateError
from proofs import checkpoint as notes
from proofs.errors import ProofError
from proofs.policy import Policy


@dataclass(frozen=True, slots=True)
class CheckpointResult:
    """A note as it was checked. `witnesses`: names that satisfy the policy; `policy`: whether one was given;
    `compared`: whether the log reached the note's size, so that there was a root to compare its own with; `signed`:
    whether the operator's key was known and signed it."""

    origin: str
    size: int
    root: bytes
    policy: bool
    witnesses: tuple[str, ...]
    findings: tuple[Finding, ...]
    compared: bool = True
    signed: bool = True

    @property
    def ok(self) -> bool:
        return self.compared and self.signed and not self.findings


def size_of(note: str) -> int:
    """How many entries a note covers; 0 when it is no note."""
    try:
        return notes.parse(note).checkpoint.size
    except ProofError:
        return 0


def check_note(note: str, genesis: Genesis, report: ReplayReport, policy: str | None) -> CheckpointResult:
    """Compare a note with the replay, which must have been asked for its size (`marks`).

    Raises `NovateError` POLICY_INVALID for a policy that is none.
    """
    origin = notes.origin_of(genesis.origin, genesis.deployment)
    found: list[Finding] = []
    witnesses = _witnesses(note, policy, found)
    try:
        tip = notes.parse(note).checkpoint
    except ProofError as error:
        found.append(Finding("CHECKPOINT_DIFFERS", 0, f"the checkpoint is no signed note: {error}", -1))
        return CheckpointResult(origin, 0, b"", policy is not None, witnesses, tuple(found), False, False)
    mark = report.marks.get(tip.size)
    if mark is None:
        if report.ok:
            text = f"the checkpoint is of {tip.size} entries, and {report.size} were read"
            found.append(Finding("CHECKPOINT_DIFFERS", 0, text, -1))
    else:
        root, key = mark
        if root != tip.root:
            text = f"the checkpoint of {tip.size} entries says root 0x{tip.root.hex()}, replay gives 0x{root.hex()}"
            found.append(Finding("CHECKPOINT_DIFFERS", 0, text, -1))
        try:
            notes.verify(note, key[1:], origin)
        except ProofError as error:
            text = f"the checkpoint is not signed by the operator's key at {tip.size} entries: {error}"
            found.append(Finding("CHECKPOINT_UNSIGNED", 0, text, -1))
    compared = mark is not None
    return CheckpointResult(origin, tip.size, tip.root, policy is not None, witnesses, tuple(found), compared, compared)


def check_policy(note: str, policy: str | None) -> CheckpointResult:
    """The note of a log whose entries cannot be read, which stands at it: its root is the log's already, and whose key
    must have signed it only a policy with a line for the log says. Raises `NovateError` POLICY_INVALID."""
    found: list[Finding] = []
    tip = notes.parse(note).checkpoint
    witnesses = _witnesses(note, policy, found)
    signed = policy is not None and bool(_policy(policy).logs)
    return CheckpointResult(tip.origin, tip.size, tip.root, policy is not None, witnesses, tuple(found), True, signed)


def _policy(text: str) -> Policy:
    try:
        return Policy.parse(text)
    except ProofError as error:
        raise NovateError("POLICY_INVALID", f"the policy is none: {error}") from None


def _witnesses(note: str, policy: str | None, found: list[Finding]) -> tuple[str, ...]:
    if policy is None:
        return ()
    try:
        return _policy(policy).check(note)
    except ProofError as error:
        found.append(Finding("POLICY_UNSATISFIED", 0, str(error), -1))
        return ()
