# SPDX-License-Identifier: Apache-2.0
"""From a bundle to a verdict, step by step. Never raises on hostile bundles: a step fails instead.

Order: the bundle is well-formed; the header is of the vault and chain that it names; the header is
the chain's (when the caller knows the chain's hash); the exit leaf leads to the header's root and
sums; state leaves lead to the state root; the signed checkpoint is the header's journal; each entry
is in that journal.
"""

import hashlib
from collections.abc import Callable

import msgspec

from proofs import bundle as b
from proofs import checkpoint as note
from proofs.errors import CheckpointError, ProofError
from proofs.hashing import exit_domain, state_domain
from proofs.hashtree import verify_state
from proofs.header import Header
from proofs.leaf import ExitLeaf, StateLeaf
from proofs.log import leaf_hash, verify_inclusion
from proofs.sumtree import SumProof, verify_exit

OK, FAILED, SKIPPED = "ok", "failed", "skipped"


class Step(msgspec.Struct, frozen=True):
    """One check: `status` is ok, failed or skipped."""

    name: str
    status: str
    detail: str


class Verdict(msgspec.Struct, frozen=True):
    """`ok` only if no step failed; `complete` if none was skipped either."""

    steps: tuple[Step, ...]

    @property
    def ok(self) -> bool:
        return bool(self.steps) and all(step.status != FAILED for step in self.steps)

    @property
    def complete(self) -> bool:
        return self.ok and all(step.status == OK for step in self.steps)


class _Run:
    """Collects steps; a failed step stops those that build on it."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def check(self, name: str, work: Callable[[], str]) -> bool:
        try:
            detail = work()
        except ProofError as error:
            self.steps.append(Step(name, FAILED, f"{error.code}: {error.message}"))
            return False
        self.steps.append(Step(name, OK, detail))
        return True

    def skip(self, name: str, why: str) -> None:
        self.steps.append(Step(name, SKIPPED, why))


def verify_bytes(data: bytes, *, header_hash: bytes | None = None, operator_key: bytes | None = None) -> Verdict:
    """Verdict on the bytes of a bundle file; see `verify`."""
    run = _Run()
    bundles: list[b.Bundle] = []

    def read() -> str:
        bundles.append(b.decode(data))
        return f"format {b.FORMAT}, {len(data)} bytes"

    if run.check("bundle", read):
        _steps(run, bundles[0], header_hash, operator_key)
    return Verdict(tuple(run.steps))


def verify(bundle: b.Bundle, *, header_hash: bytes | None = None, operator_key: bytes | None = None) -> Verdict:
    """Check everything in the bundle.

    `header_hash`: what the vault stores for this epoch (32 bytes); without it the verdict says that
    the chain was not asked. `operator_key`: the Ed25519 key (32 bytes) that the caller trusts to sign
    checkpoints; without it the bundle's own is used, which proves less.
    """
    # A bundle made in memory passes the reader of files too: then there is one place that limits it.
    try:
        data = b.encode(bundle)
    except ProofError as error:
        return Verdict((Step("bundle", FAILED, f"{error.code}: {error.message}"),))
    return verify_bytes(data, header_hash=header_hash, operator_key=operator_key)


def _steps(run: _Run, bundle: b.Bundle, header_hash: bytes | None, operator_key: bytes | None) -> None:
    headers: list[Header] = []

    def read_header() -> str:
        headers.append(Header.decode(b.unhex(bundle.header, "header")))
        domain = exit_domain(bundle.chain_id, b.unhex(bundle.vault, "vault"))
        if headers[0].domain != domain:
            raise ProofError(f"the header is of another vault than {bundle.vault} on chain {bundle.chain_id}")
        return f"epoch {headers[0].epoch} of vault 0x{bundle.vault} on chain {bundle.chain_id}"

    if not run.check("header", read_header):
        return
    header = headers[0]
    if header_hash is None:
        run.skip("chain", "the chain was not asked; give --rpc to compare the header with the vault's")
    else:
        run.check("chain", lambda: _same_header(header, header_hash))
    run.check("exit", lambda: _exit(bundle, header))
    for part in bundle.states:
        run.check(f"account {part.account}", lambda part=part: _state(bundle, part, header))  # type: ignore[misc]
    run.check("checkpoint", lambda: _checkpoint(bundle, header, operator_key))
    for entry in bundle.entries:
        run.check(f"entry {entry.seq}", lambda entry=entry: _entry(entry, header))  # type: ignore[misc]


def _same_header(header: Header, expected: bytes) -> str:
    found = header.hash()
    if found != expected:
        raise ProofError(f"the vault has header {expected.hex()}, the bundle {found.hex()}: not the posted epoch")
    return f"header {found.hex()[:16]}… is the vault's"


def _exit(bundle: b.Bundle, header: Header) -> str:
    part = bundle.exit
    leaf = ExitLeaf(
        index=part.index,
        owner=b.unhex(part.owner, "owner"),
        exits=tuple(b.number(value, "exit") for value in part.exits),
        withdraw_acks=tuple(b.number(value, "withdraw_ack") for value in part.withdraw_acks),
    )
    proof = SumProof(
        tuple(b.unhex(item, "sibling") for item in part.hashes),
        tuple(tuple(b.number(value, "sum") for value in row) for row in part.sums),
    )
    verify_exit(leaf, proof, header.exit_root, header.exit_sums, header.domain)
    if len(bundle.assets) != len(leaf.exits):
        raise ProofError("the bundle names another number of assets than the leaf has lanes")
    owed = ", ".join(f"{exit_} + {ack} acknowledged" for exit_, ack in zip(part.exits, part.withdraw_acks, strict=True))
    return f"leaf {leaf.index} pays 0x{part.owner}: {owed} atoms, within the sum {header.exit_sums[0]}"


def _state(bundle: b.Bundle, part: b.StatePart, header: Header) -> str:
    leaf = StateLeaf(
        owner=b.unhex(bundle.exit.owner, "owner"),
        account=part.account,
        sub=part.sub,
        salt=b.unhex(part.salt, "salt"),
        equity=b.number(part.equity, "equity"),
        deficit=b.number(part.deficit, "deficit"),
        margin_initial=b.number(part.margin_initial, "margin_initial"),
        margin_maintenance=b.number(part.margin_maintenance, "margin_maintenance"),
        stress_loss=b.number(part.stress_loss, "stress_loss"),
        details=b.unhex(part.details, "details"),
    )
    domain = state_domain(b.unhex(bundle.deployment_id, "deployment id"))
    path = [b.unhex(item, "sibling") for item in part.hashes]
    verify_state(part.account, leaf.hash(domain), path, header.state_root)
    return f"equity {part.equity}, initial margin {part.margin_initial}, maintenance {part.margin_maintenance} atoms"


def _checkpoint(bundle: b.Bundle, header: Header, trusted: bytes | None) -> str:
    own = b.unhex(bundle.operator_key, "operator key")
    if trusted is not None and own != trusted:
        raise CheckpointError("the bundle's operator key is not the one you trust")
    deployment = b.unhex(bundle.deployment_id, "deployment id")
    if not bundle.origin.endswith(f"/{deployment.hex()}/journal"):
        raise CheckpointError(f"origin {bundle.origin} does not name deployment {deployment.hex()}")
    found = note.verify(bundle.checkpoint, own, bundle.origin)
    if (found.size, found.root) != (header.journal_size, header.journal_root):
        raise CheckpointError("the checkpoint is not the header's journal size and root")
    who = "a key you trust" if trusted is not None else f"key {hashlib.sha256(own).hexdigest()[:16]}…"
    return f"journal of {found.size} entries, signed by {who}"


def _entry(part: b.EntryPart, header: Header) -> str:
    data = b.unhex(part.entry, "entry")
    path = [b.unhex(item, "proof hash") for item in part.proof]
    verify_inclusion(part.seq, header.journal_size, leaf_hash(data), path, header.journal_root)
    return f"{len(data)} bytes, number {part.seq} of {header.journal_size}"
