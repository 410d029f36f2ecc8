# SPDX-License-Identifier: GPL-3.0-or-later
"""A log with two heads: an operator shows two parties two histories under one key.

Each party for itself finds everything in order. One witness that both ask for catches it, and what the witness and
the parties then hold convicts the operator on its vault.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from clearing.chain import structs
from clearing.chain.errors import ChainError
from clearing.chain.structs import Disagreement
from clearing.chain.vault import VaultClient
from clearing.cli.witness import Collector
from clearing.client.tlog import LogFetch
from clearing.client.witness import Asked, witness_at
from clearing.witness.state import State, read_memory
from clearing.witness.witness import Witness
from journal.published import PublishedLog, signed_by
from journal.tiles import publish
from proofs import checkpoint as notes
from proofs.checkpoint import Checkpoint
from proofs.errors import PolicyUnsatisfied
from proofs.policy import Policy
from tests.tlog.logs import PUBLIC, entry, serving
from tests.witness.heads import KEY, NAME, SEED, served
from tests.witness.venue import LOG_KEY, ORIGIN, STAKE, Venue, disagreement, evidence

FORK = 300
POLICY = Policy.parse(f"log {LOG_KEY}\nwitness w {KEY}\nquorum w\n")


def by_policy(note: str) -> Checkpoint:
    """What a party believes that asks for the witness."""
    POLICY.check(note)
    return notes.parse(note).checkpoint


@dataclass
class Stage:
    """Two venues, one of which is the operator's other face, a witness that both are given, and two web servers."""

    one: Venue
    two: Venue
    witness_url: str
    memory: Path
    fetch: Callable[[Venue], LogFetch]

    def publish(self, venue: Venue, size: int) -> Asked:
        """Publish as `novate journal publish --witness` does; what came of the witness."""
        collector = Collector(venue.directory, [witness_at(KEY, self.witness_url)], POLICY)
        publish(venue.journal.store, venue.directory, venue.note(size), cosign=collector)
        (asked,) = collector.asked
        return asked

    def read(self, venue: Venue, check: Callable[[str], Checkpoint]) -> PublishedLog:
        """A party reads a venue's log over HTTP, every entry of it."""
        log = PublishedLog(self.fetch(venue), check)
        log.checkpoint()
        assert sum(1 for _ in log.entries()) == log.size
        return log


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with ExitStack() as stack:
        one, two = Venue(tmp_path / "one"), Venue(tmp_path / "two", fork_at=FORK)
        state = stack.enter_context(State(tmp_path / "witness", KEY, new=True))
        url = stack.enter_context(served(Witness(NAME, SEED, {ORIGIN: (PUBLIC,)}, state)))
        fetches = {}
        for venue in (one, two):
            venue.directory.mkdir()
            web = stack.enter_context(serving(venue.directory))
            fetches[id(venue)] = stack.enter_context(LogFetch(web.url))
        yield Stage(one, two, url, tmp_path / "witness", lambda venue: fetches[id(venue)])


def convicted(vault: VaultClient, *proof: object) -> None:
    """The vault takes the evidence: frozen for a fault of the operator's, whose bond pays the reporter."""
    vault.prove_equivocation(*proof)  # type: ignore[arg-type]
    assert (vault.freeze_reason(), vault.fault_proven()) == (structs.FREEZE_FAULT, True)
    (fault,) = vault.faults(vault.first_block())
    assert fault.kind == structs.FAULT_EQUIVOCATION
    assert (vault.operator_bond(), vault.eth_credit(fault.reporter)) == (0, STAKE // 2)


def test_two_views_of_one_size(stage: Stage, vault: VaultClient) -> None:
    """Same key, same size, other roots. The witness cosigns the first, refuses the second (409) and keeps it; its
    memory alone holds what the contract asks for."""
    assert stage.publish(stage.one, 600).time_s is not None
    refused = stage.publish(stage.two, 600)
    assert (refused.time_s, refused.code) == (None, "WITNESS_FORK")

    # Whoever trusts the operator's signature alone is deceived: both views are whole and signed.
    roots = {stage.read(venue, signed_by(LOG_KEY)).checkpoint().root for venue in (stage.one, stage.two)}
    assert len(roots) == 2
    # Who asks for the witness is not.
    assert stage.read(stage.one, by_policy).size == 600
    with pytest.raises(PolicyUnsatisfied, match="witness w has not cosigned"):
        stage.read(stage.two, by_policy)

    memory = read_memory(stage.memory)
    (known,), (fork,) = memory.logs, memory.forks
    assert {known.checkpoint.root, notes.parse(fork.read_text()).checkpoint.root} == roots
    convicted(vault, *evidence(known.note), *evidence(fork.read_text()), Disagreement())


@pytest.mark.parametrize(("first", "second"), [(600, 900), (320, 301)])
def test_two_views_of_two_sizes(stage: Stage, vault: VaultClient, first: int, second: int) -> None:
    """The other view is larger: it has no proof that it extends the first (422). Or smaller: the witness has seen
    more (409). Either way the parties, once they compare, have an entry that each log has in its own way."""
    assert stage.publish(stage.one, first).time_s is not None
    refused = stage.publish(stage.two, second)
    assert (refused.time_s, refused.code) == (None, "WITNESS_UNPROVEN" if second > first else "WITNESS_AHEAD")
    with pytest.raises(PolicyUnsatisfied):
        stage.read(stage.two, by_policy)

    memory = read_memory(stage.memory)
    assert memory.logs[0].checkpoint.size == first
    kept = [path.read_text() for path in memory.unproven]
    assert kept == ([stage.two.note(second)] if second > first else [])
    one, two = stage.read(stage.one, by_policy), stage.read(stage.two, signed_by(LOG_KEY))
    found = disagreement(one, two)
    assert found.entry == FORK
    convicted(vault, *evidence(one.note), *evidence(two.note), found)


def test_the_fork_is_caught_where_it_begins(stage: Stage, vault: VaultClient) -> None:
    """Both faces share a past that the witness has cosigned. The first to go on wins; the other is refused from then
    on, at every size, and comes back only by giving up its history."""
    for size in (100, FORK):
        assert stage.publish(stage.one, size).time_s is not None
        assert stage.publish(stage.two, size).time_s is not None  # still one history
    assert stage.publish(stage.two, FORK + 1).time_s is not None
    codes = [stage.publish(stage.one, size).code for size in (FORK + 1, FORK + 2, FORK + 200)]
    assert codes == ["WITNESS_FORK", "WITNESS_UNPROVEN", "WITNESS_UNPROVEN"]
    assert stage.publish(stage.two, FORK + 250).time_s is not None
    with pytest.raises(PolicyUnsatisfied):
        stage.read(stage.one, by_policy)
    assert next(iter(stage.read(stage.two, by_policy).entries(FORK))) == entry(FORK) + b"!"
    known, fork = read_memory(stage.memory).logs[0], read_memory(stage.memory).forks[0]
    with pytest.raises(ChainError, match="NoFault"):  # of different sizes, the entry must be shown
        vault.prove_equivocation(*evidence(known.note), *evidence(fork.read_text()), Disagreement())
    cosigned = stage.two.note(FORK + 1)
    convicted(vault, *evidence(cosigned), *evidence(fork.read_text()), Disagreement())


def test_an_honest_operator_is_never_accused(stage: Stage, vault: VaultClient) -> None:
    """What grows is cosigned at each step, the memory holds no accusation, and its notes are no evidence."""
    kept = []
    for size in (1, 255, 256, 257, 299):
        assert stage.publish(stage.one, size).time_s is not None
        kept.append(stage.read(stage.one, by_policy).note)
    memory = read_memory(stage.memory)
    assert (memory.forks, memory.unproven) == ((), ())
    log = stage.read(stage.one, by_policy)
    tree = log.tree()
    same = Disagreement(7, tree.leaf(7), tuple(tree.inclusion(7, 255)), tree.leaf(7), tuple(tree.inclusion(7)))
    for one, two, shown in ((kept[1], kept[4], same), (kept[4], kept[4], Disagreement())):
        with pytest.raises(ChainError, match="NoFault"):
            vault.prove_equivocation(*evidence(one), *evidence(two), shown)
