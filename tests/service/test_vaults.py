# SPDX-License-Identifier: GPL-3.0-or-later
"""Several vaults on several chains under one journal: headers, dead chains, reorganisations, freezes."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from clearing.model import commands as c
from clearing.model.errors import NovateError
from clearing.service.epochs import EpochRecord
from clearing.service.intake import consume_command
from clearing.service.node import Node
from clearing.service.operator import rejections
from clearing.service.pipeline import Receipt
from proofs.header import Header, peers_hash
from proofs.log import verify_consistency
from proofs.verify import verify_bytes
from tests.nodes import ChainNode, start_node
from tests.service.chains import DEAD, DEADLINE_S, WINDOW_S, Deployed, deploy_venue, findings, refusal, take_in, trade
from tests.service.world import USD, owner_of

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def evms() -> Iterator[list[ChainNode]]:
    running = [start_node() for _ in range(2)]
    yield running
    for evm in running:
        evm.stop()


@pytest.fixture
def deployed(evms: list[ChainNode], tmp_path: Path) -> Iterator[Deployed]:
    venue = deploy_venue(tmp_path / "venue", evms)
    yield venue
    for place in venue.places:
        place.rpc.close()


@pytest.fixture
def node(deployed: Deployed) -> Iterator[Node]:
    """An operator whose members paid in on both chains and traded."""
    deployed.deposit("alice", 1_000 * USD)
    deployed.deposit("bob", 3_000 * USD, 1)
    running = deployed.node()
    assert take_in(running) == 2
    trade(running)
    yield running
    running.close()


def heads(deployed: Deployed) -> list[int]:
    return [place.vault.epoch_count() for place in deployed.places]


def hashes(record: EpochRecord) -> list[bytes]:
    return [record.part(number).header_hash for number in record.live()]


def test_one_epoch_has_a_header_on_every_chain(deployed: Deployed, node: Node) -> None:
    """Each vault stores its own header of the common epoch; each header commits to its peer's previous one, and the
    journal's consistency is proven to both contracts; the audit agrees with both."""
    first = node.poster.turn()
    second = node.poster.turn()
    assert heads(deployed) == [2, 2]
    for number, place in enumerate(deployed.places):
        assert place.vault.header_hash(1) == first.part(number).header_hash
        assert place.vault.header_hash(2) == second.part(number).header_hash
        header = Header.decode(second.part(number).header)
        assert header.prev_header == first.part(number).header_hash
        assert header.peers_hash == peers_hash(number, hashes(first))
    old, new = Header.decode(first.part(0).header), Header.decode(second.part(0).header)
    proof = node.store.consistency(old.journal_size, new.journal_size)
    assert proof
    verify_consistency(old.journal_size, new.journal_size, proof, old.journal_root, new.journal_root)
    assert findings(node, deployed) == []


def test_a_bundle_is_of_a_chosen_vault(deployed: Deployed, node: Node) -> None:
    """The settlement asset is owed from both vaults pro rata, so alice has a proof in each tree."""
    record = node.poster.turn()
    paid = 0
    for number in (0, 1):
        bundle = node.prover.bundle(owner_of("alice"), number)
        verdict = verify_bytes(bundle, header_hash=record.part(number).header_hash)
        assert verdict.complete, verdict.steps
        leaf = node.book.leaves(number, 1)[node.pipeline.reducer.state.owners[owner_of("alice")].leaves[number]]
        assert leaf.owner == owner_of("alice")
        paid += leaf.exits[0] + leaf.withdraw_acks[0]
    assert abs(paid - 1_000 * USD) < USD
    assert refusal(node.prover.bundle, owner_of("alice"), 2) == "UNKNOWN_VAULT"


@pytest.mark.slow
def test_a_dead_chain_holds_up_the_next_epoch_and_not_this_one(deployed: Deployed, node: Node) -> None:
    """With vault 1's chain gone the epoch still reaches vault 0; the next one waits until vault 1 has it too."""
    node.poster.turn()
    node.close()
    half = deployed.node([deployed.places[0].rpc.url, DEAD])
    rpc = half._links[1].require().rpc
    assert half.faults.current()["poster"] == "RPC_UNREACHABLE"
    # The dead chain cannot even name a block, so the epoch is closed while it still answered.
    half.operator.run(c.CloseEpoch(2, tuple(_blocks(deployed))))
    assert refusal(half.poster.post_missing) == "RPC_UNREACHABLE"
    assert heads(deployed) == [2, 1]
    assert refusal(half.poster.turn) == "RPC_UNREACHABLE"
    assert half.pipeline.reducer.state.epoch == 2
    rpc.close()
    half.close()
    whole = deployed.node()
    assert heads(deployed) == [2, 2]
    assert whole.poster.posted_epoch == 2
    assert whole.poster.turn().epoch == 3
    assert findings(whole, deployed) == []
    whole.close()


def _blocks(deployed: Deployed) -> Iterator[tuple[int, bytes]]:
    for place in deployed.places:
        block = place.rpc.block(place.rpc.block_number() - 1)
        yield block.number, block.hash


def test_a_reorganisation_is_answered_with_the_same_bytes(deployed: Deployed, node: Node) -> None:
    """A chain that forgets a posted header gets the very same one again; the other chain is left alone."""
    node.poster.turn()
    place = deployed.places[1]
    before = place.rpc.request("evm_snapshot")
    record = node.poster.turn()
    assert place.rpc.request("evm_revert", before)
    assert heads(deployed) == [2, 1]
    assert node.poster.post_missing() == 1
    assert heads(deployed) == [2, 2]
    assert place.vault.header_hash(2) == record.part(1).header_hash
    assert node.poster.post_missing() == 0
    assert findings(node, deployed) == []


def freeze(deployed: Deployed, number: int) -> None:
    """Let the deadline of one vault pass and freeze it, as anybody may."""
    place = deployed.places[number]
    place.pass_time(DEADLINE_S + 1)
    place.vault.freeze()


def test_a_frozen_vault_is_settled_and_the_other_goes_on(deployed: Deployed, node: Node) -> None:
    """What the frozen vault pays out by escape and refund is debited here; the next epoch has no header for it,
    and what is left of the claims lies in the other vault, to the atom. The audit agrees with both chains."""
    node.poster.turn()
    deployed.places[1].pass_time(WINDOW_S + 1)
    deployed.deposit("carol", 50 * USD, 1)
    assert take_in(node) == 1
    deployed.deposit("dave", 7 * USD, 1)  # never consumed: the contract refunds it
    freeze(deployed, 1)
    node.poster.post_missing()
    assert refusal(node.poster.turn) == "ESCAPE_UNSETTLED"
    assert node.freezes[0].turn() is False
    assert node.freezes[1].turn() is True
    state = node.pipeline.reducer.state
    assert state.vaults[1].frozen == 1 and state.vaults[1].settled
    record = node.poster.turn()
    assert record.live() == [0] and record.epoch == 2
    assert heads(deployed) == [2, 1]
    assert state.holdings == 990 * USD  # what lies in vault 0, less what alice and bob withdrew there
    assert findings(node, deployed) == []
    node.close()
    again = deployed.node()
    assert again.freezes[1].turn() is True
    assert again.poster.turn().epoch == 3
    assert again.poster.posted_epoch == 3
    again.close()


@pytest.mark.parametrize("confirmations", [3, "finalized"])
def test_only_a_final_freeze_is_journalled(
    deployed: Deployed, node: Node, confirmations: int | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the freeze could still be reorganised away nothing is journalled, and no epoch closes either."""
    node.poster.turn()
    link = node._links[1]
    freeze(deployed, 1)
    monkeypatch.setattr(link, "confirmations", confirmations)
    if confirmations == "finalized":  # the embedded chain calls its head so: here it lags
        head = deployed.places[1].rpc.block_number()
        monkeypatch.setattr(link, "final_block", lambda: head - 1)
    assert node.freezes[1].turn() is False
    node.poster.post_missing()
    assert refusal(node.poster.turn) == "ESCAPE_UNSETTLED"
    assert node.pipeline.reducer.state.vaults[1].frozen is None
    monkeypatch.undo()
    monkeypatch.setattr(link, "confirmations", confirmations)
    for _ in range(3 if confirmations == 3 else 100):
        deployed.places[1].rpc.request("evm_mine")
    assert node.freezes[1].turn() is True
    assert node.poster.turn().live() == [0]


def test_an_interrupted_escape_goes_on_where_it_stood(deployed: Deployed, node: Node) -> None:
    """A crash between any two commands of the settlement costs nothing: each restart goes on."""
    node.poster.turn()
    freeze(deployed, 1)
    running, starts = node, 0
    while starts < 10:
        starts += 1
        done: list[object] = []
        run = running.operator.run

        def once(*commands: c.OperatorCommand, _run=run, _done=done):  # type: ignore[no-untyped-def]
            if _done:
                raise InterruptedError
            _done.append(commands)
            return _run(*commands)

        running.freezes[1]._operator.run = once  # type: ignore[method-assign]
        try:
            finished = running.freezes[1].turn()
        except InterruptedError:
            finished = False
        running.close()
        running = deployed.node()
        if finished:
            break
    assert starts > 2
    assert running.pipeline.reducer.state.vaults[1].settled
    assert running.poster.turn().live() == [0]
    assert findings(running, deployed) == []
    running.close()


def frozen_after_a_deposit(deployed: Deployed, node: Node) -> list[str]:
    """Vault 1 is frozen at epoch 1, and the journal took a deposit after it. Returns the kinds of the commands that the
    operator signs for it from now on, as they come."""
    node.poster.turn()
    deployed.places[1].pass_time(WINDOW_S + 1)
    deployed.deposit("carol", 50 * USD, 1)
    assert take_in(node) == 1
    freeze(deployed, 1)
    kinds: list[str] = []
    run = node.operator.run

    def noted(*commands: c.OperatorCommand) -> Receipt:
        kinds.extend(type(command).__name__ for command in commands)
        return run(*commands)

    node.freezes[1]._operator.run = noted  # type: ignore[method-assign]
    return kinds


def test_rows_that_do_not_add_up_are_collected_once_more(deployed: Deployed, node: Node) -> None:
    """Leaves and deposits with other amounts were collected: the journal has them, but does not settle by them. They
    are thrown away and the header's own are sent, in the same turn."""
    kinds = frozen_after_a_deposit(deployed, node)
    events = deployed.places[1].vault.inbox(Header.decode(node.book.load(1).part(1).header).inbox_count)
    (late,) = [consume_command(1, event) for event in events]
    rows = tuple(
        c.EscapeLeaf(leaf.index, leaf.owner, (leaf.exits[0] + 1,), leaf.withdraw_acks)
        for leaf in node.book.leaves(1, 1)
    )
    wrong = (c.EscapeLeaves(1, rows), c.EscapeDeposits(1, (replace(late, amount_atoms=late.amount_atoms + 1),)))
    for command in (c.FreezeVault(1, 1), *wrong):
        assert rejections(node.operator.run(command)) == []
    kinds.clear()
    assert node.freezes[1].turn() is True
    collected = ["EscapeLeaves", "EscapeDeposits"]
    assert kinds == ["SettleEscape", *collected, *collected, "SettleEscape"]
    assert node.poster.turn().live() == [0]
    assert findings(node, deployed) == []


def test_records_that_stay_wrong_are_for_people(
    deployed: Deployed, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One more try and no third one: the journal does not fill up while somebody looks for the cause. With the records
    mended, a restart settles."""
    kinds = frozen_after_a_deposit(deployed, node)
    true = node.book.leaves
    monkeypatch.setattr(
        node.book, "leaves", lambda *at: [replace(leaf, exits=(leaf.exits[0] + 1,)) for leaf in true(*at)]
    )
    assert refusal(node.freezes[1].turn) == "ESCAPE_REFUSED"
    assert kinds.count("SettleEscape") == 2 and kinds[-1] == "SettleEscape"
    kinds.clear()
    assert refusal(node.freezes[1].turn) == "ESCAPE_REFUSED"
    assert kinds == ["SettleEscape"]
    node.close()
    again = deployed.node()
    assert again.freezes[1].turn() is True
    assert again.poster.turn().live() == [0]
    again.close()


def test_a_freeze_that_no_chain_knows_is_found(deployed: Deployed, node: Node) -> None:
    """An operator who declares a live vault frozen, to void what it acknowledged there, is caught by the audit."""
    node.poster.turn()
    node.operator.run(c.FreezeVault(1, 1))
    assert [(found.code, found.vault) for found in findings(node, deployed)] == [("FALSE_FREEZE", 1)]


def test_without_a_live_vault_nothing_is_closed(deployed: Deployed, node: Node) -> None:
    """When the last vault freezes there is nothing left to post, and that is for people."""
    node.poster.turn()
    for number in (0, 1):
        freeze(deployed, number)
        assert node.freezes[number].turn()
    node.poster.post_missing()
    with pytest.raises(NovateError) as raised:
        node.poster.turn()
    assert raised.value.code == "VAULT_FROZEN"
