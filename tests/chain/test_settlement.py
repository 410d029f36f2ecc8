# SPDX-License-Identifier: GPL-3.0-or-later
"""Every call of the vault's client that settlement adds, against the compiled vault on the embedded EVM."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from clearing.chain import blobs, structs
from clearing.chain.deploy import VaultParams, deploy_token, deploy_vault, mint
from clearing.chain.embedded import EmbeddedEvm, dev_key
from clearing.chain.errors import ChainError
from clearing.chain.rpc import Rpc
from clearing.chain.structs import Checkpoint, Disagreement, FalseSum, Tip
from clearing.chain.vault import VaultClient
from clearing.chain.wallet import (
    Wallet,
    attestation_digest,
    checkpoint_digest,
    post_epoch_digest,
    voucher_digest,
)
from proofs.diff import diff_hash
from proofs.hashing import exit_domain, sha256
from proofs.header import Header, attestors_hash
from proofs.inbox import FORCED_EXIT, FORCED_WITHDRAWAL, GOVERNANCE, Voucher
from proofs.leaf import ExitLeaf
from proofs.log import consistency_proof, inclusion_proof, leaf_hash, root
from proofs.sumtree import SumTree

BOND, STAKE, WINDOW_S, SECONDING_S, DEADLINE_S = 10**15, 10**18, 60, 120, 3_600
DEPLOYMENT, HOUSE = b"\x33" * 32, b"\x0f" * 20
OPERATOR, GOVERNOR, ALICE = (Wallet(dev_key(n)) for n in (0, 1, 2))
WATCHERS = sorted((Wallet(dev_key(n)) for n in (4, 5, 6)), key=lambda wallet: wallet.address)
JOURNAL = [leaf_hash(bytes([n])) for n in range(40)]


@dataclass
class Scene:
    """A vault with three attestors of whom two sign, and an operator that posts from a journal."""

    rpc: Rpc
    vault: VaultClient
    tree: SumTree
    last: Header | None = None
    headers: list[Header] = field(default_factory=list)

    def by(self, wallet: Wallet) -> VaultClient:
        return VaultClient(self.rpc, self.vault.address, wallet)

    def header(self, size: int, hashes: list[bytes] | None = None, entries: list[bytes] | None = None) -> Header:
        block, count = self.rpc.block(self.rpc.block_number() - 1), self.vault.inbox_count()
        return Header(
            domain=self.tree.domain,
            epoch=1 if self.last is None else self.last.epoch + 1,
            close_time_us=block.time_s * 1_000_000,
            prev_header=bytes(32) if self.last is None else self.last.hash(),
            journal_size=size,
            journal_root=root((entries or JOURNAL)[:size]),
            state_root=bytes(32),
            exit_root=self.tree.root,
            exit_sums=self.tree.sums,
            inbox_count=count,
            inbox_hash=self.vault.inbox_hash(count),
            marks_hash=bytes(32),
            params_hash=bytes(32),
            attestors_hash=attestors_hash(2, [wallet.address for wallet in WATCHERS]),
            diff_hash=diff_hash(hashes or []),
            l1_number=block.number,
            l1_hash=block.hash,
        )

    def attest(self, header: Header, *wallets: Wallet) -> list[bytes]:
        digest = attestation_digest(self.rpc.chain_id(), self.vault.address, header.hash())
        return [wallet.sign_digest(digest) for wallet in wallets]

    def sign(self, header: Header) -> bytes:
        digest = post_epoch_digest(self.rpc.chain_id(), self.vault.address, header.hash())
        return OPERATOR.sign_digest(digest)

    def post(self, header: Header, hashes: list[bytes] | None = None, attestations: list[bytes] | None = None) -> None:
        before = self.last.journal_size if self.last is not None else 0
        proof = consistency_proof(before, JOURNAL[: header.journal_size]) if 0 < before < header.journal_size else []
        signed = self.attest(header, *WATCHERS[:2]) if attestations is None else attestations
        self.vault.post_epoch(header.encode(), hashes or [], proof, self.sign(header), signed)
        self.last = header
        self.headers.append(header)

    def pass_time(self, seconds: int) -> None:
        self.rpc.request("evm_increaseTime", seconds)
        self.rpc.request("evm_mine")

    def checkpoint(self, size: int, entries: list[bytes] | None = None) -> tuple[Checkpoint, bytes]:
        head = Checkpoint(size, root((entries or JOURNAL)[:size]))
        return head, OPERATOR.sign_digest(checkpoint_digest(DEPLOYMENT, *head))


@pytest.fixture(scope="module")
def deployed(evm: EmbeddedEvm) -> Iterator[VaultClient]:
    with Rpc(evm.url) as rpc:
        before = rpc.request("evm_snapshot")
        token = deploy_token(rpc, OPERATOR)
        mint(rpc, OPERATOR, token, OPERATOR.address, 10**12)
        params = VaultParams(
            *(DEPLOYMENT, OPERATOR.address, HOUSE, [token], DEADLINE_S, WINDOW_S),
            governor=GOVERNOR.address,
            seconding_s=SECONDING_S,
            attestors=[wallet.address for wallet in WATCHERS],
            threshold=2,
            veto_bond_wei=BOND,
            operator_bond_wei=STAKE,
        )
        vault = deploy_vault(rpc, OPERATOR, params)
        vault.post_bond(STAKE)
        yield vault
        assert rpc.request("evm_revert", before) is True


@pytest.fixture
def scene(deployed: VaultClient) -> Iterator[Scene]:
    rpc = deployed.rpc
    snapshot = rpc.request("evm_snapshot")
    tree = SumTree(exit_domain(rpc.chain_id(), deployed.address), 1)
    yield Scene(rpc, deployed, tree)
    assert rpc.request("evm_revert", snapshot) is True


def test_what_was_fixed_reads_back(scene: Scene) -> None:
    vault = scene.vault
    assert vault.attestors() == [wallet.address for wallet in WATCHERS]
    assert (vault.threshold(), vault.veto_quorum()) == (2, 2)
    assert vault.attestors_hash() == attestors_hash(2, vault.attestors())
    assert (vault.governor(), vault.seconding_s()) == (GOVERNOR.address, SECONDING_S)
    assert (vault.veto_bond_wei(), vault.required_bond_wei(), vault.operator_bond()) == (BOND, STAKE, STAKE)
    assert (vault.freeze_reason(), vault.tip()) == (structs.FREEZE_NONE, Tip(0, 0, 0, 0, bytes(32), bytes(32)))
    assert vault.is_signer(OPERATOR.address)
    assert not vault.is_signer(ALICE.address)


def test_epochs_are_posted_with_attestations_and_a_journal_that_extends_the_last(scene: Scene) -> None:
    for size in (5, 5, 17, 32):
        scene.post(scene.header(size))
    vault, last = scene.vault, scene.headers[-1]
    assert vault.tip() == Tip(4, last.close_time_us, 32, 0, last.journal_root, last.hash())
    events = vault.epochs(vault.first_block())
    assert [event.header for event in events] == [header.encode() for header in scene.headers]
    assert vault.posted_chunks(events[3]) == []
    assert vault.final_at(4) == vault.header_time_s(4) + WINDOW_S
    assert vault.final_at(5) == 0


@pytest.mark.parametrize(
    ("signers", "reason", "hint"),
    [
        ((0,), "TooFewAttestations", "collect more attestors' signatures"),
        ((1, 0), "InvalidAttestation", "ascending order"),
        ((0, 0), "InvalidAttestation", "each once"),
    ],
)
def test_attestations_that_do_not_suffice_are_named(
    scene: Scene, signers: tuple[int, ...], reason: str, hint: str
) -> None:
    header = scene.header(3)
    with pytest.raises(ChainError, match=hint) as caught:
        scene.post(header, attestations=scene.attest(header, *(WATCHERS[n] for n in signers)))
    assert caught.value.reason == reason


def test_a_journal_that_was_rewritten_is_refused(scene: Scene) -> None:
    scene.post(scene.header(5))
    with pytest.raises(ChainError, match="prove that the journal extends") as caught:
        scene.post(scene.header(9, entries=JOURNAL[::-1]))
    assert caught.value.reason == "JournalInconsistent"


@pytest.mark.slow
def test_chunks_and_blobs_stand_in_one_list(scene: Scene) -> None:
    vault, chunk, blob = scene.vault, b"a chunk", blobs.encode(b"a blob")
    vault.publish_diff(chunk)
    receipt = vault.publish_blobs([blob])
    hashes = [sha256(chunk), blobs.versioned_hash(blob)]
    scene.post(scene.header(4, hashes), hashes)
    (event,) = vault.epochs(epoch=1)
    assert vault.posted_chunks(event) == hashes
    (published,) = vault.blobs_published()
    assert published == (hashes[1], receipt.block_number, receipt.tx_hash)
    assert vault.diff_block(hashes[1]) == receipt.block_number
    archived = bytes.fromhex(scene.rpc.request("anvil_getBlobByHash", "0x" + hashes[1].hex())[2:])
    assert blobs.verified(archived, hashes[1]) == b"a blob"


def test_a_veto_holds_a_header_and_a_second_one_freezes(scene: Scene) -> None:
    scene.post(scene.header(3))
    scene.pass_time(WINDOW_S)
    scene.post(scene.header(6))
    vault, hashed = scene.vault, scene.headers[1].hash()
    first, second = (scene.by(wallet) for wallet in WATCHERS[:2])
    with pytest.raises(ChainError) as caught:
        scene.by(ALICE).veto(2, hashed, bytes(32))
    assert caught.value.reason == "NotAttestor"
    receipt = first.veto(2, hashed, b"\x99" * 32)
    state = vault.veto_of(2)
    assert (state.by, state.objectors, state.state) == (WATCHERS[0].address, 1, structs.VETO_OPEN)
    assert vault.vetoes(vault.first_block()) == [
        (2, hashed, WATCHERS[0].address, b"\x99" * 32, receipt.block_number, receipt.tx_hash)
    ]
    assert vault.final_at(2) == state.time_s + SECONDING_S
    second.second(2, hashed)
    assert (vault.frozen(), vault.freeze_reason()) == (True, structs.FREEZE_VETO)
    assert vault.veto_of(2).state == structs.VETO_UPHELD
    assert (vault.escape_epoch(), vault.escape_header()) == (1, scene.headers[0].hash())
    assert vault.eth_credit(WATCHERS[0].address) == BOND
    before = scene.rpc.balance(WATCHERS[0].address)
    vault.withdraw_eth(WATCHERS[0].address)
    assert scene.rpc.balance(WATCHERS[0].address) - before == BOND


def test_a_veto_that_nobody_seconds_costs_its_bond(scene: Scene) -> None:
    scene.post(scene.header(3))
    vault = scene.by(WATCHERS[2])
    vault.veto(1, scene.headers[0].hash(), bytes(32))
    with pytest.raises(ChainError, match="SecondingNotOver"):
        vault.settle_veto(1)
    scene.pass_time(SECONDING_S)
    vault.settle_veto(1)
    assert vault.veto_of(1).state == structs.VETO_FAILED
    assert (vault.eth_credit(HOUSE), vault.finalised_epoch()) == (BOND, 1)


def test_a_voucher_is_paid_once_from_the_float(scene: Scene) -> None:
    vault, time_s = scene.vault, scene.rpc.time_s()
    vault.fund_float(0, 1_000)
    voucher = Voucher(vault.domain(), ALICE.address, 0, 300, time_s + 600)
    digest = voucher_digest(scene.rpc.chain_id(), vault.address, voucher)
    signatures = ALICE.sign_digest(digest), OPERATOR.sign_digest(digest)
    vault.redeem_voucher(voucher, *signatures)
    assert (vault.token_balance(0, ALICE.address), vault.float_of(0)) == (300, 700)
    assert vault.advanced_of(ALICE.address, 0) == (300, 0)
    with pytest.raises(ChainError, match="StaleVoucher"):
        vault.redeem_voucher(voucher, *signatures)
    scene.pass_time(601)
    with pytest.raises(ChainError, match="ask the operator for a new voucher"):
        vault.redeem_voucher(voucher, *signatures)
    vault.withdraw_float(0, 700)
    assert (vault.token_balance(0, HOUSE), vault.float_of(0)) == (700, 0)


def test_forced_requests_and_governance_stand_in_the_inbox(scene: Scene) -> None:
    alice = scene.by(ALICE)
    alice.force_withdrawal(0, 55, 3)
    alice.force_exit(2)
    scene.by(GOVERNOR).send_governance(b"\x42" * 32)
    with pytest.raises(ChainError, match="NotGovernor"):
        alice.send_governance(b"\x42" * 32)
    found = [(m.kind, m.owner, m.amount, m.data) for m, _, _ in scene.vault.inbox()]
    assert found == [
        (FORCED_WITHDRAWAL, ALICE.address, 55, (3).to_bytes(32, "big")),
        (FORCED_EXIT, ALICE.address, 0, (2).to_bytes(32, "big")),
        (GOVERNANCE, GOVERNOR.address, 0, b"\x42" * 32),
    ]


def _convicted(scene: Scene, reporter: Wallet, kind: int) -> None:
    vault = scene.vault
    assert (vault.freeze_reason(), vault.fault_proven()) == (structs.FREEZE_FAULT, True)
    assert (vault.operator_bond(), vault.eth_credit(reporter.address)) == (0, STAKE // 2)
    (fault,) = vault.faults(vault.first_block())
    assert (fault.kind, fault.reporter) == (kind, reporter.address)


def _disagreement(one: list[bytes], size_one: int, two: list[bytes], size_two: int) -> Disagreement:
    at = next(n for n in range(min(size_one, size_two)) if one[n] != two[n])
    paths = tuple(inclusion_proof(at, one[:size_one])), tuple(inclusion_proof(at, two[:size_two]))
    return Disagreement(at, one[at], paths[0], two[at], paths[1])


OTHER = [*JOURNAL[:3], leaf_hash(b"another"), *JOURNAL[4:]]


@pytest.mark.parametrize("sizes", [(8, 8), (8, 13)])
def test_two_checkpoints_that_disagree_convict_the_operator(scene: Scene, sizes: tuple[int, int]) -> None:
    one, two = scene.checkpoint(sizes[0]), scene.checkpoint(sizes[1], OTHER)
    d = Disagreement() if sizes[0] == sizes[1] else _disagreement(JOURNAL, sizes[0], OTHER, sizes[1])
    honest = scene.checkpoint(13)
    with pytest.raises(ChainError, match="NoFault"):
        scene.by(ALICE).prove_equivocation(*one, *honest, _disagreement(JOURNAL, 8, OTHER, 13))
    scene.by(ALICE).prove_equivocation(*one, *two, d)
    _convicted(scene, ALICE, structs.FAULT_EQUIVOCATION)


def test_a_header_against_a_checkpoint_convicts_the_operator(scene: Scene) -> None:
    scene.post(scene.header(8))
    arguments = scene.checkpoint(13, OTHER)
    d = _disagreement(JOURNAL, 8, OTHER, 13)
    scene.by(ALICE).prove_header_conflict(scene.headers[0].encode(), *arguments, d)
    _convicted(scene, ALICE, structs.FAULT_HEADER_CONFLICT)


def test_two_headers_signed_for_one_epoch_convict_the_operator(scene: Scene) -> None:
    one, two = scene.header(8), scene.header(9)
    scene.by(ALICE).prove_double_header(one.encode(), scene.sign(one), two.encode(), scene.sign(two))
    _convicted(scene, ALICE, structs.FAULT_DOUBLE_HEADER)


def test_a_false_sum_convicts_the_operator(scene: Scene) -> None:
    """The root's two children hold 40 atoms, and the header says 10."""
    vault, tree = scene.vault, scene.tree
    vault.deposit(0, 50, ALICE.address)
    tree.update([ExitLeaf(1, ALICE.address, (40,), (0,))])
    path = tree.proof(1)
    # The top node's children: everything lies in the left half, so the right one is the last sibling.
    left, right = _top_children(tree), path.hashes[-1]
    honest = scene.header(4)
    header = Header(**{name: getattr(honest, name) for name in Header.__struct_fields__} | {"exit_sums": (10,)})
    scene.post(header)
    proof = FalseSum(left, (40,), right, (0,), 20, 0, (), (), ())
    with pytest.raises(ChainError, match="MalformedProof"):
        scene.by(ALICE).prove_false_sum(header.encode(), proof._replace(level=19))
    scene.by(ALICE).prove_false_sum(header.encode(), proof)
    _convicted(scene, ALICE, structs.FAULT_FALSE_SUM)


def _top_children(tree: SumTree) -> bytes:
    """The hash of the root's left child, climbed from leaf 1."""
    leaf = tree.leaf(1)
    assert leaf is not None
    node, sums, path = sha256(leaf.encode(tree.domain)), leaf.sums, tree.proof(1)
    for level in range(19):
        pair = [(node, sums), (path.hashes[level], path.sums[level])]
        pair = pair[::-1] if 1 >> level & 1 else pair
        packed = b"".join(digest + b"".join(value.to_bytes(16, "big") for value in lane) for digest, lane in pair)
        node, sums = sha256(b"\x01" + packed), tuple(a + b for a, b in zip(*(lane for _, lane in pair), strict=True))
    return node


def test_a_challenged_receipt_is_answered_with_a_posted_journal(scene: Scene) -> None:
    head, signature = scene.checkpoint(6)
    alice = scene.by(ALICE)
    receipt = alice.challenge_receipt(head, signature, 4, JOURNAL[4], inclusion_proof(4, JOURNAL[:6]))
    number = alice.challenge_in(receipt)
    (event,) = scene.vault.challenges()
    assert (event.id, event.by, event.entry, event.leaf) == (number, ALICE.address, 4, JOURNAL[4])
    assert scene.vault.challenge_of(number).open
    scene.post(scene.header(9))
    scene.vault.answer_receipt(number, scene.headers[0].encode(), inclusion_proof(4, JOURNAL[:9]))
    assert not scene.vault.challenge_of(number).open
    assert scene.vault.eth_credit(HOUSE) == BOND


def test_a_receipt_that_no_posted_journal_holds_convicts_the_operator(scene: Scene) -> None:
    head, signature = scene.checkpoint(6)
    alice = scene.by(ALICE)
    path = inclusion_proof(4, JOURNAL[:6])
    number = alice.challenge_in(alice.challenge_receipt(head, signature, 4, JOURNAL[4], path))
    with pytest.raises(ChainError, match="AnswerNotDue"):
        alice.prove_unanswered(number)
    scene.pass_time(DEADLINE_S)
    alice.prove_unanswered(number)
    assert scene.vault.freeze_reason() == structs.FREEZE_FAULT
    assert scene.vault.eth_credit(ALICE.address) == BOND + STAKE // 2


def test_the_bond_is_needed_to_post_and_free_after_a_freeze_without_fault(scene: Scene) -> None:
    vault = scene.vault
    with pytest.raises(ChainError, match="BondLocked"):
        vault.withdraw_bond()
    scene.pass_time(DEADLINE_S)
    vault.freeze()
    scene.pass_time(DEADLINE_S)
    vault.withdraw_bond()
    assert (vault.operator_bond(), vault.eth_credit(OPERATOR.address)) == (0, STAKE)


def test_the_operator_is_rotated_and_its_signers_are_named(scene: Scene) -> None:
    scene.vault.name_signer(GOVERNOR.address)
    scene.vault.rotate_operator(ALICE.address)
    assert scene.vault.operator() == ALICE.address
    assert all(scene.vault.is_signer(wallet.address) for wallet in (OPERATOR, GOVERNOR, ALICE))
