# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks on what a header stands for: its journal, its data, its attestations. Each names its defence."""

from hashlib import sha256

import pytest

from tests.contract.chain import Chain, events, refused
from tests.contract.reference import Header, Leaf, consistency, entry, journal_root
from tests.contract.signing import ATTESTORS, OPERATOR, STRANGER, sign_attestation, sign_epoch
from tests.contract.world import VAULT, World, owner

DEPOSIT = 50_000_000


def running(chain: Chain, attestors: int = 0, threshold: int = 0) -> World:
    world = World.create(chain, attestors=attestors, threshold=threshold)
    world.deposit(owner(1), DEPOSIT)
    world.close_epoch([Leaf(1, owner(1), (DEPOSIT,), (0,))])
    return world


def following(world: World) -> Header:
    return world.header(world.trees[1].root())


def send(world: World, header: Header, proof: list[bytes]) -> None:
    signature = sign_epoch(OPERATOR, header.hash(), world.chain.chain_id, world.vault)
    attestations = world.attestations(header, world.attestors[: world.setup.threshold])
    world.send("postEpoch", header.encode(), [], proof, signature, attestations)


@pytest.mark.parametrize("changed", [0, 4, 9])
def test_a_rewritten_journal_is_refused(evm: Chain, changed: int) -> None:
    """The operator replaces an entry of the past and goes on from there. Defence: the journal root must be
    consistent with the last posted one; no proof exists, neither the honest one nor the rewritten journal's."""
    world = running(evm)
    honest = following(world)
    size = honest.journal_size
    entries = world.entries(size)
    lie = [*entries[:changed], entry(b"rewritten"), *entries[changed + 1 :]]
    header = honest.but(journal_root=journal_root(lie))
    for proof in (consistency(10, lie), consistency(10, entries), [], [bytes(32)] * 5):
        with refused("JournalInconsistent"):
            send(world, header, proof)
    world.post(honest)


def test_a_journal_cannot_shrink_or_change_in_place(evm: Chain) -> None:
    """Dropping entries that receipts were given for, or another root of the same size."""
    world = running(evm)
    honest = following(world)
    for size in (0, 1, 9):
        root = journal_root(world.entries(size)) if size else bytes(32)
        with refused("JournalInconsistent"):
            send(world, honest.but(journal_size=size, journal_root=root), [])
    same = honest.but(journal_size=10, journal_root=world.headers[1].journal_root)
    with refused("JournalInconsistent"):
        send(world, same.but(journal_root=sha256(b"other").digest()), [])
    with refused("JournalInconsistent"):
        send(world, same, [bytes(32)])
    send(world, same, [])


def test_many_epochs_of_a_growing_journal_pass(evm: Chain) -> None:
    """Honest proofs of many shapes: what is refused above is refused for what it is."""
    world = running(evm)
    size = 10
    for grown in (1, 2, 5, 14, 32, 1, 63, 128):
        size += grown
        world.post(following(world).but(journal_size=size, journal_root=journal_root(world.entries(size))))
    assert world.view("epochCount") == 9


def test_withheld_data(evm: Chain) -> None:
    """A header whose diff nobody can read would leave users without proofs. Defence: every chunk that the diff
    hash covers was published on this chain before, under its own hash."""
    world = running(evm)
    chunks = [b"the first part", b"the second part"]
    header = world.header(world.trees[1].root(), chunks=chunks)
    with refused("DiffNotPublished"):
        world.post(header, chunks)
    world.send("publishDiff", chunks[1])
    with refused("DiffNotPublished"):
        world.post(header, chunks)
    for named in (chunks[1:], [*chunks, chunks[1]], []):
        with refused("DiffHashMismatch"):
            world.post(header, named)
    world.send("publishDiff", chunks[0], sender=7)
    world.post(header, chunks)


def test_a_chunk_published_on_another_vault_does_not_count(evm: Chain) -> None:
    """Whoever reads one vault's logs must find everything there."""
    world = running(evm)
    twin = World.create(evm, tokens=world.tokens)
    twin.send("publishDiff", b"chunk")
    with refused("DiffNotPublished"):
        world.post(world.header(world.trees[1].root(), chunks=[b"chunk"]), [b"chunk"])


def test_blobs_are_taken_note_of_only_in_their_own_transaction(evm: Chain) -> None:
    """Nobody can claim a blob that was not carried: blobhash sees this transaction's alone."""
    world = running(evm)
    with refused("NoBlobs"):
        world.send("publishBlobs")
    versioned = b"\x01" + sha256(b"commitment").digest()[1:]
    covered = sha256(b"novate/diff/v1" + versioned).digest()
    header = following(world).but(diff_hash=covered)
    posting = list(world.posting(header))
    posting[1] = [versioned]
    with refused("DiffNotPublished"):
        world.send("postEpoch", *posting)


def attested(evm: Chain) -> tuple[World, Header]:
    world = running(evm, 5, 3)
    return world, following(world)


def test_a_header_needs_k_distinct_attestors(evm: Chain) -> None:
    """Two signatures, one twice, out of order, a stranger's, the operator's own. Defence: strictly ascending
    signers, each of the fixed set, at least k."""
    world, header = attested(evm)
    a, b, c, d, e = world.attestors
    for signers in ([], [a, b]):
        with refused("TooFewAttestations"):
            world.post(header, signers=signers)
    for signers in ([a, a, b], [a, b, b], [b, a, c], [a, b, STRANGER], [a, b, OPERATOR], [a, b, c, c]):
        with refused("InvalidAttestation"):
            world.post(header, signers=signers)
    with evm.sandbox():
        world.send("postEpoch", *world.posting(header, signers=[c, d, e]))
    world.post(header, signers=[a, b, c, d, e])


def test_attestations_are_for_one_header_of_one_vault(evm: Chain) -> None:
    """Signatures for another header, another vault, another chain, or of another kind: the operator's PostEpoch
    struct has the same field, and its type keeps the two apart."""
    world, header = attested(evm)
    signers = world.attestors[:3]
    hashed, place = header.hash(), (evm.chain_id, world.vault)
    good = [sign_attestation(one, hashed, *place) for one in signers]
    posting = world.posting(header)
    for last in (
        sign_attestation(signers[2], header.but(epoch=3).hash(), *place),
        sign_attestation(signers[2], hashed, evm.chain_id + 1, world.vault),
        sign_attestation(signers[2], hashed, evm.chain_id, world.tokens[0]),
        sign_epoch(signers[2], hashed, *place),
        good[2][:64],
        good[2][:64] + b"\x00",
        b"",
    ):
        with refused("InvalidAttestation"):
            world.send("postEpoch", *posting[:4], [*good[:2], last])
    with refused("InvalidOperatorSignature"):
        world.send("postEpoch", *posting[:3], sign_attestation(OPERATOR, hashed, *place), good)
    world.send("postEpoch", *posting[:4], good)


def test_a_malleable_signature_is_no_second_attestor(evm: Chain) -> None:
    """The other root of the same signature. Defence: s in the lower half of the order, and ascending signers."""
    world, header = attested(evm)
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    signatures = world.attestations(header, world.attestors[:3])
    r, s, v = signatures[2][:32], int.from_bytes(signatures[2][32:64], "big"), signatures[2][64]
    twisted = r + (order - s).to_bytes(32, "big") + bytes([55 - v])
    posting = world.posting(header)
    with refused("InvalidAttestation"):
        world.send("postEpoch", *posting[:4], [*signatures[:2], twisted])
    with refused("InvalidAttestation"):
        world.send("postEpoch", *posting[:4], [*signatures, twisted])


def test_a_header_names_the_attestors_who_signed_it(evm: Chain) -> None:
    """Or a verifier could be told of a stronger set than there is. Defence: WrongAttestors."""
    world, header = attested(evm)
    with refused("WrongAttestors"):
        world.post(header.but(attestors_hash=bytes(32)))
    free = running(evm)
    with refused("WrongAttestors"):
        free.post(following(free).but(attestors_hash=header.attestors_hash))


def test_attestors_alone_post_nothing(evm: Chain) -> None:
    """All five without the operator's signature."""
    world, header = attested(evm)
    with refused("InvalidOperatorSignature"):
        world.post(header, key=STRANGER, signers=ATTESTORS)


def test_a_required_bond_stands_before_any_header(evm: Chain) -> None:
    """No header without something to lose. Defence: BondTooLow."""
    world = World.create(evm, operator_bond=1_000)
    header = world.header(world.tree([]).root())
    with refused("BondTooLow"):
        world.post(header)
    world.send("postBond", value=999, sender=3)
    with refused("BondTooLow"):
        world.post(header)
    (event,) = events(world.send("postBond", value=1), VAULT, "BondPosted")
    assert event["bond"] == 1_000 == world.view("operatorBond")
    world.post(header)


def test_reading_a_header_takes_only_its_exact_bytes(evm: Chain) -> None:
    """Bytes appended to or cut from a posted header name no header. Defence: the hash of the whole."""
    world = running(evm)
    world.pass_window()
    true = world.proof(1, 1)
    for wrong in (true.header + b"\0", true.header[:-1], b"", true.header[:42]):
        with refused("UnknownHeader"):
            world.send("claim", wrong, *true.arguments()[1:])
